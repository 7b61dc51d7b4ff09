//! Run directories: any files are a run or an error. The input is `campaign.json`, a zero byte, `trials.jsonl`, a zero byte,
//! and `probes.jsonl`.
#![no_main]

use std::sync::OnceLock;

use injector_core::run::Run;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static FOLDER: OnceLock<std::path::PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("injector-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for runs");
        folder
    });
    let mut parts = bytes.splitn(3, |byte| *byte == 0);
    for name in ["campaign.json", "trials.jsonl", "probes.jsonl"] {
        let path = folder.join(name);
        match parts.next() {
            Some(part) => std::fs::write(path, part).expect("a file is written"),
            None => drop(std::fs::remove_file(path)),
        }
    }
    if let Err(error) = Run::load(folder) {
        assert!(!error.to_string().is_empty());
    }
});
