//! The commands of a session, read and written at levels 1, 2, 4 and 5 (RFC 5024, 5.3; RFC 2204, 5.3).

use super::failure::Malformed;
use super::fields::{Reader, Writer};
use super::reason::esid;

/// Level of a session: the digit in SSIDLEV.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// OFTP 1.2.
    One = 1,
    /// OFTP 1.3.
    Two = 2,
    /// OFTP 1.4.
    Four = 4,
    /// OFTP 2.0.
    Five = 5,
}

impl Level {
    /// The level of that digit; 3 is not assigned, higher ones are future releases and lowered to ours.
    pub fn from_digit(digit: u64) -> Option<Self> {
        match digit {
            1 => Some(Self::One),
            2 => Some(Self::Two),
            4 => Some(Self::Four),
            5..=9 => Some(Self::Five),
            _ => None,
        }
    }
}

/// SSIDSR: which way files may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfers {
    /// This side only sends.
    Send,
    /// This side only receives.
    Receive,
    /// Both.
    Both,
}

/// SSID, Start Session (RFC 5024, 5.3.2).
#[derive(Clone, PartialEq, Eq)]
pub struct Ssid {
    /// SSIDLEV.
    pub level: Level,
    /// SSIDCODE.
    pub code: String,
    /// SSIDPSWD; printed nowhere.
    pub password: String,
    /// SSIDSDEB.
    pub buffer_size: u64,
    /// SSIDSR.
    pub transfers: Transfers,
    /// SSIDCMPR.
    pub compression: bool,
    /// SSIDREST.
    pub restart: bool,
    /// SSIDCRED.
    pub credit: u64,
    /// SSIDAUTH.
    pub authentication: bool,
}

impl std::fmt::Debug for Ssid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { level, code, buffer_size, credit, .. } = self;
        write!(f, "Ssid {{ {code:?}, level {level:?}, buffer {buffer_size}, credit {credit}, password *** }}")
    }
}

/// What names a file for ever (RFC 5024, 1.5.2): SFID, EERP and NERP carry it alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    /// SFIDDSN.
    pub dataset: String,
    /// SFIDDATE, CCYYMMDD; at levels 1 and 2 YYMMDD.
    pub date: String,
    /// SFIDTIME, HHMMSScccc; at levels 1 and 2 HHMMSS.
    pub time: String,
    /// SFIDDEST, final recipient.
    pub destination: String,
    /// SFIDORIG, originator.
    pub originator: String,
}

/// SFID, Start File (RFC 5024, 5.3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sfid {
    /// Name, stamp and both ends.
    pub id: FileId,
    /// SFIDFMT: `F`, `V`, `U` or `T`.
    pub format: char,
    /// SFIDLRECL.
    pub record_length: u64,
    /// SFIDFSIZ, blocks of 1024 octets.
    pub size: u64,
    /// SFIDOSIZ, blocks of 1024 octets.
    pub original_size: u64,
    /// SFIDREST.
    pub restart: u64,
    /// SFIDSEC.
    pub security: u64,
    /// SFIDCIPH.
    pub cipher: u64,
    /// SFIDCOMP.
    pub compressed: bool,
    /// SFIDENV.
    pub enveloped: bool,
    /// SFIDSIGN.
    pub signed_response: bool,
    /// SFIDDESC.
    pub description: String,
}

/// EERP, End to End Response (RFC 5024, 5.3.13). `file` is the file's own identity: EERPDEST is its originator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eerp {
    /// The file that arrived.
    pub file: FileId,
    /// EERPHSH.
    pub hash: Vec<u8>,
    /// EERPSIG.
    pub signature: Vec<u8>,
}

/// NERP, Negative End Response (RFC 5024, 5.3.14). `file` is the file's own identity, as in [`Eerp`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nerp {
    /// The file that did not arrive.
    pub file: FileId,
    /// NERPCREA, who says so.
    pub creator: String,
    /// NERPREAS.
    pub reason: u8,
    /// NERPREAST.
    pub text: String,
    /// NERPHSH.
    pub hash: Vec<u8>,
    /// NERPSIG.
    pub signature: Vec<u8>,
}

/// One command. DATA holds its subrecords; secure authentication is recognised and not spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Command {
    Ssrm,
    Ssid(Ssid),
    Sfid(Sfid),
    Sfpa { count: u64 },
    Sfna { reason: u8, retry: bool, text: String },
    Data(Vec<u8>),
    Cdt,
    Efid { records: u64, octets: u64 },
    Efpa { turn: bool },
    Efna { reason: u8, text: String },
    Esid { reason: u8, text: String },
    Cd,
    Eerp(Eerp),
    Nerp(Nerp),
    Rtr,
    Secd,
    Auch(Vec<u8>),
    Aurp(Vec<u8>),
}

impl Command {
    /// The RFC's short name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ssrm => "SSRM",
            Self::Ssid(_) => "SSID",
            Self::Sfid(_) => "SFID",
            Self::Sfpa { .. } => "SFPA",
            Self::Sfna { .. } => "SFNA",
            Self::Data(_) => "DATA",
            Self::Cdt => "CDT",
            Self::Efid { .. } => "EFID",
            Self::Efpa { .. } => "EFPA",
            Self::Efna { .. } => "EFNA",
            Self::Esid { .. } => "ESID",
            Self::Cd => "CD",
            Self::Eerp(_) => "EERP",
            Self::Nerp(_) => "NERP",
            Self::Rtr => "RTR",
            Self::Secd => "SECD",
            Self::Auch(_) => "AUCH",
            Self::Aurp(_) => "AURP",
        }
    }

    /// Appends the Exchange Buffer of this command in the layout of `level`.
    pub fn write(&self, level: Level, out: &mut Vec<u8>) {
        let five = level == Level::Five;
        let mut to = Writer(out);
        match self {
            Self::Ssrm => to.0.extend_from_slice(b"IODETTE FTP READY \r"),
            Self::Ssid(ssid) => ssid.write(&mut to),
            Self::Sfid(sfid) => sfid.write(level, &mut to),
            Self::Sfpa { count } => {
                to.text("2", 1);
                to.digits(*count, if five { 17 } else { 9 });
            }
            Self::Sfna { reason, retry, text } => {
                to.text("3", 1);
                to.digits(u64::from(*reason), 2);
                to.yes(*retry);
                if five {
                    to.long_text(text);
                }
            }
            Self::Data(subrecords) => {
                to.text("D", 1);
                to.0.extend_from_slice(subrecords);
            }
            Self::Cdt => to.text("C", 3),
            Self::Efid { records, octets } => {
                to.text("T", 1);
                to.digits(*records, if five { 17 } else { 9 });
                to.digits(*octets, if five { 17 } else { 12 });
            }
            Self::Efpa { turn } => {
                to.text("4", 1);
                to.yes(*turn);
            }
            Self::Efna { reason, text } => {
                to.text("5", 1);
                to.digits(u64::from(*reason), 2);
                if five {
                    to.long_text(text);
                }
            }
            Self::Esid { reason, text } => {
                to.text("F", 1);
                to.digits(u64::from(*reason), 2);
                if five {
                    to.long_text(text);
                }
                to.0.push(b'\r');
            }
            Self::Cd => to.text("R", 1),
            Self::Eerp(eerp) => {
                to.text("E", 1);
                eerp.file.write(level, 3, Some("        "), true, &mut to);
                if five {
                    to.binary(&eerp.hash);
                    to.binary(&eerp.signature);
                }
            }
            Self::Nerp(nerp) => {
                to.text("N", 1);
                nerp.file.write(level, 6, None, true, &mut to);
                to.text(&nerp.creator, 25);
                to.digits(u64::from(nerp.reason), 2);
                if five {
                    to.long_text(&nerp.text);
                    to.binary(&nerp.hash);
                    to.binary(&nerp.signature);
                }
            }
            Self::Rtr => to.text("P", 1),
            Self::Secd => to.text("J", 1),
            Self::Auch(challenge) => {
                to.text("A", 1);
                to.binary(challenge);
            }
            Self::Aurp(response) => {
                to.text("S", 1);
                to.0.extend_from_slice(response);
            }
        }
    }

    /// Reads one Exchange Buffer in the layout of `level`.
    pub fn read(octets: &[u8], level: Level) -> Result<Self, Malformed> {
        let five = level == Level::Five;
        let code = octets.first().copied().unwrap_or(0);
        let mut from = Reader::new(name_of(code), octets);
        let command = match code {
            b'I' => {
                if from.octets("SSRMMSG", 17)? != b"ODETTE FTP READY " {
                    return Err(Malformed::data("SSRMMSG is not \"ODETTE FTP READY \"".into()));
                }
                from.carriage_return("SSRMCR")?;
                Self::Ssrm
            }
            b'X' => Self::Ssid(Ssid::read(&mut from)?),
            b'H' => Self::Sfid(Sfid::read(level, &mut from)?),
            b'2' => Self::Sfpa { count: from.digits("SFPAACNT", if five { 17 } else { 9 })? },
            b'3' => Self::Sfna {
                reason: reason(&mut from, "SFNAREAS")?,
                retry: from.yes("SFNARRTR")?,
                text: text(&mut from, "SFNAREAST", five)?,
            },
            b'D' => return Ok(Self::Data(octets.get(1..).unwrap_or_default().to_vec())),
            b'C' => {
                // Tolerated: a CDT without its two reserved octets.
                if octets.len() > 1 {
                    from.octets("CDTRSV1", 2)?;
                }
                Self::Cdt
            }
            b'T' => Self::Efid {
                records: from.digits("EFIDRCNT", if five { 17 } else { 9 })?,
                octets: from.digits("EFIDUCNT", if five { 17 } else { 12 })?,
            },
            b'4' => Self::Efpa { turn: from.yes("EFPACD")? },
            b'5' => Self::Efna { reason: reason(&mut from, "EFNAREAS")?, text: text(&mut from, "EFNAREAST", five)? },
            // RFC 5024 does not say which form an ESID has before both SSIDs: four octets are the short one.
            b'F' => {
                let reason = reason(&mut from, "ESIDREAS")?;
                let text = text(&mut from, "ESIDREAST", octets.len() > 4)?;
                from.carriage_return("ESIDCR")?;
                Self::Esid { reason, text }
            }
            b'R' => Self::Cd,
            b'E' => {
                let file = FileId::read(level, 3, true, true, &mut from)?;
                let (hash, signature) = signed(&mut from, five)?;
                Self::Eerp(Eerp { file, hash, signature })
            }
            b'N' if level >= Level::Four => {
                let file = FileId::read(level, 6, false, true, &mut from)?;
                let creator = from.text("NERPCREA", 25)?;
                let reason = reason(&mut from, "NERPREAS")?;
                let text = text(&mut from, "NERPREAST", five)?;
                let (hash, signature) = signed(&mut from, five)?;
                Self::Nerp(Nerp { file, creator, reason, text, hash, signature })
            }
            b'P' => Self::Rtr,
            b'J' if five => Self::Secd,
            b'A' if five => Self::Auch(from.binary("AUCHCHAL")?),
            b'S' if five => Self::Aurp(from.octets("AURPRSP", 20)?.to_vec()),
            _ => {
                let what = format!("command octet {code:02x} is not known at level {}", level as u8);
                return Err(Malformed { esid: esid::UNKNOWN_COMMAND, what });
            }
        };
        from.end()?;
        Ok(command)
    }
}

impl Ssid {
    fn write(&self, to: &mut Writer<'_>) {
        to.text("X", 1);
        to.digits(self.level as u64, 1);
        to.text(&self.code, 25);
        to.text(&self.password, 8);
        to.digits(self.buffer_size, 5);
        to.text(
            match self.transfers {
                Transfers::Send => "S",
                Transfers::Receive => "R",
                Transfers::Both => "B",
            },
            1,
        );
        to.yes(self.compression);
        to.yes(self.restart);
        to.yes(false); // SSIDSPEC: special logic has no meaning over TCP
        to.digits(self.credit, 3);
        if self.level == Level::Five {
            to.yes(self.authentication);
        } else {
            to.text("", 1);
        }
        to.text("", 4);
        to.text("", 8);
        to.0.push(b'\r');
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let digit = from.digits("SSIDLEV", 1)?;
        let level = Level::from_digit(digit).ok_or_else(|| Malformed::data(format!("SSIDLEV is {digit}")))?;
        let code = from.text("SSIDCODE", 25)?;
        let password = from.text("SSIDPSWD", 8)?;
        let buffer_size = from.digits("SSIDSDEB", 5)?;
        let transfers = match from.one_of("SSIDSR", "SRB")? {
            'S' => Transfers::Send,
            'R' => Transfers::Receive,
            _ => Transfers::Both,
        };
        let compression = from.yes("SSIDCMPR")?;
        let restart = from.yes("SSIDREST")?;
        from.yes("SSIDSPEC")?;
        let credit = from.digits("SSIDCRED", 3)?;
        let authentication = from.one_of("SSIDAUTH", "YN ")? == 'Y' && level == Level::Five;
        from.octets("SSIDRSV1", 4)?;
        from.octets("SSIDUSER", 8)?;
        from.carriage_return("SSIDCR")?;
        if buffer_size < 128 {
            return Err(Malformed::data(format!("SSIDSDEB is {buffer_size}, at least 128 expected")));
        }
        if credit == 0 {
            return Err(Malformed::data("SSIDCRED is 0, at least 1 expected".into()));
        }
        Ok(Self { level, code, password, buffer_size, transfers, compression, restart, credit, authentication })
    }
}

impl Sfid {
    fn write(&self, level: Level, to: &mut Writer<'_>) {
        let five = level == Level::Five;
        to.text("H", 1);
        self.id.write(level, 3, Some(""), false, to);
        to.text(&self.format.to_string(), 1);
        to.digits(self.record_length, 5);
        to.digits(self.size, if five { 13 } else { 7 });
        if five {
            to.digits(self.original_size, 13);
        }
        to.digits(self.restart, if five { 17 } else { 9 });
        if five {
            to.digits(self.security, 2);
            to.digits(self.cipher, 2);
            to.digits(u64::from(self.compressed), 1);
            to.digits(u64::from(self.enveloped), 1);
            to.yes(self.signed_response);
            to.long_text(&self.description);
        }
    }

    fn read(level: Level, from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let five = level == Level::Five;
        let id = FileId::read(level, 3, true, false, from)?;
        let format = from.one_of("SFIDFMT", "FVUT")?;
        let record_length = from.digits("SFIDLRECL", 5)?;
        let size = from.digits("SFIDFSIZ", if five { 13 } else { 7 })?;
        let original_size = if five { from.digits("SFIDOSIZ", 13)? } else { size };
        let restart = from.digits("SFIDREST", if five { 17 } else { 9 })?;
        let mut sfid = Self {
            id,
            format,
            record_length,
            size,
            original_size,
            restart,
            security: 0,
            cipher: 0,
            compressed: false,
            enveloped: false,
            signed_response: false,
            description: String::new(),
        };
        if five {
            sfid.security = from.digits("SFIDSEC", 2)?;
            sfid.cipher = from.digits("SFIDCIPH", 2)?;
            sfid.compressed = from.one_of("SFIDCOMP", "01")? == '1';
            sfid.enveloped = from.one_of("SFIDENV", "01")? == '1';
            sfid.signed_response = from.yes("SFIDSIGN")?;
            sfid.description = from.long_text("SFIDDESC")?;
        }
        Ok(sfid)
    }
}

impl FileId {
    /// Name, reserved octets, stamp, USER where the command has one, DEST, ORIG. `swapped`: EERP and NERP travel to
    /// the file's originator, so there DEST holds it.
    fn write(&self, level: Level, reserved: usize, user: Option<&str>, swapped: bool, to: &mut Writer<'_>) {
        to.text(&self.dataset, 26);
        if level >= Level::Four {
            to.text("", reserved);
            to.text(&self.date, 8);
            to.text(&self.time, 10);
        } else {
            to.text("", 9);
            to.text(self.date.get(2..8).unwrap_or(&self.date), 6);
            to.text(&self.time, 6);
        }
        if let Some(user) = user {
            to.text(user, 8);
        }
        let (first, second) =
            if swapped { (&self.originator, &self.destination) } else { (&self.destination, &self.originator) };
        to.text(first, 25);
        to.text(second, 25);
    }

    fn read(
        level: Level,
        reserved: usize,
        user: bool,
        swapped: bool,
        from: &mut Reader<'_>,
    ) -> Result<Self, Malformed> {
        let dataset = from.text("DSN", 26)?;
        let (reserved, date, time) = if level >= Level::Four { (reserved, 8, 10) } else { (9, 6, 6) };
        from.octets("RSV1", reserved)?;
        let date = from.text("DATE", date)?;
        let time = from.text("TIME", time)?;
        if date.bytes().chain(time.bytes()).any(|octet| !octet.is_ascii_digit()) {
            return Err(Malformed::data(format!("DATE and TIME are \"{date}\" and \"{time}\", digits expected")));
        }
        if user {
            from.text("USER", 8)?;
        }
        let first = from.text("DEST", 25)?;
        let second = from.text("ORIG", 25)?;
        let (originator, destination) = if swapped { (first, second) } else { (second, first) };
        Ok(Self { dataset, date, time, destination, originator })
    }

    /// The same file as it looks after a passage at `level` (no century and no counter at levels 1 and 2).
    pub fn at_level(&self, level: Level) -> Self {
        if level >= Level::Four {
            return self.clone();
        }
        let date = self.date.get(2..8).unwrap_or(&self.date).to_owned();
        let time = self.time.get(..6).unwrap_or(&self.time).to_owned();
        Self { date, time, ..self.clone() }
    }
}

fn reason(from: &mut Reader<'_>, field: &'static str) -> Result<u8, Malformed> {
    Ok(u8::try_from(from.digits(field, 2)?).unwrap_or(u8::MAX))
}

fn text(from: &mut Reader<'_>, field: &'static str, present: bool) -> Result<String, Malformed> {
    if present { from.long_text(field) } else { Ok(String::new()) }
}

fn signed(from: &mut Reader<'_>, present: bool) -> Result<(Vec<u8>, Vec<u8>), Malformed> {
    if present { Ok((from.binary("hash")?, from.binary("signature")?)) } else { Ok((Vec::new(), Vec::new())) }
}

fn name_of(code: u8) -> &'static str {
    match code {
        b'I' => "SSRM",
        b'X' => "SSID",
        b'H' => "SFID",
        b'2' => "SFPA",
        b'3' => "SFNA",
        b'D' => "DATA",
        b'C' => "CDT",
        b'T' => "EFID",
        b'4' => "EFPA",
        b'5' => "EFNA",
        b'F' => "ESID",
        b'R' => "CD",
        b'E' => "EERP",
        b'N' => "NERP",
        b'P' => "RTR",
        b'J' => "SECD",
        b'A' => "AUCH",
        b'S' => "AURP",
        _ => "an unknown command",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter_map(|c| char::from(c).to_digit(16)).map(|d| d as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    fn invoice(dataset: &str) -> FileId {
        FileId {
            dataset: dataset.into(),
            date: "20240229".into(),
            time: "1121040001".into(),
            destination: "O0013000000RECEIVER".into(),
            originator: "O00130000000PARTNRADMZ001".into(),
        }
    }

    /// Octets laid out by hand from the tables of RFC 5024, 5.3.
    fn samples() -> Vec<(Level, &'static str, Command)> {
        let plain = Sfid {
            id: invoice("INVOIC-2024"),
            format: 'U',
            record_length: 0,
            size: 1,
            original_size: 1,
            restart: 0,
            security: 0,
            cipher: 0,
            compressed: false,
            enveloped: false,
            signed_response: false,
            description: String::new(),
        };
        vec![
            (Level::Five, "494F4445 54544520 46545020 52454144 59200D", Command::Ssrm),
            (
                Level::Five,
                "58354F30 30313330 30303030 30305041 52544E52 41444D5A 30303153 45435245 54303131 30303030 4259594E
                 3130304E 20202020 20202020 20202020 0D",
                Command::Ssid(Ssid {
                    level: Level::Five,
                    code: "O00130000000PARTNRADMZ001".into(),
                    password: "SECRET01".into(),
                    buffer_size: 10_000,
                    transfers: Transfers::Both,
                    compression: true,
                    restart: true,
                    credit: 100,
                    authentication: false,
                }),
            ),
            (
                Level::Five,
                "48494E56 4F49432D 32303234 20202020 20202020 20202020 20202020 20203230 32343032 32393131 32313034
                 30303031 20202020 20202020 4F303031 33303030 30303052 45434549 56455220 20202020 204F3030 31333030
                 30303030 30504152 544E5241 444D5A30 30315530 30303030 30303030 30303030 30303030 31303030 30303030
                 30303030 30313030 30303030 30303030 30303030 30303030 30303030 304E3030 30",
                Command::Sfid(plain),
            ),
            (Level::Five, "32303030 30303030 30303030 30303030 3033", Command::Sfpa { count: 3 }),
            (
                Level::Five,
                "33303659 3030387A 75206772 6FC39F",
                Command::Sfna { reason: 6, retry: true, text: "zu groß".into() },
            ),
            (Level::Four, "33313559", Command::Sfna { reason: 15, retry: true, text: String::new() }),
            (Level::Five, "448C4845 4C4C4F2C 20574F52 4C44", Command::Data(b"\x8cHELLO, WORLD".to_vec())),
            (Level::Five, "432020", Command::Cdt),
            (
                Level::Five,
                "54303030 30303030 30303030 30303030 30303030 30303030 30303030 30303030 303132",
                Command::Efid { records: 0, octets: 12 },
            ),
            (Level::Two, "54303030303030303032303030303030303030333539", Command::Efid { records: 2, octets: 359 }),
            (Level::Five, "3459", Command::Efpa { turn: true }),
            (
                Level::Five,
                "35323130 31336261 64207369 676E6174 757265",
                Command::Efna { reason: 21, text: "bad signature".into() },
            ),
            (Level::Five, "46303030 30300D", Command::Esid { reason: 0, text: String::new() }),
            (Level::Five, "46393930 30387368 7574646F 776E0D", Command::Esid { reason: 99, text: "shutdown".into() }),
            (Level::Four, "4630320D", Command::Esid { reason: 2, text: String::new() }),
            (Level::Five, "52", Command::Cd),
            (
                Level::Five,
                "45494E56 4F49432D 32303234 20202020 20202020 20202020 20202020 20203230 32343032 32393131 32313034
                 30303031 20202020 20202020 4F303031 33303030 30303030 50415254 4E524144 4D5A3030 314F3030 31333030
                 30303030 52454345 49564552 20202020 20200000 0000",
                Command::Eerp(Eerp { file: invoice("INVOIC-2024"), hash: Vec::new(), signature: Vec::new() }),
            ),
            (
                Level::Five,
                "4E494E56 4F49432D 32303234 20202020 20202020 20202020 20202020 20202020 20323032 34303232 39313132
                 31303430 3030314F 30303133 30303030 30303050 4152544E 5241444D 5A303031 4F303031 33303030 30303052
                 45434549 56455220 20202020 204F3030 31333030 30303030 52454345 49564552 20202020 20203334 30303000
                 000000",
                Command::Nerp(Nerp {
                    file: invoice("INVOIC-2024"),
                    creator: "O0013000000RECEIVER".into(),
                    reason: 34,
                    text: String::new(),
                    hash: Vec::new(),
                    signature: Vec::new(),
                }),
            ),
            (Level::Five, "50", Command::Rtr),
            (Level::Five, "4A", Command::Secd),
        ]
    }

    #[test]
    fn commands_look_as_the_tables_say() {
        for (level, hex, command) in samples() {
            let mut written = Vec::new();
            command.write(level, &mut written);
            assert_eq!(written, octets(hex), "{} written", command.name());
            assert_eq!(Command::read(&octets(hex), level), Ok(command));
        }
    }

    #[test]
    fn a_command_cut_short_is_refused_or_one_that_partners_do_send() {
        for (level, hex, command) in samples() {
            let whole = octets(hex);
            for length in 1..whole.len() {
                let read = Command::read(&whole[..length], level);
                let tolerated = matches!(&command, Command::Data(_) | Command::Cdt | Command::Ssrm | Command::Ssid(_))
                    || matches!(&read, Ok(Command::Esid { .. } | Command::Sfna { .. } | Command::Efna { .. }))
                    || matches!(&read, Ok(Command::Eerp(_) | Command::Nerp(_) | Command::Sfid(_)));
                assert!(read.is_err() || tolerated, "{} of {length} octets: {read:?}", command.name());
            }
        }
    }

    #[test]
    fn a_refusal_names_command_field_and_position() {
        let mut ssid = samples().remove(1).1.to_owned();
        ssid = ssid.replacen("3130304E", "3041304E", 1);
        let refused = Command::read(&octets(&ssid), Level::Five).unwrap_err();
        assert_eq!(refused.esid, 6);
        assert_eq!(refused.what, "SSIDCRED is \"0A0\" at octet 44 of SSID, digits expected");
    }

    #[test]
    fn levels_one_and_two_have_a_short_stamp() {
        let file = invoice("INVOIC-2024").at_level(Level::Two);
        let eerp = Command::Eerp(Eerp { file, hash: Vec::new(), signature: Vec::new() });
        let mut written = Vec::new();
        eerp.write(Level::Two, &mut written);
        assert_eq!(written.len(), 106);
        assert_eq!(&written[27..48], b"         240229112104");
        assert_eq!(Command::read(&written, Level::Two), Ok(eerp));
    }
}
