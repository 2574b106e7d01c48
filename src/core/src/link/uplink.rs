//! One configured remote through all its links: which address next, when, and what the operator is
//! told. Dials nothing itself.

use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::config::model::{Remote, Url};
use crate::link::LinkId;
use crate::link::leaf::LinkDown;
use crate::random::Random;
use crate::time::Instant;

/// Addresses a hub may add to those configured.
const MOST_DISCOVERED: usize = 64;
/// What the role needs beyond the remote's own timeouts to report a dial: only a broken role
/// exceeds it.
const DIAL_SLACK: Duration = Duration::from_secs(30);

/// Which failures are said at error level besides the first and those with a new cause; the others
/// are for the debug log.
#[derive(Clone, Copy, Debug)]
pub struct Reports {
    /// `connect_error_reports`: every so many, for a link that was never up.
    pub connect: u32,
    /// `reconnect_error_reports`: every so many, for a link that was up before.
    pub reconnect: u32,
}

/// A remote and where it stands.
#[derive(Debug)]
pub struct Uplink {
    remote: Arc<Remote>,
    reports: Reports,
    was_ever_up: bool,
    configured: Vec<Url>,
    discovered: Vec<Url>,
    /// The address to try is the first one.
    order: Vec<Url>,
    backoff: Backoff,
    state: State,
    attempts: u64,
    /// The cause that was said last.
    told: Option<String>,
}

/// Where a remote stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Configured, never dialled.
    Disabled,
    /// Dialled again at this time.
    Waiting {
        /// When.
        until: Instant,
    },
    /// Being dialled.
    Dialing {
        /// The role has to report before this.
        until: Instant,
    },
    /// Connected, in the handshake.
    Connecting {
        /// The link.
        link: LinkId,
    },
    /// Up.
    Synced {
        /// The link.
        link: LinkId,
        /// Since when.
        since: Instant,
    },
}

impl Uplink {
    /// To be dialled at once, the addresses shuffled unless the remote says otherwise.
    pub fn new(now: Instant, remote: Arc<Remote>, reports: Reports, random: &mut Random) -> Self {
        let mut configured = remote.urls.clone();
        if !remote.no_randomize {
            for i in (1..configured.len()).rev() {
                configured.swap(i, random.below(i as u64 + 1) as usize);
            }
        }
        let usable = !remote.disabled && !configured.is_empty();
        Uplink {
            order: configured.clone(),
            configured,
            discovered: Vec::new(),
            backoff: Backoff::new(remote.reconnect),
            state: if usable {
                State::Waiting { until: now }
            } else {
                State::Disabled
            },
            attempts: 0,
            told: None,
            reports,
            was_ever_up: false,
            remote,
        }
    }

    /// Its configuration.
    pub fn remote(&self) -> &Arc<Remote> {
        &self.remote
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Attempts since the last synced link.
    pub fn attempts(&self) -> u64 {
        self.attempts
    }

    /// When it wants [`Uplink::poll_dial`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } | State::Dialing { until } => Some(until),
            // The link has its own deadlines.
            State::Connecting { .. } | State::Synced { .. } | State::Disabled => None,
        }
    }

    /// The address to dial now, if it is time.
    pub fn poll_dial(&mut self, now: Instant, random: &mut Random) -> Option<Url> {
        match self.state {
            State::Dialing { until } if now >= until => {
                self.fail(now, "dialling did not end".into(), None, random);
                None
            }
            State::Waiting { until } if now >= until => {
                self.state = State::Dialing {
                    until: now + self.remote.dial_timeout + DIAL_SLACK,
                };
                self.attempts += 1;
                self.order.first().cloned()
            }
            _ => None,
        }
    }

    /// It could not be dialled.
    pub fn handle_dial_failed(&mut self, now: Instant, cause: String, random: &mut Random) {
        if let State::Dialing { .. } = self.state {
            self.fail(now, cause, None, random);
        }
    }

    /// It is connected.
    pub fn handle_connected(&mut self, link: LinkId) {
        self.state = State::Connecting { link };
    }

    /// Both sides know what the other wants.
    pub fn handle_synced(&mut self, now: Instant, hub: &str, account: &str) {
        if let State::Connecting { link } = self.state {
            self.state = State::Synced { link, since: now };
            self.backoff.reset();
            self.was_ever_up = true;
            self.attempts = 0;
            self.told = None;
            log::info!(
                "Leafnode link to {} for account {} is up: hub {hub}, its account {account}",
                self.address(),
                self.remote.account,
            );
        }
    }

    /// Its link ended.
    pub fn handle_down(&mut self, now: Instant, down: LinkDown, random: &mut Random) {
        self.fail(now, down.cause, down.delay, random);
    }

    /// The hub's list of addresses: tried before the configured ones from the next attempt on.
    pub fn handle_discovered(&mut self, addresses: &[String]) {
        let current = self.order.first().cloned();
        let template = self.configured.first().cloned();
        self.discovered = addresses
            .iter()
            .take(MOST_DISCOVERED)
            .filter_map(|address| parse_address(address))
            .filter(|(host, port)| {
                !self
                    .configured
                    .iter()
                    .any(|url| url.host == *host && url.port == *port)
            })
            .map(|(host, port)| Url {
                host,
                port,
                // A discovered address has no credentials of its own.
                user: template.as_ref().and_then(|url| url.user.clone()),
                password: template.as_ref().and_then(|url| url.password.clone()),
            })
            .collect();
        // What is in use stays first, so that it is the one rotated away when it fails, and what is
        // new comes next. The others keep their turns: a list rebuilt at every INFO would have
        // the same two addresses take turns for ever.
        let mut order = std::mem::take(&mut self.order);
        order.retain(|url| self.discovered.contains(url) || self.configured.contains(url));
        let place = usize::from(order.first() == current.as_ref());
        let new = self.discovered.iter().filter(|url| !order.contains(url));
        let new: Vec<Url> = new.cloned().collect();
        order.splice(place..place, new);
        self.order = order;
    }

    fn address(&self) -> String {
        self.order
            .first()
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    fn fail(
        &mut self,
        now: Instant,
        cause: String,
        at_least: Option<Duration>,
        random: &mut Random,
    ) {
        let was_up = matches!(self.state, State::Synced { .. });
        let wait = self.backoff.next(random).max(at_least.unwrap_or_default());
        self.state = State::Waiting { until: now + wait };
        let address = self.address();
        if !self.order.is_empty() {
            self.order.rotate_left(1);
        }
        let every = if self.was_ever_up {
            self.reports.reconnect
        } else {
            self.reports.connect
        };
        let due = self.attempts.is_multiple_of(u64::from(every.max(1)));
        let repeated = !due && self.told.as_ref() == Some(&cause);
        if was_up {
            log::warn!(
                "Leafnode link to {address} for account {} is down: {cause}; next try in {wait:.1?}",
                self.remote.account,
            );
        } else if repeated {
            log::debug!(
                "Leafnode link to {address} attempt {}: {cause}; next try in {wait:.1?}",
                self.attempts,
            );
            return;
        } else {
            log::error!(
                "Leafnode link to {address} for account {} failed (attempt {}): {cause}; next try \
                 in {wait:.1?}",
                self.remote.account,
                self.attempts,
            );
        }
        self.told = Some(cause);
    }
}

/// `host:port`, IPv6 in brackets, as hubs list their addresses.
fn parse_address(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    (!host.is_empty()).then_some((host.to_owned(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(host: &str) -> Url {
        Url {
            host: host.into(),
            port: 7422,
            user: None,
            password: None,
        }
    }

    fn uplink(hosts: &[&str]) -> (Uplink, Random) {
        let mut random = Random::new(5);
        let remote = Remote {
            urls: hosts.iter().map(|host| url(host)).collect(),
            no_randomize: true,
            ..Remote::default()
        };
        (
            Uplink::new(
                Instant::ZERO,
                Arc::new(remote),
                Reports {
                    connect: 3600,
                    reconnect: 1,
                },
                &mut random,
            ),
            random,
        )
    }

    #[test]
    fn addresses_take_turns() {
        let (mut up, mut random) = uplink(&["a", "b"]);
        let mut now = Instant::ZERO;
        let mut tried = Vec::new();
        for _ in 0..4 {
            let dialled = up.poll_dial(now, &mut random).map(|url| url.host);
            tried.push(dialled.unwrap_or_default());
            up.handle_dial_failed(now, "refused".into(), &mut random);
            assert_eq!(up.poll_dial(now, &mut random), None);
            now = up.poll_timeout().unwrap_or(now);
        }
        assert_eq!(tried, ["a", "b", "a", "b"]);
    }

    /// Leaf protocol, URL discovery: the next connection goes to the new address, the one after
    /// to the configured one.
    #[test]
    fn discovered_addresses_come_first() {
        let (mut up, mut random) = uplink(&["a"]);
        let link = LinkId { place: 0, turn: 0 };
        assert_eq!(up.poll_dial(Instant::ZERO, &mut random), Some(url("a")));
        up.handle_connected(link);
        up.handle_discovered(&["a:7422".into(), "b:7422".into(), "nonsense".into()]);
        up.handle_down(Instant::ZERO, LinkDown::default(), &mut random);
        let now = up.poll_timeout().unwrap_or(Instant::ZERO);
        assert_eq!(up.poll_dial(now, &mut random), Some(url("b")));
        up.handle_dial_failed(now, "refused".into(), &mut random);
        let now = up.poll_timeout().unwrap_or(Instant::ZERO);
        assert_eq!(up.poll_dial(now, &mut random), Some(url("a")));
    }

    /// Each hub lists its addresses in its INFO, mostly the same as before.
    #[test]
    fn lists_of_addresses_do_not_take_turns_away() {
        let (mut up, mut random) = uplink(&["a", "b", "c"]);
        let mut now = Instant::ZERO;
        let mut tried = Vec::new();
        for turn in 0..8 {
            let dialled = up.poll_dial(now, &mut random).map(|url| url.host);
            let host = dialled.unwrap_or_default();
            up.handle_connected(LinkId { place: 0, turn });
            up.handle_discovered(&[format!("{host}:7422"), "d:7422".into()]);
            tried.push(host);
            up.handle_down(now, LinkDown::default(), &mut random);
            now = up.poll_timeout().unwrap_or(now);
        }
        assert_eq!(tried, ["a", "d", "b", "c", "a", "d", "b", "c"]);
    }

    #[test]
    fn a_long_delay_is_kept() {
        let (mut up, mut random) = uplink(&["a"]);
        up.poll_dial(Instant::ZERO, &mut random);
        up.handle_connected(LinkId { place: 0, turn: 0 });
        let delay = Duration::from_secs(31);
        let down = LinkDown {
            cause: "loop".into(),
            delay: Some(delay),
        };
        up.handle_down(Instant::ZERO, down, &mut random);
        assert_eq!(up.poll_timeout(), Some(Instant::ZERO + delay));
    }
}
