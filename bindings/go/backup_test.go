// SPDX-License-Identifier: Apache-2.0

package k3sup

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestBackups(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for the node's lock")
	}
	root, old, payload := t.TempDir(), standin(t, "v1.30.4+k3s1"), standin(t, "v1.31.2+k3s1")
	k3s := root + "/usr/local/bin/k3s"
	must(t, os.MkdirAll(root+"/usr/local/bin", 0o755))
	text, err := os.ReadFile(old)
	must(t, err)
	must(t, os.WriteFile(k3s, text, 0o755))
	ctx, err := NewContext(ContextOptions{})
	must(t, err)
	defer ctx.Close()
	n, err := ctx.Node(NodeOptions{Root: root})
	must(t, err)
	defer n.Close()
	status := func(op *Op, err error) (int, *Document) {
		t.Helper()
		must(t, err)
		defer op.Close()
		result, err := op.Wait(context.Background())
		must(t, err)
		return op.Status(), result
	}

	if s, _ := status(n.Swap(SwapOptions{Payload: payload, KeepBackups: 2})); s != 1 {
		t.Error(s)
	}
	s, result := status(n.SwapBackups(0, 0))
	if path, err := result.Str("/backups/0/path"); s != 0 || path != "/usr/local/bin/k3s.k3sup-backup" || err != nil {
		t.Error(s, result, err)
	}
	if s, _ := status(n.SwapBackups(1, 0)); s != 0 {
		t.Error(s)
	}
	op, err := n.SwapRollback(SwapRollbackOptions{ExpectVersion: "v1.30.5+k3s1"})
	must(t, err)
	if _, err := op.Wait(context.Background()); !errors.Is(err, ErrVersionMismatch) || digest(t, k3s) != digest(t, payload) {
		t.Error(err)
	}
	must(t, op.Close())
	if s, result := status(n.Upgrade(UpgradeOptions{Rollback: true, Check: true})); s != 0 {
		t.Error(s, result)
	}
	for _, want := range []int{1, 0} {
		if s, _ := status(n.SwapRollback(SwapRollbackOptions{SHA256: digest(t, old), AllowPackageOwned: true})); s != want || digest(t, k3s) != digest(t, old) {
			t.Error(s, want)
		}
	}
	if _, err := n.Upgrade(UpgradeOptions{Rollback: true, Payload: payload}); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
	for _, o := range []UpgradeOptions{{Payload: payload, RotateKey: "k"}, {Rollback: true, RotateCerts: true}, {Payload: payload, RotateCerts: true, RotateKey: strings.Repeat("k", 257)}} {
		if _, err := n.Upgrade(o); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := n.Upgrade(UpgradeOptions{Rollback: true, KeepBackups: 2}); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
	if s, _ := status(n.Upgrade(UpgradeOptions{Payload: payload, KeepBackups: 2, Restart: RestartNone})); s != 1 || digest(t, k3s) != digest(t, payload) {
		t.Error(s)
	}
	if s, _ := status(n.Upgrade(UpgradeOptions{Rollback: true, Restart: RestartNone})); s != 1 || digest(t, k3s) != digest(t, old) {
		t.Error(s)
	}
	if s, _ := status(n.Upgrade(UpgradeOptions{Rollback: true, Restart: RestartNone})); s != 0 {
		t.Error(s)
	}
}
