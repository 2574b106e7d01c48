//! The proof matrix of hub and leaf: petiole and all real servers in either role, each with each, as
//! programs with configuration files. What holds between two real servers holds where one of them, or
//! both, is petiole.
//!
//! A cell that two real servers of these versions fail is left out by name, with the reason.

mod access;
mod flow;
mod listener;
mod topology;
mod transports;
mod trouble;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::common::{Joined, targets};
use crate::support::{Client, Msg, Server, Target, servers, skip_loudly};

/// Where leafs connect.
const LISTEN: &str = "host: \"127.0.0.1\", port: {port:leaf}";

/// Cells at the same time where servers work, and where they mostly wait.
const BUSY: usize = 3;
const WAITING: usize = 8;

/// Who has which role.
#[derive(Clone, Debug)]
struct Cell {
    hub: Target,
    leaf: Target,
}

impl Cell {
    fn all() -> Vec<Cell> {
        if servers().is_empty() {
            skip_loudly("pairs of hub and leaf: no real server");
        }
        let cell = |hub: Target| {
            targets().map(move |leaf| Cell {
                hub: hub.clone(),
                leaf,
            })
        };
        targets().flat_map(cell).collect()
    }

    fn name(&self) -> String {
        format!("hub {}, leaf {}", self.hub.name(), self.leaf.name())
    }

    /// A hub and a leaf of it, in clear.
    fn start(&self) -> Pair {
        let hub = hub(&self.hub, "", "");
        let leaf = leaf(&self.leaf, "LEAF", &remote(&hub, ""));
        Pair::of(hub, leaf)
    }
}

/// Whether it is older than this version; petiole is as new as the newest.
fn is_older(target: &Target, minor: u32) -> bool {
    target.version() < (2, minor, 0)
}

/// Runs a test in every cell, so many at once, and says which of them failed.
fn each_cell(at_once: usize, run: impl Fn(&Cell) + Sync) {
    each_of(at_once, &Cell::all(), Cell::name, run);
}

/// Runs a test for each of these, so many at once, and says which of them failed.
fn each_of<T: Sync>(
    at_once: usize,
    all: &[T],
    name: impl Fn(&T) -> String + Sync,
    run: impl Fn(&T) + Sync,
) {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..at_once.min(all.len()) {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if catch_unwind(AssertUnwindSafe(|| run(one))).is_err() {
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        failed.push(name(one));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failed.is_empty(), "failed:\n{}", failed.join("\n"));
}

/// A hub and a leaf that are joined.
struct Pair {
    hub: Server,
    leaf: Server,
    joined: Joined,
}

impl Pair {
    fn of(hub: Server, leaf: Server) -> Pair {
        Pair {
            joined: Joined::new(&leaf, &hub, "", ""),
            hub,
            leaf,
        }
    }
}

/// The configuration of a server that is known by this name.
fn config(target: &Target, name: &str, leafnodes: &str, more: &str) -> String {
    // 2.9 knows no parts of a second here.
    let reconnect = if is_older(target, 10) {
        "1"
    } else {
        "\"100ms\""
    };
    format!(
        "host: \"127.0.0.1\"\nport: {{port}}\nserver_name: {name}\n\
         leafnodes {{ reconnect: {reconnect}\n{leafnodes} }}\n{more}\n"
    )
}

/// The configuration of a hub with further options of `leafnodes` and of the server.
fn hub_config(target: &Target, leafnodes: &str, more: &str) -> String {
    config(target, "HUB", &format!("{LISTEN}\n{leafnodes}"), more)
}

fn hub(target: &Target, leafnodes: &str, more: &str) -> Server {
    Server::start(target, &hub_config(target, leafnodes, more))
}

/// A leaf with these remotes.
fn leaf(target: &Target, name: &str, remotes: &str) -> Server {
    let remotes = format!("remotes: [ {remotes} ]");
    Server::start(target, &config(target, name, &remotes, ""))
}

/// A remote at a hub's port for leafs, with who we are there: `user:password@`.
fn remote(hub: &Server, login: &str) -> String {
    at(hub.port_of("leaf"), login, "")
}

/// A remote at a port, with further options.
fn at(port: u16, login: &str, options: &str) -> String {
    format!("{{ url: \"nats://{login}127.0.0.1:{port}\", {options} }}")
}

fn texts(messages: &[Msg]) -> Vec<String> {
    messages.iter().map(Msg::text).collect()
}

/// Whether a server knows of nobody who would answer on this subject. `asker` wants to be told.
fn is_unwanted(asker: &mut Client, subject: &str) -> bool {
    asker.send(format!(
        "SUB unwanted.{subject} 99\r\nPUB {subject} unwanted.{subject} 0\r\n\r\n"
    ));
    let heard = asker.messages();
    asker.tell("UNSUB 99\r\n");
    let is_503 = |msg: &Msg| {
        msg.header
            .as_deref()
            .is_some_and(|header| header.starts_with(b"NATS/1.0 503"))
    };
    heard.iter().any(is_503)
}
