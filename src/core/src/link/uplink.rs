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

/// After this time a link with new credentials is tried again where the hub did not take them: the
/// account that knows them may come later than the file.
const RENEW_AGAIN: Duration = Duration::from_secs(300);

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
    renewal: Renewal,
    /// Why the last renewal failed.
    refused: String,
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

/// The link that is to follow one that is up: with new credentials, before the old one is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Renewal {
    None,
    Due { at: Instant },
    Dialing { until: Instant },
    Connecting { link: LinkId },
}

/// What it means that a link is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synced {
    /// The remote is up.
    Up,
    /// This link has been replaced and is to be closed.
    Replaces(LinkId),
    /// Nothing: another link has taken its place.
    Stray,
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
            renewal: Renewal::None,
            refused: String::new(),
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
        match (self.state, self.renewal) {
            (State::Waiting { until } | State::Dialing { until }, _) => Some(until),
            (State::Synced { .. }, Renewal::Due { at: until } | Renewal::Dialing { until }) => {
                Some(until)
            }
            // The link has its own deadlines.
            (State::Connecting { .. } | State::Synced { .. } | State::Disabled, _) => None,
        }
    }

    /// There are new credentials: a remote that waits is dialled now, one that is up is dialled a
    /// second time. One that is on its way uses them when it comes to that.
    pub fn renew(&mut self, now: Instant) {
        match (self.state, self.renewal) {
            (State::Waiting { .. }, _) => self.state = State::Waiting { until: now },
            (State::Synced { .. }, Renewal::None | Renewal::Due { .. }) => {
                self.renewal = Renewal::Due { at: now };
            }
            _ => {}
        }
    }

    /// Whether [`Uplink::handle_connected`] and [`Uplink::handle_dial_failed`] are waited for.
    pub fn is_dialing(&self) -> bool {
        matches!(self.state, State::Dialing { .. })
            || matches!(self.renewal, Renewal::Dialing { .. })
    }

    /// The link that is up and that the one being dialled shall follow.
    pub fn predecessor(&self) -> Option<LinkId> {
        match (self.state, self.renewal) {
            (State::Synced { link, .. }, Renewal::Dialing { .. }) => Some(link),
            _ => None,
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
                let (attempt, most) = self.next_attempt();
                self.state = State::Dialing { until: now + most };
                self.attempts += 1;
                attempt
            }
            State::Synced { .. } => self.poll_renewal(now),
            _ => None,
        }
    }

    fn poll_renewal(&mut self, now: Instant) -> Option<Attempt> {
        match self.renewal {
            Renewal::Due { at } if now >= at => {
                // Where the link is: another hub of the same cluster would not close the old one,
                // and would lead back to us.
                let (attempt, most) = self.next_attempt();
                self.renewal = Renewal::Dialing { until: now + most };
                attempt
            }
            Renewal::Dialing { until } if now >= until => {
                self.fail_renewal(now, "dialling did not end".into());
                None
            }
            _ => None,
        }
    }

    /// The address whose turn it is, and how long dialling it may take.
    fn next_attempt(&self) -> (Option<Attempt>, Duration) {
        let attempt = self.order.first().cloned();
        let way = attempt.as_ref().and_then(|one| one.way(&self.remote));
        let most = way.map_or(Duration::ZERO, |way| {
            // The address, the proxy, TLS and WebSocket one after the other.
            way.dial_timeout * 3 + way.tls_timeout()
        });
        (attempt, most + DIAL_SLACK)
    }

    /// It could not be dialled.
    pub fn handle_dial_failed(&mut self, now: Instant, cause: String, random: &mut Random) {
        if let State::Dialing { .. } = self.state {
            self.fail(now, LinkDown::because(cause), random);
        } else if let Renewal::Dialing { .. } = self.renewal {
            self.fail_renewal(now, cause);
        }
    }

    /// It is connected.
    pub fn handle_connected(&mut self, link: LinkId) {
        if let Renewal::Dialing { .. } = self.renewal {
            self.renewal = Renewal::Connecting { link };
        } else {
            self.state = State::Connecting { link };
        }
    }

    /// Both sides know what the other wants on this link.
    pub fn handle_synced(
        &mut self,
        now: Instant,
        link: LinkId,
        hub: &str,
        account: &str,
    ) -> Synced {
        match (self.state, self.renewal) {
            (State::Connecting { link: current }, _) if current == link => {
                self.up(now, link, hub, account);
                Synced::Up
            }
            (State::Synced { link: old, .. }, Renewal::Connecting { link: next })
                if next == link =>
            {
                self.up(now, link, hub, account);
                Synced::Replaces(old)
            }
            _ => Synced::Stray,
        }
    }

    fn up(&mut self, now: Instant, link: LinkId, hub: &str, account: &str) {
        self.state = State::Synced { link, since: now };
        self.renewal = Renewal::None;
        self.refused.clear();
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

    /// A link of it ended: the one there is, the one that was to follow it, or one that has been
    /// replaced, which means nothing.
    pub fn handle_down(&mut self, now: Instant, link: LinkId, down: LinkDown, random: &mut Random) {
        match self.state {
            State::Synced { link: current, .. } if current == link => match self.renewal {
                // The hub has taken the next link's CONNECT, or the line is gone: that shows.
                Renewal::Connecting { link: next } => {
                    log::debug!(
                        "Leafnode link to {} gives way to one with new credentials: {}",
                        self.address(),
                        down.cause
                    );
                    self.renewal = Renewal::None;
                    self.state = State::Connecting { link: next };
                }
                Renewal::Dialing { until } => {
                    log::warn!(
                        "Leafnode link to {} for account {} is down: {}; another one is being dialled",
                        self.address(),
                        self.remote.account,
                        down.cause
                    );
                    self.renewal = Renewal::None;
                    self.state = State::Dialing { until };
                }
                Renewal::None | Renewal::Due { .. } => {
                    self.renewal = Renewal::None;
                    self.fail(now, down, random);
                }
            },
            State::Connecting { link: current } if current == link => self.fail(now, down, random),
            State::Synced { .. } if self.renewal == (Renewal::Connecting { link }) => {
                self.fail_renewal(now, down.cause);
            }
            _ => {}
        }
    }

    fn fail_renewal(&mut self, now: Instant, cause: String) {
        self.renewal = Renewal::Due {
            at: now + RENEW_AGAIN,
        };
        let (address, account) = (self.address(), &self.remote.account);
        let told = format!(
            "Leafnode link to {address} for account {account} stays as it is, the new credentials \
             were not taken: {cause}; next try in {RENEW_AGAIN:?}"
        );
        if cause == self.refused {
            log::debug!("{told}");
        } else {
            log::error!("{told}");
            self.refused = cause;
        }
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
        up.handle_down(Instant::ZERO, link, LinkDown::default(), &mut random);
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
            let link = LinkId { place: 0, turn };
            up.handle_down(now, link, LinkDown::default(), &mut random);
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
                up.handle_synced(now, LinkId { place: 0, turn }, "HUB", "$G");
                up.handle_down(
                    now,
                    LinkId { place: 0, turn },
                    LinkDown::default(),
                    &mut random,
                );
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
        up.handle_down(
            Instant::ZERO,
            LinkId { place: 0, turn: 0 },
            down,
            &mut random,
        );
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
            up.handle_down(now, LinkId { place: 0, turn: 0 }, down, &mut random);
            assert_eq!(up.poll_timeout(), Some(now + wait));
            now = now + wait;
        }
    }

    const fn link(turn: u32) -> LinkId {
        LinkId { place: 0, turn }
    }

    /// One that is up, by link 0.
    fn up_already() -> (Uplink, Random) {
        let (mut up, mut random) = uplink(&["a", "b"]);
        assert_eq!(host(up.poll_dial(Instant::ZERO, &mut random)), "a");
        up.handle_connected(link(0));
        assert_eq!(up.predecessor(), None);
        assert_eq!(
            up.handle_synced(Instant::ZERO, link(0), "HUB", "$G"),
            Synced::Up
        );
        (up, random)
    }

    /// And a second link of it, by link 1, is in its handshake.
    fn renewing() -> (Uplink, Random) {
        let (mut up, mut random) = up_already();
        up.renew(Instant::ZERO);
        assert_eq!(up.poll_timeout(), Some(Instant::ZERO));
        assert_eq!(host(up.poll_dial(Instant::ZERO, &mut random)), "a");
        assert!(up.is_dialing());
        assert_eq!(up.predecessor(), Some(link(0)));
        up.handle_connected(link(1));
        assert!(!up.is_dialing());
        (up, random)
    }

    fn synced(up: &Uplink) -> Option<LinkId> {
        match up.state() {
            State::Synced { link, .. } => Some(link),
            _ => None,
        }
    }

    #[test]
    fn a_new_link_is_proven_before_the_old_one_is_closed() {
        let (mut up, mut random) = renewing();
        assert_eq!(synced(&up), Some(link(0)));
        assert_eq!(
            up.handle_synced(Instant::ZERO, link(1), "HUB", "$G"),
            Synced::Replaces(link(0))
        );
        // The end of the old one means nothing.
        up.handle_down(Instant::ZERO, link(0), LinkDown::default(), &mut random);
        assert_eq!(synced(&up), Some(link(1)));
        assert_eq!(up.poll_timeout(), None);
    }

    /// Leaf protocol, duplicates: the hub closes the old one by itself.
    #[test]
    fn a_hub_may_close_the_old_link_first() {
        let (mut up, mut random) = renewing();
        up.handle_down(Instant::ZERO, link(0), LinkDown::default(), &mut random);
        assert_eq!(up.state(), State::Connecting { link: link(1) });
        assert_eq!(up.poll_timeout(), None);
        assert_eq!(
            up.handle_synced(Instant::ZERO, link(1), "HUB", "$G"),
            Synced::Up
        );
        assert_eq!(synced(&up), Some(link(1)));
    }

    #[test]
    fn the_old_link_stays_if_the_new_one_is_refused() {
        let (mut up, mut random) = renewing();
        let down = LinkDown::because("refused");
        up.handle_down(Instant::ZERO, link(1), down, &mut random);
        assert_eq!(synced(&up), Some(link(0)));
        let again = Instant::ZERO + RENEW_AGAIN;
        assert_eq!(up.poll_timeout(), Some(again));
        assert_eq!(up.poll_dial(Instant::ZERO, &mut random), None);
        // Another file does not wait for that.
        up.renew(Instant::ZERO);
        assert_eq!(host(up.poll_dial(Instant::ZERO, &mut random)), "a");
        up.handle_dial_failed(Instant::ZERO, "nobody there".into(), &mut random);
        assert_eq!(synced(&up), Some(link(0)));
        // And the end of the link is the end of that.
        up.handle_down(Instant::ZERO, link(0), LinkDown::default(), &mut random);
        assert!(up.poll_timeout() < Some(again));
        assert_eq!(host(up.poll_dial(again, &mut random)), "b");
        assert_eq!(up.predecessor(), None);
    }

    #[test]
    fn a_link_that_is_lost_while_the_next_is_dialled_is_not_dialled_twice() {
        let (mut up, mut random) = up_already();
        up.renew(Instant::ZERO);
        assert_eq!(host(up.poll_dial(Instant::ZERO, &mut random)), "a");
        up.handle_down(Instant::ZERO, link(0), LinkDown::default(), &mut random);
        assert!(matches!(up.state(), State::Dialing { .. }));
        assert_eq!(up.poll_dial(Instant::ZERO, &mut random), None);
        up.handle_connected(link(1));
        assert_eq!(up.state(), State::Connecting { link: link(1) });
    }

    #[test]
    fn a_remote_that_waits_uses_new_credentials_at_once() {
        let (mut up, mut random) = uplink(&["a"]);
        up.poll_dial(Instant::ZERO, &mut random);
        up.handle_connected(link(0));
        let down = LinkDown {
            delay: Some(Duration::from_secs(31)),
            ..LinkDown::because("refused")
        };
        up.handle_down(Instant::ZERO, link(0), down, &mut random);
        assert_eq!(up.poll_dial(Instant::ZERO, &mut random), None);
        up.renew(Instant::ZERO);
        assert_eq!(host(up.poll_dial(Instant::ZERO, &mut random)), "a");
    }

    #[test]
    fn a_renewal_whose_dial_does_not_end_is_given_up() {
        let (mut up, mut random) = up_already();
        up.renew(Instant::ZERO);
        up.poll_dial(Instant::ZERO, &mut random);
        let until = up.poll_timeout().unwrap_or(Instant::ZERO);
        assert_eq!(up.poll_dial(until, &mut random), None);
        assert!(!up.is_dialing());
        assert_eq!(synced(&up), Some(link(0)));
    }
}
