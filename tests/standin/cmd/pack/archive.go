// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sort"
	"strings"
	"time"
)

// files are the regular files below bin/, by name.
type files map[string][]byte

// links are the symlinks below bin/, by name.
type links map[string]string

// stamp is the fixed modification time of everything in the archive: equal
// inputs must give an equal hash.
var stamp = time.Date(2021, 7, 15, 0, 0, 0, 0, time.UTC)

// contents lists bin/ as the release does: one multicall program (called
// containerd in 2021, k3s later) and links to it.
func contents(era string, inner, shim []byte) (files, links) {
	old := era == "2020" || era == "2021"
	real := "k3s"
	if old {
		real = "containerd"
	}
	f := files{
		real:                      inner,
		"containerd-shim-runc-v2": shim,
		"cni":                     script("cni"),
		"runc":                    script("runc"),
		"check-config":            checkConfig(),
		"aux/wg-add.sh":           script("wg-add.sh"),
	}
	l := links{}
	names := []string{"k3s", "containerd", "crictl", "ctr", "k3s-agent", "k3s-etcd-snapshot", "k3s-server", "kubectl"}
	plugins := []string{"bridge", "flannel", "host-local", "loopback", "portmap"}
	if old {
		f["containerd-shim"] = script("containerd-shim")
	} else {
		names = append(names, "k3s-token", "k3s-secrets-encrypt", "k3s-certificate", "k3s-completion")
		plugins = append(plugins, "bandwidth", "firewall")
	}
	for _, n := range names {
		if n != real {
			l[n] = real
		}
	}
	for _, n := range plugins {
		l[n] = "cni"
	}
	return f, l
}

func script(name string) []byte {
	return []byte("#!/bin/sh\n# stand-in of " + name + "\nexit 0\n")
}

func checkConfig() []byte {
	var b strings.Builder
	b.WriteString("#!/bin/sh\n# stand-in of check-config\n")
	for i := 0; i < 8; i++ {
		fmt.Fprintf(&b, "echo 'check %d: fine'\n", i)
	}
	b.WriteString("echo 'STATUS: pass'\n")
	return []byte(b.String())
}

// padding returns n bytes nobody can compress, the same for the same seed.
func padding(seed string, n int) []byte {
	key := sha256.Sum256([]byte(seed))
	block, err := aes.NewCipher(key[:16])
	if err != nil {
		panic(err)
	}
	out := make([]byte, n)
	cipher.NewCTR(block, key[16:]).XORKeyStream(out, out)
	return out
}

// sums makes bin/.sha256sums: hash, two blanks, name.
func sums(f files) []byte {
	var b bytes.Buffer
	for _, n := range sortedFiles(f) {
		h := sha256.Sum256(f[n])
		fmt.Fprintf(&b, "%s  %s\n", hex.EncodeToString(h[:]), n)
	}
	return b.Bytes()
}

// linkList makes bin/.links: name, blank, target.
func linkList(l links) []byte {
	var b bytes.Buffer
	for _, n := range sortedLinks(l) {
		fmt.Fprintf(&b, "%s %s\n", n, l[n])
	}
	return b.Bytes()
}

func sortedFiles(f files) []string {
	var n []string
	for k := range f {
		n = append(n, k)
	}
	sort.Strings(n)
	return n
}

func sortedLinks(l links) []string {
	var n []string
	for k := range l {
		n = append(n, k)
	}
	sort.Strings(n)
	return n
}

// archive makes the tar with its two top entries, bin and etc.
func archive(f files, l links) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	dir(w, "bin/")
	file(w, "bin/.links", 0o644, linkList(l))
	file(w, "bin/.sha256sums", 0o644, sums(f))
	dir(w, "bin/aux/")
	for _, n := range sortedFiles(f) {
		file(w, "bin/"+n, 0o755, f[n])
	}
	for _, n := range sortedLinks(l) {
		put(w, &tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + n, Linkname: l[n], Mode: 0o777}, nil)
	}
	dir(w, "etc/")
	file(w, "etc/placeholder", 0o644, []byte("placeholder\n"))
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func dir(w *tar.Writer, name string) {
	put(w, &tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, nil)
}

func file(w *tar.Writer, name string, mode int64, body []byte) {
	put(w, &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(body))}, body)
}

func put(w *tar.Writer, h *tar.Header, body []byte) {
	h.ModTime = stamp
	h.Uname, h.Gname = "root", "root"
	h.Format = tar.FormatUSTAR
	if err := w.WriteHeader(h); err != nil {
		panic(err)
	}
	if _, err := w.Write(body); err != nil {
		panic(err)
	}
}
