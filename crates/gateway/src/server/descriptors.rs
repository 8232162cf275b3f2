//! The limit of file descriptors, raised as far as the system allows. It is divided so that clients cannot use up the
//! descriptors for operators, the upstream and the store.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The descriptors for the store, the listeners, files and the runtime.
const RESERVED: usize = 48;
/// The most and the fewest connections of operators.
const OPERATORS: (usize, usize) = (8, 256);
/// A limit above this counts as unlimited.
const UNLIMITED: u64 = 1 << 30;

/// Raises this process's limit of file descriptors to the most that it may have, and returns that.
pub fn raise_descriptor_limit() -> u64 {
    let now = getrlimit(Resource::Nofile);
    if now.current != now.maximum {
        // If the system refuses, the present limit has to be enough.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED)
}

/// The most connections of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DescriptorShares {
    pub(super) clients: usize,
    pub(super) operators: usize,
    /// Connections to the upstream, pooled ones included.
    pub(super) upstream: usize,
}

impl DescriptorShares {
    /// Divides the descriptors that this process may have. Clients get at most `most`.
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
        // A client's connection needs one to the upstream. With HTTP/2 it needs several, which wait for each other.
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
