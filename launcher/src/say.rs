//! Lines for people, on stdout and stderr.
//!
//! The macros of std end the program when nobody reads any more (`dmtcp_command l | head -1`, a terminal that was
//! closed under a coordinator). What we do does not depend on being read.

use std::fmt::Display;
use std::io::Write;

/// A line on stdout.
pub fn out(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Text on stdout, without a newline, at once.
pub fn out_at_once(text: impl Display) {
    let mut stdout = std::io::stdout();
    let _ = write!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// A line on stderr, in one piece: lines of several processes do not mix.
pub fn err(line: impl Display) {
    err_at_once(format_args!("{line}\n"));
}

/// Text on stderr, without a newline, in one piece.
pub fn err_at_once(text: impl Display) {
    let _ = std::io::stderr().write_all(text.to_string().as_bytes());
}
