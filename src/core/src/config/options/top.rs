//! The options of the top level.
//!
//! | key (aliases) | value | default |
//! |---|---|---|
//! | listen | port or host:port | |
//! | host (net), port | text, -1 or 0 to 65535 | 0.0.0.0, 4222 |
//! | client_advertise, server_name | text | none, the server's id |
//! | debug, trace, logtime, logtime_utc | bool | false, false, true, false |
//! | log_file (logfile), pid_file (pidfile) | path | none |
//! | max_connections (max_conn) | number; 0 or less accepts none | 65536 |
//! | max_subscriptions (max_subs) | number; 0 or less is no limit | no limit |
//! | max_sub_tokens (max_subscription_tokens) | 1 to 255 | no limit |
//! | max_control_line, max_payload | bytes, 31 bits | 4096, 1 MiB |
//! | max_pending | bytes | 64 MiB |
//! | ping_interval, ping_max | duration, number | 2 minutes, 2 |
//! | write_deadline | duration | 10 s |
//! | no_fast_producer_stall, no_header_support | bool | false |
//! | lame_duck_duration, lame_duck_grace_period | duration as text | 2 minutes, 10 s |
//! | connect_error_reports, reconnect_error_reports | number | 3600, 1 |
//! | no_auth_user | text | none |
//! | system_account (system), no_system_account (no_system, no_sys_acc) | text, bool | `$SYS`, false |
//! | mappings (maps) | those of `$G` | none |
//! | write_timeout | `default` or `close` | close |
//! | threads | 1 to 1024; ours | as the machine has |
//! | allow_non_tls | bool: clients in clear besides those with TLS | false |
//! | operator, trusted_keys, resolver, ... | see `operator` | |
//! | authorization, accounts, leafnodes (leaf), tls, websocket (ws) | blocks | |

use std::num::NonZeroUsize;
use std::time::Duration;

use super::reader::Sink;
use super::tls::{self, Peer};
use super::{accounts, auth, leafnodes, mappings, operator, unserved, websocket};
use crate::config::model::{Config, Limits, SYSTEM_ACCOUNT};
use crate::config::units::show_duration;
use crate::config::value::{Entry, Map, Value};

/// More threads than that are a slip of the pen.
const MOST_THREADS: usize = 1024;

pub(super) fn read(map: &Map, sink: &mut Sink) -> Config {
    let mut config = Config::default();
    let mut accounts_read = Vec::new();
    let mut auth_at = None;
    let mut auth_timeout = None;
    let mut non_tls_at = None;
    let mut lone_account = None;
    for entry in map.iter() {
        match entry.key.to_lowercase().as_str() {
            "authorization" => {
                auth_at = Some(entry);
                if let Some((read, timeout)) = auth::authorization(entry, sink) {
                    let no_auth_user = config.auth.no_auth_user.take();
                    config.auth = read;
                    config.auth.no_auth_user = no_auth_user;
                    auth_timeout = timeout;
                }
            }
            "accounts" => accounts_read = accounts::accounts(entry, sink),
            "mappings" | "maps" => config.mappings = mappings::mappings(&entry.node, sink),
            "leafnodes" | "leaf" => {
                let read = leafnodes::leafnodes(entry, sink);
                (config.remotes, config.leafnodes) = (read.remotes, read.listener);
                lone_account = read.lone_account;
            }
            "tls" => config.tls = tls::tls(entry, Peer::Client, sink),
            "websocket" | "ws" => config.websocket = websocket::websocket(entry, sink),
            "allow_non_tls" => {
                non_tls_at = Some(entry);
                config.allow_non_tls = sink.boolean(&entry.node).unwrap_or(false);
            }
            "store_dir" | "storedir" if duplicate_store(map) => {
                sink.error(&entry.node.position, "Duplicate 'store_dir' configuration");
            }
            name => {
                let known = scalar(name, entry, &mut config, sink)
                    || operator::option(name, entry, &mut config.operator, sink)
                    || unserved::top_level(entry, sink);
                if !known {
                    sink.unknown(entry);
                }
            }
        }
    }
    let default = || Limits::default_auth_timeout(config.tls.as_ref());
    config.limits.auth_timeout = auth_timeout.unwrap_or_else(default);
    if let Some(entry) = non_tls_at
        && config.allow_non_tls
        && config.tls.is_none()
    {
        let reason = "ignored, without a tls block clients connect in clear anyway";
        sink.warn(&entry.node.position, &entry.key, reason);
    }
    operator::finish(map, &config.operator, sink);
    accounts::cross_check(&config.auth, auth_at, &accounts_read, sink);
    config.accounts = accounts::share(accounts_read, config.system_account.as_deref(), sink);
    if let Some(entry) = lone_account
        && config.auth_required()
    {
        let reason = "ignored, leafs are users of this server and are bound to the user's account";
        sink.warn(&entry.node.position, &entry.key, reason);
    }
    config
}

/// Whether the `jetstream` block has a `store_dir` too.
fn duplicate_store(map: &Map) -> bool {
    map.iter().any(|entry| {
        entry.key.eq_ignore_ascii_case("jetstream")
            && matches!(&entry.node.value, Value::Map(map) if map.iter().any(|entry| {
                matches!(entry.key.to_lowercase().as_str(), "store_dir" | "store" | "storedir")
            }))
    })
}

/// The options that hold one value. `false` if it is none of them.
fn scalar(name: &str, entry: &Entry, config: &mut Config, sink: &mut Sink) -> bool {
    let node = &entry.node;
    let at = &node.position;
    let limits = &mut config.limits;
    match name {
        "listen" => {
            if let Some((host, port)) = sink.host_port(node) {
                config.host = host.unwrap_or_else(|| Config::default().host);
                config.port = sink.port(at, port).unwrap_or(4222);
            }
        }
        "host" | "net" => {
            let host = sink.string(node).filter(|host| !host.is_empty());
            config.host = host.unwrap_or_else(|| Config::default().host);
        }
        "port" => {
            if let Some(port) = sink.int(node) {
                config.port = sink.port(at, port).unwrap_or(4222);
            }
        }
        "client_advertise" => {
            config.client_advertise = sink.string(node).filter(|text| !text.is_empty());
        }
        "server_name" => {
            config.server_name = sink.string(node).filter(|text| !text.is_empty());
            if config
                .server_name
                .as_deref()
                .is_some_and(|n| n.contains(' '))
            {
                sink.error(at, "server name cannot contain spaces");
            }
        }
        "debug" => set(&mut config.log.debug, sink.boolean(node)),
        "trace" => set(&mut config.log.trace, sink.boolean(node)),
        "logtime" => set(&mut config.log.time, sink.boolean(node)),
        "logtime_utc" => set(&mut config.log.utc, sink.boolean(node)),
        "log_file" | "logfile" => {
            config.log.file = sink.string(node).filter(|path| !path.is_empty());
        }
        "pid_file" | "pidfile" => {
            config.pid_file = sink.string(node).filter(|path| !path.is_empty());
        }
        "max_connections" | "max_conn" => {
            if let Some(n) = sink.int(node) {
                limits.max_connections = usize::try_from(n.max(0)).unwrap_or(usize::MAX);
            }
        }
        "max_subscriptions" | "max_subs" => {
            let n = sink.int(node).filter(|n| *n > 0);
            limits.max_subscriptions = n.and_then(|n| usize::try_from(n).ok());
        }
        "max_sub_tokens" | "max_subscription_tokens" => match sink.int(node) {
            None => {}
            Some(n) if n <= 0 => sink.error(at, "max_sub_tokens value can not be negative"),
            Some(n) => match u8::try_from(n) {
                Ok(n) => limits.max_subscription_tokens = Some(n),
                Err(_) => sink.error(at, "max_sub_tokens value is too big"),
            },
        },
        "max_control_line" => set(&mut limits.max_control_line, sink.size32(entry)),
        "max_payload" => set(&mut limits.max_payload, sink.size32(entry)),
        "max_pending" => {
            let size = sink.count(entry).and_then(|n| usize::try_from(n).ok());
            set(&mut limits.max_pending, size.filter(|n| *n > 0));
        }
        "ping_interval" => set(&mut limits.ping_interval, sink.duration(entry)),
        "ping_max" => {
            let max = sink.count(entry).filter(|n| *n > 0);
            set(&mut limits.ping_max, max.map(saturated));
        }
        "write_deadline" => set(&mut limits.write_deadline, sink.duration(entry)),
        "write_timeout" => match sink.string(node).map(|text| text.to_lowercase()).as_deref() {
            None | Some("default" | "close") => {}
            Some("retry") => sink.unserved(entry, "remove it, slow clients are closed"),
            Some(_) => {
                sink.error(at, "write_timeout must be 'default', 'close' or 'retry'");
            }
        },
        "no_fast_producer_stall" => {
            set(&mut limits.no_fast_producer_stall, sink.boolean(node));
        }
        "no_header_support" => set(&mut config.no_header_support, sink.boolean(node)),
        "lame_duck_duration" => {
            if let Some(value) = sink.strict_duration(entry) {
                if value < Duration::from_secs(30) {
                    let shown = show_duration(value);
                    let text =
                        format!("invalid lame_duck_duration of {shown}, minimum is 30 seconds");
                    sink.error(at, text);
                } else {
                    config.lame_duck_duration = value;
                }
            }
        }
        "lame_duck_grace_period" => {
            let value = sink.strict_duration(entry).filter(|value| !value.is_zero());
            set(&mut config.lame_duck_grace_period, value);
        }
        "connect_error_reports" => {
            let n = sink.count(entry).filter(|n| *n > 0);
            set(&mut config.connect_error_reports, n.map(saturated));
        }
        "reconnect_error_reports" => {
            let n = sink.count(entry).filter(|n| *n > 0);
            set(&mut config.reconnect_error_reports, n.map(saturated));
        }
        "threads" => match sink.int(node) {
            None => {}
            Some(n) => {
                let n = usize::try_from(n).ok().filter(|n| *n <= MOST_THREADS);
                config.threads = n.and_then(NonZeroUsize::new);
                if config.threads.is_none() {
                    sink.error(at, format!("threads should be from 1 to {MOST_THREADS}"));
                }
            }
        },
        "no_auth_user" => {
            config.auth.no_auth_user = sink.string(node).filter(|user| !user.is_empty());
        }
        "system_account" | "system" => match &node.value {
            Value::String(name) if name.is_empty() => {}
            Value::String(name) => config.system_account = Some(name.clone()),
            _ => sink.error(at, "system account name must be a string"),
        },
        "no_system_account" | "no_system" | "no_sys_acc" => {
            // An account that is named is one nevertheless.
            let unnamed = config.system_account.as_deref() == Some(SYSTEM_ACCOUNT);
            if sink.boolean(node) == Some(true) && unnamed {
                config.system_account = None;
            }
        }
        _ => return false,
    }
    true
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn saturated(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
