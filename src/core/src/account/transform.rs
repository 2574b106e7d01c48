//! Subject transforms: a pattern and what becomes of a subject that it matches.
//!
//! Owns the language of destinations: `$n`, `{{wildcard(n)}}`, `{{partition(n, ...)}}` and the others.
//! Which transform is used when is [`mapping`](super::mapping) and [`imports`](super::imports).
//!
//! | token of the destination | becomes |
//! |---|---|
//! | `$i`, `{{wildcard(i)}}` | the i-th wildcard token |
//! | `{{partition(n, i, j, ...)}}` | FNV-1a (32 bits) of those tokens one behind the other, modulo n |
//! | `{{partition(n)}}` | the same of the whole subject |
//! | `{{random(n)}}` | 0 to n-1 |
//! | `{{split(i, text)}}` | the parts between `text`, empty ones left out, as tokens |
//! | `{{splitFromLeft(i, k)}}`, `{{splitFromRight(i, k)}}` | two tokens, the first or last of k bytes |
//! | `{{sliceFromLeft(i, k)}}`, `{{sliceFromRight(i, k)}}` | tokens of k bytes, the last or first may be shorter |
//! | `{{left(i, k)}}`, `{{right(i, k)}}` | the first or last k bytes |
//! | `>`, only at the end, as in the pattern | the tokens that `>` stands for |
//!
//! Lengths that do not cut the token leave it whole. As in nats-server an index of 0 or below is the
//! subject's first token, and a `partition` of a pattern without wildcards is always of the whole
//! subject. A function is a whole token: within other text it is text.

use std::fmt;

use crate::random::Random;
use crate::subject::{is_valid_pattern, tokens};

/// A compiled transform. Immutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transform {
    pieces: Box<[Piece]>,
    /// Whether a piece looks at the tokens of the subject.
    by_token: bool,
}

/// What a part of the destination becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// As it is, dots included.
    Text(Box<[u8]>),
    /// A token, from 0.
    Token(usize),
    /// This token and all after it.
    Rest(usize),
    /// No tokens: the whole subject.
    Partition {
        buckets: u32,
        of: Option<Box<[usize]>>,
    },
    Random(u64),
    Split {
        token: usize,
        by: Box<[u8]>,
    },
    Cut {
        token: usize,
        cut: Cut,
        size: usize,
    },
}

/// What is made of a token and a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    SplitLeft,
    SplitRight,
    SliceLeft,
    SliceRight,
    Left,
    Right,
}

impl Transform {
    /// Compiles a transform of what `source` matches.
    pub fn new(source: &str, destination: &str) -> Result<Transform, TransformError> {
        compile(source, destination, Functions::All)
    }

    /// Compiles one that can be undone, as imports need it: wildcards are its only functions, and each
    /// wildcard of the source is used once.
    pub fn reversible(source: &str, destination: &str) -> Result<Transform, TransformError> {
        compile(source, destination, Functions::Wildcards)
    }

    /// One to a subject that is always the same.
    pub(super) fn constant(subject: &str) -> Transform {
        let mut pieces = Pieces::default();
        pieces.text(subject);
        pieces.finish()
    }

    /// Appends to `out` what becomes of `subject`, which the source matches. `draw` is what
    /// `random` is drawn from.
    ///
    /// A `split` that leaves nothing gives an empty token: no subscription matches the outcome.
    pub fn apply(&self, subject: &[u8], draw: u64, out: &mut Vec<u8>) {
        let cut = Tokens::of(subject, self.by_token);
        let mut random = Random::new(draw);
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Token(at) => out.extend_from_slice(cut.token(*at)),
                Piece::Rest(at) => out.extend_from_slice(cut.rest(*at)),
                Piece::Partition { buckets, of: None } => {
                    number(fnv(FNV_START, subject).checked_rem(*buckets), out);
                }
                Piece::Partition {
                    buckets,
                    of: Some(list),
                } => {
                    let hash = list.iter().fold(FNV_START, |h, at| fnv(h, cut.token(*at)));
                    number(hash.checked_rem(*buckets), out);
                }
                Piece::Random(bound) => number(u32::try_from(random.below(*bound)).ok(), out),
                Piece::Split { token, by } => split(cut.token(*token), by, out),
                Piece::Cut {
                    token,
                    cut: how,
                    size,
                } => {
                    how.write(cut.token(*token), *size, out);
                }
            }
        }
    }
}

/// Why a transform cannot be compiled. `Display` is nats-server's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransformError {
    /// The source is no pattern, the destination has wildcards of its own, or only one of them ends
    /// in `>`.
    Subject,
    /// There is something wrong in the destination.
    Destination {
        /// What.
        problem: Problem,
        /// The token it is about, or nothing.
        token: String,
    },
}

/// What is wrong in a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// An empty token, white space, or something behind `>`.
    Form,
    /// A wildcard that the source does not have; `None` if it has none at all.
    Index(Option<i64>),
    /// A name that is no function.
    Function,
    /// An argument that is no number, or a separator that cannot be in a token.
    Argument,
    /// Fewer arguments than the function needs.
    TooFew,
    /// More arguments than the function takes.
    TooMany,
    /// Another function than `wildcard` where it must be possible to go back.
    NotReversible,
    /// A wildcard of the source that is not used where it must be possible to go back.
    Unused,
}

impl fmt::Display for TransformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TransformError::Destination { problem, token } = self else {
            return f.write_str("invalid subject");
        };
        let text = match problem {
            Problem::Form => "invalid transform",
            Problem::Index(_) => "wildcard index out of range",
            Problem::Function => "unknown function",
            Problem::Argument => "function argument is invalid or in the wrong format",
            Problem::TooFew => "not enough arguments passed to the function",
            Problem::TooMany => "too many arguments passed to the function",
            Problem::NotReversible => {
                "the only mapping function allowed for import transforms is {{Wildcard()}}"
            }
            Problem::Unused => "not using all of the token wildcard(s)",
        };
        write!(f, "invalid mapping destination: {text}")?;
        if !token.is_empty() {
            write!(f, " in {token}")?;
        }
        match problem {
            Problem::Index(Some(index)) => write!(f, ": [{index}]"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for TransformError {}

/// Which functions a destination may use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Functions {
    All,
    Wildcards,
}

/// One token of a destination as written. Indices are not yet checked.
enum Word<'a> {
    Text(&'a str),
    Wildcard(i64),
    Partition { buckets: u32, of: Vec<i64> },
    Random(u64),
    Split { index: i64, by: &'a str },
    Cut { index: i64, cut: Cut, size: usize },
}

fn compile(
    source: &str,
    destination: &str,
    functions: Functions,
) -> Result<Transform, TransformError> {
    let calls = calls(destination)?;
    let own = |(token, _): &(&str, Option<Call>)| *token == "*";
    let is_open = |text: &str| text == ">" || text.ends_with(".>");
    if !is_pattern(source) || calls.iter().any(own) || is_open(source) != is_open(destination) {
        return Err(TransformError::Subject);
    }
    let stars = source.split('.').enumerate();
    let stars: Vec<usize> = stars.filter(|(_, t)| *t == "*").map(|(i, _)| i).collect();
    let last = source.split('.').count().saturating_sub(1);
    let literal = stars.is_empty() && !is_open(source);

    let mut used = vec![false; stars.len()];
    let mut pieces = Pieces::default();
    for (i, (token, call)) in calls.into_iter().enumerate() {
        if i > 0 {
            pieces.text(".");
        }
        let dollar = || token.strip_prefix('$')?.parse().ok().map(Word::Wildcard);
        let word = match call {
            Some(call) => call.word(token)?,
            None => dollar().unwrap_or(Word::Text(token)),
        };
        let mut place = |index: i64| -> Result<usize, TransformError> {
            if literal {
                return Err(wrong(Problem::Index(None), token));
            }
            let below = usize::try_from(index).ok().and_then(|n| n.checked_sub(1));
            let Some(below) = below else {
                return Ok(0);
            };
            if let Some(used) = used.get_mut(below) {
                let again = std::mem::replace(used, true);
                if again && functions == Functions::Wildcards {
                    return Err(wrong(Problem::Unused, destination));
                }
            }
            let out_of_range = || wrong(Problem::Index(Some(index)), token);
            stars.get(below).copied().ok_or_else(out_of_range)
        };
        let plain = matches!(word, Word::Text(_) | Word::Wildcard(_));
        if functions == Functions::Wildcards && !plain {
            return Err(wrong(Problem::NotReversible, token));
        }
        match word {
            Word::Text(">") => pieces.push(Piece::Rest(last)),
            Word::Text(text) => pieces.text(text),
            Word::Wildcard(index) => pieces.push(Piece::Token(place(index)?)),
            Word::Random(bound) => pieces.push(Piece::Random(bound)),
            Word::Partition { buckets, of } if literal || of.is_empty() => {
                pieces.push(Piece::Partition { buckets, of: None });
            }
            Word::Partition { buckets, of } => {
                let of: Result<Box<[usize]>, _> = of.into_iter().map(place).collect();
                let of = Some(of?);
                pieces.push(Piece::Partition { buckets, of });
            }
            Word::Split { index, by } => {
                let (token, by) = (place(index)?, by.as_bytes().into());
                pieces.push(Piece::Split { token, by });
            }
            Word::Cut { index, cut, size } => {
                let token = place(index)?;
                pieces.push(Piece::Cut { token, cut, size });
            }
        }
    }
    if functions == Functions::Wildcards && used.contains(&false) {
        return Err(wrong(Problem::Unused, destination));
    }
    Ok(pieces.finish())
}

fn wrong(problem: Problem, token: &str) -> TransformError {
    TransformError::Destination {
        problem,
        token: token.to_string(),
    }
}

/// A pattern that a subscription could be made on.
pub(crate) fn is_pattern(text: &str) -> bool {
    is_valid_pattern(text.as_bytes()) && !text.contains(|c: char| c.is_ascii_whitespace())
}

/// The tokens of a destination with the functions they call.
fn calls(destination: &str) -> Result<Vec<(&str, Option<Call<'_>>)>, TransformError> {
    let mut out = Vec::new();
    let mut closed = false;
    for token in destination.split('.') {
        if closed && !token.is_empty() {
            return Err(wrong(Problem::Form, token));
        }
        let call = Call::of(token)?;
        let bad = token.contains(|c: char| c.is_ascii_whitespace()) && call.is_none();
        if token.is_empty() || bad {
            return Err(wrong(Problem::Form, ""));
        }
        closed = token == ">";
        out.push((token, call));
    }
    Ok(out)
}

/// A function with its arguments, not yet looked at.
struct Call<'a> {
    function: Function,
    args: Vec<&'a str>,
}

#[derive(Clone, Copy)]
enum Function {
    Wildcard,
    Partition,
    Random,
    Split,
    Cut(Cut),
}

const FUNCTIONS: [(&str, Function); 10] = [
    ("wildcard", Function::Wildcard),
    ("partition", Function::Partition),
    ("random", Function::Random),
    ("split", Function::Split),
    ("splitFromLeft", Function::Cut(Cut::SplitLeft)),
    ("splitFromRight", Function::Cut(Cut::SplitRight)),
    ("sliceFromLeft", Function::Cut(Cut::SliceLeft)),
    ("sliceFromRight", Function::Cut(Cut::SliceRight)),
    ("left", Function::Cut(Cut::Left)),
    ("right", Function::Cut(Cut::Right)),
];

impl<'a> Call<'a> {
    /// What a token between `{{` and `}}` calls; `None` if it is none.
    fn of(token: &'a str) -> Result<Option<Call<'a>>, TransformError> {
        let inner = token.strip_prefix("{{").and_then(|t| t.strip_suffix("}}"));
        let Some(inner) = inner.filter(|inner| !inner.is_empty()) else {
            return Ok(None);
        };
        let unknown = || wrong(Problem::Function, token);
        let inner = inner.trim().strip_suffix(')').ok_or_else(unknown)?;
        let (name, args) = inner.split_once('(').ok_or_else(unknown)?;
        let known = FUNCTIONS
            .iter()
            .find(|(function, _)| same_name(name.trim_end(), function));
        let (_, function) = known.ok_or_else(unknown)?;
        // White space before an argument does not count; behind one only numbers ignore it.
        let args = args.split(',').map(str::trim_start).collect();
        let function = *function;
        Ok(Some(Call { function, args }))
    }

    fn word(&self, token: &str) -> Result<Word<'a>, TransformError> {
        let args = &self.args;
        let error = |problem| wrong(problem, token);
        let number = |at: usize| -> Result<i64, TransformError> {
            let text = args.get(at).map(|text| text.trim());
            let parsed = text.and_then(|text| text.parse().ok());
            parsed.ok_or_else(|| error(Problem::Argument))
        };
        let small = |at: usize| {
            let value = i32::try_from(number(at)?);
            value.map_err(|_| error(Problem::Argument))
        };
        let two = || match args.as_slice() {
            [_, second] => Ok(*second),
            list if list.len() < 2 => Err(error(Problem::TooFew)),
            _ => Err(error(Problem::TooMany)),
        };
        Ok(match self.function {
            Function::Wildcard => match args.as_slice() {
                [""] => return Err(error(Problem::TooFew)),
                [_] => Word::Wildcard(number(0)?),
                _ => return Err(error(Problem::TooMany)),
            },
            Function::Partition => Word::Partition {
                buckets: small(0)?.cast_unsigned(),
                of: (1..args.len()).map(number).collect::<Result<_, _>>()?,
            },
            // nats-server says the same of too many.
            Function::Random if args.len() > 1 => return Err(error(Problem::TooFew)),
            Function::Random => Word::Random(u64::try_from(small(0)?).unwrap_or(0)),
            Function::Split => {
                let (by, index) = (two()?, number(0)?);
                if by.contains(|c: char| c.is_ascii_whitespace()) {
                    return Err(error(Problem::Argument));
                }
                Word::Split { index, by }
            }
            Function::Cut(cut) => {
                two()?;
                let index = number(0)?;
                let size = usize::try_from(small(1)?).unwrap_or(0);
                Word::Cut { index, cut, size }
            }
        })
    }
}

/// The first letter of each word of a name may be of either case.
fn same_name(written: &str, function: &str) -> bool {
    written.len() == function.len()
        && written
            .bytes()
            .zip(function.bytes())
            .enumerate()
            .all(|(i, (a, b))| {
                a == b || ((i == 0 || b.is_ascii_uppercase()) && a.eq_ignore_ascii_case(&b))
            })
}

/// Pieces in the making: neighbouring text becomes one.
#[derive(Default)]
struct Pieces {
    list: Vec<Piece>,
    text: Vec<u8>,
}

impl Pieces {
    fn text(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }

    fn push(&mut self, piece: Piece) {
        self.flush();
        self.list.push(piece);
    }

    fn flush(&mut self) {
        if !self.text.is_empty() {
            let text = std::mem::take(&mut self.text);
            self.list.push(Piece::Text(text.into()));
        }
    }

    fn finish(mut self) -> Transform {
        self.flush();
        let by_token = self.list.iter().any(|piece| match piece {
            Piece::Text(_) | Piece::Random(_) | Piece::Partition { of: None, .. } => false,
            Piece::Token(_)
            | Piece::Rest(_)
            | Piece::Partition { of: Some(_), .. }
            | Piece::Split { .. }
            | Piece::Cut { .. } => true,
        });
        Transform {
            pieces: self.list.into(),
            by_token,
        }
    }
}

/// Where the first dots of a subject are.
struct Tokens<'a> {
    subject: &'a [u8],
    dots: [usize; KNOWN],
    count: usize,
}

/// Tokens behind this many dots are searched for each time.
const KNOWN: usize = 24;

impl<'a> Tokens<'a> {
    fn of(subject: &'a [u8], wanted: bool) -> Self {
        let mut cut = Tokens {
            subject,
            dots: [0; KNOWN],
            count: 0,
        };
        if wanted {
            for (slot, dot) in cut.dots.iter_mut().zip(memchr::memchr_iter(b'.', subject)) {
                *slot = dot;
                cut.count += 1;
            }
        }
        cut
    }

    /// Nothing if there is no such token.
    fn token(&self, at: usize) -> &'a [u8] {
        let rest = self.rest(at);
        match self.dots.get(..self.count).and_then(|dots| dots.get(at)) {
            Some(end) => {
                let length = end.saturating_sub(self.subject.len() - rest.len());
                rest.get(..length).unwrap_or_default()
            }
            None => tokens(rest).next().unwrap_or_default(),
        }
    }

    /// From a token to the end; nothing if there is no such token.
    fn rest(&self, at: usize) -> &'a [u8] {
        let Some(before) = at.checked_sub(1) else {
            return self.subject;
        };
        if let Some(dot) = self
            .dots
            .get(..self.count)
            .and_then(|dots| dots.get(before))
        {
            return self.subject.get(dot + 1..).unwrap_or_default();
        }
        match memchr::memchr_iter(b'.', self.subject).nth(before) {
            Some(dot) => self.subject.get(dot + 1..).unwrap_or_default(),
            None => &[],
        }
    }
}

impl Cut {
    fn write(self, token: &[u8], size: usize, out: &mut Vec<u8>) {
        let from_right = token.len().checked_sub(size).filter(|n| *n > 0);
        let Some(from_right) = from_right.filter(|_| size > 0) else {
            return out.extend_from_slice(token);
        };
        let (at, parts) = match self {
            Cut::SplitLeft => (size, Parts::Both),
            Cut::SplitRight => (from_right, Parts::Both),
            Cut::Left => (size, Parts::First),
            Cut::Right => (from_right, Parts::Second),
            Cut::SliceLeft => return joined(token.chunks(size), out),
            Cut::SliceRight => {
                let (head, tail) = token.split_at(token.len() % size);
                let head = Some(head).filter(|head| !head.is_empty());
                return joined(head.into_iter().chain(tail.chunks(size)), out);
            }
        };
        let Some((first, second)) = token.split_at_checked(at) else {
            return;
        };
        match parts {
            Parts::Both => joined([first, second].into_iter(), out),
            Parts::First => out.extend_from_slice(first),
            Parts::Second => out.extend_from_slice(second),
        }
    }
}

/// What is kept of a token that was cut in two.
enum Parts {
    Both,
    First,
    Second,
}

fn joined<'a>(parts: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    for (i, part) in parts.enumerate() {
        if i > 0 {
            out.push(b'.');
        }
        out.extend_from_slice(part);
    }
}

fn split(token: &[u8], by: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let mut part = |part: &[u8]| {
        if !part.is_empty() {
            if out.len() > start {
                out.push(b'.');
            }
            out.extend_from_slice(part);
        }
    };
    if by.is_empty() {
        // Between characters.
        return token.chunk_by(|_, next| next & 0xc0 == 0x80).for_each(part);
    }
    let mut rest = token;
    while let Some(at) = memchr::memmem::find(rest, by) {
        part(rest.get(..at).unwrap_or_default());
        rest = rest.get(at + by.len()..).unwrap_or_default();
    }
    part(rest);
}

const FNV_START: u32 = 0x811c_9dc5;

fn fnv(start: u32, bytes: &[u8]) -> u32 {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    bytes.iter().fold(start, step)
}

/// Without a number, 0.
fn number(value: Option<u32>, out: &mut Vec<u8>) {
    let mut digits = [0u8; 10];
    let mut rest = value.unwrap_or(0);
    let mut at = digits.len();
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + (rest % 10) as u8;
        at -= 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
