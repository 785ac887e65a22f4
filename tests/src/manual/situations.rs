//! seon-situations(7): the table of everything that an administrator can meet.

use std::fmt::Write as _;

use license::LicenceError;
use proxylink::situation::{Severity, Situation};

use super::page::escape;

const HEAD: &str = r#".\" Made from the table of situations; not to be changed by hand.
.TH SEON\-SITUATIONS 7 "" "OFTP2 smart proxy" "Miscellaneous Information"
.SH NAME
seon\-situations \- everything that seon_proxyserver2, seon_proxyclient2 and seon_backend tell
.SH DESCRIPTION
Whatever an administrator can meet has one code.
It stands in the line of the log, in the event of the system log, in session records where it ended the session, and here.
Codes stay the same between releases.
.PP
Of severity
.B note
a situation is in the log only; of
.BR info ,
.B error
and
.B fatal
it is also an event in the system log of the backend; but for
.BR server-stopped ,
the last words of the proxyserver, which nobody is left to send.
What the line says behind the code tells who, what was seen, and what was expected; text that came from a peer is escaped.
.SH SITUATIONS
"#;

const TAIL: &str = ".SH SEE ALSO\n.BR seon_proxyserver2 (8),\n.BR seon_proxyclient2 (8),\n.BR seon_backend (8),\n.BR seon_license (1),\n.BR seon\\-logrc (5)\n";

/// What the programs say of a licence file, besides.
const LICENCE: &str = r".SH CODES OF A LICENCE FILE
What is wrong with a licence file
.B seon_license check
and
.B seon_proxyserver2 \-\-check
say with one of these besides.
In the log and in events the code is
.BR licence\-invalid ,
.B licence\-unusable
or
.BR licence\-expired .
";

/// The whole page.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    let mut all = Situation::ALL.to_vec();
    all.sort_by_key(|situation| situation.code());
    for situation in all {
        let severity = match situation.severity() {
            Severity::Note => "note",
            Severity::Info => "info",
            Severity::Error => "error",
            Severity::Fatal => "fatal",
        };
        let (code, sentence, advice) = (situation.code(), situation.sentence(), situation.advice());
        let _ = writeln!(page, ".TP\n\\fB{}\\fR ({severity})\n{}\n.br", escape(code), escape(sentence));
        let _ = writeln!(page, "\\fIWhat to do:\\fR {}", escape(advice));
    }
    page += LICENCE;
    for (code, sentence) in LicenceError::CODES.into_iter().filter(|(code, _)| Situation::by_code(code).is_none()) {
        let _ = writeln!(page, ".TP\n\\fB{}\\fR\n{}", escape(code), escape(sentence));
    }
    page + TAIL
}
