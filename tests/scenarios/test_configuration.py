# SPDX-License-Identifier: Apache-2.0
"""Where k3s's settings come from: G01, G02, G04 of the catalogue. Told by `k3sup-status --json`: data_dir with all its sources, and service."""
import pytest

CONFIG = "/etc/rancher/k3s/config.yaml"
DEFAULT = "/var/lib/rancher/k3s"
UNIT = "/etc/systemd/system/k3s.service"


def write(node, files):
    for path, text in files.items():
        node.sb.makedirs(path.rsplit("/", 1)[0])
        node.sb.write(path, text, 0o600)


def unit(command="server", more=""):
    return "[Service]\nType=notify\nKillMode=process\nRestart=always\n%sExecStart=/usr/local/bin/k3s \\\n    %s\n" % (more, command)


def sources(answer):
    return [(s["source"], s["path"]) for s in answer["data_dir"]["sources"]]


MERGES = [
    ("replace", {CONFIG: "data-dir: /a\n", CONFIG + ".d/10.yaml": "data-dir: /b\n"}, "/b"),
    ("in the order of names", {CONFIG + ".d/20.yaml": "data-dir: /b\n", CONFIG + ".d/10.yaml": "data-dir: /a\n"}, "/b"),
    ("append to a scalar: the last one counts", {CONFIG: "data-dir: /a\n", CONFIG + ".d/10.yaml": "data-dir+: /b\n"}, "/b"),
    ("append to nothing", {CONFIG + ".d/10.yaml": "data-dir+: /b\n"}, "/b"),
    ("a list", {CONFIG: "data-dir: [/a, /b]\n"}, "/b"),
    ("upper case", {CONFIG: "data-dir: /a\n", CONFIG + ".d/10.YML": "data-dir: /b\n"}, "/b"),
    ("another suffix", {CONFIG: "data-dir: /a\n", CONFIG + ".d/10.yaml.bak": "data-dir: /b\n"}, "/a"),
    ("a directory", {CONFIG: "data-dir: /a\n", CONFIG + ".d/10.yaml/x.yaml": "data-dir: /b\n"}, "/a"),
    ("one letter", {CONFIG: "d: /a\n"}, "/a"),
    ("a file that the unit names", {UNIT: unit("server -c /srv/x.yaml"), CONFIG: "data-dir: /a\n", "/srv/x.yaml.d/1.yml": "data-dir: /b\n"}, "/b"),
    ("the environment names another", {UNIT: unit("server -c /srv/x.yaml", "Environment=K3S_CONFIG_FILE=/srv/y.yaml\n"),
                                       "/srv/x.yaml": "data-dir: /a\n", "/srv/y.yaml": "data-dir: /b\n"}, "/b"),
]


@pytest.mark.parametrize("what, files, path", MERGES, ids=[m[0].replace(" ", "-") for m in MERGES])
def test_G01_configuration_files_are_merged_as_k3s_merges_them(make, old, what, files, path):
    """A main file and drop-ins in the order of their names: the later one replaces, KEY+ appends, other names and directories do not count.

    k3sup-status: data_dir.path is what the next start would use, data_dir.source config.
    """
    node = make()
    node.install(old)
    write(node, files)

    answer = node.status()

    assert answer["state"] == "not-running"
    assert answer["data_dir"]["path"] == path and answer["data_dir"]["source"] == "config", answer["data_dir"]


# what the unit and the configuration say, how k3s is started by hand accordingly, what is expected before and after the start
WAYS = {
    "command-line": ({UNIT: unit("server --data-dir /srv/k8s"), CONFIG: "data-dir: /mnt/decoy\n"}, ["--data-dir", "/srv/k8s"], {}, "unit", "/srv/k8s"),
    "config": ({UNIT: unit(), CONFIG: "data-dir: /srv/k8s\n"}, [], {}, "config", "/srv/k8s"),
    "drop-in": ({UNIT: unit(), CONFIG: "token: x\n", CONFIG + ".d/x.yaml": "data-dir: /srv/k8s\n"}, [], {}, "config", "/srv/k8s"),
    "environment": ({UNIT: unit(more="EnvironmentFile=-/etc/default/%N\n"), "/etc/default/k3s": "K3S_DATA_DIR='/srv/k8s'\n"}, [],
                    {"K3S_DATA_DIR": "/srv/k8s"}, "environment", "/srv/k8s"),
}


@pytest.mark.parametrize("way", sorted(WAYS))
def test_G02_each_source_of_the_data_dir(make, old, way):
    """The data-dir may be given in four ways; a decoy lies in the default place.

    k3sup-status before the start: the source and what it says. While k3s runs: source process, the same directory, and no disagreement.
    """
    files, args, env, source, path = WAYS[way]
    node = make()
    node.install(old)
    write(node, files)
    node.sb.makedirs(DEFAULT + "/server/tls")

    before = node.status()
    node.start("server", *args, env=env)
    after = node.status()

    assert before["data_dir"]["source"] == source and before["data_dir"]["path"] == path, before["data_dir"]
    assert before["service"]["name"] == "k3s.service" and before["service"]["fragment"] == UNIT and before["service"]["manager"] == "systemd"
    assert sources(after)[0] == ("process", path) and after["data_dir"]["path"] == path
    assert {s[1] for s in sources(after) if s[0] == source} == {path}
    said = [w for w in after.json.get("warnings", []) if "data-dir" in w]
    assert len(said) == (1 if way == "command-line" else 0), said  # the decoy in the configuration


def test_G02_the_environment_before_july_2024(make, standin):
    """Releases before v1.30.3 and its like do not read K3S_DATA_DIR for this; they use it for something else.

    k3sup-status: data_dir is the default, before the start and after it, and a warning tells of the variable.
    """
    node = make()
    node.install(standin("v1.26.9+k3s1", "2023"))
    write(node, {UNIT: unit(more="Environment=K3S_DATA_DIR=/srv/k8s\n")})

    before = node.status()
    node.start("server", env={"K3S_DATA_DIR": "/srv/k8s"})
    after = node.status()

    assert sources(before) == [("default", DEFAULT)]
    assert after["data_dir"]["path"] == DEFAULT and after["data_dir"]["source"] == "process"
    for answer in (before, after):
        assert [w for w in answer["warnings"] if "K3S_DATA_DIR" in w]


def test_G02_what_disagrees_is_reported_with_all_sources(make, old):
    """k3s was started in one directory, and its unit and configuration have been changed since.

    k3sup-status: the running one counts; all others are listed with where they are said, and are warnings.
    """
    node = make()
    node.install(old)
    node.start("server", "--data-dir", "/srv/k8s")
    write(node, {UNIT: unit("server -d /mnt/unit"), CONFIG: "d: /mnt/config\n"})

    answer = node.status()

    assert answer["data_dir"]["sources"] == [
        {"source": "process", "path": "/srv/k8s"},
        {"source": "unit", "path": "/mnt/unit", "from": "k3s.service"},
        {"source": "config", "path": "/mnt/config", "from": CONFIG}]
    for path in ("/mnt/unit", "/mnt/config"):
        assert [w for w in answer["warnings"] if path in w and "/srv/k8s" in w], answer["warnings"]


def test_G04_all_files_that_a_unit_lists_are_read_and_no_secret_is_shown(make, old):
    """Settings sit in /etc/default, /etc/sysconfig, beside the unit; the last file wins.

    k3sup-status: data_dir from the last of them, service.environment_files lists those that are there; no value of theirs is printed.
    """
    node = make()
    node.install(old)
    write(node, {
        UNIT: unit("server --token sesame3", "EnvironmentFile=-/etc/default/%N\nEnvironmentFile=-/etc/sysconfig/%N\nEnvironmentFile=-" + UNIT + ".env\n"),
        "/etc/default/k3s": "K3S_DATA_DIR=/srv/first\nK3S_TOKEN=sesame1\n", UNIT + ".env": "K3S_TOKEN='sesame2'\nK3S_DATA_DIR=\"/srv/last\"\n",
        UNIT + ".d/10-x.conf": "[Service]\nEnvironment=K3S_DATA_DIR=/srv/never\n"})

    answer = node.status()

    assert answer["data_dir"]["path"] == "/srv/last" and answer["data_dir"]["source"] == "environment"
    assert answer["service"]["environment_files"] == ["/etc/default/k3s", UNIT + ".env"]
    assert answer["service"]["fragment"] == UNIT and answer["service"]["drop_ins"] == [UNIT + ".d/10-x.conf"]
    assert answer["service"]["target"] == "/usr/local/bin/k3s" and answer["service"]["role"] == "server"
    assert "sesame" not in repr(answer)


def test_G04_the_environment_of_an_init_script(make, old):
    """Under OpenRC they come from /etc/environment and /etc/rancher/k3s/NAME.env, which the script sources.

    k3sup-status: service.manager openrc, data_dir from the last file.
    """
    node = make()
    node.install(old)
    write(node, {"/etc/environment": "K3S_DATA_DIR=/srv/first\n", "/etc/rancher/k3s/k3s.env": "K3S_DATA_DIR='/srv/last'\n"})
    node.sb.makedirs("/etc/init.d")
    node.sb.write("/etc/init.d/k3s", "#!/sbin/openrc-run\n\nsupervisor=supervise-daemon\nname=k3s\ncommand=\"/usr/local/bin/k3s\"\n"
                  "command_args=\"server \\\n\t'--debug' \\\n    >>/var/log/k3s.log 2>&1\"\n\nrespawn_delay=5\nrespawn_max=0\n\nset -o allexport\n"
                  "if [ -f /etc/environment ]; then . /etc/environment; fi\nif [ -f /etc/rancher/k3s/k3s.env ]; then . /etc/rancher/k3s/k3s.env; fi\n"
                  "set +o allexport\n", 0o755)

    answer = node.status()

    assert answer["data_dir"]["path"] == "/srv/last" and answer["data_dir"]["source"] == "environment"
    assert answer["service"]["name"] == "k3s" and answer["service"]["manager"] == "openrc" and answer["service"]["supervisor"] == "supervise-daemon"


def test_G04_a_unit_that_others_can_write_says_nothing(make, old):
    """k3sup-status: service null, units names it as untrusted and why, data_dir the default."""
    node = make()
    node.install(old)
    write(node, {UNIT: unit("server -d /srv/evil")})
    node.sb.write(UNIT, unit("server -d /srv/evil"), 0o666)

    answer = node.status()

    assert answer["service"] is None and [u["unit_state"] for u in answer["units"]] == ["untrusted"]
    assert UNIT in answer["units"][0]["why"]
    assert sources(answer) == [("default", DEFAULT)]
