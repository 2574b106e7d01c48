//! Deadlines: one heap for all links, each link in it at most once for its earliest.

use std::cmp::Reverse;

use super::{PATIENCE, Shard};
use crate::link::{Action, Neighbour};
use crate::slab::NONE;
use crate::time::Instant;

impl<N: Neighbour> Shard<N> {
    /// After the neighbour at `place` handled something: its output and its timer.
    pub(super) fn settle(&mut self, place: u32) {
        self.touch(place);
        if let Some(link) = self.links.get(place) {
            let at = link.neighbour.poll_timeout();
            self.arm(place, at);
        }
    }

    pub(super) fn arm(&mut self, place: u32, at: Instant) {
        if let Some(link) = self.links.get_mut(place)
            && at < link.armed
        {
            link.armed = at;
            self.timers.push(Reverse((at, place, link.turn)));
        }
    }

    /// When [`Shard::handle_timeout`] is wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, ..))| *at)
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        while let Some(Reverse((at, place, turn))) = self.timers.peek().copied()
            && at <= now
        {
            self.timers.pop();
            if place == NONE {
                self.expire_responses();
                continue;
            }
            let Some(link) = self.links.get_mut(place).filter(|link| link.turn == turn) else {
                continue;
            };
            if link.armed != at {
                // An earlier deadline took this one's place.
                continue;
            }
            link.armed = Instant::NEVER;
            self.handle_link_timeout(place);
        }
        self.resume_released();
    }

    pub(super) fn handle_link_timeout(&mut self, place: u32) {
        let now = self.now;
        let Some(link) = self.links.get_mut(place) else {
            return;
        };
        if let Some(ending) = link.ending {
            if now >= ending.until {
                self.wake(place);
            } else {
                self.arm(place, ending.until);
            }
            return;
        }
        let stuck = link.progress + PATIENCE;
        if !link.holds.is_empty() {
            if now >= stuck {
                self.release_held(place);
            } else {
                self.arm(place, stuck);
            }
        }
        let most = self.write_deadline(place);
        let Some(link) = self.links.get(place) else {
            return;
        };
        let deadline = link.progress + most;
        if link.blocked && now >= deadline {
            log::warn!(
                "Slow Consumer Detected: WriteDeadline of {most:?} exceeded with {} total bytes",
                link.out.len(),
            );
            return self.end(place, "Slow Consumer (Write Deadline)", true);
        }
        if link.blocked {
            self.arm(place, deadline);
        }
        // Who is not read from cannot answer a ping.
        let held = self.links.get(place).is_some_and(|link| link.held_by > 0);
        let alive = self
            .links
            .get_mut(place)
            .is_some_and(|link| std::mem::take(&mut link.alive));
        self.act_with(place, |neighbour, cx| {
            if alive {
                neighbour.handle_sign_of_life();
            }
            if held {
                neighbour.excuse();
            }
            neighbour.handle_timeout(cx).map(|()| Action::Done)
        });
        self.settle(place);
    }
}
