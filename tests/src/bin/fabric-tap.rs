//! Plays a virtual machine: the device model of a hypervisor without one. It owns a tap in the host's namespace, as QEMU
//! would, and joins it to a network card in a "guest" namespace, whose kernel is the guest's TCP stack. Frames cross with
//! their virtio-net headers untouched, so segmentation and checksums stay offloaded in both directions as they are with
//! a virtio guest (virtio 1.2 section 5.1.6).
//!
//! ```text
//!   fabric ── tap0 ══fd══ fabric-tap ══fd══ eth0 ── kernel of the guest namespace
//! ```

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use clap::Parser;
use nix::sched::{CloneFlags, setns};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

/// Largest frame that crosses: a virtio-net header, an Ethernet header and a 64 kB super-packet.
const FRAME_MAX: usize = 12 + 14 + 65_536;

/// Joins a tap on this host to a network card in a guest namespace, with TSO and checksum offload.
#[derive(Debug, Parser)]
struct Arguments {
    /// Name of the tap in this namespace.
    #[arg(long)]
    tap: String,
    /// The guest's namespace file.
    #[arg(long)]
    guest: PathBuf,
    /// Name of the network card in the guest.
    #[arg(long, default_value = "eth0")]
    card: String,
    /// The card's MAC address.
    #[arg(long)]
    mac: String,
    /// The card's MTU.
    #[arg(long, default_value_t = 1430)]
    mtu: u16,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let tap = Arc::new(tap(&arguments.tap, arguments.mtu).with_context(|| format!("making {}", arguments.tap))?);
    let card = Arc::new(card(&arguments)?);
    writeln!(io::stdout(), "ready")?;
    let outward = {
        let (from, to) = (Arc::clone(&card), Arc::clone(&tap));
        thread::spawn(move || forward(&from, &to))
    };
    forward(&tap, &card).context("host to guest")?;
    outward
        .join()
        .map_err(|_| anyhow::anyhow!("the thread from guest to host ended"))?
        .context("guest to host")
}

/// A tap with a virtio-net header, TSO4, TSO6 and checksum offload.
fn tap(name: &str, mtu: u16) -> io::Result<SyncDevice> {
    let device = DeviceBuilder::new()
        .name(name)
        .layer(Layer::L2)
        .offload(true)
        .mtu(mtu)
        .build_sync()?;
    Ok(device)
}

/// The guest's card: a tap made in the guest's namespace by a thread that enters it and ends there.
fn card(arguments: &Arguments) -> Result<SyncDevice> {
    thread::scope(|scope| {
        let made = scope.spawn(|| -> Result<SyncDevice> {
            enter(&arguments.guest)?;
            let device = tap(&arguments.card, arguments.mtu).with_context(|| format!("making {}", arguments.card))?;
            device.set_mac_address(parse_mac(&arguments.mac)?)?;
            device.enabled(true)?;
            Ok(device)
        });
        made.join()
            .map_err(|_| anyhow::anyhow!("the thread that made the card ended"))?
    })
}

fn enter(namespace: &Path) -> Result<()> {
    let file = std::fs::File::open(namespace).with_context(|| format!("opening {}", namespace.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {}", namespace.display()))
}

fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let octets = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16))
        .collect::<Result<Vec<_>, _>>();
    octets
        .ok()
        .and_then(|o| o.try_into().ok())
        .with_context(|| format!("{text:?} is not a MAC address"))
}

/// Carries frames one way until a device is gone. A device that is down (EIO) or that finds a frame ill-formed (EINVAL)
/// refuses it: it is lost, as on a cable that is not plugged in.
fn forward(from: &SyncDevice, to: &SyncDevice) -> io::Result<()> {
    let mut frame = vec![0; FRAME_MAX];
    loop {
        let length = from.recv(&mut frame)?;
        match to.send(&frame[..length]) {
            Ok(_) => {}
            Err(error) if matches!(error.raw_os_error(), Some(nix::libc::EIO | nix::libc::EINVAL)) => {}
            Err(error) => return Err(error),
        }
    }
}
