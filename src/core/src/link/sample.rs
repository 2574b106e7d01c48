//! What a request to a service came to, where its latency is measured (accounts, services).

use std::sync::Arc;
use std::time::Duration;

use crate::account::latency::TraceFields;
use crate::link::LinkId;
use crate::time::Instant;

/// A request that is over, for the role to tell of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The account that exports the service: it is told there.
    pub account: Arc<str>,
    /// On this subject.
    pub subject: Box<str>,
    /// What became of the request.
    pub outcome: Outcome,
    /// Who asked.
    pub requestor: Party,
    /// The trace that the request is a part of, if that is why it was measured.
    pub fields: TraceFields,
    /// When the request came.
    pub asked: Instant,
    /// When it was over.
    pub over: Instant,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Answered(Responder),
    /// It did not say where to answer.
    WithoutReply,
    /// Nobody wants the answer any more.
    RequestorGone,
    /// Nobody got it.
    Unheard,
    /// No answer came in time.
    Unanswered,
}

/// Who answered: a client of this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Responder {
    /// The client, in the shard it is connected to.
    pub link: LinkId,
    /// The link to that shard; `None`: it is this one.
    pub beside: Option<LinkId>,
}

/// One that takes part in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// Who it is, as far as that may be told: an object of JSON.
    pub told: String,
    /// How long it takes to answer the server, where that is known.
    pub round_trip: Option<Duration>,
}
