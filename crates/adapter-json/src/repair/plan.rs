//! The plan of a repair, for the person who has to agree to it.

use std::path::PathBuf;

use tenure_domain::{SessionId, Timestamp};

/// One damage of a journal, and what a repair does about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// One bit of a line or of its newline has changed. It is corrected, and nothing is lost.
    BitRepaired {
        /// The number of the line, counted from 1.
        line: u64,
    },
    /// The last line is whole but for its newline. The line is kept.
    MissingNewline {
        /// The number of the line, counted from 1.
        line: u64,
    },
    /// The end of the file was not completely written. It was never acknowledged, and is cut.
    Torn {
        /// The offset of its first byte.
        offset: u64,
        /// Its length in bytes.
        bytes: u64,
    },
    /// A line is not valid. It is dropped.
    Dropped {
        /// The number of the line, counted from 1.
        line: u64,
        /// The offset of its first byte.
        offset: u64,
        /// Its length in bytes. 0 if the line is whole, but in the wrong place.
        bytes: u64,
        /// What is wrong with it.
        message: String,
        /// The sessions that the line names, as far as it can be read.
        sessions: Vec<SessionId>,
    },
    /// Lines are missing.
    Missing {
        /// The first transaction that is missing.
        from: u64,
        /// The last transaction that is missing.
        to: u64,
    },
    /// An operation cannot be applied, because what came before it is lost. It is skipped.
    Skipped {
        /// The number of its line, counted from 1.
        line: u64,
        /// Why the operation cannot be applied.
        message: String,
    },
}

/// The difference between a machine's clock and the later time that the store recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockSkew {
    /// The last time that the store recorded.
    pub recorded: Timestamp,
    /// Whether the machine was restarted since, so that the store refuses the clock. Without a restart the store works,
    /// and its time is ahead of the clock.
    pub restarted: bool,
    /// The number of active sessions that, by the machine's clock, were issued or rotated in the future.
    pub early: u64,
    /// The latest expiry of those sessions.
    pub until: Timestamp,
}

/// A plan of a repair: what it would do to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairPlan {
    /// The damages, in the order of the file.
    pub losses: Vec<Loss>,
    /// The active sessions that lost lines name. The repair ends them, because a lost line may have ended them.
    pub ended: Vec<SessionId>,
    /// Whether lines are lost whose sessions are not known.
    pub unnamed: bool,
    /// The skew of the clock that would be accepted. `None` if no clock has to be accepted.
    pub clock: Option<ClockSkew>,
    /// The number of sessions that are kept, inactive ones included.
    pub kept: u64,
    /// The size of the file in bytes.
    pub size: u64,
    /// The path of the back-up of the old file.
    pub backup: PathBuf,
}

impl RepairPlan {
    /// Returns the number of lost transactions that may have been acknowledged.
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
