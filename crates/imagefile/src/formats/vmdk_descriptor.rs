//! The text descriptor inside a VMDK: `key=value` entries and extent lines.
//!
//! Only what is understood is accepted, because readers search this text in different ways, some of them for a word
//! anywhere in it, comments included.

use crate::bytes::{all_zero, printable};
use crate::problem::DescriptorFault as Fault;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    MonolithicSparse,
    StreamOptimized,
}

/// Entries that are numbers or words and name nothing.
const HARMLESS: &[&str] = &["version", "encoding", "cid", "isnativesnapshot"];
/// Entries whose value is the name of another file.
const FILE_NAMES: &[&str] = &["parentfilenamehint", "changetrackpath", "digestfilename", "nativeparenthint"];
/// Words that some readers look for anywhere; each may stand in the text once.
const SEARCHED: &[&str] = &["createType", "parentCID", "CID"];
const MAX_FAULTS: usize = 16;

#[derive(Debug, Default)]
struct Reading {
    kind: Option<Kind>,
    typed: bool,
    parent_seen: bool,
    extents: usize,
    faults: Vec<Fault>,
}

pub(crate) fn judge(bytes: &[u8], capacity: u64, grain: u64) -> (Option<Kind>, Vec<Fault>) {
    let mut reading = Reading::default();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (text, rest) = bytes.split_at(end);
    reading.fault_if(!all_zero(rest), Fault::Trailing);
    let title = b"# Disk DescriptorFile";
    reading.fault_if(!text.get(..title.len()).is_some_and(|start| start.eq_ignore_ascii_case(title)), Fault::Header);
    reading.fault_if(text.iter().any(|byte| byte.is_ascii_control() && !b"\n\r\t".contains(byte)), Fault::NotText);
    reading.searched_words(text);
    for (index, line) in text.split(|byte| matches!(byte, b'\n' | b'\r')).enumerate() {
        reading.line(index + 1, line.trim_ascii(), capacity, grain);
    }
    reading.fault_if(reading.extents != 1, Fault::Extents(reading.extents));
    reading.fault_if(!reading.typed, Fault::Missing("createType"));
    reading.fault_if(!reading.parent_seen, Fault::Missing("parentCID"));
    (reading.kind, reading.faults)
}

impl Reading {
    fn fault_if(&mut self, wrong: bool, fault: Fault) {
        if wrong && self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.fault_if(true, fault);
    }

    /// `CID=` is part of `parentCID=`, so it may be found twice.
    fn searched_words(&mut self, text: &[u8]) {
        for word in SEARCHED {
            let most = if *word == "CID" { 2 } else { 1 };
            let needle = format!("{word}=");
            self.fault_if(count(text, needle.as_bytes()) > most, Fault::Repeated(word));
        }
        for word in FILE_NAMES {
            self.fault_if(count(text, word.as_bytes()) > 0, Fault::NamesFile((*word).to_owned()));
        }
    }

    fn line(&mut self, number: usize, line: &[u8], capacity: u64, grain: u64) {
        if line.is_empty() || line.starts_with(b"#") {
            return;
        }
        if starts_extent(line) {
            self.extents += 1;
            return self.extent(number, line, capacity, grain);
        }
        match line.iter().position(|byte| *byte == b'=') {
            Some(at) => self.entry(line[..at].trim_ascii(), line[at + 1..].trim_ascii()),
            None => self.fault(Fault::Line(number)),
        }
    }

    fn entry(&mut self, key: &[u8], value: &[u8]) {
        let key = printable(key, 64).to_ascii_lowercase();
        let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        match key.as_str() {
            "createtype" => self.create_type(value),
            "parentcid" => {
                self.parent_seen = true;
                self.fault_if(!value.eq_ignore_ascii_case(b"ffffffff"), Fault::Parent);
            }
            _ if FILE_NAMES.contains(&key.as_str()) || HARMLESS.contains(&key.as_str()) => {}
            _ if key.starts_with("ddb.") => {
                let linked = key.contains("parent") && value.iter().any(|byte| !b"0-".contains(byte));
                self.fault_if(linked, Fault::Parent);
            }
            _ => self.fault(Fault::UnknownKey(key)),
        }
    }

    fn create_type(&mut self, value: &[u8]) {
        self.typed = true;
        match value {
            b"monolithicSparse" => self.kind = Some(Kind::MonolithicSparse),
            b"streamOptimized" => self.kind = Some(Kind::StreamOptimized),
            other => self.fault(Fault::CreateType(printable(other, 32))),
        }
    }

    /// `RW 32768 SPARSE "disk.vmdk"`, with an optional offset of 0.
    fn extent(&mut self, number: usize, line: &[u8], capacity: u64, grain: u64) {
        let (head, quoted) = line.split_at(line.iter().position(|byte| *byte == b'"').unwrap_or(line.len()));
        let words: Vec<_> = head.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
        let &[_, sectors, kind] = words.as_slice() else {
            let kind = words.get(2).copied().unwrap_or_default();
            self.fault_if(kind != b"SPARSE", Fault::ExtentKind(printable(kind, 16)));
            return self.fault(Fault::Line(number));
        };
        self.fault_if(kind != b"SPARSE", Fault::ExtentKind(printable(kind, 16)));
        let sectors = std::str::from_utf8(sectors).ok().and_then(|text| text.parse::<u64>().ok());
        let near = sectors.is_some_and(|sectors| sectors.abs_diff(capacity) < grain.max(1));
        self.fault_if(!near, Fault::ExtentSize);
        let mut parts = quoted.split(|byte| *byte == b'"').skip(1);
        let (name, rest) = (parts.next().unwrap_or_default(), parts.next());
        self.fault_if(!is_plain_name(name), Fault::ExtentName(printable(name, 64)));
        let ends = rest.is_some_and(|rest| matches!(rest.trim_ascii(), b"" | b"0")) && parts.next().is_none();
        self.fault_if(!ends, Fault::Line(number));
    }
}

fn starts_extent(line: &[u8]) -> bool {
    let first = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    [&b"RW"[..], b"RDONLY", b"NOACCESS"].iter().any(|access| first.eq_ignore_ascii_case(access))
}

/// A file name without a path, a drive, a protocol or a way up.
fn is_plain_name(name: &[u8]) -> bool {
    let pathlike = name.iter().any(|byte| matches!(byte, b'/' | b'\\' | b':') || byte.is_ascii_control());
    let up = name.windows(2).any(|pair| pair == b"..");
    !name.is_empty() && name != b"." && !pathlike && !up
}

fn count(text: &[u8], needle: &[u8]) -> usize {
    text.windows(needle.len()).filter(|window| window.eq_ignore_ascii_case(needle)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<Fault> {
        judge(text.as_bytes(), 2048, 128).1
    }

    fn with(extra: &str) -> String {
        let plain = "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"monolithicSparse\"\n";
        format!("{plain}RW 2048 SPARSE \"a.vmdk\"\nddb.adapterType = \"ide\"\n{extra}")
    }

    #[test]
    fn the_usual_text_is_fine() {
        assert_eq!(faults(&with("")), []);
        assert_eq!(faults(&with("ddb.uuid.parent=\"00000000-0000\"\r\nencoding=\"UTF-8\"\r\n")), []);
        assert_eq!(faults(&with("\0\0\0")), []);
    }

    #[test]
    fn everything_else_is_named() {
        let table = [
            ("\0x", Fault::Trailing),
            ("\u{1}", Fault::NotText),
            ("hello\n", Fault::Line(8)),
            ("foo=bar\n", Fault::UnknownKey("foo".into())),
            ("# createType=\"vmfs\"\n", Fault::Repeated("createType")),
            ("changeTrackPath=\"x\"\n", Fault::NamesFile("changetrackpath".into())),
            ("# parentFileNameHint=\"/etc/passwd\"\n", Fault::NamesFile("parentfilenamehint".into())),
            ("ddb.uuid.parent=\"1\"\n", Fault::Parent),
            ("RW 2048 SPARSE \"b.vmdk\"\n", Fault::Extents(2)),
            ("RW 2048 FLAT \"b.vmdk\" 0\n", Fault::ExtentKind("FLAT".into())),
            ("RW 2048 VMFS \"b.vmdk\"\n", Fault::ExtentKind("VMFS".into())),
            ("RW 2048 ZERO\n", Fault::ExtentKind("ZERO".into())),
            ("RW 2048 SPARSE \"/etc/shadow\"\n", Fault::ExtentName("/etc/shadow".into())),
            ("RW 2048 SPARSE \"..\\x\"\n", Fault::ExtentName("..\\x".into())),
            ("RW 2048 SPARSE \"nbd:host\"\n", Fault::ExtentName("nbd:host".into())),
            ("RW 9999 SPARSE \"b.vmdk\"\n", Fault::ExtentSize),
            ("RW 2048 SPARSE \"b.vmdk\" \"c\"\n", Fault::Line(8)),
        ];
        for (extra, fault) in table {
            let found = faults(&with(extra));
            assert!(found.contains(&fault), "{extra:?} gave {found:?}");
        }
    }
}
