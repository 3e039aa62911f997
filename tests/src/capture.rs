//! What an interface saw: a tcpdump into a file, asked afterwards.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::NamedTempFile;

use crate::netns::{command, run};

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    /// What is captured, for messages.
    pub place: String,
    child: Child,
    file: NamedTempFile,
}

/// What was captured.
#[derive(Debug)]
pub struct Captured {
    /// What was captured, for messages.
    pub place: String,
    file: NamedTempFile,
}

impl Capture {
    /// Begins on an interface in a namespace; returns when it listens. Headers are kept, and little more.
    pub fn start(netns: &str, interface: &str) -> Result<Self> {
        Self::of_length(netns, interface, "256")
    }

    /// Begins as [`Capture::start`], and keeps frames whole.
    pub fn whole(netns: &str, interface: &str) -> Result<Self> {
        Self::of_length(netns, interface, "262144")
    }

    fn of_length(netns: &str, interface: &str, bytes: &str) -> Result<Self> {
        let file = NamedTempFile::new()?;
        let mut command = command(netns, "tcpdump");
        command
            .args([
                "-i",
                interface,
                "-U",
                "--immediate-mode",
                "-s",
                bytes,
                "-Z",
                "root",
                "-w",
            ])
            .arg(file.path());
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("tcpdump")?;
        let lines = BufReader::new(child.stderr.take().context("no stderr")?).lines();
        let place = format!("{interface} in {netns}");
        for line in lines {
            if line?.contains("listening on") {
                return Ok(Self { place, child, file });
            }
        }
        anyhow::bail!("tcpdump on {place} ended: {}", child.wait()?)
    }

    /// The frames seen until here that match a tcpdump filter, a line each.
    pub fn so_far(&self, filter: &str) -> Result<Vec<String>> {
        read(&self.file, filter)
    }

    /// Ends it.
    pub fn stop(mut self) -> Result<Captured> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGINT)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "tcpdump on {}: {status}", self.place);
        Ok(Captured {
            place: std::mem::take(&mut self.place),
            file: std::mem::replace(&mut self.file, NamedTempFile::new()?),
        })
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // Both do nothing once it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Captured {
    /// The frames that match a tcpdump filter, a line each.
    pub fn matching(&self, filter: &str) -> Result<Vec<String>> {
        read(&self.file, filter)
    }

    /// The file, as tcpdump writes it.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Refuses if anything matches.
    pub fn must_lack(&self, filter: &str) -> Result<()> {
        let seen = self.matching(filter)?;
        ensure!(
            seen.is_empty(),
            "{} saw {} frames of `{filter}`, as {:?}",
            self.place,
            seen.len(),
            seen.first()
        );
        Ok(())
    }

    /// Refuses if nothing matches.
    pub fn must_have(&self, filter: &str) -> Result<()> {
        ensure!(
            !self.matching(filter)?.is_empty(),
            "{} saw nothing of `{filter}`",
            self.place
        );
        Ok(())
    }
}

fn read(file: &NamedTempFile, filter: &str) -> Result<Vec<String>> {
    let mut command = Command::new("tcpdump");
    let output = run(command.args(["-nn", "-e", "-t", "-r"]).arg(file.path()).arg(filter))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter(|line| !line.starts_with('\t'))
        .map(str::to_owned)
        .collect())
}
