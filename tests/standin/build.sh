#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# build.sh - build one stand-in k3s (see README.md)
#
#   build.sh --version V --commit C8 --era 2020|2021|2023|2024|2025
#            [--size MB|small] [--arch amd64|arm64|arm] [--build-date RFC3339]
#            [--default-misbehave KEY=VAL]... -o OUT
#
# Writes OUT and, below $K3SUP_STANDIN_CACHE, whatever can be used again
# (default: ${K3SUP_BUILD_DIR:-REPO/build}/standin-cache). Safe to run several
# times at once: every file there appears complete or not at all.
# shellcheck disable=SC2086 # lists of names and flags without blanks are meant
set -eu

usage() { sed -n '5,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
die() { echo "build.sh: $*" >&2; exit 2; }

here=$(cd "$(dirname "$0")" && pwd)
version='' commit=0123abcd era=2024 size=64 arch='' date='' out='' misbehave=''
while [ $# -gt 0 ]; do
	case $1 in
	-h | --help) usage ;;
	esac
	[ $# -ge 2 ] || usage
	case $1 in
	--version) version=$2 ;;
	--commit) commit=$2 ;;
	--era) era=$2 ;;
	--size) size=$2 ;;
	--arch) arch=$2 ;;
	--build-date) date=$2 ;;
	--default-misbehave) misbehave="$misbehave;$2" ;;
	-o) out=$2 ;;
	*) usage ;;
	esac
	shift 2
done
if [ -z "$version" ] || [ -z "$out" ]; then usage; fi
misbehave=${misbehave#;}
case $era in 2020 | 2021 | 2023 | 2024 | 2025) ;; *) die "unknown era $era" ;; esac
case $size in small) size=0 ;; '' | *[!0-9]*) die "bad size $size" ;; esac
# All of these end up in -ldflags, which is split at blanks.
case $version$commit$misbehave$date in *[!A-Za-z0-9_=.,:+@/\;-]*) die "odd character in an argument" ;; esac
[ -n "$date" ] || date=$era-06-15T00:00:00Z

GO=${GO:-$(command -v go || echo /usr/bin/go)}
cache=${K3SUP_STANDIN_CACHE:-${K3SUP_BUILD_DIR:-$here/../../build}/standin-cache}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
export GOFLAGS=-mod=mod GOTOOLCHAIN=local GOPROXY=off CGO_ENABLED=0 GO111MODULE=on GOWORK=off
[ -n "${HOME:-}${GOCACHE:-}" ] || export GOCACHE="$cache/go"
unset GOOS GOARCH GOARM GOEXPERIMENT || :
: "${arch:=$("$GO" env GOARCH)}"
case $arch in amd64 | arm64) ;; arm) GOARM=7; export GOARM ;; *) die "unknown architecture $arch" ;; esac

# The name of the module changed with the owner of the repository.
case $era in 2020 | 2021) mod=github.com/rancher/k3s ;; *) mod=github.com/k3s-io/k3s ;; esac

sources=$(cd "$here" && find . -name '*.go' -o -name go.mod -o -name build.sh | LC_ALL=C sort)
state=$( (cd "$here" && cat $sources; "$GO" version) | sha256sum | cut -c1-16)
key=$(echo "$state $version $commit $era $size $arch $date $misbehave" | sha256sum | cut -c1-32)

# deliver FILE: copy it to OUT under a temporary name, then rename.
deliver() {
	mkdir -p "$(dirname "$out")"
	cp "$1" "$out.$$.part"
	chmod 0755 "$out.$$.part"
	mv -f "$out.$$.part" "$out"
}
if [ -e "$cache/out-$key" ]; then
	deliver "$cache/out-$key"
	exit 0
fi

work=$(mktemp -d "$cache/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# One copy of the sources per state and module name: its path is part of what
# Go's build cache looks at, so it must stay the same from build to build.
src=$cache/src-$state-$(basename "$(dirname "$mod")")
if [ ! -d "$src" ]; then
	mkdir "$work/src"
	(cd "$here" && tar cf - $sources) | tar xf - -C "$work/src"
	find "$work/src" -type f ! -name build.sh -exec sed -i "s#github.com/k3s-io/k3s#$mod#g" {} +
	mv -T "$work/src" "$src" 2>/dev/null || [ -d "$src" ]
fi
cd "$src"

# keep FILE NAME: store a finished file in the cache. The first one stays: the
# working directory's name is in Go's build id, so that of another build at the
# same time differs, and a test may be looking at the first one by now.
keep() { ln -T "$1" "$cache/$2" 2>/dev/null || [ -e "$cache/$2" ]; }

stamps="-X $mod/pkg/standin.EraName=$era -X $mod/pkg/standin.Misbehave=$misbehave"
flags="-X $mod/pkg/version.Version=$version -X $mod/pkg/version.GitCommit=$commit -w -s"
# 2020/2021: built by a Go that recorded no flags in the program (before 1.18);
# -trimpath makes a newer Go drop them as well. Until 2023 the release named
# the file, not the package: the build information then has no module line.
trim='' pkg=./cmd/k3s
case $era in
2020 | 2021) trim=-trimpath pkg=./cmd/k3s/main.go ;;
2023) pkg=./cmd/k3s/main.go ;;
esac

pack=pack-$state
if [ ! -x "$cache/$pack" ]; then
	"$GO" build -buildvcs=false -o "$work/pack" ./cmd/pack
	keep "$work/pack" "$pack"
fi
# The module's name is in the program, so there is one of each.
shim=shim-$state-$arch-$(basename "$(dirname "$mod")")
if [ ! -e "$cache/$shim" ]; then
	GOARCH=$arch "$GO" build -buildvcs=false -trimpath -ldflags "-w -s" -o "$work/shim" ./cmd/shim
	keep "$work/shim" "$shim"
fi
GOARCH=$arch "$GO" build -buildvcs=false $trim \
	-ldflags "$flags $stamps -X $mod/pkg/standin.BuildDate=$date -X k8s.io/component-base/version.buildDate=$date" -o "$work/inner" ./cmd/inner

# The wrapper's own code is about 1.5 MB; the rest of the wanted size is added
# to the inner program.
pad=0
if [ "$size" -gt 0 ]; then
	pad=$((size * 1048576 - $(stat -c %s "$work/inner") - $(stat -c %s "$cache/$shim") - 1572864))
	[ "$pad" -ge 0 ] || pad=0
fi
# go:embed takes files of the package's own directory (and Go 1.19 does not
# find them through -overlay), so the wrapper is built in a copy of its own.
cp -r "$src" "$work/wrapper"
"$cache/$pack" "$era" "$work/inner" "$cache/$shim" "$pad" "$version $commit $era" "$work/wrapper/pkg/data" >"$work/hash"
cd "$work/wrapper"
GOARCH=$arch "$GO" build -buildvcs=false $trim \
	-ldflags "$flags $stamps" -o "$work/k3s" "$pkg"
keep "$work/k3s" "out-$key"
deliver "$cache/out-$key"
