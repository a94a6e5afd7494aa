// SPDX-License-Identifier: Apache-2.0

// The stand-in of containerd-shim-runc-v2: it outlives k3s and keeps its own
// file below data/<H>/bin in use. The first instance starts a second one and
// leaves, so that the survivor belongs to pid 1 (or the nearest subreaper).
package main

import (
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

const mark = "_STANDIN_SHIM_=1"

func main() {
	for _, e := range os.Environ() {
		if e == mark {
			c := make(chan os.Signal, 1)
			signal.Notify(c, syscall.SIGTERM)
			<-c
			return
		}
	}
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		os.Exit(1)
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		os.Exit(1)
	}
	p, err := os.StartProcess(exe, append([]string{exe}, os.Args[1:]...), &os.ProcAttr{
		Env:   append(os.Environ(), mark),
		Files: []*os.File{null, null, null},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		os.Exit(1)
	}
	if err != nil {
		os.Exit(1)
	}
	os.Stdout.WriteString(strconv.Itoa(p.Pid) + "\n")
}
