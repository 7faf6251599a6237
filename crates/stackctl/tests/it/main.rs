//! Tests on the files of the work tree.
#![allow(clippy::unwrap_used)]

mod compose;
mod script;
