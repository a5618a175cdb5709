//! Mutual proof of the computation's key, without sending it.
//!
//! The key is 32 random bytes in a file that only its owner can read. Each side proves it by a keyed hash (blake3) over
//! its own label and both nonces; the labels keep one side's proof from serving as the other's.

use alloc::string::String;

/// Length of a key in bytes. In the key file it stands as [`KEY_BYTES`] `* 2` hexadecimal digits and a newline.
pub const KEY_BYTES: usize = 32;

/// A secret that all processes of one user's computations share.
#[derive(Clone)]
pub struct Key([u8; KEY_BYTES]);

/// Random bytes that make each conversation's proofs unique.
pub type Nonce = [u8; 16];
/// What shows knowledge of the key.
pub type Proof = [u8; 32];

/// Which end of a conversation a proof speaks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The end that connected.
    Client,
    /// The end that listened.
    Coordinator,
}

impl Key {
    /// A key from random bytes.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The key in the text of a key file; `None` if that is not what the text holds.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digits = text.trim_ascii();
        if digits.len() != KEY_BYTES * 2 {
            return None;
        }
        let mut bytes = [0u8; KEY_BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let high = (pair[0] as char).to_digit(16)?;
            let low = (pair[1] as char).to_digit(16)?;
            *byte = (high * 16 + low) as u8;
        }
        Some(Self(bytes))
    }

    /// The text of a key file that holds this key.
    pub fn to_text(&self) -> String {
        let mut text = String::with_capacity(KEY_BYTES * 2 + 1);
        for byte in self.0 {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
            }
        }
        text.push('\n');
        text
    }

    /// This side's proof for a conversation.
    pub fn prove(&self, side: Side, client: &Nonce, coordinator: &Nonce) -> Proof {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(match side {
            Side::Client => b"dmtcp client v1",
            Side::Coordinator => b"dmtcp coord. v1",
        });
        hasher.update(client);
        hasher.update(coordinator);
        *hasher.finalize().as_bytes()
    }

    /// Whether a proof is right; takes the same time whichever byte differs.
    pub fn verify(&self, side: Side, client: &Nonce, coordinator: &Nonce, proof: &Proof) -> bool {
        let expected = self.prove(side, client, coordinator);
        expected.iter().zip(proof).fold(0u8, |acc, (a, b)| acc | (a ^ b)) == 0
    }
}
