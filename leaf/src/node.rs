//! A gateway without its sockets: a shard, its remotes, and how it comes to an end.
//!
//! What the drivers do to a shard they do to a node, by the same names. Everything that needs the
//! outside (dialling, files, slow hashes) leaves as a [`NodeEvent`].

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use petiole_core::account;
use petiole_core::auth::users::{Check, Users};
use petiole_core::config::model::{Config, Remote};
use petiole_core::link::client::Client;
use petiole_core::link::leaf::Leaf;
use petiole_core::link::queue::WritePlan;
use petiole_core::link::sample::Sample;
use petiole_core::link::uplink::{Attempt, Reports, State, Synced, Uplink};
use petiole_core::link::{
    ClientTls, Encoding, Env, Event, LinkId, Neighbour, Proof, Secured, Server,
};
use petiole_core::random::{Entropy, Random};
use petiole_core::shard::{Shard, Wants};
use petiole_core::time::Instant;
use petiole_core::wire::error::ProtoError;
use petiole_net::driver::Engine;
use petiole_net::tls;

use crate::explain::explain;
use crate::peer::{Peer, Peers};

/// The shortest and longest gap between two clients that a lame duck closes (operations, lame duck
/// mode).
const LONGEST_GAP: Duration = Duration::from_secs(1);
const SHORTEST_GAP: Duration = Duration::from_millis(1);

/// Something a node needs from the outside.
#[derive(Debug)]
pub enum NodeEvent {
    /// Connect and report with [`Node::handle_dialed`].
    Dial {
        /// The remote's place in the configuration.
        remote: usize,
        /// Where and how.
        attempt: Attempt,
    },
    /// Run the check away from this thread and report with [`Node::handle_proof`].
    Verify {
        /// For this link.
        link: LinkId,
        /// The work.
        check: Check,
    },
    /// Sign with the remote's credentials and report with [`Node::handle_proof`].
    Sign {
        /// For this link.
        link: LinkId,
        /// The remote's place in the configuration.
        remote: usize,
        /// The remote's configuration.
        settings: Arc<Remote>,
        /// What to sign.
        nonce: Box<[u8]>,
    },
}

/// How a remote is doing.
#[derive(Clone, Debug)]
pub struct UplinkStatus {
    /// The local account.
    pub account: String,
    /// Where it stands.
    pub state: State,
    /// Attempts since it was last up.
    pub attempts: u64,
}

/// A gateway without its sockets; of other kinds of neighbour, a part of another role.
#[derive(Debug)]
pub struct Node<P = Peer> {
    shard: Shard<P>,
    uplinks: Vec<Uplink>,
    random: Random,
    /// Connection ids handed out, by all threads of the server.
    numbers: Arc<AtomicUsize>,
    events: VecDeque<NodeEvent>,
    /// Clients and leafs that have said who they are; `None`: nobody wants to know.
    joined: Option<VecDeque<LinkId>>,
    /// Clients that want to know who they are, and where to tell them.
    asked: VecDeque<(LinkId, Box<[u8]>)>,
    /// Requests to services that are over, of those that a role measures.
    measured: VecDeque<Box<Sample>>,
    duration: Duration,
    grace: Duration,
    duck: Option<Duck>,
    closing: bool,
}

/// The course of lame duck mode.
#[derive(Clone, Copy, Debug)]
struct Duck {
    /// `None`: no client is left to close.
    next: Option<Instant>,
    until: Instant,
}

impl Node {
    /// A node of a checked configuration, at `now`.
    pub fn new(config: &Config, server: Server, entropy: Box<dyn Entropy>, now: Instant) -> Self {
        Node::of(config, server, entropy, now)
    }
}

impl<P: Peers> Node<P> {
    /// [`Node::new`] for whatever kinds of neighbour.
    pub fn of(
        config: &Config,
        server: Server,
        mut entropy: Box<dyn Entropy>,
        now: Instant,
    ) -> Self {
        let mut random = seeded(&mut *entropy);
        let env = Env {
            server,
            limits: config.limits.clone(),
            users: Arc::new(Users::compile(config)),
            tls: config.tls.as_ref().map(|tls| ClientTls {
                optional: config.allow_non_tls,
                ..ClientTls::required(tls)
            }),
        };
        // The check before a start has compiled them, too.
        let mut accounts = match account::compile(config, None) {
            Ok(accounts) => accounts,
            Err(error) => {
                log::error!("accounts share nothing: {error}");
                let names = config.accounts.iter().map(|account| account.name.as_str());
                account::named(names)
            }
        };
        if let Some(name) = &config.system_account
            && accounts.iter().all(|account| *account.name != **name)
        {
            accounts.extend(account::named([name.as_str()]).pop());
        }
        let shard = Shard::with_accounts(env, accounts, entropy);
        let reports = Reports {
            connect: config.connect_error_reports,
            reconnect: config.reconnect_error_reports,
        };
        let uplinks = config
            .remotes
            .iter()
            .map(|remote| Uplink::new(now, Arc::new(remote.clone()), reports, &mut random))
            .collect();
        let mut node = Node {
            shard,
            uplinks,
            random,
            numbers: Arc::default(),
            events: VecDeque::new(),
            joined: None,
            asked: VecDeque::new(),
            measured: VecDeque::new(),
            duration: config.lame_duck_duration,
            grace: config.lame_duck_grace_period,
            duck: None,
            closing: false,
        };
        node.dial_due(now);
        node
    }

    /// A further node of the same server, for another thread: it dials no hub.
    pub fn another(&self, mut entropy: Box<dyn Entropy>) -> Self {
        Node {
            random: seeded(&mut *entropy),
            shard: self.shard.another(entropy),
            uplinks: Vec::new(),
            numbers: self.numbers.clone(),
            events: VecDeque::new(),
            joined: None,
            asked: VecDeque::new(),
            measured: VecDeque::new(),
            duration: self.duration,
            grace: self.grace,
            duck: None,
            closing: false,
        }
    }

    /// The links and accounts.
    pub fn shard(&self) -> &Shard<P> {
        &self.shard
    }

    /// For what a role has beside clients and hubs.
    pub fn shard_mut(&mut self) -> &mut Shard<P> {
        &mut self.shard
    }

    /// How the remotes are doing, in the order of the configuration.
    pub fn uplinks(&self) -> Vec<UplinkStatus> {
        self.uplinks
            .iter()
            .map(|uplink| UplinkStatus {
                account: uplink.remote().account.clone(),
                state: uplink.state(),
                attempts: uplink.attempts(),
            })
            .collect()
    }

    /// A client has connected; `secured` is what TLS before INFO came to.
    pub fn accept(&mut self, now: Instant, address: SocketAddr, secured: Secured) -> LinkId {
        let client = Client::new(now, self.next_number(), address, secured);
        self.serve(now, client)
    }

    /// A client that is told why it cannot be served, behind INFO.
    pub fn refuse(&mut self, now: Instant, address: SocketAddr, error: ProtoError) -> LinkId {
        let client = Client::new(now, self.next_number(), address, Secured::default());
        self.serve(now, client.refused(error))
    }

    /// The id of the next connection, in INFO and in the log.
    pub fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) as u64 + 1
    }

    /// Any client that has connected.
    pub fn serve(&mut self, now: Instant, client: Client) -> LinkId {
        // It slipped in while the others were being closed.
        if let Some(duck) = &mut self.duck {
            duck.next.get_or_insert(now);
        }
        self.open(now, client.into())
    }

    /// A peer of a kind that only the role knows has connected.
    pub fn open(&mut self, now: Instant, peer: P) -> LinkId {
        let link = self.shard.open(now, peer);
        self.settle(now);
        link
    }

    /// The end of a [`NodeEvent::Dial`]: connected, or why not. Answers the link to drive.
    pub fn handle_dialed(
        &mut self,
        now: Instant,
        remote: usize,
        attempt: &Attempt,
        result: Result<(), String>,
    ) -> Option<LinkId> {
        let uplink = self.uplinks.get_mut(remote)?;
        // Reported after its deadline: a later attempt has taken its place.
        if !uplink.is_dialing() || self.closing {
            return None;
        }
        if let Err(cause) = result {
            uplink.handle_dial_failed(now, cause, &mut self.random);
            return None;
        }
        let settings = uplink.remote().clone();
        let Some(loop_name) = self.shard.loop_name(&settings.account) else {
            let cause = format!("there is no local account {:?}", settings.account);
            uplink.handle_dial_failed(now, cause, &mut self.random);
            return None;
        };
        let mut leaf = Leaf::new(now, remote, settings, attempt.clone(), loop_name);
        let old = uplink.predecessor();
        if let Some(old) = old.and_then(|old| self.shard.neighbour(old)?.hub()) {
            leaf = leaf.following(old);
        }
        let link = self.shard.open(now, Box::new(leaf).into());
        uplink.handle_connected(link);
        self.settle(now);
        Some(link)
    }

    /// The configuration of a remote.
    pub fn remote(&self, remote: usize) -> Option<&Arc<Remote>> {
        self.uplinks.get(remote).map(Uplink::remote)
    }

    /// There are new credentials for a remote: they are used now, before a link that is up is
    /// closed.
    pub fn renew(&mut self, now: Instant, remote: usize) {
        if let Some(uplink) = self.uplinks.get_mut(remote) {
            uplink.renew(now);
        }
        self.dial_due(now);
    }

    /// The result of a [`NodeEvent::Verify`] or [`NodeEvent::Sign`].
    pub fn handle_proof(&mut self, now: Instant, link: LinkId, proof: Proof) {
        self.shard.handle_proof(now, link, proof);
        self.settle(now);
    }

    /// Bytes of a peer, for those who have no buffer to lend.
    pub fn handle_bytes(&mut self, now: Instant, link: LinkId, bytes: &[u8]) {
        self.shard.handle_bytes(now, link, bytes);
        self.settle(now);
    }

    /// A link leads nowhere any more: it is closed without a word.
    pub fn abandon(&mut self, now: Instant, link: LinkId, cause: &str) {
        self.shard.abandon(now, link, cause);
    }

    /// Something for the outside to do.
    pub fn poll_event(&mut self) -> Option<NodeEvent> {
        self.events.pop_front()
    }

    /// From here on [`Node::poll_joined`] has what there is.
    pub fn note_joined(&mut self) {
        self.joined.get_or_insert_default();
    }

    /// A client, or a leaf that dialled us, that is bound to its account now.
    pub fn poll_joined(&mut self) -> Option<LinkId> {
        self.joined.as_mut()?.pop_front()
    }

    /// A client that asked who it is, and where the answer goes.
    pub fn poll_asked(&mut self) -> Option<(LinkId, Box<[u8]>)> {
        self.asked.pop_front()
    }

    /// What a request to a service came to, if its latency is
    /// [measured](petiole_core::shard::Shard::measure_latency).
    pub fn poll_measured(&mut self) -> Option<Box<Sample>> {
        self.measured.pop_front()
    }

    /// Whether [`Node::poll_joined`], [`Node::poll_asked`] or [`Node::poll_measured`] have something.
    pub fn has_notes(&self) -> bool {
        let joined = self.joined.as_ref();
        let has_joined = joined.is_some_and(|joined| !joined.is_empty());
        has_joined || !self.asked.is_empty() || !self.measured.is_empty()
    }

    /// Stops serving gradually. The caller has closed its listener.
    pub fn enter_lame_duck(&mut self, now: Instant) {
        if self.duck.is_some() {
            return;
        }
        log::info!("Entering lame duck mode, stop accepting new clients");
        self.shard.announce_lame_duck(now);
        self.duck = Some(Duck {
            next: Some(now + self.grace),
            until: now + self.duration,
        });
        self.settle(now);
    }

    /// Whether lame duck mode has come to its end.
    pub fn is_done(&self) -> bool {
        self.duck.is_some() && self.shard.clients() == 0
    }

    /// Closes everything in order; nothing is dialled any more.
    pub fn shut_down(&mut self, now: Instant) {
        self.closing = true;
        for link in self.shard.links() {
            self.shard.close(now, link, "Server Shutdown");
        }
    }

    /// Whether all links are gone.
    pub fn is_empty(&self) -> bool {
        self.shard.links().is_empty()
    }

    /// Passes on what the shard wants.
    pub fn settle(&mut self, now: Instant) {
        while let Some(event) = self.shard.poll_event() {
            match event {
                Event::Verify { link, check } => {
                    self.events.push_back(NodeEvent::Verify { link, check });
                }
                Event::Sign {
                    link,
                    remote,
                    nonce,
                } => {
                    if let Some(uplink) = self.uplinks.get(remote) {
                        let settings = uplink.remote().clone();
                        self.events.push_back(NodeEvent::Sign {
                            link,
                            remote,
                            settings,
                            nonce,
                        });
                    }
                }
                Event::Joined { link } => {
                    if let Some(joined) = &mut self.joined {
                        joined.push_back(link);
                    }
                }
                Event::Asked { link, reply } => self.asked.push_back((link, reply)),
                Event::Measured(sample) => self.measured.push_back(sample),
                Event::Discovered { remote, addresses } => {
                    if let Some(uplink) = self.uplinks.get_mut(remote) {
                        uplink.handle_discovered(&addresses);
                    }
                }
                Event::Synced { link, remote } => {
                    if let Some(uplink) = self.uplinks.get_mut(remote)
                        && let Some(leaf) = self.shard.neighbour(link).and_then(P::hub)
                    {
                        let hub = leaf.hub();
                        let synced = uplink.handle_synced(now, link, &hub.name, &hub.account);
                        if let Synced::Replaces(old) = synced {
                            self.shard.close(now, old, "replaced");
                        }
                    }
                }
            }
        }
    }

    fn dial_due(&mut self, now: Instant) {
        if self.closing {
            return;
        }
        for (remote, uplink) in self.uplinks.iter_mut().enumerate() {
            if let Some(attempt) = uplink.poll_dial(now, &mut self.random) {
                self.events.push_back(NodeEvent::Dial { remote, attempt });
            }
        }
    }

    /// Closes the next client when it is time, so that all are gone at the end of the duration.
    fn duck_step(&mut self, now: Instant) {
        let Some(duck) = self.duck else { return };
        if duck.next.is_none_or(|next| now < next) {
            return;
        }
        let clients: Vec<LinkId> = self
            .shard
            .links()
            .into_iter()
            .filter(|link| {
                self.shard
                    .neighbour(*link)
                    .is_some_and(|peer| peer.client().is_some())
            })
            .filter(|link| !self.shard.is_ending(*link))
            .collect();
        let closed = if now < duck.until { 1 } else { clients.len() };
        for link in clients.iter().take(closed) {
            self.shard.close(now, *link, "Server Shutdown");
        }
        let left = u32::try_from(clients.len().saturating_sub(closed)).unwrap_or(u32::MAX);
        let next = (left > 0).then(|| {
            let gap = (duck.until.since(now) / left).min(LONGEST_GAP);
            // Down to half of it, so that the clients do not reconnect elsewhere in step.
            let gap = gap.mul_f64(0.5 + 0.5 * self.random.fraction());
            now + gap.max(SHORTEST_GAP)
        });
        self.duck = Some(Duck { next, ..duck });
    }
}

fn seeded(entropy: &mut dyn Entropy) -> Random {
    let mut seed = [0; 8];
    entropy.fill(&mut seed);
    Random::new(u64::from_le_bytes(seed))
}

impl<P: Peers> Engine for Node<P> {
    type Id = LinkId;

    fn read_slot<'a>(&'a mut self, id: LinkId, shared: &'a mut [u8]) -> &'a mut [u8] {
        self.shard.read_slot(id, shared)
    }

    fn handle_read(&mut self, now: Instant, id: LinkId, shared: &[u8], count: usize) {
        self.shard.handle_read(now, id, shared, count);
        self.settle(now);
    }

    fn wants(&self, id: LinkId) -> Wants {
        self.shard.wants(id)
    }

    fn take_unread(&mut self, id: LinkId) -> Vec<u8> {
        self.shard.take_unread(id)
    }

    fn handle_upgraded(&mut self, now: Instant, id: LinkId, secured: Secured) {
        self.shard.handle_upgraded(now, id, secured);
        self.settle(now);
    }

    fn encoding(&self, id: LinkId) -> Encoding {
        self.shard.encoding(id)
    }

    fn poll_transmit<'a>(&'a self, id: LinkId, plan: &mut WritePlan<'a>) {
        self.shard.poll_transmit(id, plan);
    }

    fn handle_transmitted(&mut self, now: Instant, id: LinkId, count: usize) {
        self.shard.handle_transmitted(now, id, count);
    }

    fn handle_blocked(&mut self, now: Instant, id: LinkId) {
        self.shard.handle_blocked(now, id);
    }

    fn explain(&self, id: LinkId, error: &io::Error) -> String {
        let peer = self.shard.neighbour(id);
        if let Some(leaf) = peer.and_then(P::hub) {
            return explain(error, leaf.way());
        }
        match peer.and_then(P::client) {
            Some(_) if error.kind() == io::ErrorKind::QuotaExceeded => {
                ProtoError::Throttled.reason().into()
            }
            Some(client) if client.is_securing() => {
                let words = tls::words(error);
                log::error!("{} - TLS handshake error: {words}", client.label());
                ProtoError::HandshakeFailed.reason().into()
            }
            _ => tls::words(error),
        }
    }

    fn handle_closed(&mut self, now: Instant, id: LinkId, cause: &str) {
        let peer = self.shard.handle_closed(now, id, cause);
        if let Some(leaf) = peer.and_then(P::into_hub)
            && !self.closing
            && let Some(uplink) = self.uplinks.get_mut(leaf.number())
        {
            uplink.handle_down(now, id, leaf.into_down(), &mut self.random);
        }
        self.settle(now);
    }

    fn poll_wake(&mut self) -> Option<LinkId> {
        self.shard.poll_wake()
    }

    fn has_events(&self) -> bool {
        // Once closing, a lame duck that is done is no news: only the last link's end is.
        let ended = if self.closing {
            self.is_empty()
        } else {
            self.is_done()
        };
        ended || !self.events.is_empty()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let duck = self.duck.and_then(|duck| duck.next);
        let dials = self
            .uplinks
            .iter()
            .filter(|_| !self.closing)
            .filter_map(Uplink::poll_timeout)
            .min();
        [self.shard.poll_timeout(), dials, duck]
            .into_iter()
            .flatten()
            .min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.shard.handle_timeout(now);
        self.dial_due(now);
        self.duck_step(now);
        self.settle(now);
    }
}
