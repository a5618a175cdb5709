//! dmtcp_inspect: see [`dmtcp_restart::inspect`].

use dmtcp_launcher::failure;
use dmtcp_restart::inspect;

fn main() {
    let options: inspect::Options = failure::parse_arguments(failure::code());
    match inspect::run(&options) {
        Ok(text) => print!("{text}"),
        Err(error) => failure::fail("dmtcp_inspect", error),
    }
}
