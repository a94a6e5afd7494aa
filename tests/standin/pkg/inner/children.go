// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/k3s-io/k3s/pkg/logline"
)

const socket = "/run/k3s/containerd/containerd.sock"

func ownBin() string {
	exe, err := os.Readlink("/proc/self/exe")
	must(err)
	return filepath.Dir(exe)
}

// startChildren starts containerd, which dies with the server, and shims,
// which do not. It runs on the main thread, which the death signal needs.
func (n *node) startChildren() {
	bin := ownBin()
	if n.sw.On("containerd") {
		cmd := exec.Command(filepath.Join(bin, "containerd"), "-c", filepath.Join(n.dataDir, "agent/etc/containerd/config.toml"),
			"-a", socket, "--state", "/run/k3s/containerd", "--root", filepath.Join(n.dataDir, "agent/containerd"))
		cmd.Args[0] = "containerd"
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		logline.Info("Running containerd %s", strings.Join(cmd.Args[1:], " "))
		must(cmd.Start())
		go func() {
			err := cmd.Wait()
			if n.state.get() != ending {
				logline.Fatal("containerd exited: %v", err)
			}
		}()
	}
	n.startShims(bin)
}

// startShims brings the number of running shims up to the wanted one. Those of
// an earlier server, from an older data/<H>, count: they survived.
func (n *node) startShims(bin string) {
	want := n.sw.Int("shims", 0)
	if want == 0 {
		return
	}
	list := filepath.Join(n.dataDir, "agent", "containerd", "standin-shims")
	must(os.MkdirAll(filepath.Dir(list), 0o700))
	text, _ := os.ReadFile(list)
	var alive []string
	for _, pid := range strings.Fields(string(text)) {
		comm, _ := os.ReadFile("/proc/" + pid + "/comm")
		if strings.TrimSpace(string(comm)) == "containerd-shim" {
			alive = append(alive, pid)
		}
	}
	for len(alive) < want {
		out, err := exec.Command(filepath.Join(bin, "containerd-shim-runc-v2"), "-namespace", "k8s.io",
			"-id", randomHex(32), "-address", socket).Output()
		must(err)
		alive = append(alive, strings.TrimSpace(string(out)))
	}
	must(os.WriteFile(list, []byte(fmt.Sprintln(strings.Join(alive, "\n"))), 0o600))
}
