//! Every combination of a hub and a remote that cannot work, and what the leaf's log says about it:
//! one line that names the end to change.

use crate::common::{each, hub, petiole};
use crate::support::{FakeHub, Pki, RealServer, Server};

/// What a hub's leafnode port is configured with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hub {
    Clear,
    Tls,
    Verify,
    First,
    Expired,
    Tls13,
    /// A websocket listener in clear, instead.
    Ws,
    /// A websocket listener under TLS, instead.
    Wss,
}

struct Certificates {
    trusted: Pki,
    other: Pki,
}

impl Certificates {
    fn new() -> Self {
        Certificates {
            trusted: Pki::new("Trusted"),
            other: Pki::new("Other"),
        }
    }

    fn start(&self, kind: Hub, real: &RealServer) -> (Server, u16) {
        let pki = &self.trusted;
        let server = pki.server("hub").options();
        let (leafnodes, more, port) = match kind {
            Hub::Clear => (String::new(), String::new(), "leaf"),
            Hub::Tls => (format!("tls {{ {server} }}"), String::new(), "leaf"),
            Hub::Verify => (
                format!("tls {{ {server}, {}, verify: true }}", pki.ca()),
                String::new(),
                "leaf",
            ),
            Hub::First => (
                format!("tls {{ {server}, handshake_first: true }}"),
                String::new(),
                "leaf",
            ),
            Hub::Expired => (
                format!("tls {{ {} }}", pki.expired("old").options()),
                String::new(),
                "leaf",
            ),
            Hub::Tls13 => (
                format!("tls {{ {server}, min_version: \"1.3\" }}"),
                String::new(),
                "leaf",
            ),
            Hub::Ws => (
                String::new(),
                "websocket { host: \"127.0.0.1\", port: {port:ws}, no_tls: true }".into(),
                "ws",
            ),
            Hub::Wss => (
                String::new(),
                format!(
                    "websocket {{ host: \"127.0.0.1\", port: {{port:ws}}, tls {{ {server} }} }}"
                ),
                "ws",
            ),
        };
        let hub = hub(real, &leafnodes, &more);
        let port = hub.port_of(port);
        (hub, port)
    }
}

#[test]
fn what_cannot_work_says_which_end_to_change() {
    let all = Certificates::new();
    let trusted = all.trusted.ca();
    let other = all.other.ca();
    let stranger = all.other.server("stranger").options();
    let wrong_pin = "0".repeat(64);
    let rows: Vec<(Hub, &str, String, &str)> = vec![
        (
            Hub::Clear,
            "leaf",
            format!("tls {{ {trusted} }}"),
            "the hub's INFO does not ask for TLS",
        ),
        (
            Hub::Clear,
            "tls",
            String::new(),
            "the hub's INFO does not ask for TLS",
        ),
        (
            Hub::Clear,
            "tls",
            format!("tls {{ {trusted}, handshake_first: true }}"),
            "the hub sent INFO in clear: it does not expect TLS first",
        ),
        (
            Hub::Tls,
            "tls",
            format!("tls {{ {trusted}, handshake_first: true }}"),
            "the hub sent INFO in clear: it does not expect TLS first",
        ),
        (
            Hub::Tls,
            "leaf",
            String::new(),
            "set ca_file in this remote's tls block",
        ),
        (
            Hub::Tls,
            "tls",
            format!("tls {{ {other} }}"),
            "was not signed by an authority in this remote's ca_file",
        ),
        (
            Hub::Tls,
            "tls",
            format!("tls {{ {trusted}, pinned_certs: [\"{wrong_pin}\"] }}"),
            "certificate not pinned",
        ),
        (
            Hub::Expired,
            "tls",
            format!("tls {{ {trusted} }}"),
            "renew the hub's certificate",
        ),
        (
            Hub::First,
            "tls",
            format!("first_info_timeout: \"300ms\", tls {{ {trusted} }}"),
            "set handshake_first in this remote's tls block",
        ),
        (
            Hub::First,
            "leaf",
            "first_info_timeout: \"300ms\"".into(),
            "set handshake_first in this remote's tls block",
        ),
        (
            Hub::Verify,
            "tls",
            format!("tls {{ {trusted} }}"),
            "set cert_file and key_file in this remote's tls block",
        ),
        (
            Hub::Verify,
            "tls",
            format!("tls {{ {trusted}, {stranger} }}"),
            "the hub does not accept this remote's certificate",
        ),
        (
            Hub::Tls13,
            "tls",
            format!(
                "tls {{ {trusted}, cipher_suites: [\"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\"] }}"
            ),
            "is up",
        ),
        (
            Hub::Ws,
            "leaf",
            "first_info_timeout: \"300ms\"".into(),
            "no INFO within 300ms",
        ),
        (
            Hub::Ws,
            "wss",
            format!("tls {{ {trusted} }}"),
            "use ws:// without a tls block",
        ),
        (Hub::Wss, "ws", String::new(), "wss://"),
        (
            Hub::Clear,
            "ws",
            String::new(),
            "use nats-leaf:// instead of ws://",
        ),
        (
            Hub::Tls,
            "ws",
            String::new(),
            "use nats-leaf:// instead of ws://",
        ),
    ];
    each(|real| {
        for (kind, scheme, options, cause) in &rows {
            let is_new = matches!(kind, Hub::First | Hub::Tls13);
            if is_new && real.version < (2, 10, 0) {
                continue;
            }
            let (hub, port) = all.start(*kind, real);
            let remote = format!("{{ url: \"{scheme}://127.0.0.1:{port}\", {options} }}");
            let leaf = petiole(&remote, "");
            eprintln!("-- {kind:?} with {scheme} {options}");
            leaf.wait_for_log(cause);
            let log = leaf.log();
            let line = log.lines().find(|line| line.contains(cause));
            assert!(line.is_some_and(|line| line.contains("eafnode")), "{log}");
            drop(hub);
        }
    });
}

/// A name that the certificate does not have, and a hub that closes without a word.
#[test]
fn wrong_names_and_silent_hubs() {
    let all = Certificates::new();
    let wrong = all.trusted.sign("elsewhere", |params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName(
            "elsewhere.example".try_into().unwrap(),
        )];
    });
    let trusted = all.trusted.ca();
    each(|real| {
        let hub = hub(real, &format!("tls {{ {} }}", wrong.options()), "");
        let port = hub.port_of("leaf");
        let remote = format!("{{ url: \"tls://127.0.0.1:{port}\", tls {{ {trusted} }} }}");
        petiole(&remote, "").wait_for_log("dial the hub by a name that is in its certificate");
        let remote =
            format!("{{ url: \"tls://127.0.0.1:{port}\", tls {{ {trusted}, insecure: true }} }}");
        let leaf = petiole(&remote, "");
        leaf.wait_for_log("is up");
        leaf.wait_for_log("insecure");
    });
    // It takes the connection and says nothing, ever.
    let hub = FakeHub::start();
    let tls = format!("tls {{ {trusted}, handshake_first: true, timeout: \"300ms\" }}");
    let leaf = petiole(
        &format!("{{ url: \"tls://127.0.0.1:{}\", {tls} }}", hub.port()),
        "",
    );
    leaf.wait_for_log("the TLS handshake did not end within 300ms");
    let leaf = petiole(
        &format!(
            "{{ url: \"ws://127.0.0.1:{}\", dial_timeout: \"300ms\" }}",
            hub.port()
        ),
        "",
    );
    leaf.wait_for_log("no answer to the WebSocket request within 300ms");
}
