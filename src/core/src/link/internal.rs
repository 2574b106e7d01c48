//! The server as a client of its own: hears what it subscribed to, and keeps it for the role.
//!
//! There is no connection behind such a link. What it says is published by
//! [`Shard::publish_as_server`](crate::shard::Shard::publish_as_server), what it wants is asked for by
//! [`Shard::subscribe_as_server`](crate::shard::Shard::subscribe_as_server). Its own messages do not
//! come back to it (system account, events).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::interest::Reach;
use crate::link::{Action, Cx, Env, Neighbour, Outlet, Permit, Role, Standing, Target};
use crate::message::Message;
use crate::time::Instant;
use crate::wire::Op;
use crate::wire::error::ProtoError;
use crate::wire::parse::Parsed;

/// Messages that may wait for the role, and their bytes. It looks after every input, so that as many
/// would have to come in one read.
const MOST_MESSAGES: usize = 4096;
const MOST_BYTES: usize = 8 << 20;

/// A message that the server got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The subscription's name.
    pub sid: Box<[u8]>,
    /// Its subject.
    pub subject: Box<[u8]>,
    /// Where answers go.
    pub reply: Option<Box<[u8]>>,
    /// Bytes of `body` that are the header block.
    pub header_len: usize,
    /// Header block and payload.
    pub body: Box<[u8]>,
}

impl Mail {
    /// The payload behind the header block.
    pub fn payload(&self) -> &[u8] {
        self.body.get(self.header_len..).unwrap_or_default()
    }
}

/// The server's own end of itself.
#[derive(Debug)]
pub struct Internal {
    account: Arc<str>,
    mail: VecDeque<Mail>,
    bytes: usize,
    dropped: u64,
}

impl Internal {
    /// One that lives in an account, which exists.
    pub fn new(account: Arc<str>) -> Self {
        Internal {
            account,
            mail: VecDeque::new(),
            bytes: 0,
            dropped: 0,
        }
    }

    /// Whether something has come.
    pub fn has_mail(&self) -> bool {
        !self.mail.is_empty()
    }

    /// What has come, oldest first.
    pub fn take_mail(&mut self) -> VecDeque<Mail> {
        self.bytes = 0;
        std::mem::take(&mut self.mail)
    }

    /// Messages that came when too many were waiting.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// How the server stands to its accounts when it says something itself: as a client that does not
/// hear its own.
pub(crate) const STANDING: Standing = Standing {
    reach: Reach::Local,
    role: Role::Client,
    cluster: 0,
    isolated: false,
    echo: false,
};

impl Neighbour for Internal {
    fn handle_open(&mut self, _: &mut Cx<'_>) -> Result<Action<'static>, ProtoError> {
        Ok(Action::Join {
            account: self.account.clone(),
        })
    }

    fn parse<'a>(&self, _: &'a [u8], _: &Env) -> Result<Parsed<'a>, ProtoError> {
        Err(ProtoError::UnknownOperation)
    }

    fn handle<'a>(&mut self, _: &'a Op<'a>, _: &mut Cx<'_>) -> Result<Action<'a>, ProtoError> {
        Err(ProtoError::UnknownOperation)
    }

    /// It lives as long as we do.
    fn poll_timeout(&self) -> Instant {
        Instant::NEVER
    }

    fn admit(&mut self, _: &[u8], _: &mut Cx<'_>) -> Result<Permit, ProtoError> {
        Ok(Permit::Granted)
    }

    fn label(&self) -> String {
        "SYSTEM".into()
    }

    fn standing(&self) -> Standing {
        STANDING
    }

    fn may_hear(&self, _: &[u8], _: Option<&[u8]>) -> bool {
        true
    }

    fn deliver(&mut self, message: &Message<'_>, to: Target<'_>, _: &mut Outlet<'_>) -> bool {
        let Target::Subscription(sid) = to else {
            return false;
        };
        let bytes = self.bytes + message.subject.len() + message.body.len();
        if self.mail.len() >= MOST_MESSAGES || bytes > MOST_BYTES {
            if self.dropped == 0 {
                log::warn!("Requests to the system account come too fast, some are dropped");
            }
            self.dropped += 1;
            return false;
        }
        self.bytes = bytes;
        self.mail.push_back(Mail {
            sid: sid.into(),
            subject: message.subject.into(),
            reply: message.reply.map(Into::into),
            header_len: message.header_len,
            body: message.body.into(),
        });
        true
    }
}
