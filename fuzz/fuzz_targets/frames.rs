//! Fuzzes the reader of frames and messages on a connection.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dmtcp_tests::parsers::frames(bytes));
