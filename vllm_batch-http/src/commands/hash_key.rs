//! `hash-key`: an API key, and what the configuration keeps of it.

use std::io::Read;

use clap::ArgMatches;
use vllm_batch_http::hash_key;

use super::Failure;

/// What keys begin with, as those of `OpenAI` do.
const PREFIX: &str = "sk-";

/// Prints a new key and its entry, or the entry of a key that comes on standard input.
pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let name = matches.get_one::<String>("name").map_or("NAME", String::as_str);
    let key = if matches.get_flag("stdin") { given()? } else { made()? };
    if !matches.get_flag("stdin") {
        println!("# The key, for whoever will use it. It is not kept anywhere:\n# {key}\n");
    }
    println!("# For the configuration:\n[[auth.keys]]\nname = {name:?}\nsha256 = \"{}\"", hash_key(&key));
    Ok(())
}

fn given() -> Result<String, Failure> {
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
fn made() -> Result<String, Failure> {
    let mut bits = [0; 32];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bits).map_err(|_| "the system gives no random numbers")?;
    Ok(bits.iter().fold(PREFIX.to_owned(), |key, byte| format!("{key}{byte:02x}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_long_and_random() {
        let (one, other) = (made().expect("a key"), made().expect("a key"));
        assert!(one != other && one.starts_with(PREFIX) && one.len() == PREFIX.len() + 64);
    }
}
