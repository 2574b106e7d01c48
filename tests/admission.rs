//! Leafs that come too many at once, and a hub that has no descriptors left: who is there is served as
//! before, and everybody is taken in in the end.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use support::{Bystanders, Client, DEADLINE, POLL, Pki, Server, Target, Wire, servers};

/// A hub with these options of `leafnodes`.
fn hub(leafnodes: &str) -> Server {
    Server::start_petiole(&format!(
        "host: \"127.0.0.1\"\nport: {{port}}\nserver_name: HUB\n\
         leafnodes {{ host: \"127.0.0.1\", port: {{port:leaf}}\n{leafnodes} }}\n"
    ))
}

fn leaf(target: &Target, name: &str, hub: &Server, tls: &str) -> Server {
    let scheme = if tls.is_empty() { "nats" } else { "tls" };
    let url = format!("{scheme}://127.0.0.1:{}", hub.port_of("leaf"));
    leaf_of(target, name, &url, tls)
}

fn leaf_of(target: &Target, name: &str, url: &str, tls: &str) -> Server {
    let config = format!(
        "host: \"127.0.0.1\"\nport: {{port}}\nserver_name: {name}\nleafnodes {{ reconnect: 1, \
         remotes: [ {{ url: \"{url}\", {tls} }} ] }}\n"
    );
    Server::start(target, &config)
}

/// Comes as a leaf until it is told to wait: how long, in milliseconds.
fn fill(hub: &Server) -> u64 {
    loop {
        let mut wire = Wire::dial(hub.port_of("leaf")).unwrap();
        let line = String::from_utf8(wire.line().expect("a word")).unwrap();
        if line.starts_with("INFO ") {
            continue;
        }
        assert_eq!(wire.line(), None, "closed behind {line}");
        let wait = line
            .strip_prefix("-ERR 'Connection throttling is active. Please try again in ")
            .and_then(|rest| rest.strip_suffix(" ms.'"))
            .unwrap_or_else(|| panic!("{line}"));
        return wait.parse().unwrap();
    }
}

/// Waits until a request of a client of the hub is answered by one of the leaf.
#[track_caller]
fn is_joined(leaf: &Server, hub: &Server, name: &str) {
    let until = Instant::now() + 2 * DEADLINE;
    let mut answers = Client::quiet(leaf.port());
    answers.tell(format!("SUB of.{name} 1\r\n"));
    let mut asks = Client::quiet(hub.port());
    loop {
        asks.tell(format!("PUB of.{name} 1\r\nx\r\n"));
        if !answers.messages().is_empty() {
            return;
        }
        assert!(Instant::now() < until, "{name} is not taken in");
        std::thread::park_timeout(POLL);
    }
}

/// Starts a leaf that comes when there is no room for it. `log` is what it says of that.
fn leaf_that_waits(target: &Target, name: &str, hub: &Server, tls: &str, log: &str) -> Server {
    waits(hub, name, log, || leaf(target, name, hub, tls))
}

fn waits(hub: &Server, name: &str, log: &str, leaf: impl Fn() -> Server) -> Server {
    for _ in 0..20 {
        fill(hub);
        let leaf = leaf();
        let until = Instant::now() + DEADLINE;
        while Instant::now() < until {
            let said = leaf.log();
            if said.contains(log) {
                return leaf;
            }
            if said.contains("is up: hub") {
                // It took longer to start than the hub to have room again.
                break;
            }
            std::thread::park_timeout(POLL);
        }
    }
    panic!("{name} always finds room");
}

const TOLD: &str = "the hub takes in other leafs first; next try in ";

#[test]
fn leafs_that_come_together_are_all_taken_in_one_by_one() {
    let pki = Pki::new("CA");
    let server = pki.server("hub");
    for (of_hub, of_leaf) in [
        (String::new(), String::new()),
        (
            format!("tls {{ {} }}", server.options()),
            format!("tls {{ {} }}", pki.ca()),
        ),
    ] {
        let hub = hub(&format!("max_handshakes_per_second: 4\n{of_hub}"));
        let mut others = Bystanders::of(&hub, "");
        let first = fill(&hub);
        assert!((1000..=1250).contains(&first), "{first} ms");
        let mut leafs = Vec::new();
        for name in ["A", "B", "C"] {
            let started = Instant::now();
            let leaf = leaf_that_waits(&Target::Petiole, name, &hub, &of_leaf, TOLD);
            leafs.push((name, leaf, started));
            others.go_on();
        }
        for (name, leaf, started) in &leafs {
            is_joined(leaf, &hub, name);
            assert!(started.elapsed() >= Duration::from_secs(1), "{name}");
        }
        // They do not know what is said, and lose nothing by it.
        for (real, name) in servers().iter().zip(["R1", "R2", "R3", "R4"]) {
            let target = Target::Real(real.clone());
            let log = "Connection throttling is active";
            let leaf = leaf_that_waits(&target, name, &hub, &of_leaf, log);
            is_joined(&leaf, &hub, name);
            assert!(!leaf.log().contains("handshake error"));
        }
        others.go_on();
        hub.wait_for_log("leafs to come back later: not more than 4 are taken in per second");
        let lines = hub.log().matches("leafs to come back later").count();
        assert!(lines <= 30, "a line a second, not {lines}");
    }
}

#[test]
fn leafs_that_come_over_websocket_count_as_well() {
    let hub = Server::start_petiole(
        "host: \"127.0.0.1\"\nport: {port}\nserver_name: HUB\n\
         leafnodes { host: \"127.0.0.1\", port: {port:leaf}, max_handshakes_per_second: 2 }\n\
         websocket { host: \"127.0.0.1\", port: {port:ws}, no_tls: true }\n",
    );
    let url = format!("ws://127.0.0.1:{}", hub.port_of("ws"));
    let leaf = waits(&hub, "A", TOLD, || leaf_of(&Target::Petiole, "A", &url, ""));
    is_joined(&leaf, &hub, "A");
    let Some(real) = servers().last() else { return };
    let target = Target::Real(real.clone());
    let log = "Connection throttling is active";
    let leaf = waits(&hub, "R", log, || leaf_of(&target, "R", &url, ""));
    is_joined(&leaf, &hub, "R");
    hub.wait_for_log("leafs to come back later: not more than 2 are taken in per second");
}

#[test]
fn where_tls_comes_first_leafs_are_closed_without_a_word() {
    let pki = Pki::new("CA");
    let server = pki.server("hub");
    let hub = hub(&format!(
        "max_handshakes_per_second: 1, tls {{ {}, handshake_first: true }}",
        server.options()
    ));
    let silent = (0..3).filter(|_| {
        let mut wire = Wire::dial(hub.port_of("leaf")).unwrap();
        // Who is admitted is waited for to speak first.
        wire.readable(Duration::from_millis(500)) && wire.line().is_none()
    });
    assert!(silent.count() > 0);
    let tls = format!("tls {{ {}, handshake_first: true }}", pki.ca());
    let leaf = leaf(&Target::Petiole, "A", &hub, &tls);
    is_joined(&leaf, &hub, "A");
}

/// What the server hears itself takes no place in the system account.
#[test]
fn an_account_counts_its_connections_and_not_the_server() {
    let hub = Server::start_petiole(
        "host: \"127.0.0.1\"\nport: {port}\nsystem_account: S\n\
         accounts { S { users: [ { user: s, password: p } ], limits: { max_connections: 1 } } }\n",
    );
    let come = || Wire::dial(hub.port()).unwrap();
    let enter = |wire: &mut Wire| {
        let _ = wire.line();
        wire.send("CONNECT {\"user\":\"s\",\"pass\":\"p\",\"verbose\":false}\r\nPING\r\n");
        String::from_utf8(wire.line().expect("an answer")).unwrap()
    };
    let (mut first, mut second) = (come(), come());
    assert_eq!(enter(&mut first), "PONG");
    assert_eq!(
        enter(&mut second),
        "-ERR 'maximum account active connections exceeded'"
    );
}

/// Descriptors that a process may have.
#[cfg(target_os = "linux")]
fn limit_descriptors(server: &Server, count: Option<u64>) {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap());
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: count.or(maximum),
        maximum,
    };
    prlimit(pid, Resource::Nofile, limit).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_hub_without_descriptors_serves_again_when_it_has_some() {
    let hub = hub("");
    let mut others = Bystanders::of(&hub, "");
    let joined = leaf(&Target::Petiole, "A", &hub, "");
    is_joined(&joined, &hub, "A");
    let open = std::fs::read_dir(format!("/proc/{}/fd", hub.pid())).unwrap();
    limit_descriptors(&hub, Some(open.count() as u64 + 4));
    // Both listeners are out of them.
    let (mut clients, mut leafs) = (Vec::new(), Vec::new());
    let listens = [hub.port(), hub.port_of("leaf")];
    for _ in 0..20 {
        clients.push(Wire::dial(listens[0]).unwrap());
        leafs.push(Wire::dial(listens[1]).unwrap());
    }
    for port in listens {
        let trouble = format!(":{port}: too many open files");
        let until = Instant::now() + DEADLINE;
        while !hub.log().contains(&trouble) {
            assert!(Instant::now() < until, "no {trouble:?}");
            std::thread::park_timeout(POLL);
        }
    }
    // Who is there does not notice.
    others.go_on();
    is_joined_by(&mut others, &joined);
    let waits = leaf(&Target::Petiole, "B", &hub, "");
    drop((clients, leafs));
    // A leaf that waits in the queue of the listener, and those who come now.
    is_joined(&waits, &hub, "B");
    let next = leaf(&Target::Petiole, "C", &hub, "");
    is_joined(&next, &hub, "C");
    limit_descriptors(&hub, None);
    others.go_on();
    let lines = hub.log().matches("Error accepting on").count();
    assert!(lines < 60, "a line a second, not {lines}");
}

/// A message of a client that is there reaches a client of the leaf that is there.
#[cfg(target_os = "linux")]
#[track_caller]
fn is_joined_by(others: &mut Bystanders, leaf: &Server) {
    let mut hears = Client::quiet(leaf.port());
    hears.tell("SUB still.here 1\r\n");
    let until = Instant::now() + DEADLINE;
    loop {
        others.from.tell("PUB still.here 1\r\nx\r\n");
        if !hears.messages().is_empty() {
            return;
        }
        assert!(Instant::now() < until, "the leaf is not served");
    }
}
