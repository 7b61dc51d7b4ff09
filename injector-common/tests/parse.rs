//! The checks of the fuzz target, over its stored corpus and small changes of it: where no fuzzer runs, this
//! test does.

use std::path::Path;

#[path = "../../fuzz/src/parse.rs"]
mod parse;

fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/parse");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn the_stored_corpus_holds() {
    let corpus = corpus();
    assert!(corpus.len() >= 20, "the corpus is not there");
    for (name, frame) in corpus {
        println!("{name}");
        parse::check(&frame);
    }
}

#[test]
fn so_does_what_small_changes_make_of_it() {
    for (name, frame) in corpus() {
        println!("{name}");
        for at in 0..frame.len().min(120) {
            for bits in [0x01, 0x10, 0x80, 0xff] {
                let mut changed = frame.clone();
                changed[at] ^= bits;
                parse::check(&changed);
            }
            parse::check(&frame[..at]);
        }
    }
}
