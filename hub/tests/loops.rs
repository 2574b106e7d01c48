//! A server that is both above and below a hub, whichever link was first and whatever thread it is on.
#![allow(clippy::unwrap_used)]

mod world;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use petiole_core::config::model::{Config, ConnectionType, Remote, Scheme, Url, Way};
use petiole_core::link::acceptor::LeafPort;
use petiole_core::link::leaf::Signed;
use petiole_core::link::queue::WritePlan;
use petiole_core::link::{LinkId, Proof, Secured};
use petiole_core::random::Random;
use petiole_hub::Node;
use petiole_leaf::{Host as _, Node as Base, NodeEvent};
use petiole_net::driver::Engine as _;

use world::{NOW, identity};

const LOOP: &str =
    "-ERR 'Loop detected for leafnode account=\"$G\". Delaying attempt to reconnect for 30s'\r\n";

/// A hub of two threads, which dials one hub itself.
struct World {
    nodes: Vec<Node>,
}

impl World {
    fn new() -> World {
        let remote = Remote {
            ways: vec![Arc::new(Way {
                urls: vec![Url::new(Scheme::Nats, "h", 1)],
                ..Way::default()
            })],
            ..Remote::default()
        };
        let config = Config {
            remotes: vec![remote],
            ..Config::default()
        };
        let server = identity("H");
        let base = Base::of(&config, server, Box::new(Random::new(1)), NOW);
        let other = base.another(Box::new(Random::new(2)));
        World {
            nodes: Node::all(base, NOW, [other]),
        }
    }

    /// The hub that was dialled, which is in this cluster.
    fn hub(&mut self, cluster: &str) -> LinkId {
        let Some(NodeEvent::Dial { remote, attempt }) = self.nodes[0].node().poll_event() else {
            panic!("it dials");
        };
        let node = self.nodes[0].node();
        let link = node.handle_dialed(NOW, remote, &attempt, Ok(())).unwrap();
        let info = |more: &str| {
            format!(
                "INFO {{\"server_id\":\"NX\",\"client_id\":8,\"cluster\":\"{cluster}\",\
                 \"leafnode_urls\":[],\"info_on_connect\":true{more}}}\r\n"
            )
        };
        self.say(0, link, &info(""));
        let signed = Proof::Signed(Ok(Signed::default()));
        self.nodes[0].node().handle_proof(NOW, link, signed);
        self.say(
            0,
            link,
            &info(",\"connect_info\":true,\"remote_account\":\"$G\""),
        );
        self.say(0, link, "PONG\r\n");
        self.settle();
        link
    }

    /// A leaf on a thread, which is in this cluster.
    fn leaf(&mut self, thread: usize, cluster: &str) -> LinkId {
        let port = LeafPort::default();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1000));
        let node = &mut self.nodes[thread];
        let link = node.accept_leaf(
            NOW,
            ConnectionType::Leafnode,
            Arc::new(port),
            address,
            Ok(Secured::default()),
        );
        let connect = format!("CONNECT {{\"name\":\"X\",\"cluster\":\"{cluster}\"}}\r\n");
        self.say(thread, link, &connect);
        self.settle();
        link
    }

    fn say(&mut self, thread: usize, link: LinkId, text: &str) {
        let node = &mut self.nodes[thread];
        let mut shared = vec![0; 4096];
        let slot = node.read_slot(link, &mut shared);
        slot[..text.len()].copy_from_slice(text.as_bytes());
        node.handle_read(NOW, link, &shared, text.len());
    }

    fn settle(&mut self) {
        for _ in 0..4 {
            for node in &mut self.nodes {
                while node.poll_wake().is_some() {}
                node.take_in(NOW);
            }
        }
    }

    /// Whether it was told of a loop.
    fn is_cut(&self, thread: usize, link: LinkId) -> bool {
        self.told(thread, link).contains(LOOP)
    }

    /// All that waits for it.
    fn told(&self, thread: usize, link: LinkId) -> String {
        let mut plan = WritePlan::new();
        self.nodes[thread].poll_transmit(link, &mut plan);
        let mut heard = Vec::new();
        plan.iter().for_each(|piece| heard.extend_from_slice(piece));
        String::from_utf8(heard).unwrap()
    }
}

#[test]
fn a_leaf_that_was_dialled_before_is_cut() {
    for thread in 0..2 {
        let mut world = World::new();
        let hub = world.hub("X");
        let stranger = world.leaf(thread, "Y");
        let leaf = world.leaf(thread, "X");
        assert!(world.is_cut(thread, leaf));
        assert!(!world.is_cut(thread, stranger) && !world.is_cut(0, hub));
    }
}

#[test]
fn a_leaf_is_cut_once_its_server_is_joined() {
    for thread in 0..2 {
        let mut world = World::new();
        let stranger = world.leaf(thread, "Y");
        let leaf = world.leaf(thread, "X");
        assert!(!world.is_cut(thread, leaf));
        let hub = world.hub("X");
        assert!(world.is_cut(thread, leaf));
        assert!(!world.is_cut(thread, stranger) && !world.is_cut(0, hub));
    }
}

#[test]
fn a_hub_that_is_gone_may_come_as_a_leaf() {
    for thread in 0..2 {
        let mut world = World::new();
        let hub = world.hub("X");
        world.nodes[0].handle_closed(NOW, hub, "gone");
        let leaf = world.leaf(thread, "X");
        assert!(!world.is_cut(thread, leaf));
    }
}

/// Threads name their links the same: the end of another one's is not that of the hub's.
#[test]
fn the_end_of_a_link_of_the_same_name_means_nothing() {
    let mut world = World::new();
    let hub = world.hub("X");
    let stranger = world.leaf(1, "Y");
    assert_eq!(hub, stranger, "this is about links of the same name");
    world.nodes[1].handle_closed(NOW, stranger, "gone");
    let leaf = world.leaf(1, "X");
    assert!(world.is_cut(1, leaf));
}

/// Hubs that are no leafs do not say what they belong to.
#[test]
fn who_says_no_cluster_is_nobody_in_particular() {
    let mut world = World::new();
    world.hub("");
    let leaf = world.leaf(1, "");
    assert!(!world.is_cut(1, leaf));
}

/// In a loop, the names of all servers come around. Those that are in it shall find it first, not those
/// that hang on it and hear their names as well.
#[test]
fn names_of_servers_are_told_before_interest() {
    for thread in 0..2 {
        let mut world = World::new();
        let leaf = world.leaf(0, "Y");
        world.say(
            0,
            leaf,
            "LS+ a\r\nLS+ $LDS.one\r\nLS+ b\r\nLS+ $LDS.two\r\n",
        );
        world.settle();
        let other = world.leaf(thread, "X");
        let told = world.told(thread, other);
        let lines = told.lines().filter_map(|line| line.strip_prefix("LS+ "));
        let lines: Vec<bool> = lines.map(|line| line.starts_with("$LDS.")).collect();
        assert_eq!(lines, [true, true, true, false, false], "{told}");
    }
}
