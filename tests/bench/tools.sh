# shellcheck shell=bash
# Programs of ours that measuring needs beside the fabric's.
# shellcheck disable=SC2154,SC2034 # repo is set by bench.sh; load_tool is for traffic.sh

# tool NAME: its path. With FABRIC_BIN it must lie there.
tool() {
    printf '%s/%s\n' "${FABRIC_BIN:-${CARGO_TARGET_DIR:-$repo/target}/release}" "$1"
}

build_tools() {
    local each
    if [[ -z ${FABRIC_BIN:-} ]]; then
        use_toolchain
        say "building what measures (the first time some ten minutes on two cores)"
        quietly "$samples.log" cargo build --manifest-path "$repo/Cargo.toml" --release --locked \
            -p fabric-tests --bin fabric-load -p datapath --example fabric-minimal --example fabric-generations -p fabric-node --bins ||
            die "the build failed"
        rm -f "$samples.log"
    fi
    load_tool=$(tool fabric-load)
    for each in fabric-load examples/fabric-minimal examples/fabric-generations; do
        [[ -x $(tool "$each") ]] || die "$(tool "$each") is missing; build it with: cargo build -p fabric-tests -p datapath --bins --examples"
    done
}

# Only what writes to APIs.
build_load() {
    if [[ -z ${FABRIC_BIN:-} ]]; then
        use_toolchain
        say "building what measures (the first time some ten minutes on two cores)"
        quietly "$samples.log" cargo build --manifest-path "$repo/Cargo.toml" --release --locked \
            -p fabric-tests --bin fabric-load -p fabric-node --bins || die "the build failed"
        rm -f "$samples.log"
    fi
    load_tool=$(tool fabric-load)
    [[ -x $load_tool ]] || die "$load_tool is missing; build it with: cargo build -p fabric-tests --bins"
}
