// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/tls"
	"encoding/base64"
	"os"
)

// Kubeconfig writes a client configuration; ca, cert and key are complete
// "key: value" entries, so that they can hold paths or data.
func Kubeconfig(cluster, context, user, server, ca, cert, key string) string {
	namespace := ""
	if user == "user" {
		namespace = "    namespace: default\n"
	}
	return "apiVersion: v1\nclusters:\n- cluster:\n    " + ca + "\n    server: " + server +
		"\n  name: " + cluster + "\ncontexts:\n- context:\n    cluster: " + cluster + "\n" + namespace +
		"    user: " + user + "\n  name: " + context + "\ncurrent-context: " + context +
		"\nkind: Config\npreferences: {}\nusers:\n- name: " + user + "\n  user:\n    " + cert + "\n    " + key + "\n"
}

// WriteAdmin writes the operator's kubeconfig with everything embedded. k3s
// does so at every start, and readers find their data inline.
func (s *Server) WriteAdmin(path, server string, mode os.FileMode) error {
	b64 := func(name string) (string, error) {
		data, err := os.ReadFile(s.tls(name))
		return base64.StdEncoding.EncodeToString(data), err
	}
	ca, err := b64("server-ca.crt")
	if err != nil {
		return err
	}
	crt, err := b64("client-admin.crt")
	if err != nil {
		return err
	}
	key, err := b64("client-admin.key")
	if err != nil {
		return err
	}
	text := Kubeconfig("default", "default", "default", server, "certificate-authority-data: "+ca,
		"client-certificate-data: "+crt, "client-key-data: "+key)
	return writeFile(path, mode, []byte(text))
}

// AdminPairFits: k3s does not look, but a server whose admin key does not
// belong to its certificate never becomes ready.
func (s *Server) AdminPairFits() bool {
	_, err := tls.LoadX509KeyPair(s.tls("client-admin.crt"), s.tls("client-admin.key"))
	return err == nil
}
