// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/k3s-io/k3s/pkg/config"
	"github.com/k3s-io/k3s/pkg/logline"
	"github.com/k3s-io/k3s/pkg/standin"
)

// certificate is `k3s certificate`: rotate and, since April 2024, check. It
// reads no configuration file, in any era.
func certificate(era standin.Era, args []string) {
	if len(args) == 0 {
		fmt.Println("NAME:\n   k3s certificate - stand-in")
		return
	}
	env := ""
	if era.ReadsDataDirEnv {
		env = os.Getenv("K3S_DATA_DIR")
	}
	if d, ok := config.Arg(args, "data-dir", "d"); ok {
		env = d
	}
	c := &certCommand{era: era, dir: config.DataDir(env), services: each(args[1:], "service", "s")}
	switch {
	case args[0] == "rotate":
		c.rotate()
	case args[0] == "check" && era.Checks:
		output, _ := config.Arg(args, "output", "o")
		c.check(output)
	default:
		fmt.Printf("No help topic for '%s'\n", args[0])
		os.Exit(3)
	}
}

type certCommand struct {
	era      standin.Era
	dir      string
	services []string
}

// each collects an option that may be repeated.
func each(args []string, long, short string) []string {
	var all []string
	for i, a := range args {
		if (a == "--"+long || a == "-"+short) && i+1 < len(args) {
			all = append(all, args[i+1])
		} else if strings.HasPrefix(a, "--"+long+"=") {
			all = append(all, a[len(long)+3:])
		}
	}
	return all
}

// choose completes the list of services. The only test for a server is that
// <data-dir>/server exists: a wrong data-dir makes an agent of any node.
func (c *certCommand) choose(doing string) {
	for _, s := range c.services {
		known := false
		for _, k := range knownServices(c.era, true) {
			known = known || s == k
		}
		if !known {
			logline.Fatal("service %s is not recognized", s)
		}
	}
	if len(c.services) > 0 {
		return
	}
	_, err := os.Stat(filepath.Join(c.dir, "server"))
	switch {
	case err == nil:
		c.services = knownServices(c.era, true)
		logline.Info("Server detected, %s agent and server certificates", doing)
	case os.IsNotExist(err):
		c.services = knownServices(c.era, false)
		logline.Info("Agent detected, %s agent certificates", doing)
	default:
		logline.Fatal("%v", err)
	}
}

// rotate backs up, sets the trigger and removes. It checks neither that k3s is
// stopped nor that anything was removed.
func (c *certCommand) rotate() {
	if _, err := os.ReadFile(filepath.Join(c.dir, "server", "token")); err != nil && (!c.era.Checks || !os.IsNotExist(err)) {
		logline.Fatal("%v", err) // until April 2024 agents could not rotate
	}
	c.choose("rotating")
	backup, err := c.backup()
	if err != nil {
		logline.Fatal("%v", err)
	}
	order := map[string]bool{} // a map: removal goes in random order, as in k3s
	for _, s := range c.services {
		order[s] = true
	}
	if order["k3s-server"] {
		logline.Info("Rotating dynamic listener certificate")
		trigger := filepath.Join(c.dir, "server", "tls", "dynamic-cert-regenerate")
		if err := os.WriteFile(trigger, nil, 0o600); err != nil {
			logline.Fatal("%v", err)
		}
	}
	for s := range order {
		if s == "k3s-server" {
			continue
		}
		logline.Info("Rotating certificates for %s", s)
		for _, p := range pathsOf(c.era, s) {
			os.Remove(filepath.Join(c.dir, p)) // errors are ignored, as in k3s
		}
	}
	logline.Info("Successfully backed up certificates to %s, please restart k3s server or agent to rotate certificates", backup)
}

// backup copies server/tls as a whole, then the agent's files of the chosen
// services flat into the same directory, where they hide files of equal name.
func (c *certCommand) backup() (string, error) {
	name := fmt.Sprintf("tls-%d", time.Now().Unix())
	tls := filepath.Join(c.dir, "server", "tls")
	dest := filepath.Join(c.dir, "server", name)
	if _, err := os.Lstat(tls); err == nil {
		if err := copyTree(tls, dest); err != nil {
			return "", err
		}
	} else if c.era.Checks {
		dest = filepath.Join(c.dir, "agent", name)
		if err := os.MkdirAll(dest, 0o700); err != nil {
			return "", err
		}
	} else {
		return "", err
	}
	for _, s := range c.services {
		for _, p := range pathsOf(c.era, s) {
			if !strings.HasPrefix(p, "agent/") {
				continue
			}
			data, err := os.ReadFile(filepath.Join(c.dir, p))
			if os.IsNotExist(err) {
				continue
			}
			if err != nil {
				return "", err
			}
			if err := os.WriteFile(filepath.Join(dest, filepath.Base(p)), data, 0o644); err != nil {
				return "", err
			}
		}
	}
	return dest, nil
}

// copyTree merges into what is there, keeps permission bits and links, nothing
// else. If the top is itself a link, only the link is copied.
func copyTree(src, dst string) error {
	return filepath.Walk(src, func(p string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		to := dst + strings.TrimPrefix(p, src)
		switch {
		case info.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			return os.Symlink(target, to)
		case info.IsDir():
			if err := os.MkdirAll(to, 0o700); err != nil {
				return err
			}
			return os.Chmod(to, info.Mode().Perm())
		case !info.Mode().IsRegular():
			return nil
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if err := os.WriteFile(to, data, 0o600); err != nil {
			return err
		}
		return os.Chmod(to, info.Mode().Perm())
	})
}
