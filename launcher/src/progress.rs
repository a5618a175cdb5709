//! How far something is, in one line of a terminal that is written over and over. Who is not read on a terminal (a log, a
//! pipe) never writes it.

use std::time::Duration;

/// How often the line is written anew.
pub const PAUSE: Duration = Duration::from_millis(50);
/// Removes the line.
pub const CLEAR: &str = "\r\x1b[K";
/// Width of the bar.
const WIDTH: usize = 30;

/// The line.
pub fn line(what: &str, done: u64, total: u64) -> String {
    let done = done.min(total);
    let part = |of: u64| u128::from(done) * u128::from(of) / u128::from(total.max(1));
    let full = part(WIDTH as u64) as usize;
    format!("\r{what} [{:<WIDTH$}] {:>3} % of {} MiB", "#".repeat(full), part(100), total.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_grows_from_nothing_to_its_width() {
        assert!(line("x", 0, 100 << 20).starts_with("\rx [          "));
        assert!(line("x", 50, 100).contains(&format!("[{:<30}]  50 % of 1 MiB", "#".repeat(15))));
        assert!(line("x", u64::MAX, u64::MAX).contains(&format!("[{}] 100 %", "#".repeat(30))));
        assert!(line("x", 5, 0).contains("  0 %"));
    }
}
