//! The commands for security tokens.

use std::path::PathBuf;

use license::{LinkKey, SecurityToken, client_line};

use crate::Failure;
use crate::configuration::Configuration;
use crate::listing::print;
use crate::options::{Place, TokenTask};
use crate::store::Store;

/// Opens the SQLite file that the options name, which must be there.
pub fn open(place: &Place) -> Result<Store, Failure> {
    Ok(Store::open_existing(&path(place)?)?)
}

fn path(place: &Place) -> Result<PathBuf, Failure> {
    match &place.database {
        Some(path) => Ok(path.clone()),
        None => Ok(Configuration::backend_of(&place.config).map_err(|mistake| Failure::mistakes([mistake]))?.database),
    }
}

/// Does what the command line says.
pub fn run(task: TokenTask) -> Result<(), Failure> {
    match task {
        TokenTask::New { name, place } => {
            if name.as_deref().is_some_and(|name| name.is_empty() || name.chars().any(char::is_control)) {
                return Err("a name must be one line that is not empty".into());
            }
            let token = SecurityToken::new_random()?;
            let name = Store::open(&path(&place)?)?.add_token(&token, name.as_deref())?;
            let line = client_line(&LinkKey::derive(&token), Some(&name));
            eprintln!(
                "token {name:?} is stored as a hash and shown this once; for the licence of the proxyserver:\n{line}"
            );
            print(&format!("{}\n", token.reveal()))
        }
        TokenTask::List { place } => {
            let lines = open(&place)?.tokens()?;
            let lines = lines.iter().map(|token| {
                let state = if token.enabled { "enabled" } else { "disabled" };
                let hash: String = token.sha256.chars().take(12).collect();
                format!("{}  {state:8}  {hash}  {}\n", token.created, token.name)
            });
            print(&lines.collect::<String>())
        }
        TokenTask::Disable { name, place } => Ok(open(&place)?.enable_token(&name, false)?),
        TokenTask::Enable { name, place } => Ok(open(&place)?.enable_token(&name, true)?),
    }
}
