//! How long to wait before dialling again.

use std::time::Duration;

use crate::random::Random;
use crate::time::Instant;

/// The shortest wait where none is configured. A hub that restarts is back within a second, and
/// its leafs shall hardly be longer.
pub const RECONNECT_FLOOR: Duration = Duration::from_millis(50);

/// The longest wait between two attempts. A gateway that was dark for hours is back within this
/// bound (and half of it, by chance) after its network is; a hub that restarts meets its leafs
/// spread over it.
pub const RECONNECT_CAP: Duration = Duration::from_secs(30);

/// The share of the time without a link that the next wait takes: whoever was away for a while is
/// rejoined within an eighth of that, whatever the while was.
const SHARE: u32 = 12;

/// A link that lived shorter than this was none.
const SETTLED: Duration = Duration::from_millis(100);

/// What a second with a link makes up for: so many without.
const AMENDS: u32 = 5;

/// Waits that are a share of the time the link has been down, half more or less by chance, so that
/// many leafs that lost one hub at the same instant do not come back in step.
///
/// Time with a link makes up for it, unless it is next to nothing: a link that keeps breaking right
/// after it was made is dialled less and less often.
#[derive(Clone, Debug)]
pub struct Backoff {
    floor: Duration,
    trouble: Duration,
    mark: Option<Instant>,
    is_up: bool,
}

impl Backoff {
    /// Waits of at least `floor`, give or take half of it; `None` is [`RECONNECT_FLOOR`].
    pub fn new(floor: Option<Duration>) -> Self {
        Backoff {
            floor: floor.unwrap_or(RECONNECT_FLOOR),
            trouble: Duration::ZERO,
            mark: None,
            is_up: false,
        }
    }

    /// An attempt failed or the link was lost at `now`: the wait before the next attempt.
    pub fn next(&mut self, now: Instant, random: &mut Random) -> Duration {
        self.count(now);
        self.is_up = false;
        let cap = RECONNECT_CAP.max(self.floor);
        let wait = (self.trouble / SHARE).clamp(self.floor, cap);
        wait.mul_f64(0.5 + random.fraction())
    }

    /// The link got through to the end at `now`.
    pub fn up(&mut self, now: Instant) {
        self.count(now);
        self.is_up = true;
    }

    fn count(&mut self, now: Instant) {
        let passed = self.mark.map_or(Duration::ZERO, |mark| now.since(mark));
        self.mark = Some(now);
        if self.is_up {
            if passed >= SETTLED {
                self.trouble = self.trouble.saturating_sub(passed.saturating_mul(AMENDS));
            }
        } else {
            // More than this changes nothing, and would have to be lived down.
            self.trouble = (self.trouble + passed).min(RECONNECT_CAP.max(self.floor) * SHARE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Fails until `away` has passed; how much later the first attempt after that came.
    fn lag(
        backoff: &mut Backoff,
        random: &mut Random,
        now: &mut Instant,
        away: Duration,
    ) -> Duration {
        let back = *now + away;
        while *now < back {
            *now = *now + backoff.next(*now, random);
        }
        now.since(back)
    }

    #[test]
    fn who_was_away_shortly_is_rejoined_soon() {
        let mut random = Random::new(7);
        let mut now = Instant::ZERO;
        let mut backoff = Backoff::new(None);
        for away in [SECOND / 3, SECOND, 10 * SECOND, 100 * SECOND] {
            let late = lag(&mut backoff, &mut random, &mut now, away);
            assert!(late <= away / 8 + 2 * RECONNECT_FLOOR, "{away:?}: {late:?}");
            backoff.up(now);
            now = now + 300 * SECOND;
        }
    }

    #[test]
    fn waits_grow_to_their_bound() {
        let mut random = Random::new(7);
        let mut now = Instant::ZERO;
        let mut backoff = Backoff::new(Some(SECOND / 2));
        let first = backoff.next(now, &mut random);
        assert!(first >= SECOND / 4 && first <= 3 * SECOND / 4);
        lag(&mut backoff, &mut random, &mut now, 3600 * SECOND);
        for _ in 0..100 {
            let wait = backoff.next(now, &mut random);
            assert!(wait >= RECONNECT_CAP / 2 && wait <= RECONNECT_CAP * 3 / 2);
            now = now + wait;
        }
        // After ten minutes with a link all is forgotten.
        backoff.up(now);
        now = now + 600 * SECOND;
        assert!(backoff.next(now, &mut random) <= 3 * SECOND / 4);
    }

    #[test]
    fn a_link_that_keeps_breaking_is_dialled_less_and_less() {
        let mut random = Random::new(7);
        let mut now = Instant::ZERO;
        let mut backoff = Backoff::new(None);
        let mut wait = Duration::ZERO;
        for _ in 0..400 {
            wait = backoff.next(now, &mut random);
            now = now + wait;
            backoff.up(now);
            now = now + SETTLED / 2;
        }
        assert!(wait >= RECONNECT_CAP / 2, "{wait:?}");
    }

    #[test]
    fn two_leafs_do_not_stay_in_step() {
        let waits = |seed| {
            let mut random = Random::new(seed);
            let mut backoff = Backoff::new(Some(SECOND));
            (0..5)
                .map(|_| backoff.next(Instant::ZERO, &mut random))
                .collect::<Vec<_>>()
        };
        assert_ne!(waits(1), waits(2));
    }
}
