//! The command line: nats-server's flags in Go's syntax, and two of our own.
//!
//! Go's syntax is brought to argh's form first, by a table: a flag of several names becomes one, of
//! a repeated flag the last stays, and what nats-server has and we do not serve is refused by name.
//! No error shows what a password, a token or a URL holds.

use std::ffi::OsString;
use std::fmt;

use argh::FromArgs;
use petiole_core::config::model::{CertificateFiles, Config, Limits, Remote, Tls};
use petiole_core::config::{BadUrl, parse_remote_url, quote};

/// Joins remote sites to a NATS system, as a leaf at the site and as a hub in the datacenter. Takes the
/// command line and the configuration file of nats-server.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    usage = "[options]",
    example = "petiole -c hub.conf",
    example = "petiole -c leaf.conf",
    example = "petiole --remote nats-leaf://hub:7422 --creds edge.creds",
    note = "One dash or two, `-x v` or `-x=v`; a switch is turned off with `-x=false`.",
    note = "-VV is -V; -DV and -DVV are -D -V. Also: --net, --server_name."
)]
pub(crate) struct Cli {
    /// address to listen on for clients (default 0.0.0.0)
    #[argh(option, short = 'a', arg_name = "host")]
    addr: Option<String>,
    /// port for clients (default 4222, -1 for any)
    #[argh(option, short = 'p', arg_name = "port")]
    port: Option<i64>,
    /// name of the server (default: its id)
    #[argh(option, short = 'n', arg_name = "name")]
    name: Option<String>,
    /// file to write the process id to
    #[argh(option, short = 'P', arg_name = "file")]
    pid: Option<String>,
    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    pub(crate) config: Option<String>,
    /// check the configuration file and exit
    #[argh(switch, short = 't', long = "t")]
    pub(crate) check: bool,
    /// address told to clients instead of the listener's
    #[argh(option, arg_name = "host:port")]
    client_advertise: Option<String>,
    /// hub to join, nats-leaf://host:port, or tls, ws, wss; may be repeated
    #[argh(option, arg_name = "url")]
    remote: Vec<String>,
    /// credentials file for every --remote
    #[argh(option, arg_name = "file")]
    creds: Option<String>,
    /// TLS for clients; each of the tls flags replaces the certificates of the file's tls block
    #[argh(switch)]
    tls: bool,
    /// certificate for clients
    #[argh(option, arg_name = "file")]
    tlscert: Option<String>,
    /// its private key
    #[argh(option, arg_name = "file")]
    tlskey: Option<String>,
    /// TLS for clients, which need a certificate
    #[argh(switch)]
    tlsverify: bool,
    /// authorities for the certificates of clients (default: the system's)
    #[argh(option, arg_name = "file")]
    tlscacert: Option<String>,
    /// user required of clients
    #[argh(option, arg_name = "user")]
    user: Option<String>,
    /// password required of clients
    #[argh(option, arg_name = "password")]
    pass: Option<String>,
    /// token required of clients
    #[argh(option, arg_name = "token")]
    auth: Option<String>,
    /// log file (default: standard error)
    #[argh(option, short = 'l', arg_name = "file")]
    log: Option<String>,
    /// date and time in log lines (default: true)
    #[argh(switch, short = 'T')]
    logtime: bool,
    /// those in UTC
    #[argh(switch)]
    logtime_utc: bool,
    /// log debug lines
    #[argh(switch, short = 'D')]
    debug: bool,
    /// log the protocol
    #[argh(switch, short = 'V')]
    trace: bool,
    /// print the version and exit
    #[argh(switch, short = 'v')]
    version: bool,
    /// switches given as `=false`
    #[argh(option, hidden_help)]
    off: Vec<String>,
    /// nats-server's profiling port: not served
    #[argh(option, hidden_help)]
    profile: Option<i64>,
    /// version or help
    #[argh(positional, hidden_help, greedy)]
    free: Vec<String>,
}

/// What a command line asks for.
pub(crate) enum Command {
    /// To serve, or to check a configuration.
    Run(Box<Cli>),
    /// To show the usage.
    Help,
    /// To show the version.
    Version,
}

/// What is wrong with a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CliError {
    /// Not the syntax of flags: said with the usage, and as upstream no failure.
    Misused(String),
    /// Understood, and cannot be done.
    Refused(String),
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (CliError::Misused(text) | CliError::Refused(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for CliError {}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// Each counts.
    Texts,
    Number,
    Switch,
    /// Stands for the switches of these names; its own value counts after theirs.
    Switches(&'static [&'static str]),
    Help,
    /// nats-server's, not ours: what to do instead.
    Unserved(&'static str),
}

const MONITOR: &str = "remove it, there is no monitoring port";
const TLS: &str = "see the tls block in docs/configuration.md";
const CLUSTER: &str = "remove it, this server joins hubs with --remote";
const SIGNAL: &str = "send the signal with kill";
const LOG: &str = "use -l/--log or standard error";
const ROTATE: &str = "rotate the file from outside and send USR1";
const JETSTREAM: &str = "remove it, streams live on the hub";

/// The names of each flag, the first being argh's but for `_`.
const FLAGS: &[(&[&str], Kind)] = &[
    (&["addr", "a", "net"], Kind::Text),
    (&["port", "p"], Kind::Number),
    (&["name", "n", "server_name"], Kind::Text),
    (&["pid", "P"], Kind::Text),
    (&["config", "c"], Kind::Text),
    (&["t"], Kind::Switch),
    (&["client_advertise"], Kind::Text),
    (&["remote"], Kind::Texts),
    (&["creds"], Kind::Text),
    (&["tls"], Kind::Switch),
    (&["tlscert"], Kind::Text),
    (&["tlskey"], Kind::Text),
    (&["tlsverify"], Kind::Switch),
    (&["tlscacert"], Kind::Text),
    (&["user"], Kind::Text),
    (&["pass"], Kind::Text),
    (&["auth"], Kind::Text),
    (&["log", "l"], Kind::Text),
    (&["logtime", "T"], Kind::Switch),
    (&["logtime_utc"], Kind::Switch),
    (&["debug", "D"], Kind::Switch),
    (&["trace", "V"], Kind::Switch),
    (&["VV"], Kind::Switches(&["trace"])),
    (&["DV"], Kind::Switches(&["debug", "trace"])),
    (&["DVV"], Kind::Switches(&["debug", "trace"])),
    (&["version", "v"], Kind::Switch),
    (&["help", "h"], Kind::Help),
    (&["profile"], Kind::Number),
    (
        &["http_port", "m", "https_port", "ms"],
        Kind::Unserved(MONITOR),
    ),
    (&["signal", "sl"], Kind::Unserved(SIGNAL)),
    (&["ports_file_dir"], Kind::Unserved("use -P/--pid")),
    (&["log_size_limit"], Kind::Unserved(ROTATE)),
    (
        &["max_traced_msg_len"],
        Kind::Unserved("remove it, payloads are not traced"),
    ),
    (&["syslog", "s", "remote_syslog", "r"], Kind::Unserved(LOG)),
    (&["help_tls"], Kind::Unserved(TLS)),
    (
        &[
            "routes",
            "cluster",
            "cluster_listen",
            "cluster_name",
            "cluster_advertise",
            "no_advertise",
            "connect_retries",
        ],
        Kind::Unserved(CLUSTER),
    ),
    (
        &["jetstream", "js", "store_dir", "sd"],
        Kind::Unserved(JETSTREAM),
    ),
];

/// The flag of a name. Dashes inside a name count as underscores, since the usage shows them so.
fn lookup(name: &str) -> Option<(&'static str, Kind)> {
    let spelled = name.replace('-', "_");
    FLAGS
        .iter()
        .find(|(names, _)| names.contains(&spelled.as_str()))
        .and_then(|(names, kind)| Some((*names.first()?, *kind)))
}

/// What the flags say once the last of each is taken.
#[derive(Default)]
struct Normal {
    /// For argh, without the repeated ones.
    values: Vec<(&'static str, String)>,
    switches: Vec<(&'static str, bool)>,
    remotes: Vec<String>,
    free: Vec<String>,
    help: bool,
}

impl Normal {
    fn argh(self) -> Vec<String> {
        let long = |name: &str| format!("--{}", name.replace('_', "-"));
        let mut out = Vec::new();
        for (name, value) in self.values {
            out.extend([long(name), value]);
        }
        let mut switches = self.switches;
        // Whatever their place: -DV turns on what -D=false after it does not turn off.
        for (names, kind) in FLAGS {
            let name = names.first().copied().unwrap_or_default();
            if let Kind::Switches(parts) = kind
                && switches.contains(&(name, true))
            {
                parts.iter().for_each(|part| set(&mut switches, part, true));
            }
        }
        switches.retain(|(name, _)| matches!(lookup(name), Some((_, Kind::Switch))));
        for (name, on) in switches {
            if on {
                out.push(long(name));
            } else {
                out.extend(["--off".into(), name.into()]);
            }
        }
        for url in self.remotes {
            out.extend(["--remote".into(), url]);
        }
        if !self.free.is_empty() {
            out.push("--".into());
            out.extend(self.free);
        }
        out
    }
}

/// The last one wins.
fn set<T>(list: &mut Vec<(&'static str, T)>, name: &'static str, value: T) {
    list.retain(|(known, _)| *known != name);
    list.push((name, value));
}

/// A word at the wrong place, which may be a URL or a flag with all that it holds.
fn shown(word: &str) -> &str {
    if word.contains(['@', ':', '=']) {
        "[REDACTED]"
    } else {
        word
    }
}

fn misused(text: String) -> CliError {
    CliError::Misused(text)
}

/// Reads flags up to the first argument that is none.
fn normalise(args: Vec<String>) -> Result<Normal, CliError> {
    let mut normal = Normal::default();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let Some(body) = arg.strip_prefix('-').filter(|body| !body.is_empty()) else {
            normal.free.push(arg);
            break;
        };
        let body = body.strip_prefix('-').unwrap_or(body);
        if body.is_empty() {
            break;
        }
        let (name, inline) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (body, None),
        };
        if name.is_empty() || name.starts_with('-') {
            // Without what was given to it.
            let word = shown(arg.split('=').next().unwrap_or_default());
            return Err(misused(format!("bad flag syntax: {word}")));
        }
        let Some((long, kind)) = lookup(name) else {
            let name = shown(name);
            return Err(misused(format!("flag provided but not defined: -{name}")));
        };
        match kind {
            Kind::Text | Kind::Texts | Kind::Number => {
                let Some(value) = inline.or_else(|| args.next()) else {
                    return Err(misused(format!("flag needs an argument: -{name}")));
                };
                match kind {
                    Kind::Texts => normal.remotes.push(value),
                    Kind::Number => {
                        let number = integer(&value).map_err(|why| {
                            let value = quote(shown(&value));
                            misused(format!("invalid value {value} for flag -{name}: {why}"))
                        })?;
                        set(&mut normal.values, long, number.to_string());
                    }
                    _ => set(&mut normal.values, long, value),
                }
            }
            Kind::Switch | Kind::Switches(_) | Kind::Help => {
                let on = match inline.as_deref() {
                    None => true,
                    Some(text) => boolean(text).ok_or_else(|| {
                        let text = quote(shown(text));
                        misused(format!(
                            "invalid boolean value {text} for -{name}: parse error"
                        ))
                    })?,
                };
                if matches!(kind, Kind::Help) {
                    normal.help = on;
                } else {
                    set(&mut normal.switches, long, on);
                }
            }
            Kind::Unserved(hint) => {
                let flag = quote(arg.split('=').next().unwrap_or_default());
                let text = format!("flag {flag} is not served by petiole yet: {hint}");
                return Err(CliError::Refused(text));
            }
        }
    }
    normal.free.extend(args);
    Ok(normal)
}

/// Go's booleans.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Go's integers: also `0x1f`, `0o17`, `017`, `0b1`, but not `1_000`.
fn integer(text: &str) -> Result<i64, &'static str> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.strip_prefix('0') {
        None | Some("") => (10, lower.as_str()),
        Some(rest) => match rest.split_at_checked(1) {
            Some(("x", rest)) => (16, rest),
            Some(("o", rest)) => (8, rest),
            Some(("b", rest)) => (2, rest),
            _ => (8, rest),
        },
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err("parse error");
    }
    let number = i128::from_str_radix(digits, radix).map_err(|_| "value out of range")?;
    i64::try_from(if negative { -number } else { number }).map_err(|_| "value out of range")
}

/// Reads the arguments after the program's name.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, CliError> {
    let mut texts = Vec::new();
    for arg in args {
        let text = arg.into_string();
        texts.push(text.map_err(|_| misused("an argument is not UTF-8 text".into()))?);
    }
    let normal = normalise(texts)?;
    let help = normal.help;
    let args = normal.argh();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let cli = Cli::from_args(&["petiole"], &args)
        // The normaliser lets nothing through that argh would not take.
        .map_err(|_| misused("these flags cannot be used together".into()))?;
    if cli.version {
        return Ok(Command::Version);
    }
    if help {
        return Ok(Command::Help);
    }
    match cli.free.first() {
        None => Ok(Command::Run(Box::new(cli))),
        Some(word) => match word.to_lowercase().as_str() {
            "version" => Ok(Command::Version),
            "help" => Ok(Command::Help),
            _ => Err(CliError::Refused(format!(
                "unrecognized command: {}",
                quote(shown(word))
            ))),
        },
    }
}

/// The text of `--help`.
pub(crate) fn usage() -> String {
    match Cli::from_args(&["petiole"], &["--help"]) {
        Err(exit) => exit.output,
        Ok(_) => String::new(),
    }
}

impl Cli {
    /// What to say about flags that are taken without effect.
    pub(crate) fn warnings(&self) -> Option<&'static str> {
        let ignored = "flag \"--profile\" is ignored: profiling is not served by petiole";
        self.profile.map(|_| ignored)
    }

    /// `None`: not given.
    fn switch(&self, name: &str, on: bool) -> Option<bool> {
        if on {
            return Some(true);
        }
        self.off.iter().any(|off| off == name).then_some(false)
    }
}

/// The configuration with what the command line says put over it.
pub(crate) fn apply(cli: &Cli, mut config: Config) -> Result<Config, CliError> {
    let refused = |text: String| Err(CliError::Refused(text));
    let defaults = Config::default();
    if let Some(host) = &cli.addr {
        config.host.clone_from(host);
        if host.is_empty() {
            config.host = defaults.host;
        }
    }
    match cli.port {
        None => {}
        Some(-1) => config.port = 0,
        Some(0) => config.port = defaults.port,
        Some(port) => match u16::try_from(port) {
            Ok(port) => config.port = port,
            Err(_) => return refused(format!("port {port} is out of the range")),
        },
    }
    for (flag, option) in [
        (&cli.name, &mut config.server_name),
        (&cli.pid, &mut config.pid_file),
        (&cli.client_advertise, &mut config.client_advertise),
        (&cli.log, &mut config.log.file),
    ] {
        if let Some(text) = flag {
            *option = Some(text.clone()).filter(|text| !text.is_empty());
        }
    }
    if config.server_name.as_ref().is_some_and(|n| n.contains(' ')) {
        return refused("server name cannot contain spaces".into());
    }
    for (name, on, option) in [
        ("debug", cli.debug, &mut config.log.debug),
        ("trace", cli.trace, &mut config.log.trace),
        ("logtime", cli.logtime, &mut config.log.time),
        ("logtime_utc", cli.logtime_utc, &mut config.log.utc),
    ] {
        *option = cli.switch(name, on).unwrap_or(*option);
    }
    tls(cli, &mut config)?;
    credentials(cli, &mut config)?;
    if cli.creds.is_some() && cli.remote.is_empty() {
        return refused("flag \"--creds\" needs a --remote to use the file with".into());
    }
    for text in &cli.remote {
        config.remotes.push(remote(text, cli.creds.as_ref())?);
    }
    Ok(config)
}

/// `--tls` and its like: any of them replaces the file's certificates, authorities and parameters;
/// who may come in, and when TLS begins, stays as the file has it. `--tls=false` removes the block.
fn tls(cli: &Cli, config: &mut Config) -> Result<(), CliError> {
    let refused = |text: &str| Err(CliError::Refused(text.into()));
    let (on, verify) = (
        cli.switch("tls", cli.tls),
        cli.switch("tlsverify", cli.tlsverify),
    );
    let files = [&cli.tlscert, &cli.tlskey, &cli.tlscacert];
    if on.is_none() && verify.is_none() && files.iter().all(|file| file.is_none()) {
        return Ok(());
    }
    let given = |file: &Option<String>| file.clone().filter(|file| !file.is_empty());
    let before = Limits::default_auth_timeout(config.tls.as_ref());
    let file = config.tls.take().unwrap_or_default();
    config.tls = match (on, given(&cli.tlscert), given(&cli.tlskey)) {
        (Some(false), ..) => None,
        (_, None, _) => return refused("TLS Server certificate must be present and valid"),
        (_, _, None) => return refused("TLS Server private key must be present and valid"),
        (_, Some(cert), Some(key)) => Some(Tls {
            certificates: vec![CertificateFiles { cert, key }],
            ca_file: given(&cli.tlscacert),
            // What the file says of clients' certificates would be worth nothing without them.
            verify: verify == Some(true) || file.map || !file.pinned_certs.is_empty(),
            map: file.map,
            pinned_certs: file.pinned_certs,
            timeout: file.timeout,
            rate_limit: file.rate_limit,
            handshake_first: file.handshake_first,
            ..Tls::default()
        }),
    };
    // Unless the file says how long a client has.
    if config.limits.auth_timeout == before {
        config.limits.auth_timeout = Limits::default_auth_timeout(config.tls.as_ref());
    }
    Ok(())
}

/// `--user`, `--pass`, `--auth`: who clients have to be.
fn credentials(cli: &Cli, config: &mut Config) -> Result<(), CliError> {
    let refused = |text: &str| Err(CliError::Refused(text.into()));
    let given = |flag: &Option<String>| flag.clone().filter(|text| !text.is_empty());
    let (user, pass, token) = (given(&cli.user), given(&cli.pass), given(&cli.auth));
    if user.is_none() && pass.is_none() && token.is_none() {
        return Ok(());
    }
    if token.is_some() && (user.is_some() || pass.is_some()) {
        return refused("Cannot have a user/pass and token");
    }
    // The file's users would stay the only ones, and the flag a wish.
    if !config.auth.users.is_empty() {
        return refused(match token {
            Some(_) => "Can not have a token and a users array",
            None => "Can not have a single user/pass and a users array",
        });
    }
    if token.is_some() {
        config.auth.token = token;
        config.auth.user = None;
        return Ok(());
    }
    let (old_user, old_pass) = config.auth.user.take().unzip();
    let Some(user) = user.or(old_user) else {
        return refused("flag \"--pass\" needs a --user");
    };
    config.auth.user = Some((user, pass.or(old_pass).unwrap_or_default()));
    config.auth.token = None;
    Ok(())
}

/// The URL is not shown: it may hold a password.
fn remote(text: &str, creds: Option<&String>) -> Result<Remote, CliError> {
    let parsed = if text.contains("://") {
        parse_remote_url(text)
    } else {
        parse_remote_url(&format!("nats://{text}"))
    };
    let url = parsed.map_err(|why| {
        let reason = match why {
            BadUrl::Malformed => {
                "not a url, expected nats-leaf://[user:password@]host[:port], or tls, ws, wss"
            }
            BadUrl::Query => "a url with a query or fragment, which is not sent: remove it",
        };
        CliError::Refused(format!("flag \"--remote\": {reason}"))
    })?;
    Ok(Remote {
        credentials: creds.cloned(),
        ..Remote::at(url)
    })
}

#[cfg(test)]
mod tests;
