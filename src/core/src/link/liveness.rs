//! Whether the peer is still there: pings, and what counts as an answer.

use std::time::Duration;

use crate::link::Cx;
use crate::random::Random;
use crate::time::Instant;
use crate::wire::error::ProtoError;
use crate::wire::write;

/// The ping state of one link.
#[derive(Debug)]
pub(crate) struct Liveness {
    tick: Instant,
    unanswered: u32,
    active: bool,
    /// When the last ping was queued, until it is answered.
    asked: Option<Instant>,
    round_trip: Option<Duration>,
}

/// What a tick asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    /// Not the time yet, or the peer spoke by itself.
    Quiet,
    /// Send `PING`.
    Ping,
    /// Too many went unanswered.
    Stale,
}

impl Liveness {
    pub(crate) fn new(now: Instant, first: Duration) -> Self {
        Liveness {
            tick: now + first,
            unanswered: 0,
            active: false,
            asked: None,
            round_trip: None,
        }
    }

    /// The first ping comes soon after the handshake, spread so that peers that came together do
    /// not answer together. Never later than the interval.
    pub(crate) fn start(
        &mut self,
        now: Instant,
        first: Duration,
        interval: Duration,
        random: &mut Random,
    ) {
        let spread = first.mul_f64(0.2 * random.fraction());
        self.tick = now + (first + spread).min(interval);
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.tick
    }

    /// The peer said something that shows it works.
    #[inline]
    pub(crate) fn credit(&mut self) {
        self.active = true;
    }

    /// What it said does not count.
    pub(crate) fn uncredit(&mut self) {
        self.active = false;
    }

    /// The peer answered a ping.
    pub(crate) fn pong(&mut self, now: Instant) {
        self.unanswered = 0;
        if let Some(asked) = self.asked.take() {
            self.round_trip = Some(now.since(asked));
        }
    }

    /// Something came from the peer: it is there, whatever became of our pings.
    pub(crate) fn alive(&mut self) {
        self.unanswered = 0;
    }

    /// How long the last ping that was answered took, the time in our queue included.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// A tick of a link to another server: pings it, or finds that it no longer answers.
    pub(crate) fn keep(&mut self, cx: &mut Cx<'_>) -> Result<(), ProtoError> {
        let limits = &cx.env.limits;
        match self.beat(cx.now, limits.ping_interval, limits.ping_max) {
            Beat::Quiet => Ok(()),
            Beat::Ping => {
                cx.say_at_once(write::PING);
                Ok(())
            }
            Beat::Stale => Err(ProtoError::StaleConnection),
        }
    }

    pub(crate) fn beat(&mut self, now: Instant, interval: Duration, max: u32) -> Beat {
        if now < self.tick {
            return Beat::Quiet;
        }
        self.tick = now + interval;
        if std::mem::take(&mut self.active) {
            return Beat::Quiet;
        }
        if self.unanswered >= max {
            return Beat::Stale;
        }
        self.unanswered += 1;
        self.asked = Some(now);
        Beat::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_tick_without_an_answer_is_stale() {
        let second = Duration::from_secs(1);
        let mut now = Instant::ZERO;
        let mut live = Liveness::new(now, second);
        let mut beat = |live: &mut Liveness| {
            now = now + second;
            live.beat(now, second, 2)
        };
        assert_eq!(beat(&mut live), Beat::Ping);
        assert_eq!(beat(&mut live), Beat::Ping);
        live.credit();
        assert_eq!(beat(&mut live), Beat::Quiet);
        assert_eq!(beat(&mut live), Beat::Stale);
        live.alive();
        assert_eq!(beat(&mut live), Beat::Ping);
        live.pong(Instant::ZERO + 5 * second);
        assert_eq!(beat(&mut live), Beat::Ping);
    }
}
