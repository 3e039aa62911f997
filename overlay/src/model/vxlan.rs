//! The VXLAN header (RFC 7348 section 5):
//!
//! ```text
//! |R|R|R|R|I|R|R|R|            Reserved                           |
//! |                VXLAN Network Identifier (VNI) |   Reserved    |
//! ```

use super::Reason;
use crate::name::Vni;

const FLAG_I: u8 = 0x08;

/// T4: the VNI's number and the frame behind the header.
pub(super) fn open(header: [u8; 8], behind: &[u8], strict: bool) -> Result<(u32, &[u8]), Reason> {
    let [flags, reserved @ .., a, b, c, last] = header;
    if flags & FLAG_I == 0 {
        return Err(Reason::VxlanFlags);
    }
    let is_reserved = flags != FLAG_I || reserved != [0; 3] || last != 0;
    if strict && is_reserved {
        return Err(Reason::VxlanReserved);
    }
    Ok((u32::from_be_bytes([0, a, b, c]), behind))
}

/// A frame behind the header that a sender gives it.
pub(super) fn seal(vni: Vni, frame: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.get().to_be_bytes();
    [&[FLAG_I, 0, 0, 0, a, b, c, 0][..], frame].concat()
}
