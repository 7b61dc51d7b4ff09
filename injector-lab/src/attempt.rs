//! Attempts at the daemon that tests make.

/// Notes what somebody tried, and the result, once the assertions before it have held. `injector/tests/security.rs` reads these calls
/// from the tests' sources, and makes `docs/results/attempts.md` of them.
pub fn attempt(who: &str, what: &str, result: &str) {
    println!("attempt: {who}: {what}: {result}");
}
