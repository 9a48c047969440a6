//! Passwords for administrators of guests, made when the caller gives none.

/// Twelve characters that are not taken for each other, with a digit, a small and a capital letter among them.
pub fn password(random: &[u8; 12]) -> String {
    const SETS: [&[u8]; 3] = [b"23456789", b"abcdefghijkmnopqrstuvwxyz", b"ABCDEFGHJKLMNPQRSTUVWXYZ"];
    let pick = |no: usize, byte: u8| SETS[no % 3][usize::from(byte) % SETS[no % 3].len()];
    // Which set a place draws from is turned by the last byte; each set is drawn from four times.
    let turn = usize::from(random[11]);
    random.iter().enumerate().map(|(no, byte)| char::from(pick(no + turn, *byte))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_is_in_it() {
        for seed in 0..=255u8 {
            let text = password(&[seed; 12]);
            assert_eq!(text.len(), 12);
            assert!(text.chars().any(|c| c.is_ascii_digit()));
            assert!(text.chars().any(|c| c.is_ascii_lowercase()));
            assert!(text.chars().any(|c| c.is_ascii_uppercase()));
        }
    }
}
