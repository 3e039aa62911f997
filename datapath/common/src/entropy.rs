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
    fn a_label_has_twenty_bits() {
        assert!((0..1000).all(|flow| Entropy::new().with(flow).flow_label() < 1 << 20));
    }
}
