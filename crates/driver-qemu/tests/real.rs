//! Real QEMU processes, most with the mini guest. A machine without QEMU, or where the image cannot be built, skips with the reason.

mod real {
    pub mod harness;
    mod adoption;
    mod devices;
    mod failures;
    mod life;
    mod suspend;
}
