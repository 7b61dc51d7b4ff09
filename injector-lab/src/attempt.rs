//! Attempts at the daemon that tests make.

/// Notes what somebody tried, and what came of it, once the assertions before it have held. The page `docs/results/attempts.md` is
/// made of these lines as they stand in the tests' sources: `injector/tests/security.rs`.
pub fn attempt(who: &str, what: &str, result: &str) {
    println!("attempt: {who}: {what}: {result}");
}
