//! One wrapper that does nothing but call the next one. Copies of this library are stacked; each has another digit in its
//! name.

use dmtcp_plugin_api::{plugin, wrappers};
use std::ffi::c_int;

wrappers! { static WRAPPERS;
    /// The function of `benches/programs/layered.c`.
    fn dmtcp_bench_call(value: c_int) -> c_int {
        next(value)
    }
}

plugin! {
    name: "bench-layer-0",
    priority: 0,
    requires: [],
    wrappers: [WRAPPERS],
    init: |_| true,
}
