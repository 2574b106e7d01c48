//! What an account's `limits` allow.
//!
//! Connections are counted for the account on this server; the limits on subscriptions and payloads hold
//! for each connection.

use crate::config::model::AccountLimits;

/// The connections an account has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Clients.
    pub clients: usize,
    /// Leafs that dialled us.
    pub leafs: usize,
}

/// A connection above an account's limit. `Display` is what the peer is told in `-ERR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyConnections;

impl std::fmt::Display for TooManyConnections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("maximum account active connections exceeded")
    }
}

impl std::error::Error for TooManyConnections {}

impl AccountLimits {
    /// Whether one more client may join. Leafs count for `max_connections` as clients do.
    pub fn admit_client(&self, present: Connections) -> Result<(), TooManyConnections> {
        let all = present.clients.saturating_add(present.leafs);
        below(all, self.max_connections)
    }

    /// Whether one more leaf may join. `max_connections` refuses clients only.
    pub fn admit_leaf(&self, present: Connections) -> Result<(), TooManyConnections> {
        below(present.leafs, self.max_leafnodes)
    }

    /// The limit on the subscriptions of a connection, given the server's; `None` is unlimited. Above it
    /// a SUB is refused and the connection stays.
    pub fn subscriptions(&self, server: Option<usize>) -> Option<usize> {
        match (self.max_subscriptions, server) {
            (Some(own), Some(server)) => Some(own.min(server)),
            (own, server) => own.or(server),
        }
    }

    /// The limit on a message's bytes, given the server's. Above it a connection is closed.
    pub fn payload(&self, server: usize) -> usize {
        self.max_payload.map_or(server, |own| own.min(server))
    }
}

fn below(present: usize, limit: Option<usize>) -> Result<(), TooManyConnections> {
    match limit {
        Some(limit) if present >= limit => Err(TooManyConnections),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections() {
        let limits = AccountLimits {
            max_connections: Some(3),
            max_leafnodes: Some(1),
            ..AccountLimits::default()
        };
        let present = |clients, leafs| Connections { clients, leafs };
        assert_eq!(limits.admit_client(present(1, 1)), Ok(()));
        assert_eq!(limits.admit_client(present(2, 1)), Err(TooManyConnections));
        assert_eq!(limits.admit_leaf(present(3, 0)), Ok(()));
        assert_eq!(limits.admit_leaf(present(0, 1)), Err(TooManyConnections));
        let none = AccountLimits::default();
        assert_eq!(none.admit_client(present(usize::MAX, 1)), Ok(()));
        let closed = AccountLimits {
            max_connections: Some(0),
            ..AccountLimits::default()
        };
        assert_eq!(closed.admit_client(present(0, 0)), Err(TooManyConnections));
    }

    #[test]
    fn the_lower_limit_holds() {
        let limits = AccountLimits {
            max_subscriptions: Some(5),
            max_payload: Some(100),
            ..AccountLimits::default()
        };
        assert_eq!(limits.subscriptions(None), Some(5));
        assert_eq!(limits.subscriptions(Some(3)), Some(3));
        assert_eq!(limits.subscriptions(Some(9)), Some(5));
        assert_eq!((limits.payload(200), limits.payload(50)), (100, 50));
        let none = AccountLimits::default();
        assert_eq!(
            (none.subscriptions(None), none.subscriptions(Some(3))),
            (None, Some(3))
        );
        assert_eq!(none.payload(7), 7);
    }
}
