//! `hash-key`: an API key, and what the configuration keeps of it.

use std::error::Error;
use std::io::Read;

use clap::ArgMatches;
use sha2::{Digest, Sha256};

/// What keys begin with, as those of `OpenAI` do.
const PREFIX: &str = "sk-";

/// Prints a new key and its entry, or the entry of a key that comes on standard input.
pub(super) fn run(matches: &ArgMatches) -> Result<(), Box<dyn Error>> {
    let name = matches.get_one::<String>("name").map_or("NAME", String::as_str);
    let key = if matches.get_flag("stdin") { given()? } else { made()? };
    if !matches.get_flag("stdin") {
        println!("# The key, for whoever will use it. It is not kept anywhere:\n# {key}\n");
    }
    println!("# For the configuration:\n[[auth.keys]]\nname = {name:?}\nsha256 = \"{}\"", hashed(&key));
    Ok(())
}

fn given() -> Result<String, Box<dyn Error>> {
    let mut key = String::new();
    std::io::stdin().read_to_string(&mut key)?;
    let key = key.trim();
    // Short keys can be found by trying them all against their hash.
    if key.len() < 20 {
        return Err("a key must have 20 characters or more: leave --stdin out to have one made".into());
    }
    Ok(key.to_owned())
}

/// 256 random bits.
fn made() -> Result<String, Box<dyn Error>> {
    let mut bits = [0; 32];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bits).map_err(|_| "the system gives no random numbers")?;
    Ok(format!("{PREFIX}{}", hexadecimal(&bits)))
}

fn hashed(key: &str) -> String {
    hexadecimal(&Sha256::digest(key))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_random_and_hashed_as_anybody_would() {
        let (one, other) = (made().expect("a key"), made().expect("a key"));
        assert!(one != other && one.starts_with(PREFIX) && one.len() == PREFIX.len() + 64);
        assert_eq!(hashed("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
