//! The documentation and the help, compared with what the program does.

mod docs;
mod http_docs;
mod snapshots;
