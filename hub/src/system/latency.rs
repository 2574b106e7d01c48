//! Samples of the latency of services, told in the account that exports (accounts, services).

use std::time::Duration;

use petiole_core::account::latency::TraceFields;
use petiole_core::link::sample::{Outcome, Party, Sample};
use petiole_core::message::Message;
use petiole_core::random;
use petiole_core::shard::Shard;
use petiole_core::time::Instant;
use petiole_core::wall::rfc3339;
use petiole_leaf::SystemEntropy;
use petiole_net::clock::since_1970;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{System, wall_name};
use crate::peer::Peer;

const KIND: &str = "io.nats.server.metric.v1.service_latency";

/// Times are nanoseconds, and all of them 0 without an answer.
#[derive(Debug, Serialize)]
struct ServiceLatency<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    timestamp: String,
    status: u16,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'static str,
    requestor: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    responder: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "TraceFields::is_empty")]
    header: &'a TraceFields,
    /// When the requestor sent the request, as far as its round trip says.
    start: String,
    /// Of the responder.
    service: u64,
    /// Of the server, from the answer on.
    system: u64,
    /// As the requestor sees it.
    total: u64,
}

/// How long what took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shares {
    service: Duration,
    system: Duration,
    total: Duration,
}

impl Shares {
    /// Of a request that was answered, and is told of now.
    fn of(sample: &Sample, responder: Option<&Party>, now: Instant) -> Shares {
        let trip = |party: &Party| party.round_trip.unwrap_or_default();
        let took = sample.over.since(sample.asked);
        let system = now.since(sample.over);
        Shares {
            service: took.saturating_sub(responder.map(trip).unwrap_or_default()),
            system,
            total: trip(&sample.requestor) + took + system,
        }
    }
}

/// The status of what became of a request, in the terms of HTTP, and what is said of it.
fn status(outcome: Outcome) -> (u16, &'static str) {
    match outcome {
        Outcome::Answered(_) => (200, ""),
        Outcome::WithoutReply => (400, "Bad Request"),
        Outcome::RequestorGone => (408, "Request Timeout"),
        Outcome::Unheard => (503, "Service Unavailable"),
        Outcome::Unanswered => (504, "Service Timeout"),
    }
}

impl System {
    /// Tells what a request came to. Whoever answered it is a client of this thread.
    pub(crate) fn tell_latency(&self, now: Instant, shard: &mut Shard<Peer>, sample: &Sample) {
        if !shard.is_wanted(&sample.account, sample.subject.as_bytes()) {
            return;
        }
        let (responder, shares) = match sample.outcome {
            Outcome::Answered(responder) => {
                let responder = shard.describe_responder(responder.link);
                let shares = Shares::of(sample, responder.as_ref(), now);
                (responder, shares)
            }
            _ => (None, Shares::default()),
        };
        let Ok(requestor) = serde_json::from_str(&sample.requestor.told) else {
            return;
        };
        let responder = responder.as_ref();
        let trip = sample.requestor.round_trip.unwrap_or_default();
        let (status, description) = status(sample.outcome);
        let told = ServiceLatency {
            kind: KIND,
            id: random::name::<22>(&mut SystemEntropy::default()),
            timestamp: rfc3339(since_1970()),
            status,
            description,
            requestor,
            responder: responder.and_then(|it| serde_json::from_str(&it.told).ok()),
            header: &sample.fields,
            start: wall_name(now, shard, sample.asked - trip),
            service: nanos(shares.service),
            system: nanos(shares.system),
            total: nanos(shares.total),
        };
        let body = serde_json::to_vec(&told).unwrap_or_default();
        let message = Message::new(sample.subject.as_bytes(), &body);
        shard.publish_as_server(now, &sample.account, &message);
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
