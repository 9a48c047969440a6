//! A small file system of its own for each test, which is filled and emptied.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use sha2::{Digest, Sha512};
use tokio::io::{AsyncWriteExt, DuplexStream};
use unkai_link::client::Link;
use unkai_link::enrolment::Enrol;
use unkai_link::item::{HostId, ImageItem, ImageRef, Item, ItemKey};
use unkai_link::report::{Inventory, Up};
use unkai_link::server::{BoxFuture, Bytes, Control, LinkServer};
use unkai_model::image::Image;
use unkai_model::{Error as ModelError, Id};
use unkai_store::{Store, System, View};

use super::*;
use crate::desired::Desired;
use crate::images::Images;
use crate::ledger::Ledger;

/// Mounted on a directory of its own until it is dropped.
struct Small {
    dir: tempfile::TempDir,
}

impl Small {
    /// None, with the reason said, where nothing may be mounted.
    fn new(size: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        match mount(Some("unkai-test"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some(options.as_str())) {
            Ok(()) => Some(Small { dir }),
            Err(error) => {
                eprintln!("skipped: cannot mount a small file system: {error}");
                None
            }
        }
    }

    fn filler(&self) -> PathBuf {
        self.dir.path().join("filler")
    }

    /// Takes all that is free but `but` bytes.
    fn fill(&self, but: u64) {
        let stat = nix::sys::statvfs::statvfs(self.dir.path()).unwrap();
        let free = stat.blocks_available() as u64 * stat.fragment_size() as u64;
        // Somebody else may take a part of it meanwhile.
        let filled = std::fs::write(self.filler(), vec![1; (free - but) as usize]);
        assert!(filled.is_ok() || filled.is_err_and(|e| e.kind() == io::ErrorKind::StorageFull));
    }

    fn make_room(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn files(&self, of: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path().join(of)).unwrap().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = umount2(self.dir.path(), MntFlags::MNT_DETACH);
    }
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

#[test]
fn room_is_judged_with_a_reserve() {
    let dir = Path::new("/d");
    assert!(judge(dir, 10, RESERVE + 10).is_ok());
    let error = judge(dir, 11, RESERVE + 10).unwrap_err();
    assert!(is_full(&error) && error.to_string().contains("no room for 11 bytes in `/d`"), "{error}");
    assert!(!is_full(&ModelError::internal("other")));
    assert!(is_full(&ModelError::internal("`mke2fs` failed: No space left on device")));
}

#[test]
fn a_fact_that_finds_no_room_leaves_the_old_one_and_no_half() {
    let Some(small) = Small::new(1 << 20) else { return };
    let ledger = Ledger::open(small.dir.path().join("l")).unwrap();
    ledger.write("a", &"old").unwrap();
    small.fill(0);
    let error = ledger.write("a", &"x".repeat(9000)).unwrap_err();
    assert!(is_full(&error), "{error:?}");
    assert!(chain(&error).contains("l/a.json`: No space left on device"), "{}", chain(&error));
    assert_eq!(small.files("l"), ["a.json"]);
    ledger.write("a", &"old").expect("what is there needs no room");
    assert_eq!(ledger.read::<String>("a").unwrap().unwrap(), "old");
    small.make_room();
    ledger.write("a", &"new").unwrap();
    assert_eq!(ledger.read::<String>("a").unwrap().unwrap(), "new");
}

fn item(id: &str, request: u64, padding: usize) -> Item {
    let image = ImageRef { id: Id::new(id), format: "f".repeat(padding), size: 1, sha512: String::new(), min_disk_gib: 0 };
    Item::Image(ImageItem { image, request })
}

fn requests(desired: &Desired, key: &ItemKey) -> Option<u64> {
    desired.image(&key.id).map(|item| item.request)
}

#[test]
fn a_wish_that_finds_no_room_is_obeyed_and_noted_later() {
    let Some(small) = Small::new(1 << 20) else { return };
    let desired = Desired::open(small.dir.path()).unwrap();
    let (one, two) = (item("one", 1, 1).key(), item("two", 1, 1).key());
    desired.put(item("one", 1, 1)).unwrap();
    small.fill(0);
    desired.put(item("one", 2, 9000)).unwrap();
    desired.put(item("two", 1, 9000)).unwrap();
    assert_eq!((requests(&desired, &one), requests(&desired, &two)), (Some(2), Some(1)), "wanted all the same");
    let restarted = Desired::open(small.dir.path()).unwrap();
    assert_eq!(restarted.keys(), [], "an older wish came back");
    desired.write_missing();
    desired.drop(&two).unwrap();
    small.make_room();
    desired.write_missing();
    let restarted = Desired::open(small.dir.path()).unwrap();
    assert_eq!((requests(&restarted, &one), requests(&restarted, &two)), (Some(2), None));
}

/// A controller with one image, whose bytes come as the test sends them.
struct Source(Mutex<Option<(DuplexStream, u64)>>);

impl Control for Source {
    fn assigned(&self, _: &View, _: &HostId) -> Vec<Item> {
        Vec::new()
    }
    fn process(&self) -> &str {
        "test"
    }
    fn hello(&self, _: HostId, _: Inventory) -> BoxFuture<'_, Result<u64, ModelError>> {
        Box::pin(std::future::ready(Ok(1)))
    }
    fn enrol(&self, _: Enrol) -> BoxFuture<'_, Result<(HostId, u64), ModelError>> {
        unreachable!("no enrolment here")
    }
    fn lease(&self, _: HostId) -> BoxFuture<'_, Result<Duration, ModelError>> {
        Box::pin(std::future::ready(Ok(Duration::ZERO)))
    }
    fn report(&self, _: HostId, _: u64, _: Vec<Up>) -> BoxFuture<'_, Result<(), ModelError>> {
        Box::pin(std::future::ready(Ok(())))
    }
    fn open_image(&self, _: HostId, image: Id<Image>) -> BoxFuture<'_, Result<(Bytes, u64), ModelError>> {
        let opened = self.0.lock().unwrap().take().map(|(bytes, length)| (Box::new(bytes) as Bytes, length));
        Box::pin(std::future::ready(opened.ok_or_else(|| ModelError::not_found::<Image>(&image))))
    }
    fn take_image(&self, _: HostId, _: Id<Image>, _: Bytes) -> BoxFuture<'_, Result<(), ModelError>> {
        unreachable!("no snapshots here")
    }
}

type Fetch = Pin<Box<dyn Future<Output = Result<PathBuf, ModelError>>>>;

/// A fetch of these bytes, and where they are sent from.
async fn fetch(images: &Images, bytes: &[u8]) -> (Fetch, DuplexStream) {
    let (send, receive) = tokio::io::duplex(64 << 10);
    let control = Arc::new(Source(Mutex::new(Some((receive, bytes.len() as u64)))));
    let server = LinkServer::new(Store::in_memory(Arc::new(System)), control);
    let (near, far) = tokio::io::duplex(64 << 10);
    tokio::spawn(server.serve(far, HostId::new("h")));
    let link = Link::connect(near).await.unwrap();
    let sha512 = hex::encode(Sha512::digest(bytes));
    let image = ImageRef { id: Id::new("i"), format: "raw".into(), size: bytes.len() as u64, sha512, min_disk_gib: 0 };
    let images = images.clone();
    (Box::pin(async move { images.fetch(&link, &image).await }), send)
}

#[tokio::test]
async fn an_image_that_finds_no_room_says_so_and_comes_when_there_is() {
    let Some(small) = Small::new(64 << 20) else { return };
    let images = Images::open(small.dir.path().join("images")).unwrap();
    let bytes: Vec<u8> = (0..8_u32 << 20).map(|n| (n % 251) as u8).collect();

    small.fill(RESERVE + (1 << 20));
    let (fetching, _send) = fetch(&images, &bytes).await;
    let error = fetching.await.unwrap_err();
    assert!(is_full(&error) && chain(&error).contains("no room for 8388608 bytes"), "{}", chain(&error));
    assert_eq!(small.files("images"), Vec::<String>::new());
    small.make_room();

    // The room goes while the bytes come.
    let (fetching, mut send) = fetch(&images, &bytes).await;
    let (half, rest) = bytes.split_at(bytes.len() / 2);
    let feed = async {
        send.write_all(half).await.unwrap();
        small.fill(0);
        let _ = send.write_all(rest).await;
        drop(send);
    };
    let (failed, ()) = tokio::join!(fetching, feed);
    let error = failed.unwrap_err();
    assert!(is_full(&error) && chain(&error).contains("fetching image i"), "{}", chain(&error));
    assert_eq!(small.files("images"), Vec::<String>::new(), "half an image takes room");
    small.make_room();

    let (fetching, mut send) = fetch(&images, &bytes).await;
    let feed = async {
        send.write_all(&bytes).await.unwrap();
        drop(send);
    };
    let (fetched, ()) = tokio::join!(fetching, feed);
    assert!(std::fs::read(fetched.unwrap()).unwrap() == bytes);
}
