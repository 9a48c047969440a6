//! Real QEMU processes, most with the mini guest. A machine without QEMU, or where the image cannot be built, skips with the reason.

mod real {
    mod adoption;
    mod devices;
    mod failures;
    pub mod harness;
    mod life;
    mod migration;
    mod network_volumes;
    mod suspend;
    mod volumes;
}
