// SPDX-License-Identifier: Apache-2.0

package standin

import (
	"strings"
	"time"

	"github.com/k3s-io/k3s/pkg/version"
)

// LogPair says how a server started with --log splits into two processes.
type LogPair int

const (
	// PairBare: the parent shows its bare argv[0] and has no signal handler;
	// the child's readiness message is refused by systemd (seen in v1.21).
	PairBare LogPair = iota
	// PairInit: the parent is called "init", tells systemd READY at the fork
	// and has no signal handler (until November 2025).
	PairInit
	// PairForward: as PairInit, but SIGTERM and SIGINT go to the child.
	PairForward
)

// Era is one row of differences between releases.
type Era struct {
	Name string

	VersionLines int    // lines printed by --version
	RealName     string // the one regular multicall file in data/<H>/bin

	VersionReadsConfig bool // --version fails on an unreadable config (until June 2023)
	DefaultRootFirst   bool // a copy below /var/lib/rancher/k3s wins over --data-dir
	LinksBeforeRename  bool // current/previous are moved before data/<H> exists
	SetsDataDirEnv     bool // K3S_DATA_DIR in the server's environment is data/<H>
	ReadsDataDirEnv    bool // K3S_DATA_DIR means the user's data-dir (July 2024)
	ReadsDropIns       bool // config.yaml.d counts for data-dir (July 2024)
	CNIDir             bool // data/cni exists and leads PATH (October 2024)

	Rotates bool // knows certificate, token, secrets-encrypt, completion
	Checks  bool // knows certificate check; agents can rotate (April 2024)

	Pair           LogPair
	PidOneSplits   bool // as pid 1 the server splits like with --log
	TermExit       int  // exit code after one SIGTERM
	EarlyTermExit  int  // the same before the server is ready
	TermDelay      time.Duration
	ReadyBeforeOK  bool // READY=1 precedes /readyz=ok
	RenewDays      int
	SupervisorCert bool // client-supervisor.crt (mid 2023)
	ComponentCerts bool // serving certificates of scheduler and controller-manager (May 2025)
	LegacyCerts    bool // kube-proxy and k3s-controller certificates in server/tls (until 2024)
	SharedNodeKeys bool // agents receive the server's keys (until 2024)
	OldAPIClient   bool // client-kube-apiserver: CN kube-apiserver, no O
	OldModes       bool // kubeconfigs and dynamic-cert.json 0644
	OldNotBefore   bool // NotBefore of a leaf is that of its CA
	VerifiesLeafs  bool // renews what does not verify, instead of comparing key ids
	NoChain        bool // *-ca.nochain.crt and service.current.key (February 2023)
	ListenerChain  bool // the listener sends its CA along
}

const quick = 50 * time.Millisecond

var eras = []Era{
	{Name: "2020", VersionLines: 1, RealName: "containerd", VersionReadsConfig: true,
		DefaultRootFirst: true, LinksBeforeRename: true, SetsDataDirEnv: true,
		Pair: PairBare, TermExit: 1, TermDelay: quick, ReadyBeforeOK: true, RenewDays: 90,
		LegacyCerts: true, SharedNodeKeys: true, OldAPIClient: true, OldModes: true,
		OldNotBefore: true, VerifiesLeafs: true},
	{Name: "2021", VersionLines: 2, RealName: "containerd", VersionReadsConfig: true,
		DefaultRootFirst: true, LinksBeforeRename: true, SetsDataDirEnv: true,
		Pair: PairBare, TermExit: 1, TermDelay: quick, ReadyBeforeOK: true, RenewDays: 90,
		LegacyCerts: true, SharedNodeKeys: true, OldAPIClient: true, OldModes: true,
		OldNotBefore: true, VerifiesLeafs: true},
	{Name: "2023", VersionLines: 2, RealName: "k3s",
		DefaultRootFirst: true, LinksBeforeRename: true, SetsDataDirEnv: true,
		Rotates: true, Pair: PairInit, PidOneSplits: true, TermDelay: quick, RenewDays: 90,
		SupervisorCert: true, LegacyCerts: true, SharedNodeKeys: true, NoChain: true,
		ListenerChain: true},
	{Name: "2024", VersionLines: 2, RealName: "k3s",
		ReadsDataDirEnv: true, ReadsDropIns: true, Rotates: true, Checks: true,
		Pair: PairInit, PidOneSplits: true, TermDelay: quick, RenewDays: 90,
		SupervisorCert: true, LegacyCerts: true, SharedNodeKeys: true, NoChain: true,
		ListenerChain: true},
	{Name: "2025", VersionLines: 2, RealName: "k3s",
		ReadsDataDirEnv: true, ReadsDropIns: true, CNIDir: true, Rotates: true, Checks: true,
		Pair: PairForward, PidOneSplits: true, TermDelay: 5 * time.Second, RenewDays: 120,
		SupervisorCert: true, ComponentCerts: true, NoChain: true, ListenerChain: true},
}

// Current returns the row this binary was built for.
func Current() Era {
	for _, e := range eras {
		if e.Name == EraName {
			return e
		}
	}
	panic("stand-in built for the unknown era " + EraName)
}

// WrongRole tells whether this release calls a server "k3s agent" in its title
// (1.27.15-16, 1.28.11-12 and 1.29.6-7 missed a backport).
func WrongRole() bool {
	for _, v := range []string{"1.27.15", "1.27.16", "1.28.11", "1.28.12", "1.29.6", "1.29.7"} {
		if strings.HasPrefix(version.Version, "v"+v+"+") {
			return true
		}
	}
	return false
}
