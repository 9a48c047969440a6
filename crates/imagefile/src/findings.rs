//! What a format's rules have found so far, with the questions they all ask.

use crate::policy::Policy;
use crate::problem::Problem;

#[derive(Debug)]
pub(crate) struct Findings<'a> {
    pub policy: &'a Policy,
    pub total_len: u64,
    pub virtual_size: Option<u64>,
    pub problems: Vec<Problem>,
}

impl<'a> Findings<'a> {
    pub fn new(policy: &'a Policy, total_len: u64) -> Self {
        Self { policy, total_len, virtual_size: None, problems: Vec::new() }
    }

    pub fn add(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub fn add_if(&mut self, wrong: bool, problem: Problem) {
        if wrong {
            self.add(problem);
        }
    }

    /// Takes the size of the disk the image describes, and holds it against the limit.
    pub fn size(&mut self, size: u64) {
        let limit = self.policy.max_virtual_size;
        self.add_if(size > limit, Problem::VirtualSize { size, limit });
        self.virtual_size = Some(size);
    }

    /// A size in units; one that cannot be expressed in bytes counts as the largest there is.
    pub fn size_in(&mut self, count: u64, unit: u64) {
        self.size(count.saturating_mul(unit));
    }

    /// An image that is a disk must describe at least one byte.
    pub fn size_not_zero(&mut self) {
        self.add_if(self.virtual_size.unwrap_or(0) == 0, Problem::NoVirtualSize);
    }

    /// The bytes from `offset` must exist. Offsets of hostile files overflow; those are outside too.
    pub fn inside(&mut self, what: &'static str, offset: u64, length: u64) {
        let end = offset.checked_add(length);
        let inside = end.is_some_and(|end| end <= self.total_len);
        self.add_if(!inside, Problem::OutOfFile { what, offset, length });
    }

    pub fn field(&mut self, good: bool, what: &'static str, value: u64) {
        self.add_if(!good, Problem::Field { what, value });
    }

    pub fn encrypted(&mut self) {
        self.add_if(!self.policy.allow_encrypted, Problem::Encrypted);
    }
}
