//! `mappings` of the top level and of accounts: a map from sources to destinations.
//!
//! | value of a source | |
//! |---|---|
//! | text | the one destination |
//! | a block, or an array of blocks | destinations with weights |
//!
//! | key of a block | value |
//! |---|---|
//! | destination (dest) | subject, with mapping functions |
//! | weight | 0 to 100, or `"50%"` |
//! | cluster | name: only in this cluster |

use super::reader::Sink;
use crate::account::mapping::{MappingError, Mappings};
use crate::config::model::{Destination, Mapping};
use crate::config::units::quote;
use crate::config::value::{Entry, Node, Value};

pub(super) fn mappings(node: &Node, sink: &mut Sink) -> Vec<Mapping> {
    let Some(map) = sink.map(node) else {
        return Vec::new();
    };
    let sources = map.iter().filter(|entry| !entry.used);
    sources.filter_map(|entry| mapping(entry, sink)).collect()
}

fn mapping(entry: &Entry, sink: &mut Sink) -> Option<Mapping> {
    let at = &entry.node.position;
    let before = sink.errors.len();
    let destinations = match &entry.node.value {
        Value::String(subject) => vec![Destination {
            subject: subject.clone(),
            weight: 100,
            cluster: None,
        }],
        Value::Array(list) => {
            let read = list.iter().filter_map(|node| destination(node, sink));
            read.collect()
        }
        _ => destination(&entry.node, sink).into_iter().collect(),
    };
    let mapping = Mapping {
        source: entry.key.clone(),
        destinations,
    };
    if sink.errors.len() > before {
        return None;
    }
    let Err(error) = Mappings::compile(std::slice::from_ref(&mapping), None) else {
        return Some(mapping);
    };
    let source = quote(&mapping.source);
    let text = match (&error, &entry.node.value) {
        (MappingError::Source(_), _) => error.to_string(),
        (_, Value::String(to)) => {
            let to = quote(to);
            format!("Error adding mapping for {source} to {to} : {error}")
        }
        _ => format!("Error adding mapping for {source} : {error}"),
    };
    sink.error(at, text);
    None
}

fn destination(node: &Node, sink: &mut Sink) -> Option<Destination> {
    let Value::Map(map) = &node.value else {
        sink.error(
            &node.position,
            "Expected an entry for the mapping destination",
        );
        return None;
    };
    let mut out = Destination {
        subject: String::new(),
        weight: 0,
        cluster: None,
    };
    let mut weighed = false;
    for entry in map.iter() {
        match entry.key.to_lowercase().as_str() {
            "dest" | "destination" => out.subject = sink.string(&entry.node)?,
            "weight" => {
                weighed = true;
                out.weight = weight(&entry.node, sink)?;
            }
            "cluster" => out.cluster = Some(sink.string(&entry.node)?),
            _ if entry.used => {}
            _ => {
                let key = quote(&entry.key);
                let text = format!("Unknown field {key} for mapping destination");
                sink.error(&entry.node.position, text);
            }
        }
    }
    if !weighed {
        let subject = quote(&out.subject);
        let text = format!("Missing weight for mapping destination {subject}");
        sink.error(&node.position, text);
        return None;
    }
    Some(out)
}

fn weight(node: &Node, sink: &mut Sink) -> Option<u8> {
    let weight = match &node.value {
        Value::Int(weight) => *weight,
        Value::String(text) => {
            let text = text.strip_suffix('%').unwrap_or(text);
            let Ok(weight) = text.parse() else {
                let text = format!("Invalid weight {} for mapping destination", quote(text));
                sink.error(&node.position, text);
                return None;
            };
            weight
        }
        other => {
            let text = format!("Unknown entry type for weight of {}", other.shown());
            sink.error(&node.position, text);
            return None;
        }
    };
    let known = u8::try_from(weight).ok().filter(|weight| *weight <= 100);
    if known.is_none() {
        let text = format!("Invalid weight {weight} for mapping destination");
        sink.error(&node.position, text);
    }
    known
}
