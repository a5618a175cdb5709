//! probe
dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// probe
    fn getppid() -> i32 { next() }
}
dmtcp_plugin_api::plugin! { name: "process", priority: 0, requires: ["descriptors"], wrappers: [WRAPPERS], init: |_| true }
dmtcp_plugin_api::hook!(PreCheckpoint, |core| core.section("x", b"y"));
#[derive(Default)]
struct Half;
impl dmtcp_plugin_api::restart::RestartHalf for Half {
    fn check(&self, _: &dmtcp_plugin_api::restart::Host<'_>) -> Vec<String> { Vec::new() }
    fn create(&self, _: &dmtcp_plugin_api::restart::Host<'_>) -> Result<(), String> { Ok(()) }
    fn place(&self, _: &dmtcp_plugin_api::restart::Host<'_>, _: u32) -> Result<(), String> { Ok(()) }
    fn explain(&self, _: &dmtcp_plugin_api::restart::Host<'_>, _: u32) -> String { String::new() }
}
dmtcp_plugin_api::restart_half!("process", Half);
