# shellcheck shell=bash
# The daemons: configuration, start, kill. `nsenter --net` and not `ip netns exec`, which would hide bpffs.

write_config() {
    local host=$1 dir address
    dir=$(state)/$host
    address=$(host_address "$host")
    mkdir -p "$dir"
    cat >"$dir/config.toml" <<TOML
[node]
name = "$host"
data = "$dir/data"
[mesh]
listen = "$address"
[api]
socket = "$dir/api.sock"
https = "$address"
[datapath]
bpffs = "$dir/bpf"
[log]
level = "${FABRIC_LOG:-info}"
TOML
}

# node HOST ARGUMENT…: fabric-node in the host's namespace.
node() {
    local host=$1
    shift
    nsenter --net="/run/netns/$(namespace "$host")" "$(<"$(state)/bin")/fabric-node" "$@" \
        --config "$(state)/$host/config.toml"
}

start_daemon() {
    local host=$1 dir
    dir=$(state)/$host
    mount_bpffs "$host"
    setsid nsenter --net="/run/netns/$(namespace "$host")" "$(<"$(state)/bin")/fabric-node" run \
        --config "$dir/config.toml" </dev/null >>"$dir/log" 2>&1 9>&- &
    process "$!" >"$dir/pid" || true
    disown
    within 30 answers_or_died "$host" || true
    if ! daemon_pid "$host" >/dev/null; then
        tail -n 20 "$dir/log" >&2
        die "the daemon of $host ended; its log is $dir/log"
    fi
    answers "$host" || die "the daemon of $host did not answer within 30 s; its log is $dir/log"
}

answers() {
    (fabricctl "$1" status -o json) >/dev/null 2>&1
}

answers_or_died() {
    answers "$1" || ! daemon_pid "$1" >/dev/null
}

# end_daemon HOST SIGNAL: back when it is gone.
end_daemon() {
    local pid
    pid=$(daemon_pid "$1") || return 0
    kill -s "$2" "$pid" 2>/dev/null || true
    within 30 gone "$1" || die "the daemon of $1 (pid $pid) goes on after SIG$2"
    rm -f "$(state)/$1/pid"
}

# Nothing of it runs: it is not there, or nobody took its exit status. While another thread of it ends, its sockets are open.
gone() {
    local pid threads
    pid=$(daemon_pid "$1") || return 0
    threads=$(find "/proc/$pid/task" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l)
    [[ $(awk '{ sub(/.*\) /, ""); print $1 }' "/proc/$pid/stat" 2>/dev/null) == Z ]] && ((threads <= 1))
}

# sees_live HOST COUNT: whether it reports that many other hosts as live.
sees_live() {
    local live
    live=$(fabricctl "$1" peers -o json 2>/dev/null |
        jq --arg me "$1" '[.[] | select(.name != $me and .state == "live")] | length') || return 1
    ((live >= $2))
}

make_cluster() {
    local host token others=$(($1 - 1))
    say "making the cluster on fab1"
    (node fab1 init) >>"$(state)/fab1/log" 2>&1 || { tail -n 5 "$(state)/fab1/log" >&2 && die "init failed on fab1"; }
    start_daemon fab1
    token=$(fabricctl fab1 token create --uses "$others" -o json | jq -er 'if type == "object" then .token else . end') ||
        die "fab1 gave no token"
    while read -r host; do
        [[ $host != fab1 ]] || continue
        say "$host joins"
        (node "$host" join "$token") >>"$(state)/$host/log" 2>&1 ||
            { tail -n 5 "$(state)/$host/log" >&2 && die "$host could not join"; }
        start_daemon "$host"
    done < <(hosts)
    while read -r host; do
        within 30 sees_live "$host" "$others" || die "$host does not see $others live peers after 30 s"
    done < <(hosts)
}
