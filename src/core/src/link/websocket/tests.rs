//! Clients over WebSocket, as the bytes within their frames. What is expected is what nats-server
//! 2.15.1 says.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr};

use nkeys::{KeyPair, KeyPairType};
use serde_json::Value;

use super::*;
use crate::config::testing::config;
use crate::link::client::Client;
use crate::link::queue::WritePlan;
use crate::link::{ClientTls, Env, LinkId, Neighbour as _, Secured, Server};
use crate::random::Random;
use crate::shard::Shard;
use crate::time::Instant;

const VIOLATION: &str = "-ERR 'Authorization Violation'\r\n";

/// A server with both listeners, and the time.
struct World {
    shard: Shard<Client>,
    port: Arc<WebsocketPort>,
    now: Instant,
}

impl World {
    /// With the options of a websocket block, and the rest of the configuration.
    fn new(block: &str, rest: &str) -> World {
        let config = config(&format!(
            "websocket {{port: 8080, no_tls: true\n{block}\n}}\n{rest}"
        ));
        crate::config::check(&config).unwrap();
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
            users: Users::compile(&config).into(),
            tls: config.tls.as_ref().map(|tls| ClientTls {
                optional: config.allow_non_tls,
                verify: tls.verify,
                map: tls.map,
                timeout: tls.timeout,
            }),
        };
        let accounts = config.accounts.iter().map(|account| account.name.as_str());
        let listener = config.websocket.as_ref().unwrap();
        let port = WebsocketPort::new(&config, listener, "127.0.0.1".into(), 28081);
        World {
            shard: Shard::new(env, accounts, Box::new(Random::new(7))),
            port: Arc::new(port),
            now: Instant::from_nanos(1_000_000_000),
        }
    }

    /// A client that has connected, and the INFO it got.
    fn visit(&mut self, cookies: Cookies) -> (LinkId, Value) {
        let visit = WebsocketVisit {
            port: self.port.clone(),
            cookies,
            forwarded_for: None,
        };
        let link = self
            .shard
            .open(self.now, client(self.now).over_websocket(visit));
        let heard = self.hear(link);
        let info = heard.strip_prefix("INFO ").unwrap();
        (link, serde_json::from_str(info).unwrap())
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
        self.shard.handle_bytes(self.now, link, text.as_bytes());
        self.hear(link)
    }

    /// What a client with these cookies is told to its first words.
    fn told(&mut self, cookies: &Cookies, text: &str) -> String {
        let (link, _) = self.visit(cookies.clone());
        self.ask(link, text)
    }
}

fn client(now: Instant) -> Client {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1000));
    Client::new(now, 5, address, Secured::default())
}

fn cookies(user: &str, pass: &str, token: &str) -> Cookies {
    let secret = |text: &str| (!text.is_empty()).then(|| Secret::new(text));
    Cookies {
        jwt: None,
        user: (!user.is_empty()).then(|| user.to_string()),
        pass: secret(pass),
        token: secret(token),
    }
}

fn user(user: &str, pass: &str) -> String {
    format!("CONNECT {{\"user\":\"{user}\",\"pass\":\"{pass}\",\"verbose\":false}}\r\nPING\r\n")
}

fn token(token: &str) -> String {
    format!("CONNECT {{\"auth_token\":\"{token}\",\"verbose\":false}}\r\nPING\r\n")
}

const NOBODY: &str = "CONNECT {\"verbose\":false}\r\nPING\r\n";
const PONG: &str = "PONG\r\n";

#[test]
fn info_is_about_the_websocket_listener() {
    let tls = "tls {cert_file: c, key_file: k}";
    let (_, info) = World::new("", tls).visit(Cookies::default());
    assert_eq!(info["host"], "127.0.0.1");
    assert_eq!(info["port"], 28081);
    assert_eq!(info["client_ip"], "127.0.0.1");
    for absent in [
        "tls_required",
        "tls_available",
        "tls_verify",
        "auth_required",
        "connect_urls",
        "nonce",
    ] {
        assert!(info.get(absent).is_none(), "{absent}");
    }
    let verify = "tls {cert_file: c, key_file: k, verify: true}";
    let (_, info) = World::new(verify, "").visit(Cookies::default());
    assert_eq!(info["tls_required"], true);
    assert_eq!(info["tls_available"], true);
    assert!(info.get("tls_verify").is_none());
    let mut world = World::new("", "");
    let mut port =
        Arc::into_inner(std::mem::replace(&mut world.port, World::new("", "").port)).unwrap();
    port.urls = vec!["a:1".into()];
    world.port = Arc::new(port);
    let (_, info) = world.visit(Cookies::default());
    assert_eq!(info["connect_urls"], serde_json::json!(["a:1"]));
}

/// Of the clients next door.
#[test]
fn no_tls_is_offered_behind_info() {
    let mut world = World::new("", "tls {cert_file: c, key_file: k}");
    let (link, _) = world.visit(Cookies::default());
    assert!(world.shard.wants(link).upgrade.is_none());
    assert_eq!(world.ask(link, NOBODY), PONG);
    let plain = world.shard.open(world.now, client(world.now));
    assert!(world.hear(plain).contains("\"port\":4222"));
    assert!(world.shard.wants(plain).upgrade.is_some());
}

#[test]
fn the_block_stands_for_all_that_is_global() {
    let none = Cookies::default();
    let users = "authorization {users: [{user: v, pass: p}, {user: u, pass: q}]}";
    for (block, rest, said, wanted) in [
        (
            "authorization {user: w, pass: p}",
            "",
            NOBODY.to_string(),
            VIOLATION,
        ),
        ("authorization {user: w, pass: p}", "", user("w", "p"), PONG),
        (
            "authorization {user: w, pass: p}",
            "",
            user("w", "x"),
            VIOLATION,
        ),
        (
            "authorization {user: w, pass: p}",
            "authorization {user: g, pass: p}",
            user("g", "p"),
            VIOLATION,
        ),
        (
            "authorization {user: w, pass: p}",
            "authorization {token: g}",
            token("g"),
            VIOLATION,
        ),
        (
            "authorization {user: w, pass: p}",
            "authorization {token: g}",
            user("w", "p"),
            PONG,
        ),
        (
            "authorization {token: w}",
            "authorization {user: g, pass: p}",
            token("w"),
            PONG,
        ),
        (
            "authorization {token: w}",
            "authorization {user: g, pass: p}",
            user("g", "p"),
            VIOLATION,
        ),
        (
            "authorization {password: w}",
            "authorization {user: g, pass: p}",
            user("g", "p"),
            PONG,
        ),
        ("", "authorization {token: g}", token("g"), PONG),
        ("", users, user("v", "p"), PONG),
        ("", users, NOBODY.to_string(), VIOLATION),
        ("no_auth_user: v", users, NOBODY.to_string(), PONG),
        ("no_auth_user: v", users, "PING\r\n".to_string(), "PONG\r\n"),
        ("no_auth_user: v", users, user("u", "q"), PONG),
        ("no_auth_user: v", users, user("u", "x"), VIOLATION),
    ] {
        let mut world = World::new(block, rest);
        assert_eq!(world.told(&none, &said), wanted, "{block} {rest} {said}");
    }
    // Not told to WebSocket clients, unlike to others.
    for (block, rest) in [("no_auth_user: v", ""), ("", "no_auth_user: v")] {
        let (_, info) = World::new(block, &format!("{users}\n{rest}")).visit(none.clone());
        assert_eq!(info["auth_required"], true, "{block}");
    }
}

#[test]
fn connection_types_say_who_may_come_like_this() {
    let users = "authorization {users: [
        {user: v, pass: p, connection_types: [STANDARD]}
        {user: u, pass: p, connection_types: [WEBSOCKET]}
    ]}\nno_auth_user: u";
    let mut world = World::new("", users);
    let none = Cookies::default();
    assert_eq!(world.told(&none, &user("v", "p")), VIOLATION);
    assert_eq!(world.told(&none, &user("u", "p")), PONG);
    assert_eq!(world.told(&none, NOBODY), PONG);
    let plain = world.shard.open(world.now, client(world.now));
    world.hear(plain);
    assert_eq!(world.ask(plain, &user("u", "p")), VIOLATION);
    let mut world = World::new("no_auth_user: v", users);
    assert_eq!(world.told(&none, NOBODY), VIOLATION);
}

#[test]
fn cookies_say_what_connect_leaves_out() {
    let mut world = World::new(
        "",
        "authorization {users: [{user: v, pass: p}, {user: u, pass: q}]}",
    );
    let v = cookies("v", "p", "");
    let only = |field: &str, value: &str| {
        format!("CONNECT {{\"{field}\":\"{value}\",\"verbose\":false}}\r\nPING\r\n")
    };
    for (cookies, said, wanted) in [
        (&v, NOBODY.to_string(), PONG),
        (&cookies("v", "x", ""), NOBODY.into(), VIOLATION),
        (&cookies("v", "", ""), NOBODY.into(), VIOLATION),
        (&v, user("u", "q"), PONG),
        (&v, user("", ""), PONG),
        (&v, only("user", "v"), PONG),
        (&v, only("user", "u"), VIOLATION),
        (&cookies("v", "q", ""), only("user", "u"), PONG),
        (&v, only("pass", "p"), PONG),
        (&v, only("pass", "q"), VIOLATION),
        // They are looked at with CONNECT.
        (&v, "PING\r\n".into(), VIOLATION),
    ] {
        assert_eq!(world.told(cookies, &said), wanted, "{said}");
    }
    let (link, _) = world.visit(v);
    assert_eq!(world.ask(link, NOBODY), PONG);
    assert_eq!(world.ask(link, &user("u", "bad")), VIOLATION);

    let mut world = World::new("", "authorization {token: t}");
    let t = cookies("", "", "t");
    assert_eq!(world.told(&t, NOBODY), PONG);
    assert_eq!(world.told(&t, &token("x")), VIOLATION);
    assert_eq!(world.told(&t, &only("user", "x")), PONG);
}

#[test]
fn nkeys_sign_the_nonce() {
    let pair = KeyPair::new_from_raw(KeyPairType::User, [7; 32]).unwrap();
    let key = pair.public_key();
    let users = format!("authorization {{users: [{{nkey: {key}}}]}}");
    for block in ["", &format!("no_auth_user: {key}")] {
        let mut world = World::new(block, &users);
        let (link, info) = world.visit(Cookies::default());
        let sig = pair
            .sign(info["nonce"].as_str().unwrap().as_bytes())
            .unwrap();
        let sig = data_encoding::BASE64URL_NOPAD.encode(&sig);
        let said = format!(
            "CONNECT {{\"nkey\":\"{key}\",\"sig\":\"{sig}\",\"verbose\":false}}\r\nPING\r\n"
        );
        assert_eq!(world.ask(link, &said), PONG);
    }
}

#[test]
fn certificates_map_by_the_listener_of_the_client() {
    use crate::auth::certificate::{Certificate, tests::subject};
    let users = "authorization {users: [{user: \"CN=v\", pass: \"\"}]}";
    let map = "tls {cert_file: c, key_file: k, verify_and_map: true}";
    let secured = || Secured {
        tls: true,
        certificate: Some(Box::new(Certificate::of_subject(&subject(&[("CN", "v")])))),
    };
    let come = |block: &str, rest: &str| {
        let mut world = World::new(block, &format!("{users}\n{rest}"));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1000));
        let client = Client::new(world.now, 5, address, secured());
        let visit = WebsocketVisit {
            port: world.port.clone(),
            cookies: Cookies::default(),
            forwarded_for: None,
        };
        let link = world.shard.open(world.now, client.over_websocket(visit));
        world.hear(link);
        world.ask(link, NOBODY)
    };
    assert_eq!(come(map, ""), PONG);
    assert_eq!(come("", map), VIOLATION);
}

#[test]
fn the_times_are_the_blocks() {
    let mut world = World::new(
        "authorization {user: w, pass: p, timeout: 0.3}, ping_interval: \"500ms\"",
        "",
    );
    let (late, _) = world.visit(Cookies::default());
    let (link, _) = world.visit(Cookies::default());
    assert_eq!(world.ask(link, &user("w", "p")), PONG);
    world.now = world.now + Duration::from_millis(299);
    world.shard.handle_timeout(world.now);
    assert_eq!(world.hear(late), "");
    world.now = world.now + Duration::from_millis(1);
    world.shard.handle_timeout(world.now);
    assert_eq!(world.hear(late), "-ERR 'Authentication Timeout'\r\n");
    let mut heard = String::new();
    for _ in 0..50 {
        world.now = world.now + Duration::from_millis(100);
        world.shard.handle_timeout(world.now);
        heard.push_str(&world.hear(link));
    }
    assert_eq!(heard, "PING\r\nPING\r\n-ERR 'Stale Connection'\r\n");
}

#[test]
fn the_log_names_whom_a_proxy_serves() {
    let world = World::new("", "");
    for (forwarded, wanted) in [
        (None, "127.0.0.1:1000 - wid:5"),
        (Some("1.2.3.4"), "1.2.3.4/127.0.0.1:1000 - wid:5"),
        (Some("2001:db8::1"), "[2001:db8::1]/127.0.0.1:1000 - wid:5"),
    ] {
        let visit = WebsocketVisit {
            port: world.port.clone(),
            cookies: Cookies::default(),
            forwarded_for: forwarded.map(|ip| ip.parse().unwrap()),
        };
        assert_eq!(client(world.now).over_websocket(visit).label(), wanted);
    }
}

#[test]
fn cookies_are_not_shown() {
    let shown = format!("{:?}", cookies("u", "S3CRET", "S3CRET"));
    assert!(shown.contains('u') && !shown.contains("S3CRET"));
}

#[test]
fn compressed_messages_stand_for_no_more_than_max_payload() {
    let mut world = World::new("", "max_payload: 1000");
    let (link, _) = world.visit(Cookies::default());
    assert_eq!(world.shard.encoding(link).largest, 1000);
}

#[test]
fn a_close_frame_says_why() {
    use crate::wire::error::ProtoError::*;
    for (error, code) in [
        (UnknownOperation, 1002),
        (Malformed("x"), 1002),
        (InvalidClientProtocol, 1002),
        (AuthorizationViolation, 1008),
        (AuthenticationTimeout, 1008),
        (ControlLineTooLong, 1008),
        (MaxConnections, 1008),
        (MaxAccountConnections, 1008),
        (PayloadTooLarge, 1009),
        (StaleConnection, 1001),
        (NoRespondersNeedsHeaders, 1011),
        (DuplicateLink, 1011),
    ] {
        let farewell = Farewell::of(error.reason());
        assert_eq!(farewell.code, code, "{error}");
        assert_eq!(&*farewell.reason, error.reason());
    }
    assert_eq!(Farewell::of("Server Shutdown").code, 1001);

    let mut world = World::new("", "");
    let (link, _) = world.visit(Cookies::default());
    let farewell = |world: &World| {
        let client = world.shard.neighbour(link).unwrap();
        client.farewell().map(|farewell| farewell.code)
    };
    assert_eq!(farewell(&world), None);
    world.ask(link, "CONNECT {}\r\nPUB a 99999999\r\n");
    assert_eq!(farewell(&world), Some(1009));
}

#[test]
fn leafs_have_the_no_auth_user_of_the_block_and_no_more_of_it() {
    use crate::auth::users::Claim;
    use crate::config::model::ConnectionType::LeafnodeWs;
    let accounts = "accounts {
        A: {users: [{user: a, password: p}]}
        B: {users: [{user: b, password: p}]}
    }";
    for (leafnodes, block, rest, wanted) in [
        ("", "no_auth_user: a", accounts.to_owned(), Some("A")),
        (
            "authorization {account: B}",
            "no_auth_user: a",
            accounts.to_owned(),
            Some("A"),
        ),
        (
            "",
            "no_auth_user: a",
            format!("{accounts}\nno_auth_user: b"),
            Some("A"),
        ),
        ("", "", format!("{accounts}\nno_auth_user: b"), Some("B")),
        (
            "authorization {user: l, password: l}",
            "no_auth_user: a",
            accounts.to_owned(),
            None,
        ),
        (
            "",
            "authorization {user: w, password: w}",
            String::new(),
            Some("$G"),
        ),
        (
            "",
            "authorization {token: t}",
            "authorization {user: g, password: g}".into(),
            None,
        ),
    ] {
        let config = config(&format!(
            "leafnodes {{port: 7422\n{leafnodes}\n}}\n\
             websocket {{port: 8080, no_tls: true\n{block}\n}}\n{rest}"
        ));
        crate::config::check(&config).unwrap();
        let listener = config.websocket.as_ref().unwrap();
        let own = Users::compile_for_websocket_leafs(&config, listener);
        let users = own.unwrap_or_else(|| Users::compile(&config));
        let account = match users.check(&Claim::default(), b"nonce", LeafnodeWs) {
            Ok(crate::auth::users::Outcome::Accepted(verdict)) => Some(verdict.account),
            _ => None,
        };
        assert_eq!(account.as_deref(), wanted, "{leafnodes} {block} {rest}");
    }
}
