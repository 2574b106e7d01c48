//! A day on a bad line: one leaf, one hub, 64 kbit/s, 800 ms there and back, one packet in 33 lost,
//! outages and cuts. Nothing but these may end a link, and everything heals by itself.
//!
//! `SIM_LINE_SEEDS=n` sets how many days are lived through, `SIM_LINE_SEED=n` replays one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use petiole_core::backoff::{RECONNECT_CAP, RECONNECT_FLOOR};
use petiole_core::config::model::{Config, Remote, Scheme, Url};
use petiole_core::link::leaf::Signed;
use petiole_core::link::queue::WritePlan;
use petiole_core::link::uplink::{Attempt, State};
use petiole_core::link::{LinkId, Proof, Secured, Server};
use petiole_core::random::Random;
use petiole_core::time::Instant;
use petiole_leaf::{Node, NodeEvent};
use petiole_net::driver::Engine;

use crate::agenda::Agenda;
use crate::seeds;

const DAY: Duration = Duration::from_secs(24 * 3600);
const SEEDS: u64 = 6;

/// One way.
const LATENCY: Duration = Duration::from_millis(400);
const ROUND_TRIP: Duration = Duration::from_millis(800);
const BYTES_PER_SECOND: u64 = 8000;
const LOSS_PERCENT: u64 = 3;
const SEGMENT: usize = 1400;
/// Headers of IP and TCP with their options.
const OVERHEAD: usize = 52;
/// Segments under way that are not acknowledged.
const WINDOW: usize = 12;
/// What the leaf's system holds unsent (TCP_NOTSENT_LOWAT); it asks for more at half of it.
const UNSENT: usize = 8 << 10;
/// The first retransmission; each further one waits for twice as long.
const RETRANSMIT: Duration = Duration::from_millis(1200);
const MOST_RETRANSMIT: Duration = Duration::from_secs(120);
/// The leaf's TCP_USER_TIMEOUT.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// nats-server's own keepalive.
const HUB_PING: Duration = Duration::from_secs(120);
const HUB_PINGS: u32 = 2;
/// What a message may wait at the leaf (`max_queue_time`), and by how much the estimate may err: the
/// line is judged by its last ten seconds.
const QUEUE_TIME: Duration = Duration::from_secs(60);
const QUEUE_SLACK: Duration = Duration::from_secs(30);
/// A line's worth of `QUEUE_TIME`, and what came before the line could be judged.
const QUEUE_BYTES: usize = 700 << 10;
/// A chunk of 8 KiB at 64 kbit/s, what the system holds before it, and a message on top.
const PONG_WAIT: Duration = Duration::from_secs(4);
const SECOND: Duration = Duration::from_secs(1);

type Span = (Instant, Instant);

/// The time of `spans` (in order) that lies within `from` and `to`.
fn overlap(spans: &VecDeque<Span>, from: Instant, to: Instant) -> Duration {
    let mut sum = Duration::ZERO;
    for (begin, end) in spans.iter().rev() {
        if *end <= from {
            break;
        }
        sum += (*end).min(to).since((*begin).max(from));
    }
    sum
}

/// When the line carries nothing, for the whole day.
struct Outages(Vec<Span>);

impl Outages {
    fn new(rng: &mut Random) -> Self {
        let mut spans = Vec::new();
        let mut at = Instant::ZERO + 60 * SECOND;
        loop {
            at = at + Duration::from_secs(60 + rng.below(2400));
            if at >= Instant::ZERO + DAY {
                return Outages(spans);
            }
            let most = [4, 20, 60, 600][rng.below(4) as usize];
            let end = at + Duration::from_millis(500 + rng.below(most * 1000));
            spans.push((at, end));
            at = end;
        }
    }

    /// The outage at, or the last one before, a time.
    fn last(&self, at: Instant) -> Option<Span> {
        let next = self.0.partition_point(|(begin, _)| *begin <= at);
        next.checked_sub(1).map(|last| self.0[last])
    }

    fn is_out(&self, at: Instant) -> bool {
        self.last(at).is_some_and(|(_, end)| at < end)
    }

    fn lose(&self, rng: &mut Random, at: Instant) -> bool {
        // The loss is drawn in any case: chance does not depend on outages.
        rng.below(100) < LOSS_PERCENT || self.is_out(at)
    }
}

/// One direction of a connection over the line.
struct Way {
    /// Given by the application, not yet sent.
    unsent: VecDeque<u8>,
    /// Under way: when it arrives, and its bytes.
    flight: VecDeque<(Instant, Vec<u8>)>,
    /// When what has been sent is acknowledged.
    acks: VecDeque<Instant>,
    last_arrival: Instant,
    /// While a lost segment held up those behind it.
    stalls: VecDeque<Span>,
    /// Since when the oldest unacknowledged segment waits.
    oldest: Instant,
    blocked: bool,
}

impl Way {
    fn new(now: Instant) -> Self {
        Way {
            unsent: VecDeque::new(),
            flight: VecDeque::new(),
            acks: VecDeque::new(),
            last_arrival: now,
            stalls: VecDeque::new(),
            oldest: now,
            blocked: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// The leaf's core closed it.
    Leaf,
    /// The leaf's system gave it up.
    Unacknowledged,
    /// The line told both ends.
    Cut,
    /// The hub took it for an old one.
    Displaced,
}

const UP: usize = 0;
const DOWN: usize = 1;

struct Conn {
    link: LinkId,
    ways: [Way; 2],
    /// Whether the leaf and the hub still have it.
    open: [bool; 2],
    made: Instant,
    synced: Option<Instant>,
    /// When the first INFO reached the leaf.
    greeted: Option<Instant>,
    hub: HubSide,
    /// PINGs of the hub that the leaf has read and not answered.
    asked: VecDeque<Instant>,
    /// The end of what was written before.
    tail: Vec<u8>,
    /// The same of what was read.
    head: Vec<u8>,
    heard: usize,
    /// What the line still had of the link before when the first INFO came.
    jam: Duration,
}

/// What the hub keeps of a link.
#[derive(Default)]
struct HubSide {
    input: Vec<u8>,
    connected: bool,
    interest: BTreeSet<String>,
    pings: u32,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tick {
    Arrive(usize, usize),
    Acknowledge(usize, usize),
    /// Looks whether the leaf's system gives the connection up.
    Overdue(usize),
    Accepted(usize),
    HubPing(usize),
    Dialed(bool),
    Timer,
    Publish,
    HubPublish,
    Change,
    Cut,
    /// The end of the hub's stream.
    Closed(usize),
}

/// What happened, for the record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Record {
    links: u64,
    outages: usize,
    cuts: u64,
    unacknowledged: u64,
    closed_by_leaf: u64,
    stale_at_hub: u64,
    duplicates: u64,
    displaced: u64,
    published: u64,
    received: u64,
    down_received: u64,
    pongs: u64,
    /// The longest, without the time in which a lost segment held up the line.
    pong_wait: Duration,
    pong_wait_whole: Duration,
    message_wait: Duration,
    most_queued: usize,
    handshake: Duration,
    /// From a usable line to a synced link.
    recoveries: Vec<Duration>,
    failed_attempts: u64,
}

struct Day {
    rng: Random,
    agenda: Agenda<Tick>,
    node: Node,
    timer_at: Option<Instant>,
    outages: Outages,
    /// When each direction of the line has sent what it was given.
    busy: [Instant; 2],
    conns: BTreeMap<usize, Conn>,
    numbers: usize,
    client: LinkId,
    subs: BTreeSet<u32>,
    buffer: Vec<u8>,
    burst_until: Instant,
    quiet: bool,
    record: Record,
    // The back-off as promised, written down a second time.
    trouble: Duration,
    mark: Instant,
    is_up: bool,
    lost: Instant,
    dial_from: Instant,
    /// Attempts that failed though they began on a usable line, since there is one.
    late_failures: u32,
}

fn url() -> Url {
    Url::new(Scheme::Leaf, "hub", 7422)
}

impl Day {
    fn new(seed: u64) -> Self {
        let mut rng = Random::new(seed);
        let outages = Outages::new(&mut rng);
        let config = Config {
            remotes: vec![Remote::at(url())],
            server_name: Some("leaf".into()),
            ..Config::default()
        };
        let server = Server {
            id: "NLEAF".into(),
            name: "leaf".into(),
            toolchain: "sim",
            host: "sim".into(),
            port: 4222,
            headers: true,
        };
        let now = Instant::ZERO;
        let mut node = Node::new(&config, server, Box::new(Random::new(rng.draw())), now);
        let address = SocketAddr::from(([127, 0, 0, 1], 5000));
        let client = node.accept(now, address, Secured::default());
        let record = Record {
            outages: outages.0.len(),
            ..Record::default()
        };
        let mut day = Day {
            rng,
            agenda: Agenda::new(),
            node,
            timer_at: None,
            outages,
            busy: [now; 2],
            conns: BTreeMap::new(),
            numbers: 0,
            client,
            subs: BTreeSet::new(),
            buffer: vec![0; 64 << 10],
            burst_until: now,
            quiet: false,
            record,
            trouble: Duration::ZERO,
            mark: now,
            is_up: false,
            lost: now,
            dial_from: now,
            late_failures: 0,
        };
        day.client_says(
            b"CONNECT {\"verbose\":false,\"headers\":true}\r\nSUB down.> 1\r\nPING\r\n",
        );
        for sub in 0..40 {
            day.subs.insert(sub);
            day.client_says(format!("SUB i.{sub} {}\r\n", sub + 10).as_bytes());
        }
        day.push(now, Tick::Publish);
        day.push(now, Tick::HubPublish);
        day.push(now + SECOND, Tick::Change);
        let cut = Duration::from_secs(day.rng.below(7200));
        day.push(now + cut, Tick::Cut);
        day.pump();
        day
    }

    fn push(&mut self, at: Instant, tick: Tick) {
        self.agenda.push(at, tick);
    }

    fn run_for(&mut self, time: Duration) {
        let until = self.agenda.after(time);
        while let Some(tick) = self.agenda.next(until) {
            self.handle(tick);
        }
    }

    fn handle(&mut self, tick: Tick) {
        match tick {
            Tick::Arrive(conn, way) => self.arrive(conn, way),
            Tick::Acknowledge(conn, way) => self.acknowledge(conn, way),
            Tick::Overdue(conn) => self.look_overdue(conn),
            Tick::Accepted(conn) => self.hub_says(
                conn,
                b"INFO {\"server_id\":\"HUB\",\"server_name\":\"hub\",\"version\":\"2.15.1\",\
                  \"headers\":true,\"max_payload\":1048576,\"client_id\":7,\"nonce\":\"3ATRbp9KbTG\",\
                  \"info_on_connect\":true,\"leafnode_urls\":[]} \r\n",
            ),
            Tick::Closed(conn) => self.closed(conn),
            Tick::HubPing(conn) => self.hub_ping(conn),
            Tick::Dialed(made) => self.dialed(made),
            Tick::Timer => {
                self.timer_at = None;
                while self.node.poll_timeout().is_some_and(|at| at <= self.agenda.now) {
                    self.node.handle_timeout(self.agenda.now);
                }
                self.pump();
            }
            Tick::Publish => self.publish(),
            Tick::HubPublish => self.hub_publishes(),
            Tick::Change => self.change_interest(),
            Tick::Cut => {
                let open: Vec<usize> = self.conns.keys().copied().collect();
                if !self.quiet {
                    self.record.cuts += 1;
                    for conn in open {
                        self.hub_drops(conn);
                        self.leaf_loses(conn, Cause::Cut);
                    }
                }
                let next = Duration::from_secs(600 + self.rng.below(7200));
                self.push(self.agenda.now + next, Tick::Cut);
            }
        }
    }

    // The line.

    /// Sends what the window admits.
    fn transmit(&mut self, number: usize, which: usize) {
        let Some(conn) = self.conns.get_mut(&number) else {
            return;
        };
        // A dead end acknowledges nothing.
        if !conn.open[1 - which] {
            return;
        }
        let way = &mut conn.ways[which];
        let mut pushes = Vec::new();
        while !way.unsent.is_empty() && way.acks.len() < WINDOW {
            let count = way.unsent.len().min(SEGMENT);
            let bytes: Vec<u8> = way.unsent.drain(..count).collect();
            let begin = self.busy[which].max(self.agenda.now);
            let nanos = (count + OVERHEAD) as u64 * 1_000_000_000 / BYTES_PER_SECOND;
            let sent = begin + Duration::from_nanos(nanos);
            self.busy[which] = sent;
            let mut at = sent;
            let mut again = RETRANSMIT;
            while self.outages.lose(&mut self.rng, at) {
                at = at + again;
                again = (again * 2).min(MOST_RETRANSMIT);
            }
            let smooth = (sent + LATENCY).max(way.last_arrival);
            let arrival = (at + LATENCY).max(way.last_arrival);
            if arrival > smooth {
                way.stalls.push_back((smooth, arrival + LATENCY));
                if way.stalls.len() > 64 {
                    way.stalls.pop_front();
                }
            }
            way.last_arrival = arrival;
            if way.acks.is_empty() {
                way.oldest = sent;
            }
            way.acks.push_back(arrival + LATENCY);
            way.flight.push_back((arrival, bytes));
            pushes.push((arrival, Tick::Arrive(number, which)));
            pushes.push((arrival + LATENCY, Tick::Acknowledge(number, which)));
            if which == UP && (arrival + LATENCY).since(sent) >= UNACKNOWLEDGED {
                pushes.push((sent + UNACKNOWLEDGED, Tick::Overdue(number)));
            }
        }
        for (at, tick) in pushes {
            self.push(at, tick);
        }
    }

    fn acknowledge(&mut self, number: usize, which: usize) {
        let now = self.agenda.now;
        let Some(conn) = self.conns.get_mut(&number) else {
            return;
        };
        let way = &mut conn.ways[which];
        while way.acks.front().is_some_and(|at| *at <= now) {
            way.acks.pop_front();
            way.oldest = now;
        }
        self.transmit(number, which);
        if which == UP {
            self.drive(number);
        }
    }

    fn look_overdue(&mut self, number: usize) {
        let overdue = self.conns.get(&number).is_some_and(|conn| {
            let way = &conn.ways[UP];
            !way.acks.is_empty() && self.agenda.now.since(way.oldest) >= UNACKNOWLEDGED
        });
        if overdue {
            self.leaf_loses(number, Cause::Unacknowledged);
        } else if let Some(conn) = self.conns.get(&number)
            && !conn.ways[UP].acks.is_empty()
        {
            let at = conn.ways[UP].oldest + UNACKNOWLEDGED;
            if at > self.agenda.now {
                self.push(at, Tick::Overdue(number));
            }
        }
    }

    fn arrive(&mut self, number: usize, which: usize) {
        let now = self.agenda.now;
        let Some(conn) = self.conns.get_mut(&number) else {
            return;
        };
        let way = &mut conn.ways[which];
        let mut bytes = Vec::new();
        while way.flight.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, more)) = way.flight.pop_front() {
                bytes.extend(more);
            }
        }
        if bytes.is_empty() || !conn.open[1 - which] {
            return;
        }
        if which == UP {
            self.hub_hears(number, &bytes);
        } else {
            self.leaf_hears(number, &bytes);
        }
    }

    // The leaf.

    fn pump(&mut self) {
        loop {
            let mut woken = Vec::new();
            while let Some(id) = self.node.poll_wake() {
                woken.push(id);
            }
            for id in &woken {
                if *id == self.client {
                    self.serve_client();
                } else if let Some(number) = self.conn_of(*id) {
                    self.drive_link(number);
                }
            }
            let mut busy = !woken.is_empty();
            while let Some(event) = self.node.poll_event() {
                busy = true;
                match event {
                    NodeEvent::Dial { .. } => self.dial(),
                    NodeEvent::Sign { link, .. } => {
                        let proof = Proof::Signed(Ok(Signed::default()));
                        self.node.handle_proof(self.agenda.now, link, proof);
                    }
                    NodeEvent::Verify { .. } => panic!("no passwords here"),
                }
            }
            if !busy {
                break;
            }
        }
        self.look_synced();
        if let Some(at) = self.node.poll_timeout()
            && self.timer_at.is_none_or(|set| at < set)
        {
            self.timer_at = Some(at);
            self.push(at, Tick::Timer);
        }
    }

    fn conn_of(&self, link: LinkId) -> Option<usize> {
        let mut open = self.conns.iter().filter(|(_, conn)| conn.open[0]);
        open.find(|(_, conn)| conn.link == link).map(|(n, _)| *n)
    }

    fn drive(&mut self, number: usize) {
        self.drive_link(number);
        self.pump();
    }

    /// Writes what the system takes.
    fn drive_link(&mut self, number: usize) {
        loop {
            let Some(conn) = self.conns.get_mut(&number).filter(|conn| conn.open[0]) else {
                return;
            };
            let wants = self.node.wants(conn.link);
            if wants.close {
                return self.leaf_loses(number, Cause::Leaf);
            }
            if !wants.write {
                return;
            }
            let way = &mut conn.ways[UP];
            let most = if way.blocked { UNSENT / 2 } else { UNSENT };
            if way.unsent.len() >= most {
                way.blocked = true;
                self.node.handle_blocked(self.agenda.now, conn.link);
                return;
            }
            way.blocked = false;
            let room = UNSENT - way.unsent.len();
            let mut plan = WritePlan::new();
            self.node.poll_transmit(conn.link, &mut plan);
            let mut count = 0;
            conn.tail.drain(..conn.tail.len().saturating_sub(5));
            for piece in &plan {
                let now = piece.len().min(room - count);
                way.unsent.extend(&piece[..now]);
                conn.tail.extend_from_slice(&piece[..now]);
                count += now;
            }
            drop(plan);
            assert!(count > 0, "a write without bytes");
            let link = conn.link;
            self.look_for_pongs(number);
            self.node.handle_transmitted(self.agenda.now, link, count);
            self.transmit(number, UP);
        }
    }

    fn look_for_pongs(&mut self, number: usize) {
        let Some(conn) = self.conns.get_mut(&number) else {
            return;
        };
        let found = conn.tail.windows(6).filter(|w| w == b"PONG\r\n").count();
        for _ in 0..found {
            let asked = conn.asked.pop_front().expect("a PING for each PONG");
            let whole = self.agenda.now.since(asked);
            // The window stays full until a lost segment is repaired: that is the line's doing.
            let stalled = overlap(&conn.ways[UP].stalls, asked, self.agenda.now);
            let wait = whole.saturating_sub(stalled);
            assert!(wait <= PONG_WAIT, "a PONG waited for {wait:?}");
            self.record.pongs += 1;
            self.record.pong_wait = self.record.pong_wait.max(wait);
            self.record.pong_wait_whole = self.record.pong_wait_whole.max(whole);
        }
    }

    fn leaf_hears(&mut self, number: usize, bytes: &[u8]) {
        let Some(conn) = self.conns.get_mut(&number) else {
            return;
        };
        if conn.greeted.is_none() {
            conn.greeted = Some(self.agenda.now);
            conn.jam = self
                .busy
                .map(|until| until.since(self.agenda.now))
                .into_iter()
                .sum();
        }
        // It may have come in two segments.
        conn.head.drain(..conn.head.len().saturating_sub(5));
        conn.head.extend_from_slice(bytes);
        conn.heard += bytes.len();
        let pings = conn.head.windows(6).filter(|w| w == b"PING\r\n").count();
        conn.asked
            .extend(std::iter::repeat_n(self.agenda.now, pings));
        let link = conn.link;
        assert!(self.node.wants(link).read, "a hub is always read from");
        self.feed(link, bytes);
        self.drive(number);
    }

    fn feed(&mut self, link: LinkId, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let slot = self.node.read_slot(link, &mut self.buffer);
            let count = slot.len().min(bytes.len());
            if count == 0 {
                return;
            }
            slot[..count].copy_from_slice(&bytes[..count]);
            self.node
                .handle_read(self.agenda.now, link, &self.buffer, count);
            bytes = &bytes[count..];
        }
    }

    /// The leaf's end is gone.
    fn leaf_loses(&mut self, number: usize, cause: Cause) {
        let now = self.agenda.now;
        let Some(conn) = self.conns.get_mut(&number).filter(|conn| conn.open[0]) else {
            return;
        };
        conn.open[0] = false;
        conn.ways[UP].unsent.clear();
        let (link, made, was_synced) = (conn.link, conn.made, conn.synced.is_some());
        let since = made.max(before(now, 40 * SECOND));
        let ways = conn.ways.iter();
        let stalled = ways.map(|way| overlap(&way.stalls, since, now)).max();
        let stalled = stalled.unwrap_or_default();
        // The same packet was lost five times: as rare as it is, it is an outage as well.
        let hopeless = stalled >= UNACKNOWLEDGED - 2 * SECOND;
        // Whatever ends a link at the leaf does so within the time the system waits for an answer.
        let out = self
            .outages
            .last(now)
            .is_some_and(|(_, end)| end + UNACKNOWLEDGED >= now);
        match cause {
            Cause::Leaf => {
                self.record.closed_by_leaf += 1;
                assert!(
                    out || hopeless || (!was_synced && stalled >= 3 * SECOND),
                    "at {now:?} the leaf closed a link (synced: {was_synced}) without a cause: {:?}",
                    self.node.uplinks()
                );
            }
            Cause::Unacknowledged => {
                self.record.unacknowledged += 1;
                assert!(out || hopeless, "at {now:?}: given up without a cause");
            }
            Cause::Cut | Cause::Displaced => {}
        }
        self.node.handle_closed(now, link, "gone");
        // Whoever is told what is wrong waits for a second at least.
        let told = cause == Cause::Displaced;
        self.failed(was_synced, if told { SECOND } else { RECONNECT_FLOOR });
        self.forget(number);
        self.pump();
    }

    /// The step that follows is as promised.
    fn failed(&mut self, was_synced: bool, least: Duration) {
        let now = self.agenda.now;
        let passed = now.since(self.mark);
        self.mark = now;
        if self.is_up {
            self.trouble = self.trouble.saturating_sub(passed / 2);
        } else {
            self.trouble = (self.trouble + passed).min(RECONNECT_CAP * 8);
        }
        self.is_up = false;
        if was_synced {
            self.lost = now;
        } else {
            self.record.failed_attempts += 1;
            if self
                .outages
                .last(now)
                .is_none_or(|(_, end)| end < self.dial_from)
            {
                // Lost packets can do that to one attempt, hardly to several in a row.
                self.late_failures += 1;
                assert!(self.late_failures <= 2, "no link over a usable line");
            } else {
                self.late_failures = 0;
            }
        }
        let State::Waiting { until } = self.node.uplinks()[0].state else {
            panic!("not waiting after a failure: {:?}", self.node.uplinks());
        };
        let step = until.since(now);
        let most = (self.trouble / 8).max(least).mul_f64(1.5);
        assert!(step <= most, "waits for {step:?} instead of {most:?}");
    }

    fn dial(&mut self) {
        self.dial_from = self.agenda.now;
        // SYN, then SYN and ACK, each repeated after 1, 2, 4 seconds.
        let mut at = self.agenda.now;
        for _ in 0..2 {
            let mut again = SECOND;
            while self.outages.lose(&mut self.rng, at) {
                at = at + again;
                again *= 2;
            }
            at = at + LATENCY;
        }
        let limit = self.agenda.now + DIAL_TIMEOUT;
        self.push(at.min(limit), Tick::Dialed(at <= limit));
    }

    fn dialed(&mut self, made: bool) {
        let attempt = Attempt { way: 0, url: url() };
        let result = if made {
            Ok(())
        } else {
            Err("i/o timeout".to_owned())
        };
        let link = self
            .node
            .handle_dialed(self.agenda.now, 0, &attempt, result);
        match link {
            Some(link) => {
                self.numbers += 1;
                let number = self.numbers;
                self.conns.insert(
                    number,
                    Conn {
                        link,
                        ways: [Way::new(self.agenda.now), Way::new(self.agenda.now)],
                        open: [true; 2],
                        made: self.agenda.now,
                        synced: None,
                        greeted: None,
                        hub: HubSide::default(),
                        asked: VecDeque::new(),
                        tail: Vec::new(),
                        head: Vec::new(),
                        heard: 0,
                        jam: Duration::ZERO,
                    },
                );
                self.record.links += 1;
                self.push(self.agenda.now + LATENCY, Tick::Accepted(number));
                self.push(self.agenda.now + HUB_PING, Tick::HubPing(number));
            }
            None => {
                assert!(!made, "a connection that was made is not used");
                self.failed(false, RECONNECT_FLOOR);
            }
        }
        self.pump();
    }

    fn look_synced(&mut self) {
        let State::Synced { link, since } = self.node.uplinks()[0].state else {
            return;
        };
        if self.is_up {
            return;
        }
        let number = self.conn_of(link).expect("a synced link has a connection");
        let Some(conn) = self.conns.get_mut(&number) else {
            return;
        };
        conn.synced = Some(since);
        let passed = since.since(self.mark);
        self.trouble = (self.trouble + passed).min(RECONNECT_CAP * 8);
        self.mark = since;
        self.is_up = true;
        self.late_failures = 0;
        let greeted = conn.greeted.expect("the hub speaks first");
        let stalled: Duration = conn
            .ways
            .iter()
            .map(|way| overlap(&way.stalls, greeted, since))
            .sum();
        let handshake = since.since(greeted).saturating_sub(stalled);
        // CONNECT and the welcome, our interest and the ping behind it, each with its bytes, and the
        // messages before the answer to the ping.
        let heard = Duration::from_secs_f64(conn.heard as f64 * 1.05 / BYTES_PER_SECOND as f64);
        let most = 2 * ROUND_TRIP + SECOND + heard + conn.jam;
        assert!(handshake <= most, "synced after {handshake:?}");
        self.record.handshake = self.record.handshake.max(handshake);
        let usable = match self.outages.last(since) {
            Some((_, end)) => end.max(self.lost),
            None => self.lost,
        };
        self.record.recoveries.push(since.since(usable));
    }

    // The client.

    fn client_says(&mut self, bytes: &[u8]) {
        assert!(self.node.wants(self.client).read, "the client is held back");
        self.feed(self.client, bytes);
        self.pump();
    }

    /// It takes everything at once.
    fn serve_client(&mut self) {
        while self.node.wants(self.client).write {
            let mut plan = WritePlan::new();
            self.node.poll_transmit(self.client, &mut plan);
            let bytes: Vec<u8> = plan.iter().flat_map(|piece| piece.to_vec()).collect();
            drop(plan);
            self.node
                .handle_transmitted(self.agenda.now, self.client, bytes.len());
            self.record.down_received += bytes.windows(4).filter(|w| w == b"MSG ").count() as u64;
            if bytes.windows(6).any(|w| w == b"PING\r\n") {
                self.feed(self.client, b"PONG\r\n");
            }
        }
        assert!(!self.node.wants(self.client).close, "a client was closed");
    }

    /// Twice a second: mostly three quarters of what the line carries, at times twice as much as it
    /// does.
    fn publish(&mut self) {
        if self.quiet {
            return;
        }
        if self.agenda.now >= self.burst_until && self.rng.below(1200) == 0 {
            self.burst_until = self.agenda.now + Duration::from_secs(20 + self.rng.below(200));
        }
        let rate = if self.agenda.now < self.burst_until {
            16
        } else {
            6
        };
        let count = self.rng.below(rate + 1);
        let stamp = self.agenda.now.as_nanos().to_string();
        let mut bytes = Vec::new();
        for _ in 0..count {
            let size = 100 + self.rng.below(1800) as usize;
            bytes.extend_from_slice(format!("PUB up.x {size}\r\n{stamp}:").as_bytes());
            bytes.resize(bytes.len() + size - stamp.len() - 1, b'.');
            bytes.extend_from_slice(b"\r\n");
        }
        self.record.published += count;
        self.client_says(&bytes);
        if let State::Synced { link, .. } = self.node.uplinks()[0].state {
            let queued = self.node.shard().pending(link);
            assert!(queued <= QUEUE_BYTES, "{queued} bytes wait");
            self.record.most_queued = self.record.most_queued.max(queued);
        }
        self.push(self.agenda.now + SECOND / 2, Tick::Publish);
    }

    fn change_interest(&mut self) {
        if self.quiet {
            return;
        }
        let sub = self.rng.below(80) as u32;
        let line = if self.subs.remove(&sub) {
            format!("UNSUB {}\r\n", sub + 10)
        } else {
            self.subs.insert(sub);
            format!("SUB i.{sub} {}\r\n", sub + 10)
        };
        self.client_says(line.as_bytes());
        let next = Duration::from_millis(self.rng.below(30_000));
        self.push(self.agenda.now + next, Tick::Change);
    }

    // The hub.

    fn hub_says(&mut self, number: usize, bytes: &[u8]) {
        if let Some(conn) = self.conns.get_mut(&number).filter(|conn| conn.open[1]) {
            conn.ways[DOWN].unsent.extend(bytes);
            self.transmit(number, DOWN);
        }
    }

    fn hub_hears(&mut self, number: usize, bytes: &[u8]) {
        let Some(conn) = self.conns.get_mut(&number) else {
            return;
        };
        let mut input = std::mem::take(&mut conn.hub.input);
        input.extend_from_slice(bytes);
        let mut used = 0;
        while let Some(end) = input[used..].windows(2).position(|two| two == b"\r\n") {
            let line = std::str::from_utf8(&input[used..used + end]).expect("text");
            let mut len = end + 2;
            if let Some(args) = line.strip_prefix("LMSG ") {
                let size: usize = args.rsplit(' ').next().expect("a size").parse().unwrap();
                if input.len() < used + len + size + 2 {
                    break;
                }
                self.hub_receives(number, &input[used + len..used + len + size]);
                len += size + 2;
            } else {
                self.hub_handles(number, line);
            }
            used += len;
        }
        input.drain(..used);
        if let Some(conn) = self.conns.get_mut(&number) {
            conn.hub.input = input;
        }
    }

    fn hub_receives(&mut self, number: usize, body: &[u8]) {
        let stamp = body.split(|byte| *byte == b':').next().expect("a stamp");
        let stamp = std::str::from_utf8(stamp).unwrap().parse().unwrap();
        let sent = Instant::from_nanos(stamp);
        let conn = &self.conns[&number];
        let stalled = overlap(&conn.ways[UP].stalls, sent, self.agenda.now);
        let wait = self.agenda.now.since(sent).saturating_sub(stalled);
        let most = QUEUE_TIME + QUEUE_SLACK;
        assert!(wait <= most, "a message took {wait:?}");
        self.record.received += 1;
        self.record.message_wait = self.record.message_wait.max(wait);
    }

    fn hub_handles(&mut self, number: usize, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[0] {
            "CONNECT" => {
                // The same server again: the old link goes.
                let others = self.conns.iter().filter(|(other, conn)| {
                    **other != number && conn.open[1] && conn.hub.connected
                });
                let others: Vec<usize> = others.map(|(other, _)| *other).collect();
                for other in others {
                    self.record.duplicates += 1;
                    if self.conns[&other].open[0] {
                        self.displace(number, other);
                    } else {
                        self.hub_drops(other);
                    }
                }
                if let Some(conn) = self.conns.get_mut(&number) {
                    conn.hub.connected = true;
                }
                self.hub_says(
                    number,
                    b"INFO {\"server_id\":\"HUB\",\"server_name\":\"hub\",\"version\":\"2.15.1\",\
                      \"headers\":true,\"max_payload\":1048576,\"client_id\":7,\
                      \"connect_info\":true,\"remote_account\":\"$G\"} \r\n\
                      LS+ $LDS.hub\r\nLS+ up.>\r\nLS+ h.1\r\nLS+ h.2\r\n",
                );
            }
            "PING" => self.hub_says(number, b"PONG\r\n"),
            "PONG" => {
                if let Some(conn) = self.conns.get_mut(&number) {
                    conn.hub.pings = 0;
                }
            }
            "LS+" | "LS-" => {
                let Some(conn) = self.conns.get_mut(&number) else {
                    return;
                };
                let interest = &mut conn.hub.interest;
                let changed = if words[0] == "LS+" {
                    interest.insert(words[1].to_owned())
                } else {
                    interest.remove(words[1])
                };
                assert!(changed, "said twice: {line}");
            }
            "-ERR" => {
                // Its last words; what follows is the end of the stream.
                assert!(!self.quiet, "the leaf says {line}");
            }
            _ => panic!("not of the protocol: {line}"),
        }
    }

    /// A CONNECT that an outage held up arrives behind that of the next link, whose end the hub
    /// takes for the old one.
    fn displace(&mut self, late: usize, link: usize) {
        let now = self.agenda.now;
        assert!(!self.conns[&late].open[0], "two links at a time");
        let last = self.outages.last(now);
        let out = last.is_some_and(|(_, end)| end + 60 * SECOND >= now);
        assert!(out, "at {now:?}: a CONNECT was held up without an outage");
        self.record.displaced += 1;
        self.hub_says(link, b"-ERR 'Duplicate Remote LeafNode Connection'\r\n");
        self.hub_drops(link);
        self.push(now, Tick::Closed(link));
    }

    /// The end of the hub's stream comes behind everything else.
    fn closed(&mut self, number: usize) {
        let Some(conn) = self.conns.get(&number) else {
            return;
        };
        let way = &conn.ways[DOWN];
        if way.unsent.is_empty() && way.flight.is_empty() {
            self.leaf_loses(number, Cause::Displaced);
        } else {
            self.push(self.agenda.now + SECOND / 10, Tick::Closed(number));
        }
    }

    fn hub_ping(&mut self, number: usize) {
        let Some(conn) = self.conns.get_mut(&number).filter(|conn| conn.open[1]) else {
            return;
        };
        if conn.hub.pings + 1 > HUB_PINGS {
            assert!(
                !conn.open[0],
                "at {:?}: false stale at the hub",
                self.agenda.now
            );
            self.record.stale_at_hub += 1;
            return self.hub_drops(number);
        }
        conn.hub.pings += 1;
        self.hub_says(number, b"PING\r\n");
        self.push(self.agenda.now + HUB_PING, Tick::HubPing(number));
    }

    fn hub_publishes(&mut self) {
        if self.quiet {
            return;
        }
        let count = match self.rng.below(300) {
            0 => 40,
            roll => u64::from(roll % 3 == 0) * 2,
        };
        let mut bytes = Vec::new();
        for _ in 0..count {
            let size = 100 + self.rng.below(1500) as usize;
            bytes.extend_from_slice(format!("LMSG down.x {size}\r\n").as_bytes());
            bytes.resize(bytes.len() + size, b'.');
            bytes.extend_from_slice(b"\r\n");
        }
        let links: Vec<usize> = self.conns.keys().copied().collect();
        for number in links {
            let conn = &self.conns[&number];
            // What it asked for, and no more than a hub holds for a slow leaf.
            let wanted = conn.hub.interest.contains("down.>");
            if wanted && conn.ways[DOWN].unsent.len() < 256 << 10 {
                self.hub_says(number, &bytes);
            }
        }
        self.push(self.agenda.now + SECOND, Tick::HubPublish);
    }

    /// The hub's end is gone; the leaf is told by its absence only.
    fn hub_drops(&mut self, number: usize) {
        if let Some(conn) = self.conns.get_mut(&number) {
            conn.open[1] = false;
            self.forget(number);
        }
    }

    fn forget(&mut self, number: usize) {
        if self
            .conns
            .get(&number)
            .is_some_and(|conn| conn.open == [false; 2])
        {
            self.conns.remove(&number);
        }
    }

    /// Nothing more happens; both sides know what the other wants.
    fn finish(&mut self) {
        self.quiet = true;
        self.outages
            .0
            .retain(|(begin, _)| *begin <= self.agenda.now);
        self.run_for(Duration::from_secs(900));
        let State::Synced { link, .. } = self.node.uplinks()[0].state else {
            panic!("not up at the end: {:?}", self.node.uplinks());
        };
        assert_eq!(self.node.shard().pending(link), 0, "it never drains");
        let number = self.conn_of(link).expect("a connection");
        let mut wanted: BTreeSet<String> = self.subs.iter().map(|n| format!("i.{n}")).collect();
        wanted.insert("down.>".into());
        let lds = self.node.shard().loop_name("$G").expect("an account");
        wanted.insert(lds.to_string());
        assert_eq!(self.conns[&number].hub.interest, wanted, "the hub's view");
        let held = self.node.shard().interest("$G");
        let held: BTreeSet<String> = held
            .into_iter()
            .map(|(subject, ..)| String::from_utf8(subject).unwrap())
            .collect();
        for subject in ["up.>", "h.1", "h.2", "$LDS.hub"] {
            assert!(held.contains(subject), "the leaf does not know {subject}");
        }
    }
}

fn before(now: Instant, by: Duration) -> Instant {
    Instant::from_nanos(now.as_nanos().saturating_sub(by.as_nanos() as u64))
}

fn live(seed: u64) -> Record {
    let mut day = Day::new(seed);
    day.run_for(DAY);
    day.finish();
    day.record
}

fn show(seed: u64, record: &Record) {
    let mut recoveries = record.recoveries.clone();
    recoveries.sort_unstable();
    let at = |share: usize| recoveries[(recoveries.len() - 1) * share / 100];
    println!(
        "seed {seed}: {} recoveries, median {:.1?}, 90 % {:.1?}, longest {:.1?}",
        recoveries.len(),
        at(50),
        at(90),
        at(100)
    );
    let record = Record {
        recoveries: Vec::new(),
        ..record.clone()
    };
    println!("{record:.1?}");
}

#[test]
fn a_day_on_a_bad_line() {
    for (seed, record) in seeds::try_out("SIM_LINE", SEEDS, live) {
        show(seed, &record);
        // A day on which nothing happens would pass, too.
        assert!(record.recoveries.len() > 10 && record.pongs > 300);
        assert!(record.received * 2 > record.published);
    }
}
