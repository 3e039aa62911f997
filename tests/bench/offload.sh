# shellcheck shell=bash
# What network cards do for the kernel, in three states:
#
#   on    checksums and segmentation at the sender (TSO, GSO): a veth as it comes; super-packets arrive whole
#   off   none of it, and no GRO
#   gro   the sender's TSO and GSO off, GRO where the receiver takes packets off the wire: a card that does not segment
#
# shellcheck disable=SC2154 # the ways are ways.sh's

# offload WAY STATE
offload() {
    case $2 in
        on) switch "${sending[$1]},${receiving[$1]}" tx on rx on tso on gso on gro off ;;
        off) switch "${sending[$1]},${receiving[$1]}" tso off gso off gro off tx off rx off ;;
        gro)
            switch "${sending[$1]},${receiving[$1]}" tx on rx on tso on gso on gro off
            switch "${sending[$1]}" tso off gso off
            switch "${arriving[$1]}" gro on
            ;;
    esac
}

# switch "NAMESPACE DEVICE,…" FEATURE on|off…
switch() {
    local list=$1 each name device
    shift
    while read -r each; do
        read -r name device <<<"$each"
        in_namespace "$name" ethtool -K "$device" "$@" >/dev/null 2>&1 ||
            die "ethtool -K $device $* failed in $name"
    done < <(tr ',' '\n' <<<"$list")
}
