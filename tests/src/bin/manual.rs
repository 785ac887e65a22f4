//! Writes what of manual pages and shell completions follows from the programs: `cargo manual`.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match tests::manual::write(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))) {
        Ok(written) => {
            written.iter().for_each(|path| println!("{}", path.display()));
            ExitCode::SUCCESS
        }
        Err(trouble) => {
            eprintln!("{trouble}");
            ExitCode::FAILURE
        }
    }
}
