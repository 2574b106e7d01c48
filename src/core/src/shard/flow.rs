//! What waits to be written, who is woken for it, and who is held back because of it.

use std::time::Duration;

use super::{DISTANT_DEADLINES, HIGH_WATER, Held, PATIENCE, Shard, Wants};
use crate::interest::Reach;
use crate::link::queue::WritePlan;
use crate::link::sibling::{Crossed, Notice, Origin};
use crate::link::{LinkId, Neighbour};
use crate::time::Instant;

/// What happens to a producer.
#[derive(Clone, Copy)]
pub(super) enum Hold {
    Begins,
    Ends,
}

impl<N: Neighbour> Shard<N> {
    /// What a driver shall do with a link. A link that is gone is to be closed.
    #[inline]
    pub fn wants(&self, id: LinkId) -> Wants {
        let Some(link) = self.link(id) else {
            return Wants {
                read: false,
                write: false,
                close: true,
                upgrade: None,
            };
        };
        let empty = link.out.is_empty();
        match link.ending {
            None => Wants {
                read: link.held_by == 0 && !link.suspended && !link.upgrading,
                write: !empty,
                close: false,
                upgrade: link.upgrade.filter(|_| empty),
            },
            Some(ending) => {
                let close = ending.abrupt || empty || self.now >= ending.until;
                Wants {
                    read: false,
                    write: !close,
                    close,
                    upgrade: None,
                }
            }
        }
    }

    /// The pieces of the next write to a link.
    pub fn poll_transmit<'a>(&'a self, id: LinkId, plan: &mut WritePlan<'a>) {
        if let Some(link) = self.link(id) {
            link.out.plan(plan);
        }
    }

    /// `count` bytes were written.
    pub fn handle_transmitted(&mut self, now: Instant, id: LinkId, count: usize) {
        self.now = now;
        let Some(link) = self
            .links
            .get_mut(id.place)
            .filter(|link| link.turn == id.turn)
        else {
            return;
        };
        link.out.advance(count, &mut self.pool);
        if let Some(delay) = &mut link.delay {
            delay.sent(count);
        }
        link.blocked = false;
        if link.out.len() <= self.env.limits.max_pending {
            link.snapshot = 0;
        }
        if count > 0 {
            link.progress = now;
        }
        self.release_drained(id.place);
    }

    /// Lets producers go on when the link at `place` has drained enough.
    pub(super) fn release_drained(&mut self, place: u32) {
        let low_water = self.high_water() / 2;
        if let Some(link) = self.links.get(place)
            && !link.holds.is_empty()
            && link.out.len() <= low_water
        {
            self.release_held(place);
            self.resume_released();
        }
    }

    /// The socket takes no more for now.
    pub fn handle_blocked(&mut self, now: Instant, id: LinkId) {
        self.now = now;
        let Some(link) = self
            .links
            .get_mut(id.place)
            .filter(|link| link.turn == id.turn)
        else {
            return;
        };
        link.out.blocked();
        if !std::mem::replace(&mut link.blocked, true) {
            let progress = link.progress;
            let until = progress + self.write_deadline(id.place);
            self.arm(id.place, until);
        }
    }

    /// How long the peer may take nothing while something waits for it.
    pub(super) fn write_deadline(&self, place: u32) -> Duration {
        let deadline = self.env.limits.write_deadline;
        let Some(link) = self.links.get(place) else {
            return deadline;
        };
        match link.neighbour.write_deadline() {
            Some(own) => own,
            None if link.neighbour.standing().reach == Reach::Distant => {
                deadline.saturating_mul(DISTANT_DEADLINES)
            }
            None => deadline,
        }
    }

    /// A link that has something to write, may be read from again, or is to be closed. Each is
    /// named once, however much was queued for it since the last call.
    pub fn poll_wake(&mut self) -> Option<LinkId> {
        loop {
            let place = self.wakes.pop()?;
            if let Some(link) = self.links.get_mut(place) {
                link.woken = false;
                return Some(LinkId {
                    place,
                    turn: link.turn,
                });
            }
        }
    }

    /// After a batch of the link at `place`: closes what cannot keep up with it. Deliveries are
    /// checked one by one; this is about answers and interest, of which none may be left out.
    pub(super) fn check_backlogs(&mut self, place: u32, account: u32) {
        let max_pending = self.env.limits.max_pending;
        // A client that asks for more answers than it takes.
        if let Some(link) = self.links.get(place)
            && link.neighbour.standing().reach == Reach::Local
            && link.out.len() > max_pending
        {
            self.drop_slow_consumer(place, link.out.len());
        }
        // A server whom we tell more changes than it takes: messages fill half of the bound, the
        // snapshot with which the link began does not count. The next link begins with the result.
        let mut behind = None;
        if let Some(account) = self.accounts.get(account as usize) {
            behind = account.leafs.iter().copied().find(|leaf| {
                self.links.get(*leaf).is_some_and(|link| {
                    let most = max_pending.saturating_mul(2).saturating_add(link.snapshot);
                    link.out.len() > most
                })
            });
        }
        if let Some(leaf) = behind
            && let Some(link) = self.links.get(leaf)
        {
            self.drop_slow_consumer(leaf, link.out.len());
        }
    }

    /// Bytes that wait for one link from which on its producers are held: [`HIGH_WATER`], or less where
    /// `max_pending` is small. They go on when half of it is left.
    pub fn high_water(&self) -> usize {
        let limits = &self.env.limits;
        // The message that reaches it must still fit below the limit.
        let largest = limits.max_payload.saturating_add(limits.max_control_line);
        HIGH_WATER
            .min(limits.max_pending / 4 * 3)
            .min(limits.max_pending.saturating_sub(largest))
    }

    /// Names the link in [`Shard::poll_wake`].
    #[inline]
    pub(super) fn wake(&mut self, place: u32) {
        if let Some(link) = self.links.get_mut(place)
            && !std::mem::replace(&mut link.woken, true)
        {
            self.wakes.push(place);
        }
    }

    /// Something may have been queued for the link outside of a delivery.
    pub(super) fn touch(&mut self, place: u32) {
        if let Some(link) = self.links.get_mut(place)
            && !link.out.is_empty()
        {
            if !link.woken && !link.blocked {
                link.progress = self.now;
            }
            self.wake(place);
        }
    }

    /// The producer waits until the consumer has drained, as long as that does drain.
    pub(super) fn hold(&mut self, origin: &Origin, consumer: u32) {
        let Some(link) = self.links.get_mut(consumer) else {
            return;
        };
        let stuck = link.progress + PATIENCE;
        if self.now >= stuck {
            return;
        }
        let held = Held {
            producer: origin.producer,
            crossed: origin.crossed,
        };
        if link.holds.contains(&held) {
            return;
        }
        link.holds.push(held);
        self.set_held(held, Hold::Begins);
        self.arm(consumer, stuck);
    }

    fn set_held(&mut self, held: Held, hold: Hold) {
        match held.crossed {
            Crossed::Not => self.count_hold(held.producer, hold),
            // Its own shard does the same there.
            Crossed::From(sibling) => self.say_beside(sibling, |out| {
                let producer = held.producer;
                match hold {
                    Hold::Begins => Notice::Hold { producer },
                    Hold::Ends => Notice::Release { producer },
                }
                .write(out);
            }),
        }
    }

    /// One consumer more or less that a producer waits for.
    pub(super) fn count_hold(&mut self, producer: LinkId, hold: Hold) {
        let Some(link) = self
            .links
            .get_mut(producer.place)
            .filter(|link| link.turn == producer.turn)
        else {
            return;
        };
        match hold {
            Hold::Begins => link.held_by += 1,
            Hold::Ends => {
                link.held_by = link.held_by.saturating_sub(1);
                if link.held_by == 0 {
                    self.released.push(producer);
                    self.wake(producer.place);
                }
            }
        }
    }

    /// Nobody waits for this consumer any more.
    pub(super) fn release_held(&mut self, consumer: u32) {
        let Some(link) = self.links.get_mut(consumer) else {
            return;
        };
        for held in std::mem::take(&mut link.holds) {
            self.set_held(held, Hold::Ends);
        }
    }

    /// Goes on with what released producers had sent already. At the end of every input, never in
    /// the midst of one.
    pub(super) fn resume_released(&mut self) {
        while let Some(id) = self.released.pop() {
            let Some(link) = self
                .links
                .get_mut(id.place)
                .filter(|link| link.turn == id.turn)
            else {
                continue;
            };
            if link.held_by > 0 || link.ending.is_some() || link.input.filled > 0 {
                continue;
            }
            let waiting = std::mem::take(&mut link.input);
            self.consume(id.place, &waiting.partial);
            self.finish_batch(id.place);
        }
    }
}
