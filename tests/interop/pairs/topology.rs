//! More than one link, links that go and come back, and links that must not be.

use std::time::Duration;

use crate::common::{Joined, asker, eventually};
use crate::support::{Client, Msg, Relay, Server};

use super::{
    BUSY, Cell, LISTEN, Pair, WAITING, at, config, each_cell, hub, hub_config, is_older,
    is_unwanted, leaf, remote, texts,
};

/// Longer than a message takes around a ring.
const ROUND: Duration = Duration::from_millis(100);

/// What both ends of a link that closes a ring have in their logs.
const LOOP: &str =
    "Loop detected for leafnode account=\"$G\". Delaying attempt to reconnect for 30s";

#[test]
fn a_hub_that_restarts_hears_the_interest_of_now() {
    each_cell(WAITING, |cell| {
        let Pair {
            mut hub,
            leaf,
            mut joined,
        } = cell.start();
        let mut edge = Client::quiet(leaf.port());
        edge.tell("SUB stays 1\r\nSUB w.* 2\r\nSUB q G 3\r\nSUB q G 4\r\nSUB goes 5\r\n");
        joined.settle();
        for end in ["kill", "stop"] {
            match end {
                "kill" => hub.kill(),
                _ => assert!(hub.stop().code().is_some()),
            }
            edge.tell(format!("UNSUB 5\r\nSUB while.{end} {end}\r\n"));
            hub.restart();
            let mut joined = Joined::new(&leaf, &hub, "", "");
            let mut core = asker(&hub);
            for subject in ["goes", "while", "w", "w.a.b", "stay"] {
                assert!(is_unwanted(&mut core, subject), "{subject}");
            }
            for subject in ["stays", "w.x", "q", &format!("while.{end}")] {
                core.tell(format!("PUB {subject} {}\r\n{subject}\r\n", subject.len()));
            }
            joined.settle();
            let got = texts(&edge.messages());
            assert_eq!(got, ["stays", "w.x", "q", &format!("while.{end}")]);
            // What the hub's clients want is heard again, too.
            core.tell("SUB down 7\r\n");
            joined.settle();
            edge.send("PUB down 1\r\nx\r\n");
            assert_eq!(core.expect_msg().text(), "x");
        }
    });
}

#[test]
fn a_leaf_goes_to_the_other_hub_and_back() {
    each_cell(WAITING, |cell| {
        let mut hubs = ["ONE", "TWO"]
            .map(|name| Server::start(&cell.hub, &config(&cell.hub, name, LISTEN, "")));
        let urls = hubs
            .each_ref()
            .map(|hub| format!("\"nats://127.0.0.1:{}\"", hub.port_of("leaf")));
        let leaf = leaf(
            &cell.leaf,
            "LEAF",
            &format!("{{ urls: [ {} ], no_randomize: true }}", urls.join(", ")),
        );
        let mut edge = Client::quiet(leaf.port());
        edge.tell("SUB keep.* 1\r\n");
        Joined::new(&leaf, &hubs[0], "", "").settle();
        for (dead, alive) in [(0, 1), (1, 0)] {
            // The one that was left is there again before the other goes.
            hubs[dead].kill();
            let mut joined = Joined::new(&leaf, &hubs[alive], "", "");
            joined.settle();
            let mut core = asker(&hubs[alive]);
            assert!(is_unwanted(&mut core, "keep"));
            core.tell("PUB keep.it 1\r\nx\r\n");
            joined.settle();
            assert_eq!(texts(&edge.messages()), ["x"]);
            hubs[dead].restart();
        }
    });
}

/// A leaf of a leaf of a hub: hub, leaf, and one more that is as the hub.
#[test]
fn a_chain_of_three() {
    each_cell(BUSY, |cell| {
        let hub = hub(&cell.hub, "", "");
        let both = format!("{LISTEN}, remotes: [ {} ]", remote(&hub, ""));
        let middle = Server::start(&cell.leaf, &config(&cell.leaf, "MIDDLE", &both, ""));
        let end = leaf(&cell.hub, "END", &remote(&middle, ""));
        let mut joined = Joined::new(&end, &hub, "", "");
        let (mut low, mut high) = (asker(&end), asker(&hub));
        assert!(is_unwanted(&mut low, "nobody"));
        assert!(is_unwanted(&mut high, "nobody"));
        low.tell("SUB svc.low 1\r\nSUB low.* 2\r\nSUB both G 3\r\n");
        high.tell("SUB svc.high 1\r\nSUB high.* 2\r\nSUB both H 3\r\n");
        joined.settle();
        let mut ask = |from: &mut Client, to: &mut Client, service: &str, news: &str| {
            from.send(format!(
                "SUB in.{service} 9\r\nHPUB svc.{service} in.{service} 22 23\r\nNATS/1.0\r\nfoo: bar\r\n\r\n?\r\n"
            ));
            let question = to.expect_msg();
            assert_eq!(question.text(), "?");
            assert!(question.header.is_some());
            to.tell(format!(
                "PUB {} 1\r\n!\r\n",
                question.reply().expect("where to answer")
            ));
            assert_eq!(from.expect_msg().text(), "!");
            from.tell(format!("PUB {news}.a 1\r\nn\r\n"));
            joined.settle();
            assert_eq!(texts(&to.messages()), ["n"]);
        };
        ask(&mut low, &mut high, "high", "high");
        ask(&mut high, &mut low, "low", "low");
        // Both groups, and those in the middle too.
        let mut between = Client::quiet(middle.port());
        between.tell("SUB low.* 1\r\nSUB high.* 2\r\n");
        between.send("PUB both 1\r\nb\r\n");
        assert_eq!(low.expect_msg().text(), "b");
        assert_eq!(high.expect_msg().text(), "b");
        high.tell("PUB low.a 1\r\nl\r\n");
        assert_eq!(low.expect_msg().text(), "l");
        assert_eq!(between.expect_msg().text(), "l");
        // Interest goes along the chain, too.
        low.tell("UNSUB 1\r\nUNSUB 2\r\nUNSUB 3\r\n");
        high.tell("UNSUB 1\r\nUNSUB 3\r\n");
        joined.settle();
        assert!(is_unwanted(&mut low, "svc.high"));
        assert!(is_unwanted(&mut high, "svc.low"));
        assert!(!is_unwanted(&mut high, "low.x"), "the middle wants it");
    });
}

/// A hub, a leaf of it that leafs may dial, and a leaf of both.
struct Ring {
    servers: [Server; 3],
}

impl Ring {
    /// Until the last one has noticed, or was told.
    fn start(cell: &Cell) -> Ring {
        let hub = hub(&cell.hub, "", "");
        let both = format!("{LISTEN}, remotes: [ {} ]", remote(&hub, ""));
        let first = Server::start(&cell.leaf, &config(&cell.leaf, "FIRST", &both, ""));
        Joined::new(&first, &hub, "", "");
        let remotes = format!("{}, {}", remote(&hub, ""), remote(&first, ""));
        let second = leaf(&cell.leaf, "SECOND", &remotes);
        second.wait_for_log(LOOP);
        Ring {
            servers: [hub, first, second],
        }
    }

    fn count_in_logs(&self, text: &str) -> [usize; 3] {
        let logs = self.servers.each_ref().map(Server::log);
        logs.map(|log| log.matches(text).count())
    }
}

/// Which of its links are left depends on who notices first: each of the three may.
#[test]
fn nothing_goes_round_in_a_ring() {
    each_cell(WAITING, |cell| {
        let ring = Ring::start(cell);
        let mut clients = ring
            .servers
            .each_ref()
            .map(|server| Client::quiet(server.port()));
        for client in &mut clients {
            client.tell("SUB ring.* 1\r\n");
        }
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(format!("PUB ring.{n} 1\r\nx\r\n"));
        }
        for (n, client) in clients.iter_mut().enumerate() {
            let mut heard = Vec::new();
            while client.wire.readable(ROUND) {
                let more = client.messages();
                heard.extend(more.iter().map(Msg::subject));
                assert!(heard.len() <= 3, "{heard:?}");
            }
            let own = format!("ring.{n}");
            heard.sort_unstable();
            assert!(heard.contains(&own), "{heard:?}");
            let count = heard.len();
            heard.dedup();
            assert_eq!(heard.len(), count, "something came twice");
        }
        // Nor is there a quarrel: whoever was cut off stays away for half a minute.
        let said = ring.count_in_logs("Loop detected");
        assert!(said.iter().all(|count| *count <= 8), "{said:?}");
    });
}

#[test]
fn who_cuts_a_ring_says_so_too() {
    each_cell(WAITING, |cell| {
        let ring = Ring::start(cell);
        eventually(
            "one of those that were dialled says so too",
            || match ring.count_in_logs(LOOP) {
                [0, 0, _] => Err("not yet".into()),
                _ => Ok(()),
            },
        );
    });
}

#[test]
fn two_that_dial_each_other_do_not_stay() {
    each_cell(WAITING, |cell| {
        let mut hub = hub(&cell.hub, "", "");
        let both = format!("{LISTEN}, remotes: [ {} ]", remote(&hub, ""));
        let leaf = Server::start(&cell.leaf, &config(&cell.leaf, "LEAF", &both, ""));
        Joined::new(&leaf, &hub, "", "");
        let remotes = format!("remotes: [ {} ]", remote(&leaf, ""));
        hub.rewrite_config(&hub_config(&cell.hub, &remotes, ""));
        hub.restart();
        eventually("one of them notices", || {
            match hub.log().contains(LOOP) || leaf.log().contains(LOOP) {
                true => Ok(()),
                false => Err("not yet".to_owned()),
            }
        });
        for server in [&hub, &leaf] {
            let mut client = Client::quiet(server.port());
            client.send("SUB local 1\r\nPUB local 1\r\nx\r\n");
            assert_eq!(client.expect_msg().text(), "x");
            assert_eq!(client.messages(), []);
        }
    });
}

#[test]
fn a_leaf_that_is_back_replaces_its_old_link() {
    each_cell(WAITING, |cell| {
        // 2.9 does not say its account, without which hubs since 2.10 wait for pings to go unanswered.
        if is_older(&cell.leaf, 10) && !is_older(&cell.hub, 10) {
            return;
        }
        let hub = hub(&cell.hub, "", "");
        let relay = Relay::to(hub.port_of("leaf"));
        let mut leaf = leaf(&cell.leaf, "LEAF", &at(relay.port(), "", ""));
        let mut joined = Joined::new(&leaf, &hub, "", "");
        let mut edge = Client::quiet(leaf.port());
        edge.tell("SUB goes 1\r\n");
        joined.settle();
        // The hub does not hear that it is gone.
        relay.part();
        leaf.restart();
        hub.wait_for_log("Duplicate Remote LeafNode Connection");
        let mut joined = Joined::new(&leaf, &hub, "", "");
        let mut core = asker(&hub);
        assert!(
            is_unwanted(&mut core, "goes"),
            "what only the old link wanted"
        );
        let mut edge = Client::quiet(leaf.port());
        edge.tell("SUB once 1\r\nSUB q G 2\r\n");
        joined.settle();
        core.tell("PUB once 1\r\nx\r\nPUB q 1\r\ny\r\n");
        joined.settle();
        assert_eq!(texts(&edge.messages()), ["x", "y"]);
    });
}
