//! A machine behind a tap, as a hypervisor makes it: virtio headers, checksum and segmentation offload on. Its network
//! stack is that of a namespace; a program (this one) carries frames with their virtio headers between the two taps.

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context as _, Result};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use crate::lab::mac_text;
use crate::netns::{Netns, inside, run};

/// Virtio header (struct virtio_net_hdr) and the largest segment.
const LARGEST: usize = 10 + 14 + 65536;

/// A running machine.
#[derive(Debug)]
pub struct Guest {
    /// Its namespace; its interface is `eth0`.
    pub netns: Netns,
    /// Frames that it sent larger than its MTU, because it leaves segmentation to others.
    pub large_sent: Arc<AtomicU64>,
    /// Frames larger than its MTU that came to it.
    pub large_received: Arc<AtomicU64>,
}

/// How a machine is set up.
#[derive(Debug)]
pub struct Setup<'a> {
    /// Name of its namespace.
    pub netns: String,
    /// The host's namespace, where its tap is made.
    pub host: &'a str,
    /// Name of the tap there.
    pub tap: &'a str,
    /// MAC address of the machine.
    pub mac: [u8; 6],
    /// Its MTU.
    pub mtu: usize,
    /// Its addresses with prefix lengths.
    pub addresses: &'a [(IpAddr, u8)],
}

impl Guest {
    /// Makes the taps and starts carrying. The carrying ends when the taps are gone, with their namespaces.
    pub fn start(setup: &Setup<'_>) -> Result<Self> {
        let netns = Netns::make(&setup.netns)?;
        let outside = Arc::new(inside(setup.host, || tap(setup.tap))?);
        let within = Arc::new(inside(&netns.name, || tap("eth0"))?);
        let ip = |arguments: &[&str]| run(Command::new("ip").args(["-n", &netns.name]).args(arguments)).map(drop);
        ip(&[
            "link",
            "set",
            "eth0",
            "address",
            &mac_text(setup.mac),
            "mtu",
            &setup.mtu.to_string(),
            "up",
        ])?;
        for (address, prefix) in setup.addresses {
            let nodad: &[&str] = if address.is_ipv6() { &["nodad"] } else { &[] };
            ip(&[
                &["address", "add", &format!("{address}/{prefix}"), "dev", "eth0"],
                nodad,
            ]
            .concat())?;
        }
        let (large_sent, large_received) = (Arc::default(), Arc::default());
        carry(
            Arc::clone(&within),
            Arc::clone(&outside),
            Arc::clone(&large_sent),
            setup.mtu,
        );
        carry(outside, within, Arc::clone(&large_received), setup.mtu);
        Ok(Self {
            netns,
            large_sent,
            large_received,
        })
    }
}

fn tap(name: &str) -> Result<SyncDevice> {
    let device = DeviceBuilder::new()
        .name(name)
        .layer(Layer::L2)
        .offload(true)
        .build_sync();
    device.with_context(|| format!("tap {name}"))
}

/// Until either end is gone.
fn carry(from: Arc<SyncDevice>, to: Arc<SyncDevice>, large: Arc<AtomicU64>, mtu: usize) {
    thread::spawn(move || {
        let mut buffer = vec![0; LARGEST];
        while let Ok(count) = from.recv(&mut buffer) {
            if count > 10 + 14 + mtu {
                large.fetch_add(1, Ordering::Relaxed);
            }
            let Some(frame) = buffer.get(..count) else { return };
            // A tap that is down refuses frames: they are lost, as on a cable.
            let _ = to.send(frame);
        }
    });
}
