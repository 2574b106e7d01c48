//! How long requests to services take, of those that are measured: from when a request comes to when it is
//! over, which is told as a [`Sample`] (accounts, services).
//!
//! A request is measured in the shard it came to. Of an answer that comes over a link to another server
//! there is no sample, as with nats-server: how long that server's clients take to answer it, nobody knows
//! here.

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

use super::Shard;
use super::services::Token;
use crate::account::imports::{ServiceImport, Share};
use crate::interest::{EntryId, Reach};
use crate::link::requester::{Accounts, request_info};
use crate::link::sample::{Outcome, Party, Responder, Sample};
use crate::link::sibling::{Crossed, Origin};
use crate::link::{Event, LinkId, Neighbour};
use crate::message::Message;
use crate::subject::{has_wildcard, matches};

/// Requests that are measured at the same time; others are not, until some of these are over. All of them
/// are looked at when a wildcard subscription ends.
const MOST_MEASURED: usize = 16 << 10;

/// What is measured.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// Somebody tells of it.
    wanted: bool,
    /// Requests by the subject of their reply.
    by_reply: HashMap<Box<[u8]>, HashSet<Token, FixedState>, FixedState>,
    count: usize,
    /// Whose answer is being passed on, through however many accounts.
    pub(super) responder: Option<Responder>,
}

impl Measured {
    pub(super) fn add(&mut self, reply: &[u8], token: Token) {
        let tokens = self.by_reply.entry(reply.into()).or_default();
        self.count += usize::from(tokens.insert(token));
    }

    pub(super) fn remove(&mut self, reply: &[u8], token: &Token) {
        let Some(tokens) = self.by_reply.get_mut(reply) else {
            return;
        };
        self.count -= usize::from(tokens.remove(token));
        if tokens.is_empty() {
            self.by_reply.remove(reply);
        }
    }

    /// Requests whose reply `pattern` matches.
    fn matching(&self, pattern: &[u8]) -> Vec<Token> {
        if !has_wildcard(pattern) {
            let tokens = self.by_reply.get(pattern).into_iter().flatten();
            return tokens.copied().collect();
        }
        let replies = self.by_reply.iter();
        let wanted = replies.filter(|(reply, _)| matches(pattern, reply));
        wanted.flat_map(|(_, tokens)| tokens).copied().collect()
    }
}

impl<N: Neighbour> Shard<N> {
    /// From here on what requests to services with a `latency` come to leaves as [`Event::Measured`].
    pub fn measure_latency(&mut self) {
        self.measured.wanted = true;
    }

    /// A [`Responder`] of this shard, as its sample tells of it; `None` if it is gone.
    pub fn describe_responder(&self, link: LinkId) -> Option<Party> {
        let portrait = self.neighbour(link)?.portrait()?;
        let accounts = Accounts {
            asks: portrait.account.map_or("", |account| account),
            through: "",
        };
        let server = &self.env.server;
        let told = request_info(
            Some(portrait),
            accounts,
            Share::Everything,
            server,
            &self.wall,
        );
        Some(Party {
            told,
            round_trip: portrait.round_trip,
        })
    }

    /// The sample of a request that begins now, if it is measured.
    pub(super) fn begin_sample(
        &mut self,
        origin: &Origin,
        service: &ServiceImport,
        message: &Message<'_>,
    ) -> Option<Box<Sample>> {
        if !self.measured.wanted || self.measured.count >= MOST_MEASURED {
            return None;
        }
        let latency = service.latency()?;
        let header = message.body.get(..message.header_len).unwrap_or_default();
        let fields = latency.sample(header, &mut self.random)?;
        let exporter = self.accounts.get(service.exporter() as usize)?;
        let (requestor, accounts) = self.requester(origin);
        let accounts = Accounts {
            through: "",
            ..accounts
        };
        let server = &self.env.server;
        let told = request_info(requestor, accounts, service.share(), server, &self.wall);
        Some(Box::new(Sample {
            account: exporter.name.clone(),
            subject: latency.subject.as_str().into(),
            outcome: Outcome::Unanswered,
            requestor: Party {
                told,
                round_trip: requestor.and_then(|it| it.round_trip),
            },
            fields,
            asked: self.now,
            over: self.now,
        }))
    }

    pub(super) fn finish_sample(&mut self, mut sample: Box<Sample>, outcome: Outcome) {
        sample.outcome = outcome;
        sample.over = self.now;
        self.events.push_back(Event::Measured(sample));
    }

    /// Whose answer a message is; `None`: another server passes it on. Of the answer to a request that
    /// came through several accounts it is who gave it in the last one.
    pub(super) fn responder(&self, origin: &Origin) -> Option<Responder> {
        if self.measured.responder.is_some() || origin.standing.reach == Reach::Distant {
            return self.measured.responder;
        }
        let beside = match origin.crossed {
            Crossed::Not => None,
            Crossed::From(place) => Some(LinkId {
                place,
                turn: self.links.get(place)?.turn,
            }),
        };
        Some(Responder {
            link: origin.producer,
            beside,
        })
    }

    /// Something was taken from an entry of an account's interest: requests whose answers nobody there
    /// wants any more are over.
    pub(super) fn note_lost(&mut self, at: u32, entry: EntryId) {
        if self.measured.count == 0 {
            return;
        }
        let account = self.accounts.get(at as usize);
        let Some(entry) = account.and_then(|account| account.interest.entry(entry)) else {
            return;
        };
        if !entry.is_empty() {
            return;
        }
        for token in self.measured.matching(&entry.subject) {
            let Some(waiting) = self.responses.get(&token) else {
                continue;
            };
            let Some(account) = self.accounts.get_mut(at as usize) else {
                return;
            };
            let mut wanted = waiting.importer != at;
            account.interest.matching(&waiting.reply, &mut |_, entry| {
                wanted |= !entry.is_empty();
            });
            if !wanted {
                self.give_up(&token, Outcome::RequestorGone);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::account;
    use crate::auth::users::Users;
    use crate::config::testing::config;
    use crate::link::client::Client;
    use crate::link::queue::WritePlan;
    use crate::link::{Env, Secured, Server};
    use crate::random::Random;
    use crate::time::Instant;

    crate::neighbours! {
        #[derive(Debug)]
        enum Peer {
            Client(Box<Client>),
        }
    }

    struct World {
        shard: Shard<Peer>,
        now: Instant,
    }

    impl World {
        /// `A` exports, `B` imports and exports again, `C` imports that.
        fn new() -> World {
            let config = config(
                "accounts {
                   A { users: [{user: a, password: p}], exports: [
                     {service: \"svc\", latency: lat.a, threshold: \"2s\"}
                     {service: \"headers\", latency: {sampling: headers, subject: lat.h}}
                     {service: \"plain\"}]}
                   B { users: [{user: b, password: p}], exports: [{service: \"svc\", latency: lat.b}], imports: [
                     {service: {account: A, subject: svc}}
                     {service: {account: A, subject: svc}, to: shared, share: true}
                     {service: {account: A, subject: headers}}
                     {service: {account: A, subject: plain}}]}
                   C { users: [{user: c, password: p}], imports: [
                     {service: {account: B, subject: svc}}]}
                 }",
            );
            let env = Env {
                server: Server {
                    id: "N1".into(),
                    name: "S".into(),
                    toolchain: "rust",
                    host: "127.0.0.1".into(),
                    port: 4222,
                    headers: true,
                },
                limits: config.limits.clone(),
                users: Arc::new(Users::compile(&config)),
                tls: None,
            };
            let accounts = account::compile(&config, None).unwrap();
            let mut shard = Shard::with_accounts(env, accounts, Box::new(Random::new(1)));
            shard.measure_latency();
            let now = Instant::from_nanos(1_000_000_000);
            World { shard, now }
        }

        fn client(&mut self, user: &str) -> LinkId {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
            let client = Client::new(self.now, 7, address, Secured::default());
            let link = self.shard.open(self.now, Peer::Client(Box::new(client)));
            // Time for the round trip.
            self.now = self.now + Duration::from_millis(3);
            self.say(
                link,
                &format!(
                    "CONNECT {{\"user\":\"{user}\",\"pass\":\"p\",\"verbose\":false,\"headers\":true,\
                     \"no_responders\":true}}\r\n"
                ),
            );
            self.hear(link);
            link
        }

        fn say(&mut self, link: LinkId, text: &str) {
            self.shard.handle_bytes(self.now, link, text.as_bytes());
        }

        fn hear(&mut self, link: LinkId) -> String {
            let mut bytes = Vec::new();
            {
                let mut plan = WritePlan::new();
                self.shard.poll_transmit(link, &mut plan);
                plan.iter().for_each(|piece| bytes.extend_from_slice(piece));
            }
            self.shard.handle_transmitted(self.now, link, bytes.len());
            String::from_utf8(bytes).unwrap()
        }

        /// The reply subject of the request that a client has got.
        fn asked(&mut self, link: LinkId) -> String {
            let heard = self.hear(link);
            let reply = heard.split(' ').find(|word| word.starts_with("_R_"));
            reply.unwrap_or_else(|| panic!("{heard:?}")).to_owned()
        }

        fn samples(&mut self) -> Vec<Sample> {
            let mut samples = Vec::new();
            while let Some(event) = self.shard.poll_event() {
                if let Event::Measured(sample) = event {
                    samples.push(*sample);
                }
            }
            samples
        }

        /// Where each sample is told, and what became of the request.
        fn outcomes(&mut self) -> Vec<(String, Outcome)> {
            let samples = self.samples().into_iter();
            samples
                .map(|it| (format!("{} {}", it.account, it.subject), it.outcome))
                .collect()
        }

        fn wait(&mut self, span: Duration) {
            self.now = self.now + span;
            self.shard.handle_timeout(self.now);
        }
    }

    const MS: Duration = Duration::from_millis(1);

    fn told(at: &str, outcome: Outcome) -> Vec<(String, Outcome)> {
        vec![(at.to_owned(), outcome)]
    }

    #[test]
    fn an_answered_request() {
        let mut world = World::new();
        let (a, b) = (world.client("a"), world.client("b"));
        world.say(a, "SUB svc 1\r\n");
        world.say(b, "SUB in 1\r\n");
        for (subject, requestor) in [
            ("svc", "{\"acc\":\"B\",\"rtt\":3000000}"),
            (
                "shared",
                "{\"host\":\"127.0.0.1\",\"id\":7,\"acc\":\"B\",\"user\":\"b\",\"rtt\":3000000,\
                 \"server\":\"S\",\"kind\":\"Client\",\"client_type\":\"nats\"}",
            ),
        ] {
            world.say(b, &format!("PUB {subject} in 1\r\nx\r\n"));
            let asked = world.now;
            let reply = world.asked(a);
            assert_eq!(world.samples(), []);
            world.wait(20 * MS);
            world.say(
                a,
                &format!("PUB {reply} 2\r\nok\r\nPUB {reply} 2\r\nko\r\n"),
            );
            assert_eq!(world.hear(b), "MSG in 1 2\r\nok\r\n");
            let responder = Responder {
                link: a,
                beside: None,
            };
            assert_eq!(
                world.samples(),
                [Sample {
                    account: "A".into(),
                    subject: "lat.a".into(),
                    outcome: Outcome::Answered(responder),
                    requestor: Party {
                        told: requestor.into(),
                        round_trip: Some(3 * MS),
                    },
                    fields: Default::default(),
                    asked,
                    over: asked + 20 * MS,
                }]
            );
        }
        let responder = world.shard.describe_responder(a).unwrap();
        assert_eq!(responder.round_trip, Some(3 * MS));
        assert!(responder.told.contains("\"acc\":\"A\",\"user\":\"a\""));
        // What is over is over.
        world.wait(5000 * MS);
        world.say(b, "UNSUB 1\r\n");
        assert_eq!(world.samples(), []);
        assert_eq!(
            (
                world.shard.measured.count,
                world.shard.measured.by_reply.len()
            ),
            (0, 0)
        );
    }

    #[test]
    fn a_request_that_is_not_answered() {
        let mut world = World::new();
        let (a, b) = (world.client("a"), world.client("b"));
        world.say(b, "SUB in.> 1\r\nPUB svc in.1 0\r\n\r\n");
        assert_eq!(world.outcomes(), told("A lat.a", Outcome::Unheard));
        world.say(a, "SUB svc 1\r\n");
        world.say(b, "PUB svc 0\r\n\r\n");
        assert_eq!(world.outcomes(), told("A lat.a", Outcome::WithoutReply));
        world.say(b, "PUB svc in.1 0\r\n\r\n");
        world.wait(1999 * MS);
        assert_eq!(world.outcomes(), []);
        world.wait(MS);
        assert_eq!(world.outcomes(), told("A lat.a", Outcome::Unanswered));
    }

    #[test]
    fn a_requestor_that_is_gone() {
        let mut world = World::new();
        let (a, b) = (world.client("a"), world.client("b"));
        let gone = told("A lat.a", Outcome::RequestorGone);
        world.say(a, "SUB svc 1\r\n");
        for (before, after) in [
            ("SUB in.1 1", "UNSUB 1"),
            ("SUB in.* 1", "UNSUB 1"),
            ("SUB in.1 q 1", "UNSUB 1"),
            ("SUB in.1 1\r\nUNSUB 1 1", "PUB in.1 0\r\n"),
            // Another one still wants it.
            ("SUB in.1 1\r\nSUB > 2", "UNSUB 2\r\nUNSUB 1"),
        ] {
            world.say(b, &format!("{before}\r\nPUB svc in.1 0\r\n\r\n"));
            let reply = world.asked(a);
            assert_eq!(world.outcomes(), [], "{before}");
            world.say(b, &format!("{after}\r\n"));
            assert_eq!(world.outcomes(), gone, "{before}");
            world.say(a, &format!("PUB {reply} 0\r\n\r\n"));
            assert_eq!(world.outcomes(), [], "{before}");
        }
        world.hear(b);
        world.say(
            b,
            "SUB other 1\r\nSUB in.1 2\r\nPUB svc in.1 0\r\n\r\nUNSUB 1\r\n",
        );
        assert_eq!(world.outcomes(), []);
        world.shard.handle_closed(world.now, b, "gone");
        assert_eq!(world.outcomes(), gone);
    }

    /// Who never wanted it is asked for, as in nats-server.
    #[test]
    fn a_reply_that_nobody_ever_wanted() {
        let mut world = World::new();
        let (a, b) = (world.client("a"), world.client("b"));
        world.say(a, "SUB svc 1\r\n");
        world.say(b, "PUB svc in 0\r\n\r\n");
        let reply = world.asked(a);
        world.say(a, &format!("PUB {reply} 0\r\n\r\n"));
        let outcome = &world.outcomes()[0].1;
        assert!(matches!(outcome, Outcome::Answered(_)), "{outcome:?}");
    }

    #[test]
    fn a_request_through_accounts() {
        let mut world = World::new();
        let (a, c) = (world.client("a"), world.client("c"));
        world.say(a, "SUB svc 1\r\n");
        world.say(c, "SUB in 1\r\nPUB svc in 0\r\n\r\n");
        let reply = world.asked(a);
        world.say(a, &format!("PUB {reply} 0\r\n\r\n"));
        let responder = Responder {
            link: a,
            beside: None,
        };
        let samples = world.samples();
        let shown: Vec<_> = samples
            .iter()
            .map(|it| (&*it.account, &*it.subject, it.outcome, &*it.requestor.told))
            .collect();
        let (answered, c_told) = (
            Outcome::Answered(responder),
            "{\"acc\":\"C\",\"rtt\":3000000}",
        );
        assert_eq!(
            shown,
            [
                ("A", "lat.a", answered, c_told),
                ("B", "lat.b", answered, c_told)
            ]
        );
    }

    #[test]
    fn requests_that_are_not_measured() {
        let mut world = World::new();
        let (a, b) = (world.client("a"), world.client("b"));
        world.say(a, "SUB svc 1\r\nSUB plain 2\r\nSUB headers 3\r\n");
        world.say(
            b,
            "PUB plain in 0\r\n\r\nPUB headers in 0\r\n\r\nPUB plain 0\r\n\r\n",
        );
        assert_eq!(world.shard.measured.count, 0);
        // In the account itself nobody is in between.
        world.say(a, "PUB svc 0\r\n\r\nPUB svc in 0\r\n\r\n");
        assert_eq!(world.samples(), []);
        world.say(
            b,
            "HPUB headers in 29 29\r\nNATS/1.0\r\nX-B3-Sampled: 1\r\n\r\n\r\n",
        );
        assert_eq!(world.shard.measured.count, 1);
        // Only who tells of it has it measured.
        world.shard.measured.wanted = false;
        world.say(b, "PUB svc 0\r\n\r\n");
        assert_eq!(world.samples(), []);
    }

    #[test]
    fn what_is_measured_at_a_time_has_a_bound() {
        let mut world = World::new();
        let (a, b) = (world.client("a"), world.client("b"));
        world.say(a, "SUB svc 1\r\n");
        world.say(b, "SUB in 1\r\n");
        for _ in 0..MOST_MEASURED / 1024 + 1 {
            world.say(b, &"PUB svc in 0\r\n\r\n".repeat(1024));
            world.hear(a);
        }
        assert_eq!(world.shard.measured.count, MOST_MEASURED);
        world.say(b, "UNSUB 1\r\n");
        assert_eq!(world.samples().len(), MOST_MEASURED);
        assert_eq!(
            (
                world.shard.measured.count,
                world.shard.measured.by_reply.len()
            ),
            (0, 0)
        );
    }
}
