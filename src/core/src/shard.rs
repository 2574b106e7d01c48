//! All links of one thread and what they say to each other.
//!
//! The methods are of four kinds: `handle_*` takes input (bytes, time, ends, proofs), `poll_*` gives
//! output (bytes, wake-ups, events, the next deadline), the rest asks or changes. After any
//! `handle_*`, drain [`Shard::poll_wake`] and [`Shard::poll_event`], then look at
//! [`Shard::poll_timeout`] again.

mod accounts;
mod flow;
mod interest;
mod latency;
mod route;
mod services;
mod shadows;
mod siblings;
mod system;
mod timers;
mod trace;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};

use crate::account::{self, Rules};
use crate::interest::{Interest, Reach, SubId};
use crate::link::delay::Delay;
use crate::link::queue::{Mark, OutQueue, Pool};
use crate::link::sibling::Crossed;
use crate::link::{Action, Cx, Encoding, Env, Event, LinkId, Neighbour, Proof, Secured, Upgrade};
use crate::random::{Entropy, Random};
use crate::slab::{NONE, Slab};
use crate::time::Instant;
use crate::wall::WallClock;
use crate::wire::error::ProtoError;
use crate::wire::parse::Parsed;
use latency::Measured;
use route::Scratch;
use services::Responses;
use shadows::Shadows;
use siblings::Family;
use system::Own;

pub use accounts::AccountSeed;
pub use system::AccountLoad;

/// A subscriber that takes nothing for this long no longer holds its producers back; from then on
/// it is dropped at `max_pending` or at the write deadline. Long enough for a lossy radio link to
/// repeat a packet, short enough that others hardly notice.
pub const PATIENCE: Duration = Duration::from_millis(250);

/// A client whose subscriber has more than this waiting is not read from (three quarters of
/// `max_pending` where that is less), until half of it is left.
pub const HIGH_WATER: usize = 1 << 20;

/// A large operation is put together in steps of at least twice this size.
const SMALLEST_GROWTH: usize = 32 << 10;

/// How many times `write_deadline` a line to another server may take nothing. A radio link that loses
/// the same packet four times pauses for 20 s by itself, and to lose it costs more than to wait; with
/// the default it is when the system gives the connection up, too.
pub(crate) const DISTANT_DEADLINES: u32 = 3;

/// How long a link that is being closed may take to accept its last bytes.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a driver shall do with a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    /// Read when something is there.
    pub read: bool,
    /// Write what [`Shard::poll_transmit`] gives.
    pub write: bool,
    /// Close: at once, or when nothing is left to write.
    pub close: bool,
    /// Carry the link otherwise from here on: everything before it is written, what was read behind
    /// it is in [`Shard::take_unread`]. Report the end with [`Shard::handle_upgraded`].
    pub upgrade: Option<Upgrade>,
}

#[derive(Debug)]
struct Account {
    name: Arc<str>,
    rules: Arc<Rules>,
    interest: Interest,
    /// Its connections in all shards of the server.
    connections: Arc<Connections>,
    /// Leaf links that are to know of its interest.
    leafs: Vec<u32>,
    loop_name: Arc<str>,
    /// The subscriptions that stand for services that it imports.
    services: Vec<SubId>,
}

/// The connections that an account has.
#[derive(Debug, Default)]
struct Connections {
    clients: AtomicUsize,
    leafs: AtomicUsize,
}

#[derive(Debug)]
struct Link<N> {
    neighbour: N,
    turn: u32,
    account: u32,
    out: OutQueue,
    input: Input,
    subs: HashTable<SubId>,
    /// The last message that was addressed to it as a whole.
    mark: u64,
    /// Bytes that waited when all of our interest had been queued: 0 once it went out.
    snapshot: usize,
    /// When the peer last took bytes, or was first given some.
    progress: Instant,
    /// The earliest entry of it in the heap of timers.
    armed: Instant,
    /// Producers that wait for it to drain.
    holds: Vec<Held>,
    /// Consumers it waits for.
    held_by: u32,
    woken: bool,
    blocked: bool,
    suspended: bool,
    /// How the bytes behind those in `out` are to be carried.
    upgrade: Option<Upgrade>,
    /// Nothing is understood before the peer's bytes are carried anew.
    upgrading: bool,
    /// Something arrived since the last deadline.
    alive: bool,
    delay: Option<Box<Delay>>,
    ending: Option<Ending>,
    traffic: Traffic,
}

/// What came and went over a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages from the peer.
    pub in_msgs: u64,
    /// Their bytes, headers and payload.
    pub in_bytes: u64,
    /// Messages to the peer.
    pub out_msgs: u64,
    /// Their bytes.
    pub out_bytes: u64,
    /// Messages not queued because it was too far behind.
    pub dropped: u64,
}

#[derive(Debug, Clone, Copy)]
struct Ending {
    /// What is queued is not sent.
    abrupt: bool,
    until: Instant,
}

/// A producer that waits for a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    producer: LinkId,
    crossed: Crossed,
}

/// What has arrived of an operation that is not complete. Idle and between operations: nothing.
#[derive(Debug, Default)]
struct Input {
    partial: Vec<u8>,
    /// Bytes of `partial` that are filled, when it has been sized for a large payload.
    filled: usize,
    /// Parsing is pointless before there are so many.
    need: usize,
}

impl Input {
    /// Where the next bytes of a large operation go. Grows with what has come, never more than
    /// twofold: a peer that only announces a payload does not make us hold memory for it.
    fn room(&mut self) -> &mut [u8] {
        if self.filled >= self.partial.len() {
            let twice = self.filled.max(SMALLEST_GROWTH) * 2;
            let size = if self.need > self.filled {
                twice.min(self.need)
            } else {
                twice
            };
            self.partial.resize(size, 0);
        }
        self.partial.get_mut(self.filled..).unwrap_or_default()
    }
}

/// All links of one thread.
#[derive(Debug)]
pub struct Shard<N> {
    env: Arc<Env>,
    now: Instant,
    links: Slab<Link<N>>,
    accounts: Vec<Account>,
    by_name: HashMap<Arc<str>, u32, FixedState>,
    hasher: FixedState,
    pool: Pool,
    random: Random,
    entropy: Opaque,
    events: VecDeque<Event>,
    wakes: Vec<u32>,
    /// Producers that wait no longer, with input that was left when they were held.
    released: Vec<LinkId>,
    timers: BinaryHeap<Reverse<(Instant, u32, u32)>>,
    turn: u32,
    clients: usize,
    /// Clients of all shards of the server.
    all_clients: Arc<AtomicUsize>,
    sequence: u64,
    /// Somebody reads the log at trace level; looked up once a batch.
    tracing: bool,
    /// Lists for one message each: as many as messages are within one another.
    #[allow(
        clippy::vec_box,
        reason = "they are taken and put back for each message"
    )]
    scratch: Vec<Box<Scratch>>,
    family: Family,
    shadows: Shadows,
    responses: Responses,
    measured: Measured,
    /// Accounts whose neighbours have not heard of the last changes.
    stale: Vec<u32>,
    /// Of links that are in no account yet.
    no_rules: Arc<Rules>,
    own: Own,
    /// Of all shards of the server.
    wall: Arc<WallClock>,
}

/// A source of secrets shows nothing of itself.
struct Opaque(Box<dyn Entropy>);

impl std::fmt::Debug for Opaque {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entropy")
    }
}

impl<N: Neighbour> Shard<N> {
    /// A shard with `$G` and the named accounts, which share nothing.
    pub fn new<'a>(
        env: impl Into<Arc<Env>>,
        accounts: impl IntoIterator<Item = &'a str>,
        entropy: Box<dyn Entropy>,
    ) -> Self {
        Shard::with_accounts(env, account::named(accounts), entropy)
    }

    /// A shard with these accounts: those that [`account::compile`](crate::account::compile) gives, whose
    /// numbers rely on the order.
    pub fn with_accounts(
        env: impl Into<Arc<Env>>,
        accounts: Vec<Rules>,
        entropy: Box<dyn Entropy>,
    ) -> Self {
        let mut shard = Shard::bare(env.into(), entropy);
        for rules in accounts {
            let seed = AccountSeed::new(rules.into(), &mut *shard.entropy.0);
            shard.add_account(seed);
        }
        shard.offer_all_services();
        shard
    }

    /// A shard without accounts.
    fn bare(env: Arc<Env>, mut entropy: Box<dyn Entropy>) -> Self {
        let mut seed = [0; 8];
        entropy.fill(&mut seed);
        let mut random = Random::new(u64::from_le_bytes(seed));
        let hasher = FixedState::with_seed(random.draw());
        Shard {
            env,
            now: Instant::ZERO,
            links: Slab::default(),
            accounts: Vec::new(),
            by_name: HashMap::with_hasher(hasher.clone()),
            hasher,
            pool: Pool::default(),
            random,
            entropy: Opaque(entropy),
            events: VecDeque::new(),
            wakes: Vec::new(),
            released: Vec::new(),
            timers: BinaryHeap::new(),
            turn: 0,
            clients: 0,
            all_clients: Arc::default(),
            sequence: 0,
            tracing: false,
            scratch: Vec::new(),
            family: Family::default(),
            shadows: Shadows::default(),
            responses: Responses::default(),
            measured: Measured::default(),
            stale: Vec::new(),
            no_rules: Arc::default(),
            own: Own::default(),
            wall: Arc::default(),
        }
    }

    fn add_account(&mut self, seed: AccountSeed) {
        let AccountSeed {
            rules,
            loop_name,
            connections,
        } = seed;
        let name: Arc<str> = (*rules.name).into();
        self.by_name
            .insert(name.clone(), self.accounts.len() as u32);
        let seed = self.random.draw();
        self.accounts.push(Account {
            name,
            rules,
            interest: Interest::new(seed),
            connections,
            leafs: Vec::new(),
            loop_name,
            services: Vec::new(),
        });
    }

    /// What all links share.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// What the wall clock shows, to be told by the role: now and then, as a clock may be set.
    pub fn wall(&self) -> &WallClock {
        &self.wall
    }

    /// Clients connected to this shard.
    pub fn clients(&self) -> usize {
        self.clients
    }

    /// All links that have a connection.
    pub fn links(&self) -> Vec<LinkId> {
        self.links
            .iter()
            .filter(|(place, _)| !self.family.has(*place) && !self.own.is_at(*place))
            .map(|(place, link)| LinkId {
                place,
                turn: link.turn,
            })
            .collect()
    }

    /// What is at the other end of a link.
    pub fn neighbour(&self, id: LinkId) -> Option<&N> {
        self.link(id).map(|link| &link.neighbour)
    }

    /// What came and went over a link.
    pub fn traffic(&self, id: LinkId) -> Option<Traffic> {
        self.link(id).map(|link| link.traffic)
    }

    /// Whether a link is being closed, or gone.
    pub fn is_ending(&self, id: LinkId) -> bool {
        self.link(id).is_none_or(|link| link.ending.is_some())
    }

    /// Bytes that wait to be written to a link.
    pub fn pending(&self, id: LinkId) -> usize {
        self.link(id).map_or(0, |link| link.out.len())
    }

    /// The account's loop-detection subject; `None` for an account that does not exist.
    pub fn loop_name(&self, account: &str) -> Option<Arc<str>> {
        let at = self.by_name.get(account)?;
        self.accounts
            .get(*at as usize)
            .map(|account| account.loop_name.clone())
    }

    /// Subscriptions and leaf keys of an account: subject, queue group, and how many members.
    pub fn interest(&self, account: &str) -> Vec<(Vec<u8>, Option<Vec<u8>>, usize)> {
        let Some(account) = self
            .by_name
            .get(account)
            .and_then(|at| self.accounts.get(*at as usize))
        else {
            return Vec::new();
        };
        let mut all = Vec::new();
        for id in account.interest.entry_ids() {
            let Some(entry) = account.interest.entry(id) else {
                continue;
            };
            let plain = entry.plain.local().len() + entry.plain.distant().len();
            if plain > 0 {
                all.push((entry.subject.to_vec(), None, plain));
            }
            for group in entry.groups() {
                let members = group.members.local().len() + group.members.distant().len();
                let name = account.interest.group_name(group.id).map(<[u8]>::to_vec);
                all.push((entry.subject.to_vec(), name, members));
            }
        }
        all
    }

    fn link(&self, id: LinkId) -> Option<&Link<N>> {
        self.links.get(id.place).filter(|link| link.turn == id.turn)
    }

    /// A new peer.
    pub fn open(&mut self, now: Instant, neighbour: N) -> LinkId {
        self.now = now;
        self.turn = self.turn.wrapping_add(1);
        let turn = self.turn;
        let most = neighbour.max_queue_time();
        let out = if neighbour.standing().reach == Reach::Local {
            self.clients += 1;
            self.all_clients.fetch_add(1, Ordering::Relaxed);
            OutQueue::default()
        } else {
            OutQueue::fine()
        };
        let place = self.links.insert(Link {
            neighbour,
            turn,
            account: NONE,
            out,
            input: Input::default(),
            subs: HashTable::new(),
            mark: 0,
            snapshot: 0,
            progress: now,
            armed: Instant::NEVER,
            holds: Vec::new(),
            held_by: 0,
            woken: false,
            blocked: false,
            suspended: false,
            upgrade: None,
            upgrading: false,
            alive: false,
            delay: most.map(|most| Box::new(Delay::new(most))),
            ending: None,
            traffic: Traffic::default(),
        });
        self.act_with(place, |neighbour, cx| neighbour.handle_open(cx));
        self.settle(place);
        LinkId { place, turn }
    }

    /// Where to read the next bytes of a link into: `shared`, or a buffer of the link's own while a
    /// large payload is on its way. Report the number with [`Shard::handle_read`] and the same
    /// `shared`. Empty if the link is gone.
    pub fn read_slot<'a>(&'a mut self, id: LinkId, shared: &'a mut [u8]) -> &'a mut [u8] {
        let Some(link) = self
            .links
            .get_mut(id.place)
            .filter(|link| link.turn == id.turn)
        else {
            return &mut [];
        };
        let input = &mut link.input;
        if input.filled > 0 {
            return input.room();
        }
        let have = input.partial.len();
        if have == 0 {
            return shared;
        }
        if input.need > shared.len() / 2 || have > shared.len() / 2 {
            // A large operation: read the rest of it where it is put together.
            input.filled = have;
            return input.room();
        }
        let (front, rest) = shared.split_at_mut(have);
        front.copy_from_slice(&input.partial);
        rest
    }

    /// `count` bytes were read into [`Shard::read_slot`].
    pub fn handle_read(&mut self, now: Instant, id: LinkId, shared: &[u8], count: usize) {
        self.now = now;
        let Some(link) = self
            .links
            .get_mut(id.place)
            .filter(|link| link.turn == id.turn)
        else {
            return;
        };
        link.alive = true;
        let input = &mut link.input;
        if input.filled > 0 {
            input.filled += count;
            if input.filled < input.need {
                return;
            }
            let mut whole = std::mem::take(&mut input.partial);
            whole.truncate(input.filled);
            *input = Input::default();
            self.consume(id.place, &whole);
        } else {
            let have = input.partial.len();
            input.partial = Vec::new();
            input.need = 0;
            self.consume(id.place, shared.get(..have + count).unwrap_or_default());
        }
        self.finish_batch(id.place);
        self.resume_released();
    }

    /// Bytes of a peer, for those who have no buffer to lend.
    pub fn handle_bytes(&mut self, now: Instant, id: LinkId, mut bytes: &[u8]) {
        let mut shared = vec![0; 64 << 10];
        while !bytes.is_empty() {
            let slot = self.read_slot(id, &mut shared);
            let count = slot.len().min(bytes.len());
            if count == 0 {
                return;
            }
            let (head, tail) = bytes.split_at(count);
            if let Some(to) = slot.get_mut(..count) {
                to.copy_from_slice(head);
            }
            bytes = tail;
            self.handle_read(now, id, &shared, count);
        }
    }

    /// All complete operations of `bytes`; the rest is kept.
    fn consume(&mut self, place: u32, bytes: &[u8]) {
        self.tracing = trace::is_on();
        let mut used = 0;
        let mut need = 0;
        while used < bytes.len() {
            let Some(link) = self.links.get(place) else {
                return;
            };
            if link.ending.is_some() {
                return;
            }
            if link.suspended || link.upgrading || link.held_by > 0 {
                need = bytes.len() - used;
                break;
            }
            let rest = bytes.get(used..).unwrap_or_default();
            // An operation is larger than what it is about: it stays where the parser put it.
            match &link.neighbour.parse(rest, &self.env) {
                Ok(Parsed::Op { op, len }) => {
                    used += len;
                    if self.tracing {
                        trace::incoming(
                            &link.neighbour.label(),
                            rest.get(..*len).unwrap_or_default(),
                        );
                    }
                    self.act_with(place, |neighbour, cx| neighbour.handle(op, cx));
                }
                Ok(Parsed::Incomplete { need: more }) => {
                    need = *more;
                    break;
                }
                Err(error) => {
                    self.fail(place, error);
                    return;
                }
            }
        }
        if let Some(link) = self.links.get_mut(place)
            && used < bytes.len()
        {
            link.input.partial = bytes.get(used..).unwrap_or_default().to_vec();
            link.input.need = need;
        }
    }

    /// After input of a link: neighbours hear of changed interest, its timer is right, and what it
    /// is owed is within bounds.
    fn finish_batch(&mut self, place: u32) {
        let account = self.links.get(place).map_or(NONE, |link| link.account);
        self.show_changes(account);
        self.settle(place);
        self.check_backlogs(place, account);
    }

    /// The neighbour at `place`, what it needs to handle something, and where its output ends now.
    #[inline]
    fn visit(&mut self, place: u32) -> Option<(&mut N, Cx<'_>, Mark)> {
        let link = self.links.get_mut(place)?;
        let rules = match self.accounts.get(link.account as usize) {
            Some(account) => &account.rules,
            None => &self.no_rules,
        };
        let mark = link.out.mark();
        let cx = Cx {
            now: self.now,
            rules,
            link: LinkId {
                place,
                turn: link.turn,
            },
            env: &self.env,
            clients: self.all_clients.load(Ordering::Relaxed),
            subscriptions: link.subs.len(),
            random: &mut self.random,
            entropy: &mut *self.entropy.0,
            events: &mut self.events,
            queue: &mut link.out,
            pool: &mut self.pool,
        };
        Some((&mut link.neighbour, cx, mark))
    }

    /// Shows what a link has been told since.
    #[inline]
    fn trace_since(&self, place: u32, mark: Mark) {
        if self.tracing
            && let Some(link) = self.links.get(place)
        {
            trace::outgoing(&link.neighbour.label(), &link.out, mark);
        }
    }

    /// Lets the neighbour at `place` handle something; `None` if it is gone.
    fn ask<T>(&mut self, place: u32, handle: impl FnOnce(&mut N, &mut Cx<'_>) -> T) -> Option<T> {
        let (neighbour, mut cx, mark) = self.visit(place)?;
        let result = handle(neighbour, &mut cx);
        self.trace_since(place, mark);
        Some(result)
    }

    /// Lets the neighbour at `place` handle something and does what it asks for.
    ///
    /// For each message: the result stays where it is written, as moving it costs more than what it is
    /// about.
    #[inline]
    fn act_with<'a>(
        &mut self,
        place: u32,
        handle: impl FnOnce(&mut N, &mut Cx<'_>) -> Result<Action<'a>, ProtoError>,
    ) {
        let Some((neighbour, mut cx, mark)) = self.visit(place) else {
            return;
        };
        let result = handle(neighbour, &mut cx);
        self.trace_since(place, mark);
        match result {
            Ok(Action::Done) => {}
            Ok(Action::Publish {
                message,
                wants_no_responders,
            }) => {
                self.publish(place, message, wants_no_responders);
            }
            Ok(Action::Relay { origin, message }) if N::HAS_SIBLINGS => {
                self.relay(place, origin, message);
            }
            Ok(action) => self.act(place, action),
            Err(error) => self.fail(place, &error),
        }
    }

    fn act(&mut self, place: u32, action: Action<'_>) {
        match action {
            Action::Done => {}
            Action::Publish {
                message,
                wants_no_responders,
            } => {
                self.publish(place, message, wants_no_responders);
            }
            Action::Relay { origin, message } if N::HAS_SIBLINGS => {
                self.relay(place, origin, message);
            }
            Action::Ask {
                message,
                wants_no_responders,
            } => self.ask_server(place, message, wants_no_responders),
            Action::Beside(notice) if N::HAS_SIBLINGS => self.note(place, notice),
            Action::Relay { .. } | Action::Beside(_) => {}
            Action::Subscribe {
                subject,
                queue,
                sid,
                filtered,
            } => {
                self.subscribe(place, subject, queue, sid, filtered);
            }
            Action::Unsubscribe { sid, max } => self.unsubscribe(place, sid, max),
            Action::Interest { subject, queue } => self.want(place, subject, queue),
            Action::InterestGone { subject, queue } => self.unwant(place, subject, queue),
            Action::Join { account } => self.join(place, &account),
            Action::Attach { account, unsaid } => self.attach(place, &account, unsaid),
            Action::Reoffer => self.offer_all(place),
            Action::Upgrade(upgrade) => {
                if let Some(link) = self.links.get_mut(place) {
                    link.upgrade = Some(upgrade);
                    link.upgrading = true;
                }
                self.wake(place);
            }
            Action::Verify(check) => {
                if let Some(link) = self.links.get_mut(place) {
                    link.suspended = true;
                    let link = LinkId {
                        place,
                        turn: link.turn,
                    };
                    self.events.push_back(Event::Verify { link, check });
                }
            }
        }
    }

    /// What has been read of a link and belongs to what an [`Upgrade`] begins: called once when it
    /// begins.
    pub fn take_unread(&mut self, id: LinkId) -> Vec<u8> {
        let link = self.links.get_mut(id.place);
        link.filter(|link| link.turn == id.turn)
            .map(|link| {
                link.upgrade = None;
                std::mem::take(&mut link.input).partial
            })
            .unwrap_or_default()
    }

    /// An [`Upgrade`] is done. Where it failed, the connection is of no use:
    /// [`Shard::handle_closed`].
    pub fn handle_upgraded(&mut self, now: Instant, id: LinkId, secured: Secured) {
        self.now = now;
        let Some(link) = self
            .links
            .get_mut(id.place)
            .filter(|link| link.turn == id.turn && link.ending.is_none())
        else {
            return;
        };
        link.upgrading = false;
        link.alive = true;
        self.act_with(id.place, |neighbour, cx| {
            neighbour.handle_upgraded(secured, cx)
        });
        self.finish_batch(id.place);
        self.wake(id.place);
        self.resume_released();
    }

    /// How what is sent to a link is put into blocks and frames.
    pub fn encoding(&self, id: LinkId) -> Encoding {
        self.link(id)
            .map_or(Encoding::default(), |link| link.neighbour.encoding())
    }

    /// The result of an [`Event::Verify`] or [`Event::Sign`].
    pub fn handle_proof(&mut self, now: Instant, id: LinkId, proof: Proof) {
        self.now = now;
        if self.link(id).is_none_or(|link| link.ending.is_some()) {
            return;
        }
        self.act_with(id.place, |neighbour, cx| neighbour.handle_proof(proof, cx));
        if let Some(link) = self.links.get_mut(id.place)
            && std::mem::take(&mut link.suspended)
        {
            // What came meanwhile is handled now, and reading goes on.
            let waiting = std::mem::take(&mut link.input);
            self.consume(id.place, &waiting.partial);
            self.wake(id.place);
        }
        self.finish_batch(id.place);
        self.resume_released();
    }

    /// A peer broke the protocol: it is told why, and closed unless the error is a mild one.
    fn fail(&mut self, place: u32, error: &ProtoError) {
        if error.text().is_some() {
            self.append(place, |out| error.write(out));
        }
        if error.closes() {
            // In the words of the error for whoever reads the log.
            self.end(place, error.reason(), false);
        }
    }

    /// Says something to a peer that is not worded by its neighbour.
    fn append(&mut self, place: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(link) = self.links.get_mut(place) else {
            return;
        };
        let mark = link.out.mark();
        write(link.out.buffer(&mut self.pool));
        self.trace_since(place, mark);
    }

    /// Begins to close a link: its interest ends now, what is queued is still sent unless `abrupt`.
    fn end(&mut self, place: u32, cause: &str, abrupt: bool) {
        let until = self.now + FAREWELL;
        let Some(link) = self.links.get_mut(place) else {
            return;
        };
        if link.ending.is_some() {
            return;
        }
        link.ending = Some(Ending { abrupt, until });
        link.neighbour.note_end(cause);
        link.input = Input::default();
        self.release_held(place);
        self.leave(place);
        self.wake(place);
        self.arm(place, until);
    }

    /// Closes a link in order; what is queued is still sent.
    pub fn close(&mut self, now: Instant, id: LinkId, cause: &str) {
        self.now = now;
        if self.link(id).is_some() {
            self.end(id.place, cause, false);
        }
        self.resume_released();
    }

    /// Tells a peer why it cannot stay, and closes it in order.
    pub fn refuse(&mut self, now: Instant, id: LinkId, error: &ProtoError) {
        self.now = now;
        if self.link(id).is_some_and(|link| link.ending.is_none()) {
            self.fail(id.place, error);
        }
        self.resume_released();
    }

    /// Closes a link that leads nowhere; what is queued is not sent.
    pub fn abandon(&mut self, now: Instant, id: LinkId, cause: &str) {
        self.now = now;
        if self.link(id).is_some() {
            self.end(id.place, cause, true);
        }
        self.resume_released();
    }

    /// The connection is gone. Gives back what was at its other end.
    pub fn handle_closed(&mut self, now: Instant, id: LinkId, cause: &str) -> Option<N> {
        self.now = now;
        self.link(id)?;
        self.end(id.place, cause, true);
        let link = self.links.remove(id.place)?;
        if link.neighbour.standing().reach == Reach::Local {
            self.clients -= 1;
            self.all_clients.fetch_sub(1, Ordering::Relaxed);
        }
        self.resume_released();
        Some(link.neighbour)
    }

    /// Tells all peers that can understand it that this server is about to stop.
    pub fn announce_lame_duck(&mut self, now: Instant) {
        self.now = now;
        for place in self.links.keys() {
            self.act_with(place, |neighbour, cx| {
                neighbour.announce_lame_duck(cx);
                Ok(Action::Done)
            });
            self.touch(place);
        }
    }

    /// Something for the role.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}
