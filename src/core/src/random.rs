//! Chance, from a seed the caller hands in: fair picks and spread, never secrets.

/// Where unpredictable bytes come from: the system in production, a seeded generator in a
/// simulated world. Nonces and loop-detection names are drawn from it.
pub trait Entropy: Send {
    /// Fills `bytes`.
    fn fill(&mut self, bytes: &mut [u8]);
}

/// What has been [drawn](Random::draw) as a number below `bound`; 0 when `bound` is 0.
#[inline]
pub(crate) fn scale(draw: u64, bound: u64) -> u64 {
    ((u128::from(draw) * u128::from(bound)) >> 64) as u64
}

/// A small fast generator (SplitMix64) for choosing queue members and spreading timers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same sequence.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// Any 64 bits.
    #[inline]
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        scale(self.draw(), bound)
    }

    /// A number from 0 up to but not including 1.
    pub fn fraction(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl Entropy for Random {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let drawn = self.draw().to_le_bytes();
            for (to, from) in chunk.iter_mut().zip(drawn) {
                *to = from;
            }
        }
    }
}

/// `N` characters of letters and digits.
pub fn name<const N: usize>(entropy: &mut dyn Entropy) -> String {
    name_bytes::<N>(entropy).map(char::from).iter().collect()
}

/// [`name`] as bytes.
pub(crate) fn name_bytes<const N: usize>(entropy: &mut dyn Entropy) -> [u8; N] {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut bytes = [0u8; N];
    entropy.fill(&mut bytes);
    // The slight bias of the remainder does not matter: 22 of these hold over 125 bits.
    bytes.map(|b| ALPHABET[usize::from(b) % ALPHABET.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_are_fair_and_bounded() {
        let mut random = Random::new(1);
        let mut seen = [0u32; 5];
        for _ in 0..5000 {
            seen[random.below(5) as usize] += 1;
        }
        assert!(seen.iter().all(|n| (800..1200).contains(n)), "{seen:?}");
        assert_eq!(random.below(0), 0);
        assert_eq!(name::<22>(&mut random).len(), 22);
    }
}
