#!/usr/bin/env bash
# Runs every test there is: format, lints, dependencies, unit, golden and packet tests, scenarios in network
# namespaces, other kernels. Needs root and Debian 12; about an hour on two cores from an empty target folder.
# The last line is `N passed, N failed, N skipped`; the exit code is 0 only if nothing failed.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/lab/say.sh
source "$repo/deploy/lab/say.sh"
# shellcheck source=deploy/lab/toolchain.sh
source "$repo/deploy/lab/toolchain.sh"

usage() {
    cat <<'USAGE'
usage: tests/run.sh [--long] [--kernels]
  --long      more seeds and cases for the tests that make up their own input
  --kernels   only what runs on other kernels, and more of it: every packet test, most of what depends on a kernel
Environment: FABRIC_REQUIRE_PRIVILEGED=1 makes a privileged test that is skipped a failure. Without it, one that finds that
it cannot run counts as passed.
USAGE
}

passed=0 failed=0 skipped=0
declare -a broken=() took=()

# stage NAME COMMAND…: counts the tests that the command reports, or the command itself as one.
stage() {
    local name=$1 log="$logs/${1// /-}.log" status=0 counts began=$SECONDS
    shift
    say "== $name"
    "$@" 2>&1 | tee "$log" || status=$?
    took+=("$((SECONDS - began)) s  $name")
    counts=$(tr -d '\r' <"$log" | sed -n 's/.*test result: [A-Za-z]*\. \([0-9]*\) passed; \([0-9]*\) failed; \([0-9]*\) ignored.*/\1 \2 \3/p' |
        awk '{ p += $1; f += $2; s += $3 } END { print p + 0, f + 0, s + 0 }')
    add "$name" "$status" "$counts" "$(grep -c '^SKIPPED' "$log" || true)"
}

# add NAME STATUS "PASSED FAILED IGNORED" SKIPPED-LINES
add() {
    local name=$1 status=$2 skips=$4 p f i
    read -r p f i <<<"$3"
    # A test that skips itself is reported as passed, and cargo shows its SKIPPED only where output is not captured.
    ((skips <= p)) || skips=$p
    ((p = p - skips, i = i + skips)) || true
    if ((status == 0 && p + f + i == 0)); then
        p=1
    elif ((status != 0 && f == 0)); then
        f=1
    fi
    ((passed += p, failed += f, skipped += i)) || true
    if ((f)); then broken+=("$name"); fi
    if ((skips)) && [[ -n ${FABRIC_REQUIRE_PRIVILEGED:-} ]]; then
        ((failed += skips))
        broken+=("$name: privileged tests were skipped")
    fi
}

skip() {
    say "== $1: skipped: $2"
    skipped=$((skipped + 1))
}

formatted() {
    cargo fmt --all --check && cargo fmt --manifest-path datapath/ebpf/Cargo.toml --check &&
        cargo fmt --manifest-path datapath/sdk/Cargo.toml --check
}

shell_scripts() {
    shellcheck -x deploy/*.sh deploy/lab/*.sh tests/*.sh tests/bench/*.sh tests/kernels/*.sh .ci/run
}

# The one line of dependencies: fabric-node → datapath → overlay → membership.
dependency_order() {
    local found
    found=$(cargo metadata --no-deps --locked --format-version 1 | jq -r '
        {"membership": [], "overlay": ["membership"], "datapath-common": [],
         "datapath": ["datapath-common", "overlay", "membership"],
         "fabric-node": ["datapath", "overlay", "membership"], "fabric-tests": []} as $may
        | .packages[] | .name as $name
        | .dependencies[] | select(.path) | .name | select(. as $on | ($may[$name] // []) | index($on) | not)
        | "\($name) must not depend on \(.)"') || return 1
    [[ -z $found ]] || { printf '%s\n' "$found" && return 1; }
}

unsafe_only_in_datapath() {
    local manifest found=0
    for manifest in membership overlay fabric-node tests; do
        if ! grep -A1 '^\[lints\]' "$manifest/Cargo.toml" | grep -q '^workspace = true'; then
            echo "$manifest/Cargo.toml does not take the workspace's lints, which forbid unsafe"
            found=1
        fi
    done
    ! grep -rnE --include='*.rs' '\bunsafe( +(fn|impl|extern|trait)\b| *\{)' membership overlay fabric-node tests || found=1
    return "$found"
}

dependencies() {
    cargo deny --locked check bans licenses sources
}

advisories() {
    if timeout 90 cargo deny fetch db >"$logs/advisory-db.log" 2>&1; then
        stage "advisories" cargo deny --locked check advisories
    else
        skip "advisories" "the advisory database cannot be fetched from here"
    fi
}

# More at a time than there are processors: for the most part they wait for the kernel.
packet_tests() {
    RUST_TEST_THREADS=4 cargo test -p datapath --locked --no-fail-fast
}

unit_tests() {
    cargo test --workspace --exclude datapath --exclude fabric-tests --locked --no-fail-fast
}

# The demo is the first scenario, with the build it makes itself; the others use that build.
demo() {
    local id="t$$-demo" status=0
    deploy/lab.sh --id "$id" up || return
    deploy/lab.sh --id "$id" workload red-web-1 -- ping -n -c 1 -W 2 10.0.0.12 || status=$?
    deploy/lab.sh --id "$id" down || status=$?
    if [[ $(ip netns list) == *"$id-"* || -e /run/fabric-lab/$id ]]; then
        echo "down left something"
        status=1
    fi
    return "$status"
}

scenarios() {
    FABRIC_BIN=${FABRIC_BIN:-${CARGO_TARGET_DIR:-$repo/target}/release} \
        cargo test -p fabric-tests --locked --no-fail-fast
}

# Removes what killed tests left: labs and namespaces whose names have the id of a process that is gone, and this run's own.
remove_leftovers() {
    local path name
    for path in /run/fabric-lab/t[0-9]*-* /run/netns/ebpf[0-9]*-* /run/netns/host[0-9]*-*; do
        name=${path##*/}
        [[ -e $path && $name =~ ^(t|ebpf|host)([0-9]+)- && ( ${BASH_REMATCH[2]} == "$$" || ! -e /proc/${BASH_REMATCH[2]} ) ]] || continue
        say "removing $name, which a killed test left"
        case $path in
            /run/netns/*) ip netns delete "$name" || true ;;
            *) deploy/lab.sh --id "$name" down || true ;;
        esac
    done
}

# Whatever ends the run, nothing of it stays.
after_all() {
    undisturbed
    ((EUID != 0)) || remove_leftovers
    rm -rf "$logs"
}

# What the failed tests said, once more: the logs are long, and only their end is looked at.
failures() {
    local log
    for log in "$logs"/*.log; do
        grep -q '^failures:' "$log" || continue
        say "== what failed in $(basename "$log" .log)"
        tr -d '\r' <"$log" | awk '/^failures:/ { shown = !shown } shown' | tail -n 100
    done
}

privileged() {
    if ((EUID != 0)); then
        echo "SKIPPED $1: it needs root"
        echo "test result: ok. 1 passed; 0 failed; 0 ignored"
        return 0
    fi
    "$1"
}

all_stages() {
    stage "format" formatted
    stage "shell scripts" shell_scripts
    stage "dependency order" dependency_order
    stage "unsafe only in datapath" unsafe_only_in_datapath
    stage "dependencies" dependencies
    advisories
    stage "lints" cargo clippy --workspace --all-targets --locked -- -D warnings
    stage "packet and namespace tests" packet_tests
    stage "unit and golden tests" unit_tests
    stage "demo" privileged demo
    stage "scenarios" privileged scenarios
}

main() {
    local only_kernels=
    local -a all_packets=()
    while (($#)); do
        case $1 in
            --long) all_packets=(--all) && export FABRIC_LONG=1 PROPTEST_CASES=${PROPTEST_CASES:-4096} ;;
            --kernels) all_packets=(--all) && only_kernels=yes ;;
            -h | --help) usage && return 0 ;;
            *) usage >&2 && usage_error "unknown argument $1" ;;
        esac
        shift
    done
    cd "$repo"
    "$repo/deploy/setup.sh" --for tests
    use_toolchain
    logs=$(mktemp -d)
    trap after_all EXIT
    [[ -n $only_kernels ]] || all_stages
    stage "kernels 6.1 and 6.12" tests/kernels/run.sh "${all_packets[@]}"
    say "done; it took"
    printf '  %9s\n' "${took[@]}"
    failures
    ((${#broken[@]} == 0)) || printf 'FAILED: %s\n' "${broken[@]}"
    [[ -n ${FABRIC_REQUIRE_PRIVILEGED:-} ]] ||
        echo "The passed may include privileged tests that skipped themselves; FABRIC_REQUIRE_PRIVILEGED=1 makes them fail."
    echo "$passed passed, $failed failed, $skipped skipped"
    ((failed == 0))
}

main "$@"
