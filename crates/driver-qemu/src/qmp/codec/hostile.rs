//! A QEMU that was taken over says what it likes: the corpus, changed copies of it, and noise.

use super::*;
use crate::corpus;
use proptest::prelude::*;
use std::path::PathBuf;

fn samples() -> Vec<corpus::Sample> {
    corpus::read(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus/qmp"))
}

/// What is heard when the bytes come in pieces of this size, until what is heard ends the connection.
fn hear(bytes: &[u8], piece: usize) -> Vec<Result<Message, CodecError>> {
    let mut lines = Lines::default();
    let mut heard = Vec::new();
    for piece in bytes.chunks(piece) {
        lines.push(piece);
        loop {
            let message = match lines.next_line() {
                Ok(None) => break,
                Ok(Some(line)) => parse(&line),
                Err(error) => Err(error),
            };
            let ended = message.is_err();
            heard.push(message);
            if ended {
                return heard;
            }
        }
    }
    heard
}

fn verdict(bytes: &[u8]) -> String {
    let word = |message: &Result<Message, CodecError>| match message {
        Ok(Message::Greeting { .. }) => "greeting",
        Ok(Message::Reply { result: Ok(_), .. }) => "reply",
        Ok(Message::Reply { result: Err(_), .. }) => "error",
        Ok(Message::Event(_)) => "event",
        Ok(Message::Other) => "other",
        Err(_) => "end",
    };
    let words: Vec<_> = hear(bytes, 16 * 1024).iter().map(word).collect();
    match &words[..] {
        [] => "nothing".to_owned(),
        many if many.len() > 100 && many.iter().all(|word| *word == "event") => "events".to_owned(),
        few => few.join(", "),
    }
}

#[test]
fn the_corpus_gets_its_verdicts() {
    let samples = samples();
    assert!(samples.len() > 40, "only {} files", samples.len());
    let judged = samples.iter().map(|sample| (sample, verdict(&sample.bytes))).filter(|(sample, verdict)| sample.verdict != *verdict);
    let wrong: Vec<_> = judged.map(|(sample, verdict)| format!("{}: {verdict}", sample.name)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What must hold for any bytes: how they come makes no difference, no line is lost, and no event is large.
fn check(bytes: &[u8], piece: usize) -> Result<(), TestCaseError> {
    let heard = hear(bytes, 16 * 1024);
    prop_assert_eq!(&hear(bytes, piece), &heard);
    let ends = bytes.iter().filter(|byte| **byte == b'\n').count();
    let ended = heard.last().is_some_and(Result::is_err);
    prop_assert!(heard.len() == ends || ended);
    let large = |event: &QmpEvent| event.name.len() + event.data.to_string().len() > 2 * MAX_EVENT;
    prop_assert!(!heard.iter().any(|message| matches!(message, Ok(Message::Event(event)) if large(event))));
    Ok(())
}

proptest! {
    #[test]
    fn changed_streams_do_no_harm(bytes in corpus::mutated(samples().into_iter().filter(|s| s.bytes.len() < 40_000).collect()), piece in 1usize..5000) {
        check(&bytes, piece)?;
    }

    #[test]
    fn noise_does_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..2000), piece in 1usize..300) {
        check(&bytes, piece)?;
    }
}
