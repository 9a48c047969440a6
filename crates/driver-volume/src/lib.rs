//! Volumes in pools.
