//! Wrappers of a library that is not libc: says which databases SQLite opens and which statements it is given, whether the
//! program is linked with SQLite, opens it by dlopen, or is Python with its sqlite3 module.
//!
//! ```text
//!   cargo build --release
//!   dmtcp_launch --with-plugin target/release/libexample_query_log.so python3 -c 'import sqlite3; sqlite3.connect("a.db")'
//! ```

use dmtcp_plugin_api::{plugin, sys, wrappers};
use std::ffi::{CStr, c_char, c_int, c_void};

wrappers! { static WRAPPERS;
    /// Says which database is opened.
    fn sqlite3_open(name: *const c_char, database: *mut *mut c_void) -> c_int {
        say("open", name);
        next(name, database)
    }
    /// Says which database is opened.
    fn sqlite3_open_v2(name: *const c_char, database: *mut *mut c_void, flags: c_int, vfs: *const c_char) -> c_int {
        say("open", name);
        next(name, database, flags, vfs)
    }
    /// Says which statement is given.
    fn sqlite3_prepare_v2(
        database: *mut c_void, sql: *const c_char, length: c_int, statement: *mut *mut c_void, tail: *mut *const c_char,
    ) -> c_int {
        say("statement", sql);
        next(database, sql, length, statement, tail)
    }
}

plugin! {
    name: "query-log",
    priority: 0,
    requires: [],
    wrappers: [WRAPPERS],
    init: |_| true,
}

fn say(what: &str, text: *const c_char) {
    // SAFETY: SQLite takes zero-terminated texts, or null for a database without a name.
    let text = if text.is_null() { c"" } else { unsafe { CStr::from_ptr(text) } };
    // Standard error may be closed: then there is nobody to tell.
    let _ = sys::write(2, format!("query-log: {what} {}\n", text.to_string_lossy()).as_bytes());
}
