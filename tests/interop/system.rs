//! The system account of petiole beside that of a real server: the same scenario, the same subjects and
//! keys of JSON, and the same values where they do not depend on the server.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};

use crate::support::{Client, LeafLink, Msg, Op, Server, newest, skip_loudly};

const CONFIG: &str = r#"
host: "127.0.0.1"
port: {port}
server_name: S
{more}
leafnodes { host: "127.0.0.1", port: {port:leaf} }
system_account: SYS
accounts {
  SYS { users: [ { user: sys, password: p } ] }
  A { users: [
    { user: a, password: p }
    { user: b, password: p, permissions: {
      publish: ["foo", "$SYS.REQ.USER.INFO"], subscribe: { allow: ["_INBOX.>", "x q"], deny: "y" }
      allow_responses: { max: 3, expires: "1m" } } }
    { user: c, password: p, permissions: { publish: "foo" } }
  ] }
  B { users: [ { user: other, password: p } ] }
}
"#;

/// What nats-server says of itself and petiole has not: flags of JetStream and numbers of Go's runtime.
const GO_ONLY: [&str; 2] = ["feature_flags", "gomaxprocs"];

/// What the scenario brought: each body by a name of its own.
type Said = BTreeMap<String, Value>;

struct Watch {
    client: Client,
    id: String,
    /// What came while it began to listen.
    early: VecDeque<Msg>,
}

impl Watch {
    /// A user of the system account that hears all of this.
    fn new(server: &Server, subjects: &[&str]) -> Watch {
        let mut client = user(server, "sys");
        let id = client.info["server_id"].as_str().unwrap().to_owned();
        let mut early = VecDeque::new();
        for (sid, subject) in subjects.iter().enumerate() {
            for op in client.ask(format!("SUB {subject} {sid}\r\n").as_bytes()) {
                match op {
                    Op::Msg(msg) => early.push_back(msg),
                    other => panic!("{other:?}"),
                }
            }
        }
        Watch { client, id, early }
    }

    fn next(&mut self) -> Msg {
        let early = self.early.pop_front();
        early.unwrap_or_else(|| self.client.expect_msg())
    }

    /// The next message whose subject and body are these.
    fn wait(&mut self, subject: &str, mut fits: impl FnMut(&Value) -> bool) -> Value {
        let wanted = subject.replace("ID", &self.id);
        loop {
            let msg = self.next();
            if msg.subject() == wanted {
                let body = body(&msg);
                if fits(&body) {
                    return body;
                }
            }
        }
    }
}

fn user(server: &Server, name: &str) -> Client {
    let more = format!("\"user\":\"{name}\",\"pass\":\"p\",\"no_responders\":true");
    Client::quiet_and(server.port(), &more)
}

fn body(msg: &Msg) -> Value {
    serde_json::from_slice(&msg.payload)
        .unwrap_or_else(|e| panic!("{e}: {} {}", msg.subject(), msg.text()))
}

/// A request over a client: the first answer, or that nobody is there to give one.
fn ask(client: &mut Client, subject: &str, payload: &str) -> Result<Value, String> {
    client.send(format!(
        "SUB _INBOX.q ask\r\nPUB {subject} _INBOX.q {}\r\n{payload}\r\n",
        payload.len()
    ));
    loop {
        match client.op() {
            Some(Op::Msg(msg)) if msg.sid() == "ask" => {
                client.ask(b"UNSUB ask\r\n");
                return match &msg.header {
                    None => Ok(body(&msg)),
                    Some(header) => Err(String::from_utf8_lossy(header).into_owned()),
                };
            }
            Some(Op::Msg(_)) => {}
            other => panic!("an answer from {subject} was expected, not {other:?}"),
        }
    }
}

fn close(client: Client) {
    drop(client);
}

/// What a server says when clients and leafs come and go.
fn events(server: &Server) -> Said {
    let mut said = Said::new();
    let mut note = |name: &str, value: Value| said.insert(name.to_owned(), value);
    let mut conns = Watch::new(
        server,
        &["$SYS.SERVER.ACCOUNT.A.CONNS", "$SYS.ACCOUNT.A.SERVER.CONNS"],
    );
    let mut links = Watch::new(
        server,
        &[
            "$SYS.ACCOUNT.*.CONNECT",
            "$SYS.ACCOUNT.*.DISCONNECT",
            "$SYS.SERVER.*.CLIENT.AUTH.ERR",
        ],
    );

    let mut a = Client::quiet_and(
        server.port(),
        "\"user\":\"a\",\"pass\":\"p\",\"name\":\"n\",\"lang\":\"rust\",\"version\":\"1.2\"",
    );
    note("connect", links.wait("$SYS.ACCOUNT.A.CONNECT", |_| true));
    note(
        "one more",
        conns.wait("$SYS.SERVER.ACCOUNT.A.CONNS", |it| it["conns"] == 1),
    );
    note(
        "one more, again",
        conns.wait("$SYS.ACCOUNT.A.SERVER.CONNS", |it| it["conns"] == 1),
    );
    a.send("SUB x 1\r\nPUB x 3\r\nabc\r\nPUB none 2\r\nhi\r\n");
    assert_eq!(a.expect_msg().text(), "abc");
    a.sync();
    close(a);
    note(
        "disconnect",
        links.wait("$SYS.ACCOUNT.A.DISCONNECT", |_| true),
    );
    note(
        "one less",
        conns.wait("$SYS.SERVER.ACCOUNT.A.CONNS", |it| it["conns"] == 0),
    );

    let mut bad = Client::connect(server.port());
    bad.send("CONNECT {\"user\":\"nobody\",\"pass\":\"x\",\"name\":\"n\"}\r\n");
    bad.expect_err_close("Authorization Violation");
    note(
        "refused",
        links.wait("$SYS.SERVER.ID.CLIENT.AUTH.ERR", |_| true),
    );
    note(
        "refused and gone",
        links.wait("$SYS.ACCOUNT.$G.DISCONNECT", |_| true),
    );

    close(Client::connect(server.port()));
    note(
        "never said who it is",
        links.wait("$SYS.ACCOUNT.$G.DISCONNECT", |_| true),
    );

    let mut wrong = user(server, "a");
    wrong.send("WHAT\r\n");
    while wrong.op().is_some() {}
    links.wait("$SYS.ACCOUNT.A.CONNECT", |_| true);
    note(
        "protocol error",
        links.wait("$SYS.ACCOUNT.A.DISCONNECT", |_| true),
    );

    let hello = |user: &str, name: &str| {
        json!({
            "user": user, "pass": "p", "name": name, "server_id": "X", "version": "2.10.27",
            "headers": true, "jetstream": false, "cluster": "",
        })
    };
    let (leaf, ..) = LeafLink::solicit(server.port_of("leaf"), &hello("a", "EDGE"));
    note("leaf", links.wait("$SYS.ACCOUNT.A.CONNECT", |_| true));
    note(
        "one leaf",
        conns.wait("$SYS.SERVER.ACCOUNT.A.CONNS", |it| it["leafnodes"] == 1),
    );
    drop(leaf);
    note(
        "leaf gone",
        links.wait("$SYS.ACCOUNT.A.DISCONNECT", |_| true),
    );
    let mut bad = LeafLink::dial(server.port_of("leaf"));
    bad.expect_info();
    bad.send(format!("CONNECT {}\r\n", hello("nobody", "EDGE")));
    note(
        "leaf refused",
        links.wait("$SYS.SERVER.ID.CLIENT.AUTH.ERR", |_| true),
    );
    said
}

/// What it answers.
fn answers(server: &Server) -> Said {
    let mut said = Said::new();
    let mut sys = user(server, "sys");
    let id = sys.info["server_id"].as_str().unwrap().to_owned();
    for (subject, payload) in [
        ("SERVER.PING", ""),
        ("SERVER.PING.STATSZ", ""),
        ("SERVER.ID.STATSZ", "{\"server_name\":\"S\"}"),
        ("SERVER.PING.IDZ", ""),
        ("SERVER.ID.IDZ", "{x"),
        ("SERVER.PING.HEALTHZ", "null"),
        ("SERVER.ID.HEALTHZ", "{\"host\":\"127.0\"}"),
        ("ACCOUNT.SYS.CONNS", ""),
        ("ACCOUNT.SYS.STATZ", ""),
        ("ACCOUNT.PING.STATZ", "{\"accounts\":[\"SYS\"]}"),
        ("ACCOUNT.NONE.STATZ", "{\"include_unused\":true}"),
        ("USER.INFO", ""),
    ] {
        let full = format!("$SYS.REQ.{}", subject.replace("ID.", &format!("{id}.")));
        let answer = ask(&mut sys, &full, payload).unwrap();
        said.insert(format!("{subject} {payload}"), answer);
    }
    for payload in ["{x", "[]", "3"] {
        let mut answer = ask(&mut sys, "$SYS.REQ.SERVER.PING.STATSZ", payload).unwrap();
        // In the words of each one's own parser.
        let words = answer["error"]["description"].take();
        assert!(words.as_str().is_some_and(|it| !it.is_empty()), "{answer}");
        said.insert(format!("error {payload}"), answer);
    }
    // Who is not meant says nothing: the answer behind it is the first.
    for filter in [
        "{\"server_name\":\"other\"}",
        "{\"host\":\"127.0\",\"exact_match\":true}",
        "{\"cluster\":\"c\"}",
        "{\"tags\":[\"t\"]}",
        "{\"domain\":\"d\"}",
    ] {
        sys.send(format!(
            "SUB _INBOX.f filter\r\nPUB $SYS.REQ.SERVER.PING.HEALTHZ _INBOX.f {}\r\n{filter}\r\n",
            filter.len()
        ));
        ask(&mut sys, "$SYS.REQ.SERVER.PING.HEALTHZ", "").unwrap();
        let heard = sys.messages();
        assert!(heard.iter().all(|msg| msg.sid() != "filter"), "{filter}");
        sys.ask(b"UNSUB filter\r\n");
    }
    for name in ["a", "b", "other"] {
        let mut client = user(server, name);
        let answer = ask(&mut client, "$SYS.REQ.USER.INFO", "").unwrap();
        said.insert(format!("user {name}"), answer);
    }
    // A request without a reply subject is for all to hear.
    let mut watch = Watch::new(server, &["$SYS.SERVER.*.STATSZ"]);
    sys.send("PUB $SYS.REQ.SERVER.PING.STATSZ 0\r\n\r\n");
    said.insert(
        "statsz".into(),
        watch.wait("$SYS.SERVER.ID.STATSZ", |_| true),
    );
    said
}

/// The last words, on the signals for them.
fn farewells(server: &mut Server) -> Said {
    let mut watch = Watch::new(
        server,
        &["$SYS.SERVER.*.SHUTDOWN", "$SYS.SERVER.*.LAMEDUCK"],
    );
    server.signal("USR2");
    let mut said = Said::new();
    said.insert(
        "duck".into(),
        watch.wait("$SYS.SERVER.ID.LAMEDUCK", |_| true),
    );
    said
}

fn shutdown(server: &mut Server) -> Said {
    let mut watch = Watch::new(server, &["$SYS.SERVER.*.SHUTDOWN"]);
    server.signal("TERM");
    let last = watch.wait("$SYS.SERVER.ID.SHUTDOWN", |_| true);
    watch.client.expect_close();
    Said::from([("shutdown".into(), last)])
}

/// The keys of all objects in it, as paths.
pub(crate) fn keys(value: &Value) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    collect("", value, &mut all);
    all
}

fn collect(path: &str, value: &Value, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if !GO_ONLY.contains(&key.as_str()) {
                    let path = format!("{path}/{key}");
                    collect(&path, value, all);
                    all.insert(path);
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect(path, value, all)),
        _ => {}
    }
}

/// What does not depend on the server and the time.
fn stable(said: &Said) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (name, value) in said {
        for path in [
            "/type",
            "/acc",
            "/name",
            "/conns",
            "/leafnodes",
            "/total_conns",
            "/host",
            "/client/host",
            "/client/acc",
            "/client/user",
            "/client/name",
            "/client/lang",
            "/client/ver",
            "/client/name_tag",
            "/client/kind",
            "/client/client_type",
            "/sent/msgs",
            "/sent/bytes",
            "/received/msgs",
            "/received/bytes",
            "/reason",
            "/server/name",
            "/server/host",
            "/server/ver",
            "/server/jetstream",
            "/server/flags",
            "/error",
            "/data/status",
            "/data/status_code",
            "/data/user",
            "/data/account",
            "/data/account_name",
            "/data/permissions/subscribe",
            "/data/permissions/responses",
        ] {
            // Counts of accounts go on while they are asked for.
            let counts = path.starts_with("/sent") || path.starts_with("/received");
            if counts && value.get("client").is_none() {
                continue;
            }
            if let Some(part) = value.pointer(path) {
                all.push((format!("{name}{path}"), in_order(part).to_string()));
            }
        }
    }
    all
}

/// Lists of subjects come in any order from a real server.
fn in_order(value: &Value) -> Value {
    let mut value = value.clone();
    for list in ["allow", "deny"] {
        if let Some(Value::Array(list)) = value.get_mut(list) {
            list.sort_by_key(ToString::to_string);
        }
    }
    value
}

fn start(more: &str, target: Option<&crate::support::RealServer>) -> Server {
    let config = CONFIG.replace("{more}", more);
    match target {
        Some(real) => Server::start_real(real, &config),
        None => Server::start_petiole(&config),
    }
}

/// Runs a scenario against both, petiole on several threads.
fn compare(run: impl Fn(&mut Server) -> Said) {
    let Some(real) = newest() else {
        return skip_loudly("interop: no real server");
    };
    let theirs = run(&mut start("", Some(real)));
    for threads in ["threads: 1", "threads: 3"] {
        let ours = run(&mut start(threads, None));
        assert_eq!(
            ours.keys().collect::<Vec<_>>(),
            theirs.keys().collect::<Vec<_>>()
        );
        for (name, theirs) in &theirs {
            assert_eq!(keys(&ours[name]), keys(theirs), "{name}: {}", ours[name]);
        }
        assert_eq!(stable(&ours), stable(&theirs));
    }
}

#[test]
fn connections_are_told_of_as_by_a_real_server() {
    compare(|server| events(server));
}

#[test]
fn requests_are_answered_as_by_a_real_server() {
    compare(|server| answers(server));
}

#[test]
fn last_words_are_those_of_a_real_server() {
    compare(farewells);
    compare(shutdown);
}

/// Whatever is said, each message has a higher number than the one before, also when it is about what
/// happened in another thread.
#[test]
fn numbers_rise() {
    let server = start("threads: 3", None);
    let mut watch = Watch::new(&server, &["$SYS.ACCOUNT.>", "$SYS.SERVER.>"]);
    for _ in 0..20 {
        close(user(&server, "a"));
    }
    let (mut last, mut gone) = (0, 0);
    while gone < 20 {
        let msg = watch.next();
        let seq = body(&msg)["server"]["seq"].as_u64().unwrap();
        assert!(seq > last, "{seq} behind {last}: {}", msg.subject());
        last = seq;
        gone += usize::from(msg.subject() == "$SYS.ACCOUNT.A.DISCONNECT");
    }
}

/// Clients and leafs of other accounts see nothing of the system account; leafs of it see what is
/// served there.
#[test]
fn nothing_leaks() {
    let server = start("threads: 2", None);
    let hello = |user: &str| json!({"user": user, "pass": "p", "name": user, "version": "2.10.27"});
    let lines = |user: &str| {
        let (mut link, ..) = LeafLink::solicit(server.port_of("leaf"), &hello(user));
        crate::common::said(&mut link)
            .into_iter()
            .filter(|line| line.contains("$SYS"))
            .collect::<Vec<_>>()
    };
    assert_eq!(lines("a"), [""; 0]);
    let shown = lines("sys");
    assert!(
        shown.contains(&"LS+ $SYS.REQ.SERVER.PING".to_owned()),
        "{shown:?}"
    );

    let mut client = user(&server, "a");
    client.tell("SUB > 1\r\n");
    for subject in [
        "SERVER.PING",
        "SERVER.PING.IDZ",
        "ACCOUNT.A.STATZ",
        "USER.B.INFO",
    ] {
        client.send(format!("PUB $SYS.REQ.{subject} 0\r\n\r\n"));
        let heard = client.messages();
        assert_eq!(heard.len(), 1, "its own, and nothing else: {heard:?}");
    }
    close(user(&server, "other"));
    client.tell("UNSUB 1\r\n");
    let none = ask(&mut client, "$SYS.REQ.SERVER.PING", "").unwrap_err();
    assert!(none.starts_with("NATS/1.0 503"), "{none}");

    // Who may not publish there is not answered.
    let mut denied = user(&server, "c");
    denied.send("PUB $SYS.REQ.USER.INFO _INBOX.1 0\r\n\r\n");
    denied.expect_err("Permissions Violation for Publish to \"$SYS.REQ.USER.INFO\"");
}

/// Without a system account there is nobody to ask.
#[test]
fn no_system_account() {
    let server = Server::start_petiole(
        "host: \"127.0.0.1\"\nport: {port}\nno_system_account: true\nthreads: 2\n",
    );
    let mut client = Client::quiet_and(server.port(), "\"no_responders\":true");
    let none = ask(&mut client, "$SYS.REQ.USER.INFO", "").unwrap_err();
    assert!(none.starts_with("NATS/1.0 503"), "{none}");
}
