//! What a hub's port demands of TLS: certificates that are pinned, versions, and cipher suites.

use rustls::{CipherSuite, ProtocolVersion, SupportedProtocolVersion, version};

use crate::common::{Joined, targets};
use crate::support::{Pki, Server, Target, Trust, Wire};

use super::{BUSY, at, each_cell, each_of, hub, is_older, leaf};

#[test]
fn only_pinned_certificates_are_let_in() {
    let pki = Pki::new("CA");
    let (pair, pinned, other) = (pki.server("hub"), pki.server("pinned"), pki.server("other"));
    // In capitals, as some tools print it.
    let pins = format!(
        "[ \"{}\", \"{}\" ]",
        "0".repeat(64),
        pki.pin(&pinned).to_uppercase()
    );
    let at_hub = format!(
        "{}, {}, verify: true, pinned_certs: {pins}",
        pair.options(),
        pki.ca()
    );
    each_cell(BUSY, |cell| {
        let firsts = ["", ", handshake_first: true"];
        let knows_first = !is_older(&cell.hub, 10) && !is_older(&cell.leaf, 10);
        for first in firsts.into_iter().take(1 + usize::from(knows_first)) {
            let hub = hub(&cell.hub, &format!("tls {{ {at_hub}{first} }}"), "");
            let remote = |shown: &str| {
                let tls = format!("tls {{ {}, {shown}{first} }}", pki.ca());
                at(hub.port_of("leaf"), "", &tls)
            };
            let right = leaf(&cell.leaf, "RIGHT", &remote(&pinned.options()));
            Joined::new(&right, &hub, "", "").settle();
            let wrong = leaf(&cell.leaf, "WRONG", &remote(&other.options()));
            hub.wait_for_log("certificate not pinned");
            assert!(!wrong.log().contains("is up"));
        }
    });
}

/// What is agreed on with a peer that speaks only this version.
fn agreed(
    hub: &Server,
    pki: &Pki,
    spoken: &'static SupportedProtocolVersion,
) -> Option<(ProtocolVersion, CipherSuite)> {
    let mut wire = Wire::dial(hub.port_of("leaf")).expect("a connection");
    assert!(wire.line().is_some_and(|line| line.starts_with(b"INFO ")));
    wire.secure(&Trust::new(pki).speaking(spoken).config())
        .ok()?;
    let tls = wire.tls()?;
    Some((
        tls.protocol_version()?,
        tls.negotiated_cipher_suite()?.suite(),
    ))
}

#[test]
fn the_port_keeps_to_its_cipher_suites_and_versions() {
    let pki = Pki::new("CA");
    let pair = pki.server("hub");
    let suites = [
        (
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ),
        (
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        ),
    ];
    let all: Vec<Target> = targets().collect();
    each_of(BUSY, &all, Target::name, |target| {
        let start = |more: &str| hub(target, &format!("tls {{ {}, {more} }}", pair.options()), "");
        // They are those of TLS 1.2.
        let [small, large] = suites.map(|(name, suite)| {
            let hub = start(&format!("cipher_suites: [ \"{name}\" ]"));
            let old = agreed(&hub, &pki, &version::TLS12);
            assert_eq!(old, Some((ProtocolVersion::TLSv1_2, suite)));
            assert!(agreed(&hub, &pki, &version::TLS13).is_some());
            hub
        });
        // Of keys that the certificate does not have.
        let rsa = start("cipher_suites: [ \"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\" ]");
        assert_eq!(agreed(&rsa, &pki, &version::TLS12), None);
        let curve = start("curve_preferences: [ CurveP384 ]");
        assert!(agreed(&curve, &pki, &version::TLS12).is_some());
        assert!(agreed(&curve, &pki, &version::TLS13).is_some());
        // 2.9 has no smallest version.
        if !is_older(target, 10) {
            let new = start("min_version: \"1.3\"");
            assert_eq!(agreed(&new, &pki, &version::TLS12), None);
            assert!(agreed(&new, &pki, &version::TLS13).is_some());
        }
        for hub in [&small, &large, &curve] {
            for target in targets() {
                let remote = at(hub.port_of("leaf"), "", &format!("tls {{ {} }}", pki.ca()));
                let leaf = leaf(&target, "LEAF", &remote);
                Joined::new(&leaf, hub, "", "").settle();
            }
        }
    });
}
