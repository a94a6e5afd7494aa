// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/k3s-io/k3s/pkg/logline"
	"github.com/k3s-io/k3s/pkg/pki"
)

func (n *node) nodeName() string {
	if name := n.opt.get("node-name", "", "K3S_NODE_NAME"); name != "" {
		return name
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		return "node"
	}
	return strings.ToLower(host)
}

// nodeIP is what was asked for, else the first address that is not loopback.
func (n *node) nodeIP() net.IP {
	if ip := net.ParseIP(n.opt.get("node-ip", "i", "")); ip != nil {
		return ip
	}
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if in, ok := a.(*net.IPNet); ok && in.IP.IsGlobalUnicast() && in.IP.To4() != nil {
			return in.IP
		}
	}
	return nil
}

// port: option, environment, node file, 6443; "0" means do not listen.
func (n *node) port() int {
	for _, v := range []string{n.opt.get("https-listen-port", "", ""), os.Getenv("K3S_STANDIN_PORT"), n.sw["port"]} {
		if p, err := strconv.Atoi(v); err == nil {
			return p
		}
	}
	return 6443
}

func (n *node) startServer() {
	dir := filepath.Join(n.dataDir, "server")
	must(os.MkdirAll(n.dataDir, 0o755))
	must(os.MkdirAll(filepath.Join(dir, "tls"), 0o700))
	must(os.Chdir(dir)) // how a reader learns the data-dir from /proc/PID/cwd
	admin := filepath.Join(dir, "cred", "admin.kubeconfig")
	_, hadCert := os.Stat(filepath.Join(dir, "tls", "client-admin.crt"))

	s := &pki.Server{Dir: dir, NodeName: n.nodeName(), NodeIP: n.nodeIP()}
	if err := s.Tree(n.era); err != nil {
		logline.Fatal("starting kubernetes: preparing server: %v", err)
	}
	if _, err := os.Stat(admin); err != nil && hadCert == nil {
		logline.Fatal("starting kubernetes: preparing server: %v", err)
	}
	if !s.AdminPairFits() {
		n.state.spoil() // stays up, never ready, repairs nothing
	}
	cert, err := s.Listener(n.era)
	must(err)
	must(n.secrets(s, dir))
	port := n.port()
	n.listen(s, cert, port)
	must(s.RSAFiles(n.era, !n.sw.Has("rsa") || n.sw.On("rsa")))
	must(n.database(dir))
	n.adminConfig(s, port)
	if !n.opt.on("disable-agent") {
		n.agentFiles(s.ClientCA, s.ServerCA, filepath.Join(dir, "tls"), s.NodeName, s.NodeIP)
	}
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, err := rand.Read(b)
	must(err)
	return hex.EncodeToString(b)
}

// secrets writes the token (at every start, same content), passwd and the rest
// of cred.
func (n *node) secrets(s *pki.Server, dir string) error {
	passwd := filepath.Join(dir, "cred", "passwd")
	psk := filepath.Join(dir, "cred", "ipsec.psk")
	token := filepath.Join(dir, "token")
	secret := n.opt.get("token", "t", "K3S_TOKEN")
	if i := strings.LastIndex(secret, ":"); i >= 0 {
		secret = secret[i+1:]
	}
	if old, err := os.ReadFile(token); secret == "" && err == nil {
		text := strings.TrimSpace(string(old))
		secret = text[strings.LastIndex(text, ":")+1:]
	}
	if secret == "" {
		secret = randomHex(16)
	}
	if _, err := os.Stat(passwd); err != nil {
		text := secret + ",node,node,k3s:agent\n" + secret + ",server,server,k3s:server\n"
		if err := os.WriteFile(passwd, []byte(text), 0o600); err != nil {
			return err
		}
	}
	if _, err := os.Stat(psk); err != nil {
		if err := os.WriteFile(psk, []byte(randomHex(48)+"\n"), 0o600); err != nil {
			return err
		}
	}
	sum := sha256.Sum256(s.ServerCA.Chain)
	text := "K10" + hex.EncodeToString(sum[:]) + "::server:" + secret + "\n"
	if err := os.WriteFile(token, []byte(text), 0o600); err != nil {
		return err
	}
	link := filepath.Join(dir, "node-token")
	if got, _ := os.Readlink(link); got == token {
		return nil
	}
	os.Remove(link)
	return os.Symlink(token, link)
}

// adminConfig writes the operator's kubeconfig. Failure is no reason to stop.
func (n *node) adminConfig(s *pki.Server, port int) {
	path := n.opt.get("write-kubeconfig", "o", "K3S_KUBECONFIG_OUTPUT")
	if path == "" {
		path = "/etc/rancher/k3s/k3s.yaml"
		if os.Getuid() != 0 {
			path = filepath.Join(os.Getenv("HOME"), ".kube", "k3s.yaml")
		}
	}
	mode := os.FileMode(0o600)
	if m, err := strconv.ParseUint(n.opt.get("write-kubeconfig-mode", "", "K3S_KUBECONFIG_MODE"), 8, 32); err == nil {
		mode = os.FileMode(m)
	}
	if port == 0 {
		port = 6443
	}
	if err := s.WriteAdmin(path, "https://127.0.0.1:"+strconv.Itoa(port), mode); err != nil {
		logline.Warn("Failed to write kubeconfig: %v", err)
	}
}
