//! What the process uses, as the system counts it.

use petiole_core::time::Instant;

/// Ticks per second in which Linux tells processor time.
const TICKS: f64 = 100.0;

/// Bytes of memory that are resident; 0 where the system does not tell.
pub(super) fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    resident(&status).unwrap_or(0)
}

/// The share of one processor that was used since the last look.
#[derive(Debug)]
pub(super) struct Processor {
    since: Instant,
    ticks: u64,
    percent: f64,
}

impl Processor {
    pub(super) fn new(now: Instant) -> Self {
        Processor {
            since: now,
            ticks: ticks(),
            percent: 0.0,
        }
    }

    /// In percent, over at least a second.
    pub(super) fn percent(&mut self, now: Instant) -> f64 {
        let seconds = now.since(self.since).as_secs_f64();
        if seconds >= 1.0 {
            let ticks = ticks();
            let used = ticks.saturating_sub(self.ticks) as f64 / TICKS;
            self.percent = (used / seconds * 1000.0).round() / 10.0;
            self.since = now;
            self.ticks = ticks;
        }
        self.percent
    }
}

fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    used(&stat).unwrap_or(0)
}

/// `VmRSS` of `/proc/self/status`.
fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// The 14th and 15th field of `/proc/self/stat`; the second is a name that may have anything in it.
fn used(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        assert_eq!(
            resident("Name:\tx\nVmRSS:\t    1234 kB\nThreads:\t1\n"),
            Some(1_263_616)
        );
        assert_eq!(resident("Name:\tx\n"), None);
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 30 12 0 0 20 0 1 0 5 1 1";
        assert_eq!(used(stat), Some(42));
        assert_eq!(used("7 (a"), None);
    }
}
