//! What a configuration makes of messages and subscriptions: tables of what nats-server 2.15.1 did with
//! the same configuration, and a model on lists of tokens for everything else.

use super::*;
use crate::config::testing::config;
use crate::random::Random;
use crate::subject;
use mapping::Mapped;
use proptest::prelude::*;
use std::time::Duration;

/// `A` exports everything, `C` too, `B` imports.
fn rules(imports: &str) -> Vec<Rules> {
    let all = "exports: [{stream: \">\"}, {service: \">\"}]";
    let text = format!("accounts {{A {{{all}}}\nC {{{all}}}\nB {{imports: [{imports}]}}}}");
    compile(&config(&text), None).unwrap()
}

const A: u32 = 1;
const C: u32 = 2;
const B: usize = 3;

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// What a subscription of B on `wanted` gets when A publishes on `subject`.
fn delivered(rules: &[Rules], wanted: &str, subject: &str) -> Vec<String> {
    let imports = &rules[B].imports;
    let mut out = Vec::new();
    for shadow in imports.shadows(wanted.as_bytes()) {
        assert_eq!(shadow.exporter, A);
        if subject::matches(&shadow.subject, subject.as_bytes()) {
            let mut local = Vec::new();
            let stream = imports.stream(shadow.import).unwrap();
            stream.local(subject.as_bytes(), &mut local);
            assert!(
                subject::matches(wanted.as_bytes(), &local),
                "{wanted} {subject}"
            );
            assert!(subject::matches(stream.local_pattern(), &local));
            out.push(text(local));
        }
    }
    out.sort();
    out
}

#[test]
fn streams() {
    for (imports, subjects, rows) in [
        (
            "{stream: {account: A, subject: \"a.*\"}}",
            "a.b a.c b.c a.b.c",
            &[
                ("a.b", "a.b - - -"),
                ("a.*", "a.b a.c - -"),
                ("a.>", "a.b a.c - -"),
                (">", "a.b a.c - -"),
                ("*.b", "a.b - - -"),
                ("b.*", "- - - -"),
                ("*", "- - - -"),
                ("*.>", "a.b a.c - -"),
            ] as &[(&str, &str)],
        ),
        (
            "{stream: {account: A, subject: \"a.>\"}}",
            "a.b a.c b.c a.b.c",
            &[
                ("a.*", "a.b a.c - -"),
                (">", "a.b a.c - a.b.c"),
                ("*.b", "a.b - - -"),
                ("a.b.>", "- - - a.b.c"),
                ("*.*.c", "- - - a.b.c"),
            ],
        ),
        (
            "{stream: {account: A, subject: \"*.b\"}}",
            "a.b a.c b.c c.b",
            &[("a.*", "a.b - - -"), ("*.*", "a.b - - c.b")],
        ),
        (
            "{stream: {account: A, subject: \"a.*\"}, prefix: p}",
            "a.b a.c b.c p.a.b",
            &[
                ("a.*", "- - - -"),
                ("p.a.b", "p.a.b - - -"),
                ("p.>", "p.a.b p.a.c - -"),
                ("*.a.*", "p.a.b p.a.c - -"),
                ("p.*.b", "p.a.b - - -"),
            ],
        ),
        (
            "{stream: {account: A, subject: \"a.*.*\"}, to: \"p.$2.$1\"}",
            "a.b.c a.c.b a.x.b a.b.x p.b.c",
            &[
                ("p.b.c", "- p.b.c - - -"),
                ("p.*.*", "p.c.b p.b.c p.b.x p.x.b -"),
                ("p.*.c", "- p.b.c - - -"),
                ("p.b.>", "- p.b.c p.b.x - -"),
            ],
        ),
        (
            "{stream: {account: A, subject: \"a.*.>\"}, to: \"p.$1.>\"}",
            "a.b.c a.b.c.d a.c",
            &[
                ("p.*.*", "p.b.c - -"),
                (">", "p.b.c p.b.c.d -"),
                ("p.*", "- - -"),
            ],
        ),
        (
            "{stream: {account: A, subject: \"a\"}, to: q}",
            "a q",
            &[("q", "q -"), ("*", "q -"), ("a", "- -")],
        ),
        (
            "{stream: {account: A, subject: \"a.*\"}}, {stream: {account: A, subject: \"a.>\"}}",
            "a.b a.b.c",
            &[
                ("a.b", "a.b,a.b -"),
                (">", "a.b,a.b a.b.c"),
                ("a.b.c", "- a.b.c"),
            ],
        ),
        (
            "{stream: {account: A, subject: \"a.*\"}, prefix: p}, {stream: {account: A, subject: \"a.b\"}}",
            "a.b a.c",
            &[
                ("a.b", "a.b -"),
                ("p.a.b", "p.a.b -"),
                (">", "a.b,p.a.b p.a.c"),
            ],
        ),
    ] {
        let rules = rules(imports);
        for (wanted, outcomes) in rows {
            for (subject, outcome) in subjects.split(' ').zip(outcomes.split(' ')) {
                let got = delivered(&rules, wanted, subject).join(",");
                let got = if got.is_empty() { "-" } else { &got };
                assert_eq!(got, outcome, "{imports}: {subject} to {wanted}");
            }
        }
    }
}

/// Where a request of B on `subject` goes.
fn requested(rules: &[Rules], subject: &str) -> Vec<(u32, String)> {
    let services = rules[B].imports.services(subject.as_bytes());
    let mut out: Vec<_> = services
        .map(|service| {
            let mut exported = Vec::new();
            service.exported(subject.as_bytes(), &mut exported);
            (service.exporter(), text(exported))
        })
        .collect();
    out.sort();
    out
}

#[test]
fn services() {
    for (imports, rows) in [
        (
            "{service: {account: A, subject: a}}, {service: {account: C, subject: a}}",
            &[("a", &[(A, "a"), (C, "a")] as &[(u32, &str)]), ("b", &[])] as &[(&str, &[_])],
        ),
        (
            "{service: {account: A, subject: \"a.*\"}}, {service: {account: A, subject: a.b}}",
            &[("a.b", &[(A, "a.b"), (A, "a.b")]), ("a.c", &[(A, "a.c")])],
        ),
        (
            "{service: {account: A, subject: x}, to: \"a.*\"}, {service: {account: A, subject: y}, to: a.b}",
            &[
                ("a.b", &[(A, "x"), (A, "y")]),
                ("a.c", &[(A, "x")]),
                ("x", &[]),
            ],
        ),
        (
            "{service: {account: A, subject: a}}, {service: {account: A, subject: a}, to: b}",
            &[("a", &[(A, "a")]), ("b", &[(A, "a")])],
        ),
        (
            "{service: {account: A, subject: \"a.*.*\"}, to: \"q.$2.$1\"}",
            &[("q.x.y", &[(A, "a.y.x")]), ("q.x", &[]), ("a.x.y", &[])],
        ),
        (
            "{service: {account: A, subject: \"a.$2.$1\"}, to: \"q.*.*\"}",
            &[("q.x.y", &[(A, "a.$2.$1")])],
        ),
        (
            "{service: {account: A, subject: \"a.>\"}, to: \"q.>\"}",
            &[("q.x", &[(A, "a.x")]), ("q.x.y", &[(A, "a.x.y")])],
        ),
        (
            "{service: {account: A, subject: \"a.*.>\"}, to: \"q.$1.>\"}",
            &[("q.x.y.z", &[(A, "a.x.y.z")]), ("q.x", &[])],
        ),
    ] {
        let rules = rules(imports);
        for (subject, wanted) in rows {
            let wanted: Vec<_> = wanted
                .iter()
                .map(|(at, to)| (*at, to.to_string()))
                .collect();
            assert_eq!(requested(&rules, subject), wanted, "{imports}: {subject}");
        }
    }
}

#[test]
fn services_come_with_how_they_are_served() {
    let config = config(
        "mappings {a: b}
         accounts {
           A {exports: [
             {service: \"s.*\", response: stream, threshold: \"3s\", accounts: [B], allow_trace: true}
             {service: \"t\", latency: {sampling: 5, subject: lat}}]}
           B {limits {max_conn: 7}, mappings {x: s.y}, imports: [
             {service: {account: A, subject: s.y}, share: true}
             {service: {account: A, subject: t}, to: \"u.v\"}
             {stream: {account: C, subject: s}, allow_trace: true}]}
           C {exports: [{stream: s}]}
         }",
    );
    let rules = compile(&config, None).unwrap();
    let names: Vec<&str> = rules.iter().map(|rules| &*rules.name).collect();
    assert_eq!(names, ["$G", "A", "B", "C"]);
    let b = &rules[2];
    assert_eq!(b.limits.max_connections, Some(7));
    let mut out = Vec::new();
    let mut random = Random::new(1);
    assert_eq!(b.mappings.map(b"x", &mut random, &mut out), Mapped::Changed);
    assert_eq!(out, b"s.y");
    assert_eq!(
        rules[0].mappings.map(b"a", &mut random, &mut out),
        Mapped::Changed
    );
    let [s, t] = b.imports.all_services() else {
        unreachable!()
    };
    assert_eq!((s.exporter(), s.share()), (1, imports::Share::Everything));
    assert_eq!(s.response(), exports::ResponseType::Stream);
    assert_eq!(s.threshold(), Duration::from_secs(3));
    assert!(s.latency().is_none() && s.allows_trace());
    assert_eq!(
        (t.local(), t.share()),
        (b"u.v" as &[u8], imports::Share::Little)
    );
    assert_eq!(t.latency().unwrap().subject, "lat");
    let [stream] = b.imports.all_streams() else {
        unreachable!()
    };
    assert!(stream.allow_trace && stream.exporter() == 3);
    assert!(rules[1].imports.is_empty() && rules[0].exports.is_empty());
    assert!(rules[1].imports.has_no_services() && !b.imports.has_no_services());
}

#[test]
fn what_was_not_loaded_may_be_wrong() {
    let mut loaded = config("accounts {A {}}\nmappings {a: b}");
    loaded.mappings[0].source = "a..b".into();
    let e = compile(&loaded, None).unwrap_err();
    assert_eq!(e.to_string(), "Subject \"a..b\" is not a valid subject");
    let mut loaded = config(
        "accounts {A {exports: [{service: a}]}\nB {imports: [{service: {account: A, subject: a}}]}}",
    );
    loaded.accounts[0].exports.clear();
    let e = compile(&loaded, None).unwrap_err();
    let wanted = "Error adding service import \"a\": service import not authorized";
    assert_eq!(e.to_string(), wanted);
}

/// The names of an import as the model has them: the exported pattern; for each token of the local one
/// text, or which wildcard of the exported pattern it is. Both end in `>` or neither does.
#[derive(Clone, Debug)]
struct Model {
    exported: Vec<String>,
    local: Vec<Result<usize, String>>,
}

impl Model {
    fn to(&self) -> String {
        let shown = self.local.iter().map(|token| match token {
            Ok(number) => format!("${}", number + 1),
            Err(text) => text.clone(),
        });
        shown.collect::<Vec<_>>().join(".")
    }

    /// The local name of a subject of the account that exports.
    fn local(&self, subject: &str) -> Option<String> {
        if !subject::matches(self.exported.join(".").as_bytes(), subject.as_bytes()) {
            return None;
        }
        let tokens: Vec<&str> = subject.split('.').collect();
        let at = |wanted: usize| {
            let stars = self.exported.iter().enumerate().filter(|(_, t)| *t == "*");
            stars.map(|(at, _)| tokens[at]).nth(wanted).unwrap()
        };
        let open = tokens[self.exported.len() - 1..].join(".");
        let shown = self.local.iter().map(|token| match token {
            Ok(number) => at(*number).to_string(),
            Err(text) if text == ">" => open.clone(),
            Err(text) => text.clone(),
        });
        Some(shown.collect::<Vec<_>>().join("."))
    }
}

fn model() -> impl Strategy<Value = Model> {
    let token = prop_oneof![Just("a"), Just("b"), Just("*"), Just("*")];
    let exported = prop::collection::vec(token.prop_map(str::to_string), 1..4);
    (
        exported,
        prop::collection::vec("[ab]", 0..3),
        any::<bool>(),
        any::<u64>(),
    )
        .prop_map(|(mut exported, texts, open, order)| {
            let stars = exported.iter().filter(|token| *token == "*").count();
            let mut local: Vec<_> = (0..stars)
                .map(Ok)
                .chain(texts.into_iter().map(Err))
                .collect();
            if local.is_empty() {
                local.push(Err("c".into()));
            }
            let mut random = Random::new(order);
            for at in (1..local.len()).rev() {
                local.swap(at, random.below(at as u64 + 1) as usize);
            }
            if open {
                exported.push(">".into());
                local.push(Err(">".into()));
            }
            Model { exported, local }
        })
}

fn pattern() -> impl Strategy<Value = String> {
    let token = prop_oneof![Just("a"), Just("b"), Just("*"), Just("c")];
    (prop::collection::vec(token, 1..5), any::<bool>()).prop_map(|(tokens, open)| {
        let mut text = tokens.join(".");
        if open {
            text.push_str(".>");
        }
        text
    })
}

proptest! {
    /// A subscription gets exactly what is exported to it and whose local name it matches.
    #[test]
    fn streams_agree_with_the_model(
        model in model(),
        wanted in pattern(),
        subjects in prop::collection::vec("[abc](\\.[abc]){0,4}", 1..12),
    ) {
        let (exported, to) = (model.exported.join("."), model.to());
        let rules = rules(&format!("{{stream: {{account: A, subject: \"{exported}\"}}, to: \"{to}\"}}"));
        for subject in &subjects {
            let local = model.local(subject);
            let expected = local.filter(|local| subject::matches(wanted.as_bytes(), local.as_bytes()));
            let got = delivered(&rules, &wanted, subject);
            prop_assert_eq!(got, Vec::from_iter(expected), "{} as {}: {} to {}", exported, to, subject, wanted);
        }
    }

    /// A request goes to the subject whose local name its own is.
    #[test]
    fn services_agree_with_the_model(
        model in model(),
        subjects in prop::collection::vec("[abc](\\.[abc]){0,4}", 1..12),
    ) {
        let (exported, to) = (model.exported.join("."), model.to());
        let rules = rules(&format!("{{service: {{account: A, subject: \"{exported}\"}}, to: \"{to}\"}}"));
        for subject in &subjects {
            if let Some(local) = model.local(subject) {
                prop_assert_eq!(requested(&rules, &local), [(A, subject.clone())], "{} as {}", exported, to);
            }
            for (_, goes) in requested(&rules, subject) {
                prop_assert_eq!(model.local(&goes), Some(subject.clone()), "{} as {}", exported, to);
            }
        }
    }
}
