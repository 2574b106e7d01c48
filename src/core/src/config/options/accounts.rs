//! `accounts`: an array of names, or a map from names to blocks.
//!
//! | key of a block | value |
//! |---|---|
//! | nkey | public account nkey, checked and otherwise unused without operators |
//! | users, default_permissions | as in `authorization` |
//! | jetstream | ignored with a warning when it asks for something |
//! | limits, mappings (maps), exports, imports, msg_trace (trace_dest) | not served |

use std::collections::HashSet;

use super::auth::{is_public_nkey, read_users, with_defaults};
use super::perms::permissions;
use super::reader::Sink;
use super::unserved::{is_off, jetstream_form};
use crate::config::model::{Account, Auth, GLOBAL_ACCOUNT, User, UserIdentity};
use crate::config::units::quote;
use crate::config::value::{Entry, Node, Value};

pub(super) fn accounts(entry: &Entry, sink: &mut Sink) -> Vec<(Account, Node)> {
    let mut out: Vec<(Account, Node)> = Vec::new();
    let mut seen = HashSet::new();
    match &entry.node.value {
        Value::Array(list) => {
            for node in list {
                let Some(name) = sink.string(node) else {
                    continue;
                };
                if is_free(&name, node, &mut seen, sink) {
                    let account = Account {
                        name,
                        ..Account::default()
                    };
                    out.push((account, node.clone()));
                }
            }
        }
        Value::Map(map) => {
            for entry in map.iter().filter(|entry| !entry.used) {
                let node = &entry.node;
                if !matches!(node.value, Value::Map(_)) {
                    sink.error(&node.position, "Expected map entries for accounts");
                } else if is_free(&entry.key, node, &mut seen, sink) {
                    out.push((account(entry, sink), node.clone()));
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

fn account(entry: &Entry, sink: &mut Sink) -> Account {
    let mut users = Vec::new();
    let mut defaults = None;
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
                "limits" => {
                    if let Value::Map(map) = &node.value {
                        limits(entry, map.iter(), sink);
                    } else {
                        let got = node.value.shown();
                        let text = format!("Expected account limits to be a map/struct, got {got}");
                        sink.error(&node.position, text);
                    }
                }
                name @ ("exports" | "imports") => match &node.value {
                    Value::Array(list) if list.is_empty() => {}
                    Value::Array(_) => {
                        sink.unserved(entry, "remove it, accounts do not share subjects");
                    }
                    other => {
                        let what = if name == "exports" {
                            "Exports"
                        } else {
                            "Imports"
                        };
                        let got = other.type_name();
                        let text = format!("{what} should be an array, got {got}");
                        sink.error(&node.position, text);
                    }
                },
                "mappings" | "maps" | "msg_trace" | "trace_dest" => {
                    if !is_off(&node.value) {
                        sink.unserved(entry, "remove it");
                    }
                }
                _ => sink.unknown(entry),
            }
        }
    }
    Account {
        name: entry.key.clone(),
        users: with_defaults(users, defaults),
        ..Account::default()
    }
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

/// Limits below zero are none, so they change nothing.
fn limits<'v>(block: &Entry, entries: impl Iterator<Item = &'v Entry>, sink: &mut Sink) {
    let mut limited = false;
    for entry in entries {
        match entry.key.to_lowercase().as_str() {
            "max_connections" | "max_conn" | "max_subscriptions" | "max_subs" | "max_payload"
            | "max_pay" | "max_leafnodes" | "max_leafs" => {
                limited |= sink.int(&entry.node).is_some_and(|n| n >= 0);
            }
            _ if entry.used => {}
            _ => {
                let key = quote(&entry.key);
                let text = format!("Unknown field {key} parsing account limits");
                sink.error(&entry.node.position, text);
            }
        }
    }
    if limited {
        sink.unserved(block, "remove it, only the server's own limits apply");
    }
}

/// What the users of accounts and the `authorization` block may not have in common.
pub(super) fn cross_check(
    auth: &Auth,
    auth_at: Option<&Entry>,
    accounts: &[(Account, Node)],
    sink: &mut Sink,
) {
    let mut seen = HashSet::new();
    if let Some(entry) = auth_at {
        duplicates(&auth.users, &entry.node, &mut seen, sink);
    }
    for (account, node) in accounts {
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
