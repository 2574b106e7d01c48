//! Clients that mean harm or cannot keep up, and how a server ends: the others go on unharmed, and
//! memory has a bound.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::{Bystanders, Client, DEADLINE, FakeHub, LeafLink, LeafOp, Op, POLL, Server};

const MIB: u64 = 1 << 20;

fn start(config: &str) -> Server {
    Server::start_petiole(&format!("host: \"127.0.0.1\"\nport: {{port}}\n{config}"))
}

/// The server's memory that is in use now, in bytes.
fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("VmRSS");
    let kib = line.trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() * 1024
}

/// A connection to misuse. It has read INFO.
fn dial(server: &Server) -> TcpStream {
    server.connect().wire.stream().try_clone().unwrap()
}

fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Sends a piece again and again, with pauses, until the server closes: all it said.
#[track_caller]
fn until_closed(stream: &mut TcpStream, piece: &[u8], pause: Duration) -> String {
    let until = Instant::now() + DEADLINE;
    let mut said = Vec::new();
    let mut chunk = [0; 4096];
    let mut writable = true;
    stream.set_read_timeout(Some(pause)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    loop {
        assert!(
            Instant::now() < until,
            "not closed within the deadline; it said {:?}",
            String::from_utf8_lossy(&said)
        );
        writable = writable && stream.write_all(piece).is_ok();
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => said.extend_from_slice(&chunk[..n]),
            Err(e) if is_late(&e) => {}
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// Sends once and hears what the server says until it closes.
#[track_caller]
fn said_to(stream: &mut TcpStream, bytes: &[u8]) -> String {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut said = Vec::new();
    stream
        .read_to_end(&mut said)
        .expect("the end within the deadline");
    String::from_utf8_lossy(&said).into_owned()
}

/// A pause that gives way at once to what the server says.
const NONE: Duration = Duration::from_micros(100);
const TRICKLE: Duration = Duration::from_millis(10);

#[test]
fn garbage() {
    let server = start("");
    let mut others = Bystanders::of(&server, "");
    let before = resident(&server);
    let mut seed = 1u64;
    let mut noise = |len: usize| -> Vec<u8> {
        let mut next = || {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 56) as u8
        };
        (0..len).map(|_| next()).collect()
    };
    for len in [1, 10, 100, 1000, 10_000] {
        for _ in 0..20 {
            let bytes = noise(len);
            until_closed(&mut dial(&server), &bytes, NONE);
        }
        others.go_on();
    }
    for bytes in [
        &b"\0\0\0\0\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"CONNECT {\"verbose\":\xff}\r\n",
        b"CONNECT {{{{{{{{{{{{{{{{{{{{{{{{{{{\r\n",
        b"PUB foo -1\r\n",
        b"PUB foo 1e3\r\n",
        b"HPUB foo 10 5\r\n",
        b"SUB\r\n",
    ] {
        until_closed(&mut dial(&server), bytes, NONE);
        others.go_on();
    }
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < 16 * MIB, "{grown} bytes more");
}

#[test]
fn deep_json_is_refused() {
    let server = start("max_control_line: 65536");
    let mut others = Bystanders::of(&server, "");
    let deep = format!("CONNECT {{\"a\":{}\r\n", "[".repeat(60_000));
    until_closed(&mut dial(&server), deep.as_bytes(), NONE);
    others.go_on();
}

#[test]
fn a_length_of_a_gigabyte() {
    let server = start("");
    let mut others = Bystanders::of(&server, "");
    let before = resident(&server);
    let too_much = "-ERR 'Maximum Payload Violation'\r\n";
    for (line, wanted) in [
        ("PUB foo 1048577\r\n", too_much),
        ("PUB foo 999999999\r\n", too_much),
        ("HPUB foo 12 999999999\r\n", too_much),
        // More digits than a length has: no number at all.
        ("PUB foo 1000000000\r\n", ""),
        ("PUB foo 99999999999999999999\r\n", ""),
        ("HPUB foo 4294967297 4294967298\r\n", ""),
    ] {
        let all = format!("CONNECT {{\"verbose\":false,\"headers\":true}}\r\n{line}");
        let said = said_to(&mut dial(&server), all.as_bytes());
        assert_eq!(said, wanted, "to {line:?}");
        others.go_on();
    }
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < 8 * MIB, "{grown} bytes more");
}

#[test]
fn a_line_that_never_ends() {
    let server = start("");
    let mut others = Bystanders::of(&server, "");
    let before = resident(&server);
    for begin in [
        "",
        "CONNECT {\"name\":\"",
        "SUB ",
        "PUB ",
        "UNSUB ",
        "-ERR '",
    ] {
        let mut stream = dial(&server);
        stream.write_all(begin.as_bytes()).unwrap();
        let said = until_closed(&mut stream, &[b'a'; 1000], NONE);
        // Who goes on writing may lose the last words to a reset.
        assert!(
            said.is_empty() || said.starts_with("-ERR '"),
            "behind {begin:?}: {said:?}"
        );
        others.go_on();
    }
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < 8 * MIB, "{grown} bytes more");
}

const AUTH: &str = "authorization { user: u, password: p, timeout: 0.5 }";
const USER: &str = "\"user\":\"u\",\"pass\":\"p\"";

#[test]
fn nothing_at_all() {
    let server = start(AUTH);
    let mut others = Bystanders::of(&server, USER);
    let mut silent: Vec<Client> = (0..50).map(|_| server.connect()).collect();
    for client in &mut silent {
        client.expect_err_close("Authentication Timeout");
    }
    others.go_on();
}

#[test]
fn a_trickle_without_credentials() {
    let server = start(AUTH);
    let mut others = Bystanders::of(&server, USER);
    for begin in ["CONNECT {", "PING\r\n"] {
        let mut stream = dial(&server);
        stream.write_all(begin.as_bytes()).unwrap();
        let said = until_closed(&mut stream, b" ", TRICKLE);
        assert!(said.contains("-ERR 'Auth"), "behind {begin:?}: {said:?}");
        others.go_on();
    }
}

#[test]
fn a_trickle_that_answers_no_ping() {
    let server = start("ping_interval: \"200ms\"");
    for begin in ["SUB ", "PUB foo 1000000\r\n"] {
        let mut stream = dial(&server);
        stream
            .write_all(b"CONNECT {\"verbose\":false}\r\n")
            .unwrap();
        stream.write_all(begin.as_bytes()).unwrap();
        let said = until_closed(&mut stream, b"a", TRICKLE);
        assert!(said.contains("-ERR 'Stale Connection'"), "{said:?}");
    }
    let mut client = Client::quiet(server.port());
    client.tell("PUB still 1\r\nx\r\n");
}

#[test]
fn many_half_lines_and_half_payloads() {
    let server = start("");
    let mut others = Bystanders::of(&server, "");
    let before = resident(&server);
    let mut streams: Vec<TcpStream> = (0..300).map(|_| dial(&server)).collect();
    for (n, stream) in streams.iter_mut().enumerate() {
        stream
            .write_all(b"CONNECT {\"verbose\":false}\r\n")
            .unwrap();
        match n % 3 {
            0 => stream.write_all(&[b'S'; 3000]).unwrap(),
            // Announced, not sent: memory is for what has come.
            1 => stream.write_all(b"PUB foo 1048576\r\nx").unwrap(),
            _ => {}
        }
    }
    others.go_on();
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < 32 * MIB, "{grown} bytes more");
    drop(streams);
    others.go_on();
}

/// A payload of 32 KiB.
const SIZE: usize = 32 << 10;

fn publish(subject: &str) -> Vec<u8> {
    let mut line = format!("PUB {subject} {SIZE}\r\n").into_bytes();
    line.resize(line.len() + SIZE, b'x');
    line.extend_from_slice(b"\r\n");
    line
}

/// A subscriber that takes nothing any more. The connection must be kept.
fn stalled(server: &Server, subject: &str) -> Client {
    let mut client = Client::quiet(server.port());
    client.tell(format!("SUB {subject} 1\r\n"));
    client
}

/// Publishes until the log has a text.
#[track_caller]
fn publish_until(server: &Server, subject: &str, text: &str) {
    let mut producer = Client::quiet(server.port());
    let line = publish(subject);
    let until = Instant::now() + 2 * DEADLINE;
    while !server.log().contains(text) {
        assert!(Instant::now() < until, "no {text:?} in the log");
        producer.send(&line);
    }
}

/// What is left in the socket, then the end: nothing is said to a slow consumer.
#[track_caller]
fn expect_cut(mut client: Client) {
    let rest = client.wire.rest();
    let tail = String::from_utf8_lossy(&rest[rest.len().saturating_sub(200)..]).into_owned();
    assert!(!tail.contains("-ERR"), "{tail:?}");
}

#[test]
fn a_stalled_subscriber_is_dropped_at_max_pending() {
    let server = start("max_pending: 2MB");
    let mut others = Bystanders::of(&server, "");
    let before = resident(&server);
    let slow = stalled(&server, "flood");
    publish_until(
        &server,
        "flood",
        "Slow Consumer Detected: MaxPending of 2097152 Exceeded",
    );
    others.go_on();
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < 32 * MIB, "{grown} bytes more");
    expect_cut(slow);
}

#[test]
fn a_stalled_subscriber_is_dropped_at_the_write_deadline() {
    let server = start("write_deadline: \"300ms\"");
    let mut others = Bystanders::of(&server, "");
    let slow = stalled(&server, "flood");
    // No more than max_pending, more than the sockets take.
    let mut producer = Client::quiet(server.port());
    let line = publish("flood");
    for _ in 0..(32 * MIB as usize / SIZE) {
        producer.send(&line);
    }
    server.wait_for_log("Slow Consumer Detected: WriteDeadline of 300ms exceeded");
    producer.sync();
    others.go_on();
    expect_cut(slow);
}

#[test]
fn a_stalled_subscriber_does_not_hold_the_others() {
    let server = start("max_pending: 4MB");
    let _slow = stalled(&server, "flood");
    let mut healthy = Client::quiet(server.port());
    healthy.tell("SUB flood 1\r\n");
    let port = server.port();
    let count = 3000;
    let producer = std::thread::spawn(move || {
        let mut producer = Client::quiet(port);
        let line = publish("flood");
        for _ in 0..count {
            producer.send(&line);
        }
        producer.sync();
    });
    for n in 0..count {
        assert_eq!(healthy.expect_msg().payload.len(), SIZE, "{n}");
    }
    producer.join().unwrap();
    assert_eq!(healthy.messages(), []);
    server.wait_for_log("Slow Consumer Detected");
}

/// Reads at its own pace until it has seen `until` bytes or the end: how many it has seen.
fn read_slowly(mut client: Client, until: usize, pace: Duration) -> usize {
    // What `Client` has read already is only the handshake's.
    let mut stream = client.wire.stream().try_clone().unwrap();
    client.wire.set_deadline(DEADLINE);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut chunk = vec![0; 64 << 10];
    let mut seen = 0;
    while seen < until {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(n) => seen += n,
        }
        std::thread::park_timeout(pace);
    }
    seen
}

#[test]
fn a_slower_subscriber_gets_everything() {
    let server = start("max_pending: 8MB");
    let before = resident(&server);
    let slow = stalled(&server, "flood");
    let count = 80 * MIB as usize / SIZE;
    let message = format!("MSG flood 1 {SIZE}\r\n").len() + SIZE + 2;
    let reader =
        std::thread::spawn(move || read_slowly(slow, count * message, Duration::from_millis(2)));
    let mut producer = Client::quiet(server.port());
    let line = publish("flood");
    for _ in 0..count {
        producer.send(&line);
    }
    producer.sync();
    assert_eq!(reader.join().unwrap(), count * message);
    assert!(!server.log().contains("Slow Consumer"), "it was dropped");
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < 32 * MIB, "{grown} bytes more");
}

#[test]
fn a_slower_subscriber_is_dropped_where_producers_are_not_slowed() {
    let server = start("max_pending: 8MB\nno_fast_producer_stall: true");
    let slow = stalled(&server, "flood");
    let reader =
        std::thread::spawn(move || read_slowly(slow, usize::MAX, Duration::from_millis(5)));
    publish_until(&server, "flood", "Slow Consumer Detected: MaxPending");
    reader.join().unwrap();
}

#[test]
fn a_slow_client_does_not_slow_those_with_other_subjects() {
    let server = start("max_pending: 8MB");
    let slow = stalled(&server, "flood");
    let mut others = Bystanders::of(&server, "");
    let reader =
        std::thread::spawn(move || read_slowly(slow, 20 * MIB as usize, Duration::from_millis(5)));
    let mut producer = Client::quiet(server.port());
    let line = publish("flood");
    for n in 0..(40 * MIB as usize / SIZE) {
        producer.send(&line);
        if n % 100 == 0 {
            others.go_on();
        }
    }
    reader.join().unwrap();
    others.go_on();
}

#[test]
fn a_lame_duck_lets_its_clients_go() {
    let mut server = start("lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"200ms\"");
    let mut clients: Vec<Client> = (0..3).map(|_| Client::quiet(server.port())).collect();
    let mut old = Client::with(server.port(), "{\"verbose\":false,\"protocol\":0}");
    old.tell("SUB foo 1\r\n");
    clients[0].tell("SUB foo 1\r\n");
    server.signal("USR2");
    for client in &mut clients {
        let told = loop {
            match client.raw_op() {
                Some(Op::Info(info)) => break info,
                Some(Op::Ping) => client.send("PONG\r\n"),
                other => panic!("INFO was expected, not {other:?}"),
            }
        };
        assert_eq!(told["ldm"], true);
    }
    server.wait_for_log("Entering lame duck mode, stop accepting new clients");
    let until = Instant::now() + DEADLINE;
    while TcpStream::connect(("127.0.0.1", server.port())).is_ok() {
        assert!(Instant::now() < until, "it still accepts");
        std::thread::park_timeout(POLL);
    }
    // TERM is ignored meanwhile; all go without an error, and then so does the server.
    server.signal("TERM");
    for client in &mut clients {
        client.expect_close();
    }
    let mut late = false;
    while let Some(op) = old.raw_op() {
        late |= matches!(op, Op::Info(_));
    }
    assert!(!late, "an INFO to a client of protocol 0");
    assert!(server.wait_exit().success());
}

#[test]
fn it_stops_in_order() {
    for signal in ["INT", "TERM"] {
        let mut server = start("");
        let mut client = Client::quiet(server.port());
        let mut other = Client::quiet(server.port());
        client.tell("SUB foo 1\r\n");
        other.tell("PUB foo 4\r\nlast\r\n");
        server.signal(signal);
        // What was accepted is still delivered.
        assert_eq!(client.expect_msg().text(), "last");
        client.expect_close();
        other.expect_close();
        assert!(server.wait_exit().success(), "{signal}");
        server.wait_for_log("Server Exiting..");
    }
}

/// petiole with a remote at this hub, and the link, on which the hub wants `flood`.
fn joined(hub: &FakeHub, more: &str) -> (Server, LeafLink) {
    let server = start(&format!(
        "leafnodes {{ reconnect: \"100ms\", remotes: [ {{ url: \"nats://127.0.0.1:{}\" }} ] }}\n{more}",
        hub.port()
    ));
    let (mut link, _) = hub.accept_leaf();
    link.send("LS+ flood\r\n");
    link.sync();
    (server, link)
}

#[test]
fn a_stalled_hub_loses_messages_and_not_the_link() {
    let hub = FakeHub::start();
    let (server, mut link) = joined(&hub, "max_pending: 4MB\nwrite_deadline: \"60s\"");
    let mut others = Bystanders::of(&server, "");
    let before = resident(&server);
    publish_until(&server, "flood", "messages for it are dropped");
    others.go_on();
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < 32 * MIB, "{grown} bytes more");
    // The hub goes on: what was kept is whole, and what comes now arrives.
    let mut kept = 0;
    for op in link.sync() {
        match op {
            LeafOp::Msg { args, payload } => {
                assert_eq!((args.as_str(), payload.len()), ("flood", SIZE));
                kept += 1;
            }
            LeafOp::Sub(_) | LeafOp::Unsub(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(kept > 0);
    others.from.tell("PUB flood 4\r\nmore\r\n");
    let more = LeafOp::Msg {
        args: "flood".to_owned(),
        payload: b"more".to_vec(),
    };
    link.wait_for(&more);
    assert!(!server.log().contains("is down"), "the link broke");
}

#[test]
fn a_hub_that_takes_nothing_is_left() {
    let hub = FakeHub::start();
    let (server, link) = joined(&hub, "write_deadline: \"300ms\"");
    let mut others = Bystanders::of(&server, "");
    // Three times as long as for a client.
    publish_until(&server, "flood", "WriteDeadline of 900ms exceeded");
    others.go_on();
    server.wait_for_log("is down");
    // It comes again, for a hub that takes something.
    let (mut again, _) = hub.accept_leaf();
    again.wait_for_subs(&["bystander"]);
    drop(link);
}

#[test]
fn a_hub_that_sends_garbage_costs_nobody_else() {
    let hub = FakeHub::start();
    let (server, mut link) = joined(&hub, "");
    let mut others = Bystanders::of(&server, "");
    let before = resident(&server);
    for bytes in [
        &b"\0\xff\xfe\r\n"[..],
        b"LMSG foo 999999999\r\n",
        b"HMSG foo 999999998 999999999\r\n",
        b"LMSG foo 99999999999999999999\r\n",
        b"LS+ a b c d e\r\n",
        b"INFO [[[[[[[[[[[[[[\r\n",
    ] {
        link.send(bytes);
        let said = link.wire.rest();
        assert!(
            !support::show(&said).contains("LMSG"),
            "{}",
            support::show(&said)
        );
        others.go_on();
        (link, _) = hub.accept_leaf();
        link.sync();
    }
    // A line without an end.
    while link.wire.try_send([b'a'; 1000]).is_ok() {}
    others.go_on();
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < 16 * MIB, "{grown} bytes more");
}
