//! What the documents tell people to copy is accepted as it stands there.
#![allow(clippy::unwrap_used, missing_docs)]

#[allow(dead_code)]
#[path = "../examples/relay.rs"]
mod relay;
mod support;

use support::{Client, DEADLINE, Server};

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
