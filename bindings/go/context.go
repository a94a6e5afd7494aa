// SPDX-License-Identifier: Apache-2.0

package k3sup

// #include "shim.h"
import "C"

import (
	"os"
	"runtime"
	"runtime/cgo"
	"sync"
)

// core is a C context and who uses it: the Context, its nodes and its operations. It goes with the last of them.
type core struct {
	mu      sync.Mutex    // C takes one thread at a time; held while callbacks run
	driving chan struct{} // holds one: whoever put it there polls the descriptor, the others wait for what comes of it
	c       *C.k3sup_ctx
	fd      C.int
	users   int
	log     cgo.Handle // 0: none
}

func (k *core) unref() {
	k.users--
	if k.users > 0 {
		return
	}
	k.c = C.k3sup_ctx_unref(k.c)
	k.dropLog()
}

func (k *core) dropLog() {
	if k.log != 0 {
		k.log.Delete()
		k.log = 0
	}
}

// Context is one private event loop with one descriptor.
type Context struct {
	core   *core
	closed bool
}

// ContextOptions are the settings of a context.
type ContextOptions struct {
	Inline bool // no worker thread: file work runs inside Wait or Dispatch
}

// NewContext makes a context. Close it.
func NewContext(o ContextOptions) (*Context, error) {
	if err := checkVersion(Version()); err != nil {
		return nil, err
	}
	opts := C.struct_k3sup_ctx_opts{struct_size: C.sizeof_struct_k3sup_ctx_opts}
	if o.Inline {
		opts.flags = C.K3SUP_CTX_INLINE
	}
	k := &core{users: 1, driving: make(chan struct{}, 1)}
	if r := C.k3sup_ctx_new(&opts, &k.c); r < 0 {
		return nil, newError("ctx_new", r)
	}
	k.fd = C.k3sup_ctx_fd(k.c)
	x := &Context{core: k}
	runtime.SetFinalizer(x, func(x *Context) { go x.Close() })
	return x, nil
}

// Close gives the context back; it goes when its nodes and operations are closed as well.
func (x *Context) Close() error {
	x.core.mu.Lock()
	defer x.core.mu.Unlock()
	if !x.closed {
		x.closed = true
		runtime.SetFinalizer(x, nil)
		x.core.unref()
	}
	return nil
}

// LogLevel is a level of syslog(3).
type LogLevel int

// The levels the library uses.
const (
	LogNone    LogLevel = C.K3SUP_LOG_NONE
	LogErr     LogLevel = C.K3SUP_LOG_ERR
	LogWarning LogLevel = C.K3SUP_LOG_WARNING
	LogInfo    LogLevel = C.K3SUP_LOG_INFO
	LogDebug   LogLevel = C.K3SUP_LOG_DEBUG
)

// LogFunc receives one finished line.
type LogFunc func(level LogLevel, component, message string)

// SetLog says where lines that are at least as important as max go; nil is silence.
func (x *Context) SetLog(max LogLevel, fn LogFunc) error {
	x.core.mu.Lock()
	defer x.core.mu.Unlock()
	if x.closed {
		return os.ErrClosed
	}
	var handle cgo.Handle
	if fn != nil {
		handle = cgo.NewHandle(fn)
	}
	if r := C.k3sup_go_set_log(x.core.c, C.int32_t(max), C.uintptr_t(handle)); r < 0 {
		if fn != nil {
			handle.Delete()
		}
		return newError("ctx_set_log", r)
	}
	x.core.dropLog()
	x.core.log = handle
	return nil
}

// Fd is the descriptor to watch for input, without a timeout, by programs with a loop of their own: call Dispatch when it is readable.
// Others do not need it, Wait is enough.
func (x *Context) Fd() (int, error) {
	x.core.mu.Lock()
	defer x.core.mu.Unlock()
	if x.closed {
		return -1, os.ErrClosed
	}
	return int(x.core.fd), nil
}

// Dispatch does what is ready, runs callbacks and never waits. It tells whether something was done.
func (x *Context) Dispatch() (bool, error) {
	x.core.mu.Lock()
	defer x.core.mu.Unlock()
	if x.closed {
		return false, os.ErrClosed
	}
	r := C.k3sup_ctx_dispatch(x.core.c)
	if r < 0 {
		return false, newError("ctx_dispatch", r)
	}
	return r > 0, nil
}

// BuildReadOptions say which file is read, and how well.
type BuildReadOptions struct {
	Path       string
	File       *os.File // instead of Path; may be closed as soon as BuildReadWith has returned
	RunVersion bool     // run a sealed copy with --version, confined; it must agree
	Archive    bool     // the archive inside must have the SHA-256 that it is named by
}

// BuildRead tells what k3s binary the file at path is, without executing it.
func (x *Context) BuildRead(path string) (*Op, error) {
	return x.BuildReadWith(BuildReadOptions{Path: path})
}

// BuildReadFile does so with an open file, which may be closed as soon as this has returned.
func (x *Context) BuildReadFile(file *os.File) (*Op, error) {
	return x.BuildReadWith(BuildReadOptions{File: file})
}

// BuildReadWith does so with options.
func (x *Context) BuildReadWith(o BuildReadOptions) (*Op, error) {
	var text texts
	defer text.free()
	defer runtime.KeepAlive(o.File)
	opts := C.struct_k3sup_build_read_opts{struct_size: C.sizeof_struct_k3sup_build_read_opts, path: text.add(o.Path)}
	if o.File != nil {
		opts.flags, opts.fd = C.K3SUP_BUILD_READ_FD, C.int32_t(o.File.Fd())
	}
	if o.RunVersion {
		opts.flags |= C.K3SUP_BUILD_READ_RUN_VERSION
	}
	if o.Archive {
		opts.flags |= C.K3SUP_BUILD_READ_ARCHIVE
	}
	if text.err != nil {
		return nil, text.err
	}
	x.core.mu.Lock()
	defer x.core.mu.Unlock()
	if x.closed {
		return nil, os.ErrClosed
	}
	var c *C.k3sup_op
	r := C.k3sup_build_read(x.core.c, &opts, &c)
	return newOp(x.core, "build_read", r, c)
}
