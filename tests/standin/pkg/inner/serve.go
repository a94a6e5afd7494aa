// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"os"
	"time"

	"github.com/k3s-io/k3s/pkg/logline"
	"github.com/k3s-io/k3s/pkg/proctitle"
	"github.com/k3s-io/k3s/pkg/standin"
	"github.com/k3s-io/k3s/pkg/version"
)

// reexec marks the child of a server started with --log.
const reexec = "_K3S_LOG_REEXEC_"

// defaultReady is shorter than the 2.7 s of a real warm start.
const defaultReady = 1500 * time.Millisecond

// node is one running server or agent.
type node struct {
	era     standin.Era
	sw      standin.Switches
	role    string
	opt     options
	dataDir string
	state   *state
}

func serve(era standin.Era, sw standin.Switches, role string, args []string) {
	opt, err := readOptions(era, args)
	if err != nil {
		logline.Fatal("%v", err)
	}
	log := opt.get("log", "l", "")
	if os.Getenv(reexec) == "" && (log != "" || era.PidOneSplits && os.Getpid() == 1) {
		runPair(era, sw, log, opt.on("alsologtostderr"))
	}
	setTitle(sw, role)
	n := &node{era: era, sw: sw, role: role, opt: opt, dataDir: opt.dataDir(era), state: &state{}}
	go n.signals()

	what := "k3s"
	if role == "agent" {
		what = "k3s agent"
	}
	logline.Info("Starting %s %s (%s)", what, version.Version, version.GitCommit)
	n.dieAtStart()
	ready := sw.Millis("ready_after_ms", defaultReady)
	if role == "server" {
		n.startServer()
	} else {
		n.startAgent()
	}
	n.startChildren()
	n.timeline(ready)
}

func setTitle(sw standin.Switches, role string) {
	switch {
	case sw["title"] == "untitled":
		return
	case sw["title"] == "wrong-role" || sw["title"] == "" && standin.WrongRole():
		role = "agent"
	}
	proctitle.Set(role)
}

// timeline walks through the start as seen on a real server: everything 503,
// then 500 while the hooks run, then ok. The call does not return.
func (n *node) timeline(ready time.Duration) {
	first := ready / 4
	if first > 300*time.Millisecond {
		first = 300 * time.Millisecond
	}
	if after := n.sw.Int("die_after_ms", -1); after >= 0 {
		time.AfterFunc(time.Duration(after)*time.Millisecond, func() { n.die("die_after_ms") })
	}
	time.Sleep(first)
	n.state.set(hooks)
	if n.sw.On("never_ready") || n.state.broken() {
		select {}
	}
	half := (ready - first) / 2
	time.Sleep(half)
	if n.era.ReadyBeforeOK {
		notifyReady()
	}
	time.Sleep(ready - first - half)
	n.state.set(up)
	logline.Info("Kube API server is now running")
	if n.role == "agent" {
		logline.Info("k3s agent is up and running")
	} else {
		logline.Info("k3s is up and running")
	}
	if !n.era.ReadyBeforeOK {
		notifyReady()
	}
	select {}
}
