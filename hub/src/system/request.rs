//! What is asked of a server in its system account, and by whom an answer is wanted.

use serde::Deserialize;
use serde_json::Value;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// How the server is doing.
    Statsz,
    /// Who it is.
    Idz,
    /// Whether it is well.
    Healthz,
    /// How many connections an account has.
    AccountConns,
    /// The same, and what went over them.
    AccountStatz,
    /// That of all accounts.
    AccountsStatz,
}

impl Request {
    const ALL: [Request; 6] = [
        Request::Statsz,
        Request::Idz,
        Request::Healthz,
        Request::AccountConns,
        Request::AccountStatz,
        Request::AccountsStatz,
    ];

    /// The names of the subscriptions, with what is subscribed to by the server `id`.
    pub(super) fn subscriptions(id: &str) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for (number, request) in Request::ALL.into_iter().enumerate() {
            let subjects = match request {
                Request::Statsz => vec!["SERVER.PING".to_owned(), "SERVER.PING.STATSZ".to_owned()],
                Request::Idz => vec!["SERVER.PING.IDZ".to_owned()],
                Request::Healthz => vec!["SERVER.PING.HEALTHZ".to_owned()],
                Request::AccountConns => vec!["ACCOUNT.*.CONNS".to_owned()],
                Request::AccountStatz => vec!["ACCOUNT.*.STATZ".to_owned()],
                Request::AccountsStatz => vec!["ACCOUNT.PING.STATZ".to_owned()],
            };
            let own = match request {
                Request::Statsz => Some("STATSZ"),
                Request::Idz => Some("IDZ"),
                Request::Healthz => Some("HEALTHZ"),
                _ => None,
            };
            let own = own.map(|name| format!("SERVER.{id}.{name}"));
            for (place, subject) in subjects.into_iter().chain(own).enumerate() {
                // A subscription's name is the request's, and a letter of its own.
                let letter = char::from(b'a' + place as u8);
                all.push((format!("{number}{letter}"), format!("$SYS.REQ.{subject}")));
            }
        }
        all
    }

    /// What came for the subscription `sid`.
    pub(super) fn of(sid: &[u8]) -> Option<Request> {
        let digit = usize::from(sid.first()?.checked_sub(b'0')?);
        Request::ALL.get(digit).copied()
    }
}

/// The body of a request. `Default` is an empty one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Options {
    server_name: String,
    cluster: String,
    host: String,
    domain: String,
    tags: Vec<String>,
    exact_match: bool,
    /// Accounts without connections, too.
    pub(super) include_unused: bool,
    /// Only these; empty: all.
    pub(super) accounts: Vec<String>,
}

impl Options {
    /// Reads a body. The error is for who asked.
    pub(super) fn parse(body: &[u8]) -> Result<Options, String> {
        if body.is_empty() {
            return Ok(Options::default());
        }
        let words = |error: serde_json::Error| error.to_string();
        match serde_json::from_slice(body).map_err(words)? {
            Value::Null => Ok(Options::default()),
            // A list of values in their order would do for this reader, too.
            object @ Value::Object(_) => serde_json::from_value(object).map_err(words),
            _ => Err("the body of a request is an object, or empty".into()),
        }
    }

    /// Whether it is a server of this name and host that is asked. There are no clusters, domains and
    /// tags here, so that who names one means another server.
    pub(super) fn means(&self, name: &str, host: &str) -> bool {
        let fits = |wanted: &str, have: &str| {
            wanted.is_empty()
                || if self.exact_match {
                    wanted == have
                } else {
                    have.contains(wanted)
                }
        };
        fits(&self.server_name, name)
            && fits(&self.host, host)
            && [&self.cluster, &self.domain].iter().all(|it| it.is_empty())
            && self.tags.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_subscription_is_known_by_its_name() {
        let all = Request::subscriptions("N1");
        let mut names: Vec<_> = all.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
        for (name, subject) in &all {
            let request = Request::of(name.as_bytes()).unwrap();
            let is_statsz = subject.ends_with(".STATSZ") || subject.ends_with(".PING");
            assert_eq!(request == Request::Statsz, is_statsz, "{subject}");
        }
        assert!(all.iter().any(|(_, s)| s == "$SYS.REQ.SERVER.N1.IDZ"));
        assert_eq!(Request::of(b""), None);
        assert_eq!(Request::of(b"9"), None);
        assert_eq!(Request::of(b"!"), None);
    }

    #[test]
    fn filters() {
        for (body, means) in [
            ("", true),
            ("null", true),
            ("{}", true),
            ("{\"server_name\":\"EDG\"}", true),
            ("{\"server_name\":\"EDG\",\"exact_match\":true}", false),
            ("{\"server_name\":\"EDGE\",\"exact_match\":true}", true),
            ("{\"host\":\"127.0\"}", true),
            ("{\"host\":\"10.\"}", false),
            ("{\"tags\":[\"x\"]}", false),
            ("{\"cluster\":\"c\"}", false),
            ("{\"domain\":\"d\"}", false),
            ("{\"unknown\":1}", true),
        ] {
            let options = Options::parse(body.as_bytes()).unwrap();
            assert_eq!(options.means("EDGE", "127.0.0.1"), means, "{body}");
        }
        for body in ["{x", "[]", " ", "\"x\"", "{\"server_name\":3}"] {
            let read = Options::parse(body.as_bytes());
            assert!(read.is_err(), "{body}: {read:?}");
        }
    }

    proptest! {
        #[test]
        fn any_body_is_read(body in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Options::parse(&body);
        }
    }
}
