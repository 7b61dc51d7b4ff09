//! What the running kernel has, by its version: the injector's own probing is under test.

#[allow(unused_imports, reason = "each test program uses a part")]
pub use injector_lab::has_tcx;

/// How `status` names the hook of `auto` and `tc`.
pub fn tc() -> &'static str {
    if has_tcx() { "tcx" } else { "clsact" }
}
