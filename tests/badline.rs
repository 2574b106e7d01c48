//! Real processes over a real bad line: hub and leaf in network namespaces, between them 64 kbit/s,
//! 800 ms there and back, 3 % of the packets lost. Timeouts are the default ones.
//!
//! Needs root, `ip` and python3, which carries the packets: netem is not in every kernel.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use petiole_core::random::{Entropy, Random};
use rustix::fd::AsFd;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use support::{Client, Pki, Server, newest, skip_loudly};

const HUB: &str = "10.213.0.2";
const LEAF: &str = "10.213.0.1";
const LEAF_LATER: &str = "10.213.0.3";
/// One way in ms, bits per second, percent lost, packets that wait for the line.
const LINE: [&str; 4] = ["400", "64000", "3", "20"];
const LINE_SCRIPT: &str = include_str!("support/line.py");
/// How long anything that has to cross the line may take.
const PATIENCE: Duration = Duration::from_secs(45);
const LOAD: Duration = Duration::from_secs(40);
const STEP: Duration = Duration::from_millis(500);

/// Three network namespaces: the leaf's, the line's, the hub's.
struct Lab {
    names: [String; 3],
    line: Option<Child>,
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let out = Command::new(program).args(args).output();
    let out = out.map_err(|error| format!("{program}: {error}"))?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    Err(format!("{program} {}: {}", args.join(" "), said.trim()))
}

fn ip(line: &str) -> Result<(), String> {
    run("ip", &line.split(' ').collect::<Vec<_>>())
}

impl Lab {
    fn new() -> Result<Lab, String> {
        let names =
            ["leaf", "line", "hub"].map(|name| format!("ptl-{}-{name}", std::process::id()));
        // From here on dropping it tidies up.
        let mut lab = Lab { names, line: None };
        let [leaf, line, hub] = lab.names.clone();
        for name in &lab.names {
            ip(&format!("netns add {name}"))?;
            ip(&format!("-n {name} link set lo up"))?;
        }
        for (end, there, name, address) in [
            ("first", "toline", &leaf, LEAF),
            ("second", "toline", &hub, HUB),
        ] {
            ip(&format!(
                "-n {line} link add {end} type veth peer name {there} netns {name}"
            ))?;
            let script = ["netns", "exec", name, "python3", "-c", LINE_SCRIPT];
            run("ip", &[&script[..], &["plain", there]].concat())?;
            ip(&format!("-n {line} link set {end} up"))?;
            ip(&format!("-n {name} addr add {address}/24 dev {there}"))?;
            ip(&format!("-n {name} link set {there} up"))?;
        }
        let mut carrier = Command::new("ip")
            .args(["netns", "exec", &line, "python3", "-c", LINE_SCRIPT])
            .args(["carry", "first", "second"])
            .args(LINE)
            .arg("7")
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let said = carrier.stdout.take().expect("stdout is piped");
        lab.line = Some(carrier);
        let mut ready = String::new();
        let read = BufReader::new(said).read_line(&mut ready);
        match read {
            Ok(count) if count > 0 => Ok(lab),
            _ => Err("nothing carries packets".into()),
        }
    }

    /// Does something within a namespace: sockets made and processes started there stay there.
    fn within<T: Send>(&self, name: &str, act: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{name}")).expect("a namespace");
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(file.as_fd(), network).expect("entering a namespace");
                act()
            });
            thread.join().expect("the work in a namespace")
        })
    }

    fn at_leaf<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        self.within(&self.names[0], act)
    }

    fn at_hub<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        self.within(&self.names[2], act)
    }

    fn hub(&self, leafnodes: &str, more: &str) -> Server {
        let real = newest().expect("looked at before");
        let config = format!(
            "host: \"127.0.0.1\"\nport: {{port}}\nserver_name: HUB\nping_interval: \"10s\"\n\
             leafnodes {{ host: \"{HUB}\", port: {{port:leaf}}\n{leafnodes} }}\n{more}\n"
        );
        self.at_hub(|| Server::start_real(real, &config))
    }

    fn leaf(&self, name: &str, remote: &str) -> Server {
        let config = format!(
            "host: \"127.0.0.1\"\nport: {{port}}\nserver_name: {name}\nping_interval: \"5s\"\n\
             leafnodes {{ remotes: [ {{ {remote} }} ] }}\n"
        );
        self.at_leaf(|| Server::start_petiole(&config))
    }

    fn client_of_hub(&self, hub: &Server) -> Client {
        self.at_hub(|| Client::quiet(hub.port()))
    }

    fn client_of_leaf(&self, leaf: &Server) -> Client {
        self.at_leaf(|| Client::quiet(leaf.port()))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(mut line) = self.line.take() {
            let _ = line.kill();
            let _ = line.wait();
        }
        for name in &self.names {
            // Its interfaces go with it.
            let _ = ip(&format!("netns del {name}"));
        }
    }
}

#[track_caller]
fn within_patience(what: &str, mut done: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    begin.elapsed()
}

/// Requests are answered, whoever asks.
fn requests(name: &str, edge: &mut Client, core: &mut Client) {
    for (from, to, way) in [(0, 1, "up"), (1, 0, "down")] {
        let mut ends = [&mut *edge, &mut *core];
        let subject = format!("svc.{name}.{way}");
        ends[to].ask(format!("SUB {subject} svc-{name}-{way}\r\n"));
        ends[from].ask(format!("SUB _INBOX.{name}.{way} box-{name}-{way}\r\n"));
        let begin = Instant::now();
        let mut answered = false;
        within_patience(&format!("an answer over {name}, {way}"), || {
            // Again until the other side knows of both subscriptions.
            ends[from].send(format!("PUB {subject} _INBOX.{name}.{way} 2\r\nhi\r\n"));
            for _ in ends[to].messages() {
                ends[to].send(format!("PUB _INBOX.{name}.{way} 2\r\nho\r\n"));
            }
            let pause = Duration::from_millis(700);
            std::thread::park_timeout(pause);
            answered |= ends[from].messages().iter().any(|msg| msg.text() == "ho");
            answered
        });
        println!(
            "{name}: a request {way} answered after {:.1?}",
            begin.elapsed()
        );
    }
}

/// Messages that cannot be compressed.
fn publish(client: &mut Client, subject: &str, count: usize, random: &mut Random) {
    for _ in 0..count {
        let mut line = format!("PUB {subject} 1000\r\n").into_bytes();
        let head = line.len();
        line.resize(head + 1000, 0);
        random.fill(&mut line[head..]);
        line.extend_from_slice(b"\r\n");
        client.send(line);
    }
}

/// Since the link came up. Before, where packets are lost, the hub's own deadline (2 s from its INFO to
/// CONNECT, which is two round trips with S2) may take another attempt.
fn stays(leaf: &Server, what: &str) {
    let log = leaf.log();
    let (_, since) = log.split_once("is up").expect("a link that was up");
    for word in ["is down", "tale", "failed (attempt"] {
        assert!(!since.contains(word), "{word:?} {what}");
    }
}

#[test]
fn a_bad_line() {
    if newest().is_none() {
        return skip_loudly("badline: no real server");
    }
    let lab = match Lab::new() {
        Ok(lab) => lab,
        Err(why) => return skip_loudly(&format!("badline: no network namespaces: {why}")),
    };
    let pki = Pki::new("CA");
    let pair = pki.sign("hub", |params| {
        let address = HUB.parse().expect("an address");
        params.subject_alt_names = vec![rcgen::SanType::IpAddress(address)];
    });
    let websocket = format!("websocket {{ host: \"{HUB}\", port: {{port:ws}}, no_tls: true }}");
    let plain_hub = lab.hub("", &websocket);
    let tls_hub = lab.hub(&format!("tls {{ {} }}", pair.options()), "");
    let (port, ws_port) = (plain_hub.port_of("leaf"), plain_hub.port_of("ws"));
    let tls_port = tls_hub.port_of("leaf");
    let ca = pki.ca();
    let tls = format!("url: \"tls://{HUB}:{tls_port}\", tls {{ {ca} }}");
    let queue = "max_queue_time: \"8s\"";
    for (name, hub, remote) in [
        ("ws", &plain_hub, format!("url: \"ws://{HUB}:{ws_port}\"")),
        ("tls", &tls_hub, tls),
        (
            "plain",
            &plain_hub,
            format!("url: \"nats://{HUB}:{port}\", {queue}"),
        ),
    ] {
        let leaf = lab.leaf(name, &remote);
        let took = within_patience(&format!("{name} comes up"), || leaf.log().contains("is up"));
        println!("{name}: up after {took:.1?}");
        let mut edge = lab.client_of_leaf(&leaf);
        let mut core = lab.client_of_hub(hub);
        requests(name, &mut edge, &mut core);
        stays(&leaf, "while nothing much is sent");
        if name == "plain" {
            load(&leaf, &mut edge, &mut core);
            moves(&lab, &leaf, &mut edge, &mut core);
        }
    }
}

/// Twice what the line carries towards the hub, half of it from there: a hub that sends more than
/// the line takes has its own pings wait behind it, and calls the leaf stale by itself.
fn load(leaf: &Server, edge: &mut Client, core: &mut Client) {
    edge.ask("SUB load.down 20\r\n");
    core.ask("SUB load.up 20\r\n");
    let mut random = Random::new(7);
    let begin = Instant::now();
    let (mut up, mut down, mut sent) = (0, 0, 0);
    while begin.elapsed() < LOAD {
        publish(edge, "load.up", 8, &mut random);
        publish(core, "load.down", 2, &mut random);
        sent += 8;
        down += edge.messages().len();
        up += core.messages().len();
        std::thread::park_timeout(STEP);
    }
    println!("of {sent} messages {up} went up; {down} came down");
    stays(leaf, "under load");
    assert!(up > 20 && down > 20, "nothing crosses a line that is full");
    leaf.wait_for_log("messages for it are dropped");
}

/// Another address, as after a change of the network.
fn moves(lab: &Lab, leaf: &Server, edge: &mut Client, core: &mut Client) {
    let mark = leaf.log_mark();
    let name = &lab.names[0];
    let begin = Instant::now();
    ip(&format!("-n {name} addr del {LEAF}/24 dev toline")).unwrap();
    ip(&format!("-n {name} addr add {LEAF_LATER}/24 dev toline")).unwrap();
    leaf.wait_for_log_after(mark, "no longer has the address");
    println!("noticed after {:.1?}", begin.elapsed());
    let later = || leaf.log()[mark..].contains("is up");
    // The hub's messages for the old address may fill the line for a while.
    within_patience("the link comes back", later);
    println!("up again after {:.1?}", begin.elapsed());
    requests("moved", edge, core);
}
