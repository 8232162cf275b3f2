//! What fuzzers call: any bytes as a line, and any bytes as a whole store. Each checks what must hold for it.

use std::path::Path;
use std::sync::Arc;

use tenure_domain::{Filter, Millis, Policy, Scope, Session, SortKey, Timestamp};
use tenure_ports::{Clock, StoreError, prelude::*};

use crate::boot::Boot;
use crate::format::parse_line;
use crate::repair::Surgery;
use crate::vfs::sim::SimFs;
use crate::{JsonStore, Options};

const STORE: &str = "/fuzz/s.jsonl";
/// Later than whatever the corpus' lines say, and in one of their runs of a machine.
const NOW: u64 = 1_900_000_000_000;

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(NOW)
    }
}

impl Boot for Fixed {
    fn id(&self) -> String {
        "b1".to_owned()
    }

    fn elapsed(&self) -> Millis {
        Millis::days(30)
    }
}

/// Reads bytes as one line of a journal.
pub fn line(bytes: &[u8]) {
    drop(parse_line(bytes));
    // The same as a transaction whose checksum is right.
    drop(parse_line(&sealed(bytes)));
}

/// A line with this transaction and its checksum.
fn sealed(tx: &[u8]) -> Vec<u8> {
    [format!("{{\"crc\":\"{:08x}\",\"tx\":", crc32c::crc32c(tx)).as_bytes(), tx, b"}"].concat()
}

/// Opens bytes as a store, or, if they begin so, transactions as lines with the right checksums.
///
/// # Panics
/// Where a store opens that does not hold what it holds, or one that does not open is changed, or a repair leaves one
/// that does not open.
pub fn store(bytes: &[u8]) {
    let bytes = match bytes.strip_prefix(b"+") {
        Some(lines) => lines.split(|byte| *byte == b'\n').flat_map(|tx| [&sealed(tx)[..], b"\n"].concat()).collect(),
        None => bytes.to_vec(),
    };
    let fs = SimFs::new(Path::new("/fuzz"));
    fs.put(Path::new(STORE), &bytes);
    match open(&fs) {
        Ok(store) => works(&fs, &store, &bytes),
        Err(StoreError::Corrupt { .. }) => {
            assert_eq!(fs.content(Path::new(STORE)).as_deref(), Some(&bytes[..]), "a corrupt store was changed");
            repairs(&fs);
        }
        // The clock is behind what it says: that can be accepted.
        Err(StoreError::Unavailable { .. }) => repairs(&fs),
        Err(other) => panic!("{other}"),
    }
}

fn open(fs: &SimFs) -> Result<Arc<JsonStore>, StoreError> {
    let options = Options { boot: Arc::new(Fixed), ..Options::default() };
    JsonStore::open_on(Arc::new(fs.clone()), Path::new(STORE), Arc::new(Fixed), options)
}

fn listed(store: &JsonStore) -> Result<Vec<Session>, StoreError> {
    let all = Filter { scope: Scope::Retained, ..Filter::default() };
    let top = store.list_sorted(&all, Timestamp::EPOCH, SortKey::Created, usize::MAX);
    futures_util::FutureExt::now_or_never(top).unwrap_or_else(|| panic!("a read waited"))
}

/// What opened is read the same again, and only its end was ever cut.
fn works(fs: &SimFs, store: &Arc<JsonStore>, bytes: &[u8]) {
    let Ok(found) = listed(store) else { return repairs(fs) };
    let whole = fs.content(Path::new(STORE)).unwrap_or_default();
    assert_eq!(whole, bytes, "reading changed the store");
    let again = open(fs).and_then(|store| listed(&store));
    assert_eq!(again.as_ref(), Ok(&found), "the second look differs");
    for session in &found {
        assert!(session.is_in_its_bucket(), "{} is in no bucket of its device", session.id);
    }
}

/// Whatever can be planned can be done, and what comes of it opens.
fn repairs(fs: &SimFs) {
    let (wall, boot) = (Arc::new(Fixed), Arc::new(Fixed));
    let surgery = Surgery { vfs: Arc::new(fs.clone()), path: STORE.into(), wall, boot, policy: Policy::default() };
    let Ok(Some((plan, _))) = surgery.examine() else { return };
    if let Err(error) = surgery.carry_out(&plan) {
        panic!("planned and not done: {error}; {plan:?}");
    }
    let found = open(fs).and_then(|store| listed(&store));
    assert_eq!(found.as_ref().map(Vec::len), Ok(usize::try_from(plan.kept).unwrap_or_default()), "{plan:?}");
    assert!(matches!(surgery.examine(), Ok(None)), "the repaired store wants repair");
}
