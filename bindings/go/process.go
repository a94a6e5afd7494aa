// SPDX-License-Identifier: Apache-2.0

package k3sup

// #include <k3sup.h>
import "C"

import (
	"os"
	"runtime"
	"sync"
)

// Process is one process, held by a pidfd: it cannot become another one. It outlives its context.
type Process struct {
	mu sync.RWMutex
	c  *C.k3sup_process // nil: closed
}

func newProcess(c *C.k3sup_process) *Process {
	p := &Process{c: c}
	runtime.SetFinalizer(p, func(p *Process) { p.Close() })
	return p
}

// hold keeps it open until release is called.
func (p *Process) hold() (c *C.k3sup_process, release func(), err error) {
	p.mu.RLock()
	if p.c == nil {
		p.mu.RUnlock()
		return nil, nil, os.ErrClosed
	}
	return p.c, p.mu.RUnlock, nil
}

// Close gives the handle back, and with the last one its pidfd.
func (p *Process) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	runtime.SetFinalizer(p, nil)
	p.c = C.k3sup_process_unref(p.c)
	return nil
}

// Info is what was seen when it was identified: boot_id, pid_ns, pid, start_time, role, comm, exe, asset_hash, ...
func (p *Process) Info() (*Document, error) {
	c, release, err := p.hold()
	if err != nil {
		return nil, err
	}
	defer release()
	return borrow(C.k3sup_process_info(c)), nil
}

// Pidfd becomes readable when the process ends. It belongs to the Process.
func (p *Process) Pidfd() (int, error) {
	c, release, err := p.hold()
	if err != nil {
		return -1, err
	}
	defer release()
	return int(C.k3sup_process_pidfd(c)), nil
}
