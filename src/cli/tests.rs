use super::*;

use std::time::Duration;

use proptest::prelude::*;

fn command(line: &str) -> Result<Command, CliError> {
    parse(line.split_whitespace().map(OsString::from))
}

/// Debug lines of configurations hold no secrets that tests look for.
fn configured(line: &str, config: Config) -> Result<Config, CliError> {
    match command(line)? {
        Command::Run(cli) => apply(&cli, config),
        Command::Help => Err(CliError::Misused("help".into())),
        Command::Version => Err(CliError::Misused("version".into())),
    }
}

fn cli(line: &str) -> Cli {
    match command(line) {
        Ok(Command::Run(cli)) => *cli,
        _ => panic!("{line}"),
    }
}

fn config(line: &str) -> Config {
    configured(line, Config::default()).unwrap()
}

fn error(line: &str) -> CliError {
    configured(line, Config::default()).unwrap_err()
}

#[test]
fn every_spelling() {
    for (names, what) in [
        ("a addr net", (|c| c.host == "7") as fn(&Config) -> bool),
        ("p port", |c| c.port == 7),
        ("n name server_name", |c| {
            c.server_name.as_deref() == Some("7")
        }),
        ("P pid", |c| c.pid_file.as_deref() == Some("7")),
        ("client_advertise client-advertise", |c| {
            c.client_advertise.as_deref() == Some("7")
        }),
        ("l log", |c| c.log.file.as_deref() == Some("7")),
        ("user", |c| c.auth.user == Some(("7".into(), String::new()))),
        ("auth", |c| c.auth.token.as_deref() == Some("7")),
    ] {
        for name in names.split(' ') {
            for line in [
                format!("-{name} 7"),
                format!("--{name} 7"),
                format!("-{name}=7"),
                format!("--{name} 9 --{name}=7"),
            ] {
                assert!(what(&config(&line)), "{line}");
            }
        }
    }
}

#[test]
fn switches() {
    for (line, debug, trace, time, utc) in [
        ("", false, false, true, false),
        ("-D", true, false, true, false),
        ("--debug=true -V", true, true, true, false),
        ("-D --debug=F", false, false, true, false),
        ("-VV", false, true, true, false),
        ("-DV -D=false", true, true, true, false),
        ("-DVV", true, true, true, false),
        ("-DV=false", false, false, true, false),
        ("-T=false", false, false, false, false),
        ("-T -logtime_utc", false, false, true, true),
    ] {
        let log = config(line).log;
        let got = (log.debug, log.trace, log.time, log.utc);
        assert_eq!(got, (debug, trace, time, utc), "{line}");
    }
    let mut file = Config::default();
    file.log.debug = true;
    assert!(!configured("-D=false", file).unwrap().log.debug);
}

#[test]
fn ports() {
    for (text, port) in [("-1", 0), ("0", 4222), ("0x1f", 31), ("010", 8), ("+5", 5)] {
        assert_eq!(config(&format!("-p {text}")).port, port, "{text}");
    }
    let refused = CliError::Refused("port 70000 is out of the range".into());
    assert_eq!(error("-p 70000"), refused);
}

#[test]
fn misuse() {
    for (line, text) in [
        ("-foo", "flag provided but not defined: -foo"),
        ("--off debug", "flag provided but not defined: -off"),
        ("-foo=secret", "flag provided but not defined: -foo"),
        ("-p x", "invalid value \"x\" for flag -p: parse error"),
        (
            "--port=99999999999999999999",
            "invalid value \"99999999999999999999\" for flag -port: value out of range",
        ),
        ("-p", "flag needs an argument: -p"),
        (
            "-D=maybe",
            "invalid boolean value \"maybe\" for -D: parse error",
        ),
        ("---x", "bad flag syntax: ---x"),
        (
            "-p u:secret@h",
            "invalid value \"[REDACTED]\" for flag -p: parse error",
        ),
        ("-=secret", "bad flag syntax: -"),
    ] {
        assert_eq!(error(line), CliError::Misused(text.into()), "{line}");
    }
}

#[test]
fn refusals() {
    for (line, start) in [
        ("-m 8222", "flag \"-m\" is not served by petiole yet: "),
        (
            "--help_tls",
            "flag \"--help_tls\" is not served by petiole yet: ",
        ),
        ("-sl stop", "flag \"-sl\" is not served by petiole yet: "),
        ("-js", "flag \"-js\" is not served by petiole yet: "),
        ("foo", "unrecognized command: \"foo\""),
        ("nats://u:secret@h", "unrecognized command: \"[REDACTED]\""),
        ("-T false", "unrecognized command: \"false\""),
        (
            "--remote wss://u:secret@h?secret",
            "flag \"--remote\": a url with a query",
        ),
        ("--remote ftp://u:secret@h", "flag \"--remote\": not a url"),
        ("--remote nats://u:secret@", "flag \"--remote\": not a url"),
        ("--remote secret:x:y", "flag \"--remote\": not a url"),
        ("--creds f", "flag \"--creds\" needs"),
        ("--pass secret", "flag \"--pass\" needs"),
        (
            "--user u --auth secret",
            "Cannot have a user/pass and token",
        ),
    ] {
        let CliError::Refused(text) = error(line) else {
            panic!("{line}");
        };
        assert!(
            text.starts_with(start) && !text.contains("secret"),
            "{line}: {text}"
        );
    }
}

#[test]
fn commands() {
    for (line, wanted) in [
        ("-v", "version"),
        ("--version -h", "version"),
        ("version", "version"),
        ("-D HELP -m", "help"),
        ("-h", "help"),
        ("-- help", "help"),
    ] {
        assert_eq!(error(line), CliError::Misused(wanted.into()), "{line}");
    }
    let Ok(Command::Run(cli)) = command("-t -c f --profile 1") else {
        panic!();
    };
    assert!(cli.check && cli.config.as_deref() == Some("f") && cli.warnings().is_some());
    // Every flag of the table that is ours reaches argh.
    for (names, kind) in FLAGS {
        let value = match kind {
            Kind::Text | Kind::Texts | Kind::Number => "=1",
            Kind::Switch | Kind::Switches(_) => "=false",
            Kind::Help | Kind::Unserved(_) => continue,
        };
        let line = format!("--{}{value}", names[0]);
        assert!(command(&line).is_ok(), "{line}");
    }
}

#[test]
fn remotes() {
    let config =
        config("--remote hub --remote nats-leaf://u:p%40@h:1 --remote leaf://[::1] --creds f");
    let shown: Vec<_> = config
        .remotes
        .iter()
        .map(|r| r.ways[0].urls[0].to_string())
        .collect();
    assert_eq!(shown, ["hub:7422", "h:1", "[::1]:7422"]);
    let password = config.remotes[1].ways[0].urls[0].password.as_ref();
    assert_eq!(password.unwrap().reveal(), "p@");
    assert!(
        config
            .remotes
            .iter()
            .all(|r| r.credentials.as_deref() == Some("f"))
    );
}

#[test]
fn remotes_of_every_scheme() {
    let line = "--remote tls://h --remote ws://u:p@h:80/a --remote wss://h";
    let shown: Vec<_> = config(line)
        .remotes
        .iter()
        .map(|r| (r.ways[0].urls[0].scheme.name(), r.ways[0].urls[0].port))
        .collect();
    assert_eq!(shown, [("tls", 7422), ("ws", 80), ("wss", 7422)]);
    assert_eq!(config(line).remotes[1].ways[0].urls[0].path, "/a");
}

/// Any of the flags replaces what the file says.
#[test]
fn tls() {
    let certificate = "TLS Server certificate must be present and valid";
    let key = "TLS Server private key must be present and valid";
    for (line, text) in [
        ("--tls", certificate),
        ("--tls --tlskey k", certificate),
        ("--tls --tlscert c", key),
        ("--tlsverify", certificate),
        ("--tlsverify=false", certificate),
        ("--tlscacert a", certificate),
        ("--tlscert= --tlskey k", certificate),
        ("--tlscert c --tlskey=", key),
    ] {
        assert_eq!(error(line), CliError::Refused(text.into()), "{line}");
    }
    let file = Config {
        tls: Some(Tls {
            certificates: Vec::new(),
            ca_file: Some("f".into()),
            verify: true,
            timeout: Duration::from_secs(9),
            ..Tls::default()
        }),
        limits: Limits {
            auth_timeout: Duration::from_secs(10),
            ..Limits::default()
        },
        ..Config::default()
    };
    let configured = |line: &str| configured(line, file.clone()).unwrap();
    assert_eq!(configured("").tls, file.tls);
    for line in ["--tls=false", "--tls=false --tlscert c --tlskey k"] {
        let off = configured(line);
        assert_eq!((off.tls, off.limits.auth_timeout.as_secs()), (None, 2));
    }
    // When TLS begins and how long it may take is not about certificates.
    let on = configured("--tlscert c --tlskey k");
    assert_eq!(on.limits.auth_timeout.as_secs(), 10);
    let certificates = vec![CertificateFiles {
        cert: "c".into(),
        key: "k".into(),
    }];
    let plain = Tls {
        certificates,
        timeout: Duration::from_secs(9),
        ..Tls::default()
    };
    assert_eq!(on.tls, Some(plain.clone()));
    let verified = configured("--tlsverify --tlscert c --tlskey k --tlscacert a").tls;
    assert_eq!(
        verified,
        Some(Tls {
            verify: true,
            ca_file: Some("a".into()),
            ..plain
        })
    );
    // What the file says about the time to authenticate stays.
    let mut explicit = file.clone();
    explicit.limits.auth_timeout = Duration::from_secs(7);
    let on = super::apply(&cli("--tlscert c --tlskey k"), explicit).unwrap();
    assert_eq!(on.limits.auth_timeout.as_secs(), 7);
}

#[test]
fn credentials_replace_the_files() {
    let mut file = Config::default();
    file.auth.token = Some("t".into());
    let auth = configured("--user u --pass p", file.clone()).unwrap().auth;
    assert_eq!(
        (auth.user, auth.token),
        (Some(("u".into(), "p".into())), None)
    );
    file.auth.token = None;
    file.auth.user = Some(("a".into(), "b".into()));
    let auth = configured("--pass p", file.clone()).unwrap().auth;
    assert_eq!(auth.user, Some(("a".into(), "p".into())));
    let auth = configured("--auth x", file).unwrap().auth;
    assert_eq!((auth.user, auth.token), (None, Some("x".into())));
}

#[test]
fn the_usage_names_no_hidden_flag() {
    let usage = usage();
    assert!(usage.contains("-c, --config") && usage.contains("-h, --help"));
    assert!(!usage.contains("--off") && !usage.contains("--profile"));
}

proptest! {
    /// What the normaliser lets through is to argh's taste, and no value of a secret is shown.
    #[test]
    fn any_arguments(args in proptest::collection::vec(
        "-{0,3}(p|port|T|DV|t|off|free|remote|creds|h|tls|tlscert|tlsverify|[a-z]{0,4})?(=[-a-z0-9=]{0,5})?",
        0..6,
    )) {
        let mut all = vec!["--pass".to_string(), "S3CRET".into(), "--auth=S3CRET".into()];
        all.extend(args);
        all.push("--remote=nats://u:S3CRET@h:x".into());
        let parsed = parse(all.into_iter().map(OsString::from));
        let text = match parsed.and_then(|command| match command {
            Command::Run(cli) => apply(&cli, Config::default()).map(|_| ()),
            Command::Help | Command::Version => Ok(()),
        }) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        };
        prop_assert!(!text.contains("cannot be used together"), "{text}");
        prop_assert!(!text.contains("S3CRET"), "{text}");
    }
}
