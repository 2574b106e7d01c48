//! TLS on the client listener: what a client sees of petiole, and that it sees the same of the real
//! servers.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::net::Shutdown;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{DistinguishedName, DnType, DnValue, SanType};
use rustls::{ClientConfig, HandshakeKind, version};
use serde_json::Value;
use support::{
    Client, DEADLINE, Op, Pki, QUIET, Ready, Server, Target, TempDir, Trust, Wire, servers, until,
};

/// petiole and all real servers that are at least as new, newest last.
fn targets(since: (u32, u32, u32)) -> Vec<Target> {
    let real = servers().iter().filter(|real| real.version >= since);
    let real = real.cloned().map(Target::Real);
    std::iter::once(Target::Petiole).chain(real).collect()
}

/// A server whose certificate is for this machine. `{tls}` in the configuration stands for it.
fn start(target: &Target, pki: &Pki, config: &str) -> Server {
    let config = config.replace("{tls}", &pki.server("server").options());
    let config = format!("host: \"127.0.0.1\"\nport: {{port}}\n{config}\n");
    Server::start_until(target, &config, Ready::Log("Server is ready"))
}

/// What INFO says of TLS.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
struct Info {
    required: bool,
    verify: bool,
    available: bool,
}

impl Info {
    fn of(info: &Value) -> Self {
        let is = |key: &str| info.get(key).is_some_and(|value| value == true);
        Info {
            required: is("tls_required"),
            verify: is("tls_verify"),
            available: is("tls_available"),
        }
    }
}

const REQUIRED: Info = Info {
    required: true,
    verify: false,
    available: false,
};
const AVAILABLE: Info = Info {
    required: false,
    verify: false,
    available: true,
};
const BOTH: Info = Info {
    required: true,
    verify: false,
    available: true,
};

/// How a client goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// TLS behind INFO.
    Normal,
    /// TLS, then INFO.
    First,
    /// No TLS.
    Plain,
}

/// How far a client came.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// It is served. INFO in clear, and under TLS.
    Works(Option<Info>, Option<Info>),
    /// The connection ended before INFO.
    Nothing,
    /// It read INFO, and the connection ended without a word after what it sent then.
    Refused(Info),
    /// It began with TLS, and was answered otherwise.
    NotTls,
}

fn visit(server: &Server, way: Way, tls: &Arc<ClientConfig>) -> Seen {
    let mut wire = Wire::dial(server.port()).unwrap();
    if way == Way::First {
        if wire.secure(tls).is_err() {
            return Seen::NotTls;
        }
        let mut client = Client::greeted(wire).introduced(QUIET);
        return Seen::Works(None, Some(served(&mut client)));
    }
    let Some(line) = wire.line() else {
        return Seen::Nothing;
    };
    let json = line.strip_prefix(b"INFO ").expect("INFO comes first");
    let info = Info::of(&serde_json::from_slice(json).unwrap());
    if way == Way::Normal {
        wire.secure(tls).expect("TLS behind INFO");
    }
    let connect = format!("CONNECT {QUIET}\r\nPING\r\n");
    if wire.try_send(connect).is_err() {
        return Seen::Refused(info);
    }
    match wire.line() {
        None => Seen::Refused(info),
        Some(line) => {
            assert_eq!(support::show(&line), "PONG");
            Seen::Works(Some(info), None)
        }
    }
}

/// What the client is told of TLS later: with its first INFO, read again.
fn served(client: &mut Client) -> Info {
    client.tell("PUB a 1\r\nx\r\n");
    Info::of(&client.info)
}

/// What is compared, the first version that has it, and what each way comes to.
type Row = (&'static str, (u32, u32, u32), [Seen; 3]);

fn matrix() -> Vec<Row> {
    let works = |info| Seen::Works(Some(info), None);
    let first = |info| Seen::Works(None, Some(info));
    vec![
        (
            "tls { {tls} }",
            (2, 9, 0),
            [works(REQUIRED), Seen::NotTls, Seen::Refused(REQUIRED)],
        ),
        (
            "tls { {tls} }\nallow_non_tls: true",
            (2, 9, 0),
            [works(AVAILABLE), Seen::NotTls, works(AVAILABLE)],
        ),
        (
            "tls { {tls}, handshake_first: true, timeout: 1 }",
            (2, 10, 27),
            [Seen::Nothing, first(REQUIRED), Seen::Nothing],
        ),
        (
            "tls { {tls}, handshake_first: true, timeout: 1 }\nallow_non_tls: true",
            (2, 10, 27),
            [Seen::Nothing, first(BOTH), Seen::Nothing],
        ),
        (
            "tls { {tls}, handshake_first: auto }",
            (2, 10, 27),
            [works(REQUIRED), first(REQUIRED), Seen::Refused(REQUIRED)],
        ),
        (
            "tls { {tls}, handshake_first: \"300ms\" }",
            (2, 10, 27),
            [works(REQUIRED), first(REQUIRED), Seen::Refused(REQUIRED)],
        ),
        (
            "tls { {tls}, handshake_first: \"300ms\" }\nallow_non_tls: true",
            (2, 10, 27),
            [works(AVAILABLE), first(BOTH), works(AVAILABLE)],
        ),
    ]
}

#[test]
fn every_way_in_comes_to_the_same_as_with_the_real_servers() {
    let pki = Pki::new("authority");
    let tls = Trust::new(&pki).config();
    let mut wrong = Vec::new();
    for (config, since, expected) in matrix() {
        for target in targets(since) {
            let server = start(&target, &pki, config);
            for (way, expected) in [Way::Normal, Way::First, Way::Plain].iter().zip(&expected) {
                let seen = visit(&server, *way, &tls);
                if seen != *expected {
                    wrong.push(format!(
                        "{}: {config}: {way:?}: {seen:?} instead of {expected:?}",
                        target.name()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How a client with a certificate of its own fares.
#[derive(Debug, PartialEq, Eq)]
enum Login {
    In,
    /// The server says why not.
    Denied(String),
    /// TLS did not come about.
    Refused,
}

fn login(server: &Server, tls: &Arc<ClientConfig>, more: &str) -> Login {
    let mut client = server.connect();
    if client.wire.secure(tls).is_err() {
        return Login::Refused;
    }
    introduce(client, more)
}

/// Sends CONNECT with these further fields.
fn introduce(mut client: Client, more: &str) -> Login {
    let connect = format!(
        "CONNECT {}{more}}}\r\nPING\r\n",
        QUIET.strip_suffix('}').unwrap()
    );
    if client.wire.try_send(connect).is_err() {
        return Login::Refused;
    }
    match client.op() {
        Some(Op::Pong) => Login::In,
        Some(Op::Err(text)) => Login::Denied(text),
        None => Login::Refused,
        other => panic!("{other:?} to CONNECT"),
    }
}

fn denied() -> Login {
    Login::Denied("Authorization Violation".into())
}

/// What a client that says nothing is told at the end of the handshake, and after it.
fn alert(server: &Server, tls: &Arc<ClientConfig>) -> String {
    let mut wire = Client::connect(server.port()).wire;
    if let Err(error) = wire.secure(tls) {
        return error.to_string();
    }
    assert_eq!(wire.line(), None);
    wire.failure().unwrap_or("nothing").to_owned()
}

#[test]
fn a_client_shows_a_certificate_of_the_right_authority() {
    let pki = Pki::new("authority");
    let other = Pki::new("another authority");
    let (right, wrong, old) = (pki.server("c"), other.server("c"), pki.expired("old"));
    let config = format!("tls {{ {{tls}}, {}, verify: true }}", pki.ca());
    for target in targets((2, 9, 0)) {
        let mut alerts = Vec::new();
        let server = start(&target, &pki, &config);
        assert_eq!(
            Info::of(&server.connect().info),
            Info {
                verify: true,
                ..REQUIRED
            }
        );
        for (pair, expected, line) in [
            (Some(&right), Login::In, ""),
            (
                None,
                Login::Refused,
                "TLS handshake error: tls: client didn't provide a certificate",
            ),
            (
                Some(&wrong),
                Login::Refused,
                "certificate signed by unknown authority",
            ),
            (
                Some(&old),
                Login::Refused,
                "x509: certificate has expired or is not yet valid: current time",
            ),
        ] {
            for spoken in [&version::TLS13, &version::TLS12] {
                let mut trust = Trust::new(&pki).speaking(spoken);
                trust = match pair {
                    Some(pair) => trust.showing(pair),
                    None => trust,
                };
                let tls = trust.config();
                let mark = server.log_mark();
                assert_eq!(login(&server, &tls, ""), expected, "{line}");
                if expected == Login::Refused {
                    server.wait_for_log_after(mark, line);
                    alerts.push(alert(&server, &tls));
                }
            }
        }
        // Go had fewer words for it earlier.
        if target.version() >= (2, 15, 0) {
            for (told, expected) in alerts.iter().step_by(2).zip(ALERTS) {
                assert_eq!(*told, format!("received fatal alert: {expected}"));
            }
        }
    }
}

/// What is said by TLS 1.3 to a client without a certificate, with that of another authority, and
/// with one that is over.
const ALERTS: [&str; 3] = ["CertificateRequired", "UnknownCA", "CertificateExpired"];

#[test]
fn a_certificate_says_who_its_bearer_is() {
    let pki = Pki::new("authority");
    let san =
        |name: &str, sans: Vec<SanType>| pki.sign(name, |params| params.subject_alt_names = sans);
    let mail =
        |name: &str, text: &str| san(name, vec![SanType::Rfc822Name(text.try_into().unwrap())]);
    let subject = |name: &str, parts: &[(DnType, &str)]| {
        pki.sign(name, |params| {
            params.distinguished_name = DistinguishedName::new();
            for (kind, value) in parts {
                let value = match kind {
                    DnType::CustomDnType(_) => DnValue::Ia5String((*value).try_into().unwrap()),
                    _ => (*value).into(),
                };
                params.distinguished_name.push(kind.clone(), value);
            }
        })
    };
    let dc = || DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 25]);
    let by_mail = mail("mail", "mail@example.com");
    let by_password = mail("pass", "pass@example.com");
    let of_websocket = mail("ws", "ws@example.com");
    let nobody = mail("nobody", "nobody@example.com");
    let by_dns = san(
        "dns",
        vec![
            SanType::Rfc822Name("nobody@example.com".try_into().unwrap()),
            SanType::DnsName("nobody.example.com".try_into().unwrap()),
            SanType::DnsName("app.example.com".try_into().unwrap()),
        ],
    );
    let by_uri = san(
        "uri",
        vec![SanType::URI("spiffe://example.com/app".try_into().unwrap())],
    );
    let parts = [
        (DnType::OrganizationName, "Org"),
        (DnType::OrganizationalUnitName, "Unit"),
        (DnType::CommonName, "rdn"),
    ];
    let by_subject = subject("rdn", &parts);
    let other_order = subject(
        "rdn2",
        &[
            (DnType::CommonName, "shuffled"),
            (DnType::OrganizationName, "Org"),
            (DnType::OrganizationalUnitName, "Unit"),
        ],
    );
    let [by_dc, without_dc] = ["dc", "no dc"].map(|name| {
        let parts = [
            (dc(), "example"),
            (DnType::OrganizationalUnitName, "Unit"),
            (DnType::CommonName, name),
        ];
        subject(name, &parts)
    });
    let only_cn = subject(
        "cn",
        &[
            (DnType::OrganizationName, "Org"),
            (DnType::CommonName, "cn"),
        ],
    );
    let config = format!(
        "tls {{ {{tls}}, {}, verify_and_map: true }}\n\
         allow_non_tls: true\ndebug: true\n\
         authorization {{ users: [\n\
           {{user: \"mail@example.com\"}}\n\
           {{user: \"pass@example.com\", password: secret}}\n\
           {{user: \"ws@example.com\", allowed_connection_types: [WEBSOCKET]}}\n\
           {{user: \"app.example.com\"}}\n\
           {{user: \"spiffe://example.com/app\"}}\n\
           {{user: \"CN=rdn,OU=Unit,O=Org\"}}\n\
           {{user: \"CN=shuffled,OU=Unit,O=Org\"}}\n\
           {{user: \"CN=dc,OU=Unit,DC=example\"}}\n\
           {{user: \"CN=no dc,OU=Unit\"}}\n\
           {{user: cn}}\n\
           {{user: plain, password: secret}}\n\
         ] }}",
        pki.ca()
    );
    let rows = [
        ("an address", &by_mail, "", Login::In),
        ("a password too many", &by_mail, ",\"pass\":\"x\"", denied()),
        ("another's name", &by_mail, ",\"user\":\"plain\"", Login::In),
        (
            "another's name and password",
            &by_mail,
            ",\"user\":\"plain\",\"pass\":\"secret\"",
            denied(),
        ),
        ("no password", &by_password, "", denied()),
        (
            "the wrong password",
            &by_password,
            ",\"pass\":\"x\"",
            denied(),
        ),
        (
            "a password",
            &by_password,
            ",\"pass\":\"secret\"",
            Login::In,
        ),
        ("another kind of connection", &of_websocket, "", denied()),
        ("no such user", &nobody, "", denied()),
        (
            "no such user, but a password",
            &nobody,
            ",\"user\":\"plain\",\"pass\":\"secret\"",
            denied(),
        ),
        ("a host", &by_dns, "", Login::In),
        ("a URI", &by_uri, "", Login::In),
        ("a subject", &by_subject, "", Login::In),
        ("a subject in another order", &other_order, "", Login::In),
        ("a subject with a domain", &by_dc, "", Login::In),
        ("a subject but for its domain", &without_dc, "", Login::In),
        ("a common name", &only_cn, "", denied()),
    ];
    let mut wrong = Vec::new();
    for target in targets((2, 9, 0)) {
        let server = start(&target, &pki, &config);
        for (what, pair, more, expected) in &rows {
            let tls = Trust::new(&pki).showing(pair).config();
            let seen = login(&server, &tls, more);
            if seen != *expected {
                wrong.push(format!("{}: {what}: {seen:?}", target.name()));
            }
        }
        for more in ["", ",\"user\":\"plain\",\"pass\":\"secret\""] {
            let seen = introduce(server.connect(), more);
            if seen != denied() {
                wrong.push(format!("{}: without TLS {more}: {seen:?}", target.name()));
            }
        }
        server.wait_for_log("User \"plain\" found in connect proto, but user required from cert");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_pinned_keys_are_let_in() {
    let pki = Pki::new("authority");
    let (pinned, other) = (pki.server("pinned"), pki.server("other"));
    let config = format!(
        "tls {{ {{tls}}, {}, verify: true, pinned_certs: [\"{}\"] }}",
        pki.ca(),
        pki.pin(&pinned)
    );
    for target in targets((2, 9, 0)) {
        let server = start(&target, &pki, &config);
        let (right, wrong) = (
            Trust::new(&pki).showing(&pinned).config(),
            Trust::new(&pki).showing(&other).config(),
        );
        assert_eq!(login(&server, &right, ""), Login::In, "{}", target.name());
        assert_eq!(login(&server, &wrong, ""), Login::Refused);
        server.wait_for_log("TLS handshake error: certificate not pinned");
    }
}

/// What a silent client reads until the server closes, and that is a reason to say, or for a while.
fn overhear(server: &Server, wait: Duration) -> (Vec<String>, Wire) {
    let mut wire = Wire::dial(server.port()).unwrap();
    let mut heard = Vec::new();
    while wire.readable(wait) {
        match wire.line() {
            None => {
                heard.push("end".to_owned());
                break;
            }
            Some(line) if line.starts_with(b"INFO ") => heard.push("INFO".to_owned()),
            Some(line) => heard.push(String::from_utf8(line).unwrap()),
        }
    }
    (heard, wire)
}

#[test]
fn handshakes_are_limited_by_the_second() {
    const THROTTLED: &str = "-ERR 'Connection throttling is active. Please try again later.'";
    let pki = Pki::new("authority");
    let tls = Trust::new(&pki).config();
    // With a choice it only counts once somebody begins with TLS.
    let rows = [
        ("", "", vec!["INFO", THROTTLED, "end"]),
        (", handshake_first: true", "", vec![THROTTLED, "end"]),
        (
            ", handshake_first: auto",
            "",
            vec!["INFO", THROTTLED, "end"],
        ),
        ("", "allow_non_tls: true", vec!["INFO"]),
    ];
    for (first, also, expected) in rows {
        for target in targets((2, 10, 27)) {
            let config = format!("tls {{ {{tls}}, connection_rate_limit: 1 {first} }}\n{also}");
            let server = start(&target, &pki, &config);
            // The second that counts may be over in between: again until it was not.
            let end = Instant::now() + DEADLINE;
            let mut held = Vec::new();
            loop {
                let (heard, wire) = overhear(&server, Duration::from_millis(150));
                held.push(wire);
                if heard == expected && held.len() > 1 {
                    break;
                }
                assert!(Instant::now() < end, "{}: {heard:?}", target.name());
            }
            if !also.is_empty() {
                continue;
            }
            server.wait_for_log("connections due to TLS rate limiting");
            drop(held);
            // It is over as soon as it was.
            let served = || {
                let mut wire = Wire::dial(server.port()).unwrap();
                let behind = !first.contains("true");
                if behind {
                    wire.line().unwrap();
                    if wire.readable(Duration::from_millis(150)) {
                        return false;
                    }
                }
                if wire.secure(&tls).is_err() {
                    return false;
                }
                wire.send(format!("CONNECT {QUIET}\r\nPING\r\n"));
                let mut line = wire.line();
                if !behind {
                    line = wire.line();
                }
                line.as_deref() == Some(b"PONG")
            };
            until("a client is served again", served);
        }
    }
}

/// The first bytes of a record that never ends.
const HALF: &[u8] = b"\x16\x03\x01\x02\x00\x01\x02\x03";

#[test]
fn whoever_does_not_shake_hands_is_closed() {
    let pki = Pki::new("authority");
    let (none, eof) = ("TLS handshake timeout", "EOF\n");
    let not_tls = "TLS handshake error: tls: first record does not look like a TLS handshake";
    for target in targets((2, 10, 27)) {
        for (first, also) in [
            ("", ""),
            (", handshake_first: true", ""),
            (", handshake_first: auto", ""),
            ("", "allow_non_tls: true"),
        ] {
            let config = format!(
                "tls {{ {{tls}}, timeout: 0.3 {first} }}\n{also}\ndebug: true\n\
                 authorization {{ user: a, password: b, timeout: 0.3 }}"
            );
            let server = start(&target, &pki, &config);
            let plain = !also.is_empty();
            for (bytes, leaves, line, words) in [
                (&b""[..], false, none, "-ERR 'Authentication Timeout'\r\n"),
                (b"", true, eof, ""),
                (HALF, false, none, ""),
                (HALF, true, eof, ""),
                (b"\x16", false, none, ""),
                (
                    b"CONNECT {}\r\n",
                    false,
                    not_tls,
                    "-ERR 'Authorization Violation'\r\n",
                ),
                (
                    b"GET / HTTP/1.1\r\n\r\n",
                    true,
                    not_tls,
                    "-ERR 'Authorization Violation'\r\n",
                ),
            ] {
                let mark = server.log_mark();
                let mut wire = Wire::dial(server.port()).unwrap();
                if !first.contains("true") {
                    assert!(wire.line().unwrap().starts_with(b"INFO "));
                }
                wire.send(bytes);
                if leaves {
                    // What it was sent may have made it close already.
                    let _ = wire.stream().shutdown(Shutdown::Write);
                }
                let what = format!("{}: {config}: {}", target.name(), support::show(bytes));
                let expected = if plain { words } else { "" };
                assert_eq!(
                    support::show(&wire.rest()),
                    support::show(expected.as_bytes()),
                    "{what}"
                );
                if expected.is_empty() && !(plain && bytes.is_empty()) {
                    // The real ones have two lines for it, and often log only the other.
                    let either = line == none && target != Target::Petiole;
                    server.wait_for_log_after(mark, if either { "timeout" } else { line });
                }
            }
        }
    }
}

#[test]
fn handshakes_that_stall_stop_nobody() {
    let pki = Pki::new("authority");
    let tls = Trust::new(&pki).config();
    for first in ["", ", handshake_first: true", ", handshake_first: auto"] {
        let config = format!("tls {{ {{tls}}, timeout: 5 {first} }}");
        let server = start(&Target::Petiole, &pki, &config);
        let mut stalled: Vec<Wire> = (0..200)
            .map(|_| {
                let mut wire = Wire::dial(server.port()).unwrap();
                wire.send(HALF);
                wire
            })
            .collect();
        let way = if first.is_empty() {
            Way::Normal
        } else {
            Way::First
        };
        for _ in 0..20 {
            assert!(matches!(visit(&server, way, &tls), Seen::Works(..)));
        }
        assert!(
            !server.log().contains("timeout"),
            "they were to be there still"
        );
        for wire in &mut stalled {
            wire.rest();
        }
        assert!(matches!(visit(&server, way, &tls), Seen::Works(..)));
    }
}

#[test]
fn the_end_does_not_wait_for_handshakes() {
    let pki = Pki::new("authority");
    for first in ["", ", handshake_first: true", ", handshake_first: 1h"] {
        for signal in ["TERM", "USR2"] {
            let config =
                format!("tls {{ {{tls}}, timeout: 3600 {first} }}\nlame_duck_grace_period: 10ms");
            let mut server = start(&Target::Petiole, &pki, &config);
            let mut stalled = Wire::dial(server.port()).unwrap();
            stalled.send(HALF);
            // Accepted before: connections are accepted in order.
            let mut silent = Wire::dial(server.port()).unwrap();
            if first.is_empty() {
                silent.line().unwrap();
            }
            server.signal(signal);
            assert!(server.wait_exit().success(), "{first} {signal}");
            assert!(!server.log().contains("[ERR]"), "{}", server.log());
        }
    }
}

#[test]
fn payloads_of_every_size_go_through() {
    let pki = Pki::new("authority");
    let tls = Trust::new(&pki).config();
    for target in targets((2, 15, 0)) {
        let server = start(&target, &pki, "tls { {tls} }");
        let mut service = Client::quiet_tls(server.port(), &tls);
        service.tell("SUB service 1\r\n");
        let mut client = Client::quiet_tls(server.port(), &tls);
        client.tell("SUB inbox 1\r\n");
        for len in [0, 1, 100, 16_383, 16_384, 65_537, 1 << 20] {
            let payload: Vec<u8> = (0..len).map(|n: usize| (n % 251) as u8).collect();
            let head = format!("PUB service inbox {len}\r\n");
            client.send([head.as_bytes(), &payload, b"\r\n"].concat());
            let request = service.expect_msg();
            assert!(request.payload == payload, "{len} bytes on the way there");
            let head = format!("PUB {} {len}\r\n", request.reply().unwrap());
            service.send([head.as_bytes(), &request.payload, b"\r\n"].concat());
            assert!(client.expect_msg().payload == payload, "{len} bytes back");
        }
        // Many at once, more than any buffer holds.
        client.tell("UNSUB 1\r\nSUB many 2\r\n");
        let batch = format!("PUB many 1000\r\n{}\r\n", "x".repeat(1000)).repeat(2000);
        for chunk in batch.as_bytes().chunks(50_000) {
            service.send(chunk);
        }
        for _ in 0..2000 {
            assert_eq!(client.expect_msg().payload.len(), 1000);
        }
    }
}

#[test]
fn old_versions_are_refused_where_that_is_asked_for() {
    let pki = Pki::new("authority");
    let old = Trust::new(&pki).speaking(&version::TLS12).config();
    let new = Trust::new(&pki).config();
    for target in targets((2, 10, 27)) {
        let server = start(&target, &pki, "tls { {tls}, min_version: \"1.3\" }");
        let mut wire = Client::connect(server.port()).wire;
        let error = wire.secure(&old).unwrap_err().to_string();
        assert_eq!(
            error,
            "received fatal alert: ProtocolVersion",
            "{}",
            target.name()
        );
        assert_eq!(login(&server, &new, ""), Login::In);
        server.wait_for_log("TLS handshake error: tls: client offered only unsupported versions");
        let server = start(&target, &pki, "tls { {tls} }");
        assert_eq!(login(&server, &old, ""), Login::In);
    }
}

#[test]
fn sessions_are_resumed() {
    let pki = Pki::new("authority");
    let pair = pki.server("c");
    let config = format!(
        "tls {{ {{tls}}, {}, verify_and_map: true }}\nauthorization {{ users: [ {{user: localhost}} ] }}",
        pki.ca()
    );
    for spoken in [&version::TLS13, &version::TLS12] {
        for target in targets((2, 15, 0)) {
            let server = start(&target, &pki, &config);
            let tls = Trust::new(&pki).showing(&pair).speaking(spoken).config();
            let kinds: Vec<_> = (0..3)
                .map(|_| {
                    // Who it is survives.
                    let client = Client::quiet_tls(server.port(), &tls);
                    client.wire.tls().unwrap().handshake_kind().unwrap()
                })
                .collect();
            assert_eq!(
                kinds,
                [
                    HandshakeKind::Full,
                    HandshakeKind::Resumed,
                    HandshakeKind::Resumed
                ],
                "{} {spoken:?}",
                target.name()
            );
        }
    }
}

/// Runs petiole to its end: exit code and standard error.
fn petiole(args: &[&str]) -> (i32, String) {
    let run = Command::new(env!("CARGO_BIN_EXE_petiole"))
        .args(args)
        .output()
        .unwrap();
    (
        run.status.code().unwrap(),
        String::from_utf8(run.stderr).unwrap(),
    )
}

#[test]
fn files_that_are_of_no_use_are_named() {
    let pki = Pki::new("authority");
    let (pair, other) = (pki.server("server"), pki.server("other"));
    let (cert, key) = (pair.cert.to_str().unwrap(), pair.key.to_str().unwrap());
    let other = other.key.to_str().unwrap();
    let junk = pki.dir().write("junk.pem", "junk");
    let junk = junk.to_str().unwrap();
    for (block, text, named) in [
        (
            format!("cert_file: \"/nonexistent/c\", key_file: \"{key}\""),
            "no such file or directory",
            "/nonexistent/c",
        ),
        (
            format!("cert_file: \"{cert}\", key_file: \"/nonexistent/k\""),
            "no such file or directory",
            "/nonexistent/k",
        ),
        (
            format!("cert_file: \"{junk}\", key_file: \"{key}\""),
            "error parsing X509 certificate/key pair",
            junk,
        ),
        (
            format!("cert_file: \"{cert}\", key_file: \"{junk}\""),
            "error parsing X509 certificate/key pair",
            junk,
        ),
        (
            format!("cert_file: \"{cert}\", key_file: \"{other}\""),
            "error parsing X509 certificate/key pair",
            other,
        ),
        (
            format!(
                "cert_file: \"{cert}\", key_file: \"{key}\", verify: true, ca_file: \"/nonexistent/a\""
            ),
            "no such file or directory",
            "/nonexistent/a",
        ),
        (
            format!(
                "cert_file: \"{cert}\", key_file: \"{key}\", verify: true, ca_file: \"{junk}\""
            ),
            "failed to parse root ca certificate",
            junk,
        ),
        (
            format!("cert_file: \"{cert}\""),
            "missing 'key_file' in TLS configuration",
            "server.conf",
        ),
        (
            format!(
                "cert_file: \"{cert}\", key_file: \"{key}\", pinned_certs: [\"{}\"]",
                pki.pin(&pair)
            ),
            "pinned_certs of a listener need verify: true",
            "server.conf",
        ),
    ] {
        let config = pki.dir().write(
            "server.conf",
            format!("host: \"127.0.0.1\"\nport: -1\ntls {{ {block} }}\n"),
        );
        let (code, err) = petiole(&["-c", config.to_str().unwrap()]);
        assert_eq!(code, 1, "{block}: {err}");
        assert!(err.contains(text) && err.contains(named), "{block}: {err}");
    }
}

#[test]
fn a_strict_start_is_announced() {
    let pki = Pki::new("authority");
    let line =
        "[WRN] Clients that are not using \"TLS Handshake First\" option will fail to connect";
    for target in targets((2, 10, 27)) {
        let server = start(&target, &pki, "tls { {tls}, handshake_first: true }");
        assert!(server.log().contains(line), "{}", server.log());
        let server = start(&target, &pki, "tls { {tls}, handshake_first: auto }");
        assert!(!server.log().contains(line), "{}", server.log());
    }
}

#[test]
fn flags_replace_the_certificates() {
    let pki = Pki::new("authority");
    let (pair, mine) = (pki.server("flags"), pki.server("mine"));
    let (cert, key) = (pair.cert.to_str().unwrap(), pair.key.to_str().unwrap());
    let ca = pki.ca_path();
    let files = ["--tlscert", cert, "--tlskey", key];
    let anonymous = Trust::new(&pki).config();
    let known = Trust::new(&pki).showing(&mine).config();
    let host = "host: \"127.0.0.1\"\nport: {port}\n";
    let block = format!(
        "{host}tls {{ {}, verify: true }}\n",
        pki.server("file").options()
    );
    for target in targets((2, 9, 0)) {
        let start = |config: &str, args: &[&str]| {
            Server::start_with(&target, config, args, TempDir::new(), Ready::Info)
        };
        let server = start(&block, &["--tls=false"]);
        let info = Info::of(&server.connect().info);
        assert_eq!(
            info,
            Info {
                required: false,
                ..REQUIRED
            }
        );
        Client::quiet(server.port());
        for switch in [&["--tls"][..], &[]] {
            for config in [host, &block] {
                let server = start(config, &[switch, &files].concat());
                assert_eq!(Info::of(&server.connect().info), REQUIRED);
                assert_eq!(login(&server, &anonymous, ""), Login::In);
            }
        }
        let verify = ["--tlsverify", "--tlscacert", ca.to_str().unwrap()];
        let server = start(host, &[&files[..], &verify].concat());
        let info = Info::of(&server.connect().info);
        assert_eq!(
            info,
            Info {
                verify: true,
                ..REQUIRED
            }
        );
        assert_eq!(login(&server, &anonymous, ""), Login::Refused);
        assert_eq!(login(&server, &known, ""), Login::In);
    }
}

#[test]
fn flags_leave_who_may_come_and_when_tls_begins() {
    let pki = Pki::new("authority");
    let pair = pki.server("flags");
    let (right, wrong) = (pki.server("right"), pki.server("wrong"));
    let (cert, key) = (pair.cert.to_str().unwrap(), pair.key.to_str().unwrap());
    let ca = pki.ca_path();
    let args = [
        "--tlscert",
        cert,
        "--tlskey",
        key,
        "--tlscacert",
        ca.to_str().unwrap(),
    ];
    let host = "host: \"127.0.0.1\"\nport: {port}\n";
    let tls = Trust::new(&pki).config();
    for target in targets((2, 10, 27)) {
        let start = |more: &str, args: &[&str]| {
            let block = format!("tls {{ {}, {more} }}", pki.server("file").options());
            let ready = Ready::Log("Server is ready");
            Server::start_with(
                &target,
                &format!("{host}{block}\n"),
                args,
                TempDir::new(),
                ready,
            )
        };
        let server = start("handshake_first: true", &args);
        let seen = visit(&server, Way::First, &tls);
        assert_eq!(seen, Seen::Works(None, Some(REQUIRED)), "{}", target.name());
        let pins = format!("verify: true, pinned_certs: [\"{}\"]", pki.pin(&right));
        let server = start(&pins, &[&args[..], &["--tlsverify"]].concat());
        let [right, wrong] = [&right, &wrong].map(|pair| Trust::new(&pki).showing(pair).config());
        assert_eq!(login(&server, &right, ""), Login::In, "{}", target.name());
        assert_eq!(
            login(&server, &wrong, ""),
            Login::Refused,
            "{}",
            target.name()
        );
    }
}
