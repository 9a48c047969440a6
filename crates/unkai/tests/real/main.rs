//! The binary as a process, used as a client uses it. Needs root, QEMU and nftables, as servers do.

mod aggregate_images;
mod cloud;
mod crash;
mod full_disk;
mod shelving;
mod web_download;
