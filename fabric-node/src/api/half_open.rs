//! Handshakes under way: few at a time, and few of one sender, so that a host without a certificate cannot keep others
//! out.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// At a time.
const ALL_MAX: usize = 128;
/// At a time of one sender.
const SENDER_MAX: usize = 16;

/// The handshakes under way, by sender.
#[derive(Debug, Default)]
pub(super) struct HalfOpen(Mutex<BTreeMap<IpAddr, usize>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Handshake {
    all: Arc<HalfOpen>,
    sender: IpAddr,
}

impl HalfOpen {
    /// One more, if there is room for it.
    pub(super) fn enter(self: &Arc<Self>, from: IpAddr) -> Option<Handshake> {
        let sender = sender(from);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (total, mine) = (all.values().sum::<usize>(), all.get(&sender).copied().unwrap_or(0));
        if total >= ALL_MAX || mine >= SENDER_MAX {
            return None;
        }
        all.insert(sender, mine + 1);
        Some(Handshake {
            all: self.clone(),
            sender,
        })
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(&self.sender) {
            Some(many) if *many > 1 => *many -= 1,
            _ => drop(all.remove(&self.sender)),
        }
    }
}

/// Whoever has an IPv6 address has the /64 around it (RFC 4291 section 2.5.1).
fn sender(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sender_leaves_room_for_others_and_all_together_are_bounded() {
        let open = Arc::new(HalfOpen::default());
        let from = |last: u8| IpAddr::from([192, 0, 2, last]);
        let mut held: Vec<_> = (0..SENDER_MAX).filter_map(|_| open.enter(from(1))).collect();
        assert_eq!(held.len(), SENDER_MAX);
        assert!(open.enter(from(1)).is_none());
        assert!(open.enter(from(2)).is_some(), "and it is gone at once");
        held.pop();
        held.extend(open.enter(from(1)));
        assert_eq!(held.len(), SENDER_MAX, "a place that was left is free");
        for last in 2..=u8::MAX {
            held.extend(open.enter(from(last)));
        }
        assert_eq!(held.len(), ALL_MAX);
        held.clear();
        assert!(open.0.lock().expect("no panic before").is_empty());
    }

    #[test]
    fn addresses_of_one_network_are_one_sender() {
        let of = |text: &str| sender(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
