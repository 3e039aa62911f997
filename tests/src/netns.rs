//! Network namespaces by name: entering one on a thread of its own, running commands in one, making one for a while.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, setns};

/// A namespace that was made here and goes when this value goes.
#[derive(Debug)]
pub struct Netns {
    /// Its name under `/run/netns`.
    pub name: String,
}

impl Netns {
    /// Makes it, with its loopback interface up. There must be none of that name.
    pub fn make(name: impl Into<String>) -> Result<Self> {
        let made = Self { name: name.into() };
        run(Command::new("ip").args(["netns", "add", &made.name]))?;
        run(Command::new("ip").args(["-n", &made.name, "link", "set", "lo", "up"]))?;
        Ok(made)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("ip").args(["netns", "delete", &self.name])) {
            eprintln!("    namespace {} stays: {error:#}", self.name);
        }
    }
}

fn file(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(name)
}

/// Runs `f` inside a namespace, on a thread of its own. Sockets and devices that it opens stay in that namespace.
pub fn inside<T: Send>(name: &str, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let namespace = File::open(file(name)).with_context(|| format!("namespace {name}"))?;
    let body = move || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        f()
    };
    thread::scope(|scope| match scope.spawn(body).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
    .with_context(|| format!("in namespace {name}"))
}

/// A command that will run inside a namespace. bpffs stays visible in it.
#[must_use]
pub fn command(name: &str, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", file(name).display())).arg(program);
    command
}

/// Runs a command to its end; anything but success is an error with what it wrote.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(output)
}
