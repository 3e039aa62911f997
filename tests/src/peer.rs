//! A `fabric-node` outside a lab, for what a lab cannot show: other clusters, refused joins.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::deadline::eventually;
use crate::netns::command;

/// A folder for one node, and the namespace it runs in. A daemon that was started ends with it.
#[derive(Debug)]
pub struct Peer {
    netns: String,
    binaries: PathBuf,
    folder: TempDir,
    daemon: Option<Child>,
}

impl Peer {
    /// Makes the configuration; nothing runs. `listen` is `ADDRESS:PORT`.
    pub fn new(netns: &str, binaries: &Path, name: &str, listen: &str) -> Result<Self> {
        let folder = TempDir::new()?;
        let at = folder.path().display();
        let text = format!(
            "[node]\nname = \"{name}\"\ndata = \"{at}/data\"\n[mesh]\nlisten = \"{listen}\"\n\
             [api]\nsocket = \"{at}/api.sock\"\n[datapath]\nbpffs = \"{at}/bpf\"\n"
        );
        std::fs::write(folder.path().join("config.toml"), text)?;
        std::fs::create_dir(folder.path().join("bpf"))?;
        let peer = Self {
            netns: netns.to_owned(),
            binaries: binaries.to_owned(),
            folder,
            daemon: None,
        };
        crate::netns::run(
            Command::new("mount")
                .args(["-t", "bpf", "bpf"])
                .arg(peer.folder.path().join("bpf")),
        )?;
        Ok(peer)
    }

    /// Runs `fabric-node` with these arguments to its end.
    pub fn node(&self, arguments: &[&str]) -> Result<Output> {
        Ok(self.command(arguments).output()?)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(&self.netns, &self.binaries.join("fabric-node").display().to_string());
        command
            .args(arguments)
            .arg("--config")
            .arg(self.folder.path().join("config.toml"));
        command.stdin(Stdio::null());
        command
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&mut self) -> Result<()> {
        let log = std::fs::File::create(self.folder.path().join("log"))?;
        let child = self
            .command(&["run"])
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("fabric-node run")?;
        self.daemon = Some(child);
        eventually("the daemon answers", || {
            let output = self.ctl(&["status"])?;
            let log = std::fs::read_to_string(self.folder.path().join("log"))?;
            ensure!(
                output.status.success(),
                "{}; its log: {log}",
                String::from_utf8_lossy(&output.stderr)
            );
            Ok(())
        })
    }

    /// Kills the daemon.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill()?;
            daemon.wait()?;
        }
        Ok(())
    }

    /// Runs `fabricctl` for it.
    pub fn ctl(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(self.binaries.join("fabricctl"));
        command.env("FABRIC_API", format!("unix:{}/api.sock", self.folder.path().display()));
        Ok(command.args(arguments).output()?)
    }

    /// A join token of its cluster.
    pub fn token(&self) -> Result<String> {
        let output = self.ctl(&["token", "create", "-o", "json"])?;
        ensure!(
            output.status.success(),
            "token create: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        Ok(answer["token"].as_str().context("no token in the answer")?.to_owned())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.kill();
        let _ = Command::new("umount").arg(self.folder.path().join("bpf")).status();
    }
}
