//! Sending and receiving inside namespaces, from threads that entered them.

use std::{
    fs::File,
    io::{Read, Write},
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Protocol, Socket, Type};

/// How long something that must arrive may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long to wait before believing that something does not arrive.
const SILENCE: Duration = Duration::from_millis(400);

pub fn within<T: Send>(netns: &str, work: impl FnOnce() -> T + Send) -> T {
    let file = File::open(format!("/run/netns/{netns}")).unwrap();
    thread::scope(|scope| {
        scope
            .spawn(|| {
                setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            })
            .join()
            .unwrap()
    })
}

/// Echoes what comes over TCP, for as long as the process lives.
pub fn serve_tcp(netns: &str, port: u16) {
    let listener = within(netns, || TcpListener::bind(("::", port)).unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let mut buffer = [0; 256];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..n]).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

/// Answers datagrams with the address they came from.
pub fn serve_udp(netns: &str, port: u16) {
    let socket = within(netns, || UdpSocket::bind(("::", port)).unwrap());
    thread::spawn(move || {
        let mut buffer = [0; 256];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(from.ip().to_canonical().to_string().as_bytes(), from);
        }
    });
}

fn connect(netns: &str, to: (IpAddr, u16), wait: Duration) -> Option<TcpStream> {
    within(netns, || TcpStream::connect_timeout(&SocketAddr::from(to), wait).ok())
}

/// An open connection that has carried data.
pub fn connected(netns: &str, to: (IpAddr, u16)) -> TcpStream {
    let mut stream = connect(netns, to, PATIENCE).unwrap_or_else(|| panic!("{netns} cannot reach {to:?}"));
    assert!(alive(&mut stream, PATIENCE), "no echo from {to:?}");
    stream
}

pub fn alive(stream: &mut TcpStream, wait: Duration) -> bool {
    stream.set_read_timeout(Some(wait)).unwrap();
    let mut buffer = [0; 4];
    stream.write_all(b"ping").is_ok() && stream.read_exact(&mut buffer).is_ok()
}

pub fn still_carries(stream: &mut TcpStream) -> bool {
    alive(stream, PATIENCE)
}

/// Cutting takes a few milliseconds after the change; a cut connection stays cut.
pub fn is_cut(stream: &mut TcpStream) -> bool {
    let until = Instant::now() + PATIENCE;
    while alive(stream, SILENCE) {
        if Instant::now() > until {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    !alive(stream, Duration::from_millis(900))
}

#[track_caller]
pub fn tcp_passes(netns: &str, to: (IpAddr, u16)) {
    assert!(connect(netns, to, PATIENCE).is_some(), "TCP {netns} -> {to:?} does not pass");
}

#[track_caller]
pub fn tcp_blocked(netns: &str, to: (IpAddr, u16)) {
    assert!(connect(netns, to, SILENCE).is_none(), "TCP {netns} -> {to:?} passes");
}

/// What the other side says where it is asked from; `None` when no answer comes.
fn ask_udp(netns: &str, to: (IpAddr, u16), wait: Duration) -> Option<String> {
    within(netns, || {
        let any: SocketAddr = if to.0.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(wait.min(SILENCE))).unwrap();
        let until = Instant::now() + wait;
        let mut buffer = [0; 64];
        while Instant::now() < until {
            let _ = socket.send_to(b"who am I", SocketAddr::from(to));
            if let Ok((n, from)) = socket.recv_from(&mut buffer)
                && from.ip() == to.0
            {
                return Some(String::from_utf8_lossy(&buffer[..n]).into_owned());
            }
        }
        None
    })
}

#[track_caller]
pub fn udp_passes(netns: &str, to: (IpAddr, u16)) -> String {
    ask_udp(netns, to, PATIENCE).unwrap_or_else(|| panic!("UDP {netns} -> {to:?} does not pass"))
}

#[track_caller]
pub fn udp_blocked(netns: &str, to: (IpAddr, u16)) {
    assert_eq!(ask_udp(netns, to, SILENCE), None, "UDP {netns} -> {to:?} passes");
}

fn ping(netns: &str, to: IpAddr, seconds: u32) -> bool {
    let text = crate::world::exec(netns, &["busybox", "ping", "-c", "1", "-W", &seconds.to_string(), &to.to_string()]);
    text.contains("1 packets received")
}

#[track_caller]
pub fn ping_passes(netns: &str, to: IpAddr) {
    assert!((0..3).any(|_| ping(netns, to, 1)), "ping {netns} -> {to} does not pass");
}

#[track_caller]
pub fn ping_blocked(netns: &str, to: IpAddr) {
    assert!(!ping(netns, to, 1), "ping {netns} -> {to} passes");
}

/// Whether an IPv4 packet of a bare protocol arrives.
pub fn protocol_arrives(from: &str, to: &str, address: IpAddr, number: i32) -> bool {
    let raw = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(number))).unwrap();
    let (sender, receiver) = (within(from, raw), within(to, raw));
    receiver.set_read_timeout(Some(SILENCE)).unwrap();
    let mut buffer = [MaybeUninit::uninit(); 256];
    (0..2).any(|_| {
        let _ = sender.send_to(b"bare", &SocketAddr::from((address, 0)).into());
        receiver.recv(&mut buffer).is_ok()
    })
}

/// A raw socket on a device, for every type of frame.
pub fn raw(netns: &str, device: &str) -> OwnedFd {
    let socket = within(netns, || {
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(3 << 8))).unwrap();
        let index = nix::net::if_::if_nametoindex(device).unwrap();
        let mut storage = socket2::SockAddrStorage::zeroed();
        // SAFETY: the storage is zeroed and larger than a sockaddr_ll.
        let address = unsafe {
            let address = storage.view_as::<libc::sockaddr_ll>();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = 3 << 8;
            address.sll_ifindex = index as i32;
            socket2::SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as u32)
        };
        socket.bind(&address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        socket
    });
    socket.into()
}

pub fn send_raw(socket: &OwnedFd, frame: &[u8]) {
    nix::sys::socket::send(socket.as_raw_fd(), frame, nix::sys::socket::MsgFlags::empty()).unwrap();
}

/// Whether a frame that ends in `marker` arrives.
pub fn arrives(socket: &OwnedFd, marker: &[u8]) -> bool {
    let until = Instant::now() + SILENCE;
    let mut buffer = [0; 2048];
    while Instant::now() < until {
        let got = nix::sys::socket::recv(socket.as_raw_fd(), &mut buffer, nix::sys::socket::MsgFlags::empty());
        if let Ok(n) = got
            && buffer[..n].windows(marker.len()).any(|w| w == marker)
        {
            return true;
        }
    }
    false
}
