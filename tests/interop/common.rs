//! What these tests share: petiole with its remotes, a link to a fake hub, a joined pair of servers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{
    Client, DEADLINE, FakeHub, LeafLink, LeafOp, Msg, Op, POLL, RealServer, Server, Target,
    servers, skip_loudly,
};

/// petiole with these entries of `leafnodes.remotes`, retrying fast, and further options.
pub(crate) fn petiole(remotes: &str, more: &str) -> Server {
    Server::start_petiole(&config(remotes, more))
}

/// The configuration of such a petiole.
pub(crate) fn config(remotes: &str, more: &str) -> String {
    format!(
        "host: \"127.0.0.1\"\nport: {{port}}\nserver_name: LEAF\n{more}\n\
         leafnodes {{ reconnect: \"100ms\", remotes: [ {remotes} ] }}\n"
    )
}

/// A remote of the account `$G` at a port, with further options.
pub(crate) fn remote(port: u16, more: &str) -> String {
    format!("{{ url: \"nats://127.0.0.1:{port}\", {more} }}")
}

/// A link that is up, and the interest the leaf announced on it, sorted, without `$LDS`.
pub(crate) struct Up {
    pub(crate) link: LeafLink,
    pub(crate) connect: Value,
    pub(crate) burst: Vec<String>,
    /// The `$LDS` subject of the leaf's account.
    pub(crate) lds: String,
}

/// Takes the next connection of a leaf through the handshake.
pub(crate) fn up(hub: &FakeHub) -> Up {
    up_with(hub, |_| {}, |_| {})
}

/// As `up`, with changed INFOs; what `both` changes is in either of them.
pub(crate) fn up_with(hub: &FakeHub, both: impl Fn(&mut Value), second: impl Fn(&mut Value)) -> Up {
    let mut link = hub.accept();
    let mut info = hub.info();
    both(&mut info);
    link.send_info(&info);
    let connect = link.expect_connect();
    info["connect_info"] = json!(true);
    info["remote_account"] = json!("$G");
    second(&mut info);
    link.send_info(&info);
    let said = said(&mut link);
    let (lds, mut burst): (Vec<String>, Vec<String>) = said
        .into_iter()
        .partition(|line| line.starts_with("LS+ $LDS."));
    burst.sort_unstable();
    assert_eq!(lds.len(), 1, "one $LDS in {lds:?}");
    let lds = lds[0]["LS+ ".len()..].to_owned();
    Up {
        link,
        connect,
        burst,
        lds,
    }
}

/// The lines of interest that a peer has said by now, and nothing else may have come.
pub(crate) fn said(link: &mut LeafLink) -> Vec<String> {
    let line = |op| match op {
        LeafOp::Sub(args) => format!("LS+ {args}"),
        LeafOp::Unsub(args) => format!("LS- {args}"),
        other => panic!("interest was expected, not {other:?}"),
    };
    link.sync().into_iter().map(line).collect()
}

/// `args` of the messages that a peer has sent by now, whatever else it said.
pub(crate) fn sent(link: &mut LeafLink) -> Vec<String> {
    let args = |op| match op {
        LeafOp::Msg { args, .. } => Some(format!("LMSG {args}")),
        LeafOp::HMsg { args, .. } => Some(format!("HMSG {args}")),
        _ => None,
    };
    link.sync().into_iter().filter_map(args).collect()
}

pub(crate) fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort_unstable();
    lines
}

/// Waits for something that nothing announces.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        match look() {
            Ok(value) => return value,
            Err(why) => assert!(Instant::now() < until, "{what}: {why}"),
        }
        std::thread::park_timeout(POLL);
    }
}

/// Runs a test against every real version, and says in the output against which.
pub(crate) fn each(run: impl Fn(&RealServer)) {
    if servers().is_empty() {
        skip_loudly("interop: no real server");
    }
    for real in servers() {
        let (major, minor, patch) = real.version;
        eprintln!("== hub: nats-server {major}.{minor}.{patch}");
        run(real);
    }
}

/// petiole, and all real servers.
pub(crate) fn targets() -> impl Iterator<Item = Target> {
    let real = servers().iter().cloned().map(Target::Real);
    std::iter::once(Target::Petiole).chain(real)
}

/// The configuration of a hub with monitoring, and further options.
pub(crate) fn hub_config(leafnodes: &str, more: &str) -> String {
    format!(
        "host: \"127.0.0.1\"\nport: {{port}}\nhttp: \"127.0.0.1:{{port:mon}}\"\nserver_name: HUB\n\
         leafnodes {{ host: \"127.0.0.1\", port: {{port:leaf}}\n{leafnodes} }}\n{more}\n"
    )
}

pub(crate) fn hub(real: &RealServer, leafnodes: &str, more: &str) -> Server {
    Server::start_real(real, &hub_config(leafnodes, more))
}

/// A hub and a petiole that are joined, and how to wait until what was said has crossed.
pub(crate) struct Joined {
    edge: Client,
    core: Client,
    rounds: u64,
}

impl Joined {
    /// Waits until messages flow both ways between clients that connect with these further
    /// options, in accounts that are linked.
    pub(crate) fn new(leaf: &Server, hub: &Server, edge: &str, core: &str) -> Self {
        let connect = |server: &Server, options: &str| match options {
            "" => Client::quiet(server.port()),
            more => Client::quiet_and(server.port(), more),
        };
        let mut joined = Joined {
            edge: connect(leaf, edge),
            core: connect(hub, core),
            rounds: 0,
        };
        joined.edge.tell("SUB fence.down 1\r\n");
        joined.core.tell("SUB fence.up 1\r\n");
        joined.wait();
        joined
    }

    /// Waits until messages flow both ways, for links that were down.
    pub(crate) fn wait(&mut self) {
        self.rounds += 1;
        let text = self.rounds.to_string();
        let fence = |to: &mut Client, from: &mut Client, subject: &str| {
            eventually(subject, || {
                from.send(format!("PUB {subject} {}\r\n{text}\r\n", text.len()));
                if to.messages().iter().any(|m| m.text() == text) {
                    return Ok(());
                }
                // Once in some thousand links nats-server 2.9 does not tell the leaf of interest that
                // came within the millisecond in which it was joined.
                to.send(format!("UNSUB 1\r\nSUB {subject} 1\r\n"));
                Err("no message crosses the link".to_owned())
            });
        };
        fence(&mut self.edge, &mut self.core, "fence.down");
        fence(&mut self.core, &mut self.edge, "fence.up");
    }

    /// Waits until all that was said on either side before (and confirmed there by a PONG) is
    /// known on the other: a message behind it has crossed. For links that are up.
    pub(crate) fn settle(&mut self) {
        self.rounds += 1;
        let text = self.rounds.to_string();
        let fence = |to: &mut Client, from: &mut Client, subject: &str| {
            from.send(format!("PUB {subject} {}\r\n{text}\r\n", text.len()));
            // Those of `wait` may still be under way.
            while to.expect_msg().text() != text {}
        };
        fence(&mut self.edge, &mut self.core, "fence.down");
        fence(&mut self.core, &mut self.edge, "fence.up");
    }
}

/// GET of a monitoring port.
pub(crate) fn get(port: u16, path: &str) -> Result<Value, String> {
    let run = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = run().map_err(|e| e.to_string())?;
    let body = text.split_once("\r\n\r\n").ok_or("no body")?.1;
    serde_json::from_str(body).map_err(|e| format!("{e}: {text}"))
}

/// The subjects that the one leaf of a hub has announced, sorted: what is not `$LDS` or a fence.
pub(crate) fn announced(hub: &Server) -> Result<Vec<String>, String> {
    let leafz = get(hub.port_of("mon"), "/leafz?subs=1")?;
    let leafs = leafz["leafs"].as_array().ok_or("no leafs")?;
    let [leaf] = leafs.as_slice() else {
        return Err(format!("{} leafs", leafs.len()));
    };
    let list = leaf["subscriptions_list"].as_array();
    let subjects = list.into_iter().flatten().filter_map(Value::as_str);
    let kept = subjects.filter(|s| !s.starts_with("$LDS.") && !s.starts_with("fence."));
    Ok(sorted(kept.map(str::to_owned).collect()))
}

/// Waits until the hub's view of the leaf's interest is this.
#[track_caller]
pub(crate) fn expect_announced(hub: &Server, wanted: &[&str]) {
    let wanted = sorted(wanted.iter().map(|s| (*s).to_owned()).collect());
    eventually("the hub's view of the leaf's interest", || {
        let got = announced(hub)?;
        if got == wanted {
            Ok(())
        } else {
            Err(format!("{got:?} instead of {wanted:?}"))
        }
    });
}

/// A request over a client, with its own inbox: the first answer.
pub(crate) fn request(client: &mut Client, subject: &str, payload: &str) -> Msg {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let inbox = format!("_INBOX.t{}.{n}", std::process::id());
    client.send(format!(
        "SUB {inbox} ask{n}\r\nPUB {subject} {inbox} {}\r\n{payload}\r\n",
        payload.len()
    ));
    match client.op() {
        Some(Op::Msg(msg)) if msg.sid() == format!("ask{n}") => {
            client.send(format!("UNSUB ask{n}\r\n"));
            msg
        }
        other => panic!("an answer from {subject} was expected, not {other:?}"),
    }
}

/// A client that wants to be told when nobody answers.
pub(crate) fn asker(server: &Server) -> Client {
    Client::quiet_and(server.port(), "\"no_responders\":true")
}

/// Requests both ways, small and large.
#[track_caller]
pub(crate) fn exchange(leaf: &Server, hub: &Server) {
    Joined::new(leaf, hub, "", "").settle();
    for (from, to, subject) in [(leaf, hub, "svc.core"), (hub, leaf, "svc.edge")] {
        let mut joined = Joined::new(leaf, hub, "", "");
        let mut answerer = Client::quiet(to.port());
        answerer.tell(format!("SUB {subject} 1\r\n"));
        joined.settle();
        let (port, subject) = (from.port(), subject.to_owned());
        let sizes = [0, 1, 100, 5_000, 70_000, 1_000_000];
        let asker = std::thread::spawn(move || {
            let mut asker = Client::quiet(port);
            for size in sizes {
                let payload = text(size);
                let answer = request(&mut asker, &subject, &payload);
                assert!(answer.text() == payload, "{size} bytes came back otherwise");
            }
        });
        for _ in sizes {
            let question = answerer.expect_msg();
            let reply = question.reply().expect("a request");
            let text = question.text();
            answerer.send(format!("PUB {reply} {}\r\n{text}\r\n", text.len()));
        }
        asker.join().expect("all requests are answered");
    }
}

/// Text that neither repeats at once nor is beyond compression.
fn text(size: usize) -> String {
    let words = [
        "temp",
        "pressure",
        "site",
        "wind",
        "42",
        "rpm",
        "\"state\":",
    ];
    let mut at = 7usize;
    let mut out = String::with_capacity(size + 16);
    while out.len() < size {
        at = at.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        out.push_str(words[(at >> 16) % words.len()]);
        out.push(char::from(b'a' + ((at >> 8) % 26) as u8));
    }
    out.truncate(size);
    out
}
