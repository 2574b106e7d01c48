//! The time zones of the system.

use petiole_core::auth::jwt::{Zone, Zones};
use tz::TimeZone;

/// Those that the system has files of.
pub(super) struct SystemZones;

impl Zones for SystemZones {
    fn offset(&self, zone: Zone<'_>, unix: i64) -> Option<i32> {
        let zone = match zone {
            Zone::Local => TimeZone::local().unwrap_or_else(|_| TimeZone::utc()),
            // A peer chose the text: a name, no path and no rule.
            Zone::Named(name) if is_name(name) => TimeZone::from_posix_tz(name).ok()?,
            Zone::Named(_) => return None,
        };
        let local = zone.find_local_time_type(unix).ok()?;
        Some(local.ut_offset())
    }
}

/// Whether it looks as the names of the IANA data base do: `Europe/Berlin`, `Etc/GMT+1`.
fn is_name(text: &str) -> bool {
    let is_part = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphabetic())
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_+-".contains(&byte))
    };
    text.len() <= 64 && text.split('/').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_looked_up() {
        for yes in [
            "UTC",
            "Europe/Berlin",
            "America/Argentina/La_Rioja",
            "Etc/GMT+1",
        ] {
            assert!(is_name(yes), "{yes}");
        }
        for no in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            ":UTC",
            "Europe/",
            "<+03>-3",
        ] {
            assert!(!is_name(no), "{no}");
            assert_eq!(SystemZones.offset(Zone::Named(no), 0), None, "{no}");
        }
        assert_eq!(SystemZones.offset(Zone::Named("UTC"), 0), Some(0));
    }
}
