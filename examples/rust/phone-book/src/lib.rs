//! A plugin in Rust whose processes find each other: at every checkpoint, and after every restart, each publishes its pid,
//! waits until all have done so, and looks the others up. `c/phone_book.c` is the same in C; they find each other, too.

use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::{hook, ids, plugin, sys};

plugin! {
    name: "phone-book",
    priority: 0,
    requires: [],
    wrappers: [],
    init: |_| true,
}

hook!(PreCheckpoint, |core| report(core, "checkpoint"));
hook!(Restart, |core| report(core, "restart"));

/// The process's id, as its program knows it: after a restart the kernel may have given it another one.
fn pid(core: Core) -> i32 {
    ids::to_virtual(core, sys::pid())
}

fn report(core: Core, when: &str) {
    match find_each_other(core) {
        Ok(pids) => core.tell(&format!("{when}: {} finds {}", pid(core), pids.join(" "))),
        Err(reason) => core.tell(&reason),
    }
}

fn find_each_other(core: Core) -> Result<Vec<String>, String> {
    // A book for each generation: what was published for the one before is still there.
    let book = format!("/plugin/phone_book/{}", core.generation());
    let book = core.names(&book);
    // Adding is one step: no two processes get one number. The answer is the number of before.
    let number = book.add(b"count", 1)?.unwrap_or(0);
    book.set(format!("process {number}").as_bytes(), pid(core).to_string().as_bytes())?;
    // From here on everybody's number is in the book.
    core.meet("phone_book: published")?;
    let mut pids = Vec::new();
    for other in 0..book.number(b"count")?.unwrap_or(0) {
        let pid = book.get(format!("process {other}").as_bytes())?.unwrap_or_default();
        pids.push(String::from_utf8_lossy(&pid).into_owned());
    }
    Ok(pids)
}
