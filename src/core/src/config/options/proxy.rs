//! `proxy` of a remote. Its credentials never reach an error text.
//!
//! | key | value | default |
//! |---|---|---|
//! | url | `scheme://[user:password@]host[:port]`; `http`, `https`, `socks5`, `socks5h` | |
//! | username, password | text, both or neither; in place of the url's | none |
//! | timeout | duration | the way's dial_timeout |
//! | no_proxy | array, or text with commas: hosts that are dialled directly | none |

use std::net::IpAddr;
use std::time::Duration;

use super::reader::Sink;
use super::url::{Authority, is_scheme, redact};
use crate::config::model::{Proxy, ProxyKind, Secret};
use crate::config::units::{parse_duration, quote};
use crate::config::value::{Entry, Node, Value};

/// What the block gives; `None`: no proxy, or an error.
pub(super) fn proxy(entry: &Entry, sink: &mut Sink) -> Option<Proxy> {
    let at = &entry.node.position;
    let Value::Map(map) = &entry.node.value else {
        let got = entry.node.value.type_name();
        sink.error(at, format!("Expected proxy to be a map, got {got}"));
        return None;
    };
    let (mut url, mut username, mut password) = (None, None, None);
    let before = sink.errors.len();
    let mut out = Proxy {
        kind: ProxyKind::Http,
        host: String::new(),
        port: 0,
        credentials: None,
        timeout: None,
        except: Vec::new(),
    };
    for entry in map.iter() {
        let node = &entry.node;
        match entry.key.to_lowercase().as_str() {
            "url" => url = sink.string(node),
            "username" => username = sink.string(node),
            "password" => password = sink.string(node),
            "timeout" => match timeout(node, sink) {
                Ok(timeout) => out.timeout = timeout,
                Err(Negative) => sink.error(at, "proxy timeout must be >= 0"),
            },
            "no_proxy" => out.except = except(node, sink),
            _ => sink.unknown(entry),
        }
    }
    let given = |text: &String| !text.is_empty();
    let (username, password) = (username.filter(given), password.filter(given));
    let Some(url) = url.filter(given) else {
        if !map.is_empty() && sink.errors.len() == before {
            let text = "proxy URL must be specified when other proxy options are set";
            sink.error(at, text);
        }
        return None;
    };
    let authority = match address(&url) {
        Ok((kind, default, authority)) => {
            out.kind = kind;
            out.port = authority.port.unwrap_or(default);
            authority
        }
        Err(text) => {
            sink.error(at, text);
            return None;
        }
    };
    out.host = authority.host;
    let username = username.or(authority.user.filter(given));
    let password = password.or(authority.password.filter(given));
    match (username, password) {
        (None, None) => {}
        (Some(user), Some(password)) => {
            if out.kind == ProxyKind::Socks5 && user.len().max(password.len()) > SOCKS_TEXT {
                let text = "proxy username and password must have at most 255 bytes for socks5";
                sink.error(at, text);
            }
            out.credentials = Some((user, Secret::new(password)));
        }
        _ => {
            let text = "proxy username and password must both be specified or both be empty";
            sink.error(at, text);
        }
    }
    Some(out)
}

/// SOCKS 5 says the length of each in one byte.
const SOCKS_TEXT: usize = 255;

/// The kind, its port, and where it is; or what is wrong, without secrets.
fn address(text: &str) -> Result<(ProxyKind, u16, Authority), String> {
    let invalid = || {
        let shown = quote(&redact(text));
        format!("invalid proxy URL: {shown}")
    };
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (scheme, Some(rest)),
        // What Go takes for the scheme of `proxy:8080`. It may be a user where there is an `@`.
        None if !text.contains('@') => (text.split_once(':').ok_or_else(invalid)?.0, None),
        None => return Err(invalid()),
    };
    let (kind, port) = match scheme.to_ascii_lowercase().as_str() {
        "http" => (ProxyKind::Http, 80),
        "https" => (ProxyKind::Http, 443),
        "socks5" | "socks5h" => (ProxyKind::Socks5, 1080),
        _ if !is_scheme(scheme) => return Err(invalid()),
        _ => {
            return Err(format!(
                "proxy URL scheme must be http, https, socks5 or socks5h, got: {scheme}"
            ));
        }
    };
    let rest = rest.ok_or("proxy URL must specify a host")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit('@').next().unwrap_or_default();
    if host.is_empty() || host.starts_with(':') {
        return Err("proxy URL must specify a host".into());
    }
    if path.contains('@') {
        return Err(invalid());
    }
    let authority = Authority::parse(authority).ok_or_else(invalid)?;
    Ok((kind, port, authority))
}

struct Negative;

/// `None`: the default, or an error that is reported.
fn timeout(node: &Node, sink: &mut Sink) -> Result<Option<Duration>, Negative> {
    const FIELD: &str = "proxy timeout";
    let at = &node.position;
    let nanos = match &node.value {
        Value::String(text) => match parse_duration(text) {
            Ok(nanos) => Some(nanos),
            Err(e) => {
                sink.error(at, format!("error parsing {FIELD}: {e}"));
                return Ok(None);
            }
        },
        _ => {
            let reason = format!("{FIELD} should be converted to a duration");
            sink.warn(at, FIELD, reason);
            match sink.int(node) {
                None => return Ok(None),
                Some(seconds) => seconds.checked_mul(1_000_000_000),
            }
        }
    };
    let Some(nanos) = nanos else {
        sink.error(at, format!("{FIELD} value is too big"));
        return Ok(None);
    };
    let nanos = u64::try_from(nanos).map_err(|_| Negative)?;
    Ok(Some(Duration::from_nanos(nanos)).filter(|timeout| !timeout.is_zero()))
}

/// `no_proxy`.
fn except(node: &Node, sink: &mut Sink) -> Vec<String> {
    let list = match &node.value {
        Value::Array(list) => list.iter().collect(),
        _ => vec![node],
    };
    let mut out = Vec::new();
    for node in list {
        let Some(text) = sink.string(node) else {
            continue;
        };
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            if is_exception(part) {
                out.push(part.to_string());
            } else {
                // A part of a password with a comma looks like a host.
                let shown = if text.contains('@') {
                    "[REDACTED]"
                } else {
                    part
                };
                let shown = quote(shown);
                let text = format!(
                    "no_proxy {shown} is no host, address or network, nor one with a port, nor *"
                );
                sink.error(&node.position, text);
            }
        }
    }
    out
}

/// Whether a part of `no_proxy` can be meant.
fn is_exception(text: &str) -> bool {
    // An IPv6 address has colons of its own.
    let bare: Option<IpAddr> = text.parse().ok();
    if text == "*" || bare.is_some() {
        return true;
    }
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    let is_network = |address: &str, bits: &str| {
        let most = match address.parse() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        bits.bytes().all(|b| b.is_ascii_digit()) && bits.parse().is_ok_and(|bits: u8| bits <= most)
    };
    if let Some((address, rest)) = text.split_once('/') {
        let (bits, port) = rest.split_once(':').unwrap_or((rest, "0"));
        return is_network(address, bits) && is_port(port);
    }
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        let port = if port.is_empty() { ":0" } else { port };
        return address.parse::<IpAddr>().is_ok() && port.strip_prefix(':').is_some_and(is_port);
    }
    let (host, port) = text.split_once(':').unwrap_or((text, "0"));
    // `*.example` and `.example` are what others write for a name with its subdomains.
    let name = host.strip_prefix("*.").unwrap_or(host);
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    !name.trim_matches('.').is_empty() && name.chars().all(fits) && is_port(port)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::testing::{lines, remote};

    fn read(text: &str) -> Option<Proxy> {
        let remote = remote(&format!("url: \"ws://h\", proxy {{ {text} }}"));
        remote.ways[0].proxy.clone()
    }

    /// As 2.15.1 prints it, but for more schemes and no password.
    #[test]
    fn texts() {
        let both = "proxy username and password must both be specified or both be empty";
        for (text, wanted) in [
            (
                "{url: \"ftp://u:S3CRET@x\"}",
                "proxy URL scheme must be http, https, socks5 or socks5h, got: ftp",
            ),
            (
                "{url: \"h:8080\"}",
                "proxy URL scheme must be http, https, socks5 or socks5h, got: h",
            ),
            (
                "{url: \"u:S3CRET@h:8080\"}",
                "invalid proxy URL: \"u:xxxxx@h:8080\"",
            ),
            (
                "{url: \"u:S3CRET@h://x\"}",
                "invalid proxy URL: \"u:xxxxx@h://x\"",
            ),
            ("{url: h}", "invalid proxy URL: \"h\""),
            ("{url: \"http://\"}", "proxy URL must specify a host"),
            ("{url: \"http:\"}", "proxy URL must specify a host"),
            (
                "{url: \"http://u:S3CRET@:80\"}",
                "proxy URL must specify a host",
            ),
            (
                "{url: \"http://u:S3CRET@h:x\"}",
                "invalid proxy URL: \"http://u:xxxxx@h:x\"",
            ),
            (
                "{url: \"http://u:1/S3CRET@h\"}",
                "invalid proxy URL: \"http://u:xxxxx@h\"",
            ),
            (
                "{url: \"http://S3CRET@a b\"}",
                "invalid proxy URL: \"http://xxxxx@a b\"",
            ),
            (
                "{url: \"http://u:S3CRET@%zz\"}",
                "invalid proxy URL: \"http://u:xxxxx@%zz\"",
            ),
            ("{url: \"http://h\", username: a}", both),
            ("{url: \"http://h\", password: S3CRET}", both),
            ("{url: \"http://u@h\"}", both),
            ("{url: \"http://u:@h\"}", both),
            (
                "{username: a, password: S3CRET}",
                "proxy URL must be specified when other proxy options are set",
            ),
            (
                "{url: \"http://h\", timeout: \"-1s\"}",
                "proxy timeout must be >= 0",
            ),
        ] {
            let printed = lines(&format!("leafnodes {{remotes: [{{proxy: {text}}}]}}"));
            assert_eq!(printed, [format!("c:1:22: {wanted}")], "{text}");
        }
        for (text, wanted) in [
            ("5", "c:1:22: Expected proxy to be a map, got int64"),
            (
                "\"http://u:S3CRET@h\"",
                "c:1:22: Expected proxy to be a map, got string",
            ),
            (
                "{url: 5}",
                "c:1:30: interface conversion: interface {} is int64, not string",
            ),
            (
                "{url: \"http://h\", timeout: x}",
                "c:1:47: error parsing proxy timeout: time: invalid duration \"x\"",
            ),
            (
                "{url: \"http://h\", timeout: 5}",
                "c:1:47: invalid use of field \"proxy timeout\": proxy timeout should be converted to a duration",
            ),
            (
                "{url: \"http://h\", foo: 5}",
                "c:1:47: unknown field \"foo\"",
            ),
            (
                "{url: \"http://h\", no_proxy: 5}",
                "c:1:47: interface conversion: interface {} is int64, not string",
            ),
            (
                "{url: \"http://h\", no_proxy: \"u:1,S3CRET@h\"}",
                "c:1:47: no_proxy \"[REDACTED]\" is no host, address or network, nor one with a port, nor *",
            ),
        ] {
            let printed = lines(&format!("leafnodes {{remotes: [{{proxy: {text}}}]}}"));
            assert_eq!(printed, [wanted], "{text}");
        }
        let long = "x".repeat(SOCKS_TEXT + 1);
        let text = format!("{{url: \"socks5://h\", username: u, password: {long}}}");
        let printed = lines(&format!("leafnodes {{remotes: [{{proxy: {text}}}]}}"));
        assert!(printed[0].ends_with("must have at most 255 bytes for socks5"));
    }

    #[test]
    fn urls() {
        for (url, kind, shown) in [
            ("http://h", ProxyKind::Http, "h:80"),
            ("HTTPS://h/", ProxyKind::Http, "h:443"),
            ("socks5://[::1]", ProxyKind::Socks5, "[::1]:1080"),
            ("socks5h://h:9", ProxyKind::Socks5, "h:9"),
        ] {
            let proxy = read(&format!("url: \"{url}\"")).unwrap();
            assert_eq!((proxy.kind, proxy.to_string().as_str()), (kind, shown));
        }
        assert_eq!(read(""), None);
    }

    #[test]
    fn credentials() {
        for (text, user, password) in [
            ("url: \"http://a:b%40@h\"", "a", "b@"),
            ("url: \"http://a:b@h\", username: c, password: d", "c", "d"),
            ("url: \"http://h\", USERNAME: c, Password: d", "c", "d"),
            ("url: \"http://a@h\", password: d", "a", "d"),
        ] {
            let (name, secret) = read(text).unwrap().credentials.unwrap();
            assert_eq!((name.as_str(), secret.reveal()), (user, password), "{text}");
        }
        let plain = read("url: \"http://h\", timeout: \"0s\"").unwrap();
        assert_eq!((plain.credentials, plain.timeout), (None, None));
        let proxy = read("url: \"http://u:S3CRET@h\", timeout: \"3s\"").unwrap();
        assert_eq!(proxy.timeout, Some(Duration::from_secs(3)));
        assert!(!format!("{proxy} {proxy:?}").contains("S3CRET"));
    }

    #[test]
    fn exceptions() {
        for text in [
            "\" a.example, 10.0.0.0/8 ,,[::1]:80,*\"",
            "[\"a.example\", \"10.0.0.0/8,[::1]:80\", \"*\"]",
        ] {
            let proxy = read(&format!("url: \"http://h\", no_proxy: {text}"));
            let wanted = ["a.example", "10.0.0.0/8", "[::1]:80", "*"];
            assert_eq!(proxy.unwrap().except, wanted);
        }
        for text in [
            ".a",
            "*.a",
            "a:1",
            "::1",
            "10.1.2.3",
            "fd00::/8",
            "10.0.0.0/8:1",
            "a_b",
            "[::1]",
        ] {
            assert!(is_exception(text), "{text}");
        }
        for text in [
            "10.0.0.0/33",
            "a/8",
            "a:b",
            "a:99999",
            "http://h",
            "a b",
            ".",
            "*.",
            "10.0.0.0/+8",
            "[a]",
            "[::1",
            "a*",
            ":1",
        ] {
            assert!(!is_exception(text), "{text}");
        }
    }
}
