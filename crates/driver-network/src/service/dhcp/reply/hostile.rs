//! Guests that ask awkwardly: the corpus of frames, changed copies of them, and noise.

use std::path::PathBuf;

use proptest::prelude::*;

use super::tests::{CLIENT, RIGHT, snapshot};
use super::*;
use crate::corpus;

/// An answer repeats the client's identifier, so it may grow with the question, but not by more than what it says itself.
const OWN_PART: usize = 600;

fn samples() -> Vec<corpus::Sample> {
    corpus::read(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus/dhcp"))
}

fn answered(frame: &[u8]) -> Option<(Message, Vec<u8>)> {
    let bytes = answer(&snapshot(), frame)?;
    let payload = bytes.get(42..).expect("headers");
    Some((Message::decode(payload).expect("we answer in DHCP"), bytes))
}

fn verdict(frame: &[u8]) -> &'static str {
    match answered(frame).and_then(|(message, _)| message.kind()) {
        None => "silence",
        Some(message::OFFER) => "offer",
        Some(message::ACK) => "ack",
        Some(message::NAK) => "nak",
        Some(other) => panic!("an answer of type {other}"),
    }
}

/// What must hold for any frame: nobody is given, or told, what belongs to another.
fn check(frame: &[u8]) -> Result<(), TestCaseError> {
    let Some((message, bytes)) = answered(frame) else { return Ok(()) };
    let snapshot = snapshot();
    prop_assert!(message.reply);
    prop_assert!(bytes.len() <= frame.len() + OWN_PART, "{} bytes for {}", bytes.len(), frame.len());
    prop_assert!([CLIENT, Mac::BROADCAST].contains(&Mac(*bytes.first_chunk().unwrap())));
    prop_assert_eq!(&bytes[6..12], &snapshot.mac.0);
    prop_assert!(message.yours.is_unspecified() || message.yours == RIGHT);
    prop_assert_eq!(message.address_option(message::SERVER_ID), Some(Ipv4Addr::new(10, 0, 0, 2)));
    prop_assert_eq!(frame.get(6..12), Some(&CLIENT.0[..]), "an answer to somebody else");
    Ok(())
}

#[test]
fn the_corpus_gets_its_verdicts() {
    let samples = samples();
    assert!(samples.len() > 50, "only {} files", samples.len());
    let wrong: Vec<_> = samples.iter().filter(|sample| verdict(&sample.bytes) != sample.verdict).collect();
    let wrong: Vec<_> = wrong.iter().map(|sample| format!("{}: {}", sample.name, verdict(&sample.bytes))).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    samples.iter().for_each(|sample| check(&sample.bytes).unwrap_or_else(|why| panic!("{}: {why}", sample.name)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn changed_frames_do_no_harm(frame in corpus::mutated(samples())) {
        check(&frame)?;
    }

    /// Random bytes somewhere in a frame that is otherwise right, lengths included.
    #[test]
    fn noise_in_a_right_frame_does_no_harm(tail in proptest::collection::vec(any::<u8>(), 0..400), at in 0usize..300) {
        let mut frame = tests::ask(message::DISCOVER, |_| {});
        frame.truncate(42 + at);
        frame.extend(&tail);
        let total = (frame.len() - 14) as u16;
        frame[16..18].copy_from_slice(&total.to_be_bytes());
        frame[38..40].copy_from_slice(&(total - 20).to_be_bytes());
        check(&frame)?;
    }
}
