// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"math/bits"
)

// maxBlock is the largest block zstd allows.
const maxBlock = 128 << 10

// frame wraps data in a zstd frame without compressing it. The header is that
// of "zstd --long=25 FILE", which the real archive was made with: content size
// in four bytes, 32 MiB window, content checksum.
func frame(data []byte) []byte {
	out := make([]byte, 0, len(data)+len(data)/maxBlock*3+64)
	out = append(out, 0x28, 0xb5, 0x2f, 0xfd, 0x84, 0x78)
	var size [4]byte
	binary.LittleEndian.PutUint32(size[:], uint32(len(data)))
	out = append(out, size[:]...)
	for rest := data; ; {
		block := rest
		if len(block) > maxBlock {
			block = block[:maxBlock]
		}
		rest = rest[len(block):]
		last := uint32(0)
		if len(rest) == 0 {
			last = 1
		}
		if same(block) {
			out = head(out, last|1<<1|uint32(len(block))<<3)
			out = append(out, block[0])
		} else {
			out = head(out, last|uint32(len(block))<<3)
			out = append(out, block...)
		}
		if last == 1 {
			break
		}
	}
	var sum [4]byte
	binary.LittleEndian.PutUint32(sum[:], uint32(xxh64(data)))
	return append(out, sum[:]...)
}

func head(out []byte, h uint32) []byte {
	return append(out, byte(h), byte(h>>8), byte(h>>16))
}

// same tells whether a block can be a run-length block.
func same(b []byte) bool {
	if len(b) < 2 {
		return false
	}
	for _, c := range b {
		if c != b[0] {
			return false
		}
	}
	return true
}

const (
	p1 = 11400714785074694791
	p2 = 14029467366897019727
	p3 = 1609587929392839161
	p4 = 9650029242287828579
	p5 = 2870177450012600261
)

func round(acc, in uint64) uint64 {
	return bits.RotateLeft64(acc+in*p2, 31) * p1
}

// xxh64 is the checksum zstd puts behind the last block (its low half).
func xxh64(b []byte) uint64 {
	le := binary.LittleEndian
	n := uint64(len(b))
	var h uint64
	if len(b) >= 32 {
		var seed uint64
		v := [4]uint64{seed + p1 + p2, seed + p2, seed, seed - p1}
		for ; len(b) >= 32; b = b[32:] {
			for i := range v {
				v[i] = round(v[i], le.Uint64(b[8*i:]))
			}
		}
		for i, r := range []int{1, 7, 12, 18} {
			h += bits.RotateLeft64(v[i], r)
		}
		for _, x := range v {
			h = (h^round(0, x))*p1 + p4
		}
	} else {
		h = p5
	}
	h += n
	for ; len(b) >= 8; b = b[8:] {
		h = bits.RotateLeft64(h^round(0, le.Uint64(b)), 27)*p1 + p4
	}
	if len(b) >= 4 {
		h = bits.RotateLeft64(h^uint64(le.Uint32(b))*p1, 23)*p2 + p3
		b = b[4:]
	}
	for _, c := range b {
		h = bits.RotateLeft64(h^uint64(c)*p5, 11) * p1
	}
	h = (h ^ h>>33) * p2
	h = (h ^ h>>29) * p3
	return h ^ h>>32
}
