//! dmtcp_restart: see [`dmtcp_restart`].

use dmtcp_launcher::failure;
use dmtcp_restart::{options::Options, program, wait};

fn main() {
    let options: Options = failure::parse_arguments(failure::code());
    match program::run(&options) {
        Ok(ended) => wait::end_as(ended),
        Err(told) if told.is_told() => std::process::exit(failure::code()),
        Err(error) => failure::fail("dmtcp_restart", error),
    }
}
