//! Requests to services of other accounts, and the way back of their responses.
//!
//! A service that an account imports is a subscription of that account in every shard. What it gets is
//! published in the account that exports, with a reply that only this shard knows:
//! `_R_.<account here>.<request>`. Whoever answers there reaches the [`Shadow::Responses`] behind it, and
//! the requester in its own account (accounts, services).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::Shard;
use super::route::Wish;
use super::shadows::{Shadow, renamed};
use crate::account::exports::ResponseType;
use crate::account::imports::ServiceImport;
use crate::account::mapping::Mapped;
use crate::interest::Reach;
use crate::link::requester::{Accounts, request_info};
use crate::link::sample::{Outcome, Sample};
use crate::link::sibling::{Certainty, Crossed, Groups, Notice, Origin, PartyId};
use crate::link::{LinkId, Neighbour, Portrait};
use crate::message::Message;
use crate::random;
use crate::slab::NONE;
use crate::time::Instant;
use crate::wire::header;

/// Requests that wait for responses, in one shard: about 40 MB. Above it the ones that would expire
/// first are given up.
const MOST_WAITING: usize = 256 << 10;

/// Accounts that one request passes through. Configurations have no cycles; this is for the sake of the
/// stack.
const MOST_HOPS: u32 = 16;

/// Characters of what tells accounts (and shards) apart in a reply, and of what tells requests apart.
const PREFIX: usize = 6;
const TOKEN: usize = 12;

pub(super) type Token = [u8; TOKEN];

/// Requests of this shard that wait for responses.
#[derive(Debug, Default)]
pub(super) struct Responses {
    waiting: HashMap<Token, Waiting, FixedState>,
    /// Each with a time before which it does not expire.
    deadlines: BinaryHeap<Reverse<(Instant, Token)>>,
    /// The earliest time that was asked for.
    armed: Option<Instant>,
    /// What replies in an account begin with, once it had a request: by the account that exports.
    prefixes: HashMap<u32, Box<[u8]>, FixedState>,
    /// Requests that are within one another now.
    hops: u32,
}

impl Responses {
    pub(super) fn get(&self, token: &Token) -> Option<&Waiting> {
        self.waiting.get(token)
    }
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) importer: u32,
    exporter: u32,
    pub(super) reply: Box<[u8]>,
    response: ResponseType,
    threshold: Duration,
    until: Instant,
    /// What is to be told of it, if its latency is measured.
    sample: Option<Box<Sample>>,
}

impl<N: Neighbour> Shard<N> {
    /// Makes the imported services of all accounts subscriptions of theirs.
    pub(super) fn offer_all_services(&mut self) {
        for at in 0..self.accounts.len() as u32 {
            self.offer_services(at);
        }
    }

    /// The same of one account.
    pub(super) fn offer_services(&mut self, at: u32) {
        let Some(account) = self.accounts.get_mut(at as usize) else {
            return;
        };
        for (service, number) in account.rules.imports.all_services().iter().zip(0..) {
            let interest = &mut account.interest;
            let id = interest.add(service.local(), None, Reach::Local, NONE, &[]);
            let shadow = self.shadows.add(Shadow::Service(number));
            if let Some(sub) = interest.sub_mut(id) {
                sub.shadow = shadow;
                self.shadows.note_own(at, sub.entry);
            }
            account.services.push(id);
        }
    }

    /// Takes back what [`Shard::offer_services`] gave an account.
    pub(super) fn withdraw_services(&mut self, at: u32) {
        let Some(account) = self.accounts.get_mut(at as usize) else {
            return;
        };
        for id in std::mem::take(&mut account.services) {
            if let Some(sub) = account.interest.remove(id) {
                self.shadows.forget_own(at, sub.entry, sub.shadow);
            }
        }
    }

    /// A message for an imported service. Answers whether anybody got it.
    pub(super) fn request(&mut self, origin: &Origin, message: &Message<'_>, service: u32) -> bool {
        // Every shard has the service: where the message arrived is where it is asked.
        if origin.crossed != Crossed::Not || self.responses.hops >= MOST_HOPS {
            return false;
        }
        let Some(account) = self.accounts.get(origin.account as usize) else {
            return false;
        };
        let rules = account.rules.clone();
        let services = rules.imports.all_services();
        let Some(service) = services.get(service as usize) else {
            return false;
        };
        let mut subject = Vec::new();
        service.exported(message.subject, &mut subject);
        let exporter = service.exporter();
        let Some(account) = self.accounts.get(exporter as usize) else {
            return false;
        };
        let mut mapped = Vec::new();
        let mappings = &account.rules.mappings;
        let subject = match mappings.map(&subject, &mut self.random, &mut mapped) {
            Mapped::Same => &subject,
            Mapped::Changed => &mapped,
            Mapped::Dropped => return false,
        };
        let sample = self.begin_sample(origin, service, message);
        let awaited = match message.reply {
            Some(reply) => Some(self.await_response(origin.account, service, reply, sample)),
            None => {
                if let Some(sample) = sample {
                    self.finish_sample(sample, Outcome::WithoutReply);
                }
                None
            }
        };
        let asks = self.introduce(origin, service);
        let mut body = Vec::new();
        let header_len = header::set(message, header::REQUEST_INFO, asks.as_bytes(), &mut body);
        let onward = Origin {
            account: exporter,
            groups: Groups::Any,
            ..*origin
        };
        let asked = Message {
            subject,
            reply: awaited.as_ref().map(|(reply, _)| reply.as_slice()),
            queue_list: b"",
            header_len,
            body: &body,
        };
        self.responses.hops += 1;
        let heard = self.route(onward, &asked, Wish::Nothing);
        self.responses.hops -= 1;
        if let Some((_, token)) = awaited
            && heard == 0
        {
            self.give_up(&token, Outcome::Unheard);
        }
        heard > 0
    }

    /// Who asks, as JSON.
    fn introduce(&self, origin: &Origin, service: &ServiceImport) -> String {
        let (requester, accounts) = self.requester(origin);
        let server = &self.env.server;
        request_info(requester, accounts, service.share(), server, &self.wall)
    }

    /// Who asks, and the accounts that the request has come through.
    pub(super) fn requester(&self, origin: &Origin) -> (Option<Portrait<'_>>, Accounts<'_>) {
        let name = |at: u32| {
            let account = self.accounts.get(at as usize);
            account.map_or("", |account| &*account.name)
        };
        let link = self.links.get(origin.producer.place);
        let own = link.map_or(origin.account, |link| link.account);
        let accounts = Accounts {
            asks: name(own),
            through: if own == origin.account {
                ""
            } else {
                name(origin.account)
            },
        };
        (link.and_then(|link| link.neighbour.portrait()), accounts)
    }

    /// A reply of the account that exports, for a request with this reply in its own account.
    fn await_response(
        &mut self,
        importer: u32,
        service: &ServiceImport,
        reply: &[u8],
        sample: Option<Box<Sample>>,
    ) -> (Vec<u8>, Token) {
        let exporter = service.exporter();
        let mut name = self.response_prefix(exporter);
        let token: Token = random::name_bytes(&mut *self.entropy.0);
        name.extend_from_slice(&token);
        while self.responses.waiting.len() >= MOST_WAITING {
            match self.responses.deadlines.pop() {
                Some(Reverse((_, oldest))) => self.give_up(&oldest, Outcome::Unanswered),
                None => break,
            }
        }
        if sample.is_some() {
            self.measured.add(reply, token);
        }
        let responses = &mut self.responses;
        let until = self.now + service.threshold();
        responses.waiting.insert(
            token,
            Waiting {
                importer,
                exporter,
                reply: reply.into(),
                response: service.response(),
                threshold: service.threshold(),
                until,
                sample,
            },
        );
        responses.deadlines.push(Reverse((until, token)));
        self.arm_responses();
        (name, token)
    }

    /// A request waits no longer.
    fn take_waiting(&mut self, token: &Token) -> Option<Waiting> {
        let waiting = self.responses.waiting.remove(token)?;
        if waiting.sample.is_some() {
            self.measured.remove(&waiting.reply, token);
        }
        Some(waiting)
    }

    /// A request waits no longer, as this became of it.
    pub(super) fn give_up(&mut self, token: &Token, outcome: Outcome) {
        let waiting = self.take_waiting(token);
        if let Some(sample) = waiting.and_then(|waiting| waiting.sample) {
            self.finish_sample(sample, outcome);
        }
    }

    /// What replies in an account begin with. The first time, the account begins to want them.
    fn response_prefix(&mut self, exporter: u32) -> Vec<u8> {
        if let Some(prefix) = self.responses.prefixes.get(&exporter) {
            return prefix.to_vec();
        }
        let own: [u8; PREFIX] = random::name_bytes(&mut *self.entropy.0);
        let prefix = [b"_R_.", &own[..], b"."].concat();
        let pattern = [&prefix[..], b">"].concat();
        self.responses
            .prefixes
            .insert(exporter, prefix.clone().into());
        let shadow = self.shadows.add(Shadow::Responses);
        if let Some(account) = self.accounts.get_mut(exporter as usize) {
            let interest = &mut account.interest;
            let id = interest.add(&pattern, None, Reach::Local, NONE, &[]);
            if let Some(sub) = interest.sub_mut(id) {
                sub.shadow = shadow;
            }
        }
        self.say_to_all_beside(Notice::Interest {
            party: PartyId::clients(exporter, Certainty::Sure),
            subject: &pattern,
            queue: None,
            weight: 1,
        });
        self.show_changes_later(exporter);
        prefix
    }

    /// A message for [`Shadow::Responses`]. Answers whether anybody got it.
    pub(super) fn respond(&mut self, origin: &Origin, message: &Message<'_>) -> bool {
        let token = message.subject.rsplit(|byte| *byte == b'.').next();
        let Some(token) = token.and_then(|token| Token::try_from(token).ok()) else {
            return false;
        };
        let responder = self.responder(origin);
        let Some(waiting) = self.responses.waiting.get_mut(&token) else {
            return false;
        };
        if waiting.exporter != origin.account || self.responses.hops >= MOST_HOPS {
            return false;
        }
        let (importer, reply) = (waiting.importer, waiting.reply.clone());
        if waiting.response == ResponseType::Singleton {
            let waiting = self.take_waiting(&token);
            if let Some(sample) = waiting.and_then(|waiting| waiting.sample)
                && let Some(responder) = responder
            {
                self.finish_sample(sample, Outcome::Answered(responder));
            }
        } else {
            waiting.until = self.now + waiting.threshold;
        }
        let onward = Origin {
            account: importer,
            groups: Groups::Any,
            // From here on it is ours, and may go to any shard.
            producer: match origin.crossed {
                Crossed::Not => origin.producer,
                Crossed::From(_) => LinkId {
                    place: NONE,
                    turn: 0,
                },
            },
            crossed: Crossed::Not,
            question: 0,
            ..*origin
        };
        self.responses.hops += 1;
        let outer = std::mem::replace(&mut self.measured.responder, responder);
        let heard = self.route(onward, &renamed(message, &reply), Wish::Nothing);
        self.measured.responder = outer;
        self.responses.hops -= 1;
        if heard == 0 {
            // Nobody waits any more.
            self.take_waiting(&token);
        }
        heard > 0
    }

    fn arm_responses(&mut self) {
        let responses = &mut self.responses;
        let Some(Reverse((next, _))) = responses.deadlines.peek() else {
            responses.armed = None;
            return;
        };
        if responses.armed.is_none_or(|armed| *next < armed) {
            responses.armed = Some(*next);
            self.timers.push(Reverse((*next, NONE, 0)));
        }
    }

    /// Requests whose time has come are given up.
    pub(super) fn expire_responses(&mut self) {
        self.responses.armed = None;
        while let Some(Reverse((at, token))) = self.responses.deadlines.peek().copied()
            && at <= self.now
        {
            self.responses.deadlines.pop();
            match self
                .responses
                .waiting
                .get(&token)
                .map(|waiting| waiting.until)
            {
                // A response has come since.
                Some(until) if until > self.now => {
                    self.responses.deadlines.push(Reverse((until, token)));
                }
                Some(_) => self.give_up(&token, Outcome::Unanswered),
                None => {}
            }
        }
        self.arm_responses();
    }
}
