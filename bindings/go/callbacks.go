// SPDX-License-Identifier: Apache-2.0

package k3sup

// #include "shim.h"
import "C"

import (
	"fmt"
	"os"
	"runtime/cgo"
	"runtime/debug"
	"time"
)

// Progress is what a progress callback is told.
type Progress struct {
	Percent     int           // of the whole operation, never falling
	Done, Total int64         // of this step, in bytes or milliseconds; -1 if it cannot be counted
	Downtime    time.Duration // how long k3s has been down in this operation; below 0 if it has not been
	Step, Text  string
}

// PanicError is a panic of a progress callback. It must not go through C, so it comes out of Wait as the cause of an ErrCallback.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.Value, e.Stack) }

//export k3supGoLog
func k3supGoLog(level C.int32_t, component, message *C.char, handle C.uintptr_t) {
	defer func() {
		if v := recover(); v != nil { // a log that cannot be written must not stop an upgrade
			fmt.Fprintf(os.Stderr, "k3sup: the log callback panicked: %v\n%s", v, debug.Stack())
		}
	}()
	cgo.Handle(handle).Value().(LogFunc)(LogLevel(level), C.GoString(component), C.GoString(message))
}

//export k3supGoProgress
func k3supGoProgress(p *C.struct_k3sup_progress, handle C.uintptr_t) (answer C.int32_t) {
	s := cgo.Handle(handle).Value().(*opState)
	defer func() {
		if v := recover(); v != nil {
			s.cause = &PanicError{v, debug.Stack()}
			answer = 1
		}
	}()
	if s.progress == nil || s.cause != nil {
		return 0
	}
	downtime := time.Duration(p.downtime_ms) * time.Millisecond
	s.cause = s.progress(Progress{int(p.percent), int64(p.done), int64(p.total), downtime, C.GoString(p.step), C.GoString(p.text)})
	if s.cause != nil {
		return 1
	}
	return 0
}

//export k3supGoDone
func k3supGoDone(op *C.k3sup_op, handle C.uintptr_t) {
	cgo.Handle(handle).Value().(*opState).ended(C.k3sup_op_status(op))
}
