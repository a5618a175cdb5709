//! Frames: how one message is cut out of a byte stream.
//!
//! All integers are little-endian. A reader checks magic, version and length before it looks at the payload, so that a
//! stranger on the port costs twelve bytes.

use alloc::vec::Vec;
use serde::{Serialize, de::DeserializeOwned};

/// First bytes of every frame.
pub const MAGIC: [u8; 4] = *b"DMTP";
/// Version of the conversation; both ends must agree exactly.
pub const VERSION: u16 = 5;
/// Bytes before the payload.
pub const HEADER: usize = 12;
/// Longest payload that anybody may send, in bytes.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// Why bytes are not a frame of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The first bytes are not [`MAGIC`]: the peer speaks another protocol.
    NotOurs,
    /// The peer speaks this other version of the protocol.
    Version(u16),
    /// The length exceeds [`MAX_PAYLOAD`].
    TooLong(u32),
    /// The payload does not decode to the message that was expected.
    Malformed,
}

impl core::fmt::Display for FrameError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotOurs => write!(f, "the peer does not speak the DMTCP protocol"),
            Self::Version(v) => write!(f, "the peer speaks protocol version {v}, this program speaks {VERSION}"),
            Self::TooLong(n) => write!(f, "the peer announced a message of {n} bytes; the limit is {MAX_PAYLOAD}"),
            Self::Malformed => write!(f, "the peer sent a message that does not decode"),
        }
    }
}

/// One message as the bytes of a frame.
pub fn encode<M: Serialize>(message: &M) -> Vec<u8> {
    let payload = postcard::to_allocvec(message).unwrap_or_default();
    let mut out = Vec::with_capacity(HEADER + payload.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&payload);
    out
}

/// Length of the payload that follows this header.
pub fn payload_length(header: &[u8; HEADER]) -> Result<usize, FrameError> {
    if header[..4] != MAGIC {
        return Err(FrameError::NotOurs);
    }
    let version = u16::from_le_bytes([header[4], header[5]]);
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    if length as usize > MAX_PAYLOAD {
        return Err(FrameError::TooLong(length));
    }
    Ok(length as usize)
}

/// The message in a payload.
pub fn decode<M: DeserializeOwned>(payload: &[u8]) -> Result<M, FrameError> {
    postcard::from_bytes(payload).map_err(|_| FrameError::Malformed)
}

/// Takes the first whole message off a receive buffer; `None` while it is incomplete.
pub fn take<M: DeserializeOwned>(buffer: &mut Vec<u8>) -> Result<Option<M>, FrameError> {
    let Some(header) = buffer.first_chunk::<HEADER>() else { return Ok(None) };
    let length = payload_length(header)?;
    if buffer.len() < HEADER + length {
        return Ok(None);
    }
    let message = decode(&buffer[HEADER..HEADER + length])?;
    buffer.drain(..HEADER + length);
    Ok(Some(message))
}
