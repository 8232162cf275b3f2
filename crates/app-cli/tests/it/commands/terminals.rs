//! The output on a terminal.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::Child;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::support::home::Home;

/// A command on a terminal of its own.
struct Terminal {
    master: File,
    child: Child,
}

impl Terminal {
    fn start(home: &Home, columns: u16, args: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        tcsetwinsize(&slave, size).unwrap();
        let mut command = home.command(args);
        command.env("TERM", "xterm").stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
        let child = command.spawn().unwrap();
        drop(command);
        Self { master: File::from(master), child }
    }

    fn answer(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Returns all output, and the exit code.
    fn finish(mut self) -> (String, Option<i32>) {
        let mut shown = Vec::new();
        let mut buffer = [0; 4_096];
        // Once the other side is closed, Linux reports EIO, and macOS the end of the file.
        while let Ok(count) = self.master.read(&mut buffer) {
            if count == 0 {
                break;
            }
            shown.extend_from_slice(&buffer[..count]);
        }
        (String::from_utf8(shown).unwrap().replace("\r\n", "\n"), self.child.wait().unwrap().code())
    }
}

fn list(home: &Home, columns: u16, more: &[&str]) -> Vec<String> {
    let (shown, code) = Terminal::start(home, columns, &[&["sessions", "list"], more].concat()).finish();
    assert_eq!(code, Some(0), "{shown}");
    shown.lines().map(|line| anstream::adapter::strip_str(line).to_string()).collect()
}

#[test]
fn a_listing_fits_the_terminal_and_wraps_nothing() {
    let home = Home::json();
    for device in ["laptop", "a-device-with-quite-a-long-name-in-the-living-room"] {
        home.run(&["token", "issue", "--device-id", device, "--client-name", "OpenClaw", "--platform", "linux"])
            .succeeds();
    }
    for columns in [40, 60, 80, 100, 120, 200] {
        let lines = list(&home, columns, &[]);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines.iter().all(|line| line.chars().count() <= usize::from(columns)), "{columns}: {lines:#?}");
        assert!(lines[0].starts_with("SESSION"), "{lines:?}");
    }
    assert!(!list(&home, 80, &[])[0].contains("CREATED"));
    assert!(list(&home, 200, &[])[0].contains("CREATED"));
    let piped = home.run(&["sessions", "list"]);
    assert!(
        piped.succeeds().out.contains("a-device-with-quite-a-long-name-in-the-living-room  operator  OpenClaw linux")
    );
}

#[test]
fn colours_are_for_terminals_and_respect_no_color() {
    let mut home = Home::json();
    home.issue("laptop");
    let shown = |home: &Home, args: &[&str]| Terminal::start(home, 100, args).finish().0;
    assert!(shown(&home, &["sessions", "list"]).contains('\u{1b}'));
    assert!(!shown(&home, &["--color", "never", "sessions", "list"]).contains('\u{1b}'));
    assert!(!home.run(&["sessions", "list"]).out.contains('\u{1b}'));
    assert!(home.run(&["--color", "always", "sessions", "list"]).out.contains('\u{1b}'));
    home.set("NO_COLOR", "1");
    assert!(!shown(&home, &["sessions", "list"]).contains('\u{1b}'));
}

#[test]
fn a_person_is_asked_before_many_sessions_are_ended() {
    let home = Home::json();
    home.issue("laptop");
    home.issue("laptop");
    let args = ["sessions", "revoke", "--device-id", "laptop"];
    let mut terminal = Terminal::start(&home, 100, &args);
    terminal.answer("n\n");
    let (shown, code) = terminal.finish();
    assert!(shown.contains("End 2 sessions of device laptop? [y/N]") && shown.contains("nothing was ended"), "{shown}");
    assert_eq!((code, home.list(&[]).len()), (Some(1), 2));
    let mut terminal = Terminal::start(&home, 100, &args);
    terminal.answer("y\n");
    assert_eq!(terminal.finish().1, Some(0));
    assert_eq!(home.list(&[]).len(), 0);
}

#[test]
fn a_person_is_told_to_paste_the_token() {
    let home = Home::json();
    let token = home.issue("laptop");
    let mut terminal = Terminal::start(&home, 100, &["token", "verify"]);
    terminal.answer(&format!("{token}\n\u{4}"));
    let (shown, code) = terminal.finish();
    assert!(shown.contains("paste the token"), "{shown}");
    assert_eq!(code, Some(0), "{shown}");
}

#[test]
fn a_person_is_asked_before_a_store_is_repaired() {
    let home = Home::json();
    home.issue("laptop");
    let mut damaged = std::fs::read(home.store()).unwrap();
    let last = damaged.len() - 3;
    damaged[last] ^= 1;
    std::fs::write(home.store(), &damaged).unwrap();
    let mut terminal = Terminal::start(&home, 100, &["doctor", "--repair"]);
    terminal.answer("\n");
    let (shown, code) = terminal.finish();
    assert!(
        shown.contains("line 2: one bit has changed") && shown.contains("Repair the store this way? [y/N]"),
        "{shown}"
    );
    assert!(shown.contains("nothing was changed"), "{shown}");
    assert_eq!((code, std::fs::read(home.store()).unwrap() == damaged), (Some(1), true));
    let mut terminal = Terminal::start(&home, 100, &["doctor", "--repair"]);
    terminal.answer("yes\n");
    let (shown, code) = terminal.finish();
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(home.list(&[]).len(), 1);
}
