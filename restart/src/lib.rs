//! dmtcp_restart: brings a computation back from its images; dmtcp_inspect: shows what is in them.
//!
//! ```text
//!   images (which) -> checks, plugins (may it be) -> coordinator -> plugins (create)
//!     -> forest (who forks whom) -> family (all processes, gate by gate)
//!     -> each process: tasks -> plugins (place) -> staging -> layout -> stub -> restored memory
//!     \- namespace (only if their ids are not to be had here)
//!   wait (until it ends)
//! ```
//! Until the stub runs, everything is ordinary Rust with errors as values, and every failure leaves the machine as it
//! was. After that there is one address space too few for that: the stub can only say what failed and end the process.
//! `docs/image-format.md` describes what is read here.

pub mod checks;
pub mod clock;
pub mod descriptors;
pub mod family;
pub mod forest;
pub mod gaps;
pub mod holes;
pub mod host;
pub mod hostfile;
pub mod images;
pub mod inject;
pub mod inspect;
pub mod kernel;
pub mod layout;
pub mod mm;
pub mod namespace;
pub mod options;
pub mod original;
mod origins;
pub mod pause;
pub mod plugins;
pub mod process;
pub mod program;
pub mod progress;
pub mod report;
pub mod reports;
pub mod staging;
pub mod stub;
pub mod table;
mod terminal;
mod translation;
pub mod vdso;
pub mod wait;
