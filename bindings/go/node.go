// SPDX-License-Identifier: Apache-2.0

package k3sup

// #include <k3sup.h>
import "C"

import (
	"os"
	"runtime"
	"syscall"
	"time"
)

// Node is one host as the library sees it.
type Node struct {
	core *core
	c    *C.k3sup_node // nil: closed
}

// NodeOptions name a node. Root and Proc are paths of the caller, the others are inside the root; empty ones are the defaults.
type NodeOptions struct {
	Root, Proc, DataDir, K3s, StateDir string
	AllowGroupWritable                 bool
	IsContainer                        bool // its k3s may be process 1, whose end is the container's
}

// Node names a node. Close it.
func (x *Context) Node(o NodeOptions) (*Node, error) {
	var text texts
	defer text.free()
	opts := C.struct_k3sup_node_opts{struct_size: C.sizeof_struct_k3sup_node_opts, root: text.add(o.Root), proc: text.add(o.Proc),
		data_dir: text.add(o.DataDir), k3s: text.add(o.K3s), state_dir: text.add(o.StateDir)}
	if o.AllowGroupWritable {
		opts.flags |= C.K3SUP_NODE_ALLOW_GROUP_WRITABLE
	}
	if o.IsContainer {
		opts.flags |= C.K3SUP_NODE_IS_CONTAINER
	}
	if text.err != nil {
		return nil, text.err
	}
	x.core.mu.Lock()
	defer x.core.mu.Unlock()
	if x.closed {
		return nil, os.ErrClosed
	}
	n := &Node{core: x.core}
	if r := C.k3sup_node_new(x.core.c, &opts, &n.c); r < 0 {
		return nil, newError("node_new", r)
	}
	n.core.users++
	runtime.SetFinalizer(n, func(n *Node) { go n.Close() })
	return n, nil
}

// Close gives the node back, and with it its lock as soon as no operation uses it.
func (n *Node) Close() error {
	n.core.mu.Lock()
	defer n.core.mu.Unlock()
	if n.c != nil {
		runtime.SetFinalizer(n, nil)
		n.c = C.k3sup_node_unref(n.c)
		n.core.unref()
	}
	return nil
}

// Lock takes the node's lock, so that several verbs run as one. False: this handle held it already.
func (n *Node) Lock() (bool, error) {
	return n.changed("node_lock", func() C.int { return C.k3sup_node_lock(n.c) })
}

// Unlock gives it back. False: this handle did not hold it.
func (n *Node) Unlock() (bool, error) {
	return n.changed("node_unlock", func() C.int { return C.k3sup_node_unlock(n.c) })
}

// Mark remembers that a step of the caller's own is done; false if it was marked before.
func (n *Node) Mark(key string) (bool, error) {
	var text texts
	defer text.free()
	return n.changed("node_mark", func() C.int { return C.k3sup_node_mark(n.c, text.add(key)) })
}

// Mark says whether a key is marked.
type Mark int

// The answers of Marked.
const (
	NotMarked     Mark = 0
	MarkedNow     Mark = C.K3SUP_MARKED         // in this boot
	MarkedEarlier Mark = C.K3SUP_MARKED_EARLIER // the node was booted since
)

// Marked says whether a step is marked as done, and whether the node was booted since.
func (n *Node) Marked(key string) (Mark, error) {
	var text texts
	defer text.free()
	r := 0
	_, err := n.changed("node_marked", func() C.int {
		code := C.k3sup_node_marked(n.c, text.add(key))
		r = int(code)
		return code
	})
	if err != nil {
		return NotMarked, err
	}
	return Mark(r), nil
}

func (n *Node) changed(name string, call func() C.int) (bool, error) {
	n.core.mu.Lock()
	defer n.core.mu.Unlock()
	if n.c == nil {
		return false, os.ErrClosed
	}
	r := call()
	if r < 0 {
		return false, newError(name, r)
	}
	return r > 0, nil
}

// start calls a verb.
func (n *Node) start(verb string, text *texts, call func(ret **C.k3sup_op) C.int) (*Op, error) {
	if text.err != nil {
		return nil, text.err
	}
	n.core.mu.Lock()
	defer n.core.mu.Unlock()
	if n.c == nil {
		return nil, os.ErrClosed
	}
	var c *C.k3sup_op
	r := call(&c)
	return newOp(n.core, verb, r, c)
}

// State tells the state of the node, compared with a payload unless that is empty. Changes nothing.
func (n *Node) State(payload string) (*Op, error) {
	return n.StateOf(StateOptions{Payload: payload})
}

// StateOptions say what the node is compared with, and what that has to be.
type StateOptions struct {
	Payload       string
	SHA256        string // of the payload (unpacked, if it is a gzip file), or ""
	Sums          string // a list as k3s publishes them (sha256sum-amd64.txt), or ""
	Signature     string // of the list, or without one of the payload, or ""
	Key           string // the public key for it (PEM), or ""
	ExpectVersion string // or ""
}

// StateOf is State with a payload that is verified first.
func (n *Node) StateOf(o StateOptions) (*Op, error) {
	var text texts
	defer text.free()
	opts := C.struct_k3sup_state_opts{struct_size: C.sizeof_struct_k3sup_state_opts, payload: text.add(o.Payload),
		sha256: text.add(o.SHA256), sums: text.add(o.Sums),
		signature: text.add(o.Signature), key: text.add(o.Key), expect_version: text.add(o.ExpectVersion)}
	return n.start("state", &text, func(ret **C.k3sup_op) C.int { return C.k3sup_state(n.c, &opts, ret) })
}

// Identify tells which processes are this node's k3s; Op.Processes has them.
func (n *Node) Identify() (*Op, error) {
	opts := C.struct_k3sup_identify_opts{struct_size: C.sizeof_struct_k3sup_identify_opts}
	return n.start("identify", &texts{}, func(ret **C.k3sup_op) C.int { return C.k3sup_identify(n.c, &opts, ret) })
}

// Signal sends one signal (0: SIGTERM) to exactly this process.
func (n *Node) Signal(p *Process, signal syscall.Signal) (*Op, error) {
	c, release, err := p.hold()
	if err != nil {
		return nil, err
	}
	defer release()
	opts := C.struct_k3sup_signal_opts{struct_size: C.sizeof_struct_k3sup_signal_opts, process: c, signo: C.int32_t(signal)}
	return n.start("signal", &texts{}, func(ret **C.k3sup_op) C.int { return C.k3sup_signal(n.c, &opts, ret) })
}

// WaitExit waits until this process has ended; 0 or below: for ever.
func (n *Node) WaitExit(p *Process, timeout time.Duration) (*Op, error) {
	c, release, err := p.hold()
	if err != nil {
		return nil, err
	}
	defer release()
	opts := C.struct_k3sup_wait_exit_opts{struct_size: C.sizeof_struct_k3sup_wait_exit_opts, process: c, timeout_ms: ms(timeout)}
	return n.start("wait_exit", &texts{}, func(ret **C.k3sup_op) C.int { return C.k3sup_wait_exit(n.c, &opts, ret) })
}

// WaitRunningOptions say what is waited for.
type WaitRunningOptions struct {
	Timeout   time.Duration // 0: 900 s, below 0: for ever
	Stable    time.Duration // how long it must have stayed; 0: 20 s, below 0: being there once is enough
	Previous  *Process      // nil, or a process that does not count
	AssetHash string        // of the wanted build; empty: any
	Probe     Probe
	Health    string // a command for /bin/sh that has to end with 0, or ""
}

// Probe says how a k3s that runs and stays is asked whether it is ready.
type Probe uint32

// The ways to ask it.
const (
	ProbeAuto       Probe = C.K3SUP_PROBE_AUTO // what its role offers
	ProbeKubelet    Probe = C.K3SUP_PROBE_KUBELET
	ProbeSupervisor Probe = C.K3SUP_PROBE_SUPERVISOR
	ProbeAPIServer  Probe = C.K3SUP_PROBE_APISERVER
	ProbeNone       Probe = C.K3SUP_PROBE_NONE
)

// WaitRunning waits until the node's k3s runs, is the wanted build, stays and is ready; Op.Processes has it.
func (n *Node) WaitRunning(o WaitRunningOptions) (*Op, error) {
	var text texts
	defer text.free()
	opts := C.struct_k3sup_wait_running_opts{struct_size: C.sizeof_struct_k3sup_wait_running_opts, timeout_ms: ms(o.Timeout),
		stable_ms: ms(o.Stable), asset_hash: text.add(o.AssetHash), probe: C.uint32_t(o.Probe), health: text.add(o.Health)}
	if o.Previous != nil {
		c, release, err := o.Previous.hold()
		if err != nil {
			return nil, err
		}
		defer release()
		opts.previous = c
	}
	return n.start("wait_running", &text, func(ret **C.k3sup_op) C.int { return C.k3sup_wait_running(n.c, &opts, ret) })
}

// ServiceAction says what is done to the service that runs k3s.
type ServiceAction uint32

// What can be done to a service.
const (
	ServiceStatus  ServiceAction = C.K3SUP_SERVICE_STATUS
	ServiceStop    ServiceAction = C.K3SUP_SERVICE_STOP
	ServiceStart   ServiceAction = C.K3SUP_SERVICE_START
	ServiceRestart ServiceAction = C.K3SUP_SERVICE_RESTART
)

// ServiceOptions say which service, and what is done to it.
type ServiceOptions struct {
	Action     ServiceAction
	Name       string        // "k3s.service"; empty: whatever runs k3s, or else the one that is installed
	Timeout    time.Duration // 0: 900 s, below 0: for ever
	WaitLock   time.Duration // how long to wait for the node's lock; 0: not at all, below 0: as long as Timeout allows
	Stable     time.Duration // start, restart: how long the new k3s must have stayed; 0: 20 s, below 0: being there once is enough
	GuardDelay time.Duration // stop: when the start guard starts it again; 0: 30 s, below 0: there is none

	Commands Commands // stand for the service, if they are given
}

// Commands stop, start and tell about k3s where no service manager that is known here owns it: all three, for /bin/sh. Status ends with 0 if
// it runs and with 3 if it is stopped; Start does nothing if it runs.
type Commands struct {
	Stop, Start, Status string
}

// Service tells, stops, starts or restarts the service that runs k3s, until it is so ("/services").
func (n *Node) Service(o ServiceOptions) (*Op, error) {
	var text texts
	defer text.free()
	opts := C.struct_k3sup_service_opts{struct_size: C.sizeof_struct_k3sup_service_opts, timeout_ms: ms(o.Timeout), wait_lock_ms: ms(o.WaitLock),
		stable_ms: ms(o.Stable), guard_delay_ms: ms(o.GuardDelay), name: text.add(o.Name), action: C.uint32_t(o.Action),
		stop_command: text.add(o.Commands.Stop), start_command: text.add(o.Commands.Start), status_command: text.add(o.Commands.Status)}
	return n.start("service", &text, func(ret **C.k3sup_op) C.int { return C.k3sup_service(n.c, &opts, ret) })
}

// SwapOptions say what is installed: the file at a path, or an open one, which may be closed as soon as Swap has returned.
type SwapOptions struct {
	Payload     string
	PayloadFile *os.File
	WaitLock    time.Duration // how long to wait for the node's lock; 0: not at all, below 0: for ever
	KeepBackups uint32        // how many builds that were installed before are kept; 0: 1

	AllowDowngrade, AllowSkipMinor, AllowPackageOwned bool

	SHA256        string // of the payload (unpacked, if it is a gzip file), or ""
	Sums          string // a list as k3s publishes them (sha256sum-amd64.txt), or ""
	Signature     string // of the list, or without one of the payload, or ""
	Key           string // the public key for it (PEM), or ""
	ExpectVersion string // or ""
	ServerVersion string // of this agent's server, which the payload must not exceed, or ""

	RunVersion   bool // run a sealed copy with --version, confined; it must agree
	CheckArchive bool // without them, the archive inside must at least have the SHA-256 that it is named by
}

// Swap makes the installed k3s file be the payload. Nothing is restarted.
func (n *Node) Swap(o SwapOptions) (*Op, error) {
	var text texts
	defer text.free()
	defer runtime.KeepAlive(o.PayloadFile)
	opts := C.struct_k3sup_swap_opts{struct_size: C.sizeof_struct_k3sup_swap_opts, wait_lock_ms: ms(o.WaitLock), payload: text.add(o.Payload),
		keep_backups: C.uint32_t(o.KeepBackups), sha256: text.add(o.SHA256), sums: text.add(o.Sums),
		signature: text.add(o.Signature), key: text.add(o.Key), expect_version: text.add(o.ExpectVersion), server_version: text.add(o.ServerVersion)}
	if o.PayloadFile != nil {
		opts.flags, opts.payload_fd = C.K3SUP_SWAP_PAYLOAD_FD, C.int32_t(o.PayloadFile.Fd())
	}
	if o.AllowDowngrade {
		opts.flags |= C.K3SUP_SWAP_ALLOW_DOWNGRADE
	}
	if o.AllowSkipMinor {
		opts.flags |= C.K3SUP_SWAP_ALLOW_SKIP_MINOR
	}
	if o.AllowPackageOwned {
		opts.flags |= C.K3SUP_SWAP_ALLOW_PACKAGE_OWNED
	}
	if o.RunVersion {
		opts.flags |= C.K3SUP_SWAP_RUN_VERSION
	}
	if o.CheckArchive {
		opts.flags |= C.K3SUP_SWAP_CHECK_ARCHIVE
	}
	return n.start("swap", &text, func(ret **C.k3sup_op) C.int { return C.k3sup_swap(n.c, &opts, ret) })
}

// StageOptions say which files (image tarballs) are put into the data-dir's agent/images, under their own names.
type StageOptions struct {
	Files    []string
	WaitLock time.Duration // how long to wait for the node's lock; 0: not at all, below 0: for ever
	Commit   bool          // the old versions that are kept are not needed any more
	Restore  bool          // they are put back; no files then

	SHA256    string // of the only file, or ""
	Sums      string // a list as k3s publishes them, which names each of the files, or ""
	Signature string // of the list, or without one of the only file, or ""
	Key       string // the public key for it (PEM), or ""
}

// Stage puts files where k3s imports images from, before it is restarted.
func (n *Node) Stage(o StageOptions) (*Op, error) {
	var text texts
	defer text.free()
	opts := C.struct_k3sup_stage_opts{struct_size: C.sizeof_struct_k3sup_stage_opts, wait_lock_ms: ms(o.WaitLock), files: text.list(o.Files),
		sha256: text.add(o.SHA256), sums: text.add(o.Sums), signature: text.add(o.Signature), key: text.add(o.Key)}
	if o.Commit {
		opts.flags |= C.K3SUP_STAGE_COMMIT
	}
	if o.Restore {
		opts.flags |= C.K3SUP_STAGE_RESTORE
	}
	return n.start("stage", &text, func(ret **C.k3sup_op) C.int { return C.k3sup_stage(n.c, &opts, ret) })
}

// UnpackOptions say which k3s unpacks itself; without Payload and PayloadFile the installed one.
type UnpackOptions struct {
	Payload     string
	PayloadFile *os.File
	Timeout     time.Duration // bounds everything; 0: 900 s, below 0: none
	WaitLock    time.Duration // how long to wait for the node's lock; 0: not at all, below 0: as long as Timeout allows

	SHA256        string // of the payload (unpacked, if it is a gzip file), or ""
	Sums          string // a list as k3s publishes them (sha256sum-amd64.txt), or ""
	Signature     string // of the list, or without one of the payload, or ""
	Key           string // the public key for it (PEM), or ""
	ExpectVersion string // or ""
}

// Unpack has a k3s unpack itself into the data-dir, as it would at its start ("/unpacked"). It is executed, chrooted into the node's root.
func (n *Node) Unpack(o UnpackOptions) (*Op, error) {
	var text texts
	defer text.free()
	defer runtime.KeepAlive(o.PayloadFile)
	opts := C.struct_k3sup_unpack_opts{struct_size: C.sizeof_struct_k3sup_unpack_opts, timeout_ms: ms(o.Timeout), wait_lock_ms: ms(o.WaitLock),
		payload: text.add(o.Payload), sha256: text.add(o.SHA256), sums: text.add(o.Sums), signature: text.add(o.Signature),
		key: text.add(o.Key), expect_version: text.add(o.ExpectVersion)}
	if o.PayloadFile != nil {
		opts.flags, opts.payload_fd = C.K3SUP_UNPACK_PAYLOAD_FD, C.int32_t(o.PayloadFile.Fd())
	}
	return n.start("unpack", &text, func(ret **C.k3sup_op) C.int { return C.k3sup_unpack(n.c, &opts, ret) })
}

// SwapRollbackOptions say what the backup must be.
type SwapRollbackOptions struct {
	WaitLock          time.Duration // how long to wait for the node's lock; 0: not at all, below 0: for ever
	AllowPackageOwned bool
	SHA256            string // or "": what was recorded when it was kept
	ExpectVersion     string // or ""
}

// SwapRollback makes the installed k3s file be the backup again. Nothing is restarted.
func (n *Node) SwapRollback(o SwapRollbackOptions) (*Op, error) {
	var text texts
	defer text.free()
	opts := C.struct_k3sup_swap_rollback_opts{struct_size: C.sizeof_struct_k3sup_swap_rollback_opts, wait_lock_ms: ms(o.WaitLock),
		sha256: text.add(o.SHA256), expect_version: text.add(o.ExpectVersion)}
	if o.AllowPackageOwned {
		opts.flags = C.K3SUP_SWAP_ALLOW_PACKAGE_OWNED
	}
	return n.start("swap_rollback", &text, func(ret **C.k3sup_op) C.int { return C.k3sup_swap_rollback(n.c, &opts, ret) })
}

// SwapBackups tells which builds are kept ("/backups"). Unless keep is 0, those of ours that are too many are removed; wait is how long to wait
// for the node's lock then.
func (n *Node) SwapBackups(keep uint32, wait time.Duration) (*Op, error) {
	opts := C.struct_k3sup_swap_backups_opts{struct_size: C.sizeof_struct_k3sup_swap_backups_opts, keep: C.uint32_t(keep), wait_lock_ms: ms(wait)}
	return n.start("swap_backups", &texts{}, func(ret **C.k3sup_op) C.int { return C.k3sup_swap_backups(n.c, &opts, ret) })
}

// Restart says how k3s is restarted.
type Restart uint32

// The ways to restart k3s.
const (
	RestartAuto    Restart = C.K3SUP_RESTART_AUTO
	RestartSignal  Restart = C.K3SUP_RESTART_SIGNAL
	RestartNone    Restart = C.K3SUP_RESTART_NONE
	RestartService Restart = C.K3SUP_RESTART_SERVICE

	RestartCommands Restart = C.K3SUP_RESTART_COMMANDS
)

// Rollback says what becomes of a new build that ends again and again.
type Rollback uint32

// Whether the build before is put back.
const (
	RollbackAuto   Rollback = C.K3SUP_ROLLBACK_AUTO // where that is safe
	RollbackAlways Rollback = C.K3SUP_ROLLBACK_ALWAYS
	RollbackNever  Rollback = C.K3SUP_ROLLBACK_NEVER
)

// UpgradeOptions say what is to run: the build in the file at a path, or in an open one, which may be closed as soon as Upgrade has
// returned.
type UpgradeOptions struct {
	Payload     string
	PayloadFile *os.File
	Timeout     time.Duration // bounds everything; 0: 900 s, below 0: none
	WaitLock    time.Duration // how long to wait for the node's lock; 0: not at all, below 0: as long as Timeout allows
	Stable      time.Duration // how long the new k3s must have stayed; 0: 20 s, below 0: being there once is enough
	Restart     Restart
	Probe       Probe
	Health      string // a command for /bin/sh that has to end with 0 once k3s runs and stays, or ""
	OnFailure   Rollback
	RetryFailed bool // also a payload that failed on this node before
	DryRun      bool // as Check, and "/plan" says each step; 1 if there is one
	Check       bool // only decide whether it would be refused ("/checks"): takes no lock, changes nothing
	Rollback    bool // go back to the backup; no payload then

	AllowDowngrade, AllowSkipMinor, AllowPackageOwned bool

	SHA256        string // of the payload (unpacked, if it is a gzip file), or ""
	Sums          string // a list as k3s publishes them (sha256sum-amd64.txt), or ""
	Signature     string // of the list, or without one of the payload, or ""
	Key           string // the public key for it (PEM), or ""
	ExpectVersion string // or ""
	ServerVersion string // of this agent's server, which the payload must not exceed, or ""

	RunVersion bool // run a sealed copy with --version, confined; it must agree

	Images []string // files (image tarballs) for the data-dir's agent/images, put in place before the restart; with Sums each has to be listed

	BeforeWrite string // a command for /bin/sh that has to end with 0 before anything is written, or ""
	BeforeStop  string // likewise when all is staged, before the swap and the restart, or ""
	KeepBackups uint32 // how many builds that were installed before are kept; 0: 1; not with Rollback

	Commands   Commands      // of RestartCommands
	GuardDelay time.Duration // where k3s is stopped and started: when the start guard starts it; 0: 30 s, below 0: there is none

	NoUnpackAhead bool // let the new k3s unpack itself at its start, while it is down

	RotateCerts bool   // and new leaf certificates, as by Rotate, in the same restart; not with Rollback
	RotateKey   string // the caller's name for that; "": the payload's SHA-256
}

// Upgrade makes the running k3s be the payload's build.
func (n *Node) Upgrade(o UpgradeOptions) (*Op, error) {
	var text texts
	defer text.free()
	defer runtime.KeepAlive(o.PayloadFile)
	opts := C.struct_k3sup_upgrade_opts{struct_size: C.sizeof_struct_k3sup_upgrade_opts, timeout_ms: ms(o.Timeout),
		wait_lock_ms: ms(o.WaitLock), stable_ms: ms(o.Stable), payload: text.add(o.Payload), restart: C.uint32_t(o.Restart),
		probe: C.uint32_t(o.Probe), health: text.add(o.Health),
		sha256: text.add(o.SHA256), sums: text.add(o.Sums),
		signature: text.add(o.Signature), key: text.add(o.Key), expect_version: text.add(o.ExpectVersion), server_version: text.add(o.ServerVersion),
		images: text.list(o.Images), before_write: text.add(o.BeforeWrite), before_stop: text.add(o.BeforeStop), rollback: C.uint32_t(o.OnFailure), keep_backups: C.uint32_t(o.KeepBackups),
		guard_delay_ms: ms(o.GuardDelay), rotate_key: text.add(o.RotateKey),
		stop_command: text.add(o.Commands.Stop), start_command: text.add(o.Commands.Start), status_command: text.add(o.Commands.Status)}
	if o.PayloadFile != nil {
		opts.flags, opts.payload_fd = C.K3SUP_UPGRADE_PAYLOAD_FD, C.int32_t(o.PayloadFile.Fd())
	}
	if o.RunVersion {
		opts.flags |= C.K3SUP_UPGRADE_RUN_VERSION
	}
	if o.NoUnpackAhead {
		opts.flags |= C.K3SUP_UPGRADE_NO_UNPACK_AHEAD
	}
	if o.RetryFailed {
		opts.flags |= C.K3SUP_UPGRADE_RETRY_FAILED
	}
	if o.RotateCerts {
		opts.flags |= C.K3SUP_UPGRADE_ROTATE_CERTS
	}
	if o.DryRun {
		opts.flags |= C.K3SUP_UPGRADE_DRY_RUN
	}
	if o.Check {
		opts.flags |= C.K3SUP_UPGRADE_CHECK
	}
	if o.Rollback {
		opts.flags |= C.K3SUP_UPGRADE_ROLLBACK
	}
	if o.AllowDowngrade {
		opts.flags |= C.K3SUP_UPGRADE_ALLOW_DOWNGRADE
	}
	if o.AllowSkipMinor {
		opts.flags |= C.K3SUP_UPGRADE_ALLOW_SKIP_MINOR
	}
	if o.AllowPackageOwned {
		opts.flags |= C.K3SUP_UPGRADE_ALLOW_PACKAGE_OWNED
	}
	return n.start("upgrade", &text, func(ret **C.k3sup_op) C.int { return C.k3sup_upgrade(n.c, &opts, ret) })
}
