// SPDX-License-Identifier: Apache-2.0

// Package version holds what the linker stamps into both programs. The names
// of the package and of its variables are part of the imitation: a reader of
// the build information looks for pkg/version.Version.
package version

import (
	"runtime"
	"strings"
)

// Version and GitCommit keep these values in an unstamped build, which then
// prints "dev (HEAD)".
var (
	Version   = "dev"
	GitCommit = "HEAD"
)

// Lines returns the text of --version: one line before December 2020, two
// lines since then. prog is the base name of argv[0].
func Lines(prog string, lines int) string {
	var b strings.Builder
	b.WriteString(prog + " version " + Version + " (" + GitCommit + ")\n")
	if lines > 1 {
		b.WriteString("go version " + runtime.Version() + "\n")
	}
	return b.String()
}
