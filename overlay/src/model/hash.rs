//! The flow's hash that chooses a hop (table R), written from its description.

use std::net::IpAddr;

use super::headers::{Fragment, Ip};
use super::transport::{Content, Transport};

/// The number of one of `hops` hops.
pub(super) fn hop(ip: &Ip<'_>, transport: Transport, hops: usize) -> usize {
    let protocol = u64::from(transport.protocol);
    let upper = match (ip.fragment, transport.content) {
        (Fragment::None, Content::Ports { source, destination }) => {
            u64::from(source) << 24 | u64::from(destination) << 8 | protocol
        }
        (Fragment::None, _) => protocol,
        _ => 0,
    };
    let words = match (ip.source, ip.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            vec![upper, pair(&source.octets(), 0, &destination.octets(), 0)]
        }
        (source, destination) => {
            let (source, destination) = (octets(source), octets(destination));
            vec![
                upper,
                pair(&source, 12, &destination, 12),
                pair(&source, 0, &source, 4),
                pair(&source, 8, &destination, 8),
                pair(&destination, 0, &destination, 4),
            ]
        }
    };
    let hash = words.iter().fold(0x243f_6a88_85a3_08d3_u64, |hash, word| {
        let mixed = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 32)
    });
    usize::try_from(hash >> 32).unwrap_or(0) % hops
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn pair(high: &[u8], at: usize, low: &[u8], and: usize) -> u64 {
    u64::from(little(high, at)) << 32 | u64::from(little(low, and))
}

fn little(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
