//! The value tree to [`Config`]: every option by name, every problem collected with its place.
//!
//! Owns which names exist and what they may hold. What only makes sense across options is `check`.

mod accounts;
mod auth;
mod compression;
mod leaf_listener;
mod leafnodes;
mod mappings;
mod operator;
mod perms;
mod proxy;
mod reader;
mod sharing;
mod tls;
mod top;
mod unserved;
mod url;
mod websocket;

pub use url::{BadUrl, parse as parse_remote_url};

use super::diag::{ConfigErrors, Diagnostic};
use super::digest::digest;
use super::model::Config;
use super::parse::{Loader, parse_file};

/// A configuration in order, and what to say about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration, not yet [checked](super::check).
    pub config: Config,
    /// To be printed; `-t` fails on them.
    pub warnings: Vec<Diagnostic>,
}

/// Reads and interprets `path`: stages 1 to 3, what `-t` runs.
pub fn load(path: &str, loader: &dyn Loader) -> Result<Loaded, ConfigErrors> {
    let map = parse_file(path, loader).map_err(|text| ConfigErrors {
        warnings: Vec::new(),
        errors: vec![Diagnostic {
            position: None,
            text,
        }],
    })?;
    let mut sink = reader::Sink::default();
    if map.is_empty() {
        sink.warnings.push(Diagnostic {
            position: None,
            text: format!("{path}: config has no values or is empty"),
        });
    }
    let mut config = top::read(&map, &mut sink);
    config.source = Some(path.to_string());
    config.digest = Some(digest(&map));
    let reader::Sink { errors, warnings } = sink;
    if errors.is_empty() {
        Ok(Loaded { config, warnings })
    } else {
        Err(ConfigErrors { warnings, errors })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::model::UserIdentity;
    use crate::config::testing::{Files, config, lines, load_text, remote};
    use proptest::prelude::*;
    use std::time::Duration;

    const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    const NKEY: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

    #[test]
    fn nothing_written_is_the_default() {
        let loaded = load_text("# nothing").unwrap();
        assert_eq!(
            loaded.warnings[0].to_string(),
            "c: config has no values or is empty"
        );
        assert_eq!(loaded.config.port, 4222);
        assert_eq!(loaded.config.connect_error_reports, 3600);
        assert_eq!(loaded.config.digest.unwrap().len(), 64);
    }

    /// 6, 7, 11 to 15, 20, 21, 23 to 27, 35, 36, 41, 45: one line each, as 2.15.1 prints it.
    #[test]
    fn texts() {
        let conversion = |got: &str, want: &str| {
            format!("interface conversion: interface {{}} is {got}, not {want}")
        };
        let high = |shown: &str, seconds: &str| {
            format!(
                "c:1:15: invalid use of field \"timeout\": timeout of {shown} ({seconds} seconds) is high, consider keeping it under 60 seconds. possibly caused by unquoted duration; use '1m' instead of 1m, for example"
            )
        };
        let rows: Vec<(&str, String)> = vec![
            ("debug: \"true\"", format!("c:1:0: {}", conversion("string", "bool"))),
            ("debug: 2020-01-01T00:00:00Z", format!("c:1:0: {}", conversion("time.Time", "bool"))),
            ("debug: {}", format!("c:1:0: {}", conversion("map[string]interface {}", "bool"))),
            ("max_connections: 1.0", format!("c:1:0: {}", conversion("float64", "int64"))),
            ("host: 5", format!("c:1:0: {}", conversion("int64", "string"))),
            ("ping_interval: 5", "c:1:0: invalid use of field \"ping_interval\": ping_interval should be converted to a duration".into()),
            ("ping_interval: x", "c:1:0: error parsing ping_interval: time: invalid duration \"x\"".into()),
            ("cluster{port:1}", "c:1:0: unknown field \"cluster{port\"".into()),
            ("\u{feff}port: 1", "c:1:0: unknown field \"\\ufeffport\"".into()),
            ("x\"y: 1", "c:1:0: unknown field \"x\\\"y\"".into()),
            ("\n\"x\": 1", "c:2:2: unknown field \"x\"".into()),
            ("listen: x", "c:1:0: could not parse address string \"x\"".into()),
            ("listen: \"a:b\"", "c:1:0: could not parse port \"b\"".into()),
            ("listen: true", "c:1:0: expected port or host:port, got bool".into()),
            ("server_name: \"a b\"", "c:1:0: server name cannot contain spaces".into()),
            ("max_sub_tokens: 256", "c:1:0: max_sub_tokens value is too big".into()),
            ("max_sub_tokens: 0", "c:1:0: max_sub_tokens value can not be negative".into()),
            ("max_control_line: 3000000000", "c:1:0: max_control_line value is too big".into()),
            ("lame_duck_duration: \"29s\"", "c:1:0: invalid lame_duck_duration of 29s, minimum is 30 seconds".into()),
            ("lame_duck_duration: 30", format!("c:1:0: {}", conversion("int64", "string"))),
            ("lame_duck_grace_period: \"-1s\"", "c:1:0: invalid lame_duck_grace_period, needs to be positive".into()),
            ("authorization {user: a, token: b}", "c:1:0: Cannot have a user/pass and token".into()),
            ("authorization {user: a, pass: b, users: []}", "c:1:0: Can not have a single user/pass and a users array".into()),
            ("authorization {token: t, users: []}", "c:1:0: Can not have a token and a users array".into()),
            ("authorization {users: 5}", "c:1:15: Expected users field to be an array, got 5".into()),
            ("authorization {users: [\n7\n]}", "c:2:1: Expected user entry to be a map/struct, got 7".into()),
            ("authorization {users: [{}]}", "c:1:25: User entry requires a user".into()),
            ("authorization {users: [{password: x}]}", "c:1:24: User entry requires a user".into()),
            ("authorization {users: [{nkey: x}]}", "c:1:24: Not a valid public nkey for a user".into()),
            ("authorization {users: [{user: x}, {user: x}]}", "c:1:0: Duplicate user \"x\" detected".into()),
            ("authorization {timeout: 90}", high("90", "90.000000")),
            ("authorization {timeout: \"90s\"}", high("90s", "90.000000")),
            ("authorization {timeout: 90.5}", high("90.5", "90.500000")),
            ("authorization {timeout: x}", "c:1:15: error parsing authorization config, 'timeout' time: invalid duration \"x\"".into()),
            ("authorization {timeout: true}", "c:1:15: error parsing authorization config, 'timeout' wrong type".into()),
            ("authorization {bogus: 1}", "c:1:15: unknown field \"bogus\"".into()),
            ("authorization {users: [{user: a, connection_types: [foo, standard]}]}", "c:1:33: invalid connection types [\"FOO\"]".into()),
            ("authorization {permissions: 5}", "c:1:15: Expected permissions to be a map/struct, got 5".into()),
            ("authorization {permissions: {x: 5}}", "c:1:29: Unknown field \"x\" parsing permissions".into()),
            ("authorization {permissions: {pub: {block: x}}}", "c:1:35: Unknown field name \"block\" parsing subject permissions, only 'allow' or 'deny' are permitted".into()),
            ("authorization {permissions: {pub: {allow: {}}}}", "c:1:35: Expected subject permissions to be a subject, or array of subjects, got map[string]interface {}".into()),
            ("authorization {permissions: {sub: \"a b c\"}}", "c:1:29: subject \"a b c\" is not a valid subject".into()),
            ("authorization {permissions: {pub: \"a b\"}}", "c:1:29: subject \"a b\" is not a valid subject".into()),
            ("authorization {permissions: {allow_responses: 5}}", "c:1:29: error parsing response permissions, expected a boolean or a map".into()),
            ("authorization {permissions: {allow_responses: {ttl: 5}}}", "c:1:47: error parsing expires, not a duration string".into()),
            ("threads: x", format!("c:1:0: {}", conversion("string", "int64"))),
            ("threads: 0", "c:1:0: threads should be from 1 to 1024".into()),
            ("threads: -1", "c:1:0: threads should be from 1 to 1024".into()),
            ("threads: 1025", "c:1:0: threads should be from 1 to 1024".into()),
            ("accounts: [A,A]", "c:1:13: Duplicate Account Entry: A".into()),
            ("accounts: [\"$G\"]", "c:1:12: \"$G\" is a Reserved Account".into()),
            ("accounts: {A: 5}", "c:1:11: Expected map entries for accounts".into()),
            ("accounts: {A: {nkey: x}}", "c:1:15: Not a valid public nkey for an account: \"x\"".into()),
            ("accounts: {A: {limits: {foo: 1}}}", "c:1:24: Unknown field \"foo\" parsing account limits".into()),
            ("accounts: {A: {exports: 5}}", "c:1:15: Exports should be an array, got int64".into()),
            ("accounts: {A: {users: [{user: a}]}, B: {users: [{user: a}]}}", "c:1:36: Duplicate user \"a\" detected".into()),
            ("authorization {token: a}; accounts: {A: {users: [{user: c}]}}", "c:1:37: Can not have a token and accounts".into()),
            ("leafnodes: 5", "c:1:0: Expected map to define a leafnode, got int64".into()),
            ("leafnodes {remotes: 5}", "c:1:11: Expected remotes field to be an array, got int64".into()),
            ("leafnodes {remotes: [{url: 5}]}", "c:1:22: Expected remote leafnode url to be an array or string, got 5".into()),
            ("leafnodes {remotes: [{url: \"nats://a:b@x:zz\"}]}", "c:1:22: error parsing leafnode url [\"nats://a:xxxxx@x:zz\"]".into()),
            ("leafnodes {remotes: [{urls: [\"nats://x:1\", \"nats://x:1\"]}]}", "c:1:44: invalid use of field \"nats://x:1\": Duplicate leafnode entry detected".into()),
            ("leafnodes {remotes: [{nkey: SUSECRET}]}", "c:1:22: Remote leafnode nkey is not a valid seed: \"[REDACTED]\"".into()),
            ("leafnodes {min_version: \"2.7.0\"}", "c:1:11: the minimum version should be at least 2.8.0".into()),
            ("leafnodes {min_version: \"2.10\"}", "c:1:11: invalid leafnode's minimum version: invalid semver".into()),
            ("leafnodes {min_version: \"v2.10.0\"}", "c:1:11: invalid leafnode's minimum version: invalid semver".into()),
            ("allow_non_tls: 5", format!("c:1:0: {}", conversion("int64", "bool"))),
            ("allow_non_tls: true", "c:1:0: invalid use of field \"allow_non_tls\": ignored, without a tls block clients connect in clear anyway".into()),
            ("leafnodes {compression: 5}", "c:1:11: field \"compression\" should be a boolean or a structure, got int64".into()),
            ("jetstream: x", "c:1:0: Expected 'enabled' or 'disabled' for string value, got 'x'".into()),
            ("jetstream {enabled: false, foo: 1}", "c:1:27: unknown field \"foo\"".into()),
            ("jetstream {enabled: false, store_dir: x}\nstore_dir: y", "c:2:1: Duplicate 'store_dir' configuration".into()),
            ("mqtt {port: 0, foo: 1}", "c:1:15: unknown field \"foo\"".into()),
            ("mqtt: 5", "c:1:0: Expected mqtt to be a map, got int64".into()),
            ("cluster {foo: 1}", "c:1:9: unknown field \"foo\"".into()),
        ];
        for (text, wanted) in rows {
            assert_eq!(lines(text), [wanted], "{text}");
        }
    }

    /// 11, 12: a key that names a variable need not be an option.
    #[test]
    fn variables_are_no_options() {
        assert_eq!(config("x: 5000\nport: $x").port, 5000);
        assert_eq!(config("port: 1\nport: 2").port, 2);
        assert_eq!(config("port: 1\nPORT: 2").port, 2);
        assert_eq!(lines("x: 1"), ["c:1:0: unknown field \"x\""]);
    }

    /// 15.
    #[test]
    fn everything_is_reported_warnings_first() {
        let printed = load_text("a: 1\nping_interval: 5\nb: 2")
            .unwrap_err()
            .to_string();
        assert_eq!(
            printed,
            "c:2:1: invalid use of field \"ping_interval\": ping_interval should be converted to a duration\nc:1:0: unknown field \"a\"\nc:3:1: unknown field \"b\"\n"
        );
        let e = load_text("a: [").unwrap_err().to_string();
        assert!(e.starts_with("Parse error on line 1") && !e.ends_with('\n'));
        let e = load("nope", &Files::default()).unwrap_err();
        assert_eq!(e.to_string(), "open nope: no such file or directory");
    }

    /// 1, 6, 19, 20, 22.
    #[test]
    fn top_level_values() {
        let c = config(
            "listen: \"[::1]:-1\"\nmax_conn: 0\nmax_subs: 7\nmax_sub_tokens: 255\nmax_payload: 9MB\nping_interval: 1h\nwrite_deadline: \"1m\"\nlogfile: l\npidfile: p\nlogtime: no\nconnect_error_reports: 5",
        );
        assert_eq!((c.host.as_str(), c.port), ("::1", 0));
        assert_eq!(c.limits.max_connections, 0);
        assert_eq!(c.limits.max_subscriptions, Some(7));
        assert_eq!(c.limits.max_subscription_tokens, Some(255));
        assert_eq!(c.limits.max_payload, 9 << 20);
        assert_eq!(c.limits.ping_interval, Duration::from_secs(3600));
        assert_eq!(c.limits.write_deadline, Duration::from_secs(60));
        assert!(!c.log.time);
        assert_eq!(c.connect_error_reports, 5);
        assert_eq!((c.threads, c.leafnodes.is_none()), (None, true));
        let threads = config("threads: 3").threads.map(usize::from);
        assert_eq!(threads, Some(3));
        assert_eq!(
            config("ping_interval: 1m").limits.ping_interval,
            Duration::from_secs(1_000_000)
        );
        for bad in [
            "port: 65536",
            "port: -2",
            "max_payload: -1",
            "ping_interval: \"-1s\"",
        ] {
            assert!(load_text(bad).is_err(), "{bad}");
        }
    }

    /// 9, 23, 25, 26.
    #[test]
    fn users_and_permissions() {
        let c = config(&format!(
            "authorization {{ timeout: 5, permissions {{ publish {{ allow: [] }} }}, users: [
               {{ username: a, pass: $2a$11$abc, permission {{ sub: [\"foo q\"], allow_responses: true }} }}
               {{ nkey: {NKEY}, clients: leafnode }} ] }}; no_auth_user: a"
        ));
        assert_eq!(c.limits.auth_timeout, Duration::from_secs(5));
        let [a, b] = c.auth.users.as_slice() else {
            unreachable!()
        };
        assert!(
            matches!(&a.identity, UserIdentity::Password { password, .. } if password == "$2a$11$abc")
        );
        assert_eq!(a.permissions.as_ref().unwrap().subscribe.allow, ["foo q"]);
        assert_eq!(
            a.permissions.as_ref().unwrap().responses.unwrap().max,
            Some(1)
        );
        assert_eq!(b.permissions.clone().unwrap(), Default::default());
        assert_eq!(b.connection_types.len(), 1);
        let text = format!("authorization {{users: [{{nkey: {NKEY}, user: z}}]}}");
        assert_eq!(
            lines(&text),
            ["c:1:88: Nkey users do not take usernames or passwords"]
        );
    }

    /// 35, 36.
    #[test]
    fn remotes() {
        let printed = lines("leafnodes {remotes: [7, \"nats://u:p@h\",\n true]}");
        assert_eq!(
            printed,
            [
                "c:1:21: Expected remote leafnode entry to be a map/struct, got 7",
                "c:1:25: Expected remote leafnode entry to be a map/struct, got nats://u:xxxxx@h",
                "c:2:2: Expected remote leafnode entry to be a map/struct, got true",
            ]
        );
        for text in [
            format!("creds: a, nkey: {SEED}"),
            format!("nkey: {SEED}, creds: a"),
        ] {
            let printed = lines(&format!("leafnodes {{remotes: [{{{text}}}]}}"));
            assert!(
                printed[0].ends_with("can not have both creds and nkey defined"),
                "{printed:?}"
            );
        }
        let c = config(
            "leaf { remotes [ {url: \"nats-leaf://h\", local: A, hub: yes} ]; reconnect_delay: \"3s\"; isolate: true }; accounts [A]",
        );
        let r = &c.remotes[0];
        assert_eq!(
            (r.ways[0].urls[0].port, r.account.as_str(), r.hub, r.isolate),
            (7422, "A", true, true)
        );
        assert_eq!(r.reconnect, Some(Duration::from_secs(3)));
        assert!(remote("url: \"leaf://h\", compression: {mode: OFF}, disabled: true").disabled);
    }

    /// 42: aliases in any case.
    #[test]
    fn aliases() {
        for names in [
            "HOST NET",
            "Max_Connections max_CONN",
            "LOG_FILE logfile",
            "pid_file PidFile",
            "max_subscriptions max_subs",
            "max_sub_tokens max_subscription_tokens",
        ] {
            for name in names.split(' ') {
                let text = if name.to_lowercase().starts_with("max") {
                    "5"
                } else {
                    "a"
                };
                assert_eq!(lines(&format!("{name}: {text}")), [""; 0], "{name}");
            }
        }
        for (name, value) in [
            ("creds", "x"),
            ("CREDENTIALS", "x"),
            ("Seed", SEED),
            ("nkey", SEED),
            ("URLS", "\"nats://h\""),
            ("deny_import", "a"),
            ("deny_imports", "a"),
            ("deny_export", "a"),
            ("Deny_Exports", "[a]"),
            ("dont_randomize", "true"),
            ("no_randomize", "true"),
            ("isolate", "true"),
            ("local", "A"),
        ] {
            remote(&format!("{name}: {value}"));
        }
        for key in ["max", "max_msgs", "max_messages", "max_responses"] {
            let c = config(&format!(
                "authorization {{ default_permission {{ publish_allow_responses {{ {key}: -1, TTL: \"1s\" }} }}, USERS: [{{Username: a}}] }}"
            ));
            let rule = c.auth.users[0]
                .permissions
                .clone()
                .unwrap()
                .responses
                .unwrap();
            assert_eq!(
                (rule.max, rule.expires),
                (None, Some(Duration::from_secs(1)))
            );
        }
    }

    /// 45, and what is left for later.
    #[test]
    fn refused_ignored_and_turned_off() {
        for text in [
            "cluster {name: x}",
            "gateway {name: x}",
            "jetstream: true",
            "jetstream {}",
            "JetStream: Enabled",
            "mqtt {port: 1883}",
            "http: 8222",
            "https: 1",
            "http_port: 8222",
            "monitor_port: 1",
            "syslog: true",
            "remote_syslog: \"udp://h\"",
            "ocsp: true",
            "proxies {trusted: [a]}",
            "leafnodes {write_timeout: close}",
            "leafnodes {port: 1, authorization {proxy_required: true}}",
            "leafnodes {port: 1, authorization {users: [{user: a, proxy_required: true}]}}",
            "leafnodes {remotes: [{tls {ocsp_peer: true}}]}",
            "leafnodes {remotes: [{tls {ocsp_peer: {verify: true}}}]}",
            "authorization {auth_callout {}}",
            "trace_verbose: true",
        ] {
            let printed = lines(text);
            assert_eq!(printed.len(), 1, "{text} {printed:?}");
            assert!(
                printed[0].contains("is not served by petiole yet: "),
                "{text} {printed:?}"
            );
        }
        assert_eq!(
            lines("\n  Jetstream: on"),
            [
                "c:2:3: option \"Jetstream\" is not served by petiole yet: remove the block or set it to disabled"
            ]
        );
        for text in [
            "jetstream: false",
            "jetstream: disabled",
            "jetstream {enabled: no, max_mem: 1G}",
            "syslog: false",
            "http_port: 0",
            "leafnodes {port: 0}",
            "leafnodes {listen: 0, authorization {user: a}, advertise: h}",
            "leafnodes {port: 1, authorization {proxy_required: false}}",
            "mqtt {port: 0}",
            "ocsp: false",
            "leafnodes {remotes: [{tls {ocsp_peer: off}}]}",
            "leafnodes {remotes: [{proxy: {}}]}",
            "leafnodes {remotes: [{proxy: off}]}",
            "allow_non_tls: false",
            "system_account: \"$SYS\"",
            "accounts {A {jetstream: disabled}}",
        ] {
            assert_eq!(lines(text), [""; 0], "{text}");
        }
        for text in [
            "store_dir: x",
            "prof_port: 1",
            "default_js_domain: x",
            "feature_flags {a: true}",
            "accounts {A {jetstream {max_mem: 1}}}",
            "leafnodes {remotes: [{js_cluster_migrate: true}]}",
            "leafnodes {authorization {user: a}}",
            "leafnodes {advertise: h}",
            "leafnodes {write_deadline: \"1s\"}",
            "leafnodes {port: 1, write_deadline: \"1s\", remotes: [{url: \"nats://h\"}]}",
            "leafnodes {port: 1, authorization {account: A, users: [{user: a}]}}; accounts [A]",
            "leafnodes {port: 1, authorization {account: A}}; accounts {A {users: [{user: a}]}}",
            "leafnodes {remotes: [{tls {verify: true}}]}",
            "allow_non_tls: true",
        ] {
            assert!(load_text(text).is_ok(), "{text}");
            assert!(lines(text)[0].contains("invalid use of field"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_options_never_panic(
            key in "(authorization|accounts|leafnodes|listen|jetstream|cluster|tls) \\{?",
            text in "(users|remotes|url|timeout|permissions|pub|A|[:\\[\\]{},\"=0-9a-z@/ -]){0,30}",
        ) {
            let _ = load_text(&format!("{key}{text}"));
        }

        /// Values of every type for every option of a remote; a start checks what is loaded.
        #[test]
        fn arbitrary_remotes_never_panic(
            parts in proptest::collection::vec((
                "(url|urls|tls|compression|proxy|transports|max_queue_time|dial_timeout|ws_no_masking)",
                prop_oneof![
                    "-?[0-9]{1,20}",
                    "(true|off|[0-9]\\.[0-9]|\\[\\]|\\{\\})",
                    "\"(nats|tls|ws|wss|http|socks5)?(://)?[-a-z0-9:@/?#.%\\[\\]]{0,12}\"",
                    "\"-?[0-9]{1,19}(ns|ms|s|h)?\"",
                    "\\[(\"[a-z0-9:/@ms]{0,9}\" ?,? ?|-?[0-9]{1,20} ?, ?|\\{url: \"wss://h\"\\} ?, ?){0,5}\\]",
                    "\\{(url|mode|rtt|timeout|no_proxy|certs|cipher_suites|pinned_certs|first|proxy): ?(\"[-0-9a-z:/@,*]{0,9}\"|-?[0-9]{1,20}|\\[x\\]|\\{\\})\\}",
                ],
            ), 0..6),
        ) {
            let mut text = String::new();
            for (key, value) in &parts {
                text.push_str(&format!("{key}: {value}\n"));
            }
            for text in [
                format!("leafnodes {{remotes: [{{\n{text}}}]}}"),
                format!("leafnodes {{remotes: [{{transports: [{{\n{text}}}]}}]}}"),
            ] {
                if let Ok(loaded) = load_text(&text) {
                    let _ = crate::config::check(&loaded.config);
                }
            }
        }
    }
}
