//! Frames and messages that somebody has changed, cut, or made up: the reader gives an error or another message, never a
//! panic, and never takes more memory than the bytes that came could fill.

use dmtcp_protocol::auth::Key;
use dmtcp_protocol::frame::{self, FrameError, HEADER, MAX_PAYLOAD};
use dmtcp_protocol::message::{
    Answer, Barrier, Challenge, Command, ComputationId, FromClient, FromCoordinator, Hello, Join, Outcome, Status,
    Timings, Worker, Written,
};
use dmtcp_protocol::names::{self, Operation, Scope};

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % sides.max(1)
    }
}

fn samples() -> Vec<Vec<u8>> {
    let join = Join {
        virtual_pid: 1,
        real_pid: 2,
        program: "program".into(),
        host: "host".into(),
        process: 3,
        restarted: Some((ComputationId(4), 5)),
        member_of: None,
        checkpoint_dir: "/somewhere".into(),
        interval: 6,
        keep: 1,
    };
    let written = Written {
        generation: 7,
        path: "/a".into(),
        public_path: "/b".into(),
        bytes: 8,
        background: true,
        unsupported: vec!["fd 3".into()],
        stages: vec![("stop".into(), 9)],
    };
    let status = Status {
        host: "host".into(),
        port: 1,
        peers: 2,
        running: true,
        interval: 3,
        computation: Some(ComputationId(4)),
        generation: 5,
        checkpoint_dir: "/".into(),
        last: Some(Timings { phases: vec![("sync".into(), 6)], ..Timings::default() }),
        restart: None,
    };
    let row = Worker {
        number: 1,
        program: "p".into(),
        virtual_pid: 2,
        real_pid: 3,
        host: "h".into(),
        process: 4,
        state: "RUNNING".into(),
        barrier: Some(Barrier::Written),
    };
    vec![
        frame::encode(&Hello { nonce: [1; 16] }),
        frame::encode(&Challenge { nonce: [2; 16], proof: [3; 32] }),
        frame::encode(&Answer { proof: [4; 32] }),
        frame::encode(&FromClient::Join(join)),
        frame::encode(&FromClient::Written(written)),
        frame::encode(&FromClient::Command(Command::Checkpoint { wait: true, kill: false })),
        frame::encode(&FromClient::Failed { generation: 1, reason: "reason".into(), recent: vec!["line".into()] }),
        frame::encode(&FromClient::Name {
            ticket: 1,
            computation: ComputationId(2),
            database: "database".into(),
            key: b"key".to_vec(),
            operation: Operation::Set(b"value".to_vec()),
        }),
        frame::encode(&FromClient::Meet { ticket: 1, generation: 2, name: "barrier".into(), scope: Scope::Host }),
        frame::encode(&FromCoordinator::Named { ticket: 1, answer: names::Answer::Was(Some(b"value".to_vec())) }),
        frame::encode(&FromCoordinator::Met { ticket: 1, failure: Some("reason".into()) }),
        frame::encode(&FromCoordinator::Outcome(Outcome::Status(Box::new(status)))),
        frame::encode(&FromCoordinator::Outcome(Outcome::List(vec![row]))),
        frame::encode(&FromCoordinator::Refused { reason: "reason".into() }),
    ]
}

/// What any reader would do with these bytes.
fn read(bytes: &[u8]) {
    fn all<M: serde::de::DeserializeOwned>(bytes: &[u8]) {
        let mut buffer = bytes.to_vec();
        while let Ok(Some(_)) = frame::take::<M>(&mut buffer) {}
    }
    all::<Hello>(bytes);
    all::<Challenge>(bytes);
    all::<Answer>(bytes);
    all::<FromClient>(bytes);
    all::<FromCoordinator>(bytes);
}

#[test]
fn changed_bytes_harm_nobody() {
    let mut dice = Dice(1);
    for sample in samples() {
        for _ in 0..4000 {
            let mut bytes = sample.clone();
            for _ in 0..=dice.roll(4) {
                // The header is looked at before anything else: let most changes pass it.
                let from = if dice.roll(8) == 0 { 0 } else { HEADER };
                let at = from + dice.roll(bytes.len() - from);
                bytes[at] = [0, 0xff, 0x7f, 0x80, dice.roll(256) as u8][dice.roll(5)];
            }
            read(&bytes);
        }
    }
}

#[test]
fn made_up_payloads_harm_nobody() {
    let mut dice = Dice(2);
    let header = &frame::encode(&Answer { proof: [0; 32] })[..8];
    for _ in 0..40_000 {
        let length = dice.roll(200);
        let mut bytes = header.to_vec();
        bytes.extend_from_slice(&(length as u32).to_le_bytes());
        bytes.extend((0..length).map(|_| dice.roll(256) as u8));
        read(&bytes);
    }
}

#[test]
fn a_cut_message_waits_for_the_rest() {
    for sample in samples() {
        for cut in 0..sample.len() {
            let mut buffer = sample[..cut].to_vec();
            assert!(matches!(frame::take::<FromCoordinator>(&mut buffer), Ok(None)), "{cut} of {}", sample.len());
            assert_eq!(buffer.len(), cut);
        }
    }
}

#[test]
fn a_header_is_refused_before_its_payload_comes() {
    let good = frame::encode(&Hello { nonce: [0; 16] });
    let with = |at: usize, bytes: &[u8]| {
        let mut header = good[..HEADER].to_vec();
        header[at..at + bytes.len()].copy_from_slice(bytes);
        frame::take::<Hello>(&mut header).unwrap_err()
    };
    assert_eq!(with(0, b"HTTP"), FrameError::NotOurs);
    assert_eq!(with(4, &[9, 0]), FrameError::Version(9));
    let long = MAX_PAYLOAD as u32 + 1;
    assert_eq!(with(8, &long.to_le_bytes()), FrameError::TooLong(long));
}

#[test]
fn key_files_of_any_content_are_read_or_refused() {
    let mut dice = Dice(3);
    let text = Key::new([0xab; 32]).to_text();
    assert!(Key::parse(text.as_bytes()).is_some());
    for _ in 0..20_000 {
        let mut bytes = text.clone().into_bytes();
        bytes[dice.roll(text.len())] = dice.roll(256) as u8;
        bytes.truncate(text.len() - dice.roll(3));
        let _ = Key::parse(&bytes);
    }
    assert!(Key::parse("é".repeat(32).as_bytes()).is_none());
}
