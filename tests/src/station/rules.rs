//! The rules that can be broken on purpose, and what comes of each (RFC 5024, 5.3, 7, 8.2 and 9).

use super::misbehaviour::Answer::{Efna, Esid, Passes, StationEsid};
use super::misbehaviour::Edit::{
    After, AtTheRight, Before, BeyondBuffer, BeyondCredit, Cut, EndWithoutCredit, Header, HeaderOctet, Insert, Instead,
    LowerCase, NoEndOfRecord, Put, Silence,
};
use super::misbehaviour::{Answer, Edit, Rule, Terms};

const fn rule(name: &'static str, on: &'static str, edit: Edit, answer: Answer, does: &'static str) -> Rule {
    Rule { name, on, answer, does, terms: Terms::Any, edit }
}

const fn with(terms: Terms, rule: Rule) -> Rule {
    Rule { terms, ..rule }
}

/// SFID, EERP and so on of level 5, of a file that nobody has announced.
const SFID: &[u8] =
    b"HMISBEHAVIOUR                 202402291121040001        O0013000000NOBODY        O0013000000NOBODY        \
U000000000000000001000000000000100000000000000000000000N000";
const EERP: &[u8] =
    b"EMISBEHAVIOUR                 202402291121040001        O0013000000NOBODY        O0013000000NOBODY        \0\0\0\0";
const NERP: &[u8] =
    b"NMISBEHAVIOUR                    202402291121040001O0013000000NOBODY        O0013000000NOBODY        \
O0013000000NOBODY        34";
const SSID: &[u8] = b"X5O0013000000NOBODY                00128BNYN001N            \r";
const SSRM: &[u8] = b"IODETTE FTP READY \r";
const EFID: &[u8] = b"T0000000000000000000000000000000000";
const SFPA: &[u8] = b"200000000000000000";
const ESID: &[u8] = b"F00000\r";

/// In the order of a session.
pub(super) const RULES: &[Rule] = &[
    // The stream (8.2).
    rule("stream-version", "SFID", HeaderOctet(0x20), Esid(2), "version 2 in the stream header"),
    rule("stream-flags", "SFID", HeaderOctet(0x11), Passes, "a reserved flag in the stream header"),
    rule("stream-length-short", "SFID", Header(&[0x10, 0, 0, 4]), Esid(7), "a stream header that says 4 octets"),
    rule(
        "stream-length-long",
        "SFID",
        Header(&[0x10, 1, 0x86, 0xa4]),
        Esid(7),
        "a stream header that says 100004 octets",
    ),
    // Commands (5.3.11).
    rule("unknown-command", "SFID", Put(0, b"Z"), Esid(1), "a command octet that nobody knows"),
    rule("lower-case-command", "SFID", Put(0, b"h"), Esid(1), "the command octet in lower case"),
    rule("nerp-below-level-four", "SFID", Instead(NERP), Esid(1), "NERP at level 1 or 2, where there is none"),
    rule(
        "secd-unasked",
        "SFID",
        Instead(b"J"),
        Esid(2),
        "SECD in a running session; below level 5 the answer is ESID 01",
    ),
    rule("wrong-length", "EFID", Cut(34, 1), Esid(7), "EFID of one octet too few"),
    rule("command-too-long", "CD", Instead(b"RR"), Esid(7), "CD of two octets"),
    // The start of a session.
    rule("ready-text", "SSRM", Put(7, b"-"), Esid(6), "SSRM with other words"),
    rule("ready-line-feed", "SSRM", Put(18, b"\n"), Passes, "SSRM ends with a line feed"),
    rule("ready-cr-missing", "SSRM", Cut(18, 1), Passes, "SSRM without its carriage return"),
    rule("end-instead-of-ready", "SSRM", Instead(b"F08\r"), Passes, "ESID 08 in the place of SSRM"),
    rule("ssrm-by-caller", "SSID", Instead(SSRM), Esid(2), "SSRM in the place of SSID"),
    rule("file-before-ssid", "SSID", Instead(SFID), Esid(2), "SFID in the place of SSID"),
    rule("cr-missing", "SSID", Cut(60, 1), Passes, "SSID without its carriage return"),
    rule("line-feed", "SSID", Put(60, b"\n"), Passes, "SSID ends with a line feed"),
    rule("level-three", "SSID", Put(1, b"3"), Esid(6), "SSIDLEV 3, which is not assigned"),
    rule("buffer-size-below", "SSID", Put(35, b"00127"), Esid(6), "SSIDSDEB 127, where 128 is the least"),
    rule("number-with-blanks", "SSID", Put(35, b"  512"), Passes, "SSIDSDEB with blanks for zeros"),
    rule("mode-unknown", "SSID", Put(40, b"X"), Esid(6), "SSIDSR X"),
    rule("mode-clash", "SSID", Put(40, b"S"), Esid(10), "SSIDSR S answered to a caller that only sends"),
    rule("restart-raised", "SSID", Put(42, b"Y"), Passes, "SSIDREST Y answered to N"),
    rule("special-logic", "SSID", Put(43, b"Y"), Passes, "special logic asked for, which TCP does not have"),
    rule("credit-zero", "SSID", Put(44, b"000"), Esid(6), "SSIDCRED 000"),
    rule("credit-raised", "SSID", Put(44, b"999"), Esid(10), "SSIDCRED 999 answered to less"),
    rule("authentication-blank", "SSID", Put(47, b" "), Passes, "SSIDAUTH blank"),
    rule("authentication-differs", "SSID", Put(47, b"Y"), Esid(12), "SSIDAUTH Y answered to N"),
    rule("second-ssid", "SFID", Before(SSID), Esid(2), "SSID in a running session"),
    // Secure authentication.
    rule("auch-before-secd", "SECD", Instead(b"A\0\x0200"), Esid(2), "AUCH in the place of SECD"),
    rule("file-before-authentication", "SECD", Instead(SFID), Esid(2), "SFID in the place of SECD"),
    rule("auch-length", "AUCH", Put(1, &[0x01, 0x00]), Esid(7), "AUCHCHLL 256 for fewer octets"),
    rule("aurp-short", "AURP", Cut(20, 1), Esid(7), "AURP of one octet too few"),
    rule("aurp-wrong", "AURP", Put(1, &[0; 20]), StationEsid(11), "AURP that does not answer the challenge"),
    // The announcement of a file.
    with(
        Terms::NoRestart,
        rule("restart-not-agreed", "SFID", Put(154, b"1"), Esid(2), "SFIDREST 1 where restart is not agreed on"),
    ),
    with(Terms::OnlyReceives, rule("file-by-receiver-only", "SFID", Put(0, b"H"), Esid(2), "SFID after SSIDSR R")),
    rule("sfid-by-listener", "SFPA", Instead(SFID), Esid(2), "SFID by the Listener, in the place of SFPA"),
    rule("lower-case-field", "SFID", LowerCase, Passes, "SFIDDSN in lower case"),
    rule("leading-blanks", "SFID", AtTheRight, Passes, "SFIDDSN right-justified"),
    rule("control-character", "SFID", Put(1, &[0]), Esid(6), "NUL in SFIDDSN"),
    rule("bad-date", "SFID", Put(30, b"20240230"), Esid(6), "SFIDDATE 30 February"),
    rule("bad-time", "SFID", Put(38, b"24"), Esid(6), "SFIDTIME at 24 hours"),
    rule("counter-zero", "SFID", Put(44, b"0000"), Passes, "the counter of SFIDTIME is 0000"),
    rule("format-unknown", "SFID", Put(106, b"X"), Esid(6), "SFIDFMT X"),
    rule("record-length-given", "SFID", Put(107, b"00080"), Passes, "SFIDLRECL 80 for a file without records"),
    rule("security-unknown", "SFID", Put(155, b"04"), Esid(6), "SFIDSEC 04"),
    rule("envelope-missing", "SFID", Put(159, b"1"), Esid(6), "SFIDCOMP 1 without SFIDENV 1"),
    rule("sign-blank", "SFID", Put(161, b" "), Esid(6), "SFIDSIGN blank"),
    rule("lengths-left-out", "SFID", Cut(162, 3), Passes, "SFID without SFIDDESCL; for files without description"),
    rule("description-short", "SFID", Put(162, b"001"), Esid(7), "SFIDDESCL 1 without SFIDDESC"),
    rule("text-not-utf8", "SFID", Put(165, &[0xfc]), Passes, "SFIDDESC begins with FC of Latin-1; for files with one"),
    // The answer to it.
    rule("sfpa-beyond", "SFPA", Put(1, b"99999999999999999"), Esid(2), "SFPAACNT beyond SFIDREST"),
    rule("cd-by-listener", "SFPA", Instead(b"R"), Esid(2), "CD by the Listener, in the place of SFPA"),
    rule("rtr-unasked", "SFPA", Instead(b"P"), Esid(2), "RTR in the place of SFPA"),
    rule("eerp-by-listener", "SFPA", Instead(EERP), Esid(2), "EERP by the Listener, in the place of SFPA"),
    rule("esid-by-listener", "SFPA", Instead(ESID), Passes, "ESID 00 in the place of SFPA"),
    rule("reason-not-listed", "SFNA", Put(1, b"07"), Passes, "SFNAREAS 07; for files that are refused"),
    rule("retry-blank", "SFNA", Put(3, b" "), Esid(6), "SFNARRTR blank; for files that are refused"),
    // Data and credit.
    rule("data-before-sfpa", "SFID", After(b"D\x81A"), Esid(2), "DATA before the SFPA has come"),
    rule("data-without-file", "SFID", Instead(b"D\x81A"), Esid(2), "DATA in the place of SFID"),
    rule("data-without-credit", "DATA", BeyondCredit, Esid(2), "one DATA more than the credit"),
    rule("buffer-too-long", "DATA", BeyondBuffer, Esid(7), "DATA of one octet more than agreed on"),
    rule("subrecord-too-long", "DATA", After(b"D\x3fA"), Esid(7), "a subrecord that runs over the end of its DATA"),
    rule("data-empty", "DATA", After(b"D"), Passes, "DATA without a subrecord"),
    rule("compression-unasked", "DATA", Insert(1, b"\x40A"), Passes, "a compressed subrecord where none is agreed on"),
    rule("end-of-record-missing", "DATA", NoEndOfRecord, Passes, "a file of one DATA without an End of Record"),
    rule("record-ended-early", "DATA", Insert(1, b"\x80"), Passes, "octets after the End of Record of a U file"),
    rule("cdt-early", "SFPA", After(b"C  "), Passes, "CDT before the credit is used up"),
    rule("cdt-short", "SFPA", After(b"C"), Passes, "CDT, early too, without its two reserved octets"),
    rule("cdt-after-efid", "EFPA", Before(b"C  "), Passes, "CDT after the EFID"),
    rule("cdt-before-sfpa", "SFPA", Instead(b"C  "), Esid(2), "CDT in the place of SFPA"),
    rule("cdt-by-speaker", "DATA", After(b"C  "), Esid(2), "CDT by the Speaker"),
    // The end of a file.
    rule("efid-without-file", "SFID", Instead(EFID), Esid(2), "EFID in the place of SFID"),
    rule(
        "efid-without-credit",
        "EFID",
        EndWithoutCredit,
        Passes,
        "EFID while the credit is used up; when the last DATA does",
    ),
    rule("efpa-early", "SFPA", After(b"4N"), Esid(2), "EFPA before the EFID"),
    rule("efpa-by-speaker", "EFID", Instead(b"4N"), Esid(2), "EFPA by the Speaker"),
    rule("sfpa-by-speaker", "EFID", Instead(SFPA), Esid(2), "SFPA by the Speaker"),
    rule("record-count-wrong", "EFID", Put(1, b"00000000000000077"), Efna(10), "EFIDRCNT of other records than came"),
    rule("octet-count-wrong", "EFID", Put(18, b"00000000000000077"), Efna(11), "EFIDUCNT of other octets than came"),
    rule("efpa-blank", "EFPA", Put(1, b" "), Esid(6), "EFPACD blank"),
    // Responses and the turn.
    rule("response-length", "EERP", Put(106, &[0, 32]), Esid(7), "EERPHSHL 32 without a hash"),
    rule("response-cut-short", "EERP", Cut(106, 4), Passes, "EERP without its lengths"),
    rule("hash-unsigned", "EERP", Insert(108, b"A"), Esid(7), "a hash that EERPHSHL does not count"),
    rule("response-before-rtr", "EERP", After(EERP), Esid(2), "a second EERP before the RTR has come"),
    rule("nerp-reason", "NERP", Put(126, b"01"), Passes, "NERPREAS 01, which is a code of SFNA"),
    rule("cd-before-rtr", "RTR", Instead(b"R"), Esid(2), "CD in the place of RTR"),
    rule("turn-kept", "CD", Instead(SFID), Esid(2), "SFID where the other station has asked for the turn"),
    rule("cd-loop", "ESID", Instead(b"R"), Esid(2), "CD as the answer to CD, in the place of the end"),
    // The end of a session.
    rule("end-after-start", "SFID", Instead(ESID), Passes, "ESID 00 without a CD before"),
    rule("esid-short-form", "ESID", Instead(b"F00\r"), Passes, "ESID without text, as at lower levels"),
    rule("esid-cr-missing", "ESID", Cut(6, 1), Passes, "ESID without its carriage return"),
    rule("esid-not-listed", "ESID", Put(1, b"13"), Passes, "ESID 13, which is no reason"),
    // Time.
    rule("silence", "SFID", Silence, Esid(9), "nothing more, and the connection left open"),
];

#[cfg(test)]
mod tests {
    use super::super::command::{Command, Level};
    use super::*;

    #[test]
    fn names_are_their_own() {
        for (at, rule) in RULES.iter().enumerate() {
            assert!(RULES.iter().skip(at + 1).all(|other| other.name != rule.name), "{}", rule.name);
        }
    }

    #[test]
    fn what_stands_in_the_place_of_a_command_is_well_formed_itself() {
        for (level, octets) in [
            (Level::Five, SFID),
            (Level::Five, EERP),
            (Level::Four, NERP),
            (Level::Five, SSID),
            (Level::Five, SSRM),
            (Level::Five, EFID),
            (Level::Five, SFPA),
            (Level::Five, ESID),
        ] {
            let command = Command::read(octets, level).unwrap();
            let mut written = Vec::new();
            command.write(level, &mut written);
            assert_eq!(written.escape_ascii().to_string(), octets.escape_ascii().to_string());
        }
    }
}
