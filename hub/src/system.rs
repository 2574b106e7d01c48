//! What a server says itself: in the system account what happens and what it is asked (system account,
//! events and requests), in others how long their services take.
//!
//! Each thread notes what happens to its own links, as far as somebody wants to hear of it. The first
//! one has the chief, who says all of it, in one order, and answers requests. What needs numbers
//! of all threads waits until each has counted its own: nothing is counted per message for it.

mod chief;
mod json;
mod latency;
mod process;
mod request;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use petiole_core::config::model::GLOBAL_ACCOUNT;
use petiole_core::link::internal::{Internal, Mail};
use petiole_core::link::{LinkId, Neighbour as _, Portrait, Server};
use petiole_core::message::Message;
use petiole_core::shard::{Shard, Traffic};
use petiole_core::time::Instant;
use petiole_core::wall::rfc3339;
use petiole_core::wire::VERSION;
use petiole_core::wire::error::ProtoError;
use petiole_leaf::Peers as _;
use petiole_net::clock::since_1970;

use crate::operator::claims::{ClaimsRequest, Errand, Word};
use crate::peer::Peer;
use chief::{Chief, Desk, Step};
use json::{
    Answer, ClientInfo, Count, Disconnected, Refusal, ServerInfo, UserInfo, UserPermissions,
};
use request::Request;
use smol::channel::Sender;

/// What the names of subscriptions for the resolver begin with.
const CLAIMS: &str = "claims";

/// Something that happened to a link and that somebody wants to hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    /// A client or a leaf has said who it is.
    Connected(ClientInfo),
    /// It is gone.
    Disconnected(Disconnected),
    /// It could not prove who it is.
    Refused(Disconnected),
    /// The number of connections of this account.
    Changed(Arc<str>),
}

/// What the links of some threads come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Load {
    clients: usize,
    total_clients: u64,
    subscriptions: usize,
    slow_consumers: u64,
    client_traffic: Traffic,
    leaf_traffic: Traffic,
    accounts: BTreeMap<Arc<str>, AccountTotals>,
}

/// The same of one account, with what was closed.
#[derive(Clone, Copy, Debug, Default)]
struct AccountTotals {
    clients: usize,
    leafs: usize,
    subscriptions: usize,
    slow_consumers: u64,
    client_traffic: Traffic,
    leaf_traffic: Traffic,
}

impl AccountTotals {
    fn add(&mut self, other: &AccountTotals) {
        self.clients += other.clients;
        self.leafs += other.leafs;
        self.subscriptions += other.subscriptions;
        self.slow_consumers += other.slow_consumers;
        self.client_traffic = self.client_traffic.plus(other.client_traffic);
        self.leaf_traffic = self.leaf_traffic.plus(other.leaf_traffic);
    }
}

impl Load {
    fn add(&mut self, other: Load) {
        self.clients += other.clients;
        self.total_clients += other.total_clients;
        self.subscriptions += other.subscriptions;
        self.slow_consumers += other.slow_consumers;
        self.client_traffic = self.client_traffic.plus(other.client_traffic);
        self.leaf_traffic = self.leaf_traffic.plus(other.leaf_traffic);
        for (account, totals) in other.accounts {
            self.accounts.entry(account).or_default().add(&totals);
        }
    }
}

/// A last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    LameDuck,
    Shutdown,
}

/// What is the same for all threads.
#[derive(Debug)]
struct Identity {
    account: Arc<str>,
    name: String,
    id: String,
    host: String,
    /// Since 1970.
    start: Duration,
    /// Messages that carried a [`ServerInfo`].
    said: AtomicU64,
}

impl Identity {
    fn info(&self) -> ServerInfo<'_> {
        ServerInfo {
            name: &self.name,
            host: &self.host,
            id: &self.id,
            ver: VERSION,
            jetstream: false,
            flags: 0,
            seq: self.said.fetch_add(1, Ordering::Relaxed) + 1,
            time: rfc3339(since_1970()),
        }
    }
}

/// One thread's part of it.
#[derive(Debug)]
pub(crate) struct System {
    server: Arc<Identity>,
    happened: Vec<Happened>,
    /// What links that are gone came to.
    ended: Load,
    chief: Option<Box<Chief>>,
    /// Where requests to the resolver go.
    errands: Option<Sender<Errand>>,
    /// The server has said its last word.
    silent: bool,
}

impl System {
    /// That of the first of `threads` threads, in an account that exists.
    pub(crate) fn first(
        now: Instant,
        account: &str,
        server: &Server,
        shard: &mut Shard<Peer>,
        threads: usize,
    ) -> System {
        let account: Arc<str> = account.into();
        let identity = Identity {
            account: account.clone(),
            name: server.name.clone(),
            id: server.id.clone(),
            host: server.host.clone(),
            start: since_1970(),
            said: AtomicU64::new(0),
        };
        shard.open_own(now, Peer::System(Box::new(Internal::new(account))));
        for (sid, subject) in Request::subscriptions(&identity.id) {
            shard.subscribe_as_server(now, subject.as_bytes(), None, sid.as_bytes());
        }
        shard.answer_clients();
        shard.measure_latency();
        System {
            server: Arc::new(identity),
            happened: Vec::new(),
            ended: Load::default(),
            chief: Some(Box::new(Chief::new(now, threads))),
            errands: None,
            silent: false,
        }
    }

    /// That of a further thread.
    pub(crate) fn another(&self, shard: &mut Shard<Peer>) -> System {
        shard.answer_clients();
        shard.measure_latency();
        System {
            server: self.server.clone(),
            happened: Vec::new(),
            ended: Load::default(),
            chief: None,
            errands: None,
            silent: false,
        }
    }

    /// Has requests to a resolver go to `errands`, of which these are answered.
    pub(crate) fn serve_claims(
        &mut self,
        now: Instant,
        shard: &mut Shard<Peer>,
        requests: &[ClaimsRequest],
        errands: Sender<Errand>,
    ) {
        for (request, number) in ClaimsRequest::ALL.iter().zip(0..) {
            if requests.contains(request) {
                let subject = request.subject().as_bytes();
                let queue = request.queue().map(str::as_bytes);
                let sid = format!("{CLAIMS}{number}");
                shard.subscribe_as_server(now, subject, queue, sid.as_bytes());
            }
        }
        self.errands = Some(errands);
    }

    /// What came for the resolver.
    fn errand(mail: &Mail) -> Option<Errand> {
        let number = std::str::from_utf8(&mail.sid).ok()?.strip_prefix(CLAIMS)?;
        Some(Errand {
            request: *ClaimsRequest::ALL.get(number.parse::<usize>().ok()?)?,
            subject: String::from_utf8_lossy(&mail.subject).into_owned(),
            reply: mail.reply.as_ref().map(|reply| reply.to_vec()),
            body: mail.payload().to_vec(),
        })
    }

    /// Says what a request to the resolver came to.
    pub(crate) fn answer_claims(
        &mut self,
        now: Instant,
        shard: &mut Shard<Peer>,
        reply: &[u8],
        words: Vec<Word>,
    ) {
        let mut desk = Desk {
            now,
            server: &self.server,
            shard,
        };
        let server = &self.server;
        for word in words {
            match word {
                Word::Data(data) => {
                    let server = server.info();
                    desk.say(reply, &Answer { server, data });
                }
                Word::Error(error) => {
                    let server = server.info();
                    desk.say(reply, &Refusal { server, error });
                }
                Word::Raw(body) => desk.say_raw(reply, &body),
            }
        }
    }

    /// A client or a leaf has said who it is.
    pub(crate) fn note_joined(&mut self, now: Instant, shard: &mut Shard<Peer>, link: LinkId) {
        let portrait = shard.neighbour(link).and_then(Peer::portrait);
        let Some(account) = portrait.and_then(|it| it.account).cloned() else {
            return;
        };
        if self.is_wanted(shard, &format!("$SYS.ACCOUNT.{account}.CONNECT"))
            && let Some(portrait) = shard.neighbour(link).and_then(Peer::portrait)
        {
            let client = ClientInfo {
                rtt: None,
                ..describe(&portrait, wall_name(now, shard, portrait.since))
            };
            self.happened.push(Happened::Connected(client));
        }
        self.note_changed(shard, &account);
    }

    /// A link is about to be gone.
    pub(crate) fn note_closed(
        &mut self,
        now: Instant,
        shard: &mut Shard<Peer>,
        link: LinkId,
        cause: &str,
    ) {
        let traffic = shard.traffic(link).unwrap_or_default();
        let Some(peer) = shard.neighbour(link) else {
            return;
        };
        let Some(portrait) = peer.portrait() else {
            // A hub that we dialled.
            self.ended.leaf_traffic = self.ended.leaf_traffic.plus(traffic);
            return;
        };
        let account = portrait.account.cloned();
        let is_client = peer.client().is_some();
        let reason = reason(portrait.ending.unwrap_or(cause));
        let gone = Disconnected {
            client: ClientInfo {
                stop: rfc3339(since_1970()),
                ..describe(&portrait, wall_name(now, shard, portrait.since))
            },
            sent: Count::received(traffic),
            received: Count::sent(traffic),
            reason: reason.to_owned(),
        };
        let is_slow = u64::from(reason.starts_with("Slow Consumer"));
        let mut totals = AccountTotals {
            slow_consumers: is_slow,
            ..AccountTotals::default()
        };
        let (all, its) = if is_client {
            self.ended.total_clients += 1;
            (&mut self.ended.client_traffic, &mut totals.client_traffic)
        } else {
            (&mut self.ended.leaf_traffic, &mut totals.leaf_traffic)
        };
        *all = all.plus(traffic);
        *its = traffic;
        self.ended.slow_consumers += is_slow;
        let refused = reason == ProtoError::AuthorizationViolation.reason();
        let id = &self.server.id;
        let refusals = format!("$SYS.SERVER.{id}.CLIENT.AUTH.ERR");
        if refused && self.is_wanted(shard, &refusals) {
            self.happened.push(Happened::Refused(gone.clone()));
        }
        // A leaf that nobody knows belongs nowhere.
        if account.is_none() && !is_client {
            return;
        }
        if self.is_wanted(
            shard,
            &format!("$SYS.ACCOUNT.{}.DISCONNECT", gone.client.acc),
        ) {
            self.happened.push(Happened::Disconnected(gone));
        }
        if let Some(account) = account {
            let ended = self.ended.accounts.entry(account.clone()).or_default();
            ended.add(&totals);
            self.note_changed(shard, &account);
        }
    }

    fn note_changed(&mut self, shard: &mut Shard<Peer>, account: &Arc<str>) {
        let subjects = conns_subjects(account);
        if **account != *GLOBAL_ACCOUNT && subjects.iter().any(|it| self.is_wanted(shard, it)) {
            self.happened.push(Happened::Changed(account.clone()));
        }
    }

    fn is_wanted(&self, shard: &mut Shard<Peer>, subject: &str) -> bool {
        !self.silent && shard.is_wanted(&self.server.account, subject.as_bytes())
    }

    /// A client asks who it is.
    pub(crate) fn tell_user(
        &self,
        now: Instant,
        shard: &mut Shard<Peer>,
        link: LinkId,
        reply: &[u8],
    ) {
        let Some(account) = shard.account_of(link).cloned() else {
            return;
        };
        let Some(client) = shard.neighbour(link).and_then(Peer::client) else {
            return;
        };
        let identity = client.portrait().and_then(|it| it.identity);
        let session = client.mandate().map(|it| &it.session);
        let answer = Answer {
            server: self.server.info(),
            data: UserInfo {
                user: identity.and_then(|it| it.name()).unwrap_or_default(),
                account: &account,
                account_name: session.map_or(&account, |it| &it.account_name),
                user_name: session.map(|it| &*it.name).filter(|name| !name.is_empty()),
                permissions: client.permissions().map(UserPermissions::of),
            },
        };
        let body = serde_json::to_vec(&answer).unwrap_or_default();
        shard.publish_as_server(now, &account, &Message::new(reply, &body));
    }

    /// What the links of this thread come to.
    pub(crate) fn load(&self, shard: &Shard<Peer>) -> Load {
        let mut load = self.ended.clone();
        load.clients = shard.clients();
        load.total_clients += shard.clients() as u64;
        for account in shard.loads() {
            load.subscriptions += account.subscriptions;
            load.client_traffic = load.client_traffic.plus(account.client_traffic);
            load.leaf_traffic = load.leaf_traffic.plus(account.leaf_traffic);
            let totals = AccountTotals {
                clients: account.clients,
                leafs: account.leafs,
                subscriptions: account.subscriptions,
                slow_consumers: 0,
                client_traffic: account.client_traffic,
                leaf_traffic: account.leaf_traffic,
            };
            load.accounts
                .entry(account.account)
                .or_default()
                .add(&totals);
        }
        load
    }

    /// What happened here, for the chief.
    pub(crate) fn take_happened(&mut self) -> Vec<Happened> {
        std::mem::take(&mut self.happened)
    }

    /// What happened in another thread.
    pub(crate) fn handle_happened(&mut self, happened: Happened) {
        self.happened.push(happened);
    }

    /// What another thread came to.
    pub(crate) fn handle_load(&mut self, round: u64, load: Load) {
        if let Some(chief) = &mut self.chief {
            chief.handle_load(round, load);
        }
    }

    /// Whether the chief is here.
    pub(crate) fn is_first(&self) -> bool {
        self.chief.is_some()
    }

    /// Does what there is to do. Answers the number of a round for which every other thread is to
    /// count what it has.
    pub(crate) fn advance(&mut self, now: Instant, shard: &mut Shard<Peer>) -> Option<u64> {
        let waits = !self.happened.is_empty()
            || (shard.own().and_then(Peer::system)).is_some_and(Internal::has_mail);
        let mut chief = self.chief.take_if(|chief| waits || chief.has_work(now))?;
        let happened = self.take_happened();
        let mail = shard.own_mut().and_then(Peer::system_mut);
        let mail = mail.map(Internal::take_mail).unwrap_or_default();
        let mut round = None;
        if !self.silent {
            let mut desk = Desk {
                now,
                server: &self.server,
                shard,
            };
            for happened in happened {
                chief.publish(&mut desk, happened);
            }
            for mail in mail {
                match (&self.errands, System::errand(&mail)) {
                    (Some(errands), Some(errand)) => {
                        if errands.try_send(errand).is_err() {
                            log::warn!(
                                "A request on {} is not answered: too many wait",
                                String::from_utf8_lossy(&mail.subject)
                            );
                        }
                    }
                    _ => chief.handle(&mut desk, &mail),
                }
            }
            chief.do_due(&mut desk);
            while let Some(load) = chief.poll_round() {
                match load {
                    Step::Ask(number) => {
                        let own = self.load(shard);
                        round = chief.begin_round(number, own);
                    }
                    Step::Done { jobs, load } => {
                        let mut desk = Desk {
                            now,
                            server: &self.server,
                            shard,
                        };
                        for job in jobs {
                            chief.finish(&mut desk, job, &load);
                        }
                    }
                }
            }
        }
        chief.note_timeout();
        self.chief = Some(chief);
        round
    }

    /// When [`System::advance`] is wanted.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let chief = self.chief.as_ref().filter(|_| !self.silent)?;
        Some(chief.poll_timeout())
    }

    /// Tells that the server is about to end; nothing is said behind the last word.
    pub(crate) fn say_farewell(
        &mut self,
        now: Instant,
        shard: &mut Shard<Peer>,
        farewell: Farewell,
    ) {
        if self.silent {
            return;
        }
        self.silent = farewell == Farewell::Shutdown;
        if !self.is_first() {
            return;
        }
        let word = match farewell {
            Farewell::LameDuck => "LAMEDUCK",
            Farewell::Shutdown => "SHUTDOWN",
        };
        let mut desk = Desk {
            now,
            server: &self.server,
            shard,
        };
        let subject = format!("$SYS.SERVER.{}.{word}", self.server.id);
        desk.say(subject.as_bytes(), &self.server.info());
    }
}

/// The wall clock's name for a point in time that is past; the same each time, unless the wall clock
/// was set meanwhile.
fn wall_name(now: Instant, shard: &Shard<Peer>, then: Instant) -> String {
    shard.wall().tell(now, since_1970());
    shard.wall().name(then).unwrap_or_default()
}

/// How a connection is told of.
fn describe(portrait: &Portrait<'_>, start: String) -> ClientInfo {
    let is_leaf = portrait.kind.is_leaf();
    let account = portrait.account.map(|account| &**account);
    let rtt = portrait.round_trip.map(|it| it.as_nanos());
    ClientInfo {
        start,
        host: portrait.address.to_string(),
        id: portrait.number,
        acc: account
            .unwrap_or(if is_leaf { "N/A" } else { GLOBAL_ACCOUNT })
            .to_owned(),
        user: portrait
            .identity
            .and_then(|it| it.name())
            .unwrap_or_default()
            .to_owned(),
        name: portrait.name.to_owned(),
        lang: portrait.lang.to_owned(),
        ver: portrait.version.to_owned(),
        rtt: rtt.and_then(|rtt| u64::try_from(rtt).ok()),
        stop: String::new(),
        name_tag: account
            .unwrap_or(if is_leaf { "" } else { GLOBAL_ACCOUNT })
            .to_owned(),
        kind: portrait.kind.kind(),
        client_type: portrait.kind.client_type(),
    }
}

/// Why a connection was closed, in the words of events. What the core says is in them already; what
/// the system says is not.
fn reason(cause: &str) -> &str {
    match cause {
        "closed by the peer" | "closed by us" => "Client Closed",
        "broken pipe" => "Write Error",
        _ if cause.starts_with(|first: char| first.is_ascii_uppercase()) => cause,
        _ => "Read Error",
    }
}

fn conns_subjects(account: &str) -> [String; 2] {
    [
        format!("$SYS.SERVER.ACCOUNT.{account}.CONNS"),
        format!("$SYS.ACCOUNT.{account}.SERVER.CONNS"),
    ]
}
