//! What befalls the host of a lab, beyond what `lab.sh` does.

use std::process::Command;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::Lab;
use crate::netns::run;
use crate::stage::links;

/// A daemon that is stopped, and goes on when this is dropped.
#[derive(Debug)]
pub struct Stopped(Pid);

impl Stopped {
    /// Stops the daemon of a host.
    pub fn daemon(lab: &Lab, host: &str) -> Result<Self> {
        let file = lab.host_folder(host).join("pid");
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let pid = text.split(' ').next().context("no pid")?.trim().parse()?;
        kill(Pid::from_raw(pid), Signal::SIGSTOP)?;
        Ok(Self(Pid::from_raw(pid)))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It fails only if somebody killed the daemon meanwhile.
        let _gone = kill(self.0, Signal::SIGCONT);
    }
}

/// Removes a host's pins, and every link but its cable.
pub fn strip(lab: &Lab, host: &str) -> Result<()> {
    let pins = lab.host_folder(host).join("bpf/fabric");
    std::fs::remove_dir_all(&pins).with_context(|| pins.display().to_string())?;
    for link in links(&lab.netns(host))? {
        let name = link["ifname"].as_str().context("no name")?;
        if !["lo", "eth0"].contains(&name) {
            run(Command::new("ip").args(["-n", &lab.netns(host), "link", "delete", name]))?;
        }
    }
    Ok(())
}
