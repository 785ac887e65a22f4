//! What of manual pages and shell completions follows from the programs: options from their help, exit codes and
//! situations from their tables. The prose around it is written by hand, and kept.

mod completion;
mod help;
mod page;
mod situations;

use std::path::{Path, PathBuf};

use crate::harness::Trouble;

pub use help::{Command, Entry};

/// The programs, each with its section of the manual.
pub const PROGRAMS: [(&str, u8); 5] = [
    ("seon_proxyserver2", 8),
    ("seon_proxyclient2", 8),
    ("seon_backend", 8),
    ("seon_license", 1),
    ("oftp2_station", 1),
];

/// A file, and what it has to hold.
pub struct Wanted {
    /// Beneath the root of the project.
    pub path: PathBuf,
    /// All of it.
    pub content: String,
}

/// Every file that follows from the programs. The pages must be there already: only what stands between their marks is
/// made.
///
/// # Errors
/// A program cannot be asked, or a page is not there or has no marks.
pub fn wanted(root: &Path) -> Result<Vec<Wanted>, Trouble> {
    let mut all = vec![Wanted { path: "docs/man/seon-situations.7".into(), content: situations::page() }];
    for (program, section) in PROGRAMS {
        let command = Command::of(program)?;
        let path = PathBuf::from(format!("docs/man/{program}.{section}"));
        let page = std::fs::read_to_string(root.join(&path)).map_err(Trouble::io(path.display()))?;
        let content = page::fill(&page, &command).map_err(|text| Trouble(format!("{}: {text}", path.display())))?;
        all.push(Wanted { path, content });
        let completions = [
            (format!("etc/completions/{program}.bash"), completion::bash(&command)),
            (format!("etc/completions/_{program}"), completion::zsh(&command)),
            (format!("etc/completions/{program}.fish"), completion::fish(&command)),
        ];
        all.extend(completions.map(|(path, content)| Wanted { path: path.into(), content }));
    }
    Ok(all)
}

/// Writes what is not as it has to be, and returns the names of these files.
///
/// # Errors
/// As [`wanted`]; a file cannot be written.
pub fn write(root: &Path) -> Result<Vec<PathBuf>, Trouble> {
    let mut written = Vec::new();
    for wanted in wanted(root)? {
        let path = root.join(&wanted.path);
        if std::fs::read_to_string(&path).is_ok_and(|content| content == wanted.content) {
            continue;
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(Trouble::io(folder.display()))?;
        }
        std::fs::write(&path, wanted.content).map_err(Trouble::io(path.display()))?;
        written.push(wanted.path);
    }
    Ok(written)
}
