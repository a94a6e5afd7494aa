// SPDX-License-Identifier: Apache-2.0

package wrapper

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/k3s-io/k3s/pkg/standin"
)

// faults are what can be made to go wrong while unpacking.
type faults struct {
	pause time.Duration // spread over the writing of the large files
	full  bool          // the disk is full half-way
}

func newFaults(s standin.Switches) *faults {
	return &faults{pause: s.Millis("extract_delay_ms", 0), full: s.On("enospc")}
}

// unpack writes the archive below tmp and checks it there.
func unpack(tmp, blob string, f *faults) error {
	now := time.Now()
	tr := tar.NewReader(newFrameReader(blob))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("tar error: %v", err)
		}
		if strings.Contains(h.Name, "..") {
			return fmt.Errorf("tar contained invalid name error %q", h.Name)
		}
		mtime := h.ModTime
		if mtime.After(now) {
			mtime = now
		}
		path := filepath.Join(tmp, h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(path, 0o755)
		case tar.TypeSymlink:
			err = os.Symlink(h.Linkname, path)
		case tar.TypeReg:
			err = f.writeFile(path, tr, h)
			if err == nil {
				err = os.Chtimes(path, mtime, mtime)
			}
		}
		if err != nil {
			return err
		}
	}
	return verify(filepath.Join(tmp, "bin"))
}

func (f *faults) writeFile(path string, r io.Reader, h *tar.Header) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, os.FileMode(h.Mode).Perm())
	if err != nil {
		return err
	}
	n, err := f.copy(out, r, h.Size)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("error writing to %s: %v", path, err)
	}
	if n != h.Size {
		return fmt.Errorf("only wrote %d bytes to %s; expected %d", n, path, h.Size)
	}
	return nil
}

// big marks the files during which the faults strike.
const big = 1 << 20

// copy is io.Copy unless a fault is wanted: then a large file is written in
// ten steps with pauses, or stops half-way as on a full disk.
func (f *faults) copy(out *os.File, r io.Reader, size int64) (int64, error) {
	if size < big || (f.pause == 0 && !f.full) {
		return io.Copy(out, r)
	}
	pause := f.pause
	f.pause = 0 // the first large file takes all of it
	var total int64
	for step := 0; step < 10; step++ {
		n, err := io.CopyN(out, r, size/10)
		total += n
		if err != nil {
			return total, err
		}
		time.Sleep(pause / 10)
		if f.full && step == 4 {
			return total, &os.PathError{Op: "write", Path: out.Name(), Err: syscall.ENOSPC}
		}
	}
	n, err := io.Copy(out, r)
	return total + n, err
}
