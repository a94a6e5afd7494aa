#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Upgrades a k3s node before your eyes, and breaks the upgrade half-way to show what happens then.
#
#   sh examples/demo.sh
#
# Installs what is missing (Debian, root), builds the library, its programs and three stand-ins for k3s, and runs them in a sandbox that is gone
# when the demo ends. What it shows it also checks. Exit status: 0 all was as it should be, 1 something was not, 2 cannot run here.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
build=${K3SUP_BUILD_DIR:-$top/build}/demo
first=v1.30.4+k3s1 second=v1.31.0+k3s1 third=v1.32.0+k3s1
covered="/usr/local /opt /var/lib /var/log /run"
bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
	bold=$(printf '\033[1m') plain=$(printf '\033[0m')
fi

cannot() {
	printf 'demo.sh: %s\n' "$@" >&2
	exit 2
}

wrong() {
	printf '\ndemo.sh: this should not have happened: %s\n' "$*" >&2
	exit 1
}

title() {
	printf '\n%s== %s%s\n' "$bold" "$1" "$plain"
	shift
	[ $# -eq 0 ] || printf '%s\n' "$@" | sed 's/^./   &/'
}

# ---- outside of the sandbox ----

# quietly WHAT COMMAND...: says only what it does and how long that took, and everything if it fails
quietly() {
	printf '   %s ... ' "$1"
	shift
	began=$(date +%s)
	"$@" >"$build/log" 2>&1 </dev/null || {
		echo failed
		cat "$build/log"
		exit 1
	}
	echo "done ($(($(date +%s) - began)) s)"
}

library() {
	cmake -S "$top" -B "$build" -G Ninja -DK3SUP_TESTS=OFF && cmake --build "$build"
}

stand_ins() {
	for version in "$first" "$second" "$third"; do
		sh "$top/tests/standin/build.sh" --version "$version" --era 2024 -o "$build/k3s-$version"
	done
}

# What is needed must still be there when the sandbox has covered a part of the file system.
check_visible() {
	for file in "$build" "$daemon"; do
		file=$(readlink -f "$file")
		for dir in $covered; do
			case $file/ in "$dir"/*) cannot "$file would be hidden in the sandbox, which covers $covered" ;; esac
		done
	done
}

outside() {
	if [ "$(id -u)" != 0 ]; then
		lacking=$(sh "$top/tests/deps.sh" check build demo) || :
		cannot "needs root: the node lives in pid, mount and network namespaces, and making these needs root" \
			${lacking:+"not installed, and only root can: $lacking"}
	fi
	title "libk3sup: one node, two upgrades, one accident"
	mkdir -p "$build"
	sh "$top/tests/deps.sh" install build demo || exit 2
	unshare -pfmn --mount-proc true 2>/dev/null || cannot "may not make namespaces here: a container without CAP_SYS_ADMIN?"
	daemon=$(sh "$top/tests/deps.sh" openrc 2>"$build/log") || {
		cat "$build/log" >&2
		exit 2
	}
	quietly "building the library and its programs" library
	quietly "building three stand-ins for k3s" stand_ins
	check_visible
	# In the background, because only then the shell hears a Ctrl-C at once. Whatever ends this script ends the sandbox, and all that is in it.
	setpriv --pdeathsig KILL unshare -pfmn --mount-proc --kill-child sh "$top/examples/demo.sh" --inside "$build" "$daemon" </dev/null &
	sandbox=$!
	trap 'kill -KILL $sandbox 2>/dev/null; echo; echo "demo.sh: stopped; nothing is left of the sandbox" >&2; exit 130' INT TERM HUP
	status=0
	wait $sandbox || status=$?
	exit $status
}

# ---- inside ----

command_line() {
	printf '\n%s' "$bold"
	printf '$ %s\n' "$*" | fold -s -w 92 | sed "s/^/   /; 2,\$s/^/    /; \$!s/\$/\\\\/; \$s/\$/$plain/"
}

# shown COMMAND...: shows it and what it prints, of long hashes the beginning; status is its exit status
shown() {
	command_line "$@"
	status=0
	"$@" >/run/demo/out 2>&1 || status=$?
	sed 's/\([0-9a-f]\{12\}\)[0-9a-f]\{52\}/\1~/g' /run/demo/out | awk '{
		for (line = "   " $0; length(line) > 98; line = "               " substr(line, end + 1)) {
			# at a blank, and if there is none, anywhere
			for (end = 98; end > 20 && substr(line, end, 1) != " "; end--)
				;
			print substr(line, 1, end)
		}
		print line
	}'
}

# upgrade [PREFIX...]: on a terminal it draws a bar, elsewhere it says each step
upgrade() {
	if [ -t 2 ]; then
		set -- "$@" k3sup-upgrade --stable 3 /opt/k3s
		command_line "$@"
		status=0
		"$@" &
		wait $! 2>/dev/null || status=$?
		[ "$status" -le 128 ] || printf '\n   (killed)\n'
	else
		shown "$@" k3sup-upgrade --stable 3 --verbose /opt/k3s
	fi
}

ended() {
	[ "$status" = "$1" ] || wrong "exit status $status instead of $1"
}

# expect KEY=VALUE...: compares what a program said as JSON, in /run/demo/json
expect() {
	python3 -I - "$@" <<'END' || wrong "see above"
import json, sys, textwrap
with open("/run/demo/json") as f:
    doc = json.loads(f.read())
for want in sys.argv[1:]:
    path, text = want.split("=", 1)
    value = doc
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    if (value if isinstance(value, str) else json.dumps(value)) != text:
        sys.exit("   %s is %s, not %s" % (path, json.dumps(value), text))
print(textwrap.fill("(checked: %s)" % ", ".join(sys.argv[1:]), 98, initial_indent="   ", subsequent_indent="    ", break_on_hyphens=False))
END
}

# state STATE INSTALLED RUNNING [KEY=VALUE...]
state() {
	k3sup-status --json >/run/demo/json || wrong "k3sup-status ended with $?"
	wanted_state=$1 installed=$2 running=$3
	shift 3
	expect "state=$wanted_state" "installed.version=$installed" "running.version=$running" "$@"
}

pid_of_k3s() {
	k3sup-status --json | python3 -I -c 'import json, sys; print(json.load(sys.stdin)["running"]["pid"])'
}

make_node() {
	for dir in $covered; do
		mount -t tmpfs -o mode=0755,size=1g tmpfs "$dir"
	done
	[ ! -d /etc/rancher ] || mount -t tmpfs -o mode=0755 tmpfs /etc/rancher
	mount -o remount,bind,ro /
	mkdir -p /usr/local/bin /run/openrc /run/demo
	cp "$build/k3s-$first" /usr/local/bin/k3s
	cp "$build/k3s-$second" /opt/k3s
}

start_node() {
	# The sandbox has a network of its own, in which even loopback has to be switched on (SIOCSIFFLAGS, IFF_UP).
	python3 -I -c 'import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sH14s", b"lo", 1, b""))'
	for lib in "${daemon%/sbin/*}"/lib/*-linux-gnu*; do
		printf '#!/bin/sh\nLD_LIBRARY_PATH="%s" RC_SVCNAME=k3s exec "%s" k3s "$@"\n' "$lib" "$daemon" >/run/demo/supervise
		break
	done
	cat >/run/demo/start-k3s <<'END'
#!/bin/sh
exec /run/demo/supervise --start --pidfile /run/k3s.pid --stdout /var/log/k3s.log --stderr /var/log/k3s.log \
	--respawn-delay 1 --respawn-max 0 /usr/local/bin/k3s -- server --write-kubeconfig /run/k3s.yaml
END
	printf '#!/bin/sh\nexec /run/demo/supervise --stop --pidfile /run/k3s.pid\n' >/run/demo/stop-k3s
	printf '#!/bin/sh\n[ -e /run/k3s.pid ] || exit 3\n' >/run/demo/k3s-runs
	chmod +x /run/demo/supervise /run/demo/start-k3s /run/demo/stop-k3s /run/demo/k3s-runs
	/run/demo/start-k3s
	tries=0
	until k3sup-status --expect current >/run/demo/out 2>&1; do
		tries=$((tries + 1))
		[ $tries -lt 150 ] || {
			cat /run/demo/out /var/log/k3s.log
			wrong "k3s does not start"
		}
		sleep 0.2
	done
}

introduce() {
	title "A node in a sandbox" \
		"pid, mount and network namespaces of its own; $covered are empty" \
		"memory there, and the host's root file system is read-only: nothing of the host is touched." \
		"" \
		"k3s is a stand-in: as large as a small k3s, with its files, its processes and their titles," \
		"but without Kubernetes. Its supervisor is real: OpenRC's supervise-daemon, with the options" \
		"that k3s's installer writes, except that it waits 1 s before it starts k3s again, not 5 s."
}

first_upgrade() {
	title "1. What runs here?"
	shown k3sup-status
	ended 0
	state current $first $first backup=null
	old=$(pid_of_k3s)

	title "2. Upgrade it to $second, which lies in /opt/k3s" \
		"Replaces the file, tells k3s to end, lets the supervisor start the new one, and sees it stay."
	upgrade
	ended 0
	shown k3sup-status
	ended 0
	state current $second $second backup.version=$first
	new=$(pid_of_k3s)
	[ "$new" != "$old" ] || wrong "k3s was not restarted"

	title "3. The same once more" "There is nothing to do, so nothing is done: k3s keeps running as process $new."
	upgrade
	ended 0
	state current $second $second running.pid="$new" backup.version=$first
	k3sup-upgrade --stable 3 --json /opt/k3s >/run/demo/json || wrong "k3sup-upgrade ended with $?"
	expect changed=false
}

accident() {
	title "4. An accident: $third, and the program is killed before it can tell k3s to end" \
		"strace kills it at the system call that would send the signal. The file is new already."
	cp "$build/k3s-$third" /opt/k3s.new
	mv /opt/k3s.new /opt/k3s
	upgrade strace -f -o /run/demo/strace -e trace=pidfd_send_signal -e inject=pidfd_send_signal:signal=KILL
	ended 137
	grep -q '^[0-9 ]*pidfd_send_signal(' /run/demo/strace || wrong "it was not killed where it should have been"
	shown k3sup-status
	ended 0
	state restart-pending $third $second running.pid="$new" backup.version=$second

	title "5. One more run" "It finds the new file in place, does not copy it again, and does what is missing."
	file=$(stat -c '%i %Y' /usr/local/bin/k3s)
	upgrade
	ended 0
	[ "$(stat -c '%i %Y' /usr/local/bin/k3s)" = "$file" ] || wrong "the file was replaced once more"
	shown k3sup-status --payload /opt/k3s --expect current
	ended 0
	state current $third $third backup.version=$second
	[ "$(pid_of_k3s)" != "$new" ] || wrong "k3s was not restarted"
	[ "$(ls -A /usr/local/bin)" = "k3s
k3s.k3sup-backup" ] || wrong "something was left in /usr/local/bin: $(ls -A /usr/local/bin)"
}

rotation() {
	title "6. New certificates" \
		"They may only be touched while k3s is stopped, so here its supervisor is told to stop and to" \
		"start it. If the program were killed in between, a guard would start k3s."
	old=$(pid_of_k3s)
	shown k3sup-certs rotate --rotate-key demo --restart commands --stop-command /run/demo/stop-k3s \
		--start-command /run/demo/start-k3s --status-command /run/demo/k3s-runs --stable 3
	ended 0
	[ "$(pid_of_k3s)" != "$old" ] || wrong "k3s was not restarted"
	k3sup-certs check --wire --json >/run/demo/json || wrong "k3sup-certs ended with $?"
	expect needs_action=false
}

inside() {
	build=$1 daemon=$2
	export PATH="$build:/usr/sbin:/usr/bin:/sbin:/bin"
	[ -t 2 ] || exec 2>&1
	introduce
	make_node
	start_node
	first_upgrade
	accident
	rotation
	title "All as it should be" \
		"$first -> $second   upgraded, one restart" \
		"$second -> $second   nothing to do, k3s was left alone" \
		"$second -> $third   killed half-way: k3s ran on, one more run finished it" \
		"certificates               all renewed, with one stop and one start" \
		"" \
		"The sandbox is gone now. The programs are in $build."
}

if [ "${1:-}" = --inside ]; then
	shift
	inside "$@"
elif [ $# -eq 0 ]; then
	outside
else
	sed -n '3,8s/^# \{0,1\}//p' "$0"
	[ "$1" = --help ] || exit 2
fi
