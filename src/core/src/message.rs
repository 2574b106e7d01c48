//! One message on its way through the server: borrowed from the read buffer, never copied here.

/// A publish, in whatever verb it came. All slices borrow the buffer it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The subject as published. Any bytes without white space; not validated.
    pub subject: &'a [u8],
    /// Where answers go.
    pub reply: Option<&'a [u8]>,
    /// Queue group names of an `LMSG`, as they stood on the line: separated by spaces or tabs,
    /// empty when there were none. Use [`Message::queues`] to walk them.
    pub queue_list: &'a [u8],
    /// Bytes of `body` that are the header block; 0 when there is none.
    pub header_len: usize,
    /// Header block and payload, without the final CR LF.
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    /// A message without headers that wants no answer.
    pub fn new(subject: &'a [u8], body: &'a [u8]) -> Self {
        Message {
            subject,
            reply: None,
            queue_list: b"",
            header_len: 0,
            body,
        }
    }

    /// The queue group names it is restricted to.
    pub fn queues(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.queue_list
            .split(|b| *b == b' ' || *b == b'\t')
            .filter(|name| !name.is_empty())
    }

    /// The payload behind the header block.
    pub fn payload(&self) -> &'a [u8] {
        self.body.get(self.header_len..).unwrap_or_default()
    }
}
