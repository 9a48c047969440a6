//! The corpus: images written as text, so that a review can read them, with the verdict each must get.
//!
//! ```text
//! declare qcow2
//! verdict refused: ...
//! length 196616
//! 0 514649fb00000003
//! ```
//! A line is an offset and bytes, both hexadecimal; everything else is zero. `UNKAI_CORPUS_UPDATE=1` writes the files again
//! from the table of hostile files; the diff is part of the review. Files found by hand may be added and are kept.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use unkai_imagefile::{DiskFormat, check};

use crate::builders::{self as b, Image};
use crate::{hostile, inspect};

struct Sample {
    declared: DiskFormat,
    verdict: String,
    bytes: Vec<u8>,
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn verdict(declared: DiskFormat, bytes: &[u8]) -> String {
    match check(declared, &inspect(bytes)) {
        Ok(accepted) => format!("accepted: {} bytes", accepted.virtual_size()),
        Err(refusal) => format!("refused: {refusal}"),
    }
}

fn write(sample: &Sample) -> String {
    let mut text = format!("declare {}\nverdict {}\nlength {}\n", sample.declared, sample.verdict, sample.bytes.len());
    for (index, row) in sample.bytes.chunks(32).enumerate() {
        if row.iter().any(|byte| *byte != 0) {
            let hex: String = row.iter().fold(String::new(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            });
            let _ = writeln!(text, "{:x} {hex}", index * 32);
        }
    }
    text
}

fn parse(text: &str) -> Option<Sample> {
    let mut lines = text.lines();
    let declared = lines.next()?.strip_prefix("declare ")?.parse().ok()?;
    let verdict = lines.next()?.strip_prefix("verdict ")?.to_owned();
    let length: usize = lines.next()?.strip_prefix("length ")?.parse().ok()?;
    let mut image = Image::zeros(length);
    for line in lines {
        let (at, hex) = line.split_once(' ')?;
        let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
        let bytes: Option<Vec<_>> = digits.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
        image = image.put(usize::from_str_radix(at, 16).ok()?, &bytes?);
    }
    (image.0.len() == length).then_some(Sample { declared, verdict, bytes: image.0 })
}

fn samples() -> BTreeMap<String, Sample> {
    let entries = std::fs::read_dir(directory()).expect("the corpus directory");
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a text file");
        let sample = parse(&text).unwrap_or_else(|| panic!("{name} is not a corpus file"));
        (name, sample)
    };
    entries.map(read).collect()
}

/// All images of the corpus, for mutation.
pub fn images() -> Vec<(String, Vec<u8>)> {
    samples().into_iter().map(|(name, sample)| (name, sample.bytes)).collect()
}

fn update() {
    let sound = [
        ("sound-raw", DiskFormat::Raw, b::raw()),
        ("sound-qcow2", DiskFormat::Qcow2, b::qcow2()),
        ("sound-vmdk", DiskFormat::Vmdk, b::vmdk()),
        ("sound-vmdk-stream", DiskFormat::Vmdk, b::vmdk_footer()),
        ("sound-vhd", DiskFormat::Vhd, b::vhd()),
        ("sound-vdi", DiskFormat::Vdi, b::vdi()),
        ("sound-vhdx", DiskFormat::Vhdx, b::vhdx()),
        ("sound-iso", DiskFormat::Iso, b::iso()),
    ];
    let rows = hostile::rows().into_iter().map(|row| (row.name, row.declared, row.hostile));
    for (name, declared, image) in sound.into_iter().chain(rows) {
        let sample = Sample { declared, verdict: verdict(declared, &image.0), bytes: image.0 };
        std::fs::write(directory().join(format!("{name}.txt")), write(&sample)).expect("writing the corpus");
    }
}

#[test]
fn the_corpus_gets_its_verdicts() {
    if std::env::var_os("UNKAI_CORPUS_UPDATE").is_some() {
        update();
    }
    let samples = samples();
    assert!(samples.len() > 100, "only {} files", samples.len());
    for (name, sample) in samples {
        assert_eq!(verdict(sample.declared, &sample.bytes), sample.verdict, "{name}");
    }
}
