//! A virtual machine as a host sees it: QEMU with a tap that it makes itself. There is no processor in it; what its network
//! card would send and receive, the test does, over sockets that QEMU's hub joins with the tap.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::netns::command;

/// Longest frame of a guest.
const LONGEST: usize = 9216;
/// How long a frame is waited for before it counts as not sent.
const PATIENCE: Duration = Duration::from_secs(1);

/// A machine that can be started and killed again and again.
#[derive(Debug)]
pub struct Machine {
    host: String,
    tap: String,
    card: UnixDatagram,
    folder: tempfile::TempDir,
    qemu: Option<Child>,
}

impl Machine {
    /// A machine that is off; its tap will be in the namespace `host`.
    pub fn new(host: impl Into<String>, tap: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let card = UnixDatagram::bind(folder.path().join("card"))?;
        card.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            host: host.into(),
            tap: tap.into(),
            card,
            folder,
            qemu: None,
        })
    }

    fn qemu_socket(&self) -> PathBuf {
        self.folder.path().join("qemu")
    }

    /// Switches it on: the tap is made.
    pub fn start(&mut self) -> Result<()> {
        self.kill()?;
        let dgram = format!(
            "dgram,id=card,local.type=unix,local.path={},remote.type=unix,remote.path={}",
            self.qemu_socket().display(),
            self.folder.path().join("card").display()
        );
        let tap = format!("tap,id=tap,ifname={},script=no,downscript=no", self.tap);
        let mut qemu: Command = command(&self.host, "qemu-system-x86_64");
        qemu.args(["-machine", "none", "-nodefaults", "-display", "none"])
            .args(["-netdev", &tap, "-netdev", "hubport,id=to-tap,hubid=0,netdev=tap"])
            .args(["-netdev", &dgram, "-netdev", "hubport,id=to-card,hubid=0,netdev=card"])
            .stdin(Stdio::null());
        self.qemu = Some(qemu.spawn().context("qemu-system-x86_64")?);
        Ok(())
    }

    /// Kills it (SIGKILL): the kernel takes the tap away.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut qemu) = self.qemu.take() {
            qemu.kill()?;
            qemu.wait()?;
            std::fs::remove_file(self.qemu_socket())?;
        }
        Ok(())
    }

    /// Sends a frame as its network card would.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let sent = self.card.send_to(frame, self.qemu_socket());
        sent.map(drop).context("the machine's network card")
    }

    /// The next frame that its network card gets; nothing if none comes for a second.
    pub fn receive(&self) -> Result<Option<Vec<u8>>> {
        let mut frame = vec![0; LONGEST];
        match self.card.recv(&mut frame) {
            Ok(length) => {
                frame.truncate(length);
                Ok(Some(frame))
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error).context("the machine's network card"),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("    the machine of {} was not stopped: {error:#}", self.tap);
        }
    }
}
