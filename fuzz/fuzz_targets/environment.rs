//! Fuzzes the reader of files of the modify-env plugin.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dmtcp_tests::parsers::environment(bytes));
