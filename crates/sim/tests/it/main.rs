//! The controller and its link with simulated hosts, in memory.

mod availability;
mod life;
mod storms;
mod volumes;
