//! Corpora of hostile inputs: one input a file, written so that a review can read it, with the verdict it must get.
//!
//! ```text
//! about   a header that never ends
//! verdict 431
//! send    GET / HTTP/1.1\r\n
//! repeat  2000 x: y\r\n
//! ```
//! `\r`, `\n`, `\\` and `\xNN` stand for bytes; a file's own line ends do not. Shared by the crates that read foreign bytes, which
//! include it by path: a file found by hand is put beside the others and is checked from then on.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;

pub struct Sample {
    pub name: String,
    pub verdict: String,
    pub bytes: Vec<u8>,
}

/// The files of a directory of a crate, in the order of their names.
pub fn read(directory: &Path) -> Vec<Sample> {
    let entries = std::fs::read_dir(directory).expect("the corpus directory");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let sample = |path: std::path::PathBuf| {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a text file");
        parse(name.clone(), &text).unwrap_or_else(|| panic!("{name} is not a corpus file"))
    };
    paths.into_iter().map(sample).collect()
}

fn parse(name: String, text: &str) -> Option<Sample> {
    let (mut about, mut verdict, mut bytes) = (None, None, Vec::new());
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (word, rest) = line.split_once(char::is_whitespace)?;
        let rest = if word == "send" { rest.trim_start() } else { rest.trim() };
        match word {
            "about" => about = Some(rest),
            "verdict" => verdict = Some(rest.to_owned()),
            "send" => bytes.extend(unescape(rest)?),
            "repeat" => {
                let (times, what) = rest.split_once(' ')?;
                bytes.extend(unescape(what)?.repeat(times.parse().ok()?));
            }
            _ => return None,
        }
    }
    about?;
    Some(Sample { name, verdict: verdict?, bytes })
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next()? {
                b'r' => b'\r',
                b'n' => b'\n',
                b'\\' => b'\\',
                b'x' => u8::from_str_radix(&String::from_utf8(vec![rest.next()?, rest.next()?]).ok()?, 16).ok()?,
                _ => return None,
            },
            byte => byte,
        });
    }
    Some(bytes)
}

/// One of the samples with a few bytes changed, taken out, put in, or with its end cut off.
pub fn mutated(samples: Vec<Sample>) -> impl Strategy<Value = Vec<u8>> {
    let samples: Vec<Vec<u8>> = samples.into_iter().map(|sample| sample.bytes).collect();
    let changes = proptest::collection::vec((any::<Index>(), any::<u8>(), 0..5), 0..8);
    (proptest::sample::select(samples), changes).prop_map(|(mut bytes, changes)| {
        for (at, byte, change) in changes.into_iter() {
            let at = at.index(bytes.len() + 1);
            match change {
                _ if at == bytes.len() => bytes.push(byte),
                0 => drop(bytes.remove(at)),
                1 => bytes.insert(at, byte),
                2 if byte < 32 => bytes.truncate(at),
                3 => bytes[at] ^= 1 << (byte % 8),
                _ => bytes[at] = byte,
            }
        }
        bytes
    })
}
