//! Requests as they are judged, and both ends of an upgrade over a socket. Statuses and answers are
//! those of nats-server 2.15.1, but where it is said.
#![allow(clippy::unwrap_used)]

use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use async_io::Async;
use petiole_core::config::model::WebsocketListener;
use proptest::prelude::*;
use smol::future;

use super::*;
use crate::ws::{Options, Request, leaf_path};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
const PLAIN: Accepted = Accepted {
    deflate: false,
    masking: true,
};

fn upgrades(change: impl FnOnce(&mut WebsocketListener)) -> Upgrades {
    let mut listener = WebsocketListener::default();
    change(&mut listener);
    Upgrades::new(&listener, &Limits::default())
}

/// A request for a path with these lines, which take the place of the usual ones of the same name.
fn request(path: &str, lines: &str) -> String {
    let mut text = format!("GET {path} HTTP/1.1\r\n");
    let named = |name: &str| {
        let mut names = lines.lines().filter_map(|line| line.split_once(':'));
        names.any(|(it, _)| it == name)
    };
    for (name, value) in [
        ("Host", "h:1"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", KEY),
        ("Sec-WebSocket-Version", "13"),
    ] {
        if !named(name) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    for line in lines.lines() {
        text.push_str(&format!("{line}\r\n"));
    }
    text + "\r\n"
}

fn judge(upgrades: &Upgrades, text: &str) -> Result<Answer, Refusal> {
    let answer = upgrades.check(text.as_bytes(), WebScheme::Http)?;
    Ok(answer.expect("the request is whole"))
}

fn taken(upgrades: &Upgrades, lines: &str) -> Upgraded {
    let answer = judge(upgrades, &request("/", lines)).unwrap();
    answer.upgraded
}

#[test]
fn a_request_is_answered_and_what_follows_is_left() {
    let text = request("/", "");
    let plain = upgrades(|_| {});
    let answer = judge(&plain, &(text.clone() + "\u{2}behind")).unwrap();
    assert_eq!(answer.used, text.len());
    assert_eq!(answer.bytes, format!("{ACCEPTED}\r\n").into_bytes());
    let wanted = Upgraded {
        kind: Kind::Client,
        accepted: PLAIN,
        cookies: Cookies::default(),
        forwarded_for: None,
    };
    assert_eq!(answer.upgraded, wanted);
    for cut in 0..text.len() {
        let part = text.get(..cut).unwrap().as_bytes();
        assert_eq!(plain.check(part, WebScheme::Http), Ok(None), "{cut}");
    }
    // Bare line ends are line ends.
    assert!(judge(&plain, &text.replace('\r', "")).is_ok());
}

#[test]
fn the_configuration_adds_headers() {
    let named = upgrades(|it| {
        it.headers = [("X-One", "a"), ("X-Two", "b c")]
            .map(|(name, value)| (name.into(), value.into()))
            .to_vec();
    });
    for path in ["/", "/leafnode"] {
        let answer = judge(&named, &request(path, "")).unwrap();
        let wanted = format!("{ACCEPTED}X-One: a\r\nX-Two: b c\r\n\r\n");
        assert_eq!(String::from_utf8(answer.bytes).unwrap(), wanted);
    }
}

#[test]
fn the_path_says_who_asks() {
    for (path, wanted) in [
        ("/", Ok(Kind::Client)),
        ("/leafnode", Ok(Kind::Leaf)),
        ("/x/y/leafnode", Ok(Kind::Leaf)),
        ("//leafnode", Ok(Kind::Leaf)),
        ("/x/leafnode?a=b", Ok(Kind::Leaf)),
        ("http://foo/leafnode", Ok(Kind::Leaf)),
        ("ws://foo", Ok(Kind::Client)),
        ("/leafnode/", Ok(Kind::Client)),
        ("/leafnode/x", Ok(Kind::Client)),
        ("/xleafnode", Ok(Kind::Client)),
        ("/leaf%6eode", Ok(Kind::Client)),
        ("/x?y=/leafnode", Ok(Kind::Client)),
        ("/mqtt", Err(404)),
        ("/x/mqtt", Err(404)),
        ("/mqtt/x", Ok(Kind::Client)),
        ("*", Err(400)),
        ("foo", Err(400)),
        ("ftp://foo/", Err(400)),
    ] {
        let judged = judge(&upgrades(|_| {}), &request(path, ""));
        let got = judged.map(|it| it.upgraded.kind).map_err(|it| it.status());
        assert_eq!(got, wanted, "{path}");
    }
}

#[test]
fn what_is_refused_and_how() {
    let tall = "a".repeat(20_000);
    let wide = "a: b\n".repeat(MAX_HEADERS);
    for (text, status) in [
        (request("/", "").replace("GET", "POST"), 405),
        (request("/", "").replace("GET", "get"), 405),
        (request("/", "").replace("Host: h:1\r\n", ""), 400),
        (request("/", "Host: "), 400),
        (request("/", "Host: a\nHost: b"), 400),
        (request("/", "Upgrade: websockets"), 400),
        (request("/", "Upgrade: "), 400),
        (request("/", "Connection: keep-alive"), 400),
        (request("/", "Sec-WebSocket-Key: "), 400),
        (request("/", "Sec-WebSocket-Key: abc"), 400),
        (request("/", "Sec-WebSocket-Key: eHh4eHh4eHh4eHh4eHh4"), 400),
        (
            request("/", "Sec-WebSocket-Key: dGhlIHNhbXBs=SBub25jZQ=="),
            400,
        ),
        (request("/", "Sec-WebSocket-Version: 12"), 400),
        (request("/", "Sec-WebSocket-Version: "), 400),
        // There it is taken, and its body ends the connection.
        (request("/", "Content-Length: 5"), 400),
        (request("/", "Transfer-Encoding: chunked"), 400),
        (request("/", "no colon"), 400),
        (request("/", "a b: c"), 400),
        (request("/", " folded: c"), 400),
        (request("/", "a: \u{7}"), 400),
        (request("/", "").replace("HTTP/1.1", "HTTP/2.0"), 505),
        (request("/", "").replace("HTTP/1.1", "HTTP/x"), 400),
        (request("/", "").replace("HTTP/1.1", "HTTP/1.1 "), 400),
        ("hello\r\n\r\n".into(), 400),
        ("CONNECT {}\r\nPING\r\n\r\n".into(), 400),
        ("\r\n\r\n".into(), 400),
        ("\u{16}\u{3}\u{1}".into(), 400),
        // There, above a megabyte.
        (request("/", &format!("a: {tall}")), 431),
        (request("/", &wide), 431),
    ] {
        let refusal = judge(&upgrades(|_| {}), &text).unwrap_err();
        assert_eq!(refusal.status(), status, "{text}");
        assert!(!refusal.to_string().is_empty());
    }
    for text in [
        request(
            "/",
            "Upgrade: h2c, WebSocket\nConnection: keep-alive, UPGRADE",
        ),
        request("/", "Connection: a\nConnection: b,upgrade"),
        request("/", "").replace("HTTP/1.1", "HTTP/1.0"),
        request("/", "Content-Length: 0"),
        request("/", "Sec-WebSocket-Protocol: nats"),
        request("/", "Origin: http://elsewhere"),
        request("/", &format!("a: {}", "a".repeat(9000))),
        request("/", "a: \u{e9}"),
    ] {
        assert!(judge(&upgrades(|_| {}), &text).is_ok(), "{text}");
    }
    let answer = String::from_utf8(Refusal::Method.answer()).unwrap();
    assert_eq!(
        answer,
        "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Sec-WebSocket-Version: 13\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\
         Content-Length: 19\r\n\r\nMethod Not Allowed\n"
    );
}

#[test]
fn pages_come_from_where_they_may() {
    let same = upgrades(|it| it.same_origin = true);
    let listed = upgrades(|it| {
        it.allowed_origins = ["http://a.com", "https://B.com:8443"]
            .map(Into::into)
            .to_vec();
    });
    let both = upgrades(|it| {
        it.same_origin = true;
        it.allowed_origins = ["http://a.com", "http://h:1"].map(Into::into).to_vec();
    });
    for (upgrades, lines, wanted) in [
        (&same, "", None),
        (&same, "Origin: ", None),
        (&same, "Origin: http://H:1", None),
        (&same, "Origin: https://h:1", Some(Refusal::OtherOrigin)),
        (&same, "Origin: http://g:1", Some(Refusal::OtherOrigin)),
        (&same, "Origin: null", Some(Refusal::OtherOrigin)),
        (&same, "Origin: \u{e9}", Some(Refusal::OtherOrigin)),
        (&same, "Origin: http://h:1\nOrigin: http://x", None),
        (
            &same,
            "Origin: http://x\nOrigin: http://h:1",
            Some(Refusal::OtherOrigin),
        ),
        (
            &same,
            "Sec-WebSocket-Origin: http://x",
            Some(Refusal::OtherOrigin),
        ),
        (&listed, "", None),
        (&listed, "Origin: http://A.com:80", None),
        (&listed, "Origin: https://b.com:8443", None),
        (
            &listed,
            "Origin: https://b.com",
            Some(Refusal::OriginNotAllowed),
        ),
        (
            &listed,
            "Origin: https://a.com",
            Some(Refusal::OriginNotAllowed),
        ),
        (
            &listed,
            "Origin: http://sub.a.com",
            Some(Refusal::OriginNotAllowed),
        ),
        (
            &listed,
            "Origin: http://h:1",
            Some(Refusal::OriginNotAllowed),
        ),
        (&both, "Origin: http://h:1", None),
        (&both, "Origin: http://a.com", Some(Refusal::OtherOrigin)),
    ] {
        for path in ["/", "/leafnode"] {
            let judged = judge(upgrades, &request(path, lines));
            assert_eq!(judged.as_ref().err(), wanted.as_ref(), "{lines}");
        }
    }
    assert_eq!(Refusal::OtherOrigin.status(), 403);
    let secure = request("/", "Origin: https://h:1");
    let answer = same.check(secure.as_bytes(), WebScheme::Https);
    assert!(answer.is_ok_and(|it| it.is_some()));
    // The host of a URL counts more.
    let text = request("http://h:2/x", "Origin: http://h:2");
    assert!(judge(&same, &text).is_ok());
}

#[test]
fn compression_is_agreed_on_if_both_want_it() {
    let on = upgrades(|it| it.compression = true);
    let line = |offer: &str| format!("Sec-WebSocket-Extensions: {offer}");
    let agreed = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
        client_no_context_takeover\r\n";
    for offer in [
        "permessage-deflate",
        "Permessage-Deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=10",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; server_max_window_bits=15",
        "x, permessage-deflate; client_max_window_bits=\"9\"",
        // The second of two.
        "permessage-deflate; server_max_window_bits=10, permessage-deflate",
    ] {
        let text = request("/", &line(offer));
        let answer = judge(&on, &text).unwrap();
        assert!(answer.upgraded.accepted.deflate, "{offer}");
        let bytes = String::from_utf8(answer.bytes).unwrap();
        assert_eq!(bytes, format!("{ACCEPTED}{agreed}\r\n"), "{offer}");
        let off = judge(&upgrades(|_| {}), &text).unwrap();
        assert!(!off.upgraded.accepted.deflate);
        assert_eq!(off.bytes, format!("{ACCEPTED}\r\n").into_bytes());
    }
    for offer in [
        "",
        "x-webkit-deflate-frame",
        "permessage-deflated",
        // There they are taken without a word about it.
        "permessage-deflate; server_max_window_bits=10",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; foo",
    ] {
        let accepted = taken(&on, &line(offer)).accepted;
        assert!(!accepted.deflate, "{offer}");
    }
}

#[test]
fn masks_are_left_out_if_asked() {
    let plain = upgrades(|_| {});
    let text = request("/", "Nats-No-Masking: true");
    let answer = judge(&plain, &text).unwrap();
    assert!(!answer.upgraded.accepted.masking);
    let wanted = format!("{ACCEPTED}Nats-No-Masking: true\r\n\r\n");
    assert_eq!(answer.bytes, wanted.into_bytes());
    for line in ["Nats-No-Masking: True", "Nats-No-Masking: ", ""] {
        assert!(taken(&plain, line).accepted.masking, "{line}");
    }
}

#[test]
fn cookies_are_found_by_their_names() {
    let named = upgrades(|it| {
        it.cookies.user = Some("cu".into());
        it.cookies.pass = Some("cp".into());
        it.cookies.token = Some("ct".into());
        it.cookies.jwt = Some("cj".into());
    });
    for (line, user, pass) in [
        ("Cookie: cu=v; cp=p", Some("v"), Some("p")),
        ("Cookie: cu=v;cp=p", Some("v"), Some("p")),
        ("Cookie: cu=\"v\"; cp=\"p\"", Some("v"), Some("p")),
        ("Cookie: cu=v\nCookie: cp=p", Some("v"), Some("p")),
        ("Cookie: cu=v; cp=p; cu=u", Some("u"), Some("p")),
        ("Cookie: CU=v; cp=a=b", None, Some("a=b")),
        ("Cookie:  cu = v ; cp = p", Some(" v"), Some(" p")),
        ("Cookie: cu=a\"b; cp=a\\b", None, None),
        ("Cookie: cu=\u{e9}; cp=p", None, Some("p")),
        ("Cookie: cu; cp=", None, Some("")),
        ("", None, None),
    ] {
        let cookies = taken(&named, line).cookies;
        let got = (
            cookies.user.as_deref(),
            cookies.pass.as_ref().map(Secret::reveal),
        );
        assert_eq!(got, (user, pass), "{line}");
    }
    let cookies = taken(&named, "Cookie: ct=t; cj=j; x=y").cookies;
    assert_eq!(cookies.token, Some(Secret::new("t")));
    assert_eq!(cookies.jwt, Some(Secret::new("j")));
    // Without names nobody is looked for.
    let none = taken(&upgrades(|_| {}), "Cookie: cu=v; =w").cookies;
    assert_eq!(none, Cookies::default());
}

#[test]
fn a_proxy_says_whom_it_serves() {
    for (line, wanted) in [
        ("X-Forwarded-For: 1.2.3.4", Some("1.2.3.4")),
        ("X-Forwarded-For:   2001:db8::1 ", Some("2001:db8::1")),
        (
            "X-Forwarded-For: 1.2.3.4\nX-Forwarded-For: 5.6.7.8",
            Some("1.2.3.4"),
        ),
        ("X-Forwarded-For: 1.2.3.4, 5.6.7.8", None),
        ("X-Forwarded-For: 1.2.3.4:55", None),
        ("X-Forwarded-For: foo", None),
        ("", None),
    ] {
        let forwarded = taken(&upgrades(|_| {}), line).forwarded_for;
        assert_eq!(forwarded, wanted.map(|ip| ip.parse().unwrap()), "{line}");
    }
}

fn sockets() -> (TcpStream, Transport) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    dialled
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let (accepted, _) = listener.accept().unwrap();
    (dialled, Transport::clear(Async::new(accepted).unwrap()))
}

async fn write(transport: &mut Transport, bytes: &[u8]) {
    let mut sent = 0;
    while sent < bytes.len() {
        let rest = [IoSlice::new(&bytes[sent..])];
        sent += future::poll_fn(|cx| transport.poll_write(cx, &rest))
            .await
            .unwrap();
    }
    future::poll_fn(|cx| transport.poll_flush(cx))
        .await
        .unwrap();
}

async fn read(transport: &mut Transport, count: usize) -> Vec<u8> {
    let mut got = Vec::new();
    let mut chunk = vec![0; 50_000];
    while got.len() < count {
        let count = future::poll_fn(|cx| transport.poll_read(cx, &mut chunk))
            .await
            .unwrap();
        assert!(count > 0);
        got.extend_from_slice(&chunk[..count]);
    }
    got
}

/// What our own dialling side asks for, it gets, and both understand each other.
#[test]
fn both_our_ends_understand_each_other() {
    let text: Vec<u8> = (0..40_000_u32)
        .flat_map(|n| format!("PUB a.{n} 0\r\n\r\n").into_bytes())
        .collect();
    for (compression, no_masking, serves) in [
        (false, false, false),
        (false, true, true),
        (true, false, true),
        (true, true, true),
        (true, true, false),
    ] {
        let upgrades = upgrades(|it| it.compression = serves);
        let (dialled, mut near) = sockets();
        dialled.set_read_timeout(None).unwrap();
        let mut far = Transport::clear(Async::new(dialled).unwrap());
        let options = Options {
            compression,
            no_masking,
        };
        let request = Request::new("h:1", &leaf_path(""), "petiole", options, KEY).unwrap();
        let text = &text;
        smol::block_on(async {
            let hub = async {
                let upgraded = upgrades.upgrade(&mut near).await.unwrap();
                assert_eq!(upgraded.kind, Kind::Leaf);
                assert_eq!(upgraded.accepted.deflate, compression && serves);
                assert_eq!(upgraded.accepted.masking, !no_masking);
                assert!(near.is_framed());
                write(&mut near, b"INFO {}\r\n").await;
                assert!(read(&mut near, text.len()).await == *text);
                write(&mut near, text).await;
            };
            let leaf = async {
                far.upgrade_to_websocket(&request).await.unwrap();
                assert_eq!(read(&mut far, 9).await, b"INFO {}\r\n");
                write(&mut far, text).await;
                assert!(read(&mut far, text.len()).await == *text);
            };
            future::zip(hub, leaf).await;
        });
    }
}

/// A frame as a client sends it.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let len = u8::try_from(payload.len()).unwrap();
    let mut frame = vec![first, 0x80 | len];
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b));
    frame
}

/// The end may be in the same read as what comes before it.
#[test]
fn frames_right_behind_the_request_are_read() {
    for at_once in [false, true] {
        let (mut dialled, mut near) = sockets();
        let close = masked(0x88, b"\x03\xe8bye");
        let mut wire = request("/", "").into_bytes();
        wire.extend(masked(0x02, b"PI"));
        if !at_once {
            wire.extend(masked(0x89, b"x"));
        }
        wire.extend(masked(0x80, b"NG\r\n"));
        if at_once {
            wire.extend(&close);
        }
        dialled.write_all(&wire).unwrap();
        smol::block_on(async {
            upgrades(|_| {}).upgrade(&mut near).await.unwrap();
            assert_eq!(read(&mut near, 6).await, b"PING\r\n");
            if !at_once {
                write(&mut near, b"PONG\r\n").await;
                dialled.write_all(&close).unwrap();
            }
            let end = future::poll_fn(|cx| near.poll_read(cx, &mut [0; 10])).await;
            let error = end.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            let words = "the peer closed the WebSocket: 1000 (done): \"bye\"";
            assert_eq!(error.to_string(), words);
        });
        drop(near);
        let mut answer = Vec::new();
        dialled.read_to_end(&mut answer).unwrap();
        let frames: &[u8] = if at_once {
            b"\x88\x02\x03\xe8"
        } else {
            b"\x8a\x01x\x82\x06PONG\r\n\x88\x02\x03\xe8"
        };
        let wanted = [format!("{ACCEPTED}\r\n").as_bytes(), frames].concat();
        assert_eq!(answer, wanted);
    }
}

#[test]
fn a_refused_request_is_answered() {
    let (mut dialled, mut near) = sockets();
    dialled.write_all(request("/mqtt", "").as_bytes()).unwrap();
    let end = smol::block_on(upgrades(|_| {}).upgrade(&mut near));
    assert!(matches!(end, Err(UpgradeError::Refused(Refusal::Mqtt))));
    assert!(!near.is_framed());
    let mut answer = String::new();
    dialled.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nNot Found\n"), "{answer}");
}

#[test]
fn who_leaves_early_is_not_answered() {
    let (mut dialled, mut near) = sockets();
    dialled.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n").unwrap();
    dialled.shutdown(std::net::Shutdown::Write).unwrap();
    let end = smol::block_on(upgrades(|_| {}).upgrade(&mut near));
    assert!(matches!(end, Err(UpgradeError::Left)));
    drop(near);
    let mut answer = String::new();
    dialled.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "");
}

#[test]
fn a_frame_without_a_mask_is_the_end() {
    let (mut dialled, mut near) = sockets();
    let mut wire = request("/", "").into_bytes();
    wire.extend(b"\x82\x06PING\r\n");
    dialled.write_all(&wire).unwrap();
    smol::block_on(async {
        upgrades(|_| {}).upgrade(&mut near).await.unwrap();
        let end = future::poll_fn(|cx| near.poll_read(cx, &mut [0; 10])).await;
        let words = "WebSocket protocol violation by the peer: a frame without a mask";
        assert_eq!(end.unwrap_err().to_string(), words);
    });
    drop(near);
    let mut answer = Vec::new();
    let _ = dialled.read_to_end(&mut answer);
    assert!(answer.ends_with(b"\r\n\r\n\x88\x02\x03\xea"));
}

proptest! {
    /// A request is the same in any pieces, whatever is in it.
    #[test]
    fn pieces_do_not_matter(
        method in "(GET|POST|[A-Z]{0,4})",
        target in "(/[a-z/?%]{0,8}(leafnode|mqtt)?|http://[a-z:1]{0,5}/leafnode|[ -~]{0,4})",
        lines in prop::collection::vec(prop_oneof![
            Just("Host: h:1".to_string()),
            Just("Upgrade: websocket".to_string()),
            Just("Connection: Upgrade".to_string()),
            Just(format!("Sec-WebSocket-Key: {KEY}")),
            Just("Sec-WebSocket-Version: 13".to_string()),
            "Origin: (https?://)?[a-z:1\\[\\]@/]{0,8}",
            "Cookie: [a-c=;\" ]{0,12}",
            "Sec-WebSocket-Extensions: (permessage-deflate|[a-z]{0,3}|; ?|, ?|(server|client)_max_window_bits(=[0-9\"]{0,3})?){0,5}",
            "[A-Za-z-]{0,8}:? ?\\PC{0,8}",
        ], 0..12),
        end in "(\r\n|\n){0,2}",
        behind in prop::collection::vec(any::<u8>(), 0..20),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let upgrades = upgrades(|it| {
            it.compression = true;
            it.same_origin = true;
            it.cookies.user = Some("a".into());
        });
        let mut wire = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
        for line in &lines {
            wire.extend_from_slice(line.as_bytes());
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(end.as_bytes());
        wire.extend_from_slice(&behind);
        let whole = upgrades.check(&wire, WebScheme::Http);
        if let Ok(Some(answer)) = &whole {
            prop_assert!(answer.used <= wire.len());
            prop_assert!(answer.bytes.starts_with(b"HTTP/1.1 101 "));
            prop_assert!(answer.bytes.ends_with(b"\r\n\r\n"));
        }
        let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
        at.push(wire.len());
        at.sort_unstable();
        let mut seen = 0;
        let mut last = Ok(None);
        for until in at {
            last = upgrades.look(&wire[..until], seen, WebScheme::Http);
            if last != Ok(None) {
                break;
            }
            seen = until;
        }
        prop_assert_eq!(last, whole);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let upgrades = upgrades(|it| it.same_origin = true);
        let _ = upgrades.check(&bytes, WebScheme::Https);
        let mut request = b"GET / HTTP/1.1\r\n".to_vec();
        request.extend_from_slice(&bytes);
        request.extend_from_slice(b"\r\n\r\n");
        let _ = upgrades.check(&request, WebScheme::Https);
    }
}
