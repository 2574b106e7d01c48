//! Servers as processes on free ports, with their logs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::{
    Client, DEADLINE, POLL, RealServer, START_ATTEMPTS, START_DEADLINE, TempDir, Wire, newest,
    servers,
};

/// What to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Petiole,
    Real(RealServer),
}

/// The server under test: petiole, or what `PETIOLE_TEST_TARGET` names (`nats-server` for the
/// newest real server, `2.10` for that one), by which the tests themselves are tested.
pub fn subject() -> Target {
    let Ok(name) = std::env::var("PETIOLE_TEST_TARGET") else {
        return Target::Petiole;
    };
    match name.as_str() {
        "" | "petiole" => Target::Petiole,
        "nats-server" => Target::Real(newest().expect("a real server as the target").clone()),
        minor => {
            let real = servers()
                .iter()
                .find(|s| format!("{}.{}", s.version.0, s.version.1) == minor);
            Target::Real(
                real.unwrap_or_else(|| panic!("no real server {minor}"))
                    .clone(),
            )
        }
    }
}

impl Target {
    /// The version of a real server; petiole follows the newest.
    pub fn version(&self) -> (u32, u32, u32) {
        match self {
            Self::Petiole => (u32::MAX, 0, 0),
            Self::Real(real) => real.version,
        }
    }

    pub fn name(&self) -> String {
        match self {
            Self::Petiole => "petiole".to_owned(),
            Self::Real(RealServer {
                version: (major, minor, patch),
                ..
            }) => {
                format!("nats-server {major}.{minor}.{patch}")
            }
        }
    }

    fn command(&self) -> Command {
        match self {
            Self::Real(real) => Command::new(&real.path),
            Self::Petiole => {
                let binary = env!("CARGO_BIN_EXE_petiole");
                // Under emulation: the emulator and its arguments, split at spaces.
                let runner = std::env::var("PETIOLE_TEST_RUNNER").unwrap_or_default();
                let mut words = runner.split_whitespace();
                match words.next() {
                    None => Command::new(binary),
                    Some(emulator) => {
                        let mut command = Command::new(emulator);
                        command.args(words).arg(binary);
                        command
                    }
                }
            }
        }
    }
}

/// When a started server counts as ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready<'a> {
    /// A client that connects to `{port}` is greeted with INFO.
    Info,
    /// `{port}` accepts connections (a listener that does not speak first).
    Accepts,
    /// The log has this text.
    Log(&'a str),
}

/// A running server. Killed when dropped; its log is printed if the test failed.
#[derive(Debug)]
pub struct Server {
    target: Target,
    child: Child,
    ports: Ports,
    dir: TempDir,
    config: PathBuf,
    args: Vec<OsString>,
    log: Arc<Log>,
}

impl Server {
    /// Starts with a configuration in which `{port}` and `{port:NAME}` stand for free ports and
    /// `{dir}` for a temporary folder.
    pub fn start(target: &Target, config: &str) -> Self {
        Self::start_until(target, config, Ready::Info)
    }

    pub fn start_real(real: &RealServer, config: &str) -> Self {
        Self::start(&Target::Real(real.clone()), config)
    }

    pub fn start_petiole(config: &str) -> Self {
        Self::start(&Target::Petiole, config)
    }

    pub fn start_until(target: &Target, config: &str, ready: Ready<'_>) -> Self {
        Self::start_with(target, config, &[], TempDir::new(), ready)
    }

    /// As `start_until`, with further arguments and a folder that already holds files.
    pub fn start_with(
        target: &Target,
        config: &str,
        args: &[&str],
        dir: TempDir,
        ready: Ready<'_>,
    ) -> Self {
        let mut dir = dir;
        for attempt in 1.. {
            let mut ports = Ports::default();
            let text = ports
                .fill(config)
                .replace("{dir}", &dir.path().display().to_string());
            let path = dir.write("server.conf", text);
            let args: Vec<OsString> = args.iter().map(|a| ports.fill(a).into()).collect();
            let log = Arc::new(Log::new(dir.path()));
            let child = spawn(target, &path, &args, &log);
            let mut server = Self {
                target: target.clone(),
                child,
                ports,
                dir,
                config: path,
                args,
                log,
            };
            match server.wait_ready(ready) {
                Ok(()) => return server,
                Err(_)
                    if attempt < START_ATTEMPTS
                        && server.log().contains("address already in use") =>
                {
                    let _ = server.child.wait();
                    dir = std::mem::replace(&mut server.dir, TempDir::new());
                }
                Err(why) => panic!(
                    "{} does not start: {why}\n{}",
                    server.target.name(),
                    server.log()
                ),
            }
        }
        unreachable!("the last attempt returns or panics");
    }

    /// What a server says that must not start with this configuration.
    pub fn refusal(target: &Target, config: &str) -> String {
        let mut ports = Ports::default();
        let dir = TempDir::new();
        let path = dir.write("server.conf", ports.fill(config));
        let log = Arc::new(Log::new(dir.path()));
        let child = spawn(target, &path, &[], &log);
        let mut server = Self {
            target: target.clone(),
            child,
            ports,
            dir,
            config: path,
            args: Vec::new(),
            log,
        };
        let status = server.wait_exit();
        server.log.wait(|log| log.closed, DEADLINE);
        assert!(!status.success(), "{} ended with {status}", target.name());
        server.log()
    }

    fn wait_ready(&mut self, ready: Ready<'_>) -> Result<(), String> {
        let until = Instant::now() + START_DEADLINE;
        loop {
            let done = match ready {
                Ready::Log(text) => self.log().contains(text),
                Ready::Accepts => Wire::dial(self.port()).is_ok(),
                Ready::Info => Wire::dial(self.port()).is_ok_and(|mut wire| {
                    wire.readable(POLL * 100)
                        && wire.line().is_some_and(|l| l.starts_with(b"INFO "))
                }),
            };
            if let Some(status) = self.child.try_wait().map_err(|e| e.to_string())? {
                self.log.wait(|log| log.closed, DEADLINE);
                return Err(format!("it ended with {status}"));
            }
            if done {
                return Ok(());
            }
            if Instant::now() > until {
                return Err("it is not ready within the deadline".to_owned());
            }
            // Look again as soon as it logs something, or after a moment.
            let lines = self.log.lines();
            self.log.wait(|log| log.lines > lines, POLL);
        }
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The port of `{port}`.
    pub fn port(&self) -> u16 {
        self.ports.get("")
    }

    /// The port of `{port:NAME}`.
    pub fn port_of(&self, name: &str) -> u16 {
        self.ports.get(name)
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A connection that has read INFO.
    pub fn connect(&self) -> Client {
        Client::connect(self.port())
    }

    /// Everything logged so far, over all restarts.
    pub fn log(&self) -> String {
        self.log.state.lock().unwrap().text.clone()
    }

    /// Where `log_since` starts from.
    pub fn log_mark(&self) -> usize {
        self.log.state.lock().unwrap().text.len()
    }

    /// Waits until the log has `text`.
    pub fn wait_for_log(&self, text: &str) {
        self.wait_for_log_after(0, text);
    }

    /// Waits until the log has `text` behind a mark.
    pub fn wait_for_log_after(&self, mark: usize, text: &str) {
        let found = self
            .log
            .wait(|log| log.text[mark..].contains(text), DEADLINE);
        assert!(found, "{} did not log {text:?}", self.target.name());
    }

    /// Sends a signal by its name: `HUP`, `USR2`.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Replaces the configuration (placeholders keep their ports); it counts after a restart or a
    /// reload.
    pub fn rewrite_config(&mut self, config: &str) {
        let text = self
            .ports
            .fill(config)
            .replace("{dir}", &self.dir.path().display().to_string());
        std::fs::write(&self.config, text).expect("writing the configuration");
    }

    /// Ends the process at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, and waits for that.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait_exit()
    }

    /// Waits until the process ends by itself.
    pub fn wait_exit(&mut self) -> ExitStatus {
        let until = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().expect("waiting for the server") {
                return status;
            }
            assert!(
                Instant::now() < until,
                "{} does not end",
                self.target.name()
            );
            // The log's end is all that announces it; closed by then means any moment now.
            if self.log.wait(|log| log.closed, POLL) {
                std::thread::yield_now();
            }
        }
    }

    /// Starts it again (after `kill` or `stop`, or kills it first) on the same ports.
    pub fn restart(&mut self) {
        self.restart_until(Ready::Info);
    }

    pub fn restart_until(&mut self, ready: Ready<'_>) {
        self.kill();
        self.log.wait(|log| log.closed, DEADLINE);
        self.log.state.lock().unwrap().closed = false;
        self.child = spawn(&self.target, &self.config, &self.args, &self.log);
        if let Err(why) = self.wait_ready(ready) {
            panic!("{} does not start again: {why}", self.target.name());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!(
                "---- log of {} ----\n{}----",
                self.target.name(),
                self.log()
            );
        }
    }
}

/// `kill -NAME pid`
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .status();
    assert!(
        status.expect("running kill").success(),
        "kill -{name} {pid}"
    );
}

fn spawn(target: &Target, config: &Path, args: &[OsString], log: &Arc<Log>) -> Child {
    let mut child = target
        .command()
        .arg("-c")
        .arg(config)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("starting {}: {e}", target.name()));
    let stderr = child.stderr.take().expect("stderr is piped");
    let log = Arc::clone(log);
    std::thread::spawn(move || log.read(BufReader::new(stderr)));
    child
}

#[derive(Debug, Default)]
struct LogState {
    text: String,
    lines: usize,
    closed: bool,
}

/// What a process wrote to stderr: in memory for waiting, in a file for whoever debugs.
#[derive(Debug)]
struct Log {
    file: Mutex<File>,
    state: Mutex<LogState>,
    grown: Condvar,
}

impl Log {
    fn new(dir: &Path) -> Self {
        let file = File::create(dir.join("server.log")).expect("a log file");
        Self {
            file: Mutex::new(file),
            state: Mutex::default(),
            grown: Condvar::new(),
        }
    }

    fn read(&self, mut from: impl BufRead) {
        let mut line = Vec::new();
        while matches!(from.read_until(b'\n', &mut line), Ok(n) if n > 0) {
            let _ = self.file.lock().unwrap().write_all(&line);
            let mut state = self.state.lock().unwrap();
            state.text.push_str(&String::from_utf8_lossy(&line));
            state.lines += 1;
            line.clear();
            self.grown.notify_all();
        }
        self.state.lock().unwrap().closed = true;
        self.grown.notify_all();
    }

    fn lines(&self) -> usize {
        self.state.lock().unwrap().lines
    }

    fn wait(&self, until: impl Fn(&LogState) -> bool, deadline: Duration) -> bool {
        let state = self.state.lock().unwrap();
        let (_state, out) = self
            .grown
            .wait_timeout_while(state, deadline, |s| !until(s))
            .unwrap();
        !out.timed_out()
    }
}

/// Ports reserved for one server, by the names of their placeholders. A lock file per port keeps
/// other test processes away from it.
#[derive(Debug, Default)]
struct Ports {
    taken: BTreeMap<String, (u16, File)>,
}

impl Ports {
    fn get(&self, name: &str) -> u16 {
        self.taken
            .get(name)
            .unwrap_or_else(|| panic!("the configuration has no port {name:?}"))
            .0
    }

    fn fill(&mut self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{port") {
            let (name, tail) = after.split_once('}').expect("the placeholder ends");
            let name = name.strip_prefix(':').unwrap_or(name);
            let port = self.taken.entry(name.to_owned()).or_insert_with(reserve).0;
            out.push_str(before);
            out.push_str(&port.to_string());
            rest = tail;
        }
        out + rest
    }
}

/// A free port below the range from which the system gives ports to those who do not ask.
fn reserve() -> (u16, File) {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let locks = std::env::temp_dir().join("petiole-test-ports");
    std::fs::create_dir_all(&locks).expect("a folder for port locks");
    let start = std::process::id().wrapping_mul(61);
    for _ in 0..COUNT {
        let n = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + n % COUNT).expect("the range ends below 65536");
        let lock = File::create(locks.join(port.to_string())).expect("a port lock");
        if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return (port, lock);
        }
    }
    panic!("no free port");
}
