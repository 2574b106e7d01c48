//! Who must, may and must not get each message.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::model::{Copies, Key, Model, Outcome, Place, Reach, Want, matches};

/// One subscription of a client, never used again for another.
#[derive(Clone, Debug)]
pub(crate) struct Sub {
    pub(crate) number: u64,
    pub(crate) place: Place,
    pub(crate) subject: String,
    pub(crate) queue: Option<String>,
    /// The connection that has it.
    pub(crate) owner: u32,
    pub(crate) max: Option<u64>,
    pub(crate) delivered: u64,
}

impl Sub {
    pub(crate) fn key(&self) -> Key {
        (self.subject.clone(), self.queue.clone())
    }

    fn want(&self) -> Want<'_> {
        Want {
            number: self.number,
            owner: self.owner,
            place: self.place,
            subject: &self.subject,
            queue: self.queue.as_deref(),
        }
    }

    pub(crate) fn is_used_up(&self) -> bool {
        self.max.is_some_and(|max| self.delivered >= max)
    }
}

/// One published message.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) publisher: u32,
    pub(crate) echo: bool,
    pub(crate) subject: String,
    pub(crate) reply: Option<String>,
    pub(crate) header: bool,
    pub(crate) size: usize,
    reach: Rc<Reach>,
    /// What it has to come to; `None`: that is not known.
    due: Option<Outcome>,
    /// Each with the subject it had.
    got: Vec<(u64, String)>,
    /// Groups, and who of them.
    taken: Vec<(String, u64)>,
}

/// How strictly the world keeps its promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Order {
    #[default]
    Strict,
    /// There may be a loop until it is found: then a message goes around, but not for long, and comes to
    /// the same subscription at most so many times.
    Loops { most: usize },
}

/// What happened, for the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) delivered: u64,
    /// Deliveries that had to be.
    pub(crate) required: u64,
    /// Of these, those through an import.
    pub(crate) imported: u64,
    /// Answers that came back from another account.
    pub(crate) answers: u64,
    /// Probes while a ring might close.
    pub(crate) closings: u64,
    /// Of these, those at which a link beside the ring was lost.
    pub(crate) mistaken: u64,
    /// When it was over, in nanoseconds.
    pub(crate) end: u64,
}

impl Record {
    pub(crate) fn add(&mut self, other: &Record) {
        self.delivered += other.delivered;
        self.required += other.required;
        self.imported += other.imported;
        self.answers += other.answers;
        self.closings += other.closings;
        self.mistaken += other.mistaken;
        self.end += other.end;
    }
}

/// All messages and all subscriptions of the world.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// What is joined for sure.
    pub(crate) model: Model,
    /// By which ways messages may come.
    ways: Model,
    /// Links of which one is too many.
    ring: Vec<usize>,
    order: Order,
    /// Subscriptions as their owners see them.
    pub(crate) subs: BTreeMap<u64, Sub>,
    messages: Vec<Message>,
    requests: BTreeMap<String, usize>,
    /// Replies as services show them, the requests, and where answers are published.
    renamed: BTreeMap<String, (usize, Option<Place>)>,
    /// Requests that a service has answered for those who can hear it.
    answered: BTreeSet<usize>,
    reaches: BTreeMap<(Place, String), Rc<Reach>>,
    last: BTreeMap<(u64, u32), usize>,
    numbers: u64,
    /// Everything is connected and nothing else changes: what is published now must arrive.
    pub(crate) probing: bool,
    /// Subscriptions that had their last message while probing: a server that has not heard of that may
    /// still choose them.
    pub(crate) ended: Vec<Sub>,
    pub(crate) record: Record,
}

pub(crate) const HEADER: &[u8] = b"NATS/1.0\r\nKind: sim\r\n\r\n";

/// What services add to the header of a request.
const REQUEST_INFO: &str = "Nats-Request-Info: ";

fn payload(index: usize, size: usize) -> Vec<u8> {
    let mut bytes = format!("{index}:").into_bytes();
    while bytes.len() < size {
        // Line ends and verbs inside payloads must not matter.
        bytes.extend_from_slice(b"\r\nPING\r\n.");
        bytes.push(b'a' + (index % 26) as u8);
    }
    bytes.truncate(size.max(format!("{index}:").len()));
    bytes
}

fn is_renamed(reply: &str) -> bool {
    reply.starts_with("_R_.")
}

impl Oracle {
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Of a world that is joined so, with a ring of these links.
    pub(crate) fn new(model: Model, ring: Vec<usize>) -> Self {
        let mut oracle = Oracle {
            ways: model.clone(),
            model,
            ring,
            ..Oracle::default()
        };
        oracle.break_ring(None);
        oracle
    }

    /// From here on a ring is broken at this link. `None`: that is not known, so it is as good as broken
    /// everywhere for what must arrive, and anywhere for what may.
    pub(crate) fn break_ring(&mut self, at: Option<usize>) {
        let ring = &self.ring;
        self.order = match at {
            // Once from each side.
            None if !ring.is_empty() => Order::Loops { most: 2 },
            _ => Order::Strict,
        };
        let all = ring.iter().copied();
        let one = at.or(ring.first().copied());
        self.model.cut = all.filter(|link| at.is_none_or(|at| at == *link)).collect();
        self.ways.cut = one.into_iter().collect();
        self.reaches.clear();
    }

    pub(crate) fn wants(&self) -> Vec<Want<'_>> {
        self.subs.values().map(Sub::want).collect()
    }

    /// A message is about to be sent; answers its body (header and payload).
    pub(crate) fn publish(&mut self, from: Place, message: Message) -> Vec<u8> {
        let mut message = message;
        let index = self.messages.len();
        let reach = self.reaches.entry((from, message.subject.clone()));
        let reach = reach.or_insert_with(|| Rc::new(self.ways.reach(from, &message.subject)));
        message.reach = reach.clone();
        if self.probing {
            let model = &self.model;
            let silent = (!message.echo).then_some(message.publisher);
            let mut due = model.publish(&self.wants(), from, &message.subject, silent);
            // Whoever counts its messages may have had the last one before a server hears of it: neither
            // does it get this one for sure, nor anybody for whom it only comes because of that one.
            let stays = |number: &u64| self.subs.get(number).is_some_and(|sub| sub.max.is_none());
            let lasting = self.wants().into_iter().filter(|want| stays(&want.number));
            let lasting: Vec<Want<'_>> = lasting.collect();
            let sure = model.publish(&lasting, from, &message.subject, silent);
            let mut perhaps = std::mem::replace(&mut due.plain, sure.plain);
            perhaps.retain(|(number, _)| stays(number));
            for copy in &due.plain {
                if let Some(at) = perhaps.iter().position(|other| other == copy) {
                    perhaps.swap_remove(at);
                }
            }
            due.perhaps.retain(|(number, _)| stays(number));
            due.perhaps.extend(perhaps);
            let limited = due
                .groups
                .iter()
                .filter(|(_, among)| !among.iter().all(stays));
            let mut limited: BTreeSet<String> = limited.map(|(name, _)| name.clone()).collect();
            limited.extend(self.ended.iter().filter_map(|sub| sub.queue.clone()));
            if is_renamed(&message.subject) {
                // A group may have what is published anew in each account.
                due.groups.clear();
            }
            due.groups.retain(|(name, _)| !limited.contains(name));
            message.due = Some(due);
        }
        if let Some(reply) = &message.reply {
            self.requests.insert(reply.clone(), index);
        }
        if let Some((request, Some(at))) = self.renamed.get(&message.subject)
            && let Some(reply) = &self.messages[*request].reply
            && let answer = self.model.publish(&self.wants(), *at, reply, None)
            && !answer.plain.is_empty()
        {
            self.answered.insert(*request);
        }
        let mut body = if message.header {
            HEADER.to_vec()
        } else {
            Vec::new()
        };
        body.extend(payload(index, message.size));
        self.messages.push(message);
        body
    }

    /// A message has come to `sub`. Answers where an answer is wanted.
    pub(crate) fn deliver(
        &mut self,
        sub: &Sub,
        subject: &str,
        reply: Option<&str>,
        header: &[u8],
        body: &[u8],
        keeps_headers: bool,
    ) -> Option<String> {
        let text = String::from_utf8_lossy(body);
        let index: usize = text
            .split(':')
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or_else(|| panic!("{sub:?} got a strange payload on {subject}: {text:?}"));
        let request = self.messages.get(index).and_then(|message| {
            let (request, _) = self.renamed.get(&message.subject)?;
            Some((message.subject == subject, *request))
        });
        // An answer comes back through one or more accounts, which is where it gets another subject.
        let returns = matches!(request, Some((false, _)));
        if let Some((false, request)) = request {
            let request = &self.messages[request];
            assert!(
                is_renamed(subject) || request.reply.as_deref() == Some(subject),
                "answer {index} has come back as {subject}, the request was {request:?}"
            );
            self.record.answers += 1;
        }
        // It is published anew in each account of its way back.
        let back = request.map_or(0, |(_, request)| self.messages[request].reach.domains);
        let message = self
            .messages
            .get_mut(index)
            .unwrap_or_else(|| panic!("message {index} was never sent"));
        let arrival = (sub.place, subject.to_owned());
        let copies = match message.reach.copies.get(&arrival) {
            _ if returns => Copies {
                all: 1,
                ..Copies::default()
            },
            Some(copies) => *copies,
            None => panic!("message {index} must not be on {subject} at {sub:?}: {message:?}"),
        };
        match (reply, &message.reply) {
            (Some(seen), Some(_)) if copies.asked > 0 && is_renamed(seen) => {
                let answers_at = copies.answers_at.filter(|_| copies.all == 1);
                self.renamed.insert(seen.to_owned(), (index, answers_at));
            }
            (seen, sent) => {
                let same = copies.asked < copies.all && seen == sent.as_deref();
                let same = same || seen.is_none() && sent.is_none();
                assert!(same, "reply of message {index}: {seen:?}, {copies:?}");
            }
        }
        let lines = String::from_utf8_lossy(header);
        let is_asked = lines.contains(REQUEST_INFO);
        assert!(
            !is_asked || copies.asked > 0,
            "message {index} was no request"
        );
        assert!(
            is_asked || copies.asked < copies.all || !keeps_headers,
            "request {index} does not say whose it is"
        );
        if is_asked {
            assert!(keeps_headers && lines.ends_with("\r\n\r\n"));
            assert_eq!(lines.contains("Kind: sim"), message.header);
        } else {
            let expected: &[u8] = if message.header && keeps_headers {
                HEADER
            } else {
                b""
            };
            assert!(header == expected, "header of message {index}: {header:?}");
        }
        assert!(
            body == payload(index, message.size),
            "payload of message {index}"
        );
        assert!(
            matches(&sub.subject, subject),
            "message {index} on {subject} came to {sub:?}"
        );
        assert!(
            message.echo || message.publisher != sub.owner,
            "echo of message {index} to {sub:?}"
        );
        if let Some(queue) = &sub.queue {
            message.taken.push((queue.clone(), sub.number));
            let times = message.taken.iter().filter(|(name, _)| name == queue);
            let most = match self.order {
                Order::Strict => message.reach.domains + back,
                Order::Loops { most } => most,
            };
            assert!(
                times.count() <= most,
                "message {index} on {subject}: group {queue} has taken it too often, now {sub:?}"
            );
        }
        let copy = (sub.number, arrival.1);
        let earlier = message.got.iter().filter(|got| **got == copy).count();
        let most = match self.order {
            Order::Strict => copies.all,
            Order::Loops { most } => most,
        };
        assert!(
            earlier < most,
            "message {index} on {subject} came to {sub:?} again"
        );
        message.got.push(copy);
        self.record.delivered += 1;
        let last = self.last.insert((sub.number, message.publisher), index);
        assert!(
            last.is_none_or(|last| last <= index)
                || copies.all > 1
                || returns
                || self.order != Order::Strict,
            "message {index} came to {sub:?} after {last:?}"
        );
        // The requester is shown its own reply, those behind a service the one it made.
        reply.map(str::to_owned)
    }

    /// The server says that nobody listens to a request.
    pub(crate) fn no_responders(&self, reply: &str) {
        let index = self.requests.get(reply);
        let message = index.and_then(|index| self.messages.get(*index));
        let message = message.unwrap_or_else(|| panic!("503 for no request: {reply}"));
        let due = message.due.as_ref().filter(|_| self.order == Order::Strict);
        assert!(
            due.is_none_or(|due| due.plain.is_empty() && due.groups.is_empty()),
            "503 for {message:?}"
        );
    }

    /// All that had to arrive has arrived, and nothing else.
    pub(crate) fn check_due(&mut self) {
        let mut answers = BTreeSet::new();
        for message in &self.messages {
            answers.extend(message.got.iter().map(|(_, subject)| subject.clone()));
        }
        for (index, message) in self.messages.iter_mut().enumerate() {
            let Some(due) = message.due.take() else {
                continue;
            };
            let times = |all: &[(u64, String)], copy: &(u64, String)| {
                all.iter().filter(|other| *other == copy).count()
            };
            self.record.required += due.plain.len() as u64;
            for copy in due.plain.iter().chain(&due.perhaps) {
                let (least, got) = (times(&due.plain, copy), times(&message.got, copy));
                let most = match self.order {
                    Order::Strict => least + times(&due.perhaps, copy),
                    Order::Loops { most } => most,
                };
                assert!(
                    (least..=most).contains(&got),
                    "message {index} on {} came {got} times, not {least} to {most}, to {:?}",
                    message.subject,
                    self.subs.get(&copy.0)
                );
            }
            if self.order != Order::Strict {
                continue;
            }
            let mut ended = self.ended.iter();
            let is_certain = !ended.any(|sub| matches(&sub.subject, &message.subject));
            for (number, subject) in message.got.iter().filter(|_| is_certain) {
                let sub = self.subs.get(number).filter(|sub| sub.max.is_none());
                let is_returned = message.subject != *subject && is_renamed(&message.subject);
                let is_plain = sub.is_some_and(|sub| sub.queue.is_none());
                let copy = (*number, subject.clone());
                assert!(
                    !is_plain
                        || is_returned
                        || times(&due.plain, &copy) + times(&due.perhaps, &copy) > 0,
                    "message {index} on {subject} came to {sub:?} for no reason"
                );
            }
            let imported = due
                .plain
                .iter()
                .filter(|(_, subject)| *subject != message.subject);
            self.record.imported += imported.count() as u64;
            let names: BTreeSet<&String> = due.groups.iter().map(|(name, _)| name).collect();
            for name in names {
                let all = || due.groups.iter().filter(|(other, _)| other == name);
                let among: BTreeSet<u64> = all().flat_map(|(_, among)| among.clone()).collect();
                let takers = message.taken.iter().filter(|(group, _)| group == name);
                let takers: Vec<u64> = takers.map(|(_, number)| *number).collect();
                self.record.required += takers.len() as u64;
                assert!(
                    takers.len() == all().count() && takers.iter().all(|one| among.contains(one)),
                    "message {index} on {}: group {name} is {:?}, and these had it: {takers:?}",
                    message.subject,
                    all().collect::<Vec<_>>()
                );
            }
            if self.answered.contains(&index)
                && let Some(reply) = &message.reply
            {
                self.record.required += 1;
                assert!(answers.contains(reply), "no answer to {index} on {reply}");
            }
        }
    }

    /// What had to arrive is not known after all.
    pub(crate) fn forget_due(&mut self) {
        for message in &mut self.messages {
            message.due = None;
        }
    }

    /// A message without obligations yet.
    pub(crate) fn message(
        publisher: u32,
        echo: bool,
        subject: &str,
        reply: Option<&str>,
    ) -> Message {
        Message {
            publisher,
            echo,
            subject: subject.to_owned(),
            reply: reply.map(str::to_owned),
            header: false,
            size: 0,
            reach: Rc::default(),
            due: None,
            got: Vec::new(),
            taken: Vec::new(),
        }
    }
}
