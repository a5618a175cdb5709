//! What the programs of a computation share on the outside of the application: finding or starting a coordinator,
//! talking to it, and failing in one way.
//!
//! ```no_run
//! use dmtcp_launcher::{client::ANSWER, coordinator};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut found = coordinator::find_or_start(&coordinator::Wanted::default())?;
//! let mut connection = found.connect()?;
//! connection.send(&dmtcp_protocol::message::FromClient::Command(dmtcp_protocol::message::Command::Status))?;
//! let answer = connection.recv(ANSWER, "the status")?;
//! # drop(answer); Ok(()) }
//! ```
//!
//! Nothing here runs inside an application: this is ordinary std code.

pub mod client;
pub mod command_line;
pub mod coordinator;
pub mod exec;
pub mod failure;
pub mod flags;
pub mod generate;
pub mod key;
pub mod launch;
pub mod launch_flags;
pub mod libraries;
pub mod local;
pub mod plugin_file;
pub mod plugin_library;
mod plugin_list;
pub mod plugins;
pub mod progress;
pub mod report;
pub mod say;
pub mod scratch;
mod start;
pub mod target;
