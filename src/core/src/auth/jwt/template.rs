//! Permissions of a scope: what stands in `{{...}}` becomes what the user and its account are called.
//!
//! | in an entry | becomes |
//! |---|---|
//! | `{{name()}}`, `{{subject()}}` | the user's name, its key |
//! | `{{account-name()}}`, `{{account-subject()}}` | the account's |
//! | `{{tag(k)}}`, `{{account-tag(k)}}` | the value of each tag `k:value`, one entry for each |
//!
//! The functions are found in any case, tags as they are written, with `k` in lower case. An entry of an
//! allow list that cannot be filled in is left out; in a deny list it makes the user one that cannot be let
//! in.

use super::claims::Grant;
use crate::account::transform::is_pattern;

/// What is filled in.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) name: &'a str,
    pub(super) subject: &'a str,
    pub(super) tags: &'a [String],
    pub(super) account_name: &'a str,
    pub(super) account: &'a str,
    pub(super) account_tags: &'a [String],
}

/// Why permissions cannot be made of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TemplateError {
    /// A function that is none.
    Unknown,
    /// A deny entry without a value, or one that is no subject with it.
    Deny,
    /// More than [`MAX_ENTRIES`], or more than [`MAX_BYTES`] of them.
    TooMany,
}

/// Entries that a list may grow to by tags.
const MAX_ENTRIES: usize = 4096;

/// Bytes of them.
const MAX_BYTES: usize = 1024 * 1024;

/// The permissions that a template gives a user; all else stays as it is in the template.
pub(super) fn fill_in(template: &Grant, names: Names<'_>) -> Result<Grant, TemplateError> {
    let mut out = template.clone();
    for rules in [&mut out.subscribe, &mut out.publish] {
        let restricted = !rules.allow.is_empty();
        rules.allow = entries(&rules.allow, names, Missing::LeftOut)?;
        rules.deny = entries(&rules.deny, names, Missing::Refused)?;
        // An empty allow list would be everything.
        if restricted && rules.allow.is_empty() {
            rules.deny.push(">".into());
        }
    }
    Ok(out)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    LeftOut,
    Refused,
}

fn entries(
    list: &[String],
    names: Names<'_>,
    missing: Missing,
) -> Result<Vec<String>, TemplateError> {
    let mut out = Vec::new();
    let mut bytes = 0;
    for entry in list {
        let pieces = pieces(entry);
        let mut called: Vec<(&str, Vec<&str>)> = Vec::new();
        for piece in &pieces {
            if let Piece::Call(call) = piece
                && called.iter().all(|(other, _)| other != call)
            {
                called.push((call, values(call, names).ok_or(TemplateError::Unknown)?));
            }
        }
        if called.is_empty() {
            out.push(entry.clone());
            continue;
        }
        let counts = called.iter().map(|(_, values)| values.len());
        let count = counts.fold(1usize, usize::saturating_mul);
        if count == 0 && missing == Missing::Refused {
            return Err(TemplateError::Deny);
        }
        if out.len().saturating_add(count) > MAX_ENTRIES {
            return Err(TemplateError::TooMany);
        }
        for number in 0..count {
            let filled = fill(&pieces, &called, number);
            bytes += filled.len();
            if bytes > MAX_BYTES {
                return Err(TemplateError::TooMany);
            }
            if is_pattern(&filled) {
                out.push(filled);
            } else if missing == Missing::Refused {
                return Err(TemplateError::Deny);
            }
        }
    }
    Ok(out)
}

/// The `number`-th way to choose a value for each call.
fn fill(pieces: &[Piece<'_>], called: &[(&str, Vec<&str>)], number: usize) -> String {
    let mut out = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Call(call) => {
                let mut rest = number;
                for (name, values) in called {
                    let many = values.len().max(1);
                    if name == call {
                        out.push_str(values.get(rest % many).copied().unwrap_or_default());
                        break;
                    }
                    rest /= many;
                }
            }
        }
    }
    out
}

#[derive(Clone, Copy)]
enum Piece<'a> {
    Text(&'a str),
    /// What stands between the braces.
    Call(&'a str),
}

/// Braces that are not closed are text.
fn pieces(entry: &str) -> Vec<Piece<'_>> {
    let mut out = Vec::new();
    let mut rest = entry;
    while let Some((before, after)) = rest.split_once("{{")
        && let Some((call, after)) = after.split_once("}}")
    {
        out.extend([Piece::Text(before), Piece::Call(call)]);
        rest = after;
    }
    out.push(Piece::Text(rest));
    out
}

/// `None`: there is no such function.
fn values<'a>(call: &str, names: Names<'a>) -> Option<Vec<&'a str>> {
    let call = call.trim().to_ascii_lowercase();
    let one = |value| Some(vec![value]);
    match call.as_str() {
        "name()" => return one(names.name),
        "subject()" => return one(names.subject),
        "account-name()" => return one(names.account_name),
        "account-subject()" => return one(names.account),
        _ => {}
    }
    let argument = |name: &str| call.strip_prefix(name)?.strip_suffix(')');
    let (tags, tag) = if let Some(tag) = argument("tag(") {
        (names.tags, tag)
    } else {
        (names.account_tags, argument("account-tag(")?)
    };
    let value = |text: &'a String| text.strip_prefix(tag)?.strip_prefix(':');
    Some(tags.iter().filter_map(value).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::super::claims::Rules;
    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    fn filled(
        allow: &[&str],
        deny: &[&str],
        name: &str,
        tags: &[&str],
    ) -> Result<Rules, TemplateError> {
        let (tags, account_tags) = (texts(tags), texts(&["reg:EU", "Reg:us"]));
        let names = Names {
            name,
            subject: "UX",
            tags: &tags,
            account_name: "acc",
            account: "AX",
            account_tags: &account_tags,
        };
        let rules = Rules {
            allow: texts(allow),
            deny: texts(deny),
        };
        let template = Grant {
            publish: rules.clone(),
            subscribe: rules,
            subs: 3,
            ..Grant::default()
        };
        let out = fill_in(&template, names)?;
        assert_eq!((out.publish.clone(), out.subs), (out.subscribe, 3));
        Ok(out.publish)
    }

    /// What nats-server 2.15.1 says in `$SYS.REQ.USER.INFO`.
    #[test]
    fn allow_lists() {
        let tags: &[&str] = &["dept:Eng", "Dept:ops", "lvl:1", "lvl:2", "a:b:c"];
        for (entry, name, wanted) in [
            ("plain.*", "bob", &["plain.*"][..]),
            ("s q", "bob", &["s q"]),
            ("{{name()}}.{{tag(dept)}}.x", "bob", &["bob.Eng.x"]),
            ("{{name()}}.{{tag(dept)}}.x", "b.b", &["b.b.Eng.x"]),
            ("{{name()}}.{{tag(dept)}}.x", "*", &["*.Eng.x"]),
            ("pre{{subject()}}", "bob", &["preUX"]),
            (
                "{{account-name()}}.{{ Account-Subject() }}",
                "bob",
                &["acc.AX"],
            ),
            ("t.{{account-tag(reg)}}", "bob", &["t.EU"]),
            (
                "q.{{tag(dept)}}.{{tag(lvl)}}",
                "bob",
                &["q.Eng.1", "q.Eng.2"],
            ),
            ("{{tag(lvl)}}.{{tag(lvl)}}", "bob", &["1.1", "2.2"]),
            ("{{tag(DEPT)}}", "bob", &["Eng"]),
            ("{{tag(a:b)}}", "bob", &["c"]),
            ("d.{{name()", "bob", &["d.{{name()"]),
            // Nothing to fill in, or nothing that fits.
            ("m.{{tag(none)}}", "bob", &[]),
            ("m.{{tag( dept )}}", "bob", &[]),
            ("{{name()}}.x", "b b", &[]),
            ("{{name()}}.x", "", &[]),
            ("{{name()}}.x", ">", &[]),
            ("s.{{name()}} q{{name()}}", "bob", &[]),
        ] {
            let rules = filled(&[entry, "and"], &[], name, tags).unwrap();
            let all = [wanted, &["and"]].concat();
            assert_eq!(rules.allow, texts(&all), "{entry}");
            assert!(rules.deny.is_empty());
            if wanted.is_empty() {
                let alone = filled(&[entry], &["d"], name, tags).unwrap();
                assert_eq!((alone.allow, alone.deny), (vec![], texts(&["d", ">"])));
            }
        }
        assert_eq!(filled(&[], &[], "bob", &[]), Ok(Rules::default()));
    }

    #[test]
    fn deny_lists_are_filled_in_whole_or_not_at_all() {
        let rules = filled(&[], &["d.{{tag(dept)}}"], "bob", &["dept:e", "dept:f"]).unwrap();
        assert_eq!(rules.deny, texts(&["d.e", "d.f"]));
        for (entry, name) in [("d.{{tag(none)}}", "bob"), ("d.{{name()}}", "x x")] {
            assert_eq!(filled(&[], &[entry], name, &[]), Err(TemplateError::Deny));
        }
    }

    #[test]
    fn what_is_no_function_lets_nobody_in() {
        for entry in [
            "d.{{foo()}}",
            "d.{{tag(x}}",
            "{{}}",
            "{{ name( ) }}",
            "{{name}}",
        ] {
            assert_eq!(
                filled(&[entry], &[], "bob", &[]),
                Err(TemplateError::Unknown)
            );
        }
    }

    #[test]
    fn what_tags_multiply_to_is_bounded() {
        let tags: Vec<String> = (0..64)
            .flat_map(|n| [format!("n:{n}"), format!("m:{n}")])
            .collect();
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        let square = "{{tag(n)}}.{{tag(m)}}";
        assert_eq!(
            filled(&[square], &[], "b", &tags).unwrap().allow.len(),
            4096
        );
        assert_eq!(
            filled(&[square, "{{name()}}"], &[], "b", &tags),
            Err(TemplateError::TooMany)
        );
        let long = format!("n:{}", "x".repeat(1000));
        let many: Vec<&str> = [long.as_str()].repeat(2000);
        assert_eq!(
            filled(&["{{tag(n)}}"], &[], "b", &many),
            Err(TemplateError::TooMany)
        );
    }

    proptest! {
        #[test]
        fn anything_is_filled_in_or_refused(
            entry in "(\\{\\{|\\}\\}|name\\(\\)|tag\\(a\\)|[a. *>]){0,8}",
            name in "[a.*> {}]{0,4}",
            tags in prop::collection::vec("(a:)?[a.{}]{0,3}", 0..4),
        ) {
            let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
            if let Ok(rules) = filled(&[&entry], &[], &name, &tags) {
                // Never everything for somebody who was given something.
                prop_assert!(!rules.allow.is_empty() || rules.deny.contains(&">".to_owned()));
            }
            let _ = filled(&[], &[&entry], &name, &tags);
        }
    }
}
