//! When a user may connect: windows of each day, in a time zone that the caller knows.

use super::claims::Grant;
use crate::config::quote;

/// The time, and what time zones there are.
#[derive(Clone, Copy)]
pub struct Clock<'a> {
    /// Unix seconds.
    pub now: i64,
    /// The time zones of the system.
    pub zones: &'a dyn Zones,
}

/// What time zones there are. Files and the system's settings belong to the caller.
pub trait Zones {
    /// Seconds that `zone` is ahead of UTC at `unix` seconds; `None`: there is no such zone.
    fn offset(&self, zone: Zone<'_>, unix: i64) -> Option<i32>;
}

/// A time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone<'a> {
    /// The server's own.
    Local,
    /// By IANA name, as `Europe/Berlin`; a peer chose the text.
    Named(&'a str),
}

const DAY: i64 = 24 * 60 * 60;

/// Reports what is wrong with the times of a grant.
pub(super) fn check(grant: &Grant, clock: Clock<'_>, issue: &mut dyn FnMut(String)) {
    for range in &grant.times {
        for (what, text) in [("start", &range.start), ("end", &range.end)] {
            if text.is_empty() {
                issue(
                    format!("time ranges {what} must contain a {what}").replace("a end", "an end"),
                );
            } else if seconds(text).is_none() {
                let text = quote(text);
                issue(format!("{what} in time range is invalid {text}"));
            }
        }
    }
    if offset(grant, clock).is_none() {
        let name = grant.location.escape_debug();
        issue(format!(
            "could not parse iana time zone by name: unknown time zone {name}"
        ));
    }
}

/// Whether it is a time to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Not now.
    Closed,
    /// Until then, in Unix seconds; `None`: always.
    Open(Option<i64>),
}

/// Judges by the windows of a grant. A window does not contain its ends; of several that are open the
/// first counts.
pub(super) fn admission(grant: &Grant, clock: Clock<'_>) -> Admission {
    if grant.times.is_empty() {
        return Admission::Open(None);
    }
    let Some(offset) = offset(grant, clock) else {
        return Admission::Closed;
    };
    let time = clock.now.saturating_add(offset.into()).rem_euclid(DAY);
    for range in &grant.times {
        let (Some(start), Some(end)) = (seconds(&range.start), seconds(&range.end)) else {
            return Admission::Closed;
        };
        let left = if start <= end {
            (start < time && time < end).then(|| end - time)
        } else if time > start {
            Some(end + DAY - time)
        } else {
            (time < end).then(|| end - time)
        };
        if let Some(left) = left {
            return Admission::Open(Some(clock.now.saturating_add(left)));
        }
    }
    Admission::Closed
}

fn offset(grant: &Grant, clock: Clock<'_>) -> Option<i32> {
    match grant.location.as_str() {
        "" | "Local" => clock.zones.offset(Zone::Local, clock.now),
        "UTC" => Some(0),
        name => clock.zones.offset(Zone::Named(name), clock.now),
    }
}

/// Seconds of the day of `hh:mm:ss`. As in Go the hour may have one digit.
fn seconds(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    let number = |text: &str, least: usize, below: i64| {
        let plain = (least..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<i64>().ok().filter(|n| plain && *n < below)
    };
    let whole =
        number(hours, 1, 24)? * 3600 + number(minutes, 2, 60)? * 60 + number(seconds, 2, 60)?;
    parts.next().is_none().then_some(whole)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::claims::TimeRange;
    use super::*;

    /// Local is two hours ahead of UTC, `Far/East` nine; `Far/West` is three and a half behind.
    struct Fixed;

    impl Zones for Fixed {
        fn offset(&self, zone: Zone<'_>, _: i64) -> Option<i32> {
            match zone {
                Zone::Local => Some(2 * 3600),
                Zone::Named("Far/East") => Some(9 * 3600),
                Zone::Named("Far/West") => Some(-12600),
                Zone::Named(_) => None,
            }
        }
    }

    fn grant(zone: &str, windows: &[(&str, &str)]) -> Grant {
        let times = windows.iter().map(|(start, end)| TimeRange {
            start: (*start).into(),
            end: (*end).into(),
        });
        Grant {
            times: times.collect(),
            location: zone.into(),
            ..Grant::default()
        }
    }

    fn at(time: &str, grant: &Grant) -> Admission {
        let now = 20_000 * DAY + seconds(time).unwrap_or_default();
        let clock = Clock { now, zones: &Fixed };
        match admission(grant, clock) {
            Admission::Open(Some(until)) => Admission::Open(Some(until - now)),
            other => other,
        }
    }

    #[test]
    fn windows() {
        use Admission::{Closed, Open};
        let day = grant("UTC", &[("08:00:00", "17:00:00")]);
        let night = grant("UTC", &[("22:00:00", "06:00:00")]);
        for (time, grant, wanted) in [
            ("08:00:00", &day, Closed),
            ("08:00:01", &day, Open(Some(9 * 3600 - 1))),
            ("16:59:59", &day, Open(Some(1))),
            ("17:00:00", &day, Closed),
            ("22:00:00", &night, Closed),
            ("22:00:01", &night, Open(Some(8 * 3600 - 1))),
            ("00:00:00", &night, Open(Some(6 * 3600))),
            ("05:59:59", &night, Open(Some(1))),
            ("06:00:00", &night, Closed),
            ("12:00:00", &night, Closed),
            // In local time, and far away, past midnight in both directions.
            (
                "06:30:00",
                &grant("", &[("08:00:00", "09:00:00")]),
                Open(Some(1800)),
            ),
            (
                "06:30:00",
                &grant("Local", &[("08:00:00", "09:00:00")]),
                Open(Some(1800)),
            ),
            (
                "23:30:00",
                &grant("Far/East", &[("08:00:00", "09:00:00")]),
                Open(Some(1800)),
            ),
            (
                "02:30:00",
                &grant("Far/West", &[("22:00:00", "23:30:00")]),
                Open(Some(1800)),
            ),
            // Any window does; one that is empty never does.
            (
                "12:00:00",
                &grant("UTC", &[("01:00:00", "2:00:00"), ("11:00:00", "13:00:00")]),
                Open(Some(3600)),
            ),
            (
                "12:00:00",
                &grant("UTC", &[("12:00:00", "12:00:00")]),
                Closed,
            ),
            (
                "12:00:00",
                &grant("UTC", &[("11:00:00", "11:00:00")]),
                Closed,
            ),
            ("12:00:00", &grant("UTC", &[]), Open(None)),
            (
                "12:00:00",
                &grant("Mars/X", &[("01:00:00", "23:00:00")]),
                Closed,
            ),
            ("12:00:00", &grant("UTC", &[("1", "23:00:00")]), Closed),
        ] {
            assert_eq!(at(time, grant), wanted, "{time} {grant:?}");
        }
    }

    #[test]
    fn forms() {
        for (text, wanted) in [
            ("00:00:00", Some(0)),
            ("23:59:59", Some(DAY - 1)),
            ("7:00:00", Some(7 * 3600)),
            ("24:00:00", None),
            ("12:60:00", None),
            ("12:00:60", None),
            ("12:0:00", None),
            ("12:00", None),
            ("12:00:00:00", None),
            ("+1:00:00", None),
            ("", None),
        ] {
            assert_eq!(seconds(text), wanted, "{text}");
        }
    }

    proptest! {
        /// Whatever stands there, an open window ends within a day.
        #[test]
        fn windows_end(now: i64, start in 0..DAY, end in 0..DAY, zone in ".{0,9}", text in "[0-9:]{0,9}") {
            let clock = Clock { now, zones: &Fixed };
            let shown = |t: i64| format!("{:02}:{:02}:{:02}", t / 3600, t / 60 % 60, t % 60);
            let windows = grant("Far/West", &[(&shown(start), &shown(end))]);
            if let Admission::Open(until) = admission(&windows, clock) {
                let left = until.map(|until| until.saturating_sub(now));
                prop_assert!(left.is_some_and(|left| left > 0 && left <= DAY) || now > i64::MAX - DAY);
            }
            let _ = admission(&grant(&zone, &[(&text, &text)]), clock);
        }
    }
}
