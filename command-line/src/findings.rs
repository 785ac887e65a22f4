//! What a `--check` finds, one line each, for people and for scripts.
//!
//! ```text
//! OK      licence: licensed to Example GmbH until 2026-12-31T23:59:59Z; 1 proxyclient may link
//! WRONG   PID file: /opt/seon/x.pid is stale: there is no process 4711. To do: remove it
//! WARNING certificate: ends in 6 days. To do: renew it
//! SKIPPED receive daemon: there is no configuration that names it
//! ```

use std::fmt::Display;
use std::io::Write;

use crate::exit::ExitCode;

/// Lines of findings, printed as they are made, so that a check that takes its time shows where it is.
#[derive(Debug)]
pub struct Findings<W> {
    out: W,
    first_wrong: Option<ExitCode>,
}

impl<W: Write> Findings<W> {
    /// Nothing found yet; lines go to `out`.
    pub fn new(out: W) -> Self {
        Self { out, first_wrong: None }
    }

    /// It is as it should be.
    pub fn ok(&mut self, subject: &str, seen: impl Display) {
        self.line("OK", subject, &seen, None);
    }

    /// It works, and somebody should look at it. Counts as good for the exit code.
    pub fn warn(&mut self, subject: &str, seen: impl Display, to_do: impl Display) {
        self.line("WARNING", subject, &seen, Some(&to_do));
    }

    /// It is not as it should be. The first of these gives the exit code.
    pub fn wrong(&mut self, code: ExitCode, subject: &str, seen: impl Display, to_do: impl Display) {
        self.first_wrong.get_or_insert(code);
        self.line("WRONG", subject, &seen, Some(&to_do));
    }

    /// It could not be looked at, for a reason that stands in this line and whose cause stands in another.
    pub fn skip(&mut self, subject: &str, why: impl Display) {
        self.line("SKIPPED", subject, &why, None);
    }

    /// What the check ends with: that of the first thing that is wrong, as a start would end.
    pub fn exit_code(&self) -> ExitCode {
        self.first_wrong.unwrap_or(ExitCode::Ok)
    }

    fn line(&mut self, word: &str, subject: &str, seen: &dyn Display, to_do: Option<&dyn Display>) {
        let seen = one_line(seen);
        let to_do = to_do.map(|to_do| format!(". To do: {}", one_line(to_do))).unwrap_or_default();
        // Whoever closed the output does not want to read it; the exit code is still told.
        let _ = writeln!(self.out, "{word:<7} {subject}: {seen}{to_do}");
        let _ = self.out.flush();
    }
}

/// A finding is one line, whatever it repeats of what others said.
fn one_line(text: &dyn Display) -> String {
    let text = text.to_string();
    let text: String =
        text.trim().trim_end_matches('.').chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_is_one_line_and_the_first_wrong_one_gives_the_code() {
        let mut findings = Findings::new(Vec::new());
        findings.ok("options", "read");
        findings.warn("certificate", "ends in 6 days", "renew it.");
        assert_eq!(findings.exit_code(), ExitCode::Ok);
        findings.wrong(ExitCode::Licence, "licence", "there is\nnone.", "have one issued");
        findings.wrong(ExitCode::PidFile, "PID file", "stale", "remove it");
        findings.skip("link", "no licence");
        assert_eq!(findings.exit_code(), ExitCode::Licence);
        let text = String::from_utf8(findings.out).unwrap();
        let expected = "OK      options: read\n\
                        WARNING certificate: ends in 6 days. To do: renew it\n\
                        WRONG   licence: there is none. To do: have one issued\n\
                        WRONG   PID file: stale. To do: remove it\n\
                        SKIPPED link: no licence\n";
        assert_eq!(text, expected);
    }
}
