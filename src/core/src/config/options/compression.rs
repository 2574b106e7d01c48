//! `compression` of leaf links.
//!
//! A mode, or a block:
//!
//! | key (aliases) | value | default |
//! |---|---|---|
//! | mode | on, off, accept, auto, fast, better, best (the last four also with `s2_`), not_supported | s2_auto |
//! | rtt_thresholds (thresholds, rtts, rtt) | up to four ascending durations, for s2_auto | 10, 50, 100 ms |

use std::time::Duration;

use super::reader::Sink;
use crate::config::model::Compression;
use crate::config::units::{parse_duration, quote};
use crate::config::value::{Entry, Value};

/// What the option gives; `None` after an error. Thresholds that make no sense are left to the
/// check at the start.
pub(super) fn compression(entry: &Entry, sink: &mut Sink) -> Option<Compression> {
    let node = &entry.node;
    let mut thresholds = Vec::new();
    let mode = match &node.value {
        Value::Bool(on) => on.to_string(),
        Value::String(text) => text.clone(),
        Value::Map(map) => {
            let mut mode = String::new();
            for entry in map.iter() {
                match entry.key.to_lowercase().as_str() {
                    "mode" => {
                        mode = match &entry.node.value {
                            Value::Bool(on) => on.to_string(),
                            _ => sink.string(&entry.node)?,
                        };
                    }
                    "rtt_thresholds" | "thresholds" | "rtts" | "rtt" => {
                        thresholds = durations(entry, sink)?;
                    }
                    _ => sink.unknown(entry),
                }
            }
            mode
        }
        other => {
            let text = format!(
                "field {} should be a boolean or a structure, got {}",
                quote(&entry.key),
                other.type_name()
            );
            sink.error(&node.position, text);
            return None;
        }
    };
    match mode.to_lowercase().as_str() {
        "" | "on" | "enabled" | "true" | "auto" | "s2_auto" => Some(if thresholds.is_empty() {
            Compression::default()
        } else {
            Compression::Auto(thresholds)
        }),
        "off" | "disabled" | "false" => Some(Compression::Off),
        "accept" => Some(Compression::Accept),
        "fast" | "s2_fast" => Some(Compression::Fast),
        "better" | "s2_better" => Some(Compression::Better),
        "best" | "s2_best" => Some(Compression::Best),
        "not_supported" => Some(Compression::NotSupported),
        // Upstream says so only at the start, not for `-t`.
        _ => {
            let text = format!("unsupported compression mode {}", quote(&mode));
            sink.error(&node.position, text);
            None
        }
    }
}

fn durations(entry: &Entry, sink: &mut Sink) -> Option<Vec<Duration>> {
    let Value::Array(list) = &entry.node.value else {
        return sink.mismatch(&entry.node, "[]interface {}");
    };
    let mut out = Vec::new();
    for node in list {
        let reason = match parse_duration(&sink.string(node)?).map(u64::try_from) {
            Ok(Ok(nanos)) => {
                out.push(Duration::from_nanos(nanos));
                continue;
            }
            Ok(Err(_)) => "invalid RTT threshold, needs to be positive".to_string(),
            Err(e) => e,
        };
        sink.error(&entry.node.position, reason);
        return None;
    }
    Some(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::testing::{config, lines, remote};

    #[test]
    fn forms() {
        let auto = |ms: &[u64]| {
            Compression::Auto(ms.iter().map(|ms| Duration::from_millis(*ms)).collect())
        };
        for (text, wanted) in [
            ("true", auto(&[10, 50, 100])),
            ("Enabled", auto(&[10, 50, 100])),
            ("S2_Auto", auto(&[10, 50, 100])),
            ("{}", auto(&[10, 50, 100])),
            ("{mode: auto, rtts: []}", auto(&[10, 50, 100])),
            ("{mode: on, rtt: [\"5ms\", \"0s\"]}", auto(&[5, 0])),
            ("{thresholds: [\"1s\"]}", auto(&[1000])),
            ("{mode: s2_auto, RTT_Thresholds: [\"1ms\"]}", auto(&[1])),
            ("off", Compression::Off),
            ("disabled", Compression::Off),
            ("{mode: off}", Compression::Off),
            ("accept", Compression::Accept),
            ("fast", Compression::Fast),
            ("s2_better", Compression::Better),
            ("{mode: best, rtt: [\"2s\", \"1s\"]}", Compression::Best),
            ("not_supported", Compression::NotSupported),
        ] {
            let way = remote(&format!("url: \"nats://h\", compression: {text}")).ways;
            assert_eq!(way[0].compression, wanted, "{text}");
        }
        // Remotes inherit the block's, which may stand after them.
        let inherited = config(
            "leafnodes {remotes: [{url: \"nats://a\"}\n{url: \"nats://b\", compression: best}]; compression: fast}",
        );
        let modes: Vec<_> = inherited
            .remotes
            .iter()
            .map(|remote| remote.ways[0].compression.clone())
            .collect();
        assert_eq!(modes, [Compression::Fast, Compression::Best]);
    }

    #[test]
    fn texts() {
        for (text, wanted) in [
            (
                "5",
                "c:1:22: field \"compression\" should be a boolean or a structure, got int64",
            ),
            ("Foo", "c:1:22: unsupported compression mode \"Foo\""),
            (
                "{mode: foo}",
                "c:1:22: unsupported compression mode \"foo\"",
            ),
            (
                "{mode: 5}",
                "c:1:36: interface conversion: interface {} is int64, not string",
            ),
            (
                "{rtt: x}",
                "c:1:36: interface conversion: interface {} is string, not []interface {}",
            ),
            ("{rtt: [x]}", "c:1:36: time: invalid duration \"x\""),
            (
                "{rtt: [\"-1s\"]}",
                "c:1:36: invalid RTT threshold, needs to be positive",
            ),
            ("{foo: 1}", "c:1:36: unknown field \"foo\""),
        ] {
            let printed = lines(&format!("leafnodes {{remotes: [{{compression: {text}}}]}}"));
            assert_eq!(printed, [wanted], "{text}");
        }
    }
}
