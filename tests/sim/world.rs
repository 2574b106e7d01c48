//! The world: leafs, hubs, clients, the wires between them, and time.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use petiole_core::config::model::{Config, Limits, Remote, Scheme, Url};
use petiole_core::link::leaf::Signed;
use petiole_core::link::queue::WritePlan;
use petiole_core::link::uplink::{Attempt, State};
use petiole_core::link::{LinkId, Proof, Secured, Server};
use petiole_core::random::Random;
use petiole_core::time::Instant;
use petiole_leaf::{Node, NodeEvent};
use petiole_net::driver::Engine;

use crate::agenda::Agenda;
use crate::client::Client;
use crate::hub::{self, Hub};
use crate::oracle::{Oracle, Sub};
use crate::pipe::{Io, MOST_ROOM, Pipe};

/// One message on top of `max_pending`, and the interest and answers that always have room.
const BATCH: usize = 96 << 10;

/// Who is at an end of a connection.
#[derive(Clone, Copy, Debug)]
enum End {
    Leaf {
        leaf: usize,
        life: u32,
        link: LinkId,
    },
    Hub(usize),
    Client(usize),
}

/// A connection; `pipes[0]` is written by the end that dialled.
struct Conn {
    pipes: [Pipe; 2],
    ends: [End; 2],
    open: [bool; 2],
}

/// What the real driver keeps per link.
struct Driver {
    conn: usize,
    side: usize,
    scheduled: bool,
}

struct Host {
    node: Option<Node>,
    /// Counts restarts, so that nothing reaches a later life.
    life: u32,
    config: Config,
    drivers: BTreeMap<LinkId, Driver>,
    ready: VecDeque<LinkId>,
    timer_at: Option<Instant>,
    stalled_until: Instant,
    dirty: bool,
    closing: bool,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tick {
    Arrive(usize, usize),
    Timer(usize, u32),
    Dialed(usize, u32, usize, String),
    Signed(usize, u32, LinkId),
    Second,
    Resume(usize),
    Start(usize),
    HubUp(usize),
    Thaw(usize),
}

pub(crate) struct World {
    pub(crate) rng: Random,
    pub(crate) agenda: Agenda<Tick>,
    pub(crate) oracle: Oracle,
    conns: Vec<Conn>,
    leafs: Vec<Host>,
    hubs: Vec<Hub>,
    clients: Vec<Client>,
    owners: u32,
    buffer: Vec<u8>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Random::new(seed);
        let hubs: Vec<Hub> = (0..1 + rng.below(2) as usize)
            .map(|number| Hub::new(number, &mut rng))
            .collect();
        let limits = Limits {
            ping_interval: Duration::from_secs(2 + rng.below(8)),
            write_deadline: Duration::from_secs(2 + rng.below(8)),
            max_payload: 32 << 10,
            max_pending: 64 << (10 + rng.below(3)),
            no_fast_producer_stall: rng.below(4) == 0,
            ..Limits::default()
        };
        let leafs: Vec<Host> = (0..1 + rng.below(3) as usize)
            .map(|leaf| Host {
                node: None,
                life: 0,
                config: Config {
                    limits: limits.clone(),
                    // Only the first leaf knows the second hub: anything else would be a loop.
                    remotes: (0..if leaf == 0 { hubs.len() } else { 1 })
                        .map(remote)
                        .collect(),
                    server_name: Some(format!("leaf{leaf}")),
                    ..Config::default()
                },
                drivers: BTreeMap::new(),
                ready: VecDeque::new(),
                timer_at: None,
                stalled_until: Instant::ZERO,
                dirty: false,
                closing: false,
            })
            .collect();
        let clients = (0..2 + rng.below(5) as usize)
            .map(|_| Client::new(rng.below(leafs.len() as u64) as usize))
            .collect();
        let mut world = World {
            rng,
            agenda: Agenda::new(),
            oracle: Oracle::default(),
            conns: Vec::new(),
            leafs,
            hubs,
            clients,
            owners: 0,
            buffer: vec![0; 64 << 10],
        };
        for hub in 0..world.hubs.len() {
            for _ in 0..world.rng.below(3) {
                world.owners += 1;
                let answers = world.rng.below(2) == 0;
                world.hubs[hub].clients.insert(world.owners, answers);
            }
        }
        for leaf in 0..world.leafs.len() {
            world.start(leaf);
        }
        world.push(Instant::ZERO, Tick::Second);
        world
    }

    fn push(&mut self, at: Instant, tick: Tick) {
        self.agenda.push(at, tick);
    }

    fn soon(&mut self, millis: u64) -> Instant {
        let after = self.rng.below(millis * 1000 + 1);
        self.agenda.after(Duration::from_micros(after))
    }

    /// Lets time pass.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let until = self.agenda.after(time);
        self.drive_all();
        while let Some(tick) = self.agenda.next(until) {
            self.handle(tick);
            self.drive_all();
        }
    }

    fn handle(&mut self, tick: Tick) {
        match tick {
            Tick::Arrive(conn, side) => self.arrived(conn, side),
            Tick::Timer(leaf, life) => self.timer(leaf, life),
            Tick::Dialed(leaf, life, remote, host) => self.dialed(leaf, life, remote, &host),
            Tick::Signed(leaf, life, link) => {
                let now = self.agenda.now;
                if let Some(node) = self.node(leaf, life) {
                    node.handle_proof(now, link, Proof::Signed(Ok(Signed::default())));
                    self.pump(leaf, None);
                }
            }
            Tick::Second => {
                for hub in 0..self.hubs.len() {
                    self.hubs[hub].tick(self.agenda.now);
                    self.flush_hub(hub);
                }
                for client in 0..self.clients.len() {
                    self.clients[client].tick(self.agenda.now);
                    self.tend(client);
                }
                // Those that were deaf hear again.
                for conn in 0..self.conns.len() {
                    for side in 0..2 {
                        if self.conns[conn].open[1 - side] {
                            self.hear(conn, side);
                        }
                    }
                }
                self.push(self.agenda.now + Duration::from_secs(1), Tick::Second);
            }
            Tick::Resume(leaf) => self.pump(leaf, None),
            Tick::Start(leaf) => {
                if self.leafs[leaf].node.is_none() {
                    self.start(leaf);
                }
            }
            Tick::HubUp(hub) => self.hubs[hub].up = true,
            Tick::Thaw(conn) => self.thaw(conn),
        }
    }

    fn node(&mut self, leaf: usize, life: u32) -> Option<&mut Node> {
        let host = &mut self.leafs[leaf];
        host.node.as_mut().filter(|_| host.life == life)
    }

    // Leafs.

    fn start(&mut self, leaf: usize) {
        let entropy = Random::new(self.rng.draw());
        let host = &mut self.leafs[leaf];
        let name = format!("leaf{leaf}");
        let server = Server {
            id: format!("N{name}"),
            name,
            toolchain: "sim",
            host: "sim".into(),
            port: 4222,
            headers: true,
        };
        host.node = Some(Node::new(
            &host.config,
            server,
            Box::new(entropy),
            self.agenda.now,
        ));
        self.pump(leaf, None);
    }

    /// The process dies; the system closes its sockets.
    fn kill(&mut self, leaf: usize) {
        let host = &mut self.leafs[leaf];
        host.node = None;
        host.life += 1;
        host.timer_at = None;
        host.ready.clear();
        host.stalled_until = Instant::ZERO;
        for driver in std::mem::take(&mut host.drivers).into_values() {
            self.close(driver.conn, driver.side);
        }
        let at = self.soon(4000);
        self.push(at, Tick::Start(leaf));
    }

    /// What `Thread::pump` does: wakes drivers except the running one, events, timer.
    fn pump(&mut self, leaf: usize, current: Option<LinkId>) {
        let host = &mut self.leafs[leaf];
        let Some(node) = host.node.as_mut() else {
            return;
        };
        host.dirty = true;
        while let Some(id) = node.poll_wake() {
            if current != Some(id)
                && let Some(driver) = host.drivers.get_mut(&id)
                && !std::mem::replace(&mut driver.scheduled, true)
            {
                host.ready.push_back(id);
            }
        }
        let life = host.life;
        let mut events = Vec::new();
        while let Some(event) = node.poll_event() {
            events.push(event);
        }
        let timeout = node.poll_timeout();
        if !host.closing {
            let timeout = timeout.expect("a deadline in every state");
            if host.timer_at.is_none_or(|at| timeout < at) {
                host.timer_at = Some(timeout);
                self.push(timeout, Tick::Timer(leaf, life));
            }
        } else if let Some(timeout) = timeout
            && host.timer_at.is_none_or(|at| timeout < at)
        {
            host.timer_at = Some(timeout);
            self.push(timeout, Tick::Timer(leaf, life));
        }
        for event in events {
            match event {
                NodeEvent::Dial { remote, attempt } => {
                    let at = self.soon(40);
                    self.push(at, Tick::Dialed(leaf, life, remote, attempt.url.host));
                }
                NodeEvent::Sign { link, .. } => {
                    let at = match self.rng.below(20) {
                        // Too late for the link.
                        0 => self.agenda.now + Duration::from_secs(3),
                        1..10 => self.soon(30),
                        _ => self.agenda.now,
                    };
                    self.push(at, Tick::Signed(leaf, life, link));
                }
                NodeEvent::Verify { .. } => panic!("no passwords in this world"),
            }
        }
    }

    fn timer(&mut self, leaf: usize, life: u32) {
        let now = self.agenda.now;
        let stalled = self.leafs[leaf].stalled_until;
        if self.node(leaf, life).is_none() {
            return;
        }
        if stalled > now {
            return self.push(stalled, Tick::Timer(leaf, life));
        }
        self.leafs[leaf].timer_at = None;
        let mut rounds = 0;
        while let Some(node) = self.node(leaf, life)
            && node.poll_timeout().is_some_and(|at| at <= now)
        {
            node.handle_timeout(now);
            rounds += 1;
            assert!(
                rounds < 100,
                "time cannot advance: {:?}",
                node.poll_timeout()
            );
        }
        self.pump(leaf, None);
    }

    fn dialed(&mut self, leaf: usize, life: u32, remote: usize, host: &str) {
        let now = self.agenda.now;
        let hub: usize = host.trim_start_matches("hub").parse().expect("a hub");
        // Now and then the network is to blame.
        let fails = !self.hubs[hub].up || (!self.oracle.probing && self.rng.below(12) == 0);
        let result = if fails {
            Err("connection refused".to_owned())
        } else {
            Ok(())
        };
        let attempt = Attempt {
            way: 0,
            url: url(hub),
        };
        let Some(node) = self.node(leaf, life) else {
            return;
        };
        let link = node.handle_dialed(now, remote, &attempt, result);
        if let Some(link) = link {
            let conn = self.connect(End::Leaf { leaf, life, link }, End::Hub(hub));
            self.drivers(leaf, link, conn, 0);
            self.hubs[hub].accept(now, conn);
            self.flush(conn, 1);
        }
        self.pump(leaf, None);
    }

    fn drivers(&mut self, leaf: usize, link: LinkId, conn: usize, side: usize) {
        let host = &mut self.leafs[leaf];
        let driver = Driver {
            conn,
            side,
            scheduled: true,
        };
        host.drivers.insert(link, driver);
        host.ready.push_back(link);
    }

    fn connect(&mut self, dialler: End, acceptor: End) -> usize {
        let pipe = |rng: &mut Random| Pipe::new(rng, self.agenda.now);
        let pipes = [pipe(&mut self.rng), pipe(&mut self.rng)];
        self.conns.push(Conn {
            pipes,
            ends: [dialler, acceptor],
            open: [true; 2],
        });
        self.conns.len() - 1
    }

    /// Polls all drivers that were woken, then looks whether any was forgotten.
    fn drive_all(&mut self) {
        for leaf in 0..self.leafs.len() {
            while self.leafs[leaf].stalled_until <= self.agenda.now
                && let Some(id) = self.leafs[leaf].ready.pop_front()
            {
                if let Some(driver) = self.leafs[leaf].drivers.get_mut(&id) {
                    driver.scheduled = false;
                    self.drive(leaf, id);
                }
            }
        }
        // Driving one leaf never schedules another: all that crosses takes time.
        for leaf in 0..self.leafs.len() {
            if std::mem::take(&mut self.leafs[leaf].dirty) {
                self.check_drivers(leaf);
            }
        }
    }

    fn check_drivers(&self, leaf: usize) {
        let host = &self.leafs[leaf];
        let Some(node) = &host.node else { return };
        if host.stalled_until > self.agenda.now
            || node.poll_timeout().is_some_and(|at| at <= self.agenda.now)
        {
            return;
        }
        for (id, driver) in &host.drivers {
            let wants = node.wants(*id);
            let conn = &self.conns[driver.conn];
            assert!(driver.scheduled || !wants.close, "nobody closes {id:?}");
            assert!(
                driver.scheduled || !wants.write || conn.pipes[driver.side].write_armed,
                "nobody writes what waits for {id:?}"
            );
            let inward = &conn.pipes[1 - driver.side];
            assert!(
                driver.scheduled || !wants.read || inward.read_armed,
                "nobody reads from {id:?}"
            );
            let pending = node.shard().pending(*id);
            let most = host.config.limits.max_pending + BATCH;
            assert!(pending <= most, "{pending} bytes wait for {id:?}");
        }
    }

    /// What `Thread::poll_link` does.
    fn drive(&mut self, leaf: usize, id: LinkId) {
        let now = self.agenda.now;
        let mut has_read = false;
        loop {
            let host = &mut self.leafs[leaf];
            host.dirty = true;
            let Some(node) = host.node.as_mut() else {
                return;
            };
            let Some(driver) = host.drivers.get_mut(&id) else {
                return;
            };
            let (conn, side) = (driver.conn, driver.side);
            let wants = node.wants(id);
            if wants.close {
                return self.end_link(leaf, id, "closed by us");
            }
            if wants.write {
                let mut plan = WritePlan::new();
                node.poll_transmit(id, &mut plan);
                let bytes = plan.concat_pieces();
                drop(plan);
                assert!(!bytes.is_empty(), "a write without bytes");
                let pipe = &mut self.conns[conn].pipes[side];
                let (written, at) = pipe.write(&mut self.rng, now, &bytes);
                match written {
                    Io::Done(count) => {
                        node.handle_transmitted(now, id, count);
                        self.push(at, Tick::Arrive(conn, side));
                        self.pump(leaf, Some(id));
                        continue;
                    }
                    Io::Blocked => {
                        node.handle_blocked(now, id);
                        self.pump(leaf, Some(id));
                    }
                    Io::End | Io::Broken => return self.end_link(leaf, id, "reset"),
                }
            }
            if !wants.read {
                return;
            }
            let pipe = &mut self.conns[conn].pipes[1 - side];
            if has_read && pipe.is_readable() {
                let host = &mut self.leafs[leaf];
                if let Some(driver) = host.drivers.get_mut(&id)
                    && !std::mem::replace(&mut driver.scheduled, true)
                {
                    host.ready.push_back(id);
                }
                return;
            }
            let Some(node) = self.leafs[leaf].node.as_mut() else {
                return;
            };
            let read = pipe.read(&mut self.rng, node.read_slot(id, &mut self.buffer));
            match read {
                Io::Done(count) => {
                    node.handle_read(now, id, &self.buffer, count);
                    self.pump(leaf, Some(id));
                    self.notify_writer(conn, 1 - side);
                    has_read = true;
                }
                Io::Blocked => return,
                Io::End => return self.end_link(leaf, id, "closed by the peer"),
                Io::Broken => return self.end_link(leaf, id, "reset"),
            }
        }
    }

    fn end_link(&mut self, leaf: usize, id: LinkId, cause: &str) {
        let now = self.agenda.now;
        let host = &mut self.leafs[leaf];
        let Some(driver) = host.drivers.remove(&id) else {
            return;
        };
        if let Some(node) = host.node.as_mut() {
            node.handle_closed(now, id, cause);
            assert!(node.shard().neighbour(id).is_none(), "{id:?} leaks");
        }
        self.close(driver.conn, driver.side);
        self.pump(leaf, None);
    }

    // Wires.

    fn arrived(&mut self, conn: usize, side: usize) {
        self.conns[conn].pipes[side].arrive(self.agenda.now);
        self.hear(conn, side);
    }

    /// Whoever reads from this pipe is told that there is something.
    fn hear(&mut self, conn: usize, side: usize) {
        let wire = &mut self.conns[conn];
        let pipe = &mut wire.pipes[side];
        if !wire.open[1 - side] || !pipe.is_readable() {
            return;
        }
        match wire.ends[1 - side] {
            End::Leaf { leaf, life, link } => {
                if std::mem::take(&mut pipe.read_armed) {
                    self.schedule(leaf, life, link);
                }
            }
            End::Hub(_) | End::Client(_) => self.consume(conn, side),
        }
    }

    fn schedule(&mut self, leaf: usize, life: u32, link: LinkId) {
        let host = &mut self.leafs[leaf];
        if host.life == life
            && let Some(driver) = host.drivers.get_mut(&link)
            && !std::mem::replace(&mut driver.scheduled, true)
        {
            host.ready.push_back(link);
        }
    }

    fn notify_writer(&mut self, conn: usize, side: usize) {
        let wire = &mut self.conns[conn];
        let pipe = &mut wire.pipes[side];
        if !wire.open[side] || !pipe.write_armed || !pipe.is_writable() {
            return;
        }
        pipe.write_armed = false;
        match wire.ends[side] {
            End::Leaf { leaf, life, link } => self.schedule(leaf, life, link),
            End::Hub(_) | End::Client(_) => self.flush(conn, side),
        }
    }

    /// A hub or a client reads what is there.
    fn consume(&mut self, conn: usize, side: usize) {
        let mut buffer = [0; 4096];
        loop {
            let reader = self.conns[conn].ends[1 - side];
            let deaf_until = match reader {
                End::Hub(hub) => self.hubs[hub].links.get(&conn).map(|link| link.deaf_until),
                End::Client(client) => Some(self.clients[client].deaf_until),
                End::Leaf { .. } => None,
            };
            if !self.conns[conn].open[1 - side]
                || deaf_until.is_none_or(|until| until > self.agenda.now)
            {
                return;
            }
            match self.conns[conn].pipes[side].read(&mut self.rng, &mut buffer) {
                Io::Done(count) => {
                    let bytes = &buffer[..count];
                    match reader {
                        End::Hub(hub) => {
                            let hub = &mut self.hubs[hub];
                            hub.receive(conn, bytes, &mut self.oracle, &mut self.rng);
                        }
                        End::Client(client) => {
                            let client = &mut self.clients[client];
                            client.receive(bytes, &mut self.oracle, &mut self.rng);
                        }
                        End::Leaf { .. } => {}
                    }
                    self.notify_writer(conn, side);
                    match reader {
                        End::Hub(hub) => self.flush_hub(hub),
                        _ => self.flush(conn, 1 - side),
                    }
                }
                Io::Blocked => return,
                Io::End | Io::Broken => return self.close(conn, 1 - side),
            }
        }
    }

    fn flush_hub(&mut self, hub: usize) {
        let conns: Vec<usize> = self.hubs[hub].links.keys().copied().collect();
        for conn in conns {
            self.flush(conn, 1);
            if self.hubs[hub]
                .links
                .get(&conn)
                .is_some_and(|link| link.close)
            {
                self.close(conn, 1);
            }
        }
    }

    /// A hub or a client writes what it can.
    fn flush(&mut self, conn: usize, side: usize) {
        loop {
            let wire = &mut self.conns[conn];
            if !wire.open[side] {
                return;
            }
            let out = match wire.ends[side] {
                End::Hub(hub) => match self.hubs[hub].links.get_mut(&conn) {
                    Some(link) => {
                        if link.out.is_empty() {
                            link.progress = self.agenda.now;
                        }
                        &mut link.out
                    }
                    None => return,
                },
                End::Client(client) => &mut self.clients[client].out,
                End::Leaf { .. } => return,
            };
            if out.is_empty() {
                return;
            }
            match wire.pipes[side].write(&mut self.rng, self.agenda.now, out) {
                (Io::Done(count), at) => {
                    out.drain(..count);
                    if let End::Hub(hub) = wire.ends[side]
                        && let Some(link) = self.hubs[hub].links.get_mut(&conn)
                    {
                        link.progress = self.agenda.now;
                    }
                    self.push(at, Tick::Arrive(conn, side));
                }
                (Io::Blocked, _) => return,
                _ => return self.close(conn, side),
            }
        }
    }

    /// One end closes its socket in order.
    fn close(&mut self, conn: usize, side: usize) {
        let wire = &mut self.conns[conn];
        if !std::mem::replace(&mut wire.open[side], false) {
            return;
        }
        let at = wire.pipes[side].finish(self.agenda.now);
        wire.pipes[1 - side].abandon();
        let end = wire.ends[side];
        self.push(at, Tick::Arrive(conn, side));
        self.notify_writer(conn, 1 - side);
        match end {
            End::Hub(hub) => {
                self.hubs[hub].links.remove(&conn);
                self.hubs[hub].advertise(&self.oracle);
                self.flush_hub(hub);
            }
            End::Client(client) => {
                let now = self.agenda.now;
                self.clients[client].lost(now, &mut self.oracle, &mut self.rng);
            }
            End::Leaf { .. } => {}
        }
    }

    fn reset(&mut self, conn: usize) {
        for side in 0..2 {
            self.conns[conn].pipes[side].reset(&mut self.rng);
        }
        for side in 0..2 {
            self.hear(conn, side);
            self.notify_writer(conn, side);
        }
    }

    fn thaw(&mut self, conn: usize) {
        for side in 0..2 {
            if std::mem::take(&mut self.conns[conn].pipes[side].frozen) {
                self.push(self.agenda.now, Tick::Arrive(conn, side));
            }
        }
    }

    // Clients.

    /// Connects it, or lets it go, as is wanted.
    fn tend(&mut self, client: usize) {
        let now = self.agenda.now;
        let one = &self.clients[client];
        let leaf = one.leaf;
        match one.conn {
            Some(conn) if one.close || !one.wanted => self.close(conn, 0),
            Some(conn) => self.flush(conn, 0),
            None if one.wanted && now >= one.retry_at => {
                let life = self.leafs[leaf].life;
                let Some(node) = self.leafs[leaf].node.as_mut() else {
                    return;
                };
                let address = SocketAddr::from(([127, 0, 0, 1], 1));
                let link = node.accept(now, address, Secured::default());
                let conn = self.connect(End::Client(client), End::Leaf { leaf, life, link });
                self.drivers(leaf, link, conn, 1);
                self.owners += 1;
                self.clients[client].connected(now, conn, self.owners, &mut self.rng);
                self.pump(leaf, None);
            }
            None => {}
        }
    }

    fn subject(&mut self) -> String {
        let subjects = ["a", "b", "a.b", "a.c", "b.c", "a.b.c", "c.b.a"];
        subjects[self.rng.below(subjects.len() as u64) as usize].into()
    }

    fn pattern(&mut self) -> String {
        let patterns = ["a.*", "*.b", "a.>", "*.*", "*", ">", "a.b.*", "*.b.>"];
        if self.rng.below(2) == 0 {
            return self.subject();
        }
        patterns[self.rng.below(patterns.len() as u64) as usize].into()
    }

    fn group(&mut self) -> Option<&'static str> {
        [None, None, Some("G"), Some("H")][self.rng.below(4) as usize]
    }

    fn size(&mut self) -> usize {
        match self.rng.below(20) {
            0 => 20_000,
            1 => 5000,
            2..5 => 600,
            _ => self.rng.below(60) as usize,
        }
    }

    fn owned_by(&self, owner: u32) -> Vec<Sub> {
        let subs = self.oracle.subs.values();
        subs.filter(|sub| sub.owner == owner).cloned().collect()
    }

    fn client_acts(&mut self, client: usize) {
        let what = self.rng.below(16);
        let (subject, pattern, group) = (self.subject(), self.pattern(), self.group());
        let max = (self.rng.below(6) == 0).then(|| 1 + self.rng.below(5));
        let size = self.size();
        let one = &mut self.clients[client];
        let Some(conn) = one.conn.filter(|_| one.is_ready) else {
            return;
        };
        let owned = self.owned_by(self.clients[client].owner);
        let one = &mut self.clients[client];
        let (oracle, rng) = (&mut self.oracle, &mut self.rng);
        match what {
            0..5 if owned.len() < 6 => one.subscribe(&pattern, group, max, oracle),
            0..6 => {
                if !owned.is_empty() {
                    let number = owned[rng.below(owned.len() as u64) as usize].number;
                    one.unsubscribe(number, oracle);
                }
            }
            6..11 => one.publish(&subject, None, size, oracle, rng),
            11 => {
                let count = 20 + rng.below(60);
                let size = [30, 30, 2000, 9000][rng.below(4) as usize];
                for _ in 0..count {
                    one.publish(&subject, None, size, oracle, rng);
                }
            }
            12 | 13 => one.request(&subject, oracle, rng),
            14 => one.deaf_until = self.agenda.now + Duration::from_millis(rng.below(6000)),
            _ if rng.below(2) == 0 => one.close = true,
            _ => return self.reset(conn),
        }
        self.tend(client);
    }

    fn hub_acts(&mut self, hub: usize) {
        let owners: Vec<u32> = self.hubs[hub].clients.keys().copied().collect();
        if owners.is_empty() {
            return;
        }
        let owner = owners[self.rng.below(owners.len() as u64) as usize];
        let what = self.rng.below(12);
        let (subject, pattern, group) = (self.subject(), self.pattern(), self.group());
        let size = self.size();
        let owned = self.owned_by(owner);
        match what {
            0..3 if owned.len() < 5 => self.hub_subscribes(hub, owner, &pattern, group),
            0..5 => {
                if !owned.is_empty() {
                    let number = owned[self.rng.below(owned.len() as u64) as usize].number;
                    self.oracle.subs.remove(&number);
                    self.hubs[hub].advertise(&self.oracle);
                }
            }
            5 => {
                for _ in 0..20 + self.rng.below(40) {
                    self.hub_publishes(hub, owner, &subject, None, 3000);
                }
            }
            6 | 7 => {
                let inbox = format!("_INBOX.{owner}.{}", self.oracle.number());
                self.hub_subscribes(hub, owner, &inbox, None);
                self.hub_publishes(hub, owner, &subject, Some(&inbox), 10);
            }
            _ => self.hub_publishes(hub, owner, &subject, None, size),
        }
        self.flush_hub(hub);
    }

    fn hub_subscribes(&mut self, hub: usize, owner: u32, subject: &str, queue: Option<&str>) {
        let number = self.oracle.number();
        let sub = Sub {
            number,
            place: crate::oracle::Place::Hub(hub),
            subject: subject.to_owned(),
            queue: queue.map(str::to_owned),
            owner,
            max: None,
            delivered: 0,
        };
        self.oracle.subs.insert(number, sub);
        self.hubs[hub].advertise(&self.oracle);
    }

    fn hub_publishes(
        &mut self,
        hub: usize,
        owner: u32,
        subject: &str,
        reply: Option<&str>,
        size: usize,
    ) {
        let hub = &mut self.hubs[hub];
        hub.publish(owner, subject, reply, size, &mut self.oracle, &mut self.rng);
    }

    // Chapters of a story.

    /// Something happens.
    pub(crate) fn act(&mut self, faults: bool) {
        if faults && self.rng.below(8) == 0 {
            return self.fault();
        }
        if self.rng.below(4) == 0 {
            let hub = self.rng.below(self.hubs.len() as u64) as usize;
            self.hub_acts(hub);
        } else {
            let client = self.rng.below(self.clients.len() as u64) as usize;
            self.client_acts(client);
        }
    }

    fn fault(&mut self) {
        let open: Vec<usize> = (0..self.conns.len())
            .filter(|conn| self.conns[*conn].open == [true; 2])
            .collect();
        // Links are rarer than clients, and what it is about.
        let links: Vec<usize> = open
            .iter()
            .copied()
            .filter(|conn| matches!(self.conns[*conn].ends[1], End::Hub(_)))
            .collect();
        let from = if self.rng.below(3) > 0 { &links } else { &open };
        let Some(conn) = from
            .get(self.rng.below(from.len() as u64) as usize)
            .copied()
        else {
            return;
        };
        match self.rng.below(12) {
            0..3 => self.reset(conn),
            3 => {
                // Silence in one direction or both.
                let which = self.rng.below(3);
                for side in 0..2 {
                    self.conns[conn].pipes[side].cut |= which != side as u64;
                }
            }
            4..7 => {
                for side in 0..2 {
                    self.conns[conn].pipes[side].frozen = true;
                }
                let at = self.soon(15_000);
                self.push(at, Tick::Thaw(conn));
            }
            7 => {
                let leaf = self.rng.below(self.leafs.len() as u64) as usize;
                if self.leafs[leaf].node.is_some() {
                    self.kill(leaf);
                }
            }
            8 => {
                let leaf = self.rng.below(self.leafs.len() as u64) as usize;
                let until = self.soon(5000);
                self.leafs[leaf].stalled_until = until;
                self.push(until, Tick::Resume(leaf));
            }
            9 | 10 => {
                let until = self.soon(12_000);
                for hub in &mut self.hubs {
                    if let Some(link) = hub.links.get_mut(&conn) {
                        link.deaf_until = until;
                    }
                }
            }
            _ => {
                let hub = self.rng.below(self.hubs.len() as u64) as usize;
                self.hubs[hub].up = false;
                let links: Vec<usize> = self.hubs[hub].links.keys().copied().collect();
                let hard = self.rng.below(2) == 0;
                for conn in links {
                    if hard {
                        self.reset(conn);
                    } else {
                        self.close(conn, 1);
                    }
                }
                let at = self.soon(5000);
                self.push(at, Tick::HubUp(hub));
            }
        }
    }

    /// No more faults: what is broken is found out and mended by the parties themselves.
    pub(crate) fn calm_down(&mut self) {
        for conn in 0..self.conns.len() {
            self.thaw(conn);
        }
        for client in &mut self.clients {
            client.deaf_until = Instant::ZERO;
        }
        for link in self.hubs.iter_mut().flat_map(|hub| hub.links.values_mut()) {
            link.deaf_until = Instant::ZERO;
        }
        let mut left = 400;
        while let Err(what) = self.is_quiet() {
            left -= 1;
            assert!(left > 0, "it never gets quiet: {what}");
            // Not in step with anybody's pings, which are then always on their way.
            self.run_for(Duration::from_millis(900 + left * 37 % 211));
            for client in 0..self.clients.len() {
                // An answer to a ping behind everything else.
                let one = &mut self.clients[client];
                if left == 390 && one.is_ready {
                    one.fence();
                    self.tend(client);
                }
            }
        }
    }

    fn is_quiet(&self) -> Result<(), String> {
        for (leaf, host) in self.leafs.iter().enumerate() {
            let Some(node) = &host.node else {
                return Err(format!("leaf {leaf} is down"));
            };
            for status in node.uplinks() {
                if !matches!(status.state, State::Synced { .. }) {
                    return Err(format!("uplink of leaf {leaf}: {status:?}"));
                }
            }
            if !host.ready.is_empty() || host.stalled_until > self.agenda.now {
                return Err(format!("leaf {leaf} is busy"));
            }
        }
        for (number, wire) in self.conns.iter().enumerate() {
            if wire.open == [false; 2] {
                continue;
            }
            if wire.pipes.iter().any(|pipe| pipe.cut) || wire.open != [true; 2] {
                return Err(format!("connection {number} is half open"));
            }
            if wire.pipes.iter().any(|pipe| !pipe.is_quiet()) {
                return Err(format!("connection {number} is busy"));
            }
        }
        for (number, client) in self.clients.iter().enumerate() {
            if client.wanted && !(client.is_ready && client.is_settled()) {
                return Err(format!("client {number} is not settled"));
            }
        }
        let writing = |hub: &Hub| hub.links.values().any(|link| !link.out.is_empty());
        if self.hubs.iter().any(writing) {
            return Err("a hub is busy".into());
        }
        Ok(())
    }

    /// Both sides of every link know exactly what the other wants.
    pub(crate) fn check_interest(&self) {
        for (leaf, host) in self.leafs.iter().enumerate() {
            let Some(node) = &host.node else { continue };
            let name = format!("leaf{leaf}");
            let loop_name = node.shard().loop_name("$G").expect("an account");
            let mut own = hub::Map::new();
            let mut all = hub::Map::new();
            for sub in self.oracle.subs.values() {
                if sub.place == crate::oracle::Place::Leaf(leaf) {
                    hub::count(&mut own, sub.key(), 1);
                    *all.entry(sub.key()).or_default() += 1;
                }
            }
            own.insert((loop_name.to_string(), None), 1);
            let links: Vec<_> = self
                .hubs
                .iter()
                .filter_map(|hub| {
                    let mut links = hub.links.values().filter(|link| link.name == name);
                    let link = links.next();
                    assert!(links.next().is_none(), "{name} is linked twice");
                    link
                })
                .collect();
            assert_eq!(links.len(), host.config.remotes.len(), "links of {name}");
            for (number, link) in links.iter().enumerate() {
                let mut wanted = own.clone();
                for (other, from) in links.iter().enumerate() {
                    if other != number {
                        let told = from.told.keys().filter(|key| key.0.starts_with("$LDS."));
                        wanted.extend(told.map(|key| (key.clone(), 1)));
                    }
                }
                assert_eq!(link.interest, wanted, "the hub's view of {name}");
                for key in link.told.keys() {
                    *all.entry(key.clone()).or_default() += 1;
                }
            }
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
            let held: hub::Map = node
                .shard()
                .interest("$G")
                .into_iter()
                .map(|(subject, queue, count)| ((text(subject), queue.map(text)), count as u32))
                .collect();
            assert_eq!(held, all, "what {name} holds");
        }
    }

    /// Everything is connected: what is sent now arrives.
    pub(crate) fn probe(&mut self) {
        self.oracle.probing = true;
        self.oracle.ended.clear();
        for _ in 0..12 {
            let (subject, size) = (self.subject(), self.rng.below(200) as usize);
            let size = if self.rng.below(8) == 0 { 5000 } else { size };
            let asks = self.rng.below(3) == 0;
            let who =
                self.rng
                    .below((self.clients.len() + self.hubs.len()) as u64) as usize;
            if let Some(client) = self.clients.get_mut(who) {
                if asks {
                    client.request(&subject, &mut self.oracle, &mut self.rng);
                } else {
                    client.publish(&subject, None, size, &mut self.oracle, &mut self.rng);
                }
                self.tend(who);
            } else {
                let hub = who - self.clients.len();
                if let Some(owner) = self.hubs[hub].clients.keys().next().copied() {
                    let inbox = format!("_INBOX.{owner}.{}", self.oracle.number());
                    if asks {
                        self.hub_subscribes(hub, owner, &inbox, None);
                    }
                    let inbox = asks.then_some(&*inbox);
                    self.hub_publishes(hub, owner, &subject, inbox, size);
                    self.flush_hub(hub);
                }
            }
            let pause = self.rng.below(30);
            self.run_for(Duration::from_millis(pause));
        }
        self.run_for(Duration::from_secs(5));
        self.oracle.check_musts();
        self.oracle.probing = false;
    }

    /// All clients leave; nothing of them remains. Then the leafs stop.
    pub(crate) fn finish(&mut self) {
        for client in 0..self.clients.len() {
            self.clients[client].wanted = false;
            self.tend(client);
        }
        self.oracle.subs.clear();
        for hub in 0..self.hubs.len() {
            self.hubs[hub].advertise(&self.oracle);
            self.flush_hub(hub);
        }
        self.run_for(Duration::from_secs(3));
        self.check_interest();
        for leaf in 0..self.leafs.len() {
            let host = &mut self.leafs[leaf];
            let node = host.node.as_mut().expect("it is up");
            assert_eq!(node.shard().clients(), 0);
            assert_eq!(node.shard().links().len(), host.config.remotes.len());
            host.closing = true;
            node.shut_down(self.agenda.now);
            self.pump(leaf, None);
        }
        self.run_for(Duration::from_secs(3));
        for host in &self.leafs {
            assert!(host.node.as_ref().is_some_and(Node::is_empty), "links leak");
            assert!(host.drivers.is_empty(), "drivers leak");
        }
    }
}

fn url(hub: usize) -> Url {
    Url::new(Scheme::Leaf, format!("hub{hub}"), 7422)
}

fn remote(hub: usize) -> Remote {
    Remote::at(url(hub))
}

trait Concat {
    fn concat_pieces(&self) -> Vec<u8>;
}

impl Concat for WritePlan<'_> {
    fn concat_pieces(&self) -> Vec<u8> {
        // More than a pipe ever takes at once is of no use. Slice by slice: bytes one by one were most
        // of the time of a world.
        let mut bytes = Vec::new();
        for piece in self {
            let room = MOST_ROOM - bytes.len();
            bytes.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        bytes
    }
}
