//! The same byte scripts against the server under test and the real ones: all they reply, and
//! whether they close, is compared. What is right is not written here; the real server says it.
//! The format of the scripts is described in `scripts/README.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use support::{
    Client, Msg, Op, Server, Target, base64url, servers, show, sign_nonce, skip_loudly, subject,
    user_key,
};

/// A section that keeps hanging is not pursued.
const MAX_HANGS: usize = 3;

#[test]
fn basics() {
    compare(include_str!("scripts/basics.script"));
}

#[test]
fn framing() {
    compare(include_str!("scripts/framing.script"));
}

#[test]
fn subjects() {
    compare(include_str!("scripts/subjects.script"));
}

#[test]
fn delivery() {
    compare(include_str!("scripts/delivery.script"));
}

#[test]
fn auth() {
    compare(include_str!("scripts/auth.script"));
}

#[test]
fn permissions() {
    compare(include_str!("scripts/permissions.script"));
}

#[test]
fn limits() {
    compare(include_str!("scripts/limits.script"));
}

#[test]
fn accounts() {
    compare(include_str!("scripts/accounts.script"));
}

/// The comparison itself must be able to fail.
#[test]
fn a_difference_is_seen() {
    let Some(real) = support::newest() else {
        return skip_loudly("black box: no real server");
    };
    let server = Server::start_real(real, "host: \"127.0.0.1\"\nport: {port}\n");
    let outcome = |script: &str| run_case(&server, &parse(script)[0].cases[0], false);
    let open = "server s\nend\ncase x\n> PING\n";
    let closed = "server s\nend\ncase x\n> FOO\n";
    assert_eq!(outcome(open), outcome(open));
    assert_ne!(outcome(open), outcome(closed));
    let reply = "server s\nend\ncase x\n> SUB a 1\n> PUB a 1\\r\\nx\n";
    let other = "server s\nend\ncase x\n> SUB a 1\n> PUB a 1\\r\\ny\n";
    assert_ne!(outcome(reply), outcome(other));
}

// ---------------------------------------------------------------- scripts

#[derive(Debug)]
struct Section {
    name: String,
    config: String,
    cases: Vec<Case>,
}

#[derive(Debug)]
struct Case {
    name: String,
    line: usize,
    /// Servers older than this behave differently.
    since: (u32, u32),
    /// The text of a 503 differs between versions.
    modulo_503: bool,
    /// Which member of a group gets a message is chance.
    modulo_member: bool,
    /// Not repeated byte by byte: never, or not on a real server.
    whole: bool,
    whole_real: bool,
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    /// Bytes of one connection, and whether a sentinel may follow them.
    Send {
        conn: char,
        text: String,
        complete: bool,
    },
    /// Sentinel now.
    Sync(char),
    /// The server is to close by itself.
    Close(char),
}

fn parse(script: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut macros: BTreeMap<String, String> = BTreeMap::new();
    let mut in_config = false;
    for (number, line) in script.lines().enumerate().map(|(i, l)| (i + 1, l)) {
        let bad = |why: &str| -> ! { panic!("script line {number}: {why}: {line}") };
        if in_config {
            if line.trim() == "end" {
                in_config = false;
            } else {
                let section = sections.last_mut().expect("inside a section");
                section.config += &expand(line, &macros);
                section.config.push('\n');
            }
            continue;
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "" => {}
            _ if word.starts_with('#') => {}
            "let" => {
                let (name, text) = rest.split_once(" = ").unwrap_or_else(|| bad("no ` = `"));
                macros.insert(name.to_owned(), expand(text, &macros));
            }
            "server" => {
                sections.push(Section {
                    name: rest.to_owned(),
                    config: String::new(),
                    cases: Vec::new(),
                });
                in_config = true;
            }
            "case" => {
                let mut words = rest.split(" @");
                let mut case = Case {
                    name: words.next().unwrap_or_default().to_owned(),
                    line: number,
                    since: (0, 0),
                    modulo_503: false,
                    modulo_member: false,
                    whole: false,
                    whole_real: false,
                    steps: Vec::new(),
                };
                for word in words {
                    match word.split_once(' ').unwrap_or((word, "")) {
                        ("since", version) => {
                            let (major, minor) =
                                version.split_once('.').unwrap_or_else(|| bad("no version"));
                            case.since = (major.parse().unwrap(), minor.parse().unwrap());
                        }
                        ("modulo", "503") => case.modulo_503 = true,
                        ("modulo", "member") => case.modulo_member = true,
                        ("whole", "") => case.whole = true,
                        ("whole", "real") => case.whole_real = true,
                        _ => bad("unknown mark"),
                    }
                }
                sections
                    .last_mut()
                    .unwrap_or_else(|| bad("no server yet"))
                    .cases
                    .push(case);
            }
            _ => {
                let case = sections.last_mut().and_then(|s| s.cases.last_mut());
                let steps = &mut case.unwrap_or_else(|| bad("no case yet")).steps;
                let (conn, op) = match word.chars().next() {
                    Some(c) if c.is_ascii_lowercase() => (c, &word[1..]),
                    _ => ('a', word),
                };
                let text = expand(rest, &macros);
                steps.push(match op {
                    ">" => Step::Send {
                        conn,
                        text: text + "\\r\\n",
                        complete: true,
                    },
                    ">>" => Step::Send {
                        conn,
                        text,
                        complete: false,
                    },
                    "?" => Step::Sync(conn),
                    "!" => Step::Close(conn),
                    _ => bad("unknown step"),
                });
            }
        }
    }
    sections
}

/// Replaces `$(..)` but for what needs a connection.
fn expand(text: &str, macros: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("$(") {
        let (name, tail) = after
            .split_once(')')
            .unwrap_or_else(|| panic!("`$(` without end in {text}"));
        out.push_str(before);
        rest = tail;
        let mut words = name.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("rep"), Some(count), Some(what)) => {
                out.push_str(&what.repeat(count.parse().unwrap()))
            }
            (Some("pub"), Some(key), None) => out.push_str(&user_key(key).public_key()),
            (Some("reply"), None, None) => out.push_str("$(reply)"),
            (Some("sig" | "padsig"), Some(_), None) => {
                let _ = write!(out, "$({name})");
            }
            (Some(_), None, None) => {
                out.push_str(
                    macros
                        .get(name)
                        .unwrap_or_else(|| panic!("no macro {name} for {text}")),
                );
            }
            _ => panic!("macro {name} in {text}"),
        }
    }
    out + rest
}

/// The bytes of a step on a connection that was greeted with `nonce`, and last got a message with
/// `reply`.
fn bytes_of(text: &str, nonce: &str, reply: &str) -> Vec<u8> {
    let mut text = text.replace("$(reply)", reply);
    while let Some((before, after)) = text.split_once("$(") {
        let (name, tail) = after.split_once(')').unwrap();
        let (kind, key) = name.split_once(' ').unwrap();
        let mut sig = sign_nonce(&user_key(key), nonce);
        if kind == "padsig" {
            sig = sig.replace('-', "+").replace('_', "/") + "==";
        }
        text = format!("{before}{sig}{tail}");
    }
    let mut out = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend(c.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        match chars.next() {
            Some('r') => out.push(b'\r'),
            Some('n') => out.push(b'\n'),
            Some('t') => out.push(b'\t'),
            Some('\\') => out.push(b'\\'),
            Some('x') => {
                let digits: String = chars.by_ref().take(2).collect();
                out.push(u8::from_str_radix(&digits, 16).expect("two hex digits"));
            }
            other => panic!("escape {other:?} in {text}"),
        }
    }
    out
}

// ---------------------------------------------------------------- running

/// One connection of a case.
struct Conn {
    client: Client,
    nonce: String,
    sent: Vec<u8>,
    /// PONGs that the script's own PINGs will bring.
    pongs: usize,
    said: Vec<String>,
    /// Of the last message that had one.
    reply: String,
    open: bool,
}

impl Conn {
    fn new(server: &Server) -> Self {
        let client = server.connect();
        let nonce = client.info["nonce"].as_str().unwrap_or_default().to_owned();
        let said = vec![stable_info(&client)];
        Self {
            client,
            nonce,
            sent: Vec::new(),
            pongs: 0,
            said,
            reply: String::new(),
            open: true,
        }
    }

    fn send(&mut self, bytes: &[u8], bytewise: bool) {
        let pings = |bytes: &[u8]| {
            bytes
                .split_inclusive(|b| *b == b'\n')
                .filter(|l| l.ends_with(b"\n") && l.len() > 4)
                .filter(|l| l[..4].eq_ignore_ascii_case(b"ping"))
                .count()
        };
        let before = pings(&self.sent);
        self.sent.extend_from_slice(bytes);
        self.pongs += pings(&self.sent) - before;
        // The server may have closed at an earlier byte.
        for part in bytes.chunks(if bytewise { 1 } else { bytes.len().max(1) }) {
            if self.client.wire.try_send(part).is_err() {
                break;
            }
        }
    }

    /// Notes all that is said before a sentinel is answered, or before the end.
    fn sync(&mut self, case: &Case) {
        if self.open {
            let _ = self.client.wire.try_send(b"PING\r\n");
            self.read(case, self.pongs + 1);
            self.pongs = 0;
        }
    }

    fn read(&mut self, case: &Case, mut pongs: usize) {
        while pongs > 0 {
            match self.client.raw_op() {
                // Servers PING and send later INFOs when they like.
                Some(Op::Ping | Op::Info(_)) => {}
                Some(Op::Pong) => {
                    pongs -= 1;
                    if pongs > 0 {
                        self.said.push("PONG".to_owned());
                    }
                }
                Some(Op::Ok) => self.said.push("+OK".to_owned()),
                Some(Op::Err(text)) => self.said.push(format!("-ERR {text}")),
                Some(Op::Msg(msg)) => {
                    self.said.push(stable_msg(case, &msg));
                    if let Some(reply) = msg.reply {
                        self.reply = show(&reply);
                    }
                }
                Some(Op::Other(line)) => self.said.push(format!("?? {}", show(&line))),
                None => {
                    self.open = false;
                    return;
                }
            }
        }
    }

    /// Nothing of this case may meet the next one.
    fn leave(mut self) {
        if !self.open {
            return;
        }
        let sent = std::mem::take(&mut self.sent);
        for line in sent.split(|b| *b == b'\n') {
            let mut words = line
                .split(|b| b" \t\r".contains(b))
                .filter(|w| !w.is_empty());
            if words
                .next()
                .is_some_and(|verb| verb.eq_ignore_ascii_case(b"sub"))
                && let Some(sid) = words.next_back()
            {
                let _ = self
                    .client
                    .wire
                    .try_send([b"UNSUB ", sid, b"\r\n"].concat());
            }
        }
        let _ = self.client.wire.try_send(b"PING\r\n");
        while !matches!(self.client.raw_op(), None | Some(Op::Pong)) {}
    }
}

/// What of INFO is the same on all servers.
fn stable_info(client: &Client) -> String {
    let mut out = "INFO".to_owned();
    let info = &client.info;
    for key in [
        "proto",
        "headers",
        "auth_required",
        "tls_required",
        "tls_available",
        "max_payload",
        "jetstream",
        "ldm",
    ] {
        if let Some(value) = info.get(key) {
            let _ = write!(out, " {key}={value}");
        }
    }
    for key in ["server_name", "version", "go", "host", "client_ip"] {
        let present = info[key].as_str().is_some_and(|s| !s.is_empty());
        let _ = write!(out, " {key}:{present}");
    }
    for key in ["port", "client_id"] {
        let _ = write!(out, " {key}:{}", info[key].as_u64().is_some_and(|n| n > 0));
    }
    let id = info["server_id"].as_str().unwrap_or_default();
    let _ = write!(out, " server_id:{}{}", &id[..id.len().min(1)], id.len());
    let _ = write!(
        out,
        " nonce:{}",
        info["nonce"].as_str().unwrap_or_default().len()
    );
    let _ = write!(out, " space:{}", client.info_line.ends_with(b" "));
    out
}

fn stable_msg(case: &Case, msg: &Msg) -> String {
    let sid = if case.modulo_member {
        "*".to_owned()
    } else {
        show(&msg.sid)
    };
    let mut reply = msg.reply.as_deref().map(show).unwrap_or_default();
    if reply.starts_with("_R_.") {
        // How long it is and what it says is a server's own business.
        reply = "_R_".to_owned();
    }
    let mut header = msg.header.as_deref().map(show).map(without_times);
    if case.modulo_503
        && header
            .as_ref()
            .is_some_and(|h| h.starts_with("NATS/1.0 503\\r\\n"))
    {
        header = Some("a 503".to_owned());
    }
    let kind = if msg.header.is_some() { "HMSG" } else { "MSG" };
    let header = header.unwrap_or_default();
    format!(
        "{kind} {} reply={reply} {header} {} sid={sid}",
        show(&msg.subject),
        show(&msg.payload)
    )
}

/// A header in which times are left out.
fn without_times(header: String) -> String {
    let Some((before, after)) = header.split_once(",\\\"rtt\\\":") else {
        return header;
    };
    format!(
        "{before}{}",
        after.trim_start_matches(|c: char| c.is_ascii_digit())
    )
}

/// All connections' replies, and whether they stayed open.
fn run_case(server: &Server, case: &Case, bytewise: bool) -> String {
    let mut conns: BTreeMap<char, Conn> = BTreeMap::new();
    let mut last: Option<char> = None;
    for step in &case.steps {
        let (Step::Send { conn, .. } | Step::Sync(conn) | Step::Close(conn)) = step;
        // What one connection said has its effect before another one speaks.
        if last.is_some_and(|l| l != *conn) {
            conns.get_mut(&last.unwrap()).unwrap().sync(case);
        }
        let c = conns.entry(*conn).or_insert_with(|| Conn::new(server));
        last = Some(*conn);
        match step {
            Step::Send { text, complete, .. } => {
                c.send(
                    &bytes_of(text, &c.nonce.clone(), &c.reply.clone()),
                    bytewise,
                );
                if !complete {
                    last = None;
                }
            }
            Step::Sync(_) => c.sync(case),
            Step::Close(_) => {
                c.read(case, usize::MAX);
                assert!(!c.open, "closed");
            }
        }
    }
    if let Some(last) = last {
        conns.get_mut(&last).unwrap().sync(case);
    }
    let mut out = String::new();
    let mut pool = Vec::new();
    for (name, conn) in &mut conns {
        conn.sync(case);
        sort_copies(&mut conn.said);
        for said in &conn.said {
            if case.modulo_member && (said.starts_with("MSG") || said.starts_with("HMSG")) {
                pool.push(said.clone());
            } else {
                let _ = writeln!(out, "    {name} {said}");
            }
        }
        let _ = writeln!(
            out,
            "    {name} {}",
            if conn.open { "open" } else { "closed" }
        );
    }
    pool.sort();
    for said in pool {
        let _ = writeln!(out, "    * {said}");
    }
    conns.into_values().for_each(Conn::leave);
    out
}

/// The copies of one message for several subscriptions of a client come in any order.
fn sort_copies(said: &mut [String]) {
    let copy_of = |s: &String| {
        let (message, _) = s.rsplit_once(" sid=")?;
        (message.starts_with("MSG") || message.starts_with("HMSG")).then(|| message.to_owned())
    };
    let mut start = 0;
    while start < said.len() {
        let key = copy_of(&said[start]);
        let mut end = start + 1;
        while key.is_some() && end < said.len() && copy_of(&said[end]) == key {
            end += 1;
        }
        said[start..end].sort();
        start = end;
    }
}

fn outcome(server: &Server, case: &Case, bytewise: bool) -> Result<String, String> {
    catch_unwind(AssertUnwindSafe(|| run_case(server, case, bytewise))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap_or_default()
    })
}

fn compare(script: &str) {
    let subject = subject();
    let references: Vec<Target> = servers()
        .iter()
        .cloned()
        .map(Target::Real)
        .filter(|t| *t != subject)
        .collect();
    if references.is_empty() {
        return skip_loudly("black box: no real server to compare with");
    }
    let mut differences = String::new();
    let (mut cases, mut comparisons) = (0, 0);
    for section in parse(script) {
        let config = format!("host: \"127.0.0.1\"\nport: {{port}}\n{}", section.config);
        let tested = Server::start(&subject, &config);
        let others: Vec<Server> = references
            .iter()
            .map(|r| Server::start(r, &config))
            .collect();
        let mut hangs = 0;
        for case in &section.cases {
            cases += 1;
            let at = format!("{} / {} (line {})", section.name, case.name, case.line);
            let got = outcome(&tested, case, false);
            hangs += usize::from(got.is_err());
            let mut differs =
                |from: &str, expected: &Result<String, String>, got: &Result<String, String>| {
                    let text = |r: &Result<String, String>| match r {
                        Ok(said) => said.clone(),
                        Err(why) => format!("    failed: {why}\n"),
                    };
                    let _ = writeln!(
                        differences,
                        "{at}\n  {from}:\n{}  {}:\n{}",
                        text(expected),
                        subject.name(),
                        text(got)
                    );
                };
            for other in &others {
                let (major, minor, _) = other.target().version().min(subject.version());
                if (major, minor) < case.since {
                    continue;
                }
                comparisons += 1;
                let expected = outcome(other, case, false);
                if expected != got || expected.is_err() {
                    differs(&other.target().name(), &expected, &got);
                }
            }
            let whole = case.whole || (case.whole_real && subject != Target::Petiole);
            if !whole && got.is_ok() {
                comparisons += 1;
                let split = outcome(&tested, case, true);
                if split != got {
                    differs("whole", &got, &split);
                }
            }
            if hangs >= MAX_HANGS {
                let _ = writeln!(
                    differences,
                    "{}: too many hangs, rest not tried\n",
                    section.name
                );
                break;
            }
        }
    }
    eprintln!("{cases} cases, {comparisons} comparisons");
    assert!(cases > 0, "a script without cases");
    assert!(differences.is_empty(), "differences:\n{differences}");
}

/// Keys of scripts are real keys.
#[test]
fn script_keys_sign() {
    let key = user_key("alice");
    assert!(key.public_key().starts_with('U'));
    assert_eq!(base64url(&[0xfb, 0xff, 0xfe]), "-__-");
    assert_eq!(base64url(b"ab"), "YWI");
    assert_eq!(sign_nonce(&key, "nonce").len(), 86);
}
