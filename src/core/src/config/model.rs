//! The configuration as values the program can use: every default filled in, every check passed.
//!
//! [`Config::default`] is what an empty file gives.

use std::time::Duration;

/// Everything a configuration file (or a command line) can say that this server serves.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host`, `net`, `listen`: the address for clients. Default `0.0.0.0`.
    pub host: String,
    /// `port`, `listen`: the port for clients. Default 4222; -1 in the file is 0 here (let the
    /// system choose).
    pub port: u16,
    /// `server_name`. `None`: the server's identity is its name.
    pub server_name: Option<String>,
    /// `client_advertise`: host and port told to clients instead of the listener's.
    pub client_advertise: Option<String>,
    /// Limits and timers of client connections.
    pub limits: Limits,
    /// `authorization`, `no_auth_user`.
    pub auth: Auth,
    /// `accounts`, in file order, without the ever present `$G`.
    pub accounts: Vec<Account>,
    /// `leafnodes.remotes`.
    pub remotes: Vec<Remote>,
    /// `debug`, `trace`, `logtime`, `log_file`, ...
    pub log: Log,
    /// `pid_file`.
    pub pid_file: Option<String>,
    /// `lame_duck_duration`. Default 2 minutes, at least 30 seconds.
    pub lame_duck_duration: Duration,
    /// `lame_duck_grace_period`. Default 10 seconds, below the duration.
    pub lame_duck_grace_period: Duration,
    /// `connect_error_reports`: failures to connect to a remote for the first time that are logged
    /// are the first and every nth. Default 3600.
    pub connect_error_reports: u32,
    /// `reconnect_error_reports`: the same for a link that was up before. Default 1.
    pub reconnect_error_reports: u32,
    /// `no_header_support`.
    pub no_header_support: bool,
    /// The file it was read from, for the log; `None` without a file.
    pub source: Option<String>,
    /// SHA-256 of the expanded configuration in hex, as nats-server prints it; `None` without a file.
    pub digest: Option<String>,
}

/// Limits and timers of connections.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `max_connections`. Default 65536. 0 and negative numbers in the file mean that none is
    /// accepted and arrive here as 0.
    pub max_connections: usize,
    /// `max_subscriptions` per connection; `None` is unlimited.
    pub max_subscriptions: Option<usize>,
    /// `max_subscription_tokens`, 1 to 255; `None` is unlimited.
    pub max_subscription_tokens: Option<u8>,
    /// `max_control_line` in bytes. Default 4096.
    pub max_control_line: usize,
    /// `max_payload` in bytes. Default 1 MiB.
    pub max_payload: usize,
    /// `max_pending`: outbound bytes queued for one connection. Default 64 MiB.
    pub max_pending: usize,
    /// `ping_interval`. Default 2 minutes.
    pub ping_interval: Duration,
    /// `ping_max`: unanswered pings before a peer is stale. Default 2.
    pub ping_max: u32,
    /// `write_deadline`. Default 10 seconds.
    pub write_deadline: Duration,
    /// `no_fast_producer_stall`.
    pub no_fast_producer_stall: bool,
    /// `authorization.timeout`: time for a client to authenticate. Default 2 seconds.
    pub auth_timeout: Duration,
}

/// `authorization` and what belongs to it. Users of accounts are in [`Account::users`].
#[derive(Clone, Debug, Default)]
pub struct Auth {
    /// `user` and `password`: the single global user.
    pub user: Option<(String, String)>,
    /// `token`.
    pub token: Option<String>,
    /// `users`: global users, bound to `$G`.
    pub users: Vec<User>,
    /// `no_auth_user`: a user name or a public user nkey.
    pub no_auth_user: Option<String>,
}

/// One user.
#[derive(Clone, Debug)]
pub struct User {
    /// How it proves itself.
    pub identity: UserIdentity,
    /// Its own permissions, else the block's `default_permissions`, else `None` (unrestricted).
    pub permissions: Option<Permissions>,
    /// `allowed_connection_types`; empty means all.
    pub connection_types: Vec<ConnectionType>,
}

/// How a user proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserIdentity {
    /// A name and a password, which may be a bcrypt hash.
    Password {
        /// The name.
        user: String,
        /// Plain text or bcrypt.
        password: String,
    },
    /// A public user nkey, `U...`.
    Nkey(String),
}

/// `allowed_connection_types`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum ConnectionType {
    Standard,
    Websocket,
    Leafnode,
    LeafnodeWs,
    Mqtt,
    MqttWs,
    InProcess,
}

/// `permissions`: what a user may publish and subscribe to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// `publish`. Subjects only.
    pub publish: SubjectRules,
    /// `subscribe`. Entries may be `"subject queue"`.
    pub subscribe: SubjectRules,
    /// `allow_responses`.
    pub responses: Option<ResponseRule>,
}

/// Allow and deny lists of subject patterns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectRules {
    /// Absent or empty in the file: everything is allowed, and this is empty.
    pub allow: Vec<String>,
    /// Takes away from what is allowed.
    pub deny: Vec<String>,
}

/// `allow_responses`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseRule {
    /// Messages per reply subject; `None` is unlimited. Default 1.
    pub max: Option<u64>,
    /// How long a reply subject stays open; `None` is unlimited. Default 2 minutes.
    pub expires: Option<Duration>,
}

/// One entry of `accounts`.
#[derive(Clone, Debug)]
pub struct Account {
    /// The name, case sensitive.
    pub name: String,
    /// Its users.
    pub users: Vec<User>,
}

/// The account that is there without being configured.
pub const GLOBAL_ACCOUNT: &str = "$G";

/// One entry of `leafnodes.remotes`.
#[derive(Clone, Debug)]
pub struct Remote {
    /// `url`, `urls`, in file order.
    pub urls: Vec<Url>,
    /// `account`, `local`. Default `$G`.
    pub account: String,
    /// `credentials`: path of a credentials file, read again at each attempt.
    pub credentials: Option<String>,
    /// `nkey`: a user seed, `SU...`.
    pub nkey: Option<Secret>,
    /// `deny_imports`: subjects the hub may not send us.
    pub deny_imports: Vec<String>,
    /// `deny_exports`: subjects we may not send to the hub.
    pub deny_exports: Vec<String>,
    /// `hub`: we take the hub's role on this link.
    pub hub: bool,
    /// `no_randomize`: try `urls` in file order.
    pub no_randomize: bool,
    /// `disabled`: configured but not dialled.
    pub disabled: bool,
    /// `isolate_leafnode_interest`: interest of other leafs is not shown on this link.
    pub isolate: bool,
    /// `request_isolation`: ask the hub to do the same for us.
    pub request_isolation: bool,
    /// `ignore_discovered_servers`.
    pub ignore_discovered_servers: bool,
    /// `leafnodes.reconnect`: the first delay before dialling again. Default 1 second.
    pub reconnect: Duration,
    /// `dial_timeout`. Default 1 second.
    pub dial_timeout: Duration,
    /// `first_info_timeout`. Default 1 second.
    pub first_info_timeout: Duration,
}

impl Default for Remote {
    fn default() -> Self {
        Remote {
            urls: Vec::new(),
            account: GLOBAL_ACCOUNT.into(),
            credentials: None,
            nkey: None,
            deny_imports: Vec::new(),
            deny_exports: Vec::new(),
            hub: false,
            no_randomize: false,
            disabled: false,
            isolate: false,
            request_isolation: false,
            ignore_discovered_servers: false,
            reconnect: Duration::from_secs(1),
            dial_timeout: Duration::from_secs(1),
            first_info_timeout: Duration::from_secs(1),
        }
    }
}

/// Where a remote is dialled. `Display` and `Debug` never show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// Host name or address (IPv6 without brackets).
    pub host: String,
    /// Default 7422.
    pub port: u16,
    /// User name, or token when there is no password.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Secret>,
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl std::fmt::Debug for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Url({self})")
    }
}

/// Text that must not appear in a log or an error.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text, for the wire.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[REDACTED]")
    }
}

/// Where log lines go and which.
#[derive(Clone, Debug)]
pub struct Log {
    /// `debug`.
    pub debug: bool,
    /// `trace`.
    pub trace: bool,
    /// `logtime`. Default true.
    pub time: bool,
    /// `logtime_utc`.
    pub utc: bool,
    /// `log_file`.
    pub file: Option<String>,
}

impl Default for Log {
    fn default() -> Self {
        Log {
            debug: false,
            trace: false,
            time: true,
            utc: false,
            file: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_connections: 65_536,
            max_subscriptions: None,
            max_subscription_tokens: None,
            max_control_line: 4096,
            max_payload: 1 << 20,
            max_pending: 64 << 20,
            ping_interval: Duration::from_secs(120),
            ping_max: 2,
            write_deadline: Duration::from_secs(10),
            no_fast_producer_stall: false,
            auth_timeout: Duration::from_secs(2),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            host: "0.0.0.0".into(),
            port: 4222,
            server_name: None,
            client_advertise: None,
            limits: Limits::default(),
            auth: Auth::default(),
            accounts: Vec::new(),
            remotes: Vec::new(),
            log: Log::default(),
            pid_file: None,
            lame_duck_duration: Duration::from_secs(120),
            lame_duck_grace_period: Duration::from_secs(10),
            connect_error_reports: 3600,
            reconnect_error_reports: 1,
            no_header_support: false,
            source: None,
            digest: None,
        }
    }
}
