//! Removes the directories of generations that no longer count, on a thread of its own: a disk that is busy takes seconds for
//! large images, and processes that join meanwhile, or a user's command, would wait for the coordinator.
//!
//! Dropped, it finishes what it has begun. What it could not remove is found again by the next commit.

use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

/// The thread, once there was something to remove.
#[derive(Default)]
pub struct Remover(Option<(Sender<Vec<PathBuf>>, JoinHandle<()>)>);

impl Remover {
    /// Removes them some time.
    pub fn remove(&mut self, directories: Vec<PathBuf>) {
        if directories.is_empty() {
            return;
        }
        let (queue, _) = self.0.get_or_insert_with(|| {
            let (queue, received) = channel::<Vec<PathBuf>>();
            let work = move || received.iter().flatten().for_each(|directory| drop(std::fs::remove_dir_all(directory)));
            (queue, thread::spawn(work))
        });
        // The thread ends with its queue.
        let _ = queue.send(directories);
    }
}

impl Drop for Remover {
    fn drop(&mut self) {
        if let Some((queue, thread)) = self.0.take() {
            drop(queue);
            // A panic in it has said what it is.
            let _ = thread.join();
        }
    }
}
