//! What an account exports, and who may import it.

use std::sync::Arc;

use crate::config::model::{Audience, Export};
use crate::subject::{covers, tokens};

pub use crate::config::model::{Latency, ResponseType, Sampling, ServiceExport};

/// The exports of one account, compiled. Immutable.
#[derive(Clone, Debug, Default)]
pub struct Exports {
    streams: Vec<Entry<()>>,
    services: Vec<Entry<Arc<ServiceExport>>>,
}

/// One subject, whatever number of exports name it.
#[derive(Clone, Debug)]
struct Entry<T> {
    subject: Box<str>,
    audience: Audience,
    what: T,
}

impl Exports {
    /// Compiles what an account exports. Of several exports of one subject the last says how it is
    /// served; it is private as soon as one of them is, and then for all accounts that they name.
    pub fn compile(exports: &[Export]) -> Exports {
        let mut out = Exports::default();
        for export in exports {
            match export {
                Export::Stream(stream) => {
                    add(&mut out.streams, &stream.subject, &stream.audience, ())
                }
                Export::Service(service) => {
                    let what = Arc::new(service.clone());
                    add(&mut out.services, &service.subject, &service.audience, what);
                }
            }
        }
        out
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.services.is_empty()
    }

    /// Whether `importer` may import the stream `subject`, which may be a pattern.
    pub fn permits_stream(&self, importer: &str, subject: &str) -> bool {
        find(&self.streams, importer, subject).is_some()
    }

    /// How the service `subject` (which may be a pattern) is served to `importer`; `None` if it may not
    /// import it.
    pub fn service(&self, importer: &str, subject: &str) -> Option<&Arc<ServiceExport>> {
        find(&self.services, importer, subject).map(|entry| &entry.what)
    }

    /// The services with their latency, response type and threshold.
    pub fn services(&self) -> impl Iterator<Item = &Arc<ServiceExport>> {
        self.services.iter().map(|entry| &entry.what)
    }
}

fn add<T>(list: &mut Vec<Entry<T>>, subject: &str, audience: &Audience, what: T) {
    let Some(known) = list.iter_mut().find(|known| *known.subject == *subject) else {
        return list.push(Entry {
            subject: subject.into(),
            audience: audience.clone(),
            what,
        });
    };
    known.what = what;
    match (&mut known.audience, audience) {
        (Audience::Token(_), _) | (_, Audience::Public) => {}
        (Audience::Accounts(names), Audience::Accounts(more)) => names.extend(more.iter().cloned()),
        (known, other) => *known = other.clone(),
    }
}

/// The export that decides over a subject, if it lets the importer.
///
/// The export of the very subject decides, else those that cover it and cover no other one that does:
/// the narrowest. nats-server asks any of those that cover it, by chance. Where two are equally narrow
/// (`*.b` and `a.*` of `a.b`) both must let the importer.
fn find<'e, T>(list: &'e [Entry<T>], importer: &str, subject: &str) -> Option<&'e Entry<T>> {
    if let Some(entry) = list.iter().find(|entry| *entry.subject == *subject) {
        return Some(entry).filter(|entry| lets(&entry.audience, importer, subject));
    }
    let around = |outer: &str, inner: &str| covers(outer.as_bytes(), inner.as_bytes());
    let covering = || list.iter().filter(|entry| around(&entry.subject, subject));
    let narrower = |entry: &Entry<T>| {
        covering()
            .any(|other| other.subject != entry.subject && around(&entry.subject, &other.subject))
    };
    let mut deciding = covering().filter(|entry| !narrower(entry));
    let first = deciding.next()?;
    let all = std::iter::once(first).chain(deciding);
    let mut audiences = all.map(|entry| &entry.audience);
    audiences
        .all(|audience| lets(audience, importer, subject))
        .then_some(first)
}

fn lets(audience: &Audience, importer: &str, subject: &str) -> bool {
    match audience {
        Audience::Public => true,
        Audience::Accounts(names) => names.iter().any(|name| name == importer),
        Audience::Token(position) => {
            let token = position.checked_sub(1);
            let token = token.and_then(|at| tokens(subject.as_bytes()).nth(at));
            token == Some(importer.as_bytes())
        }
    }
}

/// Whether a `account_token_position` names a `*` of the subject.
pub(crate) fn is_token_position(subject: &str, position: usize) -> bool {
    let token = position.checked_sub(1);
    token.and_then(|at| subject.split('.').nth(at)) == Some("*")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::model::StreamExport;

    fn to(names: &[&str]) -> Audience {
        Audience::Accounts(names.iter().map(ToString::to_string).collect())
    }

    /// Whether `B` may import it, as a stream and as a service.
    fn permitted(exports: &[(&str, Audience)], subject: &str) -> bool {
        let streams = exports.iter().map(|(subject, audience)| {
            Export::Stream(StreamExport {
                subject: (*subject).into(),
                audience: audience.clone(),
            })
        });
        let services = exports.iter().map(|(subject, audience)| {
            Export::Service(ServiceExport {
                subject: (*subject).into(),
                audience: audience.clone(),
                ..ServiceExport::default()
            })
        });
        let stream = Exports::compile(&streams.collect::<Vec<_>>());
        let service = Exports::compile(&services.collect::<Vec<_>>());
        let permitted = stream.permits_stream("B", subject);
        assert_eq!(permitted, service.service("B", subject).is_some());
        assert!(stream.service("B", subject).is_none() && !service.permits_stream("B", subject));
        permitted
    }

    /// What `-t` of nats-server 2.15.1 says; where it throws dice (overlapping patterns), ours.
    #[test]
    fn who_may_import_what() {
        let public = || Audience::Public;
        let token = Audience::Token;
        for (exports, subject, wanted) in [
            (vec![], "a", false),
            (vec![("a", public())], "a", true),
            (vec![("a", public())], "b", false),
            (vec![("a", to(&["B"]))], "a", true),
            (vec![("a", to(&["C"]))], "a", false),
            (vec![("a.*", public())], "a.>", false),
            (vec![("a.*", public())], "*.b", false),
            (vec![("a.>", public())], "a.*", true),
            (vec![("a.*", token(2))], "a.B", true),
            (vec![("a.*", token(2))], "a.C", false),
            (vec![("a.*", token(2))], "a.*", false),
            (vec![("a.*.>", token(2))], "a.B.c", true),
            (vec![("a.*.*", token(2))], "a.B.*", true),
            (vec![("a", public()), ("a", to(&["A"]))], "a", false),
            (vec![("a", to(&["A"])), ("a", public())], "a", false),
            (vec![("a", to(&["A"])), ("a", to(&["B"]))], "a", true),
            // The very subject decides.
            (vec![("a.b", to(&["C"])), ("a.>", public())], "a.b", false),
            (vec![("a.b", to(&["C"])), ("a.*", public())], "a.*", true),
            // The narrowest decides.
            (
                vec![(">", public()), ("a.*", to(&["C"])), ("a.>", public())],
                "a.b",
                false,
            ),
            (
                vec![(">", public()), ("a.>", to(&["C"])), ("a.*", public())],
                "a.b",
                true,
            ),
            (vec![("a.*", token(2)), (">", public())], "a.C", false),
            // Equally narrow: both.
            (vec![("*.b", to(&["C"])), ("a.*", public())], "a.b", false),
            (vec![("*.b", public()), ("a.*", to(&["C"]))], "a.b", false),
            (vec![("*.b", public()), ("a.*", to(&["B"]))], "a.b", true),
        ] {
            assert_eq!(
                permitted(&exports, subject),
                wanted,
                "{exports:?} {subject}"
            );
        }
    }

    #[test]
    fn positions_name_wildcards() {
        assert!(is_token_position("a.*", 2) && is_token_position("a.*.>", 2));
        for (subject, position) in [("a", 1), ("a.*", 1), ("a.>", 2), ("a.*", 3), ("a.*", 0)] {
            assert!(
                !is_token_position(subject, position),
                "{subject} {position}"
            );
        }
    }
}
