// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"os"
	"strconv"
	"time"
)

const day = 24 * time.Hour

// CA is a certificate authority on disk.
type CA struct {
	Cert  *x509.Certificate
	Key   *ecdsa.PrivateKey
	Chain []byte // the whole .crt file, appended to every leaf
	Fresh bool   // made by this start: all its leafs are renewed
}

func envInt(name string, def int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return def
}

// selfSigned makes a CA certificate as dynamiclistener does: serial number 0,
// 3650 days, no path length, no authority key id.
func selfSigned(name string, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	now := time.Now().UTC()
	years := envInt("CATTLE_NEW_SIGNED_CA_EXPIRATION_YEARS", 10)
	tmpl := &x509.Certificate{
		SerialNumber:          new(big.Int),
		Subject:               pkix.Name{CommonName: fmt.Sprintf("%s@%d", name, now.Unix())},
		NotBefore:             now,
		NotAfter:              now.Add(time.Duration(years) * 365 * day),
		KeyUsage:              x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// LoadCA reads a CA pair. It is made anew only if one of its files is missing;
// a missing certificate is signed with the old key under a new name.
func LoadCA(name, crt, key string, mode os.FileMode) (*CA, error) {
	fresh := !exists(crt) || !exists(key)
	k, err := loadKey(key)
	if err != nil {
		return nil, err
	}
	if fresh {
		c, err := selfSigned(name, k)
		if err != nil {
			return nil, err
		}
		if err := writeFile(crt, mode, certPEM(c)); err != nil {
			return nil, err
		}
	}
	chain, err := os.ReadFile(crt)
	if err != nil {
		return nil, err
	}
	certs, err := parseCerts(chain)
	if err != nil {
		return nil, fmt.Errorf("%s: %v", crt, err)
	}
	return &CA{Cert: certs[0], Key: k, Chain: chain, Fresh: fresh}, nil
}
