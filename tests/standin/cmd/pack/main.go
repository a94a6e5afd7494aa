// SPDX-License-Identifier: Apache-2.0

// Pack builds the archive a stand-in embeds and the Go file that embeds it.
//
//	pack ERA INNER SHIM EXTRA-BYTES SEED DATA-DIR
//
// It writes the archive and data.go to DATA-DIR, a copy of pkg/data, and
// prints H, the SHA-256 of the archive.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

func main() {
	if len(os.Args) != 7 {
		fmt.Fprintln(os.Stderr, "usage: pack ERA INNER SHIM EXTRA-BYTES SEED DATA-DIR")
		os.Exit(2)
	}
	era, out := os.Args[1], os.Args[6]
	extra, err := strconv.Atoi(os.Args[4])
	check(err)
	inner, err := os.ReadFile(os.Args[2])
	check(err)
	shim, err := os.ReadFile(os.Args[3])
	check(err)
	if extra > 0 {
		// Behind the end of the program, where the loader does not look: the
		// large file is then the multicall program, as in a real release.
		inner = append(inner, padding(os.Args[5], extra)...)
	}
	blob := frame(archive(contents(era, inner, shim)))
	sum := sha256.Sum256(blob)
	hash := hex.EncodeToString(sum[:])

	dir, text := source(era, hash)
	check(os.MkdirAll(filepath.Join(out, dir), 0o755))
	check(os.WriteFile(filepath.Join(out, dir, hash+".tar.zst"), blob, 0o644))
	check(os.WriteFile(filepath.Join(out, "data.go"), []byte(text), 0o644))
	fmt.Println(hash)
}

// source writes pkg/data for this archive. Until mid 2025 the release used a
// generator that put the bytes into a string and the name "build/data/..."
// into a table; since then it is go:embed with "embed/...".
func source(era, hash string) (dir, text string) {
	const top = "// SPDX-License-Identifier: Apache-2.0\n\npackage data\n\n"
	name := hash + ".tar.zst"
	if era == "2025" {
		return "embed", top + "import \"embed\"\n\n//go:embed embed/*\nvar bin embed.FS\n\n" +
			"// Asset returns the name and the bytes of the embedded archive.\n" +
			"func Asset() (string, string) {\n" +
			"\tentries, err := bin.ReadDir(\"embed\")\n\tif err != nil || len(entries) != 1 {\n\t\treturn \"\", \"\"\n\t}\n" +
			"\tname := \"embed/\" + entries[0].Name()\n\tb, err := bin.ReadFile(name)\n\tif err != nil {\n\t\treturn \"\", \"\"\n\t}\n" +
			"\treturn name, string(b)\n}\n"
	}
	return "build/data", top + "import _ \"embed\"\n\n//go:embed build/data/" + name + "\nvar blob string\n\n" +
		"var table = map[string]*string{\"build/data/" + name + "\": &blob}\n\n" +
		"// Asset returns the name and the bytes of the embedded archive.\n" +
		"func Asset() (string, string) {\n\tfor n, b := range table {\n\t\treturn n, *b\n\t}\n\treturn \"\", \"\"\n}\n"
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}
