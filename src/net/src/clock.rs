//! The system's clocks in the core's terms.

use std::time::{Duration, Instant as SystemInstant, SystemTime, UNIX_EPOCH};

use petiole_core::time::Instant;

/// What the wall clock shows, since 1970. A time before that is 1970.
pub fn since_1970() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}

/// The same in whole seconds.
pub fn unix_now() -> i64 {
    i64::try_from(since_1970().as_secs()).unwrap_or(i64::MAX)
}

/// The monotonic clock. Counts from its own beginning.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: SystemInstant,
}

impl Clock {
    /// Begins now.
    pub fn start() -> Self {
        Clock {
            origin: SystemInstant::now(),
        }
    }

    /// Now.
    #[inline]
    pub fn now(&self) -> Instant {
        let nanos = self.origin.elapsed().as_nanos();
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The system's name for a point in time; a point too far ahead becomes one in a year.
    pub fn at(&self, instant: Instant) -> SystemInstant {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
        let ahead = Duration::from_nanos(instant.as_nanos());
        self.origin
            .checked_add(ahead)
            .unwrap_or_else(|| SystemInstant::now() + YEAR)
    }
}
