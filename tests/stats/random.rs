//! Seeded random numbers, the same on every machine.

/// The `SplitMix64` generator.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    #[allow(clippy::cast_precision_loss)]
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / 9_007_199_254_740_992.0
    }

    /// How many of `n` independent requests are bad, by skipping from one to the next.
    pub fn bad(&mut self, n: u32, chance: f64) -> u32 {
        let (mut at, mut bad) = (0.0, 0);
        loop {
            at += ((1.0 - self.unit()).ln() / (-chance).ln_1p()).floor() + 1.0;
            if at > f64::from(n) {
                return bad;
            }
            bad += 1;
        }
    }
}
