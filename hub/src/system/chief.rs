//! Who says what there is to say in the system account, in one order, and answers requests.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use petiole_core::config::model::GLOBAL_ACCOUNT;
use petiole_core::link::internal::Mail;
use petiole_core::message::Message;
use petiole_core::random;
use petiole_core::shard::{Shard, Traffic};
use petiole_core::subject;
use petiole_core::time::Instant;
use petiole_core::wall::rfc3339;
use petiole_leaf::SystemEntropy;
use petiole_net::clock::since_1970;
use serde::Serialize;

use super::json::{
    self, AccountStat, AccountStats, Answer, Connected, Count, DataStats, Event, Fault, Health,
    Idz, Refusal, ServerStats, ServerStatsMessage,
};
use super::process::{self, Processor};
use super::request::{Options, Request};
use super::{AccountTotals, Happened, Identity, Load, conns_subjects};
use crate::peer::Peer;

/// The first periodic `STATSZ` comes this long after the start, each later one after twice the time,
/// up to the longest (system account, STATSZ).
const FIRST_STATSZ: Duration = Duration::from_millis(250);
const LONGEST_STATSZ: Duration = Duration::from_secs(10);
/// Broadcasts that nobody asked for come no closer than this.
const STATSZ_GAP: Duration = Duration::from_secs(1);
/// The connections of an account are told this long after they were last told.
const CONNS_AGAIN: Duration = Duration::from_secs(30);
/// Changes of them that come closer than this are told as one: all links are counted for it.
const CONNS_GAP: Duration = Duration::from_millis(100);

/// Where the chief works.
pub(super) struct Desk<'a> {
    pub(super) now: Instant,
    pub(super) server: &'a Identity,
    pub(super) shard: &'a mut Shard<Peer>,
}

impl Desk<'_> {
    fn is_wanted(&mut self, subject: &str) -> bool {
        self.shard
            .is_wanted(&self.server.account, subject.as_bytes())
    }

    pub(super) fn say(&mut self, subject: &[u8], what: &impl Serialize) {
        let body = serde_json::to_vec(what).unwrap_or_default();
        self.say_raw(subject, &body);
    }

    pub(super) fn say_raw(&mut self, subject: &[u8], body: &[u8]) {
        // An account may have any name.
        if !subject::is_valid_literal(subject) {
            return;
        }
        let account = self.server.account.clone();
        self.shard
            .publish_as_server(self.now, &account, &Message::new(subject, body));
    }
}

/// Something that needs numbers of all threads.
#[derive(Debug)]
pub(super) enum Job {
    /// Of the server, to whom.
    Statsz(Vec<u8>),
    /// Of these accounts, to whoever listens.
    Conns(BTreeSet<Arc<str>>),
    /// Of those that have not been told for long.
    Overdue,
    /// Of one account, to one.
    AccountConns { reply: Vec<u8>, account: String },
    /// Of some.
    AccountStatz {
        reply: Vec<u8>,
        /// `None`: all.
        only: Option<Vec<String>>,
        unused: Unused,
    },
}

/// What becomes of accounts without connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unused {
    LeftOut,
    Told,
}

/// What comes next in a [`Round`].
pub(super) enum Step {
    Ask(u64),
    Done { jobs: Vec<Job>, load: Load },
}

/// All threads count what they have.
#[derive(Debug)]
struct Round {
    number: u64,
    /// Threads that have not.
    missing: usize,
    load: Load,
    jobs: Vec<Job>,
}

/// Says what there is to say.
#[derive(Debug)]
pub(super) struct Chief {
    threads: usize,
    round: Option<Round>,
    rounds: u64,
    /// For the next round.
    jobs: Vec<Job>,
    /// Accounts whose connections changed.
    changed: BTreeSet<Arc<str>>,
    /// When that is told.
    changes_from: Instant,
    /// When the connections of an account are told again.
    due: HashMap<Arc<str>, Instant>,
    statsz_at: Instant,
    statsz_gap: Duration,
    /// When a broadcast was last sent.
    broadcast: Option<Instant>,
    /// When accounts that nobody heard of are looked for.
    look_at: Instant,
    /// The earliest of these times.
    next: Instant,
    processor: Processor,
    entropy: SystemEntropyBox,
}

/// Shows nothing of itself.
#[derive(Default)]
struct SystemEntropyBox(SystemEntropy);

impl std::fmt::Debug for SystemEntropyBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entropy")
    }
}

impl Chief {
    pub(super) fn new(now: Instant, threads: usize) -> Self {
        Chief {
            threads,
            round: None,
            rounds: 0,
            jobs: Vec::new(),
            changed: BTreeSet::new(),
            changes_from: now,
            due: HashMap::new(),
            statsz_at: now + FIRST_STATSZ,
            statsz_gap: FIRST_STATSZ,
            broadcast: None,
            look_at: now + CONNS_AGAIN,
            next: now + FIRST_STATSZ,
            processor: Processor::new(now),
            entropy: SystemEntropyBox::default(),
        }
    }

    fn event<'a, T>(&mut self, server: &'a Identity, kind: &'static str, body: T) -> Event<'a, T> {
        Event {
            kind,
            id: random::name::<22>(&mut self.entropy.0),
            timestamp: rfc3339(since_1970()),
            server: server.info(),
            body,
        }
    }

    pub(super) fn publish(&mut self, desk: &mut Desk<'_>, happened: Happened) {
        let server = desk.server;
        match happened {
            Happened::Connected(client) => {
                let subject = format!("$SYS.ACCOUNT.{}.CONNECT", client.acc);
                let body = Connected { client: &client };
                let event = self.event(server, json::CONNECT, body);
                desk.say(subject.as_bytes(), &event);
            }
            Happened::Disconnected(gone) => {
                let subject = format!("$SYS.ACCOUNT.{}.DISCONNECT", gone.client.acc);
                let event = self.event(server, json::DISCONNECT, gone);
                desk.say(subject.as_bytes(), &event);
            }
            Happened::Refused(gone) => {
                let subject = format!("$SYS.SERVER.{}.CLIENT.AUTH.ERR", server.id);
                let event = self.event(server, json::DISCONNECT, gone);
                desk.say(subject.as_bytes(), &event);
            }
            Happened::Changed(account) => {
                self.changed.insert(account);
            }
        }
    }

    /// A request. Without a reply subject there is nothing to do for any but one.
    pub(super) fn handle(&mut self, desk: &mut Desk<'_>, mail: &Mail) {
        let Some(request) = Request::of(&mail.sid) else {
            return;
        };
        let server = desk.server;
        let Some(reply) = mail.reply.as_deref() else {
            if request == Request::Statsz {
                let subject = format!("$SYS.SERVER.{}.STATSZ", server.id);
                self.jobs.push(Job::Statsz(subject.into_bytes()));
            }
            return;
        };
        if request == Request::Idz {
            let Identity { name, host, id, .. } = server;
            return desk.say(reply, &Idz { name, host, id });
        }
        let options = match Options::parse(mail.payload()) {
            Ok(options) => options,
            Err(description) => {
                let error = Fault {
                    code: 400,
                    description,
                };
                let server = server.info();
                return desk.say(reply, &Refusal { server, error });
            }
        };
        if !options.means(&server.name, &server.host) {
            return;
        }
        let reply = reply.to_vec();
        let unused = if options.include_unused {
            Unused::Told
        } else {
            Unused::LeftOut
        };
        let account = || {
            let name = mail.subject.split(|byte| *byte == b'.').nth(3);
            String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
        };
        match request {
            Request::Statsz => self.jobs.push(Job::Statsz(reply)),
            Request::Idz => {}
            Request::Healthz => {
                let data = Health {
                    status: "ok",
                    status_code: 200,
                };
                let server = server.info();
                desk.say(&reply, &Answer { server, data });
            }
            Request::AccountConns => self.jobs.push(Job::AccountConns {
                reply,
                account: account(),
            }),
            Request::AccountStatz => {
                let account = account();
                // That subject is also one of all accounts, which the other subscription is for.
                if account != "PING" {
                    self.jobs.push(Job::AccountStatz {
                        reply,
                        only: Some(vec![account]),
                        unused,
                    });
                }
            }
            Request::AccountsStatz => self.jobs.push(Job::AccountStatz {
                reply,
                only: Some(options.accounts).filter(|accounts| !accounts.is_empty()),
                unused,
            }),
        }
    }

    /// What the time brings.
    pub(super) fn do_due(&mut self, desk: &mut Desk<'_>) {
        let now = desk.now;
        if now >= self.statsz_at {
            self.statsz_gap = (self.statsz_gap * 2).min(LONGEST_STATSZ);
            self.statsz_at = now + self.statsz_gap;
            let subject = format!("$SYS.SERVER.{}.STATSZ", desk.server.id);
            let is_early = self
                .broadcast
                .is_some_and(|last| now.since(last) < STATSZ_GAP);
            if !is_early && desk.is_wanted(&subject) {
                self.broadcast = Some(now);
                self.jobs.push(Job::Statsz(subject.into_bytes()));
            }
        }
        if !self.changed.is_empty() && now >= self.changes_from {
            self.changes_from = now + CONNS_GAP;
            self.jobs
                .push(Job::Conns(std::mem::take(&mut self.changed)));
        }
        let overdue = self.due.values().any(|due| now >= *due);
        if overdue || now >= self.look_at {
            self.look_at = now + CONNS_AGAIN;
            let all = conns_subjects("*");
            // A pattern as a subject matches what a listener to all accounts says.
            if overdue || all.iter().any(|subject| desk.is_wanted(subject)) {
                self.jobs.push(Job::Overdue);
                self.due.retain(|_, due| now < *due);
            }
        }
    }

    /// Whether there is something to do.
    pub(super) fn has_work(&self, now: Instant) -> bool {
        let counted = match &self.round {
            Some(round) => round.missing == 0,
            None => !self.jobs.is_empty(),
        };
        counted || now >= self.next
    }

    /// When there is something to do again.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.next
    }

    /// Looks for the next time that something is to be done, after all that was due is.
    pub(super) fn note_timeout(&mut self) {
        let changes = Some(self.changes_from).filter(|_| !self.changed.is_empty());
        let due = self.due.values().min().copied();
        let all = [Some(self.statsz_at), Some(self.look_at), changes, due];
        self.next = all.into_iter().flatten().min().unwrap_or(self.statsz_at);
    }

    /// The next round, or the end of this one.
    pub(super) fn poll_round(&mut self) -> Option<Step> {
        match &self.round {
            Some(round) if round.missing == 0 => {
                let Round { jobs, load, .. } = self.round.take()?;
                Some(Step::Done { jobs, load })
            }
            Some(_) => None,
            None if self.jobs.is_empty() => None,
            None => Some(Step::Ask(self.rounds + 1)),
        }
    }

    /// Answers the round's number if other threads are to be asked.
    pub(super) fn begin_round(&mut self, number: u64, own: Load) -> Option<u64> {
        self.rounds = number;
        let missing = self.threads.saturating_sub(1);
        self.round = Some(Round {
            number,
            missing,
            load: own,
            jobs: std::mem::take(&mut self.jobs),
        });
        (missing > 0).then_some(number)
    }

    pub(super) fn handle_load(&mut self, number: u64, load: Load) {
        if let Some(round) = &mut self.round
            && round.number == number
            && round.missing > 0
        {
            round.missing -= 1;
            round.load.add(load);
        }
    }

    /// Says what waited for the numbers.
    pub(super) fn finish(&mut self, desk: &mut Desk<'_>, job: Job, load: &Load) {
        let server = desk.server;
        match job {
            Job::Statsz(to) => {
                let statsz = self.stats(desk.now, server, load);
                let server = server.info();
                desk.say(&to, &ServerStatsMessage { server, statsz });
            }
            Job::Conns(accounts) => {
                for account in accounts {
                    self.tell_conns(desk, &account, load);
                }
            }
            Job::Overdue => {
                let used = |totals: &AccountTotals| totals.clients + totals.leafs > 0;
                for (account, totals) in &load.accounts {
                    let is_told = self.due.contains_key(account) || **account == *GLOBAL_ACCOUNT;
                    if !is_told && used(totals) {
                        self.tell_conns(desk, account, load);
                    }
                }
            }
            Job::AccountConns { reply, account } => {
                let Some(stat) = load.accounts.get(&*account).map(|it| stat(&account, it)) else {
                    return;
                };
                if stat.total_conns > 0 {
                    let event = self.event(server, json::CONNECTIONS, stat);
                    desk.say(&reply, &event);
                }
            }
            Job::AccountStatz {
                reply,
                only,
                unused,
            } => {
                let all = desk.shard.accounts().cloned();
                let mut stats: Vec<AccountStat> = all
                    .filter(|name| {
                        only.as_ref()
                            .is_none_or(|only| only.iter().any(|it| **it == **name))
                    })
                    .map(|name| {
                        let totals = load.accounts.get(&name).copied().unwrap_or_default();
                        stat(&name, &totals)
                    })
                    .filter(|stat| unused == Unused::Told || stat.total_conns > 0)
                    .collect();
                stats.sort_by(|a, b| a.acc.cmp(&b.acc));
                if stats.is_empty() && unused == Unused::LeftOut {
                    return;
                }
                let data = AccountStats {
                    server_id: &server.id,
                    now: rfc3339(since_1970()),
                    account_statz: stats,
                };
                let server = server.info();
                desk.say(&reply, &Answer { server, data });
            }
        }
    }

    fn tell_conns(&mut self, desk: &mut Desk<'_>, account: &Arc<str>, load: &Load) {
        let [first, second] = conns_subjects(account);
        if !desk.is_wanted(&first) && !desk.is_wanted(&second) {
            self.due.remove(account);
            return;
        }
        let totals = load.accounts.get(account).copied().unwrap_or_default();
        let stat = stat(account, &totals);
        if stat.total_conns > 0 {
            self.due.insert(account.clone(), desk.now + CONNS_AGAIN);
        } else {
            self.due.remove(account);
        }
        let mut event = self.event(desk.server, json::CONNECTIONS, stat);
        desk.say(first.as_bytes(), &event);
        event.server = desk.server.info();
        desk.say(second.as_bytes(), &event);
    }

    fn stats(&mut self, now: Instant, server: &Identity, load: &Load) -> ServerStats {
        let used = |it: &&AccountTotals| it.clients + it.leafs > 0;
        let all = load.client_traffic.plus(load.leaf_traffic);
        ServerStats {
            start: rfc3339(server.start),
            mem: process::memory(),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            cpu: self.processor.percent(now),
            connections: load.clients,
            total_connections: load.total_clients,
            active_accounts: load.accounts.values().filter(used).count(),
            subscriptions: load.subscriptions,
            sent: Count::sent(all),
            sent_to_clients: Count::sent(load.client_traffic),
            received: Count::received(all),
            received_from_clients: Count::received(load.client_traffic),
            slow_consumers: load.slow_consumers,
            active_servers: 1,
        }
    }
}

fn stat(name: &str, totals: &AccountTotals) -> AccountStat {
    let all = totals.client_traffic.plus(totals.leaf_traffic);
    let stats = |count: fn(Traffic) -> Count| DataStats {
        all: count(all),
        leafs: count(totals.leaf_traffic),
        ..DataStats::default()
    };
    AccountStat {
        acc: name.to_owned(),
        name: name.to_owned(),
        conns: totals.clients,
        leafnodes: totals.leafs,
        total_conns: totals.clients + totals.leafs,
        num_subscriptions: totals.subscriptions,
        sent: stats(Count::sent),
        received: stats(Count::received),
        slow_consumers: totals.slow_consumers,
    }
}
