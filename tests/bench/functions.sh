# shellcheck shell=bash
# What third-party functions cost that do nothing: eBPF time per packet that the client's host sends, with none, with eight
# that are asked once for a flow, with eight that are asked for each packet.
# shellcheck disable=SC2154 # set by bench.sh and the files beside this one

readonly FUNCTIONS=8

# Whether this build has functions and there is a compiler for one.
have_functions() {
    [[ -r $repo/datapath/functions/pass.c ]] && command -v clang >/dev/null &&
        lab exec fab1 -- fabricctl function list >/dev/null 2>&1
}

make_function() {
    clang -O2 -g -target bpf -I "$repo/datapath/sdk/include" -c "$repo/datapath/functions/pass.c" -o "$samples.pass.o" ||
        die "datapath/functions/pass.c does not compile"
}

# load_functions flow|packet
load_functions() {
    local n
    for ((n = 1; n <= FUNCTIONS; n++)); do
        lab exec fab1 -- fabricctl function load "bench/pass-$n" --hook "$1" "$samples.pass.o" >/dev/null ||
            die "a function was refused"
    done
}

remove_functions() {
    local n
    for ((n = 1; n <= FUNCTIONS; n++)); do
        lab exec fab1 -- fabricctl function remove "bench/pass-$n" >/dev/null || die "a function was not removed"
    done
}

# functions_round ROUND
functions_round() {
    local kind times none=''
    offload fabric on
    for kind in none flow packet; do
        [[ $kind == none ]] || load_functions "$kind"
        times=$(program_times fabric) || die "no times of the fabric's programs"
        if [[ $kind == none ]]; then none=${times% *}; else remove_functions; fi
        printf '%s functions on %s %s 0\n' "$1" "$kind" "${times% *}" >>"$samples"
    done
    awk -v round="$1" -v none="$none" -v all="${times% *}" -v count="$FUNCTIONS" \
        'BEGIN { print round, "functions on each", (all - none) / count, 0 }' >>"$samples"
}
