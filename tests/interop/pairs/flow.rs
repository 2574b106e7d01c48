//! What passes over one link, and who gets it.

use crate::common::{Joined, asker, request, sorted};
use crate::support::{Client, until};

use super::{BUSY, Pair, each_cell, hub, is_older, is_unwanted, leaf, remote, texts};

/// Messages of the publisher whose order is looked at.
const RUN: usize = 1_000;

const HEADER: &str = "NATS/1.0\r\nfoo: bar\r\n\r\n";

#[test]
fn requests_headers_large_payloads_and_order() {
    each_cell(BUSY, |cell| {
        let Pair {
            hub,
            leaf,
            mut joined,
        } = cell.start();
        let (mut edge, mut core) = (asker(&leaf), asker(&hub));
        edge.tell("SUB edge.> 1\r\n");
        core.tell("SUB core.> 1\r\n");
        joined.settle();
        for (from, to, prefix) in [(&leaf, &mut core, "core"), (&hub, &mut edge, "edge")] {
            let mut from = asker(from);
            answered(&mut from, to, &format!("{prefix}.svc"), "?");
            answered(&mut from, to, &format!("{prefix}.svc"), "");
            // Headers, with and without a reply subject.
            from.send(format!(
                "HPUB {prefix}.h 22 24\r\n{HEADER}hi\r\nHPUB {prefix}.h re.ply 22 22\r\n{HEADER}\r\n"
            ));
            let plain = to.expect_msg();
            assert_eq!((plain.text().as_str(), plain.reply()), ("hi", None));
            assert_eq!(plain.header.as_deref(), Some(HEADER.as_bytes()));
            let full = to.expect_msg();
            assert_eq!(
                (full.text().as_str(), full.reply().as_deref()),
                ("", Some("re.ply"))
            );
            assert_eq!(full.header.as_deref(), Some(HEADER.as_bytes()));
            // As much as a message may have.
            let large: String = ('a'..='z').cycle().take(1 << 20).collect();
            from.send(format!("PUB {prefix}.large {}\r\n{large}\r\n", large.len()));
            assert!(to.expect_msg().text() == large);
            // In order, whatever their size.
            let texts: Vec<String> = (0..RUN)
                .map(|n| format!("{n}{}", ".".repeat(n % 97 * 7)))
                .collect();
            let mut burst = String::new();
            for (n, text) in texts.iter().enumerate() {
                burst += &format!("PUB {prefix}.{} {}\r\n{text}\r\n", n % 5, text.len());
            }
            from.send(burst);
            for text in &texts {
                assert_eq!(to.expect_msg().text(), *text);
            }
            assert_eq!(to.messages(), []);
        }
    });
}

/// A request is answered over the link.
fn answered(from: &mut Client, to: &mut Client, subject: &str, text: &str) {
    let question = std::thread::scope(|scope| {
        let asking = scope.spawn(|| request(from, subject, text));
        let question = to.expect_msg();
        to.tell(format!(
            "PUB {} 1\r\n!\r\n",
            question.reply().expect("where to answer")
        ));
        let answer = asking.join().expect("an answer");
        assert_eq!((answer.text().as_str(), answer.header), ("!", None));
        question
    });
    assert_eq!(
        (question.subject().as_str(), question.text().as_str()),
        (subject, text)
    );
}

#[test]
fn interest_comes_and_goes() {
    each_cell(BUSY, |cell| {
        let Pair {
            hub,
            leaf,
            mut joined,
        } = cell.start();
        for (wanting, other) in [(&leaf, &hub), (&hub, &leaf)] {
            let (mut wanting, server) = (Client::quiet(wanting.port()), wanting);
            let mut other = asker(other);
            assert!(is_unwanted(&mut other, "w.a"), "nobody wants it");
            wanting
                .tell("SUB w.* 1\r\nSUB w.a.> 2\r\nSUB *.*.end 3\r\nSUB once 4\r\nUNSUB 4 1\r\n");
            let mut leaving = Client::quiet(server.port());
            leaving.tell("SUB leaves 1\r\n");
            joined.settle();
            for subject in [
                "w.b", "w.a", "w.a.b", "w.a.end", "x.y.end", "w", "x.y", "w.a.b.c",
            ] {
                other.tell(format!("PUB {subject} 0\r\n\r\n"));
            }
            joined.settle();
            let heard = wanting.messages();
            let heard: Vec<_> = heard.iter().map(|msg| (msg.sid(), msg.subject())).collect();
            let heard: Vec<_> = heard
                .iter()
                .map(|(sid, subject)| format!("{sid} {subject}"))
                .collect();
            assert_eq!(
                sorted(heard),
                [
                    "1 w.a",
                    "1 w.b",
                    "2 w.a.b",
                    "2 w.a.b.c",
                    "2 w.a.end",
                    "3 w.a.end",
                    "3 x.y.end"
                ]
            );
            for subject in ["w.a", "w.a.b", "q.q.end", "once", "leaves"] {
                assert!(!is_unwanted(&mut other, subject), "{subject} is wanted");
            }
            joined.settle();
            wanting.messages();
            // What was wanted once is not any more, nor what somebody wanted who is gone.
            drop(leaving);
            wanting.tell("UNSUB 1\r\nUNSUB 2\r\nSUB w.a 5\r\n");
            let mut near = asker(server);
            until("the client is gone", || is_unwanted(&mut near, "leaves"));
            joined.settle();
            for subject in ["w.b", "w.a.b", "once", "leaves"] {
                assert!(
                    is_unwanted(&mut other, subject),
                    "{subject} is not wanted any more"
                );
            }
            assert!(!is_unwanted(&mut other, "w.a"), "this one still is");
            joined.settle();
            wanting.messages();
            wanting.tell("UNSUB 5\r\nUNSUB 3\r\n");
            joined.settle();
            assert!(is_unwanted(&mut other, "w.a"), "nobody wants it");
        }
    });
}

#[test]
fn queue_groups_on_both_sides_of_a_link() {
    each_cell(BUSY, |cell| {
        let Pair {
            hub,
            leaf,
            mut joined,
        } = cell.start();
        for (near, far) in [(&leaf, &hub), (&hub, &leaf)] {
            let (mut near, mut far) = (Client::quiet(near.port()), Client::quiet(far.port()));
            // Members on one side only: whoever publishes, each message is done once.
            near.tell("SUB work G 1\r\nSUB work G 2\r\nSUB work.* G 3\r\n");
            joined.settle();
            for n in 10..60 {
                far.send(format!("PUB work 2\r\n{n}\r\n"));
            }
            let got = sorted((10..60).map(|_| near.expect_msg().text()).collect());
            assert_eq!(got, (10..60).map(|n| n.to_string()).collect::<Vec<_>>());
            joined.settle();
            assert_eq!(near.messages(), []);
            // Where there is a member, it comes first.
            far.tell("SUB work G 1\r\n");
            joined.settle();
            let mut first = |client: &mut Client, other: &mut Client| {
                for _ in 0..20 {
                    client.send("PUB work 1\r\nx\r\n");
                }
                assert_eq!(client.messages().len(), 20);
                joined.settle();
                assert_eq!(other.messages(), []);
            };
            first(&mut far, &mut near);
            first(&mut near, &mut far);
            // Two groups are two groups; the last member on one side goes.
            near.tell("UNSUB 1\r\nUNSUB 2\r\nUNSUB 3\r\nSUB work H 4\r\nSUB work 5\r\n");
            joined.settle();
            near.send("PUB work 1\r\ny\r\n");
            assert_eq!(texts(&near.messages()), ["y", "y"]);
            joined.settle();
            assert_eq!(texts(&far.messages()), ["y"]);
            near.tell("UNSUB 4\r\nUNSUB 5\r\n");
            far.tell("UNSUB 1\r\n");
            joined.settle();
        }
    });
}

/// Messages that are spread, and the fewest and most of them that one of four members may get: far
/// more than chance takes.
const SPREAD: usize = 600;
const OF_ONE: std::ops::RangeInclusive<usize> = 90..=210;

#[test]
fn a_group_in_two_leafs_is_served_by_weight() {
    each_cell(BUSY, |cell| {
        let hub = hub(&cell.hub, "", "");
        let [a, b] = ["A", "B"].map(|name| leaf(&cell.leaf, name, &remote(&hub, "")));
        let mut joined = [&a, &b].map(|leaf| Joined::new(leaf, &hub, "", ""));
        let mut few = Client::quiet(a.port());
        let mut many = Client::quiet(b.port());
        few.tell("SUB work G 1\r\n");
        for sid in 1..=3 {
            many.tell(format!("SUB work G {sid}\r\n"));
        }
        joined.iter_mut().for_each(Joined::settle);
        let mut from = Client::quiet(hub.port());
        for _ in 0..SPREAD {
            from.send("PUB work 1\r\nx\r\n");
        }
        from.sync();
        joined.iter_mut().for_each(Joined::settle);
        let few_got = few.messages().len();
        assert_eq!(few_got + many.messages().len(), SPREAD);
        // 2.9 picks a leaf, whatever the number of its members.
        assert!(
            is_older(&cell.hub, 10) || OF_ONE.contains(&few_got),
            "{few_got} of {SPREAD} for one of four members"
        );
        // From one leaf to the other: its own member first, then the other's.
        few.send("PUB work 1\r\ny\r\n");
        assert_eq!(texts(&few.messages()), ["y"]);
        few.tell("UNSUB 1\r\n");
        joined.iter_mut().for_each(Joined::settle);
        few.tell("PUB work 1\r\nz\r\n");
        assert_eq!(many.expect_msg().text(), "z");
        assert_eq!(many.messages(), []);
    });
}
