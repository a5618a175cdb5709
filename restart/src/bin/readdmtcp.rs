//! readdmtcp: the original's name for the list of an image's mappings; see [`dmtcp_restart::inspect`].

use dmtcp_launcher::failure;
use dmtcp_restart::inspect;

fn main() {
    let options: inspect::Options = failure::parse_arguments(failure::code());
    match inspect::run(&options.or_maps()) {
        Ok(text) => print!("{text}"),
        Err(error) => failure::fail("readdmtcp", error),
    }
}
