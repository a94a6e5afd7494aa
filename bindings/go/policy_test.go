// SPDX-License-Identifier: Apache-2.0

package k3sup

import (
	"context"
	"errors"
	"os"
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
		{func(o *PolicyOptions) {
			o.InstalledBuilt, o.PayloadBuilt = "2023-05-26T21:50:22Z", "2022-12-09T21:15:18Z"
		}, "K3SUP_E_POLICY_BUILD_DATE"},
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
		if n, err := doc.Len("/checks"); n != 9 || err != nil || name != c.name || (ok == 1) != (c.name == "") {
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

// A check that refuses and one that allows, then a swap that does what was allowed.
func TestWhatIsAllowed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the lock lies in a directory that must be root's")
	}
	root := t.TempDir()
	must(t, os.MkdirAll(root+"/usr/local/bin", 0o755))
	must(t, os.MkdirAll(root+"/var/lib", 0o755))
	text, err := os.ReadFile(standin(t, "v1.31.2+k3s1"))
	must(t, err)
	must(t, os.WriteFile(root+"/usr/local/bin/k3s", text, 0o755))
	older := standin(t, "v1.30.4+k3s1")
	ctx, err := NewContext(ContextOptions{})
	must(t, err)
	defer ctx.Close()
	node, err := ctx.Node(NodeOptions{Root: root})
	must(t, err)
	defer node.Close()
	wait := func(op *Op, err error) (*Document, error) {
		must(t, err)
		t.Cleanup(func() { op.Close() })
		return op.Wait(context.Background())
	}
	if _, err = wait(node.Upgrade(UpgradeOptions{Payload: older, Check: true})); !errors.Is(err, ErrPolicyDowngrade) {
		t.Error(err)
	}
	doc, err := wait(node.Upgrade(UpgradeOptions{Payload: older, Check: true, AllowDowngrade: true, AllowSkipMinor: true, AllowPackageOwned: true}))
	must(t, err)
	if n, err := doc.Len("/checks"); n < 18 || err != nil {
		t.Error(doc)
	}
	if _, err := os.Stat(root + "/var/lib/k3sup"); err == nil {
		t.Error("a check made something")
	}
	if _, err = wait(node.Swap(SwapOptions{Payload: older, AllowSkipMinor: true, AllowPackageOwned: true})); !errors.Is(err, ErrPolicyDowngrade) {
		t.Error(err)
	}
	if _, err = wait(node.Swap(SwapOptions{Payload: older, AllowDowngrade: true})); err != nil {
		t.Error(err)
	}
}
