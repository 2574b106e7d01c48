//! What the documents tell people to copy is accepted as it stands there.
#![allow(clippy::unwrap_used, missing_docs)]

#[allow(dead_code)]
#[path = "../examples/jwt/main.rs"]
mod jwt;
#[allow(dead_code)]
#[path = "../examples/relay.rs"]
mod relay;
mod support;

use support::{Client, Credentials, DEADLINE, Operator, Ready, Server, Target, TempDir};

use std::time::{Duration, Instant};

use petiole::config::Config;
use petiole_core::config::{Loader, check, load};

/// A file that is not one.
struct Text<'a>(&'a str);

impl Loader for Text<'_> {
    fn read(&self, _: &str) -> Result<String, String> {
        Ok(self.0.to_owned())
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

fn accepted(text: &str) -> Config {
    let loaded = load("c", &Text(text)).map_err(|e| e.to_string()).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    check(&loaded.config).unwrap();
    loaded.config
}

fn example(name: &str) -> String {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    std::fs::read_to_string(format!("{examples}/{name}")).unwrap()
}

#[test]
fn the_sample_configurations_are_valid() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(examples).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".conf") {
            let config = accepted(&example(&name));
            let ways: Vec<_> = config.remotes.iter().map(|one| one.ways.len()).collect();
            seen.push((name, ways, config.leafnodes.is_some()));
        }
    }
    seen.sort();
    let row = |name: &str, ways: &[usize], is_hub| (name.to_owned(), ways.to_vec(), is_hub);
    assert_eq!(
        seen,
        [
            row("hub.conf", &[], true),
            row("leaf.conf", &[1], false),
            row("ways.conf", &[4], false)
        ]
    );
}

/// As somebody would try them who has just read the README, but for the ports.
#[test]
fn the_site_of_the_samples_joins_their_datacenter() {
    let hub = example("hub.conf")
        .replace("127.0.0.1:4333", "127.0.0.1:{port}")
        .replace("127.0.0.1:7422", "127.0.0.1:{port:leaf}");
    let hub = Server::start_petiole(&hub);
    let leaf = example("leaf.conf")
        .replace("127.0.0.1:4222", "127.0.0.1:{port}")
        .replace(
            "127.0.0.1:7422",
            &format!("127.0.0.1:{}", hub.port_of("leaf")),
        );
    let leaf = Server::start_petiole(&leaf);
    hub.wait_for_log("Leafnode connection created");
    leaf.wait_for_log("is up: hub datacenter-1");
    let as_user = |name: &str| format!("\"user\":\"{name}\",\"pass\":\"{name}\"");
    let mut operator = Client::quiet_and(leaf.port(), &as_user("operator"));
    operator.tell("SUB plant.1.state 1\r\n");
    let mut backend = Client::quiet_and(hub.port(), &as_user("backend"));
    backend.tell("SUB _INBOX.b 1\r\n");
    // Until the hub knows of the interest.
    let until = Instant::now() + DEADLINE;
    let reply = loop {
        backend.tell("PUB plant.1.state _INBOX.b 3\r\nhow\r\n");
        if let Some(question) = operator.messages().into_iter().next() {
            break question.reply().unwrap();
        }
        assert!(Instant::now() < until, "no request crosses the link");
    };
    operator.tell(format!("PUB {reply} 4\r\ngood\r\n"));
    assert_eq!(backend.expect_msg().text(), "good");
}

#[test]
fn the_configurations_of_the_readme_are_valid() {
    let readme = include_str!("../README.md");
    let blocks = readme.split("```").skip(1).step_by(2);
    let configs: Vec<_> = blocks
        .filter(|block| block.contains("leafnodes {"))
        .map(accepted)
        .collect();
    let roles: Vec<_> = configs
        .iter()
        .map(|config| (config.remotes.len(), config.leafnodes.is_some()))
        .collect();
    assert_eq!(roles, [(0, true), (1, false)]);
}

/// As its README says it, but for the ports.
#[test]
fn a_site_joins_by_the_files_of_the_example_with_jwts() {
    let dir = TempDir::new();
    let demo = dir.path().join("demo");
    jwt::set_up(&demo).unwrap();
    assert!(jwt::set_up(&demo).is_err(), "keys are overwritten");
    let read = |name: &str| std::fs::read_to_string(demo.join(name)).unwrap();
    let hub = read("hub.conf")
        .replace("port: 4333", "port: {port}")
        .replace("port: 7422", "port: {port:leaf}");
    let hub = Server::start_petiole(&hub);
    let mut sys = Credentials::read(&read("sys.creds")).login(hub.port());
    let account = read("APP.jwt");
    sys.tell("SUB _INBOX.s 1\r\n");
    let (subject, length) = ("$SYS.REQ.CLAIMS.UPDATE", account.len());
    sys.send(format!("PUB {subject} _INBOX.s {length}\r\n{account}\r\n"));
    let answer = sys.expect_msg().text();
    assert!(answer.contains("jwt updated"), "{answer}");

    let leaf = read("leaf.conf")
        .replace("port: 4222", "port: {port}")
        .replace(":7422", &format!(":{}", hub.port_of("leaf")));
    let leaf = Server::start_petiole(&leaf);
    let mut service = Credentials::read(&read("service.creds")).login(hub.port());
    service.tell("SUB greet 1\r\n");
    let mut asker = Client::quiet(leaf.port());
    asker.tell("SUB _INBOX.a 1\r\n");
    let until = Instant::now() + DEADLINE;
    let reply = loop {
        asker.tell("PUB greet _INBOX.a 0\r\n\r\n");
        if let Some(question) = service.messages().into_iter().next() {
            break question.reply().unwrap();
        }
        assert!(Instant::now() < until, "no request crosses the link");
    };
    // More questions may be under way.
    service.send(format!("PUB {reply} 5\r\nhello\r\n"));
    assert_eq!(asker.expect_msg().text(), "hello");
}

/// What the README of that example has for who has `nsc`.
#[test]
fn the_hub_of_that_readme_starts_with_what_nsc_writes() {
    let readme = include_str!("../examples/jwt/README.md");
    let blocks: Vec<&str> = readme.split("```text").skip(1).collect();
    let block = |at: usize| blocks[at].split("```").next().unwrap();
    assert_eq!(accepted(block(1)).remotes.len(), 1);
    let dir = TempDir::new();
    let operator = Operator::new("O");
    let jwts = dir.path().join("jwt").display().to_string();
    dir.write(
        "resolver.conf",
        operator.generated().replace("{dir}/jwt", &jwts),
    );
    let hub = block(0)
        .replace("4333", "{port}")
        .replace("7422", "{port:leaf}");
    let hub = Server::start_with(&Target::Petiole, &hub, &[], dir, Ready::Info);
    operator.pusher().login(hub.port());
}

/// With two servers in one process, whose own logger stays as it is.
#[test]
fn a_request_crosses_the_link_of_the_relay() {
    struct Ours;
    impl log::Log for Ours {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            false
        }
        fn log(&self, _: &log::Record<'_>) {}
        fn flush(&self) {}
    }
    log::set_logger(&Ours).unwrap();
    log::set_max_level(log::LevelFilter::Error);
    relay::relay(Instant::now() + Duration::from_secs(30)).unwrap();
    assert_eq!(log::max_level(), log::LevelFilter::Error);
}
