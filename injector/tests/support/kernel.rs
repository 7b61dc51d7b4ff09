//! What the running kernel has, by its version: the injector's own probing is under test.

/// The version of the running kernel.
pub fn version() -> (u32, u32) {
    let uname = rustix::system::uname();
    let release = uname.release().to_str().unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// Whether it has TCX.
pub fn has_tcx() -> bool {
    version() >= (6, 6)
}

/// How `status` names the hook of `auto` and `tc`.
pub fn tc() -> &'static str {
    if has_tcx() { "tcx" } else { "clsact" }
}
