//! What may be below a link: clear, TLS behind INFO, TLS first, S2, and whatever both ends agree on.

use crate::common::{Joined, exchange};
use crate::support::{Client, Pki, Relay};

use super::{BUSY, Cell, at, each_cell, each_of, hub, is_older, leaf};

/// A transport, as both ends are told of it. `HUB` and `CA` stand for the options of a `tls` block
/// that name the hub's certificate and the authority.
#[derive(Debug)]
struct Transport {
    name: &'static str,
    /// Of the hub's `leafnodes`, and beside it.
    leafnodes: &'static str,
    more: &'static str,
    /// The hub's port.
    port: &'static str,
    scheme: &'static str,
    /// Of the leaf's remote.
    remote: &'static str,
    /// The minor versions from which on hubs and leafs know it.
    since: (u32, u32),
}

const fn tcp(
    name: &'static str,
    leafnodes: &'static str,
    remote: &'static str,
    since: (u32, u32),
) -> Transport {
    Transport {
        name,
        leafnodes,
        more: "",
        port: "leaf",
        scheme: "nats-leaf",
        remote,
        since,
    }
}

/// 2.9 knows neither TLS first nor S2. 2.10 takes `auto` and durations for `true`.
#[rustfmt::skip]
const TRANSPORTS: &[Transport] = &[
    tcp("clear", "", "", (0, 0)),
    tcp("clear, off", "compression: off", "compression: off", (10, 10)),
    tcp("S2 fast", "compression: s2_fast", "compression: s2_fast", (10, 10)),
    tcp("S2 auto", "compression: s2_auto", "compression: s2_auto", (10, 10)),
    tcp("S2 where the leaf may", "compression: s2_fast", "", (10, 0)),
    tcp("S2 where the hub may", "", "compression: s2_fast", (0, 10)),
    tcp("TLS behind INFO", "tls { HUB }", "tls { CA }", (0, 0)),
    tcp("TLS behind INFO, S2 fast", "tls { HUB }, compression: s2_fast", "tls { CA }, compression: s2_fast", (10, 10)),
    tcp("TLS first", "tls { HUB, handshake_first: true }", "tls { CA, handshake_first: true }", (10, 10)),
    tcp("TLS first, S2 fast", "tls { HUB, handshake_first: true }, compression: s2_fast", "tls { CA, handshake_first: true }, compression: s2_fast", (10, 10)),
    tcp("either, TLS first", "tls { HUB, handshake_first: auto }", "tls { CA, handshake_first: true }", (15, 10)),
    tcp("either, TLS behind INFO", "tls { HUB, handshake_first: auto }", "tls { CA }", (15, 0)),
    tcp("either within a time, TLS first", "tls { HUB, handshake_first: \"150ms\" }", "tls { CA, handshake_first: true }", (15, 10)),
    tcp("either within a time, TLS behind INFO", "tls { HUB, handshake_first: \"150ms\" }", "tls { CA }", (15, 0)),
    Transport { more: "websocket { host: \"127.0.0.1\", port: {port:ws}, no_tls: true }", port: "ws", scheme: "ws", ..tcp("WebSocket", "", "", (0, 0)) },
    Transport { more: "websocket { host: \"127.0.0.1\", port: {port:ws}, tls { HUB } }", port: "ws", scheme: "wss", ..tcp("WebSocket over TLS", "", "tls { CA }", (0, 0)) },
];

impl Transport {
    fn is_known_to(&self, cell: &Cell) -> bool {
        !is_older(&cell.hub, self.since.0) && !is_older(&cell.leaf, self.since.1)
    }
}

#[test]
fn every_transport_carries_everything() {
    let pki = Pki::new("CA");
    let pair = pki.server("hub").options();
    let ca = pki.ca();
    let filled = |text: &str| text.replace("HUB", &pair).replace("CA", &ca);
    let cells = Cell::all();
    let all: Vec<(&Transport, &Cell)> = TRANSPORTS
        .iter()
        .flat_map(|transport| cells.iter().map(move |cell| (transport, cell)))
        .filter(|(transport, cell)| transport.is_known_to(cell))
        .collect();
    let name =
        |(transport, cell): &(&Transport, &Cell)| format!("{}: {}", transport.name, cell.name());
    each_of(BUSY, &all, name, |(transport, cell)| {
        let hub = hub(
            &cell.hub,
            &filled(transport.leafnodes),
            &filled(transport.more),
        );
        let url = format!(
            "{}://127.0.0.1:{}",
            transport.scheme,
            hub.port_of(transport.port)
        );
        let remote = format!("{{ url: \"{url}\", {} }}", filled(transport.remote));
        let leaf = leaf(&cell.leaf, "LEAF", &remote);
        exchange(&leaf, &hub);
    });
}

/// Bytes of a text that S2 makes much smaller.
const LONG: usize = 1 << 20;

#[test]
fn s2_saves_what_it_can() {
    each_cell(BUSY, |cell| {
        // 2.9 has never heard of it.
        if is_older(&cell.hub, 10) || is_older(&cell.leaf, 10) {
            return;
        }
        for (mode, saves) in [("off", false), ("s2_fast", true)] {
            let compression = format!("compression: {mode}");
            let hub = hub(&cell.hub, &compression, "");
            let relay = Relay::to(hub.port_of("leaf"));
            let leaf = leaf(&cell.leaf, "LEAF", &at(relay.port(), "", &compression));
            let mut joined = Joined::new(&leaf, &hub, "", "");
            for (from, to) in [(&hub, &leaf), (&leaf, &hub)] {
                let (mut from, mut to) = (Client::quiet(from.port()), Client::quiet(to.port()));
                to.tell("SUB long 1\r\n");
                joined.settle();
                let before = relay.carried();
                from.send(format!(
                    "PUB long {LONG}\r\n{}\r\n",
                    "long ".repeat(LONG / 5 + 1).split_at(LONG).0
                ));
                assert_eq!(to.expect_msg().payload.len(), LONG);
                let carried = relay.carried() - before;
                assert_eq!(carried < LONG / 4, saves, "{mode}: {carried} bytes");
                to.tell("UNSUB 1\r\n");
            }
        }
    });
}
