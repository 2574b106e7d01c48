//! The `mappings` of an account: what becomes of a subject that is published.
//!
//! The first source in file order that matches decides. Its destinations are those for the cluster
//! this server is in if there are any, else those without a cluster; one is drawn by weight. What is
//! left of 100 stays on the subject, unless the source is itself among its destinations: then what is
//! left is dropped (leaf and client protocol, subject mappings).

use std::fmt;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::transform::{Transform, TransformError, is_pattern};
use crate::config::model::{Destination, Mapping};
use crate::config::quote;
use crate::random::Random;
use crate::subject;

/// The mappings of one account, compiled. Immutable.
#[derive(Clone, Debug, Default)]
pub struct Mappings {
    /// In file order.
    rules: Box<[Rule]>,
    literals: HashMap<Box<[u8]>, u32, RandomState>,
    /// Patterns with their rules, in file order.
    wildcards: Box<[(Box<[u8]>, u32)]>,
}

/// What happens to one source.
#[derive(Clone, Debug)]
struct Rule {
    /// With the upper bounds of their draws, which are below 100.
    choices: Box<[(u8, Target)]>,
    /// What happens to draws above all bounds.
    rest: Rest,
}

#[derive(Clone, Debug)]
enum Target {
    /// The source itself.
    Same,
    Other(Transform),
}

#[derive(Clone, Copy, Debug)]
enum Rest {
    Stays,
    Lost,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// Its subject is what it was; nothing was written.
    Same,
    /// Its subject is what was appended to the buffer.
    Changed,
    /// It goes nowhere; nothing was written.
    Dropped,
}

impl Mappings {
    /// Compiles the mappings of an account for a server in `cluster`.
    pub fn compile(mappings: &[Mapping], cluster: Option<&str>) -> Result<Mappings, MappingError> {
        let mut out = Mappings::default();
        let mut rules = Vec::new();
        let mut wildcards = Vec::new();
        for mapping in mappings {
            let source: Box<[u8]> = mapping.source.as_bytes().into();
            let at = rules.len() as u32;
            rules.push(Rule::compile(mapping, cluster)?);
            if subject::has_wildcard(&source) {
                wildcards.push((source, at));
            } else {
                out.literals.entry(source).or_insert(at);
            }
        }
        out.rules = rules.into();
        out.wildcards = wildcards.into();
        Ok(out)
    }

    /// Whether there are none: subjects stay what they are.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Maps the subject of a message that was published. A new subject is appended to `out`.
    #[inline]
    pub fn map(&self, subject: &[u8], random: &mut Random, out: &mut Vec<u8>) -> Mapped {
        if self.rules.is_empty() {
            return Mapped::Same;
        }
        match self.rule(subject) {
            Some(rule) => rule.draw(subject, random, out),
            None => Mapped::Same,
        }
    }

    fn rule(&self, subject: &[u8]) -> Option<&Rule> {
        let literal = self.literals.get(subject).copied();
        let earlier = |at: u32| literal.is_none_or(|literal| at < literal);
        let before = self.wildcards.iter().take_while(|(_, at)| earlier(*at));
        let wildcard = before
            .filter(|(pattern, _)| subject::matches(pattern, subject))
            .map(|(_, at)| *at)
            .next();
        self.rules.get(wildcard.or(literal)? as usize)
    }
}

impl Rule {
    fn compile(mapping: &Mapping, cluster: Option<&str>) -> Result<Rule, MappingError> {
        if !is_pattern(&mapping.source) {
            return Err(MappingError::Source(mapping.source.clone()));
        }
        let mut all: Vec<(&Destination, Target)> = Vec::new();
        for destination in &mapping.destinations {
            let subject = &destination.subject;
            if all.iter().any(|(other, _)| other.subject == *subject) {
                return Err(MappingError::Duplicate(subject.clone()));
            }
            let set = all.iter().map(|(other, _)| *other);
            let set = set.filter(|other| other.cluster == destination.cluster);
            let weight: u32 = set.map(|other| u32::from(other.weight)).sum();
            if weight + u32::from(destination.weight) > 100 {
                return Err(MappingError::Weight);
            }
            if subject.is_empty() {
                return Err(MappingError::Empty);
            }
            let target = match Transform::new(&mapping.source, subject) {
                // A source with wildcards is no destination.
                Ok(_) if *subject == mapping.source => Target::Same,
                Ok(transform) => Target::Other(transform),
                Err(e) => return Err(MappingError::Transform(e)),
            };
            all.push((destination, target));
        }
        let lost = all.iter().any(|(d, _)| d.subject == mapping.source);
        let here = |d: &Destination| d.cluster.is_some() && d.cluster.as_deref() == cluster;
        let chosen = |d: &Destination, special: bool| {
            if special {
                here(d)
            } else {
                d.cluster.is_none()
            }
        };
        let special = all.iter().any(|(d, _)| here(d));
        let mut bound = 0u8;
        let mut choices = Vec::new();
        for (destination, target) in all {
            if chosen(destination, special) && destination.weight > 0 {
                bound = bound.saturating_add(destination.weight);
                choices.push((bound, target));
            }
        }
        Ok(Rule {
            choices: choices.into(),
            rest: if lost { Rest::Lost } else { Rest::Stays },
        })
    }

    fn draw(&self, subject: &[u8], random: &mut Random, out: &mut Vec<u8>) -> Mapped {
        let draw = match self.choices.first() {
            Some((100, _)) => 0,
            _ => random.below(100),
        };
        let target = self
            .choices
            .iter()
            .find(|(bound, _)| draw < u64::from(*bound));
        match (target, self.rest) {
            (Some((_, Target::Same)), _) | (None, Rest::Stays) => Mapped::Same,
            (Some((_, Target::Other(transform))), _) => {
                transform.apply(subject, random.draw(), out);
                Mapped::Changed
            }
            (None, Rest::Lost) => Mapped::Dropped,
        }
    }
}

/// Why a mapping cannot be used. `Display` is nats-server's text where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MappingError {
    /// The source is no valid pattern.
    Source(String),
    /// A destination is given twice.
    Duplicate(String),
    /// The weights of a set are more than 100.
    Weight,
    /// A destination is empty (nats-server takes it, and dies of the first message).
    Empty,
    /// A destination cannot be reached from the source.
    Transform(TransformError),
}

impl fmt::Display for MappingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MappingError::Source(source) => {
                write!(f, "Subject {} is not a valid subject", quote(source))
            }
            MappingError::Duplicate(subject) => write!(f, "duplicate entry for {}", quote(subject)),
            MappingError::Weight => f.write_str("total weight needs to be <= 100"),
            MappingError::Empty => f.write_str("the destination is empty"),
            MappingError::Transform(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for MappingError {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn to(subject: &str, weight: u8, cluster: &str) -> Destination {
        Destination {
            subject: subject.into(),
            weight,
            cluster: Some(cluster.to_string()).filter(|name| !name.is_empty()),
        }
    }

    fn mapping(source: &str, destinations: &[Destination]) -> Mapping {
        Mapping {
            source: source.into(),
            destinations: destinations.to_vec(),
        }
    }

    /// How often each subject came out of 1000 messages; `-` is a drop.
    fn counts(mappings: &[Mapping], cluster: &str, subject: &str) -> Vec<(String, u32)> {
        let cluster = Some(cluster).filter(|name| !name.is_empty());
        let compiled = Mappings::compile(mappings, cluster).unwrap();
        let mut random = Random::new(5);
        let mut seen = std::collections::BTreeMap::new();
        for _ in 0..1000 {
            let mut out = b"kept ".to_vec();
            let name = match compiled.map(subject.as_bytes(), &mut random, &mut out) {
                Mapped::Same => subject.to_string(),
                Mapped::Changed => String::from_utf8(out.split_off(5)).unwrap(),
                Mapped::Dropped => "-".into(),
            };
            assert_eq!(out, b"kept ");
            *seen.entry(name).or_insert(0) += 1;
        }
        seen.into_iter().collect()
    }

    fn mapped(mappings: &[Mapping], cluster: &str, subject: &str) -> String {
        match counts(mappings, cluster, subject).as_slice() {
            [(only, 1000)] => only.clone(),
            other => format!("{other:?}"),
        }
    }

    /// What nats-server 2.15.1 made of 400 messages each.
    #[test]
    fn weights() {
        let shares = |destinations: &[Destination], cluster: &str| {
            let counts = counts(&[mapping("k", destinations)], cluster, "k");
            let rounded = counts
                .into_iter()
                .map(|(name, n)| (name, (n + 50) / 100 * 10));
            let shown: Vec<String> = rounded.map(|(name, n)| format!("{name} {n}")).collect();
            shown.join(" ")
        };
        assert_eq!(shares(&[], ""), "k 100");
        assert_eq!(shares(&[to("a", 30, "")], ""), "a 30 k 70");
        assert_eq!(shares(&[to("k", 30, "")], ""), "- 70 k 30");
        assert_eq!(
            shares(&[to("k", 30, ""), to("b", 30, "")], ""),
            "- 40 b 30 k 30"
        );
        assert_eq!(shares(&[to("k", 0, "")], ""), "- 100");
        assert_eq!(shares(&[to("b", 0, "")], ""), "k 100");
        assert_eq!(shares(&[to("b", 50, ""), to("c", 50, "")], ""), "b 50 c 50");
        let k1 = [to("a", 100, "X")];
        assert_eq!(
            (shares(&k1, ""), shares(&k1, "X")),
            ("k 100".into(), "a 100".into())
        );
        assert_eq!(shares(&k1, "Y"), "k 100");
        let k2 = [to("a", 100, "X"), to("b", 100, "")];
        assert_eq!(
            (shares(&k2, ""), shares(&k2, "X")),
            ("b 100".into(), "a 100".into())
        );
        let k3 = [to("a", 50, "X"), to("b", 100, "")];
        assert_eq!(
            (shares(&k3, "Y"), shares(&k3, "X")),
            ("b 100".into(), "a 50 k 50".into())
        );
        // The source is a destination, if only of another set: what is left is lost.
        let k4 = [to("a", 50, "X"), to("k", 10, "")];
        assert_eq!(
            (shares(&k4, ""), shares(&k4, "X")),
            ("- 90 k 10".into(), "- 50 a 50".into())
        );
        let k5 = [to("k", 50, "X"), to("a", 10, "")];
        assert_eq!(
            (shares(&k5, ""), shares(&k5, "X")),
            ("- 90 a 10".into(), "- 50 k 50".into())
        );
    }

    #[test]
    fn the_first_source_that_matches_decides_once() {
        let list = [
            mapping("a.b", &[to("one", 100, "")]),
            mapping("a.*", &[to("two.$1", 100, "")]),
            mapping("a.c", &[to("three", 100, "")]),
            mapping("one", &[to("four", 100, "")]),
        ];
        for (subject, wanted) in [
            ("a.b", "one"),
            ("a.c", "two.c"),
            ("one", "four"),
            ("a", "a"),
            ("a.b.c", "a.b.c"),
        ] {
            assert_eq!(mapped(&list, "", subject), wanted, "{subject}");
        }
        assert!(Mappings::default().is_empty());
        assert_eq!(mapped(&[], "", "a"), "a");
    }

    #[test]
    fn errors() {
        let error = |source: &str, destinations: &[Destination]| {
            Mappings::compile(&[mapping(source, destinations)], None)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            error("a..b", &[]),
            "Subject \"a..b\" is not a valid subject"
        );
        assert_eq!(error("a b", &[]), "Subject \"a b\" is not a valid subject");
        assert_eq!(
            error("a", &[to("b", 10, ""), to("b", 10, "X")]),
            "duplicate entry for \"b\""
        );
        assert_eq!(
            error("a", &[to("b", 50, ""), to("c", 60, "")]),
            "total weight needs to be <= 100"
        );
        assert_eq!(error("a", &[to("", 50, "")]), "the destination is empty");
        assert_eq!(error("a.*", &[to("a.*", 50, "")]), "invalid subject");
        Mappings::compile(&[mapping("a", &[to("b", 50, ""), to("c", 60, "X")])], None).unwrap();
    }

    proptest! {
        /// Hashing literals changes nothing: the first source in order that matches.
        #[test]
        fn order_is_that_of_the_file(
            sources in prop::collection::vec("[ab*](\\.[ab*]){0,2}(\\.>)?", 0..8),
            subject in "[ab](\\.[ab]){0,3}",
        ) {
            let open = |source: &str| source.ends_with('>');
            let list: Vec<Mapping> = sources.iter().enumerate().map(|(i, source)| {
                let end = if open(source) { ".>" } else { "" };
                mapping(source, &[to(&format!("n{i}{end}"), 100, "")])
            }).collect();
            let first = sources.iter().position(|s| subject::matches(s.as_bytes(), subject.as_bytes()));
            let got = mapped(&list, "", &subject);
            let name = got.split('.').next().unwrap_or_default();
            match first {
                Some(i) => prop_assert_eq!(name, format!("n{i}")),
                None => prop_assert_eq!(got, subject),
            }
        }
    }
}
