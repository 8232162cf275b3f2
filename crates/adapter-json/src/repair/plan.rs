//! What a repair would do to a store, for the person who is asked.

use std::path::PathBuf;

use tenure_domain::{SessionId, Timestamp};

/// One thing in a journal that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// One bit of a line, or of its newline, had changed. It is set right, and nothing is lost.
    BitRepaired {
        /// The number of the line, counted from 1.
        line: u64,
    },
    /// The last line is whole but for its newline. It is kept.
    MissingNewline {
        /// The number of the line, counted from 1.
        line: u64,
    },
    /// An incomplete line at the end, or sectors that were never written. It was never acknowledged, and is cut.
    Torn {
        /// The offset of its first byte.
        offset: u64,
        /// Its length in bytes.
        bytes: u64,
    },
    /// A line that is not valid. It is dropped.
    Dropped {
        /// The number of the line, counted from 1.
        line: u64,
        /// The offset of its first byte.
        offset: u64,
        /// Its length in bytes; 0 where the line is whole, but out of its place.
        bytes: u64,
        /// What is wrong with it.
        message: String,
        /// The sessions that it names, as far as it can be read.
        sessions: Vec<SessionId>,
    },
    /// Lines that are missing.
    Missing {
        /// The first transaction that is missing.
        from: u64,
        /// The last transaction that is missing.
        to: u64,
    },
    /// An operation that cannot be applied, since what came before it is lost.
    Skipped {
        /// The number of its line, counted from 1.
        line: u64,
        /// Why it cannot be applied.
        message: String,
    },
}

/// A machine's clock that is behind the time that the store recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockSkew {
    /// The last time that the store recorded.
    pub recorded: Timestamp,
    /// Whether the machine was restarted since, so that the store refuses the clock. Without a restart the store works,
    /// and its time is ahead of the clock.
    pub restarted: bool,
    /// How many active sessions were issued or rotated at a time that is in the future by the clock.
    pub early: u64,
    /// When the last of those sessions expires.
    pub until: Timestamp,
}

/// What a repair would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairPlan {
    /// What is wrong with the file, in the order of the file.
    pub losses: Vec<Loss>,
    /// The active sessions that lost lines name. They are ended, since their end may be among what is lost.
    pub ended: Vec<SessionId>,
    /// Whether lines are lost that do not tell which sessions they were about.
    pub unnamed: bool,
    /// The clock that would be accepted, if it is behind.
    pub clock: Option<ClockSkew>,
    /// How many sessions are kept, inactive ones included.
    pub kept: u64,
    /// The size of the file in bytes.
    pub size: u64,
    /// The path at which the file would be kept as it is.
    pub backup: PathBuf,
}

impl RepairPlan {
    /// How many transactions are lost that may have been acknowledged.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let lost = |loss: &Loss| match loss {
            Loss::Dropped { line, bytes, .. } => u64::from(*line > 1 && *bytes > 0),
            Loss::Missing { from, to } => to - from + 1,
            Loss::BitRepaired { .. } | Loss::MissingNewline { .. } | Loss::Torn { .. } | Loss::Skipped { .. } => 0,
        };
        self.losses.iter().map(lost).sum()
    }
}
