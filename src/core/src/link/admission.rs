//! How many leafs may begin their handshake, and when the others are to come back: a token bucket, and
//! behind it a queue of which only the length is known.
//!
//! A hub that restarts meets all its leafs at once. Each costs it a handshake and a list of what the
//! others want; those it cannot take in at once are told when, each another time, so that they do not
//! come back together.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::time::Instant;

/// What the bucket holds: as many handshakes as this long allows. Between bursts that is all a machine
/// owes to leafs that come together.
const BURST: Duration = Duration::from_secs(1);

/// The shortest wait. Leafs that are told nothing come back after a second, too.
pub const SOONEST: Duration = Duration::from_secs(1);

/// The longest wait: what a leaf waits at most for a hub that is not there
/// ([`RECONNECT_CAP`](crate::backoff::RECONNECT_CAP)).
pub const LATEST: Duration = Duration::from_secs(30);

/// Admits leafs at a rate.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Between two handshakes.
    interval: Duration,
    /// When the bucket will be full again.
    full_at: Instant,
    /// The last time that somebody was told.
    told: Instant,
}

impl Admission {
    /// So many handshakes per second.
    pub fn new(per_second: NonZeroU32) -> Self {
        Admission {
            interval: Duration::from_secs(1) / per_second.get(),
            full_at: Instant::ZERO,
            told: Instant::ZERO,
        }
    }

    /// Whether the leaf that has come may begin. Otherwise how long it is to wait: from [`SOONEST`] to
    /// [`LATEST`].
    pub fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        let full_at = self.full_at.max(now) + self.interval;
        if full_at.since(now) <= BURST {
            self.full_at = full_at;
            return Ok(());
        }
        let mut at = self.told.max(now + SOONEST) + self.interval;
        if at.since(now) > LATEST {
            // More than there is time for. They share its later half with others, and some of them will
            // be told once more.
            at = now + LATEST / 2;
        }
        self.told = at;
        Err(at.since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use proptest::prelude::*;
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    fn admission(per_second: u32) -> Admission {
        Admission::new(NonZeroU32::new(per_second).unwrap())
    }

    /// What came of leafs that all came at once.
    struct Story {
        /// When each was admitted.
        admitted: Vec<Instant>,
        /// How often they came.
        visits: usize,
    }

    /// `count` leafs come within a fifth of a second, and again when they are told to, up to 50 ms late;
    /// each `deaf`-th comes after about a second, whatever it is told.
    fn rush(per_second: u32, count: usize, deaf: usize) -> Story {
        let mut random = Random::new(7);
        let mut late =
            |most: u64| Duration::from_micros((random.fraction() * most as f64 * 1e3) as u64);
        let mut admission = admission(per_second);
        let mut visits: BinaryHeap<_> = (0..count)
            .map(|leaf| Reverse((Instant::ZERO + late(200), leaf)))
            .collect();
        let mut story = Story {
            admitted: Vec::new(),
            visits: 0,
        };
        while let Some(Reverse((now, leaf))) = visits.pop() {
            story.visits += 1;
            match admission.admit(now) {
                Ok(()) => story.admitted.push(now),
                Err(_) if leaf % deaf == 0 => {
                    visits.push(Reverse((now + Duration::from_secs(1) + late(50), leaf)));
                }
                Err(wait) => {
                    assert!(wait >= SOONEST && wait <= LATEST, "{wait:?}");
                    visits.push(Reverse((now + wait + late(50), leaf)));
                }
            }
        }
        story
    }

    /// The most that are admitted in any second.
    fn densest(admitted: &[Instant]) -> usize {
        let within = |from: &Instant| {
            let in_second =
                |at: &&Instant| **at >= *from && at.since(*from) < Duration::from_secs(1);
            admitted.iter().filter(in_second).count()
        };
        admitted.iter().map(within).max().unwrap_or_default()
    }

    #[test]
    fn few_are_never_told_to_wait() {
        let mut admission = admission(10);
        for round in 0..5u64 {
            for _ in 0..10 {
                let now = Instant::from_nanos(round * 1_000_000_000);
                assert_eq!(admission.admit(now), Ok(()));
            }
        }
    }

    #[test]
    fn each_is_told_another_time() {
        let mut admission = admission(10);
        let waits: Vec<_> = (0..310)
            .filter_map(|_| admission.admit(Instant::ZERO).err())
            .map(|wait| wait.as_millis())
            .collect();
        let apart: Vec<_> = (11..=300).map(|slot| slot * 100).collect();
        assert_eq!(waits[..290], apart);
        // What does not fit begins in the middle again.
        assert_eq!(waits[290..293], [15_000, 15_100, 15_200]);
    }

    #[test]
    fn thousands_are_in_as_soon_as_the_rate_allows_and_come_hardly_more_than_twice() {
        let story = rush(200, 5000, usize::MAX);
        let last = story.admitted.iter().max().unwrap();
        assert!(
            last.since(Instant::ZERO) < Duration::from_secs(27),
            "{last:?}"
        );
        assert!(densest(&story.admitted) <= 2 * 200);
        assert!(story.visits < 2 * 5000 + 500, "{}", story.visits);
    }

    #[test]
    fn more_than_there_is_time_for_are_in_all_the_same() {
        let story = rush(100, 10_000, usize::MAX);
        let last = story.admitted.iter().max().unwrap();
        assert!(
            last.since(Instant::ZERO) < Duration::from_secs(150),
            "{last:?}"
        );
        assert!(story.visits < 8 * 10_000, "{}", story.visits);
    }

    #[test]
    fn those_who_do_not_listen_keep_nobody_out() {
        let story = rush(200, 4000, 2);
        let last = story.admitted.iter().max().unwrap();
        assert!(
            last.since(Instant::ZERO) < Duration::from_secs(60),
            "{last:?}"
        );
        assert!(densest(&story.admitted) <= 2 * 200);
    }

    proptest! {
        /// Whenever they come: never more than the bucket and the rate give.
        #[test]
        fn the_rate_holds(
            per_second in 1u32..5000,
            gaps in prop::collection::vec(0u64..50_000_000, 1..500),
        ) {
            let mut admission = admission(per_second);
            let (mut now, mut admitted) = (0, 0u64);
            for gap in gaps {
                now += gap;
                match admission.admit(Instant::from_nanos(now)) {
                    Ok(()) => admitted += 1,
                    Err(wait) => prop_assert!(wait >= SOONEST && wait <= LATEST),
                }
                let most = u64::from(per_second) + now * u64::from(per_second) / 1_000_000_000 + 1;
                prop_assert!(admitted <= most, "{admitted} of {most}");
            }
        }
    }
}
