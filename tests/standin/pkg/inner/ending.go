// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/k3s-io/k3s/pkg/logline"
)

// signals ends the process: the first SIGTERM or SIGINT after the era's delay,
// the second one at once with code 1. SIGHUP is left alone and kills.
func (n *node) signals() {
	// A dead --log parent must not take the child along through its pipe.
	signal.Ignore(syscall.SIGPIPE)
	c := make(chan os.Signal, 4)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT)
	for n.sw.On("ignore_sigterm") {
		<-c
	}
	<-c
	n.state.set(ending)
	code := n.era.TermExit
	if !n.state.wasUp() {
		code = n.era.EarlyTermExit
	}
	code = n.sw.Int("exit_code", code)
	select {
	case <-c:
		os.Exit(1)
	case <-time.After(n.sw.Millis("term_delay_ms", n.era.TermDelay)):
	}
	if code != 0 {
		logline.FatalNoExit("controllers exited")
	}
	os.Exit(code)
}

// die ends the process by a fault: by signal if die_signal is set.
func (n *node) die(why string) {
	logline.FatalNoExit("stand-in fault: %s", why)
	if s := n.sw.Int("die_signal", 0); s > 0 {
		// Go catches SIGSEGV and its like for itself: back to the default first.
		var def [64]byte
		syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&def[0])), 0, 8, 0, 0)
		syscall.Kill(os.Getpid(), syscall.Signal(s))
		time.Sleep(time.Second)
	}
	os.Exit(n.sw.Int("exit_code", 1))
}

// dieAtStart serves die_at_start (whose value is the exit code) and flap (die
// at the first N starts, counted in the data-dir).
func (n *node) dieAtStart() {
	if n.sw.On("die_at_start") {
		if !n.sw.Has("exit_code") {
			n.sw["exit_code"] = n.sw["die_at_start"]
		}
		n.die("die_at_start")
	}
	flap := n.sw.Int("flap", 0)
	if flap == 0 {
		return
	}
	counter := filepath.Join(n.dataDir, "standin-starts")
	text, _ := os.ReadFile(counter)
	count, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	count++
	must(os.WriteFile(counter, []byte(strconv.Itoa(count)+"\n"), 0o644))
	if count <= flap {
		n.die("flap " + strconv.Itoa(count) + " of " + strconv.Itoa(flap))
	}
}

func must(err error) {
	if err != nil {
		logline.Fatal("%v", err)
	}
}
