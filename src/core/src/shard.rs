//! All links of one thread and what they say to each other.
//!
//! The methods are of four kinds: `handle_*` takes input (bytes, time, ends, proofs), `poll_*` gives
//! output (bytes, wake-ups, events, the next deadline), the rest asks or changes. After any
//! `handle_*`, drain [`Shard::poll_wake`] and [`Shard::poll_event`], then look at
//! [`Shard::poll_timeout`] again.

mod route;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};
use std::hash::BuildHasher;

use crate::auth::users::SlowCheck;
use crate::config::model::GLOBAL_ACCOUNT;
use crate::interest::{Interest, Reach, SubId};
use crate::link::queue::{OutQueue, Pool, WritePlan};
use crate::link::{Action, Body, Cx, Env, LinkId, Neighbour, Offer, Outlet, Proof, Role};
use crate::random::{self, Entropy, Random};
use crate::slab::{NONE, Slab};
use crate::time::Instant;
use crate::wire::error::ProtoError;
use crate::wire::parse::Parsed;
use route::Scratch;

/// A subscriber that takes nothing for this long no longer holds its producers back; from then on
/// it is dropped at `max_pending` or at the write deadline. Long enough for a lossy radio link to
/// repeat a packet, short enough that others hardly notice.
pub const PATIENCE: Duration = Duration::from_millis(250);

/// A client whose subscriber has more than this waiting is not read from (three quarters of
/// `max_pending` where that is less), until half of it is left.
pub const HIGH_WATER: usize = 1 << 20;

/// How long a link that is being closed may take to accept its last bytes.
const FAREWELL: Duration = Duration::from_secs(2);

/// Something for the role to do or to know.
#[derive(Debug)]
pub enum Event {
    /// Run it away from this thread and bring the result with [`Shard::handle_proof`].
    Verify {
        /// For this link.
        link: LinkId,
        /// The work.
        check: SlowCheck,
    },
    /// Sign the nonce with the remote's credentials and bring the result with
    /// [`Shard::handle_proof`].
    Sign {
        /// For this link.
        link: LinkId,
        /// The remote's place in the configuration.
        remote: usize,
        /// What to sign.
        nonce: Box<[u8]>,
    },
    /// The hub named addresses it can be reached at.
    Discovered {
        /// The remote's place in the configuration.
        remote: usize,
        /// `host:port` each.
        addresses: Vec<String>,
    },
    /// The link is up.
    Synced {
        /// The link.
        link: LinkId,
        /// The remote's place in the configuration.
        remote: usize,
    },
}

/// What a driver shall do with a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    /// Read when something is there.
    pub read: bool,
    /// Write what [`Shard::poll_transmit`] gives.
    pub write: bool,
    /// Close: at once, or when nothing is left to write.
    pub close: bool,
}

#[derive(Debug)]
struct Account {
    interest: Interest,
    /// Leaf links that are to know of its interest.
    leafs: Vec<u32>,
    loop_name: Arc<str>,
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
    /// When the peer last took bytes, or was first given some.
    progress: Instant,
    /// The earliest entry of it in the heap of timers.
    armed: Instant,
    /// Producers that wait for it to drain.
    holds: Vec<LinkId>,
    /// Consumers it waits for.
    held_by: u32,
    woken: bool,
    blocked: bool,
    suspended: bool,
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

/// What has arrived of an operation that is not complete. Idle and between operations: nothing.
#[derive(Debug, Default)]
struct Input {
    partial: Vec<u8>,
    /// Bytes of `partial` that are filled, when it has been sized for a large payload.
    filled: usize,
    /// Parsing is pointless before there are so many.
    need: usize,
}

/// All links of one thread.
#[derive(Debug)]
pub struct Shard<N> {
    env: Env,
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
    timers: BinaryHeap<Reverse<(Instant, u32, u32)>>,
    turn: u32,
    clients: usize,
    sequence: u64,
    scratch: Scratch,
}

/// A source of secrets shows nothing of itself.
struct Opaque(Box<dyn Entropy>);

impl std::fmt::Debug for Opaque {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entropy")
    }
}

impl<N: Neighbour> Shard<N> {
    /// A shard with `$G` and the named accounts.
    pub fn new<'a>(
        env: Env,
        accounts: impl IntoIterator<Item = &'a str>,
        mut entropy: Box<dyn Entropy>,
    ) -> Self {
        let mut seed = [0; 8];
        entropy.fill(&mut seed);
        let mut random = Random::new(u64::from_le_bytes(seed));
        let hasher = FixedState::with_seed(random.draw());
        let mut shard = Shard {
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
            timers: BinaryHeap::new(),
            turn: 0,
            clients: 0,
            sequence: 0,
            scratch: Scratch::default(),
        };
        for name in std::iter::once(GLOBAL_ACCOUNT).chain(accounts) {
            if shard.by_name.contains_key(name) {
                continue;
            }
            let name: Arc<str> = name.into();
            let loop_name = format!("$LDS.{}", random::name::<22>(&mut *shard.entropy.0));
            shard
                .by_name
                .insert(name.clone(), shard.accounts.len() as u32);
            let seed = shard.random.draw();
            shard.accounts.push(Account {
                interest: Interest::new(seed),
                leafs: Vec::new(),
                loop_name: loop_name.into(),
            });
        }
        shard
    }

    /// What all links share.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Clients connected.
    pub fn clients(&self) -> usize {
        self.clients
    }

    /// All links.
    pub fn links(&self) -> Vec<LinkId> {
        self.links
            .iter()
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
        if neighbour.standing().reach == Reach::Local {
            self.clients += 1;
        }
        let place = self.links.insert(Link {
            neighbour,
            turn,
            account: NONE,
            out: OutQueue::default(),
            input: Input::default(),
            subs: HashTable::new(),
            mark: 0,
            progress: now,
            armed: Instant::from_nanos(u64::MAX),
            holds: Vec::new(),
            held_by: 0,
            woken: false,
            blocked: false,
            suspended: false,
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
            return input.partial.get_mut(input.filled..).unwrap_or_default();
        }
        let have = input.partial.len();
        if have == 0 {
            return shared;
        }
        if input.need > shared.len() / 2 || have > shared.len() / 2 {
            // A large payload: read the rest of it where it is put together.
            input.filled = have;
            input.partial.resize(input.need.max(have + 1), 0);
            return input.partial.get_mut(have..).unwrap_or_default();
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
        let mut used = 0;
        let mut need = 0;
        while used < bytes.len() {
            let Some(link) = self.links.get(place) else {
                return;
            };
            if link.ending.is_some() {
                return;
            }
            if link.suspended {
                need = bytes.len() - used;
                break;
            }
            let rest = bytes.get(used..).unwrap_or_default();
            match link.neighbour.parse(rest, &self.env) {
                Ok(Parsed::Op { op, len }) => {
                    used += len;
                    self.act_with(place, |neighbour, cx| neighbour.handle(op, cx));
                }
                Ok(Parsed::Incomplete { need: more }) => {
                    need = more;
                    break;
                }
                Err(error) => {
                    self.fail(place, &error);
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

    /// After input of a link: neighbours hear of changed interest, its timer is right.
    fn finish_batch(&mut self, place: u32) {
        let account = self.links.get(place).map_or(NONE, |link| link.account);
        self.show_changes(account);
        self.settle(place);
    }

    /// Lets the neighbour at `place` handle something and does what it asks for.
    #[inline]
    fn act_with<'a>(
        &mut self,
        place: u32,
        handle: impl FnOnce(&mut N, &mut Cx<'_>) -> Result<Action<'a>, ProtoError>,
    ) {
        let Some(link) = self.links.get_mut(place) else {
            return;
        };
        let mut cx = Cx {
            now: self.now,
            link: LinkId {
                place,
                turn: link.turn,
            },
            env: &self.env,
            clients: self.clients,
            subscriptions: link.subs.len(),
            random: &mut self.random,
            entropy: &mut *self.entropy.0,
            events: &mut self.events,
            queue: &mut link.out,
            pool: &mut self.pool,
        };
        match handle(&mut link.neighbour, &mut cx) {
            Ok(Action::Done) => {}
            Ok(Action::Publish {
                message,
                wants_no_responders,
            }) => {
                self.publish(place, &message, wants_no_responders);
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
                self.publish(place, &message, wants_no_responders);
            }
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
    }

    fn join(&mut self, place: u32, account: &str) {
        self.leave(place);
        let Some(at) = self.by_name.get(account).copied() else {
            log::error!("account {account:?} of a user does not exist");
            return self.fail(place, &ProtoError::AuthorizationViolation);
        };
        if let Some(link) = self.links.get_mut(place) {
            link.account = at;
        }
    }

    fn attach(&mut self, place: u32, account: &str, unsaid: &[&[u8]]) {
        self.join(place, account);
        let Some(link) = self.links.get(place) else {
            return;
        };
        let Some(account) = self.accounts.get_mut(link.account as usize) else {
            return;
        };
        account.leafs.push(place);
        for subject in unsaid {
            self.want(place, subject, None);
        }
        // The name for loop detection goes first: a loop is then cut before the rest is sent.
        if let Some(link) = self.links.get_mut(place)
            && let Some(account) = self.accounts.get(link.account as usize)
        {
            let name = account.loop_name.clone();
            crate::wire::write::interest(link.out.buffer(&mut self.pool), name.as_bytes(), None);
        }
        self.offer_all(place);
        if let Some(link) = self.links.get_mut(place) {
            let out = link.out.buffer(&mut self.pool);
            out.extend_from_slice(crate::wire::write::PING);
        }
    }

    /// Takes away all that a link subscribed to.
    fn leave(&mut self, place: u32) {
        let Some(link) = self.links.get_mut(place) else {
            return;
        };
        let at = std::mem::replace(&mut link.account, NONE);
        let subs = std::mem::take(&mut link.subs);
        let Some(account) = self.accounts.get_mut(at as usize) else {
            return;
        };
        account.leafs.retain(|leaf| *leaf != place);
        for id in subs {
            account.interest.remove(id);
        }
        self.show_changes(at);
    }

    fn sid_hash(&self, sid: &[u8]) -> u64 {
        self.hasher.hash_one(sid)
    }

    fn find_sub(&self, place: u32, sid: &[u8]) -> Option<SubId> {
        let link = self.links.get(place)?;
        let interest = &self.accounts.get(link.account as usize)?.interest;
        link.subs
            .find(self.sid_hash(sid), |id| {
                interest
                    .sub(*id)
                    .is_some_and(|sub| sub.sid.as_bytes() == sid)
            })
            .copied()
    }

    fn subscribe(
        &mut self,
        place: u32,
        subject: &[u8],
        queue: Option<&[u8]>,
        sid: &[u8],
        filtered: bool,
    ) {
        // A second SUB of a live sid is acknowledged and ignored.
        if self.find_sub(place, sid).is_some() {
            return;
        }
        let hash = self.sid_hash(sid);
        let Some(link) = self.links.get_mut(place) else {
            return;
        };
        let Some(account) = self.accounts.get_mut(link.account as usize) else {
            return;
        };
        let id = account
            .interest
            .add(subject, queue, Reach::Local, place, sid);
        if filtered && let Some(sub) = account.interest.sub_mut(id) {
            sub.filtered = true;
        }
        let (interest, hasher) = (&account.interest, &self.hasher);
        link.subs.insert_unique(hash, id, |id| {
            interest
                .sub(*id)
                .map_or(0, |sub| hasher.hash_one(sub.sid.as_bytes()))
        });
    }

    fn unsubscribe(&mut self, place: u32, sid: &[u8], max: Option<u64>) {
        let Some(id) = self.find_sub(place, sid) else {
            return;
        };
        let account = self.links.get(place).map_or(NONE, |link| link.account);
        let Some(account) = self.accounts.get_mut(account as usize) else {
            return;
        };
        if let Some(max) = max
            && let Some(sub) = account.interest.sub_mut(id)
            && sub.delivered < max
        {
            sub.max = max;
            return;
        }
        self.end_sub(place, id);
    }

    /// Ends a client's subscription.
    fn end_sub(&mut self, place: u32, id: SubId) {
        let Some(link) = self.links.get_mut(place) else {
            return;
        };
        let Some(account) = self.accounts.get_mut(link.account as usize) else {
            return;
        };
        let Some(sub) = account.interest.remove(id) else {
            return;
        };
        let hash = self.hasher.hash_one(sub.sid.as_bytes());
        if let Ok(found) = link.subs.find_entry(hash, |other| *other == id) {
            found.remove();
        }
    }

    /// A leaf's keys are found by what they name.
    fn key_hash(&self, subject: &[u8], queue: Option<&[u8]>) -> u64 {
        self.hasher.hash_one((subject, queue))
    }

    fn find_key(&self, place: u32, subject: &[u8], queue: Option<&[u8]>) -> Option<SubId> {
        let link = self.links.get(place)?;
        let interest = &self.accounts.get(link.account as usize)?.interest;
        link.subs
            .find(self.key_hash(subject, queue), |id| {
                interest.sub(*id).is_some_and(|sub| {
                    interest
                        .entry(sub.entry)
                        .is_some_and(|entry| *entry.subject == *subject)
                        && interest.group_name(sub.group) == queue
                })
            })
            .copied()
    }

    fn want(&mut self, place: u32, subject: &[u8], queue: Option<(&[u8], u32)>) {
        let name = queue.map(|(name, _)| name);
        let weight = queue.map_or(1, |(_, weight)| weight);
        let known = self.find_key(place, subject, name);
        let hash = self.key_hash(subject, name);
        let Some(link) = self.links.get_mut(place) else {
            return;
        };
        let Some(account) = self.accounts.get_mut(link.account as usize) else {
            return;
        };
        if let Some(id) = known {
            return account.interest.set_weight(id, weight);
        }
        let id = account
            .interest
            .add(subject, name, Reach::Distant, place, &[]);
        account.interest.set_weight(id, weight);
        let (interest, hasher) = (&account.interest, &self.hasher);
        link.subs.insert_unique(hash, id, |id| {
            interest.sub(*id).map_or(0, |sub| {
                let subject = interest
                    .entry(sub.entry)
                    .map_or(&[][..], |entry| &entry.subject);
                hasher.hash_one((subject, interest.group_name(sub.group)))
            })
        });
    }

    fn unwant(&mut self, place: u32, subject: &[u8], queue: Option<&[u8]>) {
        let Some(id) = self.find_key(place, subject, queue) else {
            return;
        };
        let hash = self.key_hash(subject, queue);
        let Some(link) = self.links.get_mut(place) else {
            return;
        };
        if let Ok(found) = link.subs.find_entry(hash, |other| *other == id) {
            found.remove();
        }
        if let Some(account) = self.accounts.get_mut(link.account as usize) {
            account.interest.remove(id);
        }
    }

    /// Tells the leaf links of an account what changed since they were last told.
    fn show_changes(&mut self, at: u32) {
        let Some(account) = self.accounts.get_mut(at as usize) else {
            return;
        };
        if !account.interest.has_changes() {
            return;
        }
        let leafs = account.leafs.clone();
        let changes = account.interest.take_changes();
        for entry in &changes {
            for place in &leafs {
                self.offer(*place, *entry);
            }
            if let Some(account) = self.accounts.get_mut(at as usize) {
                account.interest.forget_empty(*entry);
            }
        }
        for place in leafs {
            self.touch(place);
        }
    }

    /// Compares all interest of the account with what a leaf link has been told.
    fn offer_all(&mut self, place: u32) {
        let Some(link) = self.links.get(place) else {
            return;
        };
        let Some(account) = self.accounts.get(link.account as usize) else {
            return;
        };
        for entry in account.interest.entry_ids() {
            self.offer(place, entry);
        }
        self.touch(place);
    }

    /// Words one subject for one leaf link: what clients and other leafs want, as far as the link
    /// may know (leaf protocol, interest propagation).
    fn offer(&mut self, place: u32, id: crate::interest::EntryId) {
        let Some(link) = self.links.get(place) else {
            return;
        };
        let Some(account) = self.accounts.get(link.account as usize) else {
            return;
        };
        let Some(entry) = account.interest.entry(id) else {
            return;
        };
        let to = link.neighbour.standing();
        let loop_detection = entry.subject.starts_with(b"$LDS.");
        let counts = |id: &SubId| {
            let Some(sub) = account.interest.sub(*id) else {
                return 0;
            };
            let Some(from) = self.links.get(sub.link) else {
                return 0;
            };
            let standing = from.neighbour.standing();
            let travels = sub.link != place
                && !to.isolated
                && (standing.cluster == 0 || standing.cluster != to.cluster)
                && (standing.role != Role::Upstream
                    || to.role == Role::Downstream
                    || loop_detection);
            if travels { sub.weight } else { 0 }
        };
        let plain = !entry.plain.local().is_empty()
            || entry.plain.distant().iter().any(|id| counts(id) > 0);
        let mut groups: heapless::Vec<(&[u8], u32), 8> = heapless::Vec::new();
        let mut many = Vec::new();
        for group in entry.groups() {
            let Some(name) = account.interest.group_name(group.id) else {
                continue;
            };
            let distant: u32 = group
                .members
                .distant()
                .iter()
                .map(counts)
                .fold(0, u32::saturating_add);
            let weight = (group.members.local().len() as u32).saturating_add(distant);
            if weight > 0
                && let Err(spilled) = groups.push((name, weight))
            {
                many.push(spilled);
            }
        }
        let groups: &[(&[u8], u32)] = if many.is_empty() {
            &groups
        } else {
            many.extend_from_slice(&groups);
            &many
        };
        let subject = entry.subject.clone();
        let offer = Offer {
            entry: id,
            subject: &subject,
            plain,
            groups,
        };
        let Some(link) = self.links.get_mut(place) else {
            return;
        };
        let mut outlet = Outlet {
            now: self.now,
            queue: &mut link.out,
            pool: &mut self.pool,
            body: &Body::default(),
        };
        link.neighbour.offer(&offer, &mut outlet);
    }

    /// A peer broke the protocol: it is told why, and closed unless the error is a mild one.
    fn fail(&mut self, place: u32, error: &ProtoError) {
        let Some(link) = self.links.get_mut(place) else {
            return;
        };
        if error.text().is_some() {
            error.write(link.out.buffer(&mut self.pool));
        }
        if error.closes() {
            // In the words of the error for whoever reads the log.
            self.end(place, error.reason(), false);
        }
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
    }

    /// The connection is gone. Gives back what was at its other end.
    pub fn handle_closed(&mut self, now: Instant, id: LinkId, cause: &str) -> Option<N> {
        self.now = now;
        self.link(id)?;
        self.end(id.place, cause, true);
        let link = self.links.remove(id.place)?;
        if link.neighbour.standing().reach == Reach::Local {
            self.clients -= 1;
        }
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

    /// What a driver shall do with a link. A link that is gone is to be closed.
    #[inline]
    pub fn wants(&self, id: LinkId) -> Wants {
        let Some(link) = self.link(id) else {
            return Wants {
                read: false,
                write: false,
                close: true,
            };
        };
        let empty = link.out.is_empty();
        match link.ending {
            None => Wants {
                read: link.held_by == 0 && !link.suspended,
                write: !empty,
                close: false,
            },
            Some(ending) => {
                let close = ending.abrupt || empty || self.now >= ending.until;
                Wants {
                    read: false,
                    write: !close,
                    close,
                }
            }
        }
    }

    /// The pieces of the next write to a link.
    pub fn poll_transmit<'a>(&'a self, id: LinkId, plan: &mut WritePlan<'a>) {
        if let Some(link) = self.link(id) {
            link.out.plan(plan);
        }
    }

    /// `count` bytes were written.
    pub fn handle_transmitted(&mut self, now: Instant, id: LinkId, count: usize) {
        self.now = now;
        let Some(link) = self
            .links
            .get_mut(id.place)
            .filter(|link| link.turn == id.turn)
        else {
            return;
        };
        link.out.advance(count, &mut self.pool);
        link.blocked = false;
        if count > 0 {
            link.progress = now;
        }
        if !link.holds.is_empty() && link.out.len() <= self.high_water() / 2 {
            self.release_held(id.place);
        }
    }

    /// The socket takes no more for now.
    pub fn handle_blocked(&mut self, now: Instant, id: LinkId) {
        self.now = now;
        let Some(link) = self
            .links
            .get_mut(id.place)
            .filter(|link| link.turn == id.turn)
        else {
            return;
        };
        if !std::mem::replace(&mut link.blocked, true) {
            let until = link.progress + self.env.limits.write_deadline;
            self.arm(id.place, until);
        }
    }

    /// A link that has something to write, may be read from again, or is to be closed. Each is
    /// named once, however much was queued for it since the last call.
    pub fn poll_wake(&mut self) -> Option<LinkId> {
        loop {
            let place = self.wakes.pop()?;
            if let Some(link) = self.links.get_mut(place) {
                link.woken = false;
                return Some(LinkId {
                    place,
                    turn: link.turn,
                });
            }
        }
    }

    /// Something for the role.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn high_water(&self) -> usize {
        HIGH_WATER.min(self.env.limits.max_pending / 4 * 3)
    }

    /// Names the link in [`Shard::poll_wake`].
    #[inline]
    fn wake(&mut self, place: u32) {
        if let Some(link) = self.links.get_mut(place)
            && !std::mem::replace(&mut link.woken, true)
        {
            self.wakes.push(place);
        }
    }

    /// Something may have been queued for the link outside of a delivery.
    fn touch(&mut self, place: u32) {
        if let Some(link) = self.links.get_mut(place)
            && !link.out.is_empty()
        {
            if !link.woken && !link.blocked {
                link.progress = self.now;
            }
            self.wake(place);
        }
    }

    /// After the neighbour at `place` handled something: its output and its timer.
    fn settle(&mut self, place: u32) {
        self.touch(place);
        if let Some(link) = self.links.get(place) {
            let at = link.neighbour.poll_timeout();
            self.arm(place, at);
        }
    }

    fn arm(&mut self, place: u32, at: Instant) {
        if let Some(link) = self.links.get_mut(place)
            && at < link.armed
        {
            link.armed = at;
            self.timers.push(Reverse((at, place, link.turn)));
        }
    }

    /// When [`Shard::handle_timeout`] is wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, ..))| *at)
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        while let Some(Reverse((at, place, turn))) = self.timers.peek().copied()
            && at <= now
        {
            self.timers.pop();
            let Some(link) = self.links.get_mut(place).filter(|link| link.turn == turn) else {
                continue;
            };
            if link.armed != at {
                // An earlier deadline took this one's place.
                continue;
            }
            link.armed = Instant::from_nanos(u64::MAX);
            self.handle_link_timeout(place);
        }
    }

    fn handle_link_timeout(&mut self, place: u32) {
        let now = self.now;
        let Some(link) = self.links.get_mut(place) else {
            return;
        };
        if let Some(ending) = link.ending {
            if now >= ending.until {
                self.wake(place);
            } else {
                self.arm(place, ending.until);
            }
            return;
        }
        let stuck = link.progress + PATIENCE;
        if !link.holds.is_empty() {
            if now >= stuck {
                self.release_held(place);
            } else {
                self.arm(place, stuck);
            }
        }
        let Some(link) = self.links.get(place) else {
            return;
        };
        let deadline = link.progress + self.env.limits.write_deadline;
        if link.blocked && now >= deadline {
            log::warn!(
                "Slow Consumer Detected: WriteDeadline of {:?} exceeded with {} total bytes",
                self.env.limits.write_deadline,
                link.out.len(),
            );
            return self.end(place, "Slow Consumer (Write Deadline)", true);
        }
        if link.blocked {
            self.arm(place, deadline);
        }
        self.act_with(place, |neighbour, cx| {
            neighbour.handle_timeout(cx).map(|()| Action::Done)
        });
        self.settle(place);
    }

    /// The producer waits until the consumer has drained, as long as that does drain.
    fn hold(&mut self, producer: u32, consumer: u32) {
        let Some(link) = self.links.get_mut(consumer) else {
            return;
        };
        let stuck = link.progress + PATIENCE;
        if self.now >= stuck {
            return;
        }
        let Some(turn) = self.links.get(producer).map(|link| link.turn) else {
            return;
        };
        let id = LinkId {
            place: producer,
            turn,
        };
        let Some(link) = self.links.get_mut(consumer) else {
            return;
        };
        if link.holds.contains(&id) {
            return;
        }
        link.holds.push(id);
        if let Some(link) = self.links.get_mut(producer) {
            link.held_by += 1;
        }
        self.arm(consumer, stuck);
    }

    /// Nobody waits for this consumer any more.
    fn release_held(&mut self, consumer: u32) {
        let Some(link) = self.links.get_mut(consumer) else {
            return;
        };
        for id in std::mem::take(&mut link.holds) {
            if let Some(link) = self
                .links
                .get_mut(id.place)
                .filter(|link| link.turn == id.turn)
            {
                link.held_by -= 1;
                if link.held_by == 0 {
                    self.wake(id.place);
                }
            }
        }
    }
}
