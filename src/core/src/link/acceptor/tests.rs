//! Leafs at a port, as bytes. Numbers are those of the leaf protocol's checklist.
#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;

use super::*;
use crate::auth::certificate::Certificate;
use crate::auth::certificate::tests::subject;
use crate::auth::nkey;
use crate::auth::users::{Check, Users};
use crate::config::testing::config;
use crate::link::queue::WritePlan;
use crate::link::{Event, LinkId, Server};
use crate::random::Random;
use crate::shard::Shard;
use serde_json::Value;

/// A port, its leafs, and the time.
struct World {
    shard: Shard<Acceptor>,
    port: LeafPort,
    /// How leafs connect, and what TLS came to.
    kind: ConnectionType,
    secured: Secured,
    now: Instant,
    number: u64,
}

impl World {
    /// With the users of a configuration, and those of its port.
    fn new(text: &str) -> World {
        let config = config(text);
        let server = Server {
            id: "NHUB".into(),
            name: "H".into(),
            toolchain: "rust",
            host: "0.0.0.0".into(),
            port: 4222,
            headers: true,
        };
        let env = Env {
            server,
            limits: config.limits.clone(),
            users: Arc::new(Users::compile(&config)),
            tls: None,
        };
        let accounts = config.accounts.iter().map(|account| account.name.as_str());
        World {
            shard: Shard::new(env, accounts, Box::new(Random::new(7))),
            port: LeafPort {
                host: "127.0.0.1".into(),
                users: Users::compile_for_leafs(&config).map(Arc::new),
                ..LeafPort::default()
            },
            kind: ConnectionType::Leafnode,
            secured: Secured::default(),
            now: Instant::from_nanos(1_000_000_000),
            number: 0,
        }
    }

    /// A leaf that has dialled, and what it is told.
    fn dial(&mut self) -> (LinkId, String) {
        self.number += 1;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1000));
        let port = Arc::new(self.port.clone());
        let (kind, secured) = (self.kind, self.secured.clone());
        let leaf = Acceptor::new(self.now, self.number, address, kind, port, secured);
        let link = self.shard.open(self.now, leaf);
        (link, self.hear(link))
    }

    /// A leaf that is in, and has read all that it was told.
    fn join(&mut self, connect: &str) -> LinkId {
        let (link, _) = self.dial();
        let heard = self.ask(link, &format!("CONNECT {connect}\r\n"));
        assert!(heard.contains("\"connect_info\":true"), "{heard}");
        link
    }

    fn say(&mut self, link: LinkId, text: &str) {
        self.shard.handle_bytes(self.now, link, text.as_bytes());
    }

    fn hear(&mut self, link: LinkId) -> String {
        let mut heard = Vec::new();
        while self.shard.wants(link).write {
            let before = heard.len();
            {
                let mut plan = WritePlan::new();
                self.shard.poll_transmit(link, &mut plan);
                plan.iter().for_each(|piece| heard.extend_from_slice(piece));
            }
            let count = heard.len() - before;
            self.shard.handle_transmitted(self.now, link, count);
        }
        String::from_utf8(heard).unwrap()
    }

    fn ask(&mut self, link: LinkId, text: &str) -> String {
        self.say(link, text);
        self.hear(link)
    }

    fn is_closed(&self, link: LinkId) -> bool {
        self.shard.wants(link).close
    }

    /// The account that a leaf with this CONNECT is bound to; `None`: it is not let in.
    #[track_caller]
    fn account(&mut self, connect: &str) -> Option<String> {
        let (link, _) = self.dial();
        self.say(link, &format!("CONNECT {connect}\r\n"));
        while let Some(event) = self.shard.poll_event() {
            let Event::Verify {
                link,
                check: Check::Password(check),
            } = event
            else {
                continue;
            };
            let proof = Proof::Verified(check.run());
            self.shard.handle_proof(self.now, link, proof);
        }
        let heard = self.hear(link);
        if self.is_closed(link) {
            assert_eq!(heard, "-ERR 'Authorization Violation'\r\n", "{connect}");
            return None;
        }
        Some(info(&heard)["remote_account"].as_str().unwrap().to_owned())
    }

    /// What a leaf is told to this, and that it is closed.
    #[track_caller]
    fn refused(&mut self, link: LinkId, text: &str) -> String {
        let heard = self.ask(link, text);
        assert!(self.is_closed(link), "{text} is not the end: {heard}");
        heard
    }
}

/// The object of an INFO line.
fn info(heard: &str) -> Value {
    let line = heard.lines().next().unwrap_or_default();
    assert!(line.ends_with("} "), "{line}");
    serde_json::from_str(line.strip_prefix("INFO ").unwrap()).unwrap()
}

/// What follows the line that begins so.
fn behind<'a>(heard: &'a str, start: &str) -> &'a str {
    let at = heard.find(start).unwrap();
    heard[at..].split_once("\r\n").unwrap().1
}

#[test]
fn info_comes_first_and_answers_connect_03_08() {
    let mut world = World::new("");
    let (link, heard) = world.dial();
    let first = info(&heard);
    assert_eq!(first["client_id"], 1);
    assert_eq!(first["nonce"].as_str().unwrap().len(), 15);
    assert_eq!(first["info_on_connect"], true);
    assert_eq!(first["leafnode_urls"], Value::Array(Vec::new()));
    assert_eq!(first["compression"], "off");
    assert_eq!(first["ip"], "127.0.0.1:7422");
    let heard = world.ask(link, "CONNECT {}\r\n");
    let second = info(&heard);
    assert_eq!(second["connect_info"], true);
    assert_eq!(second["remote_account"], "$G");
    assert_eq!(second["client_id"], 1);
    for absent in ["nonce", "import", "export", "compression", "cluster"] {
        assert_eq!(second.get(absent), None, "{absent}");
    }
    let rest = behind(&heard, "INFO");
    assert!(rest.starts_with("LS+ $LDS."), "{rest}");
    assert!(rest.ends_with("\r\nPING\r\n"), "{rest}");
}

#[test]
fn nothing_but_connect_comes_first_09_10() {
    for said in ["LS+ a\r\n", "PING\r\n", "INFO {}\r\n", "LMSG a 0\r\n\r\n"] {
        let mut world = World::new("");
        let (link, _) = world.dial();
        let heard = world.refused(link, said);
        assert_eq!(heard, "-ERR 'Authorization Violation'\r\n", "{said}");
    }
    let mut world = World::new("");
    let (link, _) = world.dial();
    world.now = world.now + Duration::from_secs(2);
    world.shard.handle_timeout(world.now);
    assert_eq!(world.hear(link), "-ERR 'Authentication Timeout'\r\n");
    assert!(world.is_closed(link));
}

#[test]
fn who_is_not_a_leaf_of_another_cluster_is_refused_11() {
    let rows = [
        (
            "{\"lang\":\"go\"}",
            "attempted to connect to leaf node port",
        ),
        (
            "{\"cluster\":\"a b\"}",
            "cluster name cannot contain spaces",
        ),
        (
            "{\"cluster\":\"C\"}",
            "remote leafnode has same cluster name",
        ),
        (
            "{\"gateway\":\"X\"}",
            "Rejecting connection from gateway \"X\" on the leafnode port",
        ),
        ("{\"account\":\"A\"}", "Authorization Violation"),
    ];
    for (connect, text) in rows {
        let mut world = World::new("");
        world.port.cluster = "C".into();
        let (link, heard) = world.dial();
        assert_eq!(info(&heard)["cluster"], "C");
        let heard = world.refused(link, &format!("CONNECT {connect}\r\n"));
        assert_eq!(heard, format!("-ERR '{text}'\r\n"), "{connect}");
    }
    let mut world = World::new("");
    let (link, _) = world.dial();
    assert_eq!(world.refused(link, "CONNECT [\r\n"), "");
}

#[test]
fn a_leaf_is_bound_to_the_account_of_its_user_12() {
    let seed = nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::User, [7; 32]);
    let seed = seed.and_then(|pair| pair.seed()).unwrap();
    let key = nkey::public_key(&seed).unwrap();
    let text =
        format!("accounts {{ A {{ users: [ {{user: u, password: p}}, {{nkey: {key}}} ] }} }}");
    let mut world = World::new(&text);
    let (link, heard) = world.dial();
    let nonce = info(&heard)["nonce"].as_str().unwrap().to_owned();
    let sig = nkey::sign(&seed, nonce.as_bytes()).unwrap();
    let connect = format!("CONNECT {{\"nkey\":\"{key}\",\"sig\":\"{sig}\"}}\r\n");
    assert_eq!(info(&world.ask(link, &connect))["remote_account"], "A");
    // The same again is no second chance: the nonce was another link's.
    let (link, _) = world.dial();
    let heard = world.refused(link, &connect);
    assert_eq!(heard, "-ERR 'Authorization Violation'\r\n");
    for (connect, is_in) in [
        ("{\"user\":\"u\",\"pass\":\"p\"}", true),
        ("{\"user\":\"u\",\"pass\":\"q\"}", false),
        ("{}", false),
    ] {
        let (link, _) = world.dial();
        let heard = world.ask(link, &format!("CONNECT {connect}\r\n"));
        let welcome = heard.contains("\"remote_account\":\"A\"");
        assert_eq!((welcome, !world.is_closed(link)), (is_in, is_in), "{heard}");
    }
}

/// What leafs say in CONNECT, and the account each is bound to.
type Leafs = &'static [(&'static str, Option<&'static str>)];

const U_P: &str = "{\"user\":\"u\",\"pass\":\"p\"}";
const X_Y: &str = "{\"user\":\"x\",\"pass\":\"y\"}";
const TOKEN: &str = "{\"auth_token\":\"t\"}";

/// Each as 2.15.1 has it.
#[test]
fn the_authorization_of_the_port_says_who_a_leaf_is() {
    let everybody = "accounts { A { users: [ {user: u, password: p}, {user: nobody} ] }, B {}, C {} }; \
        no_auth_user: nobody";
    let user = "accounts { A { users: [ {user: u, password: p} ] }, B {} }";
    let token = "accounts [A, B]; authorization { token: t }";
    let hash = bcrypt::hash_with_salt("p", 4, [9; 16]).unwrap();
    let hash = hash.format_for_version(bcrypt::Version::TwoA);
    let hashed = format!("user: u, password: \"{hash}\", account: B");
    let listed = format!("users: [ {{{hashed}}} ]");
    let rows: [(&str, &str, Leafs); 15] = [
        // Nothing: the server's users.
        ("", "", &[("{}", Some("$G")), (X_Y, Some("$G"))]),
        ("", user, &[("{}", None), (U_P, Some("A")), (X_Y, None)]),
        (
            "",
            everybody,
            &[("{}", Some("A")), (U_P, Some("A")), (X_Y, None)],
        ),
        ("", token, &[("{}", None), (TOKEN, Some("$G")), (X_Y, None)]),
        // An account alone counts where nobody is asked who it is.
        (
            "account: A",
            "accounts [A]",
            &[("{}", Some("A")), (X_Y, Some("A"))],
        ),
        (
            "account: B",
            user,
            &[("{}", None), (U_P, Some("A")), (X_Y, None)],
        ),
        (
            "account: B",
            everybody,
            &[("{}", Some("A")), (U_P, Some("A")), (X_Y, None)],
        ),
        ("account: B", token, &[("{}", None), (TOKEN, Some("$G"))]),
        // One user. The server's are nobody, whoever stands for no user included.
        (
            "user: x, password: y",
            everybody,
            &[("{}", None), (U_P, None), (X_Y, Some("$G"))],
        ),
        (
            "user: u, password: q, account: B",
            everybody,
            &[
                ("{}", None),
                (U_P, None),
                ("{\"user\":\"u\"}", None),
                ("{\"user\":\"u\",\"pass\":\"q\"}", Some("B")),
            ],
        ),
        (
            "user: u, account: B",
            user,
            &[(U_P, None), ("{\"user\":\"u\"}", Some("B"))],
        ),
        (
            &hashed,
            user,
            &[("{}", None), (U_P, Some("B")), (X_Y, None)],
        ),
        // Several.
        (
            "users: [ {user: x, password: y, account: B}, {user: z, password: z} ], account: C",
            everybody,
            &[
                ("{}", None),
                (U_P, None),
                (X_Y, Some("B")),
                ("{\"user\":\"x\",\"pass\":\"z\"}", None),
                ("{\"user\":\"z\",\"pass\":\"z\"}", Some("$G")),
            ],
        ),
        (
            &listed,
            user,
            &[("{}", None), (U_P, Some("B")), (X_Y, None)],
        ),
        ("users: []", user, &[("{}", None), (U_P, Some("A"))]),
    ];
    for (authorization, server, leafs) in rows {
        let text =
            format!("leafnodes {{ port: 7422, authorization {{ {authorization} }} }}; {server}");
        let mut world = World::new(&text);
        for (connect, account) in leafs {
            let bound = world.account(connect);
            assert_eq!(bound.as_deref(), *account, "{text}: {connect}");
        }
    }
}

#[test]
fn the_port_knows_a_key() {
    let [one, other] = [7, 8].map(|fill| {
        let pair = nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::User, [fill; 32]);
        pair.and_then(|pair| pair.seed()).unwrap()
    });
    let key = nkey::public_key(&one).unwrap();
    let server = "accounts { A { users: [ {user: u, password: p} ] }, B {} }; no_auth_user: u";
    for (account, bound) in [("", "$G"), ("account: B", "B")] {
        let text = format!(
            "leafnodes {{ port: 7422, authorization {{ nkey: {key}, {account} }} }}; {server}"
        );
        let mut world = World::new(&text);
        for (seed, is_in) in [(&one, true), (&other, false)] {
            let (link, heard) = world.dial();
            let nonce = info(&heard)["nonce"].as_str().unwrap().to_owned();
            let sig = nkey::sign(seed, nonce.as_bytes()).unwrap();
            let connect = format!("CONNECT {{\"nkey\":\"{key}\",\"sig\":\"{sig}\"}}\r\n");
            let heard = world.ask(link, &connect);
            assert_eq!(!world.is_closed(link), is_in, "{heard}");
            if is_in {
                assert_eq!(info(&heard)["remote_account"], bound);
            }
        }
        for connect in ["{}", U_P, &format!("{{\"nkey\":\"{key}\"}}")] {
            assert_eq!(world.account(connect), None, "{connect}");
        }
    }
}

/// Each as 2.15.1 has it.
#[test]
fn a_certificate_says_who_a_leaf_is() {
    let name = subject(&[("O", "org1"), ("OU", "ou1"), ("CN", "cli")]);
    let certificate = Certificate {
        emails: vec!["e@x".into()],
        dns: vec!["d.x".into()],
        ..Certificate::of_subject(&name)
    };
    let shown = Some(Box::new(certificate));
    let rows: [(&str, &str, Leafs); 11] = [
        // The port's users: each form of a name, but no distinguished name in another order.
        (
            "users: [ {user: \"e@x\", account: A}, {user: u, password: p} ]",
            "accounts [A]",
            &[("{}", Some("A")), (U_P, None), ("{\"pass\":\"q\"}", None)],
        ),
        (
            "users: [ {user: \"d.x\", password: q, account: A} ]",
            "accounts [A]",
            &[("{}", None), ("{\"pass\":\"q\"}", Some("A"))],
        ),
        (
            "users: [ {user: \"CN=cli,OU=ou1,O=org1\"} ]",
            "",
            &[("{}", Some("$G"))],
        ),
        (
            "users: [ {user: \"O=org1,OU=ou1,CN=cli\"} ]",
            "",
            &[("{}", None)],
        ),
        // One user, a key and an account are no names that are looked for.
        (
            "user: \"e@x\", account: A",
            "accounts [A]",
            &[("{}", None), ("{\"user\":\"e@x\"}", Some("A"))],
        ),
        (
            "user: u, password: p",
            "",
            &[("{}", None), (U_P, Some("$G"))],
        ),
        ("account: A", "accounts [A]", &[("{}", Some("A"))]),
        // The server's users, in the order for clients.
        (
            "",
            "accounts { A { users: [ {user: \"O=org1,OU=ou1,CN=cli\"}, {user: u, password: p} ] } }; \
            no_auth_user: u",
            &[("{}", Some("A")), (U_P, None)],
        ),
        // Whoever stands for no user stands for no certificate.
        (
            "",
            "accounts { A { users: [ {user: u, password: p} ] } }; no_auth_user: u",
            &[("{}", None)],
        ),
        (
            "",
            "authorization { users: [ {user: \"e@x\", connection_types: STANDARD} ] }",
            &[("{}", None)],
        ),
        (
            "",
            "authorization { token: t }",
            &[("{}", None), (TOKEN, Some("$G"))],
        ),
    ];
    for (authorization, server, leafs) in rows {
        let text = format!(
            "leafnodes {{ port: 7422, authorization {{ {authorization} }}, \
             tls {{ cert_file: c, key_file: k, verify_and_map: true }} }}; {server}"
        );
        let mut world = World::new(&text);
        world.port.tls = Some(ClientTls {
            optional: false,
            verify: true,
            map: true,
            timeout: Duration::from_secs(1),
        });
        world.secured = Secured {
            tls: true,
            certificate: shown.clone(),
        };
        for (connect, account) in leafs {
            let bound = world.account(connect);
            assert_eq!(bound.as_deref(), *account, "{text}: {connect}");
        }
    }
}

/// A user without a password whom a certificate names at one port is nobody without one at another.
#[test]
fn who_is_known_by_a_certificate_needs_it() {
    let tls = "tls { cert_file: c, key_file: k, verify_and_map: true }";
    let users = "authorization { users: [ {user: u} ] }";
    let leaf = "{\"user\":\"u\"}";
    let mut world = World::new(&format!("{tls}; {users}; leafnodes {{ port: 1 }}"));
    assert_eq!(world.account(leaf), None);
    let mut world = World::new(&format!("{users}; leafnodes {{ port: 1 }}"));
    assert_eq!(world.account(leaf).as_deref(), Some("$G"));
    // Users of the port, which on WebSocket maps nobody.
    for (tls, bound) in [(tls, None), ("", Some("$G"))] {
        let text = format!("leafnodes {{ port: 1\n{tls}\n{users} }}");
        let mut world = World::new(&text);
        world.kind = ConnectionType::LeafnodeWs;
        assert_eq!(world.account(leaf).as_deref(), bound, "{text}");
    }
}

#[test]
fn users_may_be_kept_to_a_kind_of_connection() {
    let text = "authorization { users: [ {user: any}, {user: tcp, clients: LEAFNODE}, \
        {user: ws, clients: LEAFNODE_WS}, {user: other, clients: [STANDARD, WEBSOCKET]} ] }";
    for (kind, allowed) in [
        (ConnectionType::Leafnode, ["any", "tcp"]),
        (ConnectionType::LeafnodeWs, ["any", "ws"]),
    ] {
        let mut world = World::new(text);
        world.kind = kind;
        for user in ["any", "tcp", "ws", "other"] {
            let bound = world.account(&format!("{{\"user\":\"{user}\"}}"));
            assert_eq!(bound.is_some(), allowed.contains(&user), "{kind:?} {user}");
        }
    }
}

#[test]
fn on_websocket_neither_s2_nor_tls_begins_25() {
    let mut world = World::new("");
    world.kind = ConnectionType::LeafnodeWs;
    world.port.compression = Compression::default();
    world.port.tls = Some(ClientTls {
        optional: false,
        verify: false,
        map: false,
        timeout: Duration::from_secs(1),
    });
    let (link, heard) = world.dial();
    assert_eq!(info(&heard).get("compression"), None);
    assert_eq!(world.shard.wants(link).upgrade, None);
    let heard = world.ask(link, "CONNECT {}\r\n");
    assert!(heard.contains("\"connect_info\":true"), "{heard}");
    let (link, _) = world.dial();
    let heard = world.refused(link, "INFO {\"compression\":\"s2_fast\"}\r\n");
    assert_eq!(heard, "-ERR 'Authorization Violation'\r\n");
}

const LIMITED: &str = "authorization { users: [ {user: u, password: p, permissions: { \
    subscribe: { allow: [\"in.>\"], deny: [\"in.no\"] }, publish: { allow: [\"out.>\"] } }}, \
    {user: free, password: p} ] }";
const AS_USER: &str = "{\"user\":\"u\",\"pass\":\"p\"}";
const AS_FREE: &str = "{\"user\":\"free\",\"pass\":\"p\"}";

#[test]
fn permissions_are_told_and_enforced_47() {
    let mut world = World::new(LIMITED);
    let (link, _) = world.dial();
    let told = info(&world.ask(link, &format!("CONNECT {AS_USER}\r\n")));
    assert_eq!(
        told["import"].to_string(),
        r#"{"allow":["in.>"],"deny":["in.no"]}"#
    );
    assert_eq!(told["export"].to_string(), r#"{"allow":["out.>"]}"#);
    let other = world.join(AS_FREE);
    // Wildcards are taken and filtered, and only what it may publish to is offered.
    assert_eq!(world.ask(link, "LS+ >\r\nLS+ in.a\r\n"), "");
    let heard = world.ask(other, "LS+ out.a\r\nLS+ elsewhere\r\nLS+ *\r\nPING\r\n");
    assert!(heard.ends_with("PONG\r\n"), "{heard}");
    assert_eq!(world.hear(link), "LS+ out.a\r\n");
    world.say(
        other,
        "LMSG in.a 1\r\n1\r\nLMSG in.no 1\r\n2\r\nLMSG x 1\r\n3\r\n",
    );
    assert_eq!(world.hear(link), "LMSG in.a 1\r\n1\r\n");
    // `allow` or not: answers and acknowledgements pass.
    world.say(link, "LMSG out.a 1\r\n4\r\nLMSG _R_.a.b 1\r\n5\r\n");
    assert_eq!(world.hear(other), "LMSG out.a 1\r\n4\r\n");
    for (said, text) in [
        (
            "LS+ zz\r\n",
            "Permissions Violation for Subscription to \"zz\"",
        ),
        (
            "LS+ in.no q 1\r\n",
            "Permissions Violation for Subscription to \"in.no\"",
        ),
        (
            "LMSG zz 1\r\nx\r\n",
            "Permissions Violation for Publish to \"zz\"",
        ),
    ] {
        let link = world.join(AS_USER);
        assert_eq!(world.refused(link, said), format!("-ERR '{text}'\r\n"));
    }
}

#[test]
fn leafs_hear_of_each_other_29_to_34() {
    let mut world = World::new("");
    let a = world.join("{\"name\":\"A\",\"cluster\":\"A\",\"headers\":true}");
    let b = world.join("{\"name\":\"B\",\"cluster\":\"B\",\"headers\":true}");
    let twin = world.join("{\"name\":\"A2\",\"cluster\":\"A\"}");
    for link in [a, b, twin] {
        world.hear(link);
    }
    assert_eq!(world.ask(a, "LS+ foo\r\nLS+ foo\r\nLS+ foo G 3\r\n"), "");
    assert_eq!(world.hear(b), "LS+ foo\r\nLS+ foo G 3\r\n");
    assert_eq!(world.hear(twin), "", "of its own cluster");
    world.say(b, "LMSG foo r 2\r\nhi\r\nLMSG foo + r G 2\r\nhi\r\n");
    assert_eq!(
        world.hear(a),
        "LMSG foo r 2\r\nhi\r\nLMSG foo + r G 2\r\nhi\r\n"
    );
    assert_eq!(world.hear(b), "", "its own message");
    world.say(a, "LS+ foo G 1\r\nLS- foo\r\n");
    assert_eq!(world.hear(b), "LS- foo\r\nLS+ foo G 1\r\n");
    world.say(b, "LMSG foo 1\r\nx\r\n");
    assert_eq!(world.hear(a), "", "a group that was not named");
    world.shard.handle_closed(world.now, a, "EOF");
    let heard = world.hear(b);
    assert!(heard.contains("LS- foo G\r\n"), "{heard}");
}

#[test]
fn what_a_leaf_says_in_connect_is_kept_to() {
    let mut world = World::new("");
    let from = world.join("{\"headers\":true}");
    let to = world.join("{\"deny_pub\":[\"no.>\"]}");
    world.hear(from);
    world.say(to, "LS+ >\r\n");
    let header = "HMSG a 22 24\r\nNATS/1.0\r\nfoo: bar\r\n\r\nhi\r\n";
    world.say(from, &format!("LMSG no.a 1\r\n1\r\n{header}"));
    // It does not understand headers (50).
    assert_eq!(world.hear(to), "LMSG a 2\r\nhi\r\n");
    let alone = world.join("{\"isolate\":true}");
    world.say(from, "LS+ b\r\n");
    assert_eq!(
        (world.hear(to).as_str(), world.hear(alone).as_str()),
        ("LS+ b\r\n", "")
    );
}

#[test]
fn two_hubs_do_not_hear_of_each_other_35() {
    let mut world = World::new(LIMITED);
    let hubs = [AS_FREE, AS_USER].map(|user| {
        let connect = user.replacen('{', "{\"is_hub\":true,", 1);
        world.join(&connect)
    });
    let leaf = world.join(AS_FREE);
    hubs.iter().for_each(|hub| drop(world.hear(*hub)));
    world.say(hubs[0], "LS+ out.up\r\n");
    assert_eq!(world.hear(hubs[1]), "");
    assert_eq!(world.hear(leaf), "LS+ out.up\r\n");
    world.say(leaf, "LS+ out.down\r\n");
    assert_eq!(world.hear(hubs[0]), "LS+ out.down\r\n");
    assert_eq!(world.hear(hubs[1]), "LS+ out.down\r\n");
    // Who has the spoke's role does not end the link for what is not permitted.
    assert_eq!(
        world.ask(hubs[1], "LS+ zz\r\nLMSG zz 1\r\nx\r\nPING\r\n"),
        "PONG\r\n"
    );
}

#[test]
fn an_old_leaf_is_refused_behind_info() {
    for (version, is_in) in [("2.9.99", false), ("", false), ("2.10.0-RC.1", true)] {
        let mut world = World::new("");
        world.port.min_version = Version::parse("2.10.0");
        let (link, _) = world.dial();
        let heard = world.ask(link, &format!("CONNECT {{\"version\":\"{version}\"}}\r\n"));
        assert_eq!(info(&heard)["connect_info"], true);
        let text = "-ERR 'connection rejected since minimum version required is \"2.10.0\"'\r\n";
        let rest = behind(&heard, "INFO");
        assert_eq!(
            (rest != text, !world.is_closed(link)),
            (is_in, is_in),
            "{rest}"
        );
    }
}

#[test]
fn what_leads_back_is_cut_41() {
    let mut world = World::new("");
    let link = world.join("{}");
    let own = world.shard.loop_name("$G").unwrap();
    let heard = world.refused(link, &format!("LS+ {own}\r\n"));
    let text = "Loop detected for leafnode account=\"$G\". Delaying attempt to reconnect for 30s";
    assert_eq!(heard, format!("-ERR '{text}'\r\n"));
}

#[test]
fn mild_errors_do_not_end_the_link_48() {
    let mut world = World::new("max_subscriptions: 1");
    let link = world.join("{}");
    let heard = world.ask(link, "LS+ a..b\r\nLS+ a\r\nLS+ b\r\nPING\r\n");
    let expected =
        "-ERR 'Invalid Subscription'\r\n-ERR 'maximum subscriptions exceeded'\r\nPONG\r\n";
    assert_eq!(heard, expected);
}

#[test]
fn the_leaf_decides_about_compression_19_20_23() {
    let mut world = World::new("");
    world.port.compression = Compression::default();
    let (link, heard) = world.dial();
    let first = info(&heard);
    assert_eq!(first["compression"], "s2_auto");
    world.say(link, "INFO {\"compression\":\"s2_fast\"}\r\nbehind");
    assert_eq!(world.hear(link), "", "nothing more in clear");
    assert_eq!(world.shard.wants(link).upgrade, Some(Upgrade::S2));
    assert_eq!(world.shard.take_unread(link), b"behind");
    world
        .shard
        .handle_upgraded(world.now, link, Secured::default());
    let again = info(&world.hear(link));
    assert_eq!(again["nonce"], first["nonce"]);
    assert_eq!(again["compression"], "s2_auto");
    let heard = world.ask(link, "CONNECT {}\r\n");
    assert!(heard.contains("\"connect_info\":true"), "{heard}");
    // No is said by saying nothing.
    let (link, _) = world.dial();
    assert_eq!(world.ask(link, "INFO {\"compression\":\"off\"}\r\n"), "");
    assert_eq!(world.shard.wants(link).upgrade, None);
    assert!(
        world
            .ask(link, "CONNECT {}\r\n")
            .contains("\"connect_info\":true")
    );
    let (link, _) = world.dial();
    let heard = world.refused(link, "INFO {\"compression\":\"zip\"}\r\n");
    assert_eq!(
        heard,
        "-ERR 'unsupported route compression mode \"zip\"'\r\n"
    );
}

#[test]
fn tls_comes_behind_info_14() {
    let mut world = World::new("");
    world.port.tls = Some(ClientTls {
        optional: false,
        verify: true,
        map: false,
        timeout: Duration::from_secs(1),
    });
    let (link, heard) = world.dial();
    let first = info(&heard);
    assert_eq!(
        (&first["tls_required"], &first["tls_verify"]),
        (&true.into(), &true.into())
    );
    assert_eq!(world.shard.wants(link).upgrade, Some(Upgrade::Tls));
    world.shard.take_unread(link);
    world
        .shard
        .handle_upgraded(world.now, link, Secured::default());
    assert_eq!(world.hear(link), "", "INFO is not said again");
    assert!(
        world
            .ask(link, "CONNECT {}\r\n")
            .contains("\"connect_info\":true")
    );
    // Who does not shake hands is closed without a word.
    let (link, _) = world.dial();
    world.shard.take_unread(link);
    world.now = world.now + Duration::from_secs(1);
    world.shard.handle_timeout(world.now);
    assert_eq!(world.hear(link), "");
    assert!(world.is_closed(link));
}

#[test]
fn whoever_does_not_answer_is_gone_49() {
    let mut world = World::new("ping_interval: \"2s\"");
    let link = world.join("{}");
    let mut heard = String::new();
    while !world.is_closed(link) {
        world.now = world.shard.poll_timeout().unwrap().max(world.now);
        world.shard.handle_timeout(world.now);
        heard += &world.hear(link);
    }
    assert_eq!(heard, "PING\r\nPING\r\n-ERR 'Stale Connection'\r\n");
}
