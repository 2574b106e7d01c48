//! What the peer of a leaf link has been told of our interest, so that only what differs is said.

use hashbrown::HashTable;

use crate::interest::EntryId;
use crate::link::Offer;
use crate::wire::write;

/// The lines that are in force.
#[derive(Debug, Default)]
pub(crate) struct Told {
    lines: HashTable<Line>,
}

/// What the peer knows of one of our subjects.
#[derive(Debug)]
struct Line {
    entry: EntryId,
    /// `None`: outside of any queue group. By name, as the number may go to another group.
    queue: Option<Box<[u8]>>,
    weight: u32,
}

impl Told {
    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Words what differs for one subject. `may_say` answers whether the peer may know of it, in a
    /// queue group's name or without.
    pub(crate) fn offer(
        &mut self,
        offer: &Offer<'_>,
        out: &mut Vec<u8>,
        may_say: impl Fn(&[u8], Option<&[u8]>) -> bool,
    ) {
        let plain = offer.plain && may_say(offer.subject, None);
        self.say(offer, None, u32::from(plain), out);
        // Groups that are gone, then those that are there.
        let gone: Vec<Box<[u8]>> = self
            .lines
            .iter_hash(entry_hash(offer.entry))
            .filter(|line| line.entry == offer.entry)
            .filter_map(|line| line.queue.clone())
            .filter(|name| !offer.groups.iter().any(|(group, _)| *group == &**name))
            .collect();
        for name in gone {
            self.say(offer, Some(&name), 0, out);
        }
        for (name, weight) in offer.groups {
            let allowed = may_say(offer.subject, Some(name));
            self.say(offer, Some(name), if allowed { *weight } else { 0 }, out);
        }
    }

    fn say(&mut self, offer: &Offer<'_>, queue: Option<&[u8]>, weight: u32, out: &mut Vec<u8>) {
        let hash = entry_hash(offer.entry);
        let same = |line: &Line| line.entry == offer.entry && line.queue.as_deref() == queue;
        match (self.lines.find_mut(hash, same), weight) {
            (None, 0) => {}
            (Some(line), weight) if line.weight == weight => {}
            (Some(line), weight) if weight > 0 => {
                line.weight = weight;
                // A plain line carries no weight: it has been said.
                if let Some(name) = queue {
                    write::interest(out, offer.subject, Some((name, weight)));
                }
            }
            (Some(_), _) => {
                if let Ok(found) = self.lines.find_entry(hash, same) {
                    found.remove();
                }
                write::interest_gone(out, offer.subject, queue);
            }
            (None, weight) => {
                let line = Line {
                    entry: offer.entry,
                    queue: queue.map(Into::into),
                    weight,
                };
                self.lines
                    .insert_unique(hash, line, |line| entry_hash(line.entry));
                write::interest(out, offer.subject, queue.map(|name| (name, weight)));
            }
        }
    }
}

/// Entry numbers are ours, not a peer's: spreading them is enough.
fn entry_hash(entry: EntryId) -> u64 {
    u64::from(entry.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
