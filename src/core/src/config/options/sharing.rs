//! `exports` and `imports` of accounts. Whether they fit each other is
//! [`account::check`](crate::account::check).
//!
//! | key of an export (aliases) | value | default |
//! |---|---|---|
//! | stream, service | subject; one of the two | |
//! | accounts | array of names: only these | everybody |
//! | account_token_position | number of the token that is the importer's name | none |
//! | response_type (response) | single (singleton), stream, chunk (chunked) | single |
//! | response_threshold (threshold, response_time, response_max_time) | duration | 2 minutes |
//! | latency | subject, or `{sampling, subject}` | none |
//! | allow_trace | bool | false |
//!
//! The last four are for services.
//!
//! | key of an import | value | default |
//! |---|---|---|
//! | stream, service | `{account, subject}`; one of the two | |
//! | to | subject here | the same |
//! | prefix | of a stream: before the subject | none |
//! | share | of a service: bool | false |
//! | allow_trace | of a stream: bool | false |

use std::time::Duration;

use super::reader::Sink;
use crate::config::model::{
    Audience, Export, Import, Latency, ResponseType, Sampling, ServiceExport, ServiceImport,
    StreamExport, StreamImport,
};
use crate::config::units::{parse_duration, quote};
use crate::config::value::{Entry, Map, Node, Position, Value};
use crate::subject::{has_wildcard, is_valid_literal};

/// An entry and its place.
pub(super) type Placed<T> = (T, Position);

pub(super) fn exports(node: &Node, sink: &mut Sink) -> Vec<Placed<Export>> {
    entries(node, "Export", sink, export)
}

pub(super) fn imports(node: &Node, sink: &mut Sink) -> Vec<Placed<Import>> {
    entries(node, "Import", sink, import)
}

fn entries<T>(
    node: &Node,
    what: &str,
    sink: &mut Sink,
    read: impl Fn(&Map, &Position, &mut Sink) -> Option<T>,
) -> Vec<Placed<T>> {
    let Value::Array(list) = &node.value else {
        let got = node.value.type_name();
        let text = format!("{what}s should be an array, got {got}");
        sink.error(&node.position, text);
        return Vec::new();
    };
    let mut out = Vec::new();
    for node in list {
        let Value::Map(map) = &node.value else {
            let got = node.value.type_name();
            let text = format!("{what} Items should be a map with type entry, got {got}");
            sink.error(&node.position, text);
            continue;
        };
        let read = read(map, &node.position, sink);
        out.extend(read.map(|entry| (entry, node.position.clone())));
    }
    out
}

/// What an entry is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stream,
    Service,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Stream => "stream",
            Kind::Service => "service",
        }
    }
}

/// What stays of an entry of either kind while it is read.
#[derive(Default)]
struct Reading<'v> {
    kind: Option<(Kind, &'v Node)>,
    /// Keys that only one kind has: the kind, how it is called, where it stands.
    only: Vec<(Kind, &'static str, &'v Position)>,
}

impl<'v> Reading<'v> {
    /// Takes the kind, once.
    fn kind(&mut self, kind: Kind, entry: &'v Entry, shown: &str, sink: &mut Sink) {
        match self.kind {
            None => self.kind = Some((kind, &entry.node)),
            Some((seen, _)) if seen != kind => {
                let (name, seen) = (kind.name(), seen.name());
                let shown = if shown.is_empty() {
                    String::new()
                } else {
                    format!(" {shown}")
                };
                let text = format!("Detected {name}{shown} but already saw a {seen}");
                sink.error(&entry.node.position, text);
            }
            Some(_) => {}
        }
    }

    /// The kind and what it holds; keys of the other kind are errors.
    fn finish(&self, what: &str, at: &Position, sink: &mut Sink) -> Option<(Kind, &'v Node)> {
        let Some((kind, node)) = self.kind else {
            sink.error(at, format!("{what} is neither a stream nor a service"));
            return None;
        };
        for (only, directive, at) in self.only.iter().filter(|(only, ..)| *only != kind) {
            let article = if what == "Import" { "a " } else { "" };
            let text = format!(
                "Detected {directive} directive on {article}non-{}",
                only.name()
            );
            sink.error(at, text);
        }
        Some((kind, node))
    }
}

fn export(map: &Map, at: &Position, sink: &mut Sink) -> Option<Export> {
    let before = sink.errors.len();
    let mut reading = Reading::default();
    let mut out = ServiceExport::default();
    let mut names = Vec::new();
    let mut position = None;
    let (mut response, mut threshold) = (None, None);
    for entry in map.iter() {
        let node = &entry.node;
        let here = &node.position;
        let service = Kind::Service;
        match entry.key.to_lowercase().as_str() {
            name @ ("stream" | "service") => {
                let kind = if name == "stream" {
                    Kind::Stream
                } else {
                    Kind::Service
                };
                match &node.value {
                    Value::String(text) => reading.kind(kind, entry, &quote(text), sink),
                    other => {
                        let got = other.type_name();
                        let text = format!("Expected {name} name to be string, got {got}");
                        sink.error(here, text);
                    }
                }
            }
            "accounts" => names = accounts(node, sink),
            "account_token_position" => match sink.int(node) {
                None | Some(0) => {}
                // A position nothing has is refused with its subject.
                Some(n) => position = Some(usize::try_from(n).unwrap_or(usize::MAX)),
            },
            "response_type" | "response" => {
                reading.only.push((service, "response", here));
                if response.is_some() {
                    sink.error(here, "Duplicate response type definition");
                }
                response = response_type(node, sink).or(response);
            }
            "response_threshold" | "threshold" | "response_time" | "response_max_time" => {
                reading.only.push((service, "response", here));
                if threshold.is_some() {
                    sink.error(here, "Duplicate response threshold detected");
                }
                threshold = response_threshold(node, sink).or(threshold);
            }
            "latency" => {
                reading.only.push((service, "latency", here));
                out.latency = latency(node, sink);
            }
            "allow_trace" => {
                reading.only.push((service, "allow_trace", here));
                out.allow_trace = sink.boolean(node).unwrap_or(false);
            }
            _ => sink.unknown(entry),
        }
    }
    if sink.errors.len() > before {
        // One message about an entry that cannot be read is enough.
        if let Some(at) = reading.kind.map(|_| at) {
            reading.finish("Export", at, sink);
        }
        return None;
    }
    let (kind, subject) = reading.finish("Export", at, sink)?;
    if sink.errors.len() > before {
        return None;
    }
    let subject = sink.string(subject)?;
    let audience = match position {
        // The token decides, whatever accounts are listed.
        Some(position) => Audience::Token(position),
        // An empty list is none, as with permissions.
        None if names.is_empty() => Audience::Public,
        None => Audience::Accounts(names),
    };
    Some(match kind {
        Kind::Stream => Export::Stream(StreamExport { subject, audience }),
        Kind::Service => Export::Service(ServiceExport {
            subject,
            audience,
            response: response.unwrap_or(out.response),
            threshold: threshold.flatten().unwrap_or(out.threshold),
            ..out
        }),
    })
}

fn accounts(node: &Node, sink: &mut Sink) -> Vec<String> {
    match &node.value {
        Value::Array(list) => list.iter().filter_map(|node| sink.string(node)).collect(),
        _ => sink.mismatch(node, "[]interface {}").unwrap_or_default(),
    }
}

fn response_type(node: &Node, sink: &mut Sink) -> Option<ResponseType> {
    let Value::String(text) = &node.value else {
        let got = node.value.type_name();
        let text = format!("Expected response type to be string, got {got}");
        sink.error(&node.position, text);
        return None;
    };
    match text.to_lowercase().as_str() {
        "single" | "singleton" => Some(ResponseType::Singleton),
        "stream" => Some(ResponseType::Stream),
        "chunk" | "chunked" => Some(ResponseType::Chunked),
        _ => {
            let text = format!("Unknown response type: {}", quote(text));
            sink.error(&node.position, text);
            None
        }
    }
}

/// `Some(None)` is a 0, which means the default.
fn response_threshold(node: &Node, sink: &mut Sink) -> Option<Option<Duration>> {
    let at = &node.position;
    let expected = "Expected response threshold to be a parseable time duration, got";
    let Value::String(text) = &node.value else {
        sink.error(at, format!("{expected} {}", node.value.type_name()));
        return None;
    };
    let Ok(nanos) = parse_duration(text) else {
        sink.error(at, format!("{expected} {}", quote(text)));
        return None;
    };
    let Ok(nanos) = u64::try_from(nanos) else {
        sink.error(at, "invalid response threshold, needs to be positive");
        return None;
    };
    Some((nanos > 0).then(|| Duration::from_nanos(nanos)))
}

fn latency(node: &Node, sink: &mut Sink) -> Option<Latency> {
    let at = &node.position;
    let map = match &node.value {
        Value::String(subject) => {
            return Some(Latency {
                at: at.to_string(),
                subject: subject.clone(),
                sampling: Sampling::Percent(100),
            });
        }
        Value::Map(map) => map,
        other => {
            let got = other.type_name();
            let text = format!("Expected latency entry to be a map/struct or string, got {got}");
            sink.error(at, text);
            return None;
        }
    };
    let before = sink.errors.len();
    let mut sampling_read = Sampling::Percent(100);
    let mut subject = None;
    for entry in map.iter() {
        match entry.key.to_lowercase().as_str() {
            "sampling" => sampling_read = sampling(&entry.node, sink).unwrap_or(sampling_read),
            "subject" => match &entry.node.value {
                Value::String(text) => subject = Some(text.clone()),
                other => {
                    let got = other.type_name();
                    let text = format!("Expected latency subject to be a string, got {got}");
                    sink.error(&entry.node.position, text);
                }
            },
            _ => sink.unknown(entry),
        }
    }
    if subject.is_none() && sink.errors.len() == before {
        sink.error(at, "Latency subject required, but missing");
    }
    Some(Latency {
        at: at.to_string(),
        subject: subject?,
        sampling: sampling_read,
    })
}

fn sampling(node: &Node, sink: &mut Sink) -> Option<Sampling> {
    let at = &node.position;
    let percent = match &node.value {
        Value::Int(percent) => *percent,
        Value::String(text) if text.eq_ignore_ascii_case("headers") => {
            return Some(Sampling::Headers);
        }
        Value::String(text) => {
            let text = text.strip_suffix('%').unwrap_or(text);
            let Ok(percent) = text.parse() else {
                let text = format!(
                    "Failed to parse latency sample: strconv.Atoi: parsing {}: invalid syntax",
                    quote(text)
                );
                sink.error(at, text);
                return None;
            };
            percent
        }
        other => {
            let got = other.type_name();
            let text = format!("Expected latency sample to be a string or map/struct, got {got}");
            sink.error(at, text);
            return None;
        }
    };
    let known = u8::try_from(percent).ok().filter(|n| (1..=100).contains(n));
    if known.is_none() {
        sink.error(at, "bad sampling percentage, should be 1-100");
    }
    known.map(Sampling::Percent)
}

fn import(map: &Map, at: &Position, sink: &mut Sink) -> Option<Import> {
    let before = sink.errors.len();
    let mut reading = Reading::default();
    let (mut to, mut prefix) = (None, None);
    let mut source = None;
    let (mut share, mut allow_trace) = (false, false);
    for entry in map.iter() {
        let node = &entry.node;
        let here = &node.position;
        match entry.key.to_lowercase().as_str() {
            name @ ("stream" | "service") => {
                let kind = if name == "stream" {
                    Kind::Stream
                } else {
                    Kind::Service
                };
                reading.kind(kind, entry, "", sink);
                source = exported(node, kind, sink).or(source);
            }
            "to" => to = sink.string(node).filter(|text| !text.is_empty()),
            "prefix" => {
                reading.only.push((Kind::Stream, "prefix", here));
                prefix = sink.string(node).filter(|text| !text.is_empty());
            }
            "share" => {
                reading.only.push((Kind::Service, "share", here));
                share = sink.boolean(node).unwrap_or(false);
            }
            "allow_trace" => {
                reading.only.push((Kind::Stream, "allow_trace", here));
                allow_trace = sink.boolean(node).unwrap_or(false);
            }
            _ => sink.unknown(entry),
        }
        if to.is_some() && prefix.is_some() {
            sink.error(
                here,
                "Stream import can not have a 'prefix' and a 'to' property",
            );
            return None;
        }
    }
    if sink.errors.len() > before && reading.kind.is_none() {
        return None;
    }
    let (kind, _) = reading.finish("Import", at, sink)?;
    if sink.errors.len() > before {
        return None;
    }
    let (account, subject) = source?;
    if kind == Kind::Service {
        return Some(Import::Service(ServiceImport {
            account,
            subject,
            to,
            share,
        }));
    }
    if let Some(prefix) = prefix {
        // One dot at its end is the one before the subject.
        let prefix = prefix.strip_suffix('.').unwrap_or(&prefix);
        let why = if has_wildcard(prefix.as_bytes()) {
            Some("stream import prefix can not contain wildcard tokens")
        } else {
            (!is_valid_literal(prefix.as_bytes())).then_some("stream import prefix is no subject")
        };
        if let Some(why) = why {
            let subject = quote(&subject);
            sink.error(at, format!("Error adding stream import {subject}: {why}"));
            return None;
        }
        to = Some(format!("{prefix}.{subject}"));
    }
    Some(Import::Stream(StreamImport {
        account,
        subject,
        to,
        allow_trace,
    }))
}

/// The account and the subject there.
fn exported(node: &Node, kind: Kind, sink: &mut Sink) -> Option<(String, String)> {
    let Value::Map(map) = &node.value else {
        let what = match kind {
            Kind::Stream => "Stream",
            Kind::Service => "Service",
        };
        let got = node.value.type_name();
        let text = format!("{what} entry should be an account map, got {got}");
        sink.error(&node.position, text);
        return None;
    };
    let (mut account, mut subject) = (String::new(), String::new());
    for entry in map.iter() {
        match entry.key.to_lowercase().as_str() {
            "account" => account = sink.string(&entry.node).unwrap_or_default(),
            "subject" => subject = sink.string(&entry.node).unwrap_or_default(),
            _ => sink.unknown(entry),
        }
    }
    if account.is_empty() || subject.is_empty() {
        sink.error(&node.position, "Expect an account name and a subject");
        return None;
    }
    Some((account, subject))
}
