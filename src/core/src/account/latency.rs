//! Which requests to a service its latency is measured of.
//!
//! With `sampling: headers` those that are part of a trace somebody follows. Of the headers that say so
//! the first of these that is there decides (client protocol, service latency): `Uber-Trace-Id`
//! (Jaeger), `X-B3-Sampled`, `X-B3-TraceId`, `b3` (Zipkin), `traceparent` (W3C). The sample tells all
//! headers of that kind.

use std::collections::BTreeMap;

use crate::config::model::{Latency, Sampling};
use crate::random::Random;

/// The headers that say which trace a request is a part of: the values of each name, capitalized as
/// MIME does.
pub type TraceFields = BTreeMap<String, Vec<String>>;

impl Latency {
    /// Whether a request is measured, and what its sample tells of the trace it is a part of. `header` is
    /// its header block, empty if it has none.
    pub fn sample(&self, header: &[u8], random: &mut Random) -> Option<TraceFields> {
        match self.sampling {
            Sampling::Percent(percent) => {
                let drawn = percent >= 100 || random.below(100) < u64::from(percent);
                drawn.then(TraceFields::new)
            }
            Sampling::Headers => Some(Trace::followed(header)?.fields(header)),
        }
    }
}

/// Bytes of names and values that a sample tells; what would go beyond is left out. Samples are kept until
/// their requests are over.
const MOST_TOLD: usize = 4 << 10;

/// In whose terms a trace is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trace {
    Jaeger,
    /// Zipkin, a field for each part.
    Zipkin,
    /// Zipkin, all in one field.
    ZipkinSingle,
    W3c,
}

impl Trace {
    /// The trace that a request is a part of, if somebody follows it.
    fn followed(header: &[u8]) -> Option<Trace> {
        let value = |name: &str| field(header, name);
        if let Some(id) = value("Uber-Trace-Id") {
            let followed = last_of_four(id, b':').is_some_and(is_odd);
            return followed.then_some(Trace::Jaeger);
        }
        let sampled = value("X-B3-Sampled").filter(|value| !value.is_empty());
        if let Some(sampled) = sampled {
            return (sampled == b"1").then_some(Trace::Zipkin);
        }
        if value("X-B3-TraceId").is_some() {
            return Some(Trace::Zipkin);
        }
        if let Some(b3) = value("B3") {
            // Only a decision not to follow it is one: `0`, or as the third part.
            let followed = b3 != b"0" && b3.split(|b| *b == b'-').nth(2) != Some(b"0");
            return followed.then_some(Trace::ZipkinSingle);
        }
        let flags = value("Traceparent").and_then(|value| last_of_four(value, b'-'));
        let followed = flags.is_some_and(|flags| flags.len() == 2 && is_odd(flags));
        followed.then_some(Trace::W3c)
    }

    /// The fields in the terms of this one.
    fn fields(self, header: &[u8]) -> TraceFields {
        let mut out = TraceFields::new();
        let mut room = MOST_TOLD;
        for (name, value) in fields(header).filter(|(name, _)| self.has(name)) {
            let Some(left) = room.checked_sub(name.len() + value.len()) else {
                continue;
            };
            room = left;
            let value = String::from_utf8_lossy(value).into_owned();
            out.entry(capitalized(name)).or_default().push(value);
        }
        out
    }

    fn has(self, name: &[u8]) -> bool {
        let is_one_of = |names: &[&str]| {
            let mut names = names.iter();
            names.any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
        };
        match self {
            Trace::Jaeger => {
                let start = name.get(..BAGGAGE.len());
                is_one_of(&["Uber-Trace-Id"])
                    || start.is_some_and(|start| start.eq_ignore_ascii_case(BAGGAGE))
            }
            Trace::Zipkin => is_one_of(&[
                "X-B3-TraceId",
                "X-B3-SpanId",
                "X-B3-ParentSpanId",
                "X-B3-Sampled",
            ]),
            Trace::ZipkinSingle => is_one_of(&["B3"]),
            Trace::W3c => is_one_of(&["Traceparent", "Tracestate"]),
        }
    }
}

/// What the names of other fields of Jaeger begin with.
const BAGGAGE: &[u8] = b"Uberctx-";

/// Names and values.
fn fields(header: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    header.split(|b| *b == b'\n').filter_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        Some((line.get(..colon)?, line.get(colon + 1..)?.trim_ascii()))
    })
}

/// The first field of this name, in any case.
fn field<'a>(header: &'a [u8], name: &str) -> Option<&'a [u8]> {
    fields(header)
        .find_map(|(key, value)| key.eq_ignore_ascii_case(name.as_bytes()).then_some(value))
}

/// Each word between hyphens with a capital first letter.
fn capitalized(name: &[u8]) -> String {
    let mut first = true;
    let name = String::from_utf8_lossy(name);
    let letters = name.chars().map(|letter| {
        let capital = std::mem::replace(&mut first, letter == '-');
        match capital {
            true => letter.to_ascii_uppercase(),
            false => letter.to_ascii_lowercase(),
        }
    });
    letters.collect()
}

fn last_of_four(value: &[u8], separator: u8) -> Option<&[u8]> {
    let mut parts = value.split(|b| *b == separator);
    let last = parts.nth(3)?;
    parts.next().is_none().then_some(last)
}

/// Whether the lowest bit of hexadecimal flags is set.
fn is_odd(flags: &[u8]) -> bool {
    let digits = flags.iter().all(u8::is_ascii_hexdigit);
    let last = flags
        .last()
        .and_then(|digit| char::from(*digit).to_digit(16));
    digits && last.is_some_and(|digit| digit % 2 == 1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn latency(sampling: Sampling) -> Latency {
        Latency {
            at: String::new(),
            subject: "l".into(),
            sampling,
        }
    }

    fn traced(fields: &str) -> bool {
        let block = format!("NATS/1.0\r\n{fields}\r\n");
        let sample = latency(Sampling::Headers).sample(block.as_bytes(), &mut Random::new(1));
        sample.is_some()
    }

    /// Which of these requests nats-server 2.15.1 published a sample of.
    #[test]
    fn headers() {
        for fields in [
            "X-B3-Sampled: 1",
            "x-b3-sampled:1",
            "X-B3-TraceId: abc",
            "X-B3-TraceId: a\r\nX-B3-Sampled: ",
            "B3: 1",
            "b3: d",
            "B3: a-b-1",
            "B3: a-b-1-p",
            "B3: a-b-d",
            "B3: a-b",
            "B3: a-0",
            "B3: ",
            "Uber-Trace-Id: a:b:c:1",
            "uber-trace-id: a:b:c:01",
            "Uber-Trace-Id: a:b:c:3",
            "Uber-Trace-Id: a:b:c:d",
            "Traceparent: 00-a-b-01",
            "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "TraceParent: ff-a-b-11",
            "Traceparent: 00-a-b-00\r\nB3: 1",
            "B3: 0\r\nX-B3-TraceId: a",
            "B3: 0\r\nUber-Trace-Id: a:b:c:1",
        ] {
            assert!(traced(&format!("{fields}\r\n")), "{fields:?}");
        }
        for fields in [
            "X-B3-Sampled: 0",
            "X-B3-Sampled: true",
            "X-B3-Sampled: d",
            "X-B3-TraceId: abc\r\nX-B3-Sampled: 0",
            "X-B3-Flags: 1",
            "X-B3-SpanId: 1",
            "B3: 0",
            "B3: a-b-0",
            "B3: a-b-0-p",
            "Uber-Trace-Id: a:b:c:0",
            "Uber-Trace-Id: a:b:c:00",
            "Uber-Trace-Id: a:b:c:2",
            "Uber-Trace-Id: a:b:c:10",
            "Uber-Trace-Id: a:b:c",
            "Uber-Trace-Id: a:b:c:",
            "Uber-Trace-Id: x",
            "Traceparent: 00-a-b-00",
            "Traceparent: 00-a-b-02",
            "Traceparent: 00-a-b-1",
            "Traceparent: 00-a-b",
            "Traceparent: 00-a-b-01-c",
            "Traceparent: x",
            "Nats-Trace-Dest: q",
            "Tracestate: a",
            "Uber-Trace-Id: a:b:c:0\r\nTraceparent: 00-a-b-01",
            "X-B3-Sampled: 0\r\nB3: 1",
        ] {
            assert!(!traced(&format!("{fields}\r\n")), "{fields:?}");
        }
        assert!(!traced(""));
    }

    #[test]
    fn percent() {
        let mut random = Random::new(3);
        for (percent, around) in [(1, 5..25), (50, 450..550), (100, 1000..1001)] {
            let latency = latency(Sampling::Percent(percent));
            let samples: Vec<_> = (0..1000)
                .filter_map(|_| latency.sample(b"NATS/1.0\r\nB3: 1\r\n\r\n", &mut random))
                .collect();
            assert!(around.contains(&samples.len()), "{percent}");
            assert!(samples.iter().all(TraceFields::is_empty));
        }
    }

    /// What nats-server 2.15.1 has in `header` of the sample.
    #[test]
    fn what_is_told_of_a_trace() {
        for (header, told) in [
            ("B3: a-b-1|Foo: x", "B3=a-b-1"),
            ("b3: 1|X-B3-TraceId:", "X-B3-Traceid="),
            (
                "X-B3-TraceId: t|X-B3-SpanId: d|X-B3-ParentSpanId: p|X-B3-Flags: 1",
                "X-B3-Parentspanid=p X-B3-Spanid=d X-B3-Traceid=t",
            ),
            ("X-B3-Sampled: 1|X-B3-Sampled: 0|B3: 1", "X-B3-Sampled=1,0"),
            (
                "X-B3-TraceId: a|X-B3-Sampled:",
                "X-B3-Sampled= X-B3-Traceid=a",
            ),
            (
                "uber-trace-id: a:b:c:1|uberctx-foo: y|B3: 1",
                "Uber-Trace-Id=a:b:c:1 Uberctx-Foo=y",
            ),
            (
                "traceparent: 00-a-b-01|tracestate: x:y|Correlation-Context: k",
                "Traceparent=00-a-b-01 Tracestate=x:y",
            ),
        ] {
            let block = format!("NATS/1.0\r\n{}\r\n\r\n", header.replace('|', "\r\n"));
            let sample = latency(Sampling::Headers).sample(block.as_bytes(), &mut Random::new(1));
            let told_of = sample.into_iter().flatten();
            let told_of: Vec<_> = told_of
                .map(|(name, values)| format!("{name}={}", values.join(",")))
                .collect();
            assert_eq!(told_of.join(" "), told, "{header}");
        }
    }

    #[test]
    fn what_is_told_of_a_trace_has_a_bound() {
        let long = "x".repeat(MOST_TOLD);
        let block = format!("B3: {long}\r\nB3: 1\r\nB3: {}\r\n", &long[..MOST_TOLD - 4]);
        let sample = latency(Sampling::Headers).sample(block.as_bytes(), &mut Random::new(1));
        assert_eq!(sample.unwrap()["B3"], ["1"]);
        let fields = "B3: \r\n".repeat(MOST_TOLD);
        let sample = latency(Sampling::Headers).sample(fields.as_bytes(), &mut Random::new(1));
        assert_eq!(sample.unwrap()["B3"].len(), MOST_TOLD / 2);
    }

    proptest! {
        #[test]
        fn arbitrary_headers_never_panic(
            fields in "((b3|traceparent|uber-trace-id|uberctx-|uberct|x-b3-sampled)?:?[-:01 ]{0,9}\\r?\\n?){0,4}",
        ) {
            let _ = traced(&fields);
        }
    }
}
