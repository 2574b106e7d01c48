//! Two thousand leafs of a hub that is killed: all of them come back, within the time that the hub's rate
//! of handshakes gives them, and cost it no more than before.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/mod.rs"]
mod support;

use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use smol::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use smol::{Async, LocalExecutor, Timer};

use support::{Client, DEADLINE, Server};

const LEAFS: usize = 2000;
/// What the hub takes in per second: low enough that most have to wait their turn.
const RATE: u32 = 500;
/// What a leaf may cost the hub at most, all its threads together: 24 KiB, and 64 bytes for each of the
/// others, whose interest it is told of.
const KIB_PER_LEAF: u64 = 24 + LEAFS as u64 * 64 / 1024;

/// A link to the hub.
type Link = BufReader<Async<TcpStream>>;

/// Comes as a leaf until it is taken in and the hub knows what it wants.
async fn join(port: u16, number: usize) -> Link {
    loop {
        match attempt(port, number).await {
            Ok(link) => return link,
            Err(wait) => {
                // The hub is not there yet, or said when to come back.
                Timer::after(wait).await;
            }
        }
    }
}

async fn attempt(port: u16, number: usize) -> Result<Link, Duration> {
    let soon = Duration::from_millis(100);
    let socket = Async::<TcpStream>::connect(([127, 0, 0, 1], port));
    let mut link = BufReader::new(socket.await.map_err(|_| soon)?);
    let first = line(&mut link).await.ok_or(soon)?;
    if let Some(rest) = first.split("again in ").nth(1) {
        let wait = rest.split(' ').next().unwrap().parse().unwrap();
        return Err(Duration::from_millis(wait));
    }
    assert!(first.starts_with("INFO "), "{first}");
    let hello = format!(
        "CONNECT {{\"name\":\"L{number}\",\"server_id\":\"L{number}\",\"version\":\"2.15.1\"}}\r\n\
         LS+ storm.{number}\r\nPING\r\n"
    );
    let socket = link.get_mut();
    socket.write_all(hello.as_bytes()).await.map_err(|_| soon)?;
    loop {
        match line(&mut link).await.ok_or(soon)?.as_str() {
            "PONG" => return Ok(link),
            error if error.starts_with("-ERR") => panic!("{error}"),
            _ => {}
        }
    }
}

/// `None` at the end.
async fn line(link: &mut Link) -> Option<String> {
    let mut text = String::new();
    let count = link.read_line(&mut text).await.ok()?;
    (count > 0).then(|| text.trim_end().to_owned())
}

/// All leafs at once, as after a power cut. Answers when the last was in.
fn storm(
    executor: &Rc<LocalExecutor<'static>>,
    port: u16,
    most: Duration,
) -> (Vec<Link>, Duration) {
    let start = Instant::now();
    let all = (0..LEAFS).map(|number| executor.spawn(join(port, number)));
    let all: Vec<_> = all.collect();
    let joined = async {
        let mut links = Vec::new();
        for leaf in all {
            links.push(leaf.await);
        }
        Some(links)
    };
    let late = async {
        Timer::after(most).await;
        None
    };
    let links = smol::block_on(executor.run(smol::future::or(joined, late)));
    let links = links.unwrap_or_else(|| panic!("not all leafs were taken in within {most:?}"));
    (links, start.elapsed())
}

/// A message for each leaf reaches it, and no other one.
fn each_is_served(executor: &Rc<LocalExecutor<'static>>, hub: &Server, links: &mut [Link]) {
    let mut client = Client::quiet(hub.port());
    for number in 0..LEAFS {
        client.tell(format!("PUB storm.{number} 1\r\nx\r\n"));
    }
    let serve = async {
        for (number, link) in links.iter_mut().enumerate() {
            let wanted = format!("LMSG storm.{number} 1");
            loop {
                let said = line(link).await.expect("it stays");
                if said.starts_with("LMSG") {
                    assert_eq!(said, wanted);
                    break;
                }
            }
            let mut body = [0; 3];
            link.read_exact(&mut body).await.unwrap();
        }
        true
    };
    let late = async {
        Timer::after(4 * DEADLINE).await;
        false
    };
    let served = smol::block_on(executor.run(smol::future::or(serve, late)));
    assert!(served, "a leaf heard nothing");
}

fn peak_kib(hub: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", hub.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.unwrap().parse().unwrap()
}

#[test]
fn all_leafs_of_a_hub_that_was_killed_come_back() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit).unwrap();

    let mut hub = Server::start_petiole(&format!(
        "host: \"127.0.0.1\"\nport: {{port}}\nserver_name: HUB\nleafnodes {{ host: \"127.0.0.1\", \
         port: {{port:leaf}}, max_handshakes_per_second: {RATE} }}\n"
    ));
    let empty = peak_kib(&hub);
    let executor = Rc::new(LocalExecutor::new());
    // Nobody waits for longer than all others take, a second at least, and 30 at most per attempt; twice
    // that for a machine that has other work.
    let turn = Duration::from_secs(LEAFS as u64 / u64::from(RATE) + 1);
    let most = 2 * turn + 2 * DEADLINE;
    let (mut links, first) = storm(&executor, hub.port_of("leaf"), most);
    each_is_served(&executor, &hub, &mut links);
    let cost = (peak_kib(&hub) - empty) / LEAFS as u64;

    hub.kill();
    let down = async {
        for link in &mut links {
            while line(link).await.is_some() {}
        }
    };
    smol::block_on(executor.run(down));
    hub.restart();
    let (mut links, again) = storm(&executor, hub.port_of("leaf"), most);
    each_is_served(&executor, &hub, &mut links);
    let cost_again = (peak_kib(&hub) - empty) / LEAFS as u64;
    eprintln!("{LEAFS} leafs: {first:?}, {cost} KiB each; again {again:?}, {cost_again} KiB each");
    assert!(cost.max(cost_again) <= KIB_PER_LEAF);
}
