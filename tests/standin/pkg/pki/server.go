// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"net"
	"os"
	"path/filepath"

	"github.com/k3s-io/k3s/pkg/standin"
)

// Server is what a running server needs of its certificates.
type Server struct {
	Dir      string // <data-dir>/server
	NodeName string
	NodeIP   net.IP // may be nil
	ClientCA *CA
	ServerCA *CA
	requestCA,
	etcdCA,
	peerCA *CA
}

// cred ties a client certificate to the kubeconfig written with it.
type cred struct {
	leaf Leaf
	file string // base name below tls
	conf string // base name below cred, or none
}

func (s *Server) tls(parts ...string) string {
	return filepath.Join(append([]string{s.Dir, "tls"}, parts...)...)
}

// Tree creates or renews everything below server/tls and server/cred.
func (s *Server) Tree(era standin.Era) error {
	steps := []func(standin.Era) error{s.authorities, s.clients, s.servers, s.nodeKeys, s.etcd}
	for _, step := range steps {
		if err := step(era); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) authorities(era standin.Era) error {
	for _, a := range []struct {
		ca         **CA
		name, file string
	}{
		{&s.ClientCA, "k3s-client-ca", "client-ca"},
		{&s.ServerCA, "k3s-server-ca", "server-ca"},
		{&s.requestCA, "k3s-request-header-ca", "request-header-ca"},
		{&s.etcdCA, "etcd-server-ca", "etcd/server-ca"},
		{&s.peerCA, "etcd-peer-ca", "etcd/peer-ca"},
	} {
		ca, err := LoadCA(a.name, s.tls(a.file+".crt"), s.tls(a.file+".key"), 0o644)
		if err != nil {
			return err
		}
		*a.ca = ca
	}
	if !era.NoChain {
		return nil
	}
	// The signer inside wants a single certificate: rewritten at every start.
	for name, ca := range map[string]*CA{"client-ca": s.ClientCA, "server-ca": s.ServerCA} {
		if err := writeFile(s.tls(name+".nochain.crt"), 0o644, certPEM(ca.Cert)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) clients(era standin.Era) error {
	api := Leaf{CN: "system:apiserver", Orgs: []string{"system:masters"}}
	if era.OldAPIClient {
		api = Leaf{CN: "kube-apiserver"}
	}
	list := []cred{
		{Leaf{CN: "system:admin", Orgs: []string{"system:masters"}}, "client-admin", "admin"},
		{Leaf{CN: "system:kube-controller-manager"}, "client-controller", "controller"},
		{Leaf{CN: "system:kube-scheduler"}, "client-scheduler", "scheduler"},
		{api, "client-kube-apiserver", "api-server"},
		{Leaf{CN: "k3s-cloud-controller-manager"}, "client-k3s-cloud-controller", "cloud-controller"},
	}
	if era.SupervisorCert {
		list = append(list, cred{Leaf{CN: "system:k3s-supervisor", Orgs: []string{"system:masters"}}, "client-supervisor", "supervisor"})
	}
	if era.LegacyCerts {
		list = append(list, cred{Leaf{CN: "system:kube-proxy"}, "client-kube-proxy", ""},
			cred{Leaf{CN: "system:k3s-controller"}, "client-k3s-controller", ""})
	}
	for _, c := range list {
		c.leaf.Usage = clientAuth
		crt, key := s.tls(c.file+".crt"), s.tls(c.file+".key")
		wrote, err := EnsureLeaf(era, s.ClientCA, c.leaf, crt, key)
		if err != nil {
			return err
		}
		// The kubeconfig goes with the pair: one deleted alone stays away.
		if wrote && c.conf != "" {
			if err := s.kubeconfig(era, c.conf, crt, key); err != nil {
				return err
			}
		}
	}
	if !era.LegacyCerts {
		for _, name := range []string{"client-kube-proxy", "client-k3s-controller"} {
			os.Remove(s.tls(name + ".crt")) // orphans of an older release
			if _, err := loadKey(s.tls(name + ".key")); err != nil {
				return err
			}
		}
	}
	leaf := Leaf{CN: "system:auth-proxy", Usage: clientAuth}
	_, err := EnsureLeaf(era, s.requestCA, leaf, s.tls("client-auth-proxy.crt"), s.tls("client-auth-proxy.key"))
	return err
}

func (s *Server) kubeconfig(era standin.Era, name, crt, key string) error {
	mode := os.FileMode(0o600)
	if era.OldModes {
		mode = 0o644
	}
	dir := filepath.Join(s.Dir, "cred")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	text := Kubeconfig("local", "Default", "user", "https://127.0.0.1:6444", "certificate-authority: "+s.tls("server-ca.crt"),
		"client-certificate: "+crt, "client-key: "+key)
	return writeFile(filepath.Join(dir, name+".kubeconfig"), mode, []byte(text))
}

var serviceIP = net.IPv4(10, 43, 0, 1)

// names are those of a serving certificate. Some addresses come twice, as seen.
func (s *Server) names() []net.IP {
	ips := []net.IP{net.IPv4(127, 0, 0, 1)}
	if s.NodeIP != nil {
		ips = append(ips, s.NodeIP)
	}
	return append(ips, net.IPv4(127, 0, 0, 1), serviceIP)
}

var apiNames = []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}

func (s *Server) servers(era standin.Era) error {
	api := Leaf{CN: "kube-apiserver", Usage: serverAuth,
		DNS: append([]string{"localhost"}, apiNames...),
		IPs: append([]net.IP{serviceIP}, s.names()...)}
	if _, err := EnsureLeaf(era, s.ServerCA, api, s.tls("serving-kube-apiserver.crt"), s.tls("serving-kube-apiserver.key")); err != nil {
		return err
	}
	if !era.ComponentCerts {
		return nil
	}
	for _, name := range []string{"kube-controller-manager", "kube-scheduler"} {
		l := Leaf{CN: name, Usage: serverAuth, DNS: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}}
		if _, err := EnsureLeaf(era, s.ServerCA, l, s.tls(name, name+".crt"), s.tls(name, name+".key")); err != nil {
			return err
		}
	}
	return nil
}

// nodeKeys: the server keeps two kubelet keys without certificates.
func (s *Server) nodeKeys(standin.Era) error {
	for _, name := range []string{"client-kubelet.key", "serving-kubelet.key"} {
		if _, err := loadKey(s.tls(name)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) etcd(era standin.Era) error {
	local := []string{"localhost"}
	if !era.OldNotBefore {
		local = append(local, "kine.sock")
	}
	for _, e := range []struct {
		ca   *CA
		leaf Leaf
		file string
	}{
		{s.etcdCA, Leaf{CN: "etcd-server", Usage: bothAuth, DNS: local, IPs: s.names()}, "etcd/server-client"},
		{s.peerCA, Leaf{CN: "etcd-peer", Usage: bothAuth, DNS: local, IPs: s.names()}, "etcd/peer-server-client"},
		{s.etcdCA, Leaf{CN: "etcd-client", Usage: clientAuth}, "etcd/client"},
	} {
		if _, err := EnsureLeaf(era, e.ca, e.leaf, s.tls(e.file+".crt"), s.tls(e.file+".key")); err != nil {
			return err
		}
	}
	return nil
}
