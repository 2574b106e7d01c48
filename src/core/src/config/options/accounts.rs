//! `accounts`: an array of names, or a map from names to blocks.
//!
//! | key of a block | value |
//! |---|---|
//! | nkey | public account nkey, checked and otherwise unused without operators |
//! | users, default_permissions | as in `authorization` |
//! | jetstream | ignored with a warning when it asks for something |
//! | limits | max_connections (max_conn), max_leafnodes (max_leafs), max_subscriptions (max_subs), max_payload (max_pay); below 0 is no limit |
//! | mappings (maps), exports, imports | as in `mappings` and `sharing` |
//! | msg_trace (trace_dest) | not served |

use std::collections::HashSet;

use super::auth::{is_public_nkey, read_users, with_defaults};
use super::mappings::mappings;
use super::perms::permissions;
use super::reader::Sink;
use super::sharing::{exports, imports};
use super::unserved::{is_off, jetstream_form};
use crate::account::{self, Item};
use crate::config::model::{Account, AccountLimits, Auth, GLOBAL_ACCOUNT, User, UserIdentity};
use crate::config::units::quote;
use crate::config::value::{Entry, Node, Position, Value};

/// An account, with the places of what it is made of.
pub(super) struct Read {
    account: Account,
    node: Node,
    exports: Vec<Position>,
    imports: Vec<Position>,
}

impl Read {
    fn named(name: &str, node: &Node) -> Read {
        Read {
            account: Account {
                name: name.to_string(),
                ..Account::default()
            },
            node: node.clone(),
            exports: Vec::new(),
            imports: Vec::new(),
        }
    }
}

pub(super) fn accounts(entry: &Entry, sink: &mut Sink) -> Vec<Read> {
    let mut out: Vec<Read> = Vec::new();
    let mut seen = HashSet::new();
    match &entry.node.value {
        Value::Array(list) => {
            for node in list {
                let Some(name) = sink.string(node) else {
                    continue;
                };
                if is_free(&name, node, &mut seen, sink) {
                    out.push(Read::named(&name, node));
                }
            }
        }
        Value::Map(map) => {
            for entry in map.iter().filter(|entry| !entry.used) {
                let node = &entry.node;
                if !matches!(node.value, Value::Map(_)) {
                    sink.error(&node.position, "Expected map entries for accounts");
                } else if is_free(&entry.key, node, &mut seen, sink) {
                    out.push(account(entry, sink));
                }
            }
        }
        // Upstream takes anything else for no accounts.
        _ => sink.error(&entry.node.position, "Expected map entries for accounts"),
    }
    out
}

fn is_free(name: &str, node: &Node, seen: &mut HashSet<String>, sink: &mut Sink) -> bool {
    if name == GLOBAL_ACCOUNT {
        let text = format!("{} is a Reserved Account", quote(name));
        sink.error(&node.position, text);
        return false;
    }
    let free = seen.insert(name.to_string());
    if !free {
        sink.error(&node.position, format!("Duplicate Account Entry: {name}"));
    }
    free
}

fn account(entry: &Entry, sink: &mut Sink) -> Read {
    let mut users = Vec::new();
    let mut defaults = None;
    let mut out = Read::named(&entry.key, &entry.node);
    let account = &mut out.account;
    if let Value::Map(map) = &entry.node.value {
        for entry in map.iter() {
            let node = &entry.node;
            match entry.key.to_lowercase().as_str() {
                "nkey" => nkey(node, sink),
                "users" => users = read_users(node, sink),
                "default_permissions" => defaults = permissions(node, sink),
                "jetstream" => {
                    if jetstream_form(entry, sink) {
                        sink.warn(&node.position, &entry.key, "ignored, there is no jetstream");
                    }
                }
                "limits" => account.limits = limits(node, sink),
                "mappings" | "maps" => account.mappings = mappings(node, sink),
                "exports" => {
                    (account.exports, out.exports) = exports(node, sink).into_iter().unzip();
                }
                "imports" => {
                    (account.imports, out.imports) = imports(node, sink).into_iter().unzip();
                }
                "msg_trace" | "trace_dest" => {
                    if !is_off(&node.value) {
                        sink.unserved(entry, "remove it");
                    }
                }
                _ => sink.unknown(entry),
            }
        }
    }
    account.users = with_defaults(users, defaults);
    out
}

fn nkey(node: &Node, sink: &mut Sink) {
    let valid = match &node.value {
        Value::String(text) => is_public_nkey(text, 'A'),
        _ => false,
    };
    if valid {
        return;
    }
    // What starts like a seed is one.
    let shown = match &node.value {
        Value::String(text) if text.starts_with('S') => quote("[REDACTED]"),
        Value::String(text) => quote(text),
        other => quote(&other.shown()),
    };
    let text = format!("Not a valid public nkey for an account: {shown}");
    sink.error(&node.position, text);
}

fn limits(node: &Node, sink: &mut Sink) -> AccountLimits {
    let mut out = AccountLimits::default();
    let Value::Map(map) = &node.value else {
        let got = node.value.shown();
        let text = format!("Expected account limits to be a map/struct, got {got}");
        sink.error(&node.position, text);
        return out;
    };
    for entry in map.iter() {
        let limit = match entry.key.to_lowercase().as_str() {
            "max_connections" | "max_conn" => &mut out.max_connections,
            "max_subscriptions" | "max_subs" => &mut out.max_subscriptions,
            "max_payload" | "max_pay" => &mut out.max_payload,
            "max_leafnodes" | "max_leafs" => &mut out.max_leafnodes,
            _ if entry.used => continue,
            _ => {
                let key = quote(&entry.key);
                let text = format!("Unknown field {key} parsing account limits");
                sink.error(&entry.node.position, text);
                continue;
            }
        };
        // Below zero there is none.
        *limit = sink.int(&entry.node).and_then(|n| usize::try_from(n).ok());
    }
    out
}

/// Whether exports and imports fit each other.
pub(super) fn share(
    read: Vec<Read>,
    system_account: Option<&str>,
    sink: &mut Sink,
) -> Vec<Account> {
    let places: Vec<_> = read
        .iter()
        .map(|r| (r.exports.clone(), r.imports.clone()))
        .collect();
    let accounts: Vec<Account> = read.into_iter().map(|read| read.account).collect();
    for error in account::check(&accounts, system_account) {
        let place = places
            .get(error.account)
            .and_then(|(exports, imports)| match error.item {
                Item::Export(at) => exports.get(at),
                Item::Import(at) => imports.get(at),
            });
        // nats-server names the place of `accounts`.
        if let Some(place) = place {
            sink.error(place, error.to_string());
        }
    }
    accounts
}

/// What the users of accounts and the `authorization` block may not have in common.
pub(super) fn cross_check(
    auth: &Auth,
    auth_at: Option<&Entry>,
    accounts: &[Read],
    sink: &mut Sink,
) {
    let mut seen = HashSet::new();
    if let Some(entry) = auth_at {
        duplicates(&auth.users, &entry.node, &mut seen, sink);
    }
    for Read { account, node, .. } in accounts {
        if account.users.is_empty() {
            continue;
        }
        if auth.user.is_some() {
            let text = "Can not have a single user/pass and accounts";
            sink.error(&node.position, text);
        }
        if auth.token.is_some() {
            sink.error(&node.position, "Can not have a token and accounts");
        }
        duplicates(&account.users, node, &mut seen, sink);
    }
}

fn duplicates(users: &[User], node: &Node, seen: &mut HashSet<String>, sink: &mut Sink) {
    for user in users {
        let (kind, name) = match &user.identity {
            UserIdentity::Password { user, .. } => ("user", user),
            UserIdentity::Nkey(key) => ("nkey", key),
        };
        if !seen.insert(format!("{kind} {name}")) {
            let text = format!("Duplicate {kind} {} detected", quote(name));
            sink.error(&node.position, text);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
