//! One file per format: its layout as far as safety needs it, and the rules an accepted image obeys.

pub(crate) mod iso;
pub(crate) mod qcow2;
pub(crate) mod qcow2_extensions;
pub(crate) mod vdi;
pub(crate) mod vhd;
pub(crate) mod vhdx;
pub(crate) mod vmdk;
pub(crate) mod vmdk_descriptor;
