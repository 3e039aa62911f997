//! The Geneve header and its options (RFC 8926 sections 3.4, 3.5):
//!
//! ```text
//! |Ver|  Opt Len  |O|C|    Rsvd.  |          Protocol Type        |
//! |        Virtual Network Identifier (VNI)       |    Reserved   |
//! |          Option Class         |      Type     |R|R|R| Length  |
//! |                  Variable-Length Option Data                  |
//! ```

use super::Reason;
use crate::name::Vni;

const CONTROL: u8 = 0x80;
const CRITICAL: u8 = 0x40;
/// Of an option's type.
const CRITICAL_OPTION: u8 = 0x80;
/// Transparent Ethernet bridging.
const ETHERNET: [u8; 2] = [0x65, 0x58];

/// T4a to T4d: the VNI's number and the frame behind header and options.
pub(super) fn open(header: [u8; 8], behind: &[u8]) -> Result<(u32, &[u8]), Reason> {
    let [version_length, flags, protocol @ .., a, b, c, _] = header;
    if version_length >> 6 != 0 {
        return Err(Reason::GeneveVersion);
    }
    if flags & CONTROL != 0 {
        return Err(Reason::GeneveControl);
    }
    let length = usize::from(version_length & 0x3f) * 4;
    let (options, frame) = behind.split_at_checked(length).ok_or(Reason::GeneveOption)?;
    if flags & CRITICAL != 0 || !are_ignorable(options) {
        return Err(Reason::GeneveOption);
    }
    if protocol != ETHERNET {
        return Err(Reason::GeneveProtocol);
    }
    Ok((u32::from_be_bytes([0, a, b, c]), frame))
}

fn are_ignorable(mut options: &[u8]) -> bool {
    while let [_, _, kind, length, rest @ ..] = options {
        let data = usize::from(length & 0x1f) * 4;
        match rest.get(data..) {
            Some(next) if kind & CRITICAL_OPTION == 0 => options = next,
            Some(_) | None => return false,
        }
    }
    options.is_empty()
}

/// A frame behind the header that a sender gives it.
pub(super) fn seal(vni: Vni, frame: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.get().to_be_bytes();
    let [high, low] = ETHERNET;
    [&[0, 0, high, low, a, b, c, 0][..], frame].concat()
}
