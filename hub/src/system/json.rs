//! The JSON of events and answers: pure values, in the keys that nats-server has (system account,
//! common objects).

use petiole_core::config::model::{Permissions, ResponseRule, SubjectRules};
use petiole_core::shard::Traffic;
use serde::Serialize;

/// The type of an [`Event`] that tells of a new connection.
pub(super) const CONNECT: &str = "io.nats.server.advisory.v1.client_connect";
/// Of one that is gone, or was not let in.
pub(super) const DISCONNECT: &str = "io.nats.server.advisory.v1.client_disconnect";
/// Of one that tells how many connections an account has.
pub(super) const CONNECTIONS: &str = "io.nats.server.advisory.v1.account_connections";

/// Which server says something, when, and how much it has said before.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ServerInfo<'a> {
    pub(super) name: &'a str,
    pub(super) host: &'a str,
    pub(super) id: &'a str,
    pub(super) ver: &'a str,
    pub(super) jetstream: bool,
    pub(super) flags: u64,
    pub(super) seq: u64,
    pub(super) time: String,
}

/// The answer to `IDZ`.
#[derive(Debug, Serialize)]
pub(super) struct Idz<'a> {
    pub(super) name: &'a str,
    pub(super) host: &'a str,
    pub(super) id: &'a str,
}

/// An answer.
#[derive(Debug, Serialize)]
pub(super) struct Answer<'a, T> {
    pub(super) server: ServerInfo<'a>,
    pub(super) data: T,
}

/// Why there is none.
#[derive(Debug, Serialize)]
pub(super) struct Refusal<'a, T = Fault> {
    pub(super) server: ServerInfo<'a>,
    pub(super) error: T,
}

#[derive(Debug, Serialize)]
pub(super) struct Fault {
    pub(super) code: u16,
    pub(super) description: String,
}

/// What has a type, an id and a time of its own.
#[derive(Debug, Serialize)]
pub(super) struct Event<'a, T> {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) id: String,
    pub(super) timestamp: String,
    pub(super) server: ServerInfo<'a>,
    #[serde(flatten)]
    pub(super) body: T,
}

/// A connection. All that is empty is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ClientInfo {
    pub(super) start: String,
    pub(super) host: String,
    pub(super) id: u64,
    pub(super) acc: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) lang: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) ver: String,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rtt: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) stop: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) name_tag: String,
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) client_type: &'static str,
}

/// Of an event about a new connection.
#[derive(Debug, Serialize)]
pub(super) struct Connected<'a> {
    pub(super) client: &'a ClientInfo,
}

/// Of an event about one that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Disconnected {
    pub(super) client: ClientInfo,
    /// By the client.
    pub(super) sent: Count,
    /// By the client.
    pub(super) received: Count,
    pub(super) reason: String,
}

/// Messages and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Count {
    pub(super) msgs: u64,
    pub(super) bytes: u64,
}

impl Count {
    /// What came.
    pub(super) fn received(traffic: Traffic) -> Count {
        Count {
            msgs: traffic.in_msgs,
            bytes: traffic.in_bytes,
        }
    }

    /// What went.
    pub(super) fn sent(traffic: Traffic) -> Count {
        Count {
            msgs: traffic.out_msgs,
            bytes: traffic.out_bytes,
        }
    }
}

/// The same, and how much of it over which kind of server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct DataStats {
    #[serde(flatten)]
    pub(super) all: Count,
    pub(super) gateways: Count,
    pub(super) routes: Count,
    pub(super) leafs: Count,
}

/// What an account has of connections and what went over them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct AccountStat {
    pub(super) acc: String,
    pub(super) name: String,
    pub(super) conns: usize,
    pub(super) leafnodes: usize,
    pub(super) total_conns: usize,
    pub(super) num_subscriptions: usize,
    pub(super) sent: DataStats,
    pub(super) received: DataStats,
    pub(super) slow_consumers: u64,
}

/// Of the answer to an account's `STATZ`.
#[derive(Debug, Serialize)]
pub(super) struct AccountStats<'a> {
    pub(super) server_id: &'a str,
    pub(super) now: String,
    pub(super) account_statz: Vec<AccountStat>,
}

/// `STATSZ`.
#[derive(Debug, Serialize)]
pub(super) struct ServerStatsMessage<'a> {
    pub(super) server: ServerInfo<'a>,
    pub(super) statsz: ServerStats,
}

/// How a server is doing.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct ServerStats {
    pub(super) start: String,
    pub(super) mem: u64,
    pub(super) cores: usize,
    pub(super) cpu: f64,
    pub(super) connections: usize,
    pub(super) total_connections: u64,
    pub(super) active_accounts: usize,
    pub(super) subscriptions: usize,
    pub(super) sent: Count,
    pub(super) sent_to_clients: Count,
    pub(super) received: Count,
    pub(super) received_from_clients: Count,
    pub(super) slow_consumers: u64,
    pub(super) active_servers: usize,
}

/// Of the answer to `HEALTHZ`.
#[derive(Debug, Serialize)]
pub(super) struct Health {
    pub(super) status: &'static str,
    pub(super) status_code: u16,
}

/// Who a client is and what it may do.
#[derive(Debug, Serialize)]
pub(super) struct UserInfo<'a> {
    pub(super) user: &'a str,
    pub(super) account: &'a str,
    pub(super) account_name: &'a str,
    /// What a JWT calls the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) permissions: Option<UserPermissions<'a>>,
}

#[derive(Debug, Serialize)]
pub(super) struct UserPermissions<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    publish: Option<Lists<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscribe: Option<Lists<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    responses: Option<Responses>,
}

#[derive(Debug, Serialize)]
struct Lists<'a> {
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    allow: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    deny: &'a [String],
}

#[derive(Debug, Serialize)]
struct Responses {
    /// -1 is unlimited.
    max: i64,
    /// Nanoseconds; -1 is unlimited.
    ttl: i64,
}

impl<'a> UserPermissions<'a> {
    pub(super) fn of(permissions: &'a Permissions) -> Self {
        let lists = |rules: &'a SubjectRules| {
            (*rules != SubjectRules::default()).then_some(Lists {
                allow: &rules.allow,
                deny: &rules.deny,
            })
        };
        let unlimited = |number: Option<i64>| number.unwrap_or(-1);
        UserPermissions {
            publish: lists(&permissions.publish),
            subscribe: lists(&permissions.subscribe),
            responses: permissions.responses.map(|ResponseRule { max, expires }| {
                let max = max.map(|max| i64::try_from(max).unwrap_or(i64::MAX));
                let ttl = expires.map(|ttl| i64::try_from(ttl.as_nanos()).unwrap_or(i64::MAX));
                Responses {
                    max: unlimited(max),
                    ttl: unlimited(ttl),
                }
            }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn server() -> ServerInfo<'static> {
        ServerInfo {
            name: "S",
            host: "127.0.0.1",
            id: "N1",
            ver: "2.15.1",
            jetstream: false,
            flags: 0,
            seq: 7,
            time: "t".into(),
        }
    }

    /// As nats-server 2.15.1 has it, but for the flags of its JetStream.
    fn server_as_sent() -> Value {
        json!({
            "name": "S", "host": "127.0.0.1", "id": "N1", "ver": "2.15.1", "jetstream": false,
            "flags": 0, "seq": 7, "time": "t",
        })
    }

    fn event<T>(kind: &'static str, body: T) -> Event<'static, T> {
        Event {
            kind,
            id: "i".into(),
            timestamp: "t".into(),
            server: server(),
            body,
        }
    }

    #[test]
    fn a_connection_that_says_nothing_of_itself() {
        let client = ClientInfo {
            start: "s".into(),
            host: "::1".into(),
            id: 15,
            acc: "$G".into(),
            stop: "e".into(),
            name_tag: "$G".into(),
            kind: "Client",
            client_type: "nats",
            ..ClientInfo::default()
        };
        let gone = Disconnected {
            client,
            sent: Count::default(),
            received: Count { msgs: 1, bytes: 3 },
            reason: "Client Closed".into(),
        };
        let sent = serde_json::to_value(event(DISCONNECT, gone)).unwrap();
        assert_eq!(
            sent,
            json!({
                "type": "io.nats.server.advisory.v1.client_disconnect", "id": "i", "timestamp": "t",
                "server": server_as_sent(),
                "client": {
                    "start": "s", "host": "::1", "id": 15, "acc": "$G", "stop": "e",
                    "name_tag": "$G", "kind": "Client", "client_type": "nats",
                },
                "sent": {"msgs": 0, "bytes": 0}, "received": {"msgs": 1, "bytes": 3},
                "reason": "Client Closed",
            })
        );
    }

    #[test]
    fn the_connections_of_an_account() {
        let count = |msgs| Count { msgs, bytes: 2 };
        let stats = DataStats {
            all: count(1),
            leafs: count(5),
            ..DataStats::default()
        };
        let stat = AccountStat {
            acc: "A".into(),
            name: "A".into(),
            conns: 1,
            leafnodes: 2,
            total_conns: 3,
            sent: stats,
            ..AccountStat::default()
        };
        let nothing = json!({"msgs": 0, "bytes": 0});
        assert_eq!(
            serde_json::to_value(event(CONNECTIONS, stat)).unwrap(),
            json!({
                "type": "io.nats.server.advisory.v1.account_connections", "id": "i",
                "timestamp": "t", "server": server_as_sent(), "acc": "A", "name": "A", "conns": 1,
                "leafnodes": 2, "total_conns": 3, "num_subscriptions": 0,
                "sent": {
                    "msgs": 1, "bytes": 2, "gateways": nothing, "routes": nothing,
                    "leafs": {"msgs": 5, "bytes": 2},
                },
                "received": {
                    "msgs": 0, "bytes": 0, "gateways": nothing, "routes": nothing, "leafs": nothing,
                },
                "slow_consumers": 0,
            })
        );
    }

    #[test]
    fn permissions_of_a_user() {
        let permissions = Permissions {
            publish: SubjectRules {
                allow: vec!["foo".into()],
                deny: Vec::new(),
            },
            subscribe: SubjectRules::default(),
            responses: Some(ResponseRule {
                max: None,
                expires: Some(std::time::Duration::from_secs(60)),
            }),
        };
        let told = serde_json::to_value(UserPermissions::of(&permissions)).unwrap();
        assert_eq!(
            told,
            json!({
                "publish": {"allow": ["foo"]},
                "responses": {"max": -1, "ttl": 60_000_000_000_u64},
            })
        );
    }
}
