//! How the bytes of memory are compressed: one frame per chunk, each on its own.
//!
//! ```text
//!   chunk (1 MiB of an extent) --compress--> frame: all zeros (nothing stored) | stored as is | compressed
//! ```
//! A frame that would not become smaller is stored as it is. Frames know nothing of each other, so they can be read in
//! any order and by several threads.
//!
//! The compressor works while the application is stopped. It allocates when it is made and (zstd) when it is first used;
//! the caller gives it memory that is in no image, [`Method::scratch`] bytes of it.

use crate::CHUNK;
use crate::record::codec;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use lz4_flex::block::{CompressTable, compress_into_with_table};

/// A method of compression, and how hard it tries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Data as it is.
    #[default]
    None,
    /// Deflate, what gzip does; level 1 to 9.
    Gzip(u32),
    /// LZ4: the fastest.
    Lz4,
    /// Zstandard; level 1 to 19.
    Zstd(i32),
}

/// Level when none is named: the application stands still meanwhile.
const FAST: u32 = 1;
const MOST_GZIP: u32 = 9;
const MOST_ZSTD: u32 = 19;

impl Method {
    /// Reads `none`, `gzip[:LEVEL]`, `lz4` or `zstd[:LEVEL]`. The error is a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level)),
            None => (text, None),
        };
        let level_up_to = |most: u32| match level.map(str::parse) {
            None => Ok(FAST),
            Some(Ok(level)) if (1..=most).contains(&level) => Ok(level),
            Some(_) => Err(format!("{name} has the levels 1 to {most}, not '{}'", level.unwrap_or_default())),
        };
        match (name, level) {
            ("none", None) => Ok(Self::None),
            ("lz4", None) => Ok(Self::Lz4),
            ("none" | "lz4", Some(_)) => Err(format!("{name} has no levels")),
            ("gzip", _) => level_up_to(MOST_GZIP).map(Self::Gzip),
            ("zstd", _) => level_up_to(MOST_ZSTD).map(|level| Self::Zstd(level as i32)),
            _ => Err(format!("'{text}' is no method of compression: use gzip[:1-9], zstd[:1-19], lz4 or none")),
        }
    }

    /// The number that stands for the method in an image.
    pub fn number(self) -> u32 {
        match self {
            Self::None => codec::NONE,
            Self::Gzip(_) => codec::DEFLATE,
            Self::Lz4 => codec::LZ4,
            Self::Zstd(_) => codec::ZSTD,
        }
    }

    /// Bytes that a compressor allocates at most, a margin included.
    pub fn scratch(self) -> usize {
        const MARGIN: usize = 1 << 20;
        match self {
            Self::None => 0,
            Self::Gzip(_) | Self::Lz4 => 2 * MARGIN,
            Self::Zstd(level) => {
                // SAFETY: the function only computes.
                let estimate = unsafe { zstd_safe::zstd_sys::ZSTD_estimateCCtxSize(level) };
                // One that grows is made anew before the old one is freed.
                2 * estimate + MARGIN
            }
        }
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => write!(f, "none"),
            Self::Gzip(level) => write!(f, "gzip:{level}"),
            Self::Lz4 => write!(f, "lz4"),
            Self::Zstd(level) => write!(f, "zstd:{level}"),
        }
    }
}

/// Makes frames.
pub enum Compressor {
    /// Of deflate.
    Gzip(Compress),
    /// Of LZ4.
    Lz4(CompressTable),
    /// Of Zstandard, and its level.
    Zstd(zstd_safe::CCtx<'static>, i32),
}

impl Compressor {
    /// A compressor; `None` for no compression, and if there is not the memory.
    pub fn new(method: Method) -> Option<Self> {
        match method {
            Method::None => None,
            Method::Gzip(level) => Some(Self::Gzip(Compress::new(Compression::new(level), false))),
            Method::Lz4 => Some(Self::Lz4(CompressTable::default())),
            Method::Zstd(level) => zstd_safe::CCtx::try_create().map(|context| Self::Zstd(context, level)),
        }
    }

    /// Compresses a chunk into `into`, [`ROOM`] bytes; the length of the frame, or `None` if it would not be shorter.
    pub fn compress(&mut self, chunk: &[u8], into: &mut [u8]) -> Option<usize> {
        let length = match self {
            Self::Gzip(stream) => {
                stream.reset();
                let status = stream.compress(chunk, into, FlushCompress::Finish).ok()?;
                (status == Status::StreamEnd).then(|| stream.total_out() as usize)
            }
            Self::Lz4(table) => compress_into_with_table(chunk, into, table).ok(),
            Self::Zstd(context, level) => context.compress(into, chunk, *level).ok(),
        };
        length.filter(|length| *length < chunk.len())
    }
}

/// Expands a frame to exactly this chunk; false: it is no such frame.
pub fn expand(number: u32, frame: &[u8], into: &mut [u8]) -> bool {
    let length = match number {
        codec::DEFLATE => {
            let mut stream = Decompress::new(false);
            match stream.decompress(frame, into, FlushDecompress::Finish) {
                Ok(Status::StreamEnd) => Some(stream.total_out() as usize),
                _ => None,
            }
        }
        codec::LZ4 => lz4_flex::block::decompress_into(frame, into).ok(),
        codec::ZSTD => zstd_safe::decompress(into, frame).ok(),
        _ => None,
    };
    length == Some(into.len())
}

/// Room for a frame: every method gets as much as a chunk could become, although such a frame is not kept. LZ4 asks for
/// a tenth more than the chunk, deflate's quickest way takes up to nine bits for a byte.
pub const ROOM: usize = (CHUNK + CHUNK / 4) as usize;

#[cfg(test)]
mod tests {
    use super::*;

    fn methods() -> Vec<Method> {
        ["gzip", "gzip:9", "lz4", "zstd", "zstd:19"].iter().map(|text| Method::parse(text).unwrap()).collect()
    }

    #[test]
    fn methods_are_read_and_shown_alike() {
        for method in methods() {
            assert_eq!(Method::parse(&method.to_string()), Ok(method));
        }
        assert_eq!(Method::parse("none"), Ok(Method::None));
        for wrong in ["", "gzip:0", "gzip:10", "lz4:1", "zstd:20", "zstd:x", "bzip2", "none:1"] {
            assert!(Method::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn chunks_of_any_length_come_back() {
        let text: Vec<u8> = (0..CHUNK as u32).map(|n| (n / 7 % 251) as u8).collect();
        for method in methods() {
            let mut compressor = Compressor::new(method).unwrap();
            let mut frame = vec![0; ROOM];
            for length in [4096, 12288, text.len(), 4096, text.len()] {
                let size = compressor.compress(&text[..length], &mut frame).unwrap();
                assert!(size < length, "{method}: {size} of {length}");
                let mut back = vec![1; length];
                assert!(expand(method.number(), &frame[..size], &mut back), "{method}");
                assert!(back == text[..length], "{method}");
                assert!(!expand(method.number(), &frame[..size], &mut back[..length - 1]), "{method}: too short");
                assert!(!expand(method.number(), &frame[..size - 1], &mut back), "{method}: cut");
            }
        }
    }

    #[test]
    fn what_does_not_become_smaller_is_refused() {
        let mut state = 1u64;
        let noise: Vec<u8> = (0..CHUNK)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 56) as u8
            })
            .collect();
        for method in methods() {
            let mut frame = vec![0; ROOM];
            let mut compressor = Compressor::new(method).unwrap();
            for _ in 0..3 {
                assert_eq!(compressor.compress(&noise, &mut frame), None, "{method}");
            }
            assert!(compressor.compress(&[7; 4096], &mut frame).is_some(), "{method}");
        }
    }
}
