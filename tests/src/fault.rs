//! What befalls the host of a lab, beyond what `lab.sh` does.

use std::fs::rename;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::Lab;
use crate::netns::run;
use crate::stage::links;

/// How the folders of a build's tables begin.
const TABLES: char = 'v';
/// Where maps lie that another build left and that are carried over.
const FORMER: &str = "former";
/// Maps of traffic whose layout a build may change.
const CONNECTIONS: [&str; 5] = ["CONNECTIONS", "HALF_OPEN", "CROWDED", "ESTABLISHED", "FRAGMENTS"];

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

/// The folder of a host's pins; its daemon must have run.
fn pins(lab: &Lab, host: &str) -> Result<PathBuf> {
    let all = lab.host_folder(host).join("bpf/fabric");
    let mut nodes = std::fs::read_dir(&all).with_context(|| all.display().to_string())?;
    Ok(nodes.next().context("no pins")??.path())
}

/// The folders of a host's pins that belong to one build, sorted: a single one but while a build takes over from another.
pub fn builds(lab: &Lab, host: &str) -> Result<Vec<String>> {
    let mut names = std::fs::read_dir(pins(lab, host)?)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    names.retain(|name| name.starts_with(TABLES) || name == FORMER);
    names.sort();
    Ok(names)
}

/// The pin of one of the tables of a host that no other build left.
pub fn pin(lab: &Lab, host: &str, table: &str) -> Result<PathBuf> {
    match &builds(lab, host)?[..] {
        [own] => Ok(pins(lab, host)?.join(own).join(table)),
        more => anyhow::bail!("{host} has the tables of several builds: {more:?}"),
    }
}

/// Leaves what is in force in a host's kernel as a build with other layouts leaves it, while no daemon runs: its tables
/// are in a folder of another version, and the maps that outlive builds and have another size in the next one are set
/// aside. A daemon that starts takes neither for its own: it reads no byte of such tables, and carries such maps over.
pub fn to_another_build(lab: &Lab, host: &str) -> Result<()> {
    let pins = pins(lab, host)?;
    for name in builds(lab, host)? {
        ensure!(
            name.starts_with(TABLES),
            "{host} has not taken over from the last build"
        );
        rename(pins.join(name), pins.join(format!("{TABLES}0")))?;
    }
    let former = pins.join(FORMER);
    std::fs::create_dir(&former)?;
    for map in CONNECTIONS {
        rename(pins.join("state").join(map), former.join(map))?;
    }
    Ok(())
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
