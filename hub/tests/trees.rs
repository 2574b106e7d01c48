//! Trees of servers: each dials one above it, some of them leafs of leafs, on one thread or several. Whoever
//! wants a message gets it, once, wherever in the tree both are; what is told of interest comes to rest.
#![allow(clippy::unwrap_used)]

mod world;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use petiole_core::config::model::{Config, ConnectionType, Remote, Scheme, Url, Way};
use petiole_core::link::acceptor::LeafPort;
use petiole_core::link::leaf::Signed;
use petiole_core::link::uplink::Attempt;
use petiole_core::link::{LinkId, Proof, Secured};
use petiole_core::random::Random;
use petiole_hub::Node;
use petiole_leaf::{Host as _, Node as Base, NodeEvent};
use petiole_net::driver::Engine as _;
use proptest::prelude::*;

use world::{NOW, identity, written};

/// One end of a link, or where a client is: server, thread, link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct End {
    server: usize,
    thread: usize,
    link: LinkId,
}

struct World {
    servers: Vec<Vec<Node>>,
    /// Both directions of each link between servers.
    pipes: BTreeMap<End, End>,
    clients: Vec<End>,
    /// What servers want to dial: the server, its remote, where.
    dials: Vec<(usize, usize, Attempt)>,
}

fn server(number: usize, above: &[usize], threads: usize) -> Vec<Node> {
    let remote = |above: &usize| Remote {
        ways: vec![Arc::new(Way {
            urls: vec![Url::new(Scheme::Nats, "h", 7000 + *above as u16)],
            ..Way::default()
        })],
        ..Remote::default()
    };
    let config = Config {
        remotes: above.iter().map(remote).collect(),
        ..Config::default()
    };
    let server = identity(&format!("S{number}"));
    let seed = number as u64 * 10;
    let base = Base::of(&config, server, Box::new(Random::new(seed)), NOW);
    let others: Vec<_> = (1..threads as u64)
        .map(|thread| base.another(Box::new(Random::new(seed + thread))))
        .collect();
    Node::all(base, NOW, others)
}

impl World {
    /// Servers of so many threads, each with those it dials; and two clients of each.
    fn new(shape: &[(Vec<usize>, usize)]) -> World {
        let servers = shape.iter().zip(0..);
        let servers = servers.map(|((above, threads), number)| server(number, above, *threads));
        let mut world = World {
            servers: servers.collect(),
            pipes: BTreeMap::new(),
            clients: Vec::new(),
            dials: Vec::new(),
        };
        for (number, (above, threads)) in shape.iter().enumerate() {
            for _ in above {
                world.connect(number, !above.is_empty());
            }
            for client in 0..2 {
                let thread = (number + client) % threads;
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1000));
                let node = world.servers[number][thread].node();
                let link = node.accept(NOW, address, Secured::default());
                let end = End {
                    server: number,
                    thread,
                    link,
                };
                world.clients.push(end);
                world.say(end, b"CONNECT {\"verbose\":false}\r\n");
            }
        }
        world.settle();
        world
    }

    /// The next server that this one wants to dial.
    fn connect(&mut self, number: usize, is_leaf: bool) {
        self.settle();
        let at = self.dials.iter().position(|(server, ..)| *server == number);
        let (_, remote, attempt) = self.dials.remove(at.unwrap());
        let node = self.servers[number][0].node();
        let link = node.handle_dialed(NOW, remote, &attempt, Ok(())).unwrap();
        let below = End {
            server: number,
            thread: 0,
            link,
        };
        let above = usize::from(attempt.url.port - 7000);
        let thread = number % self.servers[above].len();
        let port = LeafPort {
            // A server that is a leaf itself stands for a cluster of its name.
            cluster: if is_leaf && above > 0 {
                format!("S{above}")
            } else {
                String::new()
            },
            ..LeafPort::default()
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1000));
        let kind = ConnectionType::Leafnode;
        let secured = Ok(Secured::default());
        let node = &mut self.servers[above][thread];
        let link = node.accept_leaf(NOW, kind, Arc::new(port), address, secured);
        let above = End {
            server: above,
            thread,
            link,
        };
        self.pipes.insert(below, above);
        self.pipes.insert(above, below);
        self.settle();
    }

    fn say(&mut self, to: End, mut bytes: &[u8]) {
        let node = &mut self.servers[to.server][to.thread];
        let mut shared = vec![0; 64 << 10];
        while !bytes.is_empty() && node.wants(to.link).read {
            let slot = node.read_slot(to.link, &mut shared);
            let count = slot.len().min(bytes.len());
            slot[..count].copy_from_slice(&bytes[..count]);
            node.handle_read(NOW, to.link, &shared, count);
            bytes = &bytes[count..];
        }
        while node.poll_wake().is_some() {}
    }

    fn hear(&mut self, end: End) -> Vec<u8> {
        written(&mut self.servers[end.server][end.thread], end.link)
    }

    /// Until nobody has anything to say. That this ends is a part of what is tried.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let mut quiet = true;
            for (number, nodes) in self.servers.iter_mut().enumerate() {
                for node in nodes {
                    while node.poll_wake().is_some() {}
                    node.take_in(NOW);
                    while node.poll_wake().is_some() {}
                    while let Some(event) = node.node().poll_event() {
                        match event {
                            NodeEvent::Sign { link, .. } => {
                                let signed = Proof::Signed(Ok(Signed::default()));
                                node.node().handle_proof(NOW, link, signed);
                                quiet = false;
                            }
                            NodeEvent::Dial { remote, attempt } => {
                                self.dials.push((number, remote, attempt));
                            }
                            NodeEvent::Verify { .. } => panic!("nobody has a password"),
                        }
                    }
                }
            }
            for (from, to) in self.pipes.clone() {
                let bytes = self.hear(from);
                if !bytes.is_empty() {
                    quiet = false;
                    self.say(to, &bytes);
                }
            }
            if quiet {
                return;
            }
        }
        panic!("they talk for ever");
    }

    /// The messages that each client was sent: subscription and payload.
    fn messages(&mut self) -> Vec<Vec<(String, String)>> {
        self.settle();
        let clients = self.clients.clone();
        let messages = |end| {
            let text = String::from_utf8(self.hear(end)).unwrap();
            let mut lines = text.lines();
            let mut all = Vec::new();
            while let Some(line) = lines.next() {
                if let Some(words) = line.strip_prefix("MSG ") {
                    let sid = words.split(' ').nth(1).unwrap().to_owned();
                    all.push((sid, lines.next().unwrap().to_owned()));
                }
            }
            all.sort();
            all
        };
        clients.into_iter().map(messages).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Subscribe(usize, &'static str, Option<&'static str>),
    Unsubscribe(usize, &'static str, Option<&'static str>),
    Publish(usize, &'static str),
}

fn shapes() -> impl Strategy<Value = Vec<(Vec<usize>, usize)>> {
    // Who is above each but the first, as a share of those before it; and how many threads.
    prop::collection::vec((any::<prop::sample::Index>(), 1..3usize), 1..7).prop_map(|all| {
        let tree = all.iter().enumerate().map(|(number, (above, threads))| {
            let above = (number > 0).then(|| above.index(number));
            (above.into_iter().collect(), *threads)
        });
        tree.collect()
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = 0..14usize;
    let wanted = || prop::sample::select(vec!["a", "a.b", "a.*", "*.b", ">"]);
    let group = || prop::option::of(prop::sample::select(vec!["g", "h"]));
    let said = prop::sample::select(vec!["a", "a.b", "c.b", "c"]);
    let step = prop_oneof![
        3 => (client.clone(), wanted(), group()).prop_map(|(c, s, g)| Step::Subscribe(c, s, g)),
        1 => (client.clone(), wanted(), group()).prop_map(|(c, s, g)| Step::Unsubscribe(c, s, g)),
        4 => (client, said).prop_map(|(c, s)| Step::Publish(c, s)),
    ];
    prop::collection::vec(step, 1..50)
}

fn name(subject: &str, group: Option<&str>) -> String {
    format!("{}/{subject}", group.unwrap_or_default())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Everybody outside of a group gets one copy for each subscription; of each group one member does,
    /// of those on the publisher's own server if there are any.
    #[test]
    fn messages_find_their_way_in_any_tree(shape in shapes(), steps in steps()) {
        let mut world = World::new(&shape);
        let clients = world.clients.clone();
        let mut wanted: Vec<(usize, &str, Option<&str>)> = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            match *step {
                Step::Subscribe(client, subject, group) => {
                    let client = client % clients.len();
                    let sid = name(subject, group);
                    let group_word = group.map_or(String::new(), |group| format!("{group} "));
                    world.say(clients[client], format!("SUB {subject} {group_word}{sid}\r\n").as_bytes());
                    world.settle();
                    if !wanted.contains(&(client, subject, group)) {
                        wanted.push((client, subject, group));
                    }
                }
                Step::Unsubscribe(client, subject, group) => {
                    let client = client % clients.len();
                    let text = format!("UNSUB {}\r\n", name(subject, group));
                    world.say(clients[client], text.as_bytes());
                    world.settle();
                    wanted.retain(|other| *other != (client, subject, group));
                }
                Step::Publish(client, subject) => {
                    let client = client % clients.len();
                    let text = format!("PUB {subject} 4\r\n{number:04}\r\n");
                    world.say(clients[client], text.as_bytes());
                    let got = world.messages();
                    let matching = |pattern: &str| {
                        petiole_core::subject::matches(pattern.as_bytes(), subject.as_bytes())
                    };
                    for (other, got) in got.iter().enumerate() {
                        let plain: Vec<_> = got.iter().filter(|(sid, _)| sid.starts_with('/')).collect();
                        let mut due: Vec<String> = wanted.iter()
                            .filter(|(c, pattern, group)| *c == other && group.is_none() && matching(pattern))
                            .map(|(_, pattern, _)| name(pattern, None)).collect();
                        due.sort();
                        prop_assert_eq!(plain.iter().map(|(sid, _)| sid.clone()).collect::<Vec<_>>(), due);
                    }
                    for group in ["g", "h"] {
                        let members = wanted.iter().filter(|(_, pattern, g)| *g == Some(group) && matching(pattern));
                        let members: Vec<usize> = members.map(|(c, ..)| *c).collect();
                        let served: Vec<usize> = got.iter().enumerate()
                            .flat_map(|(other, got)| got.iter().map(move |(sid, _)| (other, sid)))
                            .filter(|(_, sid)| sid.starts_with(group)).map(|(other, _)| other).collect();
                        prop_assert_eq!(served.len(), members.len().min(1), "{} {:?}", group, members);
                        let home = clients[client].server;
                        let at_home = |c: &usize| clients[*c].server == home;
                        if members.iter().any(at_home) {
                            prop_assert!(served.iter().all(at_home), "{:?}", served);
                        }
                    }
                }
            }
        }
    }
}
