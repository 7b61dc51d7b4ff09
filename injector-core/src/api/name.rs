//! Names of partitions: they are a part of a path.

use super::problem::{Code, Problem};

/// The longest name.
const LONGEST: usize = 64;

/// Whether a partition may have this name. A path goes through it as it is: `.` and `..` would be resolved by HTTP clients, and
/// other characters could mean another path.
///
/// # Errors
/// What the daemon answers to another name.
pub fn partition_name(name: &str) -> Result<(), Problem> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_path = matches!(name, "." | "..");
    if name.is_empty() || name.len() > LONGEST || is_path || !name.chars().all(is_legal) {
        return Err(Problem::new(Code::BadParameter, format!("\"{name}\" can't be a partition's name"))
            .field("name")
            .remedy("use 1 to 64 letters, digits, dots, underscores and hyphens, but not . or .. alone"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_part_of_a_path() {
        for name in ["a", "a.b_c-9", "...", ".a", "..a", &"x".repeat(64)] {
            assert_eq!(partition_name(name), Ok(()), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a b", "ü", "%2e", &"x".repeat(65)] {
            let problem = partition_name(name).unwrap_err();
            assert_eq!(
                (problem.code, problem.field.as_deref()),
                (Code::BadParameter, Some("name")),
                "{name}"
            );
        }
    }
}
