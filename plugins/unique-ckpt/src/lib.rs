//! Plugin `unique-ckpt`: every checkpoint gets a directory of its own, so that none replaces an older one.
//!
//! ```text
//!   CKPTDIR/generation-00001/ckpt_*.dmtcp
//!   CKPTDIR/generation-00002/ckpt_*.dmtcp
//!   CKPTDIR/dmtcp_restart_script.sh           restarts the newest
//! ```
//! A checkpoint that is given up leaves an empty directory behind. After a restart the directories go on beside the older
//! ones, or, if the restart named another checkpoint directory, in that one.

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test is a program of its own")
)]

use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::round::Round;
use dmtcp_plugin_api::{hook, plugin};

plugin! {
    name: "unique-ckpt",
    priority: -900,
    requires: [],
    wrappers: [],
    init: |_| true,
}

/// Directories of the last checkpoint; part of the image.
struct Last {
    /// Where the user wants images.
    base: Vec<u8>,
    /// What this plugin made of it.
    own: Vec<u8>,
}

static LAST: Round<Option<Last>> = Round::new(None);

hook!(PreCheckpoint, choose);

/// Where the user wants images, seen from where they go now.
fn base(now: Vec<u8>, last: Option<Last>) -> Vec<u8> {
    match last {
        Some(last) if last.own == now => last.base,
        _ => now,
    }
}

fn choose(core: Core) {
    let Some(now) = core.checkpoint_directory() else { return };
    let base = base(now, LAST.with(Option::take).flatten());
    let own = [&base, format!("/generation-{:05}", core.generation()).as_bytes()].concat();
    if !core.set_checkpoint_directory(&own) {
        return core.fail("this checkpoint cannot get a directory of its own, and is not to replace an older one");
    }
    LAST.with(|last| *last = Some(Last { base, own }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_do_not_nest() {
        let last = || Some(Last { base: b"/ckpt".to_vec(), own: b"/ckpt/generation-00001".to_vec() });
        assert_eq!(base(b"/ckpt".to_vec(), None), b"/ckpt");
        assert_eq!(base(b"/ckpt/generation-00001".to_vec(), last()), b"/ckpt");
        assert_eq!(base(b"/elsewhere".to_vec(), last()), b"/elsewhere", "the restart named another directory");
    }
}
