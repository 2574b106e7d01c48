//! Versions of servers.

use std::fmt;

/// `major.minor.patch`. What follows it, as in `2.12.0-RC.1` or `2.10.27+deb1`, does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub [u64; 3]);

impl Version {
    /// Strictly three numbers; `None` for everything else, like `v2.10.0` or an empty text.
    pub fn parse(text: &str) -> Option<Version> {
        let mut numbers = text.split(['-', '+']).next()?.split('.').map(|number| {
            let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
            number.parse().ok().filter(|_| is_number)
        });
        let version = [numbers.next()??, numbers.next()??, numbers.next()??];
        numbers.next().is_none().then_some(Version(version))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Version([major, minor, patch]) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_numbers_in_order() {
        let version = |text| Version::parse(text).map(|version| version.to_string());
        for (text, parsed) in [
            ("2.10.27", Some("2.10.27")),
            ("2.12.0-RC.1", Some("2.12.0")),
            ("2.10.27+deb.1", Some("2.10.27")),
            ("v2.10.0", None),
            ("2.10", None),
            ("2.10.0.1", None),
            ("2.+1.0", None),
            ("2..0", None),
            ("", None),
            ("99999999999999999999.0.0", None),
        ] {
            assert_eq!(version(text).as_deref(), parsed, "{text}");
        }
        assert!(Version::parse("2.9.10") < Version::parse("2.10.0"));
    }
}
