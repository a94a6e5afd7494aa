// SPDX-License-Identifier: Apache-2.0

// Package wrapper imitates the self-extracting outer k3s: it unpacks its
// archive once and replaces itself, in the same process, by a program of it.
package wrapper

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/k3s-io/k3s/pkg/config"
	"github.com/k3s-io/k3s/pkg/data"
	"github.com/k3s-io/k3s/pkg/logline"
	"github.com/k3s-io/k3s/pkg/standin"
	"github.com/k3s-io/k3s/pkg/version"
)

// parsed are the subcommands the wrapper knows itself: their --help is served
// without extraction, and their argv is handed on unchanged.
var parsed = map[string]bool{"server": true, "agent": true, "etcd-snapshot": true,
	"token": true, "secrets-encrypt": true, "certificate": true, "completion": true}

// later are the subcommands 2021 does not have.
var later = map[string]bool{"token": true, "secrets-encrypt": true, "certificate": true, "completion": true}

// external are the embedded foreign tools: they get their own name as argv[0]
// and every argument after it.
var external = map[string]bool{"kubectl": true, "crictl": true, "ctr": true, "check-config": true}

// Main runs the wrapper.
func Main() {
	era := standin.Current()
	prog := filepath.Base(os.Args[0])
	if external[prog] {
		runExternal(era, prog, os.Args[1:])
	}
	cmd, rest := split(os.Args[1:])
	if later[cmd] && !era.Rotates {
		fmt.Printf("No help topic for '%s'\n", cmd)
		os.Exit(3)
	}
	if era.VersionReadsConfig {
		// Until June 2023 even --version died on an unreadable config file.
		if _, err := findDataDir(era, os.Args[1:]); err != nil {
			logline.Fatal("%v", err)
		}
	}
	switch {
	case cmd == "-v" || cmd == "--version":
		fmt.Print(version.Lines(prog, era.VersionLines))
	case cmd == "" || cmd == "-h" || cmd == "--help" || cmd == "help" || cmd == "h":
		help(prog, "")
	case parsed[cmd] && wantsHelp(rest):
		help(prog, cmd)
	case parsed[cmd]:
		run(era, "k3s-"+cmd, os.Args)
	case external[cmd]:
		runExternal(era, cmd, rest)
	default:
		fmt.Printf("No help topic for '%s'\n", cmd)
		os.Exit(3)
	}
}

// split skips the global options in front of the subcommand.
func split(args []string) (cmd string, rest []string) {
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case a == "--data-dir" || a == "-d":
			i++
		case a == "--debug" || strings.HasPrefix(a, "--debug=") ||
			strings.HasPrefix(a, "--data-dir=") || strings.HasPrefix(a, "-d="):
		default:
			return a, args[i+1:]
		}
	}
	return "", nil
}

func wantsHelp(args []string) bool {
	for _, a := range args {
		if a == "-h" || a == "--help" {
			return true
		}
	}
	return false
}

func help(prog, cmd string) {
	name := prog
	if cmd != "" {
		name += " " + cmd
	}
	fmt.Printf("NAME:\n   %s - stand-in k3s for tests, runs no containers\n\nUSAGE:\n   %s [OPTIONS]\n\nVERSION:\n   %s (%s)\n",
		name, name, version.Version, version.GitCommit)
}

func runExternal(era standin.Era, name string, args []string) {
	run(era, name, append([]string{name}, args...))
}

// run unpacks if needed and becomes the program of that name.
func run(era standin.Era, name string, argv []string) {
	root, err := findDataDir(era, os.Args[1:])
	if err != nil {
		logline.Fatal("%v", err)
	}
	assetName, blob := data.Asset()
	if assetName == "" {
		logline.Fatal("no archive in this build")
	}
	hash := filepath.Base(assetName)
	hash = hash[:strings.IndexByte(hash, '.')]
	dir, err := extract(era, root, hash, blob)
	if err != nil {
		logline.Fatal("extracting data: %v", err)
	}
	setEnv(era, dir)
	// Looked up through PATH, not by its full path: with a torn data/<H> the
	// real wrapper can end up in a foreign program of that name.
	path, err := exec.LookPath(name)
	if err != nil {
		logline.Fatal("%v", err)
	}
	if err := syscall.Exec(path, argv, os.Environ()); err != nil {
		logline.Fatal("exec %s failed: %v", path, err)
	}
}

func setEnv(era standin.Era, dir string) {
	bin := filepath.Join(dir, "bin")
	aux := filepath.Join(bin, "aux")
	path := os.Getenv("PATH")
	if preferBundled(os.Args[1:], era) {
		path = bin + ":" + aux + ":" + path
	} else {
		path = bin + ":" + path + ":" + aux
	}
	if era.CNIDir {
		path = filepath.Join(filepath.Dir(dir), "cni") + ":" + path
	}
	os.Setenv("PATH", path)
	os.Setenv("RES_OPTIONS", " ")
	if era.SetsDataDirEnv {
		os.Setenv("K3S_DATA_DIR", dir)
	}
}

func preferBundled(args []string, era standin.Era) bool {
	if config.Flag(args, "prefer-bundled-bin") {
		return true
	}
	kv, err := config.Read(config.Files(configFile(), era.ReadsDropIns))
	return err == nil && kv["prefer-bundled-bin"] == "true"
}
