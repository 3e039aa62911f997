//! Builds the eBPF programs of `ebpf/` for the BPF target. Their object lies in `OUT_DIR/fabric`, and those of the functions
//! of `functions/` beside it: under their names those in Rust, as `NAME.o` those in C. So is what tests load besides.
//!
//! The toolchain is rustup's nightly if it has `rust-src`, else the one that `deploy/setup.sh` links as `debian-rustc`;
//! without rustup, the cargo that runs this. One that is no nightly is let to use `-Z build-std` for this inner build.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use aya_build::{Package, Toolchain, build_ebpf};

const NIGHTLY: &str = "nightly";
const DEBIAN: &str = "debian-rustc";
const FUNCTIONS_IN_C: [&str; 8] = [
    "pass",
    "count",
    "refused/write",
    "refused/store",
    "refused/redirect",
    "refused/call",
    "refused/pin",
    "refused/large",
];
/// What the packet tests load besides.
const TESTS_IN_C: [&str; 2] = ["tests/packets/clock", "tests/packets/linear"];
const SETUP: &str = "run deploy/setup.sh, which installs it";

fn main() -> Result<()> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("cargo did not set CARGO_MANIFEST_DIR")?);
    let programs = manifest.join("ebpf");
    for path in [
        "ebpf/Cargo.toml",
        "ebpf/Cargo.lock",
        "common/Cargo.toml",
        "common/src",
        "sdk",
        "functions",
        "tests/packets/clock.c",
        "tests/packets/linear.c",
        "build.rs",
    ] {
        println!("cargo:rerun-if-changed={}", manifest.join(path).display());
    }
    println!("cargo:rerun-if-env-changed=PATH");

    if !found(Command::new("bpf-linker").arg("--version")) {
        bail!("bpf-linker is not in PATH: {SETUP}");
    }
    let toolchain = toolchain()?;
    if toolchain != NIGHTLY {
        // SAFETY: this build script has one thread.
        unsafe { env::set_var("RUSTC_BOOTSTRAP", "1") };
    }
    let sources = programs.join("src");
    let sources = sources.to_str().context("the path of the sources is not UTF-8")?;
    // The programs are a workspace of their own, which cargo finds from the directory it runs in.
    env::set_current_dir(&programs).context("datapath/ebpf is not there")?;
    let package = Package {
        name: "datapath-ebpf",
        root_dir: sources,
        ..Package::default()
    };
    build_ebpf([package], Toolchain::Custom(toolchain)).context("the eBPF programs do not build")?;
    let functions = FUNCTIONS_IN_C.map(|name| Path::new("functions").join(name));
    in_c(&manifest, functions.into_iter().chain(TESTS_IN_C.map(PathBuf::from)))
}

/// Compiles what is written in C, by names without their ending.
fn in_c(manifest: &Path, names: impl Iterator<Item = PathBuf>) -> Result<()> {
    let output = PathBuf::from(env::var_os("OUT_DIR").context("cargo did not set OUT_DIR")?);
    if !found(Command::new("clang").arg("--version")) {
        bail!("clang is not in PATH: {SETUP}");
    }
    for name in names {
        let source = manifest.join(name).with_extension("c");
        let object = output.join(source.file_stem().unwrap_or_default()).with_extension("o");
        let status = Command::new("clang")
            .args(["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-target", "bpf", "-c", "-I"])
            .arg(manifest.join("sdk/include"))
            .arg(&source)
            .arg("-o")
            .arg(object)
            .status()?;
        if !status.success() {
            bail!("clang does not compile {}", source.display());
        }
    }
    Ok(())
}

/// The toolchain that can build `core` for the BPF target.
fn toolchain() -> Result<&'static str> {
    if !found(Command::new("rustup").arg("--version")) {
        return match sysroot(&mut Command::new("rustc")) {
            Some(sysroot) if has_source(&sysroot) => Ok(DEBIAN),
            _ => bail!("rustc has no library source (rust-web-src): {SETUP}"),
        };
    }
    for name in [NIGHTLY, DEBIAN] {
        let sysroot = sysroot(Command::new("rustup").args(["run", name, "rustc"]));
        if sysroot.is_some_and(|sysroot| has_source(&sysroot)) {
            return Ok(name);
        }
    }
    bail!("rustup has neither a nightly with rust-src nor the toolchain {DEBIAN}: {SETUP}")
}

fn found(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn sysroot(rustc: &mut Command) -> Option<PathBuf> {
    let output = rustc
        .args(["--print", "sysroot"])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
}

fn has_source(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").exists()
}
