//! The checklist's items that need a hub whose every byte the test chooses.

use std::time::Duration;

use serde_json::json;

use crate::common::{
    Up, asker, config, eventually, petiole, remote, request, said, sent, sorted, up, up_with,
};
use crate::support::{Client, DEADLINE, FakeHub, LeafLink, LeafOp, Msg, Server, TempDir, user_key};

/// How long a solicitor that must stay away is watched. Its ordinary delay is a fraction of it.
const AWAY: Duration = Duration::from_secs(3);

fn start(hub: &FakeHub, more: &str) -> Server {
    petiole(&remote(hub.port(), more), "")
}

/// petiole joined to a fake hub.
fn joined(more: &str) -> (FakeHub, Server, LeafLink) {
    let hub = FakeHub::start();
    let leaf = start(&hub, more);
    let Up { link, .. } = up(&hub);
    (hub, leaf, link)
}

/// petiole joined to two fake hubs, which name these clusters.
fn joined_twice(clusters: [&str; 2], more: [&str; 2]) -> (Server, [Up; 2]) {
    let hubs = [FakeHub::start(), FakeHub::start()];
    let remotes = [0, 1].map(|i| remote(hubs[i].port(), more[i])).join(", ");
    let leaf = petiole(&remotes, "");
    let ups = [0, 1].map(|i| {
        up_with(
            &hubs[i],
            |info| {
                info["server_name"] = json!(format!("FAKE{i}"));
                if !clusters[i].is_empty() {
                    info["cluster"] = json!(clusters[i]);
                }
            },
            |_| {},
        )
    });
    (leaf, ups)
}

fn lmsg(args: &str, payload: &str) -> LeafOp {
    LeafOp::Msg {
        args: args.to_owned(),
        payload: payload.as_bytes().to_vec(),
    }
}

/// The next operation of the link that is not a PING.
#[track_caller]
fn expect(link: &mut LeafLink, wanted: LeafOp) {
    assert_eq!(link.op(), Some(wanted));
}

#[track_caller]
fn expect_said(link: &mut LeafLink, wanted: &[&str]) {
    assert_eq!(said(link), wanted);
}

fn subjects(messages: &[Msg]) -> Vec<String> {
    messages.iter().map(Msg::subject).collect()
}

#[test]
fn item_02_info_with_a_trailing_space_and_escapes() {
    let hub = FakeHub::start();
    let leaf = start(&hub, "");
    let mut client = Client::quiet(leaf.port());
    client.tell("SUB in.a 1\r\nSUB out.a 2\r\n");
    let mut link = hub.accept();
    let info = hub.info().to_string();
    link.send(format!("INFO   {info} \r\n"));
    link.expect_connect();
    let second = info.replacen(
        '{',
        r#"{"connect_info":true,"import":{"allow":["in.\u003e"]},"unknown":[{"a":1}],"#,
        1,
    );
    link.send(format!("INFO {second} \r\n"));
    let said = said(&mut link);
    assert!(said.contains(&"LS+ in.a".to_owned()), "{said:?}");
    assert!(!said.contains(&"LS+ out.a".to_owned()), "{said:?}");
}

#[test]
fn item_04_the_first_info_needs_a_client_id() {
    let hub = FakeHub::start();
    let leaf = start(&hub, "");
    for change in ["client_id", "leafnode_urls and info_on_connect"] {
        let mut link = hub.accept();
        let mut info = hub.info();
        let fields = info.as_object_mut().unwrap();
        if change == "client_id" {
            fields.remove("client_id");
        } else {
            fields.remove("leafnode_urls");
            fields.remove("info_on_connect");
        }
        link.send_info(&info);
        link.expect_close();
        leaf.wait_for_log("attempted to connect to wrong port");
    }
    up(&hub);
}

#[test]
fn item_05_leafnode_urls_may_be_absent() {
    let hub = FakeHub::start();
    let _leaf = start(&hub, "");
    let drop_urls = |info: &mut serde_json::Value| {
        info.as_object_mut().unwrap().remove("leafnode_urls");
    };
    up_with(&hub, drop_urls, |_| {});
}

#[test]
fn item_06_nothing_before_the_welcome() {
    let hub = FakeHub::start();
    let leaf = start(&hub, "");
    let mut client = Client::quiet(leaf.port());
    let mut link = hub.accept();
    client.tell("SUB early 1\r\n");
    link.send_info(&hub.info());
    link.expect_connect();
    // Neither another INFO nor traffic of its clients makes it speak.
    link.send_info(&hub.info());
    client.tell("SUB later 2\r\nPUB foo 1\r\nx\r\n");
    link.expect_err_close("Stale Leaf Node Connection - Closing");
    leaf.wait_for_log("no answer to CONNECT");
    assert_eq!(up(&hub).burst, ["LS+ early", "LS+ later"]);
}

#[test]
fn item_07_a_legacy_hub_gets_the_burst_at_once() {
    let hub = FakeHub::start();
    let leaf = start(&hub, "");
    let mut client = Client::quiet(leaf.port());
    client.tell("SUB foo 1\r\nSUB bar G 2\r\n");
    let mut link = hub.accept();
    let mut info = hub.info();
    info.as_object_mut().unwrap().remove("info_on_connect");
    link.send_info(&info);
    link.expect_connect();
    link.wait_for_subs(&["foo", "bar G 1"]);
    link.sync();
    link.send("LMSG foo 2\r\nhi\r\n");
    assert_eq!(client.expect_msg().text(), "hi");
}

/// Decodes unpadded base64url.
fn unbase64(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut word, mut bits) = (0u32, 0);
    for c in text.bytes() {
        let six = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            other => panic!("{:?} is not base64url without padding", char::from(other)),
        };
        word = (word << 6) | u32::from(six);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push(((word >> bits) & 0xff) as u8);
        }
    }
    out
}

#[track_caller]
fn verifies(connect: &serde_json::Value, key: &nkeys::KeyPair, nonce: &str) {
    let sig = connect["sig"].as_str().expect("a signature");
    assert_eq!(sig.len(), 86, "{sig}");
    key.verify(nonce.as_bytes(), &unbase64(sig))
        .expect("the signature of the nonce's own characters");
}

#[test]
fn item_12_the_nonce_is_signed_as_it_is() {
    let hub = FakeHub::start();
    let key = user_key("leaf");
    let seed = key.seed().unwrap();
    let _leaf = start(&hub, &format!("nkey: \"{seed}\""));
    for nonce in ["AAAAAAAAAAAAAAA", "3ATRbp9KbTGpdWQ", "-_-_-_-_-_-_-_-"] {
        let mut link = hub.accept();
        let mut info = hub.info();
        info["nonce"] = json!(nonce);
        link.send_info(&info);
        let connect = link.expect_connect();
        assert_eq!(connect["nkey"], key.public_key());
        assert_eq!(connect.get("jwt"), None);
        verifies(&connect, &key, nonce);
    }
}

#[test]
fn item_13_credentials_files() {
    let hub = FakeHub::start();
    let key = user_key("creds");
    let seed = key.seed().unwrap();
    let dir = TempDir::new();
    let good = format!(
        "Keep this safe.\r\n-----BEGIN NATS USER JWT-----\r\nabc.def-_.ghi\r\n------END NATS USER \
         JWT------\r\n\r\n*** NKEY Seed ***\r\n-----BEGIN USER NKEY SEED-----\r\n{seed}\r\n------END USER \
         NKEY SEED------\r\n*****\r\n"
    );
    let path = dir.write("leaf.creds", &good);
    let leaf = start(&hub, &format!("credentials: \"{}\"", path.display()));
    let mut link = hub.accept();
    link.send_info(&hub.info());
    let connect = link.expect_connect();
    assert_eq!(connect["jwt"], "abc.def-_.ghi");
    verifies(&connect, &key, "AAAAAAAAAAAAAAA");
    // Read again at each attempt; a bad one leads to another try.
    for bad in ["", "no blocks here\n", &good.replace(&seed, "SUABADSEED")] {
        dir.write("leaf.creds", bad);
        drop(link);
        link = hub.accept();
        link.send_info(&hub.info());
        link.expect_close();
    }
    leaf.wait_for_log("credentials file");
    assert!(!leaf.log().contains(&seed), "the log shows the seed");
    dir.write("leaf.creds", &good);
    drop(link);
    let mut link = hub.accept();
    link.send_info(&hub.info());
    verifies(&link.expect_connect(), &key, "AAAAAAAAAAAAAAA");
}

#[test]
fn item_17_and_18_no_compression_whatever_the_hub_offers() {
    let hub = FakeHub::start();
    let _leaf = start(&hub, "compression: off");
    for offered in [json!("s2_auto"), json!("accept"), json!(null)] {
        let set = |info: &mut serde_json::Value| {
            if offered.is_null() {
                info.as_object_mut().unwrap().remove("compression");
            } else {
                info["compression"] = offered.clone();
            }
        };
        // CONNECT is the first that comes, in clear.
        let up = up_with(&hub, set, |_| {});
        assert_eq!(up.connect["compress_mode"], "off", "{offered}");
    }
}

#[test]
fn connect_says_what_it_should() {
    let hub = FakeHub::start();
    let leaf = start(&hub, "");
    let connect = up(&hub).connect;
    let id = Client::connect(leaf.port()).info["server_id"].clone();
    assert_eq!(connect["name"], "LEAF");
    assert_eq!(connect["cluster"], "LEAF");
    assert_eq!(connect["server_id"], id);
    assert_eq!(connect["headers"], true);
    assert_eq!(connect["remote_account"], "$G");
    for absent in [
        "is_hub",
        "jetstream",
        "domain",
        "protocol",
        "lang",
        "gateway",
        "account",
        "user",
        "auth_token",
        "sig",
    ] {
        assert_eq!(connect.get(absent), None, "{absent}");
    }
}

#[test]
fn item_28_messages_from_the_hub_in_all_forms() {
    let (_hub, leaf, mut link) = joined("");
    let mut client = Client::quiet(leaf.port());
    client.tell("SUB foo 1\r\nSUB foo G 2\r\n");
    let header = "NATS/1.0\r\nfoo: bar\r\n\r\n";
    // The line, and what the client sees: sid, reply, header, payload.
    let cases: [(&str, &str, Option<&str>, bool); 10] = [
        ("LMSG foo 5\r\nhello\r\n", "1", None, false),
        ("LMSG foo re.ply 5\r\nhello\r\n", "1", Some("re.ply"), false),
        ("LMSG foo | 5\r\nhello\r\n", "1", Some("|"), false),
        ("LMSG foo | X 5\r\nhello\r\n", "1", None, false),
        (
            "LMSG foo + re.ply X Y 5\r\nhello\r\n",
            "1",
            Some("re.ply"),
            false,
        ),
        (
            "lmsg  foo \t re.ply  5\r\nhello\r\n",
            "1",
            Some("re.ply"),
            false,
        ),
        ("HMSG foo 22 27\r\n{h}hello\r\n", "1", None, true),
        (
            "HMSG foo re.ply 22 27\r\n{h}hello\r\n",
            "1",
            Some("re.ply"),
            true,
        ),
        ("HMSG foo | X 22 27\r\n{h}hello\r\n", "1", None, true),
        (
            "HMSG foo + re.ply X Y 22 27\r\n{h}hello\r\n",
            "1",
            Some("re.ply"),
            true,
        ),
    ];
    for (line, sid, reply, has_header) in cases {
        link.send(line.replace("{h}", header));
        link.sync();
        let messages = client.messages();
        let [msg] = messages.as_slice() else {
            panic!("{line}: {messages:?}");
        };
        assert_eq!(
            (msg.sid().as_str(), msg.reply().as_deref()),
            (sid, reply),
            "{line}"
        );
        assert_eq!(msg.header.is_some(), has_header, "{line}");
        assert_eq!(msg.text(), "hello");
    }
}

#[test]
fn item_28_messages_to_the_hub_in_all_forms() {
    let (_hub, leaf, mut link) = joined("");
    let mut client = Client::quiet(leaf.port());
    link.send("LS+ plain\r\nLS+ queue G 2\r\nLS+ both G1 1\r\nLS+ both\r\nLS+ both G2 1\r\n");
    link.sync();
    client.tell(
        "PUB plain 5\r\nhello\r\nPUB plain re.ply 5\r\nhello\r\nPUB queue 2\r\nhi\r\n\
         PUB queue r.q 2\r\nhi\r\nPUB plain 0\r\n\r\n\
         HPUB plain 22 27\r\nNATS/1.0\r\nfoo: bar\r\n\r\nhello\r\n\
         HPUB queue r.h 22 27\r\nNATS/1.0\r\nfoo: bar\r\n\r\nhello\r\n\
         HPUB plain r.h 22 22\r\nNATS/1.0\r\nfoo: bar\r\n\r\n\r\n",
    );
    link.send("PING\r\n");
    let wanted = "LMSG plain 5\r\nhello\r\nLMSG plain re.ply 5\r\nhello\r\nLMSG queue | G 2\r\nhi\r\n\
         LMSG queue + r.q G 2\r\nhi\r\nLMSG plain 0\r\n\r\n\
         HMSG plain 22 27\r\nNATS/1.0\r\nfoo: bar\r\n\r\nhello\r\n\
         HMSG queue + r.h G 22 27\r\nNATS/1.0\r\nfoo: bar\r\n\r\nhello\r\n\
         HMSG plain r.h 22 22\r\nNATS/1.0\r\nfoo: bar\r\n\r\n\r\nPONG\r\n";
    // A ping of its own may stand before or among them.
    let mut got = String::new();
    while !got.ends_with("PONG\r\n") {
        let line = link.wire.line().expect("a line");
        if line != b"PING" {
            got += &String::from_utf8(line).unwrap();
            got += "\r\n";
        }
    }
    assert_eq!(got, wanted);
    client.tell("PUB both r 1\r\nx\r\n");
    let both = sent(&mut link);
    assert!(
        both == ["LMSG both + r G1 G2"] || both == ["LMSG both + r G2 G1"],
        "{both:?}"
    );
}

#[test]
fn malformed_lines_of_a_hub_end_the_link_only() {
    let hub = FakeHub::start();
    let leaf = start(&hub, "");
    let mut client = Client::quiet(leaf.port());
    for line in [
        "FOO\r\n",
        "MSG foo 1 1\r\nx\r\n",
        "LMSG foo\r\n",
        "LMSG foo a b 1\r\nx\r\n",
        "LMSG foo x\r\n",
        "LMSG foo 1\r\nxyz\r\n",
        "HMSG foo 9 1\r\nx\r\n",
        "LS+ a b\r\n",
        "LMSG foo 99999999999\r\n",
        "INFO {\r\n",
    ] {
        let mut link = up(&hub).link;
        link.send(line);
        match link.op() {
            None => {}
            Some(LeafOp::Err(_)) => link.expect_close(),
            other => panic!("{line:?}: {other:?}"),
        }
        client.tell("PUB still 1\r\nx\r\n");
    }
    up(&hub);
}

#[test]
fn item_29_no_queue_list_no_queue_subscriber() {
    let (_hub, leaf, mut link) = joined("");
    let mut client = Client::quiet(leaf.port());
    client.tell("SUB foo G 1\r\n");
    link.send("LMSG foo 1\r\nx\r\nLMSG foo | H 1\r\ny\r\nLMSG foo | G 1\r\nz\r\n");
    link.sync();
    let got: Vec<String> = client.messages().iter().map(Msg::text).collect();
    assert_eq!(got, ["z"]);
}

#[test]
fn item_30_a_queue_list_reaches_all_plain_and_one_of_each_group() {
    let (_hub, leaf, mut link) = joined("");
    let mut client = Client::quiet(leaf.port());
    client.tell(
        "SUB foo plain1\r\nSUB * plain2\r\nSUB foo G g1\r\nSUB foo G g2\r\nSUB * G g3\r\n\
         SUB foo H h1\r\nSUB foo H h2\r\nSUB foo I i1\r\n",
    );
    link.send("LMSG foo + r G H 1\r\nx\r\n");
    link.sync();
    let mut sids: Vec<String> = client.messages().iter().map(Msg::sid).collect();
    for sid in &mut sids {
        if !sid.starts_with("plain") {
            sid.truncate(1);
        }
    }
    assert_eq!(sorted(sids), ["g", "h", "plain1", "plain2"]);
}

#[test]
fn item_31_one_copy_per_link() {
    let (_hub, leaf, mut link) = joined("");
    let mut client = Client::quiet(leaf.port());
    link.send("LS+ a.b\r\nLS+ a.*\r\nLS+ >\r\nLS+ a.> G 1\r\nLS+ a.b G 4\r\n");
    link.sync();
    client.tell("PUB a.b 1\r\nx\r\n");
    assert_eq!(sent(&mut link), ["LMSG a.b | G"]);
}

#[test]
fn item_32_nothing_comes_back() {
    let (leaf, [mut a, mut b]) = joined_twice(["", ""], ["", ""]);
    let mut client = Client::quiet(leaf.port());
    client.tell("SUB foo 1\r\n");
    a.link.send("LS+ foo\r\n");
    a.link.sync();
    b.link.send("LS+ foo\r\n");
    b.link.sync();
    a.link.send("LMSG foo 1\r\nx\r\n");
    assert_eq!(sent(&mut a.link), [""; 0]);
    assert_eq!(sent(&mut b.link), ["LMSG foo"]);
    assert_eq!(client.messages().len(), 1);
}

#[test]
fn item_32_nothing_between_links_of_one_cluster() {
    let (leaf, [mut a, mut b]) = joined_twice(["C", "C"], ["", ""]);
    let mut client = Client::quiet(leaf.port());
    b.link.send("LS+ foo\r\nLS+ q G 1\r\nLS+ $LDS.other\r\n");
    b.link.sync();
    a.link.send("LMSG foo 1\r\nx\r\nLMSG q | G 1\r\nx\r\n");
    // Interest of the same cluster stays away too, loop detection included.
    expect_said(&mut a.link, &[]);
    assert_eq!(sent(&mut b.link), [""; 0]);
    client.tell("PUB foo 1\r\nx\r\n");
    assert_eq!(sent(&mut b.link), ["LMSG foo"]);
}

#[test]
fn item_33_plain_interest_is_said_once() {
    let (_hub, leaf, mut link) = joined("");
    let mut one = Client::quiet(leaf.port());
    let mut two = Client::quiet(leaf.port());
    one.tell("SUB a 1\r\nSUB a 2\r\n");
    expect_said(&mut link, &["LS+ a"]);
    two.tell("SUB a 1\r\n");
    one.tell("UNSUB 1\r\nUNSUB 2\r\n");
    expect_said(&mut link, &[]);
    two.tell("UNSUB 1\r\n");
    expect_said(&mut link, &["LS- a"]);
    // With the last delivery of an automatic unsubscription, and with the client itself.
    one.tell("SUB b 3\r\nUNSUB 3 2\r\n");
    expect_said(&mut link, &["LS+ b"]);
    link.send("LMSG b 1\r\nx\r\n");
    expect_said(&mut link, &[]);
    link.send("LMSG b 1\r\nx\r\n");
    expect(&mut link, LeafOp::Unsub("b".to_owned()));
    assert_eq!(one.messages().len(), 2);
    one.tell("SUB c 4\r\n");
    expect_said(&mut link, &["LS+ c"]);
    drop(one);
    link.wait_for(&LeafOp::Unsub("c".to_owned()));
}

#[test]
fn item_34_queue_interest_is_said_with_its_weight() {
    let (_hub, leaf, mut link) = joined("");
    let mut client = Client::quiet(leaf.port());
    for (line, wanted) in [
        ("SUB q G 1\r\n", "LS+ q G 1"),
        ("SUB q G 2\r\n", "LS+ q G 2"),
        ("SUB q G 3\r\n", "LS+ q G 3"),
        ("SUB q H 4\r\n", "LS+ q H 1"),
        ("SUB q 5\r\n", "LS+ q"),
        ("UNSUB 1\r\n", "LS+ q G 2"),
        ("UNSUB 5\r\n", "LS- q"),
        ("UNSUB 2\r\n", "LS+ q G 1"),
        ("UNSUB 3\r\n", "LS- q G"),
        ("UNSUB 4\r\n", "LS- q H"),
    ] {
        client.tell(line);
        assert_eq!(said(&mut link), [wanted], "after {line}");
    }
}

#[test]
fn item_35_hubs_do_not_hear_of_each_others_interest() {
    let (leaf, [mut a, mut b]) = joined_twice(["A", "B"], ["", ""]);
    let mut client = Client::quiet(leaf.port());
    a.link.send("LS+ foo\r\nLS+ q G 2\r\nLS+ $LDS.theirs\r\n");
    a.link.sync();
    expect_said(&mut b.link, &["LS+ $LDS.theirs"]);
    client.tell("SUB q G 1\r\n");
    expect_said(&mut a.link, &["LS+ q G 1"]);
    expect_said(&mut b.link, &["LS+ q G 1"]);
    // A message is passed on all the same.
    b.link.send("LMSG foo r 1\r\nx\r\n");
    b.link.sync();
    assert_eq!(sent(&mut a.link), ["LMSG foo r"]);
    // The hub goes, and with it its loop detection.
    drop(a);
    b.link.wait_for(&LeafOp::Unsub("$LDS.theirs".to_owned()));
}

#[test]
fn item_36_interest_from_below_goes_up_with_summed_weights() {
    let (leaf, [mut below, mut above]) = joined_twice(["A", "B"], ["hub: true", ""]);
    assert_eq!(below.connect["is_hub"], true);
    let mut client = Client::quiet(leaf.port());
    let mut told = |line: &str, wanted: &[&str]| {
        below.link.send(line);
        below.link.sync();
        assert_eq!(sorted(said(&mut above.link)), wanted, "after {line}");
    };
    told("LS+ foo\r\n", &["LS+ foo"]);
    told("LS+ foo\r\n", &[]);
    told("LS+ q G 3\r\n", &["LS+ q G 3"]);
    client.tell("SUB q G 1\r\nSUB foo 2\r\n");
    told("LS- foo\r\n", &["LS+ q G 4"]);
    told("LS+ q G 5\r\n", &["LS+ q G 6"]);
    told("LS- q G\r\n", &["LS+ q G 1"]);
    told("LS+ bar\r\nLS+ q G 2\r\n", &["LS+ bar", "LS+ q G 3"]);
    // What is above is of interest below.
    above.link.send("LS+ up\r\n");
    above.link.sync();
    let heard = said(&mut below.link);
    assert!(heard.contains(&"LS+ up".to_owned()), "{heard:?}");
    drop(below);
    above.link.wait_for_subs(&["q G 1"]);
}

#[test]
fn item_37_the_inbox_is_known_before_the_request() {
    let (_hub, leaf, mut link) = joined("");
    let mut client = Client::quiet(leaf.port());
    link.send("LS+ svc\r\n");
    link.sync();
    for n in 0..50 {
        client.send(format!("SUB rep.{n} {n}\r\nPUB svc rep.{n} 1\r\nx\r\n"));
        expect(&mut link, LeafOp::Sub(format!("rep.{n}")));
        expect(&mut link, lmsg(&format!("svc rep.{n}"), "x"));
    }
}

#[test]
fn item_38_local_members_come_first() {
    let (_hub, leaf, mut link) = joined("");
    let mut worker = Client::quiet(leaf.port());
    let mut client = Client::quiet(leaf.port());
    link.send("LS+ q G 9\r\n");
    link.sync();
    worker.tell("SUB q G 1\r\n");
    for _ in 0..60 {
        client.send("PUB q 1\r\nx\r\n");
    }
    client.tell("PUB other 1\r\nx\r\n");
    assert_eq!(worker.messages().len(), 60);
    assert_eq!(sent(&mut link), [""; 0]);
    worker.tell("UNSUB 1\r\n");
    client.tell("PUB q 1\r\nx\r\n");
    assert_eq!(sent(&mut link), ["LMSG q | G"]);
}

#[test]
fn item_38_members_behind_links_are_chosen_by_weight() {
    let (leaf, [mut a, mut b]) = joined_twice(["", ""], ["", ""]);
    let mut client = Client::quiet(leaf.port());
    a.link.send("LS+ q G 1\r\n");
    a.link.sync();
    b.link.send("LS+ q G 9\r\n");
    b.link.sync();
    for _ in 0..1000 {
        client.send("PUB q 1\r\nx\r\n");
    }
    client.sync();
    let (a, b) = (sent(&mut a.link).len(), sent(&mut b.link).len());
    assert_eq!(a + b, 1000);
    // One in ten, and nine standard deviations (9.5 each) around it.
    assert!((15..=185).contains(&a), "{a} of 1000");
}

#[test]
fn item_39_jetstream_replies_name_the_subject() {
    let (leaf, [mut a, mut b]) = joined_twice(["", ""], ["", ""]);
    let mut client = Client::quiet(leaf.port());
    client.tell("SUB _INBOX.d 1\r\nSUB _INBOX.d G 2\r\n");
    b.link.send("LS+ _INBOX.d\r\n");
    b.link.sync();
    let old = "$JS.ACK.S.L.1.1.1.1795396781301678307.1";
    let new = "$JS.ACK._.szMp.S.L.1.1.1.1795396781301678307.1.rnd";
    for (reply, subject, seen) in [
        (format!("{old}@orders.1"), "orders.1", old),
        (format!("{new}@orders.a@b"), "orders.a@b", new),
        (old.to_owned(), "_INBOX.d", old),
        ("foo@bar".to_owned(), "_INBOX.d", "foo@bar"),
        ("$JS.FC.S.C.x@y".to_owned(), "_INBOX.d", "$JS.FC.S.C.x@y"),
    ] {
        for (args, tail) in [
            (format!("LMSG _INBOX.d {reply}"), " 1\r\nx\r\n"),
            (
                format!("HMSG _INBOX.d {reply}"),
                " 12 13\r\nNATS/1.0\r\n\r\nx\r\n",
            ),
        ] {
            a.link.send(format!("{args}{tail}"));
            a.link.sync();
            let messages = client.messages();
            let [msg] = messages.as_slice() else {
                panic!("{args}: {messages:?}");
            };
            assert_eq!(
                (msg.subject().as_str(), msg.reply().as_deref()),
                (subject, Some(seen)),
                "{args}"
            );
            assert_eq!(sent(&mut b.link), [args]);
        }
        a.link.send(format!("LMSG _INBOX.d + {reply} G 1\r\nx\r\n"));
        a.link.sync();
        assert_eq!(subjects(&client.messages()), [subject, subject]);
        assert_eq!(sent(&mut b.link), [format!("LMSG _INBOX.d {reply}")]);
    }
}

#[test]
fn item_40_service_and_gateway_replies_are_answered() {
    let (_hub, leaf, mut link) = joined("");
    let mut client = Client::quiet(leaf.port());
    client.tell("SUB svc 1\r\n");
    link.send("LS+ _GR_.>\r\nLS+ _R_.Ab12Cd.>\r\n");
    link.sync();
    for reply in ["_GR_.ACfM4c.FLKF6x.ib.1", "_R_.Ab12Cd.Ef34Gh"] {
        link.send(format!("LMSG svc {reply} 1\r\nx\r\n"));
        link.sync();
        let seen = client.expect_msg().reply().expect("a reply subject");
        client.tell(format!("PUB {seen} 2\r\nok\r\n"));
        assert_eq!(sent(&mut link), [format!("LMSG {reply}")]);
    }
}

/// The solicitor stays away, and says for how long.
#[track_caller]
fn stays_away(hub: &FakeHub, leaf: &Server, next_try: &str) {
    leaf.wait_for_log(next_try);
    assert!(
        hub.try_accept(AWAY).is_none(),
        "it came again before {next_try:?}"
    );
}

#[test]
fn item_41_a_loop_is_cut_by_us() {
    let hub = FakeHub::start();
    let leaf = start(&hub, "");
    let mut up = up(&hub);
    up.link.send(format!("LS+ {}\r\n", up.lds));
    up.link.expect_err_close(
        "Loop detected for leafnode account=\"$G\". Delaying attempt to reconnect for 30s",
    );
    stays_away(&hub, &leaf, "next try in 31.0s");
}

#[test]
fn item_41_a_loop_is_cut_by_the_hub() {
    let hub = FakeHub::start();
    let leaf = start(&hub, "");
    let mut link = up(&hub).link;
    link.send(
        "-ERR 'Loop detected for leafnode account=\"$G\". Delaying attempt to reconnect for 30s'\r\n",
    );
    // It closes by itself.
    assert!(!link.wire.rest().starts_with(b"-ERR"));
    stays_away(&hub, &leaf, "next try in 31.0s");
}

#[test]
fn item_42_an_equal_cluster_name_delays() {
    let hub = FakeHub::start();
    let leaf = start(&hub, "");
    let mut link = hub.accept();
    link.send_info(&hub.info());
    link.expect_connect();
    link.send("-ERR 'remote leafnode has same cluster name'\r\n");
    drop(link);
    stays_away(&hub, &leaf, "next try in 31.0s");
}

#[test]
fn item_42_a_minimum_version_delays() {
    let hub = FakeHub::start();
    let leaf = start(&hub, "");
    let mut link = up(&hub).link;
    link.send("-ERR 'connection rejected since minimum version required is \"2.99.0\"'\r\n");
    drop(link);
    stays_away(&hub, &leaf, "next try in 6.0s");
}

#[test]
fn item_42_and_44_other_errors_delay_by_a_second() {
    let hub = FakeHub::start();
    let leaf = start(&hub, "");
    for text in [
        "Authorization Violation",
        "Authentication Timeout",
        "User Authentication Expired",
        "Duplicate Remote LeafNode Connection",
        "Permissions Violation for Subscription to \"a\"",
        "maximum account active connections exceeded",
        "Maximum Payload Violation",
        "Stale Connection",
    ] {
        let mut link = up(&hub).link;
        link.send(format!("-ERR '{text}'\r\n"));
        // It does not close by itself: the hub does.
        link.sync();
        drop(link);
        leaf.wait_for_log(&format!("the hub says '{text}'; next try in 1."));
    }
    up(&hub);
}

#[test]
fn a_lost_link_is_dialled_at_once() {
    let hub = FakeHub::start();
    let text = config(&remote(hub.port(), ""), "").replace("reconnect: \"100ms\", ", "");
    let leaf = Server::start_petiole(&text);
    drop(up(&hub));
    let said = "is down: closed by the peer; next try in ";
    leaf.wait_for_log(said);
    let log = leaf.log();
    let wait = log
        .split_once(said)
        .and_then(|(_, rest)| rest.lines().next());
    assert!(wait.is_some_and(|wait| wait.ends_with("ms")), "{log}");
    up(&hub);
}

#[test]
fn item_43_dialling_goes_on() {
    let hub = FakeHub::start();
    let port = hub.port();
    drop(hub);
    let leaf = petiole(&remote(port, ""), "debug: true");
    // The first failure is told, the others are for who debugs.
    leaf.wait_for_log("failed (attempt 1)");
    leaf.wait_for_log("attempt 3");
    let hub = eventually("the port again", || {
        std::net::TcpListener::bind(("127.0.0.1", port))
            .map(drop)
            .map_err(|e| e.to_string())
            .map(|()| FakeHub::start_on(port))
    });
    up(&hub);
    leaf.wait_for_log("is up");
}

#[test]
fn item_45_the_hub_restricts_us() {
    let hub = FakeHub::start();
    let leaf = start(&hub, "");
    let mut client = Client::quiet(leaf.port());
    client.tell(
        "SUB in.a 1\r\nSUB in.* 2\r\nSUB *.a 3\r\nSUB > 4\r\nSUB in.no 5\r\nSUB zz 6\r\n\
         SUB in.q G 7\r\nSUB zz G 8\r\nSUB zz.* 9\r\n",
    );
    let restrict = |info: &mut serde_json::Value| {
        info["import"] = json!({"allow": ["in.>"], "deny": ["in.no"]});
        info["export"] = json!({"allow": ["out.>"], "deny": ["out.no"]});
    };
    let Up {
        mut link, burst, ..
    } = up_with(&hub, |_| {}, restrict);
    assert_eq!(
        burst,
        ["LS+ *.a", "LS+ >", "LS+ in.*", "LS+ in.a", "LS+ in.q G 1"]
    );
    client.tell("UNSUB 1\r\nUNSUB 2\r\nUNSUB 3\r\n");
    link.sync();
    // What we may not send is dropped, and so is what the hub should not have sent.
    link.send("LS+ >\r\nLMSG zz 1\r\nx\r\nLMSG in.no 1\r\nx\r\nLMSG in.b 1\r\nx\r\n");
    link.sync();
    assert_eq!(subjects(&client.messages()), ["in.b"]);
    let mut other = Client::quiet(leaf.port());
    other.tell("PUB out.a 1\r\nx\r\nPUB out.no 1\r\nx\r\nPUB in.a 1\r\nx\r\nPUB out.b 1\r\nx\r\n");
    assert_eq!(sent(&mut link), ["LMSG out.a", "LMSG out.b"]);
    // A later INFO replaces the lists, and is not about the rest.
    let mut later = hub.info();
    later["import"] = json!({"allow": ["zz"]});
    later["export"] = json!({"allow": ["yy"]});
    link.send_info(&later);
    link.sync();
    client.messages();
    link.send("LMSG zz 1\r\nx\r\nLMSG in.b 1\r\nx\r\n");
    link.sync();
    assert!(client.messages().iter().all(|msg| msg.subject() == "zz"));
    other.tell("PUB out.a 1\r\nx\r\nPUB yy 1\r\nx\r\n");
    assert_eq!(sent(&mut link), ["LMSG yy"]);
    // An INFO without lists leaves them.
    link.send_info(&hub.info());
    other.tell("PUB out.a 1\r\nx\r\nPUB yy 1\r\nx\r\n");
    assert_eq!(sent(&mut link), ["LMSG yy"]);
}

#[test]
fn item_45_interest_that_we_may_not_serve_is_not_interest() {
    let hub = FakeHub::start();
    let leaf = start(&hub, "");
    let restrict = |info: &mut serde_json::Value| info["export"] = json!({"allow": ["out.>"]});
    let mut link = up_with(&hub, |_| {}, restrict).link;
    link.send("LS+ zz\r\nLS+ out.a\r\nLS+ >\r\n");
    link.sync();
    let mut client = asker(&leaf);
    let msg = request(&mut client, "zz", "x");
    assert!(msg.header.is_some_and(|h| h.starts_with(b"NATS/1.0 503")));
}

#[test]
fn item_46_our_own_lists() {
    let hub = FakeHub::start();
    let leaf = start(
        &hub,
        "deny_imports: [\"d.>\", \"e\"], deny_exports: [\"x.>\", \"y\"]",
    );
    let mut client = Client::quiet(leaf.port());
    client.tell("SUB d.a 1\r\nSUB d.* 2\r\nSUB e 3\r\nSUB > 4\r\nSUB f 5\r\nSUB *.a 6\r\n");
    let Up {
        mut link,
        connect,
        burst,
        ..
    } = up(&hub);
    assert_eq!(connect["deny_pub"], json!(["d.>", "e"]));
    assert_eq!(burst, ["LS+ *.a", "LS+ >", "LS+ f"]);
    assert_eq!(connect.get("deny_sub"), None);
    link.send("LS+ >\r\nLMSG d.a 1\r\nx\r\nLMSG e 1\r\nx\r\n");
    link.sync();
    assert_eq!(client.messages(), []);
    client.tell("UNSUB 4\r\nUNSUB 6\r\nPUB x.a 1\r\nx\r\nPUB y 1\r\nx\r\nPUB z 1\r\nx\r\n");
    assert_eq!(sent(&mut link), ["LMSG z"]);
}

#[test]
fn item_47_the_hub_role_ends_the_link() {
    let (hub, leaf, mut link) = joined("hub: true, deny_exports: [\"x.>\"]");
    // A wildcard is kept, and filtered per message.
    link.send("LS+ >\r\n");
    link.sync();
    link.send("LS+ x.a\r\n");
    link.expect_err_close("Permissions Violation for Subscription to \"x.a\"");
    leaf.wait_for_log("next try in 31.0s");
    assert!(hub.try_accept(Duration::ZERO).is_none());
}

#[test]
fn item_48_errors_that_keep_the_link() {
    let (hub, leaf, mut link) = joined("");
    link.send("-ERR 'maximum subscriptions exceeded'\r\n-ERR 'Invalid Subscription'\r\n+OK\r\n");
    link.sync();
    leaf.wait_for_log("Leafnode Error 'maximum subscriptions exceeded'");
    // The same said by us.
    link.send("LS+ foo..bar\r\n");
    expect(&mut link, LeafOp::Err("Invalid Subscription".to_owned()));
    link.sync();
    assert!(hub.try_accept(Duration::ZERO).is_none());
}

#[test]
fn item_48_more_interest_than_we_take() {
    let hub = FakeHub::start();
    let leaf = petiole(&remote(hub.port(), ""), "max_subscriptions: 3");
    let mut link = up(&hub).link;
    link.send("LS+ a\r\nLS+ b\r\nLS+ c\r\nLS+ d\r\n");
    expect(
        &mut link,
        LeafOp::Err("maximum subscriptions exceeded".to_owned()),
    );
    // One in place of another is taken.
    link.send("LS- b\r\nLS+ e\r\n");
    assert_eq!(link.sync(), []);
    let mut client = Client::quiet(leaf.port());
    for s in ["a", "b", "c", "d", "e"] {
        client.send(format!("PUB {s} 1\r\nx\r\n"));
    }
    client.sync();
    assert_eq!(sent(&mut link), ["LMSG a", "LMSG c", "LMSG e"]);
}

#[test]
fn item_49_a_silent_hub_is_stale_at_the_third_tick() {
    let hub = FakeHub::start();
    let leaf = petiole(&remote(hub.port(), ""), "ping_interval: \"200ms\"");
    let mut link = up(&hub).link;
    let mut pings = 0;
    loop {
        match link.raw_op() {
            Some(LeafOp::Ping) => pings += 1,
            Some(LeafOp::Err(text)) => {
                assert_eq!(text, "Stale Connection");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(pings, 2);
    link.expect_close();
    leaf.wait_for_log("the hub stopped answering pings");
    up(&hub);
}

/// Whatever comes from a hub shows that it is there: a part of a message as well.
#[test]
fn a_hub_that_speaks_is_kept() {
    let hub = FakeHub::start();
    let _leaf = petiole(&remote(hub.port(), ""), "ping_interval: \"200ms\"");
    let mut link = up(&hub).link;
    link.send("LMSG a.subject 1000\r\n");
    for _ in 0..12 {
        assert_eq!(link.raw_op(), Some(LeafOp::Ping));
        link.send(".");
    }
}

#[test]
fn item_49_a_hub_that_answers_is_kept() {
    let hub = FakeHub::start();
    let _leaf = petiole(&remote(hub.port(), ""), "ping_interval: \"100ms\"");
    let mut link = up(&hub).link;
    for _ in 0..8 {
        assert_eq!(link.raw_op(), Some(LeafOp::Ping));
        link.send("PONG\r\n");
    }
}

#[test]
fn item_50_headers_are_stripped_for_who_cannot_read_them() {
    let hub = FakeHub::start();
    let leaf = start(&hub, "");
    let mut up = up_with(&hub, |info| info["headers"] = json!(false), |_| {});
    assert_eq!(up.connect.get("headers"), None);
    up.link.send("LS+ foo\r\n");
    up.link.sync();
    let mut client = Client::quiet(leaf.port());
    client.tell("HPUB foo r 22 27\r\nNATS/1.0\r\nfoo: bar\r\n\r\nhello\r\n");
    expect(&mut up.link, lmsg("foo r", "hello"));
}

#[test]
fn item_51_no_responders_is_decided_here() {
    let (_hub, leaf, mut link) = joined("");
    let mut client = asker(&leaf);
    let is_503 = |msg: &Msg| {
        msg.header
            .as_ref()
            .is_some_and(|h| h.starts_with(b"NATS/1.0 503"))
    };
    assert!(is_503(&request(&mut client, "nobody", "x")));
    // Nothing of it crosses.
    assert_eq!(sent(&mut link), [""; 0]);
    link.send("LS+ somebody\r\nLS+ group G 1\r\n");
    link.sync();
    client.tell("SUB ib 1\r\nPUB somebody ib 1\r\nx\r\nPUB group ib 1\r\nx\r\n");
    assert_eq!(sent(&mut link), ["LMSG somebody ib", "LMSG group + ib G"]);
    link.send("LS- somebody\r\nLS- group G\r\n");
    link.sync();
    assert!(is_503(&request(&mut client, "somebody", "x")));
    assert!(is_503(&request(&mut client, "group", "x")));
    // A request from the link that nobody answers stays without an answer.
    link.send("LMSG nobody _INBOX.x 1\r\nx\r\n");
    assert_eq!(sent(&mut link), [""; 0]);
}

#[test]
fn item_53_interest_in_the_hubs_jetstream_is_not_said() {
    let hub = FakeHub::start();
    let leaf = start(&hub, "");
    let mut client = Client::quiet(leaf.port());
    client.tell(
        "SUB $KV.b.k 1\r\nSUB $JS.API.x 2\r\nSUB $OBJ.b.x 3\r\nSUB $JS.D.API.x 4\r\n\
         SUB $KV.b.k G 5\r\nSUB $JS.ACK.x 6\r\nSUB $JS.EVENT.> 7\r\n",
    );
    let domain = |info: &mut serde_json::Value| {
        info["jetstream"] = json!(true);
        info["domain"] = json!("D");
    };
    let Up {
        mut link, burst, ..
    } = up_with(&hub, domain, |_| {});
    assert_eq!(burst, ["LS+ $JS.ACK.x", "LS+ $JS.EVENT.>"]);
    client.tell("UNSUB 1\r\nSUB $KV.b.l 8\r\n");
    expect_said(&mut link, &[]);
    // Among local clients it is interest like any other.
    client.send("PUB $KV.b.l 1\r\nx\r\n");
    assert_eq!(client.expect_msg().subject(), "$KV.b.l");
}

#[test]
fn item_54_what_a_jetstream_hub_takes_without_saying() {
    let hub = FakeHub::start();
    let leaf = start(&hub, "");
    let mut link = up_with(&hub, |info| info["jetstream"] = json!(true), |_| {}).link;
    link.send("LS+ $JS.API.>\r\n");
    link.sync();
    let mut client = asker(&leaf);
    client.tell(
        "SUB ib 1\r\nPUB $KV.b.k ib 1\r\nx\r\nPUB $OBJ.b.M.x ib 1\r\nx\r\n\
         PUB $JS.API.DIRECT.GET.KV_b.$KV.b.k ib 0\r\n\r\nPUB $JS.API.INFO ib 0\r\n\r\n",
    );
    assert_eq!(
        sent(&mut link),
        [
            "LMSG $KV.b.k ib",
            "LMSG $OBJ.b.M.x ib",
            "LMSG $JS.API.DIRECT.GET.KV_b.$KV.b.k + ib _sys_",
            "LMSG $JS.API.INFO + ib _sys_",
        ]
    );
}

#[test]
fn item_55_discovered_addresses_are_used() {
    let (hub, other) = (FakeHub::start(), FakeHub::start());
    let port = hub.port();
    let leaf = petiole(&format!("{{ url: \"nats://u:p@127.0.0.1:{port}\" }}"), "");
    let mut link = up(&hub).link;
    let mut later = hub.info();
    later.as_object_mut().unwrap().remove("client_id");
    later["leafnode_urls"] = json!([
        format!("127.0.0.1:{port}"),
        format!("127.0.0.1:{}", other.port()),
    ]);
    link.send_info(&later);
    link.sync();
    drop(link);
    // With the credentials of the configured one.
    let connect = up(&other).connect;
    assert_eq!(
        (&connect["user"], &connect["pass"]),
        (&json!("u"), &json!("p"))
    );
    leaf.wait_for_log(&format!("127.0.0.1:{}", other.port()));
    // And the one after goes to the configured one.
    up(&hub);
}

#[test]
fn item_55_discovered_addresses_can_be_ignored() {
    let (hub, other) = (FakeHub::start(), FakeHub::start());
    let _leaf = start(&hub, "ignore_discovered_servers: true");
    for _ in 0..3 {
        up_with(
            &hub,
            |info| {
                info["leafnode_urls"] = json!([
                    format!("127.0.0.1:{}", other.port()),
                    format!("127.0.0.1:{}", hub.port()),
                ]);
            },
            |_| {},
        );
    }
    assert!(other.try_accept(Duration::ZERO).is_none());
}

#[test]
fn addresses_take_turns() {
    let hubs = [FakeHub::start(), FakeHub::start(), FakeHub::start()];
    let urls = hubs
        .iter()
        .map(|hub| format!("\"nats://127.0.0.1:{}\"", hub.port()));
    let urls: Vec<String> = urls.collect();
    let _leaf = petiole(
        &format!("{{ urls: [{}], no_randomize: true }}", urls.join(", ")),
        "",
    );
    for hub in hubs.iter().chain(&hubs) {
        up_with(
            hub,
            // Known addresses only: the order is the configuration's.
            |info| info["leafnode_urls"] = json!([]),
            |_| {},
        );
    }
}

#[test]
fn item_56_the_end_is_a_bare_end() {
    for signal in ["TERM", "INT", "USR2"] {
        let hub = FakeHub::start();
        let mut leaf = petiole(
            &remote(hub.port(), ""),
            "lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"100ms\"",
        );
        let mut link = up(&hub).link;
        leaf.signal(signal);
        assert_eq!(link.op(), None, "{signal}");
        leaf.wait_exit();
    }
}

#[test]
fn item_57_a_long_connect_goes_out_whole() {
    let hub = FakeHub::start();
    let dir = TempDir::new();
    let jwt = format!("e30.{}.c2ln", "j".repeat(60_000));
    let seed = user_key("long").seed().unwrap();
    let path = dir.write(
        "leaf.creds",
        format!("-----JWT-----\n{jwt}\n-----END-----\n-----SEED-----\n{seed}\n-----END-----\n"),
    );
    let _leaf = start(&hub, &format!("credentials: \"{}\"", path.display()));
    assert_eq!(up(&hub).connect["jwt"], jwt);
}

#[test]
fn a_long_info_is_read() {
    let hub = FakeHub::start();
    let leaf = start(&hub, "");
    let list: Vec<String> = (0..2000).map(|n| format!("in.{n}.>")).collect();
    let restrict = |info: &mut serde_json::Value| info["import"] = json!({"allow": list.clone()});
    let mut link = up_with(&hub, |_| {}, restrict).link;
    let mut client = Client::quiet(leaf.port());
    client.tell("SUB in.1999.x 1\r\nSUB in.2000.x 2\r\n");
    expect_said(&mut link, &["LS+ in.1999.x"]);
}

#[test]
fn a_large_interest_is_announced_whole() {
    let hub = FakeHub::start();
    let leaf = start(&hub, "");
    let mut client = Client::quiet(leaf.port());
    let lines: Vec<String> = (0..20_000)
        .map(|n| format!("SUB big.{n} {n}\r\n"))
        .collect();
    client.tell(lines.concat());
    // The answer to a ping does not wait for what is queued: what comes is counted.
    let Up {
        mut link, burst, ..
    } = up(&hub);
    let mut got = burst;
    while got.len() < 20_000 {
        match link.op() {
            Some(LeafOp::Sub(args)) => got.push(format!("LS+ {args}")),
            other => panic!("interest was expected, not {other:?}"),
        }
    }
    let wanted = sorted((0..20_000).map(|n| format!("LS+ big.{n}")).collect());
    assert!(sorted(got) == wanted);
    assert_eq!(said(&mut link), [""; 0]);
}

#[test]
fn a_reset_link_comes_back_with_its_interest() {
    let hub = FakeHub::start();
    let leaf = start(&hub, "");
    let mut client = Client::quiet(leaf.port());
    client.tell("SUB keep 1\r\nSUB gone 2\r\n");
    let mut link = up(&hub).link;
    link.send("LS+ old\r\n");
    link.sync();
    client.tell("PUB old 5\r\nunread\r\n".replace("unread", "unrea"));
    // Closing with unread input resets.
    assert!(link.wire.readable(DEADLINE));
    drop(link);
    leaf.wait_for_log("is down");
    client.tell("UNSUB 2\r\nSUB new 3\r\n");
    let Up {
        mut link, burst, ..
    } = up(&hub);
    assert_eq!(burst, ["LS+ keep", "LS+ new"]);
    // The interest of the old link is gone.
    client.tell("PUB old 1\r\nx\r\n");
    assert_eq!(sent(&mut link), [""; 0]);
}

#[test]
fn a_hub_that_says_nothing_is_left() {
    let hub = FakeHub::start();
    let leaf = start(&hub, "first_info_timeout: \"200ms\"");
    let mut link = hub.accept();
    link.expect_close();
    leaf.wait_for_log("no INFO within 200ms");
    up(&hub);
}

#[test]
fn a_message_larger_than_the_hub_takes_is_dropped() {
    let hub = FakeHub::start();
    let leaf = start(&hub, "");
    let mut link = up_with(&hub, |info| info["max_payload"] = json!(4), |_| {}).link;
    link.send("LS+ foo\r\n");
    link.sync();
    let mut client = Client::quiet(leaf.port());
    client.tell("PUB foo 5\r\nhello\r\nPUB foo 4\r\nhell\r\n");
    expect(&mut link, lmsg("foo", "hell"));
    leaf.wait_for_log("the hub takes 4 at most");
}

#[test]
fn users_and_tokens_come_from_the_url() {
    let hub = FakeHub::start();
    let port = hub.port();
    let leaf = petiole(
        &format!("{{ url: \"nats://us%40er:p%3Ass@127.0.0.1:{port}\" }}"),
        "",
    );
    let connect = up(&hub).connect;
    assert_eq!(connect["user"], "us@er");
    assert_eq!(connect["pass"], "p:ss");
    assert_eq!(connect.get("auth_token"), None);
    assert!(!leaf.log().contains("p:ss") && !leaf.log().contains("p%3Ass"));
    drop(leaf);
    let _leaf = petiole(&format!("{{ url: \"nats://t0ken@127.0.0.1:{port}\" }}"), "");
    let connect = up(&hub).connect;
    assert_eq!(
        (&connect["user"], &connect["auth_token"]),
        (&json!("t0ken"), &json!("t0ken"))
    );
}

#[test]
fn remotes_of_different_accounts_do_not_meet() {
    let hubs = [FakeHub::start(), FakeHub::start()];
    let remotes = [("A", &hubs[0]), ("B", &hubs[1])]
        .map(|(account, hub)| remote(hub.port(), &format!("account: {account}")))
        .join(", ");
    let leaf = petiole(
        &remotes,
        "accounts { A: { users: [ {user: a, password: a} ] }, B: { users: [ {user: b, password: b} ] } }",
    );
    let [mut a, mut b] = [up(&hubs[0]), up(&hubs[1])];
    assert_eq!(a.connect["remote_account"], "A");
    assert_eq!(b.connect["remote_account"], "B");
    assert_ne!(a.lds, b.lds);
    let mut client_a = Client::quiet_and(leaf.port(), "\"user\":\"a\",\"pass\":\"a\"");
    let mut client_b = Client::quiet_and(leaf.port(), "\"user\":\"b\",\"pass\":\"b\"");
    client_a.tell("SUB foo 1\r\n");
    expect_said(&mut a.link, &["LS+ foo"]);
    expect_said(&mut b.link, &[]);
    a.link.send("LS+ bar\r\nLS+ $LDS.one\r\n");
    a.link.sync();
    b.link.send("LMSG foo 1\r\nx\r\nLMSG bar 1\r\nx\r\n");
    b.link.sync();
    client_b.tell("PUB foo 1\r\nx\r\nPUB bar 1\r\nx\r\n");
    assert_eq!(client_a.messages(), []);
    assert_eq!(a.link.sync(), []);
    assert_eq!(b.link.sync(), []);
    client_a.tell("PUB bar 1\r\nx\r\n");
    expect(&mut a.link, lmsg("bar", "x"));
}
