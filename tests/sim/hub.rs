//! A hub: the accepting side of the leafnode protocol, small and strict, with clients of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use petiole_core::random::Random;
use petiole_core::time::Instant;

use crate::model::{Map, Place, count, matches};
use crate::oracle::{HEADER, Oracle};
use crate::wire::{self, Heard, Interest, Op};

/// The hub pings this often, and gives up at the third unanswered.
const PING_EVERY: Duration = Duration::from_secs(4);

/// One leaf link, named by its connection.
#[derive(Debug)]
pub(crate) struct HubLink {
    pub(crate) out: Vec<u8>,
    pub(crate) name: String,
    pub(crate) is_open: bool,
    /// What the leaf wants.
    pub(crate) wanted: Interest,
    /// What the leaf was told.
    pub(crate) told: Interest,
    input: Vec<u8>,
    pings: u32,
    next_ping: Instant,
    since: Instant,
    /// When the leaf last took bytes.
    pub(crate) progress: Instant,
    /// Nothing is read before.
    pub(crate) deaf_until: Instant,
    pub(crate) close: bool,
}

/// A hub with its links and clients.
#[derive(Debug)]
pub(crate) struct Hub {
    number: usize,
    /// It has one account.
    pub(crate) place: Place,
    pub(crate) up: bool,
    pub(crate) links: BTreeMap<usize, HubLink>,
    /// Connections of its own clients, by owner: whether it answers requests.
    pub(crate) clients: BTreeMap<u32, bool>,
    ids: u64,
    advertises_cluster: bool,
}

fn field(json: &str, name: &str) -> Option<String> {
    let from = json.find(&format!("\"{name}\":\""))? + name.len() + 4;
    Some(json[from..].split('"').next()?.to_owned())
}

impl Hub {
    pub(crate) fn new(number: usize, place: Place, rng: &mut Random) -> Self {
        Hub {
            number,
            place,
            up: true,
            links: BTreeMap::new(),
            clients: BTreeMap::new(),
            ids: 0,
            advertises_cluster: rng.below(2) == 0,
        }
    }

    fn info(&self, extra: &str) -> String {
        let cluster = if self.advertises_cluster {
            format!("\"cluster\":\"C{}\",", self.number)
        } else {
            String::new()
        };
        format!(
            "INFO {{\"server_id\":\"HUB{0}\",\"server_name\":\"hub{0}\",\"version\":\"2.10.27\",\
             \"proto\":1,\"headers\":true,\"auth_required\":true,\"max_payload\":1048576,{cluster}\
             \"info_on_connect\":true,\"leafnode_urls\":[]{extra}}} \r\n",
            self.number
        )
    }

    pub(crate) fn accept(&mut self, now: Instant, conn: usize) {
        self.ids += 1;
        let extra = format!(",\"client_id\":{},\"nonce\":\"3ATRbp9KbTGpdWQ\"", self.ids);
        let link = HubLink {
            out: self.info(&extra).into_bytes(),
            name: String::new(),
            is_open: false,
            wanted: Interest::default(),
            told: Interest::default(),
            input: Vec::new(),
            pings: 0,
            next_ping: now + Duration::from_secs(1),
            since: now,
            progress: now,
            deaf_until: now,
            close: false,
        };
        self.links.insert(conn, link);
    }

    /// Bytes of a leaf.
    pub(crate) fn receive(
        &mut self,
        conn: usize,
        bytes: &[u8],
        oracle: &mut Oracle,
        rng: &mut Random,
    ) {
        let Some(link) = self.links.get_mut(&conn) else {
            return;
        };
        let mut input = std::mem::take(&mut link.input);
        input.extend_from_slice(bytes);
        let mut used = 0;
        while let Some(len) = self.operation(conn, &input[used..], oracle, rng) {
            used += len;
            if self.links.get(&conn).is_none_or(|link| link.close) {
                return;
            }
        }
        input.drain(..used);
        if let Some(link) = self.links.get_mut(&conn) {
            link.input = input;
        }
    }

    /// Handles the operation at the start of `buf`, answers its length.
    fn operation(
        &mut self,
        conn: usize,
        buf: &[u8],
        oracle: &mut Oracle,
        rng: &mut Random,
    ) -> Option<usize> {
        let (op, len) = wire::next(buf)?;
        let link = self.links.get_mut(&conn)?;
        let words = match op {
            Op::Message(heard) => {
                assert!(link.is_open, "before the welcome: {heard:?}");
                link.told.check(&heard);
                self.route(Some(conn), &heard, oracle, rng);
                return Some(len);
            }
            Op::Line(words) => words,
        };
        match words[0] {
            "CONNECT" => {
                assert!(!link.is_open, "a second CONNECT");
                self.connected(conn, words[1], oracle, rng);
            }
            "PING" => link.out.extend_from_slice(b"PONG\r\n"),
            "-ERR" => {
                let line = words.join(" ");
                let mild = [
                    "'Stale Connection'",
                    "'Stale Leaf Node Connection - Closing'",
                ];
                assert!(
                    mild.iter().any(|m| line.contains(m)),
                    "the leaf says {line}"
                );
            }
            _ if !link.is_open => panic!("before the welcome: {words:?}"),
            "PONG" => {
                assert!(link.pings > 0, "a PONG without PING");
                link.pings -= 1;
            }
            "LS+" | "LS-" => {
                link.wanted.note(&words);
                self.advertise(oracle);
            }
            _ => panic!("not of the protocol: {words:?}"),
        }
        Some(len)
    }

    fn connected(&mut self, conn: usize, line: &str, oracle: &mut Oracle, rng: &mut Random) {
        let name = field(line, "name").expect("a name");
        assert_eq!(field(line, "cluster").as_deref(), Some(&*name));
        // The same server again: the old link goes.
        for link in self.links.values_mut() {
            if link.is_open && link.name == name {
                link.out
                    .extend_from_slice(b"-ERR 'Duplicate Remote LeafNode Connection'\r\n");
                link.close = true;
                link.is_open = false;
            }
        }
        let extra = ",\"client_id\":9,\"connect_info\":true,\"remote_account\":\"$G\"";
        let welcome = self.info(extra);
        let Some(link) = self.links.get_mut(&conn) else {
            return;
        };
        link.name = name;
        link.is_open = true;
        link.out.extend_from_slice(welcome.as_bytes());
        self.advertise(oracle);
        if rng.below(4) == 0 {
            let later = self.info("");
            if let Some(link) = self.links.get_mut(&conn) {
                link.out.extend_from_slice(later.as_bytes());
            }
        }
    }

    /// Tells each leaf what changed of the interest of the others.
    pub(crate) fn advertise(&mut self, oracle: &Oracle) {
        let mut own = Map::new();
        own.insert((format!("$LDS.hub{}", self.number), None), 1);
        for sub in oracle.subs.values() {
            if sub.place == self.place {
                count(&mut own, sub.key(), 1);
            }
        }
        let conns: Vec<usize> = self.links.keys().copied().collect();
        for conn in conns {
            let mut wanted = own.clone();
            for (other, link) in &self.links {
                if *other != conn && link.is_open {
                    for (key, weight) in &link.wanted.now {
                        count(&mut wanted, key.clone(), *weight);
                    }
                }
            }
            let Some(link) = self.links.get_mut(&conn) else {
                continue;
            };
            if !link.is_open {
                continue;
            }
            let told = &link.told.now;
            let gone = told.keys().filter(|key| !wanted.contains_key(key));
            let gone = gone.map(|(subject, queue)| match queue {
                Some(queue) => format!("LS- {subject} {queue}"),
                None => format!("LS- {subject}"),
            });
            let new = wanted
                .iter()
                .filter(|(key, weight)| told.get(key) != Some(*weight));
            let new = new.map(|((subject, queue), weight)| match queue {
                Some(queue) => format!("LS+ {subject} {queue} {weight}"),
                None => format!("LS+ {subject}"),
            });
            for line in gone.chain(new).collect::<Vec<_>>() {
                link.told.note(&line.split(' ').collect::<Vec<_>>());
                link.out.extend_from_slice(line.as_bytes());
                link.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// A client of this hub publishes.
    pub(crate) fn publish(
        &mut self,
        owner: u32,
        subject: &str,
        reply: Option<&str>,
        size: usize,
        oracle: &mut Oracle,
        rng: &mut Random,
    ) {
        let mut message = Oracle::message(owner, true, subject, reply);
        message.size = size;
        message.header = rng.below(6) == 0;
        let header = if message.header { HEADER.len() } else { 0 };
        let body = oracle.publish(self.place, message);
        let heard = Heard {
            subject,
            reply,
            queues: Vec::new(),
            body: &body,
            header,
        };
        self.route(None, &heard, oracle, rng);
    }

    fn route(
        &mut self,
        from: Option<usize>,
        heard: &Heard<'_>,
        oracle: &mut Oracle,
        rng: &mut Random,
    ) {
        let mut chosen: Vec<u64> = Vec::new();
        let mut groups: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for sub in oracle.subs.values().filter(|sub| sub.place == self.place) {
            if matches(&sub.subject, heard.subject) {
                match &sub.queue {
                    None => chosen.push(sub.number),
                    Some(queue) => groups.entry(queue.clone()).or_default().push(sub.number),
                }
            }
        }
        let mut links: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        let mut distant: BTreeMap<String, Vec<(usize, u32)>> = BTreeMap::new();
        for (conn, link) in &self.links {
            if from == Some(*conn) || !link.is_open {
                continue;
            }
            for ((pattern, queue), weight) in &link.wanted.now {
                if matches(pattern, heard.subject) {
                    match queue {
                        None => {
                            links.entry(*conn).or_default();
                        }
                        Some(queue) => distant
                            .entry(queue.clone())
                            .or_default()
                            .push((*conn, *weight)),
                    }
                }
            }
        }
        let all: BTreeSet<String> = groups.keys().chain(distant.keys()).cloned().collect();
        for queue in all {
            if from.is_some() && !heard.queues.contains(&&*queue) {
                continue;
            }
            if let Some(members) = groups.get(&queue) {
                chosen.push(members[rng.below(members.len() as u64) as usize]);
            } else if let Some(members) = distant.get(&queue) {
                let (conn, _) = members[rng.below(members.len() as u64) as usize];
                links.entry(conn).or_default().push(queue);
            }
        }
        for (conn, queues) in links {
            if let Some(link) = self.links.get_mut(&conn) {
                heard.word(&queues, &mut link.out);
            }
        }
        let mut answers = Vec::new();
        for number in chosen {
            let Some(sub) = oracle.subs.get(&number).cloned() else {
                continue;
            };
            let (header, body) = heard.body.split_at(heard.header);
            let reply = oracle.deliver(&sub, heard.subject, heard.reply, header, body, true);
            if let Some(reply) = reply
                && self.clients.get(&sub.owner) == Some(&true)
            {
                answers.push((sub.owner, reply));
            }
        }
        for (owner, reply) in answers {
            self.publish(owner, &reply, None, 20, oracle, rng);
        }
    }

    /// Once a second.
    pub(crate) fn tick(&mut self, now: Instant) {
        for link in self.links.values_mut() {
            let unheard = !link.is_open && now.since(link.since) > Duration::from_secs(2);
            let stuck = !link.out.is_empty() && now.since(link.progress) > Duration::from_secs(10);
            link.close |= unheard || stuck;
            if link.is_open && now >= link.next_ping {
                link.next_ping = now + PING_EVERY;
                link.close |= link.pings >= 3;
                link.pings += 1;
                link.out.extend_from_slice(b"PING\r\n");
            }
        }
    }
}
