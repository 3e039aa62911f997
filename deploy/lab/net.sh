# shellcheck shell=bash
# Namespaces and links: one namespace with a bridge is the underlay, one per host is wired to it.
# shellcheck disable=SC2154 # lab_id is set by lab.sh

# host_address HOST: its tunnel address.
host_address() {
    local number=${1#fab}
    case $(<"$(state)/underlay") in
        ipv4) printf '192.0.2.%d' "$number" ;;
        ipv6) printf '2001:db8::%x' "$number" ;;
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
    ip -n "$(namespace underlay)" link add br0 type bridge
    ip -n "$(namespace underlay)" link set br0 up
    nsenter --net="/run/netns/$(namespace underlay)" nft -f - <<'NFT'
table bridge fabric_lab {
    chain cut { type filter hook forward priority 0; }
    chain loss { type filter hook forward priority 1; }
}
NFT
}

# make_host HOST: its namespace and its link to the underlay. The link's end there has the host's name.
make_host() {
    local host=$1 name
    local -a address
    name=$(namespace "$host")
    make_namespace "$host"
    ip link add "$host" netns "$(namespace underlay)" type veth peer name eth0 netns "$name"
    ip -n "$(namespace underlay)" link set "$host" master br0 up
    address=("$(host_address "$host")/24")
    [[ $(<"$(state)/underlay") == ipv4 ]] || address=("$(host_address "$host")/64" nodad)
    ip -n "$name" address add "${address[@]}" dev eth0
    ip -n "$name" link set eth0 up
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
