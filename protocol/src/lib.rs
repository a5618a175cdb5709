//! Every layout that crosses a process: coordinator messages, the environment that a launch hands on, file names.
//!
//! Pure data: no I/O and no std, so that the same definitions serve the programs and the code that lives inside an
//! application. See `docs/protocol.md` for the conversation as a whole.
//!
//! ```text
//!  frame:   magic "DMTP" | version u16 | reserved u16 | length u32 | payload (postcard of one message)
//!
//!  client                                   coordinator
//!    | -- Hello{role, nonce} ---------------> |
//!    | <- Challenge{nonce, proof} ----------- |   proves that the coordinator knows the key
//!    | -- Answer{proof} --------------------> |   proves that the client does
//!    | -- Join / Restart / Command ---------> |
//! ```
#![no_std]
extern crate alloc;

pub mod auth;
pub mod env;
pub mod frame;
pub mod handoff;
pub mod manifest;
pub mod message;
pub mod names;
pub mod script;
