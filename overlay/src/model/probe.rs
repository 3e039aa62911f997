//! Path probes, as far as they are dropped: what is none, and answers that nobody here asked for. No host of the model
//! probes another, and requests are not modelled.

use etherparse::Ethernet2HeaderSlice;

use super::{ETHERNET, Reason};

/// VNI of probes, in VXLAN only.
pub(super) const VNI: u32 = 0xff_fffe;
/// Ethertype of the inner frame.
const ETHER_TYPE: u16 = 0x88b5;
/// Magic, version and kind of an answer, at the start of 24 bytes.
const ANSWER: [u8; 4] = [b'F', b'P', 1, 2];
const LENGTH: usize = 24;

/// T4e: why a frame of the probes' VNI is dropped.
pub(super) fn refused(frame: &[u8]) -> Reason {
    let ether_type = Ethernet2HeaderSlice::from_slice(frame).map(|header| header.ether_type().0);
    let probe = frame.get(ETHERNET..ETHERNET + LENGTH);
    match (ether_type, probe) {
        (Ok(ETHER_TYPE), Some(probe)) if probe.starts_with(&ANSWER) => Reason::ProbeUnexpected,
        _ => Reason::ProbeMalformed,
    }
}
