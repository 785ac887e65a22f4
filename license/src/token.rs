//! The security token: what a proxyclient proves itself with to the backend, and what its link key is derived from.
//!
//! Printed form: `seon_`, then 56 characters of base32 (RFC 4648, section 6, lower case, no padding) over 35 octets:
//! the 32 random octets and the first three of SHA-256 over `seon security token` and those 32. A mistyped token is
//! recognised before it is sent anywhere; a word somebody made up is none.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256, digest};
use zeroize::Zeroizing;

use crate::hex;

const PREFIX: &str = "seon_";
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const SECRET: usize = 32;
const CHECK: usize = 3;
const PRINTED: usize = PREFIX.len() + 56;
/// Of 32 random octets about 30 differ; fewer than 16 happen less than once in 10^15 tokens, but in every pattern
/// that somebody invents.
const DIFFERENT: usize = 16;

/// 32 random octets in their checked printed form. Zeroized on drop; prints as `***`.
#[derive(Clone)]
pub struct SecurityToken {
    printed: Zeroizing<String>,
    secret: Zeroizing<[u8; SECRET]>,
}

/// Why a text is no security token. The text itself is never repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not begin with `seon_`.
    #[error("the security token must begin with `seon_`; make one with `seon_backend token new`")]
    Prefix,
    /// It is too long or too short.
    #[error(
        "the security token has {0} characters, 61 expected; copy it whole, or make one with `seon_backend token new`"
    )]
    Length(usize),
    /// It has a character that no token has; counted from 1.
    #[error(
        "character {0} of the security token is none of a-z and 2-7; copy it again, or make one with `seon_backend token new`"
    )]
    Character(usize),
    /// The check at its end does not fit.
    #[error(
        "the security token is mistyped (its check does not fit); copy it again, or make one with `seon_backend token new`"
    )]
    Mistyped,
    /// It was not made at random.
    #[error("the security token is not random and could be guessed; make one with `seon_backend token new`")]
    Weak,
    /// The system gave no random numbers.
    #[error("the system gives no random numbers; no security token was made")]
    NoRandom,
}

impl SecurityToken {
    /// A new token from the system's random numbers.
    pub fn new_random() -> Result<Self, TokenError> {
        let mut secret = Zeroizing::new([0; SECRET]);
        aws_lc_rs::rand::fill(secret.as_mut()).map_err(|_| TokenError::NoRandom)?;
        Ok(Self { printed: print(&secret), secret })
    }

    /// The printed form, for the header that carries it. Nothing else may show it.
    pub fn reveal(&self) -> &str {
        &self.printed
    }

    /// SHA-256 over the printed form, as 64 lower-case hex digits: what a backend keeps in the token's place.
    /// With 256 random bits nobody finds the token from it, so it needs neither salt nor a slow hash.
    pub fn sha256_hex(&self) -> String {
        hex::encode(digest(&SHA256, self.printed.as_bytes()).as_ref())
    }

    /// The 32 random octets, from which keys are derived.
    pub(crate) fn secret(&self) -> &[u8; SECRET] {
        &self.secret
    }
}

impl FromStr for SecurityToken {
    type Err = TokenError;

    /// White space around the token (the line end of the file it was read from) is not part of it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let coded = text.strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let length = text.chars().count();
        if length != PRINTED {
            return Err(TokenError::Length(length));
        }
        let octets = decode(coded)?;
        let (secret_part, check_part) = octets.split_at(SECRET);
        let mut secret = Zeroizing::new([0; SECRET]);
        secret.copy_from_slice(secret_part);
        if check_part != check(&secret) {
            return Err(TokenError::Mistyped);
        }
        let mut seen = [false; 256];
        secret.iter().for_each(|octet| seen[usize::from(*octet)] = true);
        if seen.iter().filter(|seen| **seen).count() < DIFFERENT {
            return Err(TokenError::Weak);
        }
        Ok(Self { printed: print(&secret), secret })
    }
}

impl fmt::Display for SecurityToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for SecurityToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecurityToken(***)")
    }
}

fn check(secret: &[u8; SECRET]) -> [u8; CHECK] {
    let mut context = Context::new(&SHA256);
    context.update(b"seon security token");
    context.update(secret);
    let mut check = [0; CHECK];
    for (to, from) in check.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    check
}

fn print(secret: &[u8; SECRET]) -> Zeroizing<String> {
    let mut octets = Zeroizing::new([0; SECRET + CHECK]);
    octets[..SECRET].copy_from_slice(secret);
    octets[SECRET..].copy_from_slice(&check(secret));
    // Its capacity is final from the start, so that no copy stays behind in freed memory.
    let mut printed = Zeroizing::new(String::with_capacity(PRINTED));
    printed.push_str(PREFIX);
    for five in octets.chunks_exact(5) {
        let bits = five.iter().fold(0u64, |bits, octet| bits << 8 | u64::from(*octet));
        for shift in (0..8).rev() {
            printed.push(char::from(ALPHABET[(bits >> (shift * 5) & 31) as usize]));
        }
    }
    printed
}

fn decode(coded: &str) -> Result<Zeroizing<[u8; SECRET + CHECK]>, TokenError> {
    let mut octets = Zeroizing::new([0; SECRET + CHECK]);
    let mut characters = coded.chars().enumerate();
    for five in octets.chunks_exact_mut(5) {
        let mut bits = 0u64;
        for (at, character) in characters.by_ref().take(8) {
            let value = match character {
                'a'..='z' => character as u64 - 'a' as u64,
                '2'..='7' => character as u64 - '2' as u64 + 26,
                _ => return Err(TokenError::Character(PREFIX.len() + at + 1)),
            };
            bits = bits << 5 | value;
        }
        five.copy_from_slice(&bits.to_be_bytes()[3..]);
    }
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with Python: base32 of octets 0 to 31 and the first three of SHA-256("seon security token" and those).
    const COUNTING: &str = "seon_aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypvgmrv";
    const COUNTING_SHA256: &str = "8bb10b76dda39f7e7877b615307639ff36fcd4c775868f8bf30f7b18d60954a9";

    #[test]
    fn a_known_token_is_read() {
        let token: SecurityToken = COUNTING.parse().unwrap();
        assert_eq!(token.secret().to_vec(), (0..32).collect::<Vec<u8>>());
        assert_eq!(token.reveal(), COUNTING);
        assert_eq!(token.sha256_hex(), COUNTING_SHA256);
    }

    #[test]
    fn the_line_end_of_a_file_is_not_part_of_it() {
        assert_eq!(format!("{COUNTING}\r\n").parse::<SecurityToken>().unwrap().reveal(), COUNTING);
    }

    #[test]
    fn new_ones_differ_and_can_be_read_back() {
        let (one, two) = (SecurityToken::new_random().unwrap(), SecurityToken::new_random().unwrap());
        assert_ne!(one.reveal(), two.reveal());
        assert_eq!(one.reveal().parse::<SecurityToken>().unwrap().secret(), one.secret());
    }

    #[test]
    fn every_single_mistyped_character_is_noticed() {
        for at in 0..COUNTING.len() {
            let mut text = COUNTING.to_owned().into_bytes();
            text[at] = if text[at] == b'q' { b'r' } else { b'q' };
            let text = String::from_utf8(text).unwrap();
            assert!(text.parse::<SecurityToken>().is_err(), "character {at} changed");
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        for length in 0..COUNTING.len() {
            assert!(COUNTING[..length].parse::<SecurityToken>().is_err(), "cut at {length}");
        }
    }

    #[test]
    fn a_made_up_word_is_refused_with_a_sentence() {
        assert_eq!("secret".parse::<SecurityToken>().unwrap_err(), TokenError::Prefix);
        assert_eq!("seon_secret".parse::<SecurityToken>().unwrap_err(), TokenError::Length(11));
        let upper = COUNTING.replacen('a', "A", 1);
        assert!(matches!(upper.parse::<SecurityToken>().unwrap_err(), TokenError::Character(_)));
        for error in [TokenError::Prefix, TokenError::Length(3), TokenError::Mistyped, TokenError::Weak] {
            assert!(error.to_string().contains("seon_backend token new"), "{error}");
        }
    }

    #[test]
    fn a_pattern_is_refused_even_with_the_right_check() {
        for secret in [[7; SECRET], std::array::from_fn(|at| (at % 15) as u8)] {
            assert_eq!(print(&secret).parse::<SecurityToken>().unwrap_err(), TokenError::Weak);
        }
    }

    #[test]
    fn it_is_never_printed() {
        let token: SecurityToken = COUNTING.parse().unwrap();
        assert_eq!(format!("{token} {token:?}"), "*** SecurityToken(***)");
    }
}
