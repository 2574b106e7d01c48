//! A hub: the accepting side of the leafnode protocol, small and strict, with clients of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use petiole_core::random::Random;
use petiole_core::time::Instant;

use crate::oracle::{HEADER, Key, Oracle, Place, matches};

/// Interest with its weights; 1 for the plain.
pub(crate) type Map = BTreeMap<Key, u32>;

/// The hub pings this often, and gives up at the third unanswered.
const PING_EVERY: Duration = Duration::from_secs(4);

/// One leaf link, named by its connection.
#[derive(Debug)]
pub(crate) struct HubLink {
    pub(crate) out: Vec<u8>,
    pub(crate) name: String,
    pub(crate) is_open: bool,
    /// What the leaf wants.
    pub(crate) interest: Map,
    /// What the leaf was told.
    pub(crate) told: Map,
    /// What the leaf was ever told.
    ever: BTreeSet<Key>,
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
    pub(crate) number: usize,
    pub(crate) up: bool,
    pub(crate) links: BTreeMap<usize, HubLink>,
    /// Connections of its own clients, by owner: whether it answers requests.
    pub(crate) clients: BTreeMap<u32, bool>,
    ids: u64,
    advertises_cluster: bool,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("names are text")
}

fn field(json: &str, name: &str) -> Option<String> {
    let from = json.find(&format!("\"{name}\":\""))? + name.len() + 4;
    Some(json[from..].split('"').next()?.to_owned())
}

impl Hub {
    pub(crate) fn new(number: usize, rng: &mut Random) -> Self {
        Hub {
            number,
            up: true,
            links: BTreeMap::new(),
            clients: BTreeMap::new(),
            ids: 0,
            advertises_cluster: rng.below(2) == 0,
        }
    }

    fn place(&self) -> Place {
        Place::Hub(self.number)
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
            interest: Map::new(),
            told: Map::new(),
            ever: BTreeSet::new(),
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
        let end = buf.windows(2).position(|two| two == b"\r\n")?;
        let line = text(&buf[..end]);
        let len = end + 2;
        let words: Vec<&str> = line.split(' ').collect();
        let link = self.links.get_mut(&conn)?;
        match words[0] {
            "CONNECT" => {
                assert!(!link.is_open, "a second CONNECT");
                self.connected(conn, &line, oracle, rng);
                return Some(len);
            }
            "PING" => {
                link.out.extend_from_slice(b"PONG\r\n");
                return Some(len);
            }
            "-ERR" => {
                let mild = [
                    "'Stale Connection'",
                    "'Stale Leaf Node Connection - Closing'",
                ];
                assert!(
                    mild.iter().any(|m| line.contains(m)),
                    "the leaf says {line}"
                );
                return Some(len);
            }
            _ => {}
        }
        assert!(link.is_open, "before the welcome: {line}");
        match words[0] {
            "PONG" => {
                assert!(link.pings > 0, "a PONG without PING");
                link.pings -= 1;
            }
            "LS+" => {
                let (key, weight) = match words[..] {
                    [_, subject] => ((subject.to_owned(), None), 1),
                    [_, subject, queue, weight] => (
                        (subject.to_owned(), Some(queue.to_owned())),
                        weight.parse().expect("a weight"),
                    ),
                    _ => panic!("malformed: {line}"),
                };
                assert!(weight > 0, "no weight: {line}");
                let before = link.interest.insert(key, weight);
                assert!(before != Some(weight), "said twice: {line}");
                self.advertise(oracle);
            }
            "LS-" => {
                let key = match words[..] {
                    [_, subject] => (subject.to_owned(), None),
                    [_, subject, queue] => (subject.to_owned(), Some(queue.to_owned())),
                    _ => panic!("malformed: {line}"),
                };
                assert!(link.interest.remove(&key).is_some(), "never said: {line}");
                self.advertise(oracle);
            }
            verb @ ("LMSG" | "HMSG") => {
                let sizes = if verb == "HMSG" { 2 } else { 1 };
                let names = &words[1..words.len() - sizes];
                let size: usize = words[words.len() - 1].parse().expect("a size");
                let header: usize = if sizes == 2 {
                    words[words.len() - 2].parse().expect("a size")
                } else {
                    0
                };
                let (subject, reply, queues): (&str, Option<&str>, &[&str]) = match names {
                    [subject] => (subject, None, &[]),
                    [subject, reply] => (subject, Some(reply), &[]),
                    [subject, "|", queues @ ..] => (subject, None, queues),
                    [subject, "+", reply, queues @ ..] => (subject, Some(reply), queues),
                    _ => panic!("malformed: {line}"),
                };
                if buf.len() < len + size + 2 {
                    return None;
                }
                assert!(
                    &buf[len + size..len + size + 2] == b"\r\n",
                    "size of {line}"
                );
                assert!(
                    link.ever
                        .iter()
                        .any(|(pattern, _)| matches(pattern, subject)),
                    "never asked for: {line}"
                );
                for queue in queues {
                    assert!(
                        link.ever.iter().any(|(pattern, group)| {
                            group.as_deref() == Some(queue) && matches(pattern, subject)
                        }),
                        "{queue} never asked for: {line}"
                    );
                }
                let body = &buf[len..len + size];
                let heard = Heard {
                    subject,
                    reply,
                    body,
                    header,
                };
                self.route(Some(conn), &heard, Some(queues), oracle, rng);
                return Some(len + size + 2);
            }
            _ => panic!("not of the protocol: {line}"),
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
            if sub.place == self.place() {
                count(&mut own, sub.key(), 1);
            }
        }
        let conns: Vec<usize> = self.links.keys().copied().collect();
        for conn in conns {
            let mut wanted = own.clone();
            for (other, link) in &self.links {
                if *other != conn && link.is_open {
                    for (key, weight) in &link.interest {
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
            for key in link.told.keys().filter(|key| !wanted.contains_key(key)) {
                let queue = key.1.as_ref().map(|q| format!(" {q}")).unwrap_or_default();
                link.out
                    .extend_from_slice(format!("LS- {}{queue}\r\n", key.0).as_bytes());
            }
            for (key, weight) in &wanted {
                if link.told.get(key) != Some(weight) {
                    let queue = key.1.as_ref().map(|q| format!(" {q} {weight}"));
                    let queue = queue.unwrap_or_default();
                    link.out
                        .extend_from_slice(format!("LS+ {}{queue}\r\n", key.0).as_bytes());
                    link.ever.insert(key.clone());
                }
            }
            link.told = wanted;
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
        let body = oracle.publish(self.place(), message);
        let heard = Heard {
            subject,
            reply,
            body: &body,
            header,
        };
        self.route(None, &heard, None, oracle, rng);
    }

    fn route(
        &mut self,
        from: Option<usize>,
        heard: &Heard<'_>,
        named: Option<&[&str]>,
        oracle: &mut Oracle,
        rng: &mut Random,
    ) {
        let mut chosen: Vec<u64> = Vec::new();
        let mut groups: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for sub in oracle.subs.values().filter(|sub| sub.place == self.place()) {
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
            for ((pattern, queue), weight) in &link.interest {
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
            if named.is_some_and(|named| !named.contains(&&*queue)) {
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

/// Plain interest is there or not, that of queue groups adds up.
pub(crate) fn count(map: &mut Map, key: Key, weight: u32) {
    if key.1.is_none() {
        map.insert(key, 1);
    } else {
        *map.entry(key).or_default() += weight;
    }
}

/// A message as it stands on the wire.
struct Heard<'a> {
    subject: &'a str,
    reply: Option<&'a str>,
    body: &'a [u8],
    header: usize,
}

impl Heard<'_> {
    fn word(&self, queues: &[String], out: &mut Vec<u8>) {
        let verb = if self.header > 0 { "HMSG" } else { "LMSG" };
        let mut line = format!("{verb} {}", self.subject);
        match (self.reply, queues) {
            (None, []) => {}
            (Some(reply), []) => line += &format!(" {reply}"),
            (None, queues) => line += &format!(" | {}", queues.join(" ")),
            (Some(reply), queues) => line += &format!(" + {reply} {}", queues.join(" ")),
        }
        if self.header > 0 {
            line += &format!(" {}", self.header);
        }
        line += &format!(" {}\r\n", self.body.len());
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(self.body);
        out.extend_from_slice(b"\r\n");
    }
}
