//! A link to another server that dialled us: the leafnode protocol from the side of the acceptor.
//!
//! Translates; routes nothing. Whether another link is the same leaf's is for whoever knows all
//! links ([`Acceptor::leaf`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::account::perms::{AcceptorRules, Perms, is_always_advertised};
use crate::auth::login::{self, Login, NamedBy};
use crate::auth::users::{AuthError, Claim, Identity, Mandate, Outcome, Users, Verdict};
use crate::config::model::{Compression, ConnectionType, Secret, SubjectRules};
use crate::interest::Reach;
use crate::link::compression::{Choice, Level, choose, said};
use crate::link::liveness::Liveness;
use crate::link::told::Told;
use crate::link::websocket::Farewell;
use crate::link::{
    Action, ClientTls, Cx, Encoding, Env, Event, Neighbour, Offer, Outlet, Permit, Portrait, Proof,
    Role, Secured, Standing, Target, Upgrade, cluster_number, draw_nonce, leaf_limits,
};
use crate::message::Message;
use crate::subject;
use crate::time::Instant;
use crate::wire::error::ProtoError;
use crate::wire::info::{HubInfo, LeafHello, LeafInfo};
use crate::wire::parse::{self, Parsed};
use crate::wire::version::Version;
use crate::wire::{Op, write};

#[cfg(test)]
mod tests;

/// The first ping after the link is up, spread by up to a fifth (leaf protocol, keepalive).
const FIRST_PING: Duration = Duration::from_secs(1);

/// A port that leafs dial, as its links need to know it. Leafs that come over WebSocket have one of
/// their own, which says what the listener for those does.
#[derive(Clone, Debug)]
pub struct LeafPort {
    /// The host that leafs are told.
    pub host: String,
    /// The port that leafs are told.
    pub port: u16,
    /// `host:port` of all leaf listeners of the cluster.
    pub urls: Vec<String>,
    /// Our cluster, or our name if we are a leaf ourselves; may be empty.
    pub cluster: String,
    /// Whether and how links are compressed. Never on WebSocket.
    pub compression: Compression,
    /// Who may connect, by `leafnodes.authorization`: [`Users::compile_for_leafs`]. `None`: those of
    /// the server, [`Env::users`].
    pub users: Option<Arc<Users>>,
    /// `None`: leafs connect in clear. On WebSocket, whose TLS is over before the link is there, it
    /// only says what the certificate is for.
    pub tls: Option<ClientTls>,
    /// Time from the connection to CONNECT.
    pub auth_timeout: Duration,
    /// `min_version`: older leafs are refused.
    pub min_version: Option<Version>,
    /// No leaf is told what the others want.
    pub isolate: bool,
    /// Time for a leaf to take at least something; `None`: as for any other server.
    pub write_deadline: Option<Duration>,
}

impl Default for LeafPort {
    /// The usual port on every address, in clear and without compression, with two seconds to
    /// authenticate.
    fn default() -> Self {
        LeafPort {
            host: "0.0.0.0".into(),
            port: 7422,
            urls: Vec::new(),
            cluster: String::new(),
            compression: Compression::Off,
            users: None,
            tls: None,
            auth_timeout: Duration::from_secs(2),
            min_version: None,
            isolate: false,
            write_deadline: None,
        }
    }
}

/// A leaf as it described itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeafName {
    /// Its name.
    pub name: String,
    /// Its cluster, else its name.
    pub cluster: String,
    /// Its own account.
    pub account: String,
    /// Its version.
    pub version: String,
}

/// Our side of a link that was dialled by a leaf.
#[derive(Debug)]
pub struct Acceptor {
    port: Arc<LeafPort>,
    phase: Phase,
    /// Bytes are carried in S2 blocks from here on.
    compression: Option<Choice>,
    rules: AcceptorRules,
    told: Told,
    liveness: Liveness,
    /// Of its JWT: when it has to go.
    until: Instant,
    headers: bool,
    /// The leaf takes the hub's role.
    is_hub: bool,
    isolated: bool,
    cluster: u64,
    who: Box<Who>,
}

/// What only the handshake and the log look at.
#[derive(Debug)]
struct Who {
    number: u64,
    address: SocketAddr,
    kind: ConnectionType,
    /// When it connected.
    since: Instant,
    nonce: String,
    secured: Secured,
    /// What CONNECT said, until its sender has proven itself.
    pending: Option<LeafHello>,
    leaf: LeafName,
    /// Who it is, or claims to be.
    identity: Option<Identity>,
    account: Arc<str>,
    mandate: Option<Arc<Mandate>>,
    /// Bytes that a compressed message on a WebSocket may stand for.
    largest: usize,
    farewell: Option<Farewell>,
    /// Why it is being closed.
    ending: Option<Box<str>>,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Phase {
    /// TLS begins behind INFO, and ends before this.
    Securing { until: Instant },
    /// CONNECT is due before this, or an INFO about compression and then CONNECT.
    Greeted { until: Instant },
    /// S2 begins.
    Compressing { until: Instant },
    /// A password is being checked.
    Verifying { until: Instant },
    /// Both sides know what the other wants.
    Open,
}

impl Acceptor {
    /// A leaf that has just connected. `number` is the link's id in INFO and the log, not 0; `kind`
    /// is how it did, [`ConnectionType::Leafnode`] or [`ConnectionType::LeafnodeWs`]; `secured` is
    /// what TLS before INFO came to.
    pub fn new(
        now: Instant,
        number: u64,
        address: SocketAddr,
        kind: ConnectionType,
        port: Arc<LeafPort>,
        secured: Secured,
    ) -> Self {
        Acceptor {
            // Replaced when the link is opened.
            phase: Phase::Greeted { until: now },
            compression: None,
            rules: AcceptorRules::default(),
            until: Instant::NEVER,
            told: Told::default(),
            liveness: Liveness::new(now, FIRST_PING),
            headers: false,
            is_hub: false,
            isolated: port.isolate,
            cluster: 0,
            port,
            who: Box::new(Who {
                number,
                address,
                kind,
                since: now,
                nonce: String::new(),
                secured,
                pending: None,
                mandate: None,
                leaf: LeafName::default(),
                identity: None,
                account: "".into(),
                largest: usize::MAX,
                farewell: None,
                ending: None,
            }),
        }
    }

    /// Whether TLS is still to be agreed on.
    pub fn is_securing(&self) -> bool {
        matches!(self.phase, Phase::Securing { .. })
    }

    /// Whether both sides know what the other wants.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// The leaf as it described itself; nothing before its CONNECT was accepted. Two links with the
    /// same name, cluster and accounts on both sides, its own not empty, are one leaf's: the older one
    /// gives way ([`ProtoError::DuplicateLink`]).
    pub fn leaf(&self) -> &LeafName {
        &self.who.leaf
    }

    /// Who it is. The round trip is not there before it answered a ping.
    fn draw(&self) -> Portrait<'_> {
        let who = &*self.who;
        let pending = who.pending.as_ref();
        Portrait {
            number: who.number,
            kind: who.kind,
            address: who.address.ip(),
            since: who.since,
            account: Some(&who.account).filter(|account| !account.is_empty()),
            identity: who.identity.as_ref(),
            name: pending.map_or(&who.leaf.name, |hello| &hello.name),
            lang: "",
            version: pending.map_or(&who.leaf.version, |hello| &hello.version),
            round_trip: self.liveness.round_trip(),
            ending: who.ending.as_deref(),
        }
    }

    /// The account that the leaf is bound to; empty before its CONNECT was accepted.
    pub fn account(&self) -> &Arc<str> {
        &self.who.account
    }

    /// How its WebSocket is closed: said once the link ends, of who came over one.
    pub fn farewell(&self) -> Option<&Farewell> {
        self.who.farewell.as_ref()
    }

    fn may_compress(&self) -> bool {
        let off = matches!(
            self.port.compression,
            Compression::Off | Compression::NotSupported
        );
        !off && self.compression.is_none() && !self.is_websocket()
    }

    fn is_websocket(&self) -> bool {
        self.who.kind == ConnectionType::LeafnodeWs
    }

    fn write_info(&self, env: &Env, welcome: bool, out: &mut Vec<u8>) {
        let (server, port) = (&env.server, &self.port);
        let stated = self.rules.stated().filter(|_| welcome);
        let restricts = |rules: &&SubjectRules| **rules != SubjectRules::default();
        HubInfo {
            server_id: &server.id,
            server_name: &server.name,
            version: crate::wire::VERSION,
            proto: 1,
            go: server.toolchain,
            host: &port.host,
            port: port.port,
            headers: server.headers,
            auth_required: true,
            tls_required: port.tls.is_some(),
            tls_verify: port.tls.is_some_and(|tls| tls.verify),
            max_payload: env.limits.max_payload,
            ip: &join(&port.host, port.port),
            client_id: self.who.number,
            nonce: Some(&*self.who.nonce).filter(|_| !welcome),
            compression: self.said_compression().filter(|_| !welcome),
            cluster: &port.cluster,
            connect_info: welcome,
            remote_account: Some(&*self.who.account).filter(|_| welcome),
            import: stated.map(|rules| &rules.subscribe).filter(restricts),
            export: stated.map(|rules| &rules.publish).filter(restricts),
            info_on_connect: true,
            leafnode_urls: &port.urls,
        }
        .write(out);
    }

    /// Of our INFO: what is configured, then what was agreed on.
    fn said_compression(&self) -> Option<&'static str> {
        match &self.compression {
            Some(Choice::S2(mode)) => Some(mode.name()),
            Some(Choice::Clear(said)) => Some(said),
            // A leaf that hears nothing of it does not ask (leaf protocol, WebSocket and S2).
            None if self.is_websocket() => None,
            None => said(&self.port.compression),
        }
    }

    fn greet(&mut self, cx: &Cx<'_>) {
        let until = cx.now + self.port.auth_timeout;
        self.phase = Phase::Greeted { until };
    }

    fn info(&mut self, json: &[u8]) -> Result<Action<'static>, ProtoError> {
        let Phase::Greeted { until } = self.phase else {
            // It means nothing any more (leaf protocol, async INFO goes the other way).
            return Ok(Action::Done);
        };
        let info = LeafInfo::parse(json)?;
        let choice = choose(&self.port.compression, info.compression.as_deref())?;
        let compresses = matches!(choice, Choice::S2(_));
        self.compression = Some(choice);
        if !compresses {
            return Ok(Action::Done);
        }
        self.phase = Phase::Compressing { until };
        Ok(Action::Upgrade(Upgrade::S2))
    }

    fn connect(&mut self, json: &[u8], cx: &mut Cx<'_>) -> Result<Action<'static>, ProtoError> {
        let Phase::Greeted { until } = self.phase else {
            // The same leaf again, on the same link.
            return Err(ProtoError::DuplicateLink);
        };
        let hello = LeafHello::parse(json)?;
        if hello.account.is_some() || hello.new_account {
            return Err(ProtoError::AuthorizationViolation);
        }
        let claim = Claim {
            user: hello.user.as_deref(),
            pass: hello.pass.as_ref().map(Secret::reveal),
            token: hello.auth_token.as_ref().map(Secret::reveal),
            nkey: hello.nkey.as_deref(),
            sig: hello.sig.as_ref().map(Secret::reveal),
            jwt: hello.jwt.as_ref().map(Secret::reveal),
        };
        let judged = self.judge(&claim, cx.env);
        self.who.identity = claim.identity();
        match judged {
            Ok(Outcome::Accepted(verdict)) => self.welcome(hello, verdict, cx),
            Ok(Outcome::Slow(check)) => {
                self.who.pending = Some(hello);
                self.phase = Phase::Verifying { until };
                Ok(Action::Verify(check))
            }
            Err(error) => {
                self.who.pending = Some(hello);
                Err(self.turn_away(&error))
            }
        }
    }

    fn judge(&self, claim: &Claim<'_>, env: &Env) -> Result<Outcome, AuthError> {
        let named_by = if self.port.tls.is_some_and(|tls| tls.map) {
            NamedBy::Certificate(self.who.secured.certificate.as_deref())
        } else {
            NamedBy::Connect
        };
        let login = Login {
            nonce: &self.who.nonce,
            address: self.who.address.ip(),
            kind: self.who.kind,
            named_by,
        };
        let users = self.port.users.as_deref().unwrap_or(&env.users);
        login::judge(users, claim, login, self.prefix())
    }

    fn turn_away(&self, error: &AuthError) -> ProtoError {
        login::turn_away(error, self.prefix())
    }

    /// The checks in the order of the leaf protocol, CONNECT: who it is comes first.
    fn welcome(
        &mut self,
        hello: LeafHello,
        verdict: Verdict,
        cx: &mut Cx<'_>,
    ) -> Result<Action<'static>, ProtoError> {
        if !hello.lang.is_empty() {
            return Err(ProtoError::WrongPort);
        }
        if hello.cluster.contains(' ') {
            return Err(ProtoError::ClusterNameHasSpaces);
        }
        if !hello.cluster.is_empty() && hello.cluster == self.port.cluster {
            return Err(ProtoError::SameCluster);
        }
        if !hello.gateway.is_empty() {
            return Err(ProtoError::GatewayOnLeafPort(hello.gateway.into()));
        }
        self.rules = AcceptorRules::new(verdict.perms, &hello.deny_pub);
        self.headers = hello.headers && cx.env.server.headers;
        self.is_hub = hello.is_hub;
        self.isolated |= hello.isolate;
        self.cluster = cluster_number(&hello.cluster);
        self.who.account = verdict.account.clone();
        self.who.identity = Some(verdict.identity);
        let until = verdict.mandate.as_ref().and_then(|mandate| mandate.until);
        self.until = until.unwrap_or(Instant::NEVER);
        self.who.mandate = verdict.mandate;
        self.who.leaf = LeafName {
            name: hello.name,
            cluster: hello.cluster,
            account: hello.remote_account,
            version: hello.version,
        };
        let version = Version::parse(&self.who.leaf.version);
        if let Some(wanted) = self.port.min_version
            && version.is_none_or(|version| version < wanted)
        {
            // Behind the INFO that the leaf waits for (leaf protocol, CONNECT).
            self.write_info(cx.env, true, cx.queue.buffer(cx.pool));
            return Err(ProtoError::TooOld(wanted));
        }
        self.phase = Phase::Open;
        self.liveness
            .start(cx.now, FIRST_PING, cx.env.limits.ping_interval, cx.random);
        self.write_info(cx.env, true, cx.queue.buffer(cx.pool));
        cx.emit(Event::Joined { link: cx.link });
        Ok(Action::Attach {
            account: verdict.account,
            unsaid: &[],
        })
    }

    fn publish<'a>(
        &mut self,
        message: &'a Message<'a>,
        cx: &mut Cx<'_>,
    ) -> Result<Action<'a>, ProtoError> {
        self.liveness.credit();
        if cx.rules.mappings.is_empty() && self.admit(message.subject, cx)? == Permit::Refused {
            return Ok(Action::Done);
        }
        Ok(Action::Publish {
            message,
            wants_no_responders: false,
        })
    }

    fn interest<'a>(
        &mut self,
        subject: &'a [u8],
        queue: Option<(&'a [u8], u32)>,
        cx: &mut Cx<'_>,
    ) -> Result<Action<'a>, ProtoError> {
        self.liveness.credit();
        if !subject::is_valid_pattern(subject) {
            cx.refuse(&ProtoError::InvalidSubscription);
            return Ok(Action::Done);
        }
        // Wildcards are filtered per message.
        if !is_always_advertised(subject)
            && !subject::has_wildcard(subject)
            && !self.rules.may_send(subject)
        {
            let error = ProtoError::SubscribeDenied {
                subject: subject.into(),
                queue: None,
            };
            return self.forbid(error, cx);
        }
        let most = cx
            .rules
            .limits
            .subscriptions(cx.env.limits.max_subscriptions);
        if most.is_some_and(|most| cx.subscriptions >= most) {
            log::warn!("{} - maximum subscriptions exceeded", self.prefix());
            cx.refuse(&ProtoError::MaxSubscriptions);
            return Ok(Action::Done);
        }
        Ok(Action::Interest { subject, queue })
    }

    /// Who has the hub's role ends the link for it; a spoke leaves it out silently (leaf protocol,
    /// permissions).
    fn forbid(&self, error: ProtoError, cx: &mut Cx<'_>) -> Result<Action<'static>, ProtoError> {
        if self.is_hub {
            return Ok(Action::Done);
        }
        log::error!("{} - {error}", self.prefix());
        cx.refuse(&error);
        Err(ProtoError::Malformed("what is not permitted"))
    }

    fn level(&self) -> Level {
        match &self.compression {
            Some(Choice::S2(mode)) => mode.level(self.liveness.round_trip()),
            _ => Level::Uncompressed,
        }
    }

    /// How log lines name the link.
    fn prefix(&self) -> impl std::fmt::Display + '_ {
        struct Prefix<'a>(&'a Who);
        impl std::fmt::Display for Prefix<'_> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let kind = match self.0.kind {
                    ConnectionType::LeafnodeWs => "lid_ws",
                    _ => "lid",
                };
                write!(f, "{} - {kind}:{}", self.0.address, self.0.number)
            }
        }
        Prefix(&self.who)
    }
}

/// `host:port`, an IPv6 address in brackets.
fn join(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

impl Neighbour for Acceptor {
    fn handle_open(&mut self, cx: &mut Cx<'_>) -> Result<Action<'static>, ProtoError> {
        log::info!("{} - Leafnode connection created", self.prefix());
        self.who.nonce = draw_nonce(cx);
        // A leaf takes our max_payload from INFO, and its own from nobody.
        self.who.largest = cx.env.limits.max_payload;
        self.write_info(cx.env, false, cx.queue.buffer(cx.pool));
        match self.port.tls {
            Some(tls) if !self.who.secured.tls && !self.is_websocket() => {
                let until = cx.now + tls.timeout;
                self.phase = Phase::Securing { until };
                Ok(Action::Upgrade(Upgrade::Tls))
            }
            _ => {
                self.greet(cx);
                Ok(Action::Done)
            }
        }
    }

    #[inline]
    fn parse<'a>(&self, buf: &'a [u8], env: &Env) -> Result<Parsed<'a>, ProtoError> {
        if self.phase != Phase::Open {
            match buf.first() {
                None | Some(b'C' | b'c') => {}
                Some(b'I' | b'i') if self.may_compress() => {}
                Some(_) => return Err(ProtoError::AuthorizationViolation),
            }
        }
        parse::leaf(buf, &leaf_limits(env))
    }

    #[inline]
    fn handle<'a>(&mut self, op: &'a Op<'a>, cx: &mut Cx<'_>) -> Result<Action<'a>, ProtoError> {
        match op {
            Op::Publish(message) => self.publish(message, cx),
            Op::Interest { subject, queue } => self.interest(subject, *queue, cx),
            Op::InterestGone { subject, queue } => {
                self.liveness.credit();
                Ok(Action::InterestGone {
                    subject,
                    queue: *queue,
                })
            }
            Op::Ping => {
                self.liveness.credit();
                cx.say_at_once(write::PONG);
                Ok(Action::Done)
            }
            Op::Pong => {
                self.liveness.pong(cx.now);
                Ok(Action::Done)
            }
            Op::Connect(json) => self.connect(json, cx),
            Op::Info(json) => self.info(json),
            Op::Err(text) => {
                let text = String::from_utf8_lossy(text);
                log::error!("{} - Leafnode Error '{text}'", self.prefix());
                Ok(Action::Done)
            }
            Op::Ok => Ok(Action::Done),
            Op::Subscribe { .. } | Op::Unsubscribe { .. } | Op::Relayed { .. } | Op::Beside(_) => {
                Err(ProtoError::UnknownOperation)
            }
        }
    }

    fn handle_timeout(&mut self, cx: &mut Cx<'_>) -> Result<(), ProtoError> {
        if cx.now < self.poll_timeout() {
            return Ok(());
        }
        match self.phase {
            Phase::Securing { .. } => {
                log::error!(
                    "{} - TLS handshake timeout: the leaf was told in INFO that TLS is required, and did \
                     not begin it",
                    self.prefix()
                );
                Err(ProtoError::HandshakeFailed)
            }
            Phase::Greeted { .. } | Phase::Compressing { .. } | Phase::Verifying { .. } => {
                Err(ProtoError::AuthenticationTimeout)
            }
            Phase::Open if cx.now >= self.until => Err(ProtoError::UserExpired),
            Phase::Open => {
                // A spoke pings whether or not the hub spoke (leaf protocol, keepalive).
                if self.is_hub {
                    self.liveness.uncredit();
                }
                self.liveness.keep(cx)
            }
        }
    }

    fn poll_timeout(&self) -> Instant {
        match self.phase {
            Phase::Securing { until }
            | Phase::Greeted { until }
            | Phase::Compressing { until }
            | Phase::Verifying { until } => until,
            Phase::Open => self.liveness.deadline().min(self.until),
        }
    }

    fn handle_proof(
        &mut self,
        proof: Proof,
        cx: &mut Cx<'_>,
    ) -> Result<Action<'static>, ProtoError> {
        match (self.phase, proof, self.who.pending.take()) {
            (Phase::Verifying { .. }, Proof::Verified(Ok(verdict)), Some(hello)) => {
                self.welcome(hello, verdict, cx)
            }
            (Phase::Verifying { .. }, Proof::Verified(Err(error)), hello) => {
                self.who.pending = hello;
                Err(self.turn_away(&error))
            }
            _ => Ok(Action::Done),
        }
    }

    fn handle_upgraded(
        &mut self,
        secured: Secured,
        cx: &mut Cx<'_>,
    ) -> Result<Action<'static>, ProtoError> {
        match self.phase {
            Phase::Securing { .. } => {
                self.who.secured = secured;
                self.greet(cx);
            }
            Phase::Compressing { until } => {
                // The first INFO again, in what was agreed on.
                self.phase = Phase::Greeted { until };
                self.write_info(cx.env, false, cx.queue.buffer(cx.pool));
            }
            _ => {}
        }
        Ok(Action::Done)
    }

    fn handle_sign_of_life(&mut self) {
        self.liveness.alive();
    }

    fn encoding(&self) -> Encoding {
        Encoding {
            level: self.level(),
            largest: self.who.largest,
        }
    }

    fn write_deadline(&self) -> Option<Duration> {
        self.port.write_deadline
    }

    fn label(&self) -> String {
        self.prefix().to_string()
    }

    fn mandate(&self) -> Option<&Arc<Mandate>> {
        self.who.mandate.as_ref()
    }

    fn adopt(&mut self, mandate: Arc<Mandate>, perms: Option<Arc<Perms>>) {
        self.who.mandate = Some(mandate);
        self.rules.adopt(perms);
    }

    fn portrait(&self) -> Option<Portrait<'_>> {
        Some(self.draw())
    }

    #[inline]
    fn standing(&self) -> Standing {
        Standing {
            reach: Reach::Distant,
            role: if self.is_hub {
                Role::Upstream
            } else {
                Role::Downstream
            },
            cluster: self.cluster,
            isolated: self.isolated,
            echo: false,
        }
    }

    #[inline]
    fn admit(&mut self, subject: &[u8], cx: &mut Cx<'_>) -> Result<Permit, ProtoError> {
        if self.rules.may_receive(cx.now, subject) {
            return Ok(Permit::Granted);
        }
        self.forbid(ProtoError::PublishDenied(subject.into()), cx)?;
        Ok(Permit::Refused)
    }

    fn hears_all(&self) -> bool {
        self.rules.sends_all()
    }

    #[inline]
    fn may_hear(&self, subject: &[u8], _: Option<&[u8]>) -> bool {
        self.is_open() && self.rules.may_send(subject)
    }

    fn deliver(&mut self, message: &Message<'_>, to: Target<'_>, outlet: &mut Outlet<'_>) -> bool {
        let Target::Link { queues, .. } = to else {
            return false;
        };
        if let Some(reply) = message.reply {
            self.rules.track_response(outlet.now, reply);
        }
        let headers = if self.headers {
            write::Headers::Keep
        } else {
            write::Headers::Strip
        };
        let body = write::lmsg_head(outlet.buffer(), message, queues.iter().copied(), headers);
        outlet.finish(body);
        true
    }

    fn offer(&mut self, offer: &Offer<'_>, outlet: &mut Outlet<'_>) {
        if self.is_open() {
            let rules = &self.rules;
            let may_say = |subject: &[u8], _: Option<&[u8]>| rules.may_advertise(subject);
            self.told.offer(offer, outlet.buffer(), may_say);
        }
    }

    fn note_end(&mut self, cause: &str) {
        log::info!("{} - Leafnode connection closed: {cause}", self.prefix());
        if self.is_websocket() {
            self.who.farewell = Some(Farewell::of(cause));
        }
        self.who.ending = Some(cause.into());
    }
}
