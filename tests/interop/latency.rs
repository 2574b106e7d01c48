//! What servers of all versions and petiole tell of how long services take: the same scenario, the same
//! keys of JSON, and the same values where they do not depend on the server and the time.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Client, LeafLink, LeafOp, Msg, Server, servers, skip_loudly};
use crate::system::keys;

const CONFIG: &str = r#"
host: "127.0.0.1"
port: {port}
server_name: S
{more}
leafnodes { host: "127.0.0.1", port: {port:leaf} }
accounts {
  A {
    users: [ { user: a, password: p } ]
    mappings { "lat.mapped": "lat.elsewhere" }
    exports: [
      { service: svc, latency: lat.svc, threshold: "300ms" }
      { service: "open.*", latency: { sampling: 100, subject: lat.open } }
      { service: trace, latency: { sampling: headers, subject: lat.trace } }
      { service: mapped, latency: lat.mapped }
      { service: far, latency: lat.far }
      { stream: "lat.>" }
    ]
  }
  B {
    users: [ { user: b, password: p } ]
    exports: [ { service: svc, latency: lat.b } ]
    imports: [
      { service: { account: A, subject: svc } }
      { service: { account: A, subject: svc }, to: renamed }
      { service: { account: A, subject: "open.*" }, share: true }
      { service: { account: A, subject: trace } }
      { service: { account: A, subject: mapped } }
      { service: { account: A, subject: far } }
      { stream: { account: A, subject: "lat.>" } }
    ]
  }
  C {
    users: [ { user: c, password: p } ]
    imports: [ { service: { account: B, subject: svc } } ]
  }
}
"#;

/// What the scenario brought, in its order: subjects of samples, and their bodies.
type Said = Vec<(&'static str, String, Value)>;

fn user(server: &Server, name: &str) -> Client {
    let more = format!(
        "\"user\":\"{name}\",\"pass\":\"p\",\"no_responders\":true,\"name\":\"n{name}\",\
         \"lang\":\"rust\",\"version\":\"1.2\""
    );
    Client::quiet_and(server.port(), &more)
}

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(bytes)))
}

/// Everybody that takes part.
struct Stage {
    said: Said,
    /// Serves.
    a: Client,
    /// Hears the samples of `A`.
    heard: Client,
    /// Asks, and hears answers.
    b: Client,
}

impl Stage {
    fn set(server: &Server) -> Stage {
        let mut a = user(server, "a");
        a.tell("SUB svc 1\r\nSUB open.* 2\r\nSUB trace 3\r\nSUB mapped 4\r\n");
        let mut heard = user(server, "a");
        heard.tell("SUB lat.> 1\r\n");
        let mut b = user(server, "b");
        b.tell("SUB in.> in\r\n");
        Stage {
            said: Said::new(),
            a,
            heard,
            b,
        }
    }

    fn note(&mut self, step: &'static str, sample: &Msg) {
        self.said
            .push((step, sample.subject(), json_of(&sample.payload)));
    }

    fn sample(&mut self, step: &'static str) {
        let sample = self.heard.expect_msg();
        self.note(step, &sample);
    }

    /// A request as it is served: notes what the service is told of who asks. Answers its reply.
    fn served(&mut self, step: &'static str) -> Option<String> {
        let request = self.a.expect_msg();
        let header = String::from_utf8(request.header.clone().unwrap()).unwrap();
        let info = header
            .lines()
            .find_map(|line| line.strip_prefix("Nats-Request-Info: "));
        let info = json_of(info.unwrap().as_bytes());
        self.said.push((step, request.subject(), info));
        request.reply()
    }

    fn answer(&mut self, step: &'static str) {
        let reply = self.served(step).unwrap();
        self.a.send(format!("PUB {reply} 2\r\nok\r\n"));
    }

    /// A request of `b` that is answered.
    fn exchange(&mut self, step: &'static str, request: &str) {
        self.b.send(request);
        self.answer(step);
        assert_eq!(self.b.expect_msg().text(), "ok", "{step}");
        self.sample(step);
    }
}

fn scenario(server: &Server) -> Said {
    let mut stage = Stage::set(server);
    stage.exchange("answered", "PUB svc in.1 1\r\nx\r\n");
    stage.exchange("renamed", "PUB renamed in.1 1\r\nx\r\n");
    stage.exchange("shared", "PUB open.x in.1 1\r\nx\r\n");
    stage.exchange("not mapped", "PUB mapped in.1 1\r\nx\r\n");

    // Behind one that nobody follows.
    stage.b.send("PUB trace in.1 1\r\nx\r\n");
    stage.answer("not followed");
    assert_eq!(stage.b.expect_msg().text(), "ok");
    let block = "NATS/1.0\r\nx-b3-sampled: 1\r\nX-B3-TraceId: t\r\nFoo: bar\r\n\r\n";
    let length = block.len();
    stage.exchange(
        "followed",
        &format!("HPUB trace in.1 {length} {length}\r\n{block}\r\n"),
    );

    stage.b.send("PUB svc 1\r\nx\r\n");
    assert_eq!(stage.served("without a reply"), None);
    stage.sample("without a reply");
    stage.b.send("PUB open.x 1\r\nx\r\n");
    assert_eq!(stage.served("shared, without a reply"), None);
    stage.sample("shared, without a reply");

    stage.b.send("PUB svc in.1 1\r\nx\r\n");
    let late = stage.served("unanswered").unwrap();
    stage.sample("unanswered");
    // Too late: nobody is told of it.
    stage.a.tell(format!("PUB {late} 4\r\nlate\r\n"));

    for (step, leave) in [("left", true), ("unsubscribed", false)] {
        let mut guest = user(server, "b");
        guest.tell("SUB box.* 1\r\n");
        guest.send("PUB svc box.1 1\r\nx\r\n");
        stage.served(step);
        if leave {
            drop(guest);
        } else {
            guest.tell("UNSUB 1\r\n");
        }
        stage.sample(step);
    }

    let mut c = user(server, "c");
    let mut heard_in_b = user(server, "b");
    heard_in_b.tell("SUB lat.b 1\r\n");
    c.tell("SUB in 1\r\n");
    c.send("PUB svc in 1\r\nx\r\n");
    stage.answer("through an account");
    assert_eq!(c.expect_msg().text(), "ok");
    stage.sample("through an account");
    let sample = heard_in_b.expect_msg();
    stage.note("in that account", &sample);

    stage.a.tell("UNSUB 1\r\n");
    stage.b.send("PUB svc in.1 1\r\nx\r\n");
    stage.sample("nobody serves");
    stage.b.sync();

    // The answer is there before what is told of it, also where one hears both.
    stage.a.tell("SUB svc 1\r\n");
    let mut both = user(server, "b");
    both.tell("SUB box 1\r\nSUB lat.> 2\r\n");
    both.send("PUB svc box 1\r\nx\r\n");
    stage.answer("order");
    let order: Vec<_> = (0..2).map(|_| both.expect_msg().sid()).collect();
    assert_eq!(order, ["1", "2"]);
    stage.sample("order");
    stage.said
}

/// Requests of a leaf, and those that a leaf answers.
fn with_leafs(server: &Server) -> Said {
    let hello = |user: &str| {
        json!({
            "user": user, "pass": "p", "name": "EDGE", "server_id": "X", "version": "2.10.27",
            "headers": true, "jetstream": false, "cluster": "",
        })
    };
    let mut stage = Stage::set(server);
    let (mut asks, ..) = LeafLink::solicit(server.port_of("leaf"), &hello("b"));
    asks.send("LS+ box.1\r\n");
    asks.sync();
    for (step, request) in [
        ("asked by a leaf", "LMSG svc box.1 1\r\nx\r\n"),
        ("shared by a leaf", "LMSG open.x box.1 1\r\nx\r\n"),
    ] {
        asks.send(request);
        stage.answer(step);
        stage.sample(step);
    }
    asks.send("LMSG svc box.1 1\r\nx\r\n");
    stage.served("a leaf that wants no answer");
    asks.send("LS- box.1\r\n");
    stage.sample("a leaf that wants no answer");

    // What a leaf answers is not told of; the next sample is that of another service.
    let (mut serves, ..) = LeafLink::solicit(server.port_of("leaf"), &hello("a"));
    serves.send("LS+ far\r\n");
    serves.sync();
    stage.b.send("PUB far in.1 1\r\nx\r\n");
    let reply = loop {
        if let LeafOp::HMsg { args, .. } = serves.op().unwrap()
            && let Some(reply) = args.strip_prefix("far ")
        {
            break reply.to_owned();
        }
    };
    serves.send(format!("LMSG {reply} 2\r\nok\r\n"));
    assert_eq!(stage.b.expect_msg().text(), "ok");
    stage.exchange("behind a leaf's", "PUB svc in.1 1\r\nx\r\n");
    serves.send("LS- far\r\n");
    serves.sync();
    stage.b.send("PUB far in.1 1\r\nx\r\n");
    stage.sample("no leaf serves");
    // Petiole knows a leaf's round trip once it had reason to ping it.
    for (_, _, value) in &mut stage.said {
        for who in ["", "/requestor"] {
            if let Some(Value::Object(who)) = value.pointer_mut(who) {
                who.remove("rtt");
            }
        }
    }
    stage.said
}

/// What depends on the server and the time is left out.
fn stable(value: &Value) -> Value {
    let mut value = value.clone();
    for who in ["", "/requestor", "/responder"] {
        if let Some(Value::Object(who)) = value.pointer_mut(who) {
            for key in [
                "id",
                "timestamp",
                "start",
                "rtt",
                "service",
                "system",
                "total",
            ] {
                who.remove(key);
            }
        }
    }
    value
}

/// The times of a sample fit each other.
fn check_times(step: &str, sample: &Value) {
    let Some(status) = sample["status"].as_u64() else {
        return;
    };
    let nanos = |path: &str| sample.pointer(path).map_or(0, |it| it.as_u64().unwrap());
    let all = nanos("/requestor/rtt") + nanos("/responder/rtt") + nanos("/service");
    let all = all + nanos("/system");
    match status {
        // A quick answer of a client that was slow before took no time.
        200 if nanos("/service") == 0 => assert!(nanos("/total") > 0, "{step}: {sample}"),
        200 if sample.pointer("/requestor/rtt").is_some() => {
            assert_eq!(nanos("/total"), all, "{step}: {sample}");
        }
        200 => {}
        _ => assert_eq!(nanos("/total") + nanos("/service"), 0, "{step}: {sample}"),
    }
    let time = |key: &str| sample[key].as_str().unwrap().to_owned();
    // In UTC and of one year: they sort as text. Fractions of real servers have no trailing zeros.
    let seconds = |key: &str| time(key)[..19].to_owned();
    assert!(seconds("start") <= seconds("timestamp"), "{step}: {sample}");
    assert_eq!(time("id").len(), 22, "{step}: {sample}");
}

/// Runs a scenario against all, petiole on several threads.
fn compare(run: impl Fn(&Server) -> Said) {
    if servers().is_empty() {
        return skip_loudly("interop: no real server");
    }
    let config = |more: &str| CONFIG.replace("{more}", more);
    let ours: Vec<Said> = ["threads: 1", "threads: 3"]
        .map(|threads| run(&Server::start_petiole(&config(threads))))
        .into();
    for real in servers() {
        let theirs = run(&Server::start_real(real, &config("")));
        for ours in &ours {
            let steps = |said: &Said| -> Vec<_> {
                said.iter()
                    .map(|(step, subject, _)| (*step, subject.clone()))
                    .collect()
            };
            assert_eq!(steps(ours), steps(&theirs));
            for ((step, _, ours), (_, _, theirs)) in ours.iter().zip(&theirs) {
                assert_eq!(keys(ours), keys(theirs), "{step}: {ours} {theirs}");
                assert_eq!(stable(ours), stable(theirs), "{step}");
                check_times(step, ours);
                check_times(step, theirs);
            }
        }
    }
}

#[test]
fn latency_is_told_as_by_real_servers() {
    compare(scenario);
}

#[test]
fn latency_across_leafs_is_told_as_by_real_servers() {
    compare(with_leafs);
}

/// Of many requests about as many are measured as is said.
#[test]
fn a_share_of_the_requests_is_measured() {
    let server = Server::start_petiole(
        r#"
host: "127.0.0.1"
port: {port}
threads: 2
accounts {
  A {
    users: [ { user: a, password: p } ]
    exports: [ { service: svc, latency: { sampling: 30%, subject: lat } } ]
  }
  B {
    users: [ { user: b, password: p } ]
    imports: [ { service: { account: A, subject: svc } } ]
  }
}
"#,
    );
    let mut heard = user(&server, "a");
    heard.tell("SUB lat 1\r\n");
    let mut b = user(&server, "b");
    b.tell("PUB svc 0\r\n\r\n".repeat(1000));
    let mut counts = BTreeMap::<String, usize>::new();
    for msg in heard.messages() {
        let status = json_of(&msg.payload)["status"].to_string();
        *counts.entry(status).or_default() += 1;
    }
    let samples = counts.remove("400").unwrap_or(0);
    assert!((200..400).contains(&samples), "{samples}");
    assert_eq!(counts.len(), 0, "{counts:?}");
}
