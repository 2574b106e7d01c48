//! Operator mode: whom to trust, and where the JWTs of accounts come from. No file is opened here.
//!
//! | key (aliases) | value | default |
//! |---|---|---|
//! | operator (operators, root, roots, root_operator, root_operators) | path or JWT, or an array of them | none |
//! | trusted_keys (trusted) | public operator nkey, or an array of them | none |
//! | resolver (account_resolver, accounts_resolver) | `MEMORY`, `URL(...)` or a block, see below | the operator's |
//! | resolver_preload | block of public account nkeys and JWTs | none |
//! | resolver_tls | see `tls`, for a URL resolver | none |
//! | resolver_pinned_accounts | public account nkey, or an array of them | any account |
//! | default_sentinel | JWT of a bearer user | none |
//!
//! The block of a resolver:
//!
//! | key | value | default |
//! |---|---|---|
//! | type | `full`, `cache` or `mem` | |
//! | dir | path, not for `mem` | |
//! | limit | number; 0 is the default | full no limit, cache 1000 |
//! | interval | duration as text, for `full` only | 1 minute |
//! | timeout | duration as text | 1.9 s |
//! | allow_delete | bool, for `full` only | false |
//! | hard_delete | bool, with `allow_delete` | false |
//! | ttl | duration as text, for `cache` only | no end |

use std::num::NonZeroUsize;
use std::time::Duration;

use super::reader::Sink;
use super::tls::{self, Peer};
use super::url::{Authority, redact};
use crate::auth::public_key::{AccountKey, is_operator_key};
use crate::config::model::{
    CacheResolver, DeleteRequests, FullResolver, JwtSource, OperatorJwt, OperatorMode, PlacedJwt,
    PreloadedAccount, Resolver, ResolverUrl, Secret,
};
use crate::config::units::quote;
use crate::config::value::{Entry, Map, Position, Value};

/// nats-server's, below the time that a client has to log in.
const LOOK_UP: Duration = Duration::from_millis(1900);
/// Between two comparisons with other full resolvers.
const INTERVAL: Duration = Duration::from_secs(60);
/// The accounts of a cache.
const CACHED: NonZeroUsize = NonZeroUsize::new(1000).unwrap();

/// What every JWT begins with, `{"` in base64.
const JWT: &str = "eyJ";

const KINDS: &str = "error parsing account resolver, should be MEM or URL(\"url\") or a map containing dir and type state=[FULL|CACHE]";

/// Reads an option of operator mode. `false` if it is none.
pub(super) fn option(
    name: &str,
    entry: &Entry,
    operator: &mut OperatorMode,
    sink: &mut Sink,
) -> bool {
    match name {
        "operator" | "operators" | "root" | "roots" | "root_operator" | "root_operators" => {
            let jwts = texts(entry, "operators", sink);
            let read = jwts
                .into_iter()
                .filter_map(|(at, text)| jwt(at, text, sink));
            // Every spelling adds: nobody is trusted less because of another.
            operator.operators.extend(read);
        }
        "trusted_keys" | "trusted" => {
            for (at, key) in texts(entry, name, sink) {
                if is_operator_key(&key) {
                    operator.trusted_keys.push(key);
                } else {
                    let key = quote(&key);
                    let text =
                        format!("trust key {key} required to be a valid public operator nkey");
                    sink.error(at, text);
                }
            }
        }
        "resolver" | "account_resolver" | "accounts_resolver" => {
            operator.resolver = resolver(entry, sink);
        }
        "resolver_preload" => operator.preload = preload(entry, sink),
        "resolver_tls" => {
            operator.resolver_tls = tls::tls(entry, Peer::Hub, sink);
            if let Value::Map(map) = &entry.node.value {
                tls_comes_first(map, sink);
            }
        }
        "resolver_pinned_accounts" => {
            for (at, key) in texts(entry, name, sink) {
                match AccountKey::parse(&key) {
                    Some(key) => operator.pinned_accounts.push(key),
                    None => {
                        let key = quote(&key);
                        let text =
                            format!("pinned account key {key} is not a valid public account nkey");
                        sink.error(at, text);
                    }
                }
            }
        }
        "default_sentinel" => {
            let at = &entry.node.position;
            let text = sink.string(&entry.node).filter(|text| !text.is_empty());
            operator.default_sentinel = text.and_then(|text| {
                if !is_jwt(&text) {
                    sink.error(at, "default sentinel JWT not valid");
                    return None;
                }
                Some(placed(at, text))
            });
        }
        _ => return false,
    }
    true
}

/// Says what changes nothing.
pub(super) fn finish(map: &Map, operator: &OperatorMode, sink: &mut Sink) {
    let dials = matches!(&operator.resolver, None | Some(Resolver::Url(_)));
    for entry in map.iter() {
        if entry.key.eq_ignore_ascii_case("resolver_tls") && !dials {
            let reason = "ignored, only a URL resolver dials";
            sink.warn(&entry.node.position, &entry.key, reason);
        }
    }
}

/// A text, or an array of texts; `what` is in the error.
fn texts<'e>(entry: &'e Entry, what: &str, sink: &mut Sink) -> Vec<(&'e Position, String)> {
    let nodes = match &entry.node.value {
        Value::Array(list) => list.as_slice(),
        _ => std::slice::from_ref(&entry.node),
    };
    let mut read = Vec::with_capacity(nodes.len());
    for node in nodes {
        match &node.value {
            Value::String(text) => read.push((&node.position, text.clone())),
            other => {
                let got = other.type_name();
                let text = format!("error parsing {what}: unsupported type {got}");
                sink.error(&node.position, text);
            }
        }
    }
    read
}

fn jwt(at: &Position, text: String, sink: &mut Sink) -> Option<OperatorJwt> {
    let source = if text.starts_with(JWT) {
        if !is_jwt(&text) {
            sink.error(at, "error parsing operator JWT: expected 3 chunks");
            return None;
        }
        JwtSource::Text(text)
    } else if text.is_empty() {
        let text = "error parsing operator JWT: neither a JWT nor the path of its file";
        sink.error(at, text);
        return None;
    } else {
        JwtSource::File(text)
    };
    let at = at.to_string();
    Some(OperatorJwt { source, at })
}

/// Whether a text has the form of a JWT.
fn is_jwt(text: &str) -> bool {
    let mut chunks = text.split('.');
    let three = chunks.by_ref().take(3).filter(|chunk| !chunk.is_empty());
    text.starts_with(JWT) && three.count() == 3 && chunks.next().is_none()
}

fn placed(at: &Position, text: String) -> PlacedJwt {
    let at = at.to_string();
    PlacedJwt { text, at }
}

fn preload(entry: &Entry, sink: &mut Sink) -> Vec<PreloadedAccount> {
    let Value::Map(map) = &entry.node.value else {
        let text = "preload should be a map of account_public_key:account_jwt";
        sink.error(&entry.node.position, text);
        return Vec::new();
    };
    let mut accounts = Vec::new();
    for entry in map.iter() {
        let at = &entry.node.position;
        let Some(account) = AccountKey::parse(&entry.key) else {
            if !entry.used {
                let key = quote(&entry.key);
                let text = format!("preload key {key} is not a valid public account nkey");
                sink.error(at, text);
            }
            continue;
        };
        match &entry.node.value {
            Value::String(text) if is_jwt(text) => accounts.push(PreloadedAccount {
                account,
                jwt: placed(at, text.clone()),
            }),
            Value::String(_) => sink.error(at, "invalid account JWT"),
            _ => sink.error(at, "preload map value should be a string JWT"),
        }
    }
    accounts
}

/// HTTPS knows no other way.
fn tls_comes_first(map: &Map, sink: &mut Sink) {
    for entry in map.iter() {
        let name = entry.key.to_lowercase();
        if matches!(name.as_str(), "handshake_first" | "first" | "immediate") {
            let reason = "ignored, HTTPS begins with TLS";
            sink.warn(&entry.node.position, &entry.key, reason);
        }
    }
}

fn resolver(entry: &Entry, sink: &mut Sink) -> Option<Resolver> {
    let at = &entry.node.position;
    match &entry.node.value {
        Value::String(text) => {
            let name = text.trim().to_ascii_lowercase();
            if matches!(name.as_str(), "mem" | "memory") {
                return Some(Resolver::Memory);
            }
            let Some(url) = in_url(text.trim()) else {
                sink.error(at, KINDS);
                return None;
            };
            let read = resolver_url(url, at);
            if read.is_none() {
                let shown = quote(&redact(url));
                let text = format!(
                    "error parsing account resolver url [{shown}], should be http:// or https:// with a host and no query"
                );
                sink.error(at, text);
            }
            read.map(Resolver::Url)
        }
        Value::Map(map) => Block::read(map, sink).finish(at, sink),
        other => {
            let got = other.type_name();
            let text = format!("error parsing operator resolver, wrong type {got}");
            sink.error(at, text);
            None
        }
    }
}

/// What stands in `URL(...)`, with quotes or without.
fn in_url(text: &str) -> Option<&str> {
    let (name, rest) = text.split_at_checked(4)?;
    if !name.eq_ignore_ascii_case("url(") {
        return None;
    }
    let inner = rest.strip_suffix(')')?.trim();
    let unquoted = inner
        .strip_prefix('"')
        .and_then(|inner| inner.strip_suffix('"'));
    Some(unquoted.unwrap_or(inner).trim())
}

fn resolver_url(text: &str, at: &Position) -> Option<ResolverUrl> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains(['?', '#']) {
        return None;
    }
    let (scheme, rest) = text.split_once("://")?;
    let secure = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if path.contains('@') {
        return None;
    }
    let authority = Authority::parse(authority)?;
    let mut path = path.to_owned();
    if !path.ends_with('/') {
        path.push('/');
    }
    let password = authority.password.unwrap_or_default();
    Some(ResolverUrl {
        secure,
        host: authority.host,
        port: authority.port.unwrap_or(if secure { 443 } else { 80 }),
        path,
        credentials: authority.user.map(|user| (user, Secret::new(password))),
        at: at.to_string(),
    })
}

/// The block of a resolver that is being read. Which options it may have depends on its type, which
/// may be the last of them.
#[derive(Default)]
struct Block<'v> {
    kind: Option<String>,
    dir: Option<String>,
    limit: Option<NonZeroUsize>,
    interval: Option<(&'v Entry, Duration)>,
    timeout: Option<Duration>,
    ttl: Option<(&'v Entry, Duration)>,
    allow_delete: Option<&'v Entry>,
    hard_delete: Option<&'v Entry>,
    /// All but `type`.
    options: Vec<&'v Entry>,
    /// Whether a value was refused; then nothing is said that may follow from it.
    is_spoilt: bool,
}

impl<'v> Block<'v> {
    fn read(map: &'v Map, sink: &mut Sink) -> Self {
        let mut block = Block::default();
        let before = sink.errors.len();
        for entry in map.iter() {
            let node = &entry.node;
            let positive = |value: Option<Duration>| value.filter(|value| !value.is_zero());
            let name = entry.key.to_lowercase();
            match name.as_str() {
                "type" => block.kind = sink.string(node),
                "dir" => block.dir = sink.string(node).filter(|dir| !dir.is_empty()),
                "limit" => {
                    let limit = sink.count(entry).and_then(|n| usize::try_from(n).ok());
                    block.limit = limit.and_then(NonZeroUsize::new);
                }
                "interval" => {
                    let interval = positive(sink.strict_duration(entry));
                    block.interval = interval.map(|interval| (entry, interval));
                }
                "timeout" => {
                    let timeout = sink.strict_duration(entry);
                    if timeout.is_some_and(|timeout| timeout.is_zero()) {
                        sink.error(&node.position, "Fetch timeout 0s is too small");
                    }
                    block.timeout = timeout;
                }
                "ttl" => {
                    let ttl = positive(sink.strict_duration(entry));
                    block.ttl = ttl.map(|ttl| (entry, ttl));
                }
                "allow_delete" => block.allow_delete = set(entry, sink),
                "hard_delete" => block.hard_delete = set(entry, sink),
                _ => {
                    sink.unknown(entry);
                    continue;
                }
            }
            if name != "type" {
                block.options.push(entry);
            }
        }
        block.is_spoilt = sink.errors.len() > before;
        block
    }

    fn finish(self, at: &Position, sink: &mut Sink) -> Option<Resolver> {
        if self.is_spoilt {
            return None;
        }
        let refuse = |option: Option<&Entry>, text: &str, sink: &mut Sink| {
            if let Some(entry) = option {
                sink.error(&entry.node.position, text);
            }
        };
        let interval_at = self.interval.map(|(entry, _)| entry);
        let ttl_at = self.ttl.map(|(entry, _)| entry);
        let kind = self.kind.as_deref().map(str::to_ascii_lowercase);
        match kind.as_deref() {
            Some("mem" | "memory") => {
                for entry in self.options {
                    let reason = "ignored, a resolver of type MEM has no options";
                    sink.warn(&entry.node.position, &entry.key, reason);
                }
                Some(Resolver::Memory)
            }
            Some("full") => {
                refuse(ttl_at, "FULL does not accept ttl", sink);
                let deletion = match (self.allow_delete, self.hard_delete) {
                    (None, None) => DeleteRequests::Refused,
                    (Some(_), None) => DeleteRequests::Rename,
                    (Some(_), Some(_)) => DeleteRequests::Remove,
                    (None, hard) => {
                        refuse(hard, "hard_delete has no effect without delete", sink);
                        DeleteRequests::Refused
                    }
                };
                Some(Resolver::Full(FullResolver {
                    dir: dir(self.dir, at, sink)?,
                    limit: self.limit,
                    deletion,
                    interval: self.interval.map_or(INTERVAL, |(_, interval)| interval),
                    timeout: self.timeout.unwrap_or(LOOK_UP),
                    at: at.to_string(),
                }))
            }
            Some("cache") => {
                refuse(interval_at, "CACHE does not accept sync", sink);
                refuse(
                    self.allow_delete,
                    "CACHE does not accept allow_delete",
                    sink,
                );
                refuse(self.hard_delete, "CACHE does not accept hard_delete", sink);
                Some(Resolver::Cache(CacheResolver {
                    dir: dir(self.dir, at, sink)?,
                    limit: self.limit.unwrap_or(CACHED),
                    ttl: self.ttl.map(|(_, ttl)| ttl),
                    timeout: self.timeout.unwrap_or(LOOK_UP),
                    at: at.to_string(),
                }))
            }
            _ => {
                sink.error(at, KINDS);
                None
            }
        }
    }
}

/// The option, if it is true.
fn set<'v>(entry: &'v Entry, sink: &mut Sink) -> Option<&'v Entry> {
    let on = sink.boolean(&entry.node);
    (on == Some(true)).then_some(entry)
}

fn dir(dir: Option<String>, at: &Position, sink: &mut Sink) -> Option<String> {
    if dir.is_none() {
        let text = "dir has no value and needs to point to a directory";
        sink.error(at, text);
    }
    dir
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::check;
    use crate::config::model::HandshakeFirst;
    use crate::config::testing::{config, lines};
    use proptest::prelude::*;

    const OPERATOR: &str = "OB3HJVBRVW5SBRTJOCCVQQGMWZ3NLKXDJSBHN757VF7HOWAEDYSQIPVZ";
    const OTHER: &str = "ODNRIUEQIIKI7MFCKEBIVIIOVGO5RBYX7RWP6ELN222FFNODS6BDRMCG";
    const ACCOUNT: &str = "ADVODSDZHNKZPRFT6SIOO2WDCFZMIOLJB6HOCQKCXOCRUYPZUSPQ5PE6";
    const SYSTEM: &str = "ACQKVGHLAYL4XVO472Y6PLOL7SKNH7W5PK4DZH76KWI5BIJ2NFWFRAKC";
    const TOKEN: &str = "eyJ0eXAi.eyJqdGki.c2ln";

    fn operator(text: &str) -> OperatorMode {
        config(text).operator
    }

    fn of_resolver(text: &str) -> Resolver {
        operator(&format!("resolver: {text}")).resolver.unwrap()
    }

    #[test]
    fn operators_and_keys() {
        for name in [
            "operator",
            "OPERATORS",
            "root",
            "roots",
            "root_operator",
            "Root_Operators",
        ] {
            let read = operator(&format!("\n{name}: /etc/op.jwt"));
            assert_eq!(
                read.operators,
                [OperatorJwt {
                    source: JwtSource::File("/etc/op.jwt".into()),
                    at: "c:2:1".into(),
                }]
            );
            assert!(read.is_on());
        }
        let read = operator(&format!("operator: [a.jwt\n{TOKEN}]; roots: b"));
        let sources: Vec<_> = read.operators.iter().map(|jwt| &jwt.source).collect();
        let file = |path: &str| JwtSource::File(path.into());
        assert_eq!(
            sources,
            [&file("a.jwt"), &JwtSource::Text(TOKEN.into()), &file("b")]
        );
        assert_eq!(read.operators[1].at, "c:2:1");
        for name in ["trusted", "Trusted_keys"] {
            let read = operator(&format!("{name}: [{OPERATOR}, {OTHER}]"));
            assert_eq!(read.trusted_keys, [OPERATOR, OTHER]);
            assert!(read.is_on() && config(&format!("{name}: {OTHER}")).auth_required());
        }
        let none = operator(
            "operator: []; trusted: []; resolver_pinned_accounts: []; resolver_preload {}; default_sentinel: ''",
        );
        assert_eq!(none, OperatorMode::default());
        assert!(!none.is_on());
    }

    #[test]
    fn resolvers() {
        for text in ["MEMORY", "mem", "\"Mem \"", "{type: mem}", "{type: Memory}"] {
            assert_eq!(of_resolver(text), Resolver::Memory, "{text}");
        }
        for name in ["account_resolver", "accounts_resolver"] {
            assert!(operator(&format!("{name}: MEM")).resolver.is_some());
        }
        for (text, wanted) in [
            ("URL(http://h)", "http://h:80/"),
            (
                "URL(\"https://h/jwt/v1/accounts/\")",
                "https://h:443/jwt/v1/accounts/",
            ),
            ("\"url( http://[::1]:9090/x )\"", "http://[::1]:9090/x/"),
            ("\"URL(HTTP://u:p%40@h:1/x)\"", "http://h:1/x/"),
        ] {
            let Resolver::Url(url) = of_resolver(text) else {
                panic!("{text}")
            };
            assert_eq!(
                (url.to_string().as_str(), url.at.as_str()),
                (wanted, "c:1:0")
            );
            let credentials = url
                .credentials
                .map(|(user, password)| (user, password.reveal().to_owned()));
            let expected = text
                .contains("u:p")
                .then(|| ("u".to_owned(), "p@".to_owned()));
            assert_eq!(credentials, expected, "{text}");
        }
        assert_eq!(
            of_resolver("{type: full, dir: d}"),
            Resolver::Full(FullResolver {
                dir: "d".into(),
                limit: None,
                deletion: DeleteRequests::Refused,
                interval: Duration::from_secs(60),
                timeout: Duration::from_millis(1900),
                at: "c:1:0".into(),
            })
        );
        assert_eq!(
            of_resolver(
                "{ttl: \"0s\", hard_delete: true, allow_delete: true, limit: 7, interval: \"5m\", timeout: \"3s\", DIR: \"./d\", Type: FULL}"
            ),
            Resolver::Full(FullResolver {
                dir: "./d".into(),
                limit: NonZeroUsize::new(7),
                deletion: DeleteRequests::Remove,
                interval: Duration::from_secs(300),
                timeout: Duration::from_secs(3),
                at: "c:1:0".into(),
            })
        );
        for (text, wanted) in [
            ("allow_delete: true", DeleteRequests::Rename),
            (
                "allow_delete: true, hard_delete: false",
                DeleteRequests::Rename,
            ),
            (
                "allow_delete: false, limit: 0, interval: \"0s\"",
                DeleteRequests::Refused,
            ),
        ] {
            let read = of_resolver(&format!("{{type: full, dir: d, {text}}}"));
            let Resolver::Full(read) = read else {
                panic!("{text}")
            };
            assert_eq!((read.deletion, read.limit), (wanted, None), "{text}");
            assert_eq!(read.interval, Duration::from_secs(60));
        }
        let cache = |limit: usize, ttl: Option<u64>| {
            Resolver::Cache(CacheResolver {
                dir: "d".into(),
                limit: NonZeroUsize::new(limit).unwrap(),
                ttl: ttl.map(Duration::from_secs),
                timeout: Duration::from_millis(1900),
                at: "c:1:0".into(),
            })
        };
        for (text, wanted) in [
            ("limit: 0, ttl: \"0s\", interval: \"0s\"", cache(1000, None)),
            (
                "limit: 3, ttl: \"1h\", hard_delete: no",
                cache(3, Some(3600)),
            ),
        ] {
            let read = of_resolver(&format!("{{type: Cache, dir: d, {text}}}"));
            assert_eq!(read, wanted, "{text}");
        }
    }

    #[test]
    fn what_belongs_to_resolvers() {
        let read = operator(&format!(
            "resolver_preload {{\n{ACCOUNT}: {TOKEN}\n{SYSTEM}: \"{TOKEN}\"\n}}\nresolver_pinned_accounts: [{ACCOUNT}]\ndefault_sentinel: {TOKEN}\nresolver_tls {{insecure: true}}"
        ));
        let accounts: Vec<_> = read
            .preload
            .iter()
            .map(|entry| (entry.account.to_string(), entry.jwt.at.as_str()))
            .collect();
        assert_eq!(
            accounts,
            [(ACCOUNT.to_owned(), "c:2:1"), (SYSTEM.to_owned(), "c:3:1")]
        );
        assert_eq!(read.preload[1].jwt.text, TOKEN);
        assert_eq!(read.pinned_accounts, [AccountKey::parse(ACCOUNT).unwrap()]);
        let sentinel = read.default_sentinel.unwrap();
        assert_eq!(
            (sentinel.text.as_str(), sentinel.at.as_str()),
            (TOKEN, "c:6:1")
        );
        let tls = read.resolver_tls.unwrap();
        assert!(tls.insecure && tls.handshake_first == HandshakeFirst::No);
        let read = operator(&format!("resolver_pinned_accounts: {ACCOUNT}"));
        assert_eq!(read.pinned_accounts.len(), 1);
    }

    /// As 2.15.1 prints it, but for places, which are the option's, and for what it accepts and does
    /// not obey.
    #[test]
    fn texts() {
        let conversion = |got: &str, want: &str| {
            format!("interface conversion: interface {{}} is {got}, not {want}")
        };
        let url = |shown: &str| {
            format!(
                "c:1:0: error parsing account resolver url [\"{shown}\"], should be http:// or https:// with a host and no query"
            )
        };
        let kinds = format!("c:1:0: {KINDS}");
        let rows: Vec<(String, String)> = vec![
            ("operator: 5".into(), "c:1:0: error parsing operators: unsupported type int64".into()),
            ("operator: {}".into(), "c:1:0: error parsing operators: unsupported type map[string]interface {}".into()),
            ("operator: [[a]]".into(), "c:1:14: error parsing operators: unsupported type []interface {}".into()),
            ("operator: ''".into(), "c:1:0: error parsing operator JWT: neither a JWT nor the path of its file".into()),
            ("operator: eyJx".into(), "c:1:0: error parsing operator JWT: expected 3 chunks".into()),
            ("operator: eyJx..y".into(), "c:1:0: error parsing operator JWT: expected 3 chunks".into()),
            ("operator: eyJx.y.z.a".into(), "c:1:0: error parsing operator JWT: expected 3 chunks".into()),
            ("trusted: 5".into(), "c:1:0: error parsing trusted: unsupported type int64".into()),
            (format!("trusted: {ACCOUNT}"), format!("c:1:0: trust key \"{ACCOUNT}\" required to be a valid public operator nkey")),
            (format!("trusted: [{OTHER}\nx]"), "c:2:1: trust key \"x\" required to be a valid public operator nkey".into()),
            ("resolver: x".into(), kinds.clone()),
            ("resolver: ''".into(), kinds.clone()),
            ("resolver: {}".into(), kinds.clone()),
            ("resolver: none".into(), kinds.clone()),
            ("resolver: {dir: d}".into(), kinds.clone()),
            ("resolver: {type: x, dir: d}".into(), kinds.clone()),
            ("resolver: URL".into(), kinds.clone()),
            ("resolver: \"\u{e9}\u{e9}\u{e9}\"".into(), kinds),
            ("resolver: 5".into(), "c:1:0: error parsing operator resolver, wrong type int64".into()),
            ("resolver: off".into(), "c:1:0: error parsing operator resolver, wrong type bool".into()),
            ("resolver: \"URL()\"".into(), url("")),
            ("resolver: \"URL(foo)\"".into(), url("foo")),
            ("resolver: \"URL(ftp://x)\"".into(), url("ftp://x")),
            ("resolver: \"URL(http://)\"".into(), url("http://")),
            ("resolver: \"URL(http://u:secret@h:zz)\"".into(), url("http://u:xxxxx@h:zz")),
            ("resolver: {type: full}".into(), "c:1:0: dir has no value and needs to point to a directory".into()),
            ("resolver: {type: cache, dir: ''}".into(), "c:1:0: dir has no value and needs to point to a directory".into()),
            ("resolver: {type: full, dir: 5}".into(), format!("c:1:23: {}", conversion("int64", "string"))),
            ("resolver: {type: 5, dir: d}".into(), format!("c:1:11: {}", conversion("int64", "string"))),
            ("resolver: {type: cache, dir: d, interval: \"1m\"}".into(), "c:1:32: CACHE does not accept sync".into()),
            ("resolver: {type: cache, dir: d, allow_delete: true}".into(), "c:1:32: CACHE does not accept allow_delete".into()),
            ("resolver: {type: cache, dir: d, hard_delete: true}".into(), "c:1:32: CACHE does not accept hard_delete".into()),
            ("resolver: {type: cache, dir: d, ttl: 5}".into(), format!("c:1:32: {}", conversion("int64", "string"))),
            ("resolver: {type: cache, dir: d, ttl: x}".into(), "c:1:32: error parsing ttl: time: invalid duration \"x\"".into()),
            ("resolver: {type: cache, dir: d, ttl: \"-1h\"}".into(), "c:1:32: invalid ttl, needs to be positive".into()),
            ("resolver: {type: cache, dir: d, limit: -5}".into(), "c:1:32: limit value can not be negative".into()),
            ("resolver: {type: cache, dir: d, limit: 5.0}".into(), format!("c:1:32: {}", conversion("float64", "int64"))),
            ("resolver: {type: full, dir: d, ttl: \"1h\"}".into(), "c:1:31: FULL does not accept ttl".into()),
            ("resolver: {type: full, dir: d, hard_delete: true}".into(), "c:1:31: hard_delete has no effect without delete".into()),
            ("resolver: {type: full, dir: d, allow_delete: 'true'}".into(), format!("c:1:31: {}", conversion("string", "bool"))),
            ("resolver: {type: full, dir: d, interval: 5}".into(), format!("c:1:31: {}", conversion("int64", "string"))),
            ("resolver: {type: full, dir: d, timeout: \"0s\"}".into(), "c:1:31: Fetch timeout 0s is too small".into()),
            ("resolver: {type: full, dir: d, foo: x}".into(), "c:1:31: unknown field \"foo\"".into()),
            ("resolver: {type: mem, limit: 5}".into(), "c:1:22: invalid use of field \"limit\": ignored, a resolver of type MEM has no options".into()),
            ("resolver_preload: x".into(), "c:1:0: preload should be a map of account_public_key:account_jwt".into()),
            (format!("resolver_preload: {{{ACCOUNT}: 5}}"), "c:1:19: preload map value should be a string JWT".into()),
            (format!("resolver_preload: {{{ACCOUNT}: x}}"), "c:1:19: invalid account JWT".into()),
            (format!("resolver_preload: {{{OPERATOR}: {TOKEN}}}"), format!("c:1:19: preload key \"{OPERATOR}\" is not a valid public account nkey")),
            ("resolver_tls: 5".into(), format!("c:1:0: {}", conversion("int64", "map[string]interface {}"))),
            ("resolver_tls {foo: 1}".into(), "c:1:14: error parsing tls config, unknown field \"foo\"".into()),
            ("resolver_tls {first: true}".into(), "c:1:14: invalid use of field \"first\": ignored, HTTPS begins with TLS".into()),
            ("resolver: MEM; resolver_tls {insecure: true}".into(), "c:1:15: invalid use of field \"resolver_tls\": ignored, only a URL resolver dials".into()),
            ("resolver_pinned_accounts: 5".into(), "c:1:0: error parsing resolver_pinned_accounts: unsupported type int64".into()),
            (format!("resolver_pinned_accounts: [{OPERATOR}]"), format!("c:1:27: pinned account key \"{OPERATOR}\" is not a valid public account nkey")),
            ("default_sentinel: 5".into(), format!("c:1:0: {}", conversion("int64", "string"))),
            ("default_sentinel: x".into(), "c:1:0: default sentinel JWT not valid".into()),
        ];
        for (text, wanted) in rows {
            assert_eq!(lines(&text), [wanted], "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_options_never_panic(
            name in "(operator|trusted|resolver|resolver_preload|resolver_pinned_accounts|default_sentinel)",
            value in prop_oneof![
                "\\PC{0,20}",
                "\"[uU]RL\\([a-z:/@\\[\\]0-9?# ]{0,20}\\)?\"",
                "\\{((type|dir|limit|ttl|interval|timeout|allow_delete|hard_delete): ?(full|cache|mem|true|-?[0-9]{1,20}|\"-?[0-9]{1,19}(ms|h)?\"),? ?){0,6}\\}",
                "\\[(eyJ[a-z.]{0,9} ?, ?){0,3}\\]",
            ],
            rest in "(; (operator: x|trusted: y|resolver: MEM|system_account: z))?",
        ) {
            let files = crate::config::testing::Files {
                files: &[("c", &format!("{name}: {value}\n{rest}"))],
                env: &[],
            };
            if let Ok(loaded) = crate::config::load("c", &files) {
                let _ = check(&loaded.config);
            }
        }
    }
}
