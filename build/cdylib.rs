// Link settings of the libraries that are preloaded into other people's programs; included by their build scripts.
#[allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "a build script is a program of its own")]
fn main() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let link = std::path::Path::new(root)
        .ancestors()
        .map(|d| d.join("build/link"))
        .find(|d| d.join("libgcc_s.so").exists())
        .unwrap_or_else(|| panic!("no build/link above {root}"));
    println!("cargo:rustc-link-search=native={}", link.display());
    // -Bsymbolic: the address of a stub in a wrapper's descriptor must be this library's own stub, not that of whichever
    // plugin comes first. -z now: nothing may be bound lazily while threads are stopped or have no thread pointer yet.
    // Two segments instead of four: each one more costs the start of every program of a computation three system calls and
    // a mapping, which each fork copies. What relro would guard says no more than the cells of the stubs, which are written
    // at any time.
    for argument in ["-Wl,-Bsymbolic", "-Wl,-z,now", "-Wl,-z,norelro", "-Wl,--no-rosegment", "-Wl,--as-needed"] {
        println!("cargo:rustc-cdylib-link-arg={argument}");
    }
    println!("cargo:rerun-if-changed={}", link.display());
}
