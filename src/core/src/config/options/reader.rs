//! Typed access to values, with the texts of nats-server for what does not fit.

use std::time::Duration;

use crate::config::diag::Diagnostic;
use crate::config::units::{parse_duration, quote};
use crate::config::value::{Entry, Map, Node, Position, Value};

/// Go's durations end at 292 years.
const MAX_SECONDS: u64 = i64::MAX.unsigned_abs() / 1_000_000_000;

/// Collects problems.
#[derive(Default)]
pub(super) struct Sink {
    pub(super) errors: Vec<Diagnostic>,
    pub(super) warnings: Vec<Diagnostic>,
}

impl Sink {
    pub(super) fn error(&mut self, at: &Position, text: impl Into<String>) {
        self.errors.push(Diagnostic {
            position: Some(at.clone()),
            text: text.into(),
        });
    }

    /// `key` only names the field in the text.
    pub(super) fn warn(&mut self, at: &Position, key: &str, reason: impl std::fmt::Display) {
        self.warnings.push(Diagnostic {
            position: Some(at.clone()),
            text: format!("invalid use of field {}: {reason}", quote(key)),
        });
    }

    /// A key that is no option, unless it only names a variable.
    pub(super) fn unknown(&mut self, entry: &Entry) {
        if !entry.used {
            let text = format!("unknown field {}", quote(&entry.key));
            self.error(&entry.node.position, text);
        }
    }

    /// An option of nats-server's that would change something we do not do.
    pub(super) fn unserved(&mut self, entry: &Entry, hint: &str) {
        let key = &entry.key;
        let text = format!("option \"{key}\" is not served by petiole yet: {hint}");
        self.error(&entry.node.position, text);
    }

    pub(super) fn mismatch<T>(&mut self, node: &Node, want: &str) -> Option<T> {
        let got = node.value.type_name();
        let text = format!("interface conversion: interface {{}} is {got}, not {want}");
        self.error(&node.position, text);
        None
    }

    pub(super) fn string(&mut self, node: &Node) -> Option<String> {
        match &node.value {
            Value::String(text) => Some(text.clone()),
            _ => self.mismatch(node, "string"),
        }
    }

    pub(super) fn boolean(&mut self, node: &Node) -> Option<bool> {
        match &node.value {
            Value::Bool(value) => Some(*value),
            _ => self.mismatch(node, "bool"),
        }
    }

    pub(super) fn int(&mut self, node: &Node) -> Option<i64> {
        match &node.value {
            Value::Int(value) => Some(*value),
            _ => self.mismatch(node, "int64"),
        }
    }

    pub(super) fn map<'v>(&mut self, node: &'v Node) -> Option<&'v Map> {
        match &node.value {
            Value::Map(map) => Some(map),
            _ => self.mismatch(node, "map[string]interface {}"),
        }
    }

    /// An integer of at least 0, else an error that nats-server lacks (it wraps or misbehaves).
    pub(super) fn count(&mut self, entry: &Entry) -> Option<u64> {
        let value = self.int(&entry.node)?;
        let count = u64::try_from(value).ok();
        if count.is_none() {
            let text = format!("{} value can not be negative", entry.key.to_lowercase());
            self.error(&entry.node.position, text);
        }
        count
    }

    /// A size up to 2^31-1 where 0 means the default, which gives `None`.
    pub(super) fn size32(&mut self, entry: &Entry) -> Option<usize> {
        let value = self.count(entry)?;
        if i32::try_from(value).is_err() {
            let text = format!("{} value is too big", entry.key.to_lowercase());
            self.error(&entry.node.position, text);
            return None;
        }
        usize::try_from(value).ok().filter(|n| *n > 0)
    }

    /// A duration: text, or a bare integer of seconds with a warning. 0 means the
    /// default, which gives `None`.
    pub(super) fn duration(&mut self, entry: &Entry) -> Option<Duration> {
        let field = entry.key.to_lowercase();
        let node = &entry.node;
        if let Value::String(text) = &node.value {
            return self
                .parsed(&field, node, text)
                .filter(|value| !value.is_zero());
        }
        let reason = format!("{field} should be converted to a duration");
        self.warn(&node.position, &entry.key, reason);
        let seconds = self.count(entry)?;
        if seconds > MAX_SECONDS {
            self.error(&node.position, format!("{field} value is too big"));
            return None;
        }
        Some(Duration::from_secs(seconds)).filter(|value| !value.is_zero())
    }

    /// `dur!`: text only.
    pub(super) fn strict_duration(&mut self, entry: &Entry) -> Option<Duration> {
        let text = self.string(&entry.node)?;
        self.parsed(&entry.key.to_lowercase(), &entry.node, &text)
    }

    /// A number of seconds, or a duration as text. 0 means the default, which gives `None`. `what`
    /// begins the texts.
    pub(super) fn seconds(&mut self, node: &Node, what: &str) -> Option<Duration> {
        let value = match &node.value {
            Value::Int(n) => *n as f64,
            Value::Float(n) => *n,
            Value::String(text) => match parse_duration(text) {
                Ok(nanos) => nanos as f64 / 1e9,
                Err(e) => {
                    self.error(&node.position, format!("{what} {e}"));
                    return None;
                }
            },
            _ => {
                self.error(&node.position, format!("{what} wrong type"));
                return None;
            }
        };
        let value = Duration::try_from_secs_f64(value).ok();
        let Some(value) = value.filter(|value| value.as_secs() <= MAX_SECONDS) else {
            self.error(&node.position, format!("{what} is out of the range"));
            return None;
        };
        Some(value).filter(|value| !value.is_zero())
    }

    fn parsed(&mut self, field: &str, node: &Node, text: &str) -> Option<Duration> {
        match parse_duration(text) {
            Ok(nanos) => match u64::try_from(nanos) {
                Ok(nanos) => Some(Duration::from_nanos(nanos)),
                Err(_) => {
                    self.error(
                        &node.position,
                        format!("invalid {field}, needs to be positive"),
                    );
                    None
                }
            },
            Err(e) => {
                self.error(&node.position, format!("error parsing {field}: {e}"));
                None
            }
        }
    }

    /// A port: -1 (any) is 0 here, 0 (the default) is `None`.
    pub(super) fn port(&mut self, at: &Position, value: i64) -> Option<u16> {
        match value {
            -1 => Some(0),
            0 => None,
            _ => {
                let port = u16::try_from(value).ok();
                if port.is_none() {
                    self.error(at, format!("port {value} is out of the range"));
                }
                port
            }
        }
    }

    /// A place to listen: a port, or host and port.
    pub(super) fn host_port(&mut self, node: &Node) -> Option<(Option<String>, i64)> {
        let at = &node.position;
        match &node.value {
            Value::Int(port) => Some((None, *port)),
            Value::String(text) => {
                let Some((host, port)) = split_host_port(text) else {
                    self.error(
                        at,
                        format!("could not parse address string {}", quote(text)),
                    );
                    return None;
                };
                let Ok(number) = port.parse::<i64>() else {
                    self.error(at, format!("could not parse port {}", quote(port)));
                    return None;
                };
                Some((Some(host.to_string()).filter(|h| !h.is_empty()), number))
            }
            other => {
                let got = other.type_name();
                self.error(at, format!("expected port or host:port, got {got}"));
                None
            }
        }
    }
}

/// `host:port`, an IPv6 host in brackets, which are taken off.
pub(super) fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']')?;
        return (!inner.contains(['[', ']'])).then_some((inner, port));
    }
    (!host.contains([':', '[', ']'])).then_some((host, port))
}
