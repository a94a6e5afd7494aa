// SPDX-License-Identifier: Apache-2.0

// Package k3sup upgrades k3s nodes through libk3sup: safe to repeat, safe to cut, honest about what it saw.
//
//	ctx, err := k3sup.NewContext(k3sup.ContextOptions{})
//	defer ctx.Close()
//	node, err := ctx.Node(k3sup.NodeOptions{})
//	defer node.Close()
//	op, err := node.Upgrade(k3sup.UpgradeOptions{Payload: "/opt/k3s"})
//	defer op.Close()
//	result, err := op.Wait(context.Background())
//
// What a verb means, when it stops and what it needs is said in the comments of the C headers; only what is different in Go is said here.
// All methods may be called by any goroutine. Callbacks run inside Wait, Dispatch or the last Close and must not call methods of the context
// they belong to, its nodes and its operations, except Op.Cancel, Op.Status and Op.Done.
package k3sup

/*
#cgo pkg-config: libk3sup
#include <k3sup.h>
#include <stdlib.h>

#if K3SUP_VERSION_MAJOR != 0 || K3SUP_VERSION_MINOR < 1
#error "this binding needs libk3sup 0.1 or a later 0.x"
#endif
*/
import "C"

import (
	"fmt"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// Version is the version of the library that is running.
func Version() string { return C.GoString(C.k3sup_version()) }

// checkVersion refuses a library that is older than the headers this was built with need.
func checkVersion(version string) error {
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d.", &major, &minor); err != nil || major != C.K3SUP_VERSION_MAJOR || minor < C.K3SUP_VERSION_MINOR {
		return fmt.Errorf("k3sup: the library is version %s, this program was built for %d.%d", version,
			C.K3SUP_VERSION_MAJOR, C.K3SUP_VERSION_MINOR)
	}
	return nil
}

// VersionCompare is the total order of k3s versions: below 0, 0 or above 0 if a is older than, the same as, or newer than b.
func VersionCompare(a, b string) (int, error) {
	var text texts
	defer text.free()
	var order C.int32_t
	ca, cb := text.add(a), text.add(b)
	if text.err != nil {
		return 0, text.err
	}
	if r := C.k3sup_version_compare(ca, cb, &order); r < 0 {
		return 0, newError("version_compare", r)
	}
	return int(order), nil
}

// texts are the C copies of the strings of one call. What goes to C holds no Go pointer.
type texts struct {
	all   []*C.char
	lists []**C.char
	err   error
}

// add returns nil for the empty string, which stands for the default.
func (t *texts) add(s string) *C.char {
	if strings.IndexByte(s, 0) >= 0 {
		t.err = syscall.EINVAL // C would see another, shorter text
		return nil
	}
	if s == "" {
		return nil
	}
	c := C.CString(s)
	t.all = append(t.all, c)
	return c
}

// list returns an array that ends with NULL, or nil for none. An empty text would end it before its time.
func (t *texts) list(all []string) **C.char {
	if len(all) == 0 {
		return nil
	}
	c := (**C.char)(C.calloc(C.size_t(len(all)+1), C.size_t(unsafe.Sizeof((*C.char)(nil)))))
	t.lists = append(t.lists, c)
	for i, slots := 0, unsafe.Slice(c, len(all)); i < len(all); i++ {
		if all[i] == "" {
			t.err = syscall.EINVAL
		}
		slots[i] = t.add(all[i])
	}
	return c
}

func (t *texts) free() {
	for _, c := range t.lists {
		C.free(unsafe.Pointer(c))
	}
	for _, c := range t.all {
		C.free(unsafe.Pointer(c))
	}
}

// ms keeps what 0 and below mean in C: the default, and for ever.
func ms(d time.Duration) C.int64_t {
	if d < 0 {
		return -1
	}
	return C.int64_t((d + time.Millisecond - 1) / time.Millisecond)
}
