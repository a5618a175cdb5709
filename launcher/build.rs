//! Link settings: see `build/program.rs`.
include!("../build/program.rs");
