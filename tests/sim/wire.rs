//! The leafnode protocol as it is on the wire, and what one end of a link has said of its interest.

use std::collections::BTreeSet;

use crate::model::{Key, Map, matches};

/// One operation.
#[derive(Debug)]
pub(crate) enum Op<'a> {
    Line(Vec<&'a str>),
    Message(Heard<'a>),
}

/// A message as it stands on the wire.
#[derive(Debug)]
pub(crate) struct Heard<'a> {
    pub(crate) subject: &'a str,
    pub(crate) reply: Option<&'a str>,
    pub(crate) queues: Vec<&'a str>,
    pub(crate) body: &'a [u8],
    pub(crate) header: usize,
}

/// The operation at the start of `buf`, and its length; `None`: it is not complete.
pub(crate) fn next(buf: &[u8]) -> Option<(Op<'_>, usize)> {
    let end = buf.windows(2).position(|two| two == b"\r\n")?;
    let line = std::str::from_utf8(&buf[..end]).expect("a line is text");
    let len = end + 2;
    let words: Vec<&str> = line.split(' ').collect();
    let sizes = match words[0] {
        "LMSG" => 1,
        "HMSG" => 2,
        _ => return Some((Op::Line(words), len)),
    };
    let size = |word: &str| word.parse::<usize>().expect("a size");
    let names = &words[1..words.len() - sizes];
    let total = size(words[words.len() - 1]);
    let header = if sizes == 2 {
        size(words[words.len() - 2])
    } else {
        0
    };
    let (subject, reply, queues): (&str, Option<&str>, &[&str]) = match names {
        [subject] => (subject, None, &[]),
        [subject, reply] => (subject, Some(reply), &[]),
        [subject, "|", queues @ ..] => (subject, None, queues),
        [subject, "+", reply, queues @ ..] => (subject, Some(reply), queues),
        _ => panic!("malformed: {line}"),
    };
    let body = buf.get(len..len + total)?;
    let tail = buf.get(len + total..len + total + 2)?;
    assert!(tail == b"\r\n", "size of {line}");
    let heard = Heard {
        subject,
        reply,
        queues: queues.to_vec(),
        body,
        header,
    };
    Some((Op::Message(heard), len + total + 2))
}

impl Heard<'_> {
    pub(crate) fn word(&self, queues: &[String], out: &mut Vec<u8>) {
        let verb = if self.header > 0 { "HMSG" } else { "LMSG" };
        let mut line = format!("{verb} {}", self.subject);
        match (self.reply, queues) {
            (None, []) => {}
            (Some(reply), []) => line += &format!(" {reply}"),
            (None, queues) => line += &format!(" | {}", queues.join(" ")),
            (Some(reply), queues) => line += &format!(" + {reply} {}", queues.join(" ")),
        }
        if self.header > 0 {
            line += &format!(" {}", self.header);
        }
        line += &format!(" {}\r\n", self.body.len());
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(self.body);
        out.extend_from_slice(b"\r\n");
    }
}

/// The interest that one end of a link has told.
#[derive(Debug, Default)]
pub(crate) struct Interest {
    pub(crate) now: Map,
    ever: BTreeSet<Key>,
    /// What has been read of an operation that is not complete.
    input: Vec<u8>,
}

impl Interest {
    /// Takes note of a line about interest.
    pub(crate) fn note(&mut self, words: &[&str]) {
        let key =
            |subject: &str, queue: Option<&str>| (subject.to_owned(), queue.map(str::to_owned));
        match *words {
            ["LS+", subject] => self.add(key(subject, None), 1, words),
            ["LS+", subject, queue, weight] => {
                let weight = weight.parse().expect("a weight");
                self.add(key(subject, Some(queue)), weight, words);
            }
            ["LS-", subject] => self.remove(&key(subject, None)),
            ["LS-", subject, queue] => self.remove(&key(subject, Some(queue))),
            _ => panic!("malformed: {words:?}"),
        }
    }

    pub(crate) fn add(&mut self, key: Key, weight: u32, words: &[&str]) {
        assert!(weight > 0, "no weight: {words:?}");
        self.ever.insert(key.clone());
        let before = self.now.insert(key, weight);
        assert!(before != Some(weight), "said twice: {words:?}");
    }

    fn remove(&mut self, key: &Key) {
        assert!(self.now.remove(key).is_some(), "never said: {key:?}");
    }

    /// A message that comes to this end must have been asked for, as one of each group, too.
    pub(crate) fn check(&self, heard: &Heard<'_>) {
        let asked = |queue: Option<&str>| {
            let mut ever = self.ever.iter();
            ever.any(|(pattern, group)| {
                (queue.is_none() || group.as_deref() == queue) && matches(pattern, heard.subject)
            })
        };
        assert!(asked(None), "never asked for: {heard:?}");
        for queue in &heard.queues {
            assert!(asked(Some(queue)), "{queue} never asked for: {heard:?}");
        }
    }

    /// Bytes that this end has said, to one that has told `theirs`.
    pub(crate) fn overhear(&mut self, bytes: &[u8], theirs: &Interest) {
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let mut used = 0;
        while let Some((op, len)) = next(&input[used..]) {
            match op {
                Op::Line(words) if words[0].starts_with("LS") => self.note(&words),
                Op::Line(_) => {}
                Op::Message(heard) => theirs.check(&heard),
            }
            used += len;
        }
        input.drain(..used);
        self.input = input;
    }
}
