//! Links that take less than they are given: how long a message will wait, and how much of what waits
//! is handed over at a time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::link::queue::FINE_CHUNK;
use crate::time::Instant;

/// A line is looked at for so long before it is called slow: radio links pause for seconds.
const LEAST: Duration = Duration::from_secs(5);
/// The line is sampled no more often than this,
const STEP: Duration = Duration::from_secs(1);
/// and judged by so many samples.
const SAMPLES: usize = 10;

/// How much a link has taken of late, while something waited for it.
#[derive(Debug, Default)]
pub(crate) struct Delay {
    /// Bytes sent since the link was opened.
    sent: u64,
    /// What had been sent when, oldest first.
    samples: VecDeque<(Instant, u64)>,
}

impl Delay {
    /// Whether a message behind `queued` bytes will be sent within `most`, as far as is known.
    pub(crate) fn admits(&mut self, now: Instant, queued: usize, most: Duration) -> bool {
        if queued == 0 {
            self.samples.clear();
        }
        let last = self.samples.back().map(|(at, _)| *at);
        if last.is_none_or(|at| now.since(at) >= STEP) {
            if self.samples.len() == SAMPLES {
                self.samples.pop_front();
            }
            self.samples.push_back((now, self.sent));
        }
        let Some((since, before)) = self.samples.front() else {
            return true;
        };
        let span = now.since(*since);
        if span < LEAST {
            return true;
        }
        let taken = u128::from(self.sent - before);
        // The time for what is queued, in proportion to what was taken in the span.
        queued as u128 * span.as_nanos() <= most.as_nanos() * taken
    }

    /// So many bytes went out.
    #[inline]
    pub(crate) fn sent(&mut self, count: usize) {
        self.sent += count as u64;
    }
}

/// How much is written to a link at a time. A system takes 64 KiB in one call whatever it was told to
/// hold, and what it has can no longer be overtaken: eight seconds of a line of 64 kbit/s. So a line is
/// given twice as much each time it took all, and half as much when it was full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    most: u32,
}

/// What a line that is never full is given: as much as one write can hold.
const FULL_PACE: u32 = 16 * FINE_CHUNK as u32;

impl Pace {
    pub(crate) fn new() -> Self {
        Pace {
            most: FINE_CHUNK as u32,
        }
    }

    /// Bytes of the next write.
    #[inline]
    pub(crate) fn most(self) -> usize {
        self.most as usize
    }

    /// So many bytes went out.
    #[inline]
    pub(crate) fn sent(&mut self, count: usize) {
        if count >= self.most() {
            self.most = (self.most * 2).min(FULL_PACE);
        }
    }

    /// The line was full.
    pub(crate) fn blocked(&mut self) {
        self.most = (self.most / 2).max(FINE_CHUNK as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_line_is_given_little_at_a_time_and_a_fast_one_much() {
        let mut pace = Pace::new();
        for _ in 0..20 {
            assert!(pace.most() <= 2 * FINE_CHUNK);
            pace.sent(pace.most());
            pace.blocked();
        }
        for _ in 0..20 {
            pace.sent(pace.most());
        }
        assert_eq!(pace.most(), 16 * FINE_CHUNK);
        for _ in 0..20 {
            pace.blocked();
        }
        assert_eq!(pace.most(), FINE_CHUNK);
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// Puts so many messages of 100 bytes a second on a line that takes one, for 1000 seconds: the
    /// longest that a message waited, and how many were refused.
    fn run(given: usize, pause: std::ops::Range<u64>) -> (Duration, usize) {
        let mut delay = Delay::default();
        let (mut queue, mut now) = (VecDeque::new(), Instant::ZERO);
        let (mut longest, mut refused) = (Duration::ZERO, 0);
        for second in 0..1000 {
            for _ in 0..given {
                if delay.admits(now, queue.len() * 100, 20 * SECOND) {
                    queue.push_back(now);
                } else {
                    refused += 1;
                }
            }
            now = now + SECOND;
            if !pause.contains(&second)
                && let Some(since) = queue.pop_front()
            {
                longest = longest.max(now.since(since));
                delay.sent(100);
            }
        }
        (longest, refused)
    }

    #[test]
    fn a_slow_line_is_never_behind_by_more_than_the_bound() {
        let (longest, refused) = run(2, 0..0);
        assert!(
            longest > 15 * SECOND && longest <= 22 * SECOND,
            "{longest:?}"
        );
        assert!((950..=1000).contains(&refused), "{refused}");
    }

    #[test]
    fn a_line_that_keeps_up_refuses_nothing() {
        assert_eq!(run(1, 0..0), (SECOND, 0));
        assert_eq!(run(1, 500..504).1, 0);
    }

    #[test]
    fn a_line_that_takes_nothing_is_given_no_more() {
        let (_, refused) = run(1, 100..200);
        assert!((80..=105).contains(&refused), "{refused}");
    }
}
