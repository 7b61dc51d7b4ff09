//! Gives the crate a library target, so that `injector` can depend on it and is rebuilt with it.
#![no_std]
