// SPDX-License-Identifier: Apache-2.0

package wrapper

import (
	"encoding/binary"
	"errors"
	"io"
	"strings"
)

// frameReader decodes a zstd frame made of raw and run-length blocks. That is
// all the archive builder writes: a valid frame needs no compression.
type frameReader struct {
	src    string
	body   strings.Reader // the current raw block
	run    int            // bytes left of the current run-length block
	runOf  byte
	last   bool
	broken error
}

var errFrame = errors.New("corrupt zstd frame")

func newFrameReader(src string) io.Reader {
	r := &frameReader{src: src}
	if len(src) < 6 || src[:4] != "\x28\xb5\x2f\xfd" {
		r.broken = errFrame
		return r
	}
	d := src[4]
	n := 5
	single := d>>5&1 == 1
	if !single {
		n++ // window descriptor
	}
	n += []int{0, 1, 2, 4}[d&3] // dictionary id
	content := []int{0, 2, 4, 8}[d>>6]
	if content == 0 && single {
		content = 1
	}
	n += content
	if len(src) < n {
		r.broken = errFrame
		return r
	}
	r.src = src[n:]
	return r
}

func (r *frameReader) Read(p []byte) (int, error) {
	for {
		if r.broken != nil {
			return 0, r.broken
		}
		if r.body.Len() > 0 {
			return r.body.Read(p)
		}
		if r.run > 0 {
			n := r.run
			if n > len(p) {
				n = len(p)
			}
			for i := range p[:n] {
				p[i] = r.runOf
			}
			r.run -= n
			return n, nil
		}
		if r.last {
			return 0, io.EOF
		}
		r.block()
	}
}

func (r *frameReader) block() {
	if len(r.src) < 3 {
		r.broken = io.ErrUnexpectedEOF
		return
	}
	head := binary.LittleEndian.Uint32([]byte{r.src[0], r.src[1], r.src[2], 0})
	r.src = r.src[3:]
	r.last = head&1 == 1
	size := int(head >> 3)
	switch head >> 1 & 3 {
	case 0:
		if len(r.src) < size {
			r.broken = io.ErrUnexpectedEOF
			return
		}
		r.body.Reset(r.src[:size])
		r.src = r.src[size:]
	case 1:
		if len(r.src) < 1 {
			r.broken = io.ErrUnexpectedEOF
			return
		}
		r.run, r.runOf = size, r.src[0]
		r.src = r.src[1:]
	default:
		r.broken = errFrame
	}
}
