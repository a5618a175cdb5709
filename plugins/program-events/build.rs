//! Link settings: see `build/cdylib.rs`.
include!("../../build/cdylib.rs");
