//! The part of an image that a download asks for.

use http::HeaderMap;
use http::header::{CONTENT_RANGE, RANGE};

use crate::error::{ApiError, Result};

/// First byte and the one after the last; none is all of it. `Content-Range` in a request is understood too, as old clients send it.
pub fn wanted(headers: &HeaderMap, size: u64) -> Result<Option<(u64, u64)>> {
    if let Some(range) = headers.get(RANGE) {
        return parse(range.to_str().unwrap_or(""), size).map(Some);
    }
    match headers.get(CONTENT_RANGE) {
        Some(range) => parse_content_range(range.to_str().unwrap_or(""), size).map(Some),
        None => Ok(None),
    }
}

fn parse(text: &str, size: u64) -> Result<(u64, u64)> {
    if text.contains(',') {
        let text = "Requests with multiple ranges are not supported in Glance. You may make multiple single-range requests instead.";
        return Err(ApiError::bad_request(text));
    }
    let invalid = || ApiError::bad_range("Invalid Range header.");
    let (first, last) = text.trim().strip_prefix("bytes=").and_then(|range| range.split_once('-')).ok_or_else(invalid)?;
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| invalid());
    let (start, end) = match (first.trim(), last.trim()) {
        ("", count) => (size.saturating_sub(number(count)?), size),
        (first, "") => (number(first)?, size),
        (first, last) => (number(first)?, number(last)?.saturating_add(1).min(size)),
    };
    if start >= size {
        let last = size.saturating_sub(1);
        return Err(ApiError::bad_range(format!(
            "Invalid start position in Range header. Start position MUST be in the inclusive range [0, {last}]."
        )));
    }
    if end <= start { Err(invalid()) } else { Ok((start, end)) }
}

/// `bytes 0-4/*`.
fn parse_content_range(text: &str, size: u64) -> Result<(u64, u64)> {
    let invalid = || ApiError::bad_range("Invalid Content-Range header.");
    let (range, _) = text.trim().strip_prefix("bytes ").and_then(|range| range.split_once('/')).ok_or_else(invalid)?;
    let (first, last) = range.split_once('-').ok_or_else(invalid)?;
    let (start, last): (u64, u64) = (first.parse().map_err(|_| invalid())?, last.parse().map_err(|_| invalid())?);
    if start > last || last >= size { Err(invalid()) } else { Ok((start, last + 1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_ten_bytes() {
        let table = [
            ("bytes=0-4", Ok((0, 5))),
            ("bytes=4-", Ok((4, 10))),
            ("bytes=-2", Ok((8, 10))),
            ("bytes=-20", Ok((0, 10))),
            ("bytes=8-20", Ok((8, 10))),
            ("bytes=9-9", Ok((9, 10))),
            ("bytes=10-", Err(416)),
            ("bytes=5-3", Err(416)),
            ("bytes=-0", Err(416)),
            ("bytes=x-", Err(416)),
            ("items=0-1", Err(416)),
            ("bytes=0-18446744073709551615", Ok((0, 10))),
            ("bytes=0-1,3-4", Err(400)),
        ];
        for (text, wanted) in table {
            assert_eq!(parse(text, 10).map_err(|e| e.status.as_u16()), wanted, "{text}");
        }
        assert_eq!(parse_content_range("bytes 0-4/*", 10), Ok((0, 5)));
        assert!(parse_content_range("bytes 0-10/*", 10).is_err());
        assert!(parse("bytes=0-0", 0).is_err());
    }
}
