//! File descriptors: as many as the system allows, and divided so that clients cannot use up those of operators, of the
//! upstream and of the store.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Those of the store, of the listeners, of files and of the runtime.
const RESERVED: usize = 48;
/// Operators' connections at most, and at least.
const OPERATORS: (usize, usize) = (8, 256);
/// A limit above this is none.
const UNLIMITED: u64 = 1 << 30;

/// Raises this process's limit of file descriptors to the most that it may have, and says how many that are.
pub fn raise_descriptor_limit() -> u64 {
    let now = getrlimit(Resource::Nofile);
    if now.current != now.maximum {
        // Where the system refuses, what there is has to do.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED)
}

/// How many connections each may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DescriptorShares {
    pub(super) clients: usize,
    pub(super) operators: usize,
    /// Those to the upstream, pooled ones included.
    pub(super) upstream: usize,
}

impl DescriptorShares {
    /// Divides what this process may have. Clients get no more than `most`.
    pub(super) fn now(max_line: usize, has_upstream: bool) -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED).min(UNLIMITED);
        let shares = Self::of(usize::try_from(limit).unwrap_or(usize::MAX), max_line, has_upstream);
        if shares.clients < max_line {
            tracing::warn!(
                descriptors = limit,
                clients = shares.clients,
                "the limit of file descriptors allows fewer connections than gateway.max_connections: raise it \
                 (ulimit -n, or LimitNOFILE= of the unit)"
            );
        }
        shares
    }

    fn of(limit: usize, max_line: usize, has_upstream: bool) -> Self {
        let operators = (limit / 16).clamp(OPERATORS.0, OPERATORS.1);
        let left = limit.saturating_sub(RESERVED + operators).max(2);
        // A client's connection takes one to the upstream with it; with HTTP/2 more, which wait for each other.
        let clients = max_line.min(if has_upstream { left / 2 } else { left });
        Self { clients, operators, upstream: left - clients.min(left - 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_does_for_all_of_them() {
        for limit in [64, 128, 256, 1_024, 4_096, 65_536, 1 << 20] {
            for has_upstream in [false, true] {
                let DescriptorShares { clients, operators, upstream } =
                    DescriptorShares::of(limit, 16_384, has_upstream);
                assert!(clients >= 1 && operators >= 8 && upstream >= 1, "{limit}");
                let usage = clients + operators + if has_upstream { upstream } else { 0 };
                assert!(limit < 128 || usage + RESERVED <= limit, "{limit}: {usage}");
            }
        }
        assert_eq!(
            DescriptorShares::of(256, 16_384, true),
            DescriptorShares { clients: 96, operators: 16, upstream: 96 }
        );
        assert_eq!(DescriptorShares::of(1 << 20, 16_384, true).clients, 16_384);
        assert_eq!(DescriptorShares::of(1 << 20, 100, true).clients, 100);
    }
}
