//! The functions that the fuzz targets in `fuzz/` call: one takes any bytes as a line of a journal, one as a whole
//! store.

use std::path::Path;
use std::sync::Arc;

use tenure_adapter_json::{JsonStore, Options, Repairer, is_valid_line};
use tenure_domain::{Filter, Millis, Policy, Scope, Session, SortKey, Timestamp};
use tenure_ports::{StoreError, prelude::*};

use crate::{SimulatedMachine, SimulatedStorage};

const STORE: &str = "/fuzz/s.jsonl";
/// Makes the machine on which stores are opened. Its clock is later than any line of the corpus, and its boot id is that
/// of some of the lines.
fn machine() -> Arc<SimulatedMachine> {
    SimulatedMachine::new("b1", Millis::days(30), Timestamp::from_millis(1_900_000_000_000))
}

/// Parses bytes as one line of a journal, and as a transaction whose checksum is right.
pub fn line(bytes: &[u8]) {
    // Any answer is fine; it must not panic.
    let _ = is_valid_line(bytes);
    let _ = is_valid_line(&with_checksum(bytes));
}

/// Returns a line with this transaction and its checksum.
fn with_checksum(tx: &[u8]) -> Vec<u8> {
    [format!("{{\"crc\":\"{:08x}\",\"tx\":", crc32c::crc32c(tx)).as_bytes(), tx, b"}"].concat()
}

/// Opens bytes as a store. After a leading `+`, each line is a transaction, to which the checksum is added.
///
/// # Panics
/// Panics if a store that opens returns other sessions the second time, if a store that does not open is changed, or if
/// a repair leaves a store that does not open.
pub fn store(bytes: &[u8]) {
    let bytes = match bytes.strip_prefix(b"+") {
        Some(lines) => {
            lines.split(|byte| *byte == b'\n').flat_map(|tx| [&with_checksum(tx)[..], b"\n"].concat()).collect()
        }
        None => bytes.to_vec(),
    };
    let fs = SimulatedStorage::new(Path::new("/fuzz"));
    fs.put(Path::new(STORE), &bytes);
    match open(&fs) {
        Ok(store) => check_reading(&fs, &store, &bytes),
        Err(StoreError::Corrupt { .. }) => {
            assert_eq!(fs.content(Path::new(STORE)).as_deref(), Some(&bytes[..]), "a corrupt store was changed");
            check_repair(&fs);
        }
        // The clock is behind the recorded time. A repair can accept the clock.
        Err(StoreError::Unavailable { .. }) => check_repair(&fs),
        Err(other) => panic!("{other}"),
    }
}

fn open(fs: &SimulatedStorage) -> Result<Arc<JsonStore>, StoreError> {
    let (machine, storage) = (machine(), Arc::new(fs.clone()));
    JsonStore::open(Path::new(STORE), machine.clone(), Options { boot: machine, storage, ..Options::default() })
}

fn listed(store: &JsonStore) -> Result<Vec<Session>, StoreError> {
    let all = Filter { scope: Scope::Retained, ..Filter::default() };
    let top = store.list_sorted(&all, Timestamp::EPOCH, SortKey::Created, usize::MAX);
    futures_util::FutureExt::now_or_never(top).unwrap_or_else(|| panic!("a read waited"))
}

/// Checks that a store that opens returns the same sessions when it is opened again, and that reading changes nothing.
fn check_reading(fs: &SimulatedStorage, store: &Arc<JsonStore>, bytes: &[u8]) {
    let Ok(found) = listed(store) else { return check_repair(fs) };
    let whole = fs.content(Path::new(STORE)).unwrap_or_default();
    assert_eq!(whole, bytes, "reading changed the store");
    let again = open(fs).and_then(|store| listed(&store));
    assert_eq!(again.as_ref(), Ok(&found), "the second look differs");
    for session in &found {
        assert!(session.is_in_its_bucket(), "{} is in no bucket of its device", session.id);
    }
}

/// Checks that a planned repair can be carried out, and that the repaired store opens.
fn check_repair(fs: &SimulatedStorage) {
    let machine = machine();
    let repairer = Repairer::new(Path::new(STORE), machine.clone(), &Policy::default());
    let repairer = repairer.with_storage(Arc::new(fs.clone())).with_boot(machine);
    let Ok(Some(plan)) = repairer.plan() else { return };
    if let Err(error) = repairer.execute(&plan) {
        panic!("planned and not done: {error}; {plan:?}");
    }
    let found = open(fs).and_then(|store| listed(&store));
    assert_eq!(found.as_ref().map(Vec::len), Ok(usize::try_from(plan.kept).unwrap_or_default()), "{plan:?}");
    assert!(matches!(repairer.plan(), Ok(None)), "the repaired store wants repair");
}
