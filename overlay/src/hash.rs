//! What the fabric computes instead of agreeing on: numbers from names. SHA-256 over length-prefixed parts, so that two
//! different lists of names never give the same input.

use sha2::{Digest as _, Sha256};

/// A digest of a purpose and names.
#[derive(Clone, Copy)]
pub(crate) struct Hash([u8; 32]);

impl Hash {
    /// The digest; `purpose` keeps numbers made for different ends apart.
    pub(crate) fn of(purpose: &str, parts: &[&str]) -> Self {
        let mut sha = Sha256::new();
        for part in std::iter::once(&purpose).chain(parts) {
            sha.update((part.len() as u64).to_be_bytes());
            sha.update(part.as_bytes());
        }
        Self(sha.finalize().into())
    }

    /// Its first 64 bits.
    pub(crate) fn number(self) -> u64 {
        self.wide() as u64
    }

    /// Its first 128 bits, the first 64 of them lowest.
    pub(crate) fn wide(self) -> u128 {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = self.0;
        u128::from_le_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }

    /// Its first bytes.
    pub(crate) fn six(self) -> [u8; 6] {
        let [a, b, c, d, e, f, ..] = self.0;
        [a, b, c, d, e, f]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_run_into_each_other() {
        let hashes = [
            Hash::of("mac", &["a", "bc"]),
            Hash::of("mac", &["ab", "c"]),
            Hash::of("mac", &["abc"]),
            Hash::of("vni", &["a", "bc"]),
        ];
        for (index, a) in hashes.iter().enumerate() {
            assert!(hashes[index + 1..].iter().all(|b| a.0 != b.0));
        }
    }
}
