//! `leafnodes`: the remotes we solicit. What the block says of a listener is `leaf_listener`.
//!
//! | key (aliases) of the block | value | default |
//! |---|---|---|
//! | reconnect (reconnect_delay, reconnect_interval) | duration | at once |
//! | dial_timeout | duration, for remotes without their own | 5 s |
//! | isolate_leafnode_interest (isolate) | bool, for the listener and remotes without their own | false |
//! | remotes | array of blocks | none |
//! | compression | see `compression`, for the listener and remotes without their own | s2_auto |
//!
//! | key (aliases) of a remote | value | default |
//! |---|---|---|
//! | account (local) | name | `$G` |
//! | credentials (creds) | path | none |
//! | nkey (seed) | user seed | none |
//! | deny_imports (deny_import), deny_exports (deny_export) | subjects | none |
//! | hub, no_randomize (dont_randomize), disabled, request_isolation, ignore_discovered_servers | bool | false |
//! | isolate_leafnode_interest (isolate) | bool | the block's |
//! | max_queue_time | duration, "0s" is no bound; ours | 1 min |
//! | transports | array of blocks: ways to the hub in order of preference; ours | the remote itself |
//!
//! | key (aliases) of a remote and of a transport | value | default; of a transport: the remote's |
//! |---|---|---|
//! | url, urls | one or an array; `nats`, `leaf`, `nats-leaf`, `tls`, `ws`, `wss` | none |
//! | tls | see `tls` | none |
//! | compression | see `compression` | the block's |
//! | ws_compression (ws_compress, websocket_compression, websocket_compress) | bool | false |
//! | ws_no_masking (websocket_no_masking) | bool | false |
//! | proxy | see `proxy` | none |
//! | dial_timeout, first_info_timeout | duration | the block's, 5 s |

use std::sync::Arc;

use super::compression::compression;
use super::leaf_listener::{Draft, Shared};
use super::perms::subjects;
use super::proxy::proxy;
use super::reader::Sink;
use super::tls::{Peer, tls};
use super::unserved::is_off;
use super::url::{BadUrl, parse, redact};
use crate::config::model::{LeafListener, Remote, Secret, Url, Way};
use crate::config::units::quote;
use crate::config::value::{Entry, Map, Node, Value};

/// What the block gives.
#[derive(Default)]
pub(super) struct Leafnodes<'v> {
    pub(super) remotes: Vec<Remote>,
    pub(super) listener: Option<LeafListener>,
    /// The listener's `authorization.account`, where that has no users: it counts only if clients
    /// need not prove who they are.
    pub(super) lone_account: Option<&'v Entry>,
}

pub(super) fn leafnodes<'v>(block: &'v Entry, sink: &mut Sink) -> Leafnodes<'v> {
    let at = &block.node.position;
    let Value::Map(map) = &block.node.value else {
        let got = block.node.value.type_name();
        let text = format!("Expected map to define a leafnode, got {got}");
        sink.error(at, text);
        return Leafnodes::default();
    };
    let mut draft = Draft::default();
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
            "compression" => {
                way.compression = compression(entry, sink).unwrap_or(way.compression);
            }
            _ => {
                if !draft.read(entry, sink) {
                    sink.unknown(entry);
                }
            }
        }
    }
    let shared = Shared {
        compression: way.compression.clone(),
        isolate: base.isolate,
        has_remotes: remotes.is_some_and(|node| !is_off(&node.value)),
    };
    let lone_account = draft.lone_account;
    let listener = draft.finish(at, shared, sink);
    let remotes = match remotes.map(|node| (node, &node.value)) {
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
    };
    Leafnodes {
        remotes,
        lone_account: lone_account.filter(|_| listener.is_some()),
        listener,
    }
}

fn remote(node: &Node, base: &Remote, way: &Way, sink: &mut Sink) -> Option<Remote> {
    let map = block(node, "remote leafnode entry", sink)?;
    let mut remote = base.clone();
    let mut way = way.clone();
    // What they inherit may stand after them.
    let mut transports = None;
    for entry in map.iter() {
        let node = &entry.node;
        let at = &node.position;
        match entry.key.to_lowercase().as_str() {
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
            // Zero is no bound here, not the default.
            "max_queue_time" => remote.max_queue_time = sink.duration(entry),
            "transports" => transports = Some(node),
            "jetstream_cluster_migrate" | "js_cluster_migrate" => {
                sink.warn(at, &entry.key, "ignored, there is no jetstream");
            }
            _ => {
                if !way_option(entry, &mut way, sink) {
                    sink.unknown(entry);
                }
            }
        }
    }
    remote.ways = match transports {
        Some(node) => ways(node, &way, sink),
        None => vec![Arc::new(way)],
    };
    Some(remote)
}

/// `transports`: what an entry does not say is the remote's.
fn ways(node: &Node, base: &Way, sink: &mut Sink) -> Vec<Arc<Way>> {
    let Value::Array(list) = &node.value else {
        let got = node.value.type_name();
        let text = format!("Expected transports field to be an array, got {got}");
        sink.error(&node.position, text);
        return Vec::new();
    };
    if list.is_empty() {
        sink.error(&node.position, "transports cannot be empty");
    }
    let mut out = Vec::new();
    for node in list {
        let Some(map) = block(node, "transport entry", sink) else {
            continue;
        };
        let mut way = base.clone();
        for entry in map.iter() {
            if !way_option(entry, &mut way, sink) {
                sink.unknown(entry);
            }
        }
        if way.urls.is_empty() && sink.errors.is_empty() {
            let text = "transport entry has no url, and neither has its remote";
            sink.error(map.last_position().unwrap_or(&node.position), text);
        }
        out.push(Arc::new(way));
    }
    out
}

/// An element that has to be a block. It may be a URL that was meant to be in one.
fn block<'v>(node: &'v Node, what: &str, sink: &mut Sink) -> Option<&'v Map> {
    let got = match &node.value {
        Value::Map(map) => return Some(map),
        Value::String(text) => redact(text),
        other => other.shown(),
    };
    let text = format!("Expected {what} to be a map/struct, got {got}");
    sink.error(&node.position, text);
    None
}

/// What a remote and a transport may both say. `false` if it is none of that.
fn way_option(entry: &Entry, way: &mut Way, sink: &mut Sink) -> bool {
    let node = &entry.node;
    match entry.key.to_lowercase().as_str() {
        "url" | "urls" => way.urls = urls(entry, sink),
        "tls" => way.tls = tls(entry, Peer::Hub, sink),
        "compression" => {
            if let Some(compression) = compression(entry, sink) {
                way.compression = compression;
            }
        }
        "ws_compression" | "ws_compress" | "websocket_compress" | "websocket_compression" => {
            way.ws_compression = sink.boolean(node).unwrap_or(false);
        }
        "ws_no_masking" | "websocket_no_masking" => {
            way.ws_no_masking = sink.boolean(node).unwrap_or(false);
        }
        // A transport can do without the remote's.
        "proxy" if is_off(&node.value) => way.proxy = None,
        "proxy" => way.proxy = proxy(entry, sink),
        "dial_timeout" => way.dial_timeout = sink.duration(entry).unwrap_or(way.dial_timeout),
        "first_info_timeout" => {
            way.first_info_timeout = sink.duration(entry).unwrap_or(way.first_info_timeout);
        }
        _ => return false,
    }
    true
}

fn urls(entry: &Entry, sink: &mut Sink) -> Vec<Url> {
    let mut out = Vec::new();
    match &entry.node.value {
        Value::String(text) => out.extend(url(&entry.node, text, sink)),
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
                out.extend(url(node, &text, sink));
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

fn url(node: &Node, text: &str, sink: &mut Sink) -> Option<Url> {
    let shown = || quote(&redact(text));
    let text = match parse(text) {
        Ok(url) => return Some(url),
        Err(BadUrl::Malformed) => format!("error parsing leafnode url [{}]", shown()),
        Err(BadUrl::Query) => format!(
            "leafnode url [{}] has a query or fragment, which is not sent: remove it",
            shown()
        ),
    };
    sink.error(&node.position, text);
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::config::model::{Compression, HandshakeFirst, Scheme};
    use crate::config::testing::{config, lines, load_text, remote};
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn texts() {
        let conversion = |got: &str, want: &str| {
            format!("interface conversion: interface {{}} is {got}, not {want}")
        };
        for (text, wanted) in [
            ("tls: 5", format!("c:1:22: {}", conversion("int64", "map[string]interface {}"))),
            ("ws_compression: 5", format!("c:1:22: {}", conversion("int64", "bool"))),
            ("ws_no_masking: x", format!("c:1:22: {}", conversion("string", "bool"))),
            ("max_queue_time: x", "c:1:22: error parsing max_queue_time: time: invalid duration \"x\"".into()),
            ("max_queue_time: 5", "c:1:22: invalid use of field \"max_queue_time\": max_queue_time should be converted to a duration".into()),
            ("transports: 5", "c:1:22: Expected transports field to be an array, got int64".into()),
            ("transports: []", "c:1:22: transports cannot be empty".into()),
            ("transports: [\"wss://u:S3CRET@h\"]", "c:1:36: Expected transport entry to be a map/struct, got wss://u:xxxxx@h".into()),
            ("transports: [{url: \"wss://h\", hub: true}]", "c:1:52: unknown field \"hub\"".into()),
            ("transports: [{url: \"wss://h\"}, {tls {}}]", "c:1:54: transport entry has no url, and neither has its remote".into()),
            ("url: \"wss://u:S3CRET@h:x\"", "c:1:22: error parsing leafnode url [\"wss://u:xxxxx@h:x\"]".into()),
            ("url: \"nats://u:1/S3CRET@h\"", "c:1:22: error parsing leafnode url [\"nats://u:xxxxx@h\"]".into()),
            ("url: \"wss://S3CRET@h/a?t=S3CRET\"", "c:1:22: leafnode url [\"wss://xxxxx@h/a?xxxxx\"] has a query or fragment, which is not sent: remove it".into()),
            ("url: \"https://u:S3CRET@h\"", "c:1:22: error parsing leafnode url [\"https://u:xxxxx@h\"]".into()),
        ] {
            let printed = lines(&format!("leafnodes {{remotes: [{{{text}}}]}}"));
            assert_eq!(printed, [wanted], "{text}");
        }
    }

    /// 38: and every alias in any case.
    #[test]
    fn one_way() {
        let way = |text: &str| {
            let ways = remote(text).ways;
            assert_eq!(ways.len(), 1, "{text}");
            ways[0].clone()
        };
        for (url, scheme, path) in [
            ("nats-leaf://h", Scheme::NatsLeaf, ""),
            ("tls://h", Scheme::Tls, ""),
            ("ws://h/a", Scheme::Ws, "/a"),
            ("wss://h", Scheme::Wss, ""),
        ] {
            let url = way(&format!("url: \"{url}\"")).urls[0].clone();
            assert_eq!((url.scheme, &*url.path, url.port), (scheme, path, 7422));
        }
        for key in [
            "ws_compression",
            "WS_Compress",
            "websocket_compress",
            "websocket_compression",
        ] {
            assert!(way(&format!("{key}: true")).ws_compression, "{key}");
        }
        for key in ["ws_no_masking", "WebSocket_No_Masking"] {
            assert!(way(&format!("{key}: yes")).ws_no_masking, "{key}");
        }
        let default = way("url: \"nats://h\"");
        assert_eq!((&default.tls, &default.proxy), (&None, &None));
        assert_eq!(default.compression, Compression::default());
        assert_eq!(default.dial_timeout, Duration::from_secs(5));
        assert_eq!(default.first_info_timeout, Duration::from_secs(5));
        let quick = config(
            "leaf {remotes: [{url: \"nats://h\", first_info_timeout: \"1s\"}]; dial_timeout: \"2s\"}",
        );
        let quick = &quick.remotes[0].ways[0];
        assert_eq!(quick.dial_timeout, Duration::from_secs(2));
        assert_eq!(quick.first_info_timeout, Duration::from_secs(1));
    }

    #[test]
    fn queues() {
        assert_eq!(
            remote("hub: no").max_queue_time,
            Some(Duration::from_secs(60))
        );
        assert_eq!(
            remote("max_queue_time: \"5s\"").max_queue_time,
            Some(Duration::from_secs(5))
        );
        assert_eq!(remote("max_queue_time: \"0s\"").max_queue_time, None);
    }

    #[test]
    fn transports_inherit_what_the_remote_says_before_and_after_them() {
        let remote = remote(
            "url: \"tls://h\", transports: [
               {}
               {tls {first: true}, proxy: off, dial_timeout: \"1s\"}
               {urls: [\"wss://a/b\", \"wss://c\"], compression: off, ws_compress: false
                proxy {url: \"socks5://p\"}, ws_no_masking: true, first_info_timeout: \"9s\"}
             ]
             tls {ca_file: a}, compression: best, ws_compression: true
             proxy {url: \"http://q\"}, dial_timeout: \"3s\", account: A",
        );
        assert_eq!((remote.account.as_str(), remote.ways.len()), ("A", 3));
        let seen: Vec<_> = remote
            .ways
            .iter()
            .map(|way| {
                let tls = way.tls.as_ref().unwrap();
                (
                    way.urls.len(),
                    tls.ca_file.as_deref(),
                    tls.handshake_first,
                    way.compression.clone(),
                    way.proxy.as_ref().map(ToString::to_string),
                    (way.ws_compression, way.ws_no_masking),
                    (way.dial_timeout.as_secs(), way.first_info_timeout.as_secs()),
                )
            })
            .collect();
        let (q, p) = (Some("q:80".to_string()), Some("p:1080".to_string()));
        let (best, off) = (Compression::Best, Compression::Off);
        let (yes, no) = (HandshakeFirst::Yes, HandshakeFirst::No);
        assert_eq!(
            seen,
            [
                (1, Some("a"), no, best.clone(), q, (true, false), (3, 5)),
                (1, None, yes, best, None, (true, false), (1, 5)),
                (2, Some("a"), no, off, p, (false, true), (3, 9)),
            ]
        );
        assert_eq!(remote.ways[2].urls[0].path, "/b");
    }

    proptest! {
        /// Whatever is wrong with a URL, what stands before its `@` is not shown.
        #[test]
        fn secrets_are_not_shown(
            start in "((nats|tls|wss|http|socks5|ftp)?://(u?:)?|http:|u?:)?",
            before in "[:/?#%@a1]{0,3}",
            // With a colon behind it, it would be the user.
            after in "[/?#%@a1]{0,3}",
            end in "(h|h:1|h:x|\\[::1|%zz|a b|h/p|h\\?q|:1)?",
        ) {
            let url = format!("{start}{before}S3CRET{after}@{end}");
            for text in [
                format!("url: \"{url}\""),
                format!("urls: [\"{url}\", \"{url}\", 5]"),
                format!("urls: [\"{url}\", \"ws://h\", \"nats://h\"]"),
                format!("transports: [\"{url}\"]"),
                format!("transports: [{{url: \"{url}\"}}]"),
                format!("proxy: \"{url}\""),
                format!("url: \"ws://h\", proxy {{url: \"{url}\"}}"),
                format!("proxy {{url: \"http://h\", no_proxy: \"{url}\"}}"),
                "proxy {url: \"http://h\", password: S3CRET, foo: 1}".to_string(),
            ] {
                let text = format!("leafnodes {{remotes: [{{{text}}}\n{{{text}}}]}}");
                let mut printed = lines(&text).join("\n");
                if let Ok(loaded) = load_text(&text)
                    && let Err(e) = crate::config::check(&loaded.config)
                {
                    printed.push_str(&e.to_string());
                }
                prop_assert!(!printed.contains("S3CRET"), "{printed}");
            }
        }
    }
}
