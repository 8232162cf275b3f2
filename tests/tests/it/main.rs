//! The stores against the promises of their port, against each other, and under what real processes do to them.

mod promises;
