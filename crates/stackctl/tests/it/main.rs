//! Tests on the files of the work tree.

mod compose;
mod script;
