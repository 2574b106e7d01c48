//! The client protocol's conformance checklist, item by item, against the server under test.
//! `PETIOLE_TEST_TARGET=nats-server` runs it against the newest real server instead, which is how
//! the tests themselves are checked.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use support::{Client, Msg, Op, POLL, Server, sign_nonce, subject, until, user_key};

const QUIET: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n";
const VERBOSE: &str = "CONNECT {\"verbose\":true,\"pedantic\":false}\r\n";
const HEADER: &str = "NATS/1.0\r\n\r\n";

fn start(config: &str) -> Server {
    Server::start(
        &subject(),
        &format!("host: \"127.0.0.1\"\nport: {{port}}\n{config}"),
    )
}

/// What the server says to these bytes from a quiet client of a server without auth.
fn quiet(server: &Server, bytes: impl AsRef<[u8]>) -> Vec<Op> {
    Client::quiet(server.port()).ask(bytes)
}

/// The server says this much to these bytes, and closes.
#[track_caller]
fn closes(server: &Server, bytes: impl AsRef<[u8]>, error: Option<&str>) {
    let mut client = server.connect();
    // It may close before it has read all.
    let _ = client.wire.try_send(bytes.as_ref());
    let expected = error.map(|text| Op::Err(text.to_owned()));
    assert_eq!(
        client.op(),
        expected,
        "to {}",
        support::show(bytes.as_ref())
    );
    if error.is_some() {
        client.expect_close();
    }
}

fn err(text: &str) -> Op {
    Op::Err(text.to_owned())
}

/// Which of the subjects a subscription to `pattern` receives.
fn received(server: &Server, pattern: &str, subjects: &[&str]) -> Vec<String> {
    let mut client = Client::quiet(server.port());
    client.tell(format!("SUB {pattern} 1\r\n"));
    for s in subjects {
        client.send(format!("PUB {s} 1\r\nx\r\n"));
    }
    client.messages().iter().map(Msg::subject).collect()
}

fn sids(messages: &[Msg]) -> Vec<String> {
    let mut sids: Vec<String> = messages.iter().map(Msg::sid).collect();
    sids.sort();
    sids
}

#[test]
fn item_01_info_comes_first_and_is_complete() {
    let server = start("");
    let client = server.connect();
    assert!(
        client.info_line.ends_with(b"} "),
        "{}",
        support::show(&client.info_line)
    );
    let info = &client.info;
    assert!(info["server_id"].as_str().unwrap().starts_with('N'));
    assert_eq!(info["server_id"].as_str().unwrap().len(), 56);
    for key in ["server_name", "version", "go", "host"] {
        assert!(!info[key].as_str().unwrap().is_empty(), "{key}");
    }
    assert_eq!(info["proto"], 1);
    assert_eq!(info["headers"], true);
    assert_eq!(info["max_payload"], 1_048_576);
    assert_eq!(info["client_ip"], "127.0.0.1");
    assert!(info["client_id"].as_u64().unwrap() > 0);
    assert!(info["port"].as_u64().unwrap() > 0);
    assert!(info.get("auth_required").is_none());
    assert!(info.get("nonce").is_none());
}

#[test]
fn item_02_without_auth_connect_is_optional() {
    let server = start("");
    let mut client = server.connect();
    let ops = client.ask("SUB foo 1\r\nPUB foo 2\r\nhi\r\n");
    assert_eq!(ops[..2], [Op::Ok, Op::Ok]);
    assert!(
        matches!(&ops[2..], [Op::Msg(m)] if m.text() == "hi"),
        "{ops:?}"
    );
}

#[test]
fn item_03_with_auth_connect_comes_first() {
    let server = start("authorization { user: a, password: b }\n");
    assert_eq!(server.connect().info["auth_required"], true);
    for bytes in [
        "PING\r\n",
        "SUB a 1\r\n",
        "PUB a 1\r\nx\r\n",
        "UNSUB 1\r\n",
        "FOO\r\n",
        "\r\n",
    ] {
        closes(&server, bytes, Some("Authorization Violation"));
    }
    closes(&server, "CONNECT {}\r\n", Some("Authorization Violation"));
    closes(
        &server,
        "CONNECT {\"user\":\"a\",\"pass\":\"c\"}\r\n",
        Some("Authorization Violation"),
    );
    let mut client = Client::with(server.port(), r#"{"user":"a","pass":"b"}"#);
    assert_eq!(client.ask("SUB a 1\r\n"), [Op::Ok]);
}

#[test]
fn item_04_authentication_timeout() {
    let server = start("authorization { user: a, password: b, timeout: 0.5 }\n");
    server.connect().expect_err_close("Authentication Timeout");
    // An unfinished CONNECT does not help.
    let mut client = server.connect();
    client.send("CONNECT {\"user\"");
    client.expect_err_close("Authentication Timeout");
}

#[test]
fn item_05_connect_is_acknowledged_if_verbose() {
    let server = start("");
    assert_eq!(server.connect().ask("CONNECT {}\r\n"), [Op::Ok]);
    assert_eq!(
        server.connect().ask("CONNECT {\"verbose\":true}\r\n"),
        [Op::Ok]
    );
    assert_eq!(server.connect().ask("CONNECT {\"verbose\":false}\r\n"), []);
}

#[test]
fn item_06_verbose_acknowledges_each_operation() {
    let server = start("");
    let mut client = server.connect();
    let connect = "CONNECT {\"verbose\":true,\"pedantic\":false,\"headers\":true}\r\n";
    assert_eq!(client.ask(connect), [Op::Ok]);
    let hpub = format!("HPUB b 12 13\r\n{HEADER}x\r\n");
    for bytes in [
        "SUB a 1\r\n",
        "UNSUB 1\r\n",
        "UNSUB 99\r\n",
        "PUB b 1\r\nx\r\n",
        &hpub,
    ] {
        assert_eq!(client.ask(bytes), [Op::Ok], "{bytes}");
    }
    client.send("PING\r\n");
    client.expect_pong();
    client.tell("PONG\r\n");
}

#[test]
fn item_07_pedantic_publish_subjects() {
    let server = start("");
    let mut client = Client::with(server.port(), r#"{"verbose":false,"pedantic":true}"#);
    for subject in ["a.*", "a..b", ">", "a.>", "*", ".a", "a."] {
        let ops = client.ask(format!("PUB {subject} 0\r\n\r\n"));
        assert_eq!(ops, [err("Invalid Publish Subject")], "{subject}");
    }
    client.tell("PUB a.b*c 0\r\n\r\n");
    // The message is processed all the same.
    client.tell("SUB a.* 1\r\n");
    let ops = client.ask("PUB a.* 0\r\n\r\n");
    assert!(ops.contains(&err("Invalid Publish Subject")), "{ops:?}");
    assert!(ops.iter().any(|op| matches!(op, Op::Msg(_))), "{ops:?}");
}

#[test]
fn item_08_client_protocol() {
    let server = start("");
    for protocol in ["2", "-1", "100"] {
        let connect = format!("CONNECT {{\"protocol\":{protocol}}}\r\n");
        closes(&server, connect, Some("invalid client protocol"));
    }
    assert_eq!(
        server.connect().ask("CONNECT {\"protocol\":0}\r\n"),
        [Op::Ok]
    );
    assert_eq!(
        server.connect().ask("CONNECT {\"protocol\":1}\r\n"),
        [Op::Ok]
    );
}

#[test]
fn item_09_no_responders_needs_headers() {
    let server = start("");
    let error = Some("no responders requires headers support");
    closes(&server, "CONNECT {\"no_responders\":true}\r\n", error);
    closes(
        &server,
        "CONNECT {\"no_responders\":true,\"headers\":false}\r\n",
        error,
    );
    let both = "{\"no_responders\":true,\"headers\":true}";
    assert_eq!(
        server.connect().ask(format!("CONNECT {both}\r\n")),
        [Op::Ok]
    );
    let server = start("no_header_support: true\n");
    assert_eq!(server.connect().info["headers"], false);
    closes(&server, format!("CONNECT {both}\r\n"), error);
}

#[test]
fn item_10_invalid_connect_closes_silently() {
    let server = start("");
    for json in [
        "{",
        "{\"verbose\":tru",
        "[]",
        "hello",
        "5",
        "\"a\"",
        "{\"verbose\":1}",
    ] {
        closes(&server, format!("CONNECT {json}\r\n"), None);
    }
}

#[test]
fn item_11_account_is_refused() {
    let server = start("");
    let error = Some("Authorization Violation");
    closes(&server, "CONNECT {\"account\":\"A\"}\r\n", error);
    closes(
        &server,
        "CONNECT {\"account\":\"A\",\"new_account\":true}\r\n",
        error,
    );
}

#[test]
fn item_12_verbs_and_separators() {
    let server = start("");
    let mut client = server.connect();
    client.send("cOnNeCt\t {\"verbose\":false,\"pedantic\":false}\r\n");
    let bytes = "sUb \t a\t\t1  \r\npub  a \t 1\r\nx\r\nPiNg extra\r\nunsub\t1\r\npub a 1\r\ny\r\n";
    client.send(bytes);
    assert_eq!(client.expect_msg().text(), "x");
    client.expect_pong();
    assert_eq!(client.messages(), []);
}

#[test]
fn item_13_line_ends() {
    let server = start("");
    let ops = quiet(&server, "SUB a 1\nPUB a 1\nx\r\nPUB a 1\r\ny\r\n");
    assert_eq!(ops.len(), 2, "{ops:?}");
    for bytes in [
        "PUB a 1\nx\n",
        "PUB a 1\r\nx\nPING\r\n",
        "PUB a 1\r\nx\rPING\r\n",
    ] {
        closes(
            &server,
            format!("{QUIET}{bytes}"),
            Some("Unknown Protocol Operation"),
        );
    }
}

#[test]
fn item_14_control_line_limit() {
    let server = start("");
    let error = Some("maximum control line exceeded");
    let long = "a".repeat(4095);
    assert_eq!(quiet(&server, format!("SUB {} 1\r\n", &long[..4090])), []);
    closes(&server, format!("{QUIET}SUB {long} 1\r\n"), error);
    closes(&server, format!("{QUIET}PUB {long} 1\r\nx\r\n"), error);
    closes(
        &server,
        format!("CONNECT {{\"name\":\"{long}\"}}\r\n"),
        error,
    );
    // No line end at all.
    closes(&server, format!("{QUIET}SUB {long}{long}"), error);
    let server = start("max_control_line: 64\n");
    closes(&server, format!("SUB {}", &long[..80]), error);
}

#[test]
fn item_15_hostile_lines() {
    let server = start("");
    let unknown = Some("Unknown Protocol Operation");
    for line in [
        "FOO",
        "",
        " PING",
        "MSG a 1 1",
        "LS+ a",
        "RS+ a b",
        "A+ a",
        "SUB",
        "UNSUB",
        "PUBX",
        "+NO",
        "GET / HTTP/1.1",
    ] {
        closes(&server, format!("{QUIET}{line}\r\n"), unknown);
    }
    closes(&server, format!("{QUIET}PUB a 1\r\nxy\r\n"), unknown);
    for line in [
        "SUB a",
        "SUB  ",
        "SUB a b c d",
        "UNSUB 1 2 3",
        "PUB a",
        "PUB a x",
        "PUB a -1",
        "PUB a 1 2 3",
        "PUB a 1234567890",
        "HPUB a 12",
        "HPUB a 13 12",
    ] {
        closes(&server, format!("{QUIET}{line}\r\n"), None);
    }
    for bytes in [
        "SUB\ta\t1\r\n",
        "SUB a 1\n",
        "PUB a 00001\r\nx\r\n",
        "UNSUB 1 x\r\n",
        "UNSUB 1 -1\r\n",
        "UNSUB 99\r\n",
    ] {
        assert_eq!(quiet(&server, bytes), [], "{bytes}");
    }
    let ops = quiet(
        &server,
        "SUB a 1\r\nHPUB a 0 2\r\nhi\r\nHPUB a 5 5\r\nhello\r\n",
    );
    assert!(
        matches!(&ops[0], Op::Msg(m) if m.header.is_none() && m.text() == "hi"),
        "{ops:?}"
    );
    assert!(
        matches!(&ops[1], Op::Msg(m) if m.header.as_deref() == Some(b"hello")),
        "{ops:?}"
    );
}

#[test]
fn item_16_max_payload() {
    let server = start("max_payload: 1000\n");
    assert_eq!(server.connect().info["max_payload"], 1000);
    let body = "x".repeat(1000);
    let ops = quiet(&server, format!("SUB a 1\r\nPUB a 1000\r\n{body}\r\n"));
    assert!(
        matches!(&ops[..], [Op::Msg(m)] if m.text() == body),
        "{ops:?}"
    );
    let error = Some("Maximum Payload Violation");
    closes(&server, format!("{QUIET}PUB a 1001\r\n"), error);
    closes(&server, format!("{QUIET}HPUB a 12 1001\r\n"), error);
    closes(&start(""), format!("{QUIET}PUB a 1048577\r\n"), error);
}

#[test]
fn item_17_hpub_needs_negotiated_headers() {
    let server = start("");
    let hpub = format!("HPUB a 12 12\r\n{HEADER}\r\n");
    closes(
        &server,
        format!("CONNECT {{\"verbose\":false}}\r\n{hpub}"),
        None,
    );
    let server = start("no_header_support: true\n");
    closes(&server, format!("{QUIET}{hpub}"), None);
}

#[test]
fn item_18_bytewise_publish() {
    let server = start("");
    let mut sub = Client::quiet(server.port());
    sub.tell("SUB foo.bar 1\r\n");
    let mut client = Client::quiet(server.port());
    for byte in b"PUB foo.bar re.ply 13\r\nhello\r\nworld!\r\n" {
        client.send([*byte]);
    }
    client.tell("");
    let msg = sub.expect_msg();
    assert_eq!(
        (msg.text().as_str(), msg.reply().as_deref()),
        ("hello\r\nworld!", Some("re.ply"))
    );
    // Split in two at every place.
    let bytes = format!("HPUB foo.bar 12 14\r\n{HEADER}hi\r\n");
    for at in 1..bytes.len() {
        client.send(&bytes[..at]);
        client.send(&bytes[at..]);
        client.tell("");
        let msg = sub.expect_msg();
        assert_eq!(
            (msg.text().as_str(), msg.header.as_deref()),
            ("hi", Some(HEADER.as_bytes()))
        );
    }
}

#[test]
fn item_19_invalid_subscriptions() {
    let server = start("");
    for subject in ["foo..bar", ".foo", "foo.", "foo.>.bar", "."] {
        assert_eq!(
            quiet(&server, format!("SUB {subject} 1\r\n")),
            [err("Invalid Subject")],
            "{subject}"
        );
    }
}

#[test]
fn item_20_literal_wildcard_characters() {
    let server = start("");
    for subject in ["foo.*bar", "foo>bar", "fo*"] {
        assert_eq!(
            received(&server, subject, &[subject, "foo.xbar", "foo"]),
            [subject]
        );
    }
}

#[test]
fn item_21_matching() {
    let server = start("");
    let all = [
        "foo",
        "foo.bar",
        "foo.x.baz",
        "bar",
        "foo.*",
        "fo*",
        "*",
        "foo..bar",
        "foo.",
    ];
    for (pattern, expected) in [
        ("foo", &["foo"][..]),
        ("foo.bar", &["foo.bar"]),
        ("foo.*", &["foo.bar", "foo.*"]),
        ("foo.>", &["foo.bar", "foo.x.baz", "foo.*"]),
        ("*.bar", &["foo.bar"]),
        ("*.*", &["foo.bar", "foo.*"]),
        ("foo.*.baz", &["foo.x.baz"]),
        ("*", &["foo", "bar", "fo*", "*"]),
        (
            ">",
            &["foo", "foo.bar", "foo.x.baz", "bar", "foo.*", "fo*", "*"],
        ),
        ("fo*", &["fo*"]),
    ] {
        assert_eq!(received(&server, pattern, &all), expected, "{pattern}");
    }
}

#[test]
fn item_22_duplicate_sid() {
    let server = start("");
    let mut client = server.connect();
    assert_eq!(
        client.ask(format!("{VERBOSE}SUB foo 1\r\nSUB bar 1\r\n")),
        [Op::Ok, Op::Ok, Op::Ok]
    );
    assert_eq!(client.ask("PUB bar 1\r\nx\r\n"), [Op::Ok]);
    assert_eq!(client.ask("PUB foo 1\r\nx\r\n").len(), 2);
}

#[test]
fn item_23_sids_are_opaque() {
    let server = start("");
    let mut client = Client::quiet(server.port());
    for sid in ["abc", "01", "-5", "x.*>'\"", "99999999999999999999999"] {
        client.send(format!("SUB s {sid}\r\nPUB s 1\r\nx\r\nUNSUB {sid}\r\n"));
        assert_eq!(sids(&client.messages()), [sid]);
    }
}

#[test]
fn item_24_unsub_max_counts_from_subscription() {
    let server = start("");
    let mut client = Client::quiet(server.port());
    client.tell("SUB a 1\r\n");
    let publish = "PUB a 1\r\nx\r\n";
    assert_eq!(client.ask(publish).len(), 1);
    client.tell("UNSUB 1 2\r\nUNSUB 1 3\r\n");
    assert_eq!(client.ask(publish.repeat(5)).len(), 2);
    assert_eq!(client.ask(publish).len(), 0);
}

#[test]
fn item_25_unsub_max_already_reached() {
    let server = start("");
    let mut client = Client::quiet(server.port());
    client.tell("SUB a 1\r\n");
    assert_eq!(client.ask("PUB a 1\r\nx\r\n".repeat(3)).len(), 3);
    client.tell("UNSUB 1 2\r\n");
    client.tell("PUB a 1\r\nx\r\n");
}

#[test]
fn item_26_queue_groups() {
    let server = start("");
    let mut members: Vec<Client> = (0..3).map(|_| Client::quiet(server.port())).collect();
    for (i, member) in members.iter_mut().enumerate() {
        // One group is its name, whatever the members' subjects.
        let pattern = ["q.a", "q.*", ">"][i];
        member.tell(format!(
            "SUB {pattern} G 1\r\nSUB {pattern} H 2\r\nSUB q.a 3\r\n"
        ));
    }
    let mut publisher = Client::quiet(server.port());
    publisher.tell("PUB q.a 1\r\nx\r\n".repeat(30));
    let got: Vec<String> = members
        .iter_mut()
        .flat_map(|m| sids(&m.messages()))
        .collect();
    let count = |sid: &str| got.iter().filter(|s| *s == sid).count();
    assert_eq!((count("1"), count("2"), count("3")), (30, 30, 90));
}

#[test]
fn item_27_members_share_in_proportion() {
    let server = start("");
    let mut one = Client::quiet(server.port());
    one.tell("SUB a G 1\r\n");
    let mut two = Client::quiet(server.port());
    two.tell("SUB a G 1\r\nSUB a G 2\r\n");
    Client::quiet(server.port()).tell("PUB a 1\r\nx\r\n".repeat(600));
    let (first, second) = (one.messages(), sids(&two.messages()));
    assert_eq!(first.len() + second.len(), 600);
    // 200 each, give or take nine standard deviations.
    let second_of_two = second.iter().filter(|s| *s == "2").count();
    for share in [first.len(), second_of_two, second.len() - second_of_two] {
        assert!((96..=304).contains(&share), "{share} of 600");
    }
}

#[test]
fn item_28_no_echo() {
    let server = start("");
    let mut client = Client::quiet_and(server.port(), r#""echo":false"#);
    client.tell("SUB a 1\r\nSUB b G 2\r\n");
    client.tell("PUB a 1\r\nx\r\nPUB b 1\r\nx\r\n");
    let mut other = Client::quiet(server.port());
    other.tell("SUB a 1\r\nSUB b G 2\r\n");
    client.tell("PUB a 1\r\nx\r\nPUB b 1\r\nx\r\nPUB b 1\r\nx\r\n");
    assert_eq!(sids(&other.messages()), ["1", "2", "2"]);
    other.send("PUB a 1\r\nx\r\n");
    other.sync();
    assert_eq!(sids(&client.messages()), ["1"]);
}

#[test]
fn item_29_headers() {
    let server = start("");
    let mut with = Client::quiet(server.port());
    with.tell("SUB h 20\r\n");
    let mut without = Client::with(server.port(), r#"{"verbose":false,"headers":false}"#);
    without.tell("SUB h 1\r\n");
    let header = "NATS/1.0\r\nfoo: bar\r\n\r\n";
    Client::quiet(server.port()).tell(format!("HPUB h rr 22 27\r\n{header}hello\r\n"));
    without.send("PING\r\n");
    assert_eq!(without.wire.line().unwrap(), b"MSG h 1 rr 5");
    assert_eq!(without.wire.payload(5), b"hello");
    with.send("PING\r\n");
    assert_eq!(with.wire.line().unwrap(), b"HMSG h 20 rr 22 27");
    assert_eq!(with.wire.payload(27), format!("{header}hello").as_bytes());
}

#[test]
fn item_30_no_responders() {
    let server = start("");
    let mut client = Client::quiet_and(server.port(), r#""no_responders":true"#);
    client.tell("SUB r.* 7\r\n");
    for (bytes, subject) in [
        ("PUB none r.1 2\r\nhi\r\n", "none"),
        ("PUB a.longer.one r.1 0\r\n\r\n", "a.longer.one"),
    ] {
        client.send(bytes);
        let messages = client.messages();
        assert_eq!(messages.len(), 1);
        assert_eq!(
            (messages[0].subject().as_str(), messages[0].text().as_str()),
            ("r.1", "")
        );
        let header = String::from_utf8(messages[0].header.clone().unwrap()).unwrap();
        let newest = format!("NATS/1.0 503\r\nNats-Subject: {subject}\r\n\r\n");
        assert!(
            header == newest || header == "NATS/1.0 503\r\n\r\n",
            "{header}"
        );
        assert!(header.len() == 32 + subject.len() || header.len() == 16);
    }
    // Only the requester is told.
    let mut other = Client::quiet(server.port());
    other.tell("SUB x.1 1\r\n");
    client.tell("PUB none x.1 0\r\n\r\n");
    other.tell("");
}

#[test]
fn item_31_no_503_otherwise() {
    let server = start("");
    let mut client = Client::quiet_and(server.port(), r#""no_responders":true"#);
    client.tell("SUB r.1 7\r\nSUB r.q G 8\r\nSUB own 9\r\n");
    client.tell("PUB none 2\r\nhi\r\n");
    client.tell("PUB none r.q 2\r\nhi\r\n");
    client.send("PUB own r.1 2\r\nhi\r\n");
    assert_eq!(sids(&client.messages()), ["9"]);
    let mut plain = Client::quiet(server.port());
    plain.tell("SUB r.2 7\r\n");
    plain.tell("PUB none r.2 2\r\nhi\r\n");
}

const USERS: &str = r#"
authorization { timeout: 20, users: [
  {user: all, password: p}
  {user: u, password: p, permissions: {
    publish: {allow: ["ok.>"], deny: ["ok.no"]}
    subscribe: {allow: ["ok.>", "q v1", "qq v.*"], deny: ["ok.no", "ok.q bad"]}
  }}
  {user: r, password: p, permissions: {subscribe: "svc", allow_responses: {max: 2, expires: "1m"}}}
  {user: e, password: p, permissions: {subscribe: "svc", allow_responses: {max: 1000000, expires: "300ms"}}}
] }
"#;

fn user(server: &Server, name: &str) -> Client {
    Client::quiet_and(server.port(), &format!(r#""user":"{name}","pass":"p""#))
}

#[test]
fn item_32_permission_violations() {
    let server = start(USERS);
    let mut client = user(&server, "u");
    for (bytes, text) in [
        ("PUB bad.x 1\r\nx\r\n", "Publish to \"bad.x\""),
        ("PUB ok.no 1\r\nx\r\n", "Publish to \"ok.no\""),
        ("SUB bad 1\r\n", "Subscription to \"bad\""),
        ("SUB > 1\r\n", "Subscription to \">\""),
        ("SUB ok.no 1\r\n", "Subscription to \"ok.no\""),
        (
            "SUB bad g 1\r\n",
            "Subscription to \"bad\" using queue \"g\"",
        ),
        ("PUB b\"\\ 1\r\nx\r\n", "Publish to \"b\\\"\\\\\""),
    ] {
        assert_eq!(
            client.ask(bytes),
            [err(&format!("Permissions Violation for {text}"))],
            "{bytes}"
        );
    }
    let reply = err("Permissions Violation for Publish with Reply of \"$JS.ACK.x\"");
    assert_eq!(client.ask("PUB ok.a $JS.ACK.x 1\r\nx\r\n"), [reply]);
    client.tell("PUB ok.a 1\r\nx\r\nSUB ok.a 1\r\n");
}

#[test]
fn item_33_wildcard_over_a_denied_subject() {
    let server = start(USERS);
    let mut client = user(&server, "u");
    client.tell("SUB ok.* 1\r\n");
    user(&server, "all").tell("PUB ok.no 1\r\n1\r\nPUB ok.yes 1\r\n2\r\n");
    let got: Vec<String> = client.messages().iter().map(Msg::subject).collect();
    assert_eq!(got, ["ok.yes"]);
}

#[test]
fn item_34_queue_permissions() {
    let server = start(USERS);
    let mut client = user(&server, "u");
    client.tell("SUB q v1 1\r\nSUB qq v.a 2\r\nSUB ok.q good 3\r\n");
    for (subscription, text) in [
        ("q", "\"q\""),
        ("q v2", "\"q\" using queue \"v2\""),
        ("qq w.a", "\"qq\" using queue \"w.a\""),
        ("ok.q bad", "\"ok.q\" using queue \"bad\""),
    ] {
        let expected = err(&format!("Permissions Violation for Subscription to {text}"));
        assert_eq!(client.ask(format!("SUB {subscription} 9\r\n")), [expected]);
    }
}

#[test]
fn item_35_allow_responses() {
    let server = start(USERS);
    let denied = err("Permissions Violation for Publish to \"rp.1\"");
    let mut requester = user(&server, "all");
    let mut client = user(&server, "r");
    client.tell("SUB svc 1\r\n");
    assert_eq!(
        client.ask("PUB rp.1 0\r\n\r\n"),
        std::slice::from_ref(&denied)
    );
    requester.tell("PUB svc rp.1 0\r\n\r\n");
    assert_eq!(client.messages().len(), 1);
    client.tell("PUB rp.1 0\r\n\r\nPUB rp.1 0\r\n\r\n");
    assert_eq!(
        client.ask("PUB rp.1 0\r\n\r\n"),
        std::slice::from_ref(&denied)
    );

    let mut client = user(&server, "e");
    client.tell("SUB svc 1\r\n");
    requester.tell("PUB svc rp.1 0\r\n\r\n");
    assert_eq!(client.messages().len(), 1);
    until("the permission expires", || {
        client.ask("PUB rp.1 0\r\n\r\n") == std::slice::from_ref(&denied)
    });
}

#[test]
fn item_36_queue_name_of_the_system() {
    let ops = quiet(&start(""), "SUB foo _sys_ 1\r\n");
    assert!(
        matches!(&ops[..], [Op::Err(text)] if text.starts_with("Permissions Violation for Subscription to \"foo\"")),
        "{ops:?}"
    );
}

#[test]
fn item_37_max_subscriptions() {
    let server = start("max_subscriptions: 2\n");
    let mut client = Client::quiet(server.port());
    client.tell("SUB a 1\r\nSUB b 2\r\n");
    assert_eq!(
        client.ask("SUB c 3\r\n"),
        [err("maximum subscriptions exceeded")]
    );
    client.tell("UNSUB 1\r\nSUB c 3\r\n");
    client.send("PUB c 1\r\nx\r\n");
    assert_eq!(sids(&client.messages()), ["3"]);
}

#[test]
fn item_38_max_connections() {
    let server = start("max_connections: 2\n");
    // The connection that saw the server get ready may still count.
    let mut accepted = Vec::new();
    until("two connections", || {
        let mut client = server.connect();
        let _ = client.wire.try_send("PING\r\n");
        if client.op() == Some(Op::Pong) {
            accepted.push(client);
        }
        accepted.len() == 2
    });
    server
        .connect()
        .expect_err_close("maximum connections exceeded");
    for client in &mut accepted {
        client.sync();
    }
    accepted.pop();
    until("a place is free again", || {
        let mut client = server.connect();
        let _ = client.wire.try_send("PING\r\n");
        client.op() == Some(Op::Pong)
    });
}

#[test]
fn item_39_stale_connection() {
    let server = start("ping_interval: \"500ms\"\nping_max: 2\n");
    let mut client = server.connect();
    client.send("CONNECT {\"verbose\":false}\r\n");
    assert_eq!(client.raw_op(), Some(Op::Ping));
    assert_eq!(client.raw_op(), Some(Op::Ping));
    assert_eq!(client.raw_op(), Some(err("Stale Connection")));
    assert_eq!(client.raw_op(), None);
    // One that answers is kept.
    let mut client = server.connect();
    client.send("CONNECT {\"verbose\":false}\r\n");
    for _ in 0..4 {
        assert_eq!(client.raw_op(), Some(Op::Ping));
        client.send("PONG\r\n");
    }
}

#[test]
fn item_40_active_publisher_is_kept() {
    let server = start("ping_interval: \"500ms\"\nping_max: 2\n");
    let mut publisher = server.connect();
    publisher.send("CONNECT {\"verbose\":false}\r\n");
    // The silent one is closed after three intervals; the publisher never answers either.
    let mut silent = server.connect();
    silent.send("CONNECT {\"verbose\":false}\r\n");
    loop {
        publisher.send("PUB a 1\r\nx\r\n");
        if silent.wire.readable(POLL) && !matches!(silent.raw_op(), Some(Op::Ping)) {
            break;
        }
    }
    publisher.sync();
}

#[test]
fn item_41_max_pending() {
    let server = start("max_pending: 1048576\nwrite_deadline: \"60s\"\n");
    let mut slow = Client::quiet(server.port());
    slow.tell("SUB a 1\r\n");
    let mut other = Client::quiet(server.port());
    other.tell("SUB b 1\r\n");
    let mut publisher = Client::quiet_and(server.port(), r#""no_responders":true"#);
    publisher.tell("SUB r 1\r\n");
    let request = format!("PUB a r 65536\r\n{}\r\n", "x".repeat(65536));
    // Told of no responder: the slow one is gone.
    until("the slow consumer is closed", || {
        !publisher.ask(&request).is_empty()
    });
    publisher.tell("PUB b 1\r\nx\r\n");
    assert_eq!(other.messages().len(), 1);
    let said = slow.wire.rest();
    assert!(
        !said.windows(5).any(|w| w == b"-ERR "),
        "an error to a slow consumer"
    );
}

#[test]
fn item_42_write_deadline() {
    let server = start("write_deadline: \"500ms\"\n");
    let mut slow = Client::quiet(server.port());
    slow.tell("SUB a 1\r\n");
    let mut publisher = Client::quiet_and(server.port(), r#""no_responders":true"#);
    // More than the system buffers, less than max_pending.
    publisher.tell(format!("PUB a 1000000\r\n{}\r\n", "x".repeat(1_000_000)).repeat(24));
    publisher.tell("SUB r 1\r\n");
    until("the slow consumer is closed", || {
        let gone = !publisher.ask("PUB a r 0\r\n\r\n").is_empty();
        // A question now and then is enough.
        let _ = publisher.wire.readable(POLL);
        gone
    });
    let said = slow.wire.rest();
    assert!(said.len() < 24_000_000, "all was delivered");
    assert!(
        !said.windows(5).any(|w| w == b"-ERR "),
        "an error to a slow consumer"
    );
}

#[test]
fn item_46_lame_duck() {
    let mut server = start("lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"1s\"\n");
    let mut new = Client::quiet(server.port());
    let mut old = Client::with(server.port(), r#"{"verbose":false,"protocol":0}"#);
    server.signal("USR2");
    let info = loop {
        match new.raw_op() {
            Some(Op::Info(info)) if info.get("ldm").is_some() => break info,
            Some(Op::Info(_) | Op::Ping) => {}
            other => panic!("instead of INFO: {other:?}"),
        }
    };
    assert_eq!(info["ldm"], true);
    assert!(info.get("connect_urls").is_none());
    until("new connections are refused", || {
        support::Wire::dial(server.port()).is_err()
    });
    // The links are still served, until each is closed without a word.
    new.sync();
    old.sync();
    for client in [&mut new, &mut old] {
        while let Some(op) = client.raw_op() {
            assert_eq!(op, Op::Ping);
        }
    }
    server.wait_exit();
}

#[test]
fn item_50_nkey() {
    let (alice, bob) = (user_key("alice"), user_key("bob"));
    let server = start(&format!(
        "authorization {{ timeout: 20, users: [ {{nkey: {}}} ] }}\n",
        alice.public_key()
    ));
    let connect = |key: &nkeys::KeyPair, signer: &nkeys::KeyPair, padded: bool| {
        let mut client = server.connect();
        let nonce = client.info["nonce"].as_str().unwrap().to_owned();
        assert_eq!(nonce.len(), 15);
        let mut sig = sign_nonce(signer, &nonce);
        if padded {
            sig = sig.replace('-', "+").replace('_', "/") + "==";
        }
        client.send(format!(
            "CONNECT {{\"nkey\":\"{}\",\"sig\":\"{sig}\"}}\r\n",
            key.public_key()
        ));
        client
    };
    connect(&alice, &alice, false).expect_ok();
    connect(&alice, &alice, true).expect_ok();
    connect(&alice, &bob, false).expect_err_close("Authorization Violation");
    connect(&bob, &bob, false).expect_err_close("Authorization Violation");
    // A signature of another nonce.
    let mut client = server.connect();
    let sig = sign_nonce(&alice, "AAAAAAAAAAAAAAA");
    client.send(format!(
        "CONNECT {{\"nkey\":\"{}\",\"sig\":\"{sig}\"}}\r\n",
        alice.public_key()
    ));
    client.expect_err_close("Authorization Violation");
    closes(&server, "CONNECT {}\r\n", Some("Authorization Violation"));
}

#[test]
fn item_52_server_verbs_from_a_client() {
    let server = start("");
    closes(&server, format!("{QUIET}-ERR 'no'\r\n"), None);
    assert_eq!(quiet(&server, "+OK\r\nINFO {\"server_id\":\"x\"}\r\n"), []);
}
