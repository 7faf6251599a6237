//! Integration tests: the library on real folders, the command as a process, the services over HTTP.

#![allow(clippy::unwrap_used)]

mod command;
mod crash;
mod evidence;
mod killed;
mod services;
mod support;
mod tables;
mod tamper;
