//! The upgrade of a connection from HTTP, by the one who accepted it: which requests are taken, the
//! answer to each, and what a request says about its sender.
//!
//! Answers with the statuses of nats-server. One request per connection: after an error it is closed.

use std::fmt;
use std::io;
use std::net::IpAddr;

use petiole_core::config::model::{CookieNames, Limits, Secret, WebsocketListener};
use petiole_core::config::{Origin, WebScheme};
use petiole_core::link::websocket::Cookies;
use tungstenite::handshake::derive_accept_key;

use super::upgrade::{CLIENT_NO_TAKEOVER, DEFLATE, SERVER_NO_TAKEOVER, head_end_behind};
use super::{Accepted, MAX_HEAD, status};
use crate::framing::Framing;
use crate::transport::Transport;

/// The most headers that a request may have.
const MAX_HEADERS: usize = 128;

/// What one message may at least carry. They are streamed, so it bounds the time that few bytes on the
/// wire can cost; clients that were cut off send at once what they have gathered.
const LARGE_MESSAGE: u64 = 64 << 20;

/// The first byte of a TLS record that opens a connection.
const TLS_HANDSHAKE: u8 = 0x16;

/// How HTTP begins that is sent in clear where TLS is due, as far as nats-server looks.
const CLEAR_STARTS: [&[u8]; 5] = [b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO"];

/// What such HTTP is answered: the words of every Go server.
const CLEAR_ANSWER: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// How requests are judged.
#[derive(Clone, Debug)]
pub struct Upgrades {
    same_origin: bool,
    origins: Vec<Origin>,
    compression: bool,
    cookies: CookieNames,
    /// Lines to be added to an answer.
    headers: String,
    max_message: u64,
}

/// A request that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgraded {
    /// Who it is.
    pub kind: Kind,
    /// How the frames are.
    pub accepted: Accepted,
    /// Values of the cookies that the configuration names.
    pub cookies: Cookies,
    /// `X-Forwarded-For`, if it is one address. Anybody can send that: fit for a log line.
    pub forwarded_for: Option<IpAddr>,
}

/// What a path says about who asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A client.
    Client,
    /// A leaf: the path ends with `/leafnode`.
    Leaf,
}

/// A request that was taken, and what to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The request.
    pub upgraded: Upgraded,
    /// What to send.
    pub bytes: Vec<u8>,
    /// How many bytes the request has: frames may follow right behind it.
    pub used: usize,
}

/// Why a request is not taken. `Display` is fit for a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// TLS, where HTTP in clear was due.
    Tls,
    /// HTTP in clear, where TLS was due.
    Clear,
    /// Neither TLS, which was due, nor HTTP.
    NotTls,
    /// No HTTP.
    NotHttp,
    /// HTTP of another version.
    Version,
    /// The request has no end within [`MAX_HEAD`] bytes, or too many headers.
    HeadTooLong,
    /// Not GET.
    Method,
    /// This header is missing or says something else.
    Header(&'static str),
    /// The key has not 16 bytes in base64.
    Key,
    /// Not version 13.
    WebsocketVersion,
    /// The request has a body, which would be taken for frames.
    Body,
    /// The page comes from another host, port or scheme than it connects to.
    OtherOrigin,
    /// The page comes from where none may come from.
    OriginNotAllowed,
    /// The path is that of MQTT.
    Mqtt,
}

/// Turns away who does not begin with TLS where it is due; HTTP in clear is answered. Has no deadline
/// of its own.
pub async fn turn_away_in_clear(transport: &mut Transport) -> UpgradeError {
    let mut received = Vec::new();
    let mut chunk = [0; 4096];
    while received.len() < CLEAR_STARTS[0].len() {
        match transport.receive(&mut chunk).await {
            Ok(0) => return UpgradeError::Left,
            Ok(count) => received.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) => return UpgradeError::Io(error),
        }
    }
    let is_http = CLEAR_STARTS.iter().any(|start| received.starts_with(start));
    let refusal = if is_http {
        Refusal::Clear
    } else {
        Refusal::NotTls
    };
    refuse(transport, refusal).await
}

async fn refuse(transport: &mut Transport, refusal: Refusal) -> UpgradeError {
    // Whoever does not take it has given up before us.
    let _ = transport.send(&refusal.answer()).await;
    let _ = transport.end().await;
    UpgradeError::Refused(refusal)
}

/// Why a connection was not upgraded.
#[derive(Debug)]
pub enum UpgradeError {
    /// It ended before there was a whole request.
    Left,
    /// It broke.
    Io(io::Error),
    /// The request was answered with an error.
    Refused(Refusal),
}

impl Upgrades {
    /// For a listener of a checked configuration: origins that are none are left out.
    pub fn new(listener: &WebsocketListener, limits: &Limits) -> Self {
        let origins = listener.allowed_origins.iter();
        let headers = listener.headers.iter();
        let payload = u64::try_from(limits.max_payload).unwrap_or(u64::MAX);
        Upgrades {
            same_origin: listener.same_origin,
            origins: origins.filter_map(|it| Origin::parse(it).ok()).collect(),
            compression: listener.compression,
            cookies: listener.cookies.clone(),
            headers: headers
                .map(|(name, value)| format!("{name}: {value}\r\n"))
                .collect(),
            max_message: LARGE_MESSAGE.max(payload.saturating_mul(2)),
        }
    }

    /// Waits for a request and answers it; from then on the transport carries what is within frames.
    /// Has no deadline of its own: whoever waits too long drops it, and the transport with it.
    pub async fn upgrade(&self, transport: &mut Transport) -> Result<Upgraded, UpgradeError> {
        let scheme = transport.web_scheme();
        let mut received = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let count = transport.receive(&mut chunk).await?;
            if count == 0 {
                return Err(UpgradeError::Left);
            }
            let seen = received.len();
            received.extend_from_slice(chunk.get(..count).unwrap_or_default());
            match self.look(&received, seen, scheme) {
                Ok(None) => {}
                Ok(Some(answer)) => {
                    transport.send(&answer.bytes).await?;
                    let unread = received.split_off(answer.used);
                    let Upgraded { accepted, .. } = answer.upgraded;
                    let framing = Framing::accepted_websocket(accepted, self.max_message, unread);
                    transport.frame(framing);
                    return Ok(answer.upgraded);
                }
                Err(refusal) => return Err(refuse(transport, refusal).await),
            }
        }
    }

    /// Whether all that was received so far is a request to be taken. `scheme` is how the connection is
    /// carried. `None` is not enough yet, which ends at [`MAX_HEAD`] bytes.
    pub fn check(&self, received: &[u8], scheme: WebScheme) -> Result<Option<Answer>, Refusal> {
        self.look(received, 0, scheme)
    }

    /// The same, where `seen` bytes were not enough before.
    fn look(
        &self,
        received: &[u8],
        seen: usize,
        scheme: WebScheme,
    ) -> Result<Option<Answer>, Refusal> {
        match received.first() {
            None => return Ok(None),
            Some(first) if first.is_ascii_alphabetic() => {}
            Some(&TLS_HANDSHAKE) => return Err(Refusal::Tls),
            Some(_) => return Err(Refusal::NotHttp),
        }
        let bounded = received.get(..MAX_HEAD).unwrap_or(received);
        match head_end_behind(bounded, seen) {
            Some(used) => {
                let head = bounded.get(..used).unwrap_or_default();
                self.judge(head, scheme).map(Some)
            }
            None if bounded.len() < MAX_HEAD => Ok(None),
            None => Err(Refusal::HeadTooLong),
        }
    }

    fn judge(&self, bytes: &[u8], scheme: WebScheme) -> Result<Answer, Refusal> {
        let head = Head::parse(bytes)?;
        let target = head.target;
        if head.method != "GET" {
            return Err(Refusal::Method);
        }
        if target.host.is_empty() {
            return Err(Refusal::Header("Host"));
        }
        if !head.lists("Upgrade", "websocket") {
            return Err(Refusal::Header("Upgrade"));
        }
        if !head.lists("Connection", "upgrade") {
            return Err(Refusal::Header("Connection"));
        }
        let key = head.first("Sec-WebSocket-Key").unwrap_or_default();
        if key.is_empty() {
            return Err(Refusal::Header("Sec-WebSocket-Key"));
        }
        if head.first("Sec-WebSocket-Version") != Some("13") {
            return Err(Refusal::WebsocketVersion);
        }
        if !is_key(key) {
            return Err(Refusal::Key);
        }
        self.judge_origin(&head, scheme)?;
        let kind = if target.path.ends_with("/leafnode") {
            Kind::Leaf
        } else if target.path.ends_with("/mqtt") {
            return Err(Refusal::Mqtt);
        } else {
            Kind::Client
        };
        let has_length = head.values("Content-Length").any(|length| length != "0");
        if has_length || head.first("Transfer-Encoding").is_some() {
            return Err(Refusal::Body);
        }
        let accepted = Accepted {
            deflate: self.compression && head.offers_deflate(),
            masking: head.first("Nats-No-Masking") != Some("true"),
        };
        let forwarded_for = head.first("X-Forwarded-For");
        Ok(Answer {
            bytes: self.answer(key, accepted),
            upgraded: Upgraded {
                kind,
                accepted,
                cookies: self.cookies(&head),
                forwarded_for: forwarded_for.and_then(|text| text.parse().ok()),
            },
            used: bytes.len(),
        })
    }

    /// Only browsers say where a page comes from; who says nothing is no page.
    fn judge_origin(&self, head: &Head<'_>, scheme: WebScheme) -> Result<(), Refusal> {
        if !self.same_origin && self.origins.is_empty() {
            return Ok(());
        }
        let given = |name| head.first_bytes(name).filter(|value| !value.is_empty());
        // The latter is that of browsers before the standard.
        let Some(origin) = given("Origin").or_else(|| given("Sec-WebSocket-Origin")) else {
            return Ok(());
        };
        let origin = std::str::from_utf8(origin).ok();
        let origin = origin.and_then(|text| Origin::parse(text).ok());
        let own = Origin::of_server(scheme, head.target.host);
        if self.same_origin && origin.as_ref() != Some(&own) {
            return Err(Refusal::OtherOrigin);
        }
        let is_allowed = || origin.is_some_and(|origin| self.origins.contains(&origin));
        if !self.origins.is_empty() && !is_allowed() {
            return Err(Refusal::OriginNotAllowed);
        }
        Ok(())
    }

    fn cookies(&self, head: &Head<'_>) -> Cookies {
        let mut cookies = Cookies::default();
        let names = &self.cookies;
        let is = |wanted: &Option<String>, name: &str| wanted.as_deref() == Some(name);
        // Of several with one name the last counts.
        for (name, value) in head.cookies() {
            if is(&names.jwt, name) {
                cookies.jwt = Some(Secret::new(value));
            }
            if is(&names.user, name) {
                cookies.user = Some(value.to_string());
            }
            if is(&names.pass, name) {
                cookies.pass = Some(Secret::new(value));
            }
            if is(&names.token, name) {
                cookies.token = Some(Secret::new(value));
            }
        }
        cookies
    }

    fn answer(&self, key: &str, accepted: Accepted) -> Vec<u8> {
        let accept = derive_accept_key(key.as_bytes());
        let mut answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\n\
             Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n"
        );
        if accepted.deflate {
            answer.push_str(&format!(
                "Sec-WebSocket-Extensions: {DEFLATE}; {SERVER_NO_TAKEOVER}; {CLIENT_NO_TAKEOVER}\r\n"
            ));
        }
        if !accepted.masking {
            answer.push_str("Nats-No-Masking: true\r\n");
        }
        answer.push_str(&self.headers);
        answer.push_str("\r\n");
        answer.into_bytes()
    }
}

impl Refusal {
    /// The status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Refusal::Method => 405,
            Refusal::OtherOrigin | Refusal::OriginNotAllowed => 403,
            Refusal::Mqtt => 404,
            Refusal::HeadTooLong => 431,
            Refusal::Version => 505,
            Refusal::Tls
            | Refusal::Clear
            | Refusal::NotTls
            | Refusal::NotHttp
            | Refusal::Header(_)
            | Refusal::Key
            | Refusal::WebsocketVersion
            | Refusal::Body => 400,
        }
    }

    /// What to send before the connection is closed; nothing to who would not understand it.
    pub fn answer(&self) -> Vec<u8> {
        match self {
            Refusal::Clear => return CLEAR_ANSWER.to_vec(),
            Refusal::NotTls => return Vec::new(),
            _ => {}
        }
        let status = status(self.status());
        let (_, text) = status.split_once(' ').unwrap_or(("", &status));
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Sec-WebSocket-Version: 13\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{text}\n",
            text.len() + 1
        )
        .into_bytes()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Tls => f.write_str(
                "it began with TLS, and the listener is in clear: use ws:// instead of wss://, or \
                 give the websocket block a tls block",
            ),
            Refusal::Clear => f.write_str(
                "it sent HTTP in clear, and the listener is under TLS: use wss:// instead of ws://",
            ),
            Refusal::NotTls => f.write_str("it sent neither TLS nor HTTP"),
            Refusal::NotHttp => f.write_str("it sent no HTTP request"),
            Refusal::Version => f.write_str("its request is not of HTTP 1"),
            Refusal::HeadTooLong => write!(
                f,
                "its request has more than {MAX_HEAD} bytes or {MAX_HEADERS} headers"
            ),
            Refusal::Method => f.write_str("its request is not GET"),
            Refusal::Header(name) => write!(
                f,
                "its request lacks a proper `{name}` header: does a proxy in between take it away?"
            ),
            Refusal::Key => f.write_str("its `Sec-WebSocket-Key` has not 16 bytes in base64"),
            Refusal::WebsocketVersion => f.write_str("its `Sec-WebSocket-Version` is not 13"),
            Refusal::Body => f.write_str("its request has a body"),
            Refusal::OtherOrigin => f.write_str(
                "origin not allowed: same_origin is set, and the page is not from the host and port \
                 it connects to",
            ),
            Refusal::OriginNotAllowed => {
                f.write_str("origin not allowed: it is none of allowed_origins")
            }
            Refusal::Mqtt => f.write_str("it asked for MQTT, which is not served"),
        }
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpgradeError::Left => f.write_str("it left before there was a whole request"),
            UpgradeError::Io(error) => error.fmt(f),
            UpgradeError::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl std::error::Error for UpgradeError {}

impl From<io::Error> for UpgradeError {
    fn from(error: io::Error) -> Self {
        UpgradeError::Io(error)
    }
}

/// The head of a request. Values that are no ASCII are only there as bytes.
struct Head<'a> {
    method: &'a str,
    target: Target<'a>,
    headers: Vec<(&'a str, &'a [u8])>,
}

/// What a request is for.
#[derive(Clone, Copy)]
struct Target<'a> {
    host: &'a str,
    /// Without the query, and as it was sent.
    path: &'a str,
}

impl<'a> Head<'a> {
    fn parse(head: &'a [u8]) -> Result<Self, Refusal> {
        let mut lines = head.split(|byte| *byte == b'\n').map(|line| match line {
            [line @ .., b'\r'] => line,
            line => line,
        });
        let (method, target) = request_line(lines.next().unwrap_or_default())?;
        let mut headers = Vec::new();
        for line in lines.take_while(|line| !line.is_empty()) {
            if headers.len() == MAX_HEADERS {
                return Err(Refusal::HeadTooLong);
            }
            headers.push(header(line).ok_or(Refusal::NotHttp)?);
        }
        let mut head = Head {
            method,
            target: Target { host: "", path: "" },
            headers,
        };
        let mut hosts = head.all("Host");
        let host = hosts.next().ok_or(Refusal::Header("Host"))?;
        if hosts.next().is_some() {
            return Err(Refusal::NotHttp);
        }
        let host = text(host).ok_or(Refusal::NotHttp)?;
        drop(hosts);
        head.target = Target::parse(target, host).ok_or(Refusal::NotHttp)?;
        Ok(head)
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let named = self.headers.iter();
        named
            .filter(move |(it, _)| it.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.all(name).filter_map(text)
    }

    fn first_bytes(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    fn first(&self, name: &str) -> Option<&'a str> {
        self.first_bytes(name).and_then(text)
    }

    /// Whether a word is a member of any of the lists under this name.
    fn lists(&self, name: &str, word: &str) -> bool {
        let mut members = self.values(name).flat_map(|value| value.split(','));
        members.any(|member| member.trim().eq_ignore_ascii_case(word))
    }

    /// Whether it offers permessage-deflate in a way that can be agreed to by asking both sides for
    /// no context takeover (RFC 7692, section 7).
    fn offers_deflate(&self) -> bool {
        let mut offers = self
            .values("Sec-WebSocket-Extensions")
            .flat_map(|value| value.split(','));
        offers.any(|offer| {
            let mut parts = offer.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            name.eq_ignore_ascii_case(DEFLATE) && parts.all(is_acceptable)
        })
    }

    /// The cookies, in order (RFC 6265, section 4.2, as Go reads it).
    fn cookies(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let pairs = self.all("Cookie").flat_map(|it| it.split(|b| *b == b';'));
        pairs.filter_map(|pair| {
            let (name, value) = text(pair)?.trim().split_once('=')?;
            let quoted = value.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
            let value = quoted.unwrap_or(value);
            (!value.contains(['"', '\\'])).then_some((name.trim(), value))
        })
    }
}

impl<'a> Target<'a> {
    /// A path, or a URL, whose host counts more than the header's.
    fn parse(target: &'a str, host: &'a str) -> Option<Self> {
        let (host, path) = if target.starts_with('/') {
            (host, target)
        } else {
            let (scheme, rest) = target.split_once("://")?;
            let known = ["http", "https", "ws", "wss"];
            known.iter().find(|it| it.eq_ignore_ascii_case(scheme))?;
            rest.split_at(rest.find('/').unwrap_or(rest.len()))
        };
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        Some(Target { host, path })
    }
}

fn request_line(line: &[u8]) -> Result<(&str, &str), Refusal> {
    let line = std::str::from_utf8(line).map_err(|_| Refusal::NotHttp)?;
    let mut parts = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::NotHttp);
    };
    if !is_name(method) || target.is_empty() || !target.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Refusal::NotHttp);
    }
    match version.as_bytes() {
        b"HTTP/1.1" | b"HTTP/1.0" => Ok((method, target)),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(Refusal::Version),
        _ => Err(Refusal::NotHttp),
    }
}

fn header(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = line.split_at(colon);
    let name = std::str::from_utf8(name)
        .ok()
        .filter(|name| is_name(name))?;
    let value = value.get(1..)?.trim_ascii();
    let is_text = |byte: &u8| !byte.is_ascii_control() || *byte == b'\t';
    value.iter().all(is_text).then_some((name, value))
}

/// A value that is printable ASCII.
fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok().filter(|it| it.is_ascii())
}

/// Whether it is the name of a method or a header (RFC 9110, tokens).
fn is_name(text: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(is_part)
}

/// Sixteen bytes in base64.
fn is_key(key: &str) -> bool {
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    let letters = key.strip_suffix("==");
    letters.is_some_and(|it| it.len() == 22 && it.bytes().all(is_letter))
}

/// Whether a parameter of an offer of permessage-deflate asks for nothing that we do not do. We
/// compress with the largest window there is.
fn is_acceptable(parameter: &str) -> bool {
    let (name, value) = match parameter.split_once('=') {
        Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
        None => (parameter, None),
    };
    let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
    match value {
        None => is(SERVER_NO_TAKEOVER) || is(CLIENT_NO_TAKEOVER) || is("client_max_window_bits"),
        Some("15") => is("client_max_window_bits") || is("server_max_window_bits"),
        Some(bits) => {
            is("client_max_window_bits") && bits.parse::<u8>().is_ok_and(|n| (8..=15).contains(&n))
        }
    }
}

#[cfg(test)]
mod tests;
