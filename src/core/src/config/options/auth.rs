//! `authorization` and the users in it and in accounts.
//!
//! | key (aliases) | value | default |
//! |---|---|---|
//! | user (username), password (pass) | text; a bcrypt hash as password | none |
//! | token | text or bcrypt hash | none |
//! | timeout | seconds or duration | 2 s; with `tls` one more than its timeout |
//! | users | array of users | none |
//! | default_permissions (default_permission, permissions) | permissions | unrestricted |
//! | auth_callout (auth_hook), proxy_required | not served | |

use std::time::Duration;

use super::perms::permissions;
use super::reader::Sink;
use crate::config::model::{Auth, ConnectionType, Permissions, User, UserIdentity};
use crate::config::units::quote;
use crate::config::value::{Entry, Node, Value};

/// What the block gives: the users, and the time to authenticate if it says so.
pub(super) fn authorization(entry: &Entry, sink: &mut Sink) -> Option<(Auth, Option<Duration>)> {
    let map = sink.map(&entry.node)?;
    let mut auth = Auth::default();
    let mut limit = None;
    let (mut user, mut password, mut users) = (None, None, None);
    let mut defaults = None;
    for entry in map.iter() {
        let node = &entry.node;
        match entry.key.to_lowercase().as_str() {
            "user" | "username" => user = sink.string(node),
            "password" | "pass" => password = sink.string(node),
            "token" => auth.token = sink.string(node).filter(|token| !token.is_empty()),
            "timeout" => {
                limit = timeout(entry, "error parsing authorization config, 'timeout'", sink);
            }
            "users" => users = Some(read_users(node, sink)),
            "default_permissions" | "default_permission" | "permissions" => {
                defaults = permissions(node, sink);
            }
            "auth_callout" | "auth_hook" => {
                sink.unserved(entry, "remove it and list the users here");
            }
            "proxy_required" => {
                if sink.boolean(node) == Some(true) {
                    sink.unserved(entry, "remove it, proxies are not verified");
                }
            }
            _ => sink.unknown(entry),
        }
    }
    let user = user.filter(|user| !user.is_empty());
    let password = password.filter(|password| !password.is_empty());
    let at = &entry.node.position;
    if (user.is_some() || password.is_some()) && auth.token.is_some() {
        sink.error(at, "Cannot have a user/pass and token");
    }
    if users.is_some() {
        if user.is_some() {
            sink.error(at, "Can not have a single user/pass and a users array");
        }
        if auth.token.is_some() {
            sink.error(at, "Can not have a token and a users array");
        }
    }
    auth.users = with_defaults(users.unwrap_or_default(), defaults);
    // A password alone names nobody.
    auth.user = user.map(|user| (user, password.unwrap_or_default()));
    Some((auth, limit))
}

/// A number of seconds, or a duration. `what` begins the texts.
pub(super) fn timeout(entry: &Entry, what: &str, sink: &mut Sink) -> Option<Duration> {
    let node = &entry.node;
    let value = sink.seconds(node, what)?;
    let seconds = value.as_secs_f64();
    if seconds > 60.0 {
        let shown = match &node.value {
            Value::String(text) => text.clone(),
            other => other.shown(),
        };
        let reason = format!(
            "timeout of {shown} ({seconds:.6} seconds) is high, consider keeping it under 60 seconds. possibly caused by unquoted duration; use '1m' instead of 1m, for example"
        );
        sink.warn(&node.position, &entry.key, reason);
    }
    Some(value)
}

/// Gives the block's permissions to users without their own.
pub(super) fn with_defaults(mut users: Vec<User>, defaults: Option<Permissions>) -> Vec<User> {
    for user in &mut users {
        if user.permissions.is_none() {
            user.permissions.clone_from(&defaults);
        }
    }
    users
}

/// A `users` array.
pub(super) fn read_users(node: &Node, sink: &mut Sink) -> Vec<User> {
    let Value::Array(list) = &node.value else {
        let got = node.value.shown();
        let text = format!("Expected users field to be an array, got {got}");
        sink.error(&node.position, text);
        return Vec::new();
    };
    list.iter()
        .filter_map(|node| read_user(node, sink))
        .collect()
}

fn read_user(node: &Node, sink: &mut Sink) -> Option<User> {
    let Value::Map(map) = &node.value else {
        let got = node.value.shown();
        let text = format!("Expected user entry to be a map/struct, got {got}");
        sink.error(&node.position, text);
        return None;
    };
    let (mut name, mut password, mut nkey) = (None, None, None);
    let mut own = None;
    let mut connection_types = Vec::new();
    for entry in map.iter() {
        let node = &entry.node;
        match entry.key.to_lowercase().as_str() {
            "user" | "username" => name = sink.string(node),
            "password" | "pass" => password = sink.string(node),
            "nkey" => nkey = sink.string(node),
            "permissions" | "permission" | "authorization" => own = permissions(node, sink),
            "allowed_connection_types" | "connection_types" | "clients" => {
                connection_types = read_types(node, sink);
            }
            "proxy_required" => {
                if sink.boolean(node) == Some(true) {
                    sink.unserved(entry, "remove it, proxies are not verified");
                }
            }
            _ => sink.unknown(entry),
        }
    }
    // Upstream reports a user at one of its keys.
    let at = map.last_position().unwrap_or(&node.position);
    let name = name.filter(|name| !name.is_empty());
    let identity = match (name, nkey.filter(|nkey| !nkey.is_empty())) {
        (None, None) => {
            sink.error(at, "User entry requires a user");
            return None;
        }
        (name, Some(nkey)) => {
            if !is_public_nkey(&nkey, 'U') {
                sink.error(at, "Not a valid public nkey for a user");
                return None;
            }
            if name.is_some() || password.is_some_and(|p| !p.is_empty()) {
                sink.error(at, "Nkey users do not take usernames or passwords");
                return None;
            }
            UserIdentity::Nkey(nkey)
        }
        (Some(user), None) => UserIdentity::Password {
            user,
            password: password.unwrap_or_default(),
        },
    };
    Some(User {
        identity,
        permissions: own,
        connection_types,
    })
}

/// Whether it is a public nkey of the kind its first letter says.
pub(super) fn is_public_nkey(text: &str, kind: char) -> bool {
    text.starts_with(kind) && nkeys::KeyPair::from_public_key(text).is_ok()
}

fn read_types(node: &Node, sink: &mut Sink) -> Vec<ConnectionType> {
    let mut names = Vec::new();
    match &node.value {
        Value::String(text) => names.push(text.to_uppercase()),
        Value::Array(list) => {
            for node in list {
                names.extend(sink.string(node).map(|text| text.to_uppercase()));
            }
        }
        other => {
            let got = other.type_name();
            let text = format!("error parsing allowed connection types: unsupported type {got}");
            sink.error(&node.position, text);
        }
    }
    let mut known = Vec::new();
    let mut unknown = Vec::new();
    for name in names {
        known.push(match name.as_str() {
            "STANDARD" => ConnectionType::Standard,
            "WEBSOCKET" => ConnectionType::Websocket,
            "LEAFNODE" => ConnectionType::Leafnode,
            "LEAFNODE_WS" => ConnectionType::LeafnodeWs,
            "MQTT" => ConnectionType::Mqtt,
            "MQTT_WS" => ConnectionType::MqttWs,
            "IN_PROCESS" => ConnectionType::InProcess,
            _ => {
                unknown.push(quote(&name));
                continue;
            }
        });
    }
    if !unknown.is_empty() {
        let text = format!("invalid connection types [{}]", unknown.join(" "));
        sink.error(&node.position, text);
    }
    known
}
