//! What people use instead: SQLite in WAL mode, and a JSON file that is rewritten whole.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use crate::timed;

/// What a session has, in a form that both can keep.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    id: String,
    device: String,
    subject: String,
    digest: String,
    family: String,
    client: String,
    created: i64,
    active: i64,
    expires: i64,
    generation: i64,
}

pub(crate) fn record(n: usize) -> Record {
    // Scattered as random ids are, and never the same twice.
    let id = (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    Record {
        id: format!("{id:020}"),
        device: format!("device-{}", n / 10),
        subject: format!("user-{}", n / 100),
        digest: format!("{id:043}"),
        family: format!("{:043}", !id),
        client: r#"{"platform":"linux"}"#.to_owned(),
        created: n as i64,
        active: (id >> 20) as i64,
        expires: n as i64 + 86_400_000,
        generation: 1,
    }
}

pub(crate) struct Sqlite {
    path: PathBuf,
    connection: Connection,
}

impl Sqlite {
    pub(crate) fn filled(folder: &Path, count: usize) -> Self {
        let path = folder.join("s.sqlite");
        let mut connection = connect(&path);
        connection
            .execute_batch(
                "CREATE TABLE sessions (id TEXT PRIMARY KEY, device TEXT NOT NULL, subject TEXT NOT NULL,
                   digest TEXT NOT NULL, family TEXT NOT NULL, client TEXT NOT NULL, created INTEGER NOT NULL,
                   active INTEGER NOT NULL, expires INTEGER NOT NULL, generation INTEGER NOT NULL) WITHOUT ROWID;
                 CREATE INDEX by_device ON sessions (device);
                 CREATE INDEX by_activity ON sessions (active);",
            )
            .unwrap();
        let transaction = connection.transaction().unwrap();
        (0..count).for_each(|n| insert(&transaction, &record(n)));
        transaction.commit().unwrap();
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        Self { path, connection }
    }

    /// Durable: synced before it returns.
    pub(crate) fn issue(&self, n: usize) {
        insert(&self.connection, &record(n));
    }

    /// Not synced, as Tenure's are not.
    pub(crate) fn touch(&self, times: u32, count: usize) -> Duration {
        self.connection.pragma_update(None, "synchronous", "NORMAL").unwrap();
        timed(times, |n| {
            let mut update = self.connection.prepare_cached("UPDATE sessions SET active = ?1 WHERE id = ?2").unwrap();
            let id = record(n as usize * 7919 % count).id;
            assert_eq!(update.execute(params![i64::from(n), id]).unwrap(), 1);
        })
    }

    pub(crate) fn list(&self, times: u32) -> Duration {
        timed(times, |_| {
            let mut select =
                self.connection.prepare_cached("SELECT * FROM sessions ORDER BY active DESC LIMIT 50").unwrap();
            let rows = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
            assert_eq!(rows.map(Result::unwrap).collect::<Vec<_>>().len(), 50);
        })
    }

    /// Closes it, then opens it and looks for one session.
    pub(crate) fn open(self, times: u32) -> Duration {
        let Self { path, connection } = self;
        drop(connection);
        timed(times, |n| {
            let found: i64 = connect(&path)
                .query_row("SELECT expires FROM sessions WHERE id = ?1", [record(n as usize).id], |row| row.get(0))
                .unwrap();
            assert!(found > 0);
        })
    }
}

fn connect(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.pragma_update(None, "synchronous", "FULL").unwrap();
    connection
}

fn insert(connection: &Connection, record: &Record) {
    let sql = "INSERT INTO sessions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let Record { id, device, subject, digest, family, client, created, active, expires, generation } = record;
    let row = params![id, device, subject, digest, family, client, created, active, expires, generation];
    connection.prepare_cached(sql).unwrap().execute(row).unwrap();
}

/// The usual JSON store: all records in memory, the file written anew at each change.
pub(crate) struct Whole {
    path: PathBuf,
    records: Vec<Record>,
}

impl Whole {
    pub(crate) fn filled(folder: &Path, count: usize) -> Self {
        let whole = Self { path: folder.join("s.json"), records: (0..count).map(record).collect() };
        whole.write(true);
        whole
    }

    fn write(&self, sync: bool) {
        let new = self.path.with_extension("new");
        let mut file = BufWriter::new(File::create(&new).unwrap());
        serde_json::to_writer(&mut file, &self.records).unwrap();
        file.flush().unwrap();
        if sync {
            file.get_ref().sync_all().unwrap();
        }
        std::fs::rename(new, &self.path).unwrap();
    }

    pub(crate) fn issue(&mut self, times: u32) -> Duration {
        timed(times, |_| {
            self.records.push(record(self.records.len()));
            self.write(true);
        })
    }

    pub(crate) fn touch(&mut self, times: u32) -> Duration {
        timed(times, |n| {
            self.records[n as usize].active += 1;
            self.write(false);
        })
    }

    fn read(&self) -> Vec<Record> {
        serde_json::from_reader(BufReader::with_capacity(1 << 20, File::open(&self.path).unwrap())).unwrap()
    }

    pub(crate) fn open(&self, times: u32) -> Duration {
        timed(times, |_| assert!(self.read().len() >= self.records.len()))
    }

    /// By a process that just began, as a command does.
    pub(crate) fn list(&self, times: u32) -> Duration {
        timed(times, |_| {
            let mut records = self.read();
            records.sort_unstable_by_key(|record| std::cmp::Reverse(record.active));
            records.truncate(50);
            assert_eq!(records.len(), 50);
        })
    }
}
