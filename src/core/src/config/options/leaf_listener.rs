//! `leafnodes` as a listener: what the block says of the leafs that dial us.
//!
//! | key (aliases) of the block | value | default |
//! |---|---|---|
//! | listen | port or host:port | nobody is accepted |
//! | host (net), port | text, -1 or 0 to 65535 | 0.0.0.0, 0: nobody is accepted |
//! | advertise (leafnode_advertise) | host or host:port | none |
//! | no_advertise | bool | false |
//! | authorization | below | who may connect as a client |
//! | tls | see `tls` | none |
//! | min_version (minimum_version) | "X.Y.Z", from 2.8.0 | none |
//! | write_deadline | duration | as for hubs |
//! | write_timeout | `default` or `retry` | retry |
//! | max_handshakes_per_second (petiole's own) | number; 0 or less is no limit | 250 with `tls`, else 1500 |
//!
//! | key (aliases) of authorization | value | default |
//! |---|---|---|
//! | user (username), password (pass) | text; a bcrypt hash as password | none |
//! | nkey | public user nkey | none |
//! | users | array of blocks of user (username), password (pass), account | none |
//! | account | name | `$G` |
//! | timeout | seconds or duration | 2 s; with `tls` one more than its timeout |
//! | proxy_required, also of a user | false | |

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::time::Duration;

use super::auth::{is_public_nkey, timeout};
use super::reader::{Sink, split_host_port};
use super::tls::{Peer, tls};
use crate::config::model::{
    Advertised, Compression, LeafAuth, LeafListener, LeafUser, LeafUsers, Limits, Tls,
};
use crate::config::units::quote;
use crate::config::value::{Entry, Node, Position, Value};
use crate::wire::version::Version;

/// The listener of a block that is being read.
#[derive(Default)]
pub(super) struct Draft<'v> {
    host: Option<String>,
    port: Option<u16>,
    /// The file says where leafs connect, or that they do not.
    is_placed: bool,
    advertise: Option<Advertised>,
    no_advertise: bool,
    auth: LeafAuth,
    auth_timeout: Option<Duration>,
    tls: Option<Tls>,
    min_version: Option<Version>,
    write_deadline: Option<Duration>,
    /// `Some(None)`: no limit.
    max_handshakes: Option<Option<NonZeroU32>>,
    /// Options that suppose a listener.
    supposing: Vec<&'v Entry>,
    /// `authorization.account`, without users of the block.
    pub(super) lone_account: Option<&'v Entry>,
}

/// What of the block concerns remotes too.
pub(super) struct Shared {
    pub(super) compression: Compression,
    pub(super) isolate: bool,
    pub(super) has_remotes: bool,
}

impl<'v> Draft<'v> {
    /// Takes an option of the listener. `false` if it is none.
    pub(super) fn read(&mut self, entry: &'v Entry, sink: &mut Sink) -> bool {
        let node = &entry.node;
        let at = &node.position;
        match entry.key.to_lowercase().as_str() {
            "listen" => {
                self.is_placed = true;
                if let Some((host, port)) = sink.host_port(node) {
                    self.host = host;
                    self.port = sink.port(at, port);
                }
            }
            "host" | "net" => self.host = sink.string(node).filter(|host| !host.is_empty()),
            "port" => {
                self.is_placed = true;
                self.port = sink.int(node).and_then(|port| sink.port(at, port));
            }
            "advertise" | "leafnode_advertise" => {
                self.supposing.push(entry);
                self.advertise = advertise(node, sink);
            }
            "no_advertise" => self.no_advertise = sink.boolean(node).unwrap_or(false),
            "authorization" => {
                self.supposing.push(entry);
                self.authorization(entry, sink);
            }
            "tls" => {
                self.supposing.push(entry);
                self.tls = tls(entry, Peer::Leaf, sink);
            }
            "min_version" | "minimum_version" => self.min_version = min_version(node, sink),
            "write_deadline" => {
                self.supposing.push(entry);
                self.write_deadline = sink.duration(entry);
            }
            "max_handshakes_per_second" => {
                self.supposing.push(entry);
                self.max_handshakes = sink
                    .int(node)
                    .map(|rate| NonZeroU32::new(u32::try_from(rate.max(0)).unwrap_or(u32::MAX)));
            }
            "write_timeout" => match sink.string(node).as_deref() {
                None | Some("default" | "retry") => {}
                Some("close") => sink.unserved(
                    entry,
                    "remove it, a leaf is closed once it takes nothing at all",
                ),
                Some(_) => sink.error(at, "write_timeout must be 'default', 'close' or 'retry'"),
            },
            _ => return false,
        }
        true
    }

    fn authorization(&mut self, entry: &'v Entry, sink: &mut Sink) {
        let Some(map) = sink.map(&entry.node) else {
            return;
        };
        let block = &entry.node.position;
        let (mut user, mut password, mut nkey, mut users) = (None, None, None, None);
        let mut account = None;
        for entry in map.iter() {
            let node = &entry.node;
            match entry.key.to_lowercase().as_str() {
                "user" | "username" => user = sink.string(node).filter(|text| !text.is_empty()),
                "password" | "pass" => {
                    password = sink.string(node).filter(|text| !text.is_empty());
                }
                "nkey" => {
                    let text = sink.string(node).filter(|text| !text.is_empty());
                    if text.as_ref().is_some_and(|text| !is_public_nkey(text, 'U')) {
                        let text = "Not a valid public nkey for leafnode authorization";
                        sink.error(&node.position, text);
                    }
                    nkey = text;
                }
                "account" => {
                    self.auth.account = sink.string(node).filter(|name| !name.is_empty());
                    account = self.auth.account.is_some().then_some(entry);
                }
                "users" => users = Some(read_users(node, block, sink)),
                "timeout" => {
                    let what = "error parsing leafnode authorization config, 'timeout'";
                    self.auth_timeout = timeout(entry, what, sink);
                }
                "proxy_required" => proxy_required(entry, sink),
                _ => sink.unknown(entry),
            }
        }
        let users = users.filter(|users| !users.is_empty());
        if password.is_some() && user.is_none() {
            // nats-server lets everybody in.
            sink.error(block, "leafnode authorization has a password and no user");
        }
        if user.is_some() && nkey.is_some() {
            // nats-server ignores the nkey.
            sink.error(block, "can not have a single user/pass and a single nkey");
        }
        if users.is_some() {
            if user.is_some() {
                sink.error(block, "can not have a single user/pass and a users array");
            }
            if nkey.is_some() {
                sink.error(block, "can not have a single nkey and a users array");
            }
            if let Some(account) = account {
                let reason = "ignored, each of the users has an account, $G without its own";
                sink.warn(&account.node.position, &account.key, reason);
            }
        }
        self.auth.users = match (user, nkey, users) {
            (Some(user), ..) => LeafUsers::One {
                user,
                password: password.unwrap_or_default(),
            },
            (_, Some(nkey), _) => LeafUsers::Nkey(nkey),
            (.., Some(users)) => LeafUsers::Listed(users),
            (None, None, None) => {
                self.lone_account = account;
                LeafUsers::Clients
            }
        };
    }

    /// The listener of the block at `at`, if it has one.
    pub(super) fn finish(
        self,
        at: &Position,
        shared: Shared,
        sink: &mut Sink,
    ) -> Option<LeafListener> {
        for entry in &self.supposing {
            let is_deadline = entry.key.eq_ignore_ascii_case("write_deadline");
            let reason = if is_deadline && shared.has_remotes {
                "ignored for remotes, they have the server's"
            } else if !self.is_placed {
                "ignored, nobody is accepted: set port or listen"
            } else {
                continue;
            };
            sink.warn(&entry.node.position, &entry.key, reason);
        }
        let auth_timeout = self
            .auth_timeout
            .unwrap_or_else(|| Limits::default_auth_timeout(self.tls.as_ref()));
        Some(LeafListener {
            host: self.host.unwrap_or_else(|| "0.0.0.0".into()),
            port: self.port?,
            max_handshakes: self
                .max_handshakes
                .unwrap_or_else(|| LeafListener::default_rate(self.tls.as_ref())),
            advertise: self.advertise,
            no_advertise: self.no_advertise,
            auth: self.auth,
            auth_timeout,
            tls: self.tls,
            compression: shared.compression,
            min_version: self.min_version,
            isolate: shared.isolate,
            write_deadline: self.write_deadline,
            at: at.to_string(),
        })
    }
}

/// A host, or host and port; -1 and 0 are the listener's port. nats-server reads it at the start.
fn advertise(node: &Node, sink: &mut Sink) -> Option<Advertised> {
    let text = sink.string(node).filter(|text| !text.is_empty())?;
    let in_brackets = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let (host, port) = match (split_host_port(&text), in_brackets) {
        (Some((host, port)), _) => (host, port.parse::<i32>().ok()),
        (None, Some(host)) => (host, Some(0)),
        (None, None) if text.contains(':') => ("", None),
        (None, None) => (text.as_str(), Some(0)),
    };
    let port = match port {
        Some(-1 | 0) => Some(None),
        Some(port) => u16::try_from(port).ok().map(Some),
        None => None,
    };
    let is_host = |c: char| !c.is_whitespace() && !c.is_control() && !"[]\"".contains(c);
    if let Some(port) = port
        && !host.is_empty()
        && host.chars().all(is_host)
    {
        let host = host.to_owned();
        return Some(Advertised { host, port });
    }
    let text = format!(
        "Error setting leafnode INFO with LeafNode.Advertise value of {}: expected host or host:port",
        quote(&text)
    );
    sink.error(&node.position, text);
    None
}

/// `min_version`: strictly `X.Y.Z`, from 2.8.0.
fn min_version(node: &Node, sink: &mut Sink) -> Option<Version> {
    let text = match Version::parse(&sink.string(node)?) {
        Some(version) if version >= Version([2, 8, 0]) => return Some(version),
        Some(_) => "the minimum version should be at least 2.8.0",
        None => "invalid leafnode's minimum version: invalid semver",
    };
    sink.error(&node.position, text);
    None
}

/// `block` is where the authorization stands.
fn read_users(node: &Node, block: &Position, sink: &mut Sink) -> Vec<LeafUser> {
    let Value::Array(list) = &node.value else {
        let got = node.value.shown();
        let text = format!("Expected users field to be an array, got {got}");
        sink.error(&node.position, text);
        return Vec::new();
    };
    let users: Vec<_> = list
        .iter()
        .filter_map(|node| read_user(node, sink))
        .collect();
    let mut seen = HashSet::new();
    for LeafUser { user, .. } in &users {
        if !seen.insert(user) {
            let user = quote(user);
            let text = format!("duplicate user {user} detected in leafnode authorization");
            sink.error(block, text);
        }
    }
    users
}

fn read_user(node: &Node, sink: &mut Sink) -> Option<LeafUser> {
    let Value::Map(map) = &node.value else {
        let got = node.value.shown();
        let text = format!("Expected user entry to be a map/struct, got {got}");
        sink.error(&node.position, text);
        return None;
    };
    let (mut user, mut password, mut account) = (None, None, None);
    for entry in map.iter() {
        let node = &entry.node;
        let to = match entry.key.to_lowercase().as_str() {
            "user" | "username" => &mut user,
            "password" | "pass" => &mut password,
            "account" => &mut account,
            "proxy_required" => {
                proxy_required(entry, sink);
                continue;
            }
            _ => {
                sink.unknown(entry);
                continue;
            }
        };
        *to = sink.string(node).filter(|text| !text.is_empty());
    }
    if user.is_none() {
        // nats-server lets in who says nothing.
        let at = map.last_position().unwrap_or(&node.position);
        sink.error(at, "User entry requires a user");
    }
    Some(LeafUser {
        user: user?,
        password: password.unwrap_or_default(),
        account,
    })
}

fn proxy_required(entry: &Entry, sink: &mut Sink) {
    if sink.boolean(&entry.node) == Some(true) {
        sink.unserved(entry, "remove it, proxies are not verified");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::model::HandshakeFirst;
    use crate::config::testing::{config, lines, load_text};
    use proptest::prelude::*;

    const NKEY: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

    /// The listener of these options.
    fn listener(text: &str) -> LeafListener {
        let text = format!("leafnodes {{ port: 7422, {text} }}");
        assert_eq!(lines(&text), [""; 0], "{text}");
        config(&text).leafnodes.unwrap()
    }

    /// As 2.15.1 prints it, but for what it takes and should not.
    #[test]
    fn texts() {
        let conversion = |got: &str, want: &str| {
            format!("interface conversion: interface {{}} is {got}, not {want}")
        };
        let rows: Vec<(String, String)> = [
            ("port: \"7422\"", format!("c:1:11: {}", conversion("string", "int64"))),
            ("port: 70000", "c:1:11: port 70000 is out of the range".into()),
            ("port: -2", "c:1:11: port -2 is out of the range".into()),
            ("listen: x", "c:1:11: could not parse address string \"x\"".into()),
            ("listen: \"a:b\"", "c:1:11: could not parse port \"b\"".into()),
            ("listen: true", "c:1:11: expected port or host:port, got bool".into()),
            ("host: 5", format!("c:1:11: {}", conversion("int64", "string"))),
            ("advertise: 5", format!("c:1:11: {}", conversion("int64", "string"))),
            ("advertise: \"h:x\"", "c:1:11: Error setting leafnode INFO with LeafNode.Advertise value of \"h:x\": expected host or host:port".into()),
            ("no_advertise: 5", format!("c:1:11: {}", conversion("int64", "bool"))),
            ("isolate: 5", format!("c:1:11: {}", conversion("int64", "bool"))),
            ("min_version: 5", format!("c:1:11: {}", conversion("int64", "string"))),
            ("min_version: \"2.7.9\"", "c:1:11: the minimum version should be at least 2.8.0".into()),
            ("minimum_version: \"\"", "c:1:11: invalid leafnode's minimum version: invalid semver".into()),
            ("write_deadline: x", "c:1:11: error parsing write_deadline: time: invalid duration \"x\"".into()),
            ("max_handshakes_per_second: x", format!("c:1:11: {}", conversion("string", "int64"))),
            ("write_timeout: 5", format!("c:1:11: {}", conversion("int64", "string"))),
            ("write_timeout: Retry", "c:1:11: write_timeout must be 'default', 'close' or 'retry'".into()),
            ("handshake_first: true", "c:1:11: unknown field \"handshake_first\"".into()),
            ("max_connections: 5", "c:1:11: unknown field \"max_connections\"".into()),
            ("tls: 5", format!("c:1:11: {}", conversion("int64", "map[string]interface {}"))),
            ("port: 1, tls {}", "c:1:20: tls for leafs needs a certificate: set cert_file and key_file".into()),
            ("tls {first: true, cert_file: a}, port: 1", "c:1:11: missing 'key_file' in TLS configuration".into()),
            ("port: 1, remotes: [{url: \"nats://h\"}], write_deadline: \"1s\"", "c:1:50: invalid use of field \"write_deadline\": ignored for remotes, they have the server's".into()),
        ]
        .map(|(text, wanted)| (format!("leafnodes {{{text}, PORT: 1}}"), wanted))
        .into();
        for (text, wanted) in rows {
            assert_eq!(lines(&text), [wanted], "{text}");
        }
        assert_eq!(
            lines("leafnodes {advertise: h}"),
            [
                "c:1:11: invalid use of field \"advertise\": ignored, nobody is accepted: set port or listen"
            ]
        );
    }

    /// As 2.15.1 prints it, but for what it takes and should not.
    #[test]
    fn texts_of_authorization() {
        let conversion = |got: &str, want: &str| {
            format!("interface conversion: interface {{}} is {got}, not {want}")
        };
        let key_and = |text: &str| format!("nkey: {NKEY}, {text}");
        let rows = [
            ("user: a, users: [{user: a}]".into(), "c:1:20: can not have a single user/pass and a users array".into()),
            (key_and("users: [{user: a}]"), "c:1:20: can not have a single nkey and a users array".into()),
            (key_and("user: a"), "c:1:20: can not have a single user/pass and a single nkey".into()),
            ("password: a".into(), "c:1:20: leafnode authorization has a password and no user".into()),
            ("nkey: x".into(), "c:1:36: Not a valid public nkey for leafnode authorization".into()),
            ("users: 5".into(), "c:1:36: Expected users field to be an array, got 5".into()),
            ("users: [{user: a}, {username: a}]".into(), "c:1:20: duplicate user \"a\" detected in leafnode authorization".into()),
            ("users: [\n5\n{user: a}]".into(), "c:2:1: Expected user entry to be a map/struct, got 5".into()),
            ("users: [{}]".into(), "c:1:46: User entry requires a user".into()),
            ("users: [{password: x}]".into(), "c:1:45: User entry requires a user".into()),
            ("users: [{user: x, nkey: x}]".into(), "c:1:54: unknown field \"nkey\"".into()),
            ("users: [{user: x, permissions: {}}]".into(), "c:1:54: unknown field \"permissions\"".into()),
            ("users: [{user: x, account: 5}]".into(), format!("c:1:54: {}", conversion("int64", "string"))),
            ("account: 5".into(), format!("c:1:36: {}", conversion("int64", "string"))),
            ("token: a".into(), "c:1:36: unknown field \"token\"".into()),
            ("permissions: {}".into(), "c:1:36: unknown field \"permissions\"".into()),
            ("auth_callout: {}".into(), "c:1:36: unknown field \"auth_callout\"".into()),
            ("timeout: x".into(), "c:1:36: error parsing leafnode authorization config, 'timeout' time: invalid duration \"x\"".into()),
            ("timeout: true".into(), "c:1:36: error parsing leafnode authorization config, 'timeout' wrong type".into()),
            ("timeout: \"-5s\"".into(), "c:1:36: error parsing leafnode authorization config, 'timeout' is out of the range".into()),
            ("timeout: 90".into(), "c:1:36: invalid use of field \"timeout\": timeout of 90 (90.000000 seconds) is high, consider keeping it under 60 seconds. possibly caused by unquoted duration; use '1m' instead of 1m, for example".to_string()),
        ];
        for (text, wanted) in rows {
            let text = format!("leafnodes {{port: 1, authorization: {{{text}}}}}");
            assert_eq!(lines(&text), [wanted], "{text}");
        }
    }

    #[test]
    fn a_port_makes_a_listener() {
        for (text, wanted) in [
            ("", None),
            ("host: a", None),
            ("remotes: [{url: \"nats://h\"}]", None),
            ("port: 0", None),
            ("listen: \"a:0\"", None),
            ("listen: \"a:1\", port: 0", None),
            ("port: 7422", Some(("0.0.0.0", 7422))),
            ("port: -1", Some(("0.0.0.0", 0))),
            ("listen: 7", Some(("0.0.0.0", 7))),
            ("listen: \":7\"", Some(("0.0.0.0", 7))),
            ("listen: \"[::1]:-1\"", Some(("::1", 0))),
            ("NET: a, Port: 5", Some(("a", 5))),
            ("host: a, listen: \"b:5\"", Some(("b", 5))),
            ("listen: \"b:5\", host: a, port: 6", Some(("a", 6))),
            (
                "port: 1, remotes: [{url: \"nats://h\"}]",
                Some(("0.0.0.0", 1)),
            ),
        ] {
            let text = format!("host: c; leafnodes {{{text}}}");
            let read = config(&text).leafnodes;
            let read = read.as_ref().map(|leafs| (leafs.host.as_str(), leafs.port));
            assert_eq!(read, wanted, "{text}");
        }
        let block = config("\n leaf {listen: 1}").leafnodes.unwrap();
        assert_eq!(block.at, "c:2:2");
    }

    #[test]
    fn options() {
        let none = listener("");
        assert_eq!((&none.advertise, none.no_advertise), (&None, false));
        assert_eq!((&none.tls, none.min_version), (&None, None));
        assert_eq!((none.isolate, none.write_deadline), (false, None));
        assert_eq!(none.compression, Compression::default());
        assert_eq!(none.auth.account, None);
        assert!(matches!(none.auth.users, LeafUsers::Clients));
        assert_eq!(none.max_handshakes, NonZeroU32::new(1500));
        let tls = "tls {cert_file: c, key_file: k}";
        assert_eq!(listener(tls).max_handshakes, NonZeroU32::new(250));
        for (rate, wanted) in [("7", 7), ("0", 0), ("-1", 0), ("5g", u32::MAX)] {
            let read = listener(&format!("Max_Handshakes_Per_Second: {rate}, {tls}"));
            assert_eq!(read.max_handshakes, NonZeroU32::new(wanted), "{rate}");
        }
        let all = listener(
            "No_Advertise: yes, Minimum_Version: \"2.10.0\", Isolate: true, compression: best,
             write_deadline: \"3s\", write_timeout: retry, advertise: h",
        );
        assert_eq!(all.min_version, Some(Version([2, 10, 0])));
        assert_eq!(all.write_deadline, Some(Duration::from_secs(3)));
        assert_eq!(all.compression, Compression::Best);
        assert!(all.no_advertise && all.isolate);
        assert!(listener("isolate_leafnode_interest: true").isolate);
        for (text, host, port) in [
            ("h", "h", None),
            ("h:5", "h", Some(5)),
            ("h:0", "h", None),
            ("h:-1", "h", None),
            ("[::1]", "::1", None),
            ("[::1]:5", "::1", Some(5)),
        ] {
            let host = host.to_string();
            let read = listener(&format!("leafnode_advertise: \"{text}\""));
            assert_eq!(read.advertise, Some(Advertised { host, port }), "{text}");
        }
        assert_eq!(listener("advertise: \"\"").advertise, None);
        for text in [
            ":5", "::1", "a:b:5", "h:99999", "h:-2", "a b", "[::1", "[]", "h:",
        ] {
            let text = format!("leafnodes {{port: 1, advertise: \"{text}\"}}");
            assert!(load_text(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn tls_is_that_of_a_listener() {
        let pin = "a".repeat(64);
        let tls = listener(&format!(
            "tls {{ cert_file: c, key_file: k, ca_file: a, verify_and_map: true, first: auto,
               connection_rate_limit: 5, pinned_certs: [{pin}] }}"
        ));
        let tls = tls.tls.unwrap();
        assert!(tls.verify && tls.map);
        assert_eq!(tls.rate_limit, Some(5));
        assert_eq!(tls.timeout, Duration::from_secs(2));
        let auto = HandshakeFirst::After(Duration::from_millis(50));
        assert_eq!(tls.handshake_first, auto);
        assert_eq!(tls.pinned_certs, [[0xaa; 32]]);
        let unseen = format!(
            "leafnodes {{port: 1, tls {{cert_file: c, key_file: k, pinned_certs: [{pin}]}}}}"
        );
        assert!(lines(&unseen)[0].contains("need verify: true"));
    }

    #[test]
    fn the_time_to_authenticate() {
        let tls = "tls {cert_file: c, key_file: k, timeout: 5}";
        for (text, seconds) in [
            ("", 2),
            (tls, 6),
            ("authorization {timeout: 0}", 2),
            ("authorization {timeout: \"7s\"}", 7),
            (&format!("authorization {{timeout: 7}}, {tls}"), 7),
        ] {
            let wanted = Duration::from_secs(seconds);
            assert_eq!(listener(text).auth_timeout, wanted, "{text}");
        }
        // That of clients is another's.
        let both = config("leafnodes {port: 1}; authorization {timeout: 9}");
        assert_eq!(both.leafnodes.unwrap().auth_timeout, Duration::from_secs(2));
    }

    #[test]
    fn who_may_connect() {
        let auth = |text: &str| listener(&format!("authorization {{{text}}}")).auth;
        let one = auth("Username: u, PASS: p, account: A");
        assert_eq!(one.account.as_deref(), Some("A"));
        assert!(
            matches!(one.users, LeafUsers::One { user, password } if user == "u" && password == "p")
        );
        let alone = auth("user: u").users;
        assert!(matches!(alone, LeafUsers::One { password, .. } if password.is_empty()));
        let key = auth(&format!("nkey: {NKEY}")).users;
        assert!(matches!(key, LeafUsers::Nkey(key) if key == NKEY));
        let LeafUsers::Listed(list) = auth(
            "users: [{user: u, password: p, account: A}
                     {username: v, pass: \"$2a$04$x\", proxy_required: false}]",
        )
        .users
        else {
            unreachable!()
        };
        let list: Vec<_> = list
            .iter()
            .map(|user| (&*user.user, &*user.password, user.account.as_deref()))
            .collect();
        assert_eq!(list, [("u", "p", Some("A")), ("v", "$2a$04$x", None)]);
        // An empty list is none.
        let nobody = auth("users: [], user: \"\", account: A");
        assert_eq!(nobody.account.as_deref(), Some("A"));
        assert!(matches!(nobody.users, LeafUsers::Clients));
    }

    /// Where clients are asked who they are, leafs are too.
    #[test]
    fn a_lone_account_is_no_key() {
        let text = "leafnodes {port: 1, authorization {account: A}}; ";
        for (more, is_ignored) in [
            ("accounts [A]", false),
            ("accounts {A {users: []}}", false),
            ("accounts {A {users: [{user: a}]}}", true),
            ("accounts [A]; authorization {token: t}", true),
            ("accounts [A]; authorization {user: t}", true),
            ("accounts [A]; authorization {users: [{user: t}]}", true),
        ] {
            let printed = lines(&format!("{text}{more}"));
            let ignored = "c:1:35: invalid use of field \"account\": ignored, leafs are users of this server and are bound to the user's account";
            let wanted = if is_ignored { vec![ignored] } else { vec![] };
            assert_eq!(printed, wanted, "{more}");
        }
    }

    proptest! {
        /// Values of every type for every option; a start checks what is loaded.
        #[test]
        fn arbitrary_listeners_never_panic(
            parts in proptest::collection::vec((
                "(port|listen|host|advertise|no_advertise|authorization|tls|min_version|write_deadline|write_timeout|remotes)",
                prop_oneof![
                    "-?[0-9]{1,20}",
                    "(true|off|[0-9]\\.[0-9]|\\[\\]|\\{\\})",
                    "\"[-a-z0-9.:\\[\\]%]{0,12}\"",
                    "\"-?[0-9]{1,19}(ns|ms|s|h)?\"",
                    "\\{((user|password|nkey|account|timeout|users|first): ?(\"[-0-9a-zA-U:@]{0,9}\"|-?[0-9]{1,20}|\\[(\\{(user|pass|account): ?[a-c]\\} ?,? ?){0,3}\\]|\\{\\}) ?; ?){0,3}\\}",
                ],
            ), 0..6),
        ) {
            let mut text = String::from("leafnodes {\n");
            for (key, value) in &parts {
                text.push_str(&format!("{key}: {value}\n"));
            }
            text.push('}');
            if let Ok(loaded) = load_text(&text)
                && crate::config::check(&loaded.config).is_ok()
            {
                let _ = crate::auth::users::Users::compile_for_leafs(&loaded.config);
                let limit = loaded.config.leafnodes.map(|leafs| leafs.auth_timeout);
                prop_assert_ne!(limit, Some(Duration::ZERO));
            }
        }

        #[test]
        fn an_address_is_read_as_it_is_written(host in "[a-z][-a-z.0-9]{0,12}", port in 1..=u16::MAX) {
            let read = listener(&format!("advertise: \"{host}:{port}\"")).advertise;
            prop_assert_eq!(read, Some(Advertised { host, port: Some(port) }));
        }
    }
}
