// SPDX-License-Identifier: Apache-2.0

package wrapper

import (
	"os"
	"path/filepath"
	"syscall"

	"github.com/k3s-io/k3s/pkg/config"
	"github.com/k3s-io/k3s/pkg/logline"
	"github.com/k3s-io/k3s/pkg/standin"
)

// extract returns data/<H>, unpacking it first if it is not there. What is
// there counts as good by its mere existence: nothing is ever repaired.
func extract(era standin.Era, root, hash, blob string) (string, error) {
	dir := filepath.Join(root, "data", hash)
	other := filepath.Join(config.DataDir(""), "data", hash)
	order := []string{dir, other}
	if era.DefaultRootFirst {
		order = []string{other, dir}
	}
	for _, d := range order {
		if _, err := os.Stat(filepath.Join(d, "bin", era.RealName)); err == nil {
			return d, nil
		}
	}

	dataRoot := filepath.Join(root, "data")
	if err := os.MkdirAll(dataRoot, 0o755); err != nil {
		return "", err
	}
	lock := filepath.Join(dataRoot, ".lock")
	logline.Info("Acquiring lock file %s", lock)
	fd, err := syscall.Open(lock, syscall.O_CREAT|syscall.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return "", err
	}
	defer syscall.Close(fd)
	for {
		if err = syscall.Flock(fd, syscall.LOCK_EX); err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		return "", err
	}
	// Under the lock the test is weaker: the directory is enough.
	if st, err := os.Stat(dir); err == nil && st.IsDir() {
		return dir, nil
	}
	logline.Info("Preparing data dir %s", dir)
	tmp := dir + "-tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	if err := unpack(tmp, blob, newFaults(standin.Load())); err != nil {
		os.RemoveAll(tmp)
		return "", err
	}
	if era.LinksBeforeRename {
		if err := moveLinks(dataRoot, dir); err != nil {
			return "", err
		}
		return dir, os.Rename(tmp, dir)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return "", err
	}
	if err := moveLinks(dataRoot, dir); err != nil {
		return "", err
	}
	if era.CNIDir {
		return dir, linkCNI(dataRoot, dir)
	}
	return dir, nil
}

// moveLinks: only a fresh extraction moves current and previous, so neither
// tells what runs.
func moveLinks(dataRoot, dir string) error {
	current := filepath.Join(dataRoot, "current")
	if _, err := os.Lstat(current); err == nil {
		if err := os.Rename(current, filepath.Join(dataRoot, "previous")); err != nil {
			return err
		}
	}
	return os.Symlink(dir, current)
}

// linkCNI fills data/cni with one link per plugin, pointing at the new cni.
func linkCNI(dataRoot, dir string) error {
	cni := filepath.Join(dataRoot, "cni")
	if err := os.MkdirAll(cni, 0o755); err != nil {
		return err
	}
	bin := filepath.Join(dir, "bin")
	entries, err := os.ReadDir(bin)
	if err != nil {
		return err
	}
	for _, e := range entries {
		target, _ := os.Readlink(filepath.Join(bin, e.Name()))
		if e.Name() != "cni" && target != "cni" {
			continue
		}
		link := filepath.Join(cni, e.Name())
		if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
			return err
		}
		if err := os.Symlink(filepath.Join(bin, "cni"), link); err != nil {
			return err
		}
	}
	return nil
}
