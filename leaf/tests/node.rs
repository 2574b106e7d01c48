//! A gateway without sockets: what it asks of the outside and how it comes to an end.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use petiole_core::config::model::{
    Account, Config, Remote, Scheme, Tls, Url, User, UserIdentity, Way,
};
use petiole_core::link::leaf::Signed;
use petiole_core::link::queue::WritePlan;
use petiole_core::link::uplink::{Attempt, State};
use petiole_core::link::{LinkId, Proof, Secured, Server, Upgrade};
use petiole_core::random::Random;
use petiole_core::time::Instant;
use petiole_leaf::{Node, NodeEvent};
use petiole_net::driver::Engine;

const WELCOME: &str = "INFO {\"server_id\":\"NHUB\",\"client_id\":8,\"headers\":true,\
    \"connect_info\":true,\"remote_account\":\"$G\",\"info_on_connect\":true} \r\nPONG\r\n";

/// A node, the time, and what its peers have received.
struct World {
    node: Node,
    now: Instant,
    dials: Vec<(usize, Attempt)>,
}

impl World {
    fn new(config: &Config) -> Self {
        let server = Server {
            id: "NAAA".into(),
            name: "leaf".into(),
            toolchain: "rust",
            host: "0.0.0.0".into(),
            port: 4222,
            headers: true,
        };
        let now = Instant::from_nanos(1_000_000_000);
        let mut world = World {
            node: Node::new(config, server, Box::new(Random::new(7)), now),
            now,
            dials: Vec::new(),
        };
        world.run_events();
        world
    }

    /// Signs at once, and remembers what is to be dialled.
    fn run_events(&mut self) {
        while let Some(event) = self.node.poll_event() {
            match event {
                NodeEvent::Dial { remote, attempt } => self.dials.push((remote, attempt)),
                NodeEvent::Sign { link, .. } => {
                    let signed = Proof::Signed(Ok(Signed::default()));
                    self.node.handle_proof(self.now, link, signed);
                }
                NodeEvent::Verify { .. } => unreachable!("no password here is slow to check"),
            }
        }
    }

    /// A client that has said `CONNECT`, and has read all the answers.
    fn client(&mut self, connect: &str) -> LinkId {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1000));
        let link = self.node.accept(self.now, address, Secured::default());
        self.say(link, &format!("CONNECT {connect}\r\nPING\r\n"));
        let heard = self.hear(link);
        assert!(heard.ends_with("PONG\r\n"), "{heard}");
        link
    }

    /// Takes the oldest dial for a connection to a hub that does all a hub has to.
    fn hub(&mut self, addresses: &str) -> LinkId {
        let (remote, attempt) = self.dials.remove(0);
        let dialed = self.node.handle_dialed(self.now, remote, &attempt, Ok(()));
        let link = dialed.expect("it is waited for");
        self.say(
            link,
            &format!(
                "INFO {{\"server_id\":\"NHUB\",\"server_name\":\"H\",\"version\":\"2.15.1\",\
                 \"headers\":true,\"max_payload\":1048576,\"client_id\":8,\"nonce\":\"3ATRbp\",\
                 \"info_on_connect\":true,\"leafnode_urls\":[{addresses}]}} \r\n"
            ),
        );
        self.say(link, WELCOME);
        link
    }

    fn say(&mut self, link: LinkId, text: &str) {
        self.node.handle_bytes(self.now, link, text.as_bytes());
        self.run_events();
    }

    /// Takes all that waits for a peer, and closes its link when that is what is left to do.
    fn hear(&mut self, link: LinkId) -> String {
        let mut heard = Vec::new();
        while self.node.wants(link).write {
            let before = heard.len();
            {
                let mut plan = WritePlan::new();
                self.node.poll_transmit(link, &mut plan);
                plan.iter().for_each(|piece| heard.extend_from_slice(piece));
            }
            let count = heard.len() - before;
            self.node.handle_transmitted(self.now, link, count);
        }
        if self.node.wants(link).close {
            self.node.handle_closed(self.now, link, "EOF");
        }
        String::from_utf8(heard).unwrap()
    }

    /// Goes to the next deadline and handles it.
    fn tick(&mut self) {
        let next = self
            .node
            .poll_timeout()
            .expect("there is always a deadline");
        assert!(next >= self.now);
        self.now = next;
        self.node.handle_timeout(self.now);
        self.run_events();
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.node.poll_timeout().is_some_and(|at| at <= until) {
            self.tick();
        }
        self.now = until;
    }
}

fn attempt(host: &str) -> Attempt {
    Attempt {
        way: 0,
        url: Url::new(Scheme::Leaf, host, 7422),
    }
}

fn remote(host: &str) -> Remote {
    Remote::at(attempt(host).url)
}

#[test]
fn a_lame_duck_closes_its_clients_one_by_one_and_is_done() {
    let mut config = Config::default();
    config.remotes.push(remote("hub"));
    config.lame_duck_duration = Duration::from_secs(30);
    config.lame_duck_grace_period = Duration::from_secs(5);
    let mut world = World::new(&config);
    let hub = world.hub("");
    let mut clients: Vec<LinkId> = (0..4)
        .map(|_| world.client("{\"verbose\":false,\"protocol\":1}"))
        .collect();
    let start = world.now;
    world.node.enter_lame_duck(world.now);
    for client in &clients {
        let heard = world.hear(*client);
        assert!(heard.contains("\"ldm\":true"), "{heard}");
    }

    world.pass(Duration::from_millis(4_900));
    assert_eq!(world.node.shard().clients(), 4, "within the grace period");
    // It was in the backlog of the listener.
    clients.push(world.client("{\"verbose\":false}"));
    assert!(!world.node.is_done());

    let mut ends = Vec::new();
    while !world.node.is_done() {
        world.tick();
        clients.retain(|client| {
            let ending = world.node.shard().is_ending(*client);
            if ending {
                let heard = world.hear(*client);
                assert!(!heard.contains("-ERR"), "{heard}");
                ends.push(world.now);
            }
            !ending
        });
    }
    assert_eq!(ends.len(), 5);
    assert!(ends.windows(2).all(|two| two[0] < two[1]), "{ends:?}");
    assert!(world.now - start < config.lame_duck_duration);
    assert!(world.node.has_events(), "the role hears of it");
    // Interest goes with the clients; the link to the hub is closed with the server.
    assert!(!world.node.shard().is_ending(hub));
    world.node.shut_down(world.now);
    world.hear(hub);
    assert!(world.node.is_empty());
    world.pass(Duration::from_secs(60));
    assert!(world.dials.is_empty(), "{:?}", world.dials);
}

/// The listener's backlog may still hold a client when the last of the others is being closed.
#[test]
fn a_client_that_comes_last_is_closed_too() {
    let mut world = World::new(&Config::default());
    let first = world.client("{\"verbose\":false}");
    world.node.enter_lame_duck(world.now);
    while !world.node.shard().is_ending(first) {
        world.tick();
    }
    let last = world.client("{\"verbose\":false}");
    world.tick();
    assert!(world.node.shard().is_ending(last));
    world.hear(first);
    world.hear(last);
    assert!(world.node.is_done());
}

#[test]
fn a_dial_reported_after_its_deadline_is_ignored() {
    let mut config = Config::default();
    config.remotes.push(remote("hub"));
    let mut world = World::new(&config);
    let (number, address) = world.dials.remove(0);
    while matches!(world.node.uplinks()[0].state, State::Dialing { .. }) {
        world.tick();
    }
    let late = world
        .node
        .handle_dialed(world.now, number, &address, Ok(()));
    assert_eq!(late, None);
    let failed = Err("connection refused".into());
    world
        .node
        .handle_dialed(world.now, number, &address, failed);
    assert!(world.node.is_empty());

    world.pass(Duration::from_secs(3));
    assert_eq!(world.dials, [(0, attempt("hub"))]);
    assert_eq!(world.node.uplinks()[0].attempts, 2);
    world.hub("");
    let state = world.node.uplinks()[0].state;
    assert!(matches!(state, State::Synced { .. }), "{state:?}");
}

#[test]
fn what_a_hub_lists_is_dialled_next() {
    for ignored in [false, true] {
        let mut config = Config::default();
        config.remotes.push(Remote {
            ignore_discovered_servers: ignored,
            ..remote("hub")
        });
        let mut world = World::new(&config);
        let link = world.hub("\"10.0.0.2:7422\"");
        world.node.handle_closed(world.now, link, "EOF");
        world.pass(Duration::from_secs(1));
        let next = if ignored { "hub" } else { "10.0.0.2" };
        assert_eq!(world.dials, [(0, attempt(next))]);
    }
}

/// The other kind of address leads to another listener.
#[test]
fn a_websocket_is_dialled_again_where_websockets_are_listed() {
    let mut config = Config::default();
    config
        .remotes
        .push(Remote::at(Url::new(Scheme::Ws, "hub", 80)));
    let mut world = World::new(&config);
    let (remote, first) = world.dials.remove(0);
    let link = world
        .node
        .handle_dialed(world.now, remote, &first, Ok(()))
        .expect("it is waited for");
    let info = first_info(",\"ws_connect_urls\":[\"10.0.0.2:443\"]");
    world.say(link, &info.replace("[]", "[\"10.0.0.1:7422\"]"));
    world.node.handle_closed(world.now, link, "EOF");
    world.pass(Duration::from_secs(1));
    let url = Url::new(Scheme::Ws, "10.0.0.2", 443);
    assert_eq!(world.dials, [(0, Attempt { way: 0, url })]);
}

#[test]
fn remotes_serve_their_own_accounts() {
    let account = |name: &str| Account {
        name: name.into(),
        users: vec![User {
            identity: UserIdentity::Password {
                user: name.to_lowercase(),
                password: "p".into(),
            },
            permissions: None,
            connection_types: Vec::new(),
        }],
        ..Account::default()
    };
    let bound = |host: &str, account: &str| Remote {
        account: account.into(),
        ..remote(host)
    };
    let config = Config {
        accounts: vec![account("A"), account("B")],
        remotes: vec![bound("hub-a", "A"), bound("hub-b", "B")],
        ..Config::default()
    };
    let mut world = World::new(&config);
    let (hub_a, hub_b) = (world.hub(""), world.hub(""));
    let a = world.client("{\"verbose\":false,\"user\":\"a\",\"pass\":\"p\"}");
    let b = world.client("{\"verbose\":false,\"user\":\"b\",\"pass\":\"p\"}");
    let loop_name = |heard: &str| {
        let (_, rest) = heard.split_once("LS+ $LDS.").expect("a name of the loop");
        rest.lines().next().map(str::to_owned)
    };
    let (before_a, before_b) = (world.hear(hub_a), world.hear(hub_b));
    assert_ne!(loop_name(&before_a), loop_name(&before_b));

    world.say(a, "SUB news 1\r\n");
    assert_eq!(world.hear(hub_a), "LS+ news\r\n");
    assert_eq!(world.hear(hub_b), "");

    world.say(hub_a, "LS+ >\r\n");
    world.say(hub_b, "LS+ >\r\n");
    world.say(b, "PUB news 2\r\nhi\r\n");
    assert_eq!(world.hear(hub_b), "LMSG news 2\r\nhi\r\n");
    assert_eq!(world.hear(hub_a), "");
    assert_eq!(world.hear(a), "");

    world.say(hub_a, "LMSG news 2\r\nhi\r\n");
    assert_eq!(world.hear(a), "MSG news 1 2\r\nhi\r\n");
    assert_eq!(world.hear(hub_b), "");
}

/// A node whose one remote is dialled, and its link before the hub has said anything.
fn dialled(way: Way) -> (World, LinkId) {
    let mut config = Config::default();
    config.remotes.push(Remote {
        ways: vec![Arc::new(Way {
            urls: vec![attempt("hub").url],
            ..way
        })],
        ..Remote::default()
    });
    let mut world = World::new(&config);
    let (remote, attempt) = world.dials.remove(0);
    let link = world
        .node
        .handle_dialed(world.now, remote, &attempt, Ok(()))
        .expect("it is waited for");
    (world, link)
}

fn first_info(more: &str) -> String {
    format!(
        "INFO {{\"server_id\":\"H\",\"client_id\":1,\"nonce\":\"n\",\"info_on_connect\":true,\
         \"leafnode_urls\":[]{more}}} \r\n"
    )
}

#[test]
fn tls_begins_right_behind_info() {
    let (mut world, link) = dialled(Way::default());
    let info = first_info(",\"tls_required\":true,\"compression\":\"off\"");
    world.say(link, &format!("{info}early"));
    let wants = world.node.wants(link);
    assert_eq!((wants.read, wants.upgrade), (false, Some(Upgrade::Tls)));
    assert_eq!(world.hear(link), "", "nothing is said in clear");
    // What came with INFO belongs to the handshake.
    assert_eq!(world.node.take_unread(link), b"early");
    assert_eq!(world.node.wants(link).upgrade, None);
    world
        .node
        .handle_upgraded(world.now, link, Secured::default());
    world.run_events();
    assert!(world.node.wants(link).read);
    let heard = world.hear(link);
    assert!(heard.starts_with("CONNECT {"), "{heard}");
    assert!(heard.contains("\"compress_mode\":\"off\""), "{heard}");
}

#[test]
fn a_hub_without_tls_is_left_where_it_is_demanded() {
    let tls = Tls::default();
    let (mut world, link) = dialled(Way {
        tls: Some(tls),
        ..Way::default()
    });
    world.say(link, &first_info(""));
    assert!(world.node.shard().is_ending(link));
    assert_eq!(world.hear(link), "");
}

#[test]
fn s2_begins_behind_the_answer_to_info() {
    let (mut world, link) = dialled(Way::default());
    world.say(link, &first_info(",\"compression\":\"s2_fast\""));
    // The answer goes out before anything is compressed.
    let wants = world.node.wants(link);
    assert_eq!(
        (wants.read, wants.write, wants.upgrade),
        (false, true, None)
    );
    let heard = world.hear(link);
    assert_eq!(heard, "INFO {\"compression\":\"s2_auto\"} \r\n");
    assert_eq!(world.node.wants(link).upgrade, Some(Upgrade::S2));
    assert_eq!(world.node.take_unread(link), b"");
    world
        .node
        .handle_upgraded(world.now, link, Secured::default());
    assert_eq!(world.hear(link), "", "the hub says INFO again first");
    world.say(link, &first_info(",\"compression\":\"s2_fast\""));
    world.run_events();
    let heard = world.hear(link);
    assert!(heard.starts_with("CONNECT {"), "{heard}");
}

/// Each state of the handshake has its end.
#[test]
fn a_hub_that_stops_in_the_handshake_is_left() {
    for (info, upgraded) in [
        ("", false),
        (",\"tls_required\":true", false),
        (",\"compression\":\"s2_fast\"", false),
        (",\"compression\":\"s2_fast\"", true),
    ] {
        let (mut world, link) = dialled(Way::default());
        if !info.is_empty() {
            world.say(link, &first_info(info));
            world.hear(link);
            world.node.take_unread(link);
        }
        if upgraded {
            let now = world.now;
            world.node.handle_upgraded(now, link, Secured::default());
        }
        world.pass(Duration::from_millis(4_900));
        assert!(!world.node.shard().is_ending(link), "{info}");
        world.pass(Duration::from_millis(200));
        assert!(world.node.shard().is_ending(link), "{info}");
    }
}

/// A hub that has no time says so in place of INFO (its admission of leafs). Whatever it says, a leaf
/// stays away for a second and not for more than thirty.
#[test]
fn a_leaf_comes_back_when_it_is_told_to() {
    let mut config = Config::default();
    config
        .remotes
        .push(Remote::at(Url::new(Scheme::Leaf, "a", 7422)));
    let mut world = World::new(&config);
    for (millis, wait) in [
        ("2500", 2500),
        ("17", 1000),
        ("0", 1000),
        ("30000", 30_000),
        ("30001", 30_000),
        ("99999999999999999999999", 30_000),
    ] {
        let (remote, attempt) = world.dials.remove(0);
        let dialed = world
            .node
            .handle_dialed(world.now, remote, &attempt, Ok(()));
        let link = dialed.unwrap();
        world.say(
            link,
            &format!(
                "-ERR 'Connection throttling is active. Please try again in {millis} ms.'\r\n"
            ),
        );
        assert!(!world.node.wants(link).close, "the hub closes");
        let closed = world.now;
        world.node.handle_closed(closed, link, "EOF");
        while world.dials.is_empty() {
            world.tick();
        }
        assert_eq!(
            world.now.since(closed),
            Duration::from_millis(wait),
            "{millis}"
        );
    }
    // It is taken in as if nothing had been.
    world.hub("");
    assert!(matches!(
        world.node.uplinks()[0].state,
        State::Synced { .. }
    ));
}
