//! One configured remote through all its links: which address next, when, and what the operator is
//! told. Dials nothing itself.

use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::config::model::{Remote, Url, Way};
use crate::link::LinkId;
use crate::link::leaf::LinkDown;
use crate::random::Random;
use crate::time::Instant;

/// Addresses a hub may add to those configured.
const MOST_DISCOVERED: usize = 64;
/// The same cause is said no more often than this, however often it is met.
const REPEAT_EVERY: Duration = Duration::from_secs(1);
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

/// One way to one address of a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The place in [`Remote::ways`].
    pub way: usize,
    /// The address.
    pub url: Url,
}

impl Attempt {
    /// The way it takes. `None` only for another remote's attempt.
    pub fn way<'a>(&self, remote: &'a Remote) -> Option<&'a Arc<Way>> {
        remote.ways.get(self.way)
    }

    /// How log lines name it: the address, and what is special about the way.
    pub fn describe(&self, remote: &Remote) -> String {
        let mut text = self.url.to_string();
        let Some(way) = self.way(remote) else {
            return text;
        };
        if way.is_tls_first() && !self.url.scheme.is_websocket() {
            text.push_str(" (TLS first)");
        } else if way.tls.is_some() && remote.ways.len() > 1 {
            text.push_str(" (TLS)");
        }
        if let Some(proxy) = &way.proxy {
            text.push_str(&format!(" through the proxy {proxy}"));
        }
        text
    }
}

/// A remote and where it stands.
#[derive(Debug)]
pub struct Uplink {
    remote: Arc<Remote>,
    reports: Reports,
    was_ever_up: bool,
    configured: Vec<Attempt>,
    discovered: Vec<Attempt>,
    /// The one to try is the first one.
    order: Vec<Attempt>,
    backoff: Backoff,
    state: State,
    attempts: u64,
    /// The cause that was said last of each way, and when.
    told: Vec<Option<(String, Instant)>>,
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
        let mut configured = Vec::new();
        for (way, settings) in remote.ways.iter().enumerate() {
            let mut urls = settings.urls.clone();
            if !remote.no_randomize {
                for i in (1..urls.len()).rev() {
                    urls.swap(i, random.below(i as u64 + 1) as usize);
                }
            }
            configured.extend(urls.into_iter().map(|url| Attempt { way, url }));
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
            told: vec![None; remote.ways.len()],
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

    /// What to dial now, if it is time.
    pub fn poll_dial(&mut self, now: Instant, random: &mut Random) -> Option<Attempt> {
        match self.state {
            State::Dialing { until } if now >= until => {
                self.fail(now, LinkDown::because("dialling did not end"), random);
                None
            }
            State::Waiting { until } if now >= until => {
                let attempt = self.order.first().cloned();
                let way = attempt.as_ref().and_then(|one| one.way(&self.remote));
                let most = way.map_or(Duration::ZERO, |way| {
                    // The address, the proxy, TLS and WebSocket one after the other.
                    way.dial_timeout * 3 + way.tls_timeout()
                });
                self.state = State::Dialing {
                    until: now + most + DIAL_SLACK,
                };
                self.attempts += 1;
                attempt
            }
            _ => None,
        }
    }

    /// It could not be dialled.
    pub fn handle_dial_failed(&mut self, now: Instant, cause: String, random: &mut Random) {
        if let State::Dialing { .. } = self.state {
            self.fail(now, LinkDown::because(cause), random);
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
            self.backoff.up(now);
            self.was_ever_up = true;
            self.attempts = 0;
            self.told.fill(None);
            log::info!(
                "Leafnode link to {} for account {} is up: hub {hub}, its account {account}",
                self.address(),
                self.remote.account,
            );
        }
    }

    /// Its link ended.
    pub fn handle_down(&mut self, now: Instant, down: LinkDown, random: &mut Random) {
        self.fail(now, down, random);
    }

    /// The hub's list of addresses: tried before the configured ones from the next attempt on.
    pub fn handle_discovered(&mut self, addresses: &[String]) {
        let current = self.order.first().cloned();
        let Some(template) = current.clone().or_else(|| self.configured.first().cloned()) else {
            return;
        };
        self.discovered = addresses
            .iter()
            .take(MOST_DISCOVERED)
            .filter_map(|address| parse_address(address))
            .filter(|(host, port)| {
                !self
                    .configured
                    .iter()
                    .any(|one| one.url.host == *host && one.url.port == *port)
            })
            // A discovered address has no credentials, path or scheme of its own.
            .map(|(host, port)| Attempt {
                way: template.way,
                url: Url {
                    host,
                    port,
                    ..template.url.clone()
                },
            })
            .collect();
        // What is in use stays first, so that it is the one rotated away when it fails, and what is
        // new comes next. The others keep their turns: a list rebuilt at every INFO would have
        // the same two addresses take turns for ever.
        let mut order = std::mem::take(&mut self.order);
        order.retain(|one| self.discovered.contains(one) || self.configured.contains(one));
        let place = usize::from(order.first() == current.as_ref());
        let new = self.discovered.iter().filter(|one| !order.contains(one));
        let new: Vec<Attempt> = new.cloned().collect();
        order.splice(place..place, new);
        self.order = order;
    }

    fn address(&self) -> String {
        self.order
            .first()
            .map(|attempt| attempt.describe(&self.remote))
            .unwrap_or_default()
    }

    /// After a link that was up: what worked is tried first, at its next address, then the others by
    /// preference. After a failure: whatever is next.
    fn advance(&mut self, was_up: bool) -> usize {
        let way = self.order.first().map_or(0, |attempt| attempt.way);
        if !self.order.is_empty() {
            self.order.rotate_left(1);
        }
        if was_up {
            self.order.sort_by_key(|one| (one.way != way, one.way));
        }
        way
    }

    fn fail(&mut self, now: Instant, down: LinkDown, random: &mut Random) {
        let LinkDown {
            cause,
            delay,
            appointment,
        } = down;
        let was_up = matches!(self.state, State::Synced { .. });
        // It counts as trouble all the same.
        let wait = self.backoff.next(now, random);
        let wait = appointment.unwrap_or_else(|| wait.max(delay.unwrap_or_default()));
        self.state = State::Waiting { until: now + wait };
        let address = self.address();
        let way = self.advance(was_up);
        let every = if self.was_ever_up {
            self.reports.reconnect
        } else {
            self.reports.connect
        };
        let due = self.attempts.is_multiple_of(u64::from(every.max(1)));
        let told = self.told.get(way).and_then(Option::as_ref);
        let repeated = told
            .is_some_and(|(said, at)| *said == cause && (!due || now.since(*at) < REPEAT_EVERY));
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
        if let Some(told) = self.told.get_mut(way) {
            *told = Some((cause, now));
        }
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
    use crate::config::model::Scheme;

    fn url(host: &str) -> Url {
        Url::new(Scheme::Leaf, host, 7422)
    }

    fn host(attempt: Option<Attempt>) -> String {
        attempt.map(|one| one.url.host).unwrap_or_default()
    }

    fn uplink(hosts: &[&str]) -> (Uplink, Random) {
        let mut random = Random::new(5);
        let remote = Remote {
            ways: vec![Arc::new(Way {
                urls: hosts.iter().map(|host| url(host)).collect(),
                ..Way::default()
            })],
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
            tried.push(host(up.poll_dial(now, &mut random)));
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
        assert_eq!(host(up.poll_dial(Instant::ZERO, &mut random)), "a");
        up.handle_connected(link);
        up.handle_discovered(&["a:7422".into(), "b:7422".into(), "nonsense".into()]);
        up.handle_down(Instant::ZERO, LinkDown::default(), &mut random);
        let now = up.poll_timeout().unwrap_or(Instant::ZERO);
        assert_eq!(host(up.poll_dial(now, &mut random)), "b");
        up.handle_dial_failed(now, "refused".into(), &mut random);
        let now = up.poll_timeout().unwrap_or(Instant::ZERO);
        assert_eq!(host(up.poll_dial(now, &mut random)), "a");
    }

    /// Each hub lists its addresses in its INFO, mostly the same as before.
    #[test]
    fn lists_of_addresses_do_not_take_turns_away() {
        let (mut up, mut random) = uplink(&["a", "b", "c"]);
        let mut now = Instant::ZERO;
        let mut tried = Vec::new();
        for turn in 0..8 {
            let host = host(up.poll_dial(now, &mut random));
            up.handle_connected(LinkId { place: 0, turn });
            up.handle_discovered(&[format!("{host}:7422"), "d:7422".into()]);
            tried.push(host);
            up.handle_down(now, LinkDown::default(), &mut random);
            now = up.poll_timeout().unwrap_or(now);
        }
        assert_eq!(tried, ["a", "d", "b", "c", "a", "d", "b", "c"]);
    }

    /// The way that worked is tried first after its link is lost, then the others by preference.
    #[test]
    fn what_worked_is_tried_first() {
        let way = |host: &str| Remote::at(url(host)).ways.remove(0);
        let (mut up, mut random) = uplink(&["a"]);
        let remote = Remote {
            ways: vec![way("a"), way("b"), way("c")],
            ..Remote::default()
        };
        let reports = up.reports;
        up = Uplink::new(Instant::ZERO, Arc::new(remote), reports, &mut random);
        let mut now = Instant::ZERO;
        let mut tried = Vec::new();
        let mut turn = 0;
        for works in [false, true, true, false, false, false, true, false] {
            tried.push(host(up.poll_dial(now, &mut random)));
            if works {
                turn += 1;
                up.handle_connected(LinkId { place: 0, turn });
                up.handle_synced(now, "HUB", "$G");
                up.handle_down(now, LinkDown::default(), &mut random);
            } else {
                up.handle_dial_failed(now, "refused".into(), &mut random);
            }
            now = up.poll_timeout().unwrap_or(now);
        }
        assert_eq!(tried, ["a", "b", "b", "b", "a", "c", "b", "b"]);
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
            ..LinkDown::default()
        };
        up.handle_down(Instant::ZERO, down, &mut random);
        assert_eq!(up.poll_timeout(), Some(Instant::ZERO + delay));
    }

    /// After hours without a hub, too, when other waits are longer.
    #[test]
    fn an_appointment_is_kept_to_the_instant() {
        let (mut up, mut random) = uplink(&["a"]);
        let mut now = Instant::ZERO;
        for _ in 0..500 {
            up.poll_dial(now, &mut random);
            up.handle_dial_failed(now, "refused".into(), &mut random);
            now = up.poll_timeout().unwrap_or(now);
        }
        for millis in [1000, 2345, 30_000] {
            up.poll_dial(now, &mut random);
            up.handle_connected(LinkId { place: 0, turn: 0 });
            let wait = Duration::from_millis(millis);
            let down = LinkDown {
                delay: Some(Duration::from_secs(1)),
                appointment: Some(wait),
                ..LinkDown::because("later")
            };
            up.handle_down(now, down, &mut random);
            assert_eq!(up.poll_timeout(), Some(now + wait));
            now = now + wait;
        }
    }
}
