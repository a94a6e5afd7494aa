// SPDX-License-Identifier: Apache-2.0

package inner

import "sync/atomic"

// The phases of a start, in order.
const (
	starting int32 = iota // every request is answered 503
	hooks                 // /ping answers, /readyz says 500
	up                    // /readyz says 200
	ending                // after the first SIGTERM
)

type state struct {
	phase  int32
	seenUp int32
	bad    int32
}

func (s *state) get() int32 { return atomic.LoadInt32(&s.phase) }

// set never goes back: a server that is ending does not become ready.
func (s *state) set(p int32) {
	for {
		old := s.get()
		if old >= p {
			return
		}
		if atomic.CompareAndSwapInt32(&s.phase, old, p) {
			break
		}
	}
	if p == up {
		atomic.StoreInt32(&s.seenUp, 1)
	}
}

func (s *state) wasUp() bool { return atomic.LoadInt32(&s.seenUp) == 1 }

// spoil makes the server stay up without ever becoming ready.
func (s *state) spoil() { atomic.StoreInt32(&s.bad, 1) }

func (s *state) broken() bool { return atomic.LoadInt32(&s.bad) == 1 }
