//! Taking a client's Ethernet frame apart. Nothing in it is trusted, lengths least of all.

use std::net::Ipv4Addr;

use crate::Mac;

#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    pub source_mac: Mac,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub payload: &'a [u8],
}

/// An unfragmented IPv4/UDP frame to the server port, or nothing.
pub fn parse(frame: &[u8]) -> Option<Request<'_>> {
    let source_mac = Mac(*frame.get(6..)?.first_chunk()?);
    if frame.get(12..14)? != [8, 0] {
        return None;
    }
    let ip = frame.get(14..)?;
    let header = usize::from(ip.first()? & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes(*ip.get(2..)?.first_chunk()?));
    let fragment = u16::from_be_bytes(*ip.get(6..)?.first_chunk()?) & 0x3fff;
    if ip[0] >> 4 != 4 || header < 20 || fragment != 0 || *ip.get(9)? != 17 {
        return None;
    }
    let udp = ip.get(header..total)?;
    let port = u16::from_be_bytes(*udp.get(2..)?.first_chunk()?);
    let length = usize::from(u16::from_be_bytes(*udp.get(4..)?.first_chunk()?));
    if port != 67 {
        return None;
    }
    Some(Request {
        source_mac,
        source: Ipv4Addr::from(*ip.get(12..)?.first_chunk::<4>()?),
        destination: Ipv4Addr::from(*ip.get(16..)?.first_chunk::<4>()?),
        payload: udp.get(8..length)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sys::packet::UdpFrame;

    #[test]
    fn takes_apart_what_the_encoder_makes() {
        let client = Mac([2, 0, 0, 0, 0, 9]);
        let frame = UdpFrame {
            source: (client, Ipv4Addr::UNSPECIFIED, 68),
            destination: (Mac::BROADCAST, Ipv4Addr::BROADCAST, 67),
            payload: b"hello",
        }
        .encode();
        let request = parse(&frame).unwrap();
        assert_eq!((request.source_mac, request.payload), (client, &b"hello"[..]));
        for cut in 0..frame.len() {
            assert_eq!(parse(&frame[..cut]), None, "{cut}");
        }
    }

    proptest! {
        #[test]
        fn bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
            if bytes.len() > 24 {
                bytes[12..15].copy_from_slice(&[8, 0, 0x45]);
                bytes[23] = 17;
                let _ = parse(&bytes);
            }
        }
    }
}
