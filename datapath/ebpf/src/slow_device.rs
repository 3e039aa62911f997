//! The first packets of flows from the kernel's tunnel devices, and whatever is out of the ordinary: the checks of
//! `slow_underlay.rs`.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use datapath_common::probe::PROBE_VNI;
use datapath_common::{Reason, Settings};

use crate::maps::SETTINGS;
use crate::packet::Packet;
use crate::walk::Walk;
use crate::{TC_ACT_SHOT, Verdict, device, entry, finish, ip, probe, slow_underlay};

/// Called by `from_device`.
#[classifier]
#[inline(always)]
pub fn slow_device(ctx: TcContext) -> i32 {
    let mut packet = Packet::new(&ctx);
    let length = packet.len();
    let Some(walk) = Walk::start() else {
        return TC_ACT_SHOT;
    };
    let result = match SETTINGS.get(0) {
        Some(settings) => try_slow_device(&mut packet, walk, settings),
        None => Err(Reason::NoProgram),
    };
    finish(&ctx, walk, result, length)
}

#[inline(always)]
fn try_slow_device(packet: &mut Packet, walk: &mut Walk, settings: &Settings) -> Result<Verdict, Reason> {
    let (outer, vni) = device::outer(packet, settings)?;
    let local = if outer.v4 { &settings.ipv4 } else { &settings.ipv6 };
    let probe = vni == PROBE_VNI && !outer.geneve;
    if probe && ip::same(&outer.source, local) {
        return probe::returned(packet, &outer);
    }
    let host = *entry::host(outer.source).ok_or(Reason::UnknownVtep)?;
    if probe {
        return probe::by_device(packet, &outer, host, local);
    }
    slow_underlay::inside(packet, walk, &outer, vni, 0, host, settings)
}
