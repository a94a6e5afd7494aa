// SPDX-License-Identifier: Apache-2.0

package k3sup

// #include "shim.h"
import "C"

import (
	"context"
	"encoding/json"
	"os"
	"runtime"
	"runtime/cgo"
	"sync"
	"syscall"
)

// opState is a C operation and who uses it: the Op, and those who wait. C finds it by its handle, which lives until C cannot call back
// any more.
type opState struct {
	core     *core
	verb     string
	users    int
	handle   cgo.Handle
	progress func(Progress) error
	cause    error         // what progress returned or panicked with
	done     chan struct{} // closed at the end
	status   C.int         // counts when done is closed

	// Cancel must work inside callbacks, so it cannot take the core's mutex. c changes with both held.
	life sync.Mutex
	c    *C.k3sup_op
}

func (s *opState) ended(status C.int) {
	select {
	case <-s.done:
	default:
		s.status = status
		close(s.done)
	}
}

func (s *opState) cancel() {
	s.life.Lock()
	defer s.life.Unlock()
	if s.c != nil {
		C.k3sup_op_cancel(s.c)
	}
}

// unref is called with the core's mutex held.
func (s *opState) unref() {
	s.users--
	if s.users > 0 {
		return
	}
	s.life.Lock()
	c := s.c
	s.c = nil
	s.life.Unlock()
	C.k3sup_op_unref(c)
	s.handle.Delete()
	s.ended(C.K3SUP_E_CANCELLED)
	s.core.unref()
}

// Op is a running or ended operation. Nothing of it runs before somebody waits or dispatches.
type Op struct {
	s      *opState
	closed bool
}

// newOp is called with the core's mutex held, with what the verb returned.
func newOp(k *core, verb string, r C.int, c *C.k3sup_op) (*Op, error) {
	if r < 0 {
		return nil, newError(verb, r)
	}
	s := &opState{core: k, verb: verb, users: 1, c: c, done: make(chan struct{})}
	s.handle = cgo.NewHandle(s)
	k.users++
	C.k3sup_go_set_done(c, C.uintptr_t(s.handle))
	o := &Op{s: s}
	runtime.SetFinalizer(o, func(o *Op) { go o.Close() })
	return o, nil
}

// Close gives the operation back. One that still runs is cancelled and goes to its next safe point when the context is driven or goes away.
func (o *Op) Close() error {
	o.s.core.mu.Lock()
	defer o.s.core.mu.Unlock()
	if !o.closed {
		o.closed = true
		runtime.SetFinalizer(o, nil)
		o.s.cancel()
		o.s.unref()
	}
	return nil
}

// Cancel asks the operation to stop at its next safe point. Past its point of no return that is ignored.
func (o *Op) Cancel() { o.s.cancel() }

// Done is closed when the operation has ended. It does not drive the context: somebody must wait or dispatch.
func (o *Op) Done() <-chan struct{} { return o.s.done }

// Status is -EINPROGRESS while it runs, else below 0 the error, 0: already so, 1: changed.
func (o *Op) Status() int {
	select {
	case <-o.s.done:
		return int(o.s.status)
	default:
		return -int(syscall.EINPROGRESS)
	}
}

// OnProgress calls fn at each step and at most about ten times a second within one. An error asks the operation to stop; Wait returns it.
func (o *Op) OnProgress(fn func(Progress) error) error {
	o.s.core.mu.Lock()
	defer o.s.core.mu.Unlock()
	if o.closed {
		return os.ErrClosed
	}
	o.s.progress = fn
	C.k3sup_go_set_progress(o.s.c, C.uintptr_t(o.s.handle))
	return nil
}

// Wait drives the context until the operation has ended. Several goroutines may wait, for the same or for other operations.
//
// When ctx is done the operation is cancelled, and Wait returns when it has come to its next safe point; the error is then ErrCancelled and
// ctx.Err(). Past its point of no return the operation ends as it would have, and that is what Wait returns. The result of failures is returned, too.
func (o *Op) Wait(ctx context.Context) (*Document, error) {
	s := o.s
	s.core.mu.Lock()
	if o.closed {
		s.core.mu.Unlock()
		return nil, os.ErrClosed
	}
	s.users++
	s.core.mu.Unlock()
	defer func() {
		s.core.mu.Lock()
		s.unref()
		s.core.mu.Unlock()
	}()

	if ctx.Done() != nil {
		returned := make(chan struct{})
		defer close(returned)
		go func() {
			select {
			case <-ctx.Done():
				s.cancel()
			case <-returned:
			}
		}()
	}
	for {
		select {
		case <-s.done:
			return s.outcome(ctx)
		case s.core.driving <- struct{}{}:
			err := s.drive()
			<-s.core.driving
			if err != nil {
				return nil, err
			}
		}
	}
}

// drive dispatches once and polls once. The descriptor is polled without the mutex, and not for ever: another one's Dispatch may have ended
// this operation meanwhile.
func (s *opState) drive() error {
	s.core.mu.Lock()
	r := C.k3sup_op_wait(s.c, 0)
	s.core.mu.Unlock()
	select {
	case <-s.done:
		return nil
	default:
	}
	if r == -C.int(syscall.EINPROGRESS) {
		r = C.k3sup_go_poll(s.core.fd, 1000)
	}
	if r < 0 {
		return newError("op_wait", r)
	}
	return nil
}

func (s *opState) outcome(ctx context.Context) (*Document, error) {
	s.core.mu.Lock()
	defer s.core.mu.Unlock()
	result := borrow(C.k3sup_op_result(s.c))
	doc := borrow(C.k3sup_op_error(s.c))
	if doc == nil {
		if s.cause != nil { // past the point of no return, where the answer does not count
			return result, &Error{Verb: s.verb, Code: ErrCallback, Message: "it reached its goal; the progress callback failed", Cause: s.cause}
		}
		return result, nil
	}
	defer doc.Close()
	err := &Error{Verb: s.verb, Cause: s.cause}
	if bad := doc.Unmarshal((*errorFields)(err)); bad != nil {
		return result, bad
	}
	if err.Code == ErrCancelled && err.Cause == nil {
		err.Cause = ctx.Err()
	}
	return result, err
}

type errorFields Error

// UnmarshalJSON reads the library's error document.
func (e *errorFields) UnmarshalJSON(text []byte) error {
	var said struct {
		Code     Code
		Message  string
		Evidence json.RawMessage
	}
	err := json.Unmarshal(text, &said)
	e.Code, e.Message, e.Evidence = said.Code, said.Message, said.Evidence
	return err
}

// Result is the result, of failures too; nil while the operation runs.
func (o *Op) Result() (*Document, error) {
	o.s.core.mu.Lock()
	defer o.s.core.mu.Unlock()
	if o.closed {
		return nil, os.ErrClosed
	}
	return borrow(C.k3sup_op_result(o.s.c)), nil
}

// Processes are what Identify or WaitRunning found. Close them.
func (o *Op) Processes() ([]*Process, error) {
	o.s.core.mu.Lock()
	defer o.s.core.mu.Unlock()
	if o.closed {
		return nil, os.ErrClosed
	}
	var found []*Process
	for {
		var c *C.k3sup_process
		r := C.k3sup_op_process(o.s.c, C.uint32_t(len(found)), &c)
		if r == -C.int(syscall.ENOENT) {
			return found, nil
		}
		if r < 0 {
			return nil, newError("op_process", r)
		}
		found = append(found, newProcess(c))
	}
}
