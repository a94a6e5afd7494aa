# SPDX-License-Identifier: Apache-2.0
"""Evidence that the scenarios can fail: each is played with a program that makes the very mistake it is about (mutant.py), and with the programs under
test spoilt in one way, and must say so at the very place where the mistake shows.
"""
import inspect
import os
import shutil

import pytest

import sandbox
import test_bad_input
import test_configuration
import test_cut_runs
import test_failing
import test_field
import test_hooks
import test_identity
import test_images
import test_prepared
import test_proof
import test_races
import test_refused
import test_rollback
import test_unpack
import test_upgrade_certs
import test_victims
from node import PROGRAM_DIR, Maker

WRAPPER = """#!/bin/sh
exec /usr/bin/python3 /mnt/programs/mutant.py %s "$@"
"""
# Does nothing, and says that all is well.
YES = """#!/bin/sh
echo '{"schema":1,"tool":"%s","exit":0,"ok":true,"changed":true,"state":"current","flags":[],"steps":[],"downtime_ms":1}'
"""
# Programs that are right but for one thing; $REAL is the right one.
SPOILT = {
    "claims success": '"$REAL" "$@" | /usr/bin/python3 -c \'import json, sys; d = json.load(sys.stdin); d.pop("error", 0); d.update(ok=True, exit=0); '
                      'print(json.dumps(d))\'\n',
    "forgets the rotation": 'for a; do shift; [ "$a" = --rotate-certs ] || set -- "$@" "$a"; done; exec "$REAL" "$@"\n',
    "forgets what was begun": 'rm -f /var/lib/k3sup/journal\nexec "$REAL" "$@"\n',
    "another key each time": 'exec "$REAL" --rotate-key $$ "$@"\n',
    "writes twice": '"$REAL" "$@"; r=$?; echo; exit $r\n',
    "leaves litter": '"$REAL" "$@"; r=$?; : >/usr/local/bin/.k3s.k3sup-tmp-0; exit $r\n',
    "touches": 'r=0; "$REAL" "$@" || r=$?; touch /etc/rancher/k3s/config.yaml; exit $r\n',
    "loses attributes": '"$REAL" "$@"; r=$?; setfattr -x user.site /usr/local/bin/k3s 2>/dev/null || chmod 0700 /usr/local/bin/k3s; exit $r\n',
    "replaces the version": '"$REAL" "$@"; r=$?; for f in /usr/local/bin/k3s-*; do cat /usr/local/bin/k3s >/mnt/out/new; cat /mnt/out/new >$f; done; exit $r\n',
    "replaces the first in PATH": '"$REAL" "$@"; r=$?; for f; do :; done; cat "$f" >/usr/local/bin/k3s; exit $r\n',
    "copies in place": 'for f; do :; done; n=$(($(stat -c %s "$f") / 2))\nuntil (head -c $n "$f" >/usr/local/bin/k3s) 2>/dev/null; do sleep 0.01; done\nsleep 0.3\n'
                       'until (tail -c +$((n + 1)) "$f" >>/usr/local/bin/k3s) 2>/dev/null; do sleep 0.01; done\n'
                       'echo \'{"schema":1,"tool":"k3sup-upgrade","exit":0,"ok":true,"changed":true,"state":"current","flags":[],"steps":[],"downtime_ms":1}\'\n',
    "restarts again": '"$REAL" "$@" >/mnt/out/real; r=$?; kill $(sed \'s/.*"running":{"pid":\\([0-9]*\\).*/\\1/\' /mnt/out/real)\n'
                      'sleep 1; cat /mnt/out/real; exit $r\n',
    "ends bystanders": '"$REAL" "$@"; r=$?; for p in /proc/[0-9]*; do case $(readlink $p/exe) in /tmp/evil/*|/usr/local/bin/zfs-driver) kill -9 ${p#/proc/};; '
                       'esac; done; exit $r\n',
    "keeps silent": '"$REAL" "$@" | /usr/bin/python3 -c \'import json, sys; d = json.load(sys.stdin); d["warnings"] = []; print(json.dumps(d))\'\n',
    "ends shims": '"$REAL" "$@"; r=$?; for p in /proc/[0-9]*; do [ "$(cat $p/comm 2>/dev/null)" != containerd-shim ] || kill -9 ${p#/proc/}; done; exit $r\n',
}
# A k3sup-status that is right but for what it makes of its own answer, d.
SPOILT_STATUS = {
    "main file only": 'import re\nd["data_dir"]["path"] = re.search("data-dir: (.*)", open("/etc/rancher/k3s/config.yaml").read())[1]',
    "default only": 'd["data_dir"].update(path="/var/lib/rancher/k3s", source="default", sources=[{"source": "default", "path": "/var/lib/rancher/k3s"}])',
    "believes the environment": 'd["data_dir"]["sources"].insert(0, {"source": "environment", "path": "/srv/k8s"})',
    "first source only": 'del d["data_dir"]["sources"][1:]',
    "shows secrets": 'd["data_dir"]["path"] = "/srv/last"\nd["service"]["target"] = "/usr/local/bin/k3s"\nd["warnings"] = [open("/etc/default/k3s").read()]',
    "believes anybody": 'd["data_dir"]["sources"] = [{"source": "unit", "path": "/srv/evil", "from": "k3s.service"}]',
}
STATUS = """#!/bin/sh
/mnt/programs/real-status "$@" >/mnt/out/status; r=$?
/usr/bin/python3 -c 'import json, sys
d = json.load(open("/mnt/out/status"))
%s
print(json.dumps(d))'
exit $r
"""


@pytest.fixture
def made_by(tmp_path):
    """Nodes on which other programs run."""
    makers = []

    def factory(kind):
        top = tmp_path / ("programs%d" % len(makers))
        top.mkdir()
        shutil.copy(os.path.join(PROGRAM_DIR, "k3sup-certs"), str(top / "k3sup-certs"))
        program = top / "k3sup-upgrade"
        if kind in SPOILT_STATUS:
            shutil.copy(os.path.join(PROGRAM_DIR, "k3sup-upgrade"), str(program))
            shutil.copy(os.path.join(PROGRAM_DIR, "k3sup-status"), str(top / "real-status"))
        elif kind in SPOILT:
            shutil.copy(os.path.join(PROGRAM_DIR, "k3sup-upgrade"), str(top / "real-upgrade"))
            program.write_text("#!/bin/sh\nREAL=/mnt/programs/real-upgrade\n" + SPOILT[kind])
        elif kind == "yes":
            program.write_text(YES % "k3sup-upgrade")
        else:
            shutil.copy(os.path.join(sandbox.HERE, "mutant.py"), str(top / "mutant.py"))
            program.write_text(WRAPPER % kind)
        program.chmod(0o755)
        if kind == "yes":
            for name in ("k3sup-status", "k3sup-certs"):
                (top / name).unlink(missing_ok=True)
                (top / name).write_text(YES % name)
                (top / name).chmod(0o755)
        elif kind in SPOILT_STATUS:
            (top / "k3sup-status").write_text(STATUS % SPOILT_STATUS[kind])
            (top / "k3sup-status").chmod(0o755)
        else:
            shutil.copy(os.path.join(PROGRAM_DIR, "k3sup-status"), str(top / "k3sup-status"))
        makers.append(Maker(str(top)))
        return makers[-1]
    yield factory
    for maker in makers:
        maker.close()


# scenario, its arguments besides the fixtures, the mistake, what the scenario must say about it
CONTROLS = [
    (test_field.test_A01_the_executable_is_not_the_installed_file, {"layout": "host"}, "exe", "installed file is not the payload"),
    (test_field.test_A02_a_parent_that_only_writes_the_log, {"era": "2021", "versions": ("v1.21.3+k3s1", "v1.21.4+k3s1")}, "ancient,no-check",
     "multiple K3s pids|installed file is not the payload"),
    (test_field.test_A06_a_bystander_that_speaks_of_k3s_and_agent, {}, "ancient", "multiple K3s pids"),
    (test_field.test_A06_a_bystander_that_speaks_of_k3s_and_agent, {}, "ends bystanders", "subscriptable|driver did not survive"),
    (test_field.test_A10_a_supervisor_that_has_k3s_and_server_in_its_arguments, {}, "ancient", "multiple K3s pids"),
    (test_field.test_A11_a_supervisor_taken_for_the_parent, {}, "parent,no-check", "installed file is not the payload"),
    (test_field.test_B01_the_new_file_is_there_and_the_old_build_runs, {}, "plain", "not the wanted build"),
    (test_field.test_B02_no_installed_file_is_not_an_equal_one, {"what": "missing", "error": "K3SUP_E_TARGET_MISSING"}, "no-check",
     "a missing file was called a success"),
    (test_field.test_B03_the_installed_file_is_a_link, {"kind": "absolute", "layout": "chroot"}, "follow", "outside the root was touched"),
    (test_field.test_B08_the_installed_file_is_being_executed, {}, "plain", "Text file busy"),
    (test_field.test_C01_success_is_a_new_process, {"pause": 2.0}, "plain", "0 k3s run|not the wanted build"),
    (test_field.test_C11_an_installer_that_saw_no_change, {}, "plain", "not the wanted build"),
    (test_field.test_full_disk, {}, "plain", "installed file was damaged"),
    (test_field.test_full_disk, {}, "leaves litter", "litter"),
    (test_field.test_F08_configuration_is_left_alone, {}, "touches", "something on disk changed"),
    (test_field.test_idempotent, {}, "restarts again", "started [23] times|starts|not restarted|k3s run"),
    (test_field.test_idempotent, {}, "writes twice", "not exactly one line"),
    (test_field.test_B17_attributes_are_kept, {}, "loses attributes", "mode was|xattrs was"),
    (test_field.test_nothing_restarts_it, {}, "claims success", "exit 0"),
    (test_proof.test_C04_a_crash_loop, {"how": {"die_after_ms@v1.30.5+k3s1": 900}}, "claims success", "exit 0"),
    (test_failing.test_B20_C04_back_to_the_build_before, {}, "plain", "exit 0"),
    (test_failing.test_C04_twenty_retries_restart_twice, {}, "plain", "exit|assert"),
    (test_failing.test_C04_however_it_dies, {"how": {"die_at_start@v1.30.5+k3s1": 7}}, "plain", "exit 0"),
    (test_failing.test_C09_ready_after_four_minutes, {}, "plain", "busy"),
    (test_failing.test_a_copy_below_the_default_data_dir_may_have_run, {}, "plain", "exit 0"),
    (test_unpack.test_B07_the_disk_is_full_while_the_new_k3s_unpacks, {"ahead": True}, "plain", "exit 0"),
    (test_unpack.test_B07_no_room_in_the_second_data_dir, {"known": True}, "any", "exit 0"),
    (test_races.test_F01_a_driver_that_is_cut_by_each_restart, {}, "plain", "assert"),
    (test_races.test_F02_again_after_success, {}, "restarts again", "started [23] times|starts|not restarted|k3s run"),
    (test_upgrade_certs.test_E05_leafs_have_expired, {}, "forgets the rotation", "client-auth-proxy"),
    (test_upgrade_certs.test_E05_an_authority_has_expired, {}, "forgets the rotation", "exit 0"),
    (test_upgrade_certs.test_E05_a_clock_that_cannot_be, {"when": "1970", "why": "before"}, "forgets the rotation", "exit 0"),
    (test_upgrade_certs.test_E11_an_authority_ends_soon, {}, "keeps silent", "exit 0"),
    (test_upgrade_certs.test_E02_a_wrong_data_dir, {}, "claims success", "exit 0"),
    (test_upgrade_certs.test_G01_configuration_that_cannot_be_told, {}, "keeps silent", "exit 0"),
    (test_upgrade_certs.test_G01_configuration_that_k3s_does_not_start_with, {"alone": False}, "claims success", "exit 0"),
    (test_upgrade_certs.test_B07_no_room_for_the_backup, {}, "claims success", "exit 0"),
    (test_upgrade_certs.test_B07_the_disk_is_full_at_the_backup, {}, "claims success", "exit 0"),
    (test_upgrade_certs.test_E06_copies_of_before, {}, "forgets the rotation", "client-auth-proxy"),
    (test_upgrade_certs.test_F01_cut_by_the_start_that_it_causes, {}, "another key each time", "stop"),
    (test_prepared.test_k3s_was_stopped, {}, "keeps silent", "exit 0"),
    (test_prepared.test_certificates_were_taken_away, {"role": "server"}, "keeps silent", "is missing"),
    (test_prepared.test_the_file_was_replaced, {}, "keeps silent", "exit 0"),
    (test_hooks.test_B10_a_downgrade_is_refused_before_the_cordon, {}, "plain", "exit 0"),
    (test_hooks.test_F06_the_quorum_is_asked_before_the_stop, {}, "plain", "exit 0"),
    (test_proof.test_C09_slow_to_be_ready, {}, "plain", "KeyError|not the wanted build|0 k3s run|starts|exit 0"),
    (test_proof.test_C09_never_ready, {}, "claims success", "exit 0"),
    (test_proof.test_probe_answered_by_somebody_else, {}, "claims success", "exit 0"),
    (test_proof.test_health_command, {}, "claims success", "exit 0"),
    (test_victims.test_impostors_beside_the_real_one, {}, "ancient", "multiple K3s pids"),
    (test_victims.test_impostors_beside_the_real_one, {}, "ends bystanders", "was ended"),
    (test_identity.test_A14_short_lived_commands, {}, "ancient", "multiple K3s pids"),
    (test_identity.test_A15_a_file_of_another_name, {}, "plain", "exit 1"),
    (test_identity.test_A18_rootless, {}, "ancient", "exit [01]"),
    (test_bad_input.test_payload, {"what": "text"}, "plain", "exit 0"),
    (test_bad_input.test_target, {"what": "directory anybody may write"}, "touches", "something on disk changed"),
    (test_bad_input.test_usage, {"what": "unknown option"}, "plain", "exit 1"),
    (test_cut_runs.test_F06_five_at_once, {}, "plain", "exit 0"),
    (test_cut_runs.test_B20_killed_between_swap_and_signal, {}, "forgets what was begun", "False is True"),
    (test_cut_runs.test_B20_killed_after_the_signal, {}, "forgets what was begun", "exit 0"),
    (test_refused.test_B09_another_architecture, {}, "plain", "exit 0"),
    (test_refused.test_B10_an_older_patch, {}, "plain", "exit 0"),
    (test_refused.test_B12_a_skipped_minor, {}, "plain", "exit 0"),
    (test_refused.test_B14_an_older_packaging, {}, "plain", "exit 0"),
    (test_refused.test_B04_a_store_of_the_operating_system, {"how": "writable"}, "plain", "exit 0|exit 1"),
    (test_refused.test_B05_B18_the_mount_does_not_allow_it, {"flag": 1, "name": "K3SUP_E_TARGET_READONLY", "check": "read-only"}, "plain", "exit 1"),
    (test_refused.test_B05_B18_the_mount_does_not_allow_it, {"flag": 8, "name": "K3SUP_E_TARGET_NOEXEC", "check": "noexec"}, "plain", "exit 0"),
    (test_refused.test_B10_an_older_patch, {}, "touches", "something on disk changed"),
    (test_refused.test_B15_a_newer_minor_that_is_an_older_build, {"ahead": True}, "plain", "exit 0"),
    (test_refused.test_B15_versions_are_compared_as_numbers, {}, "plain", "exit 0|exit 1"),
    (test_refused.test_G05_the_copy_that_runs, {"path": "/opt/bin/k3s", "layout": "host"}, "replaces the first in PATH",
     "stale copy was touched|state ambiguous"),
    (test_identity.test_G05_the_copy_that_the_unit_starts, {}, "replaces the first in PATH", "stale copy was touched"),
    (test_bad_input.test_B18_target_is_immutable, {"what": "file"}, "plain", "exit 1"),
    (test_rollback.test_B03_a_versioned_layout, {"layout": "host"}, "replaces the version", "old version was touched"),
    (test_cut_runs.test_B19_whoever_executes_it_meanwhile, {}, "copies in place", "Error"),
    (test_victims.test_A03_a_title_with_cluster_init, {}, "init", "No K3s pids"),
    (test_victims.test_A05_options_before_the_command, {"args": ("--debug", "server")}, "tight", "No K3s pids"),
    (test_victims.test_A07_a_k3s_in_a_container, {"unshare": ("-m",)}, "plain", "exit [01]"),
    (test_identity.test_A07_private_mounts, {"by": "nobody"}, "plain", "exit 0"),
    (test_bad_input.test_A09_two_servers, {}, "any", "exit 0"),
    (test_bad_input.test_A09_server_and_agent_of_one_file, {}, "any", "not the wanted build|not restarted|k3s run"),
    (test_identity.test_A09_two_servers_are_listed_with_their_units, {}, "any", "exit 0"),
    (test_field.test_A13_bystanders_that_speak_of_k3s_and_server, {}, "plain", "multiple K3s pids"),
    (test_victims.test_A17_the_running_program_was_deleted, {}, "exe", "does not exist"),
    (test_victims.test_A19_k3s_is_process_1, {}, "exe", "exit 0|not exactly one line"),
    (test_identity.test_A19_a_container_declared_as_the_node, {}, "exe", "outlived|content"),
    (test_field.test_A20_the_gap_after_the_kill, {}, "plain", "exit 1"),
    (test_field.test_C02_a_service_of_openrc_without_a_supervisor, {}, "plain", "exit 0"),
    (test_field.test_C08_what_k3s_started_outlives_it, {}, "ends shims", "shims were ended"),
    (test_configuration.test_G01_configuration_files_are_merged_as_k3s_merges_them, dict(zip(("what", "files", "path"), test_configuration.MERGES[0])),
     "main file only", "/a"),
    (test_configuration.test_G02_each_source_of_the_data_dir, {"way": "drop-in"}, "default only", "default"),
    (test_configuration.test_G02_the_environment_before_july_2024, {}, "believes the environment", "environment"),
    (test_configuration.test_G02_what_disagrees_is_reported_with_all_sources, {}, "first source only", "/mnt/unit"),
    (test_configuration.test_G04_all_files_that_a_unit_lists_are_read_and_no_secret_is_shown, {}, "shows secrets", "sesame"),
    (test_configuration.test_G04_all_files_that_a_unit_lists_are_read_and_no_secret_is_shown, {}, "default only", "/srv/last"),
    (test_configuration.test_G04_the_environment_of_an_init_script, {}, "default only", "/srv/last"),
    (test_configuration.test_G04_a_unit_that_others_can_write_says_nothing, {}, "believes anybody", "/srv/evil"),
]


@pytest.mark.parametrize("scenario, arguments, mistake, says", CONTROLS, ids=["%s-%s" % (c[0].__name__.split("_")[1], c[2]) for c in CONTROLS])
def test_the_mistake_is_found(request, made_by, scenario, arguments, mistake, says):
    with pytest.raises((AssertionError, TypeError), match=says):
        play(request, made_by(mistake), scenario, arguments)


def play(request, make, scenario, arguments):
    wanted = {n: request.getfixturevalue(n) for n in inspect.signature(scenario).parameters if n not in arguments and n != "make"}
    scenario(make=make, **dict(wanted, **arguments))


def every_scenario():
    """All of them, each with its first arguments."""
    for module in (test_field, test_proof, test_bad_input, test_victims, test_cut_runs, test_refused, test_rollback, test_images, test_identity,
                   test_configuration, test_failing, test_hooks, test_unpack, test_prepared, test_upgrade_certs):
        for name, function in vars(module).items():
            if name.startswith("test_") and "make" in inspect.signature(function).parameters:
                arguments = {}
                for mark in getattr(function, "pytestmark", []):
                    names, values = [n.strip() for n in mark.args[0].split(",")], list(mark.args[1])[0]
                    arguments.update(zip(names, values if len(names) > 1 else [values]))
                yield pytest.param(function, arguments, id=name[len("test_"):])


@pytest.mark.parametrize("scenario, arguments", every_scenario())
def test_doing_nothing_is_found(request, monkeypatch, made_by, scenario, arguments):
    """No scenario is content with programs that do nothing and say that all is well."""
    monkeypatch.setattr(sandbox, "PATIENCE", 0.1)
    with pytest.raises((AssertionError, KeyError, TypeError)):
        play(request, made_by("yes"), scenario, arguments)
