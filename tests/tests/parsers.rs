//! A bounded run of the fuzzers, which needs no fuzzer: seeds, and what a fixed number of changes makes of them.

use dmtcp_protocol::frame;
use dmtcp_protocol::message::{Answer, FromClient, FromCoordinator, Hello};
use dmtcp_tests::parsers;
use std::fs;
use std::path::{Path, PathBuf};

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % sides.max(1)
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All seeds in a directory of the source tree that are not larger than `most`.
fn seeds(directory: &str, most: usize) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = fs::read_dir(root().join(directory)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let seeds: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).filter(|seed| seed.len() <= most).collect();
    assert!(!seeds.is_empty(), "no seeds in {directory}");
    seeds
}

/// Calls a target with each seed and with `count` changed ones. Changes fall where the seed has something to say.
fn drive(target: fn(&[u8]), seeds: &[Vec<u8>], count: usize) {
    let mut dice = Dice(1);
    seeds.iter().for_each(|seed| target(seed));
    for turn in 0..count {
        let mut bytes = seeds[turn % seeds.len()].clone();
        for _ in 0..=dice.roll(4) {
            let length = bytes.len();
            if length == 0 {
                break;
            }
            let near = if dice.roll(2) == 0 { dice.roll(length) } else { dice.roll(length.min(3000)) };
            let at = (near..length).find(|at| bytes[*at] != 0).unwrap_or(near);
            match dice.roll(8) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, dice.roll(256) as u8),
                2 => drop(bytes.remove(at)),
                3 => bytes[at] ^= 1 << dice.roll(8),
                4 => bytes[at] = [0, 0xff, 0x7f, 0x80][dice.roll(4)],
                5 => {
                    let number = [0, 1, 4095, 4096, u64::MAX, u64::MAX / 2, 1 << 32, 1 << 56][dice.roll(8)];
                    let at = at / 8 * 8;
                    let end = (at + [4, 8][dice.roll(2)]).min(length);
                    bytes[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
                }
                6 => {
                    let other = &seeds[dice.roll(seeds.len())];
                    let from = dice.roll(other.len());
                    let piece = &other[from..(from + dice.roll(64)).min(other.len())];
                    let end = (at + piece.len()).min(length);
                    bytes[at..end].copy_from_slice(&piece[..end - at]);
                }
                _ => bytes[at] = dice.roll(256) as u8,
            }
        }
        target(&bytes);
    }
}

#[test]
fn images_that_somebody_has_changed_are_refused_or_read() {
    drive(parsers::image, &seeds("image/tests/golden", 1 << 16), 6000);
}

#[test]
fn frames_that_somebody_has_changed_are_refused_or_read() {
    let mut seeds = seeds("fuzz/corpus/frames", 1 << 16);
    // Seeds outlive versions: another one in the header would be refused before anything else is read.
    seeds.iter_mut().for_each(|seed| seed[4..6].copy_from_slice(&frame::VERSION.to_le_bytes()));
    let taken = |seed: &Vec<u8>| matches!(frame::take::<Hello>(&mut seed.clone()), Ok(Some(_)));
    assert!(seeds.iter().any(taken), "no seed is a message: make them anew");
    drive(parsers::frames, &seeds, 60_000);
}

#[test]
fn environment_files_of_any_content_are_refused_or_read() {
    drive(parsers::environment, &seeds("fuzz/corpus/environment", 1 << 16), 60_000);
}

#[test]
#[ignore = "writes files of the source tree, for a new version of the protocol"]
fn seeds_of_frames_are_made() {
    let reason = "a reason".to_owned();
    let seeds = [
        ("hello", frame::encode(&Hello { nonce: [7; 16] })),
        ("answer", frame::encode(&Answer { proof: [9; 32] })),
        ("again", frame::encode(&FromClient::Again { generation: 1 << 40 })),
        ("abort", frame::encode(&FromCoordinator::Abort { generation: 3, reason })),
        ("two", [frame::encode(&FromCoordinator::Kill), frame::encode(&FromClient::Again { generation: 4 })].concat()),
    ];
    for (name, seed) in seeds {
        fs::write(root().join("fuzz/corpus/frames").join(name), seed).unwrap();
    }
}
