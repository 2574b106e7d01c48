//! petiole's websocket listener: clients over it, side by side with real servers, and leafs of all
//! versions.

use std::time::{Duration, Instant};

use crate::common::{Joined, eventually, request};
use crate::support::{
    Client, Frame, Pair, Pki, QUIET, Refused, Server, Target, Trust, Visit, Wire, WsClient, newest,
    servers, skip_loudly,
};

const CLEAR: &str = "no_tls: true";

fn targets() -> Vec<Target> {
    let real = servers().iter().cloned().map(Target::Real);
    std::iter::once(Target::Petiole).chain(real).collect()
}

/// petiole, and the server that it follows in what it says.
fn petiole_and_newest() -> Vec<Target> {
    let real = newest().cloned().map(Target::Real);
    if real.is_none() {
        skip_loudly("WebSocket: no real server to compare with");
    }
    std::iter::once(Target::Petiole).chain(real).collect()
}

/// A hub with a websocket listener of these options.
fn config(block: &str, more: &str) -> String {
    format!(
        "host: \"127.0.0.1\"\nport: {{port}}\nserver_name: HUB\n\
         websocket {{ host: \"127.0.0.1\", port: {{port:ws}}\n{block} }}\n{more}\n"
    )
}

const LEAFNODES: &str = "leafnodes { host: \"127.0.0.1\", port: {port:leaf} }";

fn start(target: &Target, block: &str, more: &str) -> Server {
    println!("{}: {block} {more}", target.name());
    Server::start(target, &config(block, more))
}

fn visit(server: &Server) -> Visit {
    Visit::new(server.port_of("ws"))
}

/// What a client with these fields of CONNECT is told to it and a PING.
fn told(visit: &Visit, fields: &str) -> String {
    let mut client = visit.client();
    client.say(format!("CONNECT {{\"verbose\":false{fields}}}\r\nPING\r\n"));
    match client.next() {
        Some(Frame { opcode: 2, payload }) => String::from_utf8(payload).unwrap(),
        other => panic!("{other:?}"),
    }
}

const PONG: &str = "PONG\r\n";
const VIOLATION: &str = "-ERR 'Authorization Violation'\r\n";

#[test]
fn clients_are_served() {
    let pki = Pki::new("CA");
    let trust = Trust::new(&pki).config();
    let tls = format!("tls {{ {} }}", pki.server("hub").options());
    for target in targets() {
        for block in [CLEAR, &tls] {
            let server = start(&target, &format!("{block}\ncompression: true"), "");
            let mut plain = visit(&server);
            if block != CLEAR {
                plain = plain.tls(&trust);
            }
            let bare = plain.clone().header("Nats-No-Masking", "true");
            let deflate = plain.clone().deflate();
            let both = bare.clone().deflate();
            let mut standard = Client::quiet(server.port());
            standard.tell("SUB from.ws 1\r\n");
            for visit in [plain, bare, deflate.clone(), both.clone()] {
                let mut client = visit.quiet();
                let compresses = client.answer.contains("permessage-deflate");
                assert_eq!(compresses, visit.text().contains("permessage-deflate"));
                client.say("SUB to.ws 1\r\nSUB large 2\r\nPING\r\n");
                client.expect(PONG);
                standard.tell("PUB to.ws 5\r\nhello\r\n");
                client.expect("MSG to.ws 1 5\r\nhello\r\n");
                client.say("PUB from.ws 5\r\nworld\r\n");
                assert_eq!(standard.expect_msg().text(), "world");
                let large = "large ".repeat(170_000);
                let length = large.len();
                client.say(format!("PUB large {length}\r\n{large}\r\n"));
                client.expect(&format!("MSG large 2 {length}\r\n{large}\r\n"));
                assert_eq!(client.compressed > 0, compresses);
            }
        }
    }
}

#[test]
fn frames_are_taken_as_they_come() {
    for target in targets() {
        let server = start(&target, CLEAR, "");
        let mut client = visit(&server).quiet();
        // Text, fragments with a ping between them, an operation over several frames, several
        // operations in one.
        client.frame(0x81, b"SUB a 1\r\nSUB b 2\r\nPUB a ");
        client.frame(0x02, b"2\r\nx");
        client.frame(0x89, b"between");
        client.frame(0x00, b"");
        client.frame(0x80, b"y\r\nPUB b 1\r\nz\r\nPING\r\n");
        let mut said = Vec::new();
        let mut pong = None;
        while !said.ends_with(b"PONG\r\n") {
            match client.next().unwrap() {
                Frame { opcode: 2, payload } => said.extend(payload),
                Frame { opcode, payload } => pong = Some((opcode, payload)),
            }
        }
        assert_eq!(said, b"MSG a 1 2\r\nxy\r\nMSG b 2 1\r\nz\r\nPONG\r\n");
        assert_eq!(pong, Some((10, b"between".to_vec())));
        // A close is answered with its code.
        client.frame(0x88, b"\x03\xe8done");
        let end = client.end();
        let (code, _) = end.close.unwrap();
        assert_eq!((end.said.as_str(), code), ("", 1000));
    }
}

#[test]
fn what_is_wrong_with_frames_ends_the_link() {
    for target in targets() {
        let server = start(&target, CLEAR, "");
        for frame in [
            // Not masked.
            b"\x82\x06PING\r\n".to_vec(),
            // Compressed, without that being agreed on.
            crate::support::masked(0xc2, b"PING\r\n"),
            // An unknown opcode.
            crate::support::masked(0x83, b"PING\r\n"),
            // A ping in fragments.
            crate::support::masked(0x09, b""),
        ] {
            let mut client = visit(&server).quiet();
            // 2.9 and 2.10 look at less.
            if target.version() < (2, 15, 0) && frame[0] == 0xc2 {
                continue;
            }
            client.wire.send(&frame);
            let end = client.end();
            assert_eq!(end.said, "", "{frame:?}");
            if target == Target::Petiole {
                assert_eq!(end.close, Some((1002, String::new())), "{frame:?}");
            }
        }
    }
}

#[test]
fn the_end_says_why() {
    let users = "authorization { user: u, password: p, timeout: 1 }";
    for target in targets() {
        let server = start(&target, CLEAR, users);
        let connect = "CONNECT {\"verbose\":false,\"user\":\"u\",\"pass\":\"p\"";
        let wrong = connect.replace("\"p\"", "\"x\"");
        for (words, err, code, reason) in [
            (
                format!("{wrong}}}\r\n"),
                "Authorization Violation",
                1008,
                "Authentication Failure",
            ),
            (
                format!("{connect}}}\r\nPUB a 99999999\r\n"),
                "Maximum Payload Violation",
                1009,
                "Maximum Message Payload Exceeded",
            ),
            (
                format!("{connect}}}\r\nSUB {}", "a".repeat(5000)),
                "maximum control line exceeded",
                1008,
                "Maximum Control Line Exceeded",
            ),
            (
                format!("{connect},\"protocol\":7}}\r\n"),
                "invalid client protocol",
                1002,
                "Bad Client Protocol Version",
            ),
            (
                format!("{connect},\"no_responders\":true}}\r\n"),
                "no responders requires headers support",
                1011,
                "No Responders Requires Headers",
            ),
            (
                String::new(),
                "Authentication Timeout",
                1008,
                "Authentication Timeout",
            ),
        ] {
            let mut client = visit(&server).client();
            client.say(&words);
            let end = client.end();
            assert_eq!(end.said, format!("-ERR '{err}'\r\n"));
            assert_eq!(end.close, Some((code, reason.to_owned())), "{err}");
        }
    }
    let mut server = start(&Target::Petiole, CLEAR, "");
    let mut client = visit(&server).quiet();
    client.say("FOO\r\n");
    let end = client.end();
    assert_eq!(end.said, "-ERR 'Unknown Protocol Operation'\r\n");
    assert_eq!(end.close, Some((1002, "Protocol Violation".into())));
    let mut client = visit(&server).quiet();
    server.stop();
    assert_eq!(client.end().close, Some((1001, "Server Shutdown".into())));
}

fn status(visit: &Visit) -> u16 {
    visit.ask().map_or_else(|refused| refused.status, |_| 101)
}

#[test]
fn requests_are_judged_as_by_nats_server() {
    for target in petiole_and_newest() {
        let server = start(&target, CLEAR, "");
        let visit = || visit(&server);
        let rows = [
            (visit().method("POST"), 405),
            (visit().header("Upgrade", "h2c"), 400),
            (visit().header("Upgrade", ""), 400),
            (visit().header("Connection", "close"), 400),
            (visit().header("Connection", "keep-alive, Upgrade"), 101),
            (visit().header("Sec-WebSocket-Version", "8"), 400),
            (visit().header("Sec-WebSocket-Key", ""), 400),
            (visit().header("Sec-WebSocket-Key", "c2hvcnQ="), 400),
            (visit().path("/mqtt"), 404),
            (visit().path("/some/path?query"), 101),
            (visit().path("/leafnode/x"), 101),
            // Nobody has said where pages may come from.
            (visit().header("Origin", "https://evil.example"), 101),
        ];
        for (visit, wanted) in rows {
            assert_eq!(status(&visit), wanted, "{}", visit.text());
        }
        let refused = visit().method("POST").ask().err();
        let body = "Method Not Allowed\n".to_owned();
        assert_eq!(refused, Some(Refused { status: 405, body }));
        server.wait_for_log("websocket handshake error");
    }
}

#[test]
fn pages_may_come_from_where_it_says() {
    for target in petiole_and_newest() {
        for (block, rows) in [
            (
                "same_origin: true",
                &[
                    ("http://127.0.0.1:PORT", 101),
                    ("http://127.0.0.1", 403),
                    ("https://127.0.0.1:PORT", 403),
                    ("", 101),
                ][..],
            ),
            (
                "allowed_origins: [\"https://a.example\", \"http://b.example:8080\"]",
                &[
                    ("https://a.example", 101),
                    ("https://a.example:443", 101),
                    ("http://a.example", 403),
                    ("http://b.example:8080", 101),
                    ("http://b.example", 403),
                    ("", 101),
                ],
            ),
        ] {
            let server = start(&target, &format!("{CLEAR}\n{block}"), "");
            let port = server.port_of("ws").to_string();
            for (origin, wanted) in rows {
                let visit = visit(&server).header("Origin", &origin.replace("PORT", &port));
                assert_eq!(status(&visit), *wanted, "{origin}");
            }
        }
    }
}

/// Verbatim what a browser sends, but for the port.
#[test]
fn a_browser_is_served() {
    for target in targets() {
        let block = format!("{CLEAR}\ncompression: true\nsame_origin: true\ntoken_cookie: tok");
        // Those before know no such cookie.
        let older = target.version() < (2, 15, 0);
        let (block, more) = match older {
            true => (block.replace("token_cookie: tok", ""), ""),
            false => (block, "authorization { token: s3cr3t }"),
        };
        let server = start(&target, &block, more);
        let port = server.port_of("ws");
        let request = format!(
            "GET / HTTP/1.1\r\n\
             Host: 127.0.0.1:{port}\r\n\
             Connection: Upgrade\r\n\
             Pragma: no-cache\r\n\
             Cache-Control: no-cache\r\n\
             User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
             Chrome/131.0.0.0 Safari/537.36\r\n\
             Upgrade: websocket\r\n\
             Origin: http://127.0.0.1:{port}\r\n\
             Sec-WebSocket-Version: 13\r\n\
             Accept-Encoding: gzip, deflate, br, zstd\r\n\
             Accept-Language: en-US,en;q=0.9\r\n\
             Cookie: theme=dark; tok=s3cr3t; other=\"quoted value\"\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
        );
        let wire = Wire::dial(port).unwrap();
        let mut client = WsClient::ask(wire, &request).unwrap();
        assert!(client.answer.contains("permessage-deflate"));
        client.info();
        client.say("CONNECT {\"verbose\":false}\r\nSUB a 1\r\nPING\r\n");
        client.expect(PONG);
        let text = "compressed ".repeat(300);
        client.say(format!("PUB a {}\r\n{text}\r\n", text.len()));
        client.expect(&format!("MSG a 1 {}\r\n{text}\r\n", text.len()));
        assert!(client.compressed > 0);
    }
}

#[test]
fn cookies_say_what_connect_leaves_out() {
    let names = "user_cookie: u, pass_cookie: p, token_cookie: t";
    for target in petiole_and_newest() {
        let block = format!("{CLEAR}\n{names}");
        let server = start(&target, &block, "authorization { user: me, password: it }");
        let with = |cookie: &str| visit(&server).header("Cookie", cookie);
        for (cookie, fields, wanted) in [
            ("u=me; p=it", "", PONG),
            ("u=me; p=no", "", VIOLATION),
            ("u=me", ",\"pass\":\"it\"", PONG),
            ("u=me; p=no", ",\"pass\":\"it\"", PONG),
            ("x=me", ",\"pass\":\"it\"", VIOLATION),
            ("u=me; p=it", ",\"user\":\"else\"", VIOLATION),
        ] {
            assert_eq!(told(&with(cookie), fields), wanted, "{cookie} {fields}");
        }
        let server = start(&target, &block, "authorization { token: tk }");
        let with = |cookie: &str| visit(&server).header("Cookie", cookie);
        assert_eq!(told(&with("t=tk"), ""), PONG);
        assert_eq!(told(&with("t=kt"), ""), VIOLATION);
        assert!(!server.log().contains("kt"), "the log shows a cookie");
    }
}

const USERS: &str = "accounts {
    A: { users: [
        { user: any, password: p }
        { user: web, password: p, allowed_connection_types: [WEBSOCKET] }
        { user: std, password: p, allowed_connection_types: [STANDARD] }
        { user: leaf, password: p, allowed_connection_types: [LEAFNODE] }
        { user: webleaf, password: p, allowed_connection_types: [LEAFNODE_WS] }
    ] }
    B: { users: [ { user: b, password: p } ] }
}";

fn user(name: &str) -> String {
    format!(",\"user\":\"{name}\",\"pass\":\"p\"")
}

#[test]
fn users_may_come_by_what_they_are_allowed() {
    for target in targets() {
        let server = start(&target, CLEAR, USERS);
        for (name, wanted) in [
            ("any", PONG),
            ("web", PONG),
            ("std", VIOLATION),
            ("leaf", VIOLATION),
            ("webleaf", VIOLATION),
        ] {
            assert_eq!(told(&visit(&server), &user(name)), wanted, "{name}");
        }
        assert_eq!(told(&visit(&server), ""), VIOLATION);
    }
}

#[test]
fn the_block_has_users_of_its_own() {
    for target in targets() {
        let block = format!("{CLEAR}\nno_auth_user: web");
        let server = start(&target, &block, USERS);
        let mut client = visit(&server).client();
        // Without a CONNECT even, but at older ones.
        if target.version() >= (2, 15, 0) {
            client.say("PING\r\n");
            client.expect(PONG);
        }
        assert_eq!(told(&visit(&server), ""), PONG);
        assert_eq!(told(&visit(&server), &user("any")), PONG);
        let block = format!("{CLEAR}\nauthorization {{ user: w, password: p }}");
        let server = start(&target, &block, "authorization { user: g, password: p }");
        assert_eq!(told(&visit(&server), &user("w")), PONG);
        assert_eq!(told(&visit(&server), &user("g")), VIOLATION);
    }
}

#[test]
fn info_is_about_the_listener() {
    let pki = Pki::new("CA");
    let trust = Trust::new(&pki).config();
    let tls = format!("tls {{ {} }}", pki.server("hub").options());
    for target in petiole_and_newest() {
        let clear = start(&target, &format!("{CLEAR}\nadvertise: \"a:1\""), LEAFNODES);
        let secure = start(&target, &tls, "");
        for (server, visit, tls) in [
            (&clear, visit(&clear), false),
            (&secure, visit(&secure).tls(&trust), true),
        ] {
            let mut client = visit.ask().unwrap();
            let info = client.info();
            assert_eq!(info["host"], "127.0.0.1");
            assert_eq!(info["port"], server.port_of("ws"));
            for name in ["tls_required", "tls_available"] {
                assert_eq!(info.get(name).is_some(), tls, "{name}");
            }
            for absent in ["connect_urls", "ws_connect_urls", "tls_verify"] {
                assert!(info.get(absent).is_none(), "{absent}");
            }
        }
        // A leaf is told of the other listener.
        let mut leaf = visit(&clear).path("/some/leafnode").ask().unwrap();
        let info = leaf.info();
        let port = clear.port_of("leaf");
        assert_eq!(info["port"], port);
        let urls = serde_json::json!([format!("127.0.0.1:{port}")]);
        assert_eq!(info["leafnode_urls"], urls);
        // Leafs that hear of S2 ask for it.
        if target == Target::Petiole {
            assert!(info.get("compression").is_none());
        }
    }
}

#[test]
fn answers_have_the_headers_of_the_block() {
    for target in petiole_and_newest() {
        let block = format!("{CLEAR}\nheaders {{ X-Frame-Options: DENY }}");
        let client = visit(&start(&target, &block, "")).client();
        assert!(client.answer.contains("X-Frame-Options: DENY"));
    }
}

#[test]
fn leafs_without_a_listener_of_theirs_are_left() {
    for target in targets() {
        let server = start(&target, CLEAR, "");
        let mut leaf = visit(&server).path("/leafnode").ask().unwrap();
        assert!(leaf.next().is_none());
        server.wait_for_log("Not configured to accept leaf node connections");
    }
}

#[test]
fn http_in_clear_is_answered_where_tls_is_due() {
    let pki = Pki::new("CA");
    let tls = format!("tls {{ {} }}", pki.server("hub").options());
    for target in petiole_and_newest() {
        let server = start(&target, &tls, "");
        let mut wire = Wire::dial(server.port_of("ws")).unwrap();
        wire.send(visit(&server).text());
        let answer = String::from_utf8(wire.rest()).unwrap();
        assert_eq!(
            answer,
            "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
        );
        server.wait_for_log("TLS handshake error");
    }
}

#[test]
fn nobody_is_waited_for_longer_than_it_says() {
    let pki = Pki::new("CA");
    let trust = Trust::new(&pki).config();
    let tls = format!("tls {{ {} }}", pki.server("hub").options());
    let patience = "handshake_timeout: \"300ms\"";
    let server = start(&Target::Petiole, &format!("{tls}\n{patience}"), "");
    let begun = Instant::now();
    let mut silent = Wire::dial(server.port_of("ws")).unwrap();
    let mut secured = Wire::dial(server.port_of("ws")).unwrap();
    secured.secure(&trust).unwrap();
    secured.send("GET / HTTP/1.1\r\n");
    assert_eq!(silent.rest(), b"");
    assert_eq!(secured.rest(), b"");
    assert!(begun.elapsed() >= Duration::from_millis(300));
    server.wait_for_log("TLS handshake timeout");
    server.wait_for_log("no whole request within 300ms");
    // Who has come is not hurried.
    let mut client = visit(&server).tls(&trust).quiet();
    let mut witness = Wire::dial(server.port_of("ws")).unwrap();
    assert_eq!(witness.rest(), b"");
    client.say("PING\r\n");
    client.expect(PONG);
}

#[test]
fn handshakes_have_a_rate() {
    let pki = Pki::new("CA");
    let trust = Trust::new(&pki).config();
    let tls = format!(
        "tls {{ {}, connection_rate_limit: 1 }}",
        pki.server("hub").options()
    );
    let server = start(&Target::Petiole, &tls, "");
    let dial = || Wire::dial(server.port_of("ws")).unwrap();
    // At most two seconds are begun within ten attempts that all fail but for two.
    let refused = (0..10).filter(|_| dial().secure(&trust).is_err()).count();
    assert!(refused >= 1, "all were let in");
    server.wait_for_log("connections due to TLS rate limiting");
}

#[test]
fn a_certificate_says_who_comes() {
    let pki = Pki::new("CA");
    let block = format!(
        "tls {{ {}, {}, verify_and_map: true }}",
        pki.server("hub").options(),
        pki.ca()
    );
    let users = "authorization { users: [ { user: \"CN=me\" } ] }";
    for target in petiole_and_newest() {
        let server = start(&target, &block, users);
        let with = |pair: &Pair| {
            let trust = Trust::new(&pki).showing(pair).config();
            told(&visit(&server).tls(&trust), "")
        };
        assert_eq!(with(&pki.sign("me", |_| {})), PONG);
        assert_eq!(with(&pki.sign("you", |_| {})), VIOLATION);
    }
}

/// A leaf with one remote.
fn leaf(target: &Target, remote: &str) -> Server {
    let config = format!(
        "host: \"127.0.0.1\"\nport: {{port}}\nserver_name: LEAF\n\
         leafnodes {{ reconnect: 1, remotes: [ {{ {remote} }} ] }}\n"
    );
    Server::start(target, &config)
}

#[test]
fn leafs_of_all_versions_come_over_websocket() {
    let pki = Pki::new("CA");
    let tls = format!("tls {{ {} }}", pki.server("hub").options());
    let ca = format!("tls {{ {} }}", pki.ca());
    for (block, scheme, more) in [
        (CLEAR, "ws", ""),
        (CLEAR, "ws", "ws_compression: true, ws_no_masking: true"),
        (&tls, "wss", &ca),
    ] {
        let block = format!("{block}\ncompression: true");
        let mut hub = start(&Target::Petiole, &block, LEAFNODES);
        let url = format!(
            "url: \"{scheme}://127.0.0.1:{}\"\n{more}",
            hub.port_of("ws")
        );
        for target in targets() {
            println!("{} {more}", target.name());
            let leaf = leaf(&target, &url);
            let mut joined = Joined::new(&leaf, &hub, "", "");
            both_ways(&leaf, &hub, &mut joined);
            hub.restart();
            let mut joined = Joined::new(&leaf, &hub, "", "");
            both_ways(&leaf, &hub, &mut joined);
        }
    }
}

/// A request from either side, with a megabyte there and back.
fn both_ways(leaf: &Server, hub: &Server, joined: &mut Joined) {
    let large = "x".repeat(1 << 20);
    for (from, to) in [(leaf, hub), (hub, leaf)] {
        let (mut asker, mut service) = (Client::quiet(from.port()), Client::quiet(to.port()));
        service.tell("SUB service 1\r\n");
        joined.settle();
        for payload in ["small", &large] {
            let answer = std::thread::scope(|scope| {
                scope.spawn(|| {
                    let question = service.expect_msg();
                    let reply = question.reply().expect("a reply subject");
                    let text = question.text();
                    service.send(format!("PUB {reply} {}\r\n{text}\r\n", text.len()));
                });
                request(&mut asker, "service", payload)
            });
            assert_eq!(answer.text().len(), payload.len());
        }
    }
}

#[test]
fn leafs_over_websocket_are_let_in_as_by_nats_server() {
    for target in petiole_and_newest() {
        // Who is let in is told so in a second INFO.
        let account = |server: &Server, fields: &str| {
            let mut leaf = visit(server).path("/leafnode").client();
            leaf.say(format!(
                "CONNECT {{\"name\":\"x\",\"version\":\"2.15.1\"{fields}}}\r\n"
            ));
            let frame = leaf.next().unwrap();
            let text = String::from_utf8(frame.payload).unwrap();
            let line = text.lines().next().unwrap().to_owned();
            match line.strip_prefix("INFO ") {
                None => format!("{line}\r\n"),
                Some(json) => {
                    let info: serde_json::Value = serde_json::from_str(json).unwrap();
                    info["remote_account"].as_str().unwrap().to_owned()
                }
            }
        };
        let server = start(&target, CLEAR, &format!("{LEAFNODES}\n{USERS}"));
        for (name, wanted) in [
            ("any", "A"),
            ("webleaf", "A"),
            ("leaf", VIOLATION),
            ("web", VIOLATION),
        ] {
            assert_eq!(account(&server, &user(name)), wanted, "{name}");
        }
        let block = format!("{CLEAR}\nno_auth_user: any");
        let own = "leafnodes { host: \"127.0.0.1\", port: {port:leaf}, \
                   authorization { user: l, password: p, account: B } }";
        let server = start(&target, &block, &format!("{LEAFNODES}\n{USERS}"));
        assert_eq!(account(&server, ""), "A");
        let server = start(&target, &block, &format!("{own}\n{USERS}"));
        assert_eq!(account(&server, ""), VIOLATION);
        assert_eq!(account(&server, &user("any")), VIOLATION);
        assert_eq!(account(&server, &user("l")), "B");
    }
}

#[test]
fn a_lame_duck_takes_nobody_in() {
    let more = "lame_duck_duration: \"30s\", lame_duck_grace_period: \"1s\"";
    let server = start(&Target::Petiole, CLEAR, more);
    let mut client = visit(&server).client();
    client.say(format!("CONNECT {QUIET}\r\nPING\r\n"));
    client.expect(PONG);
    server.signal("USR2");
    let info = client.info();
    assert_eq!(info["ldm"], true);
    assert_eq!(info["port"], server.port_of("ws"));
    eventually("the listener closes", || {
        match Wire::dial(server.port_of("ws")) {
            Ok(_) => Err("it accepts".to_owned()),
            Err(_) => Ok(()),
        }
    });
}
