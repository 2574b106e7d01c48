//! A hub and a leaf in one program, and requests that cross the link between them, both ways. Needs no
//! other program, and ports of the system's choice.
//!
//! ```text
//! cargo run --release --example relay
//! ```

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use petiole::config::{Config, LeafListener, Remote, Scheme, Url};
use petiole::{Ready, RunError, Server};

/// Within this all has happened, or something is wrong.
const DEADLINE: Duration = Duration::from_secs(20);
/// A request that is not answered within this is made again: the link may have been on its way.
const PATIENCE: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    // The servers write no lines of their own but warnings and errors.
    if log::set_logger(&Complaints).is_ok() {
        log::set_max_level(log::LevelFilter::Warn);
    }
    match relay(Instant::now() + DEADLINE) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("It did not work: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// All of it.
pub(crate) fn relay(until: Instant) -> Result<(), String> {
    let hub = Running::start("hub", until, || Config {
        host: "127.0.0.1".into(),
        port: 0,
        server_name: Some("datacenter".into()),
        leafnodes: Some(LeafListener {
            host: "127.0.0.1".into(),
            port: 0,
            ..LeafListener::default()
        }),
        ..Config::default()
    })?;
    let port = hub.ready.leafs.ok_or("the hub takes no leafs")?.port();
    println!(
        "The hub, as in a datacenter: clients at {}, leafs at 127.0.0.1:{port}",
        hub.ready.address
    );
    let leaf = Running::start("leaf", until, move || Config {
        host: "127.0.0.1".into(),
        port: 0,
        server_name: Some("site-1".into()),
        remotes: vec![Remote::at(Url::new(Scheme::Leaf, "127.0.0.1", port))],
        ..Config::default()
    })?;
    println!(
        "The leaf, as at a site:      clients at {}, dials the hub\n",
        leaf.ready.address
    );
    ask(
        ("hub", hub.ready.address, "datacenter.recipe"),
        ("leaf", leaf.ready.address, "Which recipe is next?"),
        "number 17",
        until,
    )?;
    ask(
        ("leaf", leaf.ready.address, "site-1.temperature"),
        ("hub", hub.ready.address, "How warm is the kiln?"),
        "1180 degrees",
        until,
    )?;
    leaf.stop()?;
    hub.stop()?;
    println!("Both servers have been stopped.");
    Ok(())
}

/// Has a client of one server answer a client of the other.
fn ask(
    (answers, responder, subject): (&str, SocketAddr, &str),
    (asks, requester, question): (&str, SocketAddr, &str),
    answer: &str,
    until: Instant,
) -> Result<(), String> {
    let of = |whose: &str| {
        let whose = format!("a client of the {whose}");
        move |error: io::Error| format!("{whose}: {error}")
    };
    let mut responder = Client::connect(responder, until).map_err(of(answers))?;
    responder
        .send(&format!("SUB {subject} 1\r\n"))
        .map_err(of(answers))?;
    println!("A client of the {answers} answers requests on {subject}.");
    let mut requester = Client::connect(requester, until).map_err(of(asks))?;
    let (heard, took) = thread::scope(|scope| {
        let hang_up = responder.hang_up()?;
        let answering = scope.spawn(move || responder.answer(answer));
        let heard = requester.request(subject, question);
        hang_up();
        let answered = answering.join();
        // Who has asked knows less of what went wrong.
        answered.unwrap_or_else(|_| Err(io::Error::other("it has panicked")))?;
        heard
    })
    .map_err(of(asks))?;
    println!("A client of the {asks} asks: {question:?}");
    println!(
        "  and is told across the link, after {:.1} ms: {heard:?}\n",
        took.as_secs_f64() * 1000.0
    );
    Ok(())
}

/// A server on a thread of its own.
struct Running {
    ready: Ready,
    thread: JoinHandle<Result<(), RunError>>,
}

impl Running {
    /// Answers once it takes connections.
    fn start(
        name: &str,
        until: Instant,
        config: impl FnOnce() -> Config + Send + 'static,
    ) -> Result<Self, String> {
        let (ready, readies) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                Server::new(config())
                    .on_ready(move |it| drop(ready.send(it)))
                    .run()
            })
            .map_err(|error| format!("the {name}: {error}"))?;
        match readies.recv_timeout(left(until)) {
            Ok(ready) => Ok(Running { ready, thread }),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(format!("the {name} does not start")),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                Err(format!("the {name}: {}", end(thread)))
            }
        }
    }

    fn stop(self) -> Result<(), String> {
        self.ready.stopper.stop();
        match self.thread.join() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("a server has panicked".into()),
        }
    }
}

/// How it came to its end before it was ready.
fn end(thread: JoinHandle<Result<(), RunError>>) -> String {
    match thread.join() {
        Ok(Ok(())) => "it has ended".into(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it has panicked".into(),
    }
}

/// What is left of the time; a socket takes no timeout of zero.
fn left(until: Instant) -> Duration {
    let left = until.saturating_duration_since(Instant::now());
    left.max(Duration::from_millis(1))
}

/// As much of the client protocol as a request needs.
struct Client {
    stream: BufReader<TcpStream>,
    /// Of the line that is being read.
    line: String,
    until: Instant,
}

/// A message that has come.
struct Message {
    reply: Option<String>,
    payload: String,
}

impl Client {
    /// Answers once the server knows it.
    fn connect(address: SocketAddr, until: Instant) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, left(until))?;
        stream.set_nodelay(true)?;
        let mut client = Client {
            stream: BufReader::new(stream),
            line: String::new(),
            until,
        };
        client.send("CONNECT {\"verbose\":false,\"name\":\"relay\"}\r\nPING\r\n")?;
        while let Some(line) = client.line(until)? {
            if line == "PONG" {
                return Ok(client);
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    fn send(&mut self, text: &str) -> io::Result<()> {
        self.stream.get_mut().write_all(text.as_bytes())
    }

    /// What ends the connection from another thread.
    fn hang_up(&self) -> io::Result<impl FnOnce() + use<>> {
        let stream = self.stream.get_ref().try_clone()?;
        // It may be closed already.
        Ok(move || drop(stream.shutdown(Shutdown::Both)))
    }

    /// Answers each request until the connection ends.
    fn answer(&mut self, answer: &str) -> io::Result<()> {
        while let Some(Message { reply, .. }) = self.next(self.until)? {
            if let Some(reply) = reply {
                self.send(&format!("PUB {reply} {}\r\n{answer}\r\n", answer.len()))?;
            }
        }
        Ok(())
    }

    /// The answer to a request, and how long it took. It is asked again as long as the link between
    /// the servers may be on its way.
    fn request(&mut self, subject: &str, question: &str) -> io::Result<(String, Duration)> {
        self.send("SUB _INBOX.relay.* 1\r\n")?;
        for turn in 0.. {
            let length = question.len();
            let asked = Instant::now();
            self.send(&format!(
                "PUB {subject} _INBOX.relay.{turn} {length}\r\n{question}\r\n"
            ))?;
            match self.next(self.until.min(asked + PATIENCE)) {
                Ok(Some(message)) => return Ok((message.payload, asked.elapsed())),
                Ok(None) => break,
                Err(error) if is_timeout(&error) && Instant::now() < self.until => {}
                Err(error) if is_timeout(&error) => {
                    return Err(io::Error::other(format!("nobody answers on {subject}")));
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    /// The next message; `None`: the connection has ended.
    fn next(&mut self, until: Instant) -> io::Result<Option<Message>> {
        loop {
            let Some(line) = self.line(until)? else {
                return Ok(None);
            };
            let words: Vec<&str> = line.split_whitespace().collect();
            let (reply, length) = match *words.as_slice() {
                ["PING"] => {
                    self.send("PONG\r\n")?;
                    continue;
                }
                ["-ERR", ..] => return Err(io::Error::other(line)),
                ["MSG", _, _, length] => (None, length),
                ["MSG", _, _, reply, length] => (Some(reply.to_owned()), length),
                _ => continue,
            };
            let length: usize = length.parse().map_err(io::Error::other)?;
            let mut payload = vec![0; length + 2];
            self.stream
                .get_ref()
                .set_read_timeout(Some(left(self.until)))?;
            self.stream.read_exact(&mut payload)?;
            payload.truncate(length);
            let payload = String::from_utf8(payload).map_err(io::Error::other)?;
            return Ok(Some(Message { reply, payload }));
        }
    }

    /// The next line; `None`: the connection has ended.
    fn line(&mut self, until: Instant) -> io::Result<Option<String>> {
        self.stream.get_ref().set_read_timeout(Some(left(until)))?;
        if self.stream.read_line(&mut self.line)? == 0 {
            return Ok(None);
        }
        Ok(Some(std::mem::take(&mut self.line).trim_end().to_owned()))
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// Shows what the servers complain of.
struct Complaints;

impl log::Log for Complaints {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            eprintln!("  {}: {}", record.level(), record.args());
        }
    }

    fn flush(&self) {}
}
