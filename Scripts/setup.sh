#!/bin/bash
# Installs what Martlet needs and is not there yet. Safe to run again: it does nothing when all is there.
#
#   Scripts/setup.sh              what building and testing needs
#   Scripts/setup.sh --demo       and what `make demo` needs
#   Scripts/setup.sh --interop    and the libp2p peers that Interop/ and Benchmarks/ run against
#   Scripts/setup.sh --natlab     and what the networks of Interop/natlab are made with
set -euo pipefail
cd "$(dirname "$0")/.."

build_packages=(libuv1-dev libsodium-dev liblmdb-dev libc-ares-dev libssl-dev libgnutls28-dev libminiupnpc-dev libnatpmp-dev
    pkg-config)
# QUIC. Before 1.11 any peer can crash ngtcp2; Debian 12 has a newer one in its backports, Debian 13 as it is.
quic_packages=(libngtcp2-dev libngtcp2-crypto-gnutls-dev)
quic_version=1.11
demo_packages=(python3 python3-pip)
# gcc and libgmp: one of py-libp2p's parts comes as source only.
interop_packages=(python3 python3-venv python3-dev gcc libgmp-dev iproute2 util-linux iperf3)
# The package of miniupnpd that is its program alone: no service is started.
natlab_packages=(python3 gcc libc6-dev iproute2 util-linux nftables miniupnpd-nftables)

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
        --natlab) packages+=("${natlab_packages[@]}") ;;
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

has_quic() {
    local package
    for package in "${quic_packages[@]}"; do
        is_installed "$package" || return 1
        dpkg --compare-versions "$(dpkg-query --show --showformat='${Version}' "$package")" ge "$quic_version" || return 1
    done
}

# Whether apt knows a version of ngtcp2 that is new enough, in whichever of its sources.
offers_quic() {
    local version
    for version in $(apt-cache madison libngtcp2-dev 2>/dev/null | cut -d '|' -f 2); do
        dpkg --compare-versions "$version" ge "$quic_version" && return 0
    done
    return 1
}

missing=()
missing_quic=()
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
            nftables) command -v nft >/dev/null && continue ;;
            miniupnpd-nftables) command -v miniupnpd >/dev/null && continue ;;
        esac
        is_installed "$package" || missing+=("$package")
    done
    has_quic || missing_quic=("${quic_packages[@]}")
else
    # Not a Debian: only look whether the libraries can be found.
    absent=()
    for library in libuv libsodium lmdb libcares libcrypto gnutls "libngtcp2 >= $quic_version" \
        "libngtcp2_crypto_gnutls >= $quic_version"; do
        pkg-config --exists "$library" 2>/dev/null || absent+=("$library")
    done
    [ ${#absent[@]} = 0 ] ||
        fail "this is not a Debian system, so please install these libraries and their headers yourself: ${absent[*]}."
fi

if [ $((${#missing[@]} + ${#missing_quic[@]})) -gt 0 ]; then
    say "installing ${missing[*]} ${missing_quic[*]}"
    as_root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null ||
            fail "these packages are missing and there is no root here to install them: run Scripts/setup.sh as root (${missing[*]} ${missing_quic[*]})."
        as_root=(sudo)
    fi
    install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends)
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT

    # The package lists may be old, or not there at all on a fresh machine.
    install_packages() {
        "${as_root[@]}" "${install[@]}" "$@" >"$log" 2>&1 </dev/null && return
        { "${as_root[@]}" apt-get update -q && "${as_root[@]}" "${install[@]}" "$@"; } >"$log" 2>&1 </dev/null || {
            tail -n 20 "$log" >&2
            fail "apt-get could not install $* (its last lines are above)."
        }
    }
    [ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"

    if [ ${#missing_quic[@]} -gt 0 ]; then
        offers_quic || "${as_root[@]}" apt-get update -q >"$log" 2>&1 </dev/null || true
        release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
        target=()
        if ! offers_quic && [ "$release" = bookworm ]; then
            keyring=/usr/share/keyrings/debian-archive-keyring.gpg
            signed=
            [ -r "$keyring" ] && signed="[signed-by=$keyring] "
            echo "deb ${signed}http://deb.debian.org/debian bookworm-backports main" |
                "${as_root[@]}" tee /etc/apt/sources.list.d/martlet-backports.list >/dev/null
            "${as_root[@]}" apt-get update -q >"$log" 2>&1 </dev/null || true
        fi
        apt-cache policy 2>/dev/null | grep -q bookworm-backports && target=(-t bookworm-backports)
        offers_quic ||
            fail "QUIC needs ngtcp2 $quic_version or later (older ones can be crashed by any peer), and this system's package sources offer none: use Debian 12 with bookworm-backports, Debian 13 or later, or install libngtcp2 and libngtcp2_crypto_gnutls yourself."
        install_packages "${target[@]}" "${missing_quic[@]}"
    fi
fi

if [ "$interop" = yes ]; then
    exec Interop/setup.sh
fi
