//! Internet checksums that change with a field (RFC 1624).

/// The checksum after one of its words changed: equation 3, `HC' = ~(~HC + ~m + m')`.
pub(super) fn updated(checksum: u16, old: u16, new: u16) -> u16 {
    let mut sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // What is above 16 bits was added in above.
    !(sum as u16)
}

/// Updates the checksum at `at` for the word that was `old` and stands at `word`.
pub(super) fn follow(packet: &mut [u8], at: usize, word: usize, old: u16) {
    let new = read(packet, word);
    let sum = updated(read(packet, at), old, new);
    packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// The word at `at`.
pub(super) fn read(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1624_section_4() {
        assert_eq!(updated(0xdd2f, 0x5555, 0x3285), 0x0000);
    }
}
