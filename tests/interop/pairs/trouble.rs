//! Every combination of TLS here and at a leaf that cannot work, and what petiole's log says about it
//! as the hub: one line that names the end to change.

use crate::common::targets;
use crate::support::{LeafLink, Pki, Server, Target};

use super::{BUSY, at, each_of, hub, is_older, leaf};

/// The hub and the leaf do not get on, whatever leaf it is.
struct Misfit {
    name: &'static str,
    /// The `tls` block of the hub's port.
    hub: String,
    scheme: &'static str,
    /// Of the leaf's remote.
    remote: String,
    /// One of these is in the line: the leafs do not all say why they leave.
    said: &'static [&'static str],
    /// The minor version from which on leafs can be so.
    since: u32,
}

/// What the line says of a leaf that breaks off because of the hub's certificate.
const OUR_CERTIFICATE: &[&str] = &[
    "set ca_file in the tls block of the leaf's remote to the authority that signed our certificate",
    "the leaf does not accept our certificate",
];

fn misfits(pki: &Pki, other: &Pki) -> Vec<Misfit> {
    let pair = pki.server("hub").options();
    let (ca, foreign) = (pki.ca(), other.ca());
    let stranger = other.server("stranger").options();
    let (expired, old) = (
        pki.expired("expired").options(),
        pki.expired("old").options(),
    );
    let known = pki.server("leaf");
    let misfit = |name, hub: String, remote: String, said| Misfit {
        name,
        hub,
        scheme: "nats-leaf",
        remote,
        said,
        since: 0,
    };
    let mut rows = vec![
        Misfit {
            since: 10,
            ..misfit(
                "TLS first, and a hub that says INFO",
                format!("tls {{ {pair} }}"),
                format!("tls {{ {ca}, handshake_first: true }}"),
                &[
                    "a leaf whose remote has handshake_first takes our INFO for a broken handshake: take it out there, or set it here",
                ],
            )
        },
        misfit(
            "INFO first, and a hub that says none",
            format!("tls {{ {pair}, handshake_first: true }}"),
            format!("tls {{ {ca} }}"),
            &[
                "a leaf whose remote does not have handshake_first waits for our INFO: set it in the tls block there, or set it to auto here",
            ],
        ),
        misfit(
            "in clear, and a hub that says no INFO",
            format!("tls {{ {pair}, handshake_first: true, timeout: \"300ms\" }}"),
            String::new(),
            &[
                "TLS handshake timeout: a leaf whose remote does not have handshake_first waits for our INFO",
            ],
        ),
        misfit(
            "in clear, and a hub that demands TLS",
            format!("tls {{ {pair} }}"),
            String::new(),
            OUR_CERTIFICATE,
        ),
        misfit(
            "WebSocket, and a port that has none",
            format!("tls {{ {pair} }}"),
            String::new(),
            &["use nats-leaf:// instead of ws:// in the leaf's remote"],
        ),
    ];
    if let Some(row) = rows.last_mut() {
        row.scheme = "ws";
    }
    // Wherever TLS begins.
    for (begin, since) in [("", 0), (", handshake_first: true", 10)] {
        let verifies = format!("tls {{ {pair}, {ca}, verify: true{begin} }}");
        let pinned = format!(
            "tls {{ {pair}, {ca}, verify: true, pinned_certs: [\"{}\"]{begin} }}",
            "0".repeat(64)
        );
        let more = [
            misfit(
                "an authority that the leaf does not know",
                format!("tls {{ {pair}{begin} }}"),
                format!("tls {{ {foreign}{begin} }}"),
                OUR_CERTIFICATE,
            ),
            misfit(
                "our certificate is over",
                format!("tls {{ {old}{begin} }}"),
                format!("tls {{ {ca}{begin} }}"),
                &[
                    "renew our certificate (leafnodes, tls)",
                    "it has to be valid",
                ],
            ),
            misfit(
                "no certificate where one is demanded",
                verifies.clone(),
                format!("tls {{ {ca}{begin} }}"),
                &["set cert_file and key_file in the tls block of the leaf's remote"],
            ),
            misfit(
                "an authority that we do not know",
                verifies.clone(),
                format!("tls {{ {ca}, {stranger}{begin} }}"),
                &[
                    "the leaf's certificate was not signed by an authority in our ca_file",
                    // Which is why a real leaf does not show it.
                    "to a certificate that an authority in our ca_file has signed",
                ],
            ),
            misfit(
                "the leaf's certificate is over",
                verifies,
                format!("tls {{ {ca}, {expired}{begin} }}"),
                &["renew the leaf's certificate"],
            ),
            misfit(
                "a certificate that is not pinned",
                pinned,
                format!("tls {{ {ca}, {}{begin} }}", known.options()),
                &["to pinned_certs here (leafnodes, tls) if the leaf is the right one"],
            ),
        ];
        rows.extend(more.into_iter().map(|row| Misfit { since, ..row }));
    }
    rows
}

#[test]
fn what_cannot_work_says_at_the_hub_which_end_to_change() {
    let (pki, other) = (Pki::new("Trusted"), Pki::new("Other"));
    let rows = misfits(&pki, &other);
    let all: Vec<(&Misfit, Target)> = rows
        .iter()
        .flat_map(|row| targets().map(move |leaf| (row, leaf)))
        .filter(|(row, leaf)| !is_older(leaf, row.since))
        .collect();
    let name = |(row, leaf): &(&Misfit, Target)| format!("{}: {}", row.name, leaf.name());
    each_of(BUSY, &all, name, |(row, target)| {
        let hub = hub(&Target::Petiole, &row.hub, "");
        let url = format!("{}://127.0.0.1:{}", row.scheme, hub.port_of("leaf"));
        let _leaf = leaf(
            target,
            "LEAF",
            &format!("{{ url: \"{url}\", {} }}", row.remote),
        );
        hub.wait_for_log("TLS handshake");
        said_in_one_line(&hub, row.said);
    });
}

/// The first line about it says it all.
#[track_caller]
fn said_in_one_line(hub: &Server, one_of: &[&str]) {
    let log = hub.log();
    let line = log.lines().find(|line| line.contains("TLS handshake"));
    let line = line.unwrap_or_else(|| panic!("no such line: {log}"));
    assert!(
        line.contains("[ERR]") && one_of.iter().any(|text| line.contains(text)),
        "{line}\ninstead of {one_of:?}"
    );
}

/// No leaf of these versions does what is wrong here; others may.
#[test]
fn leafs_that_do_not_listen() {
    let pki = Pki::new("CA");
    let tls = format!(
        "tls {{ {}, timeout: \"300ms\" }}",
        pki.server("hub").options()
    );
    let hub = || hub(&Target::Petiole, &tls, "");
    let server = hub();
    let mut link = LeafLink::dial(server.port_of("leaf"));
    assert_eq!(link.expect_info()["tls_required"], true);
    link.send("CONNECT {}\r\n");
    server.wait_for_log("TLS handshake error");
    said_in_one_line(
        &server,
        &["the leaf goes on in clear: give its remote a tls block"],
    );
    let server = hub();
    let mut link = LeafLink::dial(server.port_of("leaf"));
    link.expect_info();
    server.wait_for_log("TLS handshake timeout");
    said_in_one_line(
        &server,
        &["the leaf was told in INFO that TLS is required, and did not begin it"],
    );
}

/// As real hubs do, petiole says what was wrong with a login, and shows no secret.
#[test]
fn who_is_turned_away_is_named() {
    let hub = hub(
        &Target::Petiole,
        "authorization { user: u, password: right }",
        "",
    );
    let all: Vec<Target> = targets().collect();
    each_of(BUSY, &all, Target::name, |target| {
        let _leaf = leaf(target, "LEAF", &at(hub.port_of("leaf"), "u:wr0ng@", ""));
        hub.wait_for_log("authentication error - User \"u\"");
    });
    let log = hub.log();
    assert!(!log.contains("wr0ng") && !log.contains("right"), "{log}");
}
