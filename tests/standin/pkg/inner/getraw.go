// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/k3s-io/k3s/pkg/config"
)

// getRaw is "kubectl get --raw PATH" with the node's kubeconfig.
func getRaw(args []string, path string) int {
	conf, ok := config.Arg(args, "kubeconfig")
	if !ok {
		if conf = os.Getenv("KUBECONFIG"); conf == "" {
			conf = "/etc/rancher/k3s/k3s.yaml"
		}
	}
	code, body, err := fetch(conf, path)
	if err != nil {
		fmt.Fprintf(os.Stderr, "The connection to the server was refused - did you specify the right host or port? (%v)\n", err)
		return 1
	}
	fmt.Print(body)
	if code != 200 {
		fmt.Fprintf(os.Stderr, "Error from server: %d\n", code)
		return 1
	}
	return 0
}

func fetch(conf, path string) (code int, body string, err error) {
	text, err := os.ReadFile(conf)
	if err != nil {
		return 0, "", err
	}
	entry := func(key string) string {
		i := strings.Index(string(text), key+": ")
		if i < 0 {
			return ""
		}
		rest := string(text)[i+len(key)+2:]
		return strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0])
	}
	data := func(key string) []byte {
		b, _ := base64.StdEncoding.DecodeString(entry(key))
		return b
	}
	pair, err := tls.X509KeyPair(data("client-certificate-data"), data("client-key-data"))
	if err != nil {
		return 0, "", err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(data("certificate-authority-data"))
	host := strings.TrimPrefix(entry("server"), "https://")
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", host,
		&tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}})
	if err != nil {
		return 0, "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, host)
	all, err := io.ReadAll(c)
	if err != nil && len(all) == 0 {
		return 0, "", err
	}
	parts := strings.SplitN(string(all), "\r\n\r\n", 2)
	if len(parts) != 2 {
		return 0, "", fmt.Errorf("short answer")
	}
	if _, err := fmt.Sscanf(parts[0], "HTTP/1.1 %d", &code); err != nil {
		return 0, "", err
	}
	return code, parts[1], nil
}
