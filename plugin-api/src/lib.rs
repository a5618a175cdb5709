//! The stable plugin interface. Every plugin depends on this crate alone; the core implements what it declares.
//!
//! A plugin is one shared object with two halves that share nothing but bytes in the image:
//!
//! * the *in-process half* lives inside the application: wrappers ([`wrappers!`], [`pass_through!`]), event hooks ([`hook!`]), claims and
//!   sections through [`core::Core`]. It obeys `docs/in-process-rules.md`: no libc call but through the next wrapper, raw
//!   system calls from [`sys`], memory from [`arena`];
//! * the *restart half* ([`restart`]) lives inside `dmtcp_restart` and is ordinary Rust.
//!
//! In the process only the `repr(C)` tables of [`abi`] cross between core and plugin.

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test is a program of its own")
)]

pub mod abi;
pub mod arena;
pub mod byte_text;
pub mod content;
pub mod core;
pub mod descriptors;
mod guard;
pub mod headroom;
pub mod ids;
pub mod kept;
mod lazy;
mod macros;
mod memory_functions;
pub mod names;
pub mod passing;
pub mod proc_files;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it runs in dmtcp_restart")]
pub mod restart;
pub mod round;
pub mod sys;
pub mod usage;
pub mod virtual_ids;

#[doc(hidden)]
pub mod private {
    pub use crate::lazy::{lazy_stub, next_symbol};
    pub use crate::resolve_and_jump;
    pub use inventory;
}
