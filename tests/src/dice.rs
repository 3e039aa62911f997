//! Numbers that look random (xorshift, Marsaglia 2003): the same for the same seed.

/// A generator.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Starts one.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `sides`.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % sides.max(1)
    }

    /// One of these.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        let index = usize::try_from(self.roll(of.len() as u64)).unwrap_or_default();
        of[index].clone()
    }
}
