//! The way through a proxy: HTTP CONNECT, and SOCKS5 (RFC 1928, RFC 1929). The client's side, over
//! any stream; afterwards the stream is a tunnel, and not one byte of the tunnel has been read.
//!
//! Opens no connection and knows no time: the caller connects to the proxy and bounds the wait. No
//! error and no `Debug` shows a user or a password.

use std::fmt;
use std::io;
use std::net::IpAddr;

use data_encoding::BASE64;
use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::errno;
use crate::ws;

/// The most bytes that the head of an HTTP answer may have.
const MAX_HEAD: usize = 16 << 10;

/// What a proxy asks for.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// The user.
    pub user: &'a str,
    /// The password.
    pub password: &'a str,
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// Why there is no tunnel.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProxyError {
    /// The host cannot be named to a proxy.
    Target,
    /// User or password cannot be said in the proxy's protocol.
    Unspeakable,
    /// The connection to the proxy broke.
    Io(io::Error),
    /// The proxy closed the connection.
    Closed,
    /// The answer is no HTTP.
    NotHttp,
    /// The answer has no end within 16 KiB, or has no status.
    MalformedHead,
    /// The proxy wants a user and password, and none is configured.
    CredentialsDemanded,
    /// The proxy does not take the user and password.
    CredentialsRefused,
    /// The HTTP proxy does not give a tunnel.
    Status(u16),
    /// The answer is no SOCKS5.
    NotSocks,
    /// An HTTP server answers to SOCKS5.
    HttpNotSocks,
    /// The proxy wants a way to log in that was not offered.
    Method(u8),
    /// The SOCKS5 proxy does not give a tunnel.
    Reply(u8),
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxyError::Target => f.write_str(
                "the hub's host cannot be named to a proxy: it is empty, too long, or holds \
                 characters that no host has",
            ),
            ProxyError::Unspeakable => f.write_str(
                "the user or the password cannot be sent to the proxy: over HTTP the user holds no \
                 colon, over SOCKS5 each has 1 to 255 bytes",
            ),
            ProxyError::Io(cause) => {
                write!(f, "the connection to the proxy broke: {}", errno::words(cause))
            }
            ProxyError::Closed => f.write_str(
                "the proxy closed the connection: is it a proxy of this kind that listens at this \
                 address, and does it serve this host?",
            ),
            ProxyError::NotHttp => f.write_str(
                "the answer is not HTTP: is it an HTTP proxy that listens at this address?",
            ),
            ProxyError::MalformedHead => f.write_str(
                "the answer is damaged: is it an HTTP proxy that listens at this address?",
            ),
            ProxyError::CredentialsDemanded => f.write_str(
                "the proxy demands a user and password: configure them for this proxy",
            ),
            ProxyError::CredentialsRefused => f.write_str(
                "the proxy refused the user and password: correct them here, or allow the user there",
            ),
            ProxyError::Status(code) => write!(
                f,
                "the proxy answers {}: {}",
                ws::status(*code),
                status_advice(*code)
            ),
            ProxyError::NotSocks => f.write_str(
                "the answer is not SOCKS5: is it a SOCKS5 proxy that listens at this address?",
            ),
            ProxyError::HttpNotSocks => f.write_str(
                "an HTTP server answers, not a SOCKS5 proxy: use http:// in the proxy's URL, or the \
                 port of the SOCKS5 proxy",
            ),
            ProxyError::Method(method) => write!(
                f,
                "the proxy wants to be logged in to in a way that is not supported (SOCKS5 method \
                 {method}): allow user and password, or none, there"
            ),
            ProxyError::Reply(code) => {
                write!(f, "the proxy gives no tunnel: {}", reply_words(*code))
            }
        }
    }
}

impl std::error::Error for ProxyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ProxyError::Io(cause) => Some(cause),
            _ => None,
        }
    }
}

impl From<io::Error> for ProxyError {
    fn from(cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::UnexpectedEof => ProxyError::Closed,
            _ => ProxyError::Io(cause),
        }
    }
}

fn status_advice(code: u16) -> &'static str {
    match code {
        200..=299 => "only 200 is a tunnel; is it an HTTP proxy that listens at this address?",
        400 | 405 | 501 => "is it a proxy, and does it allow CONNECT?",
        403 => "allow the hub's host and port there",
        404 => "is it a proxy that listens at this address?",
        500..=599 => {
            "it does not reach the hub; is the hub running, and its name known to the proxy?"
        }
        _ => "look into the proxy's log",
    }
}

fn reply_words(code: u8) -> String {
    let words = match code {
        1 => "general failure; look into its log",
        2 => "not allowed by its rules; allow the hub's host and port there",
        3 => "network unreachable from there",
        4 => "host unreachable from there, or its name unknown",
        5 => "connection refused; is the hub running?",
        6 => "the time to live expired on the way to the hub",
        7 => "it does not support connections",
        8 => "it does not support this kind of address",
        _ => return format!("SOCKS5 error {code}"),
    };
    words.to_owned()
}

/// Asks an HTTP proxy for a tunnel to `target`, which is `host:port`.
pub async fn http_connect<S>(
    stream: &mut S,
    target: &str,
    user_agent: &str,
    credentials: Option<Credentials<'_>>,
) -> Result<(), ProxyError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if target.is_empty() || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ProxyError::Target);
    }
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if !user_agent.bytes().any(|byte| byte.is_ascii_control()) {
        request.push_str(&format!("User-Agent: {user_agent}\r\n"));
    }
    if let Some(Credentials { user, password }) = credentials {
        if user.contains(':') {
            return Err(ProxyError::Unspeakable);
        }
        let pair = BASE64.encode(format!("{user}:{password}").as_bytes());
        request.push_str(&format!("Proxy-Authorization: Basic {pair}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;

    let head = read_head(stream).await?;
    match ws::status_code(&head) {
        Some(200) => Ok(()),
        Some(407) if credentials.is_some() => Err(ProxyError::CredentialsRefused),
        Some(407) => Err(ProxyError::CredentialsDemanded),
        Some(code) => Err(ProxyError::Status(code)),
        None => Err(ProxyError::MalformedHead),
    }
}

/// Reads byte by byte: what follows the head belongs to the tunnel, and the hub speaks first.
async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, ProxyError> {
    const START: &[u8] = b"HTTP/1.";
    let mut head = Vec::new();
    while head.len() < MAX_HEAD {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        head.extend_from_slice(&byte);
        if !head.starts_with(&START[..START.len().min(head.len())]) {
            return Err(ProxyError::NotHttp);
        }
        if head.ends_with(b"\n\r\n") || head.ends_with(b"\n\n") {
            return Ok(head);
        }
    }
    Err(ProxyError::MalformedHead)
}

mod socks {
    pub(super) const VERSION: u8 = 5;
    pub(super) const NO_LOGIN: u8 = 0;
    pub(super) const PASSWORD: u8 = 2;
    pub(super) const NO_METHOD: u8 = 0xff;
    pub(super) const PASSWORD_VERSION: u8 = 1;
    pub(super) const CONNECT: u8 = 1;
    pub(super) const V4: u8 = 1;
    pub(super) const NAME: u8 = 3;
    pub(super) const V6: u8 = 4;
}

/// Asks a SOCKS5 proxy for a tunnel to `host`: a name, which the proxy looks up, or an address with
/// or without brackets.
pub async fn socks5<S>(
    stream: &mut S,
    host: &str,
    port: u16,
    credentials: Option<Credentials<'_>>,
) -> Result<(), ProxyError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = socks_request(host, port)?;
    let login = credentials.map(socks_login).transpose()?;
    let hello: &[u8] = match login {
        Some(_) => &[socks::VERSION, 2, socks::NO_LOGIN, socks::PASSWORD],
        None => &[socks::VERSION, 1, socks::NO_LOGIN],
    };
    let [version, method] = ask(stream, hello).await?;
    check_version(version)?;
    match (method, login) {
        (socks::NO_LOGIN, _) => {}
        (socks::PASSWORD, Some(login)) => {
            let [_, status] = ask(stream, &login).await?;
            if status != 0 {
                return Err(ProxyError::CredentialsRefused);
            }
        }
        (socks::PASSWORD | socks::NO_METHOD, None) => return Err(ProxyError::CredentialsDemanded),
        (other, _) => return Err(ProxyError::Method(other)),
    }
    let [version, code, _, kind] = ask(stream, &request).await?;
    check_version(version)?;
    if code != 0 {
        return Err(ProxyError::Reply(code));
    }
    skip_address(stream, kind).await
}

async fn ask<S, const N: usize>(stream: &mut S, question: &[u8]) -> Result<[u8; N], ProxyError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(question).await?;
    stream.flush().await?;
    let mut answer = [0; N];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn check_version(version: u8) -> Result<(), ProxyError> {
    match version {
        socks::VERSION => Ok(()),
        b'H' => Err(ProxyError::HttpNotSocks),
        _ => Err(ProxyError::NotSocks),
    }
}

/// The address that the proxy connects from: of no use, but it stands before the tunnel.
async fn skip_address<S: AsyncRead + Unpin>(stream: &mut S, kind: u8) -> Result<(), ProxyError> {
    let len = match kind {
        socks::V4 => 4,
        socks::V6 => 16,
        socks::NAME => {
            let mut len = [0];
            stream.read_exact(&mut len).await?;
            usize::from(len[0])
        }
        _ => return Err(ProxyError::NotSocks),
    };
    let mut rest = [0; 255 + 2];
    stream.read_exact(&mut rest[..len + 2]).await?;
    Ok(())
}

fn socks_request(host: &str, port: u16) -> Result<Vec<u8>, ProxyError> {
    let host = without_brackets(host);
    let mut request = vec![socks::VERSION, socks::CONNECT, 0];
    match host.parse() {
        Ok(IpAddr::V4(ip)) => {
            request.push(socks::V4);
            request.extend_from_slice(&ip.octets());
        }
        Ok(IpAddr::V6(ip)) => {
            request.push(socks::V6);
            request.extend_from_slice(&ip.octets());
        }
        Err(_) => {
            if !host.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(ProxyError::Target);
            }
            request.push(socks::NAME);
            push_string(&mut request, host).ok_or(ProxyError::Target)?;
        }
    }
    request.extend_from_slice(&port.to_be_bytes());
    Ok(request)
}

fn socks_login(credentials: Credentials<'_>) -> Result<Vec<u8>, ProxyError> {
    let mut login = vec![socks::PASSWORD_VERSION];
    push_string(&mut login, credentials.user).ok_or(ProxyError::Unspeakable)?;
    push_string(&mut login, credentials.password).ok_or(ProxyError::Unspeakable)?;
    Ok(login)
}

/// A string of 1 to 255 bytes behind its length.
fn push_string(to: &mut Vec<u8>, text: &str) -> Option<()> {
    let len = u8::try_from(text.len()).ok().filter(|len| *len > 0)?;
    to.push(len);
    to.extend_from_slice(text.as_bytes());
    Some(())
}

/// Whether a host is reached without the proxy, by rules as `no_proxy` has them:
///
/// | rule | excepts |
/// |---|---|
/// | `*` | every host |
/// | `example.com` | this host and all within it, as `a.example.com` |
/// | `.example.com`, `*.example.com` | all within it, but not itself |
/// | `10.1.2.3`, `::1`, `[::1]` | this address |
/// | `10.0.0.0/8`, `fd00::/8` | the addresses of this network |
///
/// A port may follow, as in `example.com:7422` or `[::1]:7422` (but not a network): then only that
/// one. Upper and lower case are the same. Rules for addresses concern hosts that are written as
/// addresses; no name is looked up. A rule that is none of these excepts nothing.
pub fn is_excepted(host: &str, port: u16, rules: &[String]) -> bool {
    let host = without_brackets(host);
    let host = host.strip_suffix('.').unwrap_or(host);
    let ip = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    rules
        .iter()
        .any(|rule| excepts(rule.trim(), host, ip, port))
}

fn excepts(rule: &str, host: &str, ip: Option<IpAddr>, port: u16) -> bool {
    if let Some((network, bits)) = rule.split_once('/') {
        return ip.is_some_and(|ip| contains(network, bits, ip));
    }
    let rule = match split_port(rule) {
        (rule, None) => rule,
        (rule, Some(digits)) if digits.parse() == Ok(port) => rule,
        _ => return false,
    };
    if rule == "*" {
        return true;
    }
    let excepted = without_brackets(rule).parse::<IpAddr>();
    match (ip, excepted) {
        (Some(ip), Ok(excepted)) => return ip == excepted.to_canonical(),
        (None, Err(_)) => {}
        _ => return false,
    }
    let (name, itself) = match rule.strip_prefix('*').unwrap_or(rule).strip_prefix('.') {
        Some(name) => (name, false),
        None => (rule, true),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() || host.len() < name.len() {
        return false;
    }
    let (before, end) = host.as_bytes().split_at(host.len() - name.len());
    end.eq_ignore_ascii_case(name.as_bytes())
        && match before.last() {
            None => itself,
            Some(byte) => *byte == b'.',
        }
}

/// The port behind a rule. The colons of an address without brackets are none.
fn split_port(rule: &str) -> (&str, Option<&str>) {
    if without_brackets(rule).parse::<IpAddr>().is_ok() {
        return (rule, None);
    }
    match rule.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (rule, None),
    }
}

fn contains(network: &str, bits: &str, ip: IpAddr) -> bool {
    let (Ok(network), Ok(bits)) = (without_brackets(network).parse(), bits.parse::<u32>()) else {
        return false;
    };
    match (network, ip) {
        (IpAddr::V4(network), IpAddr::V4(ip)) => {
            let differ = u32::from(network) ^ u32::from(ip);
            bits <= 32 && differ.leading_zeros() >= bits
        }
        (IpAddr::V6(network), IpAddr::V6(ip)) => {
            let differ = u128::from(network) ^ u128::from(ip);
            bits <= 128 && differ.leading_zeros() >= bits
        }
        _ => false,
    }
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::TcpStream;

    use async_io::Async;
    use smol::future;

    use crate::listen::Listener;

    const LOGIN: Option<Credentials<'static>> = Some(Credentials {
        user: "ann",
        password: "pass-word",
    });

    /// What the proxy waits for, and then says.
    type Script = &'static [(&'static [u8], &'static [u8])];

    /// Two ends of a connection: ours, and that of a proxy that follows a script, says what the hub
    /// says first, and closes. What we can read afterwards.
    async fn meet<F>(script: Script, hub: &[u8], ours: F) -> (Result<(), ProxyError>, Vec<u8>)
    where
        F: AsyncFnOnce(&mut Async<TcpStream>) -> Result<(), ProxyError>,
    {
        let mut listener = Listener::bind("127.0.0.1", 0).unwrap();
        let address = listener.local_addr();
        let (accepted, connected) =
            future::zip(listener.accept(), Async::<TcpStream>::connect(address)).await;
        let (mut proxy, mut stream) = (accepted.0, connected.unwrap());
        let theirs = async move {
            for (question, answer) in script {
                let mut heard = vec![0; question.len()];
                proxy.read_exact(&mut heard).await.unwrap();
                assert_eq!(
                    String::from_utf8_lossy(&heard),
                    String::from_utf8_lossy(question)
                );
                proxy.write_all(answer).await.unwrap();
            }
            proxy.write_all(hub).await.unwrap();
        };
        let ours = async {
            let result = ours(&mut stream).await;
            let mut tunnel = Vec::new();
            // A reset is fine where we left something unread.
            let _ = stream.read_to_end(&mut tunnel).await;
            (result, tunnel)
        };
        future::zip(theirs, ours).await.1
    }

    fn http(
        login: Option<Credentials<'static>>,
        script: Script,
        hub: &[u8],
    ) -> (Result<(), ProxyError>, Vec<u8>) {
        smol::block_on(meet(script, hub, async |stream: &mut Async<TcpStream>| {
            http_connect(stream, "hub.example:7422", "petiole", login).await
        }))
    }

    fn socks(
        host: &str,
        login: Option<Credentials<'static>>,
        script: Script,
        hub: &[u8],
    ) -> (Result<(), ProxyError>, Vec<u8>) {
        smol::block_on(meet(script, hub, async |stream: &mut Async<TcpStream>| {
            socks5(stream, host, 7422, login).await
        }))
    }

    const PLAIN: &[u8] =
        b"CONNECT hub.example:7422 HTTP/1.1\r\nHost: hub.example:7422\r\nUser-Agent: petiole\r\n\r\n";
    const WITH_LOGIN: &[u8] = b"CONNECT hub.example:7422 HTTP/1.1\r\nHost: hub.example:7422\r\n\
        User-Agent: petiole\r\nProxy-Authorization: Basic YW5uOnBhc3Mtd29yZA==\r\n\r\n";

    #[test]
    fn an_http_tunnel_loses_no_byte_of_the_hub() {
        for (login, question) in [(None, PLAIN), (LOGIN, WITH_LOGIN)] {
            for answer in [
                &b"HTTP/1.1 200 Connection established\r\n\r\n"[..],
                b"HTTP/1.0 200\r\nVia: 1.1 gate\r\n\r\n",
                b"HTTP/1.1 200 OK\nX: y\n\n",
            ] {
                let script: Script = vec![(question, answer)].leak();
                let (result, tunnel) = http(login, script, b"INFO {}\r\n");
                result.unwrap();
                assert_eq!(tunnel, b"INFO {}\r\n");
            }
        }
    }

    #[test]
    fn an_http_proxy_that_refuses_is_quoted() {
        for (login, question, answer, want) in [
            (
                None,
                PLAIN,
                &b"HTTP/1.1 407 Who are you\r\n\r\n"[..],
                "demands a user and password",
            ),
            (
                LOGIN,
                WITH_LOGIN,
                b"HTTP/1.1 407 No\r\n\r\n",
                "refused the user and password",
            ),
            (
                None,
                PLAIN,
                b"HTTP/1.1 502 x\r\n\r\n",
                "answers 502 Bad Gateway: it does not reach the hub",
            ),
            (
                None,
                PLAIN,
                b"HTTP/1.1 201 Created\r\n\r\n",
                "answers 201 Created: only 200",
            ),
            (None, PLAIN, b"HTTP/1.1 799 x\r\n\r\n", "answers 799:"),
            (None, PLAIN, b"HTTP/1.1 2000 x\r\n\r\n", "damaged"),
            (None, PLAIN, b"HTTP/1.1 +20 x\r\n\r\n", "damaged"),
            (None, PLAIN, b"INFO {}\r\n", "not HTTP"),
            (None, PLAIN, b"HTTP/1.1 200 OK\r\n", "closed the connection"),
            (None, PLAIN, b"", "closed the connection"),
        ] {
            let (result, _) = http(login, vec![(question, answer)].leak(), b"");
            let text = result.unwrap_err().to_string();
            assert!(text.contains(want), "{text}");
            assert!(
                !text.contains("pass-word") && !text.contains("ann"),
                "{text}"
            );
        }
    }

    #[test]
    fn an_http_answer_without_an_end_is_cut_off() {
        let endless = [
            b"HTTP/1.1 200 OK\r\nX: ",
            &[b'x'; MAX_HEAD][..],
            b"\r\n\r\n",
        ]
        .concat();
        let (result, _) = http(None, vec![(PLAIN, &*endless.leak())].leak(), b"");
        assert!(matches!(result, Err(ProxyError::MalformedHead)));
    }

    #[test]
    fn what_http_cannot_say_is_not_said() {
        smol::block_on(async {
            let mut stream = smol::io::Cursor::new(Vec::new());
            for target in ["", "hub\r\nX: y:1", "h b:1", "h\u{fc}b:1"] {
                let result = http_connect(&mut stream, target, "petiole", None).await;
                assert!(matches!(result, Err(ProxyError::Target)), "{target:?}");
            }
            let login = Credentials {
                user: "a:b",
                password: "c",
            };
            let result = http_connect(&mut stream, "hub:1", "petiole", Some(login)).await;
            assert!(matches!(result, Err(ProxyError::Unspeakable)));
            assert!(stream.into_inner().is_empty());
        });
    }

    #[test]
    fn a_socks_tunnel_loses_no_byte_of_the_hub() {
        const NAME: &[u8] = b"\x05\x01\x00\x03\x0bhub.example\x1c\xfe";
        const V4: &[u8] = b"\x05\x01\x00\x01\x0a\x01\x02\x03\x1c\xfe";
        const V6: &[u8] = b"\x05\x01\x00\x04\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x1c\xfe";
        for (host, request) in [
            ("hub.example", NAME),
            ("10.1.2.3", V4),
            ("fd00::1", V6),
            ("[fd00::1]", V6),
        ] {
            for answer in [
                &b"\x05\0\0\x01\x01\x02\x03\x04\x05\x06"[..],
                b"\x05\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
                b"\x05\0\0\x03\x02ab\x05\x06",
                b"\x05\0\0\x03\0\x05\x06",
            ] {
                let plain: [(&[u8], &[u8]); 2] =
                    [(b"\x05\x01\x00", b"\x05\x00"), (request, answer)];
                let unused: [(&[u8], &[u8]); 2] =
                    [(b"\x05\x02\x00\x02", b"\x05\x00"), (request, answer)];
                let asked: [(&[u8], &[u8]); 3] = [
                    (b"\x05\x02\x00\x02", b"\x05\x02"),
                    (b"\x01\x03ann\x09pass-word", b"\x01\x00"),
                    (request, answer),
                ];
                for (login, script) in [
                    (None, plain.to_vec()),
                    (LOGIN, unused.to_vec()),
                    (LOGIN, asked.to_vec()),
                ] {
                    let (result, tunnel) = socks(host, login, script.leak(), b"INFO {}\r\n");
                    result.unwrap();
                    assert_eq!(tunnel, b"INFO {}\r\n");
                }
            }
        }
    }

    #[test]
    fn a_socks_proxy_that_refuses_is_quoted() {
        const HELLO: &[u8] = b"\x05\x01\x00";
        const BOTH: &[u8] = b"\x05\x02\x00\x02";
        const WORD: &[u8] = b"\x01\x03ann\x09pass-word";
        const REQUEST: &[u8] = b"\x05\x01\x00\x03\x03hub\x1c\xfe";
        let refusals: [(Option<Credentials<'static>>, Script, &str); 12] = [
            (None, &[(HELLO, b"\x05\xff")], "demands a user and password"),
            (None, &[(HELLO, b"\x05\x02")], "demands a user and password"),
            (LOGIN, &[(BOTH, b"\x05\xff")], "method 255"),
            (LOGIN, &[(BOTH, b"\x05\x01")], "method 1)"),
            (
                LOGIN,
                &[(BOTH, b"\x05\x02"), (WORD, b"\x01\x01")],
                "refused the user and password",
            ),
            (None, &[(HELLO, b"HTTP/1.1 400 x")], "http:// in the proxy"),
            (None, &[(HELLO, b"\x04\x5b")], "not SOCKS5"),
            (None, &[(HELLO, b"\x05")], "closed the connection"),
            (
                None,
                &[(HELLO, b"\x05\0"), (REQUEST, b"\x05\x02\0\x01\0\0\0\0\0\0")],
                "not allowed by its rules",
            ),
            (
                None,
                &[(HELLO, b"\x05\0"), (REQUEST, b"\x05\x05\0\x01")],
                "connection refused",
            ),
            (
                None,
                &[(HELLO, b"\x05\0"), (REQUEST, b"\x05\x63\0\x01")],
                "SOCKS5 error 99",
            ),
            (
                None,
                &[(HELLO, b"\x05\0"), (REQUEST, b"\x05\0\0\x09")],
                "not SOCKS5",
            ),
        ];
        for (login, script, want) in refusals {
            let (result, _) = socks("hub", login, script, b"");
            let text = result.unwrap_err().to_string();
            assert!(text.contains(want), "{text} has no {want:?}");
            assert!(
                !text.contains("pass-word") && !text.contains("ann"),
                "{text}"
            );
        }
        for code in 0..=u8::MAX {
            assert!(!ProxyError::Reply(code).to_string().is_empty());
        }
    }

    #[test]
    fn what_socks_cannot_say_is_not_said() {
        smol::block_on(async {
            let long = "x".repeat(256);
            let mut stream = smol::io::Cursor::new(Vec::new());
            for host in ["", &*long, "h b"] {
                let result = socks5(&mut stream, host, 1, None).await;
                assert!(matches!(result, Err(ProxyError::Target)), "{host:?}");
            }
            for (user, password) in [("", "x"), ("x", ""), (&*long, "x"), ("x", &*long)] {
                let login = Some(Credentials { user, password });
                let result = socks5(&mut stream, "hub", 1, login).await;
                assert!(matches!(result, Err(ProxyError::Unspeakable)));
            }
            assert!(stream.into_inner().is_empty());
        });
    }

    #[test]
    fn credentials_do_not_show() {
        assert_eq!(format!("{LOGIN:?}"), "Some(Credentials(..))");
    }

    #[test]
    fn exceptions_are_what_their_rules_say() {
        for (rule, host, port, want) in [
            ("*", "hub.example.com", 1, true),
            ("*:7422", "hub.example.com", 7422, true),
            ("*:7422", "hub.example.com", 1, false),
            ("example.com", "example.com", 1, true),
            (" Example.COM ", "example.com.", 1, true),
            ("example.com.", "a.example.com", 1, true),
            ("example.com", "A.EXAMPLE.com", 1, true),
            ("example.com", "badexample.com", 1, false),
            ("example.com", "example.com.org", 1, false),
            ("example.com", "com", 1, false),
            (".example.com", "a.b.example.com", 1, true),
            (".example.com", "example.com", 1, false),
            (".example.com", "badexample.com", 1, false),
            ("*.example.com", "a.example.com", 1, true),
            ("*.example.com", "example.com", 1, false),
            ("example.com:7422", "a.example.com", 7422, true),
            ("example.com:7422", "a.example.com", 443, false),
            ("example.com:", "example.com", 1, false),
            ("example.com:x", "example.com", 1, false),
            ("10.1.2.3", "10.1.2.3", 1, true),
            ("10.1.2.3", "::ffff:10.1.2.3", 1, true),
            ("10.1.2.3", "10.1.2.33", 1, false),
            ("10.1.2.3:7422", "10.1.2.3", 7422, true),
            ("10.1.2.3:7422", "10.1.2.3", 1, false),
            ("1.2.3", "10.1.2.3", 1, false),
            (".3", "10.1.2.3", 1, false),
            ("::1", "[::1]", 1, true),
            ("[::1]", "::1", 1, true),
            ("[::1]:7422", "::1", 7422, true),
            ("[::1]:7422", "::1", 1, false),
            ("::1", "::2", 1, false),
            ("10.0.0.0/8", "10.200.3.4", 1, true),
            ("10.9.9.9/8", "10.200.3.4", 1, true),
            ("10.0.0.0/8", "11.0.0.1", 1, false),
            ("10.0.0.0/32", "10.0.0.0", 1, true),
            ("10.0.0.0/32", "10.0.0.1", 1, false),
            ("0.0.0.0/0", "203.0.113.1", 1, true),
            ("10.0.0.0/33", "10.0.0.0", 1, false),
            ("10.0.0.0/8", "hub.example.com", 1, false),
            ("10.0.0.0/8", "fd00::1", 1, false),
            ("fd00::/8", "fd12:3456::1", 1, true),
            ("fd00::/8", "fe80::1", 1, false),
            ("::/0", "fe80::1", 1, true),
            ("fd00::/129", "fd00::", 1, false),
            ("", "example.com", 1, false),
            ("", "", 1, false),
            (".", "example.com", 1, false),
            ("/", "10.0.0.1", 1, false),
            (":", "", 1, false),
            ("\u{fc}", "h\u{fc}", 1, false),
        ] {
            let rules = ["other.example".to_owned(), rule.to_owned()];
            let got = is_excepted(host, port, &rules);
            assert_eq!(got, want, "{rule:?} for {host}:{port}");
        }
        assert!(!is_excepted("example.com", 1, &[]));
    }
}
