# shellcheck shell=bash
# What a script tells people: progress with elapsed seconds on standard error, and failures that say what to do.

# Seconds since the outermost of our scripts began, also in the scripts it calls.
: "${FABRIC_BEGAN:=$(date +%s)}"
export FABRIC_BEGAN

say() {
    printf '[%3d s] %s\n' "$(($(date +%s) - FABRIC_BEGAN))" "$*" >&2 || true
}

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

usage_error() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

# need_value OPTION [VALUE …]: an option that stands last has none.
need_value() {
    (($# >= 2)) || usage_error "$1 needs a value"
}

# no_more WHAT ARGUMENT…: a word too many may mean something else than what would be done.
no_more() {
    local what=$1
    shift
    (($# == 0)) || usage_error "$what, not also '$*'"
}

need_root() {
    ((EUID == 0)) || die "$1 needs root: it makes network namespaces and installs packages; run it with sudo"
}

# retry TIMES COMMAND…: again after 2, 4, 8 … seconds.
retry() {
    local times=$1 pause=2
    shift
    until "$@"; do
        ((--times > 0)) || return 1
        say "failed, once more in $pause s: $*"
        sleep "$pause"
        ((pause *= 2))
    done
}

# within SECONDS COMMAND…: asks again and again until the command succeeds or the time is over.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
}

# A background command does not get the terminal's Ctrl-C: it is passed on.
quiet_pid=
trap interrupted INT TERM HUP PIPE

interrupted() {
    undisturbed
    say "interrupted"
    [[ -z $quiet_pid ]] || kill "$quiet_pid" 2>/dev/null || true
    exit 130
}

# What cleans up goes on to its end: a second Ctrl-C, a terminal that is gone and a reader that left do not stop it.
undisturbed() {
    trap '' INT TERM HUP PIPE
}

# quietly LOG COMMAND…: output goes to a file; its end is shown if the command fails; a long one shows that it runs.
quietly() {
    local log=$1 pid status=0 began=$SECONDS shown=$SECONDS
    shift
    "$@" >"$log" 2>&1 &
    pid=$! quiet_pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        if ((SECONDS - shown >= 10)); then
            shown=$SECONDS
            say "  … $((SECONDS - began)) s: $(tail -c 300 "$log" | tr '\r' '\n' | sed '/^\s*$/d' | tail -n 1 | cut -c1-90)"
        fi
        sleep 0.2
    done
    wait "$pid" || status=$?
    quiet_pid=
    ((status == 0)) || tail -n 30 "$log" >&2
    return "$status"
}
