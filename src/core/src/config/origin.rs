//! Web origins: where a page comes from that opens a WebSocket, and who may.
//!
//! An origin is compared part by part; a port that is not written is the scheme's.

use std::fmt;

use super::units::quote;

/// Scheme, host and port of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: WebScheme,
    /// In lower case, IPv6 without brackets.
    host: String,
    /// As it is written: `01` is not `1`.
    port: String,
}

/// The schemes an origin may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebScheme {
    /// `http`.
    Http,
    /// `https`.
    Https,
}

/// Why a text is no origin. `Display` is what the check at the start says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginError(String);

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OriginError {}

impl Origin {
    /// Parses `http[s]://host[:port]`. What follows the host, and a user before it, do not count.
    pub fn parse(text: &str) -> Result<Origin, OriginError> {
        let malformed = |why: &str| {
            let shown = quote(text);
            OriginError(format!(
                "unable to parse allowed origin: parse {shown}: {why}"
            ))
        };
        let refused = |why: &str| {
            let shown = quote(text);
            OriginError(format!("unable to parse allowed origin {shown}: {why}"))
        };
        if text.is_empty() {
            return Err(malformed("empty url"));
        }
        if text.chars().any(char::is_control) {
            return Err(malformed("invalid control character in URL"));
        }
        let scheme = text.split_once(':').filter(|(scheme, _)| {
            let mut letters = scheme.bytes();
            letters.next().is_some_and(|b| b.is_ascii_alphabetic())
                && letters.all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        });
        let Some((scheme, rest)) = scheme else {
            return Err(if text == "*" || text.starts_with('/') {
                refused(ABSOLUTE)
            } else {
                malformed("invalid URI for request")
            });
        };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => WebScheme::Http,
            "https" => WebScheme::Https,
            _ => return Err(refused(ABSOLUTE)),
        };
        let authority = rest.strip_prefix("//").unwrap_or_default();
        let end = authority.find(['/', '?', '#']).unwrap_or(authority.len());
        let (authority, _) = authority.split_at(end);
        let authority = authority.rsplit_once('@').map_or(authority, |(_, it)| it);
        if authority.is_empty() {
            return Err(refused("host is required"));
        }
        if let Some(bad) = authority.chars().find(|c| " \"<>\\^`{|}%".contains(*c)) {
            return Err(malformed(&format!(
                "invalid character {} in host name",
                quote(&bad.to_string())
            )));
        }
        if authority.starts_with('[') && !authority.contains(']') {
            return Err(malformed("missing ']' in host"));
        }
        let (host, port) = host_and_port(authority, scheme);
        if host.is_empty() {
            return Err(refused("host is required"));
        }
        if !port.bytes().all(|b| b.is_ascii_digit()) || host.contains(['[', ']']) {
            return Err(malformed(&format!(
                "invalid port {} after host",
                quote(&format!(":{port}"))
            )));
        }
        Ok(Origin { scheme, host, port })
    }

    /// The origin of a page that a server at this address has sent. `host` is that of a request's
    /// `Host` header.
    pub fn of_server(scheme: WebScheme, host: &str) -> Origin {
        let (host, port) = host_and_port(host, scheme);
        Origin { scheme, host, port }
    }
}

const ABSOLUTE: &str = "allowed origins must be absolute URLs with http or https scheme";

fn host_and_port(text: &str, scheme: WebScheme) -> (String, String) {
    let default = match scheme {
        WebScheme::Http => "80",
        WebScheme::Https => "443",
    };
    let bracketed = text.strip_prefix('[').and_then(|it| it.split_once(']'));
    let (host, port) = match bracketed {
        Some((host, "")) => (host, default),
        Some((host, tail)) => (host, tail.strip_prefix(':').unwrap_or(tail)),
        None => text.rsplit_once(':').unwrap_or((text, default)),
    };
    (host.to_lowercase(), port.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As nats-server 2.15.1 compares them.
    #[test]
    fn a_page_comes_from_the_server_or_not() {
        use WebScheme::{Http, Https};
        for (origin, scheme, host, same) in [
            ("http://h:1", Http, "h:1", true),
            ("http://H:1", Http, "h:1", true),
            ("HTTP://h:1", Http, "H:1", true),
            ("https://h:1", Http, "h:1", false),
            ("http://h:1", Https, "h:1", false),
            ("https://h:1", Https, "h:1", true),
            ("http://h", Http, "h:1", false),
            ("http://h", Http, "h:80", true),
            ("http://h", Http, "h", true),
            ("http://h:80", Http, "h", true),
            ("https://h", Https, "h:443", true),
            ("https://h:443", Https, "h", true),
            ("http://g:1", Http, "h:1", false),
            ("http://h:1/x?y", Http, "h:1", true),
            ("http://u@h:1", Http, "h:1", true),
            ("http://h:01", Http, "h:1", false),
            ("http://h:", Http, "h:80", false),
            ("http://[::1]:5", Http, "[::1]:5", true),
            ("http://[::1]", Http, "[::1]", true),
            // There they differ, for want of a look at the brackets.
            ("http://[::1]:80", Http, "[::1]", true),
        ] {
            let parsed = Origin::parse(origin).unwrap();
            let server = Origin::of_server(scheme, host);
            assert_eq!(parsed == server, same, "{origin} {host}");
        }
    }

    /// As nats-server 2.15.1 prints them.
    #[test]
    fn texts() {
        let scheme = "allowed origins must be absolute URLs with http or https scheme";
        for (text, wanted) in [
            ("", ": parse \"\": empty url".to_string()),
            ("foo", ": parse \"foo\": invalid URI for request".into()),
            (
                "1http://x",
                ": parse \"1http://x\": invalid URI for request".into(),
            ),
            ("*", format!(" \"*\": {scheme}")),
            ("/foo", format!(" \"/foo\": {scheme}")),
            ("h:1", format!(" \"h:1\": {scheme}")),
            ("ftp://x", format!(" \"ftp://x\": {scheme}")),
            ("http://", " \"http://\": host is required".into()),
            ("http:/x", " \"http:/x\": host is required".into()),
            (
                "http://[::1",
                ": parse \"http://[::1\": missing ']' in host".into(),
            ),
            (
                "http://x:abc",
                ": parse \"http://x:abc\": invalid port \":abc\" after host".into(),
            ),
            (
                "http://x y",
                ": parse \"http://x y\": invalid character \" \" in host name".into(),
            ),
        ] {
            let error = Origin::parse(text).unwrap_err().to_string();
            assert_eq!(error, format!("unable to parse allowed origin{wanted}"));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_an_origin_or_not(text in "(https?:/{0,3})?[a-zA-Z0-9:@/?#.%\\[\\] *-]{0,12}") {
            if let Ok(origin) = Origin::parse(&text) {
                prop_assert!(!origin.host.is_empty());
                prop_assert_eq!(origin.host.to_lowercase(), origin.host.clone());
                prop_assert!(origin.port.bytes().all(|b| b.is_ascii_digit()));
            }
            let _ = Origin::of_server(WebScheme::Http, &text);
        }
    }
}
