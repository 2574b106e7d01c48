//! Characters to scalars, with nats-server's messages.
//!
//! Owns the place in one text and the forms of strings, numbers, dates. Knows no maps, variables or
//! files. A NUL reads as the end of input, as upstream; every loop here ends on it.

/// What a scalar turns out to be.
#[derive(Debug, PartialEq)]
pub(super) enum Scalar {
    String(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    Time(String),
    Variable(String),
}

/// A place in a text.
pub(super) struct Lexer<'a> {
    text: &'a str,
    pos: usize,
    line: u32,
    line_start: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Lexer {
            text,
            pos: 0,
            line: 1,
            line_start: 0,
        }
    }

    pub(super) fn pos(&self) -> usize {
        self.pos
    }

    pub(super) fn line(&self) -> u32 {
        self.line
    }

    /// The column upstream shows for the current place.
    pub(super) fn column(&self) -> u32 {
        let offset = self.pos.saturating_sub(self.line_start) + usize::from(self.line > 1);
        u32::try_from(offset).unwrap_or(u32::MAX)
    }

    pub(super) fn at_end(&self) -> bool {
        self.pos >= self.text.len()
    }

    /// Text from `start` to here.
    pub(super) fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.pos).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> char {
        self.peek_at(0)
    }

    /// The character `ahead` bytes on; only over ASCII.
    pub(super) fn peek_at(&self, ahead: usize) -> char {
        self.text
            .get(self.pos + ahead..)
            .and_then(|rest| rest.chars().next())
            .unwrap_or('\0')
    }

    pub(super) fn bump(&mut self) -> char {
        let Some(c) = self.text.get(self.pos..).and_then(|t| t.chars().next()) else {
            return '\0';
        };
        self.pos += c.len_utf8();
        if c == '\n' {
            self.line += 1;
            self.line_start = self.pos;
        }
        c
    }

    pub(super) fn skip_while(&mut self, wanted: impl Fn(char) -> bool) {
        while !self.at_end() && wanted(self.peek()) {
            self.bump();
        }
    }

    pub(super) fn at_comment(&self) -> bool {
        self.peek() == '#' || (self.peek() == '/' && self.peek_at(1) == '/')
    }

    pub(super) fn skip_comment(&mut self) {
        self.skip_while(|c| !matches!(c, '\n' | '\0'));
    }

    /// An error at the current place.
    pub(super) fn fail<T>(&self, message: impl std::fmt::Display) -> Result<T, String> {
        Err(format!("Parse error on line {}: '{message}'", self.line))
    }

    /// Consumes one character and names it: `{before}{char}{after}`.
    pub(super) fn fail_at<T>(&mut self, before: &str, after: &str) -> Result<T, String> {
        let found = match self.bump() {
            '\n' => "\\n".to_string(),
            c => c.to_string(),
        };
        self.fail(format_args!("{before}{found}{after}"))
    }

    /// A quoted or bare scalar.
    pub(super) fn scalar(&mut self) -> Result<Scalar, String> {
        match self.peek() {
            '\'' => self.single_quoted().map(Scalar::String),
            '"' => self.double_quoted().map(Scalar::String),
            '(' => self.block().map(Scalar::String),
            '-' => self.negative(),
            '.' => {
                self.bump();
                self.fail("Floats must start with a digit")
            }
            c if c.is_ascii_digit() => self.number(),
            _ => self.bare(self.pos),
        }
    }

    fn single_quoted(&mut self) -> Result<String, String> {
        self.bump();
        let start = self.pos;
        self.skip_while(|c| !matches!(c, '\'' | '\0'));
        let text = self.since(start).to_string();
        if self.peek() != '\'' {
            return self.fail("Unexpected EOF.");
        }
        self.bump();
        Ok(text)
    }

    fn double_quoted(&mut self) -> Result<String, String> {
        self.bump();
        let mut out = Vec::new();
        loop {
            match self.peek() {
                '"' => {
                    self.bump();
                    return self.utf8(out);
                }
                '\0' => return self.fail("Unexpected EOF."),
                '\\' => self.escape(&mut out)?,
                _ => self.push(&mut out),
            }
        }
    }

    /// `( ... )`: ends only where `)` opens a line and ends it.
    fn block(&mut self) -> Result<String, String> {
        self.bump();
        let start = self.pos;
        loop {
            match self.bump() {
                '\0' => return self.fail("Unexpected EOF processing block."),
                '\n' if self.peek() == ')'
                    && (self.peek_at(1) == '\n' || self.pos + 1 == self.text.len()) =>
                {
                    let content = self.since(start).to_string();
                    self.bump();
                    return Ok(content);
                }
                _ => {}
            }
        }
    }

    fn push(&mut self, out: &mut Vec<u8>) {
        let c = self.bump();
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }

    /// `\xHH` can spell bytes that are no text; nothing downstream could carry them.
    fn utf8(&self, bytes: Vec<u8>) -> Result<String, String> {
        match String::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(_) => self.fail("Strings must be valid UTF-8."),
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        self.bump();
        let byte = match self.peek() {
            't' => b'\t',
            'n' => b'\n',
            'r' => b'\r',
            '"' => b'"',
            '\\' => b'\\',
            'x' => {
                self.bump();
                return self.hex(out);
            }
            _ => {
                return self.fail_at(
                    "Invalid escape character '",
                    "'. Only the following escape characters are allowed: \\xXX, \\t, \\n, \\r, \\\", \\\\.",
                );
            }
        };
        self.bump();
        out.push(byte);
        Ok(())
    }

    fn hex(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        const EXPECTED: &str = "Expected two hexadecimal digits after '\\x', but ";
        let start = self.pos;
        let mut byte = 0;
        let mut bad = false;
        for _ in 0..2 {
            match self.bump() {
                '\n' | '\0' => return self.fail(format_args!("{EXPECTED}hit end of line")),
                c => match c.to_digit(16) {
                    Some(digit) => byte = byte * 16 + digit,
                    None => bad = true,
                },
            }
        }
        match u8::try_from(byte) {
            Ok(byte) if !bad => {
                out.push(byte);
                Ok(())
            }
            _ => self.fail(format_args!("{EXPECTED}got '{}'", self.since(start))),
        }
    }

    /// A bare run; what lies between `start` and here is already known to be text.
    fn bare(&mut self, start: usize) -> Result<Scalar, String> {
        let mut out = self.since(start).as_bytes().to_vec();
        let mut escaped = false;
        loop {
            match self.peek() {
                '\\' => {
                    escaped = true;
                    self.escape(&mut out)?;
                }
                '\'' => {
                    self.bump();
                    return self.utf8(out).map(Scalar::String);
                }
                c if ends_bare(c) => break,
                _ => self.push(&mut out),
            }
        }
        let text = self.utf8(out)?;
        if escaped {
            return Ok(Scalar::String(text));
        }
        if let Some(name) = text.strip_prefix('$') {
            // A bcrypt hash of this form is the one text with `$` that needs no quotes.
            if !name.starts_with("2a$") {
                return Ok(Scalar::Variable(name.to_string()));
            }
        }
        Ok(match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Scalar::Bool(true),
            "false" | "no" | "off" => Scalar::Bool(false),
            _ => Scalar::String(text),
        })
    }

    fn negative(&mut self) -> Result<Scalar, String> {
        let start = self.pos;
        self.bump();
        match self.peek() {
            '.' => return self.fail_at("Floats must start with a digit, not '", "'."),
            c if c.is_ascii_digit() => {}
            _ => return self.fail_at("Expected a digit but got '", "'."),
        }
        self.skip_while(|c| c.is_ascii_digit());
        match self.peek() {
            '.' => self.fraction(start),
            c if unit(c).is_some() => self.sized(start),
            _ => self.integer(start, 1, self.pos),
        }
    }

    fn number(&mut self) -> Result<Scalar, String> {
        let start = self.pos;
        self.skip_while(|c| c.is_ascii_digit());
        match self.peek() {
            '-' if self.pos - start == 4 => self.date(start),
            '-' => {
                self.bump();
                self.fail("All ISO8601 dates must be in full Zulu form.")
            }
            '.' => self.fraction(start),
            c if ends_bare(c) => self.integer(start, 1, self.pos),
            c if unit(c).is_some() => self.sized(start),
            _ => self.bare(start),
        }
    }

    /// At the point of a float, or of an address.
    fn fraction(&mut self, start: usize) -> Result<Scalar, String> {
        self.bump();
        if !self.peek().is_ascii_digit() {
            return self.fail_at(
                "Floats must have a digit after the '.', but got '",
                "' instead.",
            );
        }
        self.skip_while(|c| c.is_ascii_digit());
        if self.peek() == '.' {
            self.skip_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':' | '-'));
            return Ok(Scalar::String(self.since(start).to_string()));
        }
        let text = self.since(start);
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Scalar::Float(value)),
            _ => Err(format!("float '{text}' is out of the range")),
        }
    }

    /// At a letter that may be a size suffix.
    fn sized(&mut self, start: usize) -> Result<Scalar, String> {
        let digits = self.pos;
        let power = unit(self.bump()).unwrap_or(0);
        let suffix = self.pos;
        self.skip_while(|c| matches!(c, 'b' | 'B' | 'i' | 'I'));
        if !ends_bare(self.peek()) {
            return self.bare(start);
        }
        let base: i64 = match self.since(suffix).to_ascii_lowercase().as_str() {
            "" => 1000,
            "b" | "i" | "ib" => 1024,
            // Upstream loses the whole key without a word.
            _ => return self.fail(format_args!("Unknown size '{}'.", self.since(start))),
        };
        self.integer(start, base.pow(power), digits)
    }

    fn integer(&self, start: usize, factor: i64, digits: usize) -> Result<Scalar, String> {
        let number = self.text.get(start..digits).unwrap_or_default();
        match number
            .parse::<i64>()
            .ok()
            .and_then(|n| n.checked_mul(factor))
        {
            Some(n) => Ok(Scalar::Int(n)),
            None => Err(format!(
                "integer '{}' is out of the range",
                self.since(start)
            )),
        }
    }

    /// After the year.
    fn date(&mut self, start: usize) -> Result<Scalar, String> {
        for wanted in "-DD-DDTDD:DD:DDZ".chars() {
            let found = self.peek();
            if wanted == 'D' && !found.is_ascii_digit() {
                return self.fail_at(
                    "Expected digit in ISO8601 datetime, but found '",
                    "' instead.",
                );
            }
            if wanted != 'D' && found != wanted {
                return self.fail_at(
                    &format!("Expected '{wanted}' in ISO8601 datetime, but found '"),
                    "' instead.",
                );
            }
            self.bump();
        }
        let text = self.since(start);
        if is_real_time(text) {
            Ok(Scalar::Time(text.to_string()))
        } else {
            Err(format!(
                "expected Zulu formatted DateTime, but got '{text}'"
            ))
        }
    }
}

/// What ends a bare value.
fn ends_bare(c: char) -> bool {
    matches!(c, '\n' | '\r' | ' ' | '\t' | ';' | ',' | ']' | '}' | '\0')
}

/// The power of a size suffix.
fn unit(c: char) -> Option<u32> {
    "kmgtpe"
        .chars()
        .zip(1..)
        .find_map(|(letter, power)| (letter == c.to_ascii_lowercase()).then_some(power))
}

/// Whether the fields of `YYYY-MM-DDTHH:MM:SSZ` are in range.
fn is_real_time(text: &str) -> bool {
    let field = |from: usize, to: usize| {
        text.get(from..to)
            .and_then(|t| t.parse::<u32>().ok())
            .unwrap_or(u32::MAX)
    };
    let (year, month, day) = (field(0, 4), field(5, 7), field(8, 10));
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => 0,
    };
    (1..=days).contains(&day) && field(11, 13) < 24 && field(14, 16) < 60 && field(17, 19) < 60
}
