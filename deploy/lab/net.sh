# shellcheck shell=bash
# Namespaces and links: one namespace is the underlay, one per host is wired to it. The underlay is a bridge, or a router
# with a subnet for each host; of two hosts it may be a cable from one to the other, with nothing in between.
# shellcheck disable=SC2154 # lab_id is set by lab.sh

# host_address HOST: its tunnel address.
host_address() {
    local number=${1#fab}
    case $(<"$(state)/underlay") in
        ipv4 | cable) printf '192.0.2.%d' "$number" ;;
        ipv6) printf '2001:db8::%x' "$number" ;;
        routed) printf '198.18.%d.1' "$number" ;;
    esac
}

# The family of nftables that sees what passes the underlay.
underlay_family() {
    case $(<"$(state)/underlay") in
        routed) printf 'ip' ;;
        *) printf 'bridge' ;;
    esac
}

# make_namespace NAME: refuses one that is there already, so that `down` removes only what the lab made.
make_namespace() {
    local name
    name=$(namespace "$1")
    [[ ! -e /run/netns/$name ]] || die "a network namespace $name exists and is not this lab's; choose another --id"
    printf '%s\n' "$name" >>"$(state)/namespaces"
    ip netns add "$name"
    ip -n "$name" link set lo up
}

make_underlay() {
    make_namespace underlay
    if [[ $(underlay_family) == bridge ]]; then
        ip -n "$(namespace underlay)" link add br0 type bridge
        ip -n "$(namespace underlay)" link set br0 up
    else
        nsenter --net="/run/netns/$(namespace underlay)" sysctl -qw net.ipv4.ip_forward=1
    fi
    nsenter --net="/run/netns/$(namespace underlay)" nft -f - <<NFT
table $(underlay_family) fabric_lab {
    chain cut { type filter hook forward priority 0; }
    chain loss { type filter hook forward priority 1; }
}
NFT
}

# make_host HOST: its namespace and its link to the underlay. The link's end there has the host's name.
make_host() {
    make_namespace "$1"
    if [[ $(<"$(state)/underlay") == cable ]]; then
        plug_cable fab1 fab2
    else
        plug_host "$1"
    fi
}

# plug_cable HOST HOST: joins them as soon as both are there.
plug_cable() {
    local host
    exists "$1" && exists "$2" || return 0
    ip link add eth0 netns "$(namespace "$1")" type veth peer name eth0 netns "$(namespace "$2")"
    for host in "$@"; do
        ip -n "$(namespace "$host")" link set eth0 up
        ip -n "$(namespace "$host")" address add "$(host_address "$host")/24" dev eth0
    done
}

plug_host() {
    local host=$1 name underlay address
    name=$(namespace "$host")
    underlay=$(namespace underlay)
    address=$(host_address "$host")
    ip link add "$host" netns "$underlay" type veth peer name eth0 netns "$name"
    ip -n "$name" link set eth0 up
    case $(<"$(state)/underlay") in
        ipv4) ip -n "$name" address add "$address/24" dev eth0 ;;
        ipv6) ip -n "$name" address add "$address/64" dev eth0 nodad ;;
        routed)
            ip -n "$name" address add "$address/24" dev eth0
            ip -n "$underlay" address add "${address%.1}.254/24" dev "$host"
            ;;
    esac
    if [[ $(underlay_family) == bridge ]]; then
        ip -n "$underlay" link set "$host" master br0 up
    else
        ip -n "$underlay" link set "$host" up
        ip -n "$name" route add default via "${address%.1}.254"
    fi
}

# remove_namespace NAME (with the lab's prefix). Its links go first: a process left inside keeps a namespace alive.
remove_namespace() {
    local link
    if [[ -e /run/netns/$1 ]]; then
        while read -r link; do
            ip -n "$1" link delete "$link" 2>/dev/null || true
        done < <(ip -n "$1" -j link show 2>/dev/null | jq -r '.[] | select(.link_type == "ether") | .ifname')
        ip netns delete "$1" || true
    fi
    sed -i "/^$1\$/d" "$(state)/namespaces"
}

mount_bpffs() {
    local dir
    dir=$(state)/$1/bpf
    mkdir -p "$dir"
    mountpoint -q "$dir" || mount -t bpf bpf "$dir"
}

unmount_bpffs() {
    local dir
    dir=$(state)/$1/bpf
    ! mountpoint -q "$dir" || umount "$dir" || umount --lazy "$dir"
}

# in_workload NAME COMMAND…
in_workload() {
    local name=$1
    shift
    nsenter --net="/run/netns/$(namespace "$name")" "$@"
}
