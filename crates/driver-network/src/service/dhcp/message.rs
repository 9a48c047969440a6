//! The DHCP message itself (RFC 2131, 2132, 3396): the few fields the server looks at, and options as bytes.
//!
//! Written here rather than taken from a library because requests come from tenants: reading must not panic whatever
//! the bytes are.

use std::{collections::BTreeMap, net::Ipv4Addr};

use crate::Mac;

/// By number, so in a fixed order.
pub type Options = BTreeMap<u8, Vec<u8>>;

pub const DISCOVER: u8 = 1;
pub const OFFER: u8 = 2;
pub const REQUEST: u8 = 3;
pub const DECLINE: u8 = 4;
pub const ACK: u8 = 5;
pub const NAK: u8 = 6;
pub const INFORM: u8 = 8;

pub const REQUESTED_ADDRESS: u8 = 50;
pub const MESSAGE_TYPE: u8 = 53;
pub const SERVER_ID: u8 = 54;
pub const MESSAGE: u8 = 56;
pub const CLIENT_ID: u8 = 61;

const BOOT_REQUEST: u8 = 1;
const BOOT_REPLY: u8 = 2;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const OPTIONS_AT: usize = 240;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub reply: bool,
    pub transaction: [u8; 4],
    pub broadcast: bool,
    pub client: Ipv4Addr,
    pub yours: Ipv4Addr,
    pub server: Ipv4Addr,
    pub relay: Ipv4Addr,
    pub mac: Mac,
    pub options: Options,
}

impl Message {
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [op, kind, length, ..] = *bytes.first_chunk::<4>()?;
        if kind != 1 || length != 6 || bytes.get(236..OPTIONS_AT)? != COOKIE {
            return None;
        }
        let reply = match op {
            BOOT_REQUEST => false,
            BOOT_REPLY => true,
            _ => return None,
        };
        let address = |at: usize| bytes.get(at..)?.first_chunk::<4>().map(|a| Ipv4Addr::from(*a));
        Some(Self {
            reply,
            transaction: *bytes.get(4..)?.first_chunk()?,
            broadcast: bytes.get(10)? & 0x80 != 0,
            client: address(12)?,
            yours: address(16)?,
            server: address(20)?,
            relay: address(24)?,
            mac: Mac(*bytes.get(28..)?.first_chunk()?),
            options: decode_options(&bytes[OPTIONS_AT..])?,
        })
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![if self.reply { BOOT_REPLY } else { BOOT_REQUEST }, 1, 6, 0];
        bytes.extend(self.transaction);
        bytes.extend([0, 0, u8::from(self.broadcast) << 7, 0]);
        for address in [self.client, self.yours, self.server, self.relay] {
            bytes.extend(address.octets());
        }
        bytes.extend(self.mac.0);
        bytes.resize(108, 0);
        // The boot file is where old boot ROMs look for it, too.
        if let Some(file) = self.options.get(&67).filter(|file| file.len() < 128) {
            bytes.extend(file);
        }
        bytes.resize(236, 0);
        bytes.extend(COOKIE);
        let first = self.options.get_key_value(&MESSAGE_TYPE);
        let others = self.options.iter().filter(|(number, _)| **number != MESSAGE_TYPE);
        for (number, value) in first.into_iter().chain(others) {
            encode_option(&mut bytes, *number, value);
        }
        bytes.push(255);
        // Some clients drop anything shorter than a BOOTP message.
        bytes.resize(bytes.len().max(300), 0);
        bytes
    }

    pub fn kind(&self) -> Option<u8> {
        match self.options.get(&MESSAGE_TYPE)?[..] {
            [kind] => Some(kind),
            _ => None,
        }
    }

    pub fn address_option(&self, number: u8) -> Option<Ipv4Addr> {
        let bytes: [u8; 4] = self.options.get(&number)?.as_slice().try_into().ok()?;
        Some(bytes.into())
    }
}

/// An option that comes several times is one long option.
fn decode_options(mut bytes: &[u8]) -> Option<Options> {
    let mut options = Options::new();
    loop {
        match bytes {
            [] | [255, ..] => return Some(options),
            [0, rest @ ..] => bytes = rest,
            [number, length, rest @ ..] => {
                let (value, rest) = rest.split_at_checked(usize::from(*length))?;
                options.entry(*number).or_default().extend(value);
                bytes = rest;
            }
            [_] => return None,
        }
    }
}

/// A value longer than an option can be is cut into several of the same number.
fn encode_option(bytes: &mut Vec<u8>, number: u8, value: &[u8]) {
    if value.is_empty() {
        bytes.extend([number, 0]);
    }
    for part in value.chunks(255) {
        bytes.extend([number, part.len() as u8]);
        bytes.extend(part);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(options: Options) -> Message {
        Message {
            reply: false,
            transaction: [1, 2, 3, 4],
            broadcast: true,
            client: [10, 0, 0, 1].into(),
            yours: [10, 0, 0, 2].into(),
            server: [10, 0, 0, 3].into(),
            relay: [10, 0, 0, 4].into(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            options,
        }
    }

    #[test]
    fn truncated_options_are_refused() {
        let whole = message([(53, vec![1]), (12, vec![b'x'; 70])].into()).encode();
        assert!(Message::decode(&whole).is_some());
        assert!(Message::decode(&whole[..250]).is_none());
        assert!(Message::decode(&whole[..239]).is_none());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(options in proptest::collection::btree_map(1u8..255, proptest::collection::vec(any::<u8>(), 0..600), 0..8)) {
            let message = message(options);
            prop_assert_eq!(Message::decode(&message.encode()), Some(message));
        }

        #[test]
        fn bytes_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Message::decode(&tail);
            let mut bytes = message(Options::new()).encode();
            bytes.truncate(OPTIONS_AT);
            bytes.extend(tail);
            let _ = Message::decode(&bytes);
        }
    }
}
