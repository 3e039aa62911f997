//! The Internet checksum (RFC 1071) over sums of 16-bit words. Words are taken as they stand in memory, so the result
//! is stored as it is, whatever the byte order (RFC 1071 section 2(B)).

/// The checksum of words whose sum is `sum`.
#[must_use]
#[inline(always)]
pub const fn folded(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

/// The checksum of a header after one of its words changed from `old` to `new` (RFC 1624 equation 3).
#[must_use]
#[inline(always)]
pub const fn replaced(checksum: u16, old: u16, new: u16) -> u16 {
    folded(!checksum as u64 + !old as u64 + new as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[u16]) -> u16 {
        folded(words.iter().map(|word| u64::from(*word)).sum())
    }

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(of(&[0x0001, 0xf203, 0xf4f5, 0xf6f7]), !0xddf2);
    }

    #[test]
    fn carries_fold_completely() {
        assert_eq!(folded(0xffff_ffff), 0);
        assert_eq!(folded(u64::MAX), 0);
        assert_eq!(folded(0x1_0000_0000), !1);
    }

    #[test]
    fn a_replaced_word_equals_a_sum_from_scratch() {
        for (old, new) in [(0x4500, 0x4503), (0x4503, 0x4500), (0, 0xffff), (0xffff, 1)] {
            let before = of(&[old, 0x1234, 0xc0a8, 0x0001]);
            assert_eq!(
                replaced(before, old, new),
                of(&[new, 0x1234, 0xc0a8, 0x0001]),
                "{old:04x} to {new:04x}"
            );
        }
    }
}
