# SPDX-License-Identifier: Apache-2.0
import ctypes
from typing import TYPE_CHECKING, Any, Dict, Optional, Sequence, Union

from . import _ffi
from ._core import Handle, Path, Payload, encode_list, encode_opt, ms, payload_of
from ._ffi import lib, ptr
from .constants import (CERTS_CHECK_AT, CERTS_CHECK_WIRE, NODE_ALLOW_GROUP_WRITABLE, NODE_IS_CONTAINER, ROTATE_DRY_RUN, ROTATE_IF_WITHIN,
                        STAGE_COMMIT, STAGE_RESTORE, SWAP_CHECK_ARCHIVE, SWAP_PAYLOAD_FD, SWAP_RUN_VERSION, UNPACK_PAYLOAD_FD, UPGRADE_ALLOW_DOWNGRADE,
                        UPGRADE_ALLOW_PACKAGE_OWNED, UPGRADE_ALLOW_SKIP_MINOR, UPGRADE_CHECK, UPGRADE_DRY_RUN, UPGRADE_NO_UNPACK_AHEAD,
                        UPGRADE_PAYLOAD_FD, UPGRADE_RETRY_FAILED, UPGRADE_ROLLBACK, UPGRADE_ROTATE_CERTS, UPGRADE_RUN_VERSION, Probe, Restart, Rollback,
                        ServiceAction)
from .op import Op
from .process import Process

if TYPE_CHECKING:
    from .context import Context


class Node(Handle):
    """One host as the library sees it. `root` and `proc` are your paths; the others are inside the root.

    Times are seconds; None is for ever.
    """

    def __init__(self, context: "Context", *, root: Optional[Path] = None, proc: Optional[Path] = None, data_dir: Optional[Path] = None,
                 k3s: Optional[Path] = None, state_dir: Optional[Path] = None, allow_group_writable: bool = False,
                 is_container: bool = False) -> None:
        flags = (NODE_ALLOW_GROUP_WRITABLE if allow_group_writable else 0) | (NODE_IS_CONTAINER if is_container else 0)
        opts = _ffi.NodeOpts(flags=flags, root=encode_opt(root), proc=encode_opt(proc),
                             data_dir=encode_opt(data_dir), k3s=encode_opt(k3s), state_dir=encode_opt(state_dir))
        ret = ptr()
        with context._core as core:
            lib.k3sup_node_new(context._ptr, ctypes.byref(opts), ctypes.byref(ret))
            super().__init__(core, ret.value, lib.k3sup_node_unref)
        self._context = context

    def _start(self, verb: Any, opts: _ffi.Sized) -> Op:
        ret = ptr()
        with self._core:
            verb(self._ptr, ctypes.byref(opts), ctypes.byref(ret))
            return Op(self._context, self, ret.value)

    def lock(self) -> bool:
        """Take the node's lock, so that several verbs run as one. False: this handle held it already."""
        with self._core:
            return bool(lib.k3sup_node_lock(self._ptr))

    def unlock(self) -> bool:
        """Give it back. False: this handle did not hold it."""
        with self._core:
            return bool(lib.k3sup_node_unlock(self._ptr))

    def mark(self, key: str) -> bool:
        """Remember that a step of the caller's own is done. False: it was marked before."""
        with self._core:
            return bool(lib.k3sup_node_mark(self._ptr, encode_opt(key)))

    def marked(self, key: str) -> int:
        """Is it? 0: no, MARKED: in this boot, MARKED_EARLIER: the node was booted since."""
        with self._core:
            return int(lib.k3sup_node_marked(self._ptr, encode_opt(key)))

    def state(self, payload: Optional[Path] = None, *, sha256: Optional[str] = None, sums: Optional[Path] = None,
              signature: Optional[Path] = None, key: Optional[Path] = None, expect_version: Optional[str] = None) -> Op:
        """What is the state of this node, and how does it compare with a payload? Changes nothing.

        What the payload has to be: as in swap().
        """
        return self._start(lib.k3sup_state, _ffi.StateOpts(
            payload=encode_opt(payload), **_terms(sha256, sums, signature, key, expect_version)))

    def identify(self) -> Op:
        """Which processes are this node's k3s? They are in the operation's `processes`."""
        return self._start(lib.k3sup_identify, _ffi.IdentifyOpts())

    def certs_check(self, *, services: Sequence[str] = (), kubeconfigs: Union[Path, Sequence[Path]] = (), at: Optional[float] = None,
                    k3s_version: Optional[str] = None, warn_days: int = 0, wire: bool = False) -> Op:
        """Which certificates are there, and are they well? Changes nothing.

        `services` in k3s's words; `kubeconfigs`: more of them to look into; `at`: as if it were this time (seconds since 1970);
        `wire`: also look at what the running k3s serves.
        """
        flags = (0 if at is None else CERTS_CHECK_AT) | (CERTS_CHECK_WIRE if wire else 0)
        opts = _ffi.CertsCheckOpts(flags=flags, at=int(at or 0), k3s_version=encode_opt(k3s_version),
                                   services=encode_list(services), kubeconfigs=encode_list(kubeconfigs), warn_days=warn_days)
        return self._start(lib.k3sup_certs_check, opts)

    def certs_retire(self, *, services: Sequence[str] = (), keep: int = 0, keep_days: int = 0) -> Op:
        """Keep the leaf certificates in a backup, then take them away: the next start of k3s makes new ones. Refused while k3s runs.

        `keep` backups (0: 5), none older than `keep_days` (0: for ever).
        """
        return self._start(lib.k3sup_certs_retire, _ffi.CertsRetireOpts(services=encode_list(services), keep=keep, keep_days=keep_days))

    def rotate(self, key: Optional[str] = None, *, if_within_days: Optional[int] = None, services: Sequence[str] = (), dry_run: bool = False,
               restart: Restart = Restart.AUTO, timeout: Optional[float] = 900.0, wait_lock: Optional[float] = 0.0, stable: float = 20.0,
               guard_delay: Optional[float] = 30.0, probe: Probe = Probe.AUTO, health: Optional[str] = None, keep: int = 0,
               keep_days: int = 0, stop_command: Optional[str] = None, start_command: Optional[str] = None,
               status_command: Optional[str] = None, before_write: Optional[str] = None, before_stop: Optional[str] = None) -> Op:
        """New leaf certificates: k3s is stopped, they are retired, k3s is started and has to make, and serve, new ones.

        Under one `key` everything is replaced once; with `if_within_days` only if something ends within that time. `keep` and `keep_days`
        as in certs_retire(), `guard_delay` and the commands as in service(), the rest as in upgrade().
        """
        flags = (0 if if_within_days is None else ROTATE_IF_WITHIN) | (ROTATE_DRY_RUN if dry_run else 0)
        opts = _ffi.RotateOpts(flags=flags, key=encode_opt(key), if_within_days=if_within_days or 0, services=encode_list(services),
                               restart=restart, timeout_ms=ms(timeout), wait_lock_ms=ms(wait_lock, least=0), stable_ms=_stable(stable),
                               guard_delay_ms=ms(guard_delay), probe=probe, health=encode_opt(health), keep=keep, keep_days=keep_days,
                               before_write=encode_opt(before_write), before_stop=encode_opt(before_stop),
                               **_commands(stop_command, start_command, status_command))
        return self._start(lib.k3sup_rotate, opts)

    def certs_restore(self, backup: str) -> Op:
        """Make the leafs of this backup the live ones again. Refused while k3s runs."""
        return self._start(lib.k3sup_certs_restore, _ffi.CertsRestoreOpts(backup=encode_opt(backup)))

    def certs_backups(self) -> Op:
        """Which backups of certificates are there? Ours, newest first, then those that k3s made."""
        return self._start(lib.k3sup_certs_backups, _ffi.CertsBackupsOpts())

    def signal(self, process: Process, signo: int = 0) -> Op:
        """Send one signal (0: SIGTERM) to exactly this process."""
        with process._lock:
            return self._start(lib.k3sup_signal, _ffi.SignalOpts(process=process._ptr, signo=signo))

    def wait_exit(self, process: Process, *, timeout: Optional[float] = None) -> Op:
        """Until this process has ended."""
        with process._lock:
            return self._start(lib.k3sup_wait_exit, _ffi.WaitExitOpts(process=process._ptr, timeout_ms=ms(timeout)))

    def wait_running(self, *, timeout: Optional[float] = 900.0, stable: float = 20.0, previous: Optional[Process] = None,
                     asset_hash: Optional[str] = None, probe: Probe = Probe.AUTO, health: Optional[str] = None) -> Op:
        """Until k3s runs, is the wanted build (any, if no hash is given), has stayed for `stable` seconds and is ready.

        `probe` says how it is asked, `health` is a command for /bin/sh that has to end with 0.
        """
        opts = _ffi.WaitRunningOpts(timeout_ms=ms(timeout), stable_ms=_stable(stable), asset_hash=encode_opt(asset_hash), probe=probe,
                                    health=encode_opt(health))
        if previous is None:
            return self._start(lib.k3sup_wait_running, opts)
        with previous._lock:
            opts.previous = previous._ptr
            return self._start(lib.k3sup_wait_running, opts)

    def service(self, action: ServiceAction = ServiceAction.STATUS, *, name: Optional[str] = None, timeout: Optional[float] = 900.0,
                wait_lock: Optional[float] = 0.0, stable: float = 20.0, guard_delay: Optional[float] = 30.0,
                stop_command: Optional[str] = None, start_command: Optional[str] = None, status_command: Optional[str] = None) -> Op:
        """The service that runs k3s: what it is, its stop, start or restart, each until it is so ("/services").

        A stop arms a start guard, which starts k3s again after `guard_delay` seconds (None: there is none) unless a start has disarmed it.
        The three commands stand for the service where no manager that is known here owns k3s.
        """
        return self._start(lib.k3sup_service, _ffi.ServiceOpts(
            timeout_ms=ms(timeout), wait_lock_ms=ms(wait_lock, least=0), stable_ms=_stable(stable),
            guard_delay_ms=ms(guard_delay), name=encode_opt(name), action=action,
            **_commands(stop_command, start_command, status_command)))

    def swap(self, payload: Payload, *, wait_lock: Optional[float] = 0.0, allow_downgrade: bool = False, allow_skip_minor: bool = False,
             allow_package_owned: bool = False, sha256: Optional[str] = None, sums: Optional[Path] = None,
             signature: Optional[Path] = None, key: Optional[Path] = None, expect_version: Optional[str] = None,
             server_version: Optional[str] = None, check_archive: bool = False, run_version: bool = False, keep_backups: int = 1) -> Op:
        """Make the installed k3s file be the payload (a path, a descriptor, an open file; plain or gzip). Nothing is restarted.

        `sha256`, `sums` (a list) and `signature` with `key` say which bytes it must be, `expect_version` which version.
        `server_version`: of this agent's server, which the payload must not exceed. `run_version`: a sealed copy is run with --version,
        confined, and must agree. `check_archive`: without them, the archive inside must at least have the SHA-256 that it is named by. So many builds as
        `keep_backups` says are kept of those that were installed before.
        """
        path, fd, flags = payload_of(payload, SWAP_PAYLOAD_FD)
        flags |= _allowed(allow_downgrade, allow_skip_minor, allow_package_owned) | (SWAP_CHECK_ARCHIVE if check_archive else 0)
        flags |= SWAP_RUN_VERSION if run_version else 0
        return self._start(lib.k3sup_swap, _ffi.SwapOpts(
            flags=flags, payload=path, payload_fd=fd, wait_lock_ms=ms(wait_lock, least=0), keep_backups=_count(keep_backups),
            **_terms(sha256, sums, signature, key, expect_version), server_version=encode_opt(server_version)))

    def stage(self, files: Union[Path, Sequence[Path]] = (), *, commit: bool = False, restore: bool = False,
              wait_lock: Optional[float] = 0.0, sha256: Optional[str] = None, sums: Optional[Path] = None,
              signature: Optional[Path] = None, key: Optional[Path] = None) -> Op:
        """Put files (image tarballs) into the data-dir's agent/images, under their own names, before k3s is restarted.

        Old versions are kept until `commit`: the new k3s has proved to run; or `restore` puts them back. `sha256` is of the only file;
        `sums` (a list) has to name each of them, `signature` with `key` is over the list.
        """
        return self._start(lib.k3sup_stage, _ffi.StageOpts(
            flags=(STAGE_COMMIT if commit else 0) | (STAGE_RESTORE if restore else 0), wait_lock_ms=ms(wait_lock, least=0),
            files=encode_list(files), sha256=encode_opt(sha256), sums=encode_opt(sums), signature=encode_opt(signature),
            key=encode_opt(key)))

    def unpack(self, payload: Optional[Payload] = None, *, timeout: Optional[float] = 900.0, wait_lock: Optional[float] = 0.0,
               sha256: Optional[str] = None, sums: Optional[Path] = None, signature: Optional[Path] = None, key: Optional[Path] = None,
               expect_version: Optional[str] = None) -> Op:
        """Have the payload (None: the installed k3s) unpack itself into the data-dir, whole and on disk, as it would at its start ("/unpacked").

        What is there already is compared with its own lists; a torn one that nobody uses is put aside and unpacked anew. What the payload has
        to be: as in swap(). It is executed, chrooted into the node's root.
        """
        path, fd, flags = payload_of(payload, UNPACK_PAYLOAD_FD) if payload is not None else (None, -1, 0)
        return self._start(lib.k3sup_unpack, _ffi.UnpackOpts(
            flags=flags, payload=path, payload_fd=fd, timeout_ms=ms(timeout), wait_lock_ms=ms(wait_lock, least=0),
            **_terms(sha256, sums, signature, key, expect_version)))

    def swap_rollback(self, *, wait_lock: Optional[float] = 0.0, allow_package_owned: bool = False, sha256: Optional[str] = None,
                      expect_version: Optional[str] = None) -> Op:
        """Make the installed k3s file be the backup again, which must be what was recorded when it was kept, or `sha256`."""
        return self._start(lib.k3sup_swap_rollback, _ffi.SwapRollbackOpts(
            flags=_allowed(False, False, allow_package_owned), wait_lock_ms=ms(wait_lock, least=0), sha256=encode_opt(sha256),
            expect_version=encode_opt(expect_version)))

    def swap_backups(self, *, keep: Optional[int] = None, wait_lock: Optional[float] = 0.0) -> Op:
        """Which builds are kept ("/backups")? With `keep` those of ours that are too many are removed; without, nothing is changed."""
        return self._start(lib.k3sup_swap_backups, _ffi.SwapBackupsOpts(keep=0 if keep is None else _count(keep),
                                                                        wait_lock_ms=ms(wait_lock, least=0)))

    def upgrade(self, payload: Payload, *, timeout: Optional[float] = 900.0, wait_lock: Optional[float] = 0.0, stable: float = 20.0,
                restart: Restart = Restart.AUTO, check: bool = False, allow_downgrade: bool = False, allow_skip_minor: bool = False,
                allow_package_owned: bool = False, sha256: Optional[str] = None, sums: Optional[Path] = None,
                signature: Optional[Path] = None, key: Optional[Path] = None, expect_version: Optional[str] = None,
                server_version: Optional[str] = None, run_version: bool = False,
                probe: Probe = Probe.AUTO, health: Optional[str] = None, images: Union[Path, Sequence[Path]] = (),
                before_write: Optional[str] = None, before_stop: Optional[str] = None, keep_backups: int = 1,
                guard_delay: Optional[float] = 30.0, stop_command: Optional[str] = None, start_command: Optional[str] = None,
                status_command: Optional[str] = None, unpack_ahead: bool = True,
                rollback: Rollback = Rollback.AUTO, retry_failed: bool = False, dry_run: bool = False, rotate_certs: bool = False,
                rotate_key: Optional[str] = None) -> Op:
        """Make the running k3s be the payload's build, proven when it has stayed for `stable` seconds and is ready. `timeout` bounds everything.

        `check`: only decide whether that would be refused ("/checks"), without a lock and without changing anything. What the payload
        has to be: as in swap(). `probe` and `health`: as in wait_running(). `images`: files for agent/images, put in place before the
        restart, as by stage(); with `sums` each has to be listed. `before_write` and `before_stop`: commands for /bin/sh that have to end
        with 0 before anything is written, and, when all is staged, before the swap and the restart. `keep_backups`: as in swap().
        The commands go with Restart.COMMANDS, and mean the same as in service();
        `guard_delay`: when the start guard starts a k3s that was stopped so (None: there is none).
        `unpack_ahead`: the payload unpacks itself into the data-dir while the old k3s runs, as by unpack().
        `rollback`: what becomes of a new build that ends again and again; such a payload is refused from then on but for `retry_failed`.
        `dry_run`: as `check`, and "/plan" says each step; the status is 1 if there is one.
        `rotate_certs`: and new leaf certificates, as by rotate(), in the same restart; once under one `rotate_key` (None: the payload's SHA-256).
        """
        path, fd, flags = payload_of(payload, UPGRADE_PAYLOAD_FD)
        flags |= _allowed(allow_downgrade, allow_skip_minor, allow_package_owned) | (UPGRADE_CHECK if check else 0)
        flags |= (UPGRADE_RUN_VERSION if run_version else 0) | (0 if unpack_ahead else UPGRADE_NO_UNPACK_AHEAD)
        flags |= UPGRADE_RETRY_FAILED if retry_failed else 0
        flags |= (UPGRADE_DRY_RUN if dry_run else 0) | (UPGRADE_ROTATE_CERTS if rotate_certs else 0)
        return self._start(lib.k3sup_upgrade, _ffi.UpgradeOpts(
            flags=flags, payload=path, payload_fd=fd, timeout_ms=ms(timeout), wait_lock_ms=ms(wait_lock, least=0),
            stable_ms=_stable(stable), restart=restart, probe=probe, health=encode_opt(health), images=encode_list(images),
            before_write=encode_opt(before_write), before_stop=encode_opt(before_stop), rollback=rollback,
            **_terms(sha256, sums, signature, key, expect_version), server_version=encode_opt(server_version),
            keep_backups=_count(keep_backups), rotate_key=encode_opt(rotate_key),
            guard_delay_ms=ms(guard_delay), **_commands(stop_command, start_command, status_command)))

    def rollback(self, *, timeout: Optional[float] = 900.0, wait_lock: Optional[float] = 0.0, stable: float = 20.0,
                 restart: Restart = Restart.AUTO, probe: Probe = Probe.AUTO, health: Optional[str] = None, check: bool = False,
                 allow_package_owned: bool = False, sha256: Optional[str] = None, expect_version: Optional[str] = None,
                 before_write: Optional[str] = None, before_stop: Optional[str] = None,
                 guard_delay: Optional[float] = 30.0, stop_command: Optional[str] = None, start_command: Optional[str] = None,
                 status_command: Optional[str] = None, unpack_ahead: bool = True) -> Op:
        """As upgrade(), back to the backup: the installed file is that again, and it runs. What the backup has to be: as in swap_rollback()."""
        flags = UPGRADE_ROLLBACK | _allowed(False, False, allow_package_owned) | (UPGRADE_CHECK if check else 0)
        flags |= 0 if unpack_ahead else UPGRADE_NO_UNPACK_AHEAD
        return self._start(lib.k3sup_upgrade, _ffi.UpgradeOpts(
            flags=flags, timeout_ms=ms(timeout), wait_lock_ms=ms(wait_lock, least=0), stable_ms=_stable(stable), restart=restart,
            probe=probe, health=encode_opt(health), sha256=encode_opt(sha256), expect_version=encode_opt(expect_version),
            before_write=encode_opt(before_write), before_stop=encode_opt(before_stop),
            guard_delay_ms=ms(guard_delay), **_commands(stop_command, start_command, status_command)))


def _commands(stop: Optional[str], start: Optional[str], status: Optional[str]) -> Dict[str, Optional[bytes]]:
    return {"stop_command": encode_opt(stop), "start_command": encode_opt(start), "status_command": encode_opt(status)}


def _terms(sha256: Optional[str], sums: Optional[Path], signature: Optional[Path], key: Optional[Path],
           expect_version: Optional[str]) -> Dict[str, Optional[bytes]]:
    return {"sha256": encode_opt(sha256), "sums": encode_opt(sums), "signature": encode_opt(signature), "key": encode_opt(key),
            "expect_version": encode_opt(expect_version)}


def _allowed(downgrade: bool, skip_minor: bool, package_owned: bool) -> int:
    """The same numbers for swap and upgrade."""
    return ((UPGRADE_ALLOW_DOWNGRADE if downgrade else 0) | (UPGRADE_ALLOW_SKIP_MINOR if skip_minor else 0)
            | (UPGRADE_ALLOW_PACKAGE_OWNED if package_owned else 0))


def _count(number: int) -> int:
    if not 1 <= number < 1 << 32:
        raise ValueError("at least 1, not %r" % number)
    return number


def _stable(seconds: float) -> int:
    return ms(seconds) if seconds > 0 else -1  # C reads 0 as its default; "being there once is enough" is -1
