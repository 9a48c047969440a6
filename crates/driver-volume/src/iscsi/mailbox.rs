//! How a host asks the one that serves the pool: by a LUN of its own, a table of slots. An asker writes a request into a slot and reads there
//! until the answer is in it. Who may ask is who knows the pool's password, as for the volumes themselves; nothing else listens.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::initiator::Initiator;
use super::wire::{Answer, Ask};
use crate::error::{Error, Result};
use crate::files::{mark, write_durably};

const SLOT: usize = 64 << 10;
const SLOTS: u64 = 128;
const HEAD: usize = 64;
const MAGIC: &[u8; 8] = b"unkaiMB1";
/// How often the table is looked at while nothing happens.
const GLANCE: Duration = Duration::from_millis(20);
/// The answerer shows this often that it is at work; an asker that sees nothing for longer gives up.
const BEAT: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(12);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Request = 1,
    Working = 2,
    Reply = 3,
}

/// What is in a slot.
#[derive(Debug, PartialEq, Eq)]
struct Letter {
    kind: Kind,
    beat: u32,
    id: [u8; 16],
    body: Vec<u8>,
}

impl Letter {
    fn encode(&self) -> Result<Vec<u8>> {
        if self.body.len() > SLOT - HEAD {
            return Err(Error::Invalid("an answer of the pool's host is too long".into()));
        }
        let mut out = Vec::with_capacity(SLOT);
        out.extend(MAGIC);
        out.extend((self.kind as u32).to_be_bytes());
        out.extend(self.beat.to_be_bytes());
        out.extend((self.body.len() as u64).to_be_bytes());
        out.extend(self.id);
        out.extend(&self.sum()[..24]);
        out.extend(&self.body);
        out.resize(SLOT, 0);
        Ok(out)
    }

    /// Tells a letter that is only half written.
    fn sum(&self) -> Vec<u8> {
        let mut hash = Sha256::new();
        hash.update([self.kind as u8]);
        hash.update(self.beat.to_be_bytes());
        hash.update(self.id);
        hash.update(&self.body);
        hash.finalize().to_vec()
    }

    fn decode(bytes: &[u8]) -> Option<Letter> {
        let head = bytes.get(..HEAD).filter(|head| head.starts_with(MAGIC))?;
        let word = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| head[at + i]));
        let kind = [Kind::Request, Kind::Working, Kind::Reply].into_iter().find(|kind| *kind as u32 == word(8))?;
        let body = bytes.get(HEAD..HEAD.checked_add(word(20) as usize)?)?.to_vec();
        let letter = Letter { kind, beat: word(12), id: std::array::from_fn(|i| head[24 + i]), body };
        (letter.sum()[..24] == head[40..64]).then_some(letter)
    }
}

/// The table, in a pool that is there.
pub fn file(dir: &Path) -> Result<PathBuf> {
    mark::require(dir)?;
    let path = dir.join(".unkai-mailbox");
    if !path.exists() {
        write_durably(&path, b"")?;
    }
    let file = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(&path).map_err(Error::io("open", &path))?;
    file.set_len(SLOTS * SLOT as u64).map_err(Error::io("size", &path))?;
    Ok(path)
}

/// Asks, and waits for as long as the other end is at work.
pub fn ask(initiator: &Initiator, ask: &Ask) -> Result<Answer> {
    let target = initiator.control();
    let unanswered = || Error::Pool(format!("the host that serves {} does not answer", initiator.portal));
    let mut id = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut random| std::io::Read::read_exact(&mut random, &mut id))
        .map_err(Error::io("read", "/dev/urandom"))?;
    let body = serde_json::to_vec(ask).map_err(|e| Error::Invalid(e.to_string()))?;
    let request = Letter { kind: Kind::Request, beat: 0, id, body };
    let bytes = request.encode()?;
    // Another asker may have taken the same slot; then it is another one.
    for turn in 0..4 {
        let at = u64::from(id[turn]) % SLOTS * SLOT as u64;
        initiator.write(&target, at, &bytes)?;
        let (mut seen, mut since) = (0, Instant::now());
        while since.elapsed() < PATIENCE {
            let there = Letter::decode(&initiator.read(&target, at, SLOT)?);
            match there {
                Some(letter) if letter.id != id => break,
                Some(letter) if letter.kind == Kind::Reply => {
                    return serde_json::from_slice(&letter.body)
                        .map_err(|e| Error::Damaged("an answer of the pool's host".into(), e.to_string()));
                }
                Some(letter) if letter.beat != seen => (seen, since) = (letter.beat, Instant::now()),
                _ => std::thread::sleep(GLANCE),
            }
        }
        if since.elapsed() >= PATIENCE {
            return Err(unanswered());
        }
    }
    Err(unanswered())
}

/// What answers; it may take as long as it takes.
pub type Answerer = dyn Fn(Ask) -> Answer + Send + Sync;

/// The tables that this process answers.
static ANSWERED: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);

/// Answers from here on, until the pool is gone. Nothing happens when it does already.
pub fn answer(dir: &Path, answerer: Arc<Answerer>) -> Result<()> {
    let path = file(dir)?;
    let mut answered = ANSWERED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if !answered.get_or_insert_default().insert(path.clone()) {
        return Ok(());
    }
    let dir = dir.to_owned();
    std::thread::spawn(move || {
        if let Err(error) = serve(&dir, &path, &answerer) {
            tracing::warn!(%error, dir = %dir.display(), "requests of other hosts are not answered");
        }
        let mut answered = ANSWERED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        answered.get_or_insert_default().remove(&path);
    });
    Ok(())
}

struct Work {
    /// Where it was asked last.
    slot: u64,
    beat: u32,
    beaten: Instant,
    answer: Receiver<Answer>,
}

/// How many answers are kept for askers whose slot was taken by another.
const KEPT: usize = 64;

/// The table as the answerer has it.
struct Table {
    dir: PathBuf,
    path: PathBuf,
    file: File,
    inode: u64,
}

impl Table {
    fn open(dir: &Path, path: &Path) -> Result<Table> {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(Error::io("open", path))?;
        let inode = file.metadata().map_err(Error::io("look at", path))?.ino();
        Ok(Table { dir: dir.into(), path: path.into(), file, inode })
    }

    /// It is still the pool's.
    fn check(&self) -> Result<()> {
        mark::require(&self.dir)?;
        let now = std::fs::metadata(&self.path).map_err(Error::io("look at", &self.path))?.ino();
        if now == self.inode { Ok(()) } else { Err(Error::Pool(format!("`{}` was replaced", self.path.display()))) }
    }

    fn letter(&self, slot: u64) -> Result<Option<Letter>> {
        let failed = || Error::io("read", &self.path);
        let mut head = [0; HEAD];
        self.file.read_exact_at(&mut head, slot * SLOT as u64).map_err(failed())?;
        if !head.starts_with(MAGIC) {
            return Ok(None);
        }
        let mut bytes = vec![0; SLOT];
        self.file.read_exact_at(&mut bytes, slot * SLOT as u64).map_err(failed())?;
        Ok(Letter::decode(&bytes))
    }

    /// Into a slot that is still of this request.
    fn put(&self, slot: u64, letter: &Letter) -> Result<()> {
        if self.letter(slot)?.is_none_or(|there| there.id != letter.id) {
            return Ok(());
        }
        self.file.write_all_at(&letter.encode()?, slot * SLOT as u64).map_err(Error::io("write", &self.path))
    }

    fn requests(&self) -> Result<Vec<(u64, Letter)>> {
        let mut all = Vec::new();
        for slot in 0..SLOTS {
            all.extend(self.letter(slot)?.filter(|letter| letter.kind == Kind::Request).map(|letter| (slot, letter)));
        }
        Ok(all)
    }
}

fn serve(dir: &Path, path: &Path, answerer: &Arc<Answerer>) -> Result<()> {
    let table = Table::open(dir, path)?;
    let mut working: HashMap<[u8; 16], Work> = HashMap::new();
    let mut kept: VecDeque<([u8; 16], Vec<u8>)> = VecDeque::new();
    let reply = |slot: u64, id: [u8; 16], body: &[u8]| table.put(slot, &Letter { kind: Kind::Reply, beat: 0, id, body: body.to_vec() });
    let beat = |slot: u64, id: [u8; 16], beat: u32| table.put(slot, &Letter { kind: Kind::Working, beat, id, body: Vec::new() });
    loop {
        table.check()?;
        for (slot, letter) in table.requests()? {
            let id = letter.id;
            if let Some((_, body)) = kept.iter().find(|(known, _)| *known == id) {
                reply(slot, id, body)?;
                continue;
            }
            beat(slot, id, 1)?;
            if let Some(work) = working.get_mut(&id) {
                work.slot = slot;
                continue;
            }
            let (tell, answer) = channel();
            let answerer = Arc::clone(answerer);
            std::thread::spawn(move || {
                let answer = match serde_json::from_slice(&letter.body) {
                    Ok(ask) => answerer(ask),
                    Err(error) => Answer::Failed(Error::Invalid(error.to_string()).into()),
                };
                let _ = tell.send(answer);
            });
            working.insert(id, Work { slot, beat: 1, beaten: Instant::now(), answer });
        }
        let mut over = Vec::new();
        for (id, work) in &mut working {
            let answer = match work.answer.try_recv() {
                Ok(answer) => answer,
                Err(TryRecvError::Disconnected) => Answer::Failed(Error::Pool("the pool's host failed at it".into()).into()),
                Err(TryRecvError::Empty) => {
                    if work.beaten.elapsed() > BEAT {
                        (work.beat, work.beaten) = (work.beat + 1, Instant::now());
                        beat(work.slot, *id, work.beat)?;
                    }
                    continue;
                }
            };
            let body = serde_json::to_vec(&answer).map_err(|e| Error::Invalid(e.to_string()))?;
            reply(work.slot, *id, &body)?;
            over.push((*id, body));
        }
        for (id, body) in over {
            working.remove(&id);
            kept.push_front((id, body));
            kept.truncate(KEPT);
        }
        std::thread::sleep(GLANCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_are_half_written_are_none() {
        let letter = Letter { kind: Kind::Working, beat: 7, id: [9; 16], body: b"words".to_vec() };
        let mut bytes = letter.encode().unwrap();
        assert_eq!(Letter::decode(&bytes), Some(letter));
        bytes[HEAD + 2] ^= 1;
        assert_eq!(Letter::decode(&bytes), None);
        assert_eq!(Letter::decode(&vec![0; SLOT]), None);
        let long = Letter { kind: Kind::Reply, beat: 0, id: [0; 16], body: vec![0; SLOT] };
        assert!(long.encode().is_err());
    }
}
