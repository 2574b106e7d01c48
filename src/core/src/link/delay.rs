//! Links that take less than they are given: how long a message will wait.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Instant;

/// A line is looked at for so long before it is called slow: radio links pause for seconds.
const LEAST: Duration = Duration::from_secs(5);
/// The line is sampled no more often than this,
const STEP: Duration = Duration::from_secs(1);
/// and judged by so many samples.
const SAMPLES: usize = 10;

/// How much a link has taken of late, while something waited for it.
#[derive(Debug)]
pub(crate) struct Delay {
    /// How long a message may wait.
    most: Duration,
    /// Bytes sent since the link was opened.
    sent: u64,
    /// What had been sent when, oldest first.
    samples: VecDeque<(Instant, u64)>,
}

impl Delay {
    /// Of a new link.
    pub(crate) fn new(most: Duration) -> Self {
        Delay {
            most,
            sent: 0,
            samples: VecDeque::new(),
        }
    }

    /// Whether a message behind `queued` bytes will be sent in time, as far as is known.
    pub(crate) fn admits(&mut self, now: Instant, queued: usize) -> bool {
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
        queued as u128 * span.as_nanos() <= self.most.as_nanos() * taken
    }

    /// So many bytes went out.
    #[inline]
    pub(crate) fn sent(&mut self, count: usize) {
        self.sent += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Puts so many messages of 100 bytes a second on a line that takes one, for 1000 seconds: the
    /// longest that a message waited, and how many were refused.
    fn run(given: usize, pause: std::ops::Range<u64>) -> (Duration, usize) {
        let mut delay = Delay::new(20 * SECOND);
        let (mut queue, mut now) = (VecDeque::new(), Instant::ZERO);
        let (mut longest, mut refused) = (Duration::ZERO, 0);
        for second in 0..1000 {
            for _ in 0..given {
                if delay.admits(now, queue.len() * 100) {
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
