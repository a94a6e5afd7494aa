// SPDX-License-Identifier: Apache-2.0

package inner

import "github.com/k3s-io/k3s/pkg/standin"

// The services `k3s certificate` knows, and the files it removes for each, by
// path below the data-dir without .crt or .key. The list names paths; a file
// need not exist. k3s-server has none: it only sets the listener's trigger.
var serviceFiles = map[string][]string{
	"admin":              {"server/tls/client-admin"},
	"api-server":         {"server/tls/client-kube-apiserver", "server/tls/serving-kube-apiserver"},
	"auth-proxy":         {"server/tls/client-auth-proxy"},
	"cloud-controller":   {"server/tls/client-k3s-cloud-controller"},
	"controller-manager": {"server/tls/client-controller"},
	"scheduler":          {"server/tls/client-scheduler"},
	"supervisor":         {"server/tls/client-supervisor"},
	"etcd":               {"server/tls/etcd/client", "server/tls/etcd/server-client", "server/tls/etcd/peer-server-client"},
	"k3s-server":         {},
	"kube-proxy":         {"server/tls/client-kube-proxy", "agent/client-kube-proxy"},
	"k3s-controller":     {"server/tls/client-k3s-controller", "agent/client-k3s-controller"},
	"kubelet":            {"agent/client-kubelet", "agent/serving-kubelet"},
}

// bareKeys belong to the kubelet as well: the server has no such certificates.
var bareKeys = []string{"server/tls/client-kubelet.key", "server/tls/serving-kubelet.key"}

var (
	agentServices  = []string{"kube-proxy", "kubelet", "k3s-controller"}
	serverServices = []string{"api-server", "admin", "auth-proxy", "cloud-controller", "controller-manager", "etcd", "scheduler",
		"supervisor", "k3s-server"}
)

// knownServices: until April 2024 the supervisor's certificate was not in the
// list and survived a rotation.
func knownServices(era standin.Era, servers bool) []string {
	var all []string
	if servers {
		for _, s := range serverServices {
			if s != "supervisor" || era.Checks {
				all = append(all, s)
			}
		}
	}
	return append(all, agentServices...)
}

// pathsOf lists the files of a service, relative to the data-dir.
func pathsOf(era standin.Era, service string) []string {
	var all []string
	if service == "kubelet" {
		all = append(all, bareKeys...)
	}
	for _, base := range serviceFiles[service] {
		all = append(all, base+".crt", base+".key")
	}
	if era.ComponentCerts {
		if name, ok := map[string]string{"scheduler": "kube-scheduler", "controller-manager": "kube-controller-manager"}[service]; ok {
			all = append(all, "server/tls/"+name+"/"+name+".crt", "server/tls/"+name+"/"+name+".key")
		}
	}
	return all
}
