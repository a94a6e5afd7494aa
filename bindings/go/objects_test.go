// SPDX-License-Identifier: Apache-2.0

package k3sup

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/cgo"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// both runs a test with a worker thread and inline.
func both(t *testing.T, test func(t *testing.T, ctx *Context)) {
	for name, inline := range map[string]bool{"worker": false, "inline": true} {
		t.Run(name, func(t *testing.T) {
			ctx, err := NewContext(ContextOptions{Inline: inline})
			must(t, err)
			defer ctx.Close()
			test(t, ctx)
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func descriptors(t *testing.T) int {
	names, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(names)
}

// node is one with an installed file that is no k3s. Its operations look at no process.
func node(t *testing.T, ctx *Context) (*Node, string) {
	t.Helper()
	root := t.TempDir()
	must(t, os.MkdirAll(root+"/usr/local/bin", 0o755))
	must(t, os.WriteFile(root+"/usr/local/bin/k3s", append([]byte("\x7fELF"), make([]byte, 5000)...), 0o755))
	n, err := ctx.Node(NodeOptions{Root: root})
	must(t, err)
	t.Cleanup(func() { n.Close() })
	return n, root
}

// busy is a node whose lock another handle holds: its swaps wait as long as they are told to.
func busy(t *testing.T, ctx *Context) (n, holder *Node) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the lock lies in a directory that must be root's")
	}
	holder, root := node(t, ctx)
	if taken, err := holder.Lock(); err != nil || !taken {
		t.Fatal(taken, err)
	}
	if again, err := holder.Lock(); err != nil || again {
		t.Fatal(again, err)
	}
	n, err := ctx.Node(NodeOptions{Root: root})
	must(t, err)
	t.Cleanup(func() { n.Close() })
	return n, holder
}

func endless(t *testing.T, n *Node) *Op {
	t.Helper()
	op, err := n.Swap(SwapOptions{Payload: "/x", WaitLock: -1})
	must(t, err)
	t.Cleanup(func() { op.Close() })
	return op
}

func missing(t *testing.T, ctx *Context) *Op {
	t.Helper()
	op, err := ctx.BuildRead("/nothing/here")
	must(t, err)
	t.Cleanup(func() { op.Close() })
	return op
}

func TestDocuments(t *testing.T) {
	d, err := ParseDocument([]byte(`{"a": [1, true, null, "x", {"/~": "y"}]}`))
	must(t, err)
	part, err := d.Get("/a/4")
	must(t, err)
	if n, err := d.Len(""); n != 1 || err != nil {
		t.Error(n, err)
	}
	if n, err := d.Len("/a"); n != 5 || err != nil {
		t.Error(n, err)
	}
	if n, err := d.Int("/a/1"); n != 1 || err != nil {
		t.Error(n, err)
	}
	if s, err := d.Str("/a/3"); s != "x" || err != nil {
		t.Error(s, err)
	}
	if _, err := d.Str("/a/9"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := d.Len("/a/0"); !errors.Is(err, syscall.EPROTOTYPE) {
		t.Error(err)
	}
	if _, err := d.Str("/a\x00"); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
	if d.String() != `{"a":[1,true,null,"x",{"/~":"y"}]}` {
		t.Error(d)
	}
	must(t, d.Close())
	must(t, d.Close())
	if s, err := part.Str("/~1~0"); s != "y" || err != nil {
		t.Error(s, err)
	}
	if _, err := d.Get(""); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	for _, text := range []string{"", "{", `{"a":1,"a":2}`, "[] x"} {
		if _, err := ParseDocument([]byte(text)); !errors.Is(err, ErrParse) {
			t.Error(text, err)
		}
	}
}

func TestVersions(t *testing.T) {
	if n, err := VersionCompare("v1.30.4+k3s1", "v1.30.4+k3s2"); n >= 0 || err != nil {
		t.Error(n, err)
	}
	if n, err := VersionCompare("v1.30.4+k3s1", "1.30.4-k3s1"); n != 0 || err != nil {
		t.Error(n, err)
	}
	if _, err := VersionCompare("v1.30.4+k3s1", "latest"); !errors.Is(err, ErrParse) {
		t.Error(err)
	}
}

func TestErrors(t *testing.T) {
	both(t, func(t *testing.T, ctx *Context) {
		op := missing(t, ctx)
		result, err := op.Wait(context.Background())
		var e *Error
		if !errors.Is(err, ErrPayloadMissing) || errors.Is(err, ErrBusy) || !errors.As(err, &e) {
			t.Fatal(err)
		}
		if e.Verb != "build_read" || e.Code != ErrPayloadMissing || !strings.Contains(e.Message, "/nothing/here") || len(e.Evidence) == 0 {
			t.Errorf("%+v", e)
		}
		if !strings.Contains(err.Error(), "K3SUP_E_PAYLOAD_MISSING") {
			t.Error(err)
		}
		if name, err := result.Str("/error/name"); name != "K3SUP_E_PAYLOAD_MISSING" || err != nil {
			t.Error(name, err)
		}
		if op.Status() != int(ErrPayloadMissing) {
			t.Error(op.Status())
		}
	})
	err := error(&Error{Code: -Code(syscall.ENOENT)})
	if !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, syscall.ENOENT) || !errors.Is(err, -Code(syscall.ENOENT)) ||
		errors.Is(err, ErrGone) {
		t.Error(err)
	}
}

func TestBuildRead(t *testing.T) {
	path := standin(t, "v1.30.4+k3s1")
	both(t, func(t *testing.T, ctx *Context) {
		file, err := os.Open(path)
		must(t, err)
		byFile, err := ctx.BuildReadFile(file)
		must(t, err)
		file.Close() // C has its own descriptor by now
		byPath, err := ctx.BuildRead(path)
		must(t, err)
		more, err := ctx.BuildReadWith(BuildReadOptions{Path: path, Archive: true, RunVersion: os.Geteuid() == 0})
		must(t, err)
		for _, op := range []*Op{byFile, byPath, more} {
			result, err := op.Wait(context.Background())
			must(t, err)
			if version, err := result.Str("/version"); version != "v1.30.4+k3s1" || err != nil {
				t.Error(version, err)
			}
			if check, err := result.Str("/asset_check"); err != nil || (check == "digest") != (op == more) {
				t.Error(check, err)
			}
			if said, _ := result.Str("/said_version"); op == more && os.Geteuid() == 0 && said != "v1.30.4+k3s1" {
				t.Error(said)
			}
			if found, err := op.Processes(); len(found) != 0 || err != nil {
				t.Error(found, err)
			}
			must(t, op.Close())
			if hash, err := result.Str("/asset_hash"); len(hash) != 64 || err != nil { // the result outlives the operation
				t.Error(hash, err)
			}
		}
	})
}

func TestClosedObjectsSaySo(t *testing.T) {
	both(t, func(t *testing.T, ctx *Context) {
		n, _ := node(t, ctx)
		op := missing(t, ctx)
		for i := 0; i < 2; i++ {
			must(t, op.Close())
			must(t, n.Close())
			must(t, ctx.Close())
		}
		op.Cancel()
		<-op.Done()
		for name, call := range map[string]func() error{
			"wait":     func() error { _, err := op.Wait(context.Background()); return err },
			"result":   func() error { _, err := op.Result(); return err },
			"progress": func() error { return op.OnProgress(nil) },
			"lock":     func() error { _, err := n.Lock(); return err },
			"state":    func() error { _, err := n.State(""); return err },
			"dispatch": func() error { _, err := ctx.Dispatch(); return err },
			"fd":       func() error { _, err := ctx.Fd(); return err },
			"node":     func() error { _, err := ctx.Node(NodeOptions{}); return err },
			"log":      func() error { return ctx.SetLog(LogDebug, nil) },
		} {
			if err := call(); !errors.Is(err, os.ErrClosed) {
				t.Error(name, err)
			}
		}
		if _, err := n.Signal(&Process{}, 0); !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
}

func TestNullBytesDoNotShortenAPath(t *testing.T) {
	both(t, func(t *testing.T, ctx *Context) {
		n, root := node(t, ctx)
		_, a := ctx.Node(NodeOptions{Root: root + "\x00x"})
		_, b := ctx.BuildRead("/a\x00b")
		_, c := n.Swap(SwapOptions{Payload: "/a\x00b"})
		for _, err := range []error{a, b, c} {
			if !errors.Is(err, syscall.EINVAL) {
				t.Error(err)
			}
		}
	})
}

func TestWhatAPayloadHasToBeReachesTheLibrary(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for the node's lock")
	}
	payload := standin(t, "v1.30.4+k3s1")
	ctx, err := NewContext(ContextOptions{})
	must(t, err)
	defer ctx.Close()
	n, err := ctx.Node(NodeOptions{Root: t.TempDir()})
	must(t, err)
	defer n.Close()
	verbs := map[string]func(sha256, sums, signature, key, version string) (*Op, error){
		"swap": func(sha256, sums, signature, key, version string) (*Op, error) {
			return n.Swap(SwapOptions{Payload: payload, SHA256: sha256, Sums: sums, Signature: signature, Key: key, ExpectVersion: version})
		},
		"upgrade": func(sha256, sums, signature, key, version string) (*Op, error) {
			return n.Upgrade(UpgradeOptions{Payload: payload, SHA256: sha256, Sums: sums, Signature: signature, Key: key, ExpectVersion: version})
		},
	}
	for name, verb := range verbs {
		for _, c := range []struct {
			sums, signature, key, version string
			want                          Code
		}{{"", "", "", "v1.30.5-k3s1", ErrVersionMismatch}, {"/missing", "", "", "", ErrSums}, {"", "/missing", "/missing", "", ErrKey}} {
			op, err := verb("", c.sums, c.signature, c.key, c.version)
			must(t, err)
			if _, err := op.Wait(context.Background()); !errors.Is(err, c.want) {
				t.Error(name, c, err)
			}
			must(t, op.Close())
		}
		for _, c := range [][3]string{{"abc", "", ""}, {"", "/missing", ""}, {"", "", "/missing"}} {
			if _, err := verb(c[0], "", c[1], c[2], ""); !errors.Is(err, syscall.EINVAL) {
				t.Error(name, c, err)
			}
		}
	}
}

func TestTheContextLivesAsLongAsItsOperations(t *testing.T) {
	before := descriptors(t)
	both(t, func(t *testing.T, ctx *Context) {
		n, _ := node(t, ctx)
		op, err := n.Swap(SwapOptions{Payload: "/nothing"})
		must(t, err)
		must(t, ctx.Close())
		must(t, n.Close())
		if _, err := op.Wait(context.Background()); !errors.Is(err, ErrPayloadMissing) && os.Geteuid() == 0 {
			t.Error(err)
		}
		must(t, op.Close())
	})
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestTheGarbageCollectorIsALeakGuard(t *testing.T) {
	before := descriptors(t)
	func() {
		for i := 0; i < 10; i++ {
			ctx, err := NewContext(ContextOptions{})
			must(t, err)
			must(t, ctx.SetLog(LogDebug, func(LogLevel, string, string) {}))
			n, err := ctx.Node(NodeOptions{Root: t.TempDir()})
			must(t, err)
			op, err := n.Swap(SwapOptions{Payload: "/nothing", WaitLock: -1})
			must(t, err)
			must(t, op.OnProgress(func(Progress) error { return nil }))
		}
	}()
	for end := time.Now().Add(10 * time.Second); descriptors(t) > before; time.Sleep(10 * time.Millisecond) {
		runtime.GC()
		if time.Now().After(end) {
			t.Fatalf("%d descriptors before, %d after", before, descriptors(t))
		}
	}
}

func TestNoHandleIsLeft(t *testing.T) {
	held := func(h cgo.Handle) (there bool) {
		defer func() { there = recover() == nil }()
		h.Value()
		return
	}
	both(t, func(t *testing.T, ctx *Context) {
		op := missing(t, ctx)
		var logs []cgo.Handle
		for i := 0; i < 2; i++ {
			must(t, ctx.SetLog(LogErr, func(LogLevel, string, string) {}))
			logs = append(logs, ctx.core.log)
		}
		if held(logs[0]) || !held(logs[1]) || !held(op.s.handle) {
			t.Error("too early or too late")
		}
		must(t, ctx.Close())
		if !held(logs[1]) || !held(op.s.handle) {
			t.Error("the operation still needs them")
		}
		must(t, op.Close())
		if held(logs[1]) || held(op.s.handle) {
			t.Error("they are left")
		}
	})
}

func TestCancelAndCloseMayMeet(t *testing.T) {
	both(t, func(t *testing.T, ctx *Context) {
		n, _ := busy(t, ctx)
		for i := 0; i < 100; i++ {
			op := endless(t, n)
			var all sync.WaitGroup
			for j := 0; j < 2; j++ {
				all.Add(1)
				go func() {
					defer all.Done()
					op.Cancel()
				}()
			}
			must(t, op.Close())
			all.Wait()
			_, err := ctx.Dispatch()
			must(t, err)
		}
	})
}

func TestAWaitIsCancelled(t *testing.T) {
	both(t, func(t *testing.T, ctx *Context) {
		n, _ := busy(t, ctx)
		op := endless(t, n)
		timeout, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		result, err := op.Wait(timeout)
		if !errors.Is(err, ErrCancelled) || !errors.Is(err, context.DeadlineExceeded) || op.Status() != int(ErrCancelled) {
			t.Error(err, op.Status())
		}
		if ok, err := result.Int("/ok"); ok != 0 || err != nil {
			t.Error(ok, err)
		}
		other := endless(t, n)
		time.AfterFunc(100*time.Millisecond, other.Cancel)
		if _, err := other.Wait(context.Background()); !errors.Is(err, ErrCancelled) || errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestManyGoroutinesWaitOnOneContext(t *testing.T) {
	both(t, func(t *testing.T, ctx *Context) {
		n, _ := busy(t, ctx)
		var ops []*Op
		var all sync.WaitGroup
		ended := make([]chan error, 8)
		for i := range ended {
			ended[i] = make(chan error, 2)
			ops = append(ops, endless(t, n))
			for twice := 0; twice < 2; twice++ {
				all.Add(1)
				go func(op *Op, ended chan<- error) {
					defer all.Done()
					_, err := op.Wait(context.Background())
					ended <- err
				}(ops[i], ended[i])
				runtime.Gosched()
			}
		}
		for _, i := range []int{3, 0, 5, 7, 1, 4, 2, 6} {
			if op := ops[i]; op.Status() != -int(syscall.EINPROGRESS) {
				t.Error(op.Status())
			}
			ops[i].Cancel()
			for twice := 0; twice < 2; twice++ {
				select {
				case err := <-ended[i]:
					if !errors.Is(err, ErrCancelled) {
						t.Error(err)
					}
				case <-time.After(5 * time.Second):
					t.Fatalf("goroutine %d was not woken", i)
				}
			}
		}
		all.Wait()
	})
}

func TestClosingEndsAWait(t *testing.T) {
	both(t, func(t *testing.T, ctx *Context) {
		n, _ := busy(t, ctx)
		op := endless(t, n)
		time.AfterFunc(100*time.Millisecond, func() {
			op.Close()
			n.Close()
			ctx.Close()
		})
		if _, err := op.Wait(context.Background()); !errors.Is(err, ErrCancelled) {
			t.Error(err)
		}
	})
}

func TestAHostDispatches(t *testing.T) {
	both(t, func(t *testing.T, ctx *Context) {
		op := missing(t, ctx)
		if result, err := op.Result(); result != nil || err != nil || op.Status() != -int(syscall.EINPROGRESS) {
			t.Error(result, err)
		}
		if _, err := op.Processes(); !errors.Is(err, syscall.EINPROGRESS) {
			t.Error(err)
		}
		fd, err := ctx.Fd()
		must(t, err)
		for ended := false; !ended; {
			var set syscall.FdSet
			set.Bits[fd/64] |= 1 << (uint(fd) % 64)
			if n, err := syscall.Select(fd+1, &set, nil, nil, &syscall.Timeval{Sec: 10}); n == 0 || err != nil && err != syscall.EINTR {
				t.Fatal(n, err)
			}
			_, err := ctx.Dispatch()
			must(t, err)
			select {
			case <-op.Done():
				ended = true
			default:
			}
		}
		if _, err := op.Wait(context.Background()); !errors.Is(err, ErrPayloadMissing) {
			t.Error(err)
		}
	})
}

func TestTheLockCanBeHeld(t *testing.T) {
	both(t, func(t *testing.T, ctx *Context) {
		n, holder := busy(t, ctx)
		if _, err := n.Lock(); !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
		op := endless(t, n)
		_, _ = ctx.Dispatch()
		if given, err := holder.Unlock(); !given || err != nil {
			t.Error(given, err)
		}
		if _, err := op.Wait(context.Background()); !errors.Is(err, ErrPayloadMissing) {
			t.Error(err)
		}
		if given, err := holder.Unlock(); given || err != nil {
			t.Error(given, err)
		}
	})
}

func TestAnErrorInProgressStopsTheOperation(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the lock lies in a directory that must be root's")
	}
	mine := errors.New("mine")
	both(t, func(t *testing.T, ctx *Context) {
		n, _ := node(t, ctx)
		for name, fn := range map[string]func(Progress) error{
			"error": func(Progress) error { return mine },
			"panic": func(Progress) error { panic("lost") },
		} {
			op, err := n.Swap(SwapOptions{Payload: "/nothing"})
			must(t, err)
			must(t, op.OnProgress(fn))
			_, err = op.Wait(context.Background())
			var p *PanicError
			if !errors.Is(err, ErrCallback) || op.Status() != int(ErrCallback) {
				t.Error(name, err)
			}
			if name == "error" && !errors.Is(err, mine) {
				t.Error(err)
			}
			if name == "panic" && (!errors.As(err, &p) || p.Value != "lost") {
				t.Error(err)
			}
			must(t, op.Close())
		}
	})
}

func TestProgressIsTold(t *testing.T) {
	path := standin(t, "v1.30.4+k3s1")
	both(t, func(t *testing.T, ctx *Context) {
		op, err := ctx.BuildRead(path)
		must(t, err)
		var told []Progress
		must(t, op.OnProgress(func(p Progress) error {
			op.Cancel() // may be called here
			_ = op.Status()
			told = append(told, p)
			return nil
		}))
		_, err = op.Wait(context.Background())
		if !errors.Is(err, ErrCancelled) && err != nil {
			t.Error(err)
		}
		if len(told) == 0 || told[0].Step != "build_read" || told[0].Total <= told[0].Done || told[0].Downtime >= 0 {
			t.Errorf("%+v", told)
		}
	})
}

func TestLogLinesComeAsText(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the lock lies in a directory that must be root's")
	}
	both(t, func(t *testing.T, ctx *Context) {
		n, _ := node(t, ctx)
		lines := 0
		swap := func() {
			op, err := n.Swap(SwapOptions{Payload: filepath.Join("/nothing", t.Name())})
			must(t, err)
			defer op.Close()
			if _, err := op.Wait(context.Background()); !errors.Is(err, ErrPayloadMissing) {
				t.Error(err)
			}
		}
		must(t, ctx.SetLog(LogDebug, func(level LogLevel, component, message string) {
			if level < LogErr || level > LogDebug || component == "" || message == "" {
				t.Error(level, component, message)
			}
			lines++
		}))
		swap()
		if lines == 0 {
			t.Error("no lines")
		}
		lines = 0
		must(t, ctx.SetLog(LogNone, nil))
		swap()
		if lines != 0 {
			t.Error(lines, "lines")
		}
		must(t, ctx.SetLog(LogDebug, func(LogLevel, string, string) { panic("the log is full") }))
		swap()
		if err := ctx.SetLog(99, func(LogLevel, string, string) {}); !errors.Is(err, syscall.EINVAL) {
			t.Error(err)
		}
	})
}

func TestMarks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("marks lie in a directory that must be root's")
	}
	ctx, err := NewContext(ContextOptions{})
	must(t, err)
	t.Cleanup(func() { ctx.Close() })
	n, _ := node(t, ctx)
	if is, err := n.Marked("step-1"); err != nil || is != NotMarked {
		t.Error(is, err)
	}
	for _, first := range []bool{true, false} {
		if made, err := n.Mark("step-1"); err != nil || made != first {
			t.Error(made, err)
		}
	}
	if is, err := n.Marked("step-1"); err != nil || is != MarkedNow {
		t.Error(is, err)
	}
	if _, err := n.Mark("two words"); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
}

// A service by commands has all three, and no name besides; an upgrade takes them with RestartCommands alone.
func TestAServiceByCommandsHasAllThree(t *testing.T) {
	both(t, func(t *testing.T, ctx *Context) {
		n, _ := node(t, ctx)
		all := Commands{Stop: "true", Start: "true", Status: "true"}
		_, a := n.Service(ServiceOptions{Action: ServiceStop, Commands: Commands{Stop: "true", Start: "true"}})
		_, b := n.Service(ServiceOptions{Action: ServiceStop, Commands: Commands{Start: "true", Status: "true"}})
		_, c := n.Service(ServiceOptions{Action: ServiceStop, Name: "k3s.service", Commands: all})
		_, d := n.Service(ServiceOptions{Action: ServiceStop, Name: "../k3s"})
		_, e := n.Upgrade(UpgradeOptions{Payload: "/nowhere", Commands: all})
		_, f := n.Upgrade(UpgradeOptions{Payload: "/nowhere", Restart: RestartCommands})
		for i, err := range []error{a, b, c, d, e, f} {
			if !errors.Is(err, syscall.EINVAL) {
				t.Error(i, err)
			}
		}
	})
}
