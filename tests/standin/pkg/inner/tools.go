// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/k3s-io/k3s/pkg/config"
	"github.com/k3s-io/k3s/pkg/standin"
	"github.com/k3s-io/k3s/pkg/version"
)

// tools are the programs known by their own name or as a subcommand. What
// matters of them is that calling one unpacks the archive.
var tools map[string]func(standin.Era, []string)

func init() {
	tools = map[string]func(standin.Era, []string){
		"kubectl":         kubectl,
		"crictl":          printVersion("crictl version"),
		"ctr":             printVersion("ctr"),
		"containerd":      containerd,
		"etcd-snapshot":   printVersion("k3s etcd-snapshot"),
		"token":           printVersion("k3s token"),
		"secrets-encrypt": printVersion("k3s secrets-encrypt"),
		"completion":      printVersion("k3s completion"),
		"certificate":     certificate,
	}
}

func printVersion(name string) func(standin.Era, []string) {
	return func(standin.Era, []string) {
		fmt.Printf("%s %s (stand-in)\n", name, version.Version)
	}
}

// containerd waits for its end. (Blocking without a signal channel would be a
// deadlock to the Go runtime.)
func containerd(standin.Era, []string) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	<-c
}

func kubectl(era standin.Era, args []string) {
	if _, ok := config.Arg(args, "data-dir", "d"); ok {
		// It is an option of the wrapper: the real kubectl complains, too.
		fmt.Fprintln(os.Stderr, "Error: unknown flag: --data-dir\nSee 'kubectl version --help' for usage.")
		os.Exit(1)
	}
	if len(args) == 0 {
		fmt.Println("kubectl controls the Kubernetes cluster manager (stand-in)")
		return
	}
	switch args[0] {
	case "version":
		kubectlVersion(args[1:])
	case "get":
		if path, ok := config.Arg(args, "raw"); ok {
			os.Exit(getRaw(args, path))
		}
		fmt.Println("No resources found")
	default:
		fmt.Printf("kubectl %s (stand-in)\n", args[0])
	}
}

// kubectlVersion: the build date, which upgrade scripts compare, is known to
// the inner program only.
func kubectlVersion(args []string) {
	part := strings.Split(strings.TrimPrefix(version.Version, "v"), ".")
	for len(part) < 2 {
		part = append(part, "0")
	}
	format, _ := config.Arg(args, "output", "o")
	if format == "yaml" {
		fmt.Printf("clientVersion:\n  buildDate: %q\n  compiler: %s\n  gitCommit: %s\n  gitTreeState: clean\n  gitVersion: %s\n"+
			"  goVersion: %s\n  major: %q\n  minor: %q\n  platform: %s/%s\n",
			standin.BuildDate, runtime.Compiler, version.GitCommit, version.Version,
			runtime.Version(), part[0], part[1], runtime.GOOS, runtime.GOARCH)
		return
	}
	fmt.Println("Client Version: " + version.Version)
	if !config.Flag(args, "client") {
		os.Exit(getRaw(args, "/version"))
	}
}
