//! Who asks a service of another account, as that is told (accounts, services).

use serde::Serialize;

use crate::account::imports::Share;
use crate::auth::users::Identity;
use crate::link::{Portrait, Server};
use crate::wall::WallClock;

/// The accounts that a request has come through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accounts<'a> {
    /// The requester's own.
    pub(crate) asks: &'a str,
    /// The last one on the way, if its service is one of a further account; else empty.
    pub(crate) through: &'a str,
}

/// The value of `Nats-Request-Info`.
#[derive(Default, Serialize)]
struct Info<'a> {
    /// When the connection began; left out before anybody has told what the wall clock shows.
    #[serde(skip_serializing_if = "str::is_empty")]
    start: &'a str,
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

/// What a service of another account is told of who asks.
pub(crate) fn request_info(
    requester: Option<Portrait<'_>>,
    accounts: Accounts<'_>,
    share: Share,
    server: &Server,
    wall: &WallClock,
) -> String {
    let rtt = requester.and_then(|it| it.round_trip);
    let little = Info {
        acc: accounts.asks,
        svc: accounts.through,
        rtt: rtt.map_or(0, |time| time.as_nanos() as u64),
        ..Info::default()
    };
    let host = requester.map(|it| it.address.to_string());
    let start = requester.and_then(|it| wall.name(it.since));
    let info = match (requester, share) {
        (Some(it), Share::Everything) => Info {
            start: start.as_deref().unwrap_or_default(),
            host: host.as_deref().unwrap_or_default(),
            id: it.number,
            user: it.identity.and_then(Identity::name).unwrap_or_default(),
            name: it.name,
            lang: it.lang,
            ver: it.version,
            // Of a leaf that is who it is, once more.
            server: if it.kind.is_leaf() {
                it.name
            } else {
                &server.name
            },
            kind: it.kind.kind(),
            client_type: it.kind.client_type(),
            ..little
        },
        _ => little,
    };
    serde_json::to_string(&info).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::model::ConnectionType;
    use crate::time::Instant;

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
        let wall = WallClock::default();
        let user = Identity::User("b".into());
        let requester = Portrait {
            number: 5,
            kind: ConnectionType::Standard,
            address: [127, 0, 0, 1].into(),
            since: Instant::ZERO,
            account: None,
            identity: Some(&user),
            name: "a:b",
            lang: "python3",
            version: "1.2",
            round_trip: Some(Duration::from_micros(2)),
            ending: None,
        };
        let whole = "\"host\":\"127.0.0.1\",\"id\":5,\"acc\":\"B\",\"user\":\"b\",\"name\":\"a:b\",\
                     \"lang\":\"python3\",\"ver\":\"1.2\",\"rtt\":2000,\"server\":\"S\",\
                     \"kind\":\"Client\",\"client_type\":\"nats\"}";
        let b = Accounts {
            asks: "B",
            through: "",
        };
        let told = |who, accounts, share| request_info(who, accounts, share, &server, &wall);
        let all = Share::Everything;
        assert_eq!(
            told(Some(requester), b, Share::Little),
            "{\"acc\":\"B\",\"rtt\":2000}"
        );
        assert_eq!(told(Some(requester), b, all), format!("{{{whole}"));
        wall.tell(Instant::from_nanos(5), Duration::from_nanos(60_000_000_008));
        assert_eq!(
            told(Some(requester), b, all),
            format!("{{\"start\":\"1970-01-01T00:01:00.000000003Z\",{whole}")
        );
        let leaf = Portrait {
            kind: ConnectionType::Leafnode,
            name: "L",
            lang: "",
            ..requester
        };
        let told_of_leaf = told(Some(leaf), b, all);
        assert!(
            told_of_leaf.ends_with("\"rtt\":2000,\"server\":\"L\",\"kind\":\"Leafnode\"}"),
            "{told_of_leaf}"
        );
        let chained = Accounts {
            asks: "C",
            through: "B",
        };
        assert_eq!(
            told(None, chained, Share::Little),
            "{\"acc\":\"C\",\"svc\":\"B\"}"
        );
    }
}
