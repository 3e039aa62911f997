//! What Wireshark makes of captured frames: an independent reader of every protocol.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::capture::Captured;
use crate::netns::run;

/// Per frame: what it is, how bad what Wireshark says about it is, and in words.
const FIELDS: [&str; 3] = ["frame.protocols", "_ws.expert.severity", "_ws.expert.message"];
/// Of `_ws.expert.severity`: malformed frames and wrong checksums.
const ERROR: u32 = 0x80_0000;
/// What workloads say by ports of tests is no protocol.
const DATA: &str = "udp.port==7200,data";

/// Whether sums of transport headers are looked at: a device that never sends may leave them to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksums {
    /// Those of IP and of UDP and TCP.
    All,
    /// Those of IP.
    Ip,
}

/// A frame as Wireshark sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dissected {
    /// Its headers' names, from the outermost on, with colons between.
    pub protocols: String,
    /// What is wrong with it, if anything is.
    pub wrong: Option<String>,
}

/// Dissects the captured frames that match a display filter.
pub fn dissect(captured: &Captured, filter: &str, sums: Checksums) -> Result<Vec<Dissected>> {
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(captured.path()).args(["-Y", filter]);
    command.args(["-T", "fields", "-E", "occurrence=a", "-E", "separator=/t"]);
    for field in FIELDS {
        command.args(["-e", field]);
    }
    let transport = if sums == Checksums::All { "TRUE" } else { "FALSE" };
    command.args(["-d", DATA, "-o", "ip.check_checksum:TRUE"]);
    for protocol in ["udp", "tcp"] {
        command.arg("-o").arg(format!("{protocol}.check_checksum:{transport}"));
    }
    let output = run(&mut command)?;
    String::from_utf8_lossy(&output.stdout).lines().map(read).collect()
}

fn read(line: &str) -> Result<Dissected> {
    let mut fields = line.split('\t');
    let mut next = || fields.next().with_context(|| format!("fields are missing: {line}"));
    let (protocols, severity, words) = (next()?.to_owned(), next()?, next()?);
    let error = severity
        .split(',')
        .any(|level| level.parse().is_ok_and(|level: u32| level >= ERROR));
    let wrong = (error || protocols.contains("malformed")).then(|| words.to_owned());
    Ok(Dissected { protocols, wrong })
}
