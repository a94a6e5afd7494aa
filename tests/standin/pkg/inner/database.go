// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// database lays out server/db, the socket and the manifests. state.db is a
// valid empty SQLite file in WAL mode whose user_version counts the starts, so
// that a test can tell an older copy from a newer one.
func (n *node) database(dir string) error {
	for _, d := range []string{"db", "manifests", "static", "static/charts"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		"manifests/ccm.yaml":          "# stand-in\n",
		"manifests/rolebindings.yaml": "# stand-in\n",
		"static/charts/traefik.tgz":   "stand-in\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if n.opt.on("cluster-init") {
		return os.MkdirAll(filepath.Join(dir, "db", "etcd", "member"), 0o700)
	}
	db := filepath.Join(dir, "db", "state.db")
	page := emptyDatabase()
	if old, err := os.ReadFile(db); err == nil && len(old) == len(page) {
		binary.BigEndian.PutUint32(page[60:], binary.BigEndian.Uint32(old[60:])+1)
	} else {
		binary.BigEndian.PutUint32(page[60:], 1)
	}
	for name, data := range map[string][]byte{
		"state.db": page, "state.db-shm": make([]byte, 32768), "state.db-wal": nil, "joined-e3b0c44298fc": nil,
	} {
		if err := os.WriteFile(filepath.Join(dir, "db", name), data, 0o644); err != nil {
			return err
		}
	}
	// The real server holds the database open for as long as it runs. The
	// descriptor is inherited by nobody and closed by the exit alone.
	if _, err := syscall.Open(db, syscall.O_RDWR|syscall.O_CLOEXEC, 0); err != nil {
		return err
	}
	kine("kine.sock")
	return nil
}

// kine listens on a socket in the current directory (server/): a relative
// name, because the full path may be too long for a socket address.
func kine(name string) {
	os.Remove(name)
	l, err := net.Listen("unix", name)
	if err != nil {
		return
	}
	os.Chmod(name, 0o600)
	keep = append(keep, l)
}

var keep []net.Listener

// emptyDatabase is page 1 of a database without tables.
func emptyDatabase() []byte {
	p := make([]byte, 4096)
	copy(p, "SQLite format 3\x00")
	be := binary.BigEndian
	be.PutUint16(p[16:], 4096)
	p[18], p[19] = 2, 2 // WAL
	p[21], p[22], p[23] = 64, 32, 32
	be.PutUint32(p[24:], 1) // change counter
	be.PutUint32(p[28:], 1) // pages
	be.PutUint32(p[44:], 4) // schema format
	be.PutUint32(p[56:], 1) // UTF-8
	be.PutUint32(p[92:], 1)
	be.PutUint32(p[96:], 3040001)
	p[100] = 13 // an empty leaf of the schema table
	be.PutUint16(p[105:], 4096)
	return p
}
