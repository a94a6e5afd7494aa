// SPDX-License-Identifier: Apache-2.0

package k3sup

// #include <k3sup.h>
import "C"

// PolicyOptions are what is known about a build and the one that is to follow it; empty is unknown.
type PolicyOptions struct {
	Installed, Payload, Floor, Server  string // versions
	Role                               string // "server", "agent"
	PayloadKind, PayloadArch, NodeArch string // as BuildRead says; an empty NodeArch is this machine's
	InstalledBuilt, PayloadBuilt       string // when, in RFC 3339
	AllowDowngrade, AllowSkipMinor     bool
}

// PolicyCheck decides whether a build may follow another one. A refusal is no error: "/ok", "/error" and "/checks" of the document say it.
func PolicyCheck(o PolicyOptions) (*Document, error) {
	var text texts
	defer text.free()
	opts := C.struct_k3sup_policy_opts{struct_size: C.sizeof_struct_k3sup_policy_opts, installed: text.add(o.Installed),
		payload: text.add(o.Payload), floor: text.add(o.Floor), server: text.add(o.Server), role: text.add(o.Role),
		payload_kind: text.add(o.PayloadKind), payload_arch: text.add(o.PayloadArch), node_arch: text.add(o.NodeArch),
		installed_built: text.add(o.InstalledBuilt), payload_built: text.add(o.PayloadBuilt)}
	if o.AllowDowngrade {
		opts.flags |= C.K3SUP_POLICY_ALLOW_DOWNGRADE
	}
	if o.AllowSkipMinor {
		opts.flags |= C.K3SUP_POLICY_ALLOW_SKIP_MINOR
	}
	if text.err != nil {
		return nil, text.err
	}
	var c *C.k3sup_doc
	if r := C.k3sup_policy_check(&opts, &c); r < 0 {
		return nil, newError("policy_check", r)
	}
	return newDocument(c), nil
}
