//! The address by which chitchat knows a node: a unique local IPv6 address (RFC 4193) computed from the node's id, so
//! that a node that moves stays the same one. Nothing is ever sent to it.
//!
//! ```text
//!  fd66:6162:7269:6300 | 60 bits of the id, high bits zero
//! ```

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::id::NodeId;

const PREFIX: u64 = 0xfd66_6162_7269_6300;
const PORT: u16 = 1;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Characters of a node id, five bits each.
const CHARACTERS: u32 = 12;

/// The address of a node.
pub(crate) fn of(node: NodeId) -> SocketAddr {
    let digit = |c: u8| ALPHABET.iter().position(|letter| *letter == c).unwrap_or_default() as u128;
    let bits = node.as_str().bytes().fold(0, |bits, c| bits << 5 | digit(c));
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from_bits(u128::from(PREFIX) << 64 | bits)), PORT)
}

/// The node of an address, if it is one of ours.
pub(crate) fn node(address: SocketAddr) -> Option<NodeId> {
    let IpAddr::V6(ip) = address.ip() else { return None };
    let bits = ip.to_bits();
    let letter = |n: u32| {
        ALPHABET
            .get((bits >> (5 * n)) as usize & 0x1f)
            .map(|letter| char::from(*letter))
    };
    let text: Option<String> = (0..CHARACTERS).rev().map(letter).collect();
    let node = text?.parse().ok()?;
    (of(node) == address).then_some(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_and_addresses_belong_together() {
        for seed in 0..=255 {
            let id = NodeId::of_key(&[seed; 32]);
            assert_eq!(node(of(id)), Some(id));
        }
        assert_eq!(
            of("aaaaaaaaaaab".parse().unwrap()).to_string(),
            "[fd66:6162:7269:6300::1]:1"
        );
    }

    #[test]
    fn other_addresses_are_nobodys() {
        for text in [
            "192.0.2.1:1",
            "[fd66:6162:7269:6300::1]:2",
            "[2001:db8::1]:1",
            "[fd66:6162:7269:6300:f000::1]:1",
        ] {
            assert_eq!(node(text.parse().unwrap()), None, "{text}");
        }
    }
}
