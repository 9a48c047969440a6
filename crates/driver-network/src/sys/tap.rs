//! Tap devices.
//!
//! Taps are **not** persistent: the device lives exactly as long as somebody holds its descriptor. The agent opens it,
//! QEMU inherits it; the agent may die and nothing happens to the guest, QEMU may die and nothing is left behind.

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::{AsRawFd, OwnedFd},
    os::unix::fs::OpenOptionsExt,
};

nix::ioctl_write_ptr_bad!(tun_set_iff, nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()), libc::ifreq);

/// Makes the tap in the namespace of the calling thread.
pub fn open(name: &str) -> io::Result<OwnedFd> {
    let tun: File = OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK).open("/dev/net/tun")?;
    // SAFETY: ifreq is plain data, all zero is a valid value of it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: the descriptor is open and the request lives through the call.
    unsafe { tun_set_iff(tun.as_raw_fd(), &request) }?;
    Ok(tun.into())
}
