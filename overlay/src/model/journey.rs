//! A frame's whole way: from a port, through a tunnel if need be, to where it ends.

use membership::id::NodeId;

use super::{Ingress, Model, Tunnelled, Verdict};
use crate::name::Vni;

/// Length of the headers before the inner frame that a UDP length counts.
const UDP_VXLAN: usize = 8 + 8;

impl Model {
    /// Where a workload's frame ends, and on which host: never in [`Verdict::Encapsulate`].
    #[must_use]
    pub fn journey(&self, ingress: &Ingress, frame: &[u8]) -> (NodeId, Verdict) {
        match self.from_endpoint(ingress, frame) {
            Verdict::Encapsulate { to, vni, source, .. } => {
                let payload = vxlan(vni, frame);
                let length = u16::try_from(UDP_VXLAN + frame.len()).unwrap_or(u16::MAX);
                let tunnelled = Tunnelled {
                    source,
                    fragment: false,
                    congested: false,
                    length,
                    payload: &payload,
                };
                (to, self.from_tunnel(to, &tunnelled))
            }
            verdict => (ingress.host, verdict),
        }
    }
}

/// A frame behind the VXLAN header that a sender gives it.
fn vxlan(vni: Vni, frame: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.get().to_be_bytes();
    [&[0x08, 0, 0, 0, a, b, c, 0][..], frame].concat()
}
