//! Configs and campaign files: any text is one or an error that names its place, within bounds.
#![no_main]

use injector_core::config::Config;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Config::parse(text, "fuzz.yaml") {
        // The same text is the same config.
        Ok(config) => assert!(Config::parse(text, "fuzz.yaml").is_ok_and(|again| again == config)),
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
});
