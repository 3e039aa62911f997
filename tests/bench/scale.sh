# shellcheck shell=bash
# What the datapath crate takes for 100,000 endpoints and 500 interfaces: its own test measures it and prints JSON.
# shellcheck disable=SC2154 # set by bench.sh and the files beside this one

readonly SCALE_TEST=many_endpoints_and_many_ports

have_scale() {
    grep -qs "fn $SCALE_TEST" "$repo/datapath/tests/namespaces/scale.rs"
}

measure_scale() {
    local -a profile=(--release)
    local line
    have_scale || { say "this build has no test of many endpoints" && return 0; }
    [[ -z ${FABRIC_BIN:-} || $FABRIC_BIN == */release ]] || profile=()
    use_toolchain
    say "measuring 100,000 endpoints and 500 interfaces (builds a test)"
    quietly "$samples.scale" cargo test --manifest-path "$repo/Cargo.toml" "${profile[@]}" --locked -p datapath \
        --test namespaces "$SCALE_TEST" -- --ignored --nocapture || die "the test of many endpoints failed"
    line=$(grep -oE '\{"endpoints".*\}' "$samples.scale") || die "the test of many endpoints printed no numbers"
    jq -r '"1 load_seconds - fabric \(.load_seconds) 0",
           "1 attach_seconds - fabric \(.attach_seconds) 0",
           "1 boot_seconds - fabric \(.open_seconds + .first_apply_seconds) 0",
           "1 bytes_per_endpoint - fabric \(.bytes_per_endpoint) 0",
           "1 core_percent - fabric \(.core_share_at_30_changes * 100) 0"' <<<"$line" >>"$samples"
}
