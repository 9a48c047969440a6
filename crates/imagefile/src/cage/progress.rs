//! Reading `qemu-img -p`: `    (12.34/100%)` again and again, in pieces of any size.

/// What was printed since the last opening parenthesis.
#[derive(Debug, Default)]
pub(super) struct Progress {
    number: Option<String>,
}

const LONGEST: usize = 8;

impl Progress {
    /// Takes printed bytes; gives the last percentage that became complete in them.
    pub fn push(&mut self, bytes: &[u8]) -> Option<f32> {
        let mut last = None;
        for byte in bytes {
            match (byte, &mut self.number) {
                (b'(', _) => self.number = Some(String::new()),
                (b'/', Some(number)) => {
                    last = number.parse().ok().filter(|percent| (0.0..=100.0).contains(percent)).or(last);
                    self.number = None;
                }
                (b'0'..=b'9' | b'.', Some(number)) if number.len() < LONGEST => number.push(char::from(*byte)),
                _ => self.number = None,
            }
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_in_any_pieces() {
        let text = b"    (0.00/100%)\r    (12.50/100%)\r    (100.00/100%)\r\n";
        assert_eq!(Progress::default().push(text), Some(100.0));
        let mut progress = Progress::default();
        let found: Vec<_> = text.iter().filter_map(|byte| progress.push(&[*byte])).collect();
        assert_eq!(found, [0.0, 12.5, 100.0]);
        assert_eq!(Progress::default().push(b"(abc/100%) (999/100%) (123456789123/"), None);
    }
}
