// SPDX-License-Identifier: Apache-2.0

// Package config finds settings: on the command line and in the flat part of
// config.yaml that the stand-in needs (top-level "key: scalar" lines only).
package config

import (
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// DefaultFile is the configuration file k3s reads by itself.
const DefaultFile = "/etc/rancher/k3s/config.yaml"

// Arg returns the last value of an option given as "--name value",
// "--name=value" or, for a short name, "-n value" and "-n=value".
func Arg(args []string, names ...string) (string, bool) {
	value, found := "", false
	for i, a := range args {
		for _, name := range names {
			dash := "--" + name
			if len(name) == 1 {
				dash = "-" + name
			}
			if a == dash && i+1 < len(args) {
				value, found = args[i+1], true
			} else if strings.HasPrefix(a, dash+"=") {
				value, found = a[len(dash)+1:], true
			}
		}
	}
	return value, found
}

// Flag tells whether a yes/no option is on.
func Flag(args []string, name string) bool {
	on := false
	for _, a := range args {
		if a == "--"+name || a == "--"+name+"=true" {
			on = true
		} else if a == "--"+name+"=false" {
			on = false
		}
	}
	return on
}

// Files lists the main file and, if wanted, its drop-ins in reading order.
func Files(main string, dropIns bool) []string {
	files := []string{main}
	if !dropIns {
		return files
	}
	entries, _ := os.ReadDir(main + ".d")
	var names []string
	for _, e := range entries {
		ext := strings.ToLower(filepath.Ext(e.Name()))
		if !e.IsDir() && (ext == ".yaml" || ext == ".yml") {
			names = append(names, e.Name())
		}
	}
	sort.Strings(names)
	for _, n := range names {
		files = append(files, filepath.Join(main+".d", n))
	}
	return files
}

// Read returns the top-level scalars of the files; the last file wins. A file
// that is missing is fine, one that cannot be read is an error.
func Read(files []string) (map[string]string, error) {
	all := map[string]string{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, line := range strings.Split(string(text), "\n") {
			if line == "" || line[0] == ' ' || line[0] == '#' || line[0] == '-' {
				continue
			}
			i := strings.Index(line, ":")
			if i < 0 {
				continue
			}
			key := strings.Trim(strings.TrimSpace(line[:i]), `"'`)
			if value := scalar(line[i+1:]); value != "" {
				all[key] = value
			}
		}
	}
	return all, nil
}

func scalar(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 1 && (s[0] == '"' || s[0] == '\'') {
		if end := strings.IndexByte(s[1:], s[0]); end >= 0 {
			return s[1 : 1+end]
		}
	}
	if i := strings.Index(s, " #"); i >= 0 {
		s = strings.TrimSpace(s[:i])
	}
	return s
}

// DataDir turns a wanted data-dir into the one used: absolute, symlinks kept;
// without a wish /var/lib/rancher/k3s for root, else a directory in $HOME.
func DataDir(want string) string {
	if want == "" {
		if os.Getuid() == 0 {
			return "/var/lib/rancher/k3s"
		}
		return filepath.Join(os.Getenv("HOME"), ".rancher", "k3s")
	}
	abs, err := filepath.Abs(want)
	if err != nil {
		return want
	}
	return abs
}
