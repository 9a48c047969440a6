//! Reading integers out of foreign bytes: every read is bounds-checked and says `None` rather than panic.

/// `len` bytes at `at`, or nothing when any of them is missing.
pub(crate) fn slice(bytes: &[u8], at: usize, len: usize) -> Option<&[u8]> {
    bytes.get(at..at.checked_add(len)?)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    slice(bytes, at, N)?.try_into().ok()
}

pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

pub(crate) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}

pub(crate) fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_be_bytes)
}

pub(crate) fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

pub(crate) fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

pub(crate) fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

/// Whether `magic` stands at `at`.
pub(crate) fn has(bytes: &[u8], at: usize, magic: &[u8]) -> bool {
    slice(bytes, at, magic.len()) == Some(magic)
}

pub(crate) fn all_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// `size` rounded up to whole sectors of 512 bytes.
pub(crate) fn whole_sectors(size: u64) -> u64 {
    size.div_ceil(512).saturating_mul(512)
}

/// Foreign text made safe to show: printable, one line, at most `limit` characters.
pub(crate) fn printable(bytes: &[u8], limit: usize) -> String {
    let mut text = String::new();
    for letter in String::from_utf8_lossy(&bytes[..bytes.len().min(limit * 4)]).chars().take(limit) {
        let plain = letter == ' ' || letter.is_alphanumeric() || letter.is_ascii_punctuation();
        text.push(if plain { letter } else { '?' });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stop_at_the_end() {
        let bytes = [0, 1, 2, 3];
        assert_eq!(be32(&bytes, 0), Some(0x0001_0203));
        assert_eq!(le16(&bytes, 2), Some(0x0302));
        assert_eq!(be32(&bytes, 1), None);
        assert_eq!(slice(&bytes, usize::MAX, 2), None);
        assert!(has(&bytes, 1, &[1, 2]));
        assert!(!has(&bytes, 3, &[3, 0]));
    }

    #[test]
    fn foreign_text_loses_its_control_characters() {
        assert_eq!(printable(b"a\x1b[2J\nb", 64), "a?[2J?b");
        assert_eq!(printable(&[b'x'; 500], 8), "xxxxxxxx");
    }
}
