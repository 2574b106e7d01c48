//! The time of day, and whether it can be believed: many boards have no clock battery and start in
//! 1970, or at the date of their last write.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix seconds of 2026-11-01: older than whatever runs this.
const RELEASED: i64 = 1_793_491_200;

/// No earlier time is believed: when this was built, as `SOURCE_DATE_EPOCH` said (so that builds can be
/// repeated), else a date shortly before the release.
pub(crate) const BUILT: i64 = match option_env!("SOURCE_DATE_EPOCH") {
    Some(text) => seconds(text.as_bytes()),
    None => RELEASED,
};

/// A variable that is no number says nothing.
const fn seconds(text: &[u8]) -> i64 {
    let mut value: i64 = 0;
    let mut at = 0;
    while at < text.len() {
        if !text[at].is_ascii_digit() || at > 11 {
            return RELEASED;
        }
        value = value * 10 + (text[at] - b'0') as i64;
        at += 1;
    }
    if at == 0 { RELEASED } else { value }
}

/// Unix seconds by this machine's clock.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

/// What is wrong with the clock, if it is clearly wrong.
pub(crate) fn doubt(now: i64) -> Option<String> {
    (now < BUILT).then(|| {
        format!(
            "this machine's clock is wrong, it says {} and this program was made after {}: set it, \
             for instance by NTP",
            utc(now),
            utc(BUILT)
        )
    })
}

/// `2026-11-23 01:22:26 UTC`
pub(crate) fn utc(seconds: i64) -> String {
    const DAY: i64 = 24 * 3600;
    let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Year, month and day, so many days after 1970-01-01. Years are counted from March, so that the leap
/// day is the last of its year.
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (RELEASED, "2026-11-01 00:00:00 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
            (-1, "1969-12-31 23:59:59 UTC"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }

    #[test]
    fn only_a_time_before_the_build_is_doubted() {
        assert_eq!(doubt(BUILT), None);
        let words = doubt(0).unwrap();
        assert!(words.contains("1970-01-01 00:00:00 UTC"), "{words}");
        assert_eq!(seconds(b"1700000000"), 1_700_000_000);
        for text in ["", "x", "17 00", "-1", "99999999999999999999"] {
            assert_eq!(seconds(text.as_bytes()), RELEASED, "{text}");
        }
    }

    /// A date that stays behind believes clocks that are a year off: set it anew at each release.
    #[test]
    fn the_date_of_the_release_is_kept_up() {
        let git = std::process::Command::new("git")
            .args(["log", "-1", "--format=%ct"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output();
        // Without the history there is nothing to compare with.
        let Some(committed) = git
            .ok()
            .and_then(|out| String::from_utf8(out.stdout).ok())
            .and_then(|text| text.trim().parse::<i64>().ok())
        else {
            return;
        };
        let days = (committed - RELEASED) / 86_400;
        assert!(
            (0..400).contains(&days),
            "{days} days behind the newest commit"
        );
    }
}
