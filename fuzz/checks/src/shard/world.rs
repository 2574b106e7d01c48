//! A node with sockets made of memory. The drivers are those of `petiole-net`, step by step: they
//! look at a link when it is woken, when bytes arrive, or when the peer takes some again, and a
//! wake-up that never comes is found here.

use std::collections::{BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::LazyLock;

use petiole_core::auth::users::{Check, SlowCheck};
use petiole_core::config::model::Config;
use petiole_core::config::{self, Loader};
use petiole_core::link::leaf::Signed;
use petiole_core::link::queue::WritePlan;
use petiole_core::link::uplink::Attempt;
use petiole_core::link::{LinkId, Proof, Secured, Server};
use petiole_core::random::Random;
use petiole_core::time::Instant;
use petiole_leaf::{Node, NodeEvent, Peer};
use petiole_net::driver::Engine;

use super::hub::{self, View};

/// Peers that are open at the same time.
const MOST_PEERS: usize = 10;
/// Bytes of a peer that wait to be read.
const MOST_WAITING: usize = 64 << 10;
/// The buffer that all links share. Smaller than a payload or a line of a hub may be, so that some
/// are put together in a buffer of their own.
const READ_BUFFER: usize = 4 << 10;
/// What one read brings at most.
const READ: usize = 2 << 10;
/// What one read can make a link owe its peer, over what its limits allow: error lines for single
/// letters, the interest of a whole account.
const BATCH: usize = 32 << 10;
/// Deadlines within one step of time.
const MOST_DEADLINES: usize = 50_000;

const INFO_1: &[u8] = b"INFO {\"server_id\":\"NHUB\",\"server_name\":\"H\",\"version\":\"2.15.1\",\
    \"proto\":3,\"headers\":true,\"max_payload\":1048576,\"client_id\":8,\"nonce\":\"3ATRbp\",\
    \"info_on_connect\":true,\"leafnode_urls\":[\"127.0.0.1:7422\"]} \r\n";
const INFO_UPGRADES: &[u8] = b"INFO {\"server_id\":\"NHUB\",\"client_id\":8,\"nonce\":\"3ATRbp\",\
    \"tls_required\":true,\"compression\":\"s2_fast\",\"headers\":true,\"max_payload\":1048576,\
    \"info_on_connect\":true,\"leafnode_urls\":[]} \r\n";
const INFO_2: &[u8] = b"INFO {\"server_id\":\"NHUB\",\"client_id\":8,\"headers\":true,\
    \"connect_info\":true,\"remote_account\":\"$G\",\"info_on_connect\":true} \r\nPONG\r\n";

/// Small limits, so that a short file reaches them.
const LIMITS: &str = "max_pending: 16384; max_payload: 8192; max_control_line: 512
    ping_interval: \"2s\"; write_deadline: \"2s\"\n";

const CONFIGS: [&str; 5] = [
    "leafnodes { remotes: [ { url: \"nats://hub:7422\" } ] }",
    "no_auth_user: u
     accounts {
       A { users: [
         { user: u, password: p, permissions {
             publish { allow: [\"foo.>\", \"_INBOX.>\", a], deny: foo.secret }
             subscribe { allow: [\"foo.>\", \"_INBOX.>\", \"a q\", a], deny: [\"foo.*.secret\"] }
             allow_responses: { max: 2, expires: \"1s\" } } }
         { user: w, password: p } ] }
       B { users: [ { user: b, password: p } ] }
     }
     leafnodes { remotes: [
       { url: \"nats://hub:7422\", account: A },
       { url: \"nats://hub:7423\", account: B } ] }",
    // The password is `U*U`.
    "authorization { user: u, timeout: 1
       password: \"$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\" }
     leafnodes { remotes: [ { url: \"nats://hub:7422\" } ] }",
    "max_subscriptions: 6; max_sub_tokens: 3; no_fast_producer_stall: true; max_connections: 4
     leafnodes { remotes: [
       { url: \"nats://hub:7422\", hub: true, deny_imports: [\"foo.in\"], deny_exports: [\"foo.out\"] },
       { url: \"nats://other:7422\", isolate_leafnode_interest: true } ] }",
    "no_header_support: true; leafnodes { remotes: [
       { urls: [\"nats://a:1\", \"nats://b:2\"] }, { urls: [\"nats://c:1\"], hub: true } ] }",
];

fn read_config(text: &str) -> Config {
    let config = config::load("c", &Text(format!("{LIMITS}{text}")))
        .expect("our own configuration")
        .config;
    config::check(&config).expect("our own configuration");
    config
}

struct Text(String);

impl Loader for Text {
    fn read(&self, _: &str) -> Result<String, String> {
        Ok(self.0.clone())
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

/// The socket of one link, with what the driver waits for.
struct Socket {
    id: LinkId,
    is_hub: bool,
    incoming: VecDeque<u8>,
    closed: bool,
    /// Bytes one read brings at most.
    chunk: usize,
    /// Bytes the peer still takes; `None`: all.
    takes: Option<usize>,
    received: Vec<u8>,
    view: View,
    waits_to_read: bool,
    waits_to_write: bool,
}

pub(crate) struct World {
    node: Node,
    now: Instant,
    config: Config,
    sockets: Vec<Socket>,
    ready: BTreeSet<LinkId>,
    dials: VecDeque<(usize, Attempt)>,
    signs: VecDeque<LinkId>,
    checks: VecDeque<(LinkId, SlowCheck)>,
    buffer: Vec<u8>,
    /// The hub's view is only comparable while no hub has told us anything that changes it.
    comparable: bool,
}

impl World {
    pub(crate) fn new(variant: u8) -> Self {
        // Read once: it would take longer than most worlds last.
        static READ_CONFIGS: LazyLock<Vec<Config>> =
            LazyLock::new(|| CONFIGS.into_iter().map(read_config).collect());
        let config =
            READ_CONFIGS[usize::from(variant.wrapping_sub(b'0')) % READ_CONFIGS.len()].clone();
        let server = Server {
            id: "NAAA".into(),
            name: "leaf".into(),
            toolchain: "rust",
            host: "0.0.0.0".into(),
            port: 4222,
            headers: !config.no_header_support,
        };
        let now = Instant::from_nanos(1_000_000_000);
        let mut world = World {
            node: Node::new(&config, server, Box::new(Random::new(7)), now),
            now,
            config,
            sockets: Vec::new(),
            ready: BTreeSet::new(),
            dials: VecDeque::new(),
            signs: VecDeque::new(),
            checks: VecDeque::new(),
            buffer: vec![0; READ_BUFFER],
            comparable: true,
        };
        world.settle();
        world
    }

    pub(crate) fn connect(&mut self) {
        if self.sockets.len() < MOST_PEERS {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1000));
            let id = self.node.accept(self.now, address, Secured::default());
            self.attach(id, false);
        }
    }

    fn attach(&mut self, id: LinkId, is_hub: bool) {
        self.sockets.push(Socket {
            id,
            is_hub,
            incoming: VecDeque::new(),
            closed: false,
            chunk: READ,
            takes: None,
            received: Vec::new(),
            view: View::new(),
            waits_to_read: false,
            waits_to_write: false,
        });
        self.ready.insert(id);
    }

    fn socket(&mut self, link: u8) -> Option<&mut Socket> {
        let count = self.sockets.len().max(1);
        self.sockets.get_mut(usize::from(link) % count)
    }

    pub(crate) fn send(&mut self, link: u8, bytes: &[u8]) {
        let Some(socket) = self.socket(link) else {
            return;
        };
        let room = MOST_WAITING.saturating_sub(socket.incoming.len());
        let bytes = &bytes[..bytes.len().min(room)];
        socket.incoming.extend(bytes);
        let has_bytes = !bytes.is_empty();
        let (id, is_hub, reads) = (socket.id, socket.is_hub, socket.waits_to_read);
        if is_hub && !is_harmless(bytes) {
            self.comparable = false;
        }
        if has_bytes && reads {
            self.ready.insert(id);
        }
    }

    pub(crate) fn publish(&mut self, link: u8, args: &[u8], header: &[u8]) {
        let Some(socket) = self.socket(link) else {
            return;
        };
        let words: Vec<&[u8]> = args.split(|b| *b == b' ').collect();
        let Some((size, subjects)) = words.split_last() else {
            return;
        };
        let size = header.len() + super::number(size) % 10_000;
        let verb: &[u8] = match (socket.is_hub, header.is_empty()) {
            (false, true) => b"PUB",
            (true, true) => b"LMSG",
            (false, false) => b"HPUB",
            (true, false) => b"HMSG",
        };
        let mut bytes = verb.to_vec();
        for word in subjects {
            bytes.push(b' ');
            bytes.extend_from_slice(word);
        }
        if !header.is_empty() {
            bytes.extend_from_slice(format!(" {}", header.len()).as_bytes());
        }
        bytes.extend_from_slice(format!(" {size}\r\n").as_bytes());
        bytes.extend_from_slice(header);
        bytes.resize(bytes.len() + size - header.len(), b'x');
        bytes.extend_from_slice(b"\r\n");
        self.send(link, &bytes);
    }

    pub(crate) fn limit_reads(&mut self, link: u8, bytes: usize) {
        if let Some(socket) = self.socket(link) {
            socket.chunk = if bytes == 0 { READ } else { bytes.min(READ) };
        }
    }

    pub(crate) fn limit_writes(&mut self, link: u8, bytes: Option<usize>) {
        let Some(socket) = self.socket(link) else {
            return;
        };
        socket.takes = bytes;
        if bytes != Some(0) && socket.waits_to_write {
            let id = socket.id;
            self.ready.insert(id);
        }
    }

    pub(crate) fn peer_closes(&mut self, link: u8) {
        if let Some(socket) = self.socket(link) {
            socket.closed = true;
            let id = socket.id;
            self.ready.insert(id);
        }
    }

    pub(crate) fn dialed(&mut self, result: Result<(), String>) {
        let Some((remote, attempt)) = self.dials.pop_front() else {
            return;
        };
        if let Some(id) = self.node.handle_dialed(self.now, remote, &attempt, result) {
            self.attach(id, true);
        }
    }

    pub(crate) fn sign(&mut self) {
        if let Some(link) = self.signs.pop_front() {
            let signed = Proof::Signed(Ok(Signed::default()));
            self.node.handle_proof(self.now, link, signed);
        }
    }

    pub(crate) fn verify(&mut self, in_order: bool) {
        if let Some((link, check)) = self.checks.pop_front() {
            let proof = if in_order {
                Proof::Verified(check.run())
            } else {
                // An answer to a question that was never asked.
                Proof::Signed(Err("no".into()))
            };
            self.node.handle_proof(self.now, link, proof);
        }
    }

    /// All that a hub in order says.
    pub(crate) fn handshake(&mut self) {
        let before = self.sockets.len();
        self.dialed(Ok(()));
        if self.sockets.len() == before {
            return;
        }
        let hub = before as u8;
        let comparable = self.comparable;
        self.settle();
        if hub % 2 == 1 {
            // One that wants TLS and compression.
            self.send(hub, INFO_UPGRADES);
            self.settle();
        }
        self.send(hub, INFO_1);
        self.settle();
        self.sign();
        self.settle();
        self.send(hub, INFO_2);
        self.comparable = comparable;
    }

    pub(crate) fn lame_duck(&mut self) {
        self.node.enter_lame_duck(self.now);
    }

    pub(crate) fn shut_down(&mut self) {
        self.node.shut_down(self.now);
    }

    /// Time passes; every deadline on the way is heard at its time.
    pub(crate) fn pass(&mut self, millis: u64) {
        let until = Instant::from_nanos(self.now.as_nanos() + millis * 1_000_000);
        let mut deadlines = 0;
        while let Some(at) = self.node.poll_timeout()
            && at <= until
        {
            self.now = at.max(self.now);
            self.node.handle_timeout(self.now);
            let next = self.node.poll_timeout();
            assert!(
                next.is_none_or(|next| next > self.now),
                "at {:?} the next deadline is {next:?}",
                self.now
            );
            self.settle();
            deadlines += 1;
            assert!(deadlines < MOST_DEADLINES, "deadlines without end");
        }
        self.now = until;
    }

    /// Runs all drivers until none has anything to do.
    pub(crate) fn settle(&mut self) {
        loop {
            self.pump(None);
            let Some(id) = self.ready.pop_first() else {
                break;
            };
            self.drive(id);
        }
        self.take_events();
        self.check_waiting();
    }

    fn pump(&mut self, current: Option<LinkId>) {
        while let Some(id) = self.node.poll_wake() {
            if current != Some(id) {
                self.ready.insert(id);
            }
        }
    }

    fn take_events(&mut self) {
        while let Some(event) = self.node.poll_event() {
            match event {
                NodeEvent::Dial { remote, attempt } => self.dials.push_back((remote, attempt)),
                NodeEvent::Sign { link, .. } => self.signs.push_back(link),
                NodeEvent::Verify {
                    link,
                    check: Check::Password(check),
                } => self.checks.push_back((link, check)),
                // Its users have no JWTs.
                NodeEvent::Verify { .. } => {}
            }
        }
    }

    /// `Thread::poll_link` of the driver, without the fairness.
    fn drive(&mut self, id: LinkId) {
        let Some(at) = self.sockets.iter().position(|socket| socket.id == id) else {
            return;
        };
        let cause = loop {
            self.check_pending(id);
            let wants = self.node.wants(id);
            if wants.close {
                break "closed by us";
            }
            if wants.upgrade.is_some() {
                // A transport that changes nothing: what was read is read again.
                let unread = self.node.take_unread(id);
                let rest = std::mem::take(&mut self.sockets[at].incoming);
                self.sockets[at].incoming = unread.into_iter().chain(rest).collect();
                self.node.handle_upgraded(self.now, id, Secured::default());
                self.pump(Some(id));
                continue;
            }
            let socket = &mut self.sockets[at];
            (socket.waits_to_read, socket.waits_to_write) = (false, false);
            if wants.write {
                let count = write(&self.node, socket);
                if count > 0 {
                    read_received(socket);
                    self.node.handle_transmitted(self.now, id, count);
                    self.pump(Some(id));
                    continue;
                }
                if socket.closed {
                    break "broken pipe";
                }
                socket.waits_to_write = true;
                self.node.handle_blocked(self.now, id);
                self.pump(Some(id));
            }
            if !wants.read {
                return;
            }
            let socket = &mut self.sockets[at];
            let slot = self.node.read_slot(id, &mut self.buffer);
            assert!(!slot.is_empty(), "no room to read into");
            let count = slot.len().min(socket.chunk).min(socket.incoming.len());
            for (to, from) in slot.iter_mut().zip(socket.incoming.drain(..count)) {
                *to = from;
            }
            if count > 0 {
                self.node.handle_read(self.now, id, &self.buffer, count);
                self.pump(Some(id));
            } else if socket.closed {
                break "closed by the peer";
            } else {
                socket.waits_to_read = true;
                return;
            }
        };
        self.sockets.remove(at);
        self.node.handle_closed(self.now, id, cause);
    }

    /// Nobody was forgotten: a link that could go on has a driver that knows it.
    fn check_waiting(&self) {
        for socket in &self.sockets {
            let wants = self.node.wants(socket.id);
            assert!(!wants.close, "nobody told the driver to close");
            assert!(wants.upgrade.is_none(), "nobody told the driver to upgrade");
            assert!(
                !wants.write || socket.waits_to_write,
                "nobody told the driver to write"
            );
            assert!(
                !wants.read || socket.waits_to_read,
                "nobody told the driver to read on"
            );
            assert!(
                !socket.waits_to_read || socket.incoming.is_empty() && !socket.closed,
                "the world forgot a driver"
            );
            self.check_pending(socket.id);
        }
    }

    fn check_pending(&self, id: LinkId) {
        let shard = self.node.shard();
        let (pending, max_pending) = (shard.pending(id), self.config.limits.max_pending);
        let most = match shard.neighbour(id) {
            // Messages, changes of interest, and all the interest of the clients of a small file.
            Some(Peer::Hub(_)) => 2 * max_pending + 2 * BATCH,
            _ => max_pending + BATCH,
        };
        assert!(pending <= most, "{pending} bytes wait for one peer");
    }

    /// All peers take what there is; then a hub knows what the clients want.
    pub(crate) fn quiesce(&mut self) {
        for link in 0..self.sockets.len() {
            self.limit_writes(link as u8, None);
        }
        self.settle();
        for socket in &self.sockets {
            assert!(
                self.node.shard().pending(socket.id) == 0,
                "bytes that are never written"
            );
        }
        // With one hub per account, in plain rules.
        if self.comparable && self.config.remotes.iter().all(|remote| !remote.hub) {
            self.compare_views();
        }
    }

    fn compare_views(&self) {
        let shard = self.node.shard();
        for socket in &self.sockets {
            let Some(Peer::Hub(leaf)) = shard.neighbour(socket.id) else {
                continue;
            };
            if !leaf.is_synced() || shard.is_ending(socket.id) {
                continue;
            }
            let account = &self.config.remotes[leaf.number()].account;
            let mut wanted = View::new();
            for (subject, queue, members) in shard.interest(account) {
                let weight = queue.as_ref().map_or(1, |_| members as u32);
                wanted.insert((subject, queue), weight);
            }
            let mut view = socket.view.clone();
            let name = shard.loop_name(account).expect("an account of a remote");
            assert!(view.remove(&(name.as_bytes().to_vec(), None)).is_some());
            assert_eq!(view, wanted, "what a hub knows, and what is wanted");
        }
    }

    /// Everybody goes: nothing of them is left.
    pub(crate) fn end(&mut self) {
        for link in 0..self.sockets.len() {
            self.peer_closes(link as u8);
        }
        self.settle();
        // Those that wait for a password to be checked.
        while !self.checks.is_empty() {
            self.verify(true);
            self.settle();
        }
        // Those that held their producers back, or were to be told why they are closed.
        self.pass(30_000);
        let shard = self.node.shard();
        assert!(self.node.is_empty(), "{:?} are left", shard.links());
        assert_eq!(shard.clients(), 0);
        let names = self.config.accounts.iter().map(|account| &*account.name);
        for name in names.chain(["$G"]) {
            let left = shard.interest(name);
            assert!(left.is_empty(), "{left:?} is left in {name}");
        }
    }
}

/// As much as the peer takes; answers how much that was.
fn write(node: &Node, socket: &mut Socket) -> usize {
    if socket.closed {
        return 0;
    }
    let mut plan = WritePlan::new();
    node.poll_transmit(socket.id, &mut plan);
    assert!(
        plan.iter().any(|piece| !piece.is_empty()),
        "nothing to write"
    );
    let mut count = 0;
    for piece in &plan {
        let now = piece.len().min(socket.takes.unwrap_or(usize::MAX));
        socket.received.extend_from_slice(&piece[..now]);
        count += now;
        if let Some(takes) = &mut socket.takes {
            *takes -= now;
        }
    }
    count
}

fn read_received(socket: &mut Socket) {
    if socket.is_hub {
        hub::read_leaf(&mut socket.received, &mut socket.view);
    } else {
        hub::read_client(&mut socket.received);
    }
}

/// A hub's bytes that leave what it may be told, and what we want, as it was.
fn is_harmless(bytes: &[u8]) -> bool {
    [&b"LMSG "[..], b"HMSG ", b"PING\r\n", b"PONG\r\n"]
        .iter()
        .any(|verb| bytes.starts_with(verb))
        && !bytes.windows(3).any(|w| w.eq_ignore_ascii_case(b"LS+"))
        && !bytes.windows(4).any(|w| w.eq_ignore_ascii_case(b"INFO"))
}
