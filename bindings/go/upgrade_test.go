// SPDX-License-Identifier: Apache-2.0

package k3sup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func buildDir() string {
	if dir := os.Getenv("K3SUP_BUILD_DIR"); dir != "" {
		return dir
	}
	dir, _ := filepath.Abs("../../build/dev")
	return dir
}

// standin builds a stand-in k3s, or finds it.
func standin(t *testing.T, version string) string {
	t.Helper()
	out := filepath.Join(buildDir(), "bindings-test-go", version, "k3s")
	build := exec.Command("sh", "../../tests/standin/build.sh", "--version", version, "--era", "2024", "--size", "small", "-o", out)
	text, err := build.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return out
}

// host is a node with a stand-in k3s that is started again 0.3 s after each end, as a service manager would.
type host struct {
	root, k3s, old, new string
	starts              int32
}

// sandbox runs the calling test in a pid and mount namespace of its own, with its own /proc: there it returns the host, here nil.
func sandbox(t *testing.T) *host {
	t.Helper()
	if os.Getenv("K3SUP_TEST_INSIDE") == t.Name() && os.Getpid() == 1 {
		return newHost(t)
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root for namespaces")
	}
	command := exec.Command("unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--net", os.Args[0], "-test.v",
		"-test.timeout=120s", "-test.run=^"+t.Name()+"$")
	command.Env = append(os.Environ(), "K3SUP_TEST_INSIDE="+t.Name(), "K3SUP_TEST_OLD="+standin(t, "v1.30.4+k3s1"),
		"K3SUP_TEST_NEW="+standin(t, "v1.31.2+k3s1"), "K3SUP_TEST_ROOT="+t.TempDir())
	text, err := command.CombinedOutput()
	if err != nil || !bytes.Contains(text, []byte("--- PASS: "+t.Name()+" ")) {
		t.Fatalf("%v\n%s", err, text)
	}
	return nil
}

func newHost(t *testing.T) *host {
	syscall.Umask(0o022)
	must(t, exec.Command("/sbin/ip", "link", "set", "lo", "up").Run())
	h := &host{root: os.Getenv("K3SUP_TEST_ROOT"), old: os.Getenv("K3SUP_TEST_OLD"), new: os.Getenv("K3SUP_TEST_NEW")}
	h.k3s = h.root + "/usr/local/bin/k3s"
	for _, dir := range []string{"/usr/local/bin", "/var/lib/rancher/k3s", "/etc", "/tmp"} {
		must(t, os.MkdirAll(h.root+dir, 0o755))
	}
	text, err := os.ReadFile(h.old)
	must(t, err)
	must(t, os.WriteFile(h.k3s, text, 0o755))
	must(t, os.WriteFile(h.root+"/etc/standin.conf", []byte("rsa=0\n"), 0o644))
	go func() {
		for ; ; time.Sleep(300 * time.Millisecond) {
			atomic.AddInt32(&h.starts, 1)
			k3s := exec.Command(h.k3s, "server", "--data-dir", h.root+"/var/lib/rancher/k3s",
				"--write-kubeconfig", h.root+"/etc/k3s.yaml")
			k3s.Env = []string{"PATH=/usr/bin:/bin", "K3S_STANDIN_CONF=" + h.root + "/etc/standin.conf",
				"K3S_CONFIG_FILE=" + h.root + "/etc/none.yaml"}
			_ = k3s.Run() // how it ended is in the tests' hands
		}
	}()
	return h
}

func (h *host) node(t *testing.T) (*Context, *Node) {
	ctx, err := NewContext(ContextOptions{})
	must(t, err)
	t.Cleanup(func() { ctx.Close() })
	n, err := ctx.Node(NodeOptions{Root: h.root})
	must(t, err)
	t.Cleanup(func() { n.Close() })
	return ctx, n
}

func digest(t *testing.T, path string) string {
	text, err := os.ReadFile(path)
	must(t, err)
	return fmt.Sprintf("%x", sha256.Sum256(text))
}

// running is the one process that is the node's k3s.
func running(t *testing.T, n *Node, o WaitRunningOptions) (*Process, int64) {
	t.Helper()
	if o.Stable == 0 {
		o.Stable = -1
	}
	o.Timeout = 20 * time.Second
	op, err := n.WaitRunning(o)
	must(t, err)
	defer op.Close()
	_, err = op.Wait(context.Background())
	must(t, err)
	found, err := op.Processes()
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	info, err := found[0].Info()
	must(t, err)
	pid, err := info.Int("/pid")
	must(t, err)
	return found[0], pid
}

type report struct {
	State   string
	Changed bool
	Running struct {
		Pid        int64
		Version    string
		Asset_hash string
	}
	Installed, Wanted, Backup struct{ Path, Sha256, Asset_hash string }
	Downtime_ms               int64
}

func wait(t *testing.T, op *Op, err error) (r report) {
	t.Helper()
	must(t, err)
	defer op.Close()
	result, err := op.Wait(context.Background())
	must(t, err)
	must(t, result.Unmarshal(&r))
	return r
}

func TestUpgrade(t *testing.T) {
	h := sandbox(t)
	if h == nil {
		return
	}
	_, n := h.node(t)
	_, first := running(t, n, WaitRunningOptions{})
	op, err := n.StateOf(StateOptions{Payload: h.new, SHA256: strings.Repeat("0", 64)})
	must(t, err)
	if _, err := op.Wait(context.Background()); !errors.Is(err, ErrDigestMismatch) {
		t.Error(err)
	}
	must(t, op.Close())
	image, there := filepath.Join(h.root, "some.tar.gz"), filepath.Join(h.root, "var/lib/rancher/k3s/agent/images/some.tar.gz")
	must(t, os.WriteFile(image, []byte("images"), 0o644))
	op, err = n.State(h.new)
	if r := wait(t, op, err); r.State != "outdated" || r.Running.Version != "v1.30.4+k3s1" {
		t.Fatalf("%+v", r)
	}

	var told []Progress
	op, err = n.Upgrade(UpgradeOptions{Payload: h.new, Stable: 1500 * time.Millisecond, Timeout: time.Minute, Images: []string{image}})
	must(t, err)
	must(t, op.OnProgress(func(p Progress) error {
		told = append(told, p)
		return nil
	}))
	r := wait(t, op, nil)
	if op.Status() != 1 || !r.Changed || r.State != "current" || r.Running.Version != "v1.31.2+k3s1" || r.Running.Pid == first {
		t.Errorf("%d %+v", op.Status(), r)
	}
	if r.Running.Asset_hash == "" || r.Running.Asset_hash != r.Installed.Asset_hash || r.Running.Asset_hash != r.Wanted.Asset_hash {
		t.Errorf("%+v", r)
	}
	if digest(t, h.k3s) != digest(t, h.new) || r.Wanted.Sha256 != digest(t, h.new) || digest(t, h.root+r.Backup.Path) != digest(t, h.old) {
		t.Errorf("%+v", r)
	}
	if digest(t, there) != digest(t, image) {
		t.Error("no images")
	}
	if r.Downtime_ms < 250 || r.Downtime_ms > 10000 {
		t.Error(r.Downtime_ms, "ms: the supervisor's pause is 300 ms")
	}
	steps := ""
	for i, p := range told {
		if i > 0 && p.Percent < told[i-1].Percent {
			t.Errorf("%+v", told)
		}
		if i == 0 || p.Step != told[i-1].Step {
			steps += p.Step + " "
		}
	}
	last := told[len(told)-1]
	if told[0].Percent > 10 || told[0].Downtime >= 0 || last.Percent < 50 || last.Downtime < 250*time.Millisecond {
		t.Errorf("%+v", told)
	}
	if !strings.Contains(steps, "images stage verify swap restart prove") {
		t.Error(steps)
	}

	file, err := os.Open(h.new)
	must(t, err)
	op, err = n.Upgrade(UpgradeOptions{PayloadFile: file, Stable: 1500 * time.Millisecond, Restart: RestartSignal})
	file.Close()
	if again := wait(t, op, err); op.Status() != 0 || again.Changed || again.Running.Pid != r.Running.Pid || atomic.LoadInt32(&h.starts) != 2 {
		t.Errorf("%d %+v", op.Status(), again)
	}
	stageSome(t, n, h.root)
	unpackSome(t, n, h)
}

// Unpack looks, has torn files unpacked anew, and refuses what is used.
func unpackSome(t *testing.T, n *Node, h *host) {
	t.Helper()
	op, err := n.Unpack(UnpackOptions{})
	if wait(t, op, err); op.Status() != 0 {
		t.Error(op.Status())
	}
	file, err := os.Open(h.old)
	must(t, err)
	op, err = n.Unpack(UnpackOptions{PayloadFile: file, SHA256: digest(t, h.old)})
	file.Close()
	if wait(t, op, err); op.Status() != 0 {
		t.Error(op.Status())
	}
	if _, err := n.Unpack(UnpackOptions{SHA256: "abc"}); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
}

// Stage puts a file in place, keeps what it replaces, and puts that back.
func stageSome(t *testing.T, n *Node, root string) {
	t.Helper()
	image, there := filepath.Join(root, "k3s-airgap-images.tar.zst"), filepath.Join(root, "var/lib/rancher/k3s/agent/images/k3s-airgap-images.tar.zst")
	must(t, os.WriteFile(image, []byte("images"), 0o644))
	op, err := n.Stage(StageOptions{Files: []string{image}, SHA256: digest(t, image), Commit: true})
	if wait(t, op, err); op.Status() != 1 || digest(t, there) != digest(t, image) {
		t.Error(op.Status())
	}
	must(t, os.WriteFile(image, []byte("others"), 0o644))
	op, err = n.Stage(StageOptions{Files: []string{image}})
	if wait(t, op, err); digest(t, there) != digest(t, image) {
		t.Error("not replaced")
	}
	op, err = n.Stage(StageOptions{Restore: true})
	if wait(t, op, err); op.Status() != 1 || digest(t, there) == digest(t, image) {
		t.Error("not restored")
	}
	for _, o := range []StageOptions{{}, {Files: []string{""}}, {Files: []string{"/x.tar", "/y/x.tar"}}, {Files: []string{"/x"}, SHA256: "abc"},
		{Files: []string{"/x"}, Key: "/k"}, {Files: []string{"/x"}, Signature: "/s"}} {
		if _, err := n.Stage(o); !errors.Is(err, syscall.EINVAL) {
			t.Error(o, err)
		}
	}
}

func TestCancelledUpgrade(t *testing.T) {
	h := sandbox(t)
	if h == nil {
		return
	}
	_, n := h.node(t)
	_, first := running(t, n, WaitRunningOptions{})

	// Before the point of no return: nothing has happened.
	op, err := n.Upgrade(UpgradeOptions{Payload: h.new, Stable: -1})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	must(t, op.OnProgress(func(p Progress) error {
		if p.Step == "stage" {
			cancel()
			op.Cancel() // the goroutine that Wait has for this could come too late
		}
		return nil
	}))
	if _, err = op.Wait(ctx); !errors.Is(err, ErrCancelled) || !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	must(t, op.Close())
	if _, pid := running(t, n, WaitRunningOptions{}); pid != first || digest(t, h.k3s) != digest(t, h.old) {
		t.Error("something was changed")
	}

	// After it: the operation reaches its goal, and Wait says so.
	op, err = n.Upgrade(UpgradeOptions{Payload: h.new, Stable: time.Second, Timeout: time.Minute})
	must(t, err)
	ctx, cancel = context.WithCancel(context.Background())
	must(t, op.OnProgress(func(p Progress) error {
		if p.Step == "prove" {
			cancel()
		}
		return nil
	}))
	result, err := op.Wait(ctx)
	must(t, err)
	if version, err := result.Str("/running/version"); version != "v1.31.2+k3s1" || err != nil || ctx.Err() == nil || op.Status() != 1 {
		t.Error(version, err, ctx.Err(), op.Status())
	}
	must(t, op.Close())
}

func TestCertificates(t *testing.T) {
	h := sandbox(t)
	if h == nil {
		return
	}
	ctx, n := h.node(t)
	running(t, n, WaitRunningOptions{Stable: time.Second})
	op, err := n.CertsCheck(CertsCheckOptions{Services: []string{"admin", "kubelet"}, Kubeconfigs: []string{"/etc/none", "/etc/none2"},
		At: time.Unix(86400, 0), WarnDays: 7, K3sVersion: "v1.20.0+k3s1"})
	must(t, err)
	result, err := op.Wait(context.Background())
	must(t, err)
	if text, _ := result.Str("/reference_time"); text != "1970-01-02T00:00:00Z" {
		t.Error(text)
	}
	for _, part := range []string{"/etc/none", "/etc/none2", "server/tls/client-admin.crt", "agent/client-kubelet.crt"} {
		if !strings.Contains(result.String(), `"`+part+`"`) || strings.Contains(result.String(), `"path":"server/tls/client-scheduler.crt"`) {
			t.Error(part)
		}
	}
	op, err = n.CertsCheck(CertsCheckOptions{Services: []string{"k3s-server"}, Wire: true})
	must(t, err)
	result, err = op.Wait(context.Background())
	must(t, err)
	if matches, err := result.Int("/served/0/matches"); err != nil || matches != 1 {
		t.Error(result)
	}
	for _, o := range []CertsCheckOptions{{Services: []string{"nonsense"}}, {Services: []string{""}}, {Kubeconfigs: []string{"relative"}}} {
		if _, err := n.CertsCheck(o); !errors.Is(err, syscall.EINVAL) {
			t.Error(o, err)
		}
	}
	if _, err := n.CertsRetire(CertsRetireOptions{Services: []string{"nonsense"}}); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
	op, err = n.CertsRetire(CertsRetireOptions{Services: []string{"admin"}, Keep: 2, KeepDays: 3})
	must(t, err)
	if _, err := op.Wait(context.Background()); !errors.Is(err, ErrRunning) {
		t.Error(err)
	}
	for _, wrong := range []RotateOptions{{}, {IfWithinDays: 3}, {Key: "k", Services: []string{"nonsense"}}} {
		if _, err := n.Rotate(wrong); !errors.Is(err, syscall.EINVAL) {
			t.Error(err)
		}
	}
	op, err = n.Rotate(RotateOptions{Key: "k", IfWithin: true, IfWithinDays: 3, Services: []string{"admin"}})
	must(t, err)
	if _, err := op.Wait(context.Background()); err != nil || op.Status() != 0 {
		t.Error(err, op.Status())
	}
	op, err = n.Rotate(RotateOptions{Key: "k", IfWithin: true, IfWithinDays: 400, Restart: RestartNone})
	must(t, err)
	if _, err := op.Wait(context.Background()); !errors.Is(err, ErrRunning) {
		t.Error(err)
	}
	op, err = n.CertsRestore("tls-1")
	must(t, err)
	if _, err := op.Wait(context.Background()); !errors.Is(err, ErrRunning) {
		t.Error(err)
	}
	op, err = n.CertsBackups()
	must(t, err)
	if r, err := op.Wait(context.Background()); err != nil {
		t.Error(r, err)
	}
	op, err = ctx.CertsCACheck(h.root, h.root+"/var/lib/rancher/k3s/server")
	must(t, err)
	if _, err := op.Wait(context.Background()); !errors.Is(err, ErrDataDir) {
		t.Error(err)
	}
}

func TestProcesses(t *testing.T) {
	h := sandbox(t)
	if h == nil {
		return
	}
	_, n := h.node(t)
	_, first := running(t, n, WaitRunningOptions{})
	op, err := n.Identify()
	must(t, err)
	result, err := op.Wait(context.Background())
	must(t, err)
	found, err := op.Processes()
	if pid, bad := result.Int("/candidates/0/pid"); pid != first || bad != nil || err != nil || len(found) != 1 {
		t.Fatal(result, bad, err)
	}
	must(t, op.Close())
	process := found[0]
	fd, err := process.Pidfd()
	must(t, err)
	if link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); link != "anon_inode:[pidfd]" {
		t.Error(link, err)
	}
	late, err := n.WaitExit(process, 100*time.Millisecond)
	must(t, err)
	if _, err := late.Wait(context.Background()); !errors.Is(err, ErrTimeout) {
		t.Error(err)
	}
	exit, err := n.WaitExit(process, 0)
	must(t, err)
	ended := make(chan error)
	go func() {
		_, err := exit.Wait(context.Background())
		ended <- err
	}()
	sent, err := n.Signal(process, syscall.SIGTERM)
	if r := wait(t, sent, err); !r.Changed || sent.Status() != 1 {
		t.Errorf("%+v", r)
	}
	must(t, <-ended)
	gone, err := n.Signal(process, 0)
	if r := wait(t, gone, err); r.Changed || gone.Status() != 0 {
		t.Errorf("%+v", r)
	}
	if _, second := running(t, n, WaitRunningOptions{Previous: process, Stable: 500 * time.Millisecond}); second == first {
		t.Error(second)
	}
	must(t, process.Close())
	must(t, process.Close())
	if _, err := process.Pidfd(); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}

func TestExample(t *testing.T) {
	program := filepath.Join(buildDir(), "bindings-test-go", "example")
	h := (*host)(nil)
	if os.Getenv("K3SUP_TEST_INSIDE") == "" {
		if text, err := exec.Command("go", "build", "-o", program, "./example").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
	}
	if h = sandbox(t); h == nil {
		return
	}
	_, n := h.node(t)
	running(t, n, WaitRunningOptions{})
	for _, changed := range []string{`"changed":true`, `"changed":false`} {
		text, err := exec.Command(program, "-root", h.root, "-stable", "1s", h.new).CombinedOutput()
		if err != nil || !bytes.Contains(text, []byte(changed)) || !bytes.Contains(text, []byte(" % identify: ")) ||
			!bytes.Contains(text, []byte(`"version":"v1.31.2+k3s1"`)) {
			t.Errorf("%v\n%s", err, text)
		}
	}
	text, err := exec.Command(program, "-root", h.root, h.root+"/nothing").CombinedOutput()
	if err == nil || !bytes.Contains(text, []byte("K3SUP_E_PAYLOAD_MISSING")) {
		t.Errorf("%v\n%s", err, text)
	}
}
