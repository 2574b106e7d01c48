//! What a load reports.

use super::value::Position;

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where; `None` if the text says it itself or there is no place.
    pub position: Option<Position>,
    /// What.
    pub text: String,
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.position {
            Some(position) => write!(f, "{position}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// A configuration that cannot be used. `Display` is what nats-server prints after its name:
/// warnings first; each of the collected lines ends in a line feed, a lexer's message does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// Problems that alone would not stop a start.
    pub warnings: Vec<Diagnostic>,
    /// At least one.
    pub errors: Vec<Diagnostic>,
}

impl std::fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.warnings.as_slice(), self.errors.as_slice()) {
            ([], [only]) if only.position.is_none() => write!(f, "{only}"),
            (warnings, errors) => warnings
                .iter()
                .chain(errors)
                .try_for_each(|line| writeln!(f, "{line}")),
        }
    }
}

impl std::error::Error for ConfigErrors {}
