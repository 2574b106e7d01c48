//! How much of what waits for a link is handed over at a time.

/// The least, which a line of 64 kbit/s sends in a second.
const CHUNK: usize = 8 << 10;
/// What a line that is never full is given: as much as one write can hold.
const FULL_PACE: u32 = 16 * CHUNK as u32;

/// How much is written to a link at a time. A system takes 64 KiB in one call whatever it was told to
/// hold, and what it has can no longer be overtaken: eight seconds of a line of 64 kbit/s. So a line is
/// given twice as much each time it took all, and half as much when it was full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    most: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { most: CHUNK as u32 }
    }
}

impl Pace {
    /// Bytes of the next write.
    #[inline]
    pub(super) fn most(self) -> usize {
        self.most as usize
    }

    /// So many bytes went out.
    #[inline]
    pub(super) fn sent(&mut self, count: usize) {
        if count >= self.most() {
            self.most = (self.most * 2).min(FULL_PACE);
        }
    }

    /// The line was full.
    pub(super) fn blocked(&mut self) {
        self.most = (self.most / 2).max(CHUNK as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_line_is_given_little_at_a_time_and_a_fast_one_much() {
        let mut pace = Pace::default();
        for _ in 0..20 {
            assert!(pace.most() <= 2 * CHUNK);
            pace.sent(pace.most());
            pace.blocked();
        }
        for _ in 0..20 {
            pace.sent(pace.most());
        }
        assert_eq!(pace.most(), 16 * CHUNK);
        for _ in 0..20 {
            pace.blocked();
        }
        assert_eq!(pace.most(), CHUNK);
    }
}
