//! URLs of remotes. Their user information never reaches an error text.

use super::reader::split_host_port;
use crate::config::model::{Scheme, Secret, Url};

/// Why a URL is not taken. Carries none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadUrl {
    /// Not a URL that names a host.
    Malformed,
    /// A WebSocket URL with `?` or `#`, which would not be sent.
    Query,
}

/// The port of leaf listeners.
const DEFAULT_PORT: u16 = 7422;

/// Parses `scheme://[user[:password]@]host[:port][/path]`. Schemes: `nats`, `leaf`, `nats-leaf`,
/// `tls`, `ws`, `wss`. The path is for the last two, others lose it.
pub fn parse(text: &str) -> Result<Url, BadUrl> {
    if text.chars().any(|c| c.is_control() || c == ' ') {
        return Err(BadUrl::Malformed);
    }
    let (scheme, rest) = text.split_once("://").ok_or(BadUrl::Malformed)?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "nats" => Scheme::Nats,
        "leaf" => Scheme::Leaf,
        "nats-leaf" => Scheme::NatsLeaf,
        "tls" => Scheme::Tls,
        "ws" => Scheme::Ws,
        "wss" => Scheme::Wss,
        _ => return Err(BadUrl::Malformed),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    // A password with one of these in it: they have to be escaped.
    if tail.contains('@') {
        return Err(BadUrl::Malformed);
    }
    let authority = Authority::parse(authority).ok_or(BadUrl::Malformed)?;
    let mut path = String::new();
    if scheme.is_websocket() {
        if tail.contains(['?', '#']) {
            return Err(BadUrl::Query);
        }
        if !tail.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(BadUrl::Malformed);
        }
        path.push_str(tail);
    }
    Ok(Url {
        scheme,
        host: authority.host,
        port: authority.port.unwrap_or(DEFAULT_PORT),
        path,
        user: authority.user,
        password: authority.password.map(Secret::new),
    })
}

/// `[user[:password]@]host[:port]`.
pub(super) struct Authority {
    /// IPv6 without brackets.
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

impl Authority {
    pub(super) fn parse(text: &str) -> Option<Authority> {
        let (info, address) = match text.rsplit_once('@') {
            Some((info, address)) => (Some(info), address),
            None => (None, text),
        };
        let (host, port) = match split_host_port(address) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => {
                let inner = address
                    .strip_prefix('[')
                    .and_then(|rest| rest.strip_suffix(']'))
                    .unwrap_or(address);
                let bracketed = inner.len() != address.len();
                if inner.contains(['[', ']']) || (inner.contains(':') && !bracketed) {
                    return None;
                }
                (inner, None)
            }
        };
        // Hosts with escapes are beyond what a resolver takes.
        if host.is_empty() || host.contains(['%', ' ']) || host.contains(char::is_control) {
            return None;
        }
        let (user, password) = match info.map(|info| info.split_once(':').ok_or(info)) {
            Some(Ok((user, password))) => (Some(decode(user)?), Some(decode(password)?)),
            Some(Err(user)) => (Some(decode(user)?), None),
            None => (None, None),
        };
        Some(Authority {
            host: host.to_string(),
            port,
            user,
            password,
        })
    }
}

/// Undoes `%XX`.
fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
        let (high, low) = (digit()?, digit()?);
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(out).ok()
}

/// What was written, without passwords and tokens, also those of a query.
pub(super) fn redact(text: &str) -> String {
    let Some((info, address)) = text.rsplit_once('@') else {
        return without_query(text);
    };
    let address = without_query(address);
    let (scheme, info) = match info.split_once("://") {
        Some((scheme, info)) if is_scheme(scheme) => (format!("{scheme}://"), info),
        _ => (String::new(), info),
    };
    match info.split_once(':') {
        Some((user, _)) => format!("{scheme}{user}:xxxxx@{address}"),
        None => format!("{scheme}xxxxx@{address}"),
    }
}

/// Whether it can be a scheme, and so holds no secret.
pub(super) fn is_scheme(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

fn without_query(text: &str) -> String {
    match text.find(['?', '#']) {
        Some(at) => format!("{}xxxxx", text.get(..=at).unwrap_or_default()),
        None => text.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms() {
        for (text, shown, user) in [
            ("nats://h", "h:7422", None),
            ("leaf://h:1", "h:1", None),
            ("nats-leaf://u:p%40@[::1]:5/x", "[::1]:5", Some("u")),
            ("NATS://tok@[::1]", "[::1]:7422", Some("tok")),
            ("tls://h", "h:7422", None),
            ("WS://u:p@h/a/b", "ws://h:7422", Some("u")),
            ("wss://[::1]:443", "wss://[::1]:443", None),
        ] {
            let url = parse(text).ok().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(url.user.as_deref(), user);
        }
        for text in [
            "",
            "a",
            "h:1",
            ":x",
            "nats://",
            "nats://a b",
            "nats://h:abc",
            "nats://[::1",
            "nats://h:99999",
            "nats://a%zz@b",
            "nats://%zz",
            "nats://a:b:c",
            "http://h",
            "ws://",
            "wss://h/\u{e4}",
            // A password with a slash.
            "nats://u:1/w@h",
            "wss://u:1/w@h",
        ] {
            assert_eq!(parse(text), Err(BadUrl::Malformed), "{text}");
        }
    }

    #[test]
    fn paths_are_for_websockets() {
        for (text, path) in [
            ("nats://h/a", ""),
            ("tls://h/a?b", ""),
            ("ws://h", ""),
            ("ws://h/", "/"),
            ("wss://h:1/a/b%20c", "/a/b%20c"),
        ] {
            assert_eq!(parse(text).unwrap().path, path, "{text}");
        }
        for text in ["ws://h?a=b", "wss://h/a#b"] {
            assert_eq!(parse(text), Err(BadUrl::Query), "{text}");
        }
    }

    #[test]
    fn redaction() {
        assert_eq!(redact("nats://u:p@h:1"), "nats://u:xxxxx@h:1");
        assert_eq!(redact("nats://tok@h"), "nats://xxxxx@h");
        assert_eq!(redact("nats://h"), "nats://h");
        assert_eq!(redact("nats://u:p@q@h"), "nats://u:xxxxx@h");
        assert_eq!(redact("wss://u:p@h/a?token=t"), "wss://u:xxxxx@h/a?xxxxx");
        assert_eq!(redact("u:p://q@h"), "u:xxxxx@h");
        assert_eq!(redact("wss://h#t"), "wss://h#xxxxx");
        assert_eq!(redact("wss://h?t=a@b"), "wss://xxxxx@b");
    }

    proptest! {
        #[test]
        fn never_panics(text in "((nats|wss)://)?[-\\[\\]:@%/?#a-f0-9µ]{0,30}") {
            let _ = parse(&text);
            let _ = redact(&text);
        }
    }
}
