//! Configurations. A file is text in sections: a line `=== NAME` begins the file `NAME`, a line
//! `=== $NAME` the value of an environment variable; what comes first is the configuration.

use petiole_core::auth::users::Users;
use petiole_core::config::{self, Loader, parse};

/// A configuration of a few KiB that takes longer than this is an attack that works.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(5);

struct Sections<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Sections<'a> {
    fn of(text: &'a str) -> Self {
        let mut sections = Vec::new();
        let (mut name, mut start, mut at) = ("main", 0, 0);
        for line in text.split_inclusive('\n') {
            if let Some(next) = line.strip_prefix("=== ") {
                sections.push((name, &text[start..at]));
                (name, start) = (next.trim(), at + line.len());
            }
            at += line.len();
        }
        sections.push((name, &text[start..]));
        Sections(sections)
    }

    fn find(&self, name: &str) -> Option<&'a str> {
        let (_, text) = self.0.iter().find(|(known, _)| *known == name)?;
        Some(text)
    }
}

impl Loader for Sections<'_> {
    fn read(&self, path: &str) -> Result<String, String> {
        self.find(path)
            .map(str::to_owned)
            .ok_or_else(|| format!("open {path}: no such file or directory"))
    }

    fn env(&self, name: &str) -> Option<String> {
        let text = self.find(&format!("${name}"))?;
        Some(text.strip_suffix('\n').unwrap_or(text).to_owned())
    }
}

pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let started = std::time::Instant::now();
    let sections = Sections::of(text);
    let main = sections.find("main").unwrap_or_default();
    let parsed = parse::parse_text(main, "main", &sections).map(|map| map.is_empty());
    match config::load("main", &sections) {
        Ok(loaded) => {
            assert!(parsed.is_ok(), "{parsed:?}");
            for warning in &loaded.warnings {
                assert!(!warning.to_string().is_empty());
            }
            // The same text is the same configuration.
            let again = config::load("main", &sections).map(|again| again.config.digest);
            assert_eq!(again, Ok(loaded.config.digest.clone()));
            if config::check(&loaded.config).is_ok() {
                Users::compile(&loaded.config);
                Users::compile_for_leafs(&loaded.config);
                if let Some(leafs) = &loaded.config.leafnodes {
                    assert!(!leafs.auth_timeout.is_zero(), "a deadline at once");
                }
                let limits = &loaded.config.limits;
                assert!(limits.max_payload <= limits.max_pending);
                assert!(!limits.ping_interval.is_zero(), "a ping without a pause");
                assert!(!limits.write_deadline.is_zero(), "a deadline at once");
                assert!(!limits.auth_timeout.is_zero(), "a deadline at once");
            }
        }
        Err(errors) => {
            assert!(!errors.errors.is_empty());
            assert!(!errors.to_string().is_empty());
            if let Err(text) = parsed {
                assert!(errors.to_string().contains(&text));
            }
        }
    }
    assert!(started.elapsed() < LONGEST, "{:?}", started.elapsed());
}
