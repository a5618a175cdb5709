//! Clients that are not what they should be: they cost only themselves.

mod support;

use dmtcp_launcher::client::ClientError;
use dmtcp_protocol::auth::{Key, Nonce, Side};
use dmtcp_protocol::frame::{self, HEADER};
use dmtcp_protocol::message::{Answer, Barrier, Challenge, FromClient, FromCoordinator, Hello};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{Read, Write};
use std::net::TcpStream;
use support::{CHECKPOINT, Coordinator, LIMIT, assert_done, join, run_generation};

fn stranger(coordinator: &Coordinator) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", coordinator.port)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

/// The other side has ended it.
fn cut_off(mut stream: TcpStream) {
    let mut rest = Vec::new();
    if let Err(error) = stream.read_to_end(&mut rest) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
}

#[test]
fn a_wrong_key_is_told_from_no_coordinator() {
    let coordinator = Coordinator::start(&[]);
    assert!(matches!(coordinator.connect_with([8; 32]), Err(ClientError::WrongKey { .. })));
    coordinator.status();
}

#[test]
fn a_client_that_ignores_our_proof_and_cannot_prove_its_own_is_cut_off() {
    let coordinator = Coordinator::start(&[]);
    let mut stream = stranger(&coordinator);
    let nonce = Nonce::default();
    stream.write_all(&frame::encode(&Hello { nonce })).unwrap();
    let mut header = [0u8; HEADER];
    stream.read_exact(&mut header).unwrap();
    let mut payload = vec![0u8; frame::payload_length(&header).unwrap()];
    stream.read_exact(&mut payload).unwrap();
    let challenge: Challenge = frame::decode(&payload).unwrap();
    let proof = Key::new([8; 32]).prove(Side::Client, &nonce, &challenge.nonce);
    stream.write_all(&frame::encode(&Answer { proof })).unwrap();
    // The command may already have nowhere to go.
    let _ = stream.write_all(&frame::encode(&FromClient::Command(dmtcp_protocol::message::Command::Quit)));
    cut_off(stream);
    coordinator.status();
}

#[test]
fn our_own_proof_sent_back_to_us_proves_nothing() {
    let coordinator = Coordinator::start(&[]);
    let mut stream = stranger(&coordinator);
    stream.write_all(&frame::encode(&Hello { nonce: Nonce::default() })).unwrap();
    let mut header = [0u8; HEADER];
    stream.read_exact(&mut header).unwrap();
    let mut payload = vec![0u8; frame::payload_length(&header).unwrap()];
    stream.read_exact(&mut payload).unwrap();
    let challenge: Challenge = frame::decode(&payload).unwrap();
    stream.write_all(&frame::encode(&Answer { proof: challenge.proof })).unwrap();
    cut_off(stream);
}

#[test]
fn junk_costs_only_its_sender() {
    let coordinator = Coordinator::start(&[]);
    let mut workers = [coordinator.worker(1)];
    let silent = stranger(&coordinator);
    let mut half = stranger(&coordinator);
    half.write_all(&frame::MAGIC).unwrap();
    let mut junk = stranger(&coordinator);
    // It is cut off somewhere on the way.
    let _ = junk.write_all(&vec![0x5a; 1 << 20]);
    cut_off(junk);
    let mut long = stranger(&coordinator);
    let mut header = frame::encode(&Hello { nonce: Nonce::default() });
    header[8..12].copy_from_slice(&(1u32 << 20).to_le_bytes());
    long.write_all(&header).unwrap();
    cut_off(long);
    let mut other_version = stranger(&coordinator);
    let mut hello = frame::encode(&Hello { nonce: Nonce::default() });
    hello[4] = 0xff;
    other_version.write_all(&hello).unwrap();
    cut_off(other_version);
    let mut asking = coordinator.begin(CHECKPOINT);
    run_generation(&mut workers, "x");
    assert_done(asking.outcome());
    drop((silent, half));
}

#[test]
fn many_silent_strangers_do_not_keep_others_out() {
    let coordinator = Coordinator::start(&[]);
    let crowd: Vec<TcpStream> = (0..300).map(|_| stranger(&coordinator)).collect();
    coordinator.status();
    drop(crowd);
    coordinator.worker(1);
}

#[test]
fn a_crowd_that_has_left_again_takes_nobodys_place() {
    let coordinator = Coordinator::start(&[]);
    // From its first answer on it listens for as many as the kernel lets it.
    coordinator.status();
    let pid = Pid::from_raw(coordinator.pid() as i32);
    // A machine that is too busy for the coordinator to have its turn.
    kill(pid, Signal::SIGSTOP).unwrap();
    let mut patient = stranger(&coordinator);
    patient.write_all(&frame::encode(&Hello { nonce: Nonce::default() })).unwrap();
    for _ in 0..300 {
        drop(stranger(&coordinator));
    }
    kill(pid, Signal::SIGCONT).unwrap();
    let mut header = [0u8; HEADER];
    patient.read_exact(&mut header).unwrap();
    assert!(frame::payload_length(&header).is_ok());
}

#[test]
fn an_acquaintance_that_talks_nonsense_is_cut_off() {
    let coordinator = Coordinator::start(&[]);
    let mut talker = coordinator.connect();
    talker.send(&FromClient::Reached { generation: 1, barrier: Barrier::Suspended }).unwrap();
    assert!(matches!(talker.recv(LIMIT, "a refusal"), Err(ClientError::Refused { .. })));
    let mut twice = coordinator.worker(1);
    twice.send(FromClient::Join(join(1, &coordinator.images())));
    assert!(matches!(twice.connection.recv(LIMIT, "a refusal"), Err(ClientError::Refused { .. })));
    let mut malformed = coordinator.connect();
    let mut frame_of_nonsense = frame::encode(&FromClient::Synced { generation: 1, stages: Vec::new() });
    frame_of_nonsense[HEADER] = 0x7f;
    (&mut malformed.stream()).write_all(&frame_of_nonsense).unwrap();
    assert!(matches!(malformed.recv(LIMIT, "the end"), Err(ClientError::Closed { .. })));
    coordinator.status();
}

#[test]
fn an_image_announced_too_early_fails_the_generation() {
    let coordinator = Coordinator::start(&[]);
    let mut a = coordinator.worker(1);
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = a.checkpoint();
    a.write(generation, "x");
    a.aborted();
    support::reason(asking.outcome());
}

#[test]
fn a_message_may_come_in_pieces() {
    let coordinator = Coordinator::start(&[]);
    let mut connection = coordinator.connect();
    let bytes = frame::encode(&FromClient::Join(join(1, &coordinator.images())));
    for piece in bytes.chunks(7) {
        (&mut connection.stream()).write_all(piece).unwrap();
        // Who answers somebody else has seen what was there before.
        coordinator.status();
    }
    assert!(matches!(connection.recv(LIMIT, "a welcome").unwrap(), FromCoordinator::Welcome { .. }));
}
