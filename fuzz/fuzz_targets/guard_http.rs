//! [`fuzz::guard_http`] under libFuzzer.
#![no_main]
#![allow(unsafe_code, reason = "libFuzzer's entry point, which the macro makes")]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::guard_http(bytes));
