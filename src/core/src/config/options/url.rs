//! URLs of remotes. Their user information never reaches an error text.

use super::reader::split_host_port;
use crate::config::model::{Scheme, Secret, Url};

/// Why a URL is not taken. Carries none of its user information.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadUrl {
    /// Not a URL that names a host.
    Malformed,
    /// A scheme of nats-server's that is not served: the scheme.
    Unserved(String),
}

/// The port of leaf listeners.
const DEFAULT_PORT: u16 = 7422;

/// Parses `scheme://[user[:password]@]host[:port]`. Schemes: `nats`, `leaf`, `nats-leaf`.
pub fn parse(text: &str) -> Result<Url, BadUrl> {
    if text.chars().any(|c| c.is_control() || c == ' ') {
        return Err(BadUrl::Malformed);
    }
    let (scheme, rest) = text.split_once("://").ok_or(BadUrl::Malformed)?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "nats" => Scheme::Nats,
        "leaf" => Scheme::Leaf,
        "nats-leaf" => Scheme::NatsLeaf,
        other @ ("tls" | "ws" | "wss") => return Err(BadUrl::Unserved(other.to_string())),
        _ => return Err(BadUrl::Malformed),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = rest.get(..end).unwrap_or_default();
    let (info, address) = match authority.rsplit_once('@') {
        Some((info, address)) => (Some(info), address),
        None => (None, authority),
    };
    let (host, port) = match split_host_port(address) {
        Some((host, "")) => (host, DEFAULT_PORT),
        Some((host, port)) => (host, port.parse().map_err(|_| BadUrl::Malformed)?),
        None => {
            let inner = address
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
                .unwrap_or(address);
            let bracketed = inner.len() != address.len();
            if inner.contains(['[', ']']) || (inner.contains(':') && !bracketed) {
                return Err(BadUrl::Malformed);
            }
            (inner, DEFAULT_PORT)
        }
    };
    // Hosts with escapes are beyond what a resolver takes.
    if host.is_empty() || host.contains('%') {
        return Err(BadUrl::Malformed);
    }
    let (user, password) = match info.map(|info| info.split_once(':').ok_or(info)) {
        Some(Ok((user, password))) => (Some(decode(user)?), Some(decode(password)?)),
        Some(Err(user)) => (Some(decode(user)?), None),
        None => (None, None),
    };
    Ok(Url {
        scheme,
        host: host.to_string(),
        port,
        path: String::new(),
        user,
        password: password.map(Secret::new),
    })
}

/// Undoes `%XX`.
fn decode(text: &str) -> Result<String, BadUrl> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(BadUrl::Malformed);
        };
        out.push(u8::try_from(high * 16 + low).map_err(|_| BadUrl::Malformed)?);
    }
    String::from_utf8(out).map_err(|_| BadUrl::Malformed)
}

/// What was written, without passwords and tokens.
pub(super) fn redact(text: &str) -> String {
    let Some((info, address)) = text.rsplit_once('@') else {
        return text.to_string();
    };
    let (scheme, info) = match info.split_once("://") {
        Some((scheme, info)) => (format!("{scheme}://"), info),
        None => (String::new(), info),
    };
    match info.split_once(':') {
        Some((user, _)) => format!("{scheme}{user}:xxxxx@{address}"),
        None => format!("{scheme}xxxxx@{address}"),
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
        ] {
            assert!(matches!(parse(text), Err(BadUrl::Malformed)), "{text}");
        }
        assert!(matches!(parse("wss://h"), Err(BadUrl::Unserved(_))));
    }

    #[test]
    fn redaction() {
        assert_eq!(redact("nats://u:p@h:1"), "nats://u:xxxxx@h:1");
        assert_eq!(redact("nats://tok@h"), "nats://xxxxx@h");
        assert_eq!(redact("nats://h"), "nats://h");
        assert_eq!(redact("nats://u:p@q@h"), "nats://u:xxxxx@h");
    }

    proptest! {
        #[test]
        fn never_panics(text in "(nats://)?[-\\[\\]:@%/a-f0-9µ]{0,30}") {
            let _ = parse(&text);
            let _ = redact(&text);
        }
    }
}
