#!/usr/bin/env bash
# Runs the datapath's privileged tests inside other kernels: Debian's 6.1 and 6.12, booted in qemu without KVM.
#
#   tests/kernels/run.sh [6.1] [6.12]        all of them if none is named
#
# Each kernel boots an initramfs that holds busybox, iproute2, the modules below and the test executables; `init` runs
# them one by one. A test that fails, prints SKIPPED or does not end within the limit fails the run.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
work=${CARGO_TARGET_DIR:-$top/target}/kernels
limit=${FABRIC_KERNEL_LIMIT:-420} # seconds one kernel may take, boot included
modules="llc stp udp_tunnel ip6_udp_tunnel veth vxlan tun bridge sch_ingress cls_bpf"

say() { printf '%s\n' "kernels: $*" >&2; }
die() { say "$*"; exit 1; }

# The Debian package with a kernel of this series.
package_of() {
    local found
    found=$(apt-cache search --names-only "^linux-image-${1//./\\.}\\..*-cloud-amd64\$" | awk '{print $1}' | sort -V | tail -n 1)
    [ -n "$found" ] || die "no Debian package of Linux $1 known; run apt-get update"
    printf '%s' "$found"
}

# Unpacks a kernel of the series to $work/SERIES/root, once.
fetch() {
    local series=$1 package
    package=$(package_of "$series")
    [ "$(cat "$work/$series/package" 2>/dev/null)" = "$package" ] && return
    say "Linux $series: fetching $package"
    rm -rf "${work:?}/$series"
    mkdir -p "$work/$series/deb" "$work/$series/root"
    (cd "$work/$series/deb" && apt-get -q -o APT::Sandbox::User=root download "$package" >/dev/null) ||
        die "$package could not be fetched"
    dpkg -x "$work/$series"/deb/*.deb "$work/$series/root"
    printf '%s' "$package" >"$work/$series/package"
}

# Paths of the test executables, one a line.
executables() {
    cargo test --manifest-path "$top/Cargo.toml" -p datapath --tests --no-run --message-format=json 2>/dev/null |
        jq -r 'select(.profile.test == true and .executable != null and (.target.kind | index("test"))) | .executable'
}

# Copies a program and the shared libraries it needs into a tree.
add_program() {
    local tree=$1 program=$2 as=$3 library
    install -D "$program" "$tree$as"
    strip "$tree$as" 2>/dev/null || true
    for library in $(ldd "$program" 2>/dev/null | grep -o '/[^ ]*'); do
        [ -e "$tree$library" ] || install -D "$library" "$tree$library"
    done
}

add_modules() {
    local tree=$1 root=$2 name file
    mkdir -p "$tree/modules"
    for name in $modules; do
        file=$(find "$root/lib/modules" \( -name "$name.ko" -o -name "$name.ko.xz" \) | head -n 1)
        case "$file" in
        *.xz) xz -dc "$file" >"$tree/modules/$name.ko" ;;
        *.ko) cp "$file" "$tree/modules/" ;;
        *) ;; # built into this kernel
        esac
    done
    printf '%s\n' "$modules" >"$tree/modules/order"
}

build_initramfs() {
    local series=$1 tree=$work/$1/tree executable
    rm -rf "$tree"
    mkdir -p "$tree"/{bin,sbin,proc,sys,dev,run,tmp,tests,etc,root}
    add_program "$tree" /bin/busybox /bin/busybox
    add_program "$tree" "$(command -v ip)" /usr/sbin/ip
    add_program "$tree" "$(command -v tc)" /usr/sbin/tc
    add_modules "$tree" "$work/$series/root"
    while read -r executable; do
        add_program "$tree" "$executable" "/tests/$(basename "$executable" | sed 's/-[0-9a-f]*$//')"
    done <"$work/executables"
    cp "$here/init" "$tree/init"
    printf 'fabric-kernel-test\n' | md5sum | cut -c1-32 >"$tree/etc/machine-id"
    (cd "$tree" && find . | cpio --quiet -o -H newc | gzip -1) >"$work/$series/initramfs.gz"
}

boot() {
    local series=$1 console=$work/$1/console
    say "Linux $series: booting (at most $limit s; console in ${console#"$top"/})"
    timeout "$limit" qemu-system-x86_64 -m 1536 -smp 2 -nographic -no-reboot -nodefaults -serial stdio -net none \
        -kernel "$work/$series"/root/boot/vmlinuz-* -initrd "$work/$series/initramfs.gz" \
        -append "console=ttyS0 quiet loglevel=4 panic=-1" </dev/null >"$console" 2>&1 || true
}

judge() {
    local series=$1 console=$work/$1/console line
    grep -a '^KERNEL ' "$console" | tr -d '\r' | while read -r line; do say "Linux $series: ${line#KERNEL }"; done
    if grep -aq 'SKIPPED' "$console"; then
        say "Linux $series: a test was skipped"
        return 1
    fi
    if ! grep -aq '^KERNEL done: 0 failed' "$console"; then
        tail -n 60 "$console" >&2
        return 1
    fi
}

main() {
    local series failed=0
    local -a wanted=("$@")
    [ ${#wanted[@]} -gt 0 ] || wanted=(6.1 6.12)
    mkdir -p "$work"
    executables >"$work/executables"
    [ -s "$work/executables" ] || die "the datapath's tests do not build"
    for series in "${wanted[@]}"; do
        fetch "$series"
        build_initramfs "$series"
        boot "$series"
        judge "$series" || failed=$((failed + 1))
    done
    printf '%s passed, %s failed\n' "$((${#wanted[@]} - failed))" "$failed"
    [ "$failed" -eq 0 ]
}

main "$@"
