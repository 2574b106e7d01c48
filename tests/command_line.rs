//! The program as a supervisor or a script sees it: arguments in, texts and exit codes out.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::{Command, Output};

/// A directory of its own for each test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("petiole-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Place(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().into()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Exit code, standard output, standard error.
fn petiole(args: &[&str]) -> (i32, String, String) {
    let run = Command::new(env!("CARGO_BIN_EXE_petiole"))
        .args(args)
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = run.unwrap();
    (
        status.code().unwrap(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

#[test]
fn version_and_help_go_to_standard_output() {
    let release = env!("CARGO_PKG_VERSION");
    let version = format!(
        "nats-server: v{} (petiole {release})\n",
        petiole_core::wire::VERSION
    );
    for args in [["-v"], ["--version"], ["version"]] {
        assert_eq!(petiole(&args), (0, version.clone(), String::new()));
    }
    for args in [["-h"], ["--help"], ["help"]] {
        let (code, out, err) = petiole(&args);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.starts_with("Usage: petiole [options]"), "{out}");
    }
}

#[test]
fn misuse_is_explained_with_the_usage_and_is_no_failure() {
    for (args, reason) in [
        (&["-foo"][..], "flag provided but not defined: -foo\n"),
        (
            &["-p", "x"],
            "invalid value \"x\" for flag -p: parse error\n",
        ),
    ] {
        let (code, out, err) = petiole(args);
        assert_eq!((code, err.as_str()), (0, reason));
        assert!(out.starts_with("Usage: "), "{out}");
    }
}

#[test]
fn refusals_fail() {
    for (args, text) in [
        (
            &["-m", "8222"][..],
            "flag \"-m\" is not served by petiole yet: ",
        ),
        (
            &["-c", "/nonexistent/c"],
            "open /nonexistent/c: no such file or directory\n",
        ),
        (
            &["-t", "-c", "/nonexistent/c"],
            "open /nonexistent/c: no such file or directory\n",
        ),
        (
            &["-t"],
            "must specify [-c, --config] option to check configuration file syntax\n",
        ),
        (&["foo"], "unrecognized command: \"foo\"\n"),
        (&["--remote", "ftp://h"], "flag \"--remote\": not a url"),
        (
            &["--tls"],
            "TLS Server certificate must be present and valid\n",
        ),
    ] {
        let (code, out, err) = petiole(args);
        assert_eq!((code, out.as_str()), (1, ""), "{args:?}");
        assert!(err.starts_with(&format!("nats-server: {text}")), "{err}");
    }
}

#[test]
fn a_configuration_is_checked() {
    let place = Place::new("check");
    for (text, code, before, after) in [
        (
            "port: 4222",
            0,
            "nats-server: configuration file ",
            // The digest of {"port":4222} and a line feed.
            " is valid (sha256:797533ebd0dfba7d34a0f9337ecf147e442871f48ddfd07ed751575a5737267e)\n",
        ),
        (
            "porrt: 4222",
            1,
            "nats-server: ",
            ":1:0: unknown field \"porrt\"\n\n",
        ),
        (
            "ping_interval: 5",
            1,
            "nats-server: ",
            ":1:0: invalid use of field \"ping_interval\": ping_interval should be converted to a duration\n\n",
        ),
        (
            "# nothing",
            1,
            "nats-server: ",
            ": config has no values or is empty\n\n",
        ),
    ] {
        let path = place.file("c.conf", text);
        let (got, out, err) = petiole(&["-t", "-c", &path]);
        assert_eq!((got, out.as_str()), (code, ""), "{text}");
        assert_eq!(err, format!("{before}{path}{after}"), "{text}");
    }
    let path = place.file("c.conf", "port: \"x");
    let (code, _, err) = petiole(&["-t", "-c", &path]);
    assert_eq!(code, 1);
    assert_eq!(
        err,
        "nats-server: Parse error on line 1: 'Unexpected EOF.'\n"
    );
}

/// Each ends at a start that fails, so that none of them serves.
/// Files that a block names are read by `-t`, too.
#[test]
fn files_of_tls_blocks_are_checked() {
    let place = Place::new("tls");
    for (text, at, said) in [
        (
            "port: -1\ntls {\n cert_file: \"/nonexistent/c\", key_file: \"/nonexistent/k\"\n}",
            "2:1",
            "error parsing X509 certificate/key pair: open /nonexistent/c: no such file or directory",
        ),
        (
            "port: -1\nleafnodes { remotes: [ { url: \"tls://h\"\n tls { ca_file: \"/nonexistent/a\" } } ] }",
            "3:2",
            "open /nonexistent/a: no such file or directory",
        ),
    ] {
        let path = place.file("c.conf", text);
        for more in [&["-t"][..], &[]] {
            let (code, _, err) = petiole(&[&["-c", &path], more].concat());
            assert_eq!(code, 1);
            assert_eq!(err, format!("nats-server: {path}:{at}: {said}\n\n"));
        }
    }
}

/// What takes the hub's role is refused by a build that has not got it, at its place.
#[cfg(not(feature = "hub"))]
#[test]
fn a_gateway_refuses_what_is_for_a_hub() {
    let place = Place::new("roles");
    for (text, at, option) in [
        (
            "port: -1\nwebsocket { port: -1, no_tls: true }",
            ":2:1",
            "websocket.port",
        ),
        ("port: -1\nleafnodes { port: -1 }", ":2:1", "leafnodes.port"),
        (
            "port: -1\naccounts { A { exports: [\n{ service: a, latency: b } ] } }",
            ":3:15",
            "latency",
        ),
    ] {
        let path = place.file("c.conf", text);
        for more in [&["-t"][..], &[]] {
            let (code, _, err) = petiole(&[&["-c", &path], more].concat());
            assert_eq!(code, 1);
            let said = format!("{path}{at}: option \"{option}\" is for a hub, and this build is");
            assert!(err.contains(&said), "{err}");
        }
    }
    // Without a port there is no listener.
    let path = place.file("c.conf", "port: -1\nwebsocket { no_tls: true }");
    assert_eq!(petiole(&["-t", "-c", &path]).0, 0);
}

#[cfg(feature = "hub")]
#[test]
fn files_of_the_websocket_listener_are_checked() {
    let place = Place::new("websocket");
    let text = "port: -1\nwebsocket { port: -1\n tls { cert_file: \"/nonexistent/c\", key_file: \"/k\" } }";
    let path = place.file("c.conf", text);
    for more in [&["-t"][..], &[]] {
        let (code, _, err) = petiole(&[&["-c", &path], more].concat());
        assert_eq!(code, 1);
        let said =
            format!("{path}:3:2: error parsing X509 certificate/key pair: open /nonexistent/c: ");
        assert!(err.contains(&said), "{err}");
    }
}

#[test]
fn a_start_that_fails_says_why() {
    let place = Place::new("start");
    let path = place.file(
        "c.conf",
        "ping_interval: 5\nmax_pending: 1000; max_payload: 2000",
    );
    let (code, _, err) = petiole(&["-c", &path]);
    assert_eq!(code, 1);
    assert_eq!(
        err,
        format!(
            "{path}:1:0: invalid use of field \"ping_interval\": ping_interval should be converted to a duration\n\
             nats-server: max_payload (2000) cannot be higher than max_pending (1000)\n"
        )
    );

    let (code, _, err) = petiole(&["-l", "/nonexistent/log"]);
    let text = " error opening file: open /nonexistent/log: no such file or directory\n";
    assert!(code == 1 && err.ends_with(text), "{err}");

    let good = place.file(
        "good.conf",
        "port: -1; authorization {user: a, pass: secret}",
    );
    let (code, _, err) = petiole(&["-c", &good, "-P", "/nonexistent/pid", "--profile", "1"]);
    let text = "[FTL] Could not write pidfile: open /nonexistent/pid: no such file or directory\n";
    assert!(code == 1 && err.ends_with(text), "{err}");
    for line in [
        "nats-server: flag \"--profile\" is ignored: profiling is not served by petiole\n",
        "[INF] Starting petiole\n",
        "[WRN] Plaintext passwords detected, use nkeys or bcrypt\n",
        &format!("[INF] Using configuration file: {good} (sha256:"),
    ] {
        assert!(err.contains(line), "{line} in {err}");
    }
    assert!(!err.contains("secret"), "{err}");
}
