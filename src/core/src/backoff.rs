//! How long to wait before dialling again.

use std::time::Duration;

use crate::random::Random;

/// The longest wait between two attempts. A gateway that was dark for hours is back within this
/// bound after its network is; a hub that restarts meets its leafs spread over it.
pub const RECONNECT_CAP: Duration = Duration::from_secs(30);

/// Decorrelated jitter: each wait is uniform between the configured interval and three times the
/// wait before it, up to [`RECONNECT_CAP`] (or the interval itself where that is longer). Many leafs
/// that lost one hub at the same instant drift apart instead of coming back in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    last: Duration,
}

impl Backoff {
    /// Starts at `base`.
    pub fn new(base: Duration) -> Self {
        Backoff {
            base,
            last: Duration::ZERO,
        }
    }

    /// The wait before the next attempt. The first after a [`Backoff::reset`] is `base` exactly.
    pub fn next(&mut self, random: &mut Random) -> Duration {
        let cap = RECONNECT_CAP.max(self.base);
        self.last = if self.last.is_zero() {
            self.base
        } else {
            let spread = (self.last * 3).saturating_sub(self.base);
            self.base + spread.mul_f64(random.fraction())
        }
        .min(cap);
        self.last
    }

    /// A link got through to the end: start over.
    pub fn reset(&mut self) {
        self.last = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_within_its_bounds_and_starts_over() {
        let mut random = Random::new(7);
        let base = Duration::from_millis(500);
        let mut backoff = Backoff::new(base);
        assert_eq!(backoff.next(&mut random), base);
        let mut longest = Duration::ZERO;
        let mut last = base;
        for _ in 0..200 {
            let wait = backoff.next(&mut random);
            assert!(wait >= base && wait <= RECONNECT_CAP && wait <= last * 3);
            last = wait;
            longest = longest.max(wait);
        }
        assert!(
            longest > Duration::from_secs(10),
            "it never grew: {longest:?}"
        );
        backoff.reset();
        assert_eq!(backoff.next(&mut random), base);
    }

    #[test]
    fn two_leafs_do_not_stay_in_step() {
        let waits = |seed| {
            let mut random = Random::new(seed);
            let mut backoff = Backoff::new(Duration::from_secs(1));
            (0..5)
                .map(|_| backoff.next(&mut random))
                .collect::<Vec<_>>()
        };
        assert_ne!(waits(1)[1..], waits(2)[1..]);
    }
}
