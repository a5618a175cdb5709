//! One connection: bytes in, bytes out, and how far the handshake is.
//!
//! ```text
//!   Greeting --Hello--> Proving --Answer, proof right--> Open
//!       |                  |
//!       +---- anything else, more bytes than a handshake has, too slow ----> ended
//! ```
//! What a stranger can make us hold is a few hundred bytes for a few seconds. What an acquaintance can make us hold is
//! one message in and [`MOST_UNSENT`] bytes out.

use crate::stream::Stream;
use dmtcp_protocol::auth::{Key, Nonce, Side};
use dmtcp_protocol::frame::{self, FrameError, HEADER};
use dmtcp_protocol::message::{Answer, Challenge, FromClient, FromCoordinator, Hello};
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// How long a client has for the handshake.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// Longest payload of a handshake message.
const MOST_STRANGE: usize = 256;
/// Bytes that wait to be sent at most; who does not read for that long is cut off.
const MOST_UNSENT: usize = 1 << 20;
/// Bytes that are read from one connection before the others get their turn.
const TURN: usize = 1 << 16;

/// How far the conversation is.
enum Stage {
    /// Nothing has come yet.
    Greeting,
    /// We have proved the key; the client has not.
    Proving { client: Nonce, coordinator: Nonce },
    /// Both have.
    Open,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The other side closed it.
    #[error("closed")]
    Closed,
    /// The kernel says so.
    #[error("{0}")]
    Broken(#[from] io::Error),
    /// It does not speak our language.
    #[error("{0}")]
    Foreign(FrameError),
    /// It does not have the key.
    #[error("it did not prove the key")]
    WrongKey,
    /// It takes too long.
    #[error("no handshake in {} s", HANDSHAKE.as_secs())]
    Slow,
    /// Too many strangers are at the door.
    #[error("too many connections without a handshake")]
    Crowded,
    /// It does not read.
    #[error("it does not read what is sent to it")]
    Deaf,
    /// The kernel has no random bytes to give.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
}

/// What a turn brought.
pub struct Turn {
    /// Messages, in order.
    pub messages: Vec<FromClient>,
    /// Whether there may be more to read.
    pub more: bool,
    /// Set when the connection is over; the messages came before that.
    pub end: Option<End>,
}

/// A connection.
pub struct Connection {
    /// The socket.
    pub stream: Stream,
    stage: Stage,
    since: Instant,
    received: Vec<u8>,
    unsent: Vec<u8>,
    closing: bool,
}

impl Connection {
    /// A connection that has just been accepted.
    pub fn new(stream: Stream, now: Instant) -> Self {
        Self { stream, stage: Stage::Greeting, since: now, received: Vec::new(), unsent: Vec::new(), closing: false }
    }

    /// When the handshake must be over; `None`: it is.
    pub fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Open => None,
            Stage::Greeting | Stage::Proving { .. } => Some(self.since + HANDSHAKE),
        }
    }

    /// Reads what has come, as far as one turn goes.
    pub fn receive(&mut self, key: &Key) -> Turn {
        let mut turn = Turn { messages: Vec::new(), more: false, end: None };
        if let Err(end) = self.fill(key, &mut turn) {
            turn.end = Some(end);
        }
        turn
    }

    /// Queues a message and sends what the socket takes. Progress is left out when older things wait.
    pub fn send(&mut self, message: &FromCoordinator) -> Result<(), End> {
        if matches!(message, FromCoordinator::Progress { .. }) && !self.unsent.is_empty() {
            return Ok(());
        }
        self.queue(&frame::encode(message))
    }

    /// Sends what the socket takes; true once the connection is to be ended and nothing is left.
    pub fn flush(&mut self) -> Result<bool, End> {
        let mut sent = 0;
        while sent < self.unsent.len() {
            match self.stream.write(&self.unsent[sent..]) {
                Ok(0) => return Err(End::Closed),
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.unsent.drain(..sent);
        Ok(self.closing && self.unsent.is_empty())
    }

    /// Ends the connection once everything is sent.
    pub fn close_when_sent(&mut self) {
        self.closing = true;
    }

    fn queue(&mut self, bytes: &[u8]) -> Result<(), End> {
        if self.unsent.len() + bytes.len() > MOST_UNSENT {
            return Err(End::Deaf);
        }
        self.unsent.extend_from_slice(bytes);
        self.flush().map(drop)
    }

    fn fill(&mut self, key: &Key, turn: &mut Turn) -> Result<(), End> {
        let mut chunk = [0u8; 8192];
        let mut taken = 0;
        loop {
            if taken >= TURN {
                turn.more = true;
                return Ok(());
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(End::Closed),
                Ok(count) => {
                    taken += count;
                    self.received.extend_from_slice(&chunk[..count]);
                    self.understand(key, turn)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes all whole messages off what has been received.
    fn understand(&mut self, key: &Key, turn: &mut Turn) -> Result<(), End> {
        loop {
            match self.stage {
                Stage::Greeting => {
                    let Some(Hello { nonce: client }) = self.handshake_message()? else { return Ok(()) };
                    let mut coordinator = Nonce::default();
                    getrandom::fill(&mut coordinator).map_err(End::Random)?;
                    let proof = key.prove(Side::Coordinator, &client, &coordinator);
                    self.stage = Stage::Proving { client, coordinator };
                    self.queue(&frame::encode(&Challenge { nonce: coordinator, proof }))?;
                }
                Stage::Proving { client, coordinator } => {
                    let Some(Answer { proof }) = self.handshake_message()? else { return Ok(()) };
                    if !key.verify(Side::Client, &client, &coordinator, &proof) {
                        return Err(End::WrongKey);
                    }
                    self.stage = Stage::Open;
                }
                Stage::Open => match frame::take(&mut self.received).map_err(End::Foreign)? {
                    Some(message) => turn.messages.push(message),
                    None => return Ok(()),
                },
            }
        }
    }

    fn handshake_message<M: serde::de::DeserializeOwned>(&mut self) -> Result<Option<M>, End> {
        if let Some(header) = self.received.first_chunk::<HEADER>() {
            let length = frame::payload_length(header).map_err(End::Foreign)?;
            if length > MOST_STRANGE {
                return Err(End::Foreign(FrameError::TooLong(length as u32)));
            }
        }
        frame::take(&mut self.received).map_err(End::Foreign)
    }
}
