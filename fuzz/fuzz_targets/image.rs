//! Fuzzes the reader of images that somebody has changed.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dmtcp_tests::parsers::image(bytes));
