//! libdmtcp.so, preloaded first into every process of a computation.
//!
//! | module | owns |
//! |---|---|
//! | [`life`] | constructor, the checkpoint thread, its connection, one checkpoint from end to end, coming back to life |
//! | [`threads`] | stopping the application's threads, their state, letting them go |
//! | [`capture`] | the process's memory and registers as an image |
//! | [`host`] | plugins: wiring of wrappers, events, sections, claims, services |
//! | [`ids`] | what the application calls a task whose id has changed |
//! | [`interface`] | the original's C interface, for programs and C plugins |
//! | [`signal`] | the checkpoint signal, hidden from the application |
//! | [`timed`] | deadlines of relative waits that a checkpoint interrupts |
//! | [`config`], [`log`] | the environment's settings; the flight recorder |
//!
//! It knows no feature of the operating system beyond memory, threads and its own signal: everything else is a plugin's.
//! Code here obeys `docs/in-process-rules.md`.

mod capture;
mod config;
mod host;
mod ids;
mod interface;
mod life;
mod log;
mod signal;
mod threads;
mod timed;

use dmtcp_plugin_api::arena::Arenas;

#[global_allocator]
static ARENAS: Arenas = Arenas::new();

#[cfg(not(test))]
dmtcp_plugin_api::memory_functions!();
