//! Clients that come over WebSocket: what their listener tells them and how it judges them, and what
//! their HTTP request says. And the words in which a WebSocket is closed.
//!
//! Everything else of such a client is a client's; the frames are the transport's.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::users::{Claim, Users};
use crate::config::model::{Config, Secret, WebsocketListener};

/// The websocket listener, as the clients behind it need to know it.
#[derive(Debug)]
pub struct WebsocketPort {
    /// The host that clients are told.
    pub host: String,
    /// The port that clients are told.
    pub port: u16,
    /// `host:port` of all websocket listeners of the cluster.
    pub urls: Vec<String>,
    /// Whether it is under TLS.
    pub tls: bool,
    /// A client's certificate says which user it is.
    pub map: bool,
    /// Who may connect; `None`: whoever may without WebSocket, `allowed_connection_types` permitting.
    pub users: Option<Users>,
    /// Time from the upgrade to CONNECT; `None`: that of clients.
    pub auth_timeout: Option<Duration>,
    /// `None`: that of clients.
    pub ping_interval: Option<Duration>,
    /// The server's `max_payload`: no compressed message to a client stands for more.
    pub max_payload: usize,
}

impl WebsocketPort {
    /// The listener of a checked configuration, at the address it has got.
    pub fn new(config: &Config, listener: &WebsocketListener, host: String, port: u16) -> Self {
        WebsocketPort {
            host,
            port,
            urls: Vec::new(),
            tls: listener.tls.is_some(),
            map: listener.tls.as_ref().is_some_and(|tls| tls.map),
            users: Users::compile_websocket(config, listener),
            auth_timeout: listener.auth_timeout,
            ping_interval: listener.ping_interval,
            max_payload: config.limits.max_payload,
        }
    }
}

/// How a client came over WebSocket.
#[derive(Clone, Debug)]
pub struct WebsocketVisit {
    /// Where.
    pub port: Arc<WebsocketPort>,
    /// What its cookies say.
    pub cookies: Cookies,
    /// Whom a proxy in front of us says it serves. Anybody can say so: it is for the log alone.
    pub forwarded_for: Option<IpAddr>,
}

/// Values of the cookies that the listener names. Taken for what CONNECT leaves out.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Cookies {
    /// A user's JWT.
    pub jwt: Option<Secret>,
    /// A user's name.
    pub user: Option<String>,
    /// A user's password.
    pub pass: Option<Secret>,
    /// A token.
    pub token: Option<Secret>,
}

impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cookies")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Cookies {
    /// The claim, with what it lacks and they have. Each for itself: a password of CONNECT goes with
    /// the user of a cookie.
    pub(crate) fn complete<'a>(&'a self, claim: Claim<'a>) -> Claim<'a> {
        fn or<'a>(said: Option<&'a str>, cookie: Option<&'a str>) -> Option<&'a str> {
            said.filter(|text| !text.is_empty()).or(cookie)
        }
        fn shown(secret: &Option<Secret>) -> Option<&str> {
            secret.as_ref().map(Secret::reveal)
        }
        Claim {
            user: or(claim.user, self.user.as_deref()),
            pass: or(claim.pass, shown(&self.pass)),
            token: or(claim.token, shown(&self.token)),
            jwt: or(claim.jwt, shown(&self.jwt)),
            ..claim
        }
    }
}

/// How we close a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// The code.
    pub code: u16,
    /// Why. A close frame has room for 123 bytes of it.
    pub reason: Box<str>,
}

impl Farewell {
    /// For a link that ends in these words, which are those of
    /// [`ProtoError::reason`](crate::wire::error::ProtoError::reason) where the peer did something
    /// wrong. The codes are those of nats-server (client protocol, WebSocket clients).
    pub fn of(cause: &str) -> Self {
        let code = match cause {
            "Stale Connection" | "Server Shutdown" => 1001,
            "Protocol Violation" | "Bad Client Protocol Version" => 1002,
            "Authentication Failure"
            | "Authentication Timeout"
            | "Maximum Account Connections Exceeded"
            | "Maximum Connections Exceeded"
            | "Maximum Control Line Exceeded"
            | "Maximum Subscriptions Exceeded" => 1008,
            "Maximum Message Payload Exceeded" => 1009,
            _ if cause.starts_with("Slow Consumer") => 1008,
            _ => 1011,
        };
        Farewell {
            code,
            reason: cause.into(),
        }
    }
}

#[cfg(test)]
mod tests;
