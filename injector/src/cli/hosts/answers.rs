//! What several hosts answered, in one exit code.

use crate::cli::args::Common;
use crate::cli::failure::{Exit, Failure, report};
use injector_core::api::Code;

/// What hosts answered about a partition: not every host needs to have it.
#[derive(Default)]
pub(super) struct Answers {
    worst: Option<Exit>,
    /// The hosts that do not know it.
    without: Vec<(Common, Failure)>,
}

impl Answers {
    /// Takes what one host answered; a failure is printed.
    pub fn add(&mut self, one: &Common, ended: Result<Exit, Failure>) {
        let exit = match ended {
            Ok(exit) => exit,
            Err(failure) if is_unknown_partition(&failure) => {
                return self.without.push((one.clone(), failure));
            }
            Err(failure) => {
                report(one, &failure);
                failure.exit
            }
        };
        self.worst = Some(self.worst.map_or(exit, |worst| worst.worse(exit)));
    }

    /// The worst exit code. That hosts have no such partition counts only if no host has it.
    pub fn end(self) -> Exit {
        for (one, failure) in &self.without {
            report(one, failure);
        }
        self.worst.unwrap_or_else(|| self.without.first().map_or(Exit::OK, |(_, failure)| failure.exit))
    }
}

fn is_unknown_partition(failure: &Failure) -> bool {
    let code = failure.details.as_ref().map(|details| &details["problem"]["code"]);
    code.is_some_and(|code| *code == serde_json::json!(Code::UnknownPartition))
}
