//! Client libraries as people install them, through the leaf, with hubs of all three versions.
//!
//! `clients.py` (nats-py) runs in a virtual environment, `rust-client` (async-nats) is a crate outside of
//! the workspace; both are made under `target/` on first use.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::common::{Joined, each, hub, petiole, remote};
use crate::support::{
    Client, POLL, Pki, Ready, RealServer, Server, Target, TempDir, newest, skip_loudly, user_key,
};

const STEPS: [&str; 8] = [
    "pubsub",
    "request",
    "queue",
    "headers",
    "no_responders",
    "hub_echo",
    "stream",
    "kv",
];

/// Once more with the hub's domain named, as people do who know of it.
const NAMED: [&str; 2] = ["stream:D", "kv:D"];

/// How long all steps of a client may take together.
const PATIENCE: Duration = Duration::from_secs(60);

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop")
}

/// A folder of that name beside the tests' own temporary one, and a lock on its making.
fn made(name: &str) -> Result<(PathBuf, File), String> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name(name);
    std::fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
    let lock = File::create(dir.join("lock")).map_err(|e| e.to_string())?;
    lock.lock().map_err(|e| e.to_string())?;
    Ok((dir, lock))
}

fn run(command: &mut Command) -> Result<(), String> {
    let out = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("{command:?}: {e}"))?;
    match out.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{command:?}: {}\n{}",
            out.status,
            String::from_utf8_lossy(&out.stderr)
        )),
    }
}

/// A Python that has the client, or nothing, said loudly.
fn python() -> Option<&'static Path> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    let make = || {
        let (dir, _lock) = made("interop-python")?;
        let python = dir.join("bin").join("python3");
        let has = |python: &Path| {
            run(Command::new(python).args(["-c", "import nats, nkeys, aiohttp"])).is_ok()
        };
        if !has(&python) {
            run(Command::new("python3").args(["-m", "venv"]).arg(&dir))?;
            run(Command::new(&python).args([
                "-m",
                "pip",
                "install",
                "-q",
                "nats-py==2.16.0",
                "nkeys==0.2.1",
                // For ws://.
                "aiohttp==3.14.5",
            ]))?;
        }
        Ok(python)
    };
    let python = PYTHON.get_or_init(|| {
        let made: Result<PathBuf, String> = make();
        made.inspect_err(|why| skip_loudly(&format!("the Python client: {why}")))
            .ok()
    });
    python.as_deref()
}

/// The Rust client, or nothing, said loudly: it needs the registry once.
fn rust() -> Option<&'static Path> {
    static RUST: OnceLock<Option<PathBuf>> = OnceLock::new();
    let make = || {
        let (dir, _lock) = made("interop-client")?;
        run(Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "--manifest-path"])
            .arg(sources().join("rust-client/Cargo.toml"))
            .arg("--target-dir")
            .arg(&dir)
            // What the surrounding build was given is not about this crate.
            .env_remove("CARGO_BUILD_TARGET")
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS"))?;
        Ok(dir.join("debug").join("petiole-interop-client"))
    };
    let rust = RUST.get_or_init(|| {
        let made: Result<PathBuf, String> = make();
        made.inspect_err(|why| skip_loudly(&format!("the Rust client: {why}")))
            .ok()
    });
    rust.as_deref()
}

/// Runs a client to its end, within the deadline; it must have done all steps.
#[track_caller]
fn drive(mut command: Command, steps: &[&str]) {
    let mut child = command
        .args(steps)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let until = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if Instant::now() > until {
            let _ = child.kill();
            break None;
        }
        std::thread::park_timeout(POLL);
    };
    let (mut out, mut err) = (String::new(), String::new());
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut out)
        .unwrap();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    let done: Vec<&str> = out
        .lines()
        .filter_map(|line| line.strip_prefix("ok "))
        .collect();
    assert!(
        status.is_some_and(|s| s.success()) && done == steps,
        "{command:?} ended with {status:?} after {done:?}\n{err}"
    );
}

/// A client at the hub that answers on `hub.echo` until the test is over.
fn echo(hub: &Server) {
    let mut client = Client::quiet(hub.port());
    client.tell("SUB hub.echo 1\r\n");
    client.wire.set_deadline(Duration::from_secs(3600));
    std::thread::spawn(move || {
        while let Some(crate::support::Op::Msg(msg)) = client.op() {
            let reply = msg.reply().unwrap_or_default();
            let head = format!("PUB {reply} {}\r\n", msg.payload.len());
            let line = [head.as_bytes(), &msg.payload, b"\r\n"].concat();
            if client.wire.try_send(line).is_err() {
                break;
            }
        }
    });
}

/// All steps with hubs of all versions, with a domain and without.
fn all_steps(client: impl Fn(&Server) -> Command, may: impl Fn(&RealServer, &str) -> bool) {
    each(|real| {
        let steps: Vec<&str> = STEPS.into_iter().filter(|step| may(real, step)).collect();
        for domain in ["", "domain: D"] {
            let hub = hub(
                real,
                "",
                &format!(
                    "jetstream {{ store_dir: \"{{dir}}\", max_mem: 64M, max_file: 64M, {domain} }}"
                ),
            );
            let leaf = petiole(&remote(hub.port_of("leaf"), ""), "");
            echo(&hub);
            Joined::new(&leaf, &hub, "", "").settle();
            eprintln!("== {domain}");
            drive(client(&leaf), &steps);
            if !domain.is_empty() {
                let named: Vec<&str> = NAMED.into_iter().filter(|step| may(real, step)).collect();
                drive(client(&leaf), &named);
            }
            assert!(!leaf.log().contains("is down"), "the link broke");
        }
    });
}

fn url(leaf: &Server) -> String {
    format!("nats://127.0.0.1:{}", leaf.port())
}

fn python_client(python: &Path, leaf: &Server) -> Command {
    let mut command = Command::new(python);
    command.arg(sources().join("clients.py")).arg(url(leaf));
    command
}

fn rust_client(rust: &Path, leaf: &Server) -> Command {
    let mut command = Command::new(rust);
    command.arg(url(leaf));
    command
}

#[test]
fn nats_py() {
    if let Some(python) = python() {
        all_steps(|leaf| python_client(python, leaf), |_, _| true);
    }
}

#[test]
fn async_nats() {
    if let Some(rust) = rust() {
        // Its key-value calls do not understand the answers of 2.9, without a leaf between them either.
        let may =
            |real: &RealServer, step: &str| !step.starts_with("kv") || real.version >= (2, 10, 0);
        all_steps(|leaf| rust_client(rust, leaf), may);
    }
}

/// petiole whose clients sign with an nkey.
fn with_nkey() -> (Server, String) {
    let key = user_key("client");
    let leaf = Server::start_petiole(&format!(
        "host: \"127.0.0.1\"\nport: {{port}}\nauthorization {{ users: [ {{nkey: {}}} ] }}\n",
        key.public_key()
    ));
    (leaf, key.seed().unwrap())
}

#[test]
fn nats_py_with_an_nkey() {
    if let Some(python) = python() {
        let (leaf, seed) = with_nkey();
        let dir = TempDir::new();
        let path = dir.write("seed.nk", seed);
        let mut command = python_client(python, &leaf);
        command.arg("nkey").arg(path);
        drive(command, &STEPS[..5]);
    }
}

#[test]
fn async_nats_with_an_nkey() {
    if let Some(rust) = rust() {
        let (leaf, seed) = with_nkey();
        let mut command = rust_client(rust, &leaf);
        command.arg("nkey").arg(seed);
        drive(command, &STEPS[..5]);
    }
}

/// A client's steps under TLS, behind INFO and before it, where petiole waits for both.
fn under_tls(client: impl Fn(&Server) -> Command) {
    let Some(real) = newest() else {
        return skip_loudly("TLS clients: no real server");
    };
    let pki = Pki::new("authority");
    let hub = hub(real, "", "");
    echo(&hub);
    for first in ["false", "true", "auto"] {
        let config = format!(
            "host: \"127.0.0.1\"\nport: {{port}}\ntls {{ {}, handshake_first: {first} }}\n\
             leafnodes {{ remotes: [ {{ url: \"nats-leaf://127.0.0.1:{}\" }} ] }}\n",
            pki.server("leaf").options(),
            hub.port_of("leaf")
        );
        let leaf = Server::start_until(&Target::Petiole, &config, Ready::Log("is up"));
        for way in ["tls", "tls-first"] {
            let works = matches!(
                (first, way),
                ("auto", _) | ("false", "tls") | ("true", "tls-first")
            );
            if works {
                let mut command = client(&leaf);
                command.arg(way).arg(pki.ca_path());
                drive(command, &STEPS[..6]);
            }
        }
        assert!(
            !leaf.log().contains("TLS handshake error"),
            "{}",
            leaf.log()
        );
    }
}

#[test]
fn nats_py_under_tls() {
    if let Some(python) = python() {
        under_tls(|leaf| python_client(python, leaf));
    }
}

/// A browser's way in, with and without TLS.
#[test]
fn nats_py_over_websocket() {
    let Some(python) = python() else { return };
    let pki = Pki::new("authority");
    let tls = format!("tls {{ {} }}", pki.server("hub").options());
    for (scheme, block) in [("ws", "no_tls: true"), ("wss", &tls)] {
        for compression in [false, true] {
            let server = Server::start_petiole(&format!(
                "host: \"127.0.0.1\"\nport: {{port}}\n\
                 websocket {{ host: \"127.0.0.1\", port: {{port:ws}}\n{block}\n\
                 compression: {compression} }}\n"
            ));
            echo(&server);
            let mut command = Command::new(python);
            command
                .arg(sources().join("clients.py"))
                .arg(format!("{scheme}://localhost:{}", server.port_of("ws")));
            if scheme == "wss" {
                command.arg("tls").arg(pki.ca_path());
            }
            drive(command, &STEPS[..6]);
        }
    }
}

#[test]
fn async_nats_under_tls() {
    if let Some(rust) = rust() {
        under_tls(|leaf| rust_client(rust, leaf));
    }
}
