//! Tests of where the store blocks. A task that has much to read leaves it to another thread, and no task blocks its own
//! thread while it waits for that.

use std::io;
use std::sync::{Condvar, Mutex};
use std::thread::ThreadId;

use futures_util::FutureExt as _;
use tenure_adapter_json::Storage;
use tenure_adapter_json::storage::{Metadata, StorageFile};

use super::*;

/// The threads that have read, and whether threads other than `main` may read now.
struct Readers {
    main: ThreadId,
    seen: Mutex<Vec<ThreadId>>,
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Readers {
    fn new() -> Arc<Self> {
        let main = std::thread::current().id();
        Arc::new(Self { main, seen: Mutex::default(), is_open: Mutex::new(true), opened: Condvar::new() })
    }

    fn set_open(&self, is_open: bool) {
        *self.is_open.lock().unwrap() = is_open;
        self.opened.notify_all();
    }

    fn record(&self) {
        let reader = std::thread::current().id();
        self.seen.lock().unwrap().push(reader);
        if reader != self.main {
            drop(self.opened.wait_while(self.is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
        }
    }

    /// Returns how many reads there were since the last call: by the main thread, and by others.
    fn drain_counts(&self) -> (usize, usize) {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        let own = seen.iter().filter(|reader| **reader == self.main).count();
        (own, seen.len() - own)
    }
}

/// A storage that records which threads read.
struct Watched(SimulatedStorage, Arc<Readers>);

struct WatchedFile(Arc<dyn StorageFile>, Arc<Readers>);

impl StorageFile for WatchedFile {
    fn metadata(&self) -> io::Result<Metadata> {
        self.0.metadata()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.1.record();
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.0.truncate(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.0.try_lock()
    }

    fn unlock(&self) -> io::Result<()> {
        self.0.unlock()
    }
}

impl Storage for Watched {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(WatchedFile(self.0.open(path, mode)?, Arc::clone(&self.1))))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.0.metadata(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.0.create_directory(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.0.sync_directory(path)
    }

    fn user_id(&self) -> u32 {
        self.0.user_id()
    }
}

/// Opens a store that writes, and one that reads the same file through a watched storage.
fn pair(time: &Arc<SimulatedMachine>) -> (Arc<JsonStore>, Arc<JsonStore>, Arc<Readers>, SimulatedStorage) {
    let (fs, readers) = (empty_disk(), Readers::new());
    let writer = JsonStore::open(&path(), time.clone(), Options { storage: Arc::new(fs.clone()), ..options(time) });
    let writer = writer.unwrap();
    let storage = Arc::new(Watched(fs.clone(), Arc::clone(&readers)));
    let reader = JsonStore::open(&path(), time.clone(), Options { storage, ..options(time) }).unwrap();
    (writer, reader, readers, fs)
}

#[test]
fn a_task_applies_a_little_itself_and_leaves_much_to_a_thread() {
    run(async {
        let time = machine();
        let (writer, reader, readers, fs) = pair(&time);
        let size = || fs.content(&path()).unwrap().len();
        readers.drain_counts();
        let first = issue(&writer, "d", 1).await.session.id;
        assert!(reader.find(first, FindOptions::EXACT).await.unwrap().is_some());
        let (own, others) = readers.drain_counts();
        assert!(own > 0 && others == 0, "{own} {others}");

        let (before, mut last, mut n) = (size(), first, 2);
        while size() - before <= 64 << 10 {
            last = issue(&writer, &format!("d{n}"), n).await.session.id;
            n += 1;
        }
        assert!(reader.find(last, FindOptions::EXACT).await.unwrap().is_some());
        let (own, others) = readers.drain_counts();
        assert!(own == 0 && others > 0, "{own} {others}");
        // A file that was restored is read from its beginning.
        let bytes = fs.content(&path()).unwrap();
        fs.put(&path(), &bytes);
        assert!(reader.find(first, FindOptions::EXACT).await.unwrap().is_some());
        let (own, others) = readers.drain_counts();
        assert!(own == 0 && others > 0, "{own} {others}");
    });
}

#[test]
fn while_a_thread_reads_no_task_waits_for_it_with_its_thread() {
    run(async {
        let time = machine();
        let (writer, reader, readers, fs) = pair(&time);
        let size = || fs.content(&path()).unwrap().len();
        let (before, mut n) = (size(), 0);
        while size() - before <= 64 << 10 {
            issue(&writer, &format!("d{n}"), n).await;
            n += 1;
        }
        let id = writer.load(&device("d0")).await.unwrap().sessions()[0].id;
        readers.set_open(false);
        // The first poll starts the reading. If a poll blocked its thread until that is done, it would block for ever.
        let mut finds: Vec<_> = (0..4).map(|_| Box::pin(reader.find(id, FindOptions::EXACT))).collect();
        for find in &mut finds {
            assert!(find.now_or_never().is_none());
        }
        let (name, all) = (device("d0"), Filter::default());
        let mut load = Box::pin(reader.load(&name));
        assert!((&mut load).now_or_never().is_none());
        let mut page = Box::pin(reader.page(&all, time.now(), None, 10));
        assert!((&mut page).now_or_never().is_none());
        readers.set_open(true);
        for find in finds {
            assert_eq!(find.await.unwrap().map(|found| found.id), Some(id));
        }
        assert_eq!(load.await.unwrap().sessions().len(), 1);
        assert_eq!(page.await.unwrap().sessions.len(), 10);
    });
}
