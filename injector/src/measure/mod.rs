//! The measurement core.
