//! The header extensions of qcow2: a list of (type, length, data) from the end of the header to the end of its cluster.

use crate::bytes::{be32, be64, slice};
use crate::findings::Findings;
use crate::problem::Problem;

const END: u32 = 0;
const EXTERNAL_DATA_NAME: u32 = 0x4441_5441;
const ENCRYPTION_HEADER: u32 = 0x0537_be77;
const BITMAPS: u32 = 0x2385_2875;
const MAX_EXTENSIONS: usize = 32;
const MAX_BITMAPS: u64 = 65_535;

pub(crate) fn judge(head: &[u8], header_length: u32, cluster: u64, findings: &mut Findings<'_>) {
    // The list may also end where the header's cluster or the file ends; the head is longer than real lists.
    let area = usize::try_from(cluster).unwrap_or(usize::MAX).min(head.len());
    let mut at = header_length as usize;
    for _ in 0..MAX_EXTENSIONS {
        let Some(kind) = be32(&head[..area], at) else {
            let cut = area as u64 != cluster || at > area;
            return findings.add_if(cut, Problem::HeaderExtension { detail: "the list does not end" });
        };
        if kind == END {
            return;
        }
        let data = be32(&head[..area], at + 4).and_then(|length| slice(&head[..area], at + 8, length as usize));
        let Some(data) = data else {
            return findings.add(Problem::HeaderExtension { detail: "one is longer than the header" });
        };
        one(kind, data, findings);
        at += 8 + data.len().next_multiple_of(8);
    }
    findings.add(Problem::HeaderExtension { detail: "there are too many" });
}

fn one(kind: u32, data: &[u8], findings: &mut Findings<'_>) {
    match kind {
        EXTERNAL_DATA_NAME => findings.add(Problem::ExternalData),
        ENCRYPTION_HEADER => encryption(data, findings),
        BITMAPS => bitmaps(data, findings),
        // Unknown ones are for readers that know them; the specification tells others to ignore them.
        _ => {}
    }
}

fn encryption(data: &[u8], findings: &mut Findings<'_>) {
    findings.encrypted();
    match (be64(data, 0), be64(data, 8)) {
        (Some(offset), Some(length)) => findings.inside("the encryption header", offset, length),
        _ => findings.add(Problem::HeaderExtension { detail: "the encryption header pointer is too short" }),
    }
}

fn bitmaps(data: &[u8], findings: &mut Findings<'_>) {
    let (Some(count), Some(length), Some(offset)) = (be32(data, 0), be64(data, 8), be64(data, 16)) else {
        return findings.add(Problem::HeaderExtension { detail: "the bitmap extension is too short" });
    };
    findings.field(u64::from(count) <= MAX_BITMAPS, "the number of bitmaps", count.into());
    findings.inside("the bitmap directory", offset, length);
}
