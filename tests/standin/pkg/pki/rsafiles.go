// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/k3s-io/k3s/pkg/standin"
)

// RSAFiles writes service.key and temporary-certs, once. Making an RSA key
// costs more than all the rest of a start, so useRSA=false writes EC keys
// under the same names instead. The real k3s uses several keys here.
func (s *Server) RSAFiles(era standin.Era, useRSA bool) error {
	service := s.tls("service.key")
	loop := s.tls("temporary-certs", "apiserver-loopback-client__")
	if !exists(service) || !exists(loop+".crt") {
		signer, text, err := expensiveKey(useRSA)
		if err != nil {
			return err
		}
		if !exists(service) {
			if err := writeFile(service, 0o600, text); err != nil {
				return err
			}
		}
		if !exists(loop + ".crt") {
			if err := loopback(loop, signer, text); err != nil {
				return err
			}
		}
	}
	if !era.NoChain {
		return nil
	}
	data, err := os.ReadFile(service)
	if err != nil {
		return err
	}
	if b, _ := pem.Decode(data); b != nil {
		data = pem.EncodeToMemory(b)
	}
	return writeFile(s.tls("service.current.key"), 0o600, data)
}

func expensiveKey(useRSA bool) (crypto.Signer, []byte, error) {
	if !useRSA {
		k, err := newKey()
		if err != nil {
			return nil, nil, err
		}
		return k, keyPEM(k), nil
	}
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, nil, err
	}
	return k, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)}), nil
}

// loopback writes the apiserver's own pair: about 100 years, key 0644.
func loopback(base string, key crypto.Signer, keyText []byte) error {
	if err := os.MkdirAll(filepath.Dir(base), 0o700); err != nil {
		return err
	}
	now := time.Now().UTC()
	ca := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: fmt.Sprintf("apiserver-loopback-client-ca@%d", now.Unix())},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(100*365*day - time.Hour),
		KeyUsage:              x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	leaf := &x509.Certificate{
		SerialNumber:          big.NewInt(2),
		Subject:               pkix.Name{CommonName: fmt.Sprintf("apiserver-loopback-client@%d", now.Unix())},
		NotBefore:             ca.NotBefore,
		NotAfter:              ca.NotAfter,
		KeyUsage:              x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           serverAuth,
		BasicConstraintsValid: true,
		DNSNames:              []string{"apiserver-loopback-client"},
	}
	var text []byte
	for _, t := range []*x509.Certificate{leaf, ca} {
		der, err := x509.CreateCertificate(rand.Reader, t, ca, key.Public(), key)
		if err != nil {
			return err
		}
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	if err := writeFile(base+".key", 0o644, keyText); err != nil {
		return err
	}
	return writeFile(base+".crt", 0o644, text)
}
