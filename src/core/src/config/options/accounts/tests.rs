//! Limits, mappings, exports and imports: what is read, and the lines of nats-server 2.15.1 for what is
//! wrong. Its place for errors between accounts is that of `accounts`; ours is the entry's.

use std::time::Duration;

use crate::config::model::{
    AccountLimits, Audience, Destination, Export, Import, Latency, Mapping, ResponseType, Sampling,
    ServiceExport, ServiceImport, StreamExport, StreamImport,
};
use crate::config::testing::{config, lines};
use proptest::prelude::*;

#[test]
fn limits() {
    let limits = |text: &str| {
        let config = config(&format!("accounts {{A {{limits {{{text}}}}}}}"));
        config.accounts[0].limits.clone()
    };
    assert_eq!(limits(""), AccountLimits::default());
    assert_eq!(
        limits("max_conn: -1, max_payload: -1"),
        AccountLimits::default()
    );
    let all = AccountLimits {
        max_connections: Some(0),
        max_leafnodes: Some(3),
        max_subscriptions: Some(6),
        max_payload: Some(1000),
    };
    assert_eq!(
        limits("max_conn: 0, Max_Subs: 6, max_pay: 1k, max_leafs: 3"),
        all
    );
    let long = "max_connections: 0, max_subscriptions: 6, max_payload: 1000, max_leafnodes: 3";
    assert_eq!(limits(long), all);
    for (text, wanted) in [
        (
            "5",
            "c:1:13: Expected account limits to be a map/struct, got 5",
        ),
        (
            "{max_conn: x}",
            "c:1:22: interface conversion: interface {} is string, not int64",
        ),
        (
            "{max_conn: 5.5}",
            "c:1:22: interface conversion: interface {} is float64, not int64",
        ),
        (
            "{foo: 1}",
            "c:1:22: Unknown field \"foo\" parsing account limits",
        ),
    ] {
        let text = format!("accounts {{A {{limits: {text}}}}}");
        assert_eq!(lines(&text), [wanted], "{text}");
    }
}

#[test]
fn mappings() {
    let to = |subject: &str, weight, cluster: Option<&str>| Destination {
        subject: subject.into(),
        weight,
        cluster: cluster.map(str::to_string),
    };
    let mapping = |source: &str, destinations: &[Destination]| Mapping {
        source: source.into(),
        destinations: destinations.to_vec(),
    };
    let config = config(
        "mappings {\n b: x\n a: [{destination: x, weight: 30}, {dest: y, weight: \"7%\", cluster: X}]\n \"c.*\": {dest: \"d.$1\", weight: 50%}\n e: []\n}\naccounts {A {maps {f: g}}}",
    );
    assert_eq!(
        config.mappings,
        [
            mapping("b", &[to("x", 100, None)]),
            mapping("a", &[to("x", 30, None), to("y", 7, Some("X"))]),
            mapping("c.*", &[to("d.$1", 50, None)]),
            mapping("e", &[]),
        ]
    );
    assert_eq!(
        config.accounts[0].mappings,
        [mapping("f", &[to("g", 100, None)])]
    );
    for (text, wanted) in [
        (
            "a: [{destination: b, weight: 50}, {destination: b, weight: 20}]",
            "c:2:2: Error adding mapping for \"a\" : duplicate entry for \"b\"",
        ),
        (
            "a: [{destination: b, weight: 50}, {destination: c, weight: 60}]",
            "c:2:2: Error adding mapping for \"a\" : total weight needs to be <= 100",
        ),
        (
            "a: [{destination: b}]",
            "c:2:22: Missing weight for mapping destination \"b\"",
        ),
        (
            "a: {dest: b, weight: \"-50\"}",
            "c:2:15: Invalid weight -50 for mapping destination",
        ),
        (
            "a: {dest: b, weight: \"x\"}",
            "c:2:15: Invalid weight \"x\" for mapping destination",
        ),
        (
            "a: {dest: b, weight: \"1.5%\"}",
            "c:2:15: Invalid weight \"1.5\" for mapping destination",
        ),
        (
            "a: {dest: b, weight: 1.5}",
            "c:2:15: Unknown entry type for weight of 1.5",
        ),
        (
            "a: {dest: b, weight: true}",
            "c:2:15: Unknown entry type for weight of true",
        ),
        (
            "a: {dest: b, weight: 300}",
            "c:2:15: Invalid weight 300 for mapping destination",
        ),
        (
            "a: [b]",
            "c:2:6: Expected an entry for the mapping destination",
        ),
        (
            "a: true",
            "c:2:2: Expected an entry for the mapping destination",
        ),
        (
            "a: {dest: b, weight: 3, foo: 1}",
            "c:2:26: Unknown field \"foo\" for mapping destination",
        ),
        (
            "\"a.*\": [{dest: \"b.$2\", weight: 10}]",
            "c:2:3: Error adding mapping for \"a.*\" : invalid mapping destination: wildcard index out of range in $2: [2]",
        ),
        (
            "\"a.*\": \"b.$2\"",
            "c:2:3: Error adding mapping for \"a.*\" to \"b.$2\" : invalid mapping destination: wildcard index out of range in $2: [2]",
        ),
        (
            "b: \"x..y\"",
            "c:2:2: Error adding mapping for \"b\" to \"x..y\" : invalid mapping destination: invalid transform",
        ),
        // Ours: nats-server dies of the first message.
        (
            "a: \"\"",
            "c:2:2: Error adding mapping for \"a\" to \"\" : the destination is empty",
        ),
        // Its place is that of `mappings`.
        (
            "\"a..b\": x",
            "c:2:3: Subject \"a..b\" is not a valid subject",
        ),
    ] {
        let text = format!("mappings {{\n {text}\n}}");
        assert_eq!(lines(&text), [wanted], "{text}");
    }
    for text in ["mappings: 5", "maps: []"] {
        let printed = lines(text);
        assert!(
            printed[0].ends_with("not map[string]interface {}"),
            "{printed:?}"
        );
    }
}

#[test]
fn exports_are_read() {
    let exports = |text: &str| {
        let text = format!("accounts {{A {{exports: [{{{text}}}]}}\nB {{}}}}");
        config(&text).accounts[0].exports[0].clone()
    };
    let service = || ServiceExport {
        subject: "a.*".into(),
        ..ServiceExport::default()
    };
    let stream = |audience| {
        Export::Stream(StreamExport {
            subject: "a.*".into(),
            audience,
        })
    };
    let only_b = || Audience::Accounts(vec!["B".into()]);
    assert_eq!(exports("stream: \"a.*\""), stream(Audience::Public));
    assert_eq!(
        exports("stream: \"a.*\", accounts: []"),
        stream(Audience::Public)
    );
    assert_eq!(exports("stream: \"a.*\", accounts: [B]"), stream(only_b()));
    assert_eq!(
        exports("stream: \"a.*\", account_token_position: 2, accounts: [B]"),
        stream(Audience::Token(2))
    );
    assert_eq!(service().threshold, Duration::from_secs(120));
    for (text, wanted) in [
        ("", service()),
        ("threshold: \"0s\"", service()),
        ("account_token_position: 0", service()),
        (
            "accounts: [B]",
            ServiceExport {
                audience: only_b(),
                ..service()
            },
        ),
        ("Response: SINGLETON", service()),
        (
            "response: chunk",
            ServiceExport {
                response: ResponseType::Chunked,
                ..service()
            },
        ),
        (
            "response_type: Stream",
            ServiceExport {
                response: ResponseType::Stream,
                ..service()
            },
        ),
        (
            "response_max_time: \"5s\"",
            ServiceExport {
                threshold: Duration::from_secs(5),
                ..service()
            },
        ),
        (
            "allow_trace: true",
            ServiceExport {
                allow_trace: true,
                ..service()
            },
        ),
    ] {
        assert_eq!(
            exports(&format!("service: \"a.*\", {text}")),
            Export::Service(wanted)
        );
    }
    for (text, sampling) in [
        ("l", Sampling::Percent(100)),
        ("{subject: l}", Sampling::Percent(100)),
        ("{sampling: 50%, subject: l}", Sampling::Percent(50)),
        ("{sampling: \"7\", subject: l}", Sampling::Percent(7)),
        ("{sampling: 1, subject: l}", Sampling::Percent(1)),
        ("{sampling: Headers, subject: l}", Sampling::Headers),
    ] {
        let latency = Some(Latency {
            at: "c:1:40".into(),
            subject: "l".into(),
            sampling,
        });
        let wanted = Export::Service(ServiceExport {
            latency,
            ..service()
        });
        assert_eq!(
            exports(&format!("service: \"a.*\", latency: {text}")),
            wanted
        );
    }
}

/// Each alone in line 3, after a blank.
#[test]
fn exports_that_cannot_be() {
    let position = "sublist: invalid subject";
    for (text, wanted) in [
        ("[{stream: 5}]", "3:13: Expected stream name to be string, got int64".into()),
        ("[{service: {a: b}}]", "3:13: Expected service name to be string, got map[string]interface {}".into()),
        ("[a]", "3:12: Export Items should be a map with type entry, got string".into()),
        ("{stream: a}", "3:2: Exports should be an array, got map[string]interface {}".into()),
        ("[{stream: a, service: b}]", "3:24: Detected service \"b\" but already saw a stream".into()),
        ("[{service: a, stream: b}]", "3:25: Detected stream \"b\" but already saw a service".into()),
        ("[{stream: a, accounts: B}]", "3:24: interface conversion: interface {} is string, not []interface {}".into()),
        ("[{stream: a, foo: [A]}]", "3:24: unknown field \"foo\"".into()),
        ("[{stream: a, response_type: single}]", "3:24: Detected response directive on non-service".into()),
        ("[{response: stream, stream: a}]", "3:13: Detected response directive on non-service".into()),
        ("[{service: a, response: foo}]", "3:25: Unknown response type: \"foo\"".into()),
        ("[{service: a, response: 5}]", "3:25: Expected response type to be string, got int64".into()),
        ("[{service: a, response: stream, response_type: single}]", "3:43: Duplicate response type definition".into()),
        ("[{service: a, threshold: 5}]", "3:25: Expected response threshold to be a parseable time duration, got int64".into()),
        ("[{service: a, threshold: x}]", "3:25: Expected response threshold to be a parseable time duration, got \"x\"".into()),
        ("[{service: a, threshold: \"1s\", response_time: \"2s\"}]", "3:42: Duplicate response threshold detected".into()),
        ("[{stream: a, threshold: \"1s\"}]", "3:24: Detected response directive on non-service".into()),
        ("[{service: a, latency: 5}]", "3:25: Expected latency entry to be a map/struct or string, got int64".into()),
        ("[{service: a, latency: {sampling: 50%}}]", "3:25: Latency subject required, but missing".into()),
        ("[{service: a, latency: {}}]", "3:25: Latency subject required, but missing".into()),
        ("[{service: a, latency: {sampling: 0, subject: b}}]", "3:35: bad sampling percentage, should be 1-100".into()),
        ("[{service: a, latency: {sampling: \"101%\", subject: b}}]", "3:35: bad sampling percentage, should be 1-100".into()),
        ("[{service: a, latency: {sampling: \"x\", subject: b}}]", "3:35: Failed to parse latency sample: strconv.Atoi: parsing \"x\": invalid syntax".into()),
        ("[{service: a, latency: {sampling: 1.5, subject: b}}]", "3:35: Expected latency sample to be a string or map/struct, got float64".into()),
        ("[{stream: a, latency: b}]", "3:24: Detected latency directive on non-service".into()),
        ("[{latency: b, stream: a}]", "3:13: Detected latency directive on non-service".into()),
        ("[{stream: \"a.*\", account_token_position: x}]", "3:28: interface conversion: interface {} is string, not int64".into()),
        ("[{stream: a, allow_trace: true}]", "3:24: Detected allow_trace directive on non-service".into()),
        ("[{allow_trace: true, stream: a}]", "3:13: Detected allow_trace directive on non-service".into()),
        ("[{service: a, allow_trace: 5}]", "3:25: interface conversion: interface {} is int64, not bool".into()),
        // The place is ours from here on.
        ("[{stream: a, accounts: [B]}]", "* \"B\" account not defined for stream export".into()),
        ("[{service: a, accounts: [\"$G\"]}]", "* \"$G\" account not defined for service export".into()),
        ("[{service: a, latency: \"b..c\"}]", "* Error adding service latency sampling for \"a\" on subject \"b..c\": invalid publish subject".into()),
        ("[{service: a, latency: \"b.*\"}]", "* Error adding service latency sampling for \"a\" on subject \"b.*\": invalid publish subject".into()),
        ("[{service: a, latency: \"\"}]", "* Error adding service latency sampling for \"a\" on subject \"\": invalid publish subject".into()),
        ("[{service: a, latency: b, response: stream}]", "* Error adding service latency sampling for \"a\" on subject \"b\": bad service response type".into()),
        ("[{stream: a, account_token_position: 1}]", format!("* Error adding stream export \"a\": {position}")),
        ("[{stream: \"a.*\", account_token_position: 1}]", format!("* Error adding stream export \"a.*\": {position}")),
        ("[{stream: \"a.>\", account_token_position: 2}]", format!("* Error adding stream export \"a.>\": {position}")),
        ("[{service: \"a.*\", account_token_position: 5}]", format!("* Error adding service export \"a.*\": {position}")),
        // nats-server takes these, or dies.
        ("[{stream: \"a.*\", account_token_position: -1}]", format!("* Error adding stream export \"a.*\": {position}")),
        ("[{stream: \"a..b\"}]", format!("* Error adding stream export \"a..b\": {position}")),
        ("[{service: \"a b\"}]", format!("* Error adding service export \"a b\": {position}")),
        ("[{service: \"\"}]", format!("* Error adding service export \"\": {position}")),
        ("[{}]", "* Export is neither a stream nor a service".into()),
        ("[{service: a, threshold: \"-1s\"}]", "3:25: invalid response threshold, needs to be positive".into()),
        ("[{threshold: \"1s\", stream: a}]", "3:13: Detected response directive on non-service".into()),
        ("[{service: a, latency: {subject: b, foo: 1}}]", "3:47: unknown field \"foo\"".into()),
    ] {
        let text = format!("accounts {{\nA {{\n exports: {text}\n}}}}");
        one_line(&text, &wanted);
    }
}

/// `*` stands for any place in line 3 or 4.
fn one_line(text: &str, wanted: &str) {
    let printed = lines(text);
    let [line] = printed.as_slice() else {
        unreachable!("{text} {printed:?}")
    };
    match wanted.strip_prefix("* ") {
        None => assert_eq!(*line, format!("c:{wanted}"), "{text}"),
        Some(wanted) => {
            let (place, rest) = line.split_once(": ").unwrap();
            assert_eq!(rest, wanted, "{text}");
            assert!(
                place.starts_with("c:3:") || place.starts_with("c:4:"),
                "{line}"
            );
        }
    }
}

#[test]
fn imports_are_read() {
    let imports = |text: &str| {
        let text = format!(
            "accounts {{A {{exports: [{{stream: \">\"}}, {{service: \">\"}}]}}\nB {{imports: [{{{text}}}]}}}}"
        );
        config(&text).accounts[1].imports[0].clone()
    };
    let stream = |subject: &str, to: Option<&str>| StreamImport {
        account: "A".into(),
        subject: subject.into(),
        to: to.map(str::to_string),
        allow_trace: false,
    };
    let service = |to: Option<&str>| ServiceImport {
        account: "A".into(),
        subject: "a.*".into(),
        to: to.map(str::to_string),
        share: false,
    };
    for (text, wanted) in [
        ("stream: {account: A, subject: a}", stream("a", None)),
        (
            "stream: {account: A, subject: a}, to: \"\", prefix: \"\"",
            stream("a", None),
        ),
        (
            "stream: {account: A, subject: \"a.*\"}, to: \"b.$1\"",
            stream("a.*", Some("b.$1")),
        ),
        (
            "stream: {account: A, subject: \"a.*\"}, prefix: p",
            stream("a.*", Some("p.a.*")),
        ),
        (
            "stream: {account: A, subject: \"a.>\"}, prefix: \"p.\"",
            stream("a.>", Some("p.a.>")),
        ),
        (
            "stream: {account: A, subject: a}, allow_trace: true",
            StreamImport {
                allow_trace: true,
                ..stream("a", None)
            },
        ),
    ] {
        assert_eq!(imports(text), Import::Stream(wanted), "{text}");
    }
    for (text, wanted) in [
        ("", service(None)),
        ("to: \"b.*\"", service(Some("b.*"))),
        (
            "share: yes",
            ServiceImport {
                share: true,
                ..service(None)
            },
        ),
    ] {
        let text = format!("service: {{account: A, subject: \"a.*\"}}, {text}");
        assert_eq!(imports(&text), Import::Service(wanted), "{text}");
    }
}

/// Each alone in line 4, after a blank; A exports everything.
#[test]
fn imports_that_cannot_be() {
    let names = |kind: &str, subject: &str, from: &str, to: &str, why: &str| {
        format!(
            "* Error adding {kind} import \"{subject}\": failed to create mapping transform for {kind} import subject from \"{from}\" to \"{to}\": {why}"
        )
    };
    let unused = |to: &str| {
        format!("invalid mapping destination: not using all of the token wildcard(s) in {to}")
    };
    for (text, wanted) in [
        ("[{service: {account: A}}]", "4:13: Expect an account name and a subject".to_string()),
        ("[{stream: {}}]", "4:13: Expect an account name and a subject".into()),
        ("[{stream: a}]", "4:13: Stream entry should be an account map, got string".into()),
        ("[{service: 5}]", "4:13: Service entry should be an account map, got int64".into()),
        ("{stream: {account: A, subject: a}}", "4:2: Imports should be an array, got map[string]interface {}".into()),
        ("[a]", "4:12: Import Items should be a map with type entry, got string".into()),
        ("[{stream: {account: A, subject: a}, service: {account: A, subject: b}}]", "4:47: Detected service but already saw a stream".into()),
        ("[{service: {account: A, subject: a}, stream: {account: A, subject: b}}]", "4:48: Detected stream but already saw a service".into()),
        ("[{stream: {account: A, subject: a}, prefix: 5}]", "4:47: interface conversion: interface {} is int64, not string".into()),
        ("[{stream: {account: A, subject: a}, prefix: p, to: q}]", "4:58: Stream import can not have a 'prefix' and a 'to' property".into()),
        ("[{service: {account: A, subject: a}, to: 5}]", "4:48: interface conversion: interface {} is int64, not string".into()),
        ("[{service: {account: A, subject: a}, share: 5}]", "4:48: interface conversion: interface {} is int64, not bool".into()),
        ("[{service: {account: A, subject: a}, allow_trace: true}]", "4:48: Detected allow_trace directive on a non-stream".into()),
        ("[{allow_trace: true, service: {account: A, subject: a}}]", "4:13: Detected allow_trace directive on a non-stream".into()),
        ("[{stream: {account: A, subject: a}, foo: true}]", "4:47: unknown field \"foo\"".into()),
        ("[{stream: {account: A, subject: \"a\", foo: true}}]", "4:48: unknown field \"foo\"".into()),
        // The place is ours from here on.
        ("[{stream: {account: C, subject: a}}]", "* \"C\" account not defined for stream import".into()),
        ("[{service: {account: \"$G\", subject: a}}]", "* \"$G\" account not defined for service import".into()),
        ("[{service: {account: B, subject: a}}]", "* Error adding service import \"a\": service import not authorized".into()),
        ("[{stream: {account: A, subject: \"a..b\"}}]", "* Error adding stream import \"a..b\": stream import not authorized".into()),
        ("[{service: {account: A, subject: \"a..b\"}}]", "* Error adding service import \"a..b\": sublist: invalid subject".into()),
        ("[{service: {account: A, subject: a}, to: \"q..x\"}]", "* Error adding service import \"a\": sublist: invalid subject".into()),
        ("[{stream: {account: A, subject: a}, prefix: \"p.*\"}]", "* Error adding stream import \"a\": stream import prefix can not contain wildcard tokens".into()),
        ("[{stream: {account: A, subject: a}}, {stream: {account: A, subject: a}, prefix: p}]", "* Error adding stream import \"a\": stream import already exists".into()),
        ("[{service: {account: A, subject: \"a\"}}, {service: {account: A, subject: \"a\"}}]", "4:88: Duplicate service import subject \"a\", previously used in import for account \"A\", subject \"a\"".into()),
        ("[{service: {account: A, subject: \"b\"}, to: a}, {service: {account: A, subject: \"a\"}}]", "* Duplicate service import subject \"a\", previously used in import for account \"A\", subject \"b\"".into()),
        ("[{stream: {account: A, subject: \"a.*.*\"}, to: \"q.$2\"}]", names("stream", "a.*.*", "a.*.*", "q.$2", &unused("q.$2"))),
        ("[{stream: {account: A, subject: \"a.*.*\"}, to: \"q.$3\"}]", names("stream", "a.*.*", "a.*.*", "q.$3", "invalid mapping destination: wildcard index out of range in $3: [3]")),
        ("[{stream: {account: A, subject: \"a.>\"}, to: q}]", names("stream", "a.>", "a.>", "q", "invalid subject")),
        ("[{stream: {account: A, subject: \"a.*\"}, to: \"x.{{wildcard(1,2)}}\"}]", names("stream", "a.*", "a.*", "x.{{wildcard(1,2)}}", "invalid mapping destination: too many arguments passed to the function in {{wildcard(1,2)}}")),
        ("[{stream: {account: A, subject: \"a.*\"}, to: \"x.{{partition(3,1)}}.$1\"}]", names("stream", "a.*", "a.*", "x.{{partition(3,1)}}.$1", "invalid mapping destination: the only mapping function allowed for import transforms is {{Wildcard()}} in {{partition(3,1)}}")),
        ("[{stream: {account: A, subject: \"a.*\"}, to: \"x.y$1\"}]", names("stream", "a.*", "a.*", "x.y$1", &unused("x.y$1"))),
        ("[{service: {account: A, subject: \"a.*\"}, to: q}]", names("service", "a.*", "q", "a.*", &unused("q"))),
        ("[{service: {account: A, subject: \"a.*.*\"}, to: \"q.*.*.*\"}]", names("service", "a.*.*", "q.*.*.*", "a.*.*", "invalid mapping destination: wildcard index out of range in $3: [3]")),
        ("[{service: {account: A, subject: \"a.>\"}, to: q}]", names("service", "a.>", "q", "a.>", "invalid subject")),
        // nats-server takes these, does something of no use, or dies of the first subscription.
        ("[{}]", "* Import is neither a stream nor a service".into()),
        ("[{to: x}]", "* Import is neither a stream nor a service".into()),
        ("[{service: {account: A, subject: a}, prefix: p}]", "4:48: Detected prefix directive on a non-stream".into()),
        ("[{stream: {account: A, subject: a}, share: true}]", "4:47: Detected share directive on a non-service".into()),
        ("[{stream: {account: A, subject: a}, prefix: \"p..q\"}]", "* Error adding stream import \"a\": stream import prefix is no subject".into()),
        ("[{stream: {account: A, subject: a}, to: \"q.*\"}]", names("stream", "a", "a", "q.*", "invalid mapping destination: wildcard index out of range in $1")),
        ("[{stream: {account: A, subject: a}, to: \"$1.y\"}]", names("stream", "a", "a", "$1.y", "invalid mapping destination: wildcard index out of range in $1")),
        ("[{service: {account: A, subject: a}, to: \"$1.y\"}]", names("service", "a", "$1.y", "a", "invalid mapping destination: wildcard index out of range in $1")),
        ("[{stream: {account: A, subject: a}, to: \"x..y\"}]", names("stream", "a", "a", "x..y", "invalid subject")),
        ("[{stream: {account: A, subject: \"a.*.*\"}, to: \"x.$1.$1.$2\"}]", names("stream", "a.*.*", "a.*.*", "x.$1.$1.$2", &unused("x.$1.$1.$2"))),
        ("[{service: {account: A, subject: \"a.*.*\"}, to: \"q.$1.$1\"}]", names("service", "a.*.*", "q.$1.$1", "a.*.*", &unused("q.$1.$1"))),
        ("[{stream: {account: A, subject: \"a.*.*\"}, to: \"x.*.$1\"}]", names("stream", "a.*.*", "a.*.*", "x.*.$1", &unused("x.$1.$1"))),
    ] {
        let text = format!(
            "accounts {{\nA {{exports: [{{stream: \">\"}}, {{service: \">\"}}]}}\nB {{\n imports: {text}\n}}}}"
        );
        one_line(&text, &wanted);
    }
    for text in [
        "{stream: {account: A, subject: \"a.*.*\"}, to: \"q.{{wildcard(2)}}.{{wildcard(1)}}\"}",
        "{stream: {account: A, subject: \"a.*.>\"}, to: \"q.$1.>\"}",
        "{service: {account: A, subject: \"a\"}, to: \"q.*\"}",
        "{service: {account: A, subject: \"a\"}, to: \"q.>\"}",
        "{service: {account: A, subject: \"a.*.*\"}, to: \"q.$2.$1\"}",
        "{service: {account: A, subject: \"a.$2.$1\"}, to: \"q.*.*\"}",
        "{service: {account: A, subject: \"a.*\"}}, {service: {account: A, subject: \"a.b\"}}",
        "{service: {account: A, subject: \"a\"}}, {service: {account: A, subject: \"a\"}, to: b}",
    ] {
        config(&format!(
            "accounts {{A {{exports: [{{stream: \">\"}}, {{service: \">\"}}]}}\nB {{imports: [{text}]}}}}"
        ));
    }
}

/// nats-server also refuses some of those that are none, as it does not narrow subjects on their way.
#[test]
fn cycles() {
    let text = |kind: &str, a: &str, b: &str| {
        format!(
            "accounts {{\nA {{exports: [{{{kind}: \">\"}}], imports: [{a}]}}\nB {{exports: [{{{kind}: \">\"}}], imports: [{b}]}}}}"
        )
    };
    for kind in ["stream", "service"] {
        let import = |account: &str, subject: &str, more: &str| {
            format!("{{{kind}: {{account: {account}, subject: \"{subject}\"}}{more}}}")
        };
        let cycle = |subject: &str| {
            format!("* Error adding {kind} import \"{subject}\": import forms a cycle")
        };
        for (a, b, wanted) in [
            (import("B", "a", ""), import("A", "a", ""), Some("a")),
            (import("B", "a.*", ""), import("A", "a.b", ""), Some("a.b")),
            (import("B", "a", ", to: b"), import("A", "a", ""), None),
            (
                import("B", "a.*", ""),
                import("A", "a.b", ", to: c.b"),
                None,
            ),
            (
                import("B", "a.>", ", to: \"x.a.>\""),
                import("A", "x.>", ", to: \">\""),
                Some("x.>"),
            ),
            (import("A", "a", ""), String::new(), Some("a")),
            (import("A", "a", ", to: b"), String::new(), None),
        ] {
            let text = text(kind, &a, &b);
            match wanted {
                Some(subject) => {
                    let printed = lines(&text);
                    assert_eq!(printed.len(), 1, "{text} {printed:?}");
                    let wanted = cycle(subject);
                    assert!(printed[0].ends_with(&wanted[2..]), "{text} {printed:?}");
                }
                None => assert_eq!(lines(&text), [""; 0], "{text}"),
            }
        }
    }
    let ring = "accounts {\nA {exports: [{service: a}], imports: [{service: {account: C, subject: a}}]}\nB {exports: [{service: a}], imports: [{service: {account: A, subject: a}}]}\nC {exports: [{service: a}], imports: [{service: {account: B, subject: a}}]}}";
    let printed = lines(ring);
    assert_eq!(printed.len(), 1);
    assert!(
        printed[0].starts_with("c:4:") && printed[0].ends_with("forms a cycle"),
        "{printed:?}"
    );
}

/// As nats-server orders them: streams first, exports first.
#[test]
fn everything_that_does_not_fit_is_said() {
    let printed = lines(
        "accounts {\nB {imports: [{service: {account: A, subject: \">\"}}, {stream: {account: A, subject: x}}], exports: [{service: b, accounts: [Z]}, {stream: a, accounts: [X, Y]}]}}",
    );
    let texts: Vec<&str> = printed
        .iter()
        .filter_map(|line| Some(line.split_once(": ")?.1))
        .collect();
    assert_eq!(
        texts,
        [
            "\"X\" account not defined for stream export",
            "\"Y\" account not defined for stream export",
            "\"Z\" account not defined for service export",
            "\"A\" account not defined for stream import",
            "\"A\" account not defined for service import",
        ]
    );
}

#[test]
fn system_account() {
    let name = |text: &str| config(text).system_account;
    assert_eq!(name("").as_deref(), Some("$SYS"));
    assert_eq!(name("system_account: \"\"").as_deref(), Some("$SYS"));
    assert_eq!(name("system: A; accounts [A]").as_deref(), Some("A"));
    assert_eq!(name("no_sys_acc: true"), None);
    assert_eq!(name("no_system_account: false").as_deref(), Some("$SYS"));
    for text in [
        "no_system: true; system_account: A",
        "system_account: A; no_system: true",
    ] {
        assert_eq!(name(text).as_deref(), Some("A"));
    }
    assert_eq!(
        lines("system: 5"),
        ["c:1:0: system account name must be a string"]
    );
    let check = |text: &str| crate::config::check(&config(text)).map_err(|e| e.to_string());
    let missing = Err("error resolving system account: account missing".to_string());
    assert_eq!(check("system_account: X"), missing);
    assert_eq!(check("no_sys_acc: true; system_account: Q"), missing);
    for text in [
        "",
        "system_account: A; accounts [A]",
        "system_account: \"$G\"",
        "no_system: true",
    ] {
        assert_eq!(check(text), Ok(()), "{text}");
    }
}

/// Each is obeyed, and none of them is worth a warning.
#[test]
fn what_is_in_order() {
    for text in [
        "mappings {}",
        "accounts {A {exports: [], imports: [], limits {}, maps {}}}",
        "accounts {A {limits {max_conn: -1}}}",
        "system_account: \"$SYS\"",
        "system: A; accounts [A]",
        "no_system_account: true",
        "accounts {A {exports: [{service: a, latency: b}]}}",
        "accounts {A {exports: [{service: a, latency: b}]}}; system: A; no_system_account: true",
    ] {
        assert_eq!(lines(text), [""; 0], "{text}");
    }
}

/// As nats-server, but at the place of the export.
#[test]
fn latency_needs_a_system_account() {
    for text in [
        "accounts {A {exports: [{service: a, latency: b}]}}; no_system_account: true",
        "no_system: true; accounts {A {exports: [{service: a, latency: \"b.*\"}]}}",
    ] {
        let printed = lines(text);
        let said = "Error adding service latency sampling for \"a\": system account not setup";
        assert_eq!(printed.len(), 1, "{printed:?}");
        assert!(printed[0].ends_with(said), "{printed:?}");
    }
}

proptest! {
    #[test]
    fn arbitrary_sharing_never_panics(
        exports in prop::collection::vec("(stream|service): \"?[a*>.$1]{0,5}\"?(, accounts: \\[[AB]?\\])?(, account_token_position: -?[0-9])?(, latency: [a5])?(, threshold: (5|1s))?", 0..3),
        imports in prop::collection::vec("(stream|service): \\{account: [AB], subject: \"[a*>.$1]{0,5}\"\\}(, (to|prefix): \"([a*>.$12]|\\{\\{wildcard\\(1\\)\\}\\}){0,6}\")?(, share: true)?", 0..4),
        mappings in prop::collection::vec("\"[a*>.]{0,5}\": (\"[b*>.$1]{0,6}\"|5|\\[\\{dest: b, weight: -?[0-9]{1,3}%?\\}\\])", 0..3),
    ) {
        let list = |entries: &[String]| entries.iter().map(|e| format!("{{{e}}}\n")).collect::<String>();
        let (exports, imports, mappings) = (list(&exports), list(&imports), mappings.join("\n"));
        let text = format!("accounts {{\nA {{exports: [\n{exports}], imports: [\n{imports}]}}\nB {{exports: [\n{exports}], imports: [\n{imports}], mappings {{\n{mappings}\n}}}}}}");
        let _ = lines(&text);
    }
}
