//! Who asks a service of another account, as that is told (accounts, services).

use std::time::Duration;

use serde::Serialize;

use crate::account::imports::Share;
use crate::link::Server;

/// A connection that asks.
#[derive(Clone, Debug, Default)]
pub struct Requester {
    /// Its id.
    pub number: u64,
    /// Its address.
    pub host: String,
    /// Its user's name or key.
    pub user: String,
    /// What it calls itself.
    pub name: String,
    /// The language of its library.
    pub lang: String,
    /// The version of its library.
    pub version: String,
    /// What it is: `Client`, `Leafnode`.
    pub kind: &'static str,
    /// How it is carried, of a client: `nats`, `websocket`.
    pub client_type: &'static str,
    /// Of the last ping that was answered.
    pub round_trip: Option<Duration>,
}

/// The accounts that a request has come through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accounts<'a> {
    /// The requester's own.
    pub(crate) asks: &'a str,
    /// The last one on the way, if its service is one of a further account; else empty.
    pub(crate) through: &'a str,
}

/// The value of `Nats-Request-Info`. When the connection began is left out: it is not known here.
#[derive(Serialize)]
struct Info<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    host: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    id: u64,
    acc: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    svc: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    user: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    lang: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    ver: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    rtt: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    server: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    kind: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    client_type: &'a str,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Requester {
    /// The name and the library in a label of the log: `v<version>:<lang>:<name>`.
    pub(crate) fn with_label(mut self, label: &str) -> Self {
        let mut parts = label.splitn(3, ':').peekable();
        if let Some(version) = parts.peek().and_then(|part| part.strip_prefix('v')) {
            self.version = version.into();
            parts.next();
        }
        self.lang = parts.next().unwrap_or_default().into();
        self.name = parts.next().unwrap_or_default().into();
        self
    }

    /// What a service of another account is told of it.
    pub(crate) fn to_json(&self, accounts: Accounts<'_>, share: Share, server: &Server) -> String {
        let rtt = self.round_trip.map_or(0, |time| time.as_nanos() as u64);
        let all = share == Share::Everything;
        let shared = |text: &'static str| if all { text } else { "" };
        let own = |text| if all { text } else { "" };
        let info = Info {
            host: own(&self.host),
            id: if all { self.number } else { 0 },
            acc: accounts.asks,
            svc: accounts.through,
            user: own(&self.user),
            name: own(&self.name),
            lang: own(&self.lang),
            ver: own(&self.version),
            rtt,
            server: own(&server.name),
            kind: shared(self.kind),
            client_type: shared(self.client_type),
        };
        serde_json::to_string(&info).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told() {
        let server = Server {
            id: "N".into(),
            name: "S".into(),
            toolchain: "",
            host: String::new(),
            port: 1,
            headers: true,
        };
        let requester = Requester {
            number: 5,
            host: "127.0.0.1".into(),
            user: "b".into(),
            kind: "Client",
            client_type: "nats",
            round_trip: Some(Duration::from_micros(2)),
            ..Requester::default()
        }
        .with_label("v1.2:python3:a:b");
        let b = Accounts {
            asks: "B",
            through: "",
        };
        assert_eq!(
            requester.to_json(b, Share::Little, &server),
            "{\"acc\":\"B\",\"rtt\":2000}"
        );
        assert_eq!(
            requester.to_json(b, Share::Everything, &server),
            "{\"host\":\"127.0.0.1\",\"id\":5,\"acc\":\"B\",\"user\":\"b\",\"name\":\"a:b\",\
             \"lang\":\"python3\",\"ver\":\"1.2\",\"rtt\":2000,\"server\":\"S\",\"kind\":\"Client\",\
             \"client_type\":\"nats\"}"
        );
        let bare = Requester::default().with_label("");
        let chained = Accounts {
            asks: "C",
            through: "B",
        };
        assert_eq!(
            bare.to_json(chained, Share::Little, &server),
            "{\"acc\":\"C\",\"svc\":\"B\"}"
        );
    }
}
