//! `permissions` in all its forms.
//!
//! | key (aliases) | value | default |
//! |---|---|---|
//! | publish (pub, import) | subject, list, or `{allow, deny}` | everything |
//! | subscribe (sub, export) | the same; entries may be `"subject queue"` | everything |
//! | allow_responses (publish_allow_responses) | bool or `{max, expires}` | off; 1 message, 2 minutes |

use std::time::Duration;

use super::reader::Sink;
use crate::config::model::{Permissions, ResponseRule, SubjectRules};
use crate::config::units::{parse_duration, quote};
use crate::config::value::{Node, Value};
use crate::subject::is_valid_pattern;

pub(super) fn permissions(node: &Node, sink: &mut Sink) -> Option<Permissions> {
    let Value::Map(map) = &node.value else {
        let got = node.value.shown();
        let text = format!("Expected permissions to be a map/struct, got {got}");
        sink.error(&node.position, text);
        return None;
    };
    let mut out = Permissions::default();
    for entry in map.iter() {
        match entry.key.to_lowercase().as_str() {
            "publish" | "pub" | "import" => out.publish = rules(&entry.node, false, sink),
            "subscribe" | "sub" | "export" => out.subscribe = rules(&entry.node, true, sink),
            "allow_responses" | "publish_allow_responses" => {
                out.responses = responses(&entry.node, sink);
            }
            _ if entry.used => {}
            _ => {
                let key = quote(&entry.key);
                let text = format!("Unknown field {key} parsing permissions");
                sink.error(&entry.node.position, text);
            }
        }
    }
    Some(out)
}

fn rules(node: &Node, queues: bool, sink: &mut Sink) -> SubjectRules {
    let mut out = SubjectRules::default();
    let Value::Map(map) = &node.value else {
        out.allow = subjects(node, queues, sink);
        return out;
    };
    for entry in map.iter() {
        match entry.key.to_lowercase().as_str() {
            "allow" => out.allow = subjects(&entry.node, queues, sink),
            "deny" => out.deny = subjects(&entry.node, queues, sink),
            _ if entry.used => {}
            _ => {
                let text = format!(
                    "Unknown field name {} parsing subject permissions, only 'allow' or 'deny' are permitted",
                    quote(&entry.key)
                );
                sink.error(&entry.node.position, text);
            }
        }
    }
    out
}

/// One subject or a list of them, valid ones only. With `queues` each may name a queue after it.
pub(super) fn subjects(node: &Node, queues: bool, sink: &mut Sink) -> Vec<String> {
    let mut out = Vec::new();
    match &node.value {
        Value::String(text) => out.push((text.clone(), &node.position)),
        Value::Array(list) => {
            for element in list {
                let Value::String(text) = &element.value else {
                    sink.error(
                        &element.position,
                        "Subject in permissions array cannot be cast to string",
                    );
                    continue;
                };
                out.push((text.clone(), &element.position));
            }
        }
        other => {
            let text = format!(
                "Expected subject permissions to be a subject, or array of subjects, got {}",
                other.type_name()
            );
            sink.error(&node.position, text);
        }
    }
    out.retain(|(text, position)| {
        let valid = is_subject(text, queues);
        if !valid {
            let text = format!("subject {} is not a valid subject", quote(text));
            sink.error(position, text);
        }
        valid
    });
    out.into_iter().map(|(text, _)| text).collect()
}

fn is_subject(text: &str, queues: bool) -> bool {
    let mut parts = text.split(char::is_whitespace);
    let subject = parts.next().unwrap_or_default();
    let queue = parts.next();
    let queue_fits = queue.is_none_or(|queue| queues && !queue.is_empty());
    is_valid_pattern(subject.as_bytes()) && queue_fits && parts.next().is_none()
}

fn responses(node: &Node, sink: &mut Sink) -> Option<ResponseRule> {
    let mut rule = ResponseRule {
        max: Some(1),
        expires: Some(Duration::from_secs(120)),
    };
    let map = match &node.value {
        Value::Bool(on) => return on.then_some(rule),
        Value::Map(map) => map,
        _ => {
            sink.error(
                &node.position,
                "error parsing response permissions, expected a boolean or a map",
            );
            return None;
        }
    };
    for entry in map.iter() {
        let at = &entry.node.position;
        match entry.key.to_lowercase().as_str() {
            "max" | "max_msgs" | "max_messages" | "max_responses" => match sink.int(&entry.node) {
                Some(0) | None => {}
                Some(max) => rule.max = u64::try_from(max).ok(),
            },
            "expires" | "expiration" | "ttl" => match &entry.node.value {
                Value::String(text) => match parse_duration(text) {
                    Ok(0) => {}
                    Ok(nanos) => {
                        rule.expires = u64::try_from(nanos).ok().map(Duration::from_nanos);
                    }
                    Err(e) => sink.error(at, format!("error parsing expires: {e}")),
                },
                _ => sink.error(at, "error parsing expires, not a duration string"),
            },
            _ if entry.used => {}
            _ => {
                let key = quote(&entry.key);
                sink.error(at, format!("Unknown field {key} parsing permissions"));
            }
        }
    }
    Some(rule)
}
