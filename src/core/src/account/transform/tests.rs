//! Outcomes of nats-server 2.15.1, and a model that works on lists of tokens.

use super::*;
use crate::subject;
use proptest::prelude::*;

fn applied(source: &str, destination: &str, subject: &str) -> String {
    let transform = Transform::new(source, destination).unwrap();
    let mut out = b"kept ".to_vec();
    transform.apply(subject.as_bytes(), 1, &mut out);
    String::from_utf8_lossy(out.strip_prefix(b"kept ").unwrap()).into_owned()
}

/// What arrived where nats-server 2.15.1 had these mappings, with the source `s.*.*`.
#[test]
fn functions() {
    for (destination, rows) in [
        ("d.$2.$1", "a.b=d.b.a"),
        ("d.$0", "a.b=d.s"),
        ("d.$-1", "a.b=d.s"),
        ("d.$01", "a.b=d.a"),
        ("d.$+1", "a.b=d.a"),
        ("d.$", "a.b=d.$"),
        ("d.$x", "a.b=d.$x"),
        ("d.$1.5", "a.b=d.a.5"),
        ("d.$1.$1.$2", "a.b=d.a.a.b"),
        ("d.x$1", "a.b=d.x$1"),
        ("d.$1x", "a.b=d.$1x"),
        ("d.{{wildcard(0)}}", "a.b=d.s"),
        ("d.{{wildcard(-1)}}", "a.b=d.s"),
        ("d.{{ wildcard( 1 ) }}", "a.b=d.a"),
        ("d.{{wildcard (1)}}", "a.b=d.a"),
        ("d.x{{wildcard(1)}}y", "a.b=d.x{{wildcard(1)}}y"),
        ("d.x{{wildcard(1)}}", "a.b=d.x{{wildcard(1)}}"),
        ("d.{{wildcard(2)}}y", "a.b=d.{{wildcard(2)}}y"),
        ("d.{{wildcard(1)", "a.b=d.{{wildcard(1)"),
        ("d.{{}}", "a.b=d.{{}}"),
        ("d.a{{wildcard(1)}}.$2.k", "a.b=d.a{{wildcard(1)}}.b.k"),
        ("d.{{partition(0,1)}}", "a.b=d.0"),
        ("d.{{partition(-1,1)}}", "a.b=d.3826002220"),
        ("d.{{partition(10,1)}}", "a.b=d.0 c.d=d.8 e.f=d.4"),
        ("d.{{Partition( 10 , +1 )}}", "a.b=d.0 c.d=d.8 e.f=d.4"),
        ("d.{{partition(10,1,2)}}", "a.b=d.6 c.d=d.2 e.f=d.8"),
        ("d.{{partition(10,2,1)}}", "a.b=d.8 c.d=d.4 e.f=d.4"),
        ("d.{{partition(10,1,2,1)}}", "a.b=d.9 ab.d=d.1"),
        (
            "d.{{partition(2147483647,1)}}",
            "a.b=d.1678518573 zz.b=d.1466432373",
        ),
        ("d.{{random(0)}}", "a.b=d.0"),
        ("d.{{random(-1)}}", "a.b=d.0"),
        ("d.{{Random(1)}}", "a.b=d.0"),
        (
            "d.{{split(1,-)}}",
            "a-b.c=d.a.b -a-b-.c=d.a.b a.c=d.a a--b.c=d.a.b",
        ),
        ("d.{{Split(1, -)}}.z", "a-b.c=d.a.b.z"),
        (
            "d.{{split(1,)}}.z",
            "abc.c=d.a.b.c.z a.c=d.a.z é1.c=d.é.1.z",
        ),
        ("d.{{split(1, )}}.z", "abc.c=d.a.b.c.z"),
        ("d.{{split(1,.)}}.z", "abc.c=d.{{split(1,.)}}.z"),
        (
            "d.{{split(1,--)}}.z",
            "a--b.c=d.a.b.z a-b---c.c=d.a-b.-c.z a----b.d=d.a.b.z",
        ),
        ("d.{{split(1,*)}}.z", "a*b.c=d.a.b.z"),
        ("d.{{split(1,>)}}.z", "a>b.c=d.a.b.z"),
        ("d.{{split(0,-)}}.z", "a-b.c=d.s.z"),
        ("d.{{splitFromLeft(1,0)}}.z", "abcd.c=d.abcd.z"),
        ("d.{{splitFromLeft(1,-1)}}.z", "abcd.c=d.abcd.z"),
        (
            "d.{{splitFromLeft(1,1)}}.z",
            "abcd.c=d.a.bcd.z a.c=d.a.z ab.c=d.a.b.z",
        ),
        (
            "d.{{splitfromleft(1,4)}}.z",
            "abcd.c=d.abcd.z abcde.c=d.abcd.e.z",
        ),
        ("d.{{splitFromRight(1,0)}}.z", "abcd.c=d.abcd.z"),
        (
            "d.{{splitFromRight(1,1)}}.z",
            "abcd.c=d.abc.d.z a.c=d.a.z ab.c=d.a.b.z",
        ),
        (
            "d.{{SplitFromRight(1,4)}}.z",
            "abcd.c=d.abcd.z abcde.c=d.a.bcde.z",
        ),
        ("d.{{sliceFromLeft(1,0)}}.z", "abcd.c=d.abcd.z"),
        (
            "d.{{sliceFromLeft(1,2)}}.z",
            "abcd.c=d.ab.cd.z a.c=d.a.z ab.c=d.ab.z abc.c=d.ab.c.z abcde.c=d.ab.cd.e.z",
        ),
        ("d.{{sliceFromLeft(1,9)}}.z", "abcd.c=d.abcd.z"),
        ("d.{{sliceFromRight(1,-1)}}.z", "abcd.c=d.abcd.z"),
        (
            "d.{{slicefromright(1,2)}}.z",
            "abcd.c=d.ab.cd.z a.c=d.a.z ab.c=d.ab.z abc.c=d.a.bc.z abcde.c=d.a.bc.de.z",
        ),
        ("d.{{left(1,0)}}.z", "abcd.c=d.abcd.z"),
        (
            "d.{{Left(1, 02)}}.z",
            "abcd.c=d.ab.z a.c=d.a.z ab.c=d.ab.z éa.c=d.é.z",
        ),
        ("d.{{left(0,1)}}.z", "abcd.c=d.s.z"),
        ("d.{{right(1,-1)}}.z", "abcd.c=d.abcd.z"),
        ("d.{{right(1,2)}}.z", "abcd.c=d.cd.z a.c=d.a.z ab.c=d.ab.z"),
    ] {
        for row in rows.split(' ') {
            let (subject, wanted) = row.split_once('=').unwrap();
            let got = applied("s.*.*", destination, &format!("s.{subject}"));
            assert_eq!(got, wanted, "{destination} of {subject}");
        }
    }
}

/// The same with other sources; the last rows are the examples of the protocol's description.
#[test]
fn sources() {
    for (source, destination, subject, wanted) in [
        ("a", "b", "a", "b"),
        ("x", "y.{{partition(10,1,9)}}", "x", "y.5"),
        ("c", "d.{{partition(10,0)}}", "c", "d.8"),
        ("e", "f.{{partition(10)}}", "e", "f.4"),
        ("g.>", "h.{{partition(10,0)}}.>", "g.x", "h.2.x"),
        ("s15.*.*", "d.{{partition(10)}}", "s15.a.b", "d.9"),
        ("s15.*.*", "d.{{partition(10)}}", "s15.c.d", "d.1"),
        ("s20.>", "d.{{partition(7)}}.>", "s20.a.b", "d.5.a.b"),
        ("s20.>", "d.{{partition(7)}}.>", "s20.x", "d.4.x"),
        ("*.>", "d.$1.>", "a.b.c.d", "d.a.b.c.d"),
        ("s.*.>", ">", "s.a.b.c.d", "b.c.d"),
        ("s.*.>", "$1.$1.>", "s.a.b", "a.a.b"),
        ("a*.*", "d.$1", "a*.b", "d.b"),
        (">", "x.>", "a.b", "x.a.b"),
        (
            "p.*.*",
            "p.{{wildcard(1)}}.{{partition(3,2)}}",
            "p.a.b",
            "p.a.1",
        ),
        (
            "p.*.*",
            "p.{{wildcard(1)}}.{{partition(3,2)}}",
            "p.a.c",
            "p.a.2",
        ),
        ("pp.*", "pp.{{partition(5)}}", "pp.foo", "pp.2"),
        ("old.*.*", "old.$2.$1", "old.a.b", "old.b.a"),
        ("rest.>", "moved.>", "rest.a.b", "moved.a.b"),
    ] {
        assert_eq!(applied(source, destination, subject), wanted, "{source}");
    }
}

/// nats-server loses what begins with two separators or more; the description says that empty parts are
/// left out.
#[test]
fn separators_before_the_first_part_of_a_split_are_left_out() {
    assert_eq!(applied("s.*", "d.{{split(1,-)}}", "s.--a-b"), "d.a.b");
}

/// A part of a `split` that is nothing: the subject is none that anybody can wait for.
#[test]
fn nothing_left_of_a_split_reaches_nobody() {
    for destination in ["d.{{split(1,-)}}", "d.{{split(1,-)}}.z"] {
        let got = applied("s.*.*", destination, "s.---.c");
        assert!(!subject::matches(b">", got.as_bytes()), "{got}");
    }
}

#[test]
fn random_is_below_its_bound() {
    let transform = Transform::new("a", "{{random(4)}}").unwrap();
    let mut seen = [0; 4];
    for draw in 0..400 {
        let mut out = Vec::new();
        transform.apply(b"a", draw, &mut out);
        seen[usize::from(out[0] - b'0')] += 1;
    }
    assert!(seen.iter().all(|n| *n > 50), "{seen:?}");
}

/// Texts of nats-server 2.15.1, with the source `a.*.*` where none is named.
#[test]
fn texts() {
    let dest = |why: &str| format!("invalid mapping destination: {why}");
    let argument = "function argument is invalid or in the wrong format in";
    let many = "too many arguments passed to the function in";
    let few = "not enough arguments passed to the function in";
    let range = "wildcard index out of range in";
    for (source, destination, wanted) in [
        ("a", "b..c", dest("invalid transform")),
        ("a", "x y", dest("invalid transform")),
        ("a.>", "b.>.c", dest("invalid transform in c")),
        ("a", "b.*", "invalid subject".into()),
        ("a.*", "b.*", "invalid subject".into()),
        ("a.>", "b", "invalid subject".into()),
        ("a.*.>", "b.$1", "invalid subject".into()),
        (">", "b.$1", "invalid subject".into()),
        ("a.*", "b.>", "invalid subject".into()),
        ("a..b", "c", "invalid subject".into()),
        ("", "b.$3", dest(&format!("{range} $3: [3]"))),
        ("a.*.>", "b.$2.>", dest(&format!("{range} $2: [2]"))),
        (
            "a.>",
            "b.{{partition(3,1)}}.>",
            dest(&format!("{range} {{{{partition(3,1)}}}}: [1]")),
        ),
        ("a", "b.$1", dest(&format!("{range} $1"))),
        (
            "a",
            "b.{{wildcard(1)}}",
            dest(&format!("{range} {{{{wildcard(1)}}}}")),
        ),
        (
            "",
            "b.{{wildcard(3)}}",
            dest(&format!("{range} {{{{wildcard(3)}}}}: [3]")),
        ),
        (
            "",
            "b.$99999999999",
            dest(&format!("{range} $99999999999: [99999999999]")),
        ),
        (
            "",
            "b.{{split(9,-)}}",
            dest(&format!("{range} {{{{split(9,-)}}}}: [9]")),
        ),
        (
            "",
            "b.{{partition(3,4)}}",
            dest(&format!("{range} {{{{partition(3,4)}}}}: [4]")),
        ),
        (
            "",
            "b.{{wildcard()}}",
            dest(&format!("{few} {{{{wildcard()}}}}")),
        ),
        (
            "",
            "b.{{wildcard(x)}}",
            dest(&format!("{argument} {{{{wildcard(x)}}}}")),
        ),
        (
            "",
            "b.{{wildcard(1,2)}}",
            dest(&format!("{many} {{{{wildcard(1,2)}}}}")),
        ),
        (
            "",
            "b.{{wildcard(1)}}{{wildcard(2)}}",
            dest(&format!(
                "{argument} {{{{wildcard(1)}}}}{{{{wildcard(2)}}}}"
            )),
        ),
        (
            "",
            "b.{{wildcard 1}}",
            dest("unknown function in {{wildcard 1}}"),
        ),
        (
            "",
            "b.{{wildcard(1) x}}",
            dest("unknown function in {{wildcard(1) x}}"),
        ),
        (
            "",
            "b.{{WILDCARD(1)}}",
            dest("unknown function in {{WILDCARD(1)}}"),
        ),
        (
            "",
            "b.{{LEFT(1,1)}}",
            dest("unknown function in {{LEFT(1,1)}}"),
        ),
        ("", "*.{{foo()}}", dest("unknown function in {{foo()}}")),
        (
            "",
            "b.{{partition()}}",
            dest(&format!("{argument} {{{{partition()}}}}")),
        ),
        (
            "",
            "b.{{partition(3,)}}",
            dest(&format!("{argument} {{{{partition(3,)}}}}")),
        ),
        (
            "",
            "b.{{partition(2147483648,1)}}",
            dest(&format!("{argument} {{{{partition(2147483648,1)}}}}")),
        ),
        (
            "",
            "b.{{split(1)}}",
            dest(&format!("{few} {{{{split(1)}}}}")),
        ),
        (
            "",
            "b.{{split(1,-,x)}}",
            dest(&format!("{many} {{{{split(1,-,x)}}}}")),
        ),
        (
            "",
            "b.{{split(1,a b)}}",
            dest(&format!("{argument} {{{{split(1,a b)}}}}")),
        ),
        (
            "",
            "b.{{ split ( 1 , - ) }}",
            dest(&format!("{argument} {{{{ split ( 1 , - ) }}}}")),
        ),
        (
            "",
            "b.{{left(1,x)}}",
            dest(&format!("{argument} {{{{left(1,x)}}}}")),
        ),
        ("", "b.{{left()}}", dest(&format!("{few} {{{{left()}}}}"))),
        (
            "",
            "b.{{left(1,2,3)}}",
            dest(&format!("{many} {{{{left(1,2,3)}}}}")),
        ),
        (
            "",
            "b.{{random(1,2)}}",
            dest(&format!("{few} {{{{random(1,2)}}}}")),
        ),
        (
            "",
            "b.{{random(x)}}",
            dest(&format!("{argument} {{{{random(x)}}}}")),
        ),
    ] {
        let source = if source.is_empty() && !destination.is_empty() {
            "a.*.*"
        } else {
            source
        };
        let got = Transform::new(source, destination).unwrap_err();
        assert_eq!(got.to_string(), wanted, "{source} to {destination}");
    }
    let unused = "not using all of the token wildcard(s) in";
    for (destination, wanted) in [
        ("q.$2", format!("{unused} q.$2")),
        ("q", format!("{unused} q")),
        ("q.$1.$1", format!("{unused} q.$1.$1")),
        ("q.$1.$1.$2", format!("{unused} q.$1.$1.$2")),
        ("q.$3", format!("{range} $3: [3]")),
        ("q.{{partition(5,1)}}.$1.$2", "the only mapping function allowed for import transforms is {{Wildcard()}} in {{partition(5,1)}}".into()),
    ] {
        let got = Transform::reversible("a.*.*", destination).unwrap_err();
        assert_eq!(got.to_string(), dest(&wanted), "{destination}");
    }
    Transform::reversible("a.*.*", "q.$2.{{wildcard(1)}}").unwrap();
}

/// The functions on whole strings, word for word as they are described.
fn model(source: &str, destination: &str, subject: &str) -> String {
    let tokens: Vec<&str> = subject.split('.').collect();
    let stars: Vec<&str> = source
        .split('.')
        .zip(&tokens)
        .filter(|(t, _)| *t == "*")
        .map(|(_, token)| *token)
        .collect();
    let fold = |text: &str| {
        text.bytes().fold(2_166_136_261u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(16_777_619)
        })
    };
    let mut out: Vec<String> = Vec::new();
    for word in destination.split('.') {
        let args: Vec<String> = word.split(['(', ')', ',']).map(str::to_string).collect();
        let star = |at: usize| -> &str {
            let index: usize = args[at].parse().unwrap();
            stars[index - 1]
        };
        let size = || args[2].parse::<usize>().unwrap();
        match args[0].as_str() {
            ">" => {
                let from = source.split('.').count() - 1;
                out.extend(tokens[from..].iter().map(ToString::to_string));
            }
            "{{wildcard" => out.push(star(1).into()),
            "{{partition" => {
                let list: String = (2..args.len() - 1).map(star).collect();
                let hashed = if args.len() == 3 { subject } else { &list };
                let buckets: u32 = args[1].parse().unwrap();
                out.push((fold(hashed) % buckets).to_string());
            }
            "{{split" => {
                let parts = star(1).split(args[2].as_str());
                out.extend(parts.filter(|p| !p.is_empty()).map(str::to_string));
            }
            "{{splitFromLeft" | "{{splitFromRight" if (1..star(1).len()).contains(&size()) => {
                let left = args[0].ends_with("Left");
                let at = if left { size() } else { star(1).len() - size() };
                out.push(star(1)[..at].into());
                out.push(star(1)[at..].into());
            }
            "{{left" if (1..star(1).len()).contains(&size()) => out.push(star(1)[..size()].into()),
            "{{right" if (1..star(1).len()).contains(&size()) => {
                out.push(star(1)[star(1).len() - size()..].into());
            }
            "{{sliceFromLeft" | "{{sliceFromRight" if (1..star(1).len()).contains(&size()) => {
                let mut rest = star(1);
                let mut parts = Vec::new();
                while rest.len() > size() {
                    let left = args[0].ends_with("Left");
                    let (head, tail) =
                        rest.split_at(if left { size() } else { rest.len() - size() });
                    let (part, next) = if left { (head, tail) } else { (tail, head) };
                    parts.push(part.to_string());
                    rest = next;
                }
                parts.push(rest.into());
                if args[0].ends_with("Right") {
                    parts.reverse();
                }
                out.extend(parts);
            }
            text if text.starts_with("{{") => out.push(star(1).into()),
            text => match text.strip_prefix('$') {
                Some(index) => out.push(stars[index.parse::<usize>().unwrap() - 1].into()),
                None => out.push(text.into()),
            },
        }
    }
    out.join(".")
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c]{1,3}",
        "\\$[12]",
        "\\{\\{wildcard\\([12]\\)\\}\\}",
        "\\{\\{partition\\([1-9][0-9]?(,[12]){0,3}\\)\\}\\}",
        "\\{\\{split\\([12],[ab-]{1,2}\\)\\}\\}",
        "\\{\\{(split|slice)From(Left|Right)\\([12],[0-5]\\)\\}\\}",
        "\\{\\{(left|right)\\([12],[0-5]\\)\\}\\}",
    ]
}

proptest! {
    #[test]
    fn agrees_with_the_model(
        words in prop::collection::vec(word(), 1..6),
        before in prop::collection::vec("[a-c]{1,3}", 0..30),
        stars in ["[x-z]{1,7}", "[x-z]{1,3}"],
        rest in prop::option::of("[a-c](\\.[a-c]){0,3}"),
    ) {
        let mut source = before.clone();
        source.extend(["*".into(), "m".into(), "*".into()]);
        let mut subject = before;
        subject.extend([stars[0].clone(), "m".into(), stars[1].clone()]);
        let mut words = words;
        if let Some(rest) = rest {
            source.push(">".into());
            subject.push(rest);
            words.push(">".into());
        }
        let (source, subject, destination) = (source.join("."), subject.join("."), words.join("."));
        prop_assert_eq!(
            applied(&source, &destination, &subject),
            model(&source, &destination, &subject),
            "{} to {} of {}", source, destination, subject
        );
    }

    #[test]
    fn arbitrary_destinations_never_panic(
        source in "[a*>.]{0,6}",
        destination in "([$*>a]|\\{\\{|\\}\\}|[(),. ]|-?[0-9]{1,3}|partition|split|left|random|wildcard){0,9}",
        subject in "[a*>.]{0,9}",
    ) {
        if let Ok(transform) = Transform::new(&source, &destination) {
            transform.apply(subject.as_bytes(), 7, &mut Vec::new());
        }
        let _ = Transform::reversible(&source, &destination);
    }
}
