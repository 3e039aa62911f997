# shellcheck shell=bash
# Which Rust builds what. A rustup toolchain that is recent enough builds the host side; without one Debian's rustc-web
# builds everything. The eBPF side needs Debian's compiler (its source package is there) or a nightly with rust-src.

readonly RUST_FLOOR=1.95

# Puts cargo's binaries on the path and, where rustup's compiler is missing or too old, Debian's before them.
use_toolchain() {
    PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    if ! recent_rustc rustc && recent_rustc /usr/bin/rustc; then
        PATH="/usr/bin:$PATH"
    fi
    export PATH
}

# recent_rustc COMMAND
recent_rustc() {
    local version
    version=$("$1" --version 2>/dev/null | cut -d ' ' -f 2) || return 1
    [[ -n $version && $(printf '%s\n' "$RUST_FLOOR" "$version" | sort -V | head -n 1) == "$RUST_FLOOR" ]]
}

# Major version of the LLVM that Debian's rustc was built with: bpf-linker must be built with the same.
llvm_major() {
    /usr/bin/rustc -vV 2>/dev/null | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p'
}
