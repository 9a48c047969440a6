//! The network API, as Neutron v2.0 speaks it.
//!
//! [`verbs`] are what can be done, inside anybody's transaction; the rest turns requests into verbs and documents into answers.

mod refusal;
pub mod verbs;

pub use refusal::Refusal;
