//! QMP on the wire: one JSON object per line. Pure; the other side may be hostile, so lines are bounded and nothing here panics.

use serde::Deserialize;
use serde_json::Value;

/// The longest reply to anything we ask is a few tens of kilobytes.
pub const MAX_LINE: usize = 1024 * 1024;
/// Events wait until somebody looks at them, so that a QEMU that was taken over must not fill memory with them; honest ones are a few
/// hundred bytes.
pub const MAX_EVENT: usize = 16 * 1024;

#[derive(Debug, Clone, PartialEq)]
pub struct QmpEvent {
    pub name: String,
    pub data: Value,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Fault {
    #[serde(default)]
    pub class: String,
    #[serde(default, rename = "desc")]
    pub text: String,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    Greeting {
        version: (u64, u64, u64),
    },
    Reply {
        id: u64,
        result: Result<Value, Fault>,
    },
    Event(QmpEvent),
    /// Valid JSON that answers nothing we asked.
    Other,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CodecError {
    #[error("a line is longer than {MAX_LINE} bytes")]
    TooLong,
    #[error("an event is longer than {MAX_EVENT} bytes")]
    EventTooLong,
    #[error("not a JSON object: {0}")]
    NotJson(String),
}

/// Collects bytes into lines.
#[derive(Default)]
pub struct Lines {
    buffer: Vec<u8>,
    scanned: usize,
}

impl Lines {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line without its end, or nothing yet.
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>, CodecError> {
        let Some(at) = self.buffer[self.scanned..].iter().position(|b| *b == b'\n') else {
            self.scanned = self.buffer.len();
            return if self.buffer.len() > MAX_LINE { Err(CodecError::TooLong) } else { Ok(None) };
        };
        let rest = self.buffer.split_off(self.scanned + at + 1);
        let mut line = std::mem::replace(&mut self.buffer, rest);
        self.scanned = 0;
        while line.last().is_some_and(|b| *b == b'\n' || *b == b'\r') {
            line.pop();
        }
        if line.len() > MAX_LINE { Err(CodecError::TooLong) } else { Ok(Some(line)) }
    }
}

pub fn parse(line: &[u8]) -> Result<Message, CodecError> {
    let value: Value = serde_json::from_slice(line).map_err(|e| CodecError::NotJson(e.to_string()))?;
    let Value::Object(mut object) = value else {
        return Err(CodecError::NotJson("something else".to_owned()));
    };
    if let Some(greeting) = object.get("QMP") {
        let part = |name| greeting.pointer(&format!("/version/qemu/{name}")).and_then(Value::as_u64).unwrap_or(0);
        return Ok(Message::Greeting { version: (part("major"), part("minor"), part("micro")) });
    }
    if let Some(Value::String(name)) = object.remove("event") {
        if line.len() > MAX_EVENT {
            return Err(CodecError::EventTooLong);
        }
        let data = object.remove("data").unwrap_or(Value::Null);
        return Ok(Message::Event(QmpEvent { name, data }));
    }
    let Some(id) = object.get("id").and_then(Value::as_u64) else { return Ok(Message::Other) };
    if let Some(result) = object.remove("return") {
        return Ok(Message::Reply { id, result: Ok(result) });
    }
    match object.remove("error").map(serde_json::from_value::<Fault>) {
        Some(Ok(fault)) => Ok(Message::Reply { id, result: Err(fault) }),
        _ => Ok(Message::Other),
    }
}

pub fn encode(id: u64, command: &str, arguments: Option<&Value>) -> Vec<u8> {
    let mut object = serde_json::Map::new();
    object.insert("execute".to_owned(), command.into());
    if let Some(arguments) = arguments {
        object.insert("arguments".to_owned(), arguments.clone());
    }
    object.insert("id".to_owned(), id.into());
    let mut bytes = Value::Object(object).to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn messages() {
        let table = [
            (
                r#"{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": ""}, "capabilities": ["oob"]}}"#,
                Message::Greeting { version: (10, 0, 2) },
            ),
            (r#"{"return": {}, "id": 7}"#, Message::Reply { id: 7, result: Ok(json!({})) }),
            (
                r#"{"id": 8, "error": {"class": "GenericError", "desc": "no"}}"#,
                Message::Reply { id: 8, result: Err(Fault { class: "GenericError".into(), text: "no".into() }) },
            ),
            (
                r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}"#,
                Message::Event(QmpEvent { name: "STOP".into(), data: Value::Null }),
            ),
            (r#"{"return": {}}"#, Message::Other),
            (r#"{"id": "x", "return": 1}"#, Message::Other),
            (r#"{"id": 3, "error": "text"}"#, Message::Other),
            (r#"{"event": 5}"#, Message::Other),
        ];
        for (line, message) in table {
            assert_eq!(parse(line.as_bytes()), Ok(message), "{line}");
        }
        for bad in ["", "[]", "7", "{", "{\"a\":}", "\u{0}"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::default();
        for _ in 0..9 {
            lines.push(&vec![b'x'; MAX_LINE / 8]);
        }
        assert_eq!(lines.next_line(), Err(CodecError::TooLong));
    }

    #[test]
    fn requests_are_lines_that_parse() {
        let bytes = encode(3, "device_del", Some(&json!({"id": "a\nb"})));
        assert_eq!(bytes.iter().filter(|b| **b == b'\n').count(), 1);
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value, json!({"execute": "device_del", "arguments": {"id": "a\nb"}, "id": 3}));
    }
}
