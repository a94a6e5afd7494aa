// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha1"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/k3s-io/k3s/pkg/standin"
)

// secret is the shape of dynamic-cert.json: a Kubernetes Secret.
type secret struct {
	Metadata struct {
		CreationTimestamp *string           `json:"creationTimestamp"`
		Annotations       map[string]string `json:"annotations"`
	} `json:"metadata"`
	Data map[string][]byte `json:"data"`
	Type string            `json:"type"`
}

// Listener returns the certificate of the supervisor port. It lives in
// dynamic-cert.json only. The empty trigger file asks for a new key; inside
// the renewal window the certificate is renewed with the old one.
func (s *Server) Listener(era standin.Era) (tls.Certificate, error) {
	store, trigger := s.tls("dynamic-cert.json"), s.tls("dynamic-cert-regenerate")
	var key *ecdsa.PrivateKey
	forced := false
	if exists(trigger) {
		if err := os.Remove(trigger); err != nil {
			return tls.Certificate{}, err
		}
		forced = true
	}
	if text, err := os.ReadFile(store); err == nil && !forced && !s.ServerCA.Fresh {
		var old secret
		if json.Unmarshal(text, &old) == nil {
			pair, err := tls.X509KeyPair(old.Data["tls.crt"], old.Data["tls.key"])
			if err == nil {
				certs, err := parseCerts(old.Data["tls.crt"])
				if err == nil && certs[0].NotAfter.After(time.Now().Add(time.Duration(era.RenewDays)*day)) &&
					bytes.Equal(certs[0].AuthorityKeyId, s.ServerCA.Cert.SubjectKeyId) {
					return pair, nil
				}
				key, _ = parseKey(old.Data["tls.key"])
			}
		}
	}
	if key == nil {
		var err error
		if key, err = newKey(); err != nil {
			return tls.Certificate{}, err
		}
	}
	ips := []net.IP{serviceIP, net.IPv4(127, 0, 0, 1)}
	if s.NodeIP != nil {
		ips = append(ips, s.NodeIP)
	}
	l := Leaf{CN: "k3s", Orgs: []string{"k3s"}, Usage: serverAuth, DNS: append(append([]string{}, apiNames...), "localhost"), IPs: ips}
	c, err := sign(era, s.ServerCA, l, key.Public())
	if err != nil {
		return tls.Certificate{}, err
	}
	var out secret
	out.Type = "kubernetes.io/tls"
	crt := certPEM(c)
	if era.ListenerChain {
		crt = append(crt, s.ServerCA.Chain...)
	}
	out.Data = map[string][]byte{"tls.crt": crt, "tls.key": keyPEM(key)}
	out.Metadata.Annotations = map[string]string{
		"listener.cattle.io/fingerprint": fmt.Sprintf("SHA1=%X", sha1.Sum(c.Raw)),
	}
	for _, n := range l.DNS {
		out.Metadata.Annotations["listener.cattle.io/cn-"+n] = n
	}
	for _, ip := range l.IPs {
		name := strings.ReplaceAll(ip.String(), ":", "_")
		out.Metadata.Annotations["listener.cattle.io/cn-"+name] = ip.String()
	}
	text, err := json.Marshal(out)
	if err != nil {
		return tls.Certificate{}, err
	}
	mode := os.FileMode(0o600)
	if era.OldModes {
		mode = 0o644
	}
	tmp := store + ".tmp"
	if err := writeFile(tmp, mode, append(text, '\n')); err != nil {
		return tls.Certificate{}, err
	}
	if err := os.Rename(tmp, store); err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(crt, keyPEM(key))
}
