//! Durations as Go writes them and text quoted as Go quotes it.

use std::time::Duration;

/// Go's `time.ParseDuration`, in nanoseconds; the error text is Go's.
pub(super) fn parse_duration(text: &str) -> Result<i64, String> {
    let bad = || format!("time: invalid duration {}", quote(text));
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(bad());
        }
        let unit_end = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let scale: u64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => {
                return Err(format!("time: missing unit in duration {}", quote(text)));
            }
            _ => {
                return Err(format!(
                    "time: unknown unit {} in duration {}",
                    quote(unit),
                    quote(text)
                ));
            }
        };
        let whole = if whole.is_empty() {
            0
        } else {
            whole.parse::<u64>().map_err(|_| bad())?
        };
        // Digits beyond the 18th are far below a nanosecond of any unit.
        let fraction = fraction.get(..fraction.len().min(18)).unwrap_or_default();
        let part = match fraction.parse::<u128>() {
            Ok(value) => {
                value * u128::from(scale) / 10u128.pow(u32::try_from(fraction.len()).unwrap_or(18))
            }
            Err(_) => 0,
        };
        total = whole
            .checked_mul(scale)
            .and_then(|n| n.checked_add(u64::try_from(part).ok()?))
            .and_then(|n| n.checked_add(total))
            .filter(|n| i64::try_from(*n).is_ok())
            .ok_or_else(bad)?;
        rest = after;
    }
    let total = i64::try_from(total).map_err(|_| bad())?;
    Ok(if negative { -total } else { total })
}

fn digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// A duration as Go prints it: `29s`, `1m30s`, `1.5ms`.
pub(super) fn show_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let fraction = |value: u128, scale: u128, unit: &str| {
        let rest = value % scale;
        let width = scale.ilog10() as usize;
        let text = format!("{}.{rest:0width$}", value / scale);
        let text = text.trim_end_matches('0').trim_end_matches('.');
        format!("{text}{unit}")
    };
    match nanos {
        0 => "0s".into(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => fraction(nanos, 1_000, "µs"),
        1_000_000..1_000_000_000 => fraction(nanos, 1_000_000, "ms"),
        _ => {
            let seconds = fraction(nanos % 60_000_000_000, 1_000_000_000, "s");
            let minutes = nanos / 60_000_000_000;
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, m) => format!("{m}m{seconds}"),
                (h, m) => format!("{h}h{m}m{seconds}"),
            }
        }
    }
}

/// Text as Go's `%q` prints it.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{b}' => out.push_str("\\v"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            '\u{80}'..='\u{a0}'
            | '\u{ad}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202f}'
            | '\u{feff}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        for (text, nanos) in [
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5ms", 500_000),
            ("-5s", -5_000_000_000),
            ("+5s", 5_000_000_000),
            ("0", 0),
            ("3µs", 3_000),
            ("1.s", 1_000_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(nanos), "{text}");
        }
        for (text, error) in [
            ("x", "time: invalid duration \"x\""),
            ("", "time: invalid duration \"\""),
            (".", "time: invalid duration \".\""),
            ("9999999h", "time: invalid duration \"9999999h\""),
            ("5", "time: missing unit in duration \"5\""),
            ("1.5.5s", "time: missing unit in duration \"1.5.5s\""),
            ("1x", "time: unknown unit \"x\" in duration \"1x\""),
            ("5 s", "time: unknown unit \" s\" in duration \"5 s\""),
        ] {
            assert_eq!(parse_duration(text), Err(error.to_string()), "{text}");
        }
    }

    #[test]
    fn shown_durations() {
        for text in ["29s", "1m30s", "1h0m0s", "1.5ms", "2h3m4.25s", "7ns", "0s"] {
            let nanos = parse_duration(text).unwrap().unsigned_abs();
            assert_eq!(show_duration(Duration::from_nanos(nanos)), text);
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[-+.0-9a-zµ ]{0,40}") {
            let _ = parse_duration(&text);
        }

        #[test]
        fn shown_parses_back(nanos in 0..=i64::MAX) {
            let shown = show_duration(Duration::from_nanos(nanos.unsigned_abs()));
            prop_assert_eq!(parse_duration(&shown), Ok(nanos));
        }
    }
}
