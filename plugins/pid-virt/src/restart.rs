//! The restart half: asks for the ids that the process had, and for the part of its family that has no image.

use crate::state::{Ended, Ids};
use dmtcp_plugin_api::ids;
use dmtcp_plugin_api::restart::{EndedChild, Host, RestartHalf};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::OpenOptionsExt;

/// The restart half.
#[derive(Debug, Default)]
pub struct Half;

fn section(host: &Host<'_>, index: u32) -> Result<Option<Ids>, String> {
    host.json(index, Ids::SECTION).map_err(|e| format!("plugin {}: {e}", crate::NAME))
}

/// An empty table, one for all processes, under a name that says which it is.
fn make_table() -> Result<File, String> {
    let name = ids::name(RandomState::new().hash_one(std::process::id()).max(1));
    let path = format!("{}{name}", ids::PREFIX);
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
    let file = file.and_then(|file| file.set_len(ids::LENGTH as u64).map(|()| file));
    file.map_err(|e| format!("cannot make {path}, by which ids can be translated: {e}; mount /dev/shm"))
}

impl RestartHalf for Half {
    fn check(&self, host: &Host<'_>) -> Vec<String> {
        let all = || 0..host.process_count();
        // Whose ids are unknown cannot be kept from getting those of others.
        let some_are_known = all().any(|index| matches!(section(host, index), Ok(Some(_))));
        let lacking = |index| match section(host, index) {
            Err(sentence) => Some(sentence),
            Ok(None) if some_are_known => Some(format!(
                "process {}: its image does not say which ids it had, while others do: it was made with plugin {} switched \
                 off; restart it apart from them",
                host.process(index).map_or(0, |process| process.pid),
                crate::NAME
            )),
            Ok(_) => None,
        };
        all().filter_map(lacking).collect()
    }

    fn create(&self, host: &Host<'_>) -> Result<(), String> {
        let mut table = None;
        for index in 0..host.process_count() {
            if let Some(ids) = section(host, index)? {
                if ids.table != 0 {
                    let copy = table.get_or_insert_with(make_table).as_ref().map_err(Clone::clone)?;
                    let copy = copy.try_clone().map_err(|e| format!("cannot keep the table of ids open: {e}"))?;
                    host.provide(ids.table, copy.into());
                    host.id_table(ids.table);
                }
                host.want_ids(index, &[&[ids.pid][..], &ids.tids].concat());
                host.foreground(index, ids.foreground);
                host.exit_signal(index, ids.pid, ids.exit_signal);
                for id in ids.leaderless {
                    host.leaderless(index, id);
                }
                for Ended { pid, pgid, sid, status, exit_signal } in ids.ended {
                    host.exit_signal(index, pid, exit_signal);
                    host.ended_child(index, EndedChild { pid, pgid, sid, status });
                }
            }
        }
        Ok(())
    }

    fn place(&self, _: &Host<'_>, _: u32) -> Result<(), String> {
        Ok(())
    }

    fn explain(&self, host: &Host<'_>, index: u32) -> String {
        let Ok(Some(ids)) = section(host, index) else { return String::new() };
        let [uid, euid, gid, egid] = ids.users;
        format!(
            "  pid {}, parent {}, group {}, session {}, {} more threads, {} ended children, \
             user {uid}/{euid}, group {gid}/{egid}\n",
            ids.pid,
            ids.ppid,
            ids.pgid,
            ids.sid,
            ids.tids.len(),
            ids.ended.len()
        )
    }
}
