// SPDX-License-Identifier: Apache-2.0

// Package inner imitates the multicall program the wrapper turns into.
package inner

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/k3s-io/k3s/pkg/config"
	"github.com/k3s-io/k3s/pkg/logline"
	"github.com/k3s-io/k3s/pkg/proctitle"
	"github.com/k3s-io/k3s/pkg/standin"
	"github.com/k3s-io/k3s/pkg/version"
)

// How long a real server shows its full command line, then argv[0] alone,
// before the title is there (both shorter than the 0.05 s and 0.1 s seen).
const (
	fullArgv  = 10 * time.Millisecond
	blankArgv = 40 * time.Millisecond
)

// Main runs the inner program.
func Main() {
	runtime.GOMAXPROCS(2)
	// A parent-death signal belongs to the thread that started the child: keep
	// this one for as long as the process lives.
	runtime.LockOSThread()
	logline.Stamp = logline.StampNano
	proctitle.Prepare()
	sw := standin.Load()
	era := standin.Current()

	name := filepath.Base(os.Args[0])
	args := os.Args[1:]
	if tools[name] == nil {
		name, args = subcommand(args)
	}
	untitled := sw["title"] == "untitled"
	serves := name == "server" || name == "agent"
	if serves && !untitled {
		time.Sleep(sw.Millis("full_argv_ms", fullArgv))
	}
	if !untitled {
		proctitle.Blank()
	}
	if serves && !untitled {
		time.Sleep(sw.Millis("blank_argv_ms", blankArgv))
	}
	switch {
	case serves:
		serve(era, sw, name, args)
	case tools[name] != nil:
		tools[name](era, args)
	case name == "-v" || name == "--version":
		fmt.Print(version.Lines(filepath.Base(os.Args[0]), era.VersionLines))
	default:
		fmt.Printf("No help topic for '%s'\n", name)
		os.Exit(3)
	}
}

// subcommand skips the global options.
func subcommand(args []string) (string, []string) {
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "-d", "--data-dir":
			i++
		default:
			if len(args[i]) > 2 && args[i][:2] == "--" && args[i] != "--version" {
				continue
			}
			return args[i], args[i+1:]
		}
	}
	return "", nil
}

// options are the settings of a server or an agent: command line, then
// environment, then configuration file.
type options struct {
	args []string
	file map[string]string
}

func readOptions(era standin.Era, args []string) (options, error) {
	main := os.Getenv("K3S_CONFIG_FILE")
	if main == "" {
		if f, ok := config.Arg(args, "config", "c"); ok {
			main = f
		} else {
			main = config.DefaultFile
		}
	}
	kv, err := config.Read(config.Files(main, true))
	return options{args, kv}, err
}

// get looks a scalar up by its long name, its short name and its variable.
func (o options) get(long, short, env string) string {
	names := []string{long}
	if short != "" {
		names = append(names, short)
	}
	if v, ok := config.Arg(o.args, names...); ok {
		return v
	}
	if env != "" && os.Getenv(env) != "" {
		return os.Getenv(env)
	}
	return o.file[long]
}

func (o options) on(name string) bool {
	return config.Flag(o.args, name) || o.file[name] == "true"
}

// dataDir: until July 2024 K3S_DATA_DIR holds data/<H> and is no option.
func (o options) dataDir(era standin.Era) string {
	env := ""
	if era.ReadsDataDirEnv {
		env = "K3S_DATA_DIR"
	}
	return config.DataDir(o.get("data-dir", "d", env))
}
