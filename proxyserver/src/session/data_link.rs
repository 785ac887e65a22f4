//! The session's data connection: asked for with the partner's proof, opened by the inside, authenticated by two keys
//! that were made for it alone.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use proxylink::message::Refused;
use proxylink::pairing::{PairingRequest, TRIES, Token};
use proxylink::situation::Situation;
use proxylink::tls::SessionKey;
use relay::tls::Tls;

use super::Around;
use super::partner_tls::Answered;
use super::questions::Questions;

/// Asks for the data connection and authenticates it.
///
/// # Errors
/// When the inside refuses the partner, does not come in time, or three connections with the token fail.
pub fn open(
    partner: &Answered,
    around: &Around,
    questions: &Arc<Mutex<Questions>>,
    deadline: Instant,
    orders: &mut dyn relay::Orders,
) -> Result<Tls, Refused> {
    let failed = |text: String| Refused { situation: Situation::PairingRefused, text };
    let mut questions = questions.lock().map_err(|_| failed("the questions are lost".to_owned()))?;
    questions.until(deadline);
    let key = SessionKey::generate().map_err(|error| failed(error.to_string()))?;
    let mut token = [0; Token::LENGTH];
    aws_lc_rs::rand::fill(&mut token).map_err(|_| failed("the system has no random numbers".to_owned()))?;
    let inside_key = questions.pair(PairingRequest {
        direction: around.direction,
        peer: around.peer,
        local: around.local,
        chain: partner.chain.clone(),
        signature: partner.signature.clone(),
        tls: partner.facts.clone(),
        dmz_key: key.hash(),
        token: Token::from_octets(token),
    })?;
    let config = Arc::new(key.server(inside_key).map_err(|error| failed(error.to_string()))?);
    for _ in 0..TRIES {
        let socket = questions.data_connection()?;
        match Tls::accept(socket, Arc::clone(&config), deadline, orders) {
            Ok(tls) => {
                questions.linked()?;
                return Ok(tls);
            }
            Err(error) => Situation::DataConnectionRefused.tell(format_args!("{error}; up to {TRIES} are tried")),
        }
    }
    Err(failed(format!("{TRIES} data connections with the right token failed")))
}
