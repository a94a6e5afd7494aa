// SPDX-License-Identifier: Apache-2.0

// Package proctitle overwrites the argument memory of the process, with the
// side effects seen on a real k3s: the whole command line becomes one string
// padded with NULs, and the first environment variable is wiped.
package proctitle

import (
	"os"
	"strings"
	"unsafe"
)

const (
	// maxTitle: longer titles are cut.
	maxTitle = 255
	// maxArea: the real library looks for the arguments only this far below
	// the environment; with a longer command line it silently does nothing.
	maxArea = 8192
)

var (
	area []byte // the arguments as the kernel laid them out
	env0 []byte // the first environment variable, right behind them
)

// bytesOf returns the memory of a string. The Go runtime does not copy the
// arguments, so those of os.Args are the ones /proc/PID/cmdline shows.
func bytesOf(s string, n int) []byte {
	p := *(*unsafe.Pointer)(unsafe.Pointer(&s))
	var b []byte
	h := (*[3]uintptr)(unsafe.Pointer(&b))
	*(*unsafe.Pointer)(unsafe.Pointer(&h[0])) = p
	h[1], h[2] = uintptr(n), uintptr(n)
	return b
}

func cloneAll(in []string) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = string(append([]byte(nil), s...))
	}
	return out
}

// Prepare finds the argument area and gives os.Args private copies. It changes
// nothing that is visible from outside.
func Prepare() {
	if area != nil || len(os.Args) == 0 {
		return
	}
	total := 0
	for _, a := range os.Args {
		total += len(a) + 1
	}
	first := os.Args[0]
	envLen := 0
	if e := os.Environ(); len(e) > 0 {
		envLen = len(e[0]) + 1
	}
	os.Args = cloneAll(os.Args)
	if total > maxArea {
		return
	}
	all := bytesOf(first, total+envLen)
	area, env0 = all[:total:total], all[total:]
}

// Blank leaves argv[0] and one blank, and wipes the first environment
// variable. The real program does this while its packages initialise.
func Blank() {
	for i := range env0 {
		env0[i] = 0
	}
	Set("")
}

// Set writes "<argv[0]> <role>".
func Set(role string) {
	if area == nil {
		return
	}
	title := os.Args[0] + " " + role
	if len(title) > maxTitle {
		title = title[:maxTitle]
	}
	if len(title) > len(area)-1 {
		title = title[:len(area)-1]
	}
	n := copy(area, title)
	for i := n; i < len(area); i++ {
		area[i] = 0
	}
}

// Base returns the last element of a path, without importing path/filepath.
func Base(p string) string {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[i+1:]
	}
	return p
}
