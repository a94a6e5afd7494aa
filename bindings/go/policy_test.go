// SPDX-License-Identifier: Apache-2.0

package k3sup

import (
	"errors"
	"syscall"
	"testing"
)

func TestPolicy(t *testing.T) {
	good := PolicyOptions{Installed: "v1.28.4+k3s2", Payload: "v1.28.4+k3s3", Floor: "v1.28.4+k3s1", Role: "agent", Server: "v1.31.0+k3s1",
		PayloadKind: "wrapper", PayloadArch: "arm64", NodeArch: "arm64"}
	for _, c := range []struct {
		change func(o *PolicyOptions)
		name   string
	}{
		{func(o *PolicyOptions) {}, ""},
		{func(o *PolicyOptions) { o.Payload = "v1.28.4+k3s1" }, "K3SUP_E_POLICY_PACKAGING"},
		{func(o *PolicyOptions) { o.Payload, o.AllowDowngrade = "v1.28.4+k3s1", true }, ""},
		{func(o *PolicyOptions) { o.Payload = "v1.30.4+k3s1" }, "K3SUP_E_POLICY_SKIP_MINOR"},
		{func(o *PolicyOptions) { o.Payload, o.AllowSkipMinor = "v1.30.4+k3s1", true }, ""},
		{func(o *PolicyOptions) { o.Floor = "v1.28.9+k3s1" }, "K3SUP_E_POLICY_FLOOR"},
		{func(o *PolicyOptions) { o.Server = "v1.28.4+k3s1" }, "K3SUP_E_POLICY_AGENT_FIRST"},
		{func(o *PolicyOptions) { o.PayloadArch = "amd64" }, "K3SUP_E_PAYLOAD_ARCH"},
		{func(o *PolicyOptions) { o.PayloadKind = "" }, "K3SUP_E_PAYLOAD_NOT_K3S"},
	} {
		o := good
		c.change(&o)
		doc, err := PolicyCheck(o)
		if err != nil {
			t.Fatal(err)
		}
		ok, _ := doc.Int("/ok")
		name, _ := doc.Str("/error/name")
		if n, err := doc.Len("/checks"); n != 8 || err != nil || name != c.name || (ok == 1) != (c.name == "") {
			t.Error(c.name, doc)
		}
		doc.Close()
	}
	if _, err := PolicyCheck(PolicyOptions{Role: "etcd"}); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
	if _, err := PolicyCheck(PolicyOptions{Role: "a\x00b"}); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
}
