//! How a plugin has to be linked; docs/plugin-tutorial.md says why.
fn main() {
    for argument in ["-Wl,-Bsymbolic", "-Wl,-z,now", "-Wl,--as-needed"] {
        println!("cargo:rustc-cdylib-link-arg={argument}");
    }
}
