//! A station's request as it arrives: which protocol, and whom it names. Bounded, and the same however it is split.

use super::answer::Dialect;
use super::target::Target;
use super::{http, socks};

/// The request of one station, as far as it has come.
#[derive(Debug, Default)]
pub struct Request {
    octets: Vec<u8>,
    /// The SOCKS5 greeting was read and answered.
    greeted: bool,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// More has to come.
    More,
    /// This is to be said, and more may be here already.
    Say(&'static [u8]),
    /// The station wants this, and waits for the answer in this protocol.
    Asked(Target, Dialect),
    /// It is told why not, and its connection closed.
    Refuse(Wrong),
}

/// A request that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// For the log: what is wrong. Nothing that the station sent stands in it.
    pub text: String,
    /// For the station, in its protocol; may be empty.
    pub answer: Vec<u8>,
}

impl Request {
    /// Octets that are taken at a time. A request never holds more than this beside [`http::LARGEST`].
    pub const READ: usize = 1024;

    /// Takes what has come, at most [`Request::READ`] octets.
    pub fn take(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets.get(..Self::READ).unwrap_or(octets));
    }

    /// What follows from what has come. To be called until it is [`Step::More`] or an end.
    pub fn step(&mut self) -> Step {
        let read = match self.octets.first() {
            _ if self.greeted => socks::request(&self.octets).map(|asked| (asked, Dialect::Socks)),
            None => return Step::More,
            Some(&socks::VERSION) => match socks::greeting(&self.octets) {
                Ok(None) => return Step::More,
                Ok(Some(length)) => {
                    self.octets.drain(..length);
                    self.greeted = true;
                    return Step::Say(socks::NO_AUTHENTICATION);
                }
                Err(wrong) => return Step::Refuse(wrong),
            },
            Some(first) if first.is_ascii_alphabetic() => http::read(&self.octets).map(|asked| (asked, Dialect::Http)),
            Some(_) => {
                let text = "its first octet belongs neither to HTTP nor to SOCKS5".to_owned();
                Err(Wrong { text, answer: Vec::new() })
            }
        };
        match read {
            Ok((None, _)) => Step::More,
            // The Responder speaks first in OFTP2 (RFC 5024, 4.2.2): what comes before the answer has no meaning.
            Ok((Some((_, length)), dialect)) if length < self.octets.len() => {
                let text = "octets follow the request before it was answered".to_owned();
                Step::Refuse(Wrong { answer: dialect.malformed(&text), text })
            }
            Ok((Some((target, _)), dialect)) => Step::Asked(target, dialect),
            Err(wrong) => Step::Refuse(wrong),
        }
    }

    /// The protocol that the station seems to speak, for what it is told when its request does not become whole.
    pub fn dialect(&self) -> Dialect {
        match self.octets.first() {
            _ if self.greeted => Dialect::Socks,
            Some(first) if first.is_ascii_alphabetic() => Dialect::Http,
            _ => Dialect::Silent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of these octets, given in pieces of these lengths, in turn.
    fn run(octets: &[u8], pieces: &[usize]) -> (Vec<u8>, Step) {
        let (mut request, mut said, mut rest) = (Request::default(), Vec::new(), octets);
        let mut lengths = pieces.iter().copied().cycle();
        loop {
            match request.step() {
                Step::Say(words) => said.extend_from_slice(words),
                Step::More if rest.is_empty() => return (said, Step::More),
                Step::More => {
                    let length = lengths.next().unwrap_or(Request::READ).clamp(1, Request::READ).min(rest.len());
                    let (piece, behind) = rest.split_at(length);
                    request.take(piece);
                    rest = behind;
                    assert!(request.octets.len() <= http::LARGEST + Request::READ);
                }
                end => return (said, end),
            }
        }
    }

    const HTTP: &[u8] = b"CONNECT oftp.acme.example:6619 HTTP/1.1\r\nHost: oftp.acme.example\r\n\r\n";
    const SOCKS: &[u8] = b"\x05\x02\x00\x02\x05\x01\x00\x03\x11oftp.acme.example\x19\xdb";

    #[test]
    fn both_protocols_are_told_apart_and_name_the_same() {
        let target = Target::read("oftp.acme.example:6619").unwrap();
        for pieces in [&[usize::MAX][..], &[1], &[2], &[3, 1], &[7]] {
            assert_eq!(run(HTTP, pieces), (Vec::new(), Step::Asked(target.clone(), Dialect::Http)));
            assert_eq!(run(SOCKS, pieces), (vec![5, 0], Step::Asked(target.clone(), Dialect::Socks)));
        }
        for end in 0..HTTP.len() {
            assert_eq!(run(&HTTP[..end], &[5]).1, Step::More, "{end}");
        }
        for end in 0..SOCKS.len() {
            assert_eq!(run(&SOCKS[..end], &[5]).1, Step::More, "{end}");
        }
    }

    #[test]
    fn early_octets_are_refused() {
        let early = |octets: &[u8]| run(&[octets, b"x"].concat(), &[usize::MAX]).1;
        let Step::Refuse(wrong) = early(HTTP) else { panic!("{:?}", early(HTTP)) };
        assert!(wrong.answer.starts_with(b"HTTP/1.1 400 "));
        let Step::Refuse(wrong) = early(SOCKS) else { panic!("{:?}", early(SOCKS)) };
        assert_eq!(wrong.answer.get(1), Some(&socks::GENERAL_FAILURE));
    }

    #[test]
    fn what_is_neither_gets_no_answer() {
        // A TLS record, SOCKS4, and what a station says that thinks it is connected.
        for octets in [b"\x16\x03\x01\x02\x00".as_slice(), b"\x04\x01\x19\xdb", b"\x10\x00\x00\x17IODETTE"] {
            let (said, Step::Refuse(wrong)) = run(octets, &[usize::MAX]) else { panic!("{octets:02x?}") };
            assert!(said.is_empty() && wrong.answer.is_empty());
        }
    }

    /// Pseudo-random octets around real requests: whatever comes, it is judged the same however it is split, and never
    /// more than its bound is held.
    #[test]
    fn whatever_comes_is_judged_alike_however_it_is_split() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % below as u64).unwrap()
        };
        for _ in 0..4000 {
            let mut octets = if random(2) == 0 { HTTP.to_vec() } else { SOCKS.to_vec() };
            for _ in 0..random(4) {
                let place = random(octets.len());
                match random(3) {
                    0 => octets[place] = u8::try_from(random(256)).unwrap(),
                    1 => octets.truncate(place.max(1)),
                    _ => octets.splice(place..place, vec![b'x'; random(300)]).for_each(drop),
                }
            }
            let (whole, pieces) = (run(&octets, &[usize::MAX]), [1 + random(9), 1 + random(40)]);
            let split = run(&octets, &pieces);
            // What follows a request is only seen when it comes with it.
            if whole != split {
                let early = matches!(&whole.1, Step::Refuse(wrong) if wrong.text.starts_with("octets follow"));
                assert!(early && matches!(split.1, Step::Asked(..)), "{octets:02x?}: {whole:?}, {split:?}");
            }
        }
    }
}
