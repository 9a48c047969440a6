//! The files by which clients find the cloud: `clouds.yaml` and `openrc`, with the administrator's password made once.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::state::StateDir;

/// Writes the files for this URL and returns the administrator's password. The password is in a file before anything else knows it, so
/// it cannot be lost. A controller that comes to a cloud which has an administrator does not know the password (only its hash is stored):
/// then the files are without one, and nothing is returned.
pub fn write(state: &StateDir, url: &str, region: &str, has_administrator: bool) -> Result<Option<String>> {
    let known = present(&state.clouds_yaml())?.filter(|password| !password.is_empty());
    let password = match known {
        Some(password) => Some(password),
        None if has_administrator => None,
        None => Some(fresh()),
    };
    let text = password.as_deref().unwrap_or_default();
    files(state, url, region, text)?;
    Ok(password)
}

fn files(state: &StateDir, url: &str, region: &str, password: &str) -> Result<()> {
    let ca = state.ca();
    let ca = ca.display();
    replace(
        &state.clouds_yaml(),
        &format!(
            "clouds:\n  unkai:\n    auth:\n      auth_url: {url}/identity/v3\n      username: admin\n      password: {password}\n      \
             project_name: admin\n      user_domain_name: Default\n      project_domain_name: Default\n    \
             region_name: {region}\n    identity_api_version: 3\n    cacert: {ca}\n"
        ),
    )?;
    replace(
        &state.openrc(),
        &format!(
            "export OS_AUTH_URL={url}/identity/v3\nexport OS_USERNAME=admin\nexport OS_PASSWORD={password}\n\
             export OS_PROJECT_NAME=admin\nexport OS_USER_DOMAIN_NAME=Default\nexport OS_PROJECT_DOMAIN_NAME=Default\n\
             export OS_REGION_NAME={region}\nexport OS_IDENTITY_API_VERSION=3\nexport OS_CACERT={ca}\n"
        ),
    )
}

/// A file that anybody may read; left alone when it says this already.
pub fn publish(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if fs::read_to_string(path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    replace(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).with_context(|| format!("opening `{}` to everybody", path.display()))
}

fn present(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let line = text.lines().find_map(|line| line.trim().strip_prefix("password:"));
            line.map(|password| Some(password.trim().to_owned())).with_context(|| format!("`{}` holds no password", path.display()))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("reading `{}`", path.display())),
    }
}

/// 24 letters and digits: about 142 bits.
fn fresh() -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut password = String::new();
    while password.len() < 24 {
        let mut byte = [0];
        aws_lc_rs::rand::fill(&mut byte).expect("the system's random generator answers");
        // 248 is the largest multiple of 62 in a byte: no letter is likelier than another.
        if byte[0] < 248 {
            password.push(ALPHABET[usize::from(byte[0]) % 62] as char);
        }
    }
    password
}

/// Whole or not at all, readable by the owner only.
fn replace(path: &Path, text: &str) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let new = path.with_extension("new");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().with_context(|| format!("writing `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_stays_when_the_address_changes() {
        let dir = std::env::temp_dir().join(format!("unkai-access-{}", std::process::id()));
        let state = StateDir::create(&dir).unwrap();
        assert_eq!(write(&state, "https://127.0.0.1:1", "RegionOne", true).unwrap(), None, "another controller knows it");
        let first = write(&state, "https://127.0.0.1:1", "RegionOne", false).unwrap();
        let second = write(&state, "https://127.0.0.1:2", "RegionOne", true).unwrap();
        assert!(first.is_some() && first == second);
        assert!(fs::read_to_string(state.openrc()).unwrap().contains("OS_AUTH_URL=https://127.0.0.1:2/identity/v3"));
        fs::remove_dir_all(dir).unwrap();
    }
}
