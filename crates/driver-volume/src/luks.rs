//! LUKS inside a volume: a container as long as its header and the content, so that the guest sees all it was promised.

use std::fs::File;
use std::path::Path;

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::job::Job;
use crate::spec::{Luks, word};
use crate::tool::{Run, Tools, memory};

/// Keys are random and long: stretching them adds nothing but seconds to every start.
const STRETCH_MS: u32 = 50;

/// An empty container for a content of `bytes`, in memory; only its header takes room.
pub(crate) fn container(tools: &Tools, luks: &Luks, bytes: u64) -> Result<(File, u64)> {
    let failed = || Error::io("make in memory", Path::new("a LUKS header"));
    [&luks.cipher, &luks.mode].into_iter().try_for_each(|name| word(name))?;
    let file = memory(c"luks").map_err(failed())?;
    tools.give(&file, Path::new("a LUKS header"))?;
    let mut run = Run::qemu_img(tools, "create");
    run.args(["-q", "-f", "luks"]).secret(&luks.secret("key"))?;
    let mut options = format!("key-secret=key,cipher-alg={},cipher-mode={},iter-time={STRETCH_MS}", luks.cipher, luks.mode);
    options.push_str(match luks.mode.as_str() {
        "cbc" => ",ivgen-alg=essiv,ivgen-hash-alg=sha256",
        "ecb" => "",
        _ => ",ivgen-alg=plain64",
    });
    let path = format!("/proc/self/fd/{}", run.hand(&file)?);
    run.args(["-o", &options, &path, &bytes.to_string()]);
    run.go(&Job::default())?;
    let length = file.metadata().map_err(failed())?.len();
    Ok((file, length))
}

/// The layer that decrypts, over the volume's own.
pub(crate) fn over(image: Value, secret: &str) -> Value {
    json!({"driver": "luks", "key-secret": secret, "file": image})
}
