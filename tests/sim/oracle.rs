//! Who must, may and must not get each message.

use std::collections::{BTreeMap, BTreeSet};

/// Where a client is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Leaf(usize),
    Hub(usize),
}

/// A subject and a queue group.
pub(crate) type Key = (String, Option<String>);

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
    must: Vec<u64>,
    must_groups: Vec<String>,
    got: Vec<u64>,
    taken: Vec<String>,
}

/// All messages and all subscriptions of the world.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// Subscriptions as their owners see them.
    pub(crate) subs: BTreeMap<u64, Sub>,
    messages: Vec<Message>,
    requests: BTreeMap<String, usize>,
    last: BTreeMap<(u64, u32), usize>,
    numbers: u64,
    /// Everything is connected and nothing else changes: what is published now must arrive.
    pub(crate) probing: bool,
    /// Groups of which a member had its last message while probing: a server that has not heard of
    /// that may still choose it.
    pub(crate) ended: BTreeSet<String>,
    /// Deliveries, for the record.
    pub(crate) delivered: u64,
    /// Deliveries that had to be.
    pub(crate) required: u64,
}

pub(crate) const HEADER: &[u8] = b"NATS/1.0\r\nKind: sim\r\n\r\n";

/// Whether `subject` is matched by `pattern`, written down a second time.
pub(crate) fn matches(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some(p), Some(s)) if p == "*" || p == s => {}
            _ => return false,
        }
    }
}

fn reaches(from: Place, to: Place) -> bool {
    match (from, to) {
        (a, b) if a == b => true,
        (Place::Leaf(_), Place::Leaf(_)) => true,
        (Place::Leaf(leaf), Place::Hub(hub)) | (Place::Hub(hub), Place::Leaf(leaf)) => {
            hub == 0 || leaf == 0
        }
        (Place::Hub(_), Place::Hub(_)) => false,
    }
}

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

impl Oracle {
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// A message is about to be sent; answers its body (header and payload).
    pub(crate) fn publish(&mut self, from: Place, message: Message) -> Vec<u8> {
        let mut message = message;
        let index = self.messages.len();
        if self.probing {
            let eligible = |sub: &&Sub| message.echo || sub.owner != message.publisher;
            let heard: Vec<&Sub> = self
                .subs
                .values()
                .filter(|sub| reaches(from, sub.place) && matches(&sub.subject, &message.subject))
                .collect();
            for sub in heard.iter().copied().filter(eligible) {
                match &sub.queue {
                    None if sub.max.is_none() => message.must.push(sub.number),
                    Some(queue) => {
                        let limited = heard
                            .iter()
                            .any(|other| other.queue == sub.queue && other.max.is_some());
                        let limited = limited || self.ended.contains(queue);
                        if !limited && !message.must_groups.contains(queue) {
                            message.must_groups.push(queue.clone());
                        }
                    }
                    None => {}
                }
            }
        }
        if let Some(reply) = &message.reply {
            self.requests.insert(reply.clone(), index);
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
        let message = self
            .messages
            .get_mut(index)
            .unwrap_or_else(|| panic!("message {index} was never sent"));
        assert_eq!(message.subject, subject, "subject of message {index}");
        assert_eq!(message.reply.as_deref(), reply, "reply of message {index}");
        let expected: &[u8] = if message.header && keeps_headers {
            HEADER
        } else {
            b""
        };
        assert!(header == expected, "header of message {index}: {header:?}");
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
            assert!(
                !message.taken.contains(queue),
                "message {index} on {subject}: group {queue} has taken it twice, now {sub:?}"
            );
            message.taken.push(queue.clone());
        }
        message.got.push(sub.number);
        self.delivered += 1;
        let last = self.last.insert((sub.number, message.publisher), index);
        assert!(
            last.is_none_or(|last| last < index),
            "message {index} came to {sub:?} after {last:?}"
        );
        message.reply.clone()
    }

    /// The server says that nobody listens to a request.
    pub(crate) fn no_responders(&self, reply: &str) {
        let index = self.requests.get(reply);
        let message = index.and_then(|index| self.messages.get(*index));
        let message = message.unwrap_or_else(|| panic!("503 for no request: {reply}"));
        assert!(
            message.must.is_empty() && message.must_groups.is_empty(),
            "503 for {message:?}"
        );
    }

    /// All that had to arrive has arrived.
    pub(crate) fn check_musts(&mut self) {
        for (index, message) in self.messages.iter_mut().enumerate() {
            for sub in std::mem::take(&mut message.must) {
                self.required += 1;
                assert!(
                    message.got.contains(&sub),
                    "message {index} on {} never came to {:?}",
                    message.subject,
                    self.subs.get(&sub)
                );
            }
            for group in std::mem::take(&mut message.must_groups) {
                self.required += 1;
                assert!(
                    message.taken.contains(&group),
                    "message {index} on {} came to nobody of group {group}: {:?}; {:?}",
                    message.subject,
                    (
                        message.publisher,
                        message.echo,
                        &message.got,
                        &message.taken
                    ),
                    self.subs
                        .values()
                        .filter(|s| s.queue.is_some())
                        .collect::<Vec<_>>()
                );
            }
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
            must: Vec::new(),
            must_groups: Vec::new(),
            got: Vec::new(),
            taken: Vec::new(),
        }
    }
}
