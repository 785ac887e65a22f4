//! The closing frame: the last thing that a session sends on its data connection, to tell the other session why it
//! ends. Between two stream headers, told from them by its first octet.
//!
//! Layout: `C1`, 24 bits of length (big-endian, these four octets included, at most 4096), then [`Closing`].

use serde::{Deserialize, Serialize};

use crate::situation::Situation;

/// First octet of a closing frame. A Stream Transmission Header begins with a high nibble of 1 (RFC 5024, 8.2).
pub const FIRST_OCTET: u8 = 0xC1;

/// Largest closing frame in octets, header included.
pub const LARGEST: usize = 4096;

const HEADER: usize = 4;
const LONGEST_TEXT: usize = 2048;

/// How a session ended, as its process on one side saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// What happened.
    pub situation: Situation,
    /// One sentence with the particulars, already escaped.
    pub text: String,
    /// The SSIDCODE that was refused, with `ssid-code-refused`.
    pub code: Option<String>,
}

/// Why a closing frame was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClosingError {
    /// The length is impossible.
    #[error("a closing frame announces {0} octets, 5 to {LARGEST} expected")]
    Length(usize),
    /// The octets are no closing frame.
    #[error("a closing frame of {0} octets cannot be read")]
    Unreadable(usize),
}

/// Whether a frame on the data connection that begins with this octet is a closing frame.
pub const fn is_closing(first_octet: u8) -> bool {
    first_octet == FIRST_OCTET
}

/// Octets of the whole frame, from its first four.
///
/// # Errors
/// [`ClosingError::Length`] outside 5 to [`LARGEST`].
pub fn length(header: [u8; HEADER]) -> Result<usize, ClosingError> {
    let [_, high, middle, low] = header;
    let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
    if (HEADER + 1..=LARGEST).contains(&length) { Ok(length) } else { Err(ClosingError::Length(length)) }
}

impl Closing {
    /// A closing frame's content; a text beyond what fits is cut.
    pub fn new(situation: Situation, mut text: String) -> Self {
        if text.len() > LONGEST_TEXT {
            let end = (0..=LONGEST_TEXT).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
            text.truncate(end);
        }
        Self { situation, text, code: None }
    }

    /// The whole frame.
    pub fn write(&self) -> Vec<u8> {
        let mut frame = vec![FIRST_OCTET, 0, 0, 0];
        frame.extend(postcard::to_allocvec(self).unwrap_or_default());
        let length = u32::try_from(frame.len()).unwrap_or(0).to_be_bytes();
        frame[1..HEADER].copy_from_slice(&length[1..]);
        frame
    }

    /// Reads a whole frame, header included.
    ///
    /// # Errors
    /// When length and content disagree, or the content is none.
    pub fn read(frame: &[u8]) -> Result<Self, ClosingError> {
        let (header, content) = frame.split_first_chunk::<HEADER>().ok_or(ClosingError::Unreadable(frame.len()))?;
        if !is_closing(header[0]) || length(*header)? != frame.len() {
            return Err(ClosingError::Unreadable(frame.len()));
        }
        match postcard::take_from_bytes::<Self>(content) {
            Ok((closing, [])) => Ok(closing),
            _ => Err(ClosingError::Unreadable(frame.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_says_its_length_and_survives_the_way() {
        let closing = Closing::new(Situation::SessionEnded, "x".repeat(5000));
        let closing = Closing { code: Some("O0013000000ACME".to_owned()), ..closing };
        let frame = closing.write();
        assert_eq!(frame[0], 0xC1);
        assert_eq!(length(frame[..4].try_into().unwrap()), Ok(frame.len()));
        assert!(frame.len() <= LARGEST);
        assert_eq!(Closing::read(&frame), Ok(closing));
    }

    #[test]
    fn cut_padded_and_foreign_frames_are_refused() {
        let frame = Closing::new(Situation::SessionEnded, "ü".repeat(2000)).write();
        for end in 0..frame.len() {
            assert!(Closing::read(&frame[..end]).is_err());
        }
        assert!(Closing::read(&[&frame[..], b"x"].concat()).is_err());
        assert_eq!(length([0xC1, 0, 0, 4]), Err(ClosingError::Length(4)));
        assert_eq!(length([0xC1, 1, 0, 0]), Err(ClosingError::Length(65_536)));
    }
}
