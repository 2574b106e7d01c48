//! The upgrade of a connection from HTTP: the request, and whether the answer accepts it.

use tungstenite::handshake::client::{self, Response};
use tungstenite::handshake::derive_accept_key;
use tungstenite::handshake::machine::TryParse;
use tungstenite::http;
use tungstenite::http::header::{
    CONNECTION, HeaderMap, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};

use super::WsError;

/// The most bytes that the head of an answer may have.
pub const MAX_HEAD: usize = 16 << 10;

pub(super) const DEFLATE: &str = "permessage-deflate";
pub(super) const SERVER_NO_TAKEOVER: &str = "server_no_context_takeover";
pub(super) const CLIENT_NO_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_WINDOW: &str = "server_max_window_bits";
const NO_MASKING: HeaderName = HeaderName::from_static("nats-no-masking");

/// The last segment of a path by which a hub tells leafs from clients.
const LEAF: &str = "leafnode";

/// What to ask the hub for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Compress messages (`ws_compression`).
    pub compression: bool,
    /// Do not mask what is sent (`ws_no_masking`).
    pub no_masking: bool,
}

/// What the hub has agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Messages may be compressed, each for itself.
    pub deflate: bool,
    /// What we send has to be masked.
    pub masking: bool,
}

/// A request to upgrade a connection, waiting for its answer.
#[derive(Debug)]
pub struct Request {
    bytes: Vec<u8>,
    accept: String,
    options: Options,
}

/// A new key for a request, from the system's random source.
pub fn key() -> String {
    client::generate_key()
}

/// The path to ask for, given the path of a URL: its last segment is `leafnode`.
pub fn leaf_path(path: &str) -> String {
    let (path, query) = match path.find('?') {
        Some(at) => path.split_at(at),
        None => (path, ""),
    };
    let path = path.trim_end_matches('/');
    let root = if path.starts_with('/') || path.is_empty() {
        ""
    } else {
        "/"
    };
    let (_, last) = path.rsplit_once('/').unwrap_or(("", path));
    if last == LEAF {
        format!("{root}{path}{query}")
    } else {
        format!("{root}{path}/{LEAF}{query}")
    }
}

impl Request {
    /// A request for `path` of `host`, which is `host:port` as it stands in the URL. `key` is a
    /// new [`key`] for each connection.
    pub fn new(
        host: &str,
        path: &str,
        user_agent: &str,
        options: Options,
        key: &str,
    ) -> Result<Request, WsError> {
        let mut request = http::Request::builder()
            .uri(path)
            .header("Host", host)
            .header("User-Agent", user_agent)
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", key);
        if options.compression {
            let offer = format!("{DEFLATE}; {SERVER_NO_TAKEOVER}; {CLIENT_NO_TAKEOVER}");
            request = request.header(SEC_WEBSOCKET_EXTENSIONS, offer);
        }
        if options.no_masking {
            request = request.header(NO_MASKING, "true");
        }
        let request = request.body(()).map_err(|_| WsError::Address)?;
        let (bytes, key) = client::generate_request(request).map_err(|_| WsError::Address)?;
        Ok(Request {
            bytes,
            accept: derive_accept_key(key.as_bytes()),
            options,
        })
    }

    /// What to send.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether all that was received so far accepts the request: what was agreed on, and how many
    /// bytes the answer has, as frames may follow right behind it. `None` is not enough yet, which
    /// ends at [`MAX_HEAD`] bytes.
    pub fn check(&self, received: &[u8]) -> Result<Option<(Accepted, usize)>, WsError> {
        if !begins_with(received, b"HTTP/1.")? {
            return Ok(None);
        }
        let bounded = &received[..received.len().min(MAX_HEAD)];
        let Some(end) = head_end(bounded) else {
            return if bounded.len() < MAX_HEAD {
                Ok(None)
            } else {
                Err(WsError::HeadTooLong)
            };
        };
        let head = &bounded[..end];
        let code = status_code(head).ok_or(WsError::MalformedHead)?;
        if code != 101 {
            return Err(WsError::Status(code));
        }
        match Response::try_parse(head) {
            Ok(Some((_, response))) => Ok(Some((self.agree(response.headers())?, end))),
            _ => Err(WsError::MalformedHead),
        }
    }

    fn agree(&self, headers: &HeaderMap) -> Result<Accepted, WsError> {
        if !tokens(headers, UPGRADE).any(|token| token.eq_ignore_ascii_case("websocket")) {
            return Err(WsError::NotUpgraded("Upgrade"));
        }
        if !tokens(headers, CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade")) {
            return Err(WsError::NotUpgraded("Connection"));
        }
        if !headers.contains_key(SEC_WEBSOCKET_ACCEPT) {
            return Err(WsError::NotUpgraded("Sec-WebSocket-Accept"));
        }
        if !headers
            .get_all(SEC_WEBSOCKET_ACCEPT)
            .iter()
            .all(|value| value.as_bytes() == self.accept.as_bytes())
        {
            return Err(WsError::WrongAccept);
        }
        if headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
            return Err(WsError::Subprotocol);
        }
        let unmasked = self.options.no_masking
            && tokens(headers, NO_MASKING).any(|token| token.eq_ignore_ascii_case("true"));
        Ok(Accepted {
            deflate: self.deflate(headers)?,
            masking: !unmasked,
        })
    }

    fn deflate(&self, headers: &HeaderMap) -> Result<bool, WsError> {
        // A value that is no text is no token either, but it is an extension of some kind.
        let unreadable = |value: &http::HeaderValue| value.to_str().is_err();
        if headers
            .get_all(SEC_WEBSOCKET_EXTENSIONS)
            .iter()
            .any(unreadable)
        {
            return Err(WsError::Extension);
        }
        let mut extensions = tokens(headers, SEC_WEBSOCKET_EXTENSIONS);
        let Some(extension) = extensions.next() else {
            return Ok(false);
        };
        if extensions.next().is_some() || !self.options.compression {
            return Err(WsError::Extension);
        }
        let mut parts = extension.split(';').map(str::trim);
        if !parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case(DEFLATE))
        {
            return Err(WsError::Extension);
        }
        let (mut server, mut client, mut window) = (0, 0, 0);
        for part in parts {
            if part.eq_ignore_ascii_case(SERVER_NO_TAKEOVER) {
                server += 1;
            } else if part.eq_ignore_ascii_case(CLIENT_NO_TAKEOVER) {
                client += 1;
            } else if is_server_window(part) {
                // The hub uses a smaller window than it may: nothing to do for us.
                window += 1;
            } else {
                return Err(WsError::Extension);
            }
        }
        if server > 1 || client > 1 || window > 1 {
            return Err(WsError::Extension);
        }
        if server == 0 || client == 0 {
            return Err(WsError::ContextTakeover);
        }
        Ok(true)
    }
}

/// Whether HTTP has begun; not yet if there are too few bytes to tell.
fn begins_with(received: &[u8], http: &[u8]) -> Result<bool, WsError> {
    const OTHERS: [(&[u8], WsError); 2] = [
        (b"INFO ", WsError::Nats),
        // A TLS record that holds an alert.
        (&[0x15, 0x03], WsError::Tls),
    ];
    if received.starts_with(http) {
        return Ok(true);
    }
    for (start, error) in OTHERS {
        if received.starts_with(start) {
            return Err(error);
        }
        if start.starts_with(received) {
            return Ok(false);
        }
    }
    if http.starts_with(received) {
        return Ok(false);
    }
    Err(WsError::NotHttp)
}

/// Where the head of an HTTP message ends: behind its first empty line.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    head_end_behind(bytes, 0)
}

/// The same, where there was no end among the first `seen` bytes.
pub(super) fn head_end_behind(bytes: &[u8], seen: usize) -> Option<usize> {
    let mut at = seen.saturating_sub(2);
    while let Some(next) = bytes.get(at..)?.iter().position(|byte| *byte == b'\n') {
        at += next + 1;
        match bytes.get(at..)? {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// The status of a head that begins with `HTTP/1.`.
pub(crate) fn status_code(head: &[u8]) -> Option<u16> {
    let [_, b' ', hundreds, tens, ones, b' ' | b'\r' | b'\n', ..] = head.get(7..)? else {
        return None;
    };
    let digits = [*hundreds, *tens, *ones];
    let code = std::str::from_utf8(&digits).ok()?.parse().ok()?;
    (100..=999).contains(&code).then_some(code)
}

/// The members of all lists under this name.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

fn is_server_window(parameter: &str) -> bool {
    let Some((name, bits)) = parameter.split_once('=') else {
        return false;
    };
    let bits = bits.trim().trim_matches('"').parse::<u8>();
    name.trim().eq_ignore_ascii_case(SERVER_WINDOW)
        && bits.is_ok_and(|bits| (8..=15).contains(&bits))
}
