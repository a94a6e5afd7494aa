// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sort"
	"strings"
	"time"

	"github.com/k3s-io/k3s/pkg/standin"
)

// Leaf describes one certificate to have.
type Leaf struct {
	CN    string
	Orgs  []string
	Usage []x509.ExtKeyUsage
	DNS   []string
	IPs   []net.IP
}

var (
	clientAuth = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	serverAuth = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	bothAuth   = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
)

// sign issues a leaf: no basic constraints, no subject key id, 63-bit serial.
func sign(era standin.Era, ca *CA, l Leaf, pub crypto.PublicKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).SetInt64(1<<63-1))
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	notBefore := ca.Cert.NotBefore
	if !era.OldNotBefore && now.Add(-time.Hour).After(notBefore) {
		notBefore = now.Add(-time.Hour)
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: l.CN, Organization: l.Orgs},
		NotBefore:    notBefore,
		NotAfter:     now.Add(time.Duration(envInt("CATTLE_NEW_SIGNED_CERT_EXPIRATION_DAYS", 365)) * day),
		KeyUsage:     x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  l.Usage,
		DNSNames:     l.DNS,
		IPAddresses:  l.IPs,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.Cert, pub, ca.Key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// stale tells why an existing pair is renewed. An unparsable certificate is
// not a reason: what is there and broken stays broken.
func stale(era standin.Era, ca *CA, l Leaf, crt string) bool {
	if ca.Fresh {
		return true
	}
	certs, err := loadCerts(crt)
	if err != nil {
		return false
	}
	c := certs[0]
	if c.NotAfter.Before(time.Now().Add(time.Duration(era.RenewDays) * day)) {
		return true
	}
	if c.Subject.CommonName != l.CN || !sameSet(c.Subject.Organization, l.Orgs) || !covers(c, l) {
		return true
	}
	if era.VerifiesLeafs {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(ca.Chain)
		_, err := c.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		return err != nil
	}
	return !bytes.Equal(c.AuthorityKeyId, ca.Cert.SubjectKeyId)
}

func sameSet(a, b []string) bool {
	a, b = append([]string{}, a...), append([]string{}, b...)
	sort.Strings(a)
	sort.Strings(b)
	return strings.Join(a, "\x00") == strings.Join(b, "\x00")
}

// covers: names missing from the certificate count, extra ones do not.
func covers(c *x509.Certificate, l Leaf) bool {
	have := map[string]bool{}
	for _, n := range c.DNSNames {
		have[n] = true
	}
	for _, ip := range c.IPAddresses {
		have[ip.String()] = true
	}
	for _, n := range l.DNS {
		if !have[n] {
			return false
		}
	}
	for _, ip := range l.IPs {
		if !have[ip.String()] {
			return false
		}
	}
	return true
}

// EnsureLeaf brings one pair up to date and tells whether it wrote it. A
// reason found while both files exist forces a new key; a lone key is reused.
func EnsureLeaf(era standin.Era, ca *CA, l Leaf, crt, key string) (bool, error) {
	newPair := false
	if exists(crt) && exists(key) {
		if !stale(era, ca, l, crt) {
			return false, nil
		}
		newPair = true
	}
	if newPair {
		k, err := newKey()
		if err != nil {
			return false, err
		}
		if err := writeFile(key, 0o600, keyPEM(k)); err != nil {
			return false, err
		}
	}
	k, err := loadKey(key)
	if err != nil {
		return false, err
	}
	c, err := sign(era, ca, l, k.Public())
	if err != nil {
		return false, err
	}
	return true, writeFile(crt, 0o644, append(certPEM(c), ca.Chain...))
}
