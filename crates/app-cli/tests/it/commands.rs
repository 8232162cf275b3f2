//! The command line: arguments, settings, doctor, exit codes, terminals and pipes.

mod arguments;
mod config;
mod doctor;
mod exit_codes;
mod processes;
mod terminals;
mod watch;
