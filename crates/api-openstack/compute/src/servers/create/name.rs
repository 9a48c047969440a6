//! Names: of servers made together, and host names made from what people type.

/// A host name from a display name: what is legal of it, in lower case; `Server-<id>` when nothing is left.
pub fn hostname(name: &str, id: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        match c {
            ' ' | '_' | '.' => out.push('-'),
            c if c.is_ascii_alphanumeric() || c == '-' => out.push(c.to_ascii_lowercase()),
            _ => {}
        }
    }
    let cut: String = out.trim_matches('-').chars().take(63).collect();
    let cut = cut.trim_end_matches('-');
    if cut.is_empty() { format!("Server-{id}") } else { cut.to_owned() }
}

/// Eight letters and digits from eight random bytes, for reservation ids.
pub fn letters(random: &[u8; 8]) -> String {
    const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    random.iter().map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_legal() {
        let table = [
            ("web-1", "web-1"),
            ("Web Server_2", "web-server-2"),
            ("a.example.org", "a-example-org"),
            ("--x--", "x"),
            ("ä€", "Server-7"),
            ("", "Server-7"),
        ];
        for (name, expected) in table {
            assert_eq!(hostname(name, "7"), expected, "{name}");
        }
        assert_eq!(hostname(&"x".repeat(200), "7").len(), 63);
    }
}
