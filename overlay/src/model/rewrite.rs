//! How frames change on their way. Frames have been through table H, so their headers are there.

use super::ETHERNET;
use super::checksum::{follow, read};
use super::headers::Ip;
use crate::name::Mac;

/// Where IPv4's TTL and header checksum, and IPv6's hop limit stand.
const TTL: usize = ETHERNET + 8;
const CHECKSUM: usize = ETHERNET + 10;
const HOP_LIMIT: usize = ETHERNET + 7;

/// R8: as a router sends it on.
pub(super) fn routed(frame: &[u8], v4: bool, router: Mac, to: Mac) -> Vec<u8> {
    let mut frame = frame.to_vec();
    addressed(&mut frame, to, router);
    let hops = frame[if v4 { TTL } else { HOP_LIMIT }];
    limited(&mut frame, v4, hops - 1);
    frame
}

/// R1: an echo request without options, as its reply.
pub(super) fn echoed(frame: &[u8], ip: &Ip<'_>, asker: Mac, router: Mac) -> Vec<u8> {
    let v4 = ip.source.is_ipv4();
    let mut frame = frame.to_vec();
    addressed(&mut frame, asker, router);
    let (source, length, upper) = if v4 { (12, 4, 20) } else { (8, 16, 40) };
    let (source, upper) = (ETHERNET + source, ETHERNET + upper);
    frame[source..source + 2 * length].rotate_left(length);
    limited(&mut frame, v4, 64);
    let old = read(&frame, upper);
    frame[upper] = if v4 { 0 } else { 129 };
    follow(&mut frame, upper + 2, upper, old);
    frame
}

/// T20: with this ECN field.
pub(super) fn marked(frame: &[u8], v4: bool, ecn: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if v4 {
        let old = read(&frame, ETHERNET);
        frame[ETHERNET + 1] = frame[ETHERNET + 1] & !0b11 | ecn;
        follow(&mut frame, CHECKSUM, ETHERNET, old);
    } else {
        // Version (4 bits), traffic class (8), of which ECN is the last two.
        frame[ETHERNET + 1] = frame[ETHERNET + 1] & !0x30 | ecn << 4;
    }
    frame
}

fn addressed(frame: &mut [u8], to: Mac, from: Mac) {
    frame[..6].copy_from_slice(&to.octets());
    frame[6..12].copy_from_slice(&from.octets());
}

fn limited(frame: &mut [u8], v4: bool, hops: u8) {
    if v4 {
        let old = read(frame, TTL);
        frame[TTL] = hops;
        follow(frame, CHECKSUM, TTL, old);
    } else {
        frame[HOP_LIMIT] = hops;
    }
}
