#!/usr/bin/env bash
# Installs what building, the lab, the tests and the benchmark need on Debian 12. Safe to run again: what is there is
# left alone, and when all is there it ends at once.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/lab/say.sh
source "$here/lab/say.sh"
# shellcheck source=deploy/lab/toolchain.sh
source "$here/lab/toolchain.sh"

readonly BPF_LINKER=0.13.0
readonly CARGO_DENY=0.20.2

usage() {
    cat <<'USAGE'
usage: setup.sh [--for lab|tests|bench]…
  lab    (default) what builds the fabric and runs deploy/lab.sh
  tests  that, and what tests/run.sh needs: qemu, captures, Wireshark, Open vSwitch, lints, cargo-deny
  bench  that of lab, and what tests/bench.sh needs: iperf3, sockperf, bpftool
USAGE
}

# Compilers, the eBPF side's standard library, what the linkers link.
readonly -a BUILD=(ca-certificates git gcc g++ libc6-dev make clang
    rustc-web cargo-web rust-web-src libstd-rust-web-dev zlib1g-dev libzstd-dev)
readonly -a LAB=(iproute2 nftables iputils-ping jq procps)
readonly -a TESTS=(tcpdump tshark ethtool openvswitch-switch bpftool qemu-system-x86 busybox-static cpio xz-utils shellcheck)
readonly -a BENCH=(iperf3 sockperf ethtool bpftool)

missing_packages() {
    local installed
    installed=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^.i  *//p') || true
    printf '%s\n' "$@" | grep -Fxv -f <(printf '%s\n' "$installed") || true
}

apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -q -y "$@"
}

install_packages() {
    local -a missing
    mapfile -t missing < <(missing_packages "$@")
    ((${#missing[@]})) || return 0
    need_root deploy/setup.sh
    say "installing ${#missing[@]} Debian packages: ${missing[*]}"
    if [[ -z ${updated:-} ]]; then
        quietly "$log" retry 3 apt update || die "the package lists cannot be fetched; is the network there?"
        updated=yes
    fi
    quietly "$log" retry 3 apt install --no-install-recommends "${missing[@]}" ||
        die "Debian packages cannot be installed: ${missing[*]} (rustc-web comes from bookworm-security: is that in your sources?)"
}

has_rustup() {
    command -v rustup >/dev/null 2>&1
}

# The linker is dynamically linked with the LLVM it was built for.
bpf_linker_fits() {
    local linker
    linker=$(command -v bpf-linker) &&
        [[ $(bpf-linker --version 2>/dev/null) == "bpf-linker $BPF_LINKER" ]] &&
        [[ $(ldd "$linker") == *libLLVM[.-]*"$1"* ]]
}

install_bpf_linker() {
    local llvm
    llvm=$(llvm_major)
    case $llvm in
        21 | 22 | 23) ;;
        *) die "Debian's rustc is built with LLVM '${llvm:-?}'; bpf-linker $BPF_LINKER knows 21, 22 and 23" ;;
    esac
    install_packages "llvm-$llvm-dev" "libpolly-$llvm-dev"
    ! bpf_linker_fits "$llvm" || return 0
    say "building bpf-linker $BPF_LINKER with LLVM $llvm (one to two minutes)"
    LLVM_PREFIX=/usr/lib/llvm-$llvm PATH=/usr/lib/llvm-$llvm/bin:$PATH quietly "$log" retry 3 \
        cargo install bpf-linker --version "$BPF_LINKER" --locked --force --no-default-features --features "llvm-$llvm" ||
        die "bpf-linker cannot be built"
}

# The name by which the build of the eBPF programs asks rustup for Debian's compiler.
link_debian_rustc() {
    has_rustup || return 0
    [[ $(rustup toolchain list 2>/dev/null) == *debian-rustc* ]] || rustup toolchain link debian-rustc /usr
}

install_lints() {
    if cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1; then
        return 0
    fi
    install_packages rustfmt-web rust-web-clippy
}

# tests/kernels/run.sh asks apt for kernels, which it can only with package lists.
fetch_package_lists() {
    [[ -z $(apt-cache policy linux-image-cloud-amd64 2>/dev/null) ]] || return 0
    say "fetching Debian's package lists"
    quietly "$log" retry 3 apt update || die "the package lists cannot be fetched; is the network there?"
}

install_cargo_deny() {
    ! command -v cargo-deny >/dev/null 2>&1 || return 0
    say "building cargo-deny $CARGO_DENY (some minutes)"
    quietly "$log" retry 3 cargo install cargo-deny --version "$CARGO_DENY" --locked || die "cargo-deny cannot be built"
}

main() {
    local -A groups=()
    while (($#)); do
        case $1 in
            --for)
                need_value "$@"
                case $2 in
                    lab | tests | bench) groups[$2]=1 ;;
                    *) usage_error "--for takes lab, tests or bench" ;;
                esac
                shift 2
                ;;
            -h | --help) usage && return 0 ;;
            *) usage >&2 && usage_error "unknown argument $1" ;;
        esac
    done
    [[ -r /etc/debian_version ]] || die "this is made for Debian 12; on another system install by hand what $0 lists"

    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    if ((EUID == 0)); then
        exec 9>/run/lock/fabric-setup.lock
        flock 9
    fi
    local -a packages=("${BUILD[@]}" "${LAB[@]}")
    [[ -z ${groups[tests]:-} ]] || packages+=("${TESTS[@]}")
    [[ -z ${groups[bench]:-} ]] || packages+=("${BENCH[@]}")
    install_packages "${packages[@]}"
    use_toolchain
    install_bpf_linker
    link_debian_rustc
    if [[ -n ${groups[tests]:-} ]]; then
        fetch_package_lists
        install_lints
        install_cargo_deny
    fi
}

main "$@"
