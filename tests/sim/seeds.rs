//! Many worlds, one for each seed; a failed one can be replayed.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the servers of a replayed world say.
struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        println!("{} {}", record.level(), record.args());
    }

    fn flush(&self) {}
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Lives through the worlds of the seeds 1 to `count`, or to `<prefix>_SEEDS`, and answers what came of
/// each. With `<prefix>_SEED` set it shows that one, what its servers
/// log, too, and answers nothing.
pub(crate) fn try_out<T: Send + Debug>(
    prefix: &str,
    count: u64,
    story: impl Fn(u64) -> T + Sync,
) -> Vec<(u64, T)> {
    if let Some(seed) = number(&format!("{prefix}_SEED")) {
        if log::set_logger(&Log).is_ok() {
            log::set_max_level(log::LevelFilter::Debug);
        }
        println!("seed {seed}: {:.1?}", story(seed));
        return Vec::new();
    }
    let count = number(&format!("{prefix}_SEEDS")).unwrap_or(count);
    let next = AtomicU64::new(1);
    let failed = AtomicU64::new(u64::MAX);
    let told = Mutex::new(Vec::new());
    // Worlds share nothing: several at once change nothing in any of them.
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while failed.load(Ordering::Relaxed) == u64::MAX {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > count {
                        return;
                    }
                    match catch_unwind(AssertUnwindSafe(|| story(seed))) {
                        Ok(end) => told.lock().unwrap().push((seed, end)),
                        Err(_) => {
                            failed.fetch_min(seed, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let seed = failed.into_inner();
    assert!(
        seed == u64::MAX,
        "seed {seed} failed; replay it with {prefix}_SEED={seed} cargo test --test sim"
    );
    told.into_inner().unwrap()
}
