//! Every way up: TLS, TLS first, WebSocket, S2 and proxies, against hubs of all three versions, with
//! requests both ways through each.

use petiole_net::s2::{Decoder, Encoder, Level};
use serde_json::Value;

use crate::common::{Joined, config, each, eventually, exchange, get, hub, petiole};
use crate::support::{Client, FakeHub, LeafLink, Pki, Proxy, RealServer, Relay, Server};

/// A hub's websocket block.
const WS: &str = "websocket { host: \"127.0.0.1\", port: {port:ws}, no_tls: true }";
const WS_COMPRESSED: &str =
    "websocket { host: \"127.0.0.1\", port: {port:ws}, no_tls: true, compression: true }";

/// A hub with these further options and a petiole with this remote, joined, with a request answered
/// in each direction.
#[track_caller]
fn works(hub: &Server, remote: &str) -> Server {
    let leaf = petiole(remote, "debug: true");
    exchange(&leaf, hub);
    leaf
}

fn url(scheme: &str, port: u16) -> String {
    format!("url: \"{scheme}://127.0.0.1:{port}\"")
}

/// The hub's entry for its one leaf.
fn leafz(hub: &Server) -> Value {
    let leafz = get(hub.port_of("mon"), "/leafz").expect("monitoring");
    leafz["leafs"][0].clone()
}

fn is_newer(real: &RealServer, minor: u32) -> bool {
    real.version >= (2, minor, 0)
}

#[test]
fn item_14_tls_behind_info() {
    let pki = Pki::new("CA");
    let server = pki.server("hub");
    each(|real| {
        let hub = hub(real, &format!("tls {{ {} }}", server.options()), "");
        let port = hub.port_of("leaf");
        for scheme in ["nats-leaf", "nats", "tls", "leaf"] {
            let remote = format!("{{ {}, tls {{ {} }} }}", url(scheme, port), pki.ca());
            let leaf = works(&hub, &remote);
            leaf.wait_for_log("TLS version 1.3, cipher suite TLS_AES_128_GCM_SHA256");
        }
        // By name as well as by address.
        let remote = format!(
            "{{ url: \"tls://localhost:{port}\", tls {{ {} }} }}",
            pki.ca()
        );
        works(&hub, &remote);
    });
}

#[test]
fn tls_with_every_option() {
    let pki = Pki::new("CA");
    let (server, client) = (pki.server("hub"), pki.server("leaf"));
    let other = Pki::new("Another");
    let bundle = format!("{}\n{}", other.ca_pem(), pki.ca_pem());
    let bundle = pki.dir().write("bundle.pem", bundle);
    let bundle = format!("ca_file: \"{}\"", bundle.display());
    let pin = format!("pinned_certs: [\"{}\"]", pki.pin(&server).to_uppercase());
    let rows = [
        ("", bundle.clone(), "TLS version 1.3"),
        ("", format!("{}, {pin}", pki.ca()), "TLS handshake complete"),
        (
            "",
            format!("{}, min_version: \"1.3\"", pki.ca()),
            "TLS version 1.3",
        ),
        ("", "insecure: true".into(), "TLS handshake complete"),
        (
            "cipher_suites: [\"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\"]",
            format!("{}, curve_preferences: [CurveP384]", pki.ca()),
            "TLS handshake complete",
        ),
        (
            "",
            format!("{}, timeout: 3", pki.ca()),
            "TLS handshake complete",
        ),
    ];
    each(|real| {
        for (at_hub, at_leaf, said) in &rows {
            let hub = hub(
                real,
                &format!("tls {{ {}, {at_hub} }}", server.options()),
                "",
            );
            let port = hub.port_of("leaf");
            let leaf = works(
                &hub,
                &format!("{{ {}, tls {{ {at_leaf} }} }}", url("tls", port)),
            );
            leaf.wait_for_log(said);
        }
        let mutual = format!("tls {{ {}, {}, verify: true }}", server.options(), pki.ca());
        let hub = hub(real, &mutual, "");
        let port = hub.port_of("leaf");
        let tls = format!("tls {{ {}, {} }}", pki.ca(), client.options());
        works(&hub, &format!("{{ {}, {tls} }}", url("tls", port)));
    });
}

/// The sessions of before are used again: the second handshake costs the hub no signature.
#[test]
fn tls_sessions_are_resumed() {
    let pki = Pki::new("CA");
    let server = pki.server("hub");
    each(|real| {
        let hub = hub(real, &format!("tls {{ {} }}", server.options()), "");
        let relay = Relay::to(hub.port_of("leaf"));
        let remote = format!("{{ {}, tls {{ {} }} }}", url("tls", relay.port()), pki.ca());
        let leaf = works(&hub, &remote);
        let mark = leaf.log_mark();
        relay.cut();
        leaf.wait_for_log_after(mark, "resumed");
        exchange(&leaf, &hub);
    });
}

#[test]
fn item_15_tls_first() {
    let pki = Pki::new("CA");
    let server = pki.server("hub");
    each(|real| {
        if !is_newer(real, 10) {
            return;
        }
        let mut modes = vec!["true"];
        if is_newer(real, 15) {
            modes.extend(["auto", "\"200ms\""]);
        }
        for mode in modes {
            let tls = format!("tls {{ {}, handshake_first: {mode} }}", server.options());
            let hub = hub(real, &tls, "");
            let port = hub.port_of("leaf");
            let first = format!("tls {{ {}, handshake_first: true }}", pki.ca());
            works(&hub, &format!("{{ {}, {first} }}", url("tls", port)));
            if mode != "true" {
                let later = format!("tls {{ {} }}", pki.ca());
                works(&hub, &format!("{{ {}, {later} }}", url("tls", port)));
            }
        }
    });
}

#[test]
fn items_17_to_19_and_23_compression_modes() {
    each(|real| {
        let newer = is_newer(real, 10);
        let modes = [
            "off",
            "accept",
            "s2_fast",
            "s2_better",
            "s2_best",
            "s2_auto",
        ];
        for at_hub in modes {
            let option = match newer {
                true => format!("compression: {at_hub}"),
                // It has never heard of compression.
                false if at_hub == "off" => String::new(),
                false => continue,
            };
            let hub = hub(real, &option, "");
            let port = hub.port_of("leaf");
            for at_leaf in modes {
                let remote = format!("{{ {}, compression: {at_leaf} }}", url("nats-leaf", port));
                let leaf = petiole(&remote, "");
                Joined::new(&leaf, &hub, "", "").settle();
                if !newer {
                    continue;
                }
                let said = leafz(&hub)["compression"].clone();
                let clear = at_hub == "off"
                    || at_leaf == "off"
                    || (at_hub, at_leaf) == ("accept", "accept");
                let said = said.as_str().expect("a mode");
                assert_eq!(said == "off", clear, "hub {at_hub}, leaf {at_leaf}: {said}");
                drop(leaf);
                eventually("the leaf is gone", || match leafz(&hub) {
                    Value::Null => Ok(()),
                    other => Err(other.to_string()),
                });
            }
        }
    });
}

#[test]
fn items_20_and_21_s2_carries_everything() {
    let pki = Pki::new("CA");
    let server = pki.server("hub");
    each(|real| {
        if !is_newer(real, 10) {
            return;
        }
        for mode in ["s2_fast", "s2_better", "s2_best", "s2_auto"] {
            let hub = hub(real, &format!("compression: {mode}"), "");
            let remote = format!(
                "{{ {}, compression: {mode} }}",
                url("nats-leaf", hub.port_of("leaf"))
            );
            works(&hub, &remote);
        }
        // Within TLS.
        let hub = hub(
            real,
            &format!("compression: s2_fast, tls {{ {} }}", server.options()),
            "",
        );
        let tls = format!("tls {{ {} }}, compression: s2_best", pki.ca());
        let remote = format!("{{ {}, {tls} }}", url("tls", hub.port_of("leaf")));
        let _leaf = works(&hub, &remote);
        // What the hub sends with.
        assert_eq!(leafz(&hub)["compression"], "s2_fast");
    });
}

/// With thresholds that no loopback keeps to, what is sent is compressed by the round trip.
#[test]
fn s2_auto_follows_the_round_trip() {
    each(|real| {
        if !is_newer(real, 10) {
            return;
        }
        let hub = hub(real, "", "");
        let compression = "compression: { mode: s2_auto, rtt_thresholds: [0ms, 0ms, 0ms, 10s] }";
        let remote = format!("{{ {}, {compression} }}", url("leaf", hub.port_of("leaf")));
        works(&hub, &remote);
    });
}

#[test]
fn items_24_to_26_websocket() {
    each(|real| {
        for block in [WS, WS_COMPRESSED] {
            let hub = hub(real, "", block);
            let port = hub.port_of("ws");
            for options in [
                "",
                "ws_compression: true",
                "ws_no_masking: true",
                "ws_compression: true, ws_no_masking: true",
            ] {
                // S2 is asked for, and never used on a WebSocket.
                let remote = format!("{{ {}, compression: s2_fast, {options} }}", url("ws", port));
                let _leaf = works(&hub, &remote);
                if is_newer(real, 10) {
                    assert_eq!(leafz(&hub)["compression"], "off");
                }
            }
        }
        let hub = hub(real, "", WS);
        let port = hub.port_of("ws");
        // 2.9 takes what begins with /leafnode for a leaf, later ones what ends with it.
        if is_newer(real, 10) {
            for path in ["/", "/some/path", "/some/path/", "/leafnode"] {
                works(&hub, &format!("{{ url: \"ws://127.0.0.1:{port}{path}\" }}"));
            }
        }
    });
}

#[test]
fn websocket_over_tls() {
    let pki = Pki::new("CA");
    let server = pki.server("hub");
    each(|real| {
        let ws = format!(
            "websocket {{ host: \"127.0.0.1\", port: {{port:ws}}, tls {{ {} }} }}",
            server.options()
        );
        let hub = hub(real, "", &ws);
        let port = hub.port_of("ws");
        let tls = format!("tls {{ {} }}", pki.ca());
        // The block decides, not the scheme.
        for scheme in ["wss", "ws"] {
            works(&hub, &format!("{{ {}, {tls} }}", url(scheme, port)));
        }
    });
}

#[test]
fn http_proxies() {
    let pki = Pki::new("CA");
    let server = pki.server("hub");
    each(|real| {
        let tls = format!("tls {{ {} }}", server.options());
        let plain = hub(real, "", WS);
        let secure = hub(
            real,
            &tls,
            &format!("websocket {{ host: \"127.0.0.1\", port: {{port:ws}}, {tls} }}"),
        );
        let ca = format!("tls {{ {} }}", pki.ca());
        for (hub, link) in [
            (&plain, url("nats-leaf", plain.port_of("leaf"))),
            (&plain, url("ws", plain.port_of("ws"))),
            (
                &secure,
                format!("{}, {ca}", url("tls", secure.port_of("leaf"))),
            ),
            (
                &secure,
                format!("{}, {ca}", url("wss", secure.port_of("ws"))),
            ),
        ] {
            let open = Proxy::http(None);
            let proxy = format!("proxy {{ url: \"http://127.0.0.1:{}\" }}", open.port());
            works(hub, &format!("{{ {link}, {proxy} }}"));
            assert!(open.tunnels() >= 1, "{link}");

            let closed = Proxy::http(Some("dXNlcjpzM2NyM3Q="));
            let proxy = format!(
                "proxy {{ url: \"http://127.0.0.1:{}\", username: user, password: s3cr3t }}",
                closed.port()
            );
            let leaf = works(hub, &format!("{{ {link}, {proxy} }}"));
            assert!(closed.tunnels() >= 1, "{link}");
            assert!(!leaf.log().contains("s3cr3t"), "the log shows the password");
        }
    });
}

#[test]
fn socks_proxies() {
    each(|real| {
        let hub = hub(real, "", WS);
        for link in [
            url("nats-leaf", hub.port_of("leaf")),
            url("ws", hub.port_of("ws")),
            format!("url: \"nats-leaf://localhost:{}\"", hub.port_of("leaf")),
        ] {
            for credentials in [None, Some(("user", "s3cr3t"))] {
                let socks = Proxy::socks5(credentials);
                let info = credentials.map_or("", |_| "user:s3cr3t@");
                let proxy = format!(
                    "proxy {{ url: \"socks5://{info}127.0.0.1:{}\" }}",
                    socks.port()
                );
                let leaf = works(&hub, &format!("{{ {link}, {proxy} }}"));
                assert!(socks.tunnels() >= 1, "{link}");
                let name = if link.contains("localhost") {
                    "localhost:"
                } else {
                    "127.0.0.1:"
                };
                assert!(socks.seen().iter().all(|seen| seen.starts_with(name)));
                assert!(!leaf.log().contains("s3cr3t"), "the log shows the password");
            }
        }
    });
}

#[test]
fn proxies_have_exceptions() {
    each(|real| {
        let hub = hub(real, "", "");
        let proxy = Proxy::http(None);
        let block = format!(
            "proxy {{ url: \"http://127.0.0.1:{}\", no_proxy: [\"10.0.0.0/8\", \"127.0.0.0/8\"] }}",
            proxy.port()
        );
        works(
            &hub,
            &format!("{{ {}, {block} }}", url("leaf", hub.port_of("leaf"))),
        );
        assert_eq!(proxy.tunnels(), 0);
    });
}

/// A ladder of transports: each rung that fails says so in one line, the one that works is tried
/// first after the link was lost.
#[test]
fn transports_in_order_of_preference() {
    let pki = Pki::new("CA");
    each(|real| {
        let mut hub = hub(real, "", WS);
        let (leaf_port, ws_port) = (hub.port_of("leaf"), hub.port_of("ws"));
        let refusing = Proxy::refusing("403 Forbidden");
        let remote = format!(
            "{{ transports: [
                 {{ url: \"tls://127.0.0.1:{leaf_port}\", tls {{ {ca} }} }}
                 {{ url: \"tls://127.0.0.1:{leaf_port}\", tls {{ {ca}, handshake_first: true }} }}
                 {{ url: \"ws://127.0.0.1:{ws_port}\", proxy {{ url: \"http://127.0.0.1:{}\" }} }}
                 {{ url: \"ws://127.0.0.1:{ws_port}\" }} ] }}",
            refusing.port(),
            ca = pki.ca(),
        );
        let leaf = works(&hub, &remote);
        let log = leaf.log();
        for cause in [
            "the hub's INFO does not ask for TLS",
            "it does not expect TLS first",
            "403 Forbidden",
        ] {
            assert_eq!(log.matches(cause).count(), 1, "{cause}");
        }
        let mark = leaf.log_mark();
        hub.kill();
        hub.restart();
        exchange(&leaf, &hub);
        let after = leaf.log()[mark..].to_owned();
        let (failed, _) = after.split_once("is up").expect("it is up again");
        let wrong = failed.matches("TLS").count() + failed.matches("Forbidden").count();
        // Only while the hub was away were the others asked.
        let first = failed.lines().find(|line| line.contains("failed"));
        assert!(
            wrong == 0 || first.is_some_and(|line| line.contains("ws://")),
            "{after}"
        );
    });
}

/// Addresses that the hub lists are dialled the way the first one was: here with TLS, and verified by
/// the name that was configured.
#[test]
fn discovered_addresses_keep_the_name() {
    let pki = Pki::new("CA");
    let server = pki.sign("hub", |params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("localhost".try_into().unwrap())];
    });
    each(|real| {
        let mut hub = hub(real, &format!("tls {{ {} }}", server.options()), "");
        let port = hub.port_of("leaf");
        let remote = format!(
            "{{ url: \"tls://localhost:{port}\", tls {{ {} }} }}",
            pki.ca()
        );
        let leaf = works(&hub, &remote);
        // Its list names 127.0.0.1, which is not in the certificate.
        let mark = leaf.log_mark();
        hub.kill();
        leaf.wait_for_log_after(mark, "failed");
        hub.restart();
        exchange(&leaf, &hub);
        assert!(!leaf.log()[mark..].contains("not valid for name"));
    });
}

#[test]
fn ws_and_other_schemes_do_not_mix() {
    let text = config(
        "{ urls: [\"ws://127.0.0.1:1\", \"nats://127.0.0.1:2\"] }",
        "",
    );
    let out = run_to_its_end(&text);
    assert!(out.contains("ws://127.0.0.1:1"), "{out}");
}

/// What a petiole says that does not start.
fn run_to_its_end(config: &str) -> String {
    let dir = crate::support::TempDir::new();
    let path = dir.write("petiole.conf", config.replace("{port}", "0"));
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_petiole"))
        .arg("-c")
        .arg(path)
        .output()
        .expect("running petiole");
    assert!(!out.status.success());
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// An INFO of a hub that compresses, and the leaf's answer to it: the last that it says in clear.
fn negotiate(hub: &FakeHub, mode: &str) -> (LeafLink, Value) {
    let mut link = hub.accept();
    let mut info = hub.info();
    info["compression"] = mode.into();
    link.send_info(&info);
    let line = link.wire.line().expect("an INFO");
    let json = line
        .strip_prefix(b"INFO ")
        .expect("an INFO")
        .trim_ascii_end();
    let said: Value = serde_json::from_slice(json).expect("JSON");
    assert!(said["compression"].is_string(), "{said}");
    (link, info)
}

/// The next bytes of a compressed link, decoded until they hold `text`.
fn decoded(link: &mut LeafLink, decoder: &mut Decoder, text: &str) -> String {
    let mut plain = Vec::new();
    let mut room = vec![0; 64 << 10];
    while !String::from_utf8_lossy(&plain).contains(text) {
        let byte = link.wire.exact(1);
        let step = decoder.decode(&byte, &mut room).expect("S2");
        plain.extend_from_slice(&room[..step.produced]);
    }
    String::from_utf8(plain).expect("text")
}

fn encoded(level: Level, text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    Encoder::new().burst(level, &[std::io::IoSlice::new(text.as_bytes())], &mut out);
    out
}

#[test]
fn item_20_the_switch_to_s2_is_behind_the_leafs_info() {
    let hub = FakeHub::start();
    let leaf = petiole(&format!("{{ {} }}", url("leaf", hub.port())), "");
    let (mut link, mut info) = negotiate(&hub, "s2_auto");
    // Nothing follows in clear: the hub says its INFO again first.
    let mut decoder = Decoder::new();
    link.send(encoded(Level::Fast, &format!("INFO {info} \r\n")));
    let connect = decoded(&mut link, &mut decoder, "\r\n");
    assert!(connect.starts_with("CONNECT {"), "{connect}");
    assert!(
        connect.contains("\"compress_mode\":\"s2_uncompressed\""),
        "{connect}"
    );
    info["connect_info"] = true.into();
    link.send(encoded(Level::Best, &format!("INFO {info} \r\n")));
    let burst = decoded(&mut link, &mut decoder, "PING\r\n");
    assert!(burst.starts_with("LS+ $LDS."), "{burst}");
    // Chunks may come in pieces, and lines cross them.
    let mut rest = encoded(Level::Uncompressed, "PO");
    rest.extend(encoded(Level::Uncompressed, "NG\r\n"));
    for byte in rest {
        link.send([byte]);
    }
    leaf.wait_for_log("is up");
}

#[test]
fn item_22_a_bad_checksum_closes_the_link() {
    let hub = FakeHub::start();
    let leaf = petiole(&format!("{{ {} }}", url("leaf", hub.port())), "");
    for (damage, said) in [(14, "bad checksum"), (10, "reserved S2 chunk")] {
        let (mut link, info) = negotiate(&hub, "s2_fast");
        let mut bytes = encoded(Level::Uncompressed, &format!("INFO {info} \r\n"));
        bytes[damage] = 0x55;
        link.send(bytes);
        link.expect_close();
        leaf.wait_for_log(said);
    }
    // A hub that agrees and does not compress.
    let (mut link, info) = negotiate(&hub, "s2_fast");
    link.send_info(&info);
    link.expect_close();
    leaf.wait_for_log("the peer does not compress");
}

#[test]
fn item_23_an_unknown_mode_is_refused() {
    let hub = FakeHub::start();
    let leaf = petiole(&format!("{{ {} }}", url("leaf", hub.port())), "");
    let mut link = hub.accept();
    let mut info = hub.info();
    info["compression"] = "zip".into();
    link.send_info(&info);
    link.expect_err_close("unsupported route compression mode \"zip\"");
    leaf.wait_for_log("set the remote's compression to off");
}

/// Bytes that stand for far more bytes cost the hub its link, or time, and never the process.
#[test]
fn a_hub_that_inflates_is_survived() {
    let hub = FakeHub::start();
    let leaf = petiole(&format!("{{ {} }}", url("leaf", hub.port())), "");
    let (mut link, info) = negotiate(&hub, "s2_fast");
    let mut bomb = encoded(Level::Uncompressed, &format!("INFO {info} \r\n"));
    let zeros = "PING\r\n".repeat(600_000);
    for _ in 0..20 {
        bomb.extend(encoded(Level::Best, &zeros));
    }
    // It may close at any moment.
    let _ = link.wire.try_send(&bomb);
    drop(link);
    Client::quiet(leaf.port()).tell("PUB a 1\r\nx\r\n");
    drop(hub);
}
