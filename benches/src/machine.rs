//! What this machine can do at best: how fast it writes to a file and copies memory.

use anyhow::Result;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

const PIECE: usize = 8 << 20;
const PIECES: usize = 32;
const ROUNDS: usize = 5;

/// Rates in bytes per second.
pub struct Machine {
    /// pwrite of 8 MiB pieces to a new file in the directory of the images.
    pub pwrite: f64,
    /// memcpy into memory that is already there.
    pub memcpy: f64,
    /// memcpy into fresh memory, page faults included: what an eager restart cannot beat.
    pub fresh: f64,
}

/// Bytes that no file system or memory compresses.
fn noise(size: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        bytes.extend_from_slice(&x.to_le_bytes());
    }
    bytes
}

fn best(bytes: usize, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut rate = 0.0f64;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        work()?;
        rate = rate.max(bytes as f64 / start.elapsed().as_secs_f64());
    }
    Ok(rate)
}

impl Machine {
    /// Measure it; `directory` is where images go.
    pub fn measure(directory: &Path) -> Result<Machine> {
        let piece = noise(PIECE);
        let path = directory.join(format!("dmtcp-bench.{}", std::process::id()));
        let pwrite = best(PIECE * PIECES, || {
            let file = File::create(&path)?;
            for i in 0..PIECES {
                file.write_all_at(&piece, (i * PIECE) as u64)?;
            }
            Ok(())
        });
        let _ = std::fs::remove_file(&path);
        let from = vec![1u8; PIECE * PIECES];
        let mut there = vec![2u8; PIECE * PIECES];
        let memcpy = best(PIECE * PIECES, || {
            there.copy_from_slice(std::hint::black_box(&from));
            std::hint::black_box(&mut there);
            Ok(())
        })?;
        let fresh = best(PIECE * PIECES, || {
            let mut copies = Vec::with_capacity(PIECES);
            for _ in 0..PIECES {
                copies.push(std::hint::black_box(&piece).clone());
            }
            std::hint::black_box(&copies);
            Ok(())
        })?;
        Ok(Machine { pwrite: pwrite?, memcpy, fresh })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpus = std::thread::available_parallelism().map_or(1, |x| x.get());
        writeln!(
            f,
            "This machine: {cpus} CPUs; pwrite {:.2} GB/s, memcpy {:.2} GB/s, memcpy to fresh memory {:.2} GB/s",
            self.pwrite / 1e9,
            self.memcpy / 1e9,
            self.fresh / 1e9
        )
    }
}
