//! A link to another server that we dialled: the leafnode protocol from the side of the solicitor.
//!
//! Translates; routes nothing and dials nothing. What it learns for the next attempt it leaves in
//! [`LinkDown`] and in events.

use std::sync::Arc;
use std::time::Duration;

use crate::account::perms::{HubRules, LeafRules, is_always_advertised};
use crate::config::model::{Remote, Scheme, Secret, Way};
use crate::interest::Reach;
use crate::link::admission::{LATEST, SOONEST};
use crate::link::compression::{Choice, Level, choose};
use crate::link::liveness::Liveness;
use crate::link::told::Told;
use crate::link::uplink::Attempt;
use crate::link::{
    Action, Cx, Encoding, Env, Event, Neighbour, Offer, Outlet, Permit, Proof, Role, Secured,
    Standing, Target, Upgrade, cluster_number, leaf_limits,
};
use crate::message::Message;
use crate::subject;
use crate::time::Instant;
use crate::wire::error::{ProtoError, throttled_for};
use crate::wire::info::{LeafConnect, LeafInfo};
use crate::wire::parse::{self, Parsed};
use crate::wire::{Op, write};

/// The shortest time for the second INFO after CONNECT (leaf protocol, timers): a hub looks up
/// accounts meanwhile, whatever the line is like.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(2);
/// A hub that says what is wrong says the same to the next attempt.
const REFUSED_DELAY: Duration = Duration::from_secs(1);
/// Time for a credentials file or a signer to answer; a hub gives up on us after 2 s anyway.
const SIGN_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for the hub to take in our interest and answer the ping behind it. Generous: on a slow
/// line a large snapshot takes its time, and a dead line is noticed by the write deadline.
const SYNC_TIMEOUT: Duration = Duration::from_secs(60);
/// The first ping after the link is up, spread by up to a fifth (leaf protocol, keepalive).
const FIRST_PING: Duration = Duration::from_secs(1);
/// A loop and equal cluster names do not go away by themselves (leaf protocol, errors).
const LONG_DELAY: Duration = Duration::from_secs(31);
/// A hub that wants a newer version.
const VERSION_DELAY: Duration = Duration::from_secs(6);
/// Requests to JetStream's API.
const JETSTREAM_API: &[u8] = b"$JS.API.";
/// The queue group of JetStream's direct-get responders, hidden by the hub's own deny list.
const JETSTREAM_GROUP: &[u8] = b"_sys_";
/// What a hub with JetStream takes publishes on without ever advertising it.
const JETSTREAM_UNSAID: &[&[u8]] = &[b"$KV.>", b"$OBJ.>"];

/// What the solicitor proves itself with, for one nonce.
#[derive(Clone, Debug, Default)]
pub struct Signed {
    /// The user JWT of a credentials file.
    pub jwt: Option<Secret>,
    /// The public user key, without a JWT.
    pub nkey: Option<String>,
    /// The signature over the nonce: base64url without padding.
    pub sig: Option<Secret>,
    /// What there is to say if the hub does not take it: what it was, what to do.
    pub refused: Option<String>,
    /// The same for a hub that says that it has expired.
    pub expired: Option<String>,
}

/// Why a link ended, for whoever dials again.
#[derive(Clone, Debug, Default)]
pub struct LinkDown {
    /// In words.
    pub cause: String,
    /// The hub's reason demands at least this delay.
    pub delay: Option<Duration>,
    /// The hub has said after how long it has time for us; 1 to 30 seconds, whatever it said.
    pub appointment: Option<Duration>,
}

impl LinkDown {
    /// Nothing but words.
    pub fn because(cause: impl Into<String>) -> Self {
        LinkDown {
            cause: cause.into(),
            ..LinkDown::default()
        }
    }
}

/// The hub as it described itself.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    /// Its name, else its id.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The account it bound us to.
    pub account: String,
    /// Whether it serves JetStream.
    pub jetstream: bool,
    cluster: u64,
    headers: bool,
    max_payload: usize,
    domain: Option<String>,
}

/// Our side of a link that we dialled.
#[derive(Debug)]
pub struct Leaf {
    remote: Arc<Remote>,
    way: Arc<Way>,
    attempt: Attempt,
    /// Our loop-detection interest in the account.
    loop_name: Arc<str>,
    /// The place of the remote in the configuration, for events.
    number: usize,
    phase: Phase,
    nonce: String,
    compression: Choice,
    hub: Hub,
    rules: LeafRules,
    told: Told,
    liveness: Liveness,
    info_on_connect: bool,
    /// The rules of the link that this one follows, until CONNECT is out.
    inherited: Option<LeafRules>,
    /// Our interest went out behind CONNECT, by the rules of the link before.
    ahead: bool,
    /// See [`Signed::refused`] and [`Signed::expired`].
    refused: Option<String>,
    expired: Option<String>,
    down: LinkDown,
    dropped: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The hub speaks first.
    AwaitInfo { until: Instant },
    /// TLS begins behind the first INFO.
    Securing { until: Instant },
    /// The hub says its INFO again, compressed.
    AwaitCompressed { until: Instant },
    /// Somebody signs the nonce.
    Signing { until: Instant },
    /// CONNECT is out; our permissions come with the second INFO.
    AwaitWelcome { until: Instant },
    /// Our interest is out, with a ping behind it.
    Syncing { until: Instant },
    /// Both sides know what the other wants.
    Synced,
}

impl Leaf {
    /// A link that has just been dialled by `attempt`. `number` is the remote's place in the
    /// configuration; `loop_name` is the account's `$LDS` subject.
    pub fn new(
        now: Instant,
        number: usize,
        remote: Arc<Remote>,
        attempt: Attempt,
        loop_name: Arc<str>,
    ) -> Self {
        let rules = LeafRules::new(&remote.deny_imports, &remote.deny_exports);
        let way = attempt.way(&remote).cloned().unwrap_or_default();
        let until = now + way.first_info_timeout;
        Leaf {
            remote,
            way,
            attempt,
            loop_name,
            number,
            phase: Phase::AwaitInfo { until },
            nonce: String::new(),
            compression: Choice::Clear("off"),
            hub: Hub::default(),
            rules,
            told: Told::default(),
            liveness: Liveness::new(now, FIRST_PING),
            info_on_connect: false,
            inherited: None,
            ahead: false,
            refused: None,
            expired: None,
            down: LinkDown::default(),
            dropped: 0,
        }
    }

    /// The link takes the place of `old`, which is still up. A hub closes that one when it has taken
    /// our CONNECT (leaf protocol, duplicates): our interest follows CONNECT at once, so that the
    /// hub is not without it for a round trip. Until the hub states its rules, those of `old` count.
    #[must_use]
    pub fn following(self, old: &Leaf) -> Self {
        Leaf {
            inherited: Some(old.rules.clone()),
            ..self
        }
    }

    /// The place of its remote in the configuration.
    pub fn number(&self) -> usize {
        self.number
    }

    /// How the hub was reached.
    pub fn way(&self) -> &Way {
        &self.way
    }

    /// The hub as it described itself.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Whether both sides know what the other wants.
    pub fn is_synced(&self) -> bool {
        self.phase == Phase::Synced
    }

    /// What the hub has been told: subject names are not kept, only how many lines are in force.
    pub fn told(&self) -> usize {
        self.told.len()
    }

    /// Why it ended.
    pub fn into_down(self) -> LinkDown {
        self.down
    }

    fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Syncing { .. } | Phase::Synced)
    }

    fn info(&mut self, json: &[u8], cx: &mut Cx<'_>) -> Result<Action<'static>, ProtoError> {
        let info = LeafInfo::parse(json)?;
        match self.phase {
            Phase::AwaitInfo { .. } => self.first_info(info, cx),
            Phase::AwaitCompressed { .. } => {
                self.learn(&info, cx.env);
                self.nonce = info.nonce.unwrap_or_default();
                Ok(self.sign(cx))
            }
            Phase::AwaitWelcome { .. } if info.connect_info => Ok(self.welcome(info, cx)),
            // Before the welcome nothing else is of use: what matters is said again.
            Phase::AwaitWelcome { .. } | Phase::Signing { .. } | Phase::Securing { .. } => {
                Ok(Action::Done)
            }
            Phase::Syncing { .. } | Phase::Synced => Ok(self.later_info(info, cx)),
        }
    }

    fn first_info(
        &mut self,
        info: LeafInfo,
        cx: &mut Cx<'_>,
    ) -> Result<Action<'static>, ProtoError> {
        if info.client_id == 0 || (info.leafnode_urls.is_none() && !info.info_on_connect) {
            self.down.cause = format!(
                "attempted to connect to wrong port: {} is not a leafnode port of a server",
                self.attempt.url
            );
            return Err(ProtoError::Malformed("attempted to connect to wrong port"));
        }
        if info
            .cluster
            .as_deref()
            .is_some_and(|cluster| cluster.contains(' '))
        {
            self.down.cause = "the hub's cluster name has a space".into();
            return Err(ProtoError::ClusterNameHasSpaces);
        }
        self.discover(&info, cx);
        self.info_on_connect = info.info_on_connect;
        self.learn(&info, cx.env);
        self.compression = self.choose_compression(&info)?;
        self.nonce = info.nonce.unwrap_or_default();
        if self.begins_in_clear() {
            if info.tls_required {
                let until = cx.now + self.way.tls_timeout();
                self.phase = Phase::Securing { until };
                return Ok(Action::Upgrade(Upgrade::Tls));
            }
            if self.way.tls.is_some() || self.attempt.url.scheme == Scheme::Tls {
                self.down.cause =
                    "the hub's INFO does not ask for TLS, and this remote demands it: \
                     configure tls on the hub's leafnode port, or remove tls here"
                        .into();
                return Err(ProtoError::Malformed("the hub does not offer TLS"));
            }
        }
        Ok(self.compress_or_sign(cx))
    }

    /// Whether the hub's INFO comes before any TLS.
    fn begins_in_clear(&self) -> bool {
        !self.attempt.url.scheme.is_websocket() && !self.way.is_tls_first()
    }

    /// Never on WebSocket: S2 would be below its frames, where no other party understands it.
    fn choose_compression(&mut self, info: &LeafInfo) -> Result<Choice, ProtoError> {
        if self.attempt.url.scheme.is_websocket() {
            return Ok(Choice::Clear("off"));
        }
        choose(&self.way.compression, info.compression.as_deref()).inspect_err(|error| {
            self.down.cause = format!("{error}: set the remote's compression to off");
        })
    }

    fn compress_or_sign(&mut self, cx: &mut Cx<'_>) -> Action<'static> {
        let Choice::S2(mode) = &self.compression else {
            return self.sign(cx);
        };
        write::compression_info(cx.queue.buffer(cx.pool), mode.name());
        let until = cx.now + self.way.first_info_timeout;
        self.phase = Phase::AwaitCompressed { until };
        Action::Upgrade(Upgrade::S2)
    }

    fn sign(&mut self, cx: &mut Cx<'_>) -> Action<'static> {
        let until = cx.now + SIGN_TIMEOUT;
        self.phase = Phase::Signing { until };
        cx.emit(Event::Sign {
            link: cx.link,
            remote: self.number,
            nonce: self.nonce.as_bytes().into(),
        });
        Action::Done
    }

    fn learn(&mut self, info: &LeafInfo, env: &Env) {
        let name = if info.server_name.is_empty() {
            &info.server_id
        } else {
            &info.server_name
        };
        self.hub = Hub {
            name: name.clone(),
            version: info.version.clone(),
            account: String::new(),
            jetstream: info.jetstream,
            cluster: match info.cluster.as_deref() {
                Some(cluster) if !cluster.is_empty() => cluster_number(cluster),
                // While one link follows another to the same hub, neither is told of the other's
                // interest: the hub would find a loop.
                _ => cluster_number(&format!("\0remote {}", self.number)),
            },
            headers: info.headers && env.server.headers,
            max_payload: usize::try_from(info.max_payload)
                .ok()
                .filter(|n| *n > 0)
                .unwrap_or(usize::MAX),
            domain: info.domain.clone(),
        };
    }

    fn connect(&mut self, signed: Signed, cx: &mut Cx<'_>) -> Action<'static> {
        self.refused = signed.refused;
        self.expired = signed.expired;
        let server = &cx.env.server;
        let name = server.name.clone();
        let (user, pass) = (
            self.attempt.url.user.clone(),
            self.attempt.url.password.clone(),
        );
        let connect = LeafConnect {
            version: crate::wire::VERSION,
            nkey: signed.nkey,
            jwt: signed.jwt,
            sig: signed.sig,
            // A lone user name may be a token: it is sent as both.
            auth_token: user.as_ref().filter(|_| pass.is_none()).map(Secret::new),
            user: user.map(Secret::new),
            pass,
            server_id: &server.id,
            name: &name,
            is_hub: self.remote.hub,
            cluster: &name,
            headers: self.hub.headers,
            deny_pub: &self.remote.deny_imports,
            isolate: self.remote.request_isolation,
            compress_mode: match &self.compression {
                Choice::Clear(said) => said,
                Choice::S2(_) => self.level().name(),
            },
            remote_account: &self.remote.account,
        };
        connect.write(cx.queue.buffer(cx.pool));
        if self.info_on_connect
            && let Some(rules) = self.inherited.take()
        {
            self.rules = rules;
            self.ahead = true;
            return self.open(cx);
        }
        if self.info_on_connect {
            self.phase = Phase::AwaitWelcome {
                until: cx.now + self.welcome_timeout(),
            };
            return Action::Done;
        }
        self.open(cx)
    }

    fn level(&self) -> Level {
        match &self.compression {
            Choice::S2(mode) => mode.level(self.liveness.round_trip()),
            Choice::Clear(_) => Level::Uncompressed,
        }
    }

    fn welcome_timeout(&self) -> Duration {
        WELCOME_TIMEOUT.max(self.way.first_info_timeout)
    }

    fn welcome(&mut self, info: LeafInfo, cx: &mut Cx<'_>) -> Action<'static> {
        self.discover(&info, cx);
        self.learn(&info, cx.env);
        self.hub.account = info.remote_account.clone().unwrap_or_default();
        self.adopt(&info);
        self.open(cx)
    }

    fn later_info(&mut self, info: LeafInfo, cx: &mut Cx<'_>) -> Action<'static> {
        self.discover(&info, cx);
        if info.connect_info && std::mem::take(&mut self.ahead) {
            // It is the welcome: what the link before was allowed counts no more.
            self.learn(&info, cx.env);
            self.hub.account = info.remote_account.clone().unwrap_or_default();
            self.rules = LeafRules::new(&self.remote.deny_imports, &self.remote.deny_exports);
            self.adopt(&info);
            return Action::Reoffer;
        }
        if info.import.is_none() && info.export.is_none() {
            return Action::Done;
        }
        self.adopt(&info);
        Action::Reoffer
    }

    fn adopt(&mut self, info: &LeafInfo) {
        self.rules.adopt(HubRules {
            import: info.import.as_ref(),
            export: info.export.as_ref(),
            domain: self.hub.domain.as_deref(),
        });
    }

    /// Only a client of the account can be told of its interest; a hub is told by the shard.
    fn open(&mut self, cx: &mut Cx<'_>) -> Action<'static> {
        self.phase = Phase::Syncing {
            until: cx.now + SYNC_TIMEOUT,
        };
        let unsaid = if self.hub.jetstream && !self.remote.hub {
            JETSTREAM_UNSAID
        } else {
            &[]
        };
        Action::Attach {
            account: self.remote.account.as_str().into(),
            unsaid,
        }
    }

    fn discover(&self, info: &LeafInfo, cx: &mut Cx<'_>) {
        if self.remote.ignore_discovered_servers {
            return;
        }
        let urls = if self.attempt.url.scheme.is_websocket() {
            &info.ws_connect_urls
        } else {
            &info.leafnode_urls
        };
        if let Some(urls) = urls {
            cx.emit(Event::Discovered {
                remote: self.number,
                addresses: urls.clone(),
            });
        }
    }

    /// The hub says what is wrong; it closes by itself, unless a loop is to be cut at once.
    fn hub_error(&mut self, text: &[u8]) -> Result<Action<'static>, ProtoError> {
        let text = String::from_utf8_lossy(text);
        let harmless = text.contains("maximum subscriptions exceeded")
            || text.contains("Invalid Subscription");
        if harmless {
            log::warn!("{} - Leafnode Error '{text}'", self.prefix());
            return Ok(Action::Done);
        }
        if let Some(wait) = throttled_for(text.as_bytes()) {
            // Before anything is proven: what is said here binds us no longer than a hub that is away.
            self.down.appointment = Some(wait.clamp(SOONEST, LATEST));
            self.down.cause = "the hub takes in other leafs first".into();
            return Ok(Action::Done);
        }
        // What follows on the first is mostly a consequence of it: 2.10 says "Authentication Timeout"
        // to a leaf whose version it has refused.
        if self.down.cause.is_empty() {
            self.down.cause = match self.said_of_credentials(&text) {
                Some(words) => format!("the hub says '{text}': {words}"),
                None => format!("the hub says '{text}'"),
            };
        }
        let delay = if text.contains("Loop detected") || text.contains("same cluster name") {
            LONG_DELAY
        } else if text.contains("minimum version") {
            VERSION_DELAY
        } else {
            REFUSED_DELAY
        };
        self.down.delay = self.down.delay.max(Some(delay));
        if text.contains("Loop detected") {
            return Err(ProtoError::Malformed("loop detected by the hub"));
        }
        Ok(Action::Done)
    }

    /// What we know about credentials that a hub refuses with these words.
    fn said_of_credentials(&self, text: &str) -> Option<&str> {
        if text.contains("Authentication Expired") {
            self.expired.as_deref()
        } else if text.contains("Authorization Violation")
            || text.contains("Authentication Revoked")
        {
            self.refused.as_deref()
        } else {
            None
        }
    }

    fn interest<'a>(
        &mut self,
        subject: &'a [u8],
        queue: Option<(&'a [u8], u32)>,
        cx: &mut Cx<'_>,
    ) -> Result<Action<'a>, ProtoError> {
        if subject == self.loop_name.as_bytes() {
            self.down.delay = Some(LONG_DELAY);
            let error = ProtoError::LoopDetected {
                account: self.remote.account.as_bytes().into(),
            };
            self.down.cause = format!("{error}: {} leads back to this server", self.attempt.url);
            return Err(error);
        }
        if !subject::is_valid_pattern(subject) {
            cx.refuse(&ProtoError::InvalidSubscription);
            return Ok(Action::Done);
        }
        // A literal that we may never send is of no use. Wildcards are filtered per message.
        if !is_always_advertised(subject)
            && !subject::has_wildcard(subject)
            && !self.rules.may_send(subject)
        {
            return if self.remote.hub {
                self.forbid(subject, cx)
            } else {
                Ok(Action::Done)
            };
        }
        if cx
            .env
            .limits
            .max_subscriptions
            .is_some_and(|max| cx.subscriptions >= max)
        {
            log::warn!("{} - maximum subscriptions exceeded", self.prefix());
            cx.refuse(&ProtoError::MaxSubscriptions);
            return Ok(Action::Done);
        }
        Ok(Action::Interest { subject, queue })
    }

    /// Who has the hub's role does not only leave it out: the other side has to be told, and the link
    /// ends (leaf protocol, permissions).
    fn forbid(&mut self, subject: &[u8], cx: &mut Cx<'_>) -> Result<Action<'static>, ProtoError> {
        let error = ProtoError::SubscribeDenied {
            subject: subject.into(),
            queue: None,
        };
        cx.refuse(&error);
        self.down.delay = Some(LONG_DELAY);
        self.down.cause = format!("{error}: the other side wants what deny_exports keeps from it");
        Err(ProtoError::Malformed(
            "a subscription that is not permitted",
        ))
    }

    fn prefix(&self) -> impl std::fmt::Display + '_ {
        struct Label<'a>(&'a Leaf);
        impl std::fmt::Display for Label<'_> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(
                    f,
                    "Leafnode {} account {}",
                    self.0.attempt.url, self.0.remote.account
                )
            }
        }
        Label(self)
    }
}

impl Neighbour for Leaf {
    fn handle_open(&mut self, _: &mut Cx<'_>) -> Result<Action<'static>, ProtoError> {
        Ok(Action::Done)
    }

    #[inline]
    fn parse<'a>(&self, buf: &'a [u8], env: &Env) -> Result<Parsed<'a>, ProtoError> {
        parse::leaf(buf, &leaf_limits(env))
    }

    #[inline]
    fn handle<'a>(&mut self, op: &'a Op<'a>, cx: &mut Cx<'_>) -> Result<Action<'a>, ProtoError> {
        match op {
            Op::Publish(message) if self.is_open() => {
                self.liveness.credit();
                if cx.rules.mappings.is_empty()
                    && self.admit(message.subject, cx)? == Permit::Refused
                {
                    return Ok(Action::Done);
                }
                Ok(Action::Publish {
                    message,
                    wants_no_responders: false,
                })
            }
            Op::Interest { subject, queue } if self.is_open() => self.interest(subject, *queue, cx),
            Op::InterestGone { subject, queue } if self.is_open() => Ok(Action::InterestGone {
                subject,
                queue: *queue,
            }),
            // The answer is about the line and us, not about what we have sent.
            Op::Ping => {
                cx.say_at_once(write::PONG);
                Ok(Action::Done)
            }
            Op::Pong => {
                self.liveness.pong(cx.now);
                if let Phase::Syncing { .. } = self.phase {
                    self.phase = Phase::Synced;
                    self.liveness
                        .start(cx.now, FIRST_PING, cx.env.limits.ping_interval, cx.random);
                    cx.emit(Event::Synced {
                        link: cx.link,
                        remote: self.number,
                    });
                }
                Ok(Action::Done)
            }
            Op::Info(json) => self.info(json, cx),
            Op::Err(text) => self.hub_error(text),
            Op::Ok => Ok(Action::Done),
            _ => {
                self.down.cause = "the peer does not speak the leafnode protocol in order".into();
                Err(ProtoError::UnknownOperation)
            }
        }
    }

    fn handle_timeout(&mut self, cx: &mut Cx<'_>) -> Result<(), ProtoError> {
        if cx.now < self.poll_timeout() {
            return Ok(());
        }
        match self.phase {
            Phase::AwaitInfo { .. } => {
                self.down.cause = format!(
                    "no INFO within {:?}: {}",
                    self.way.first_info_timeout,
                    if self.begins_in_clear() {
                        "nothing there speaks the leafnode protocol in clear; if the hub expects TLS \
                         first, set handshake_first in this remote's tls block"
                    } else {
                        "nothing there speaks the leafnode protocol"
                    },
                );
                Err(ProtoError::Malformed("no INFO in time"))
            }
            Phase::Securing { .. } => {
                self.down.cause = format!(
                    "the TLS handshake did not end within {:?}",
                    self.way.tls_timeout()
                );
                Err(ProtoError::Malformed("no TLS in time"))
            }
            Phase::AwaitCompressed { .. } => {
                self.down.cause = format!(
                    "no compressed INFO within {:?}: set the remote's compression to off",
                    self.way.first_info_timeout
                );
                Err(ProtoError::Malformed("no compressed INFO in time"))
            }
            Phase::Signing { .. } => {
                self.down.cause = "the credentials did not sign the nonce in time".into();
                Err(ProtoError::Malformed("no signature in time"))
            }
            Phase::AwaitWelcome { .. } => {
                self.down.cause =
                    format!("no answer to CONNECT within {:?}", self.welcome_timeout());
                Err(ProtoError::StaleLeafLink)
            }
            Phase::Syncing { .. } => {
                self.down.cause = format!("our interest was not taken within {SYNC_TIMEOUT:?}");
                Err(ProtoError::StaleConnection)
            }
            Phase::Synced => {
                // A spoke pings whether or not the hub spoke (leaf protocol, keepalive).
                if !self.remote.hub {
                    self.liveness.uncredit();
                }
                self.liveness.keep(cx).inspect_err(|_| {
                    self.down.cause = "the hub stopped answering pings".into();
                })
            }
        }
    }

    fn poll_timeout(&self) -> Instant {
        match self.phase {
            Phase::AwaitInfo { until }
            | Phase::Securing { until }
            | Phase::AwaitCompressed { until }
            | Phase::Signing { until }
            | Phase::AwaitWelcome { until }
            | Phase::Syncing { until } => until,
            Phase::Synced => self.liveness.deadline(),
        }
    }

    fn handle_proof(
        &mut self,
        proof: Proof,
        cx: &mut Cx<'_>,
    ) -> Result<Action<'static>, ProtoError> {
        match (self.phase, proof) {
            (Phase::Signing { .. }, Proof::Signed(Ok(signed))) => Ok(self.connect(signed, cx)),
            (Phase::Signing { .. }, Proof::Signed(Err(why))) => {
                self.down.cause = why.into_owned();
                Err(ProtoError::Malformed("no credentials"))
            }
            _ => Ok(Action::Done),
        }
    }

    fn handle_upgraded(
        &mut self,
        _: Secured,
        cx: &mut Cx<'_>,
    ) -> Result<Action<'static>, ProtoError> {
        Ok(match self.phase {
            Phase::Securing { .. } => self.compress_or_sign(cx),
            _ => Action::Done,
        })
    }

    fn handle_sign_of_life(&mut self) {
        self.liveness.alive();
    }

    fn encoding(&self) -> Encoding {
        Encoding {
            level: self.level(),
            largest: self.hub.max_payload,
        }
    }

    fn max_queue_time(&self) -> Option<Duration> {
        self.remote.max_queue_time
    }

    fn label(&self) -> String {
        self.prefix().to_string()
    }

    #[inline]
    fn standing(&self) -> Standing {
        Standing {
            reach: Reach::Distant,
            role: if self.remote.hub {
                Role::Downstream
            } else {
                Role::Upstream
            },
            cluster: self.hub.cluster,
            isolated: self.remote.isolate,
            echo: false,
        }
    }

    /// A hub that sends what we do not take is not told.
    #[inline]
    fn admit(&mut self, subject: &[u8], _: &mut Cx<'_>) -> Result<Permit, ProtoError> {
        if self.rules.may_receive(subject) {
            Ok(Permit::Granted)
        } else {
            Ok(Permit::Refused)
        }
    }

    #[inline]
    fn may_hear(&self, subject: &[u8], _: Option<&[u8]>) -> bool {
        self.is_open() && self.rules.may_send(subject)
    }

    fn deliver(&mut self, message: &Message<'_>, to: Target<'_>, outlet: &mut Outlet<'_>) -> bool {
        let Target::Link { queues, .. } = to else {
            return false;
        };
        if message.body.len() > self.hub.max_payload {
            // The hub would end the link for it.
            if self.dropped == 0 {
                log::warn!(
                    "{} - dropped a message of {} bytes on {:?}: the hub takes {} at most",
                    self.prefix(),
                    message.body.len(),
                    String::from_utf8_lossy(message.subject),
                    self.hub.max_payload,
                );
            }
            self.dropped += 1;
            return false;
        }
        let headers = if self.hub.headers {
            write::Headers::Keep
        } else {
            write::Headers::Strip
        };
        let out = outlet.queue.buffer(outlet.pool);
        let hidden = self.hub.jetstream
            && message.subject.starts_with(JETSTREAM_API)
            && !queues.contains(&JETSTREAM_GROUP);
        let body = if hidden {
            let all = queues
                .iter()
                .copied()
                .chain(std::iter::once(JETSTREAM_GROUP));
            write::lmsg_head(out, message, all, headers)
        } else {
            write::lmsg_head(out, message, queues.iter().copied(), headers)
        };
        outlet.finish(body);
        true
    }

    fn offer(&mut self, offer: &Offer<'_>, outlet: &mut Outlet<'_>) {
        if !self.is_open() {
            return;
        }
        let rules = &self.rules;
        self.told
            .offer(offer, outlet.buffer(), |subject, queue| match queue {
                None => rules.may_advertise(subject),
                Some(name) => rules.may_advertise_queue(subject, name),
            });
    }

    fn announce_lame_duck(&mut self, _: &mut Cx<'_>) {}

    fn note_end(&mut self, cause: &str) {
        if self.down.cause.is_empty() {
            self.down.cause = cause.to_owned();
        }
    }
}
