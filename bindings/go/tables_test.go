// SPDX-License-Identifier: Apache-2.0

package k3sup

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// notWrapped are the functions for which Go has something of its own.
var notWrapped = map[string]string{
	"k3sup_ctx_ref":     "core.users counts",
	"k3sup_node_ref":    "the garbage collector counts",
	"k3sup_op_ref":      "opState.users counts",
	"k3sup_process_ref": "the garbage collector counts",
}

// read returns all files of a pattern but tests.
func read(t *testing.T, pattern string) string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %v", pattern, err)
	}
	var all strings.Builder
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(name, "_test.go") {
			all.Write(text)
		}
	}
	return all.String()
}

func headers(t *testing.T) string {
	return regexp.MustCompile(`(?s)/\*.*?\*/`).ReplaceAllString(read(t, "../../include/k3sup/*.h"), " ")
}

func TestEveryFunctionIsWrapped(t *testing.T) {
	code := read(t, "*.go") + read(t, "shim.c")
	symbols := regexp.MustCompile(`(?m)^\s*(k3sup_\w+);`).FindAllStringSubmatch(read(t, "../../libk3sup/libk3sup.sym"), -1)
	if len(symbols) < 45 {
		t.Fatalf("%d symbols", len(symbols))
	}
	for _, symbol := range symbols {
		called := regexp.MustCompile(`\b` + symbol[1] + `\(`).MatchString(code)
		if _, skipped := notWrapped[symbol[1]]; called == skipped {
			t.Errorf("%s: called %v, skipped %v", symbol[1], called, skipped)
		}
	}
}

// The values come from the headers by themselves: cgo reads them. What can be forgotten is a new one.
func TestEveryConstantIsThere(t *testing.T) {
	code := read(t, "*.go")
	defines := regexp.MustCompile(`(?m)^#define (K3SUP_\w+) \(?-?\d+u?\)?\s*$`).FindAllStringSubmatch(headers(t), -1)
	if len(defines) < 45 {
		t.Fatalf("%d constants", len(defines))
	}
	for _, define := range defines {
		if define[1] != "K3SUP_VERSION_PATCH" && !regexp.MustCompile(`C\.`+define[1]+`\b`).MatchString(code) {
			t.Errorf("%s is missing", define[1])
		}
	}
}

func TestEveryFieldIsThere(t *testing.T) {
	code := read(t, "*.go")
	structs := regexp.MustCompile(`(?ms)^struct (k3sup_\w+) \{(.*?)^\};`).FindAllStringSubmatch(headers(t), -1)
	if len(structs) != strings.Count(headers(t), "\nstruct k3sup_") {
		t.Errorf("%d structs", len(structs))
	}
	for _, s := range structs {
		if !strings.Contains(code, "C.struct_"+s[1]) {
			t.Errorf("struct %s is missing", s[1])
		}
		if s[1] != "k3sup_progress" && !strings.Contains(code, "C.struct_"+s[1]+"{struct_size: C.sizeof_struct_"+s[1]) {
			t.Errorf("struct %s does not say its size", s[1])
		}
		for _, field := range regexp.MustCompile(`(\w+)\s*;`).FindAllStringSubmatch(s[2], -1) {
			set := regexp.MustCompile(`\b(opts\.` + field[1] + `\b|p\.` + field[1] + `\b|` + field[1] + `: )`)
			given := field[1] == "struct_size" || field[1] == "flags" || strings.HasPrefix(field[1], "reserved")
			if !given && !set.MatchString(code) {
				t.Errorf("%s.%s is missing", s[1], field[1])
			}
		}
	}
}

func TestEveryCodeHasNameAndSentence(t *testing.T) {
	names := regexp.MustCompile(`Err\w+\s+Code = C\.(K3SUP_E_\w+)`).FindAllStringSubmatch(read(t, "errors.go"), -1)
	if ErrBusy.Name() != "K3SUP_E_BUSY" || ErrNotStable.Name() != "K3SUP_E_NOT_STABLE" || Code(-2).Name() != "ENOENT" || len(names) < 34 {
		t.Error(ErrBusy.Name(), ErrNotStable.Name(), Code(-2).Name(), len(names))
	}
	if ErrBusy.Error() == "" || ErrBusy.Error() == Code(-9999).Error() {
		t.Error(ErrBusy)
	}
}

func TestAnotherLibraryIsRefused(t *testing.T) {
	for version, good := range map[string]bool{Version(): true, "0.12.3": true, "0.0.9": false, "1.1.0": false, "nonsense": false} {
		if err := checkVersion(version); (err == nil) != good {
			t.Error(version, err)
		}
	}
}
