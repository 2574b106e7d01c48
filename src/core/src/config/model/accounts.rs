//! What an account says of its limits, of the subjects in it, and of what it shares with others.

use std::time::Duration;

/// `limits` of an account. `None` is unlimited, as is a negative number in the file; 0 is a limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountLimits {
    /// `max_connections` (`max_conn`): clients and leafs; only clients are refused by it.
    pub max_connections: Option<usize>,
    /// `max_leafnodes` (`max_leafs`).
    pub max_leafnodes: Option<usize>,
    /// `max_subscriptions` (`max_subs`) of each connection.
    pub max_subscriptions: Option<usize>,
    /// `max_payload` (`max_pay`) in bytes.
    pub max_payload: Option<usize>,
}

/// One entry of `mappings`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The pattern of what is published.
    pub source: String,
    /// Where it goes.
    pub destinations: Vec<Destination>,
}

/// One destination of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// `destination` (`dest`): a subject with mapping functions.
    pub subject: String,
    /// `weight` in percent, 0 to 100. A destination that stands alone as text has 100.
    pub weight: u8,
    /// `cluster`: the name of the only cluster it holds in.
    pub cluster: Option<String>,
}

/// One entry of `exports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Export {
    /// Others may subscribe to it.
    Stream(StreamExport),
    /// Others may send requests to it.
    Service(ServiceExport),
}

/// A `stream` of `exports`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamExport {
    /// The pattern.
    pub subject: String,
    /// Who may import it.
    pub audience: Audience,
}

/// A `service` of `exports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceExport {
    /// The pattern.
    pub subject: String,
    /// Who may import it.
    pub audience: Audience,
    /// `response_type` (`response`). Default singleton.
    pub response: ResponseType,
    /// `response_threshold` (`threshold`, `response_time`, `response_max_time`): how long a request
    /// waits for its first response, and those after it for the next. Default 2 minutes.
    pub threshold: Duration,
    /// `latency`: samples of how long requests take.
    pub latency: Option<Latency>,
    /// `allow_trace`: traces of messages go on in this account.
    pub allow_trace: bool,
}

impl Default for ServiceExport {
    fn default() -> Self {
        ServiceExport {
            subject: String::new(),
            audience: Audience::default(),
            response: ResponseType::default(),
            threshold: Duration::from_secs(120),
            latency: None,
            allow_trace: false,
        }
    }
}

/// Who may import an export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    /// Everybody.
    #[default]
    Public,
    /// `accounts`: these.
    Accounts(Vec<String>),
    /// `account_token_position`, from 1: everybody, but only subjects that name it in this token.
    Token(usize),
}

/// How a service answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseType {
    /// `singleton`, `single`: one message per request.
    #[default]
    Singleton,
    /// `stream`: any number of messages.
    Stream,
    /// `chunked`, `chunk`: one answer in several messages.
    Chunked,
}

/// `latency` of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Its place in the file; empty if it came from none.
    pub at: String,
    /// Where samples are published, in the account that exports.
    pub subject: String,
    /// Which requests are measured.
    pub sampling: Sampling,
}

/// Which requests are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// So many of 100, 1 to 100. Default 100.
    Percent(u8),
    /// `headers`: those whose headers ask for a trace.
    Headers,
}

/// One entry of `imports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Import {
    /// Subscriptions reach into another account.
    Stream(StreamImport),
    /// Requests go to another account.
    Service(ServiceImport),
}

/// A `stream` of `imports`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamImport {
    /// The account that exports.
    pub account: String,
    /// The pattern there.
    pub subject: String,
    /// `to`: the pattern here. With `prefix` it is the prefix and the subject. `None`: the same.
    pub to: Option<String>,
    /// `allow_trace`: traces of messages go on in this account.
    pub allow_trace: bool,
}

/// A `service` of `imports`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceImport {
    /// The account that exports.
    pub account: String,
    /// The pattern there.
    pub subject: String,
    /// `to`: the pattern here. `None`: the same.
    pub to: Option<String>,
    /// `share`: who asks is told to the service.
    pub share: bool,
}
