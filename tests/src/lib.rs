//! Support for tests that launch, checkpoint, kill and restart real programs.
//!
//! A test is a [`Case`]: a program, who runs it, and a flow that takes a [`Scenario`] through launch, checkpoints,
//! SIGKILL and restarts. The programs under test append numbered steps to a log; [`progress`] says what those
//! numbers prove.
//!
//! ```text
//!   cargo test          runner (one per test file)
//!      |                   |  one child per case: adopts and ends all that it starts, has a time limit
//!      v                   v
//!   tests/*.rs  --->    Scenario --- coordinator, launch, command, restart (processes under test)
//! ```
//!
//! What can go wrong: a process under test escapes. It cannot outlive its case: the case's process is a child
//! subreaper and kills all its descendants, by pid, before it ends.

pub mod case;
pub mod coordinator;
pub mod cpuset;
pub mod disk;
pub mod evidence;
pub mod examples;
pub mod identity;
pub mod library;
pub mod need;
pub mod parsers;
pub mod process;
pub mod program;
pub mod progress;
pub mod recorder;
pub mod restart;
pub mod runner;
pub mod scenario;
pub mod terminal;
pub mod tool;
pub mod wait;

pub use anyhow::{Context, Result, bail, ensure};
pub use case::Case;
pub use identity::RunAs;
pub use need::Need;
pub use program::Program;
pub use restart::Restart;
pub use scenario::Scenario;
