#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs everything that has to pass.
#
#   sh tests/run.sh [--full] [--bench] [--build-dir DIR] [-k WORD]
#
#   --full           also what takes long (tests see K3SUP_TEST_FULL=1)
#   --bench          also tests/bench
#   --build-dir DIR  where builds go, instead of build/ (DIR/dev, DIR/asan, DIR/tsan)
#   -k WORD          only tests whose name contains WORD
#
# Installs missing packages first (as root); needs no network when none is missing. Exit 0: all passed; 1: a part failed; 2: cannot run here.
# shellcheck disable=SC2317 # most functions are called through part()
set -u
top=$(cd "$(dirname "$0")/.." && pwd) || exit 2
cd "$top" || exit 2

builds=$top/build
word=
full=
bench=
while [ $# -gt 0 ]; do
	case $1 in
	--full) full=1 ;;
	--bench) bench=1 ;;
	--build-dir | -k)
		[ $# -ge 2 ] || {
			echo "run.sh: $1 wants a value" >&2
			exit 2
		}
		if [ "$1" = -k ]; then word=$2; else builds=$2; fi
		shift
		;;
	*)
		sed -n '3,12s/^# \{0,1\}//p' "$0" >&2
		exit 2
		;;
	esac
	shift
done
mkdir -p "$builds" && builds=$(cd "$builds" && pwd) || exit 2
dev=$builds/dev
logs=$(mktemp -d) || exit 2
trap 'rm -rf "$logs"' EXIT
jobs=$(nproc)

# What tests may rely on.
export K3SUP_BUILD_DIR="$dev" K3SUP_LIBRARY="$dev/libk3sup.so.0" PYTHONDONTWRITEBYTECODE=1
[ -z "$full" ] || export K3SUP_TEST_FULL=1
export GOFLAGS=-mod=mod GOPROXY=off GOTOOLCHAIN=local CGO_ENABLED=1
unset K3SUP_TEST_VALGRIND
# Sanitizers of gcc 12 and clang 14 do not know as much address randomisation as new kernels do.
fixed=
! setarch -R true 2>/dev/null || fixed="setarch -R"

# part NAME COMMAND...: runs it, keeps what it said, its time and its verdict. Exit 5 stands for "there is nothing to run".
part() {
	name=$1
	shift
	printf '\n== %s\n' "$name"
	began=$(date +%s)
	{
		"$@" 2>&1
		echo $? >"$logs/rc"
	} | tee "$logs/output"
	rc=$(cat "$logs/rc")
	seconds=$(($(date +%s) - began))
	case $rc in
	0) verdict=passed ;;
	5) verdict="no tests yet" && [ -z "$word" ] || verdict="no such test" ;;
	*) verdict=FAILED ;;
	esac
	printf '%s\t%s\t%s\n' "$name" "$verdict" "$seconds" >>"$logs/table"
	closing_lines <"$logs/output" >"$logs/closing"
	{
		printf -- '-- %s\n' "$name"
		cat "$logs/closing"
	} >>"$logs/closings"
	printf '== %s: %s, %s s\n' "$name" "$verdict" "$seconds"
	[ "$rc" = 0 ] || [ "$rc" = 5 ]
}

# The lines in which ctest, pytest, go test and our own loops say how it went.
closing_lines() {
	sed -n -e '/tests passed, .* tests failed out of/p' -e '/^[ \t]*[0-9]* - .*(\(Failed\|Timeout\|SEGFAULT\|Subprocess aborted\|Not Run\))/p' \
		-e '/^=*.* \(passed\|failed\|skipped\|error\).* in [0-9.:s ()]*=*$/p' -e '/^\(FAILED\|ERROR\) /p' -e '/^\(ok\|FAIL\|---\? FAIL\)[ \t]/p' \
		-e '/^[a-z]*: [0-9]* passed, [0-9]* failed$/p'
}

build() {
	# A source file that is gone or new changes the lists that were globbed; the build notices by itself.
	cmake --preset "$1" -B "$builds/$1" >"$logs/configure" 2>&1 || {
		cat "$logs/configure"
		return 1
	}
	cmake --build "$builds/$1" --parallel "$jobs"
}

c_tests() {
	preset=$1
	labels=$2
	set -- --test-dir "$builds/$preset" -L "$labels"
	[ -z "$word" ] || set -- "$@" -R "$word"
	ctest "$@" -N | grep -q '^ *Test *#' || return 5
	# shellcheck disable=SC2086
	$fixed ctest "$@" --output-on-failure --parallel "$jobs"
}

sanitized() {
	build "$1" && c_tests "$1" "$2"
}

# Valgrind 3.19 answers ENOSYS to pidfd_open, pidfd_send_signal and clone3: unit tests that need them skip with that reason when the variable is set.
valgrind_tests() {
	K3SUP_TEST_VALGRIND=1
	export K3SUP_TEST_VALGRIND
	find "$dev/tests" -maxdepth 1 -name "unit-*$word*" -type f -perm -u+x | sort >"$logs/programs"
	[ -s "$logs/programs" ] || return 5
	rm -rf "$logs/valgrind" && mkdir "$logs/valgrind"
	# shellcheck disable=SC2016
	xargs -P "$jobs" -I '{}' sh -c '
		name=$(basename "$1")
		timeout 300 valgrind -q --error-exitcode=99 --suppressions="$3" --leak-check=full --errors-for-leak-kinds=definite --trace-children=no \
			--child-silent-after-fork=yes "$1" >"$2/$name" 2>&1 || [ $? = 77 ] || mv "$2/$name" "$2/FAILED-$name"' - '{}' "$logs/valgrind" tests/valgrind.supp <"$logs/programs"
	total=$(wc -l <"$logs/programs")
	failed=$(find "$logs/valgrind" -name 'FAILED-*' | wc -l)
	for log in "$logs/valgrind"/FAILED-*; do
		[ ! -f "$log" ] || { echo "$log" | sed 's,.*/,,' && cat "$log"; }
	done
	grep -h 'SKIPPED' "$logs/valgrind"/* | sort -u
	echo "valgrind: $((total - failed)) passed, $failed failed"
	[ "$failed" = 0 ]
}

python_tests() {
	python=/usr/bin/python3
	[ -x "$python" ] || python=python3
	set -- tests --ignore=tests/bench
	[ ! -d bindings/python ] || set -- "$@" bindings/python
	[ -z "$word" ] || set -- "$@" -k "$word"
	# Side by side: each has sandboxes of its own, and most of them wait for processes most of the time, so that one more than there are processors costs nothing.
	set -- -n $((jobs + 1)) "$@"
	# Whoever runs this in the background has signals ignored, which children inherit and no shell can undo; some tests press Ctrl-C, or hang up.
	PYTHONPATH=$top/bindings/python${PYTHONPATH:+:$PYTHONPATH} env --default-signal=INT,QUIT,HUP "$python" -m pytest -p no:cacheprovider -q -rfEs --durations=5 "$@"
}

# Debian's Go is the oldest that must do; another one may come first in PATH.
go_tests() {
	[ -f bindings/go/go.mod ] || return 5
	export PKG_CONFIG_PATH="$dev/pkgconfig" LD_LIBRARY_PATH="$dev${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
	first=$(command -v go || echo /usr/bin/go)
	set -- "$first"
	[ "$(readlink -f "$first")" = "$(readlink -f /usr/bin/go)" ] || [ ! -x /usr/bin/go ] || set -- "$@" /usr/bin/go
	status=0
	for go in "$@"; do
		"$go" version
		for module in bindings/go tests/standin; do
			[ -f "$module/go.mod" ] || continue
			(cd "$module" && "$go" vet ./... && "$go" test -count=1 ${word:+-run "$word"} ./...) || status=1
		done
	done
	return "$status"
}

benchmarks() {
	status=0
	for one in run exits.py downtime.py; do
		"tests/bench/$one" || status=1
	done
	return "$status"
}

failed=0
began_all=$(date +%s)
if part packages sh tests/deps.sh install build tests && part build build dev; then
	part "C tests" c_tests dev 'unit|api|abi' || failed=1
	part "ASan+UBSan" sanitized asan 'unit|api|abi' || failed=1
	part "TSan" sanitized tsan tsan || failed=1
	part valgrind valgrind_tests || failed=1
	part pytest python_tests || failed=1
	part "go test" go_tests || failed=1
	[ -z "$bench" ] || part bench benchmarks || failed=1
else
	failed=1
fi

printf '\n== what each part said\n'
cat "$logs/closings"
printf '\n== in all, %s s\n' "$(($(date +%s) - began_all))"
awk -F '\t' '{ printf "%-12s %-14s %5d s\n", $1, $2, $3 }' "$logs/table"
exit $failed
