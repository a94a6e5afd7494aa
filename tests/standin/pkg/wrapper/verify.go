// SPDX-License-Identifier: Apache-2.0

package wrapper

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// verify checks the unpacked files against the two lists they came with. It
// runs once, before the rename, and never again.
func verify(bin string) error {
	for name, sum := range list(bin, ".sha256sums", true) {
		got, err := digest(filepath.Join(bin, name))
		if err != nil {
			return err
		}
		if got != sum {
			return fmt.Errorf("sha256 mismatch for %s", filepath.Join(bin, name))
		}
	}
	for name, target := range list(bin, ".links", false) {
		got, err := os.Readlink(filepath.Join(bin, name))
		if err != nil {
			return err
		}
		if got != target {
			return fmt.Errorf("link target mismatch for %s", filepath.Join(bin, name))
		}
	}
	return nil
}

// list reads "value name" or "name value" lines, keyed by name.
func list(bin, file string, valueFirst bool) map[string]string {
	all := map[string]string{}
	text, _ := os.ReadFile(filepath.Join(bin, file))
	for _, line := range strings.Split(string(text), "\n") {
		f := strings.Fields(line)
		if len(f) != 2 {
			continue
		}
		if valueFirst {
			f[0], f[1] = f[1], f[0]
		}
		all[f[0]] = f[1]
	}
	return all
}

func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
