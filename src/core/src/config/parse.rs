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
                '{' => self.block(Place::Block)?,
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
        let subject = || format!("variable reference for '{name}' on line {line}");
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
