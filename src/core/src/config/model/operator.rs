//! What a configuration says of operator mode, in which accounts and users are JWTs.
//!
//! JWTs are kept as they were written: whoever decodes them reports what is wrong with one by its
//! place.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::{Secret, Tls};
use crate::auth::public_key::AccountKey;

/// Operator mode: who signs accounts, and where their JWTs come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperatorMode {
    /// `operator`: whose accounts are served. With exactly one, its JWT says what
    /// [`resolver`](OperatorMode::resolver) and `system_account` are where the file does not.
    pub operators: Vec<OperatorJwt>,
    /// `trusted_keys`: public operator nkeys, `O...`, in place of operators' JWTs.
    pub trusted_keys: Vec<String>,
    /// `resolver`. `None`: see [`operators`](OperatorMode::operators).
    pub resolver: Option<Resolver>,
    /// `resolver_preload`, in file order.
    pub preload: Vec<PreloadedAccount>,
    /// `resolver_tls`: for a URL resolver. Default timeout 5 seconds.
    pub resolver_tls: Option<Tls>,
    /// `resolver_pinned_accounts`: with the system account, the only ones whose users may log in;
    /// empty: all.
    pub pinned_accounts: Vec<AccountKey>,
    /// `default_sentinel`: the JWT of a bearer user, for clients that have none.
    pub default_sentinel: Option<PlacedJwt>,
}

impl OperatorMode {
    /// Whether clients are users by JWT.
    pub fn is_on(&self) -> bool {
        !self.operators.is_empty() || !self.trusted_keys.is_empty()
    }
}

/// One value of `operator`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorJwt {
    /// Where its text is.
    pub source: JwtSource,
    /// Where it stands, `file:line:column`.
    pub at: String,
}

/// Where the text of an operator's JWT is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwtSource {
    /// In the configuration.
    Text(String),
    /// In a file of this path, bare or between the lines that `nsc` puts around it.
    File(String),
}

/// A JWT, not decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedJwt {
    /// Three chunks with dots between; nothing else is known of it.
    pub text: String,
    /// Where it stands, `file:line:column`.
    pub at: String,
}

/// An entry of `resolver_preload`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreloadedAccount {
    /// The account.
    pub account: AccountKey,
    /// Its JWT.
    pub jwt: PlacedJwt,
}

/// `resolver`: where the JWTs of accounts come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolver {
    /// `MEMORY`: `resolver_preload` has them all.
    Memory,
    /// `URL(...)`: a web server has them.
    Url(ResolverUrl),
    /// `type: full`: a directory that has all accounts, kept the same on all servers.
    Full(FullResolver),
    /// `type: cache`: a directory of those that were used, asked of full resolvers.
    Cache(CacheResolver),
}

/// `URL(...)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolverUrl {
    /// Whether it is `https`.
    pub secure: bool,
    /// Host name or address (IPv6 without brackets).
    pub host: String,
    /// Port. Default 80, with `https` 443.
    pub port: u16,
    /// Begins and ends with `/`; an account's key is put behind it.
    pub path: String,
    /// User and password, for the request.
    pub credentials: Option<(String, Secret)>,
    /// Where it stands, `file:line:column`.
    pub at: String,
}

/// Without its credentials.
impl fmt::Display for ResolverUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        let ResolverUrl {
            host, port, path, ..
        } = self;
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}{path}")
        } else {
            write!(f, "{scheme}://{host}:{port}{path}")
        }
    }
}

/// `type: full`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullResolver {
    /// `dir`.
    pub dir: String,
    /// `limit`: more accounts are refused. Default `None`: any number.
    pub limit: Option<NonZeroUsize>,
    /// `allow_delete` and `hard_delete`.
    pub deletion: DeleteRequests,
    /// `interval` between two comparisons with other full resolvers. Default 1 minute.
    pub interval: Duration,
    /// `timeout` of a look-up at other servers. Default 1.9 seconds.
    pub timeout: Duration,
    /// Where the block stands, `file:line:column`.
    pub at: String,
}

/// `allow_delete` and `hard_delete`: what a request to delete accounts does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeleteRequests {
    /// It is refused.
    #[default]
    Refused,
    /// `allow_delete`: the file is renamed.
    Rename,
    /// With `hard_delete`: the file is removed.
    Remove,
}

/// `type: cache`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheResolver {
    /// `dir`.
    pub dir: String,
    /// `limit`: the accounts that are kept; those least used go. Default 1000.
    pub limit: NonZeroUsize,
    /// `ttl`: how long an account is kept that nobody uses. Default `None`: until it expires.
    pub ttl: Option<Duration>,
    /// `timeout` of a look-up at other servers. Default 1.9 seconds.
    pub timeout: Duration,
    /// Where the block stands, `file:line:column`.
    pub at: String,
}
