//! The program behind the channel is the tenant's: the corpus of what it may say, changed copies of it, and an agent that never stops.

use super::*;
use crate::corpus;
use proptest::prelude::*;
use std::path::PathBuf;

fn samples() -> Vec<corpus::Sample> {
    corpus::read(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus/guest-agent"))
}

/// What a command comes to when the agent says these bytes and closes.
async fn ask(bytes: &[u8]) -> Result<Value> {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut agent = GuestAgent { stream: ours, buffer: Vec::new() };
    let said = async move {
        // The one that asks may have had enough before everything is said.
        let _ = theirs.write_all(bytes).await;
        let _ = theirs.shutdown().await;
        theirs
    };
    let asked = async move { agent.execute("guest-ping", json!({}), Duration::from_secs(60)).await };
    tokio::join!(asked, said).0
}

fn verdict(outcome: &Result<Value>) -> String {
    let text = match outcome {
        Ok(value) => return format!("answer {value}"),
        Err(Error::GuestAgent(text)) => text,
        Err(other) => return other.to_string(),
    };
    match text.strip_prefix("guest-ping: ") {
        Some(refusal) if refusal.chars().count() > 100 => format!("refused {} characters", refusal.chars().count()),
        Some(refusal) => format!("refused {refusal}"),
        None => format!("end {text}"),
    }
}

#[tokio::test]
async fn the_corpus_gets_its_verdicts() {
    let samples = samples();
    assert!(samples.len() > 15, "only {} files", samples.len());
    let mut wrong = Vec::new();
    for sample in samples {
        let outcome = verdict(&ask(&sample.bytes).await);
        if outcome != sample.verdict {
            wrong.push(format!("{}: {outcome}", sample.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn check(runtime: &tokio::runtime::Runtime, bytes: &[u8]) -> std::result::Result<(), TestCaseError> {
    match runtime.block_on(ask(bytes)) {
        Ok(value) => prop_assert!(value.to_string().len() <= 6 * bytes.len()),
        Err(Error::GuestAgent(text)) => prop_assert!(text.chars().count() <= 400),
        Err(other) => return Err(TestCaseError::fail(other.to_string())),
    }
    Ok(())
}

#[test]
fn changed_answers_and_noise_do_no_harm() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let small = || samples().into_iter().filter(|sample| sample.bytes.len() < 10_000).collect();
    proptest!(|(bytes in corpus::mutated(small()))| check(&runtime, &bytes)?);
    proptest!(|(bytes in proptest::collection::vec(any::<u8>(), 0..600))| check(&runtime, &bytes)?);
}

#[tokio::test]
async fn who_never_stops_is_cut_off_in_time() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut agent = GuestAgent { stream: ours, buffer: Vec::new() };
    let pouring = tokio::spawn(async move { while theirs.write_all(b"garbage\n").await.is_ok() {} });
    let outcome = agent.execute("guest-ping", json!({}), Duration::from_millis(200)).await;
    assert!(matches!(outcome, Err(Error::Timeout { .. })), "{outcome:?}");
    drop(agent);
    pouring.await.unwrap();
}
