//! The part of JSON pointers that image changes use.

use crate::error::{ApiError, Result};

/// `/a~1b` becomes `["a/b"]`.
pub fn decode(pointer: &str) -> Result<Vec<String>> {
    let bad = |what: &str| Err(ApiError::bad_request(format!("Pointer `{pointer}` {what}")));
    let Some(inner) = pointer.strip_prefix('/') else {
        return bad("does not start with \"/\".");
    };
    let parts: Vec<&str> = inner.split('/').collect();
    let blank = |part: &&str| part.trim().is_empty();
    if parts.len() > 1 && parts[..parts.len() - 1].iter().any(blank) {
        return bad("contains adjacent \"/\".");
    }
    if parts.len() > 1 && parts.last().is_some_and(blank) {
        return bad("end with \"/\".");
    }
    if parts.iter().any(|part| !is_escaped(part)) {
        return bad("contains \"~\" not part of a recognized escape sequence.");
    }
    Ok(parts.into_iter().map(|part| part.replace("~1", "/").replace("~0", "~").trim().to_owned()).collect())
}

fn is_escaped(part: &str) -> bool {
    part.split('~').skip(1).all(|after| after.starts_with(['0', '1']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers() {
        assert_eq!(decode("/name").unwrap(), ["name"]);
        assert_eq!(decode("/a~1b~0c").unwrap(), ["a/b~c"]);
        assert_eq!(decode("/locations/-").unwrap(), ["locations", "-"]);
        assert_eq!(decode("/~01").unwrap(), ["~1"]);
        for bad in ["name", "", "//", "/a//b", "/a/ /b", "/a/", "/a~", "/a~2"] {
            assert_eq!(decode(bad).unwrap_err().status, 400, "{bad}");
        }
    }
}
