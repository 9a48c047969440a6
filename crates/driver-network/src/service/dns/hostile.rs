//! Guests that ask awkwardly and resolvers that answer so: the corpora, changed copies of them, and noise.

use std::path::PathBuf;

use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::{Name, RecordType};
use proptest::prelude::*;

use super::answer::{Outcome, answer, tests::network};
use super::forward::fitting;
use super::request::{Request, datagram};
use crate::corpus;

fn samples(of: &str) -> Vec<corpus::Sample> {
    corpus::read(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(of))
}

fn say(message: &Message) -> String {
    format!("{:?} {}", message.metadata.response_code, message.answers.len())
}

fn to_guest(bytes: &[u8]) -> String {
    match answer(&network(), bytes) {
        Outcome::Silence => "silence".into(),
        Outcome::Forward(_) => "forward".into(),
        Outcome::Answer(message) => say(&message),
    }
}

/// The question that the resolver's answers of the corpus are for.
fn query() -> Message {
    let mut query = Message::query();
    query.metadata.id = 0x4d4d;
    query.queries.push(hickory_proto::op::Query::query(Name::from_ascii("example.org.").unwrap(), RecordType::A));
    query
}

fn of_resolver(bytes: &[u8]) -> String {
    fitting(&query(), bytes).map_or("passed over".into(), |message| say(&message))
}

fn judge_all(of: &str, judge: fn(&[u8]) -> String, check: fn(&[u8]) -> Result<(), TestCaseError>) {
    let samples = samples(of);
    assert!(samples.len() >= 20, "only {} files", samples.len());
    let mut wrong = Vec::new();
    for sample in samples {
        if judge(&sample.bytes) != sample.verdict {
            wrong.push(format!("{}: {} instead of {}", sample.name, judge(&sample.bytes), sample.verdict));
        }
        check(&sample.bytes).unwrap_or_else(|why| panic!("{}: {why}", sample.name));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn questions_of_the_corpus_get_their_verdicts() {
    judge_all("dns", to_guest, check_question);
}

#[test]
fn answers_of_the_corpus_get_their_verdicts() {
    judge_all("resolver", of_resolver, check_answer);
}

/// What must hold for any question: an answer is one, to it, and fits; what is passed on is one question written anew.
fn check_question(bytes: &[u8]) -> Result<(), TestCaseError> {
    match answer(&network(), bytes) {
        Outcome::Silence => {}
        Outcome::Answer(message) => {
            let sent = datagram(&message).expect("what we answer can be written");
            prop_assert!(sent.len() <= 1232, "{} bytes", sent.len());
            prop_assert_eq!(&sent[..2], &bytes[..2]);
            let read = Message::from_vec(&sent).expect("what we write can be read");
            prop_assert_eq!(read.metadata.message_type, MessageType::Response);
        }
        Outcome::Forward(request) => {
            let mut query = Message::query();
            query.queries.extend(request.question);
            prop_assert_eq!(query.queries.len(), 1);
            let sent = query.to_vec().expect("what we pass on can be written");
            prop_assert!(sent.len() <= 12 + 255 + 4, "{} bytes", sent.len());
            prop_assert!(Message::from_vec(&sent).is_ok());
        }
    }
    Ok(())
}

/// What must hold for anything a resolver says: the guest gets at most a datagram of it, under the number it asked with.
fn check_answer(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Some(message) = fitting(&query(), bytes) else { return Ok(()) };
    let mut asked = query();
    asked.metadata.id = 7;
    let adapted = Request::of(&asked).adapt(message);
    let Some(sent) = datagram(&adapted) else { return Ok(()) };
    prop_assert!(sent.len() <= 512, "{} bytes", sent.len());
    prop_assert_eq!(&sent[..2], &[0, 7]);
    Ok(())
}

/// A header with one question of any bytes.
fn question(name: Vec<u8>, kind: u16) -> Vec<u8> {
    let header = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    [&header[..], &name, &[0], &kind.to_be_bytes(), &[0, 1]].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn changed_questions_do_no_harm(bytes in corpus::mutated(samples("dns"))) {
        check_question(&bytes)?;
    }

    #[test]
    fn changed_answers_do_no_harm(bytes in corpus::mutated(samples("resolver"))) {
        check_answer(&bytes)?;
    }

    #[test]
    fn noise_does_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        check_question(&bytes)?;
        check_answer(&bytes)?;
    }

    #[test]
    fn hostile_names_do_no_harm(name in proptest::collection::vec(any::<u8>(), 0..200), kind in any::<u16>()) {
        check_question(&question(name, kind))?;
    }
}
