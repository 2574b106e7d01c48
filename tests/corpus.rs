//! Every committed file of the fuzz targets' corpora, checked without a fuzzer.
//!
//! A file that once broke something stays there under the name of what broke.

use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

#[test]
fn every_corpus_file_passes_its_check() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut failed = Vec::new();
    for (target, check) in petiole_fuzz_checks::ALL {
        let mut files = 0;
        for entry in std::fs::read_dir(corpora.join(target)).unwrap() {
            let path = entry.unwrap().path();
            let data = std::fs::read(&path).unwrap();
            files += 1;
            if panic::catch_unwind(AssertUnwindSafe(|| check(&data))).is_err() {
                failed.push(path.display().to_string());
            }
        }
        assert!(files > 0, "the corpus of {target} is missing");
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
