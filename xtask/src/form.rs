//! The lengths in which tests run: the usual one, and the long one. What they set are variables that tests read.

use std::process::Command;

/// How thorough a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Every test once, in the length that it has by itself.
    Usual,
    /// Also the tests that take many minutes, and more cases where tests draw them.
    Long,
}

/// The variables that the long form sets.
const LONG: [(&str, &str); 4] = [
    // Tests that take many minutes.
    ("INJECTOR_LONG", "1"),
    // Packets that `kernel_model` judges.
    ("INJECTOR_MODEL_CASES", "200000"),
    // Heals that `netns_exact` measures.
    ("INJECTOR_HEALS", "200"),
    // Records that `netns_planted` takes its percentile from.
    ("INJECTOR_PLANTED", "36"),
];

impl Form {
    /// The variables that tests get: those of the environment, then the form's, where the environment says nothing.
    pub fn variables(self) -> Vec<(String, String)> {
        let given: Vec<(String, String)> =
            std::env::vars().filter(|(name, _)| name.starts_with("INJECTOR_")).collect();
        let own: &[(&str, &str)] = if self == Self::Long { &LONG } else { &[] };
        let own = own.iter().filter(|(name, _)| given.iter().all(|(given, _)| given != name));
        let own: Vec<(String, String)> =
            own.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        given.into_iter().chain(own).collect()
    }

    /// Gives a command the variables.
    pub fn set(self, command: &mut Command) {
        command.envs(self.variables());
    }
}
