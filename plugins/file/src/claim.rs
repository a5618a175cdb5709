//! One round of claims: which open file descriptions are this plugin's, and what it notes of each.

use crate::state::{Files, Open, What};
use crate::{device, late, locks, memory, regular};
use dmtcp_plugin_api::core::{Core, core};
use dmtcp_plugin_api::descriptors::{Claimer, Descriptor};
use dmtcp_plugin_api::proc_files;
use dmtcp_plugin_api::round::Round;

/// Asked after those who know better what a descriptor is.
pub static CLAIMER: Claimer = Claimer { name: c"file".as_ptr(), priority: 100, begin, claim, describe };

/// What is known so far in a round.
#[derive(Debug, Default)]
pub struct State {
    /// The section to be.
    pub files: Files,
    /// Device and inode of the nameless files, and their content's object number.
    pub nameless: Vec<((u64, u64), u64)>,
    /// Device and inode of what dmtcp_restart's standard streams will stand for, and the number.
    pub inherited: Vec<((u64, u64), i32)>,
}

static STATE: Round<Option<State>> = Round::new(None);

extern "C" fn begin() {
    STATE.with(|state| *state = Some(State::default()));
}

extern "C" fn claim(d: &Descriptor) -> bool {
    let Some(core) = core() else { return false };
    STATE
        .with(|state| {
            let state = state.get_or_insert_default();
            let Some(what) = classify(core, state, d) else { return false };
            let position = d.info_field("pos").and_then(|p| p.parse().ok()).unwrap_or(0);
            let (numbers, locks) = (d.numbers().to_vec(), locks::parse(d.info()));
            state.files.opens.push(Open { object: d.object, numbers, flags: d.flags, position, what, locks });
            true
        })
        .unwrap_or(false)
}

/// What a descriptor is, if it is ours.
fn classify(core: Core, state: &mut State, d: &Descriptor) -> Option<What> {
    match d.mode & libc::S_IFMT {
        libc::S_IFREG => regular::regular(core, state, d),
        libc::S_IFDIR => regular::directory(core, d),
        _ if d.flags & libc::O_PATH != 0 => regular::named(d),
        libc::S_IFCHR | libc::S_IFBLK => device::device(core, d),
        libc::S_IFIFO | libc::S_IFSOCK => device::inherited(state, d),
        _ => None,
    }
}

extern "C" fn describe() {
    let Some(core) = core() else { return };
    let Some(mut state) = STATE.take() else { return };
    let directory = proc_files::read_link(&proc_files::task_path(core.application_task(), "cwd"));
    state.files.directory = directory.unwrap_or_default().as_slice().into();
    memory::describe(core, &mut state);
    late::remember(&state.files);
    core.json(Files::SECTION, &state.files);
}
