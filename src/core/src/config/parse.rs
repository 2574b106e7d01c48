//! The configuration language: blocks, arrays, variables and includes, into a [`Map`].
//!
//! Owns scope and the bounds that keep a hostile file from exhausting the stack or the memory.
//! Reads files and the environment only through [`Loader`].

use std::sync::Arc;

use super::lex::{Lexer, Scalar};
use super::value::{Entry, Map, Node, Position, Value};

/// Where texts come from: the core opens no file and reads no environment itself.
pub trait Loader {
    /// The text of a file, or the message of the failure
    /// (`open x: no such file or directory`).
    fn read(&self, path: &str) -> Result<String, String>;
    /// An environment variable.
    fn env(&self, name: &str) -> Option<String>;
}

/// Blocks, arrays, includes and environment references inside each other. Upstream has no bound
/// but its stack.
const MAX_DEPTH: usize = 64;
/// Values after the expansion of variables: `$a` twice in `$b` twice in `$c` grows fast.
const MAX_VALUES: usize = 1 << 20;
/// Bytes of text after the expansion.
const MAX_BYTES: usize = 64 << 20;
/// Files read.
const MAX_FILES: usize = 1000;

/// Reads `path` and everything it includes.
pub fn parse_file(path: &str, loader: &dyn Loader) -> Result<Map, String> {
    Shared::new(loader).file(path, path)
}

/// Parses a text as if it were the file `name`.
pub fn parse_text(text: &str, name: &str, loader: &dyn Loader) -> Result<Map, String> {
    Shared::new(loader).text(text, name)
}

/// What all texts of one load share.
struct Shared<'l> {
    loader: &'l dyn Loader,
    depth: usize,
    values: usize,
    bytes: usize,
    files: usize,
    /// Files being read, outermost first.
    including: Vec<String>,
    /// Environment variables being expanded.
    expanding: Vec<String>,
}

impl<'l> Shared<'l> {
    fn new(loader: &'l dyn Loader) -> Self {
        Shared {
            loader,
            depth: 0,
            values: 0,
            bytes: 0,
            files: 0,
            including: Vec::new(),
            expanding: Vec::new(),
        }
    }

    /// `path` as shown, `real` as compared for cycles.
    fn file(&mut self, path: &str, real: &str) -> Result<Map, String> {
        let real = clean(real);
        if self.including.contains(&real) {
            return Err("include cycle".into());
        }
        self.files += 1;
        if self.files > MAX_FILES {
            return Err(format!("more than {MAX_FILES} files are included"));
        }
        let text = self.loader.read(path)?;
        self.charge(0, text.len())?;
        self.including.push(real);
        let map = self.text(&text, path);
        self.including.pop();
        map
    }

    fn text(&mut self, text: &str, name: &str) -> Result<Map, String> {
        let mut parser = Parser {
            lex: Lexer::new(text),
            file: name.into(),
            maps: vec![Map::default()],
            shared: self,
        };
        parser.top()?;
        Ok(parser.maps.pop().unwrap_or_default())
    }

    fn charge(&mut self, values: usize, bytes: usize) -> Result<(), String> {
        self.values = self.values.saturating_add(values);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.values > MAX_VALUES || self.bytes > MAX_BYTES {
            return Err("the configuration is too large".into());
        }
        Ok(())
    }

    fn enter(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("the configuration nests deeper than {MAX_DEPTH}"));
        }
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }
}

/// Where an entry stands, which decides what may end its value.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Top,
    Block,
    Map,
    Array,
}

struct Parser<'a, 's, 'l> {
    lex: Lexer<'a>,
    file: Arc<str>,
    /// The open maps, outermost first: the scope of variables.
    maps: Vec<Map>,
    shared: &'s mut Shared<'l>,
}

impl Parser<'_, '_, '_> {
    fn position(&self) -> Position {
        Position {
            file: self.file.clone(),
            line: self.lex.line(),
            column: self.lex.column(),
        }
    }

    fn invalid<T>(&self) -> Result<T, String> {
        Err(format!("config is invalid ({})", self.position()))
    }

    fn top(&mut self) -> Result<(), String> {
        loop {
            self.lex.skip_while(char::is_whitespace);
            if self.lex.at_comment() {
                self.lex.skip_comment();
                continue;
            }
            match self.lex.peek() {
                '\0' if self.lex.at_end() => return Ok(()),
                '\0' | '/' => return self.lex.fail("Unexpected EOF."),
                '{' => {
                    self.block(Place::Block)?;
                    // One brace too many is forgiven, as upstream.
                    self.lex.skip_while(|c| matches!(c, ' ' | '\t'));
                    if self.lex.peek() == '}' {
                        self.lex.bump();
                    }
                }
                _ => self.entry(Place::Top)?,
            }
        }
    }

    /// `{ ... }` where a key may stand: its entries belong to the map around it.
    fn block(&mut self, inside: Place) -> Result<(), String> {
        self.shared.enter()?;
        self.lex.bump();
        loop {
            self.lex.skip_while(char::is_whitespace);
            if self.lex.at_comment() {
                self.lex.skip_comment();
                continue;
            }
            match self.lex.peek() {
                '}' => break,
                '\0' => return self.lex.fail("Unexpected EOF processing map."),
                ']' if inside == Place::Map => {
                    return self
                        .lex
                        .fail_at("Unexpected array end '", "' processing map.");
                }
                '{' => {
                    self.block(inside)?;
                    // In JSON style the next entry follows a comma.
                    self.lex.skip_while(|c| matches!(c, ' ' | '\t'));
                    if matches!(self.lex.peek(), ',' | ';') {
                        self.lex.bump();
                    }
                }
                _ => self.entry(inside)?,
            }
        }
        self.lex.bump();
        self.shared.leave();
        Ok(())
    }

    fn entry(&mut self, place: Place) -> Result<(), String> {
        let mut position = self.position();
        let key = match self.lex.peek() {
            ':' | '=' => {
                let after = if place == Place::Map { "'." } else { "'" };
                return self.lex.fail_at("Unexpected key separator '", after);
            }
            quote @ ('"' | '\'') => {
                position.column = position.column.saturating_add(1);
                self.quoted_key(quote, place)?
            }
            _ => self.bare_key(place)?,
        };
        let Some(key) = key else {
            // An include, already merged.
            return self.end_of_value(place);
        };
        self.lex.skip_while(char::is_whitespace);
        if self.lex.peek() == '\0' {
            return match place {
                Place::Map => self.lex.fail("Unexpected EOF processing map key."),
                _ => self.invalid(),
            };
        }
        let separated = matches!(self.lex.peek(), ':' | '=');
        if separated {
            self.lex.bump();
        }
        if place == Place::Map {
            self.lex.skip_while(char::is_whitespace);
            match self.lex.peek() {
                ',' => {
                    self.lex.bump();
                    return self.lex.fail("Unexpected map value terminator \",\".");
                }
                // Upstream mistakes the map for the value of this key.
                '}' => return self.invalid(),
                _ => {}
            }
        } else if separated {
            self.lex.skip_while(|c| matches!(c, ' ' | '\t'));
            if matches!(self.lex.peek(), '\n' | '\r') {
                self.lex.bump();
                return self.lex.fail("Expected value but found new line");
            }
        }
        let value = self.value()?;
        self.shared.charge(0, key.len())?;
        if let Some(map) = self.maps.last_mut() {
            map.set(Entry {
                key,
                node: Node { position, value },
                used: false,
            });
        }
        self.end_of_value(place)
    }

    fn quoted_key(&mut self, quote: char, place: Place) -> Result<Option<String>, String> {
        self.lex.bump();
        let start = self.lex.pos();
        self.lex.skip_while(|c| c != quote && c != '\0');
        let key = self.lex.since(start).to_string();
        if self.lex.peek() != quote {
            return self.lex.fail(match (place, quote) {
                (Place::Map, '"') => "Unexpected EOF processing double quoted map key.",
                (Place::Map, _) => "Unexpected EOF processing quoted map key.",
                _ => "Unexpected EOF.",
            });
        }
        self.lex.bump();
        Ok(Some(key))
    }

    /// A bare key, or `None` after an include.
    fn bare_key(&mut self, place: Place) -> Result<Option<String>, String> {
        let start = self.lex.pos();
        self.lex
            .skip_while(|c| !c.is_whitespace() && !matches!(c, ':' | '=' | '\0'));
        let key = self.lex.since(start);
        if self.lex.peek() == '\0' && place == Place::Map {
            return self.lex.fail("Unexpected EOF processing map key.");
        }
        if key.eq_ignore_ascii_case("include") && self.lex.peek().is_whitespace() {
            self.include()?;
            return Ok(None);
        }
        Ok(Some(key.to_string()))
    }

    fn include(&mut self) -> Result<(), String> {
        const FOUND: &str = "Expected include value but found ";
        self.lex.skip_while(|c| matches!(c, ' ' | '\t'));
        let path = match self.lex.peek() {
            '\n' | '\r' => {
                self.lex.bump();
                return self.lex.fail(format_args!("{FOUND}new line"));
            }
            '[' => return self.lex.fail(format_args!("{FOUND}start of an array")),
            '{' => return self.lex.fail(format_args!("{FOUND}start of a map")),
            '(' => return self.lex.fail(format_args!("{FOUND}start of a block")),
            c if c.is_ascii_digit()
                || matches!(c, '-' | '.') && self.lex.peek_at(1).is_ascii_digit() =>
            {
                return self.lex.fail(format_args!("{FOUND}start of a number"));
            }
            quote @ ('"' | '\'') => {
                self.lex.bump();
                let start = self.lex.pos();
                self.lex.skip_while(|c| c != quote && c != '\0');
                let path = self.lex.since(start);
                if self.lex.peek() != quote {
                    return self.lex.fail(if quote == '"' {
                        "Unexpected EOF in double quoted include"
                    } else {
                        "Unexpected EOF in quoted include"
                    });
                }
                self.lex.bump();
                path
            }
            '\0' => return self.invalid(),
            _ => {
                let start = self.lex.pos();
                self.lex
                    .skip_while(|c| !matches!(c, '\n' | '\r' | ' ' | '\t' | ';' | '}' | '\0'));
                self.lex.since(start)
            }
        };
        self.shared.enter()?;
        let joined = join(&self.file, path);
        let included = self
            .shared
            .file(&joined, &joined)
            .map_err(|e| format!("error parsing include file '{path}', {e}"))?;
        self.shared.leave();
        if let Some(map) = self.maps.last_mut() {
            included.into_entries().for_each(|entry| map.set(entry));
        }
        Ok(())
    }

    fn value(&mut self) -> Result<Value, String> {
        match self.lex.peek() {
            '{' => {
                self.maps.push(Map::default());
                self.block(Place::Map)?;
                self.shared.charge(1, 0)?;
                Ok(Value::Map(self.maps.pop().unwrap_or_default()))
            }
            '[' => self.array(),
            _ => {
                let scalar = self.lex.scalar()?;
                self.scalar(scalar)
            }
        }
    }

    fn array(&mut self) -> Result<Value, String> {
        self.shared.enter()?;
        self.shared.charge(1, 0)?;
        self.lex.bump();
        let mut list = Vec::new();
        loop {
            self.lex.skip_while(char::is_whitespace);
            if self.lex.at_comment() {
                self.lex.skip_comment();
                continue;
            }
            match self.lex.peek() {
                ',' => {
                    return self
                        .lex
                        .fail_at("Unexpected array value terminator '", "'.");
                }
                ']' => break,
                first => {
                    let mut position = self.position();
                    if matches!(first, '"' | '\'' | '(') {
                        position.column = position.column.saturating_add(1);
                    }
                    let value = self.value()?;
                    // Upstream knows where these end, not where they start.
                    if matches!(value, Value::Map(_) | Value::Array(_)) {
                        position = self.position();
                    }
                    list.push(Node { position, value });
                    self.end_of_value(Place::Array)?;
                }
            }
        }
        self.lex.bump();
        self.shared.leave();
        Ok(Value::Array(list))
    }

    /// Consumes what ends a value, but not the bracket that closes what it is in.
    fn end_of_value(&mut self, place: Place) -> Result<(), String> {
        loop {
            if self.lex.at_comment() {
                self.lex.skip_comment();
            }
            match (self.lex.peek(), place) {
                (' ' | '\t' | '/', _) => {
                    self.lex.bump();
                }
                ('\n' | '\r' | ',', _) => {
                    self.lex.bump();
                    return Ok(());
                }
                (';', place) if place != Place::Array => {
                    self.lex.bump();
                    return Ok(());
                }
                ('}' | '\0', Place::Top) => {
                    self.lex.bump();
                    return Ok(());
                }
                ('}', Place::Block | Place::Map) | (']', Place::Array) => return Ok(()),
                _ => {
                    let expected = match place {
                        Place::Top => {
                            "Expected a top-level value to end with a new line, comment or EOF"
                        }
                        Place::Block => {
                            "Expected a block-level value to end with a new line, comment or EOF"
                        }
                        Place::Map => {
                            "Expected a map value terminator \",\" or a map terminator \"}\""
                        }
                        Place::Array => {
                            "Expected an array value terminator \",\" or an array terminator \"]\""
                        }
                    };
                    return self
                        .lex
                        .fail_at(&format!("{expected}, but got '"), "' instead.");
                }
            }
        }
    }

    fn scalar(&mut self, scalar: Scalar) -> Result<Value, String> {
        let value = match scalar {
            Scalar::String(text) => Value::String(text),
            Scalar::Int(n) => Value::Int(n),
            Scalar::Float(n) => Value::Float(n),
            Scalar::Bool(b) => Value::Bool(b),
            Scalar::Time(t) => Value::Time(t),
            Scalar::Variable(name) => return self.variable(&name),
        };
        let bytes = match &value {
            Value::String(text) => text.len(),
            _ => 0,
        };
        self.shared.charge(1, bytes)?;
        Ok(value)
    }

    fn variable(&mut self, name: &str) -> Result<Value, String> {
        let line = self.lex.line();
        // A bcrypt hash that lacks its quotes reads as a variable; the hash stays out of the text.
        let shown = match name.get(..3) {
            Some(kind @ ("2b$" | "2x$" | "2y$")) => format!("{kind}[REDACTED]"),
            _ => name.to_string(),
        };
        let subject = || format!("variable reference for '{shown}' on line {line}");
        for map in self.maps.iter_mut().rev() {
            if let Some(entry) = map.get_mut(name) {
                let cost = Cost::of(&entry.node.value);
                if self.shared.depth + cost.depth > MAX_DEPTH {
                    return Err(format!("the configuration nests deeper than {MAX_DEPTH}"));
                }
                self.shared.charge(cost.values, cost.bytes)?;
                entry.used = true;
                return Ok(entry.node.value.clone());
            }
        }
        match self.environment(name) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(format!("{} can not be found", subject())),
            Err(e) => Err(format!("{} could not be parsed: {e}", subject())),
        }
    }

    /// The environment's text, as if it were written where the variable stands.
    fn environment(&mut self, name: &str) -> Result<Option<Value>, String> {
        const KEY: &str = "value";
        if self.shared.expanding.iter().any(|known| known == name) {
            return Err(format!("variable reference cycle for '{name}'"));
        }
        let Some(text) = self.shared.loader.env(name) else {
            return Ok(None);
        };
        self.shared.enter()?;
        self.shared.charge(1, text.len())?;
        if text.starts_with("$2a$") {
            self.shared.leave();
            return Ok(Some(Value::String(text)));
        }
        self.shared.expanding.push(name.to_string());
        let map = self.shared.text(&format!("{KEY}={text}"), "");
        self.shared.expanding.pop();
        self.shared.leave();
        Ok(map?.get(KEY).map(|entry| entry.node.value.clone()))
    }
}

/// What a copy of a value takes.
struct Cost {
    depth: usize,
    values: usize,
    bytes: usize,
}

impl Cost {
    /// Recursion is bounded: no tree is deeper than `MAX_DEPTH`.
    fn of(value: &Value) -> Cost {
        let mut cost = Cost {
            depth: 0,
            values: 1,
            bytes: 0,
        };
        match value {
            Value::String(text) => cost.bytes = text.len(),
            Value::Array(list) => list.iter().for_each(|node| cost.add(&node.value)),
            Value::Map(map) => map.iter().for_each(|entry| {
                cost.bytes += entry.key.len();
                cost.add(&entry.node.value);
            }),
            _ => {}
        }
        cost
    }

    fn add(&mut self, inner: &Value) {
        let inner = Cost::of(inner);
        self.depth = self.depth.max(inner.depth + 1);
        self.values += inner.values;
        self.bytes += inner.bytes;
    }
}

/// An include's path: relative to the file that names it. An absolute one is taken as it is.
fn join(includer: &str, path: &str) -> String {
    match includer.rsplit_once('/') {
        _ if path.starts_with('/') => clean(path),
        Some((dir, _)) => clean(&format!("{dir}/{path}")),
        None => clean(path),
    }
}

/// Without `.`, `..` and doubled separators.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".into(),
        (false, false) => joined,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::testing::Files;
    use proptest::prelude::*;

    fn one(text: &str) -> Value {
        let map = parse_text(text, "c.conf", &Files::default()).unwrap();
        map.iter().last().unwrap().node.value.clone()
    }

    fn string(text: &str) -> Value {
        Value::String(text.into())
    }

    /// 2, 3, 4, 5, 7.
    #[test]
    fn scalars() {
        for (text, wanted) in [
            ("a: a#b", string("a#b")),
            ("a: a//b", string("a//b")),
            ("a: http://x:1/y", string("http://x:1/y")),
            ("a: x # c", string("x")),
            ("a: #x\n", string("#x")),
            ("a: 'a\\n'", string("a\\n")),
            ("a: \"a\\n\"", string("a\n")),
            ("a: \"\\x41\"", string("A")),
            ("a: a\\x41", string("aA")),
            ("a: tr\\x75e", string("true")),
            ("a: (\nb)\n)\n", string("\nb)\n")),
            ("a: (x\n)", string("x\n")),
            ("a:", string("")),
            ("a: 1k", Value::Int(1000)),
            ("a: 1kb", Value::Int(1024)),
            ("a: 1ki", Value::Int(1024)),
            ("a: 1KiB", Value::Int(1024)),
            ("a: 1g", Value::Int(1_000_000_000)),
            ("a: 1gib", Value::Int(1 << 30)),
            ("a: -1", Value::Int(-1)),
            ("a: -1k", Value::Int(-1000)),
            ("a: 007", Value::Int(7)),
            ("a: -9223372036854775808", Value::Int(i64::MIN)),
            ("a: 1.5", Value::Float(1.5)),
            ("a: 1b", string("1b")),
            ("a: 1kx", string("1kx")),
            ("a: 1k5", string("1k5")),
            ("a: 1e3", string("1e3")),
            ("a: 1h30m", string("1h30m")),
            ("a: 50%", string("50%")),
            ("a: 127.0.0.1:4222", string("127.0.0.1:4222")),
            ("a: on", Value::Bool(true)),
            ("a: OFF", Value::Bool(false)),
            ("a: Yes", Value::Bool(true)),
            ("a: no", Value::Bool(false)),
            ("a: FALSE", Value::Bool(false)),
            ("a: \"true\"", string("true")),
            ("a: true'", string("true")),
            (
                "a: 2020-01-01T00:00:00Z",
                Value::Time("2020-01-01T00:00:00Z".into()),
            ),
            ("a: $2a$11$abc", string("$2a$11$abc")),
            ("x: 5; a: { b: { c: $x } }\na: $x", Value::Int(5)),
            ("a: 1\na: 2", Value::Int(2)),
            ("{a: 1}}", Value::Int(1)),
            ("a: 1 }", Value::Int(1)),
        ] {
            assert_eq!(one(text), wanted, "{text:?}");
        }
        assert!(matches!(one("a: [5]"), Value::Array(list) if list[0].value == Value::Int(5)));
        assert!(matches!(one("a: [1k]"), Value::Array(list) if list[0].value == Value::Int(1000)));
    }

    /// 3, 5, 9, 10 and the texts of the language, as 2.15.1 prints them.
    #[test]
    fn messages() {
        const TOP: &str =
            "Expected a top-level value to end with a new line, comment or EOF, but got";
        const ARRAY: &str =
            "Expected an array value terminator \",\" or an array terminator \"]\", but got";
        const MAP: &str =
            "Expected a map value terminator \",\" or a map terminator \"}\", but got";
        let plain = [
            ("port", "config is invalid (c.conf:1:4)"),
            ("port\n", "config is invalid (c.conf:2:1)"),
            ("  a", "config is invalid (c.conf:1:3)"),
            (";", "config is invalid (c.conf:1:1)"),
            ("a: 1,,", "config is invalid (c.conf:1:6)"),
            ("{]}", "config is invalid (c.conf:1:3)"),
            ("include", "config is invalid (c.conf:1:7)"),
            (
                "a: 99999999999999999999",
                "integer '99999999999999999999' is out of the range",
            ),
            ("a: 8eb", "integer '8eb' is out of the range"),
            (
                "a: $2b$x",
                "variable reference for '2b$[REDACTED]' on line 1 can not be found",
            ),
            (
                "\n\na: $X ;",
                "variable reference for 'X' on line 3 can not be found",
            ),
            (
                "debug: $q; q: 5",
                "variable reference for 'q' on line 1 can not be found",
            ),
            (
                "include x",
                "error parsing include file 'x', open x: no such file or directory",
            ),
            (
                "include ./x",
                "error parsing include file './x', open x: no such file or directory",
            ),
        ];
        for (text, wanted) in plain {
            let e = parse_text(text, "c.conf", &Files::default()).unwrap_err();
            assert_eq!(e, wanted, "{text:?}");
        }
        for (text, line, wanted) in [
            ("port:\n", 2, "Expected value but found new line".to_string()),
            ("a: \"abc", 1, "Unexpected EOF.".into()),
            ("a: \"abc\n", 2, "Unexpected EOF.".into()),
            ("\0", 1, "Unexpected EOF.".into()),
            ("a: [1,", 1, format!("{ARRAY} '\0' instead.")),
            ("a: [1 ; 2]", 1, format!("{ARRAY} ';' instead.")),
            ("a: [1 2]", 1, format!("{ARRAY} '2' instead.")),
            ("a: [,1]", 1, "Unexpected array value terminator ','.".into()),
            ("a: [1\n#c\n,2]", 3, "Unexpected array value terminator ','.".into()),
            ("a: {", 1, "Unexpected EOF processing map.".into()),
            ("a: { a", 1, "Unexpected EOF processing map key.".into()),
            ("a: { \"a", 1, "Unexpected EOF processing double quoted map key.".into()),
            ("a: {b:", 1, format!("{MAP} '\0' instead.")),
            ("a: {b: 1 c:2}", 1, format!("{MAP} 'c' instead.")),
            ("a: {:b}", 1, "Unexpected key separator ':'.".into()),
            ("a: {]}", 1, "Unexpected array end ']' processing map.".into()),
            ("a {b: ,}", 1, "Unexpected map value terminator \",\".".into()),
            (": 1", 1, "Unexpected key separator ':'".into()),
            ("a: 1.5h", 1, format!("{TOP} 'h' instead.")),
            ("a: -5s", 1, format!("{TOP} 's' instead.")),
            ("a: ab'c", 1, format!("{TOP} 'c' instead.")),
            ("a: x ]", 1, format!("{TOP} ']' instead.")),
            ("a: .5", 1, "Floats must start with a digit".into()),
            ("a: -.5", 1, "Floats must start with a digit, not '.'.".into()),
            ("a: 1.x", 1, "Floats must have a digit after the '.', but got 'x' instead.".into()),
            ("a: -abc", 1, "Expected a digit but got 'a'.".into()),
            ("a: 1-2", 1, "All ISO8601 dates must be in full Zulu form.".into()),
            ("a: 2020-01-01\n", 2, "Expected 'T' in ISO8601 datetime, but found '\\n' instead.".into()),
            ("a: 2020-x", 1, "Expected digit in ISO8601 datetime, but found 'x' instead.".into()),
            ("a: \"\\q\"", 1, "Invalid escape character 'q'. Only the following escape characters are allowed: \\xXX, \\t, \\n, \\r, \\\", \\\\.".into()),
            ("a: \"\\xzz\"", 1, "Expected two hexadecimal digits after '\\x', but got 'zz'".into()),
            ("a: \"\\x4\n", 2, "Expected two hexadecimal digits after '\\x', but hit end of line".into()),
            ("a: (abc)\n", 2, "Unexpected EOF processing block.".into()),
            ("include 1", 1, "Expected include value but found start of a number".into()),
            ("include\nx", 2, "Expected include value but found new line".into()),
            ("include \"x", 1, "Unexpected EOF in double quoted include".into()),
        ] {
            let e = parse_text(text, "c.conf", &Files::default()).unwrap_err();
            assert_eq!(e, format!("Parse error on line {line}: '{wanted}'"), "{text:?}");
        }
    }

    /// 8, 10: scope, then the environment, whose text is typed.
    #[test]
    fn environment() {
        let loader = Files {
            env: &[
                ("N", "10k"),
                ("M", "{a:1}"),
                ("S", "\"a b\""),
                ("E", ""),
                ("H", "$2a$x"),
                ("L", "$L"),
                ("P", "$Q"),
                ("Q", "$P"),
            ],
            ..Files::default()
        };
        let get = |text: &str| {
            parse_text(text, "f", &loader).map(|m| m.get("a").unwrap().node.value.clone())
        };
        assert_eq!(get("a: $N"), Ok(Value::Int(10_000)));
        assert_eq!(get("N: 1; a: $N"), Ok(Value::Int(1)));
        assert!(matches!(get("a: $M"), Ok(Value::Map(_))));
        assert_eq!(get("a: $S"), Ok(string("a b")));
        assert_eq!(get("a: $E"), Ok(string("")));
        assert_eq!(get("a: $H"), Ok(string("$2a$x")));
        let wrap =
            |name: &str| format!("variable reference for '{name}' on line 1 could not be parsed: ");
        assert_eq!(
            get("a: $L"),
            Err(format!(
                "{}{}variable reference cycle for 'L'",
                wrap("L"),
                wrap("L")
            ))
        );
        assert_eq!(
            get("a: $P"),
            Err(format!(
                "{}{}{}variable reference cycle for 'P'",
                wrap("P"),
                wrap("Q"),
                wrap("P")
            ))
        );
    }

    /// 18.
    #[test]
    fn includes() {
        let loader = Files {
            files: &[
                ("d/main", "include 'sub/a'\nm { INCLUDE \"./b\" }\nuse: $v"),
                ("d/sub/a", "v: 1\ninclude ../b"),
                ("d/b", "w: 2"),
                ("self", "include self"),
            ],
            ..Files::default()
        };
        let map = parse_file("d/main", &loader).unwrap();
        assert_eq!(map.get("w").unwrap().node.position.to_string(), "d/b:1:0");
        assert_eq!(map.get("use").unwrap().node.value, Value::Int(1));
        let e = parse_file("self", &loader).unwrap_err();
        assert_eq!(e, "error parsing include file 'self', include cycle");
    }

    /// 14.
    #[test]
    fn positions() {
        let map = parse_text("a: 1\n b: 2\n  \"c\": 3; d: 4", "f", &Files::default()).unwrap();
        let places: Vec<_> = map.iter().map(|e| e.node.position.to_string()).collect();
        assert_eq!(places, ["f:1:0", "f:2:2", "f:3:4", "f:3:11"]);
    }

    #[test]
    fn hostile_files_are_bounded() {
        for open in ["{", "a:{", "a:["] {
            let text = open.repeat(100_000);
            assert!(parse_text(&text, "f", &Files::default()).is_err());
        }
        let mut text = "a0: [x,x,x,x,x,x,x,x,x,x]\n".to_string();
        for i in 0..30 {
            text.push_str(&format!("a{}: [$a{i},$a{i},$a{i},$a{i}]\n", i + 1));
        }
        let e = parse_text(&text, "f", &Files::default()).unwrap_err();
        assert_eq!(e, "the configuration is too large");
        let mut text = "a0: {x:1}\n".to_string();
        for i in 0..100 {
            text.push_str(&format!("a{}: {{x:$a{i}}}\n", i + 1));
        }
        assert!(parse_text(&text, "f", &Files::default()).is_err());
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::Int),
            any::<bool>().prop_map(Value::Bool),
            "[ -~\n\té]{0,8}".prop_map(Value::String),
            (-1000i32..1000).prop_map(|n| Value::Float(f64::from(n) + 0.5)),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5)
                    .prop_map(|list| Value::Array(list.into_iter().map(node).collect())),
                prop::collection::btree_map("[a-z]{1,6}", inner, 0..5).prop_map(|entries| {
                    let mut map = Map::default();
                    for (key, value) in entries {
                        map.set(Entry {
                            key,
                            node: node(value),
                            used: false,
                        });
                    }
                    Value::Map(map)
                }),
            ]
        })
    }

    fn node(value: Value) -> Node {
        let position = Position {
            file: "".into(),
            line: 0,
            column: 0,
        };
        Node { position, value }
    }

    /// Style 0 is JSON, 1 the usual form, 2 the tersest.
    fn print(value: &Value, style: usize, out: &mut String) {
        let separator = [",", "\n", ","][style];
        match value {
            Value::String(text) => {
                out.push('"');
                for c in text.chars() {
                    match c {
                        '"' | '\\' => out.extend(['\\', c]),
                        '\n' if style == 0 => out.push_str("\\n"),
                        c => out.push(c),
                    }
                }
                out.push('"');
            }
            Value::Array(list) => {
                out.push('[');
                for node in list {
                    print(&node.value, style, out);
                    out.push_str(separator);
                }
                out.push(']');
            }
            Value::Map(map) => {
                out.push('{');
                for entry in map.iter() {
                    out.push_str(&match style {
                        0 => format!("\"{}\": ", entry.key),
                        1 => format!("  {} = ", entry.key),
                        _ => format!("{} ", entry.key),
                    });
                    print(&entry.node.value, style, out);
                    out.push_str(separator);
                }
                out.push('}');
            }
            Value::Int(n) => out.push_str(&n.to_string()),
            Value::Float(n) => out.push_str(&n.to_string()),
            Value::Bool(b) => out.push_str(&b.to_string()),
            Value::Time(t) => out.push_str(t),
        }
    }

    /// Everything but places.
    fn bare(value: &Value) -> Value {
        match value {
            Value::Array(list) => Value::Array(list.iter().map(|n| node(bare(&n.value))).collect()),
            Value::Map(map) => {
                let mut out = Map::default();
                for entry in map.iter() {
                    let node = node(bare(&entry.node.value));
                    out.set(Entry {
                        key: entry.key.clone(),
                        node,
                        used: false,
                    });
                }
                Value::Map(out)
            }
            other => other.clone(),
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_ends(text in any::<String>()) {
            let _ = parse_text(&text, "f", &Files::default());
        }

        #[test]
        fn likely_text_ends(text in "[a$:={}\\[\\](),;#/'\"\\\\.0-9kx \n\0-]{0,80}") {
            let _ = parse_text(&text, "f", &Files::default());
        }

        #[test]
        fn printed_trees_parse_back(value in tree(), style in 0usize..3) {
            let mut text = "k: ".to_string();
            print(&value, style, &mut text);
            let map = parse_text(&text, "f", &Files::default());
            prop_assert!(map.is_ok(), "{text} {map:?}");
            let map = map.unwrap();
            prop_assert_eq!(bare(&map.get("k").unwrap().node.value), value);
        }
    }
}
