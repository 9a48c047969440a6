//! One OpenSSH public key line: `type base64 [comment]`. The blob inside must be a key of the type the line says.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

use super::{KeyError, colons};

/// The MD5 fingerprint, as `ssh-keygen -E md5` prints it without its prefix.
pub fn fingerprint(line: &str) -> Result<String, KeyError> {
    let line = line.trim();
    if line.chars().any(|c| c.is_control() && c != '\t') {
        return Err(KeyError::Unreadable);
    }
    let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
    let (Some(name), Some(text)) = (words.next(), words.next()) else { return Err(KeyError::Unreadable) };
    let blob = STANDARD.decode(text).map_err(|_| KeyError::Unreadable)?;
    check(name, &blob).ok_or(KeyError::Unreadable)?;
    Ok(colons(&Md5::digest(&blob)))
}

/// Reads the blob to its end; nothing when it is not a key of that type.
fn check(name: &str, blob: &[u8]) -> Option<()> {
    let mut fields = Fields(blob);
    if fields.next()? != name.as_bytes() {
        return None;
    }
    match name {
        "ssh-rsa" => {
            let (_exponent, modulus) = (fields.number()?, fields.number()?);
            (512..=16384).contains(&(modulus.len() * 8)).then_some(())?;
        }
        "ssh-dss" => (0..4).try_for_each(|_| fields.number().map(drop))?,
        "ssh-ed25519" => fields.sized(32)?,
        "sk-ssh-ed25519@openssh.com" => {
            fields.sized(32)?;
            fields.next()?;
        }
        "sk-ecdsa-sha2-nistp256@openssh.com" => {
            fields.point("nistp256", 32)?;
            fields.next()?;
        }
        "ecdsa-sha2-nistp256" => fields.point("nistp256", 32)?,
        "ecdsa-sha2-nistp384" => fields.point("nistp384", 48)?,
        "ecdsa-sha2-nistp521" => fields.point("nistp521", 66)?,
        _ => return None,
    }
    fields.0.is_empty().then_some(())
}

/// The rest of a blob: fields, each behind its length in four bytes.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let field = rest.get(..length)?;
        self.0 = &rest[length..];
        Some(field)
    }
    /// A positive number, without its leading zero.
    fn number(&mut self) -> Option<&'a [u8]> {
        let field = self.next()?;
        let digits = field.strip_prefix(&[0]).unwrap_or(field);
        (field.first()? & 0x80 == 0 && !digits.is_empty()).then_some(digits)
    }
    fn sized(&mut self, length: usize) -> Option<()> {
        (self.next()?.len() == length).then_some(())
    }
    /// A curve's name and an uncompressed point on it.
    fn point(&mut self, curve: &str, coordinate: usize) -> Option<()> {
        if self.next()? != curve.as_bytes() {
            return None;
        }
        let point = self.next()?;
        (point.first() == Some(&4) && point.len() == 1 + 2 * coordinate).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFBMQbQyO6Zr8ixy1W2mTUoWY0ZVpJNcIwLJB2NZYQYX me@here";

    #[test]
    fn a_key_has_sixteen_byte_fingerprint_whatever_its_comment() {
        let one = fingerprint(ED25519).unwrap();
        assert_eq!(one.len(), 16 * 3 - 1);
        assert_eq!(fingerprint(ED25519.trim_end_matches(" me@here")), Ok(one.clone()));
        assert_eq!(fingerprint(&format!("{ED25519}\n")), Ok(one));
    }

    #[test]
    fn what_is_not_a_key_is_refused() {
        let ten_kib = "A".repeat(2048);
        let long = format!("ssh-rsa {ten_kib} openstack@ubuntu");
        let other_type = ED25519.replace("ssh-ed25519", "ssh-rsa");
        let two_lines = format!("{ED25519}\n{ED25519}");
        let cut = &ED25519[..60];
        for line in ["", " ", "ssh-rsa", "ssh-rsa JUNK nova@ubuntu", &long, &other_type, &two_lines, cut, "ssh-foo AAAAB3NzaC1mb28="] {
            assert_eq!(fingerprint(line), Err(KeyError::Unreadable), "{line:?}");
        }
    }
}
