// SPDX-License-Identifier: Apache-2.0

package standin

import (
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/k3s-io/k3s/pkg/version"
)

// DefaultConf is where a node's switches are read from unless the environment
// variable K3S_STANDIN_CONF names another file.
const DefaultConf = "/etc/rancher/k3s/standin.conf"

// Switches are the faults and settings in force: those stamped into the
// binary, overridden by those of the node's file.
type Switches map[string]string

// Load reads the switches. A missing file means no switches.
func Load() Switches {
	s := Switches{}
	for _, kv := range strings.Split(Misbehave, ";") {
		s.add(kv)
	}
	path := os.Getenv("K3S_STANDIN_CONF")
	if path == "" {
		path = DefaultConf
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return s
	}
	for _, line := range strings.Split(string(text), "\n") {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			s.add(line)
		}
	}
	return s
}

// add takes "key=value", or "key@VERSION=value" which counts only for a
// stand-in of that version: one file can then break just the new release.
func (s Switches) add(kv string) {
	i := strings.IndexByte(kv, '=')
	if i < 0 {
		return
	}
	key, value := strings.TrimSpace(kv[:i]), strings.TrimSpace(kv[i+1:])
	if at := strings.IndexByte(key, '@'); at >= 0 {
		if key[at+1:] != version.Version {
			return
		}
		key = key[:at]
	}
	s[key] = value
}

// Has tells whether a switch is set to anything but the empty string.
func (s Switches) Has(key string) bool { return s[key] != "" }

// On tells whether a yes/no switch is on.
func (s Switches) On(key string) bool {
	v := s[key]
	return v != "" && v != "0" && v != "no" && v != "false"
}

// Int returns a number, or def if the switch is absent or no number.
func (s Switches) Int(key string, def int) int {
	n, err := strconv.Atoi(s[key])
	if err != nil {
		return def
	}
	return n
}

// Millis returns a time given in milliseconds.
func (s Switches) Millis(key string, def time.Duration) time.Duration {
	if !s.Has(key) {
		return def
	}
	return time.Duration(s.Int(key, 0)) * time.Millisecond
}
