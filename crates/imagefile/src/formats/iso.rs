//! ISO 9660 with a primary volume descriptor. A disc is a plain disk of its own length; a boot sector in front of the
//! volume (hybrid images) and UDF beside it are fine.

use crate::bytes::{be16, be32, le16, le32};
use crate::detect::primary_volume;
use crate::evidence::Evidence;
use crate::findings::Findings;
use crate::problem::Problem;

pub(crate) fn judge(evidence: &Evidence, findings: &mut Findings<'_>) {
    findings.size(findings.total_len);
    let Some(volume) = primary_volume(&evidence.head) else {
        return findings.add(Problem::Truncated { what: "the primary volume descriptor" });
    };
    findings.field(volume[6] == 1, "the volume descriptor version", volume[6].into());
    // Both byte orders are stored, and readers differ in which they take.
    let (block, block_be) = (le16(volume, 128), be16(volume, 130));
    let (blocks, blocks_be) = (le32(volume, 80), be32(volume, 84));
    let same = block == block_be && blocks == blocks_be;
    findings.add_if(!same, Problem::Contradiction { what: "the two byte orders of the volume size" });
    let (block, blocks) = (u64::from(block.unwrap_or(0)), u64::from(blocks.unwrap_or(0)));
    findings.field(matches!(block, 512 | 1024 | 2048), "the logical block size", block);
    findings.field(blocks != 0, "the volume size", blocks);
    findings.inside("the iso volume", 0, blocks * block);
}
