// Link settings of programs that run once for each start of somebody else's; included by their build scripts.
#[allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "a build script is a program of its own")]
fn main() {
    let link = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../build/link"));
    // Without libgcc_s.so.1, whose constructor alone asks the processor a dozen times what it is: in a virtual machine each
    // time leaves it.
    println!("cargo:rustc-link-search=native={}", link.display());
    println!("cargo:rerun-if-changed={}", link.display());
}
