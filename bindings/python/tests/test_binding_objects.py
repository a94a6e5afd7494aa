# SPDX-License-Identifier: Apache-2.0
"""Objects, errors, callbacks, threads, asyncio, with operations that wait for a lock that another handle holds. No process is looked at."""
import asyncio
import errno
import gc
import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest

import k3sup
from k3sup import Code, Context, Document

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the lock lies in a directory that must be root's")


@pytest.fixture(params=[False, True], ids=["worker", "inline"])
def ctx(request):
    with Context(inline=request.param) as ctx:
        yield ctx


@pytest.fixture
def busy(ctx, root):
    """A node whose lock another handle holds: its swaps wait as long as they are told to."""
    with ctx.node(root=root) as holder, ctx.node(root=root) as node:
        assert holder.lock() and not holder.lock()
        node.holder = holder
        yield node


# ---- documents ----

def test_documents_are_read_by_json_pointers():
    doc = Document.parse('{"a": [1, true, null, "x", {"/~": "y"}], "ä": 2.5}')
    assert doc.as_python() == {"a": [1, True, None, "x", {"/~": "y"}], "ä": 2.5}
    assert doc["/a/0"] == 1 and doc["/a/2"] is None and doc["/ä"] == 2.5 and doc["/a/4/~1~0"] == "y"
    assert doc.get("/nothing") is None and doc.get("/nothing", 7) == 7
    assert len(doc) == 2 and doc.length("/a") == 5
    assert doc.text("/a/3") == "x" and doc.integer("/a/1") == 1
    assert doc.json == '{"a":[1,true,null,"x",{"/~":"y"}],"\\u00E4":2.5}'
    with pytest.raises(KeyError):
        doc["/a/9"]
    for wrong in (lambda: doc.text("/a/0"), lambda: doc.integer("/a/3"), lambda: doc.length("/a/0")):
        with pytest.raises(OSError) as caught:
            wrong()
        assert caught.value.errno == errno.EPROTOTYPE


def test_a_part_outlives_the_document_it_was_taken_from():
    part = Document.parse('{"a": {"b": "text"}}').part("/a")
    gc.collect()
    assert part.text("/b") == "text"


@pytest.mark.parametrize("text", ["", "{", '{"a":1,"a":2}', "[] x"])
def test_text_that_is_not_json_is_refused(text):
    with pytest.raises(k3sup.K3supError) as caught:
        Document.parse(text)
    assert caught.value.code == Code.PARSE


# ---- errors ----

def test_errors_of_the_library_have_code_name_message_and_evidence(ctx, tmp_path):
    op = ctx.build_read(str(tmp_path / "missing"))
    with pytest.raises(k3sup.K3supError) as caught:
        op.wait()
    e = caught.value
    assert (e.code, e.name) == (Code.PAYLOAD_MISSING, "K3SUP_E_PAYLOAD_MISSING")
    assert "missing" in e.message and e.name in str(e) and isinstance(e.evidence, dict)
    assert not isinstance(e, OSError)
    assert op.status == e.code and op.error.message == e.message
    assert op.result["/error/name"] == e.name and op.result["/ok"] is False


def test_errors_of_the_kernel_are_oserrors(ctx):
    with pytest.raises(OSError) as caught:
        ctx.build_read(2 ** 31 - 1)
    assert caught.value.errno == errno.EBADF
    assert isinstance(caught.value, k3sup.K3supError) and caught.value.code == -errno.EBADF and caught.value.name == "EBADF"


@pytest.mark.parametrize("code", [Code.BUSY, -errno.ENOSPC])
def test_errors_survive_pickling(code):
    from k3sup._errors import error
    e = error(code, "NAME", "why", {"a": 1})
    copy = pickle.loads(pickle.dumps(e))
    assert type(copy) is type(e) and (copy.code, copy.name, copy.message, copy.evidence) == (code, "NAME", "why", {"a": 1})
    assert getattr(copy, "errno", None) == getattr(e, "errno", None)


def test_versions_are_compared():
    assert k3sup.version_compare("v1.30.4+k3s1", "v1.30.4+k3s2") < 0 < k3sup.version_compare("v1.30.10+k3s1", "v1.30.9+k3s1")
    assert k3sup.version_compare("v1.30.4+k3s1", "1.30.4-k3s1") == 0
    with pytest.raises(k3sup.K3supError) as caught:
        k3sup.version_compare("v1.30.4+k3s1", "latest")
    assert caught.value.code == Code.PARSE


def test_a_null_byte_does_not_shorten_a_path(ctx, root):
    for call in (lambda: ctx.node(root=root + "\0x"), lambda: ctx.build_read(b"/a\0b"), lambda: ctx.node(root=root).swap("/a\0b"),
                 lambda: k3sup.version_compare("v1.30.4+k3s1\0", "v1.30.4+k3s1")):
        with pytest.raises(ValueError, match="null"):
            call()


# ---- reading a build: paths, descriptors, files ----

def test_a_build_is_read_by_path_descriptor_and_file(ctx, standin):
    path = standin("v1.30.4+k3s1")
    fd = os.open(path, os.O_RDONLY)
    with open(path, "rb") as file:
        ops = [ctx.build_read(path), ctx.build_read(os.fsencode(path)), ctx.build_read(fd), ctx.build_read(file)]
    os.close(fd)  # C has its own by now
    for op in ops:
        build = op.wait()
        assert build["/version"] == "v1.30.4+k3s1" and build["/commit"] == "0123abcd" and len(build["/asset_hash"]) == 64
        assert op.status == 0 and op.error is None and op.processes == []


# ---- life ----

def test_what_cannot_be_checked_is_refused(ctx, root, tmp_path):
    node = ctx.node(root=root)
    for wrong in ({"services": ["nonsense"]}, {"kubeconfigs": ["relative"]}, {"warn_days": 99999}, {"k3s_version": "new"}, {"at": -2.0 ** 63},
                  {"at": 253402300800}):
        with pytest.raises(OSError) as caught:
            node.certs_check(**wrong)
        assert caught.value.errno == errno.EINVAL
    for wrong in (lambda: node.certs_retire(services=["nonsense"]), lambda: node.rotate(), lambda: node.rotate("k", services=["nonsense"]),
                  lambda: node.certs_restore("../x"), lambda: node.certs_restore("")):
        with pytest.raises(OSError) as caught:
            wrong()
        assert caught.value.errno == errno.EINVAL
    for wrong in (lambda n: node.certs_retire(keep=n), lambda n: node.certs_retire(keep_days=n), lambda n: node.rotate("k", keep=n),
                  lambda n: node.rotate(if_within_days=n), lambda n: node.certs_check(warn_days=n)):
        for number in (-1, 1 << 32):  # ctypes would make something else of it
            with pytest.raises(ValueError):
                wrong(number)
    with pytest.raises(k3sup.K3supError) as said:
        ctx.certs_ca_check(tmp_path, root).wait()
    assert said.value.code == Code.DATA_DIR


def test_closed_objects_say_so(ctx, root):
    node = ctx.node(root=root)
    op = ctx.build_read("/nothing")
    op.close()
    op.close()
    node.close()
    for call in (op.wait, lambda: op.status, lambda: op.result, lambda: op.set_done(print), node.lock, node.state):
        with pytest.raises(ValueError, match="closed"):
            call()
    op.cancel()
    ctx.close()
    ctx.close()
    for call in (ctx.dispatch, ctx.fileno, lambda: ctx.node(), lambda: ctx.build_read("/x")):
        with pytest.raises(ValueError, match="closed"):
            call()


@needs_root
def test_closing_the_context_closes_what_hangs_on_it(ctx, busy):
    before = os.listdir("/proc/self/fd")
    ops = [busy.swap("/x", wait_lock=None) for _ in range(3)]
    ended = []
    ops[0].set_done(ended.append)
    ctx.dispatch()
    ctx.close()
    assert all(op.closed for op in ops) and busy.closed and busy.holder.closed
    assert ended == []
    assert len(os.listdir("/proc/self/fd")) < len(before)


def test_parents_live_as_long_as_their_children(root):
    ctx = Context()
    node = ctx.node(root=root)
    op = node.swap("/nothing")
    gone = weakref.ref(ctx), weakref.ref(node)
    del ctx, node
    gc.collect()
    with pytest.raises(k3sup.K3supError):
        op.wait()
    del op
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_nothing_is_left_when_all_was_collected(root, tmp_path):
    def use():
        ctx = Context(log=lambda *a: None, log_level=7)
        op = ctx.node(root=root).swap(str(tmp_path / "missing"))
        op.set_progress(lambda p: None)
        op.set_done(lambda op: None)
        with pytest.raises(k3sup.K3supError):
            op.wait()
        ctx.build_read(str(tmp_path / "never-driven"))
    use()
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        use()
        gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


@needs_root
def test_an_operation_that_nobody_holds_is_cancelled_unless_it_has_a_done_callback(ctx, busy):
    ended = []
    dropped = weakref.ref(busy.swap("/x", wait_lock=None))
    busy.swap("/x", wait_lock=0).set_done(lambda op: ended.append(op.status))
    gc.collect()
    assert dropped() is None
    until(ctx, lambda: ended)
    assert ended == [Code.BUSY]
    gc.collect()
    assert not ctx._core.held


@needs_root
def test_a_forked_child_does_not_touch_what_it_inherited(root):
    with Context() as ctx, ctx.node(root=root) as holder:
        holder.lock()
        op = ctx.node(root=root).swap("/x", wait_lock=None)
        ctx.dispatch()
        pid = os.fork()
        if pid == 0:
            signal.alarm(10)
            ctx._core.driving = True  # what is to be given back stays on the list
            del op
            gc.collect()
            os._exit(len(ctx._core.dead))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert op.running


def test_a_program_may_end_without_closing_anything(root):
    code = "import k3sup; ctx = k3sup.Context(); node = ctx.node(root=%r); op = node.swap('/nothing'); op.set_done(print); ctx.dispatch()"
    code %= root
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    done = subprocess.run([sys.executable, "-c", code], env=env, timeout=30, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")


# ---- waiting ----

@needs_root
def test_a_wait_out_of_time_lets_the_operation_run_on(ctx, busy):
    op = busy.swap("/nothing", wait_lock=None)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        op.wait(0.25)
    assert time.monotonic() - began > 0.2
    with pytest.raises(TimeoutError):
        op.wait(0)
    assert op.running and op.status == -errno.EINPROGRESS and op.result is None and op.error is None
    with pytest.raises(OSError):
        op.processes
    busy.holder.unlock()
    with pytest.raises(k3sup.K3supError) as caught:
        op.wait()
    assert caught.value.code == Code.PAYLOAD_MISSING


@needs_root
def test_cancel_comes_from_another_thread(ctx, busy):
    op = busy.swap("/x", wait_lock=None)
    timer = threading.Timer(0.2, op.cancel)
    timer.start()
    with pytest.raises(k3sup.K3supError) as caught:
        op.wait(30)
    timer.join()
    assert caught.value.code == Code.CANCELLED


@needs_root
def test_several_threads_wait_on_one_context(ctx, busy):
    ops = [busy.swap("/x", wait_lock=None) for _ in range(6)]
    how = {}

    def wait(i):
        try:
            ops[i].wait(30)
        except k3sup.K3supError as e:
            how[i] = e.code
    threads = [threading.Thread(target=wait, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for i in (3, 0, 5, 1, 4, 2):
        ops[i].cancel()
        threads[i].join(5)
        assert how.get(i) == Code.CANCELLED, "thread %d was not woken" % i


@needs_root
def test_cancel_and_close_may_meet(ctx, busy):
    for _ in range(50):
        op = busy.swap("/x", wait_lock=None)
        start = threading.Barrier(3)

        def cancel():
            start.wait()
            op.cancel()
        threads = [threading.Thread(target=cancel) for _ in range(2)]
        for thread in threads:
            thread.start()
        start.wait()
        op.close()
        for thread in threads:
            thread.join()
        ctx.dispatch()


@needs_root
def test_closing_wakes_the_thread_that_waits(ctx, busy):
    op = busy.swap("/x", wait_lock=None)
    how = []

    def wait():
        try:
            op.wait(30)
        except Exception as e:
            how.append(e)
    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.2)
    op.close()
    thread.join(5)
    assert len(how) == 1 and isinstance(how[0], ValueError)


@needs_root
def test_ctrl_c_ends_a_wait(ctx, busy):
    op = busy.swap("/x", wait_lock=None)
    threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        op.wait(30)
    assert time.monotonic() - began < 25 and op.running


def until(ctx, what, limit=10):
    """Host the context as a program with a loop of its own does."""
    poller = select.poll()
    poller.register(ctx, select.POLLIN)
    end = time.monotonic() + limit
    while not what():
        assert time.monotonic() < end, "nothing came"
        if poller.poll(1000):
            ctx.dispatch()


def test_a_host_polls_one_descriptor(ctx, tmp_path):
    ended = []
    op = ctx.build_read(str(tmp_path / "missing"))
    op.set_done(ended.append)
    assert ended == []
    with pytest.raises(OSError) as caught:
        op.outcome()
    assert caught.value.errno == errno.EINPROGRESS
    until(ctx, lambda: ended)
    assert ended == [op]
    op.set_done(ended.append)  # after the end: in the next dispatch
    assert ended == [op]
    until(ctx, lambda: len(ended) == 2)
    with pytest.raises(k3sup.K3supError):
        op.outcome()


# ---- callbacks ----

def test_progress_is_told(ctx, standin):
    told = []
    op = ctx.build_read(standin("v1.30.4+k3s1"))
    op.set_progress(told.append)
    op.wait()
    assert told and all(0 <= p.percent <= 100 and p.total > p.done > 0 and p.downtime is None for p in told)
    assert {p.step for p in told} == {"build_read"}


@needs_root
def test_a_payload_is_asked_and_its_archive_counted(ctx, root, standin):
    read = ctx.build_read(standin("v1.30.5+k3s1"), archive=True, run_version=True)
    read.wait()
    assert (read.result["/asset_check"], read.result["/said_version"]) == ("digest", "v1.30.5+k3s1")
    swap = ctx.node(root=root).swap(standin("v1.30.5+k3s1"), check_archive=True, run_version=True)
    swap.wait()
    assert swap.result["/changed"] is True
    assert (swap.result["/wanted/asset_check"], swap.result["/wanted/said_version"]) == ("digest", "v1.30.5+k3s1")


@needs_root
@pytest.mark.parametrize("verb", ["swap", "upgrade", "unpack"])
def test_what_a_payload_has_to_be_reaches_the_library(ctx, root, standin, tmp_path, verb):
    payload, start = standin("v1.30.4+k3s1"), getattr(ctx.node(root=root), verb)
    missing = str(tmp_path / "missing")
    for terms, code in (({"expect_version": "v1.30.5-k3s1"}, Code.VERSION_MISMATCH), ({"sums": missing}, Code.SUMS),
                        ({"signature": missing, "key": missing}, Code.KEY)):
        with pytest.raises(k3sup.K3supError) as caught:
            start(payload, **terms).wait()
        assert caught.value.code == code, terms
    for terms in ({"sha256": "abc"}, {"key": missing}, {"signature": missing}, {"server_version": "latest"})[:3 if verb == "unpack" else 4]:
        with pytest.raises(OSError) as refused:
            start(payload, **terms)
        assert refused.value.errno == errno.EINVAL, terms


def test_what_is_to_be_staged_reaches_the_library(ctx, root):
    node = ctx.node(root=root)
    for args in ({}, {"files": ["/x.tar", "/y/x.tar"]}, {"files": "/x.tar", "sha256": "abc"}, {"files": ["/x.tar"], "restore": True},
                 {"files": ["/x.tar"], "key": "/k"}, {"files": ["/x.tar"], "signature": "/s"}, {"commit": True, "restore": True}):
        with pytest.raises(OSError) as refused:
            node.stage(**args)
        assert refused.value.errno == errno.EINVAL, args
    with pytest.raises(ValueError):
        node.stage(["/x.tar\0"])


@needs_root
def test_an_exception_in_progress_stops_the_operation_and_comes_out_of_wait(ctx, root, standin):
    class Odd(BaseException):
        pass

    def stop(progress):
        raise Odd(progress.step)
    op = ctx.node(root=root).swap(standin("v1.30.4+k3s1"))
    op.set_progress(stop)
    with pytest.raises(Odd) as caught:
        op.wait()
    assert caught.value.args == ("lock",)
    assert op.status == Code.CALLBACK and op.error.code == Code.CALLBACK
    assert op.result["/error/name"] == "K3SUP_E_CALLBACK"


def test_an_exception_in_done_comes_out_of_wait(ctx, tmp_path):
    def fail(op):
        raise LookupError("mine")
    op = ctx.build_read(str(tmp_path / "missing"))
    op.set_done(fail)
    with pytest.raises(LookupError, match="mine"):
        op.wait()
    assert op.status == Code.PAYLOAD_MISSING


def test_a_callback_cannot_wait(ctx, tmp_path):
    caught = []

    def nested(op):
        for call in (op.wait, ctx.dispatch):
            try:
                call()
            except k3sup.K3supError as e:
                caught.append(e.code)
        other.close()  # may be asked for here; is done when C has come back
    op, other = (ctx.build_read(str(tmp_path / "missing")) for _ in range(2))
    op.set_done(nested)
    with pytest.raises(k3sup.K3supError):
        op.wait()
    assert caught[-1] == -errno.EBUSY and other.closed
    assert not ctx._core.dead


@needs_root
def test_log_lines_come_as_text(root, standin, capsys):
    lines = []
    with Context() as ctx, ctx.node(root=root) as node:
        ctx.set_log(lambda *line: lines.append(line), k3sup.LogLevel.DEBUG)
        with pytest.raises(k3sup.K3supError):
            node.swap("/nothing").wait()
        assert lines and all(3 <= level <= 7 and component and message for level, component, message in lines)
        del lines[:]
        ctx.set_log(None)
        with pytest.raises(k3sup.K3supError):
            node.swap("/nothing").wait()
        assert lines == []

        def full(*line):
            raise OSError(errno.ENOSPC, "log is full")
        ctx.set_log(full, 7)
        with pytest.raises(k3sup.K3supError) as caught:
            node.swap("/nothing").wait()
        assert caught.value.code == Code.PAYLOAD_MISSING
        assert "log is full" in capsys.readouterr().err

        def interrupted(*line):
            raise KeyboardInterrupt
        ctx.set_log(interrupted, 7)
        with pytest.raises(KeyboardInterrupt):
            node.swap("/nothing").wait()
        ctx.set_log(None)


# ---- asyncio ----

@needs_root
def test_many_operations_are_awaited_on_one_context(ctx, busy, standin):
    payload = standin("v1.30.4+k3s1")

    async def main():
        ticks = []

        async def tick():
            while True:
                ticks.append(1)
                await asyncio.sleep(0.01)
        ticker = asyncio.ensure_future(tick())
        swaps = [busy.swap("/x", wait_lock=1.5) for _ in range(10)]
        results = await asyncio.gather(*swaps, ctx.build_read(payload).async_wait(), ctx.build_read(payload), return_exceptions=True)
        ticker.cancel()
        assert [e.code for e in results[:10]] == [Code.BUSY] * 10
        assert [r["/version"] for r in results[10:]] == ["v1.30.4+k3s1"] * 2
        assert len(ticks) > 10, "the loop stood still"
        assert not ctx._loops
    asyncio.run(main())


@needs_root
def test_cancelling_the_task_cancels_the_operation(ctx, busy):
    async def main():
        op = busy.swap("/x", wait_lock=None)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(op, 0.2)
        assert op.status == Code.CANCELLED
        other = busy.swap("/x", wait_lock=None)
        task = asyncio.ensure_future(other.async_wait())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert other.status == Code.CANCELLED and not ctx._loops
    asyncio.run(main())


@needs_root
def test_cancel_ends_an_await(ctx, busy):
    async def main():
        op = busy.swap("/x", wait_lock=None)
        asyncio.get_running_loop().call_later(0.1, op.cancel)
        with pytest.raises(k3sup.K3supError) as caught:
            await op
        assert caught.value.code == Code.CANCELLED
        closing = busy.swap("/x", wait_lock=None)
        asyncio.get_running_loop().call_later(0.1, closing.close)
        with pytest.raises(ValueError, match="closed"):
            await closing
    asyncio.run(main())


@needs_root
def test_a_thread_and_a_loop_share_a_context(ctx, busy):
    ops = [busy.swap("/x", wait_lock=0.4) for _ in range(2)]
    how = []

    def wait():
        try:
            ops[0].wait(30)
        except k3sup.K3supError as e:
            how.append(e.code)

    async def main():
        try:
            await ops[1]
        except k3sup.K3supError as e:
            how.append(e.code)
    thread = threading.Thread(target=wait)
    thread.start()
    asyncio.run(main())
    thread.join(5)
    assert how == [Code.BUSY] * 2


def test_policy():
    good = {"payload_kind": "wrapper", "payload_arch": "amd64", "node_arch": "amd64", "role": "server"}
    doc = k3sup.policy_check(installed="v1.30.4+k3s1", payload="v1.30.5+k3s1", **good)
    assert doc["/ok"] is True and [c["decision"] for c in doc["/checks"]] == ["pass"] * 9
    older = {"installed": "v1.30.4+k3s2", "payload": "v1.30.4+k3s1", "floor": "v1.30.4+k3s2", **good}
    doc = k3sup.policy_check(**older)
    assert doc["/ok"] is False and doc["/error/name"] == "K3SUP_E_POLICY_PACKAGING" and doc["/error/code"] == k3sup.Code.POLICY_PACKAGING
    assert k3sup.policy_check(allow_downgrade=True, **older)["/ok"] is True
    assert k3sup.policy_check(allow_skip_minor=True, **older)["/ok"] is False
    earlier = k3sup.policy_check(installed="v1.25.10+k3s1", payload="v1.26.0+k3s1", installed_built="2023-05-26T21:50:22Z", payload_built="2022-12-09T21:15:18Z", **good)
    assert earlier["/error/name"] == "K3SUP_E_POLICY_BUILD_DATE"
    agent = dict(good, role="agent", installed="v1.30.4+k3s1", payload="v1.30.5+k3s1", server="v1.30.4+k3s1")
    assert k3sup.policy_check(**agent)["/error/name"] == "K3SUP_E_POLICY_AGENT_FIRST"
    assert k3sup.policy_check()["/error/name"] == "K3SUP_E_PAYLOAD_NOT_K3S"
    with pytest.raises(k3sup.K3supOSError):
        k3sup.policy_check(role="etcd")
    with pytest.raises(ValueError):
        k3sup.policy_check(payload="v1.30.4\0+k3s1")


@needs_root
def test_what_is_allowed(tmp_path, standin):
    """A check that refuses and one that allows; then a swap that does what was allowed."""
    root = tmp_path / "root"
    (root / "usr/local/bin").mkdir(parents=True)
    (root / "var/lib").mkdir(parents=True)
    shutil.copy(standin("v1.30.5+k3s1"), str(root / "usr/local/bin/k3s"))
    older = standin("v1.30.4+k3s1")
    with k3sup.Context() as ctx, ctx.node(root=str(root)) as node:
        op = node.upgrade(older, check=True)
        with pytest.raises(k3sup.K3supError) as caught:
            op.wait()
        assert caught.value.code == k3sup.Code.POLICY_DOWNGRADE
        assert [c["name"] for c in op.result["/checks"] if c["decision"] == "refuse"] == ["downgrade"]
        checks = node.upgrade(older, check=True, allow_downgrade=True, allow_skip_minor=True, allow_package_owned=True).wait()
        assert checks["/changed"] is False and "allowed" in [c["decision"] for c in checks["/checks"]]
        assert not (root / "var/lib/k3sup").exists()
        with pytest.raises(k3sup.K3supError):
            node.swap(older, allow_skip_minor=True, allow_package_owned=True).wait()
        assert node.swap(older, allow_downgrade=True).wait()["/changed"] is True


@needs_root
def test_an_upgrade_keeps_as_many_backups_as_it_shall(tmp_path, standin):
    root = tmp_path / "root"
    (root / "usr/local/bin").mkdir(parents=True)
    (root / "var/lib").mkdir(parents=True)
    shutil.copy(standin("v1.30.4+k3s1"), str(root / "usr/local/bin/k3s"))
    with k3sup.Context() as ctx, ctx.node(root=str(root)) as node:
        for version, keep, kept in [("v1.30.5+k3s1", 2, ["v1.30.4+k3s1"]), ("v1.30.6+k3s1", 2, ["v1.30.5+k3s1", "v1.30.4+k3s1"]),
                                    ("v1.30.6+k3s1", 1, ["v1.30.5+k3s1"])]:
            result = node.upgrade(standin(version), restart=k3sup.Restart.NONE, keep_backups=keep).wait()
            assert result["/installed/version"] == version and result["/changed"] is (keep == 2)
            assert [b["version"] for b in node.swap_backups().wait()["/backups"]] == kept
        with pytest.raises(ValueError):
            node.upgrade(standin("v1.30.6+k3s1"), keep_backups=0)


@needs_root
def test_an_upgrade_asks_for_a_rotation(tmp_path, standin):
    """Whose certificates? There is no data-dir yet: nothing is written. Without that wish the same upgrade is done; a key without it is none."""
    root = tmp_path / "root"
    (root / "usr/local/bin").mkdir(parents=True)
    (root / "var/lib").mkdir(parents=True)
    shutil.copy(standin("v1.30.4+k3s1"), str(root / "usr/local/bin/k3s"))
    new = standin("v1.30.5+k3s1")
    with k3sup.Context() as ctx, ctx.node(root=str(root)) as node:
        with pytest.raises(OSError) as wrong:
            node.upgrade(new, rotate_key="k")
        assert wrong.value.errno == errno.EINVAL
        with pytest.raises(k3sup.K3supError) as said:
            node.upgrade(new, restart=k3sup.Restart.NONE, rotate_certs=True, rotate_key="k").wait()
        assert said.value.code == Code.DATA_DIR and not (root / "usr/local/bin/k3s.k3sup-backup").exists()
        assert node.upgrade(new, restart=k3sup.Restart.NONE).wait()["/changed"] is True


@needs_root
def test_backups(tmp_path, standin):
    """Kept, listed, and gone back to."""
    root, backup = tmp_path / "root", "/usr/local/bin/k3s.k3sup-backup"
    (root / "usr/local/bin").mkdir(parents=True)
    (root / "var/lib").mkdir(parents=True)
    old = standin("v1.30.4+k3s1")
    shutil.copy(old, str(root / "usr/local/bin/k3s"))
    with k3sup.Context() as ctx, ctx.node(root=str(root)) as node:
        with pytest.raises(k3sup.K3supError) as caught:
            node.swap_rollback().wait()
        assert caught.value.code == k3sup.Code.BACKUP_MISSING
        assert node.swap(standin("v1.30.5+k3s1"), keep_backups=3).wait()["/changed"] is True
        listed = node.swap_backups().wait()
        assert [(b["path"], b["version"], b["verified"], b["ours"]) for b in listed["/backups"]] == [(backup, "v1.30.4+k3s1", True, True)]
        assert node.swap_backups(keep=1, wait_lock=None).wait()["/changed"] is False
        with pytest.raises(k3sup.K3supError) as caught:
            node.swap_rollback(sha256="0" * 64).wait()
        assert caught.value.code == k3sup.Code.DIGEST_MISMATCH
        assert node.rollback(check=True, wait_lock=None).wait()["/wanted/version"] == "v1.30.4+k3s1"
        result = node.swap_rollback(expect_version="v1.30.4+k3s1", allow_package_owned=True).wait()
        assert result["/changed"] is True and result["/authentication/recorded"] is True
        assert node.swap_rollback().wait()["/changed"] is False
        assert node.rollback(restart=k3sup.Restart.NONE, sha256=None, allow_package_owned=True).wait()["/changed"] is False
        for wrong in (0, -1, 1 << 32):
            with pytest.raises(ValueError):
                node.swap_backups(keep=wrong)
            with pytest.raises(ValueError):
                node.swap(old, keep_backups=wrong)
    assert (root / "usr/local/bin/k3s").read_bytes() == open(old, "rb").read()


@pytest.mark.skipif(os.geteuid() != 0, reason="marks lie in a directory that must be root's")
def test_marks(tmp_path):
    with k3sup.Context() as ctx, ctx.node(root=str(tmp_path)) as node:
        assert node.marked("step-1") == 0 and node.mark("step-1") is True and node.mark("step-1") is False
        assert node.marked("step-1") == k3sup.constants.MARKED
        for wrong in ("", "two words"):
            with pytest.raises(k3sup.K3supOSError):
                node.mark(wrong)


def test_a_service_by_commands_has_all_three(ctx, root):
    """And no name besides; an upgrade takes them with Restart.COMMANDS alone."""
    all_three = {"stop_command": "true", "start_command": "true", "status_command": "true"}
    with ctx.node(root=root) as node:
        for without in all_three:
            with pytest.raises(OSError) as refused:
                node.service(k3sup.ServiceAction.STOP, **{k: v for k, v in all_three.items() if k != without})
            assert refused.value.errno == errno.EINVAL, without
        for call in (lambda: node.service(k3sup.ServiceAction.STOP, name="k3s.service", **all_three),
                     lambda: node.service(k3sup.ServiceAction.STOP, name="../k3s"),
                     lambda: node.upgrade("/nowhere", restart=k3sup.Restart.COMMANDS),
                     lambda: node.upgrade("/nowhere", **all_three)):
            with pytest.raises(OSError) as refused:
                call()
            assert refused.value.errno == errno.EINVAL


@needs_root
def test_a_service_waits_for_the_lock(busy):
    with pytest.raises(k3sup.K3supError) as refused:
        busy.service(k3sup.ServiceAction.STOP, wait_lock=0.05, stop_command="false", start_command="false", status_command="false").wait()
    assert refused.value.code == Code.BUSY
