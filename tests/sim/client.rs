//! A client of a leaf: the client protocol on bytes.

use std::collections::VecDeque;
use std::time::Duration;

use petiole_core::random::Random;
use petiole_core::time::Instant;

use crate::model::Place;
use crate::oracle::{HEADER, Oracle, Sub};

/// A client pings this often, and gives up at the third unanswered.
const PING_EVERY: Duration = Duration::from_secs(20);
/// A server that has not let it in this long after the first ping was due is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// One client through all its connections.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) place: Place,
    /// What it says to prove who it is.
    login: String,
    pub(crate) conn: Option<usize>,
    /// Names the connection; its subscriptions and messages go by it.
    pub(crate) owner: u32,
    pub(crate) out: Vec<u8>,
    pub(crate) is_ready: bool,
    /// It shall connect, and stay connected.
    pub(crate) wanted: bool,
    pub(crate) retry_at: Instant,
    /// It reads nothing before.
    pub(crate) deaf_until: Instant,
    pub(crate) close: bool,
    pub(crate) answers: bool,
    echo: bool,
    headers: bool,
    input: Vec<u8>,
    greeted: bool,
    pings: u64,
    pongs: u64,
    next_ping: Instant,
    /// Subscriptions that end for sure with the answer to a ping.
    fences: VecDeque<(u64, u64)>,
    /// Unsubscribed, may still be under way.
    leaving: Vec<Sub>,
    inboxes: u64,
}

impl Client {
    /// One of an account of a server, with the user of this name.
    pub(crate) fn new(place: Place, user: Option<&str>) -> Self {
        let login = user.map(|user| format!("\"user\":\"{user}\",\"pass\":\"p\","));
        Client::of(place, login.unwrap_or_default())
    }

    fn of(place: Place, login: String) -> Self {
        Client {
            place,
            login,
            conn: None,
            owner: 0,
            out: Vec::new(),
            is_ready: false,
            wanted: true,
            retry_at: Instant::ZERO,
            deaf_until: Instant::ZERO,
            close: false,
            answers: false,
            echo: true,
            headers: true,
            input: Vec::new(),
            greeted: false,
            pings: 0,
            pongs: 0,
            next_ping: Instant::ZERO,
            fences: VecDeque::new(),
            leaving: Vec::new(),
            inboxes: 0,
        }
    }

    /// A new connection.
    pub(crate) fn connected(&mut self, now: Instant, conn: usize, owner: u32, rng: &mut Random) {
        *self = Client {
            conn: Some(conn),
            owner,
            deaf_until: now,
            answers: rng.below(2) == 0,
            echo: rng.below(4) != 0,
            headers: rng.below(5) != 0,
            next_ping: now + PING_EVERY,
            ..Client::of(self.place, std::mem::take(&mut self.login))
        };
    }

    /// The connection is gone.
    pub(crate) fn lost(&mut self, now: Instant, oracle: &mut Oracle, rng: &mut Random) {
        oracle.subs.retain(|_, sub| sub.owner != self.owner);
        *self = Client {
            wanted: self.wanted,
            retry_at: now + Duration::from_millis(rng.below(1500)),
            ..Client::of(self.place, std::mem::take(&mut self.login))
        };
    }

    /// Whether the server has handled all it was sent.
    pub(crate) fn is_settled(&self) -> bool {
        self.fences.is_empty() && self.out.is_empty() && self.pings == self.pongs
    }

    fn say(&mut self, line: &str) {
        self.out.extend_from_slice(line.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    fn ping(&mut self) {
        self.pings += 1;
        self.say("PING");
    }

    pub(crate) fn subscribe(
        &mut self,
        subject: &str,
        queue: Option<&str>,
        max: Option<u64>,
        oracle: &mut Oracle,
    ) {
        let number = oracle.number();
        let group = queue.map(|q| format!(" {q}")).unwrap_or_default();
        self.say(&format!("SUB {subject}{group} {number}"));
        if let Some(max) = max {
            self.say(&format!("UNSUB {number} {max}"));
        }
        let sub = Sub {
            number,
            place: self.place,
            subject: subject.to_owned(),
            queue: queue.map(str::to_owned),
            owner: self.owner,
            max,
            delivered: 0,
        };
        oracle.subs.insert(number, sub);
        if max.is_some() {
            // Until UNSUB has been handled there may be more.
            self.ping();
            self.fences.push_back((self.pings, number));
        }
    }

    pub(crate) fn unsubscribe(&mut self, number: u64, oracle: &mut Oracle) {
        if let Some(sub) = oracle.subs.remove(&number) {
            self.leaving.push(sub);
            self.say(&format!("UNSUB {number}"));
            self.ping();
            self.fences.push_back((self.pings, number));
        }
    }

    pub(crate) fn fence(&mut self) {
        self.ping();
    }

    pub(crate) fn publish(
        &mut self,
        subject: &str,
        reply: Option<&str>,
        size: usize,
        oracle: &mut Oracle,
        rng: &mut Random,
    ) {
        let mut message = Oracle::message(self.owner, self.echo, subject, reply);
        message.size = size;
        message.header = self.headers && rng.below(6) == 0;
        let header = message.header;
        let body = oracle.publish(self.place, message);
        let reply = reply.map(|r| format!(" {r}")).unwrap_or_default();
        if header {
            self.say(&format!(
                "HPUB {subject}{reply} {} {}",
                HEADER.len(),
                body.len()
            ));
        } else {
            self.say(&format!("PUB {subject}{reply} {}", body.len()));
        }
        self.out.extend_from_slice(&body);
        self.out.extend_from_slice(b"\r\n");
    }

    /// A request with an inbox that is subscribed to in the same breath.
    pub(crate) fn request(&mut self, subject: &str, oracle: &mut Oracle, rng: &mut Random) {
        self.inboxes += 1;
        let inbox = format!("_INBOX.{}.{}", self.owner, self.inboxes);
        let max = (rng.below(2) == 0).then_some(1);
        self.subscribe(&inbox, None, max, oracle);
        self.publish(subject, Some(&inbox), 30, oracle, rng);
    }

    /// Bytes of the server.
    pub(crate) fn receive(&mut self, bytes: &[u8], oracle: &mut Oracle, rng: &mut Random) {
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let mut used = 0;
        while let Some(len) = self.operation(&input[used..], oracle, rng) {
            used += len;
        }
        input.drain(..used);
        self.input = input;
    }

    fn operation(&mut self, buf: &[u8], oracle: &mut Oracle, rng: &mut Random) -> Option<usize> {
        let end = buf.windows(2).position(|two| two == b"\r\n")?;
        let line = String::from_utf8(buf[..end].to_vec()).expect("a line is text");
        let len = end + 2;
        let words: Vec<&str> = line.split(' ').collect();
        match words[0] {
            "INFO" => {
                assert!(!self.greeted || line.contains("\"ldm\":true"), "{line}");
                if !self.greeted {
                    self.greeted = true;
                    let (echo, headers, login) = (self.echo, self.headers, self.login.clone());
                    self.say(&format!(
                        "CONNECT {{{login}\"verbose\":false,\"pedantic\":false,\"echo\":{echo},\
                         \"headers\":{headers},\"no_responders\":{headers},\"protocol\":1}}"
                    ));
                    self.ping();
                }
            }
            "PING" => self.say("PONG"),
            "PONG" => {
                self.pongs += 1;
                assert!(self.pongs <= self.pings, "a PONG too many");
                self.is_ready = true;
                while let Some((ping, number)) = self.fences.front().copied()
                    && ping <= self.pongs
                {
                    self.fences.pop_front();
                    if self.fences.iter().all(|(_, fenced)| *fenced != number) {
                        self.leaving.retain(|sub| sub.number != number);
                    }
                }
            }
            "-ERR" => {
                let known = ["'Stale Connection'", "'Authentication Timeout'"];
                assert!(
                    known.iter().any(|k| line.contains(k)),
                    "the server says {line}"
                );
            }
            verb @ ("MSG" | "HMSG") => {
                let sizes = if verb == "HMSG" { 2 } else { 1 };
                let size: usize = words[words.len() - 1].parse().expect("a size");
                let header: usize = if sizes == 2 {
                    words[words.len() - 2].parse().expect("a size")
                } else {
                    0
                };
                let (subject, sid, reply) = match &words[1..words.len() - sizes] {
                    [subject, sid] => (*subject, *sid, None),
                    [subject, sid, reply] => (*subject, *sid, Some(*reply)),
                    _ => panic!("malformed: {line}"),
                };
                if buf.len() < len + size + 2 {
                    return None;
                }
                assert!(
                    &buf[len + size..len + size + 2] == b"\r\n",
                    "size of {line}"
                );
                assert!(header == 0 || self.headers, "headers not agreed on: {line}");
                let (header, body) = buf[len..len + size].split_at(header);
                self.delivered(subject, sid, reply, header, body, oracle, rng);
                return Some(len + size + 2);
            }
            _ => panic!("not of the protocol: {line}"),
        }
        Some(len)
    }

    #[allow(clippy::too_many_arguments)] // the parts of one line
    fn delivered(
        &mut self,
        subject: &str,
        sid: &str,
        reply: Option<&str>,
        header: &[u8],
        body: &[u8],
        oracle: &mut Oracle,
        rng: &mut Random,
    ) {
        let number: u64 = sid.parse().expect("our sid");
        let sub = match oracle.subs.get_mut(&number) {
            Some(sub) => sub,
            None => self
                .leaving
                .iter_mut()
                .find(|sub| sub.number == number)
                .unwrap_or_else(|| panic!("{subject} for {sid}, which is not subscribed")),
        };
        assert_eq!((sub.owner, sub.place), (self.owner, self.place));
        // It is not one of the messages that UNSUB counts.
        if header.starts_with(b"NATS/1.0 503") {
            oracle.no_responders(subject);
            return;
        }
        sub.delivered += 1;
        let settled = self.fences.iter().all(|(_, fenced)| *fenced != number);
        assert!(
            !settled || sub.max.is_none_or(|max| sub.delivered <= max),
            "more than asked for: {sub:?}"
        );
        let sub = sub.clone();
        if sub.is_used_up()
            && let Some(sub) = oracle.subs.remove(&number)
        {
            oracle.ended.push(sub.clone());
            if !settled {
                self.leaving.push(sub);
            }
        }
        let answer = oracle.deliver(&sub, subject, reply, header, body, self.headers);
        if let Some(reply) = answer
            && self.answers
        {
            self.publish(&reply, None, 20, oracle, rng);
        }
    }

    /// Once a second.
    pub(crate) fn tick(&mut self, now: Instant) {
        // A server that never answers is given up, too.
        self.close |= self.conn.is_some() && !self.is_ready && now >= self.next_ping + PATIENCE;
        if self.is_ready && now >= self.next_ping && now >= self.deaf_until {
            self.next_ping = now + PING_EVERY;
            self.close |= self.pings - self.pongs >= 3;
            self.ping();
        }
    }
}
