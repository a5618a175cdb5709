//! What the processes of a family tell their maker while they come to life: one small record each, through a pipe.

/// What a process tells its maker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// It and its tasks exist; the value is its pid.
    Born = 1,
    /// It is in its group.
    Joined,
    /// It is ready for the stub.
    Ready,
    /// It is about to exec the original program; the value is the descriptor of its [`Crossing`].
    Crossing,
    /// Somebody's id is taken; the value is the errno.
    NoId,
    /// It has said what is wrong.
    Said,
}

/// Bytes of one report.
pub const LENGTH: usize = 12;

/// A report as it goes through the pipe.
pub fn encode(kind: Kind, node: usize, value: i32) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..4].copy_from_slice(&(kind as u32).to_le_bytes());
    bytes[4..8].copy_from_slice(&(node as u32).to_le_bytes());
    bytes[8..].copy_from_slice(&value.to_le_bytes());
    bytes
}

/// The same back; none if it is nonsense.
pub fn decode(bytes: [u8; LENGTH]) -> Option<(Kind, usize, i32)> {
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let kinds = [Kind::Born, Kind::Joined, Kind::Ready, Kind::Crossing, Kind::NoId, Kind::Said];
    let kind = kinds.into_iter().find(|kind| *kind as u32 == word(0))?;
    Some((kind, word(4) as usize, word(8) as i32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_survive_the_pipe() {
        assert_eq!(decode(encode(Kind::Crossing, 7, -3)), Some((Kind::Crossing, 7, -3)));
        assert_eq!(decode([0; LENGTH]), None);
    }
}
