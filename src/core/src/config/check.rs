//! What only makes sense across options: the validation at the start, which `-t` does not run.
//! One error, without a place.

use super::model::{
    Compression, Config, GLOBAL_ACCOUNT, LeafListener, LeafUsers, Remote, Resolver, SYSTEM_ACCOUNT,
    Url, UserIdentity, Way,
};
use super::origin::Origin;
use super::units::{quote, show_duration};
use crate::auth::public_key::{AccountKey, is_account_key};
use crate::subject::is_valid_pattern;

/// Why a configuration whose options are all in order still cannot be started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckError(String);

impl std::fmt::Display for CheckError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CheckError {}

/// Above this a `max_payload` is worth a warning: [`payload_warning`].
const LARGE_PAYLOAD: usize = 8 << 20;

/// Checks in the order of nats-server.
pub fn check(config: &Config) -> Result<(), CheckError> {
    lame_duck(config)
        .and_then(|()| payload(config))
        .and_then(|()| operator(config))
        .and_then(|()| leafnodes(config))
        .and_then(|()| no_auth_user(config))
        .and_then(|()| system_account(config))
        .and_then(|()| websocket(config))
        .and_then(|()| accounts(config))
        .map_err(CheckError)
}

/// What to log about a `max_payload` that is allowed but large.
pub fn payload_warning(config: &Config) -> Option<&'static str> {
    (config.limits.max_payload > LARGE_PAYLOAD).then_some(
        "Maximum payloads over 8.00 MB are generally discouraged and could lead to poor performance",
    )
}

fn lame_duck(config: &Config) -> Result<(), String> {
    let (grace, duration) = (config.lame_duck_grace_period, config.lame_duck_duration);
    if grace < duration {
        return Ok(());
    }
    Err(format!(
        "lame duck grace period ({}) should be strictly lower than lame duck duration ({})",
        show_duration(grace),
        show_duration(duration)
    ))
}

fn payload(config: &Config) -> Result<(), String> {
    let (payload, pending) = (config.limits.max_payload, config.limits.max_pending);
    if payload <= pending {
        return Ok(());
    }
    Err(format!(
        "max_payload ({payload}) cannot be higher than max_pending ({pending})"
    ))
}

/// What can be said of operator mode without decoding a JWT. What an operator's JWT says where the
/// file does not is for whoever decodes it.
fn operator(config: &Config) -> Result<(), String> {
    let operator = &config.operator;
    if operator.operators.is_empty() && operator.default_sentinel.is_some() {
        return Err("default sentinel requires operators and accounts".into());
    }
    if !operator.is_on() {
        // nats-server takes these and looks nobody up.
        for (is_set, option) in [
            (operator.resolver.is_some(), "resolver"),
            (!operator.preload.is_empty(), "resolver_preload"),
            (operator.resolver_tls.is_some(), "resolver_tls"),
            (
                !operator.pinned_accounts.is_empty(),
                "resolver_pinned_accounts",
            ),
        ] {
            if is_set {
                return Err(format!(
                    "{option} requires operators: set operator or trusted_keys, or remove {option}"
                ));
            }
        }
        return Ok(());
    }
    // One operator may name a resolver in its JWT.
    if operator.resolver.is_none() && operator.operators.len() != 1 {
        return Err("operators require an account resolver to be configured".into());
    }
    if !config.accounts.is_empty() || !config.mappings.is_empty() {
        return Err("operators do not allow Accounts to be configured directly".into());
    }
    // nats-server minds lists of users alone, and ignores the others.
    let websocket = config.websocket.iter().map(|listener| &listener.auth);
    let has_users = std::iter::once(&config.auth)
        .chain(websocket)
        .any(|auth| auth.user.is_some() || auth.token.is_some() || !auth.users.is_empty());
    if has_users {
        return Err("operators do not allow users to be configured directly".into());
    }
    if !operator.operators.is_empty() && !operator.trusted_keys.is_empty() {
        return Err("conflicting options for 'TrustedKeys' and 'TrustedOperators'".into());
    }
    match &operator.resolver {
        Some(Resolver::Url(_)) if !operator.preload.is_empty() => Err(
            "resolver preloads only available for writeable resolver types MEM/DIR/CACHE_DIR"
                .into(),
        ),
        Some(Resolver::Full(_) | Resolver::Cache(_)) if operator.operators.is_empty() => Err(
            "using nats based account resolver - trusted_keys are not enough, set operator".into(),
        ),
        // Of several operators none says which it is.
        Some(Resolver::Full(_) | Resolver::Cache(_))
            if operator.operators.len() > 1 && named_system_account(config).is_none() =>
        {
            Err("using nats based account resolver - the system account needs to be specified in configuration or the operator jwt".into())
        }
        _ => Ok(()),
    }
}

/// The system account that a file names. The default names none in operator mode.
fn named_system_account(config: &Config) -> Option<&str> {
    let named = config.system_account.as_deref();
    named.filter(|name| *name != SYSTEM_ACCOUNT)
}

/// Of `leafnodes`, what has to be an account's key in operator mode.
fn leafnodes_of_operators(config: &Config) -> Result<(), String> {
    if let Some(listener) = &config.leafnodes {
        if matches!(listener.auth.users, LeafUsers::Listed(_)) {
            return Err("operator mode does not allow specifying users in leafnode config".into());
        }
        if !listener.accounts().all(is_account_key) {
            return Err("operator mode and non account nkeys are incompatible".into());
        }
    }
    let remotes = config.remotes.iter();
    if remotes.map(|remote| &*remote.account).all(is_account_key) {
        return Ok(());
    }
    Err("operator mode requires account nkeys in remotes. Please add an `account` key to each remote in your `leafnodes` section, to assign it to an account. Each account value should be a 56 character public key, starting with the letter 'A'".into())
}

fn leafnodes(config: &Config) -> Result<(), String> {
    for (i, remote) in config.remotes.iter().enumerate() {
        for (name, subjects) in [
            ("deny_imports", &remote.deny_imports),
            ("deny_exports", &remote.deny_exports),
        ] {
            let bad = subjects.iter().find(|s| !is_valid_pattern(s.as_bytes()));
            if let Some(subject) = bad {
                return Err(format!(
                    "invalid {name} for remote {}: subject {} is not a valid subject",
                    shown(remote),
                    quote(subject)
                ));
            }
        }
        let earlier = config.remotes.iter().take(i);
        if earlier.into_iter().any(|other| same(other, remote)) {
            return Err(format!("duplicate remote {}", shown(remote)));
        }
    }
    if config.operator.is_on() {
        leafnodes_of_operators(config)?;
    }
    let is_known = |name: &str| {
        name == GLOBAL_ACCOUNT
            || config.operator.is_on()
            || config.system_account.as_deref() == Some(name)
            || config.accounts.iter().any(|a| a.name == name)
    };
    let unknown = |name: &str, place: &str| {
        let name = quote(name);
        format!("cannot find local account {name} specified in leafnode {place}")
    };
    let mut of_leafs = config.leafnodes.iter().flat_map(LeafListener::accounts);
    if let Some(name) = of_leafs.find(|name| !is_known(name)) {
        return Err(unknown(name, "authorization"));
    }
    let mut of_remotes = config.remotes.iter().map(|remote| remote.account.as_str());
    if let Some(name) = of_remotes.find(|name| !is_known(name)) {
        return Err(unknown(name, "remote"));
    }
    if let Some(listener) = &config.leafnodes {
        thresholds(&listener.compression)?;
    }
    let ways = || config.remotes.iter().flat_map(|remote| &remote.ways);
    ways().try_for_each(|way| thresholds(&way.compression))?;
    ways().try_for_each(|way| one_kind(way))
}

/// The thresholds of `s2_auto`. One of 0 leaves a level out.
fn thresholds(compression: &Compression) -> Result<(), String> {
    const MODE: &str = "compression mode \"s2_auto\"";
    let Compression::Auto(list) = compression else {
        return Ok(());
    };
    let used = || list.iter().filter(|threshold| !threshold.is_zero());
    let shown: Vec<_> = list.iter().map(|t| show_duration(*t)).collect();
    let shown = shown.join(" ");
    if !used().is_sorted() {
        return Err(format!(
            "RTT threshold values [{shown}] should be in ascending order"
        ));
    }
    if list.len() > 4 {
        return Err(format!(
            "{MODE} should have no more than 4 RTT thresholds: [{shown}]"
        ));
    }
    if used().next().is_none() {
        return Err(format!("{MODE} requires at least one RTT threshold"));
    }
    Ok(())
}

/// What one way needs to dial one of its urls, it needs for all.
fn one_kind(way: &Way) -> Result<(), String> {
    let websockets = way.urls.iter().filter(|url| url.scheme.is_websocket());
    if matches!(websockets.count(), n if n == 0 || n == way.urls.len()) {
        return Ok(());
    }
    Err(format!(
        "remote leaf node configuration cannot have a mix of websocket and non-websocket urls: [{}]",
        shown_urls(way.urls.iter())
    ))
}

/// The identity of a remote: its urls in order, its account, its proof.
fn same(one: &Remote, other: &Remote) -> bool {
    urls(one).eq(urls(other))
        && one.account == other.account
        && one.credentials == other.credentials
        && one.nkey == other.nkey
}

fn urls(remote: &Remote) -> impl Iterator<Item = &Url> {
    remote.ways.iter().flat_map(|way| &way.urls)
}

/// A remote's identity without its secrets.
fn shown(remote: &Remote) -> String {
    let mut out = format!(
        "urls=[{}], account={}",
        shown_urls(urls(remote)),
        quote(&remote.account)
    );
    if let Some(path) = &remote.credentials {
        out.push_str(&format!(", credentials={}", quote(path)));
    }
    if remote.nkey.is_some() {
        out.push_str(", nkey=\"[REDACTED]\"");
    }
    out
}

fn shown_urls<'c>(urls: impl Iterator<Item = &'c Url>) -> String {
    let urls: Vec<_> = urls.map(|url| quote(&shown_url(url))).collect();
    urls.join(" ")
}

/// Without a password the user is a token, a secret too.
fn shown_url(url: &Url) -> String {
    let address = url.to_string();
    // Of WebSocket URLs it names the scheme.
    let address = address
        .split_once("://")
        .map_or(&*address, |(_, rest)| rest);
    let (scheme, path) = (url.scheme.name(), &url.path);
    match (&url.user, &url.password) {
        (Some(user), Some(_)) => format!("{scheme}://{user}:xxxxx@{address}{path}"),
        (Some(_), None) => format!("{scheme}://xxxxx@{address}{path}"),
        _ => format!("{scheme}://{address}{path}"),
    }
}

const NO_AUTH_USER_OF_OPERATORS: &str = "no_auth_user not compatible with Trusted Operator";

fn no_auth_user(config: &Config) -> Result<(), String> {
    match &config.auth.no_auth_user {
        Some(_) if config.operator.is_on() => Err(NO_AUTH_USER_OF_OPERATORS.into()),
        Some(wanted) => known_user(config, wanted),
        None => Ok(()),
    }
}

fn known_user(config: &Config, wanted: &str) -> Result<(), String> {
    let in_accounts = config.accounts.iter().flat_map(|account| &account.users);
    let mut users = config.auth.users.iter().chain(in_accounts).peekable();
    let shown = quote(wanted);
    if users.peek().is_none() {
        return Err(format!(
            "no_auth_user: {shown} present, but users/nkeys are not defined"
        ));
    }
    let known = users.any(|user| match &user.identity {
        UserIdentity::Password { user, .. } => user == wanted,
        UserIdentity::Nkey(key) => key == wanted,
    });
    if known {
        return Ok(());
    }
    Err(format!(
        "no_auth_user: {shown} not present as user or nkey in authorization block or account configuration"
    ))
}

/// The default need not be configured, nor does `$G`.
fn system_account(config: &Config) -> Result<(), String> {
    let Some(name) = &config.system_account else {
        return Ok(());
    };
    if config.operator.is_on() {
        return system_account_of_operators(config);
    }
    let known = [SYSTEM_ACCOUNT, GLOBAL_ACCOUNT].contains(&name.as_str())
        || config.accounts.iter().any(|account| account.name == *name);
    if known {
        return Ok(());
    }
    Err("error resolving system account: account missing".into())
}

/// Where only the preloaded are known, it has to be one of them.
fn system_account_of_operators(config: &Config) -> Result<(), String> {
    let Some(name) = named_system_account(config) else {
        return Ok(());
    };
    let Some(key) = AccountKey::parse(name) else {
        return Err("error resolving system account: will only fetch valid account keys".into());
    };
    let operator = &config.operator;
    let mut preloaded = operator.preload.iter();
    if operator.resolver == Some(Resolver::Memory) && !preloaded.any(|known| known.account == key) {
        return Err("error resolving system account: account missing".into());
    }
    Ok(())
}

/// A file was checked when it was read; this is for configurations that were made.
fn accounts(config: &Config) -> Result<(), String> {
    let compiled = crate::account::compile(config, None);
    compiled.map(drop).map_err(|error| error.to_string())
}

fn websocket(config: &Config) -> Result<(), String> {
    let Some(listener) = &config.websocket else {
        return Ok(());
    };
    if listener.tls.is_none() && !listener.no_tls {
        return Err("websocket requires TLS configuration".into());
    }
    for origin in &listener.allowed_origins {
        Origin::parse(origin).map_err(|e| e.to_string())?;
    }
    if let Some(wanted) = &listener.auth.no_auth_user {
        if config.operator.is_on() {
            return Err(NO_AUTH_USER_OF_OPERATORS.into());
        }
        known_user(config, wanted)?;
    }
    let has_users = !config.auth.users.is_empty()
        || config
            .accounts
            .iter()
            .any(|account| !account.users.is_empty());
    for (what, is_set) in [
        ("username", listener.auth.user.is_some()),
        ("token", listener.auth.token.is_some()),
    ] {
        if is_set && has_users {
            return Err(format!(
                "websocket authentication {what} not compatible with presence of users/nkeys"
            ));
        }
    }
    if let Some(cookie) = &listener.cookies.jwt
        && !config.operator.is_on()
    {
        return Err(format!(
            "trusted operators or trusted keys configuration is required for JWT authentication via cookie {}",
            quote(cookie)
        ));
    }
    if let Some(advertised) = &listener.advertise
        && let Some((_, port)) = advertised
            .rsplit_once(':')
            .filter(|_| !advertised.ends_with(']'))
        && port.parse::<u16>().is_err()
    {
        return Err(format!(
            "websocket advertise {} has no port that could be connected to",
            quote(advertised)
        ));
    }
    for (name, _) in &listener.headers {
        let shown = quote(name);
        let lower = name.to_lowercase();
        if lower.starts_with("sec-websocket-") {
            return Err(format!(
                "websocket: invalid header {shown}, \"Sec-WebSocket-\" prefix not allowed"
            ));
        }
        if OUR_HEADERS.contains(&lower.as_str()) {
            return Err(format!("websocket: invalid header {shown} not allowed"));
        }
    }
    Ok(())
}

/// Headers whose meaning in the answer to an upgrade is not the operator's to change. nats-server
/// lets the last one pass.
const OUR_HEADERS: [&str; 6] = [
    "host",
    "connection",
    "upgrade",
    "content-length",
    "nats-no-masking",
    "transfer-encoding",
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::load;
    use crate::config::testing::{Files, config};

    /// What a start says to a text that `-t` accepts.
    fn start(text: &str) -> Result<(), String> {
        let files = Files {
            files: &[("c", text)],
            env: &[],
        };
        let config = load("c", &files).unwrap().config;
        check(&config).map_err(|e| e.to_string())
    }

    /// 17, 21, 22, 37, 39.
    #[test]
    fn texts() {
        for (text, wanted) in [
            (
                "lame_duck_duration: \"30s\"; lame_duck_grace_period: \"30s\"",
                "lame duck grace period (30s) should be strictly lower than lame duck duration (30s)",
            ),
            (
                "max_pending: 1000; max_payload: 2000",
                "max_payload (2000) cannot be higher than max_pending (1000)",
            ),
            (
                "no_auth_user: x",
                "no_auth_user: \"x\" present, but users/nkeys are not defined",
            ),
            (
                "no_auth_user: x; accounts {A {users: [{user: y}]}}",
                "no_auth_user: \"x\" not present as user or nkey in authorization block or account configuration",
            ),
            (
                "no_system: true; leafnodes {remotes: [{url: \"nats://h\", account: \"$SYS\"}]}",
                "cannot find local account \"$SYS\" specified in leafnode remote",
            ),
            (
                "leafnodes {remotes: [{url: \"nats://h\", account: B}]}; accounts [A]",
                "cannot find local account \"B\" specified in leafnode remote",
            ),
            (
                "leafnodes {port: 1, authorization {account: B}}; accounts [A]",
                "cannot find local account \"B\" specified in leafnode authorization",
            ),
            (
                "leafnodes {port: 1, authorization {user: u, account: a}}; accounts [A]",
                "cannot find local account \"a\" specified in leafnode authorization",
            ),
            (
                "leafnodes {port: 1, authorization {users: [{user: u, account: A}, {user: v, account: B}]}}; accounts [A]",
                "cannot find local account \"B\" specified in leafnode authorization",
            ),
            (
                "leafnodes {port: 1, compression: {rtt: [\"2s\", \"1s\"]}}",
                "RTT threshold values [2s 1s] should be in ascending order",
            ),
            (
                "leafnodes {remotes: [{url: \"nats://h:1\"}\n{url: \"nats://h:1\"}]}",
                "duplicate remote urls=[\"nats://h:1\"], account=\"$G\"",
            ),
            (
                "leafnodes {remotes: [{url: \"nats://u:pw@h:1\", creds: f}\n{url: \"nats://u:pw@h:1\", creds: f}]}",
                "duplicate remote urls=[\"nats://u:xxxxx@h:1\"], account=\"$G\", credentials=\"f\"",
            ),
            (
                "leafnodes {remotes: [{url: \"wss://u:pw@h/p\"}\n{url: \"wss://u:pw@h/p\"}]}",
                "duplicate remote urls=[\"wss://u:xxxxx@h:7422/p\"], account=\"$G\"",
            ),
            (
                "leafnodes {remotes: [{urls: [\"tls://tok@a:1\", \"ws://b/p\"]}]}",
                "remote leaf node configuration cannot have a mix of websocket and non-websocket urls: [\"tls://xxxxx@a:1\" \"ws://b:7422/p\"]",
            ),
            (
                "leafnodes {remotes: [{transports: [{url: \"nats://a\"}, {urls: [\"wss://b\", \"nats://a\"]}]}]}",
                "remote leaf node configuration cannot have a mix of websocket and non-websocket urls: [\"wss://b:7422\" \"nats://a:7422\"]",
            ),
            (
                "leafnodes {remotes: [{compression: {mode: auto, rtt: [\"10ms\", \"0s\", \"5ms\"]}}]}",
                "RTT threshold values [10ms 0s 5ms] should be in ascending order",
            ),
            (
                "leafnodes {remotes: [{compression: {rtt: [\"1ms\", \"2ms\", \"3ms\", \"4ms\", \"5ms\"]}}]}",
                "compression mode \"s2_auto\" should have no more than 4 RTT thresholds: [1ms 2ms 3ms 4ms 5ms]",
            ),
            (
                "leafnodes {remotes: [{}]; compression: {rtt: [\"0s\", \"0s\"]}}",
                "compression mode \"s2_auto\" requires at least one RTT threshold",
            ),
        ] {
            assert_eq!(start(text), Err(wanted.to_string()), "{text}");
        }
        for text in [
            "",
            "leafnodes {remotes: [{urls: [\"ws://a\", \"wss://b\"], compression: s2_best}]}",
            "leafnodes {remotes: [{urls: [\"nats://a\", \"tls://b\", \"leaf://c\"]}]}",
            "leafnodes {remotes: [{transports: [{url: \"nats://a\"}, {url: \"ws://b\"}]}]}",
            "leafnodes {remotes: [{compression: {rtt: [\"1ms\", \"0s\", \"3ms\", \"3ms\"]}}]}",
            "no_auth_user: y; accounts {A {users: [{user: y}]}}",
            "leafnodes {port: 1, authorization {account: \"$G\", users: [{user: u, account: A}, {user: v}]}}; accounts [A]",
            "leafnodes {port: 1, authorization {nkey: UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4, account: A}}; accounts [A]",
            "leafnodes {remotes: [{urls: [\"nats://a\", \"nats://b\"]}\n{urls: [\"nats://b\", \"nats://a\"]}]}",
            "leafnodes {remotes: [{url: \"nats://a\"}\n{url: \"nats://a\", account: A}]}; accounts [A]",
        ] {
            assert_eq!(start(text), Ok(()), "{text}");
        }
    }

    /// 46, as 2.15.1 prints it but for the last two.
    #[test]
    fn websocket_listeners() {
        let users = "authorization {users: [{user: v, pass: p}]}";
        let accounts = "accounts {A {users: [{user: v, pass: p}]}}";
        for (block, rest, wanted) in [
            ("no_tls: false", "", "websocket requires TLS configuration"),
            (
                "no_tls: true, origins: [\"http://a\", foo]",
                "",
                "unable to parse allowed origin: parse \"foo\": invalid URI for request",
            ),
            (
                "no_tls: true, jwt_cookie: c",
                "",
                "trusted operators or trusted keys configuration is required for JWT authentication via cookie \"c\"",
            ),
            (
                "no_tls: true, no_auth_user: u",
                "",
                "no_auth_user: \"u\" present, but users/nkeys are not defined",
            ),
            (
                "no_tls: true, no_auth_user: u",
                users,
                "no_auth_user: \"u\" not present as user or nkey in authorization block or account configuration",
            ),
            (
                "no_tls: true, authorization {user: u}",
                users,
                "websocket authentication username not compatible with presence of users/nkeys",
            ),
            (
                "no_tls: true, authorization {token: u}",
                accounts,
                "websocket authentication token not compatible with presence of users/nkeys",
            ),
            (
                "no_tls: true, headers {hOST: b}",
                "",
                "websocket: invalid header \"hOST\" not allowed",
            ),
            (
                "no_tls: true, headers {Nats-No-Masking: b}",
                "",
                "websocket: invalid header \"Nats-No-Masking\" not allowed",
            ),
            (
                "no_tls: true, headers {Sec-websocket-Foo: b}",
                "",
                "websocket: invalid header \"Sec-websocket-Foo\", \"Sec-WebSocket-\" prefix not allowed",
            ),
            (
                "no_tls: true, headers {Transfer-Encoding: b}",
                "",
                "websocket: invalid header \"Transfer-Encoding\" not allowed",
            ),
            (
                "no_tls: true, advertise: \"foo:x\"",
                "",
                "websocket advertise \"foo:x\" has no port that could be connected to",
            ),
        ] {
            let text = format!("websocket {{port: 1, {block}}}\n{rest}");
            assert_eq!(start(&text), Err(wanted.to_string()), "{text}");
            // Without a port there is no listener to check.
            let text = text.replace("port: 1", "port: 0");
            assert_eq!(start(&text), Ok(()), "{text}");
        }
        for (block, rest) in [
            ("no_tls: true", ""),
            ("tls {cert_file: c, key_file: k}", ""),
            ("no_tls: true, no_auth_user: v", users),
            ("no_tls: true, no_auth_user: v", accounts),
            ("no_tls: true, authorization {pass: u}", users),
            (
                "no_tls: true, authorization {user: u, pass: p}",
                "authorization {token: t}",
            ),
            ("no_tls: true, advertise: \"foo\"", ""),
            ("no_tls: true, advertise: \"[::1]:5\"", ""),
        ] {
            let text = format!("websocket {{port: 1, {block}}}\n{rest}");
            assert_eq!(start(&text), Ok(()), "{text}");
        }
    }

    /// As 2.15.1 says it, but for what it accepts and does not obey.
    #[test]
    fn operator_mode() {
        const O: &str = "trusted: OB3HJVBRVW5SBRTJOCCVQQGMWZ3NLKXDJSBHN757VF7HOWAEDYSQIPVZ";
        const A: &str = "ADVODSDZHNKZPRFT6SIOO2WDCFZMIOLJB6HOCQKCXOCRUYPZUSPQ5PE6";
        const S: &str = "ACQKVGHLAYL4XVO472Y6PLOL7SKNH7W5PK4DZH76KWI5BIJ2NFWFRAKC";
        let full = "resolver: {type: full, dir: d}";
        let memory = "operator: o; resolver: MEM";
        let preload = format!("resolver_preload {{{A}: eyJx.y.z}}");
        let sentinel = "default_sentinel: eyJx.y.z";
        let no_resolver = "operators require an account resolver to be configured";
        let no_accounts = "operators do not allow Accounts to be configured directly";
        let no_users = "operators do not allow users to be configured directly";
        let no_system = "using nats based account resolver - the system account needs to be specified in configuration or the operator jwt";
        let needs = |option: &str| {
            format!("{option} requires operators: set operator or trusted_keys, or remove {option}")
        };
        let start = |text: &str| check(&config(text)).map_err(|e| e.to_string());
        for (text, wanted) in [
            (
                sentinel.into(),
                "default sentinel requires operators and accounts",
            ),
            (
                format!("{O}; resolver: MEM; {sentinel}"),
                "default sentinel requires operators and accounts",
            ),
            ("resolver: MEM".into(), needs("resolver").as_str()),
            (preload.clone(), &needs("resolver_preload")),
            (
                "resolver_tls {insecure: true}".into(),
                &needs("resolver_tls"),
            ),
            (
                format!("resolver_pinned_accounts: {A}"),
                &needs("resolver_pinned_accounts"),
            ),
            ("operator: [o, p]".into(), no_resolver),
            (O.into(), no_resolver),
            (format!("{memory}; accounts [B]"), no_accounts),
            (format!("{memory}; mappings {{a: b}}"), no_accounts),
            (
                format!("{memory}; authorization {{users: [{{user: a}}]}}"),
                no_users,
            ),
            (format!("{memory}; authorization {{user: a}}"), no_users),
            (format!("{memory}; authorization {{token: a}}"), no_users),
            (
                format!("{memory}; websocket {{port: 1, no_tls: true, authorization {{user: a}}}}"),
                no_users,
            ),
            (
                format!("{memory}; {O}"),
                "conflicting options for 'TrustedKeys' and 'TrustedOperators'",
            ),
            (
                format!("operator: o; resolver: \"URL(http://h)\"; {preload}"),
                "resolver preloads only available for writeable resolver types MEM/DIR/CACHE_DIR",
            ),
            (
                format!("{O}; {full}"),
                "using nats based account resolver - trusted_keys are not enough, set operator",
            ),
            (format!("operator: [o, p]; {full}"), no_system),
            (
                "operator: [o, p]; resolver: {type: cache, dir: d}".into(),
                no_system,
            ),
            (
                format!("{memory}; no_auth_user: a"),
                "no_auth_user not compatible with Trusted Operator",
            ),
            (
                format!("{memory}; websocket {{port: 1, no_tls: true, no_auth_user: a}}"),
                "no_auth_user not compatible with Trusted Operator",
            ),
            (
                format!("{memory}; system_account: x"),
                "error resolving system account: will only fetch valid account keys",
            ),
            (
                format!("{memory}; {preload}; system_account: {S}"),
                "error resolving system account: account missing",
            ),
            (
                format!("{memory}; leafnodes {{port: 1, authorization {{users: [{{user: a}}]}}}}"),
                "operator mode does not allow specifying users in leafnode config",
            ),
            (
                format!("{memory}; leafnodes {{port: 1, authorization {{account: B}}}}"),
                "operator mode and non account nkeys are incompatible",
            ),
        ] {
            assert_eq!(start(&text), Err(wanted.to_string()), "{text}");
        }
        for account in ["", ", account: B", ", account: \"$SYS\""] {
            let text = format!("{memory}; leafnodes {{remotes: [{{url: \"nats://h\"{account}}}]}}");
            let refused = start(&text).unwrap_err();
            assert!(
                refused.starts_with("operator mode requires account nkeys in remotes."),
                "{text}"
            );
        }
        for text in [
            "operator: o".into(),
            format!("operator: o; {full}"),
            format!("operator: [o, p]; {full}; system_account: {S}"),
            format!("{memory}; {preload}; system_account: {A}; {sentinel}"),
            format!("{memory}; authorization {{timeout: 5}}"),
            format!("{O}; resolver: MEM; {preload}"),
            format!("{memory}; leafnodes {{port: 1}}"),
            format!("{memory}; leafnodes {{port: 1, authorization {{account: {A}}}}}"),
            format!("{memory}; leafnodes {{remotes: [{{url: \"nats://h\", account: {A}}}]}}"),
            format!("{memory}; websocket {{port: 1, no_tls: true, jwt_cookie: c}}"),
        ] {
            assert_eq!(start(&text), Ok(()), "{text}");
        }
    }

    /// 22.
    #[test]
    fn large_payloads_are_worth_a_word() {
        let mut config = Config::default();
        assert_eq!(payload_warning(&config), None);
        config.limits.max_payload = LARGE_PAYLOAD + 1;
        assert!(payload_warning(&config).is_some());
    }
}
