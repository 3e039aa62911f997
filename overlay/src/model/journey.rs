//! A frame's whole way: from a port, through a tunnel if need be, to where it ends.

use std::time::Duration;

use membership::id::NodeId;

use super::{Ingress, Model, Tunnelled, Verdict, geneve, vxlan};
use crate::object::domain::Encapsulation;

/// Length of the headers before the inner frame that a UDP length counts.
const UDP_TUNNEL: usize = 8 + 8;

impl Model {
    /// Where a workload's frame ends, and on which host: never in [`Verdict::Encapsulate`].
    #[must_use]
    pub fn journey(&mut self, ingress: &Ingress, frame: &[u8], now: Duration) -> (NodeId, Verdict) {
        match self.from_endpoint(ingress, frame, now) {
            Verdict::Encapsulate {
                to,
                vni,
                source,
                encapsulation,
                frame,
                ..
            } => {
                let payload = match encapsulation {
                    Encapsulation::Vxlan => vxlan::seal(vni, &frame),
                    Encapsulation::Geneve => geneve::seal(vni, &frame),
                };
                let length = u16::try_from(UDP_TUNNEL + frame.len()).unwrap_or(u16::MAX);
                let tunnelled = Tunnelled {
                    source,
                    fragment: false,
                    hops: 64,
                    checked: true,
                    room: length.into(),
                    ecn: 0,
                    encapsulation,
                    length,
                    payload: &payload,
                };
                (to, self.from_tunnel(to, &tunnelled, now))
            }
            verdict => (ingress.host, verdict),
        }
    }
}
