//! A server without its sockets, and its peers as bytes.
// Each test uses its own part of this module.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use petiole_core::config::model::ConnectionType;
use petiole_core::config::{Loader, load};
use petiole_core::link::acceptor::LeafPort;
use petiole_core::link::queue::WritePlan;
use petiole_core::link::{LinkId, Secured, Server};
use petiole_core::random::Random;
use petiole_core::time::Instant;
use petiole_hub::Node;
use petiole_leaf::{Host as _, Node as Base};
use petiole_net::driver::Engine as _;

pub(crate) const NOW: Instant = Instant::from_nanos(1_000_000_000);

/// Who a server of this name is.
pub(crate) fn identity(name: &str) -> Server {
    Server {
        id: format!("N{name}"),
        name: name.into(),
        toolchain: "rust",
        host: "0.0.0.0".into(),
        port: 4222,
        headers: true,
    }
}

/// All that waits to be written to a link.
pub(crate) fn written(node: &mut Node, link: LinkId) -> Vec<u8> {
    let mut heard = Vec::new();
    while node.wants(link).write {
        let before = heard.len();
        {
            let mut plan = WritePlan::new();
            node.poll_transmit(link, &mut plan);
            plan.iter().for_each(|piece| heard.extend_from_slice(piece));
        }
        node.handle_transmitted(NOW, link, heard.len() - before);
    }
    heard
}

/// A server of some threads with its peers.
pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    /// Each with its thread and what it has not read yet.
    pub(crate) peers: Vec<(usize, LinkId)>,
    /// The interest that each peer has been told of.
    pub(crate) told: Vec<BTreeMap<String, String>>,
}

/// A configuration.
struct Text<'a>(&'a str);

impl Loader for Text<'_> {
    fn read(&self, _: &str) -> Result<String, String> {
        Ok(self.0.into())
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

impl World {
    /// A server of a configuration, in which each account has a user of its name.
    pub(crate) fn new(threads: usize, text: &str) -> World {
        let config = load("c", &Text(text)).unwrap().config;
        let base = Base::of(&config, identity("H"), Box::new(Random::new(1)), NOW);
        let others: Vec<_> = (1..threads as u64)
            .map(|seed| base.another(Box::new(Random::new(seed))))
            .collect();
        let mut world = World {
            nodes: Node::all(base, NOW, others),
            peers: Vec::new(),
            told: Vec::new(),
        };
        world.settle();
        world
    }

    /// From here on the accounts, which stay the same, share what this configuration says.
    #[allow(dead_code, reason = "not every test changes it")]
    pub(crate) fn revise(&mut self, text: &str) {
        let config = load("c", &Text(text)).unwrap().config;
        let all = petiole_core::account::compile(&config, None).unwrap();
        for node in &mut self.nodes {
            for (rules, at) in all.iter().zip(0..) {
                let rules = Arc::new(rules.clone());
                node.node().shard_mut().revise(NOW, at, rules);
            }
        }
        self.settle();
        self.hear();
    }

    pub(crate) fn client(&mut self, account: &str) {
        let thread = self.peers.len() % self.nodes.len();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1000));
        let node = self.nodes[thread].node();
        let link = node.accept(NOW, address, Secured::default());
        self.join(thread, link, account, "");
    }

    pub(crate) fn leaf(&mut self, account: &str, cluster: &str) {
        let thread = self.peers.len() % self.nodes.len();
        let port = LeafPort::default();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1000));
        let node = &mut self.nodes[thread];
        let kind = ConnectionType::Leafnode;
        let link = node.accept_leaf(NOW, kind, Arc::new(port), address, Ok(Secured::default()));
        let more = format!(",\"cluster\":\"{cluster}\",\"version\":\"2.15.1\"");
        self.join(thread, link, account, &more);
    }

    fn join(&mut self, thread: usize, link: LinkId, account: &str, more: &str) {
        self.peers.push((thread, link));
        self.told.push(BTreeMap::new());
        let peer = self.peers.len() - 1;
        self.say(
            peer,
            &format!(
                "CONNECT {{\"user\":\"{account}\",\"pass\":\"p\",\"verbose\":false{more}}}\r\n"
            ),
        );
        self.settle();
        self.hear();
    }

    pub(crate) fn say(&mut self, peer: usize, text: &str) {
        let (thread, link) = self.peers[peer];
        let node = &mut self.nodes[thread];
        node.take_in(NOW);
        node.node().handle_bytes(NOW, link, text.as_bytes());
        // As the driver does before the peer reads any of the answers.
        while node.poll_wake().is_some() {}
    }

    /// Until no thread has anything for another one.
    pub(crate) fn settle(&mut self) {
        for _ in 0..8 {
            for node in &mut self.nodes {
                while node.poll_wake().is_some() {}
                node.take_in(NOW);
                while node.poll_wake().is_some() {}
            }
        }
    }

    /// What each peer is sent, but for interest, which is noted.
    pub(crate) fn hear(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        for peer in 0..self.peers.len() {
            let (thread, link) = self.peers[peer];
            let node = &mut self.nodes[thread];
            let text = String::from_utf8(written(node, link)).unwrap();
            let mut rest = String::new();
            for line in text.lines() {
                match line.split_once(' ') {
                    // Of responses, under a name of chance.
                    Some(("LS+", what)) if what.starts_with("_R_.") => {}
                    Some(("LS+", what)) if !what.starts_with("$LDS") => {
                        let (name, weight) = match what.split(' ').collect::<Vec<_>>()[..] {
                            [subject, queue, weight] => (format!("{subject} {queue}"), weight),
                            _ => (what.to_string(), ""),
                        };
                        self.told[peer].insert(name, weight.into());
                    }
                    Some(("LS-", what)) => {
                        assert!(self.told[peer].remove(what).is_some(), "{what}");
                    }
                    _ => {
                        let word = |word| {
                            if str::starts_with(word, "_R_.") {
                                "_R_"
                            } else {
                                word
                            }
                        };
                        let words: Vec<_> = line.split(' ').map(word).collect();
                        rest.push_str(&words.join(" "));
                        rest.push('\n');
                    }
                }
            }
            all.push(rest);
        }
        self.settle();
        all
    }
}
