// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/k3s-io/k3s/pkg/logline"
	"github.com/k3s-io/k3s/pkg/proctitle"
	"github.com/k3s-io/k3s/pkg/standin"
)

// runPair is the parent of a server with --log, or of one that is pid 1: it
// starts itself again, copies the output and leaves with the child's code.
func runPair(era standin.Era, sw standin.Switches, log string, also bool) {
	// In 2021 the parent keeps its bare argv[0]; later it is called "init".
	if era.Pair != standin.PairBare && sw["title"] != "untitled" {
		proctitle.Set("init")
	}
	// Through /proc/self/exe: that is why the child's comm is "exe".
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{"k3s"}, os.Args[1:]...)
	cmd.Env = append(os.Environ(), reexec+"=true")
	if era.Pair != standin.PairBare {
		cmd.Env = append(cmd.Env, "NOTIFY_SOCKET=")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if log != "" {
		f, err := openLog(era, log)
		must(err)
		var w io.Writer = onlyWriter{f} // hides *os.File: the parent must copy
		if also {
			w = io.MultiWriter(f, os.Stderr)
		}
		cmd.Stdout, cmd.Stderr = w, w
	}
	if era.Pair == standin.PairForward {
		c := make(chan os.Signal, 4)
		signal.Notify(c, syscall.SIGTERM, syscall.SIGINT)
		must(cmd.Start())
		go func() {
			for s := range c {
				cmd.Process.Signal(s)
			}
		}()
	} else {
		must(cmd.Start())
	}
	if era.Pair != standin.PairBare {
		notifyReady() // at the fork: it says nothing about the server
	}
	err := cmd.Wait()
	if err == nil {
		os.Exit(0)
	}
	fmt.Fprintln(os.Stderr, err)
	if ee, ok := err.(*exec.ExitError); ok {
		os.Exit(ee.ExitCode()) // -1, hence 255, if a signal ended the child
	}
	logline.Fatal("%v", err)
}

func openLog(era standin.Era, path string) (*os.File, error) {
	mode := os.FileMode(0o600)
	if era.OldModes {
		mode = 0o644
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, mode)
}

type onlyWriter struct{ io.Writer }
