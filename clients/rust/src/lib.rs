//! Nothing but a place for the suites in `tests`.
