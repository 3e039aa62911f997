# shellcheck shell=bash
# Faults of the underlay, in its own namespace: rules in a host's namespace do not stop what BPF forwards. A fault that
# does not stop a workload's ping is none: each is proven first, and undone with an error if the ping goes on.
# shellcheck disable=SC2154 # lab_id is set by lab.sh

# Faults need something between the hosts.
need_way() {
    [[ $(<"$(state)/underlay") != cable ]] || die "nothing stands on a cable that could drop packets; use another --underlay"
}

underlay_nft() {
    nsenter --net="/run/netns/$(namespace underlay)" nft "$@"
}

# drop CHAIN MATCH…: tunnels are counted apart, so that a proof can see that they were stopped here.
drop() {
    local chain=$1
    shift
    underlay_nft add rule "$(underlay_family)" fabric_lab "$chain" "$@" udp dport 4789 counter drop
    underlay_nft add rule "$(underlay_family)" fabric_lab "$chain" "$@" counter drop
}

flush() {
    underlay_nft flush chain "$(underlay_family)" fabric_lab "$1"
}

# Tunnel packets that a chain has dropped.
dropped() {
    underlay_nft -j list chain "$(underlay_family)" fabric_lab "$1" |
        jq '[.nftables[].rule? | select(. != null) | select(any(.expr[]; .match?.right == 4789)) |
             .expr[].counter?.packets // empty] | add // 0'
}

# pair A B: names of two workloads of one domain, one on each host.
pair() {
    local name domain other
    while read -r name domain _ _; do
        other=$(workloads "$domain" "$2" | awk 'NR == 1 { print $1 }')
        [[ -z $other ]] || { printf '%s %s\n' "$name" "$other" && return 0; }
    done < <(workloads . "$1")
    return 1
}

answers_ping() {
    in_workload "$1" ping -n -c 1 -W 1 "$(address "$2" 4)" >/dev/null 2>&1
}

# prove CHAIN A B: rules of CHAIN are in force between hosts A and B; a workload's ping must have stopped, and in them.
prove() {
    local chain=$1 from to before
    read -r from to < <(pair "$2" "$3") || die "no domain has workloads on both $2 and $3: the fault cannot be proven"
    before=$(dropped "$chain")
    if answers_ping "$from" "$to" || (($(dropped "$chain") <= before)); then
        return 1
    fi
    say "proven: $from does not reach $to"
}

# before_fault A B: without a fault the ping works, so that its end means something.
before_fault() {
    local from to
    read -r from to < <(pair "$1" "$2") || die "no domain has workloads on both $1 and $2: the fault cannot be proven"
    within 5 answers_ping "$from" "$to" || say "note: $from did not reach $to before either"
}

undo() {
    flush "$1"
    die "the fault did not stop a workload's ping; its rules are removed"
}

cut_between() {
    local set host rest=''
    set=$(printf '"%s", ' "$@")
    set="{ ${set%, } }"
    for host in $(running_hosts); do
        [[ " $* " == *" $host "* ]] || rest=${rest:-$host}
    done
    [[ -n $rest ]] || usage_error "cut needs at least one running host on the other side"
    before_fault "$1" "$rest"
    drop cut iifname "$set" oifname != "$set"
    drop cut iifname != "$set" oifname "$set"
    prove cut "$1" "$rest" || undo cut
}

cut_one_way() {
    before_fault "$1" "$2"
    drop cut iifname "$1" oifname "$2"
    prove cut "$1" "$2" || undo cut
}

fault_cut() {
    local from='' to='' host
    local -a set=()
    need_way
    while (($#)); do
        case $1 in
            --from) need_value "$@" && from=$2 && shift 2 ;;
            --to) need_value "$@" && to=$2 && shift 2 ;;
            *) set+=("$1") && shift ;;
        esac
    done
    for host in "${set[@]}" ${from:+"$from"} ${to:+"$to"}; do
        need_host "$host"
    done
    if ((${#set[@]})) && [[ -z $from$to ]]; then
        cut_between "${set[@]}"
    elif ((${#set[@]} == 0)) && [[ -n $from && -n $to ]]; then
        cut_one_way "$from" "$to"
    else
        usage_error "cut takes hosts, or --from A --to B"
    fi
}

fault_loss() {
    local -a running
    need_way
    if ! [[ ${1:-} =~ ^(0|[1-9][0-9]{0,2})$ ]] || (($1 > 100)); then
        usage_error "loss takes a percentage from 0 to 100"
    fi
    no_more "loss takes a percentage" "${@:2}"
    mapfile -t running < <(running_hosts)
    ((${#running[@]} >= 2)) || die "loss needs two running hosts"
    flush loss
    if (($1 > 0)); then
        before_fault "${running[@]:0:2}"
        drop loss
        prove loss "${running[@]:0:2}" || undo loss
    fi
    if (($1 > 0 && $1 < 100)); then
        flush loss
        drop loss numgen random mod 100 '<' "$1"
    fi
    say "$1 % of the underlay's packets are lost"
}

fault_heal() {
    local from to
    local -a running
    no_more "heal takes no argument: it ends every cut and loss" "$@"
    flush cut
    flush loss
    mapfile -t running < <(running_hosts)
    while ((${#running[@]} >= 2)); do
        if read -r from to < <(pair "${running[@]:0:2}"); then
            within 30 answers_ping "$from" "$to" || die "$from does not reach $to 30 s after the underlay was healed"
            say "$from reaches $to"
        fi
        running=("${running[@]:1}")
    done
}

need_daemon() {
    daemon_pid "$1" >/dev/null || die "the daemon of $1 does not run; start it with: $(script) start $1"
}

host_kill() {
    need_daemon "$1"
    end_daemon "$1" KILL
    say "killed the daemon of $1; its workloads go on"
}

host_stop() {
    need_daemon "$1"
    end_daemon "$1" TERM
    say "stopped the daemon of $1; its workloads go on"
}

host_off() {
    exists "$1" || die "$1 is off already"
    end_daemon "$1" KILL
    ip -n "$(namespace underlay)" link delete "$1" 2>/dev/null || true
    remove_namespace "$(namespace "$1")"
    unmount_bpffs "$1"
    rm -f "$(state)/$1/api.sock"
    say "$1 is off"
}

host_start() {
    ! daemon_pid "$1" >/dev/null || die "the daemon of $1 runs already"
    exists "$1" || make_host "$1"
    start_daemon "$1"
    say "$1 is back"
}
