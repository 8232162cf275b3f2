//! Help texts and other stable output, word for word. `TRYCMD=overwrite cargo test -p tenure` updates them.

use std::path::Path;

#[test]
fn help_and_stable_output_are_as_recorded() {
    let home = tempfile::TempDir::new().unwrap();
    let directory = home.path().display().to_string();
    trycmd::TestCases::new()
        .register_bin("tenure", Path::new(env!("CARGO_BIN_EXE_tenure")))
        .env("HOME", &directory)
        .env("XDG_STATE_HOME", format!("{directory}/state"))
        .env("XDG_CONFIG_HOME", format!("{directory}/config"))
        .insert_var("[HOME]", directory)
        .unwrap()
        .case("tests/cmd/*.trycmd")
        .run();
}
