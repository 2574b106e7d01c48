//! A hub that is killed while accounts are pushed has every push that it confirmed, and nothing that is
//! broken, when it starts again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;

use super::Hub;
use crate::common::request;
use crate::support::{Credentials, Draft, Op, Target, account_key, signal};

/// How often, if `PETIOLE_TEST_KILLS` does not say.
const KILLS: u64 = 40;

const ACCOUNTS: usize = 4;

#[test]
fn what_was_confirmed_survives_a_kill() {
    let kills = std::env::var("PETIOLE_TEST_KILLS").ok();
    let kills = kills.map_or(KILLS, |text| text.parse().expect("a number of kills"));
    let mut hub = Hub::new(&Target::Petiole);
    let names: Vec<String> = (0..ACCOUNTS).map(|n| format!("K{n}")).collect();
    let keys: Vec<_> = names.iter().map(|name| account_key(name)).collect();
    // The version of each account that was confirmed, and what may be there as well: the push that was
    // under way.
    let mut confirmed = [0u64; ACCOUNTS];
    let mut version = 0u64;
    for kill in 0..kills {
        let pid = hub.server.pid();
        let answered = AtomicU64::new(0);
        let under_way = std::thread::scope(|scope| {
            // Somewhere in a push, after some were confirmed: elsewhere in each round.
            scope.spawn(|| {
                while answered.load(Ordering::Acquire) < kill % 7 {
                    std::thread::yield_now();
                }
                std::thread::park_timeout(Duration::from_micros(kill * 97 % 3000));
                signal(pid, "KILL");
            });
            let mut at = 0;
            loop {
                at = (at + 1) % ACCOUNTS;
                version += 1;
                let draft = Draft::account(&keys[at], &names[at]).with(
                    json!({"description": "d".repeat(version as usize * 37 % 5000),
                        "info_url": format!("http://localhost/{version}")}),
                );
                let jwt = hub.operator.sign(&draft);
                let line = format!(
                    "PUB $SYS.REQ.CLAIMS.UPDATE _INBOX.k {}\r\n{jwt}\r\n",
                    jwt.len()
                );
                let subscribed = answered.load(Ordering::Acquire) > 0;
                let subscribe = if subscribed { "" } else { "SUB _INBOX.k k\r\n" };
                let sent = hub.nsc.wire.try_send(format!("{subscribe}{line}"));
                let answer = sent.ok().and_then(|()| hub.nsc.op());
                match answer {
                    Some(Op::Msg(msg)) => {
                        let text = msg.text();
                        assert!(text.contains("jwt updated"), "{text}");
                        confirmed[at] = version;
                        answered.fetch_add(1, Ordering::AcqRel);
                    }
                    None => break (at, version),
                    Some(other) => panic!("{other:?}"),
                }
            }
        });
        hub.server.restart();
        let mut sys = hub.operator.system_user().login(hub.port());
        for (at, key) in keys.iter().enumerate() {
            let id = key.public_key();
            let subject = format!("$SYS.REQ.ACCOUNT.{id}.CLAIMS.LOOKUP");
            let jwt = request(&mut sys, &subject, "").text();
            let found = match &*jwt {
                "" => 0,
                jwt => version_of(jwt),
            };
            let wanted = confirmed[at];
            let other = (under_way.0 == at).then_some(under_way.1);
            assert!(
                found == wanted || Some(found) == other,
                "kill {kill}: account {at} is at {found}, not at {wanted}"
            );
            confirmed[at] = found;
            if found > 0 {
                Credentials::new("U", key, key).login(hub.port());
            }
        }
        hub.nsc = hub.operator.pusher().login(hub.port());
    }
    let left = std::fs::read_dir(hub.server.dir().join("jwt"))
        .unwrap()
        .count();
    // And the system account; no half a file stays.
    assert!(left <= ACCOUNTS + 1, "{left} files");
}

/// The version that a JWT of the test is.
fn version_of(jwt: &str) -> u64 {
    let claims = jwt.split('.').nth(1).expect("claims");
    let claims = data_encoding::BASE64URL_NOPAD
        .decode(claims.as_bytes())
        .expect("base64url");
    let claims: serde_json::Value = serde_json::from_slice(&claims).expect("JSON");
    let url = claims["nats"]["info_url"].as_str().expect("a URL");
    url.rsplit('/')
        .next()
        .expect("a version")
        .parse()
        .expect("a number")
}
