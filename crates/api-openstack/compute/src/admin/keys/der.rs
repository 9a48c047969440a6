//! The little DER that taking apart an RSA key needs: what is inside one element.

/// The content of the element at the front, when its tag is `tag`, and what follows it.
pub fn element(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(length)).flatten()
}

pub const INTEGER: u8 = 0x02;
pub const OCTETS: u8 = 0x04;
pub const SEQUENCE: u8 = 0x30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_end_where_their_length_says() {
        assert_eq!(element(INTEGER, &[2, 1, 7, 9]), Some((&[7][..], &[9][..])));
        let long = [vec![4, 0x82, 1, 0], vec![5; 256]].concat();
        assert_eq!(element(OCTETS, &long).map(|(content, rest)| (content.len(), rest.len())), Some((256, 0)));
        for bad in [&[2][..], &[2, 2, 1], &[4, 0x85, 0, 0, 0, 0, 1], &[3, 0]] {
            assert_eq!(element(INTEGER, bad), None);
        }
    }
}
