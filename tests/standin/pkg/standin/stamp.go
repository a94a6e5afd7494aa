// SPDX-License-Identifier: Apache-2.0

// Package standin holds what makes one stand-in differ from another: the era
// whose behaviour it shows, and its faults.
package standin

// These are stamped by the linker; see build.sh.
var (
	// EraName selects a row of the table in era.go.
	EraName = "2024"
	// Misbehave holds the faults of this very binary: "key=value;key=value".
	Misbehave = ""
	// BuildDate is stamped into the inner program only, as in the real k3s,
	// whose wrapper does not know it either.
	BuildDate = "1970-01-01T00:00:00Z"
)
