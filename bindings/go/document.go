// SPDX-License-Identifier: Apache-2.0

package k3sup

// #include <k3sup.h>
import "C"

import (
	"encoding/json"
	"os"
	"runtime"
	"sync"
	"unsafe"
)

// Document is a read-only JSON value of the library: a result, an error, evidence. It outlives its context.
//
// Paths are JSON pointers: "/running/pid"; "" is the document itself.
type Document struct {
	mu sync.RWMutex
	c  *C.k3sup_doc // nil: closed
}

func newDocument(c *C.k3sup_doc) *Document {
	d := &Document{c: c}
	runtime.SetFinalizer(d, func(d *Document) { d.Close() })
	return d
}

// borrow takes a reference to a document that belongs to another object.
func borrow(c *C.k3sup_doc) *Document {
	if c == nil {
		return nil
	}
	return newDocument(C.k3sup_doc_ref(c))
}

// ParseDocument reads a document from JSON text.
func ParseDocument(text []byte) (*Document, error) {
	var c *C.k3sup_doc
	some := append(text[:len(text):len(text)], 0) // the text of an empty slice has an address, too
	if r := C.k3sup_doc_parse((*C.char)(unsafe.Pointer(&some[0])), C.size_t(len(text)), &c); r < 0 {
		return nil, newError("doc_parse", r)
	}
	return newDocument(c), nil
}

// Close gives the document back. The garbage collector does, too: documents hold nothing but memory.
func (d *Document) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	runtime.SetFinalizer(d, nil)
	d.c = C.k3sup_doc_unref(d.c)
	return nil
}

// at calls C with a path while the document is held.
func (d *Document) at(name, path string, call func(path *C.char) C.int) error {
	var text texts
	defer text.free()
	cpath := text.add(path)
	if text.err != nil {
		return text.err
	}
	if cpath == nil {
		cpath = C.CString("")
		text.all = append(text.all, cpath)
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.c == nil {
		return os.ErrClosed
	}
	if r := call(cpath); r < 0 {
		return newError(name+" "+path, r)
	}
	return nil
}

// MarshalJSON is the whole document on one line of ASCII.
func (d *Document) MarshalJSON() ([]byte, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.c == nil {
		return nil, os.ErrClosed
	}
	return []byte(C.GoString(C.k3sup_doc_json(d.c))), nil
}

// Unmarshal stores the document as json.Unmarshal does.
func (d *Document) Unmarshal(v any) error {
	text, err := d.MarshalJSON()
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

// String is the whole document, for logs.
func (d *Document) String() string {
	text, err := d.MarshalJSON()
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Get is a part as a document of its own.
func (d *Document) Get(path string) (*Document, error) {
	var c *C.k3sup_doc
	if err := d.at("doc_get", path, func(p *C.char) C.int { return C.k3sup_doc_get(d.c, p, &c) }); err != nil {
		return nil, err
	}
	return newDocument(c), nil
}

// Len is how many members or elements an object or array has.
func (d *Document) Len(path string) (int, error) {
	var n C.int64_t
	err := d.at("doc_len", path, func(p *C.char) C.int {
		if n = C.k3sup_doc_len(d.c, p); n < 0 {
			return C.int(n)
		}
		return 0
	})
	return int(n), err
}

// Str is the string at a path.
func (d *Document) Str(path string) (text string, err error) {
	err = d.at("doc_str", path, func(p *C.char) C.int {
		var c *C.char
		r := C.k3sup_doc_str(d.c, p, &c)
		if r >= 0 {
			text = C.GoString(c)
		}
		return r
	})
	return text, err
}

// Int is the integer at a path; true is 1.
func (d *Document) Int(path string) (int64, error) {
	var n C.int64_t
	err := d.at("doc_i64", path, func(p *C.char) C.int { return C.k3sup_doc_i64(d.c, p, &n) })
	return int64(n), err
}
