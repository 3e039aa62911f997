//! A flow's hash, so that the underlay spreads flows over its paths and queues and keeps each in order.

/// Accumulates words of a flow's key. Not keyed: who chooses ports can choose the path of his own flows, nothing more.
#[derive(Debug, Clone, Copy)]
pub struct Entropy(u64);

impl Entropy {
    /// Of no words.
    #[must_use]
    #[inline(always)]
    #[expect(clippy::new_without_default, reason = "one way to make it")]
    pub const fn new() -> Self {
        Self(0x243f_6a88_85a3_08d3)
    }

    /// With one word more.
    #[must_use]
    #[inline(always)]
    pub const fn with(self, word: u64) -> Self {
        let mixed = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(mixed ^ (mixed >> 32))
    }

    /// Of a flow: addresses as words in memory order, the protocol and, where it has some, the two ports as one word.
    /// All fragments of a packet are of one flow if `upper` is zero for them.
    #[must_use]
    #[inline(always)]
    pub const fn of(v4: bool, source: [u32; 4], destination: [u32; 4], upper: u64) -> Self {
        let ends = Self::new()
            .with(upper)
            .with((source[3] as u64) << 32 | destination[3] as u64);
        if v4 {
            return ends;
        }
        ends.with((source[0] as u64) << 32 | source[1] as u64)
            .with((source[2] as u64) << 32 | destination[2] as u64)
            .with((destination[0] as u64) << 32 | destination[1] as u64)
    }

    /// Which of `count` equal next hops the flow takes; 0 where there are none. Other bits than those that make the
    /// source port, so that flows to one hop still spread.
    #[must_use]
    #[inline(always)]
    pub const fn hop(self, count: u32) -> u32 {
        match count {
            0 => 0,
            _ => (self.0 >> 32) as u32 % count,
        }
    }

    /// The flow's hash as functions see it.
    #[must_use]
    #[inline(always)]
    pub const fn hash(self) -> u32 {
        (self.0 >> 16) as u32
    }

    /// The outer UDP source port, 49152–65535 (RFC 7348 section 5), host order.
    #[must_use]
    #[inline(always)]
    pub const fn port(self) -> u16 {
        0xc000 | (self.0 & 0x3fff) as u16
    }

    /// The outer flow label (RFC 6438), 20 bits, host order.
    #[must_use]
    #[inline(always)]
    pub const fn flow_label(self) -> u32 {
        (self.0 >> 16) as u32 & 0x000f_ffff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_flows_spread_evenly() {
        let mut buckets = [0_u32; 16];
        for flow in 0..16_000_u64 {
            let port = Entropy::new().with(0x0a00_0001_0a00_0002).with(6 | flow << 16).port();
            assert!(port >= 49152);
            buckets[usize::from(port) % 16] += 1;
        }
        for (bucket, hits) in buckets.iter().enumerate() {
            assert!((800..1200).contains(hits), "bucket {bucket} of 16 got {hits} of 16000");
        }
    }

    #[test]
    fn hops_share_flows_evenly_and_each_still_spreads() {
        let mut hops = [0_u32; 3];
        let mut ports = [[0_u32; 16]; 3];
        for flow in 0..12_000_u64 {
            let entropy = Entropy::of(true, [0, 0, 0, 1], [0, 0, 0, 2], 6 | flow << 8);
            let hop = entropy.hop(3) as usize;
            hops[hop] += 1;
            ports[hop][usize::from(entropy.port()) % 16] += 1;
        }
        for (hop, flows) in hops.iter().enumerate() {
            assert!((3600..4400).contains(flows), "hop {hop} of 3 got {flows} of 12000");
            assert!(
                ports[hop].iter().all(|flows| *flows > 100),
                "hop {hop}: {:?}",
                ports[hop]
            );
        }
        assert_eq!(Entropy::new().hop(0), 0);
    }

    #[test]
    fn every_part_of_a_flow_counts() {
        let (a, b) = ([1, 2, 3, 4], [5, 6, 7, 8]);
        let flow = Entropy::of(false, a, b, 9);
        for (what, other) in [
            ("source", Entropy::of(false, [1, 2, 3, 5], b, 9)),
            ("source's prefix", Entropy::of(false, [2, 2, 3, 4], b, 9)),
            ("destination", Entropy::of(false, a, [5, 6, 7, 9], 9)),
            ("destination's prefix", Entropy::of(false, a, [5, 7, 7, 8], 9)),
            ("upper layer", Entropy::of(false, a, b, 8)),
        ] {
            assert_ne!(flow.0, other.0, "{what}");
        }
    }

    #[test]
    fn a_label_has_twenty_bits() {
        assert!((0..1000).all(|flow| Entropy::new().with(flow).flow_label() < 1 << 20));
    }
}
