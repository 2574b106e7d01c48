//! `websocket` (`ws`): the listener for clients and leafs that come over WebSocket.
//!
//! | key (aliases) | value | default |
//! |---|---|---|
//! | listen | port or host:port | |
//! | host (net), port | text, -1 or 1 to 65535; 0 is no listener | 0.0.0.0, 0 |
//! | advertise | host or host:port | none |
//! | tls | see `tls` | none |
//! | no_tls | bool: needed where there is no `tls` | false |
//! | same_origin | bool | false |
//! | allowed_origins (allowed_origin, allow_origins, allow_origin, origins, origin) | one or an array | any |
//! | compression (compress) | bool: permessage-deflate for those who ask | false |
//! | handshake_timeout | seconds, or duration as text | 5 s |
//! | authorization (authentication) | block of user (username), password (pass), token, timeout | those of clients |
//! | no_auth_user | text | that of clients |
//! | jwt_cookie, user_cookie, pass_cookie, token_cookie | name of a cookie | none |
//! | headers | block of names and texts | none |
//! | ping_interval | duration | that of clients |

use super::reader::Sink;
use super::tls::{Peer, tls};
use crate::config::model::{Auth, WebsocketListener};
use crate::config::units::{parse_duration, quote};
use crate::config::value::{Entry, Node, Value};
use std::time::Duration;

/// What the block gives; `None` where it has no port, and so is turned off.
pub(super) fn websocket(entry: &Entry, sink: &mut Sink) -> Option<WebsocketListener> {
    let Value::Map(map) = &entry.node.value else {
        let got = entry.node.value.type_name();
        let text = format!("Expected websocket to be a map, got {got}");
        sink.error(&entry.node.position, text);
        return None;
    };
    let mut listener = WebsocketListener {
        place: Some(entry.node.position.to_string()),
        ..WebsocketListener::default()
    };
    let mut port = None;
    let mut no_tls_at = None;
    for entry in map.iter() {
        let node = &entry.node;
        let at = &node.position;
        match entry.key.to_lowercase().as_str() {
            "listen" => {
                if let Some((host, number)) = sink.host_port(node) {
                    listener.host = host.unwrap_or_else(|| WebsocketListener::default().host);
                    port = sink.port(at, number);
                }
            }
            "host" | "net" => {
                if let Some(host) = text(node, sink) {
                    listener.host = host;
                }
            }
            "port" => port = sink.int(node).and_then(|number| sink.port(at, number)),
            "advertise" => listener.advertise = text(node, sink),
            "tls" => listener.tls = tls(entry, Peer::Client, sink),
            "no_tls" => {
                listener.no_tls = sink.boolean(node).unwrap_or(false);
                no_tls_at = Some(entry);
            }
            "same_origin" => listener.same_origin = sink.boolean(node).unwrap_or(false),
            "allowed_origins" | "allowed_origin" | "allow_origins" | "allow_origin" | "origins"
            | "origin" => listener.allowed_origins = origins(node, sink),
            "compression" | "compress" => {
                listener.compression = sink.boolean(node).unwrap_or(false);
            }
            "handshake_timeout" => {
                if let Some(timeout) = handshake_timeout(node, sink) {
                    listener.handshake_timeout = timeout;
                }
            }
            "authorization" | "authentication" => {
                if let Some((auth, timeout)) = authorization(entry, sink) {
                    let no_auth_user = listener.auth.no_auth_user.take();
                    listener.auth = auth;
                    listener.auth.no_auth_user = no_auth_user;
                    listener.auth_timeout = timeout;
                }
            }
            "no_auth_user" => listener.auth.no_auth_user = text(node, sink),
            "jwt_cookie" => listener.cookies.jwt = text(node, sink),
            "user_cookie" => listener.cookies.user = text(node, sink),
            "pass_cookie" => listener.cookies.pass = text(node, sink),
            "token_cookie" => listener.cookies.token = text(node, sink),
            "headers" => listener.headers = headers(node, sink),
            "ping_interval" => listener.ping_interval = sink.duration(entry),
            _ => sink.unknown(entry),
        }
    }
    if let Some(entry) = no_tls_at
        && listener.no_tls
        && listener.tls.is_some()
    {
        let reason = "ignored, with a tls block there is no WebSocket in clear";
        sink.warn(&entry.node.position, &entry.key, reason);
        listener.no_tls = false;
    }
    listener.port = port?;
    Some(listener)
}

/// Text that says something.
fn text(node: &Node, sink: &mut Sink) -> Option<String> {
    sink.string(node).filter(|text| !text.is_empty())
}

fn origins(node: &Node, sink: &mut Sink) -> Vec<String> {
    let unsupported = |node: &Node, within: &str, sink: &mut Sink| {
        let got = node.value.type_name();
        let text = format!("error parsing allowed origins: unsupported type {within}{got}");
        sink.error(&node.position, text);
    };
    match &node.value {
        Value::String(text) => vec![text.clone()],
        Value::Array(list) => {
            let mut origins = Vec::new();
            for node in list {
                match &node.value {
                    Value::String(text) => origins.push(text.clone()),
                    _ => unsupported(node, "in array ", sink),
                }
            }
            origins
        }
        _ => {
            unsupported(node, "", sink);
            Vec::new()
        }
    }
}

/// 0 means the default, which gives `None`.
fn handshake_timeout(node: &Node, sink: &mut Sink) -> Option<Duration> {
    let nanos = match &node.value {
        Value::Int(seconds) => i128::from(*seconds) * 1_000_000_000,
        Value::String(text) => match parse_duration(text) {
            Ok(nanos) => i128::from(nanos),
            Err(error) => {
                sink.error(&node.position, error.to_string());
                return None;
            }
        },
        other => {
            let got = other.type_name();
            let text = format!("error parsing handshake timeout: unsupported type {got}");
            sink.error(&node.position, text);
            return None;
        }
    };
    // nats-server takes less than nothing for no limit, and waits 292 years at most.
    let Some(nanos) = u64::try_from(nanos)
        .ok()
        .filter(|n| i64::try_from(*n).is_ok())
    else {
        let text = "invalid handshake_timeout, needs to be positive and below 292 years";
        sink.error(&node.position, text);
        return None;
    };
    Some(Duration::from_nanos(nanos)).filter(|timeout| !timeout.is_zero())
}

/// One user or a token, and the time to say so. A password alone names nobody.
fn authorization(entry: &Entry, sink: &mut Sink) -> Option<(Auth, Option<Duration>)> {
    let map = sink.map(&entry.node)?;
    let mut auth = Auth::default();
    let (mut user, mut password, mut timeout) = (None, None, None);
    for entry in map.iter() {
        let node = &entry.node;
        match entry.key.to_lowercase().as_str() {
            "user" | "username" => user = text(node, sink),
            "password" | "pass" => password = text(node, sink),
            "token" => auth.token = text(node, sink),
            "timeout" => {
                timeout = sink.seconds(node, "error parsing authorization config, 'timeout'");
            }
            _ => sink.unknown(entry),
        }
    }
    if user.is_some() && auth.token.is_some() {
        // nats-server looks at the token alone.
        sink.error(&entry.node.position, "Cannot have a user/pass and token");
    }
    auth.user = user.map(|user| (user, password.unwrap_or_default()));
    Some((auth, timeout))
}

fn headers(node: &Node, sink: &mut Sink) -> Vec<(String, String)> {
    let Value::Map(map) = &node.value else {
        let got = node.value.type_name();
        let text = format!("error parsing headers: unsupported type {got}");
        sink.error(&node.position, text);
        return Vec::new();
    };
    let mut headers = Vec::new();
    for entry in map.iter() {
        let (key, at) = (&entry.key, &entry.node.position);
        let Value::String(value) = &entry.node.value else {
            let got = entry.node.value.type_name();
            let text = format!("error parsing header key {key}: unsupported type {got}");
            sink.error(at, text);
            continue;
        };
        // nats-server sends them, and no client understands the answer.
        if value.bytes().any(|b| b.is_ascii_control() && b != b'\t') || !is_token(key) {
            let text = format!(
                "header {} cannot stand in an HTTP answer: its name is one word of letters, digits and dashes, \
                 its value one line",
                quote(key)
            );
            sink.error(at, text);
            continue;
        }
        headers.push((key.clone(), value.clone()));
    }
    headers
}

/// Whether it may be the name of a header (RFC 9110, tokens).
fn is_token(name: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(is_part)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::config::model::{CookieNames, WebsocketListener};
    use crate::config::testing::{config, lines, load_text};
    use proptest::prelude::*;
    use std::time::Duration;

    fn listener(text: &str) -> WebsocketListener {
        config(&format!("websocket {{port: 8080\n{text}\n}}"))
            .websocket
            .unwrap()
    }

    /// As 2.15.1 prints it, but for the last ones.
    #[test]
    fn texts() {
        let conversion = |got: &str, want: &str| {
            format!("interface conversion: interface {{}} is {got}, not {want}")
        };
        for (text, wanted) in [
            ("foo: 1", "unknown field \"foo\"".to_string()),
            ("listen: x", "could not parse address string \"x\"".into()),
            ("listen: true", "expected port or host:port, got bool".into()),
            ("port: x", conversion("string", "int64")),
            ("host: 5", conversion("int64", "string")),
            ("advertise: 5", conversion("int64", "string")),
            ("no_tls: x", conversion("string", "bool")),
            ("tls: 5", conversion("int64", "map[string]interface {}")),
            ("same_origin: 5", conversion("int64", "bool")),
            ("allowed_origins: 5", "error parsing allowed origins: unsupported type int64".into()),
            ("origin: {}", "error parsing allowed origins: unsupported type map[string]interface {}".into()),
            ("compress: x", conversion("string", "bool")),
            ("handshake_timeout: x", "time: invalid duration \"x\"".into()),
            ("handshake_timeout: true", "error parsing handshake timeout: unsupported type bool".into()),
            ("handshake_timeout: 2.5", "error parsing handshake timeout: unsupported type float64".into()),
            ("authorization: 5", conversion("int64", "map[string]interface {}")),
            ("no_auth_user: 5", conversion("int64", "string")),
            ("jwt_cookie: 5", conversion("int64", "string")),
            ("headers: 5", "error parsing headers: unsupported type int64".into()),
            ("ping_interval: x", "error parsing ping_interval: time: invalid duration \"x\"".into()),
            ("ping_interval: 5", "invalid use of field \"ping_interval\": ping_interval should be converted to a duration".into()),
            // Ours.
            ("port: 99999", "port 99999 is out of the range".into()),
            ("port: -2", "port -2 is out of the range".into()),
            ("handshake_timeout: -2", "invalid handshake_timeout, needs to be positive and below 292 years".into()),
            ("handshake_timeout: 9223372036854775807", "invalid handshake_timeout, needs to be positive and below 292 years".into()),
            ("tls {}", "tls for clients needs a certificate: set cert_file and key_file".into()),
            ("authorization {user: a, token: b}", "Cannot have a user/pass and token".into()),
        ] {
            let printed = lines(&format!("websocket {{{text}}}"));
            assert_eq!(printed, [format!("c:1:11: {wanted}")], "{text}");
        }
        for (text, wanted) in [
            (
                "authorization {users: [{user: a}]}",
                "c:1:26: unknown field \"users\"",
            ),
            (
                "authorization {permissions: {}}",
                "c:1:26: unknown field \"permissions\"",
            ),
            ("authorization {foo: 1}", "c:1:26: unknown field \"foo\""),
            (
                "authorization {timeout: x}",
                "c:1:26: error parsing authorization config, 'timeout' time: invalid duration \"x\"",
            ),
            (
                "tls {foo: 1}",
                "c:1:16: error parsing tls config, unknown field \"foo\"",
            ),
            (
                "headers {a: 5}",
                "c:1:20: error parsing header key a: unsupported type int64",
            ),
            (
                "headers {a: [b]}",
                "c:1:20: error parsing header key a: unsupported type []interface {}",
            ),
            (
                "headers {\"a b\": c}",
                "c:1:21: header \"a b\" cannot stand in an HTTP answer: its name is one word of letters, digits and dashes, its value one line",
            ),
            (
                "headers {a: \"b\\nc\"}",
                "c:1:20: header \"a\" cannot stand in an HTTP answer: its name is one word of letters, digits and dashes, its value one line",
            ),
            (
                "origins: [\n5\n]",
                "c:2:1: error parsing allowed origins: unsupported type in array int64",
            ),
        ] {
            let printed = lines(&format!("websocket {{{text}}}"));
            assert_eq!(printed.first().map(String::as_str), Some(wanted), "{text}");
        }
        assert_eq!(
            lines("ws: 5"),
            ["c:1:0: Expected websocket to be a map, got int64"]
        );
    }

    #[test]
    fn a_block_without_a_port_is_no_listener() {
        for text in [
            "websocket {}",
            "ws {port: 0}",
            "ws {listen: 0, no_tls: true}",
            "websocket {no_tls: true, origins: foo, jwt_cookie: x}",
        ] {
            assert!(config(text).websocket.is_none(), "{text}");
        }
    }

    #[test]
    fn values() {
        let plain = config("\n ws {listen: \"h:-1\", no_tls: true}")
            .websocket
            .unwrap();
        let default = WebsocketListener {
            host: "h".into(),
            no_tls: true,
            place: Some("c:2:2".into()),
            ..WebsocketListener::default()
        };
        assert_eq!(plain, default);
        assert_eq!(plain.handshake_timeout, Duration::from_secs(5));
        assert!(!plain.overrides_auth());
        let all = listener(
            "net: \"::1\", advertise: \"a:1\", same_origin: yes, compress: true
             tls {cert_file: c, key_file: k, verify_and_map: true}, handshake_timeout: 2
             origins: [\"http://a\", \"http://b\"], ping_interval: \"1m\", no_auth_user: n
             authentication {username: u, pass: p, timeout: 0.5}
             jwt_cookie: j, user_cookie: u, pass_cookie: p, token_cookie: t
             headers {X-A: b, \"X-C\": \"d e\"}",
        );
        assert_eq!((all.host.as_str(), all.port), ("::1", 8080));
        assert_eq!(all.advertise.as_deref(), Some("a:1"));
        assert!(all.tls.as_ref().unwrap().map && all.same_origin && all.compression);
        assert_eq!(all.allowed_origins, ["http://a", "http://b"]);
        assert_eq!(all.handshake_timeout, Duration::from_secs(2));
        assert_eq!(all.ping_interval, Some(Duration::from_secs(60)));
        assert_eq!(all.auth.user, Some(("u".into(), "p".into())));
        assert_eq!(all.auth.no_auth_user.as_deref(), Some("n"));
        assert_eq!(all.auth_timeout, Some(Duration::from_millis(500)));
        assert!(all.overrides_auth());
        let name = |name: &str| Some(name.to_string());
        let cookies = CookieNames {
            jwt: name("j"),
            user: name("u"),
            pass: name("p"),
            token: name("t"),
        };
        assert_eq!(all.cookies, cookies);
        let headers = [("X-A", "b"), ("X-C", "d e")].map(|(k, v)| (k.into(), v.into()));
        assert_eq!(all.headers, headers);
        for (text, timeout) in [("\"300ms\"", 300), ("0", 5000), ("\"0s\"", 5000)] {
            let read = listener(&format!("handshake_timeout: {text}"));
            assert_eq!(read.handshake_timeout.as_millis(), timeout, "{text}");
        }
    }

    #[test]
    fn no_tls_next_to_tls_means_nothing() {
        let text = "ws {port: 1, no_tls: true, tls {cert_file: c, key_file: k}}";
        assert!(lines(text)[0].contains("invalid use of field \"no_tls\": ignored"));
        assert!(!config(text).websocket.unwrap().no_tls);
    }

    proptest! {
        /// Values of every type for every option; a start checks what is loaded.
        #[test]
        fn arbitrary_listeners_never_panic(
            parts in proptest::collection::vec((
                "(port|listen|host|advertise|tls|no_tls|same_origin|origins|compress|handshake_timeout|authorization|no_auth_user|user_cookie|headers|ping_interval)",
                prop_oneof![
                    "-?[0-9]{1,20}",
                    "(true|off|[0-9]\\.[0-9]|\\[\\]|\\{\\})",
                    "\"(https?://)?[-a-z0-9:@/?#.%\\[\\]]{0,12}\"",
                    "\"-?[0-9]{1,19}(ns|ms|s|h)?\"",
                    "\\[(\"[a-z0-9:/@ms]{0,9}\" ?,? ?|-?[0-9]{1,20} ?, ?){0,5}\\]",
                    "\\{(user|token|timeout|x-a|host|cert_file): ?(\"[-0-9a-z:/@,*]{0,9}\"|-?[0-9]{1,20}|\\[x\\]|\\{\\})\\}",
                ],
            ), 0..6),
        ) {
            let mut text = String::from("websocket {\n");
            for (key, value) in &parts {
                text.push_str(&format!("{key}: {value}\n"));
            }
            text.push('}');
            if let Ok(loaded) = load_text(&text) {
                let _ = crate::config::check(&loaded.config);
            }
        }
    }
}
