// SPDX-License-Identifier: Apache-2.0

package k3sup

// #include <k3sup.h>
import "C"

import (
	"os"
	"time"
)

// CertsCheckOptions say what is looked at, and how.
type CertsCheckOptions struct {
	Services    []string  // in k3s's words; none: all
	Kubeconfigs []string  // further kubeconfigs to look into, inside the root
	At          time.Time // as if it were this time; zero: now
	K3sVersion  string    // decides how early k3s renews; empty: the installed file's
	Wire        bool      // also look at what the running k3s serves
	WarnDays    uint32    // a leaf that ends within so many days is WARNING; 0: as K3sVersion says
}

// CertsCheck tells which certificates there are on the node, and what is wrong with them. Changes nothing.
func (n *Node) CertsCheck(o CertsCheckOptions) (*Op, error) {
	var text texts
	defer text.free()
	opts := C.struct_k3sup_certs_check_opts{struct_size: C.sizeof_struct_k3sup_certs_check_opts, services: text.list(o.Services),
		kubeconfigs: text.list(o.Kubeconfigs), k3s_version: text.add(o.K3sVersion), warn_days: C.uint32_t(o.WarnDays)}
	if !o.At.IsZero() {
		opts.flags, opts.at = C.K3SUP_CERTS_CHECK_AT, C.int64_t(o.At.Unix())
	}
	if o.Wire {
		opts.flags |= C.K3SUP_CERTS_CHECK_WIRE
	}
	return n.start("certs_check", &text, func(ret **C.k3sup_op) C.int { return C.k3sup_certs_check(n.c, &opts, ret) })
}

// CertsRetireOptions say what is retired, and how long backups stay.
type CertsRetireOptions struct {
	Services []string // in k3s's words; none: all
	Keep     uint32   // so many backups; 0: 5
	KeepDays uint32   // and for how long; 0: for ever
}

// CertsRetire keeps the leaf certificates in a backup, then takes them away: the next start of k3s makes new ones. Refused while k3s runs.
func (n *Node) CertsRetire(o CertsRetireOptions) (*Op, error) {
	var text texts
	defer text.free()
	opts := C.struct_k3sup_certs_retire_opts{struct_size: C.sizeof_struct_k3sup_certs_retire_opts, services: text.list(o.Services),
		keep: C.uint32_t(o.Keep), keep_days: C.uint32_t(o.KeepDays)}
	return n.start("certs_retire", &text, func(ret **C.k3sup_op) C.int { return C.k3sup_certs_retire(n.c, &opts, ret) })
}

// RotateOptions say what is replaced, and how k3s is stopped and started for it. One of Key and IfWithin is needed.
type RotateOptions struct {
	Key          string // under one key everything is replaced once
	IfWithin     bool   // only if something ends within IfWithinDays
	IfWithinDays uint32
	Services     []string      // in k3s's words; none: all
	DryRun       bool          // only say what would be done
	Restart      Restart       // RestartNone: k3s must not run
	Timeout      time.Duration // bounds everything; 0: 15 minutes, below 0: for ever
	WaitLock     time.Duration // how long to wait for the node's lock; 0: not at all, below 0: for ever
	Stable       time.Duration // how long k3s must have stayed; 0: 20 s, below 0: being there once is enough
	GuardDelay   time.Duration // when the start guard starts it; 0: 30 s, below 0: there is none
	Probe        Probe         // how it is asked whether it is ready
	Health       string        // a command that must end with 0, or ""
	Keep         uint32        // so many backups; 0: 5
	KeepDays     uint32        // and for how long; 0: for ever
	Commands     Commands      // of RestartCommands
	BeforeWrite  string        // a command for /bin/sh that has to end with 0 before anything is written, or ""
	BeforeStop   string        // likewise before k3s is stopped, or ""
}

// Rotate has k3s make new leaf certificates: it is stopped, they are retired, it is started, and that it serves new ones is proven.
func (n *Node) Rotate(o RotateOptions) (*Op, error) {
	var text texts
	defer text.free()
	opts := C.struct_k3sup_rotate_opts{struct_size: C.sizeof_struct_k3sup_rotate_opts, timeout_ms: ms(o.Timeout), wait_lock_ms: ms(o.WaitLock),
		stable_ms: ms(o.Stable), guard_delay_ms: ms(o.GuardDelay), key: text.add(o.Key), health: text.add(o.Health), services: text.list(o.Services),
		if_within_days: C.uint32_t(o.IfWithinDays), restart: C.uint32_t(o.Restart), probe: C.uint32_t(o.Probe), keep: C.uint32_t(o.Keep),
		keep_days: C.uint32_t(o.KeepDays), stop_command: text.add(o.Commands.Stop), start_command: text.add(o.Commands.Start),
		status_command: text.add(o.Commands.Status), before_write: text.add(o.BeforeWrite), before_stop: text.add(o.BeforeStop)}
	if o.IfWithin {
		opts.flags |= C.K3SUP_ROTATE_IF_WITHIN
	}
	if o.DryRun {
		opts.flags |= C.K3SUP_ROTATE_DRY_RUN
	}
	return n.start("rotate", &text, func(ret **C.k3sup_op) C.int { return C.k3sup_rotate(n.c, &opts, ret) })
}

// CertsRestore makes the leafs of this backup the live ones again. Refused while k3s runs.
func (n *Node) CertsRestore(backup string) (*Op, error) {
	var text texts
	defer text.free()
	opts := C.struct_k3sup_certs_restore_opts{struct_size: C.sizeof_struct_k3sup_certs_restore_opts, backup: text.add(backup)}
	return n.start("certs_restore", &text, func(ret **C.k3sup_op) C.int { return C.k3sup_certs_restore(n.c, &opts, ret) })
}

// CertsBackups tells which backups of certificates there are: ours, newest first, then those that k3s made.
func (n *Node) CertsBackups() (*Op, error) {
	opts := C.struct_k3sup_certs_backups_opts{struct_size: C.sizeof_struct_k3sup_certs_backups_opts}
	return n.start("certs_backups", &texts{}, func(ret **C.k3sup_op) C.int { return C.k3sup_certs_backups(n.c, &opts, ret) })
}

// CertsCACheck tells whether a server, whose <data-dir>/server is serverDir, would take the authorities that were prepared in dir/tls.
func (x *Context) CertsCACheck(dir, serverDir string) (*Op, error) {
	var text texts
	defer text.free()
	opts := C.struct_k3sup_certs_ca_check_opts{struct_size: C.sizeof_struct_k3sup_certs_ca_check_opts, dir: text.add(dir),
		server_dir: text.add(serverDir)}
	if text.err != nil {
		return nil, text.err
	}
	x.core.mu.Lock()
	defer x.core.mu.Unlock()
	if x.closed {
		return nil, os.ErrClosed
	}
	var c *C.k3sup_op
	r := C.k3sup_certs_ca_check(x.core.c, &opts, &c)
	return newOp(x.core, "certs_ca_check", r, c)
}
