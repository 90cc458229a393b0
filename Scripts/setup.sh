#!/bin/bash
# Installs what Martlet needs and is not there yet. Safe to run again: it does nothing when all is there.
#
#   Scripts/setup.sh              what building and testing needs
#   Scripts/setup.sh --demo       and what `make demo` needs
#   Scripts/setup.sh --interop    and the libp2p peers that Interop/ and Benchmarks/ run against
set -euo pipefail
cd "$(dirname "$0")/.."

build_packages=(libuv1-dev libsodium-dev liblmdb-dev libc-ares-dev libssl-dev pkg-config)
demo_packages=(python3 python3-pip)
# gcc and libgmp: one of py-libp2p's parts comes as source only.
interop_packages=(python3 python3-venv python3-dev gcc libgmp-dev iproute2 util-linux iperf3)

say() { echo "setup: $*" >&2; }
fail() {
    say "$*"
    exit 1
}

packages=("${build_packages[@]}")
interop=no
for option in "$@"; do
    case "$option" in
        --demo) packages+=("${demo_packages[@]}") ;;
        --interop)
            packages+=("${interop_packages[@]}")
            interop=yes
            ;;
        *) fail "unknown option $option" ;;
    esac
done

# The Swift toolchain is not a Debian package, so it can only be asked for.
command -v swift >/dev/null ||
    fail "there is no Swift toolchain here: install Swift 6.2 or later from https://www.swift.org/install and put it on PATH."
version=$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9]*\.[0-9]*\).*/\1/p' | head -n 1)
case "$version" in
    [0-5].* | 6.[01]) fail "Swift $version is too old: Martlet needs Swift 6.2 or later." ;;
esac

is_installed() {
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

has_python_headers() {
    python3 -c 'import os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")' 2>/dev/null
}

missing=()
if command -v dpkg-query >/dev/null; then
    for package in "${packages[@]}"; do
        # A Python or an `ip` that came some other way will do as well.
        case "$package" in
            python3) command -v python3 >/dev/null && continue ;;
            python3-pip) python3 -m pip --version >/dev/null 2>&1 && continue ;;
            python3-venv) python3 -c 'import venv, ensurepip' 2>/dev/null && continue ;;
            python3-dev) has_python_headers && continue ;;
            gcc) command -v gcc >/dev/null && continue ;;
            iproute2) command -v ip >/dev/null && continue ;;
            util-linux) command -v unshare >/dev/null && continue ;;
            iperf3) command -v iperf3 >/dev/null && continue ;;
        esac
        is_installed "$package" || missing+=("$package")
    done
else
    # Not a Debian: only look whether the libraries can be found.
    absent=()
    for library in libuv libsodium lmdb libcares libcrypto; do
        pkg-config --exists "$library" 2>/dev/null || absent+=("$library")
    done
    [ ${#absent[@]} = 0 ] ||
        fail "this is not a Debian system, so please install these libraries and their headers yourself: ${absent[*]}."
fi

if [ ${#missing[@]} -gt 0 ]; then
    say "installing ${missing[*]}"
    as_root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null ||
            fail "these packages are missing and there is no root here to install them: run 'apt-get install ${missing[*]}' as root."
        as_root=(sudo)
    fi
    install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends)
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    # The package lists may be old, or not there at all on a fresh machine.
    if ! "${as_root[@]}" "${install[@]}" "${missing[@]}" >"$log" 2>&1 </dev/null; then
        { "${as_root[@]}" apt-get update -q && "${as_root[@]}" "${install[@]}" "${missing[@]}"; } >"$log" 2>&1 </dev/null || {
            tail -n 20 "$log" >&2
            fail "apt-get could not install ${missing[*]} (its last lines are above)."
        }
    fi
fi

if [ "$interop" = yes ]; then
    exec Interop/setup.sh
fi
