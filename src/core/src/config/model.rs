//! The configuration as values the program can use: every default filled in, every check passed.
//!
//! [`Config::default`] is what an empty file gives.

mod accounts;
mod operator;

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use crate::wire::version::Version;

pub use accounts::{
    AccountLimits, Audience, Destination, Export, Import, Latency, Mapping, ResponseType, Sampling,
    ServiceExport, ServiceImport, StreamExport, StreamImport,
};
pub use operator::{
    CacheResolver, DeleteRequests, FullResolver, JwtSource, OperatorJwt, OperatorMode, PlacedJwt,
    PreloadedAccount, Resolver, ResolverUrl,
};

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
    /// `mappings` (`maps`) of the top level, which are those of `$G`.
    pub mappings: Vec<Mapping>,
    /// `system_account` (`system`). Default `$SYS`; `None` with `no_system_account`.
    pub system_account: Option<String>,
    /// `operator`, `resolver` and what belongs to them.
    pub operator: OperatorMode,
    /// `tls`: what clients are offered; `None`: clients connect in clear.
    pub tls: Option<Tls>,
    /// `allow_non_tls`: with `tls`, clients may also connect in clear.
    pub allow_non_tls: bool,
    /// `websocket`, `ws`; `None` without a port in it.
    pub websocket: Option<WebsocketListener>,
    /// `leafnodes.remotes`.
    pub remotes: Vec<Remote>,
    /// `leafnodes`, with a `port` or `listen`: where leafs connect; `None`: none is accepted.
    pub leafnodes: Option<LeafListener>,
    /// `threads`: how many threads serve a hub's links, at least 1. `None`: as the machine has.
    pub threads: Option<NonZeroUsize>,
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

impl Config {
    /// Whether a client has to prove who it is.
    pub fn auth_required(&self) -> bool {
        let auth = &self.auth;
        let in_accounts = || self.accounts.iter().any(|a| !a.users.is_empty());
        auth.user.is_some()
            || auth.token.is_some()
            || !auth.users.is_empty()
            || in_accounts()
            || self.operator.is_on()
    }
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
    /// `authorization.timeout`: time for a client to authenticate. Default 2 seconds, with `tls` one
    /// second more than its timeout.
    pub auth_timeout: Duration,
}

impl Limits {
    /// The time to authenticate where `authorization.timeout` does not say it: `tls` is the
    /// listener's.
    pub fn default_auth_timeout(tls: Option<&Tls>) -> Duration {
        match tls {
            None => Limits::default().auth_timeout,
            Some(tls) => tls.timeout.saturating_add(Duration::from_secs(1)),
        }
    }
}

/// `authorization` and what belongs to it. Users of accounts are in [`Account::users`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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

impl ConnectionType {
    /// Whether it is a leaf's.
    pub fn is_leaf(self) -> bool {
        matches!(self, ConnectionType::Leafnode | ConnectionType::LeafnodeWs)
    }

    /// What events and services call who connects so (system account, `client`).
    pub fn kind(self) -> &'static str {
        if self.is_leaf() { "Leafnode" } else { "Client" }
    }

    /// How a client is carried, in the same place; empty for a leaf.
    pub fn client_type(self) -> &'static str {
        match self {
            ConnectionType::Leafnode | ConnectionType::LeafnodeWs => "",
            ConnectionType::Websocket => "websocket",
            _ => "nats",
        }
    }
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
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// The name, case sensitive.
    pub name: String,
    /// Its users.
    pub users: Vec<User>,
    /// `limits`.
    pub limits: AccountLimits,
    /// `mappings` (`maps`), in file order.
    pub mappings: Vec<Mapping>,
    /// `exports`, in file order.
    pub exports: Vec<Export>,
    /// `imports`, in file order.
    pub imports: Vec<Import>,
}

/// The account that is there without being configured.
pub const GLOBAL_ACCOUNT: &str = "$G";

/// The system account where no other is named.
pub const SYSTEM_ACCOUNT: &str = "$SYS";

/// One entry of `leafnodes.remotes`.
#[derive(Clone, Debug)]
pub struct Remote {
    /// How the hub is reached, in order of preference: `transports`, or the one way that the
    /// remote's own `url`, `tls`, ... describe. Never empty in a checked configuration.
    pub ways: Vec<Arc<Way>>,
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
    /// `leafnodes.reconnect`: the first delay before dialling again. `None`: at once, then growing.
    pub reconnect: Option<Duration>,
    /// `max_queue_time`: messages that would wait for longer than this to be sent to the hub, at the
    /// rate of the last seconds, are dropped. Default 1 minute; `None`: only `max_pending` counts.
    pub max_queue_time: Option<Duration>,
}

/// `leafnodes` as a listener: where leafs connect, who may, and how their links are.
#[derive(Clone, Debug)]
pub struct LeafListener {
    /// `host`, `net`, `listen`. Default `0.0.0.0`, whatever the host for clients is.
    pub host: String,
    /// `port`, `listen`: usually 7422. -1 in the file is 0 here (let the system choose).
    pub port: u16,
    /// `advertise`: told to leafs instead of the listener's address.
    pub advertise: Option<Advertised>,
    /// `no_advertise`: leafs are told no addresses to dial besides the one they have.
    pub no_advertise: bool,
    /// `authorization`.
    pub auth: LeafAuth,
    /// `authorization.timeout`: time for a leaf to prove itself. Default 2 seconds, with `tls` one
    /// second more than its timeout.
    pub auth_timeout: Duration,
    /// `tls`; `None`: leafs connect in clear.
    pub tls: Option<Tls>,
    /// `compression`. Never used on WebSocket.
    pub compression: Compression,
    /// `min_version`: leafs that are older are refused. At least 2.8.0.
    pub min_version: Option<Version>,
    /// `isolate_leafnode_interest`: no leaf is told what the others want.
    pub isolate: bool,
    /// `write_deadline`: for a leaf to take at least something. `None`: as for hubs.
    pub write_deadline: Option<Duration>,
    /// `max_handshakes_per_second`: leafs that come faster are told to come back later. `None`: no
    /// limit. Default [`LeafListener::default_rate`].
    pub max_handshakes: Option<NonZeroU32>,
    /// Where the block stands, `file:line:column`, for who cannot serve it.
    pub at: String,
}

impl LeafListener {
    /// The accounts that `authorization` names.
    pub fn accounts(&self) -> impl Iterator<Item = &str> {
        let users = match &self.auth.users {
            LeafUsers::Listed(users) => users.as_slice(),
            LeafUsers::Clients | LeafUsers::One { .. } | LeafUsers::Nkey(_) => &[],
        };
        let of_users = users.iter().filter_map(|user| user.account.as_deref());
        self.auth.account.as_deref().into_iter().chain(of_users)
    }

    /// Taking in a leaf costs 0.9 ms of a core with TLS and an RSA key, 0.15 ms in clear: a quarter of
    /// one core may go to leafs that come back together, and 5,000 of them are back in 20 seconds.
    pub fn default_rate(tls: Option<&Tls>) -> Option<NonZeroU32> {
        NonZeroU32::new(if tls.is_some() { 250 } else { 1500 })
    }
}

impl Default for LeafListener {
    /// What a block with nothing but a port gives, at a port of the system's choice.
    fn default() -> Self {
        LeafListener {
            host: "0.0.0.0".into(),
            port: 0,
            advertise: None,
            no_advertise: false,
            auth: LeafAuth::default(),
            auth_timeout: Limits::default_auth_timeout(None),
            tls: None,
            compression: Compression::default(),
            min_version: None,
            isolate: false,
            write_deadline: None,
            max_handshakes: LeafListener::default_rate(None),
            at: String::new(),
        }
    }
}

/// `leafnodes.authorization`.
#[derive(Clone, Debug, Default)]
pub struct LeafAuth {
    /// `account`: of whoever is let in and is no user with an account. Default `$G`.
    pub account: Option<String>,
    /// Who is let in.
    pub users: LeafUsers,
}

/// Who may connect as a leaf.
#[derive(Clone, Debug, Default)]
pub enum LeafUsers {
    /// Who may connect as a client.
    #[default]
    Clients,
    /// Whoever knows `user` and `password`, which may be a bcrypt hash.
    One {
        /// The name.
        user: String,
        /// Plain text or bcrypt.
        password: String,
    },
    /// Whoever has the seed of this public user nkey, `U...`.
    Nkey(String),
    /// `users`, and nobody else.
    Listed(Vec<LeafUser>),
}

/// An entry of `leafnodes.authorization.users`.
#[derive(Clone, Debug)]
pub struct LeafUser {
    /// The name; with `verify_and_map`, one of its certificate.
    pub user: String,
    /// Plain text or bcrypt.
    pub password: String,
    /// `account`. Default `$G`.
    pub account: Option<String>,
}

/// An address that peers are told in place of the listener's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// Host name or address (IPv6 without brackets).
    pub host: String,
    /// `None`: the listener's.
    pub port: Option<u16>,
}

impl Default for Remote {
    fn default() -> Self {
        Remote {
            ways: Vec::new(),
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
            reconnect: None,
            max_queue_time: Some(DEFAULT_QUEUE_TIME),
        }
    }
}

/// A minute of a slow line: longer than any burst that a line which keeps up on average has to take.
/// What is older has outlived the requests it may belong to.
const DEFAULT_QUEUE_TIME: Duration = Duration::from_secs(60);

/// One way to reach a hub: an entry of `transports`, or what a remote says of itself.
#[derive(Clone, Debug)]
pub struct Way {
    /// `url`, `urls`, in file order. All are WebSocket URLs or none is.
    pub urls: Vec<Url>,
    /// `tls`. With it (and with `tls` and `wss` URLs) a link in clear is refused; without it TLS is
    /// used where the hub asks for it, with the system's authorities.
    pub tls: Option<Tls>,
    /// `compression`. Never used on WebSocket.
    pub compression: Compression,
    /// `ws_compression`: ask for permessage-deflate.
    pub ws_compression: bool,
    /// `ws_no_masking`: ask to send frames without masks.
    pub ws_no_masking: bool,
    /// `proxy`.
    pub proxy: Option<Proxy>,
    /// `dial_timeout`: for the name's look-up and the TCP connection, and for each the proxy's and
    /// the WebSocket's answer. Default 5 seconds.
    pub dial_timeout: Duration,
    /// `first_info_timeout`: for the hub's first INFO, and for its answer to CONNECT. Default 5
    /// seconds.
    pub first_info_timeout: Duration,
}

impl Default for Way {
    fn default() -> Self {
        Way {
            urls: Vec::new(),
            tls: None,
            compression: Compression::default(),
            ws_compression: false,
            ws_no_masking: false,
            proxy: None,
            dial_timeout: PATIENT,
            first_info_timeout: PATIENT,
        }
    }
}

impl Remote {
    /// A remote that is reached at one address.
    pub fn at(url: Url) -> Self {
        Remote {
            ways: vec![Arc::new(Way {
                urls: vec![url],
                ..Way::default()
            })],
            ..Remote::default()
        }
    }
}

impl Way {
    /// Whether TLS begins before the hub has said anything.
    pub fn is_tls_first(&self) -> bool {
        let first = self.tls.as_ref().map(|tls| tls.handshake_first);
        first.is_some_and(|first| first != HandshakeFirst::No)
    }

    /// Whether a link to an address of this scheme is under TLS before a word of NATS is said. The
    /// block decides, not the scheme, but for `wss`, which is never in clear.
    pub fn is_secure_from_the_start(&self, scheme: Scheme) -> bool {
        match scheme {
            Scheme::Wss => true,
            Scheme::Ws => self.tls.is_some(),
            Scheme::Nats | Scheme::Leaf | Scheme::NatsLeaf | Scheme::Tls => self.is_tls_first(),
        }
    }

    /// How long a TLS handshake may take: `tls.timeout`. Default 5 seconds.
    pub fn tls_timeout(&self) -> Duration {
        self.tls.as_ref().map_or(PATIENT, |tls| tls.timeout)
    }
}

/// nats-server waits 1 or 2 seconds for a hub, which a satellite's round trip of 600 ms with one
/// lost packet exceeds.
pub const PATIENT: Duration = Duration::from_secs(5);

/// `compression` of a leaf link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As if we had never heard of it.
    NotSupported,
    /// None, even if the hub asks for it.
    Off,
    /// Only if the hub asks for it.
    Accept,
    /// `s2_fast`.
    Fast,
    /// `s2_better`.
    Better,
    /// `s2_best`.
    Best,
    /// `s2_auto`: by the round trip. Up to four ascending thresholds: below the first, blocks are
    /// not compressed, then fast, better, best. A zero leaves a level out.
    Auto(Vec<Duration>),
}

impl Default for Compression {
    /// `s2_auto` with thresholds of 10, 50 and 100 ms.
    fn default() -> Self {
        Compression::Auto([10, 50, 100].map(Duration::from_millis).to_vec())
    }
}

/// `proxy` of a remote: how the TCP connection is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// What the proxy speaks.
    pub kind: ProxyKind,
    /// Host name or address (IPv6 without brackets).
    pub host: String,
    /// Port.
    pub port: u16,
    /// `username` and `password`.
    pub credentials: Option<(String, Secret)>,
    /// `timeout` for the proxy to be reached and to connect through. `None`: the way's
    /// `dial_timeout`.
    pub timeout: Option<Duration>,
    /// `no_proxy`: hosts that are dialled directly. Names with their subdomains, addresses, networks
    /// (`10.0.0.0/8`), each with an optional `:port`, or `*`.
    pub except: Vec<String>,
}

impl std::fmt::Display for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// `http://` and, as nats-server has it, `https://`: HTTP CONNECT in clear.
    Http,
    /// `socks5://` and `socks5h://`: the proxy resolves names.
    Socks5,
}

/// A `tls` block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// `cert_file` with `key_file`, or `certs`.
    pub certificates: Vec<CertificateFiles>,
    /// `ca_file`: authorities that may sign the peer's certificate. `None`: the system's.
    pub ca_file: Option<String>,
    /// `verify`, `verify_and_map`: who connects needs a certificate.
    pub verify: bool,
    /// `verify_and_map`: the certificate says which user it is.
    pub map: bool,
    /// `insecure`: the hub's certificate is not checked.
    pub insecure: bool,
    /// `pinned_certs`: SHA-256 of the public keys that are accepted; empty accepts any.
    pub pinned_certs: Vec<[u8; 32]>,
    /// `cipher_suites` for TLS 1.2, in order of preference; empty: all. Those of TLS 1.3 are always on.
    pub cipher_suites: Vec<CipherSuite>,
    /// `curve_preferences`, in order; empty: all.
    pub curves: Vec<Curve>,
    /// `min_version`. Default 1.2.
    pub min_version: TlsVersion,
    /// `timeout` of the handshake. Default 2 seconds for listeners, 5 seconds for remotes.
    pub timeout: Duration,
    /// `connection_rate_limit`: handshakes per second on the listener; `None`: no limit.
    pub rate_limit: Option<u32>,
    /// `handshake_first`.
    pub handshake_first: HandshakeFirst,
    /// Where the block stands, `file:line:column`, for what is found out when its files are read;
    /// `None` without a file.
    pub place: Option<String>,
}

impl Default for Tls {
    /// What an empty block gives, with the timeout for listeners.
    fn default() -> Self {
        Tls {
            certificates: Vec::new(),
            ca_file: None,
            verify: false,
            map: false,
            insecure: false,
            pinned_certs: Vec::new(),
            cipher_suites: Vec::new(),
            curves: Vec::new(),
            min_version: TlsVersion::V1_2,
            timeout: Duration::from_secs(2),
            rate_limit: None,
            handshake_first: HandshakeFirst::No,
            place: None,
        }
    }
}

/// A certificate chain and its key, both PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// `cert_file`.
    pub cert: String,
    /// `key_file`.
    pub key: String,
}

/// `handshake_first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFirst {
    /// INFO in clear comes first.
    No,
    /// TLS comes first.
    Yes,
    /// A listener waits so long for a peer that begins with TLS, then says INFO. `auto` is 50 ms.
    After(Duration),
}

/// `min_version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// "1.2".
    V1_2,
    /// "1.3".
    V1_3,
}

/// The cipher suites that can be named and are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum CipherSuite {
    Aes128GcmSha256,
    Aes256GcmSha384,
    Chacha20Poly1305Sha256,
    EcdheEcdsaAes128GcmSha256,
    EcdheEcdsaAes256GcmSha384,
    EcdheEcdsaChacha20Poly1305Sha256,
    EcdheRsaAes128GcmSha256,
    EcdheRsaAes256GcmSha384,
    EcdheRsaChacha20Poly1305Sha256,
}

/// The key exchanges that can be named and are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum Curve {
    X25519,
    P256,
    P384,
}

/// `websocket`: where clients and leafs connect over WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebsocketListener {
    /// `host`, `net`, `listen`. Default `0.0.0.0`.
    pub host: String,
    /// `port`, `listen`; -1 in the file is 0 here (let the system choose).
    pub port: u16,
    /// `advertise`: host, or host and port, told to peers instead of the listener's. Nobody is told
    /// without a cluster.
    pub advertise: Option<String>,
    /// `tls`. WebSocket clients begin with it, whatever `handshake_first` says.
    pub tls: Option<Tls>,
    /// `no_tls`: the listener is in clear on purpose.
    pub no_tls: bool,
    /// `same_origin`: a page must come from the host and port it connects to.
    pub same_origin: bool,
    /// `allowed_origins`: where pages may come from, each an [`Origin`](super::Origin); empty: from
    /// anywhere.
    pub allowed_origins: Vec<String>,
    /// `compression`: permessage-deflate for those who ask for it.
    pub compression: bool,
    /// `handshake_timeout`: from the connection to the end of the HTTP request, TLS included. Default
    /// 5 seconds (nats-server waits for ever).
    pub handshake_timeout: Duration,
    /// `authorization` and `no_auth_user` of the block; there are no users of its own. See
    /// [`WebsocketListener::overrides_auth`].
    pub auth: Auth,
    /// `authorization.timeout` of the block; `None`: that of clients.
    pub auth_timeout: Option<Duration>,
    /// `ping_interval`; `None`: that of clients.
    pub ping_interval: Option<Duration>,
    /// `jwt_cookie`, `user_cookie`, `pass_cookie`, `token_cookie`.
    pub cookies: CookieNames,
    /// `headers`: names and values added to the answer that upgrades.
    pub headers: Vec<(String, String)>,
    /// Where the block stands, `file:line:column`; `None` without a file.
    pub place: Option<String>,
}

impl WebsocketListener {
    /// Whether [`WebsocketListener::auth`] counts instead of what clients have: nothing is taken
    /// from both.
    pub fn overrides_auth(&self) -> bool {
        let auth = &self.auth;
        auth.user.is_some() || auth.token.is_some() || auth.no_auth_user.is_some()
    }
}

impl Default for WebsocketListener {
    /// What an empty block gives, at a port of the system's choice.
    fn default() -> Self {
        WebsocketListener {
            host: "0.0.0.0".into(),
            port: 0,
            advertise: None,
            tls: None,
            no_tls: false,
            same_origin: false,
            allowed_origins: Vec::new(),
            compression: false,
            handshake_timeout: PATIENT,
            auth: Auth::default(),
            auth_timeout: None,
            ping_interval: None,
            cookies: CookieNames::default(),
            headers: Vec::new(),
            place: None,
        }
    }
}

/// The cookies that hold what a CONNECT may leave out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CookieNames {
    /// `jwt_cookie`.
    pub jwt: Option<String>,
    /// `user_cookie`.
    pub user: Option<String>,
    /// `pass_cookie`.
    pub pass: Option<String>,
    /// `token_cookie`.
    pub token: Option<String>,
}

/// Where a remote is dialled. `Display` and `Debug` never show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// How.
    pub scheme: Scheme,
    /// Host name or address (IPv6 without brackets).
    pub host: String,
    /// Default 7422.
    pub port: u16,
    /// What follows the port, for WebSocket: empty, or beginning with `/`.
    pub path: String,
    /// User name, or token when there is no password.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Secret>,
}

impl Url {
    /// An address without user and path.
    pub fn new(scheme: Scheme, host: impl Into<String>, port: u16) -> Self {
        Url {
            scheme,
            host: host.into(),
            port,
            path: String::new(),
            user: None,
            password: None,
        }
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.scheme.is_websocket() {
            write!(f, "{}://", self.scheme.name())?;
        }
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

/// How a URL says a hub is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `nats://`.
    Nats,
    /// `leaf://`.
    Leaf,
    /// `nats-leaf://`.
    NatsLeaf,
    /// `tls://`: as `nats://`, but never in clear.
    Tls,
    /// `ws://`.
    Ws,
    /// `wss://`.
    Wss,
}

impl Scheme {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Nats => "nats",
            Scheme::Leaf => "leaf",
            Scheme::NatsLeaf => "nats-leaf",
            Scheme::Tls => "tls",
            Scheme::Ws => "ws",
            Scheme::Wss => "wss",
        }
    }

    /// Whether the link is a WebSocket.
    pub fn is_websocket(self) -> bool {
        matches!(self, Scheme::Ws | Scheme::Wss)
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
            mappings: Vec::new(),
            system_account: Some(SYSTEM_ACCOUNT.into()),
            operator: OperatorMode::default(),
            tls: None,
            allow_non_tls: false,
            websocket: None,
            remotes: Vec::new(),
            leafnodes: None,
            threads: None,
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
