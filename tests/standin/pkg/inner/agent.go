// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"net"
	"os"
	"path/filepath"

	"github.com/k3s-io/k3s/pkg/pki"
)

// startAgent makes the certificates a real agent would fetch from its server.
func (n *node) startAgent() {
	dir := filepath.Join(n.dataDir, "agent")
	seed := n.opt.get("token", "t", "K3S_TOKEN")
	client, err := pki.DerivedCA("k3s-client-ca", seed, filepath.Join(dir, "client-ca.crt"))
	must(err)
	server, err := pki.DerivedCA("k3s-server-ca", seed, filepath.Join(dir, "server-ca.crt"))
	must(err)
	n.agentFiles(client, server, "", n.nodeName(), n.nodeIP())
}

// agentFiles writes agent/*, on servers as well unless --disable-agent.
func (n *node) agentFiles(client, server *pki.CA, tls, name string, ip net.IP) {
	dir := filepath.Join(n.dataDir, "agent")
	must(pki.Agent(n.era, dir, client, server, tls, name, ip))
	must(os.MkdirAll(filepath.Join(dir, "etc", "containerd"), 0o700))
	must(os.MkdirAll(filepath.Join(dir, "containerd"), 0o700))
	must(os.WriteFile(filepath.Join(dir, "etc", "containerd", "config.toml"), []byte("# stand-in\nversion = 2\n"), 0o600))
	n.healthz()
}
