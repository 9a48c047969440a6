//! Hostile and genuine images, the corpus, mutations, and the cage.

mod builders;
mod cage;
mod corpus;
mod fuzz;
mod genuine;
mod hostile;
mod memory;

use unkai_imagefile::{Inspector, Policy, Report};

/// Inspects bytes that arrive in chunks of the given sizes, again and again.
fn inspect_in(bytes: &[u8], sizes: &[usize], policy: &Policy) -> Report {
    let mut inspector = Inspector::new(policy.clone());
    let mut rest = bytes;
    for size in sizes.iter().cycle() {
        let (chunk, more) = rest.split_at((*size).min(rest.len()));
        inspector.push(chunk);
        rest = more;
        if rest.is_empty() {
            break;
        }
    }
    let received = inspector.received();
    inspector.finish(received)
}

fn inspect(bytes: &[u8]) -> Report {
    inspect_in(bytes, &[usize::MAX], &Policy::default())
}
