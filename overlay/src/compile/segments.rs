//! Which networks are in force, with which number and MTU.

use std::collections::{BTreeMap, BTreeSet};

use crate::condition::{Cause, Report};
use crate::forwarding::Segment;
use crate::name::{Mtu, NetworkName, Vni};
use crate::object::network::UnknownUnicast;
use crate::subnet::Subnet;
use crate::view::{SeenNetwork, View};

/// Underlay MTU that is assumed while no host has said its own.
const USUAL_UNDERLAY: u16 = 1500;
/// How many hosts a message names.
const NAMED_MAX: usize = 5;

/// The networks that are in force.
#[derive(Debug)]
pub(super) struct Segments {
    pub(super) in_force: BTreeMap<NetworkName, Segment>,
    /// Of each network, what can be routed to.
    subnets: BTreeMap<NetworkName, Vec<Subnet>>,
}

impl Segments {
    /// The subnets of a network that overlap those of no older one.
    pub(super) fn subnets(&self, network: &NetworkName) -> impl Iterator<Item = Subnet> + '_ {
        self.subnets.get(network).into_iter().flatten().copied()
    }
}

pub(super) fn in_force(view: &View, report: &mut Report) -> Segments {
    let smallest = view
        .hosts
        .values()
        .map(|vtep| vtep.underlay_mtu)
        .min()
        .unwrap_or(USUAL_UNDERLAY);
    let mut by_age: Vec<(&NetworkName, &SeenNetwork)> = view.networks.iter().collect();
    by_age.sort_by_key(|(name, network)| (network.stamp, *name));
    let mut numbers: BTreeMap<Vni, &NetworkName> = BTreeMap::new();
    let (mut segments, mut subnets) = (BTreeMap::new(), BTreeMap::new());
    for (index, (name, network)) in by_age.iter().enumerate() {
        subnets.insert((*name).clone(), apart(name, network, &by_age[..index], report));
        match number(view, network, &numbers) {
            Ok(vni) => {
                numbers.insert(vni, name);
                let mtu = network.spec.mtu.unwrap_or_else(|| Mtu::inside(smallest));
                fits(view, name, mtu, report);
                let segment = Segment {
                    vni,
                    mtu: mtu.get(),
                    router: None,
                    flood: network.spec.unknown_unicast == UnknownUnicast::Flood,
                    members: BTreeSet::new(),
                };
                segments.insert((*name).clone(), segment);
            }
            Err(cause) => report.network(name, &cause),
        }
    }
    Segments {
        in_force: segments,
        subnets,
    }
}

/// The VNI of a network, if no older one has it.
fn number(view: &View, network: &SeenNetwork, numbers: &BTreeMap<Vni, &NetworkName>) -> Result<Vni, Cause> {
    let vni = network.spec.vni.ok_or(Cause::NoVni)?;
    if let Some((domain, other, vni)) = &network.vni_taken_by {
        return Err(Cause::VniConflict {
            domain: domain.clone(),
            network: other.clone(),
            vni: *vni,
        });
    }
    match numbers.get(&vni) {
        Some(other) => Err(Cause::VniConflict {
            domain: view.domain.clone(),
            network: (*other).clone(),
            vni,
        }),
        None => Ok(vni),
    }
}

/// The subnets that overlap those of no older network. Others cannot be routed to; inside them packets flow.
fn apart(
    name: &NetworkName,
    network: &SeenNetwork,
    older: &[(&NetworkName, &SeenNetwork)],
    report: &mut Report,
) -> Vec<Subnet> {
    let mut apart = network.spec.subnets.to_vec();
    for (other_name, other) in older {
        for &mine in network.spec.subnets.iter() {
            if let Some(&theirs) = other.spec.subnets.iter().find(|theirs| theirs.overlaps(mine)) {
                let cause = Cause::SubnetOverlap {
                    mine,
                    other: theirs,
                    network: (*other_name).clone(),
                };
                report.network(name, &cause);
                apart.retain(|subnet| *subnet != mine);
            }
        }
    }
    apart
}

fn fits(view: &View, name: &NetworkName, mtu: Mtu, report: &mut Report) {
    let carried = |underlay: u16| underlay.saturating_sub(Mtu::TUNNEL_OVERHEAD);
    let narrow: Vec<_> = view
        .hosts
        .iter()
        .filter(|(_, vtep)| carried(vtep.underlay_mtu) < mtu.get())
        .collect();
    let Some(smallest) = narrow.iter().map(|(_, vtep)| vtep.underlay_mtu).min() else {
        return;
    };
    let mut nodes: Vec<String> = narrow
        .iter()
        .take(NAMED_MAX)
        .map(|(node, _)| node.to_string())
        .collect();
    if narrow.len() > NAMED_MAX {
        nodes.push(format!("{} more", narrow.len() - NAMED_MAX));
    }
    report.network(
        name,
        &Cause::MtuTooLarge {
            mtu,
            carried: carried(smallest),
            nodes: nodes.join(", "),
        },
    );
}
