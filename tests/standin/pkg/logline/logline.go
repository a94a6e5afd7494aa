// SPDX-License-Identifier: Apache-2.0

// Package logline writes log lines in the text form k3s uses: key="value"
// pairs into files and pipes, "INFO[0000] text" on a terminal.
package logline

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

var begun = time.Now()

// Stamp is the time format: the wrapper logs whole seconds, the inner program
// nanoseconds (both seen on a real v1.21).
var Stamp = time.RFC3339

// StampNano is the inner program's time format.
const StampNano = "2006-01-02T15:04:05.000000000Z07:00"

// Info logs at level info.
func Info(format string, a ...interface{}) { write("info", fmt.Sprintf(format, a...)) }

// Warn logs at level warning.
func Warn(format string, a ...interface{}) { write("warning", fmt.Sprintf(format, a...)) }

// Error logs at level error.
func Error(format string, a ...interface{}) { write("error", fmt.Sprintf(format, a...)) }

// Fatal logs and leaves with code 1, as every error that reaches k3s's main.
func Fatal(format string, a ...interface{}) {
	write("fatal", fmt.Sprintf(format, a...))
	os.Exit(1)
}

// FatalNoExit logs at level fatal for callers that choose the exit code.
func FatalNoExit(format string, a ...interface{}) { write("fatal", fmt.Sprintf(format, a...)) }

func write(level, msg string) {
	if terminal() {
		short := strings.ToUpper(level)[:4]
		fmt.Fprintf(os.Stderr, "%s[%04d] %s\n", short, int(time.Since(begun)/time.Second), msg)
		return
	}
	fmt.Fprintf(os.Stderr, "time=\"%s\" level=%s msg=%s\n", time.Now().UTC().Format(Stamp), level, strconv.Quote(msg))
}

func terminal() bool {
	var buf [64]byte
	_, _, e := syscall.Syscall(syscall.SYS_IOCTL, 2, syscall.TCGETS, uintptr(unsafe.Pointer(&buf[0])))
	return e == 0
}
