//! Leafs of all versions, petiole among them, at the core's acceptor: one shard that has no other
//! links, on a thread of the test.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use petiole::config::{
    Compression, Config, ConnectionType, Permissions, SubjectRules, User, UserIdentity,
};
use petiole_core::auth::users::Users;
use petiole_core::config::model::WebsocketListener;
use petiole_core::link::acceptor::{Acceptor, LeafPort};
use petiole_core::link::queue::WritePlan;
use petiole_core::link::{Encoding, Env, LinkId, Secured, Server as Identity};
use petiole_core::random::Random;
use petiole_core::shard::{Shard, Wants};
use petiole_core::time::Instant;
use petiole_net::clock::Clock;
use petiole_net::driver::{Engine, Thread};
use petiole_net::errno;
use petiole_net::listen::Listener;
use petiole_net::transport::Transport;
use petiole_net::ws::accept::{Kind, Upgrades};
use smol::LocalExecutor;
use smol::channel::{Receiver, Sender, bounded};
use smol::future::FutureExt as _;

use crate::common::{Joined, request, targets};
use crate::support::{Client, Server, Target};

/// A shard that only accepts leafs.
struct Hub(Shard<Acceptor>);

impl Engine for Hub {
    type Id = LinkId;

    fn read_slot<'a>(&'a mut self, id: LinkId, shared: &'a mut [u8]) -> &'a mut [u8] {
        self.0.read_slot(id, shared)
    }

    fn handle_read(&mut self, now: Instant, id: LinkId, shared: &[u8], count: usize) {
        self.0.handle_read(now, id, shared, count);
    }

    fn wants(&self, id: LinkId) -> Wants {
        self.0.wants(id)
    }

    fn take_unread(&mut self, id: LinkId) -> Vec<u8> {
        self.0.take_unread(id)
    }

    fn handle_upgraded(&mut self, now: Instant, id: LinkId, secured: Secured) {
        self.0.handle_upgraded(now, id, secured);
    }

    fn encoding(&self, id: LinkId) -> Encoding {
        self.0.encoding(id)
    }

    fn poll_transmit<'a>(&'a self, id: LinkId, plan: &mut WritePlan<'a>) {
        self.0.poll_transmit(id, plan);
    }

    fn handle_transmitted(&mut self, now: Instant, id: LinkId, count: usize) {
        self.0.handle_transmitted(now, id, count);
    }

    fn handle_blocked(&mut self, now: Instant, id: LinkId) {
        self.0.handle_blocked(now, id);
    }

    fn explain(&self, _: LinkId, error: &io::Error) -> String {
        errno::words(error)
    }

    fn handle_closed(&mut self, now: Instant, id: LinkId, cause: &str) {
        self.0.handle_closed(now, id, cause);
    }

    fn poll_wake(&mut self) -> Option<LinkId> {
        self.0.poll_wake()
    }

    fn has_events(&self) -> bool {
        false
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.0.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.0.handle_timeout(now);
    }
}

/// A thread that accepts leafs until this is dropped.
struct Port {
    number: u16,
    _running: Sender<()>,
}

impl Port {
    fn open(config: Config, compression: Compression) -> Port {
        let (running, ended) = bounded(1);
        let (bound, number) = bounded(1);
        std::thread::spawn(move || {
            let executor = Rc::new(LocalExecutor::new());
            let serving = serve(executor.clone(), config, compression, bound, ended);
            smol::block_on(executor.run(serving));
        });
        Port {
            number: number.recv_blocking().expect("the port is bound"),
            _running: running,
        }
    }
}

async fn serve(
    executor: Rc<LocalExecutor<'static>>,
    config: Config,
    compression: Compression,
    bound: Sender<u16>,
    ended: Receiver<()>,
) {
    let mut listener = Listener::bind("127.0.0.1", 0).expect("a port");
    let port = listener.local_addr().port();
    let env = Env {
        server: Identity {
            id: "NACCEPTOR".into(),
            name: "ACCEPTOR".into(),
            toolchain: "test",
            host: "127.0.0.1".into(),
            port: 4222,
            headers: true,
        },
        limits: config.limits.clone(),
        users: Arc::new(Users::compile(&config)),
        tls: None,
    };
    let leafs = Arc::new(LeafPort {
        host: "127.0.0.1".into(),
        port,
        urls: vec![format!("127.0.0.1:{port}")],
        compression,
        users: Users::compile_for_leafs(&config).map(Arc::new),
        ..LeafPort::default()
    });
    let hub = Hub(Shard::new(env, [], Box::new(Random::new(u64::from(port)))));
    let thread = Thread::new(hub, Clock::start());
    let timer = thread.clone();
    let timer = executor.spawn(async move { timer.keep_time().await });
    bound.send(port).await.expect("the test waits for it");
    let upgrades = config.websocket.as_ref();
    let upgrades = upgrades.map(|it| Rc::new(Upgrades::new(it, &config.limits)));
    let mut number = 0;
    let accepting = async {
        loop {
            let (socket, peer) = listener.accept().await;
            number += 1;
            let (thread, leafs, upgrades) = (thread.clone(), leafs.clone(), upgrades.clone());
            let drive = async move {
                let mut transport = Transport::clear(socket);
                let mut kind = ConnectionType::Leafnode;
                if let Some(upgrades) = upgrades {
                    let upgraded = upgrades.upgrade(&mut transport).await.expect("a request");
                    assert_eq!(upgraded.kind, Kind::Leaf);
                    kind = ConnectionType::LeafnodeWs;
                }
                let secured = Secured::default();
                let leaf = |now| Acceptor::new(now, number, peer, kind, leafs, secured);
                let link = thread.with(|hub, now| hub.0.open(now, leaf(now)));
                thread.drive(link, transport).await;
            };
            executor.spawn(drive).detach();
        }
    };
    let ended = async {
        // The test is over: nobody sends.
        let _ = ended.recv().await;
    };
    accepting.or(ended).await;
    drop(timer);
}

fn leaf(target: &Target, name: &str, port: &Port, login: &str) -> Server {
    leaf_by(
        target,
        name,
        &format!("nats://{login}127.0.0.1:{}", port.number),
        "",
    )
}

/// A leaf whose remote has further options.
fn leaf_by(target: &Target, name: &str, url: &str, options: &str) -> Server {
    let config = format!(
        "host: \"127.0.0.1\"\nport: {{port}}\nserver_name: {name}\nleafnodes {{ reconnect: 1, \
         remotes: [ {{ url: \"{url}\"\n{options} }} ] }}\n"
    );
    Server::start(target, &config)
}

/// petiole and the next, each real server and the next: every pair of neighbours in a ring.
fn pairs() -> Vec<(Target, Target)> {
    let others = targets().skip(1).chain([Target::Petiole]);
    targets().zip(others).collect()
}

#[test]
fn leafs_of_all_versions_hear_of_each_other() {
    for compression in [Compression::Off, Compression::Fast] {
        let port = Port::open(Config::default(), compression.clone());
        for (a, b) in pairs() {
            println!("{} and {}, {compression:?}", a.name(), b.name());
            let (a, b) = (leaf(&a, "A", &port, ""), leaf(&b, "B", &port, ""));
            hear_of_each_other(&a, &b);
        }
    }
}

#[test]
fn leafs_of_all_versions_come_over_websocket() {
    let config = Config {
        websocket: Some(WebsocketListener {
            compression: true,
            ..WebsocketListener::default()
        }),
        ..Config::default()
    };
    let port = Port::open(config, Compression::Off);
    let url = format!("ws://127.0.0.1:{}", port.number);
    for options in [
        "",
        "ws_compression: true",
        "ws_no_masking: true",
        "ws_compression: true, ws_no_masking: true",
    ] {
        for (a, b) in pairs() {
            println!("{} and {}, {options}", a.name(), b.name());
            let (a, b) = (
                leaf_by(&a, "A", &url, options),
                leaf_by(&b, "B", &url, options),
            );
            hear_of_each_other(&a, &b);
        }
    }
}

fn hear_of_each_other(a: &Server, b: &Server) {
    let mut joined = Joined::new(a, b, "", "");
    let mut members = Client::quiet(a.port());
    members.tell("SUB work G 1\r\nSUB work G 2\r\nSUB svc.* 3\r\n");
    joined.settle();
    let mut asker = Client::quiet(b.port());
    asker.send("PUB work 4\r\nonce\r\n");
    assert_eq!(members.expect_msg().text(), "once");
    // A megabyte both ways, which is what a message may have.
    let large = "x".repeat(1 << 20);
    let answer = std::thread::scope(|scope| {
        scope.spawn(|| {
            let question = members.expect_msg();
            let reply = question.reply().expect("a reply subject");
            assert_eq!(question.text().len(), large.len());
            members.send(format!("PUB {reply} {}\r\n{large}\r\n", large.len()));
        });
        request(&mut asker, "svc.large", &large)
    });
    assert_eq!(answer.text().len(), large.len());
    assert_eq!(members.messages().len(), 0, "one member for one message");
}

#[test]
fn leafs_of_all_versions_are_held_to_their_permissions() {
    let allow = |subject: &str| SubjectRules {
        allow: vec![subject.into(), "fence.>".into()],
        deny: Vec::new(),
    };
    let user = |name: &str, permissions: Option<Permissions>| User {
        identity: UserIdentity::Password {
            user: name.into(),
            password: "p".into(),
        },
        permissions,
        connection_types: Vec::new(),
    };
    let limited = Permissions {
        publish: allow("out.>"),
        subscribe: allow("in.>"),
        responses: None,
    };
    let mut config = Config::default();
    config.auth.users = vec![user("limited", Some(limited)), user("free", None)];
    let port = Port::open(config, Compression::Off);
    for target in targets() {
        println!("{}", target.name());
        let a = leaf(&target, "A", &port, "limited:p@");
        let b = leaf(&Target::Petiole, "B", &port, "free:p@");
        let mut joined = Joined::new(&a, &b, "", "");
        let (mut inside, mut outside) = (Client::quiet(a.port()), Client::quiet(b.port()));
        inside.tell("SUB in.> 1\r\nSUB no.a 2\r\n");
        outside.tell("SUB out.> 1\r\nSUB no.b 2\r\n");
        joined.settle();
        outside.send("PUB no.a 1\r\n1\r\nPUB in.a 1\r\n2\r\n");
        assert_eq!(inside.expect_msg().text(), "2");
        inside.tell("PUB no.b 1\r\n3\r\nPUB out.b 1\r\n4\r\n");
        assert_eq!(outside.expect_msg().text(), "4");
    }
    let refused = leaf(&Target::Petiole, "C", &port, "limited:wrong@");
    refused.wait_for_log("Authorization Violation");
}
