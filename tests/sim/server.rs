//! A server of ours: one node for each of its threads, and what the real drivers keep for them.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use petiole_core::config::model::{Config, ConnectionType};
use petiole_core::link::acceptor::LeafPort;
use petiole_core::link::uplink::{Attempt, State};
use petiole_core::link::{LinkId, Proof, Secured, Server as Identity};
use petiole_core::random::Random;
use petiole_core::time::Instant;
use petiole_leaf::{Host as _, NodeEvent};
use petiole_net::driver::Engine;

use crate::model::Key;
use crate::plan::Role;

/// What runs on a thread.
#[allow(clippy::large_enum_variant)] // There are few.
pub(crate) enum Node {
    Gateway(petiole_leaf::Node),
    Hub(petiole_hub::Node),
}

/// Asks whichever it is for what both have.
macro_rules! base {
    ($this:expr, $node:ident => $ask:expr) => {
        match $this {
            Node::Gateway($node) => $ask,
            Node::Hub(hub) => {
                let $node = hub.node();
                $ask
            }
        }
    };
}

impl Node {
    pub(crate) fn engine(&mut self) -> &mut dyn Engine<Id = LinkId> {
        match self {
            Node::Gateway(node) => node,
            Node::Hub(node) => node,
        }
    }

    pub(crate) fn accept(&mut self, now: Instant) -> LinkId {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        base!(self, node => node.accept(now, address, Secured::default()))
    }

    pub(crate) fn accept_leaf(&mut self, now: Instant, port: &Arc<LeafPort>) -> LinkId {
        let Node::Hub(node) = self else {
            panic!("a gateway is dialled");
        };
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let kind = ConnectionType::Leafnode;
        node.accept_leaf(now, kind, port.clone(), address, Ok(Secured::default()))
    }

    pub(crate) fn handle_dialed(
        &mut self,
        now: Instant,
        remote: usize,
        attempt: &Attempt,
        result: Result<(), String>,
    ) -> Option<LinkId> {
        base!(self, node => node.handle_dialed(now, remote, attempt, result))
    }

    pub(crate) fn handle_proof(&mut self, now: Instant, link: LinkId, proof: Proof) {
        base!(self, node => node.handle_proof(now, link, proof));
    }

    pub(crate) fn poll_event(&mut self) -> Option<NodeEvent> {
        base!(self, node => node.poll_event())
    }

    pub(crate) fn shut_down(&mut self, now: Instant) {
        base!(self, node => node.shut_down(now));
    }

    pub(crate) fn links(&mut self) -> Vec<LinkId> {
        base!(self, node => node.shard().links())
    }

    pub(crate) fn clients(&mut self) -> usize {
        base!(self, node => node.shard().clients())
    }

    pub(crate) fn pending(&mut self, link: LinkId) -> usize {
        base!(self, node => node.shard().pending(link))
    }

    pub(crate) fn knows(&mut self, link: LinkId) -> bool {
        base!(self, node => node.shard().neighbour(link).is_some())
    }

    pub(crate) fn uplinks(&mut self) -> Vec<State> {
        let all = base!(self, node => node.uplinks());
        all.into_iter().map(|uplink| uplink.state).collect()
    }

    /// What it holds of an account, and how many of each.
    pub(crate) fn interest(&mut self, account: &str) -> BTreeMap<Key, usize> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let all = base!(self, node => node.shard().interest(account));
        let all = all.into_iter();
        all.map(|(subject, queue, count)| ((text(subject), queue.map(text)), count))
            .collect()
    }
}

/// Where one of its threads hears that others have left something.
#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the real driver keeps per link.
pub(crate) struct Driver {
    pub(crate) conn: usize,
    pub(crate) side: usize,
    pub(crate) scheduled: bool,
}

/// One thread.
pub(crate) struct Thread {
    pub(crate) node: Node,
    pub(crate) drivers: BTreeMap<LinkId, Driver>,
    pub(crate) ready: VecDeque<LinkId>,
    pub(crate) timer_at: Option<Instant>,
    pub(crate) stalled_until: Instant,
    pub(crate) dirty: bool,
    /// Something was left for it that it will look at.
    pub(crate) has_mail: bool,
    bell: Arc<Bell>,
}

impl Thread {
    fn new(node: Node) -> Self {
        Thread {
            node,
            drivers: BTreeMap::new(),
            ready: VecDeque::new(),
            timer_at: None,
            stalled_until: Instant::ZERO,
            dirty: false,
            has_mail: false,
            bell: Arc::default(),
        }
    }

    /// Has the driver of a link look, once.
    pub(crate) fn schedule(&mut self, link: LinkId) {
        if let Some(driver) = self.drivers.get_mut(&link)
            && !std::mem::replace(&mut driver.scheduled, true)
        {
            self.ready.push_back(link);
        }
    }

    /// Takes in all that other threads have left, and listens for more.
    pub(crate) fn take_in(&mut self, now: Instant) {
        self.has_mail = false;
        let waker = Waker::from(self.bell.clone());
        let cx = Context::from_waker(&waker);
        if let Node::Hub(node) = &mut self.node {
            while let Poll::Ready(()) = node.poll_arrival(&cx) {
                node.take_in(now);
            }
        }
    }

    /// Whether the bell has rung since this was asked last.
    pub(crate) fn hears_bell(&mut self) -> bool {
        let rings = self.bell.0.swap(false, Ordering::Relaxed);
        self.has_mail |= rings;
        rings
    }
}

/// A server through all its lives.
pub(crate) struct Server {
    name: String,
    role: Role,
    pub(crate) config: Config,
    /// The links of its remotes.
    pub(crate) links: Vec<usize>,
    pub(crate) port: Arc<LeafPort>,
    /// None while it is down.
    pub(crate) threads: Vec<Thread>,
    /// Counts restarts, so that nothing reaches a later life.
    pub(crate) life: u32,
    pub(crate) closing: bool,
}

impl Server {
    pub(crate) fn new(name: String, role: Role, config: Config, links: Vec<usize>) -> Self {
        let port = LeafPort {
            // A server that is a leaf itself stands for a cluster of its name.
            cluster: if links.is_empty() {
                String::new()
            } else {
                name.clone()
            },
            ..LeafPort::default()
        };
        Server {
            name,
            role,
            config,
            links,
            port: Arc::new(port),
            threads: Vec::new(),
            life: 0,
            closing: false,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        !self.threads.is_empty()
    }

    /// The first thread, which dials.
    pub(crate) fn dialler(&mut self) -> Option<&mut Node> {
        self.threads.first_mut().map(|thread| &mut thread.node)
    }

    pub(crate) fn start(&mut self, now: Instant, rng: &mut Random) {
        let identity = Identity {
            id: format!("N{}", self.name),
            name: self.name.clone(),
            toolchain: "sim",
            host: "sim".into(),
            port: 4222,
            headers: true,
        };
        let mut entropy = || Box::new(Random::new(rng.draw()));
        let nodes: Vec<Node> = match self.role {
            Role::Gateway => {
                let node = petiole_leaf::Node::new(&self.config, identity, entropy(), now);
                vec![Node::Gateway(node)]
            }
            Role::Hub(threads) => {
                let first = petiole_leaf::Node::of(&self.config, identity, entropy(), now);
                let others: Vec<_> = (1..threads).map(|_| first.another(entropy())).collect();
                let nodes = petiole_hub::Node::all(first, now, others);
                nodes.into_iter().map(Node::Hub).collect()
            }
        };
        self.threads = nodes.into_iter().map(Thread::new).collect();
        for thread in &mut self.threads {
            thread.take_in(now);
        }
    }

    /// How many threads it has when it is up.
    pub(crate) fn width(&self) -> usize {
        match self.role {
            Role::Gateway => 1,
            Role::Hub(threads) => threads,
        }
    }
}
