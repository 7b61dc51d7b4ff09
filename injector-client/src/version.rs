//! Adds both versions to a refusal that another version of the daemon may explain.

use std::cmp::Ordering;

use injector_core::api::{Code, Problem};

/// The version of this client.
const OURS: &str = env!("CARGO_PKG_VERSION");

/// Whether a daemon may refuse with this code because it is of another version, and does not know a call, a field or a word.
pub fn may_be_why(code: Code) -> bool {
    matches!(code, Code::NoSuchCall | Code::WrongMethod | Code::BadBody | Code::BadParameter | Code::BadShape)
}

/// The problem, with both versions beside its remedy if they differ. Its code and field stay: it may be a plain mistake.
pub fn beside(problem: Problem, daemon: &str) -> Problem {
    let Some(difference) = difference(daemon) else { return problem };
    let remedy = match &problem.remedy {
        Some(remedy) => format!("{remedy}; {difference}"),
        None => difference,
    };
    problem.remedy(remedy)
}

/// A sentence on a daemon of another version; `None` for one of this version.
fn difference(daemon: &str) -> Option<String> {
    if daemon == OURS {
        return None;
    }
    let how = match numbers(OURS).cmp(&numbers(daemon)) {
        Ordering::Greater => "newer than",
        Ordering::Less => "older than",
        Ordering::Equal => "of another version than",
    };
    Some(format!("this client ({OURS}) is {how} the daemon ({daemon}): install both from one version"))
}

fn numbers(version: &str) -> Vec<u64> {
    let parts = version.split(|c: char| !c.is_ascii_digit());
    parts.filter_map(|part| part.parse().ok()).take(3).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by it")]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_both_versions() {
        assert_eq!(difference(OURS), None);
        let candidate = format!("{OURS}-rc.1");
        for (daemon, how) in [
            ("99.0.0", "older than"),
            ("0.0.1", "newer than"),
            (candidate.as_str(), "of another version than"),
        ] {
            let expected = format!("this client ({OURS}) is {how} the daemon ({daemon}): ");
            let sentence = difference(daemon).unwrap();
            assert!(sentence.starts_with(&expected), "{sentence}");
        }
    }

    #[test]
    fn a_problem_keeps_its_code_and_remedy() {
        let problem =
            Problem::new(Code::BadBody, "unknown field `mood`").field("mood").remedy("leave it out");
        assert_eq!(beside(problem.clone(), OURS), problem);
        let found = beside(problem.clone(), "99.0.0");
        assert_eq!((found.code, &found.field), (problem.code, &problem.field));
        assert!(found.remedy.unwrap().starts_with("leave it out; this client ("));
        assert!(may_be_why(problem.code) && !may_be_why(Code::UnknownPeer));
    }
}
