//! What is to happen and when. Time is a number that goes from one event to the next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use petiole_core::time::Instant;

/// Events in the order of their times, and of their making where these are the same.
#[derive(Debug)]
pub(crate) struct Agenda<T> {
    pub(crate) now: Instant,
    queue: BinaryHeap<Reverse<(Instant, u64, T)>>,
    sequence: u64,
}

impl<T: Ord> Agenda<T> {
    pub(crate) fn new() -> Self {
        Agenda {
            now: Instant::ZERO,
            queue: BinaryHeap::new(),
            sequence: 0,
        }
    }

    /// Something happens at `at`, or now if that is over.
    pub(crate) fn push(&mut self, at: Instant, event: T) {
        self.sequence += 1;
        let at = at.max(self.now);
        self.queue.push(Reverse((at, self.sequence, event)));
    }

    /// The next event, if it is due by then; otherwise it is `until` now.
    pub(crate) fn next(&mut self, until: Instant) -> Option<T> {
        if self
            .queue
            .peek()
            .is_none_or(|Reverse((at, ..))| *at > until)
        {
            self.now = until;
            return None;
        }
        let Reverse((at, _, event)) = self.queue.pop()?;
        self.now = at;
        Some(event)
    }

    /// The end of a span of time that begins now.
    pub(crate) fn after(&self, time: Duration) -> Instant {
        self.now + time
    }
}
