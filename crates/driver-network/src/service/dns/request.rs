//! What an answer takes over from the question it answers.

use hickory_proto::op::{Edns, Message, Metadata, OpCode, Query, ResponseCode};

/// What an answer repeats of the question.
#[derive(Debug)]
pub struct Request {
    metadata: Metadata,
    /// The one question, if it is one.
    pub question: Option<Query>,
    /// The guest speaks EDNS (RFC 6891), so it takes longer answers.
    edns: bool,
}

/// What we say we take, and send, in one datagram: fits every path without fragments.
const EDNS_SIZE: u16 = 1232;
const PLAIN_SIZE: u16 = 512;

impl Request {
    pub fn of(message: &Message) -> Self {
        Self {
            metadata: message.metadata,
            question: match &message.queries[..] {
                [question] => Some(question.clone()),
                _ => None,
            },
            edns: message.edns.is_some(),
        }
    }

    pub fn op_code(&self) -> OpCode {
        self.metadata.op_code
    }

    /// An answer without records.
    pub fn response(&self, code: ResponseCode) -> Message {
        let mut message = Message::response(self.metadata.id, self.metadata.op_code);
        message.metadata.response_code = code;
        message.queries.extend(self.question.clone());
        self.adapt(message)
    }

    /// Makes any answer the answer to this request.
    pub fn adapt(&self, mut message: Message) -> Message {
        message.metadata.id = self.metadata.id;
        message.metadata.recursion_desired = self.metadata.recursion_desired;
        message.metadata.recursion_available = true;
        message.edns = self.edns.then(|| {
            let mut edns = Edns::new();
            edns.set_max_payload(EDNS_SIZE);
            edns
        });
        message
    }
}

/// The bytes for a datagram: cut down to the header when it would not fit, so that the guest asks over TCP.
pub fn datagram(message: &Message) -> Option<Vec<u8>> {
    let limit = if message.edns.is_some() { EDNS_SIZE } else { PLAIN_SIZE };
    match message.to_vec() {
        Ok(bytes) if bytes.len() <= usize::from(limit) => Some(bytes),
        Ok(_) => message.truncate().to_vec().ok(),
        Err(_) => None,
    }
}
