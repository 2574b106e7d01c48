//! petiole as a leaf of real hubs: each test against all three versions.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::common::{
    Joined, asker, each, eventually, expect_announced, get, hub, petiole, remote, request, sorted,
};
use crate::support::{Client, Msg, RealServer, Server, signal};

/// Joins a petiole to a hub, both without accounts.
fn join(real: &RealServer, leafnodes: &str, more: &str) -> (Server, Server, Joined) {
    let hub = hub(real, leafnodes, more);
    let leaf = petiole(&remote(hub.port_of("leaf"), ""), "");
    let joined = Joined::new(&leaf, &hub, "", "");
    (hub, leaf, joined)
}

/// The `jetstream` block of a hub, with a domain or without.
fn jetstream(domain: &str) -> String {
    let domain = match domain {
        "" => String::new(),
        name => format!("domain: {name}"),
    };
    format!("jetstream {{ store_dir: \"{{dir}}\", max_mem: 64M, max_file: 64M, {domain} }}")
}

fn texts(messages: &[Msg]) -> Vec<String> {
    messages.iter().map(Msg::text).collect()
}

fn status(msg: &Msg) -> &[u8] {
    msg.header.as_deref().unwrap_or_default()
}

#[test]
fn the_default_link_to_every_version() {
    each(|real| {
        let (hub, _leaf, _) = join(real, "", "");
        let leafz = get(hub.port_of("mon"), "/leafz").unwrap();
        let leaf = &leafz["leafs"][0];
        assert_eq!(leaf["account"], "$G");
        if real.version >= (2, 10, 0) {
            assert_eq!(leaf["compression"], "s2_uncompressed");
            assert_eq!(leaf["name"], "LEAF");
        }
    });
}

#[test]
fn messages_and_requests_both_ways() {
    each(|real| {
        let (hub, leaf, mut joined) = join(real, "", "");
        let mut edge = asker(&leaf);
        let mut core = asker(&hub);
        edge.tell("SUB to.edge 1\r\nSUB edge.svc 2\r\n");
        core.tell("SUB to.core 1\r\nSUB core.svc 2\r\n");
        joined.settle();
        let header = "NATS/1.0\r\nfoo: bar\r\n\r\n";
        core.send(format!(
            "PUB to.edge 2\r\nhi\r\nHPUB to.edge re.ply 22 24\r\n{header}hi\r\n"
        ));
        edge.send(format!(
            "PUB to.core 2\r\nhi\r\nHPUB to.core re.ply 22 24\r\n{header}hi\r\n"
        ));
        for client in [&mut edge, &mut core] {
            let plain = client.expect_msg();
            assert_eq!(
                (plain.text().as_str(), plain.reply(), plain.header),
                ("hi", None, None)
            );
            let full = client.expect_msg();
            assert_eq!(full.text(), "hi");
            assert_eq!(full.reply().as_deref(), Some("re.ply"));
            assert_eq!(full.header.as_deref(), Some(header.as_bytes()));
        }
        // Requests are answered through the inbox of the other side.
        for subject in ["core.svc", "edge.svc"] {
            let (asker, answerer) = match subject {
                "core.svc" => (&mut edge, &mut core),
                _ => (&mut core, &mut edge),
            };
            for n in 0..20 {
                asker.send(format!(
                    "SUB ib.{n} 9\r\nUNSUB 9 1\r\nPUB {subject} ib.{n} 1\r\n?\r\n"
                ));
                let question = answerer.expect_msg();
                answerer.tell(format!("PUB {} 1\r\n!\r\n", question.reply().unwrap()));
                assert_eq!(asker.expect_msg().text(), "!");
            }
        }
    });
}

#[test]
fn large_payloads_cross_whole() {
    each(|real| {
        let (hub, leaf, mut joined) = join(real, "", "");
        let mut edge = Client::quiet(leaf.port());
        let mut core = Client::quiet(hub.port());
        edge.tell("SUB down 1\r\n");
        core.tell("SUB up 1\r\n");
        joined.settle();
        for size in [0, 1, 4096, 65_537, 1_048_576] {
            let payload: String = ('a'..='z').cycle().take(size).collect();
            edge.send(format!("PUB up {size}\r\n{payload}\r\n"));
            core.send(format!("PUB down {size}\r\n{payload}\r\n"));
            for client in [&mut edge, &mut core] {
                assert!(client.expect_msg().text() == payload, "{size}");
            }
        }
    });
}

#[test]
fn item_34_and_38_queue_groups_across_the_link() {
    each(|real| {
        let (hub, leaf, mut joined) = join(real, "", "");
        let mut edge = Client::quiet(leaf.port());
        let mut core = Client::quiet(hub.port());
        let mut producer = Client::quiet(hub.port());
        // Members at the edge only: whoever publishes, each message is done once.
        edge.tell("SUB work G 1\r\nSUB work G 2\r\nSUB work G 3\r\n");
        joined.settle();
        for n in 0..50 {
            producer.send(format!("PUB work 2\r\n{n:02}\r\n"));
        }
        let mut got: Vec<String> = (0..50).map(|_| edge.expect_msg().text()).collect();
        got = sorted(got);
        assert_eq!(got, (0..50).map(|n| format!("{n:02}")).collect::<Vec<_>>());
        assert_eq!(edge.messages(), []);
        // A member at the hub comes first there; the edge's own comes first at the edge.
        core.tell("SUB work G 1\r\n");
        joined.settle();
        for _ in 0..20 {
            producer.send("PUB work 1\r\nx\r\n");
        }
        producer.sync();
        assert_eq!(core.messages().len(), 20);
        edge.send("PUB work 1\r\ny\r\n");
        assert_eq!(texts(&edge.messages()), ["y"]);
        // The last one at the edge goes: the hub's does it.
        edge.tell("UNSUB 1\r\nUNSUB 2\r\nUNSUB 3\r\n");
        edge.tell("PUB work 1\r\nz\r\n");
        joined.settle();
        assert_eq!(texts(&core.messages()), ["z"]);
    });
}

#[test]
fn item_51_no_responders_with_a_hub() {
    each(|real| {
        let (hub, leaf, mut joined) = join(real, "", "");
        let mut edge = asker(&leaf);
        let mut core = asker(&hub);
        assert!(status(&request(&mut edge, "nobody", "")).starts_with(b"NATS/1.0 503"));
        assert!(status(&request(&mut core, "nobody", "")).starts_with(b"NATS/1.0 503"));
        core.tell("SUB somebody 1\r\n");
        joined.settle();
        edge.send("SUB ib 1\r\nPUB somebody ib 0\r\n\r\n");
        let question = core.expect_msg();
        core.tell(format!(
            "UNSUB 1\r\nPUB {} 2\r\nme\r\n",
            question.reply().unwrap()
        ));
        assert_eq!(edge.expect_msg().text(), "me");
        joined.settle();
        assert!(status(&request(&mut edge, "somebody", "")).starts_with(b"NATS/1.0 503"));
    });
}

#[test]
fn the_hub_sees_exactly_the_interest_of_the_edge() {
    each(|real| {
        let (mut hub, leaf, _) = join(real, "", "");
        let mut clients: Vec<Client> = (0..4).map(|_| Client::quiet(leaf.port())).collect();
        // A fixed course of steps: reproducible, and long enough to meet itself.
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut below = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % n
        };
        let subjects = [
            "a", "a.b", "a.*", "a.>", "*.b", ">", "q", "q.r", "é", "$SYS.x",
        ];
        let queues = ["", "", "G", "H"];
        // (client, sid) -> subject and queue.
        let mut open: Vec<(usize, u64, &str, &str)> = Vec::new();
        let check = |hub: &Server, open: &[(usize, u64, &str, &str)]| {
            // The hub lists a subject once per key.
            let keys: BTreeSet<(&str, &str)> = open.iter().map(|(_, _, s, q)| (*s, *q)).collect();
            let wanted: Vec<&str> = keys.iter().map(|(s, _)| *s).collect();
            expect_announced(hub, &wanted);
        };
        for step in 0..400 {
            let client = below(4) as usize;
            match below(10) {
                0..=5 => {
                    let (s, q) = (subjects[below(10) as usize], queues[below(4) as usize]);
                    clients[client].send(format!("SUB {s} {q} {step}\r\n"));
                    open.push((client, step, s, q));
                }
                6..=8 if !open.is_empty() => {
                    let gone = open.swap_remove(below(open.len() as u64) as usize);
                    clients[gone.0].send(format!("UNSUB {}\r\n", gone.1));
                }
                _ if step % 7 == 0 => {
                    clients[client] = Client::quiet(leaf.port());
                    open.retain(|(c, ..)| *c != client);
                }
                _ => {}
            }
            if step % 100 == 99 {
                check(&hub, &open);
            }
            if step == 150 {
                hub.kill();
            }
            if step == 170 {
                hub.restart();
            }
        }
        check(&hub, &open);
        // Clients that go take all their interest along.
        drop(clients);
        expect_announced(&hub, &[]);
    });
}

#[test]
fn a_hub_that_is_killed_comes_back() {
    each(|real| {
        let (mut hub, leaf, _) = join(real, "", "");
        let mut edge = asker(&leaf);
        edge.tell("SUB keep 1\r\nSUB q G 2\r\nSUB q G 3\r\n");
        for end in ["kill", "stop"] {
            let mark = leaf.log_mark();
            if end == "kill" {
                hub.kill();
            } else {
                hub.stop();
            }
            leaf.wait_for_log_after(mark, "is down");
            // Local service goes on, and nobody is promised a hub that is not there.
            edge.tell("PUB other 1\r\nx\r\n");
            assert!(status(&request(&mut edge, "core.svc", "")).starts_with(b"NATS/1.0 503"));
            let sid = edge.ask(format!("SUB while.{end} {end}\r\n"));
            assert_eq!(sid, []);
            hub.restart();
            leaf.wait_for_log_after(mark, "is up");
            // The hub's clients went with it.
            let mut joined = Joined::new(&leaf, &hub, "", "");
            let mut core = Client::quiet(hub.port());
            core.tell("SUB core.svc 1\r\n");
            joined.settle();
            core.tell(format!(
                "PUB keep 1\r\nx\r\nPUB q 1\r\ny\r\nPUB while.{end} 1\r\nz\r\n"
            ));
            let got: Vec<String> = (0..3).map(|_| edge.expect_msg().text()).collect();
            assert_eq!(got, ["x", "y", "z"], "{end}");
            assert_eq!(edge.messages(), []);
        }
        expect_announced(&hub, &["keep", "q", "while.kill", "while.stop"]);
    });
}

#[test]
fn item_49_a_frozen_hub_is_left_and_found_again() {
    each(|real| {
        let hub = hub(real, "", "");
        let leaf = petiole(&remote(hub.port_of("leaf"), ""), "ping_interval: \"200ms\"");
        let mut joined = Joined::new(&leaf, &hub, "", "");
        let mark = leaf.log_mark();
        signal(hub.pid(), "STOP");
        leaf.wait_for_log_after(mark, "the hub stopped answering pings");
        signal(hub.pid(), "CONT");
        leaf.wait_for_log_after(mark, "is up");
        joined.wait();
    });
}

#[test]
fn item_44_a_leaf_that_was_cut_off_replaces_its_old_link() {
    each(|real| {
        let hub = hub(real, "", "");
        let config = crate::common::config(&remote(hub.port_of("leaf"), ""), "");
        let mut leaf = Server::start_petiole(&config);
        let mut joined = Joined::new(&leaf, &hub, "", "");
        joined.settle();
        leaf.kill();
        leaf.restart();
        let mut joined = Joined::new(&leaf, &hub, "", "");
        joined.settle();
        expect_announced(&hub, &[]);
    });
}

#[test]
fn item_45_permissions_of_the_hubs_user() {
    each(|real| {
        let hub = hub(
            real,
            "",
            "accounts { A: { users: [ {user: a, password: a}, {user: u, password: p, permissions: {\n\
             subscribe: { allow: [\"in.>\", \"fence.>\"], deny: \"in.no\" }\n\
             publish: { allow: [\"out.>\", \"fence.>\"], deny: \"out.no\" } } } ] } }",
        );
        let leaf = petiole(
            &format!(
                "{{ url: \"nats://u:p@127.0.0.1:{}\" }}",
                hub.port_of("leaf")
            ),
            "",
        );
        let mut joined = Joined::new(&leaf, &hub, "", "\"user\":\"a\",\"pass\":\"a\"");
        let mut edge = Client::quiet(leaf.port());
        let mut core = Client::quiet_and(hub.port(), "\"user\":\"a\",\"pass\":\"a\"");
        edge.tell("SUB in.a 1\r\nSUB in.* 2\r\nSUB in.no 3\r\nSUB zz 4\r\nSUB zz.> 5\r\n");
        core.tell("SUB > 1\r\n");
        joined.settle();
        core.messages();
        edge.send("PUB out.no 1\r\nx\r\nPUB zz 1\r\nx\r\nPUB out.a 1\r\nx\r\nPUB zz.a 1\r\nx\r\n");
        edge.messages();
        joined.settle();
        let seen: Vec<String> = core.messages().iter().map(Msg::subject).collect();
        let seen: Vec<&String> = seen.iter().filter(|s| !s.starts_with("fence.")).collect();
        assert_eq!(seen, ["out.a"]);
        core.tell("UNSUB 1\r\n");
        core.tell("PUB in.a 1\r\nx\r\nPUB in.no 1\r\nx\r\nPUB zz 1\r\nx\r\nPUB zz.a 1\r\nx\r\n");
        joined.settle();
        let seen = edge.messages().iter().map(Msg::subject).collect();
        assert_eq!(sorted(seen), ["in.a", "in.a"]);
        assert!(!leaf.log().contains("is down"), "the link broke");
    });
}

#[test]
fn item_46_deny_lists_hold_against_a_hub() {
    each(|real| {
        let hub = hub(real, "", "");
        let leaf = petiole(
            &remote(
                hub.port_of("leaf"),
                "deny_imports: \"d.>\", deny_exports: \"x.>\"",
            ),
            "",
        );
        let mut joined = Joined::new(&leaf, &hub, "", "");
        let mut edge = Client::quiet(leaf.port());
        let mut core = Client::quiet(hub.port());
        edge.tell("SUB d.a 1\r\nSUB > 2\r\nSUB ok 3\r\n");
        core.tell("SUB x.a 1\r\nSUB y.* 2\r\n");
        joined.settle();
        edge.messages();
        core.tell("PUB d.a 1\r\nx\r\nPUB ok 1\r\nx\r\n");
        joined.settle();
        let seen: Vec<String> = edge.messages().iter().map(Msg::subject).collect();
        let seen = seen
            .into_iter()
            .filter(|s| !s.starts_with("fence."))
            .collect();
        assert_eq!(sorted(seen), ["ok", "ok"]);
        edge.tell("UNSUB 2\r\nPUB x.a 1\r\nx\r\nPUB y.a 1\r\nx\r\n");
        joined.settle();
        let seen: Vec<String> = core.messages().iter().map(Msg::subject).collect();
        assert_eq!(seen, ["y.a"]);
    });
}

#[test]
fn the_hubs_role_is_ours() {
    each(|real| {
        let hub = hub(real, "", "");
        let leaf = petiole(&remote(hub.port_of("leaf"), "hub: true"), "");
        let mut joined = Joined::new(&leaf, &hub, "", "");
        let mut edge = asker(&leaf);
        let mut core = Client::quiet(hub.port());
        core.tell("SUB svc 1\r\n");
        edge.tell("SUB news 1\r\n");
        joined.settle();
        core.tell("PUB news 1\r\nx\r\n");
        assert_eq!(edge.expect_msg().subject(), "news");
        edge.send("SUB ib 2\r\nPUB svc ib 1\r\nx\r\n");
        let question = core.expect_msg();
        core.tell(format!("PUB {} 2\r\nok\r\n", question.reply().unwrap()));
        assert_eq!(edge.expect_msg().text(), "ok");
        let leafz = get(hub.port_of("mon"), "/leafz").unwrap();
        if real.version >= (2, 10, 0) {
            assert_eq!(leafz["leafs"][0]["is_spoke"], true);
        }
    });
}

#[test]
fn item_41_a_loop_through_two_hubs() {
    each(|real| {
        // The second hub is a leaf of the first; we join both.
        let first = hub(real, "", "");
        let port = first.port_of("leaf");
        let second = Server::start_real(
            real,
            &crate::common::hub_config(
                &format!("remotes: [ {{ url: \"nats://127.0.0.1:{port}\" }} ]"),
                "",
            )
            .replace("server_name: HUB", "server_name: SECOND"),
        );
        let leaf = petiole(
            &format!(
                "{}, {}",
                remote(port, ""),
                remote(second.port_of("leaf"), "")
            ),
            "",
        );
        // Whoever notices first, at least one link is cut.
        leaf.wait_for_log("Loop detected");
        leaf.wait_for_log("next try in 31.0s");
        // Local clients are served all the while.
        let mut client = Client::quiet(leaf.port());
        client.send("SUB local 1\r\nPUB local 1\r\nx\r\n");
        assert_eq!(client.expect_msg().text(), "x");
    });
}

#[test]
fn item_42_a_hub_that_wants_a_newer_leaf() {
    each(|real| {
        let hub = hub(real, "min_version: \"99.0.0\"", "");
        let leaf = petiole(&remote(hub.port_of("leaf"), ""), "");
        leaf.wait_for_log("minimum version required is");
        leaf.wait_for_log("next try in 6.0s");
    });
}

#[test]
fn item_42_a_hub_of_our_name() {
    each(|real| {
        let hub = hub(
            real,
            "",
            "cluster { name: LEAF, listen: \"127.0.0.1:{port:cluster}\" }",
        );
        let leaf = petiole(&remote(hub.port_of("leaf"), ""), "");
        leaf.wait_for_log("remote leafnode has same cluster name");
        leaf.wait_for_log("next try in 31.0s");
    });
}

/// A JetStream request that succeeds.
#[track_caller]
fn api(client: &mut Client, subject: &str, body: &Value) -> Value {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let msg = request(client, subject, &body);
    let answer: Value =
        serde_json::from_slice(&msg.payload).unwrap_or_else(|e| panic!("{subject}: {e}: {msg:?}"));
    assert_eq!(answer.get("error"), None, "{subject}: {answer}");
    answer
}

#[test]
fn item_52_jetstream_through_the_leaf() {
    each(|real| {
        for domain in ["", "D"] {
            let (_hub, leaf, mut joined) = join(real, "", &jetstream(domain));
            joined.settle();
            let mut edge = asker(&leaf);
            let prefixes = match domain {
                "" => vec!["$JS.API".to_owned()],
                name => vec!["$JS.API".to_owned(), format!("$JS.{name}.API")],
            };
            for api_prefix in prefixes {
                let name = |call: &str| format!("{api_prefix}.{call}");
                api(&mut edge, &name("INFO"), &Value::Null);
                api(
                    &mut edge,
                    &name("STREAM.CREATE.S"),
                    &json!({"name": "S", "subjects": ["s.>"], "storage": "memory", "retention": "limits"}),
                );
                joined.settle();
                for n in 1..=3 {
                    let ack = api(&mut edge, &format!("s.{n}"), &json!(n));
                    assert_eq!(ack["seq"], n);
                }
                api(
                    &mut edge,
                    &name("CONSUMER.DURABLE.CREATE.S.C"),
                    &json!({"stream_name": "S", "config": {"durable_name": "C", "ack_policy": "explicit"}}),
                );
                for n in 1..=3 {
                    let msg = request(&mut edge, &name("CONSUMER.MSG.NEXT.S.C"), "1");
                    assert_eq!(
                        (msg.subject(), msg.text()),
                        (format!("s.{n}"), n.to_string())
                    );
                    let ack = msg.reply().expect("where to acknowledge");
                    assert!(ack.starts_with("$JS.ACK.") && !ack.contains('@'), "{ack}");
                    // A double ack: the answer says that it was taken.
                    request(&mut edge, &ack, "+ACK");
                }
                let info = api(&mut edge, &name("CONSUMER.INFO.S.C"), &Value::Null);
                assert_eq!(info["num_ack_pending"], 0);
                assert_eq!(info["ack_floor"]["stream_seq"], 3);
                // Push delivery shows the stream's subject too.
                edge.tell("SUB push.here 77\r\n");
                joined.settle();
                api(
                    &mut asker(&leaf),
                    &name("CONSUMER.DURABLE.CREATE.S.P"),
                    &json!({"stream_name": "S", "config": {"durable_name": "P", "ack_policy": "explicit", "deliver_subject": "push.here"}}),
                );
                for n in 1..=3 {
                    let msg = edge.expect_msg();
                    assert_eq!(
                        (msg.subject(), msg.sid()),
                        (format!("s.{n}"), "77".to_owned())
                    );
                }
                edge.tell("UNSUB 77\r\n");
                api(&mut edge, &name("STREAM.DELETE.S"), &Value::Null);
            }
        }
    });
}

#[test]
fn item_53_literal_interest_in_jetstream_keeps_the_link() {
    each(|real| {
        for domain in ["", "D"] {
            let (hub, leaf, mut joined) = join(real, "", &jetstream(domain));
            let mut edge = Client::quiet(leaf.port());
            edge.tell(
                "SUB $KV.b.k 1\r\nSUB $JS.API.x 2\r\nSUB $OBJ.b.x 3\r\nSUB $JS.D.API.x 4\r\n\
                 SUB $KV.b.k G 5\r\nSUB plain 6\r\n",
            );
            joined.settle();
            let mut wanted = vec!["plain"];
            if domain.is_empty() {
                wanted.push("$JS.D.API.x");
            }
            expect_announced(&hub, &wanted);
            assert!(!leaf.log().contains("is down"), "the link broke");
        }
    });
}

#[test]
fn item_54_key_value_through_the_leaf() {
    each(|real| {
        for domain in ["", "D"] {
            let (_hub, leaf, mut joined) = join(real, "", &jetstream(domain));
            joined.settle();
            let mut edge = asker(&leaf);
            api(
                &mut edge,
                "$JS.API.STREAM.CREATE.KV_b",
                &json!({"name": "KV_b", "subjects": ["$KV.b.>"], "storage": "memory", "max_msgs_per_subject": 5,
                        "allow_direct": true, "allow_rollup_hdrs": true, "deny_delete": true, "discard": "new"}),
            );
            edge.tell("SUB watch.here 88\r\n");
            joined.settle();
            api(
                &mut edge,
                "$JS.API.CONSUMER.CREATE.KV_b",
                &json!({"stream_name": "KV_b", "config": {"deliver_subject": "watch.here", "ack_policy": "none",
                        "deliver_policy": "last_per_subject", "filter_subject": "$KV.b.>"}}),
            );
            let ack = api(&mut edge, "$KV.b.k", &json!("one"));
            assert_eq!(ack["seq"], 1, "{domain:?}");
            let seen = edge.expect_msg();
            assert_eq!(
                (seen.subject().as_str(), seen.sid().as_str()),
                ("$KV.b.k", "88")
            );
            edge.tell("UNSUB 88\r\n");
            let got = request(&mut edge, "$JS.API.DIRECT.GET.KV_b.$KV.b.k", "");
            assert_eq!(got.text(), "\"one\"", "{got:?}");
            let got = api(
                &mut edge,
                "$JS.API.STREAM.MSG.GET.KV_b",
                &json!({"last_by_subj": "$KV.b.k"}),
            );
            assert_eq!(got["message"]["seq"], 1);
            let missing = request(&mut edge, "$JS.API.DIRECT.GET.KV_b.$KV.b.none", "");
            assert!(status(&missing).starts_with(b"NATS/1.0 404"), "{missing:?}");
        }
    });
}

#[test]
fn item_55_a_cluster_of_hubs_is_discovered() {
    each(|real| {
        let cluster = |name: &str, routes: &str| {
            crate::common::hub_config(
                "",
                &format!(
                    "cluster {{ name: C, listen: \"127.0.0.1:{{port:cluster}}\", routes: [ {routes} ] }}"
                ),
            )
            .replace("server_name: HUB", &format!("server_name: {name}"))
        };
        let mut one = Server::start_real(real, &cluster("ONE", ""));
        let two = Server::start_real(
            real,
            &cluster(
                "TWO",
                &format!("\"nats://127.0.0.1:{}\"", one.port_of("cluster")),
            ),
        );
        let leaf = petiole(&remote(one.port_of("leaf"), ""), "");
        leaf.wait_for_log("hub ONE");
        eventually("the cluster", || {
            let routez = get(one.port_of("mon"), "/routez")?;
            match routez["num_routes"].as_u64() {
                Some(n) if n > 0 => Ok(()),
                _ => Err("no routes".to_owned()),
            }
        });
        let mut joined = Joined::new(&leaf, &one, "", "");
        joined.settle();
        one.kill();
        leaf.wait_for_log("hub TWO");
        Joined::new(&leaf, &two, "", "");
    });
}

#[test]
fn item_56_a_lame_duck_hub_is_left_when_it_closes() {
    each(|real| {
        let mut hub = hub(
            real,
            "",
            "lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"100ms\"",
        );
        let leaf = petiole(&remote(hub.port_of("leaf"), ""), "");
        leaf.wait_for_log("is up");
        hub.signal("USR2");
        leaf.wait_for_log("is down");
        hub.wait_exit();
    });
}

#[test]
fn two_hubs_and_what_passes_between_them() {
    each(|real| {
        let hubs = [("A", "ONE"), ("B", "TWO")].map(|(_, name)| {
            Server::start_real(
                real,
                &crate::common::hub_config("", "")
                    .replace("server_name: HUB", &format!("server_name: {name}")),
            )
        });
        let remotes = [0, 1]
            .map(|i| remote(hubs[i].port_of("leaf"), ""))
            .join(", ");
        let leaf = petiole(&remotes, "");
        let mut one = Joined::new(&leaf, &hubs[0], "", "");
        let mut two = Joined::new(&leaf, &hubs[1], "", "");
        let mut edge = Client::quiet(leaf.port());
        let mut core = [Client::quiet(hubs[0].port()), Client::quiet(hubs[1].port())];
        core[1].tell("SUB far 1\r\nSUB both 2\r\n");
        core[0].tell("SUB both 2\r\n");
        edge.tell("SUB both 1\r\n");
        one.settle();
        two.settle();
        // The first hub does not know of the second's interest; the edge does.
        core[0].tell("PUB far 1\r\nx\r\n");
        edge.tell("PUB far 1\r\ny\r\n");
        one.settle();
        two.settle();
        assert_eq!(texts(&core[1].messages()), ["y"]);
        // What the edge is interested in reaches it, and goes on to who else is.
        core[0].send("PUB both 1\r\nz\r\n");
        one.settle();
        two.settle();
        assert_eq!(texts(&core[0].messages()), ["z"]);
        assert_eq!(texts(&edge.messages()), ["z"]);
        assert_eq!(texts(&core[1].messages()), ["z"]);
    });
}
