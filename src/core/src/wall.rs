//! The wall clock: its name for a point in time, as far as the role tells what it shows, and how JSON has
//! that: RFC 3339 in UTC, with nanoseconds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::time::Instant;

const DAY: i64 = 24 * 3600;

/// A wall clock that has moved by more than this beside the other one was set.
const SET: Duration = Duration::from_secs(1);

/// What the wall clock shows. One for all threads of a server.
#[derive(Debug, Default)]
pub struct WallClock {
    /// At [`Instant::ZERO`], in nanoseconds since 1970; 0: nobody has told.
    origin: AtomicU64,
}

impl WallClock {
    /// At `now` it shows so much since 1970. As long as it was not set, points in time keep the names
    /// they had.
    pub fn tell(&self, now: Instant, since_1970: Duration) {
        let fresh = nanos(since_1970).saturating_sub(now.as_nanos());
        if self.origin.load(Ordering::Relaxed).abs_diff(fresh) > nanos(SET) {
            self.origin.store(fresh, Ordering::Relaxed);
        }
    }

    /// Its name for a point in time; `None` before it was told what it shows.
    pub fn name(&self, then: Instant) -> Option<String> {
        let origin = self.origin.load(Ordering::Relaxed);
        let since_1970 = Duration::from_nanos(origin.saturating_add(then.as_nanos()));
        (origin > 0).then(|| rfc3339(since_1970))
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// `2026-11-23T01:22:26.418646103Z`: so long after the beginning of 1970.
pub fn rfc3339(since_1970: Duration) -> String {
    let seconds = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
    let (date, time) = date_and_time(seconds);
    format!("{date}T{time}.{:09}Z", since_1970.subsec_nanos())
}

/// `2026-11-23 01:22:26 UTC`: so many seconds after the beginning of 1970, or before it.
pub fn utc(seconds: i64) -> String {
    let (date, time) = date_and_time(seconds);
    format!("{date} {time} UTC")
}

fn date_and_time(seconds: i64) -> (String, String) {
    let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    (
        format!("{year:04}-{month:02}-{day:02}"),
        format!("{hour:02}:{minute:02}:{second:02}"),
    )
}

/// Year, month and day of the Gregorian calendar, so many days after 1970-01-01. Years are counted
/// from March, so that the leap day is the last of its year.
fn date(days: i64) -> (i64, i64, i64) {
    const FROM_YEAR_0: i64 = 719_468;
    const CYCLE: i64 = 146_097; // 400 years
    let days = days + FROM_YEAR_0;
    let (cycle, day) = (days.div_euclid(CYCLE), days.rem_euclid(CYCLE));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (400 * cycle + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        for (seconds, nanos, text) in [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_399, 5, "2000-02-28T23:59:59.000000005Z"),
            (951_782_400, 0, "2000-02-29T00:00:00.000000000Z"),
            (1_795_397_546, 418_646_103, "2026-11-23T01:32:26.418646103Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(rfc3339(Duration::new(seconds, nanos)), text);
        }
    }

    #[test]
    fn times_before_1970_have_names_too() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_793_491_200, "2026-11-01 00:00:00 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
            (-1, "1969-12-31 23:59:59 UTC"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }

    #[test]
    fn names_stay_until_the_clock_is_set() {
        let second = |n: u64| Instant::from_nanos(n * 1_000_000_000);
        let clock = WallClock::default();
        assert_eq!(clock.name(second(1)), None);
        clock.tell(second(10), Duration::from_secs(110));
        let name = clock.name(second(5));
        assert_eq!(name.as_deref(), Some("1970-01-01T00:01:45.000000000Z"));
        clock.tell(second(20), Duration::new(120, 900_000_000));
        assert_eq!(clock.name(second(5)), name);
        clock.tell(second(30), Duration::from_secs(3730));
        let set = clock.name(second(5));
        assert_eq!(set.as_deref(), Some("1970-01-01T01:01:45.000000000Z"));
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut before = date(0);
        for day in 1..=80_000 {
            let now = date(day);
            let next_day = (before.0, before.1, before.2 + 1);
            let next_month = (before.0, before.1 + 1, 1);
            let next_year = (before.0 + 1, 1, 1);
            assert!([next_day, next_month, next_year].contains(&now), "{now:?}");
            assert!(now.1 <= 12 && now.2 <= 31, "{now:?}");
            before = now;
        }
    }
}
