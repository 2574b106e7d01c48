//! Which requests to a service its latency is measured of.
//!
//! With `sampling: headers` those that are part of a trace somebody follows. Of the headers that say so
//! the first of these that is there decides (client protocol, service latency): `Uber-Trace-Id`
//! (Jaeger), `X-B3-Sampled`, `X-B3-TraceId`, `b3` (Zipkin), `traceparent` (W3C).

use crate::config::model::{Latency, Sampling};
use crate::random::Random;

impl Latency {
    /// Whether a request is measured. `header` is its header block, empty if it has none.
    pub fn samples(&self, header: &[u8], random: &mut Random) -> bool {
        match self.sampling {
            Sampling::Percent(100) => true,
            Sampling::Percent(percent) => random.below(100) < u64::from(percent),
            Sampling::Headers => is_traced(header),
        }
    }
}

fn is_traced(header: &[u8]) -> bool {
    let value = |name: &str| field(header, name.as_bytes());
    if let Some(id) = value("Uber-Trace-Id") {
        return last_of_four(id, b':').is_some_and(is_odd);
    }
    let sampled = value("X-B3-Sampled").filter(|value| !value.is_empty());
    if let Some(sampled) = sampled {
        return sampled == b"1";
    }
    if value("X-B3-TraceId").is_some() {
        return true;
    }
    if let Some(b3) = value("B3") {
        // Only a decision not to follow it is one: `0`, or as the third part.
        return b3 != b"0" && b3.split(|b| *b == b'-').nth(2) != Some(b"0");
    }
    let flags = value("Traceparent").and_then(|value| last_of_four(value, b'-'));
    flags.is_some_and(|flags| flags.len() == 2 && is_odd(flags))
}

/// The first field of this name, in any case.
fn field<'a>(header: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    header.split(|b| *b == b'\n').find_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        let (key, value) = (line.get(..colon)?, line.get(colon + 1..)?);
        key.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
    })
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn latency(sampling: Sampling) -> Latency {
        Latency {
            subject: "l".into(),
            sampling,
        }
    }

    fn traced(fields: &str) -> bool {
        let block = format!("NATS/1.0\r\n{fields}\r\n");
        latency(Sampling::Headers).samples(block.as_bytes(), &mut Random::new(1))
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
            let sampled = (0..1000).filter(|_| latency.samples(b"", &mut random));
            assert!(around.contains(&sampled.count()), "{percent}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_headers_never_panic(
            fields in "((b3|traceparent|uber-trace-id|x-b3-sampled)?:?[-:01 ]{0,9}\\r?\\n?){0,4}",
        ) {
            let _ = traced(&fields);
        }
    }
}
