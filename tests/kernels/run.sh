#!/usr/bin/env bash
# Boots the kernels of Debian 12 in qemu (without KVM) and runs the packet and namespace tests of `datapath` in them.
#
#   tests/kernels/run.sh [--all] [6.1] [6.12]      default: both
#
# With --all, more of them.
#
# On each kernel: every program loads, within the verifier's limits with room to spare (`fabric-verify`); it does what packet
# tables say; it attaches (clsact on 6.1, tcx on 6.12) and carries UDP and TCP between namespaces on two hosts;
# and kills, purges and interference end as they should.
# Exits 0 only if all of that held. Kernels are downloaded by apt into a cache: $FABRIC_KERNELS, default target/kernels.
# Needs: qemu-system-x86, busybox-static, cpio, iproute2, ethtool, iputils-ping, util-linux, and cargo; not root.
set -euo pipefail

readonly LIMIT_SECONDS=${FABRIC_KERNEL_SECONDS:-2400}
# In this order: none may need one that follows.
readonly MODULES=(llc stp bridge veth sch_ingress cls_bpf tun udp_tunnel ip6_udp_tunnel vxlan geneve
    libcrc32c sctp garp mrp 8021q)
# What runs by default, by parts of the tests' names. Loading the programs takes most of the time of each here. Of `packets`:
# functions that misbehave, errors, what the router says, decisions that are remembered, and random packets beside the model.
# Of `wire`: what carries packets, and what only these kernels have: SCTP, VLAN tags, Geneve's device. Of `namespaces`: what
# depends on how the kernel attaches.
readonly PACKETS=(chain differential::the_programs errors router flows)
readonly WIRE=(across_hosts_over_ipv4_where sctp_through tagged_frames comes_by_geneves_device)
readonly NAMESPACES=(a_kill_and_a_start functions_do_not each_other_over_ipv4)
# With --all, these too, and all of `packets`. All of the others would take too long.
readonly MORE_WIRE=(by_geneves_device across_hosts_over_ipv6_where on_one_host frames_of_a_tap_in_pieces
    program_does_not_take on_the_underlay on_a_workloads_interface)
readonly MORE_NAMESPACES=(purge_leaves another_shape stubs_ two_nodes host_side a_tap functions_are_swapped functions_that)
readonly SUCCESS=FABRIC-KERNEL-OK

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${FABRIC_KERNELS:-${CARGO_TARGET_DIR:-$root/target}/kernels}

say() { printf '\n== %s\n' "$*" >&2; }
fail() { printf 'tests/kernels: %s\n' "$*" >&2; exit 1; }

need() {
    local tool
    for tool in qemu-system-x86_64 busybox cpio ip tc bridge ethtool ping nsenter ldd cargo apt-get dpkg-deb xz; do
        command -v "$tool" >/dev/null || fail "$tool is missing: run deploy/setup.sh"
    done
    if ldd "$(command -v busybox)" >/dev/null 2>&1; then fail "busybox is not static: install busybox-static"; fi
}

# The package of a series' newest kernel for virtual machines.
package() {
    local meta name
    case $1 in
        6.1) meta=linux-image-cloud-amd64 ;;
        *) meta=linux-image-$1-cloud-amd64 ;;
    esac
    name=$(apt-cache depends "$meta" 2>/dev/null | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
    [[ -n $name ]] || fail "apt knows no $meta: run apt-get update"
    echo "$name"
}

# Unpacks a series' kernel into the cache; its folder.
kernel() {
    local name folder
    name=$(package "$1")
    folder=$cache/$name
    if [[ ! -e $folder/complete ]]; then
        rm -rf "$folder"
        mkdir -p "$folder"
        (cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download "$name" >&2) || fail "cannot download $name"
        dpkg-deb -x "$folder"/*.deb "$folder/root"
        rm "$folder"/*.deb
        touch "$folder/complete"
    fi
    echo "$folder/root"
}

# Builds what runs inside; name and path of each executable, a line each.
executables() {
    local cargo=(cargo --color never)
    {
        "${cargo[@]}" build --manifest-path "$root/Cargo.toml" -p datapath --message-format json --example fabric-verify
        "${cargo[@]}" test --manifest-path "$root/Cargo.toml" -p datapath --message-format json --no-run \
            --test packets --test wire --test namespaces
    } | sed -n 's/.*"target":{[^}]*"name":"\(packets\|wire\|namespaces\|fabric-verify\)".*"executable":"\([^"]*\)".*/\1 \2/p'
}

# every_part_names_a_test PROGRAM PART…: a part that no test's name has would be left out in silence.
every_part_names_a_test() {
    local program=$1 path tests part
    shift
    path=$(sed -n "s/^$program //p" <<<"$programs")
    tests=$("$path" --list | sed -n 's/: test$//p') || fail "$program does not list its tests"
    for part in "$@"; do
        [[ $tests == *"$part"* ]] || fail "$program has no test whose name has $part: see the lists at the top of this file"
    done
}

# Copies a program and the libraries that it needs.
install_with_libraries() {
    local program=$1 target=$2 tree=$3 library
    install -D "$program" "$tree/$target"
    ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
        [[ -e $tree$library ]] || install -D "$library" "$tree$library"
    done
}

# Packs the initramfs.
initramfs() {
    local kernel=$1 output=$2 tree module file name path
    tree=$(mktemp -d)
    mkdir -p "$tree"/{proc,sys,dev,run,tmp,etc,bin,sbin,modules}
    install -D "$(command -v busybox)" "$tree/bin/busybox"
    for name in ip tc bridge ethtool ping nsenter; do install_with_libraries "$(command -v "$name")" "sbin/$name" "$tree"; done
    while read -r name path; do install_with_libraries "$path" "bin/$name" "$tree"; done <<<"$programs"
    for module in "${MODULES[@]}"; do
        file=$(find "$kernel" -name "$module.ko*" -print -quit)
        case $file in
            '') ;; # built in, or the test that needs it says so
            *.xz) xz -dc "$file" >"$tree/modules/$module.ko" ;;
            *) cp "$file" "$tree/modules/$module.ko" ;;
        esac
    done
    cat >"$tree/init" <<INIT
#!/bin/busybox sh
# Emulated, a packet takes as long as twenty.
export PATH=/sbin:/bin FABRIC_REQUIRE_PRIVILEGED=1 FABRIC_DIFFERENTIAL_PACKETS=5000 FABRIC_NO_DEVICES=1
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t bpf bpf /sys/fs/bpf
/bin/busybox mount -t tmpfs tmpfs /run
/bin/busybox --install -s /bin
echo fabric >/etc/hostname
for module in ${MODULES[*]}; do
    [ ! -e /modules/\$module.ko ] || insmod /modules/\$module.ko
done
ip link set lo up
echo "kernel \$(uname -r)"
fabric-verify && packets --test-threads 1 --skip an_hour ${packets[*]} && wire --test-threads 2 --include-ignored ${wire[*]} &&
    namespaces --test-threads 2 ${namespaces[*]} && echo $SUCCESS
poweroff -f
INIT
    chmod +x "$tree/init"
    (cd "$tree" && find . -print0 | cpio --null --quiet -o -H newc) | gzip -1 >"$output"
    rm -rf "$tree"
}

prepare() {
    initramfs "$(kernel "$1")" "$cache/initramfs-$1.gz"
}

# Boots a series that was prepared; each line of its console says whose it is. On a busy machine an emulated timer is late,
# which the kernel would take for a broken one.
boot() {
    local series=$1 image log=$cache/console-$1.log
    image=$(find "$(kernel "$series")/boot" -name 'vmlinuz-*' -print -quit)
    [[ -n $image ]] || fail "no kernel $series"
    say "Linux $series ($(basename "$image")), at most $LIMIT_SECONDS s"
    # One thread for both processors: with two, one may run into what the other is patching into the kernel ("Oops: int3").
    timeout "$LIMIT_SECONDS" qemu-system-x86_64 -machine q35 -accel tcg,thread=single -cpu max -smp 2 -m 3072 -nographic -no-reboot -nic none \
        -kernel "$image" -initrd "$cache/initramfs-$series.gz" \
        -append "console=ttyS0 quiet panic=-1 net.ifnames=0 no_timer_check" </dev/null | tee "$log" | sed -u "s/^/$series: /" || true
    grep -q "^$SUCCESS" "$log" || fail "Linux $series: not all held; the console is in $log"
}

# All at once: each is slow and for the most part one thread.
boot_all() {
    local one failed=0
    local -a pids=()
    for one in "$@"; do prepare "$one"; done
    for one in "$@"; do
        boot "$one" &
        pids+=("$!")
    done
    for one in "${pids[@]}"; do wait "$one" || failed=1; done
    return "$failed"
}

packets=("${PACKETS[@]}") wire=("${WIRE[@]}") namespaces=("${NAMESPACES[@]}")
if [[ ${1:-} == --all ]]; then
    packets=() wire+=("${MORE_WIRE[@]}") namespaces+=("${MORE_NAMESPACES[@]}")
    shift
fi
need
mkdir -p "$cache"
series=("$@")
[[ ${#series[@]} -gt 0 ]] || series=(6.1 6.12)
say "building"
programs=$(executables)
[[ $(wc -l <<<"$programs") -eq 4 ]] || fail "cargo built something else than expected: $programs"
every_part_names_a_test namespaces "${NAMESPACES[@]}" "${MORE_NAMESPACES[@]}"
every_part_names_a_test wire "${WIRE[@]}" "${MORE_WIRE[@]}"
every_part_names_a_test packets an_hour "${PACKETS[@]}"
boot_all "${series[@]}"
say "all kernels hold: ${series[*]}"
