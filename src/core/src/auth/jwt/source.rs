//! Networks that a user may connect from.

use std::net::IpAddr;

/// A network in CIDR notation. An IPv4 one that is written as IPv6 (`::ffff:10.0.0.0/104`) is that IPv4
/// network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// `None` for what is none, such as an address without a length.
    pub(super) fn parse(text: &str) -> Option<Network> {
        let (address, bits) = text.split_once('/')?;
        // Neither signs nor leading zeros.
        let plain = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
        let bits: u8 = bits.parse().ok().filter(|_| plain)?;
        let address: IpAddr = address.parse().ok()?;
        let widest = if address.is_ipv4() { 32 } else { 128 };
        if bits > widest {
            return None;
        }
        Some(match address.to_canonical() {
            short if short.is_ipv4() && address.is_ipv6() && bits >= 96 => Network {
                address: short,
                bits: bits - 96,
            },
            _ => Network { address, bits },
        })
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(address)) => {
                let differ = u32::from(net) ^ u32::from(address);
                differ.leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V6(net), IpAddr::V6(address)) => {
                let differ = u128::from(net) ^ u128::from(address);
                differ.leading_zeros() >= u32::from(self.bits)
            }
            _ => false,
        }
    }
}

/// Whether somebody at `address` is in one of the networks; `None` is nowhere. Without networks everybody
/// is.
pub(super) fn permits(networks: &[String], address: Option<IpAddr>) -> bool {
    networks.is_empty()
        || address.is_some_and(|address| {
            let parsed = networks.iter().filter_map(|text| Network::parse(text));
            parsed.into_iter().any(|network| network.contains(address))
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        Network::parse(network)
            .unwrap()
            .contains(address.parse().unwrap())
    }

    #[test]
    fn networks() {
        for (network, address, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("10.1.2.3/32", "10.1.2.2", false),
            ("10.1.2.3/24", "10.1.2.200", true),
            ("10.1.2.128/25", "10.1.2.127", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "1.2.3.4", false),
            ("2001:db8::/33", "2001:db8:7fff::", true),
            ("2001:db8::/33", "2001:db8:8000::", false),
            ("::1/128", "::1", true),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("::ffff:127.0.0.0/120", "127.0.0.1", true),
            ("::ffff:127.0.0.0/120", "127.0.1.1", false),
        ] {
            assert_eq!(contains(network, address), inside, "{network} {address}");
        }
        for bad in [
            "",
            "/",
            "10.0.0.1",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0/8",
            "::/129",
            "x/8",
            "10.0.0.0/8/8",
            "fe80::1%eth0/64",
            " 10.0.0.0/8",
            "10.0.0.0/256",
        ] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_address_that_is_not_known_is_in_no_network() {
        let any = ["0.0.0.0/0".to_owned(), "::/0".to_owned()];
        assert!(permits(&[], None));
        assert!(!permits(&any, None));
        assert!(permits(&any, Some("1.2.3.4".parse().unwrap())));
        assert!(permits(&any, Some("::2".parse().unwrap())));
        assert!(!permits(&["junk".into()], Some("::2".parse().unwrap())));
    }

    proptest! {
        #[test]
        fn the_network_of_an_address_contains_it(bits: u128, length in 0u8..=128, text in ".{0,20}") {
            let long = IpAddr::from(bits.to_be_bytes());
            let network = Network::parse(&format!("{long}/{length}")).unwrap();
            prop_assert!(network.contains(long));
            let short = IpAddr::from((bits as u32).to_be_bytes());
            let network = Network::parse(&format!("{short}/{}", length / 4)).unwrap();
            prop_assert!(network.contains(short));
            let _ = Network::parse(&text);
        }
    }
}
