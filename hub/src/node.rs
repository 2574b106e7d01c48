//! One thread of a hub without its sockets: what a gateway's node does, leafs, and the other threads.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use petiole_core::auth::jwt::{TrustedAccount, Withdrawn};
use petiole_core::auth::users::{AuthError, Mandate, Verdict};
use petiole_core::config::model::ConnectionType;
use petiole_core::link::acceptor::{Acceptor, LeafName, LeafPort};
use petiole_core::link::client::Client;
use petiole_core::link::internal::Internal;
use petiole_core::link::queue::WritePlan;
use petiole_core::link::sample::{Outcome, Sample};
use petiole_core::link::sibling::Sibling;
use petiole_core::link::websocket::{self, WebsocketVisit};
use petiole_core::link::{Encoding, LinkId, Neighbour as _, Proof, Secured, Server};
use petiole_core::shard::Wants;
use petiole_core::time::Instant;
use petiole_core::wire::error::ProtoError;
use petiole_leaf::{Host, Node as Base, Peers};
use petiole_net::driver::Engine;
use smol::channel::Sender;

use crate::explain;
use crate::inbox::{Inbox, Parcel, Urgency};
use crate::operator;
use crate::operator::accounts::{Accounts, Change, Reader};
use crate::operator::claims::{ClaimsRequest, Errand, Word};
use crate::peer::Peer;
use crate::system::{Farewell, System};

/// We want to hear of the arrival of what is on its way to another thread when that is this part of what
/// makes producers wait, a quarter. They go on at half of it, so none waits without that.
const NOTABLE: usize = 4;

/// What all threads of a hub know.
#[derive(Debug, Default)]
struct Common {
    /// One for each thread.
    inboxes: Vec<Inbox>,
    others: Mutex<Others>,
}

impl Common {
    fn others(&self) -> MutexGuard<'_, Others> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The servers that we are linked to, by all threads.
#[derive(Debug, Default)]
struct Others {
    /// Which link each leaf has, and in which thread.
    leafs: HashMap<Identity, (usize, LinkId)>,
    /// Where the other end of each leaf's link is.
    below: HashMap<(usize, LinkId), Place>,
    /// Where the other end of each link to a hub is. Only the first thread dials.
    above: HashMap<LinkId, Place>,
}

/// A cluster, for one of our accounts. A server that has it both above and below us would hear its own
/// messages (leaf protocol, loop detection); its `$LDS` does not come back to us, as it tells none to
/// its own cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    account: Arc<str>,
    cluster: u64,
}

impl Place {
    /// `None`: the other end did not say what it belongs to.
    fn of(account: &Arc<str>, peer: &Peer) -> Option<Self> {
        let cluster = peer.standing().cluster;
        (cluster != 0).then(|| Place {
            account: account.clone(),
            cluster,
        })
    }
}

/// What makes two links one leaf's (leaf protocol, duplicate links).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    name: String,
    cluster: String,
    account: String,
    ours: Arc<str>,
}

impl Identity {
    /// `None`: it did not say who it is.
    fn of(leaf: &LeafName, ours: &Arc<str>) -> Option<Self> {
        (!leaf.account.is_empty()).then(|| Identity {
            name: leaf.name.clone(),
            cluster: leaf.cluster.clone(),
            account: leaf.account.clone(),
            ours: ours.clone(),
        })
    }
}

/// One thread of a hub without its sockets.
#[derive(Debug)]
pub struct Node {
    base: Base<Peer>,
    number: usize,
    /// The link to each other thread's shard, by its number; `None` at our own.
    siblings: Vec<Option<LinkId>>,
    common: Arc<Common>,
    /// Our part of what is said and answered in the system account, if there is one.
    system: Option<System>,
    /// Links to hubs that are up.
    hubs: Vec<LinkId>,
    /// In operator mode: the accounts in use.
    accounts: Option<Reader>,
}

impl Node {
    /// All threads of a server, of which `base` is the first. There is at least that one.
    pub fn all(
        base: Base<Peer>,
        now: Instant,
        others: impl IntoIterator<Item = Base<Peer>>,
    ) -> Vec<Node> {
        let bases: Vec<_> = std::iter::once(base).chain(others).collect();
        let count = bases.len();
        let common = Arc::new(Common {
            inboxes: (0..count).map(|_| Inbox::default()).collect(),
            ..Common::default()
        });
        let node = |(number, mut base): (usize, Base<Peer>)| {
            // Two links of one leaf, and a leaf that we have dialled, are found by what they say.
            base.note_joined();
            let mut sibling = |other| {
                (other != number).then(|| {
                    let sibling = Peer::Sibling(Sibling);
                    base.shard_mut().open_sibling(now, sibling)
                })
            };
            Node {
                number,
                siblings: (0..count).map(&mut sibling).collect(),
                base,
                common: common.clone(),
                system: None,
                hubs: Vec::new(),
                accounts: None,
            }
        };
        bases.into_iter().enumerate().map(node).collect()
    }

    /// A client has connected over WebSocket; `secured` is what TLS came to.
    pub fn accept_over_websocket(
        &mut self,
        now: Instant,
        address: SocketAddr,
        secured: Secured,
        visit: WebsocketVisit,
    ) -> LinkId {
        let client = Client::new(now, self.base.next_number(), address, secured);
        self.base.serve(now, client.over_websocket(visit))
    }

    /// Has the threads of a server (all of them, before any link is opened) say what happens in the
    /// account `account`, which exists, and answer there. `server` is how it names itself.
    pub fn serve_system(nodes: &mut [Node], now: Instant, account: &str, server: &Server) {
        let threads = nodes.len();
        let Some((first, others)) = nodes.split_first_mut() else {
            return;
        };
        let shard = first.base.shard_mut();
        let system = System::first(now, account, server, shard, threads);
        for node in others {
            node.system = Some(system.another(node.base.shard_mut()));
        }
        first.system = Some(system);
    }

    /// Has the threads of a server, all of them, go by these accounts.
    pub(crate) fn serve_accounts(nodes: &mut [Node], now: Instant, accounts: &Arc<Accounts>) {
        for node in nodes.iter_mut() {
            node.accounts = Some(accounts.reader());
        }
        for node in nodes.iter_mut() {
            node.catch_up(now);
        }
        if let Some(node) = nodes.first() {
            let common = node.common.clone();
            accounts.wake_with(move || {
                for inbox in &common.inboxes {
                    inbox.put(0, [Parcel::Accounts], Urgency::Now);
                }
            });
        }
    }

    /// Has the first thread pass on what is asked of a resolver.
    pub(crate) fn serve_claims(
        &mut self,
        now: Instant,
        requests: &[ClaimsRequest],
        errands: Sender<Errand>,
    ) {
        if let Some(system) = &mut self.system {
            system.serve_claims(now, self.base.shard_mut(), requests, errands);
        }
    }

    /// Says what that came to.
    pub(crate) fn answer_claims(&mut self, now: Instant, reply: &[u8], words: Vec<Word>) {
        if let Some(system) = &mut self.system {
            system.answer_claims(now, self.base.shard_mut(), reply, words);
        }
    }

    /// Does what accounts that came or changed make necessary.
    fn catch_up(&mut self, now: Instant) {
        let Some(reader) = &mut self.accounts else {
            return;
        };
        let changes = reader.changes();
        if changes.is_empty() {
            return;
        }
        let accounts = reader.accounts().clone();
        for change in changes {
            let shard = self.base.shard_mut();
            match change {
                Change::Learn(seed) => shard.learn(now, &seed),
                Change::Revise {
                    place,
                    rules,
                    claims,
                } => {
                    let name: Arc<str> = (*rules.name).into();
                    shard.revise(now, place, rules);
                    if let Some(claims) = claims {
                        self.renew(now, &name, &claims);
                    }
                    let shard = self.base.shard_mut();
                    accounts.alone(|| shard.enforce(now, place));
                }
                Change::End { account } => {
                    for link in self.links_of(&account) {
                        let shard = self.base.shard_mut();
                        shard.refuse(now, link, &ProtoError::AccountExpired);
                    }
                }
            }
        }
    }

    /// The connections that are bound to an account.
    fn links_of(&self, account: &str) -> Vec<LinkId> {
        let shard = self.base.shard();
        let is_of = |link: &LinkId| shard.account_of(*link).is_some_and(|it| **it == *account);
        shard.links().into_iter().filter(is_of).collect()
    }

    /// Judges the users of an account again, which has a new JWT.
    fn renew(&mut self, now: Instant, account: &str, claims: &TrustedAccount) {
        for link in self.links_of(account) {
            let shard = self.base.shard_mut();
            let Some(mandate) = shard.neighbour(link).and_then(Peer::mandate).cloned() else {
                continue;
            };
            let mut session = mandate.session.clone();
            match session.renew(claims) {
                Ok(()) if session.permissions == mandate.session.permissions => {}
                Ok(()) => {
                    let perms = operator::permissions(&session);
                    let until = mandate.until;
                    shard.renew(now, link, Arc::new(Mandate { session, until }), perms);
                }
                Err(Withdrawn::Revoked) => shard.refuse(now, link, &ProtoError::UserRevoked),
                Err(Withdrawn::Bearer) => {
                    shard.refuse(now, link, &ProtoError::AuthorizationViolation);
                }
                // Without a word, as nats-server.
                Err(Withdrawn::Issuer) => {
                    shard.close(now, link, ProtoError::AuthorizationViolation.reason());
                }
            }
        }
    }

    /// Tells whoever listens in the system account that the server is about to end.
    pub(crate) fn say_farewell(&mut self, now: Instant, farewell: Farewell) {
        if let Some(system) = &mut self.system {
            system.say_farewell(now, self.base.shard_mut(), farewell);
        }
    }

    /// A leaf has connected by this `kind` of connection; `secured` is what TLS before INFO came to,
    /// or why it cannot be served.
    pub fn accept_leaf(
        &mut self,
        now: Instant,
        kind: ConnectionType,
        port: Arc<LeafPort>,
        address: SocketAddr,
        secured: Result<Secured, ProtoError>,
    ) -> LinkId {
        let (secured, refused) = match secured {
            Ok(secured) => (secured, None),
            Err(error) => (Secured::default(), Some(error)),
        };
        let number = self.base.next_number();
        let leaf = Acceptor::new(now, number, address, kind, port, secured);
        let link = self.base.open(now, Peer::Leaf(Box::new(leaf)));
        if let Some(error) = refused {
            self.base.shard_mut().refuse(now, link, &error);
        }
        link
    }

    /// Ready when another thread has left something, for [`Node::take_in`].
    pub fn poll_arrival(&self, cx: &std::task::Context<'_>) -> std::task::Poll<()> {
        match self.common.inboxes.get(self.number) {
            Some(inbox) => inbox.poll(cx),
            None => std::task::Poll::Pending,
        }
    }

    /// Takes in what other threads have left.
    pub fn take_in(&mut self, now: Instant) {
        let inbox = self.common.inboxes.get(self.number);
        let parcels = inbox.map(Inbox::take).unwrap_or_default();
        if parcels.is_empty() {
            return;
        }
        self.catch_up(now);
        let common = self.common.clone();
        for (from, parcel) in parcels {
            let Some(sibling) = self.siblings.get(from).copied().flatten() else {
                continue;
            };
            let shard = self.base.shard_mut();
            match parcel {
                Parcel::Lent(chunk) => {
                    shard.handle_lent(now, sibling, &chunk);
                    if let Some(theirs) = common.inboxes.get(from) {
                        let urgency = theirs.urgency();
                        theirs.put(self.number, [Parcel::Returned(chunk)], urgency);
                    }
                }
                Parcel::Returned(chunk) => shard.handle_returned(now, sibling, chunk),
                Parcel::Superseded(link) => self.supersede(now, link),
                Parcel::Happened(happened) => {
                    if let Some(system) = &mut self.system {
                        system.handle_happened(*happened);
                    }
                }
                Parcel::Answered(sample) => {
                    if let Some(system) = &self.system {
                        system.tell_latency(now, self.base.shard_mut(), &sample);
                    }
                }
                Parcel::Count(round) => {
                    if let (Some(system), Some(theirs)) = (&self.system, common.inboxes.get(from)) {
                        let load = Box::new(system.load(self.base.shard()));
                        let parcel = Parcel::Counted(round, load);
                        theirs.put(self.number, [parcel], Urgency::Now);
                    }
                }
                Parcel::Counted(round, load) => {
                    if let Some(system) = &mut self.system {
                        system.handle_load(round, *load);
                    }
                }
                Parcel::Looped(link) => self.cut_loop(now, link),
                // Done above.
                Parcel::Accounts => {}
            }
        }
        self.settle(now);
    }

    /// Leaves what waits for another thread in its inbox.
    fn hand_over(&mut self, to: usize, sibling: LinkId) {
        let shard = self.base.shard_mut();
        let mut siblings = self.siblings.iter().flatten();
        let notable = shard.high_water() / NOTABLE;
        let waits = siblings.any(|sibling| shard.pending(*sibling) > notable);
        let chunks = shard.lend(sibling);
        let (Some(chunks), Some(theirs), Some(ours)) = (
            chunks,
            self.common.inboxes.get(to),
            self.common.inboxes.get(self.number),
        ) else {
            return;
        };
        ours.set_waiting(waits);
        theirs.put(self.number, chunks.map(Parcel::Lent), Urgency::Now);
    }

    /// After input: what leafs have said of themselves.
    fn settle(&mut self, now: Instant) {
        self.base.settle(now);
        while let Some(link) = self.base.poll_joined() {
            self.note_leaf(now, link);
            if let Some(system) = &mut self.system {
                system.note_joined(now, self.base.shard_mut(), link);
            }
        }
        while let Some((link, reply)) = self.base.poll_asked() {
            if let Some(system) = &self.system {
                system.tell_user(now, self.base.shard_mut(), link, &reply);
            }
        }
        while let Some(sample) = self.base.poll_measured() {
            self.tell_latency(now, sample);
        }
        self.advance_system(now);
    }

    /// Tells what a request to a service came to, in the thread that knows who answered it.
    fn tell_latency(&mut self, now: Instant, sample: Box<Sample>) {
        let beside = match sample.outcome {
            Outcome::Answered(responder) => responder.beside,
            _ => None,
        };
        let thread = self
            .siblings
            .iter()
            .position(|it| beside.is_some() && *it == beside);
        match (thread, &self.system) {
            (Some(thread), _) => self.hand(thread, Parcel::Answered(sample)),
            (None, Some(system)) => system.tell_latency(now, self.base.shard_mut(), &sample),
            (None, None) => {}
        }
    }

    /// Says and answers what there is in the system account; what happened in other threads than the
    /// first goes there.
    fn advance_system(&mut self, now: Instant) {
        let Some(system) = &mut self.system else {
            return;
        };
        if !system.is_first() {
            let happened = system.take_happened();
            if let Some(first) = self.common.inboxes.first()
                && !happened.is_empty()
            {
                let parcels = happened.into_iter().map(Box::new).map(Parcel::Happened);
                first.put(self.number, parcels, Urgency::Now);
            }
            return;
        }
        let Some(round) = system.advance(now, self.base.shard_mut()) else {
            return;
        };
        for (number, inbox) in self.common.inboxes.iter().enumerate() {
            if number != self.number {
                inbox.put(self.number, [Parcel::Count(round)], Urgency::Now);
            }
        }
    }

    /// Whether something came where nothing is settled: behind a proof, or when a producer may go on.
    fn is_unsettled(&self) -> bool {
        let mail = self.base.shard().own().and_then(Peer::system);
        self.base.has_notes() || mail.is_some_and(Internal::has_mail)
    }

    fn note_leaf(&mut self, now: Instant, link: LinkId) {
        let place = self.base.shard().neighbour(link).and_then(|peer| {
            let leaf = peer.leaf()?;
            Place::of(leaf.account(), peer)
        });
        let common = self.common.clone();
        let mut others = common.others();
        if let Some(place) = place {
            if others.above.values().any(|above| *above == place) {
                drop(others);
                return self.cut_loop(now, link);
            }
            others.below.insert((self.number, link), place);
        }
        let Some(identity) = self.identity(link) else {
            return;
        };
        let older = others.leafs.insert(identity, (self.number, link));
        drop(others);
        match older {
            None => {}
            Some((thread, link)) if thread == self.number => self.supersede(now, link),
            Some((thread, link)) => self.hand(thread, Parcel::Superseded(link)),
        }
    }

    /// After input from a hub: once both sides know what the other wants, a leaf that is the same server
    /// has to go. The other way round it is that server that finds us among its leafs.
    fn note_hub(&mut self, now: Instant, link: LinkId) {
        let Some(peer) = self.base.shard().neighbour(link) else {
            return;
        };
        let Some(hub) = Peers::hub(peer).filter(|hub| hub.is_synced()) else {
            return;
        };
        if self.hubs.contains(&link) {
            return;
        }
        let account = self
            .base
            .uplinks()
            .get(hub.number())
            .map(|uplink| uplink.account.as_str().into());
        let place = account.and_then(|account| Place::of(&account, peer));
        self.hubs.push(link);
        let Some(place) = place else {
            return;
        };
        let mut others = self.common.others();
        let below = others.below.iter().filter(|(_, below)| **below == place);
        let below: Vec<(usize, LinkId)> = below.map(|(link, _)| *link).collect();
        others.above.insert(link, place);
        drop(others);
        for (thread, link) in below {
            if thread == self.number {
                self.cut_loop(now, link);
            } else {
                self.hand(thread, Parcel::Looped(link));
            }
        }
    }

    /// A link is gone.
    fn forget(&mut self, link: LinkId) {
        // Ids of links are those of one thread, and only one has links to hubs.
        if let Some(at) = self.hubs.iter().position(|hub| *hub == link) {
            self.hubs.swap_remove(at);
            self.common.others().above.remove(&link);
            return;
        }
        let peer = self.base.shard().neighbour(link);
        if peer.and_then(Peer::leaf).is_none() {
            return;
        }
        let identity = self.identity(link);
        let mut others = self.common.others();
        let link = (self.number, link);
        others.below.remove(&link);
        if let Some(identity) = identity
            && others.leafs.get(&identity) == Some(&link)
        {
            others.leafs.remove(&identity);
        }
    }

    /// Leaves something for another thread.
    fn hand(&self, thread: usize, parcel: Parcel) {
        if let Some(theirs) = self.common.inboxes.get(thread) {
            theirs.put(self.number, [parcel], Urgency::Now);
        }
    }

    fn cut_loop(&mut self, now: Instant, link: LinkId) {
        let Some(leaf) = self.base.shard().neighbour(link).and_then(Peer::leaf) else {
            return;
        };
        let account = leaf.account().as_bytes().into();
        let error = ProtoError::LoopDetected { account };
        log::error!(
            "{} - {error}: this server has dialled that one, too",
            leaf.label()
        );
        self.base.shard_mut().refuse(now, link, &error);
    }

    fn identity(&self, link: LinkId) -> Option<Identity> {
        let leaf = self.base.shard().neighbour(link)?.leaf()?;
        Identity::of(leaf.leaf(), leaf.account())
    }

    fn supersede(&mut self, now: Instant, link: LinkId) {
        if let Some(leaf) = self.base.shard().neighbour(link) {
            log::warn!("{} - {}", leaf.label(), ProtoError::DuplicateLink.reason());
        }
        let shard = self.base.shard_mut();
        shard.refuse(now, link, &ProtoError::DuplicateLink);
    }
}

impl Host for Node {
    type Peers = Peer;

    fn node(&mut self) -> &mut Base<Peer> {
        &mut self.base
    }

    fn handle_verified(&mut self, now: Instant, link: LinkId, verdict: Result<Verdict, AuthError>) {
        self.catch_up(now);
        self.base.handle_proof(now, link, Proof::Verified(verdict));
        self.settle(now);
    }
}

impl Engine for Node {
    type Id = LinkId;

    fn read_slot<'a>(&'a mut self, id: LinkId, shared: &'a mut [u8]) -> &'a mut [u8] {
        self.base.read_slot(id, shared)
    }

    fn handle_read(&mut self, now: Instant, id: LinkId, shared: &[u8], count: usize) {
        self.take_in(now);
        self.base.handle_read(now, id, shared, count);
        self.note_hub(now, id);
        self.settle(now);
    }

    fn wants(&self, id: LinkId) -> Wants {
        self.base.wants(id)
    }

    fn take_unread(&mut self, id: LinkId) -> Vec<u8> {
        self.base.take_unread(id)
    }

    fn handle_upgraded(&mut self, now: Instant, id: LinkId, secured: Secured) {
        self.base.handle_upgraded(now, id, secured);
        self.settle(now);
    }

    fn encoding(&self, id: LinkId) -> Encoding {
        self.base.encoding(id)
    }

    fn poll_transmit<'a>(&'a self, id: LinkId, plan: &mut WritePlan<'a>) {
        self.base.poll_transmit(id, plan);
    }

    fn handle_transmitted(&mut self, now: Instant, id: LinkId, count: usize) {
        self.base.handle_transmitted(now, id, count);
    }

    fn handle_blocked(&mut self, now: Instant, id: LinkId) {
        self.base.handle_blocked(now, id);
    }

    fn explain(&self, id: LinkId, error: &io::Error) -> String {
        let leaf = self.base.shard().neighbour(id).and_then(Peer::leaf);
        match leaf.filter(|leaf| leaf.is_securing()) {
            Some(leaf) => {
                let words = explain::tls(error);
                log::error!("{} - TLS handshake error: {words}", leaf.label());
                ProtoError::HandshakeFailed.reason().into()
            }
            None => self.base.explain(id, error),
        }
    }

    fn farewell(&self, id: LinkId) -> Option<websocket::Farewell> {
        self.base.shard().neighbour(id)?.farewell().cloned()
    }

    fn handle_closed(&mut self, now: Instant, id: LinkId, cause: &str) {
        self.forget(id);
        if let Some(system) = &mut self.system {
            system.note_closed(now, self.base.shard_mut(), id, cause);
        }
        self.base.handle_closed(now, id, cause);
        self.settle(now);
    }

    fn poll_wake(&mut self) -> Option<LinkId> {
        loop {
            let id = self.base.poll_wake()?;
            let to = self.siblings.iter().position(|link| *link == Some(id));
            match to {
                Some(to) => self.hand_over(to, id),
                None if self.base.shard().is_own(id) => {}
                None => return Some(id),
            }
        }
    }

    fn has_events(&self) -> bool {
        self.base.has_events()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.is_unsettled() {
            return Some(Instant::ZERO);
        }
        let system = self.system.as_ref().and_then(System::poll_timeout);
        [self.base.poll_timeout(), system]
            .into_iter()
            .flatten()
            .min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.base.handle_timeout(now);
        self.settle(now);
    }
}
