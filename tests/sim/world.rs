//! The world: servers of ours, simulated hubs, clients, the wires between them, and time.

use std::time::Duration;

use petiole_core::link::leaf::Signed;
use petiole_core::link::queue::WritePlan;
use petiole_core::link::uplink::Attempt;
use petiole_core::link::{LinkId, Proof};
use petiole_core::random::Random;
use petiole_core::time::Instant;
use petiole_leaf::NodeEvent;

use crate::agenda::Agenda;
use crate::client::Client;
use crate::hub::Hub;
use crate::oracle::Oracle;
use crate::pipe::{Io, MOST_ROOM, Pipe};
use crate::plan::{self, Plan};
use crate::server::{Driver, Server, Thread};
use crate::wire::Interest;

/// One message on top of `max_pending`, and the interest and answers that always have room.
const BATCH: usize = 96 << 10;

/// A thread of a server, in one of the server's lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    pub(crate) server: usize,
    life: u32,
    thread: usize,
}

/// Who is at an end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Server(At, LinkId),
    Hub(usize),
    Client(usize),
}

/// A connection; `pipes[0]` is written by the end that dialled.
pub(crate) struct Conn {
    pub(crate) pipes: [Pipe; 2],
    pub(crate) ends: [End; 2],
    pub(crate) open: [bool; 2],
    /// Its number in the plan, if it joins two servers.
    pub(crate) link: Option<usize>,
    /// What each end has told, if both are servers of ours, as far as the other one has read it.
    pub(crate) told: [Interest; 2],
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tick {
    Arrive(usize, usize),
    Timer(At),
    Dialed(At, usize),
    Signed(At, LinkId),
    /// Other threads have left something.
    Mail(At),
    Second,
    Resume(At),
    Start(usize),
    HubUp(usize),
    Thaw(usize),
}

pub(crate) struct World {
    pub(crate) rng: Random,
    pub(crate) agenda: Agenda<Tick>,
    pub(crate) oracle: Oracle,
    pub(crate) plan: Plan,
    pub(crate) conns: Vec<Conn>,
    pub(crate) servers: Vec<Server>,
    pub(crate) hubs: Vec<Hub>,
    pub(crate) clients: Vec<Client>,
    owners: u32,
    buffer: Vec<u8>,
}

impl World {
    pub(crate) fn new(mut rng: Random, plan: Plan) -> Self {
        let limits = plan::limits(&mut rng);
        let count = plan.servers.len();
        let servers = plan.servers.iter().enumerate().map(|(server, role)| {
            let config = plan.config(server, &limits);
            let name = plan::name(server);
            Server::new(name, *role, config, plan.remotes(server))
        });
        let servers = servers.collect();
        let hubs = (0..plan.hubs).map(|hub| Hub::new(hub, plan::place(count + hub, 0), &mut rng));
        let hubs = hubs.collect();
        let clients = plan.clients.iter();
        let clients = clients.map(|place| Client::new(*place, plan.user(place.account)));
        let mut world = World {
            agenda: Agenda::new(),
            oracle: Oracle::new(plan.model.clone(), plan.ring.clone()),
            conns: Vec::new(),
            servers,
            hubs,
            clients: clients.collect(),
            owners: 0,
            buffer: vec![0; 64 << 10],
            plan,
            rng,
        };
        for hub in 0..world.hubs.len() {
            for _ in 0..world.rng.below(3) {
                world.owners += 1;
                let answers = world.rng.below(2) == 0;
                world.hubs[hub].clients.insert(world.owners, answers);
            }
        }
        for server in 0..world.servers.len() {
            world.start(server);
        }
        world.push(Instant::ZERO, Tick::Second);
        world
    }

    pub(crate) fn push(&mut self, at: Instant, tick: Tick) {
        self.agenda.push(at, tick);
    }

    pub(crate) fn soon(&mut self, millis: u64) -> Instant {
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
            Tick::Timer(at) => self.timer(at),
            Tick::Dialed(at, remote) => self.dialed(at, remote),
            Tick::Signed(at, link) => {
                let now = self.agenda.now;
                if let Some(thread) = self.thread(at) {
                    let signed = Proof::Signed(Ok(Signed::default()));
                    thread.node.handle_proof(now, link, signed);
                    self.pump(at, None);
                }
            }
            Tick::Mail(at) => {
                let now = self.agenda.now;
                if let Some(thread) = self.thread(at) {
                    if thread.stalled_until > now {
                        let later = thread.stalled_until;
                        return self.push(later, Tick::Mail(at));
                    }
                    thread.take_in(now);
                    self.pump(at, None);
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
            Tick::Resume(at) => self.pump(at, None),
            Tick::Start(server) => {
                if !self.servers[server].is_up() {
                    self.start(server);
                }
            }
            Tick::HubUp(hub) => self.hubs[hub].up = true,
            Tick::Thaw(conn) => self.thaw(conn),
        }
    }

    // Servers.

    pub(crate) fn thread(&mut self, at: At) -> Option<&mut Thread> {
        let server = &mut self.servers[at.server];
        let is_now = server.life == at.life;
        server.threads.get_mut(at.thread).filter(|_| is_now)
    }

    /// One of a server's threads as it lives now.
    pub(crate) fn at(&self, server: usize, thread: usize) -> At {
        At {
            server,
            life: self.servers[server].life,
            thread,
        }
    }

    /// Any of its threads.
    pub(crate) fn some_thread(&mut self, server: usize) -> At {
        let width = self.servers[server].width() as u64;
        let thread = self.rng.below(width) as usize;
        self.at(server, thread)
    }

    fn start(&mut self, server: usize) {
        self.servers[server].start(self.agenda.now, &mut self.rng);
        for thread in 0..self.servers[server].width() {
            self.pump(self.at(server, thread), None);
        }
    }

    /// The process dies; the system closes its sockets.
    pub(crate) fn kill(&mut self, number: usize) {
        let server = &mut self.servers[number];
        server.life += 1;
        for thread in std::mem::take(&mut server.threads) {
            for driver in thread.drivers.into_values() {
                self.close(driver.conn, driver.side);
            }
        }
        let at = self.soon(4000);
        self.push(at, Tick::Start(number));
    }

    /// What `Thread::pump` does: wakes drivers except the running one, events, timer; and the other
    /// threads that something was left for.
    pub(crate) fn pump(&mut self, at: At, current: Option<LinkId>) {
        let Some(thread) = self.thread(at) else {
            return;
        };
        thread.dirty = true;
        while let Some(id) = thread.node.engine().poll_wake() {
            if current != Some(id) {
                thread.schedule(id);
            }
        }
        let mut events = Vec::new();
        while let Some(event) = thread.node.poll_event() {
            events.push(event);
        }
        let timeout = thread.node.engine().poll_timeout();
        let is_earlier = |timeout: &Instant| thread.timer_at.is_none_or(|at| *timeout < at);
        let timer = timeout.filter(is_earlier);
        if timer.is_some() {
            thread.timer_at = timer;
        }
        if let Some(timer) = timer {
            self.push(timer, Tick::Timer(at));
        }
        for thread in 0..self.servers[at.server].threads.len() {
            if self.servers[at.server].threads[thread].hears_bell() {
                let when = match self.rng.below(4) {
                    0 => self.soon(20),
                    _ => self.agenda.now,
                };
                self.push(when, Tick::Mail(self.at(at.server, thread)));
            }
        }
        for event in events {
            match event {
                NodeEvent::Dial { remote, .. } => {
                    let when = self.soon(40);
                    self.push(when, Tick::Dialed(at, remote));
                }
                NodeEvent::Sign { link, .. } => {
                    let when = match self.rng.below(20) {
                        // Too late for the link.
                        0 => self.agenda.now + Duration::from_secs(3),
                        1..10 => self.soon(30),
                        _ => self.agenda.now,
                    };
                    self.push(when, Tick::Signed(at, link));
                }
                NodeEvent::Verify { .. } => panic!("no slow passwords in this world"),
            }
        }
    }

    fn timer(&mut self, at: At) {
        let now = self.agenda.now;
        let Some(thread) = self.thread(at) else {
            return;
        };
        if thread.stalled_until > now {
            let later = thread.stalled_until;
            return self.push(later, Tick::Timer(at));
        }
        thread.timer_at = None;
        let engine = thread.node.engine();
        let mut rounds = 0;
        while engine.poll_timeout().is_some_and(|at| at <= now) {
            engine.handle_timeout(now);
            rounds += 1;
            assert!(
                rounds < 100,
                "time cannot advance: {:?}",
                engine.poll_timeout()
            );
        }
        self.pump(at, None);
    }

    fn dialed(&mut self, at: At, remote: usize) {
        let now = self.agenda.now;
        let number = self.servers[at.server].links[remote];
        let above = self.plan.model.links[number].above.server;
        let hub = above.checked_sub(self.servers.len());
        let is_up = match hub {
            Some(hub) => self.hubs[hub].up,
            None => self.servers[above].is_up(),
        };
        // Now and then the network is to blame.
        let fails = !is_up || (!self.oracle.probing && self.rng.below(12) == 0);
        let result = if fails {
            Err("connection refused".to_owned())
        } else {
            Ok(())
        };
        let way = &self.servers[at.server].config.remotes[remote].ways[0];
        let attempt = Attempt {
            way: 0,
            url: way.urls[0].clone(),
        };
        let Some(thread) = self.thread(at) else {
            return;
        };
        let link = thread.node.handle_dialed(now, remote, &attempt, result);
        if let Some(link) = link {
            let dialler = End::Server(at, link);
            match hub {
                Some(hub) => {
                    let conn = self.connect(dialler, End::Hub(hub), Some(number));
                    self.hubs[hub].accept(now, conn);
                    self.flush(conn, 1);
                }
                None => {
                    let accepting = self.some_thread(above);
                    let port = self.servers[above].port.clone();
                    if let Some(thread) = self.thread(accepting) {
                        let link = thread.node.accept_leaf(now, &port);
                        self.connect(dialler, End::Server(accepting, link), Some(number));
                        self.pump(accepting, None);
                    }
                }
            }
        }
        self.pump(at, None);
    }

    fn connect(&mut self, dialler: End, acceptor: End, link: Option<usize>) -> usize {
        let pipe = |rng: &mut Random| Pipe::new(rng, self.agenda.now);
        let pipes = [pipe(&mut self.rng), pipe(&mut self.rng)];
        let ends = [dialler, acceptor];
        let conn = self.conns.len();
        self.conns.push(Conn {
            pipes,
            ends,
            open: [true; 2],
            link,
            told: Default::default(),
        });
        for (side, end) in ends.into_iter().enumerate() {
            if let End::Server(at, link) = end
                && let Some(thread) = self.thread(at)
            {
                let driver = Driver {
                    conn,
                    side,
                    scheduled: true,
                };
                thread.drivers.insert(link, driver);
                thread.ready.push_back(link);
            }
        }
        conn
    }

    /// Polls all drivers that were woken, then looks whether any was forgotten.
    fn drive_all(&mut self) {
        let servers = self.servers.iter().enumerate();
        let threads =
            servers.flat_map(|(server, it)| (0..it.threads.len()).map(move |t| (server, t)));
        let threads: Vec<At> = threads.map(|(server, t)| self.at(server, t)).collect();
        if threads.is_empty() {
            return;
        }
        let now = self.agenda.now;
        // Whoever runs first is chance. Whoever reads makes room for another one to write.
        let first = self.rng.below(threads.len() as u64) as usize;
        let mut idle = 0;
        for at in threads.iter().cycle().skip(first) {
            idle += 1;
            while let Some(thread) = self.thread(*at)
                && thread.stalled_until <= now
                && let Some(id) = thread.ready.pop_front()
            {
                idle = 0;
                if let Some(driver) = thread.drivers.get_mut(&id) {
                    driver.scheduled = false;
                    self.drive(*at, id);
                }
            }
            if idle == threads.len() {
                break;
            }
        }
        for at in threads {
            let dirty = |thread: &mut Thread| std::mem::take(&mut thread.dirty);
            if self.thread(at).is_some_and(dirty) {
                self.check_drivers(at);
            }
        }
    }

    fn check_drivers(&mut self, at: At) {
        let now = self.agenda.now;
        let server = &mut self.servers[at.server];
        let most = server.config.limits.max_pending + BATCH;
        let dials = at.thread == 0 && !server.links.is_empty() && !server.closing;
        let Some(thread) = server.threads.get_mut(at.thread) else {
            return;
        };
        let Thread { node, drivers, .. } = thread;
        let timeout = node.engine().poll_timeout();
        if thread.stalled_until > now || timeout.is_some_and(|at| at <= now) {
            return;
        }
        assert!(timeout.is_some() || !dials, "a deadline in every state");
        for (id, driver) in drivers {
            let wants = node.engine().wants(*id);
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
            let pending = node.pending(*id);
            assert!(pending <= most, "{pending} bytes wait for {id:?}");
        }
    }

    /// What `Thread::poll_link` does.
    fn drive(&mut self, at: At, id: LinkId) {
        let now = self.agenda.now;
        let mut has_read = false;
        loop {
            let Some(thread) = self.servers[at.server].threads.get_mut(at.thread) else {
                return;
            };
            thread.dirty = true;
            let Some(driver) = thread.drivers.get(&id) else {
                return;
            };
            let (conn, side) = (driver.conn, driver.side);
            let engine = thread.node.engine();
            let wants = engine.wants(id);
            if wants.close {
                return self.end_link(at, id, "closed by us");
            }
            if wants.write {
                let mut plan = WritePlan::new();
                engine.poll_transmit(id, &mut plan);
                let bytes = plan.concat_pieces();
                drop(plan);
                assert!(!bytes.is_empty(), "a write without bytes");
                let pipe = &mut self.conns[conn].pipes[side];
                let (written, arrival) = pipe.write(&mut self.rng, now, &bytes);
                match written {
                    Io::Done(count) => {
                        engine.handle_transmitted(now, id, count);
                        self.push(arrival, Tick::Arrive(conn, side));
                        self.pump(at, Some(id));
                        continue;
                    }
                    Io::Blocked => {
                        engine.handle_blocked(now, id);
                        self.pump(at, Some(id));
                    }
                    Io::End | Io::Broken => return self.end_link(at, id, "reset"),
                }
            }
            if !wants.read {
                return;
            }
            let Some(thread) = self.servers[at.server].threads.get_mut(at.thread) else {
                return;
            };
            let wire = &mut self.conns[conn];
            let pipe = &mut wire.pipes[1 - side];
            if has_read && pipe.is_readable() {
                return thread.schedule(id);
            }
            let engine = thread.node.engine();
            let slot = engine.read_slot(id, &mut self.buffer);
            match pipe.read(&mut self.rng, slot) {
                Io::Done(count) => {
                    if let [End::Server(..), End::Server(..)] = wire.ends {
                        let [dialler, acceptor] = &mut wire.told;
                        match side {
                            0 => acceptor.overhear(&slot[..count], dialler),
                            _ => dialler.overhear(&slot[..count], acceptor),
                        }
                    }
                    engine.handle_read(now, id, &self.buffer, count);
                    self.pump(at, Some(id));
                    self.notify_writer(conn, 1 - side);
                    has_read = true;
                }
                Io::Blocked => return,
                Io::End => return self.end_link(at, id, "closed by the peer"),
                Io::Broken => return self.end_link(at, id, "reset"),
            }
        }
    }

    fn end_link(&mut self, at: At, id: LinkId, cause: &str) {
        let now = self.agenda.now;
        let Some(thread) = self.thread(at) else {
            return;
        };
        let Some(driver) = thread.drivers.remove(&id) else {
            return;
        };
        thread.node.engine().handle_closed(now, id, cause);
        assert!(!thread.node.knows(id), "{id:?} leaks");
        self.close(driver.conn, driver.side);
        self.pump(at, None);
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
            End::Server(at, link) => {
                if std::mem::take(&mut pipe.read_armed)
                    && let Some(thread) = self.thread(at)
                {
                    thread.schedule(link);
                }
            }
            End::Hub(_) | End::Client(_) => self.consume(conn, side),
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
            End::Server(at, link) => {
                if let Some(thread) = self.thread(at) {
                    thread.schedule(link);
                }
            }
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
                End::Server(..) => None,
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
                        End::Server(..) => {}
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

    pub(crate) fn flush_hub(&mut self, hub: usize) {
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
                End::Server(..) => return,
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
    pub(crate) fn close(&mut self, conn: usize, side: usize) {
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
            End::Server(..) => {}
        }
    }

    pub(crate) fn reset(&mut self, conn: usize) {
        for side in 0..2 {
            self.conns[conn].pipes[side].reset(&mut self.rng);
        }
        for side in 0..2 {
            self.hear(conn, side);
            self.notify_writer(conn, side);
        }
    }

    pub(crate) fn thaw(&mut self, conn: usize) {
        for side in 0..2 {
            if std::mem::take(&mut self.conns[conn].pipes[side].frozen) {
                self.push(self.agenda.now, Tick::Arrive(conn, side));
            }
        }
    }

    // Clients.

    /// Connects it, or lets it go, as is wanted.
    pub(crate) fn tend(&mut self, client: usize) {
        let now = self.agenda.now;
        let one = &self.clients[client];
        let server = one.place.server;
        match one.conn {
            Some(conn) if one.close || !one.wanted => self.close(conn, 0),
            Some(conn) => self.flush(conn, 0),
            None if one.wanted && now >= one.retry_at => {
                let at = self.some_thread(server);
                let Some(thread) = self.thread(at) else {
                    return;
                };
                let link = thread.node.accept(now);
                let conn = self.connect(End::Client(client), End::Server(at, link), None);
                self.owners += 1;
                self.clients[client].connected(now, conn, self.owners, &mut self.rng);
                self.pump(at, None);
            }
            None => {}
        }
    }
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
