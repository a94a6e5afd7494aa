// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/k3s-io/k3s/pkg/logline"
	"github.com/k3s-io/k3s/pkg/pki"
	"github.com/k3s-io/k3s/pkg/version"
)

// The few answers needed are written by hand: net/http would double the size
// of the program that small test runs copy thousands of times.

type answer struct {
	code int
	kind string
	body string
}

var (
	unauthorized = answer{401, "application/json", `{
  "kind": "Status",
  "apiVersion": "v1",
  "metadata": {},
  "status": "Failure",
  "message": "Unauthorized",
  "reason": "Unauthorized",
  "code": 401
}
`}
	notYet = answer{503, "text/plain", "starting\n"}
)

var reasons = map[int]string{200: "OK", 401: "Unauthorized", 404: "Not Found", 500: "Internal Server Error", 503: "Service Unavailable"}

// bind listens on loopback. A taken port is fatal, as observed. A loopback that
// is down is not (binding works there, connecting does not) unless need_lo is
// set.
func (n *node) bind(port int) net.Listener {
	if lo, err := net.InterfaceByName("lo"); n.sw.On("need_lo") && (err != nil || lo.Flags&net.FlagUp == 0) {
		logline.Fatal("loopback is down")
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err == nil {
		return l
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		logline.Fatal("starting kubernetes: preparing server: init cluster datastore and https: %v", err)
	}
	logline.Warn("not listening: %v", err)
	return nil
}

func (n *node) listen(s *pki.Server, cert tls.Certificate, port int) {
	if port == 0 {
		return
	}
	l := n.bind(port)
	if l == nil {
		return
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12,
		ClientAuth: tls.RequestClientCert, NextProtos: []string{"http/1.1"}}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.ClientCA.Chain)
	go accept(l, func(c net.Conn, path string) answer {
		known := n.sw.On("anonymous_readyz")
		if st := c.(*tls.Conn).ConnectionState(); len(st.PeerCertificates) > 0 {
			_, err := st.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
			known = known || err == nil
		}
		return n.answer(s, path, known)
	}, func(c net.Conn) net.Conn { return tls.Server(c, cfg) })
}

// answer knows the paths a watcher asks for. Anonymous requests get 401 for
// everything but /ping and /cacerts, whether the path exists or not.
func (n *node) answer(s *pki.Server, path string, known bool) answer {
	phase := n.state.get()
	switch {
	case phase == starting:
		return notYet
	case path == "/ping":
		return answer{200, "text/plain", "pong"}
	case path == "/cacerts":
		return answer{200, "text/plain", string(s.ServerCA.Chain)}
	case !known:
		return unauthorized
	case path == "/version":
		return answer{200, "application/json", fmt.Sprintf("{\n  \"gitVersion\": %q\n}", version.Version)}
	case path == "/readyz" || path == "/livez" || path == "/healthz" || path == "/v1-k3s/readyz":
		if phase == hooks {
			return answer{500, "text/plain", "[+]ping ok\n[+]log ok\n[-]etcd failed: reason withheld\nreadyz check failed\n"}
		}
		return answer{200, "text/plain", "ok"}
	}
	return answer{404, "text/plain", "404 page not found\n"}
}

// healthz is the kubelet's plain port, off unless a number is given (10248 in
// reality): tests share one network namespace.
func (n *node) healthz() {
	port := n.sw.Int("kubelet_port", 0)
	if p, err := strconv.Atoi(os.Getenv("K3S_STANDIN_KUBELET_PORT")); err == nil {
		port = p
	}
	if port == 0 {
		return
	}
	if l := n.bind(port); l != nil {
		go accept(l, func(_ net.Conn, path string) answer {
			if path == "/healthz" && n.state.get() >= up {
				return answer{200, "text/plain", "ok"}
			}
			return answer{404, "text/plain", "404 page not found\n"}
		}, func(c net.Conn) net.Conn { return c })
	}
}

// accept serves one request per connection.
func accept(l net.Listener, reply func(net.Conn, string) answer, wrap func(net.Conn) net.Conn) {
	for {
		c, err := l.Accept()
		if err != nil {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		go func() {
			defer c.Close()
			c.SetDeadline(time.Now().Add(5 * time.Second))
			w := wrap(c)
			r := bufio.NewReader(w)
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			for {
				h, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if strings.TrimSpace(h) == "" {
					break
				}
			}
			f := strings.Fields(line)
			if len(f) < 2 {
				return
			}
			path := f[1]
			if i := strings.IndexByte(path, '?'); i >= 0 {
				path = path[:i]
			}
			a := reply(w, path)
			fmt.Fprintf(w, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
				a.code, reasons[a.code], a.kind, len(a.body), a.body)
			w.Close()
		}()
	}
}
