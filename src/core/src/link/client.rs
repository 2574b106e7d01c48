//! A client: the client protocol from the side of the server.
//!
//! Translates operations into actions and deliveries into `MSG`/`HMSG`. Routes nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::account::perms::{LinkPerms, Perms};
use crate::auth::login::{self, Login, NamedBy};
use crate::auth::users::{AuthError, Claim, Identity, Mandate, Outcome, Users, Verdict};
use crate::config::model::{ConnectionType, Permissions, Secret};
use crate::interest::Reach;
use crate::link::liveness::{Beat, Liveness};
use crate::link::websocket::{Farewell, WebsocketPort, WebsocketVisit};
use crate::link::{
    Action, ClientTls, Cx, Encoding, Env, Event, Neighbour, Offer, Outlet, Permit, Portrait, Proof,
    Role, Secured, Standing, Target, Upgrade, draw_nonce,
};
use crate::message::Message;
use crate::subject;
use crate::time::Instant;
use crate::wire::Op;
use crate::wire::error::ProtoError;
use crate::wire::info::{ClientConnect, ServerInfo};
use crate::wire::parse::{self, ParseLimits, Parsed};
use crate::wire::write::{self, Headers};

/// The first ping of the server after CONNECT, spread by up to a fifth (client protocol, timers).
const FIRST_PING: Duration = Duration::from_secs(2);

/// Subjects that only servers may use as a reply (client protocol, subjects).
const RESERVED_REPLIES: [&[u8]; 3] = [b"_R_.", b"$JS.ACK.", b"_GR_."];

/// What any client may ask the server itself: who it is and what it may do (system account).
const USER_INFO: &[u8] = b"$SYS.REQ.USER.INFO";

/// A client's side of a link.
#[derive(Debug)]
pub struct Client {
    phase: Phase,
    options: Options,
    perms: Option<Box<LinkPerms>>,
    /// Of its JWT: how large its messages may be.
    max_payload: usize,
    /// Of its JWT: when it has to go.
    until: Instant,
    liveness: Liveness,
    who: Box<Who>,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Phase {
    /// TLS begins behind INFO, and ends before this.
    Securing { until: Instant },
    /// Has to prove itself before this.
    Greeted { until: Instant },
    /// A password is being checked.
    Verifying { until: Instant },
    /// May work.
    Serving,
}

/// What CONNECT set. Small and `Copy`, as it is looked at for every message.
#[derive(Debug, Clone, Copy)]
struct Options {
    verbose: bool,
    pedantic: bool,
    echo: bool,
    headers: bool,
    no_responders: bool,
    async_info: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            verbose: true,
            pedantic: true,
            echo: true,
            headers: false,
            no_responders: false,
            async_info: false,
        }
    }
}

/// What only the log and INFO look at.
#[derive(Debug)]
struct Who {
    number: u64,
    address: SocketAddr,
    nonce: Option<String>,
    /// How the connection is carried.
    secured: Secured,
    /// Why it is told to go right behind INFO.
    refused: Option<ProtoError>,
    /// When it connected.
    since: Instant,
    /// What it said of itself.
    introduction: Option<Box<Introduction>>,
    /// What CONNECT asked for, or why that cannot be, until its sender has proven itself.
    pending: Option<Result<Options, ProtoError>>,
    /// Whom it has proven to be.
    verdict: Option<Verdict>,
    had_pong: bool,
    /// How it came, if over WebSocket.
    visit: Option<Box<Visit>>,
    /// Why it is being closed.
    ending: Option<Box<str>>,
}

/// Of a client over WebSocket.
#[derive(Debug)]
struct Visit {
    how: WebsocketVisit,
    /// Once we close it.
    farewell: Option<Farewell>,
}

/// What CONNECT says of its sender, for the log and for events.
#[derive(Debug)]
struct Introduction {
    name: String,
    lang: String,
    version: String,
    /// Whom it claims to be.
    identity: Option<Identity>,
    /// From INFO to CONNECT: a first idea of the round trip.
    took: Duration,
}

impl Client {
    /// A client that has just connected. `number` is the connection's id in INFO and the log;
    /// `secured` is what TLS before INFO came to.
    pub fn new(now: Instant, number: u64, address: SocketAddr, secured: Secured) -> Self {
        Client {
            phase: Phase::Serving,
            options: Options::default(),
            perms: None,
            max_payload: usize::MAX,
            until: Instant::NEVER,
            // Replaced when the link is opened.
            liveness: Liveness::new(now, FIRST_PING),
            who: Box::new(Who {
                number,
                address,
                nonce: None,
                secured,
                refused: None,
                since: now,
                introduction: None,
                pending: None,
                verdict: None,
                had_pong: false,
                visit: None,
                ending: None,
            }),
        }
    }

    /// The same, come over WebSocket. TLS was over before; it is not offered any more.
    pub fn over_websocket(mut self, visit: WebsocketVisit) -> Self {
        self.who.visit = Some(Box::new(Visit {
            how: visit,
            farewell: None,
        }));
        self
    }

    /// The same, to be told behind INFO why it cannot be served.
    pub fn refused(mut self, error: ProtoError) -> Self {
        self.who.refused = Some(error);
        self
    }

    /// How its WebSocket is closed: said once the link ends, of who came over one.
    pub fn farewell(&self) -> Option<&Farewell> {
        self.who.visit.as_ref()?.farewell.as_ref()
    }

    /// Where it comes from, as far as a proxy may say.
    fn address(&self) -> IpAddr {
        let who = &*self.who;
        let forwarded = who.visit.as_ref().and_then(|visit| visit.how.forwarded_for);
        forwarded.unwrap_or(who.address.ip())
    }

    /// Who it is.
    fn draw(&self) -> Portrait<'_> {
        let who = &*self.who;
        let told = who.introduction.as_deref();
        let verdict = who.verdict.as_ref();
        Portrait {
            number: who.number,
            kind: self.kind(),
            address: self.address(),
            since: who.since,
            account: verdict.map(|verdict| &verdict.account),
            identity: verdict
                .map(|verdict| &verdict.identity)
                .or_else(|| told.and_then(|told| told.identity.as_ref())),
            name: told.map_or("", |told| &told.name),
            lang: told.map_or("", |told| &told.lang),
            version: told.map_or("", |told| &told.version),
            round_trip: self
                .liveness
                .round_trip()
                .or_else(|| told.map(|told| told.took)),
            ending: who.ending.as_deref(),
        }
    }

    /// What it may do; `None`: everything.
    pub fn permissions(&self) -> Option<&Permissions> {
        self.perms.as_ref().map(|perms| perms.rules().stated())
    }

    /// Whether TLS is still to be agreed on.
    pub fn is_securing(&self) -> bool {
        matches!(self.phase, Phase::Securing { .. })
    }

    fn write_info(&self, env: &Env, lame_duck: bool, out: &mut Vec<u8>) {
        let server = &env.server;
        let info = ServerInfo {
            server_id: &server.id,
            server_name: &server.name,
            version: crate::wire::VERSION,
            go: server.toolchain,
            host: &server.host,
            port: server.port,
            headers: server.headers,
            auth_required: env.users.info_auth_required(),
            max_payload: env.limits.max_payload,
            client_id: self.who.number,
            client_ip: &self.who.address.ip().to_string(),
            nonce: self.who.nonce.as_deref(),
            ldm: lame_duck,
            tls_required: env
                .tls
                .is_some_and(|tls| !tls.optional || self.who.secured.tls),
            tls_verify: env.tls.is_some_and(|tls| tls.verify),
            tls_available: env.tls.is_some_and(|tls| tls.optional),
            ..ServerInfo::default()
        };
        match self.port() {
            None => info.write(out),
            // Client protocol, WebSocket clients: what is said of the listener is said of theirs, and
            // `no_auth_user` is not told.
            Some(port) => ServerInfo {
                host: &port.host,
                port: port.port,
                auth_required: self.users(env).auth_required(),
                tls_required: port.tls,
                tls_verify: false,
                tls_available: port.tls,
                connect_urls: &port.urls,
                ..info
            }
            .write(out),
        }
    }

    /// The websocket listener, if it came by that.
    fn port(&self) -> Option<&WebsocketPort> {
        self.who.visit.as_ref().map(|visit| &*visit.how.port)
    }

    fn kind(&self) -> ConnectionType {
        match self.port() {
            Some(_) => ConnectionType::Websocket,
            None => ConnectionType::Standard,
        }
    }

    fn users<'e>(&'e self, env: &'e Env) -> &'e Users {
        let own = self.port().and_then(|port| port.users.as_ref());
        own.unwrap_or(&env.users)
    }

    fn auth_timeout(&self, env: &Env) -> Duration {
        let own = self.port().and_then(|port| port.auth_timeout);
        own.unwrap_or(env.limits.auth_timeout)
    }

    fn ping_interval(&self, env: &Env) -> Duration {
        let own = self.port().and_then(|port| port.ping_interval);
        own.unwrap_or(env.limits.ping_interval)
    }

    /// TLS that is to be agreed on behind INFO.
    fn offered_tls(&self, env: &Env) -> Option<ClientTls> {
        env.tls
            .filter(|_| self.port().is_none() && !self.who.secured.tls)
    }

    /// From here on it may say who it is, or work if that does not matter.
    fn greet(&mut self, cx: &mut Cx<'_>) -> Action<'static> {
        match self.users(cx.env).anonymous(self.kind()) {
            Some(verdict) => {
                self.phase = Phase::Serving;
                self.perms = verdict.perms.map(|rules| Box::new(LinkPerms::new(rules)));
                Action::Join {
                    account: verdict.account,
                }
            }
            None => {
                self.phase = Phase::Greeted {
                    until: cx.now + self.auth_timeout(cx.env),
                };
                Action::Done
            }
        }
    }

    fn connect(&mut self, json: &[u8], cx: &mut Cx<'_>) -> Result<Action<'static>, ProtoError> {
        // A further CONNECT changes what it names and keeps the rest, who its sender is included.
        let before = ClientConnect {
            verbose: self.options.verbose,
            pedantic: self.options.pedantic,
            echo: self.options.echo,
            headers: self.options.headers,
            no_responders: self.options.no_responders,
            protocol: i64::from(self.options.async_info),
            ..ClientConnect::default()
        };
        let connect = before.parse_over(json)?;
        if connect.account.is_some() || connect.new_account {
            return Err(ProtoError::AuthorizationViolation);
        }
        let headers = cx.env.server.headers && connect.headers;
        // Told only to who has proven itself.
        let unusable = if !(0..=1).contains(&connect.protocol) {
            Some(ProtoError::InvalidClientProtocol)
        } else if connect.no_responders && !headers {
            Some(ProtoError::NoRespondersNeedsHeaders)
        } else {
            None
        };
        let options = Options {
            verbose: connect.verbose,
            pedantic: connect.pedantic,
            echo: connect.echo,
            headers,
            no_responders: connect.no_responders,
            async_info: connect.protocol >= 1,
        };
        self.who.pending = Some(unusable.map_or(Ok(options), Err));
        let claim = Claim {
            user: connect.user.as_deref(),
            pass: connect.pass.as_ref().map(Secret::reveal),
            token: connect.auth_token.as_ref().map(Secret::reveal),
            nkey: connect.nkey.as_deref(),
            sig: connect.sig.as_ref().map(Secret::reveal),
            jwt: connect.jwt.as_ref().map(Secret::reveal),
        };
        let claim = match &self.who.visit {
            Some(visit) => visit.how.cookies.complete(claim),
            None => claim,
        };
        let took = match &self.who.introduction {
            Some(before) => before.took,
            None => cx.now.since(self.who.since),
        };
        self.who.introduction = Some(Box::new(Introduction {
            name: connect.name.clone(),
            lang: connect.lang.clone(),
            version: connect.version.clone(),
            identity: claim.identity(),
            took,
        }));
        if claim.is_anonymous()
            && let Some(verdict) = self.who.verdict.clone()
        {
            return self.welcome(verdict, cx);
        }
        match self.judge(&claim, cx.env) {
            Ok(Outcome::Accepted(verdict)) => self.welcome(verdict, cx),
            Ok(Outcome::Slow(check)) => {
                let until = match self.phase {
                    Phase::Securing { until }
                    | Phase::Greeted { until }
                    | Phase::Verifying { until } => until,
                    Phase::Serving => cx.now + self.auth_timeout(cx.env),
                };
                self.phase = Phase::Verifying { until };
                Ok(Action::Verify(check))
            }
            Err(error) => Err(self.turn_away(&error)),
        }
    }

    /// By the certificate where that is to say who somebody is.
    fn judge(&self, claim: &Claim<'_>, env: &Env) -> Result<Outcome, AuthError> {
        let by_certificate = match self.port() {
            Some(port) => port.map,
            None => env.tls.is_some_and(|tls| tls.map),
        };
        let named_by = if by_certificate {
            NamedBy::Certificate(self.who.secured.certificate.as_deref())
        } else {
            NamedBy::Connect
        };
        let login = Login {
            nonce: self.who.nonce.as_deref().unwrap_or_default(),
            address: self.address(),
            kind: self.kind(),
            named_by,
        };
        login::judge(self.users(env), claim, login, self.prefix())
    }

    fn turn_away(&self, error: &AuthError) -> ProtoError {
        login::turn_away(error, self.prefix())
    }

    fn welcome(
        &mut self,
        verdict: Verdict,
        cx: &mut Cx<'_>,
    ) -> Result<Action<'static>, ProtoError> {
        if let Some(asked) = self.who.pending.take() {
            self.options = asked?;
        }
        // Generators of JWTs write -1 for no limit; 0 is what one is that says nothing.
        let session = verdict.mandate.as_ref().map(|mandate| &mandate.session);
        if session.is_some_and(|it| it.max_subscriptions == Some(0)) {
            return Err(ProtoError::MaxSubscriptions);
        }
        if self.who.verdict.replace(verdict.clone()).is_none() {
            cx.emit(Event::Joined { link: cx.link });
        }
        self.perms = verdict.perms.map(|rules| Box::new(LinkPerms::new(rules)));
        if let Some(mandate) = &verdict.mandate {
            self.max_payload = mandate.session.max_payload.unwrap_or(usize::MAX);
            self.until = mandate.until.unwrap_or(Instant::NEVER);
        }
        if self.phase != Phase::Serving || !self.who.had_pong {
            let interval = self.ping_interval(cx.env);
            self.liveness.start(cx.now, FIRST_PING, interval, cx.random);
        }
        self.phase = Phase::Serving;
        if self.options.verbose {
            cx.out().extend_from_slice(write::OK);
        }
        Ok(Action::Join {
            account: verdict.account,
        })
    }

    fn publish<'a>(
        &mut self,
        message: &'a Message<'a>,
        cx: &mut Cx<'_>,
    ) -> Result<Action<'a>, ProtoError> {
        self.liveness.credit();
        // Pedantic complains, and delivers all the same.
        if self.options.pedantic && !subject::is_valid_literal(message.subject) {
            cx.refuse(&ProtoError::InvalidPublishSubject);
        }
        if let Some(reply) = message.reply
            && reply.first().is_some_and(|b| *b == b'_' || *b == b'$')
            && RESERVED_REPLIES
                .iter()
                .any(|reserved| reply.starts_with(reserved))
        {
            return Ok(self.refuse(&ProtoError::ReplyDenied(reply.into()), cx));
        }
        if message.body.len() > cx.rules.limits.payload(self.max_payload) {
            return Err(ProtoError::PayloadTooLarge);
        }
        if cx.rules.mappings.is_empty() && self.admit(message.subject, cx)? == Permit::Refused {
            return Ok(Action::Done);
        }
        let wants_no_responders = self.options.no_responders && message.reply.is_some();
        if message.subject.first() == Some(&b'$')
            && message.subject == USER_INFO
            && message.reply.is_some()
        {
            return Ok(Action::Ask {
                message,
                wants_no_responders,
            });
        }
        Ok(Action::Publish {
            message,
            wants_no_responders,
        })
    }

    fn subscribe<'a>(
        &mut self,
        subject: &'a [u8],
        queue: Option<&'a [u8]>,
        sid: &'a [u8],
        cx: &mut Cx<'_>,
    ) -> Action<'a> {
        self.liveness.credit();
        let denied = queue == Some(b"_sys_")
            || self
                .perms
                .as_ref()
                .is_some_and(|perms| !perms.may_subscribe(subject, queue));
        if denied {
            let error = ProtoError::SubscribeDenied {
                subject: subject.into(),
                queue: queue.map(Into::into),
            };
            return self.refuse(&error, cx);
        }
        if !subject::is_valid_pattern(subject) {
            return self.refuse(&ProtoError::InvalidSubject, cx);
        }
        let limits = &cx.env.limits;
        if limits
            .max_subscription_tokens
            .is_some_and(|max| subject::tokens(subject).count() > usize::from(max))
        {
            return self.refuse(&ProtoError::TooManyTokens(subject.into()), cx);
        }
        let own = self.mandate().and_then(|it| it.session.max_subscriptions);
        let most = [own, limits.max_subscriptions].into_iter().flatten().min();
        if cx
            .rules
            .limits
            .subscriptions(most)
            .is_some_and(|max| cx.subscriptions >= max)
        {
            return self.refuse(&ProtoError::MaxSubscriptions, cx);
        }
        self.ok(cx);
        let filtered = self
            .perms
            .as_ref()
            .is_some_and(|perms| perms.deny_overlaps(subject));
        Action::Subscribe {
            subject,
            queue,
            sid,
            filtered,
        }
    }

    fn refuse<'a>(&self, error: &ProtoError, cx: &mut Cx<'_>) -> Action<'a> {
        log::error!("{} - {error}", self.prefix());
        cx.refuse(error);
        Action::Done
    }

    #[inline]
    fn ok(&self, cx: &mut Cx<'_>) {
        if self.options.verbose {
            cx.out().extend_from_slice(write::OK);
        }
    }

    /// How log lines name the connection.
    fn prefix(&self) -> impl std::fmt::Display + '_ {
        struct Prefix<'a>(&'a Who);
        impl std::fmt::Display for Prefix<'_> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let Who {
                    address, number, ..
                } = self.0;
                match &self.0.visit {
                    None => write!(f, "{address} - cid:{number}")?,
                    Some(visit) => {
                        match visit.how.forwarded_for {
                            Some(IpAddr::V4(ip)) => write!(f, "{ip}/")?,
                            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]/")?,
                            None => {}
                        }
                        write!(f, "{address} - wid:{number}")?;
                    }
                }
                let label = self.0.introduction.as_deref().map(label);
                if let Some(label) = label.filter(|label| !label.is_empty()) {
                    write!(f, " - {label:?}")?;
                }
                Ok(())
            }
        }
        Prefix(&self.who)
    }
}

impl Neighbour for Client {
    fn handle_open(&mut self, cx: &mut Cx<'_>) -> Result<Action<'static>, ProtoError> {
        log::debug!("{} - Client connection created", self.prefix());
        self.liveness = Liveness::new(cx.now, self.ping_interval(cx.env));
        if self.users(cx.env).needs_nonce() {
            self.who.nonce = Some(draw_nonce(cx));
        }
        self.write_info(cx.env, false, cx.queue.buffer(cx.pool));
        if cx.clients > cx.env.limits.max_connections {
            return Err(ProtoError::MaxConnections);
        }
        if let Some(error) = self.who.refused.take() {
            return Err(error);
        }
        match self.offered_tls(cx.env) {
            Some(tls) => {
                // Who may do without is first given as long to begin (see the transport).
                let patience = if tls.optional { 2 } else { 1 };
                let until = cx.now + tls.timeout * patience;
                self.phase = Phase::Securing { until };
                Ok(Action::Upgrade(if tls.optional {
                    Upgrade::TlsIfOffered
                } else {
                    Upgrade::Tls
                }))
            }
            None => Ok(self.greet(cx)),
        }
    }

    #[inline]
    fn parse<'a>(&self, buf: &'a [u8], env: &Env) -> Result<Parsed<'a>, ProtoError> {
        if self.phase != Phase::Serving && !matches!(buf.first(), None | Some(b'C' | b'c')) {
            return Err(ProtoError::AuthorizationViolation);
        }
        let limits = ParseLimits {
            control_line: env.limits.max_control_line,
            payload: env.limits.max_payload,
            headers: self.options.headers,
        };
        parse::client(buf, &limits)
    }

    #[inline]
    fn handle<'a>(&mut self, op: &'a Op<'a>, cx: &mut Cx<'_>) -> Result<Action<'a>, ProtoError> {
        match op {
            Op::Publish(message) => self.publish(message, cx),
            Op::Subscribe {
                subject,
                queue,
                sid,
            } => Ok(self.subscribe(subject, *queue, sid, cx)),
            Op::Unsubscribe { sid, max } => {
                self.liveness.credit();
                self.ok(cx);
                Ok(Action::Unsubscribe { sid, max: *max })
            }
            Op::Ping => {
                self.liveness.credit();
                cx.out().extend_from_slice(write::PONG);
                Ok(Action::Done)
            }
            Op::Pong => {
                self.who.had_pong = true;
                self.liveness.pong(cx.now);
                Ok(Action::Done)
            }
            Op::Connect(json) => self.connect(json, cx),
            Op::Info(_) | Op::Ok => Ok(Action::Done),
            Op::Err(text) => {
                log::error!(
                    "{} - Client error: {}",
                    self.prefix(),
                    String::from_utf8_lossy(text)
                );
                Err(ProtoError::Malformed("the client reported an error"))
            }
            Op::Interest { .. } | Op::InterestGone { .. } | Op::Relayed { .. } | Op::Beside(_) => {
                Err(ProtoError::UnknownOperation)
            }
        }
    }

    fn handle_timeout(&mut self, cx: &mut Cx<'_>) -> Result<(), ProtoError> {
        match self.phase {
            Phase::Securing { until } => {
                if cx.now >= until {
                    log::error!("{} - TLS handshake timeout", self.prefix());
                    return Err(ProtoError::HandshakeFailed);
                }
            }
            Phase::Greeted { until } | Phase::Verifying { until } => {
                if cx.now >= until {
                    return Err(ProtoError::AuthenticationTimeout);
                }
            }
            Phase::Serving if cx.now >= self.until => return Err(ProtoError::UserExpired),
            Phase::Serving => {
                let interval = self.ping_interval(cx.env);
                match self.liveness.beat(cx.now, interval, cx.env.limits.ping_max) {
                    Beat::Quiet => {}
                    Beat::Ping => cx.out().extend_from_slice(write::PING),
                    Beat::Stale => return Err(ProtoError::StaleConnection),
                }
            }
        }
        Ok(())
    }

    fn excuse(&mut self) {
        self.liveness.credit();
    }

    fn poll_timeout(&self) -> Instant {
        match self.phase {
            Phase::Securing { until } | Phase::Greeted { until } | Phase::Verifying { until } => {
                until
            }
            Phase::Serving => self.liveness.deadline().min(self.until),
        }
    }

    fn handle_proof(
        &mut self,
        proof: Proof,
        cx: &mut Cx<'_>,
    ) -> Result<Action<'static>, ProtoError> {
        match (self.phase, proof) {
            (Phase::Verifying { .. }, Proof::Verified(Ok(verdict))) => self.welcome(verdict, cx),
            (Phase::Verifying { .. }, Proof::Verified(Err(error))) => Err(self.turn_away(&error)),
            _ => Ok(Action::Done),
        }
    }

    fn handle_upgraded(
        &mut self,
        secured: Secured,
        cx: &mut Cx<'_>,
    ) -> Result<Action<'static>, ProtoError> {
        self.who.secured = secured;
        Ok(self.greet(cx))
    }

    /// Clients answer pings, whatever else they send (client protocol, keepalive).
    fn handle_sign_of_life(&mut self) {}

    fn encoding(&self) -> Encoding {
        match self.port() {
            None => Encoding::default(),
            Some(port) => Encoding {
                largest: port.max_payload,
                ..Encoding::default()
            },
        }
    }

    fn mandate(&self) -> Option<&Arc<Mandate>> {
        self.who.verdict.as_ref()?.mandate.as_ref()
    }

    fn adopt(&mut self, mandate: Arc<Mandate>, perms: Option<Arc<Perms>>) {
        self.perms = perms.clone().map(|rules| Box::new(LinkPerms::new(rules)));
        if let Some(verdict) = &mut self.who.verdict {
            verdict.perms = perms;
            verdict.mandate = Some(mandate);
        }
    }

    /// Whether a subscription that it has would be taken now, and then whether each delivery is asked.
    fn may_keep(&self, subject: &[u8], queue: Option<&[u8]>) -> Option<bool> {
        match &self.perms {
            None => Some(false),
            Some(perms) if perms.may_subscribe(subject, queue) => {
                Some(perms.deny_overlaps(subject))
            }
            Some(_) => None,
        }
    }

    fn label(&self) -> String {
        self.prefix().to_string()
    }

    fn portrait(&self) -> Option<Portrait<'_>> {
        Some(self.draw())
    }

    #[inline]
    fn standing(&self) -> Standing {
        Standing {
            reach: Reach::Local,
            role: Role::Client,
            cluster: 0,
            isolated: false,
            echo: self.options.echo,
        }
    }

    #[inline]
    fn admit(&mut self, subject: &[u8], cx: &mut Cx<'_>) -> Result<Permit, ProtoError> {
        if let Some(perms) = &mut self.perms
            && !perms.may_publish(cx.now, subject)
        {
            self.refuse(&ProtoError::PublishDenied(subject.into()), cx);
            return Ok(Permit::Refused);
        }
        self.ok(cx);
        Ok(Permit::Granted)
    }

    fn may_hear(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        self.perms
            .as_ref()
            .is_none_or(|perms| perms.may_deliver(subject, queue))
    }

    #[inline]
    fn deliver(&mut self, message: &Message<'_>, to: Target<'_>, outlet: &mut Outlet<'_>) -> bool {
        let Target::Subscription(sid) = to else {
            return false;
        };
        if let Some(perms) = &mut self.perms
            && let Some(reply) = message.reply
        {
            perms.track_response(outlet.now, reply);
        }
        let headers = if self.options.headers {
            Headers::Keep
        } else {
            Headers::Strip
        };
        let body = write::msg_head(outlet.buffer(), message, sid, headers);
        outlet.finish(body);
        true
    }

    fn offer(&mut self, _: &Offer<'_>, _: &mut Outlet<'_>) {}

    fn announce_lame_duck(&mut self, cx: &mut Cx<'_>) {
        if self.options.async_info && self.phase == Phase::Serving {
            self.write_info(cx.env, true, cx.queue.buffer(cx.pool));
        }
    }

    fn note_end(&mut self, cause: &str) {
        self.who.ending = Some(cause.into());
        log::debug!("{} - Client connection closed: {cause}", self.prefix());
        if let Some(visit) = &mut self.who.visit {
            visit.farewell = Some(Farewell::of(cause));
        }
    }
}

/// `v<version>:<lang>:<name>`, what there is of it, for the log.
fn label(connect: &Introduction) -> String {
    let mut parts = Vec::new();
    if !connect.version.is_empty() {
        parts.push(format!("v{}", connect.version));
    }
    parts.extend(
        [&connect.lang, &connect.name]
            .into_iter()
            .filter(|s| !s.is_empty())
            .cloned(),
    );
    parts.join(":")
}
