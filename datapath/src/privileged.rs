//! Tests that need root: they skip loudly on a laptop and fail where they must run.

/// Whether the test can run; says so, or fails where it must.
pub(crate) fn privileged(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    let required = ["CI", "FABRIC_REQUIRE_PRIVILEGED"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    assert!(!required, "{test} needs root, and privileged tests are required here");
    eprintln!("SKIPPED {test}: it needs root");
    false
}
