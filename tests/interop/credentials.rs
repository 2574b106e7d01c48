//! Credentials files of a leaf that change, expire or are refused, at hubs in operator mode.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::common::{Joined, petiole, remote, targets};
use crate::jwt::Operator;
use crate::support::{Client, Server, Target, TempDir, servers, skip_loudly};

/// The pause between two messages of a stream.
const PACE: Duration = Duration::from_micros(500);

/// Messages on their way when a hub closes a link: a few milliseconds' worth, far from what a link
/// that is dialled anew would lose.
const IN_FLIGHT: usize = 10;

/// A hub in operator mode, a leaf of it that has a credentials file, and the file's folder.
struct Pair {
    operator: Operator,
    hub: Server,
    leaf: Server,
    dir: TempDir,
}

impl Pair {
    fn start(target: &Target, creds: impl Fn(&Operator) -> String) -> Pair {
        let operator = Operator::new(&["A"]);
        let hub = Server::start(
            target,
            &format!(
                "host: \"127.0.0.1\"\nport: {{port}}\nserver_name: HUB\n\
                 leafnodes {{ host: \"127.0.0.1\", port: {{port:leaf}} }}\n{}",
                operator.config()
            ),
        );
        let dir = TempDir::new();
        let path = dir.write("leaf.creds", creds(&operator));
        let option = format!("credentials: \"{}\"", path.display());
        let leaf = petiole(&remote(hub.port_of("leaf"), &option), "");
        Pair {
            operator,
            hub,
            leaf,
            dir,
        }
    }

    /// What a client of the hub in the leaf's account says.
    fn bearer(&self) -> String {
        let (jwt, _) = self
            .operator
            .user("A", "bearer", &json!({"bearer_token": true}));
        format!("\"jwt\":\"{jwt}\"")
    }

    /// A new file as a careful operator brings one: whole or not at all.
    fn replace(&self, creds: &str) {
        let new = self.dir.write("new.creds", creds);
        std::fs::rename(new, self.dir.path().join("leaf.creds")).unwrap();
    }
}

/// petiole and the real hubs.
fn each_hub(run: impl Fn(&Target)) {
    if servers().is_empty() {
        skip_loudly("credentials: no real server");
    }
    for target in targets() {
        eprintln!("== hub: {}", target.name());
        run(&target);
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs()
}

/// Numbered messages on a subject until it is stopped, and who takes them.
struct Stream {
    stop: Arc<AtomicBool>,
    sending: JoinHandle<u64>,
    taking: JoinHandle<Vec<u64>>,
}

impl Stream {
    fn start(subject: &'static str, mut from: Client, mut to: Client) -> Stream {
        to.tell(format!("SUB {subject} 1\r\n"));
        let taking = thread::spawn(move || {
            let mut taken = Vec::new();
            loop {
                match to.expect_msg().text().parse() {
                    Ok(number) => taken.push(number),
                    Err(_) => return taken,
                }
            }
        });
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let sending = thread::spawn(move || {
            let mut number = 0;
            let mut say = |text: &str| {
                from.send(format!("PUB {subject} {}\r\n{text}\r\n", text.len()));
            };
            while !stopped.load(Ordering::Relaxed) {
                number += 1;
                say(&number.to_string());
                thread::park_timeout(PACE);
            }
            say("end");
            number
        });
        Stream {
            stop,
            sending,
            taking,
        }
    }

    /// How many messages crossed, and which of them did not arrive once each, in order.
    fn finish(self) -> (u64, Vec<u64>) {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sending.join().unwrap();
        let taken = self.taking.join().unwrap();
        let missing = (1..=sent).filter(|n| !taken.contains(n)).collect();
        let mut sorted = taken.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted, taken, "twice or out of order");
        (sent, missing)
    }
}

#[test]
fn a_new_file_is_used_without_cutting_the_link() {
    each_hub(|target| {
        let pair = Pair::start(target, |operator| operator.creds("A", "leaf", &Value::Null));
        let bearer = pair.bearer();
        let mut joined = Joined::new(&pair.leaf, &pair.hub, "", &bearer);
        let edge = || Client::quiet(pair.leaf.port());
        let core = || Client::quiet_and(pair.hub.port(), &bearer);
        // Interest has to be there before the first message.
        let (mut up, mut down) = (core(), edge());
        up.tell("SUB s.up 9\r\n");
        down.tell("SUB s.down 9\r\n");
        joined.settle();
        let ups = Stream::start("s.up", edge(), core());
        let downs = Stream::start("s.down", core(), edge());
        for round in ["leaf2", "leaf3"] {
            let mark = pair.leaf.log_mark();
            pair.replace(&pair.operator.creds("A", round, &Value::Null));
            pair.leaf.wait_for_log_after(mark, "is up");
            joined.settle();
        }
        let (sent, lost) = ups.finish();
        eprintln!("up: {sent} sent, lost {lost:?}");
        let (down_sent, down_lost) = downs.finish();
        eprintln!("down: {down_sent} sent, lost {down_lost:?}");
        // Only what is on its way at the moment when the hub closes the old link.
        for lost in [&lost, &down_lost] {
            assert!(lost.len() <= 2 * IN_FLIGHT, "{lost:?}");
        }
        let log = pair.leaf.log();
        assert!(!log.contains("is down") && !log.contains("failed"), "{log}");
    });
}

#[test]
fn a_bad_file_leaves_the_link_as_it_is() {
    each_hub(|target| {
        let pair = Pair::start(target, |operator| operator.creds("A", "leaf", &Value::Null));
        let mut joined = Joined::new(&pair.leaf, &pair.hub, "", &pair.bearer());
        let mark = pair.leaf.log_mark();
        pair.replace("half a file");
        pair.leaf
            .wait_for_log_after(mark, "no credentials in this file");
        let mark = pair.leaf.log_mark();
        // Of an account that the hub has never heard of.
        pair.replace(&pair.operator.creds("B", "leaf", &Value::Null));
        pair.leaf
            .wait_for_log_after(mark, "the new credentials were not taken");
        let log = pair.leaf.log();
        assert!(log.contains("Authorization Violation"), "{log}");
        assert!(log.contains("which have not expired"), "{log}");
        joined.settle();
        let mark = pair.leaf.log_mark();
        pair.replace(&pair.operator.creds("A", "leaf2", &Value::Null));
        pair.leaf.wait_for_log_after(mark, "is up");
        joined.settle();
        assert!(!pair.leaf.log().contains("is down"));
    });
}

#[test]
fn expired_credentials_are_told_apart_from_refused_ones() {
    each_hub(|target| {
        let past = now() - 60;
        let pair = Pair::start(target, |operator| operator.creds_until("A", "leaf", past));
        pair.leaf.wait_for_log("leaf.creds expired at");
        pair.leaf
            .wait_for_log("the hub says 'Authorization Violation': the credentials in");
        assert!(!pair.leaf.log().contains("have not expired"));
        // A file for the wrong hub is another matter.
        let mark = pair.leaf.log_mark();
        let later = now() + 7200;
        pair.replace(&pair.operator.creds_until("B", "leaf", later));
        pair.leaf
            .wait_for_log_after(mark, "which have not expired (they hold until");
        let mark = pair.leaf.log_mark();
        pair.replace(&pair.operator.creds_until("A", "leaf", later));
        pair.leaf.wait_for_log_after(mark, "is up");
    });
}

#[test]
fn credentials_that_are_about_to_expire_are_warned_of_and_replaced_in_time() {
    each_hub(|target| {
        let soon = now() + 20;
        let pair = Pair::start(target, |operator| operator.creds_until("A", "leaf", soon));
        let mut joined = Joined::new(&pair.leaf, &pair.hub, "", &pair.bearer());
        pair.leaf.wait_for_log("leaf.creds expire at");
        let mark = pair.leaf.log_mark();
        pair.replace(&pair.operator.creds("A", "leaf", &Value::Null));
        pair.leaf.wait_for_log_after(mark, "is up");
        joined.settle();
        assert!(!pair.leaf.log().contains("is down"));
    });
}
