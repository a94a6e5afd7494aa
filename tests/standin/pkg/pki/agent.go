// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"math/big"
	"net"
	"os"
	"path/filepath"

	"github.com/k3s-io/k3s/pkg/standin"
)

// Agent writes agent/*: what a node fetches from its server at every start,
// with both files of every pair 0600. On a server the authorities are its own;
// an agent alone has none on its disk, so the stand-in derives their keys from
// the join token (see DerivedCA).
func Agent(era standin.Era, dir string, client, server *CA, serverTLS, node string, nodeIP net.IP) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, "client-ca.crt"), 0o600, client.Chain); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, "server-ca.crt"), 0o600, server.Chain); err != nil {
		return err
	}
	ips := []net.IP{net.IPv4(127, 0, 0, 1)}
	if nodeIP != nil {
		ips = append(ips, nodeIP)
	}
	for _, a := range []struct {
		ca         *CA
		leaf       Leaf
		name, conf string
	}{
		{server, Leaf{CN: node, Usage: serverAuth, DNS: []string{node, "localhost"}, IPs: ips}, "serving-kubelet", ""},
		{client, Leaf{CN: "system:node:" + node, Orgs: []string{"system:nodes"}, Usage: clientAuth}, "client-kubelet", "kubelet"},
		{client, Leaf{CN: "system:kube-proxy", Usage: clientAuth}, "client-kube-proxy", "kubeproxy"},
		{client, Leaf{CN: "system:k3s-controller", Usage: clientAuth}, "client-k3s-controller", "k3scontroller"},
	} {
		crt, key := filepath.Join(dir, a.name+".crt"), filepath.Join(dir, a.name+".key")
		if era.SharedNodeKeys && serverTLS != "" {
			// Until 2024 the server hands out its own key of that name.
			data, err := os.ReadFile(filepath.Join(serverTLS, a.name+".key"))
			if err != nil {
				return err
			}
			if err := writeFile(key, 0o600, data); err != nil {
				return err
			}
		}
		k, err := loadKey(key)
		if err != nil {
			return err
		}
		c, err := sign(era, a.ca, a.leaf, k.Public())
		if err != nil {
			return err
		}
		if err := writeFile(crt, 0o600, append(certPEM(c), a.ca.Chain...)); err != nil {
			return err
		}
		if a.conf == "" {
			continue
		}
		text := Kubeconfig("local", "Default", "user", "https://127.0.0.1:6444",
			"certificate-authority: "+filepath.Join(dir, "server-ca.crt"),
			"client-certificate: "+crt, "client-key: "+key)
		if err := writeFile(filepath.Join(dir, a.conf+".kubeconfig"), 0o600, []byte(text)); err != nil {
			return err
		}
	}
	return nil
}

// DerivedCA stands for the authority of a server that does not exist: the key
// follows from the seed, the certificate is the one on disk if it fits.
func DerivedCA(name, seed, crt string) (*CA, error) {
	sum := sha256.Sum256([]byte(name + "\x00" + seed))
	curve := elliptic.P256()
	d := new(big.Int).SetBytes(sum[:])
	d.Mod(d, new(big.Int).Sub(curve.Params().N, big.NewInt(1)))
	d.Add(d, big.NewInt(1))
	key := &ecdsa.PrivateKey{D: d}
	key.Curve = curve
	key.X, key.Y = curve.ScalarBaseMult(d.Bytes())
	if chain, err := os.ReadFile(crt); err == nil {
		if certs, err := parseCerts(chain); err == nil && key.PublicKey.Equal(certs[0].PublicKey) {
			return &CA{Cert: certs[0], Key: key, Chain: chain}, nil
		}
	}
	c, err := selfSigned(name, key)
	if err != nil {
		return nil, err
	}
	return &CA{Cert: c, Key: key, Chain: certPEM(c), Fresh: true}, nil
}
