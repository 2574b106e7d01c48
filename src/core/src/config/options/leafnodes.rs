//! `leafnodes`: the remotes we solicit.
//!
//! | key (aliases) of the block | value | default |
//! |---|---|---|
//! | reconnect (reconnect_delay, reconnect_interval) | duration | at once |
//! | dial_timeout | duration, for remotes without their own | 5 s |
//! | isolate_leafnode_interest (isolate) | bool, for remotes without their own | false |
//! | remotes | array of blocks | none |
//! | host, net, no_advertise, min_version, write_timeout: default | no effect without a listener | |
//! | compression | off, accept, not_supported | off |
//! | listen, port, advertise, authorization, tls, write_deadline | not served | |
//!
//! | key (aliases) of a remote | value | default |
//! |---|---|---|
//! | url, urls | one or an array; `nats`, `leaf`, `nats-leaf` | none |
//! | account (local) | name | `$G` |
//! | credentials (creds) | path | none |
//! | nkey (seed) | user seed | none |
//! | deny_imports (deny_import), deny_exports (deny_export) | subjects | none |
//! | hub, no_randomize (dont_randomize), disabled, request_isolation, ignore_discovered_servers | bool | false |
//! | isolate_leafnode_interest (isolate) | bool | the block's |
//! | dial_timeout, first_info_timeout | duration | the block's, 5 s |
//! | compression | as above | |
//! | tls, proxy, ws_* | not served | |

use std::sync::Arc;

use super::perms::subjects;
use super::reader::Sink;
use super::unserved::{compression, is_off};
use super::url::{BadUrl, parse, redact};
use crate::config::model::{Remote, Secret, Url, Way};
use crate::config::units::quote;
use crate::config::value::{Entry, Node, Value};

pub(super) fn leafnodes(entry: &Entry, sink: &mut Sink) -> Vec<Remote> {
    let Value::Map(map) = &entry.node.value else {
        let got = entry.node.value.type_name();
        let text = format!("Expected map to define a leafnode, got {got}");
        sink.error(&entry.node.position, text);
        return Vec::new();
    };
    // What remotes inherit may stand after them.
    let mut base = Remote::default();
    let mut way = Way::default();
    let mut remotes = None;
    for entry in map.iter() {
        let node = &entry.node;
        match entry.key.to_lowercase().as_str() {
            "reconnect" | "reconnect_delay" | "reconnect_interval" => {
                base.reconnect = sink.duration(entry);
            }
            "dial_timeout" => way.dial_timeout = sink.duration(entry).unwrap_or(way.dial_timeout),
            "isolate_leafnode_interest" | "isolate" => {
                base.isolate = sink.boolean(node).unwrap_or(false);
            }
            "remotes" => remotes = Some(node),
            "compression" => compression(entry, sink),
            "host" | "net" => {
                sink.string(node);
            }
            "no_advertise" => {
                sink.boolean(node);
            }
            "min_version" | "minimum_version" => min_version(node, sink),
            "write_timeout" => {
                let text = sink.string(node);
                if text.is_some_and(|text| !matches!(text.as_str(), "" | "default" | "retry")) {
                    sink.unserved(entry, "remove it");
                }
            }
            "port" => {
                if sink.int(node).is_some_and(|port| port != 0) {
                    sink.unserved(entry, "remove it, this server only dials leafnodes.remotes");
                }
            }
            "listen" => {
                if sink.host_port(node).is_some_and(|(_, port)| port != 0) {
                    sink.unserved(entry, "remove it, this server only dials leafnodes.remotes");
                }
            }
            "advertise" | "leafnode_advertise" | "authorization" => {
                sink.unserved(entry, "remove it, this server only dials leafnodes.remotes");
            }
            "tls" | "write_deadline" => sink.unserved(entry, "remove it"),
            _ => sink.unknown(entry),
        }
    }
    match remotes.map(|node| (node, &node.value)) {
        None => Vec::new(),
        Some((_, Value::Array(list))) => list
            .iter()
            .filter_map(|node| remote(node, &base, &way, sink))
            .collect(),
        Some((node, other)) => {
            let got = other.type_name();
            let text = format!("Expected remotes field to be an array, got {got}");
            sink.error(&node.position, text);
            Vec::new()
        }
    }
}

/// `min_version`: strictly `X.Y.Z`, from 2.8.0. It is about who may connect to us: nobody.
fn min_version(node: &Node, sink: &mut Sink) {
    let Some(text) = sink.string(node) else {
        return;
    };
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let parts: Option<Vec<u64>> = core.split('.').map(|part| part.parse().ok()).collect();
    match parts.as_deref() {
        Some([major, minor, _]) if (*major, *minor) >= (2, 8) => {}
        Some([_, _, _]) => sink.error(
            &node.position,
            "the minimum version should be at least 2.8.0",
        ),
        _ => sink.error(
            &node.position,
            "invalid leafnode's minimum version: invalid semver",
        ),
    }
}

fn remote(node: &Node, base: &Remote, way: &Way, sink: &mut Sink) -> Option<Remote> {
    let Value::Map(map) = &node.value else {
        let got = match &node.value {
            Value::String(text) => redact(text),
            other => other.shown(),
        };
        let text = format!("Expected remote leafnode entry to be a map/struct, got {got}");
        sink.error(&node.position, text);
        return None;
    };
    let mut remote = base.clone();
    let mut way = way.clone();
    for entry in map.iter() {
        let node = &entry.node;
        let at = &node.position;
        match entry.key.to_lowercase().as_str() {
            "url" | "urls" => way.urls = urls(entry, sink),
            "account" | "local" => {
                let name = sink.string(node).filter(|name| !name.is_empty());
                remote.account = name.unwrap_or(remote.account);
            }
            "credentials" | "creds" => {
                remote.credentials = sink.string(node).filter(|path| !path.is_empty());
                if remote.credentials.is_some() && remote.nkey.is_some() {
                    sink.error(
                        at,
                        "Remote leafnode can not have both creds and nkey defined",
                    );
                }
            }
            "nkey" | "seed" => {
                let Some(seed) = sink.string(node) else {
                    continue;
                };
                if !seed.starts_with("SU") || nkeys::KeyPair::from_seed(&seed).is_err() {
                    // Upstream shows what was written; it may be a seed with one wrong letter.
                    let shown = quote("[REDACTED]");
                    let text = format!("Remote leafnode nkey is not a valid seed: {shown}");
                    sink.error(at, text);
                    continue;
                }
                remote.nkey = Some(Secret::new(seed));
                if remote.credentials.is_some() {
                    sink.error(
                        at,
                        "Remote leafnode can not have both creds and nkey defined",
                    );
                }
            }
            "deny_imports" | "deny_import" => remote.deny_imports = subjects(node, false, sink),
            "deny_exports" | "deny_export" => remote.deny_exports = subjects(node, false, sink),
            "hub" => remote.hub = sink.boolean(node).unwrap_or(false),
            "no_randomize" | "dont_randomize" => {
                remote.no_randomize = sink.boolean(node).unwrap_or(false);
            }
            "disabled" => remote.disabled = sink.boolean(node).unwrap_or(false),
            "isolate_leafnode_interest" | "isolate" => {
                remote.isolate = sink.boolean(node).unwrap_or(false);
            }
            "request_isolation" => {
                remote.request_isolation = sink.boolean(node).unwrap_or(false);
            }
            "ignore_discovered_servers" => {
                remote.ignore_discovered_servers = sink.boolean(node).unwrap_or(false);
            }
            "first_info_timeout" => {
                way.first_info_timeout = sink.duration(entry).unwrap_or(way.first_info_timeout);
            }
            "dial_timeout" => {
                way.dial_timeout = sink.duration(entry).unwrap_or(way.dial_timeout);
            }
            "compression" => compression(entry, sink),
            "jetstream_cluster_migrate" | "js_cluster_migrate" => {
                sink.warn(at, &entry.key, "ignored, there is no jetstream");
            }
            "ws_compression"
            | "ws_compress"
            | "websocket_compress"
            | "websocket_compression"
            | "ws_no_masking"
            | "websocket_no_masking" => {
                if sink.boolean(node) == Some(true) {
                    sink.unserved(entry, "remove it, remotes are dialled over TCP");
                }
            }
            "tls" => sink.unserved(entry, "remove it and use a trusted network"),
            "proxy" => {
                if !is_off(&node.value) {
                    sink.unserved(entry, "remove it");
                }
            }
            _ => sink.unknown(entry),
        }
    }
    remote.ways = vec![Arc::new(way)];
    Some(remote)
}

fn urls(entry: &Entry, sink: &mut Sink) -> Vec<Url> {
    let mut out = Vec::new();
    match &entry.node.value {
        Value::String(text) => out.extend(url(entry, &entry.node, text, sink)),
        Value::Array(list) => {
            let mut seen = Vec::new();
            for node in list {
                let Some(text) = sink.string(node) else {
                    continue;
                };
                if seen.contains(&text) {
                    let reason = "Duplicate leafnode entry detected";
                    sink.warn(&node.position, &redact(&text), reason);
                    continue;
                }
                out.extend(url(entry, node, &text, sink));
                seen.push(text);
            }
        }
        other => {
            let got = other.shown();
            let text = format!("Expected remote leafnode url to be an array or string, got {got}");
            sink.error(&entry.node.position, text);
        }
    }
    out
}

fn url(entry: &Entry, node: &Node, text: &str, sink: &mut Sink) -> Option<Url> {
    match parse(text) {
        Ok(url) => Some(url),
        Err(BadUrl::Malformed) => {
            let shown = quote(&redact(text));
            sink.error(
                &node.position,
                format!("error parsing leafnode url [{shown}]"),
            );
            None
        }
        Err(BadUrl::Unserved(scheme)) => {
            let text = format!(
                "option \"{}\" is not served by petiole yet: use a nats:// url instead of {scheme}://",
                entry.key
            );
            sink.error(&node.position, text);
            None
        }
    }
}
