//! Credentials files: what is in one, how long it holds, and whether it has changed since it was used.
//! What to do about that is for the caller.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use petiole_core::auth::creds::Creds;
use petiole_core::auth::jwt::{User, decode};
use petiole_core::wall::utc;

use crate::wall::doubt;

/// How often a file is looked at. A look is one `stat`, unless the file has changed.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The warning comes at least so many seconds before the end.
const WARN_AHEAD: i64 = 3600;

/// From when to when a JWT holds, in Unix seconds; it is not verified who signed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Validity {
    issued: i64,
    from: Option<i64>,
    until: Option<i64>,
}

impl Validity {
    /// `None`: no JWT that can be read.
    pub(crate) fn of(jwt: &str) -> Option<Self> {
        let claims = decode::<User>(jwt).ok()?.standard;
        Some(Validity {
            issued: claims.issued_at,
            from: claims.not_before,
            until: claims.expires,
        })
    }

    /// A tenth of the lifetime before the end, at least an hour, at most half of the lifetime.
    fn warn_at(&self) -> Option<i64> {
        let until = self.until?;
        let lifetime = until.saturating_sub(self.issued.max(self.from.unwrap_or(0)));
        let ahead = (lifetime / 10).max(WARN_AHEAD).min(lifetime / 2);
        Some(until.saturating_sub(ahead))
    }

    /// `exp` is the last second that counts.
    fn is_over(&self, now: i64) -> bool {
        self.until.is_some_and(|until| now > until)
    }
}

/// What there is to say when a hub refuses what is in the file `path` at `now`.
pub(crate) fn refused(path: &str, validity: Option<Validity>, now: i64) -> String {
    let Some(validity) = validity else {
        return format!("the JWT in the credentials file {path} cannot be read");
    };
    let ends = validity.until.map(utc);
    if validity.until.is_some()
        && let Some(doubt) = doubt(now)
    {
        return format!(
            "whether the credentials in {path} have expired cannot be told (they hold until {}): {doubt}",
            ends.unwrap_or_default()
        );
    }
    if validity.is_over(now) {
        return format!(
            "the credentials in {path} expired at {}: put new ones there, they are used at once",
            ends.unwrap_or_default()
        );
    }
    if let Some(from) = validity.from.filter(|from| now < *from) {
        return format!(
            "the credentials in {path} do not hold before {}, if this machine's clock is right",
            utc(from)
        );
    }
    let holds = ends.map_or("do not expire".into(), |end| format!("hold until {end}"));
    format!(
        "it refuses the credentials in {path}, which have not expired (they {holds}): are they \
         revoked, or of an account that this hub does not know?"
    )
}

/// What there is to say when a hub says that what is in the file `path` has expired.
pub(crate) fn expired(path: &str, validity: Option<Validity>) -> String {
    let end = validity.and_then(|validity| validity.until).map(utc);
    let at = end.map_or(String::new(), |end| format!(" at {end}"));
    format!("the credentials in {path} expired{at}: put new ones there, they are used at once")
}

/// A fingerprint of credentials.
pub(crate) fn fingerprint(creds: &Creds) -> u64 {
    let mut hasher = DefaultHasher::new();
    creds.jwt.hash(&mut hasher);
    creds.seed.reveal().hash(&mut hasher);
    hasher.finish()
}

/// A credentials file that is used.
#[derive(Debug)]
pub(crate) struct Watched {
    path: String,
    stamp: Option<Stamp>,
    /// What is in the file.
    found: Option<u64>,
    /// What was shown to a hub last.
    used: Option<u64>,
    validity: Validity,
    warned: Warned,
}

/// What of a file changes when its content does.
type Stamp = (i64, i64, u64, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Warned {
    Nothing,
    Soon,
    Over,
}

impl Watched {
    /// A file that has not been used yet.
    pub(crate) fn new(path: String) -> Self {
        Watched {
            path,
            stamp: None,
            found: None,
            used: None,
            validity: Validity::default(),
            warned: Warned::Nothing,
        }
    }

    /// These are shown to a hub.
    pub(crate) fn use_now(&mut self, creds: &Creds) {
        let print = fingerprint(creds);
        self.used = Some(print);
        self.adopt(print, creds);
    }

    fn adopt(&mut self, print: u64, creds: &Creds) {
        if self.found.replace(print) != Some(print) {
            self.validity = Validity::of(&creds.jwt).unwrap_or_default();
            self.warned = Warned::Nothing;
        }
    }

    /// Whether the file has other credentials than those that were used.
    pub(crate) fn look(&mut self) -> bool {
        let stamp = stamp(&self.path);
        if stamp != self.stamp {
            self.stamp = stamp;
            match read(&self.path) {
                Ok(creds) => self.adopt(fingerprint(&creds), &creds),
                Err(why) => log::warn!("{why}; a link that is up stays as it is"),
            }
        }
        self.used.is_some() && self.used != self.found
    }

    /// What there is to say about the time at `now`; each thing is said once.
    pub(crate) fn warn(&mut self, now: i64) -> Option<String> {
        let until = self.validity.until?;
        if doubt(now).is_some() {
            return None;
        }
        let path = &self.path;
        let (level, words) = if self.validity.is_over(now) {
            (Warned::Over, expired(path, Some(self.validity)))
        } else if self.validity.warn_at().is_some_and(|at| now >= at) {
            let left = Duration::from_secs(u64::try_from(until - now).unwrap_or_default());
            let words = format!(
                "the credentials in {path} expire at {}, in {left:?}: put new ones there, they are \
                 used without cutting the link",
                utc(until)
            );
            (Warned::Soon, words)
        } else {
            return None;
        };
        if self.warned >= level {
            return None;
        }
        self.warned = level;
        Some(words)
    }
}

fn stamp(path: &str) -> Option<Stamp> {
    let data = fs::metadata(path).ok()?;
    Some((data.mtime(), data.mtime_nsec(), data.size(), data.ino()))
}

/// Reads a credentials file. The error names it.
pub(crate) fn read(path: &str) -> Result<Creds, String> {
    let text = fs::read_to_string(path).map_err(|error| {
        format!(
            "credentials file {path}: {}",
            petiole_net::errno::words(&error)
        )
    })?;
    Creds::parse(&text).map_err(|error| format!("credentials file {path}: {error}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::wall::BUILT;
    use petiole_core::config::model::Secret;

    const DAY: i64 = 86_400;
    const START: i64 = BUILT + DAY;

    fn validity(lifetime: i64) -> Validity {
        Validity {
            issued: START,
            from: None,
            until: Some(START + lifetime),
        }
    }

    #[test]
    fn the_warning_comes_a_tenth_before_the_end() {
        for (lifetime, ahead) in [
            (100 * DAY, 10 * DAY),
            (DAY, 8640),
            (8 * 3600, 3600),
            (60, 30),
        ] {
            let at = validity(lifetime).warn_at().unwrap();
            assert_eq!(at, START + lifetime - ahead, "{lifetime}");
        }
        assert_eq!(Validity::default().warn_at(), None);
    }

    #[test]
    fn each_warning_is_given_once() {
        let mut watched = Watched::new("f".into());
        watched.validity = validity(DAY);
        assert_eq!(watched.warn(START), None);
        let soon = watched.warn(START + DAY - 60).unwrap();
        assert!(
            soon.contains("f expire at") && soon.contains("in 60s"),
            "{soon}"
        );
        assert_eq!(watched.warn(START + DAY), None, "the last second counts");
        let over = watched.warn(START + DAY + 1).unwrap();
        assert!(over.contains("f expired at"), "{over}");
        assert_eq!(watched.warn(START + DAY + 2), None);
        // A clock that is clearly wrong tells nothing about the end.
        watched.warned = Warned::Nothing;
        assert_eq!(watched.warn(0), None);
    }

    #[test]
    fn a_refusal_is_told_apart_from_an_end() {
        let ends = Some(validity(DAY));
        let late = refused("f", ends, START + DAY + 1);
        assert!(late.contains("f expired at"), "{late}");
        let early = refused("f", ends, START);
        assert!(
            early.contains("have not expired") && early.contains("revoked"),
            "{early}"
        );
        let wrong = refused("f", ends, 5);
        assert!(wrong.contains("clock is wrong"), "{wrong}");
        assert!(!wrong.contains("expired at"), "{wrong}");
        let endless = refused("f", Some(Validity::default()), START);
        assert!(endless.contains("do not expire"), "{endless}");
        let later = Validity {
            from: Some(START + 9),
            ..Validity::default()
        };
        assert!(refused("f", Some(later), START).contains("do not hold before"));
        assert!(refused("f", None, START).contains("cannot be read"));
    }

    #[test]
    fn a_change_shows_until_it_is_used() {
        let path = std::env::temp_dir().join(format!("petiole-creds-{}", std::process::id()));
        let seed = seed_of_threes();
        let write = |jwt: &str| {
            let text = format!("---a---\n{jwt}\n---b----\n---c---\n{seed}\n------\n");
            fs::write(&path, text).unwrap();
            Creds {
                jwt: jwt.into(),
                seed: Secret::new(seed.clone()),
            }
        };
        let old = write("a.b.c");
        let mut watched = Watched::new(path.to_string_lossy().into());
        assert!(!watched.look(), "nobody has used it");
        watched.use_now(&old);
        assert!(!watched.look());
        let new = write("aa.b.c");
        assert!(watched.look() && watched.look());
        fs::write(&path, "half a file").unwrap();
        assert!(
            watched.look(),
            "what was there before the broken file is known still"
        );
        write("aa.b.c");
        watched.use_now(&new);
        assert!(!watched.look());
        fs::remove_file(&path).unwrap();
        assert!(!watched.look());
    }

    fn seed_of_threes() -> String {
        // Of the bytes 3, 3, 3 ...
        "SUAAGAYDAMBQGAYDAMBQGAYDAMBQGAYDAMBQGAYDAMBQGAYDAMBQGA6BEM".into()
    }
}
