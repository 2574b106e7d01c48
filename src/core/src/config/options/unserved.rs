//! What nats-server serves and we do not: refused by name, accepted where it is turned off, ignored
//! with a warning where ignoring it changes nothing for clients.

use super::reader::Sink;
use crate::config::value::{Entry, Map, Value};

const REMOVE: &str = "remove it";
const MONITOR: &str = "remove it, there is no monitoring endpoint";

/// Top-level options (lower case) and what to do about them.
const REFUSED: &[(&str, &str)] = &[
    ("disable_sublist_cache", REMOVE),
    ("http", MONITOR),
    ("http_base_path", MONITOR),
    ("http_port", MONITOR),
    ("https", MONITOR),
    ("https_port", MONITOR),
    ("log_max_num", "remove it and rotate the file outside"),
    ("log_size_limit", "remove it and rotate the file outside"),
    ("logfile_max_num", "remove it and rotate the file outside"),
    (
        "logfile_size_limit",
        "remove it and rotate the file outside",
    ),
    ("max_closed_clients", MONITOR),
    ("max_traced_msg_len", REMOVE),
    ("monitor_port", MONITOR),
    ("no_sublist_cache", REMOVE),
    ("ocsp", "set it to false"),
    ("ocsp_cache", "set it to false"),
    ("ports_file_dir", REMOVE),
    ("proxies", "remove it, proxies are not verified"),
    ("proxy_protocol", REMOVE),
    ("remote_syslog", "use log_file"),
    ("server_metadata", MONITOR),
    ("server_tags", MONITOR),
    ("syslog", "use log_file"),
    ("trace_headers", "use trace"),
    ("trace_verbose", "use trace"),
];

/// Options that only matter to what is not here: a warning, no more.
const IGNORED: &[&str] = &[
    "default_js_domain",
    "feature_flags",
    "prof_block_rate",
    "prof_port",
    "store_dir",
    "storedir",
];

/// Options of listeners and clusters: (name, keys, keys that turn it on, hint).
const BLOCKS: &[(&str, &str, &str, &str)] = &[
    (
        "cluster",
        "name listen host net port authorization routes tls advertise cluster_advertise \
         no_advertise connect_retries connect_backoff permissions pool_size accounts compression \
         ping_interval ping_max write_deadline write_timeout",
        "name listen port routes",
        "connect to a cluster with leafnodes.remotes",
    ),
    (
        "gateway",
        "name listen host net port authorization tls advertise connect_retries connect_backoff \
         reject_unknown_cluster reject_unknown write_deadline write_timeout gateways",
        "name listen port gateways",
        "connect to a super cluster with leafnodes.remotes",
    ),
    (
        "mqtt",
        "listen host net port tls authorization no_auth_user ack_wait ackwait js_api_timeout \
         api_timeout max_ack_pending max_pending max_inflight js_domain stream_replicas \
         consumer_replicas consumer_memory_storage consumer_inactive_threshold \
         consumer_auto_cleanup reject_qos2_publish downgrade_qos2_subscribe",
        "listen port",
        "remove it or set its port to 0",
    ),
];

const JETSTREAM: &str = "strict store_dir store storedir sync_interval sync max_mem \
    max_memory_store max_mem_store max_file max_file_store domain enabled enable key ek \
    encryption_key prev_key prev_ek prev_encryption_key cipher extension_hint limits tpm \
    unique_tag max_outstanding_catchup max_buffered_size max_buffered_msgs request_queue_limit \
    info_queue_limit meta_compact meta_compact_size meta_compact_sync max_concurrent_io";

/// Limits an account may have.
const ACCOUNT_JETSTREAM: &str = "max_memory max_mem mem memory max_store max_file max_disk store \
    disk max_streams streams max_consumers consumers max_ack_pending max_bytes_required \
    max_stream_bytes mem_max_stream_bytes memory_max_stream_bytes disk_max_stream_bytes \
    store_max_stream_bytes cluster_traffic";

/// Whether a value says that its option is not in use.
pub(super) fn is_off(value: &Value) -> bool {
    match value {
        Value::Bool(on) => !on,
        Value::Int(n) => *n == 0,
        Value::String(text) => matches!(
            text.to_lowercase().as_str(),
            "" | "off" | "disabled" | "false" | "none" | "never"
        ),
        Value::Array(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Float(_) | Value::Time(_) => false,
    }
}

/// A top-level option that is none of ours. `false` if nats-server does not know it either.
pub(super) fn top_level(entry: &Entry, sink: &mut Sink) -> bool {
    let name = entry.key.to_lowercase();
    let node = &entry.node;
    if name == "jetstream" {
        if jetstream_form(entry, sink) {
            sink.unserved(entry, "remove the block or set it to disabled");
        }
    } else if IGNORED.contains(&name.as_str()) {
        sink.warn(
            &node.position,
            &entry.key,
            "ignored, it has no effect in petiole",
        );
    } else if let Some((name, known, active, hint)) =
        BLOCKS.iter().find(|(block, ..)| *block == name)
    {
        match &node.value {
            Value::Map(map) => {
                unknown_keys(map, known, sink);
                if is_active(map, active) {
                    sink.unserved(entry, hint);
                }
            }
            other => {
                let verb = match *name {
                    "cluster" => "Expected map to define cluster".to_string(),
                    name => format!("Expected {name} to be a map"),
                };
                let text = format!("{verb}, got {}", other.type_name());
                sink.error(&node.position, text);
            }
        }
    } else if let Some((_, hint)) = REFUSED.iter().find(|(known, _)| *known == name) {
        if !is_off(&node.value) {
            sink.unserved(entry, hint);
        }
    } else {
        return false;
    }
    true
}

fn unknown_keys(map: &Map, known: &str, sink: &mut Sink) {
    for entry in map.iter() {
        let key = entry.key.to_lowercase();
        if !known.split_whitespace().any(|known| known == key) {
            sink.unknown(entry);
        }
    }
}

fn is_active(map: &Map, active: &str) -> bool {
    map.iter().any(|entry| {
        let key = entry.key.to_lowercase();
        active.split_whitespace().any(|active| active == key) && !is_off(&entry.node.value)
    })
}

/// Whether a `jetstream` block (of the server or of an account) asks for JetStream; reports what is
/// wrong in it.
pub(super) fn jetstream_form(entry: &Entry, sink: &mut Sink) -> bool {
    let node = &entry.node;
    match &node.value {
        Value::Bool(on) => *on,
        Value::String(text) => match text.to_lowercase().as_str() {
            "enabled" | "enable" => true,
            "disabled" | "disable" => false,
            _ => {
                let text =
                    format!("Expected 'enabled' or 'disabled' for string value, got '{text}'");
                sink.error(&node.position, text);
                false
            }
        },
        Value::Map(map) => {
            let known = [JETSTREAM, ACCOUNT_JETSTREAM].join(" ");
            unknown_keys(map, &known, sink);
            !map.iter().any(|entry| {
                let key = entry.key.to_lowercase();
                matches!(key.as_str(), "enabled" | "enable") && is_off(&entry.node.value)
            })
        }
        other => {
            let text = format!(
                "Expected map, bool or string to define JetStream, got {}",
                other.type_name()
            );
            sink.error(&node.position, text);
            false
        }
    }
}
