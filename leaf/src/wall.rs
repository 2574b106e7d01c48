//! The time of day, and whether it can be believed: many boards have no clock battery and start in
//! 1970, or at the date of their last write.

use petiole_core::wall::utc;

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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

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
