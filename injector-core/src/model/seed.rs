//! The seeds of drawn shapes: every JSON reader must keep them whole.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// The largest seed, 2^53 - 1: programs that read numbers as 64-bit floats keep each integer up to it.
pub const MAX_SEED: u64 = (1 << 53) - 1;

/// Why a number or text is not a seed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// The text is not a whole number.
    #[error("\"{0}\" is not a seed: write a whole number from 0 to {MAX_SEED} (2^53 - 1)")]
    NotANumber(String),
    /// The number has more than 53 bits.
    #[error(
        "the seed {0} is above {MAX_SEED} (2^53 - 1), and programs that read JSON would round it: write a smaller one"
    )]
    TooLarge(String),
}

/// The 53 bits of a drawn seed.
pub fn drawn(bits: u64) -> u64 {
    bits >> 11
}

/// A seed from the command line.
pub fn parse(text: &str) -> Result<u64, SeedError> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u64>() {
        _ if !is_number => Err(SeedError::NotANumber(text.to_owned())),
        Ok(seed) => check(seed),
        Err(_) => Err(SeedError::TooLarge(text.to_owned())),
    }
}

fn check(seed: u64) -> Result<u64, SeedError> {
    if seed <= MAX_SEED { Ok(seed) } else { Err(SeedError::TooLarge(seed.to_string())) }
}

/// For `#[serde(deserialize_with)]` of a field that may be missing.
pub fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<Seed>::deserialize(deserializer)?.map(|seed| seed.0))
}

/// A seed from a file or a request: what is no seed is refused in our words, however large it is.
struct Seed(u64);

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SeedVisitor)
    }
}

struct SeedVisitor;

impl Visitor<'_> for SeedVisitor {
    type Value = Seed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a seed, a whole number from 0 to {MAX_SEED} (2^53 - 1)")
    }

    fn visit_u64<E: Error>(self, seed: u64) -> Result<Seed, E> {
        check(seed).map(Seed).map_err(E::custom)
    }

    fn visit_u128<E: Error>(self, seed: u128) -> Result<Seed, E> {
        Err(E::custom(SeedError::TooLarge(seed.to_string())))
    }

    fn visit_i64<E: Error>(self, seed: i64) -> Result<Seed, E> {
        match u64::try_from(seed) {
            Ok(seed) => self.visit_u64(seed),
            Err(_) => Err(E::custom(SeedError::NotANumber(seed.to_string()))),
        }
    }

    fn visit_f64<E: Error>(self, seed: f64) -> Result<Seed, E> {
        // Integers beyond 64 bits come as floats.
        Err(E::custom(if seed >= 2_f64.powi(53) {
            // As a float: its digits are not all those that were written.
            SeedError::TooLarge(format!("{seed:e}"))
        } else {
            // The text keeps the point: "7" would be a seed.
            SeedError::NotANumber(format!("{seed:?}"))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_end_at_53_bits() {
        assert_eq!(parse("0"), Ok(0));
        assert_eq!(parse("9007199254740991"), Ok(MAX_SEED));
        for text in ["9007199254740992", "18446744073709551615", "18446744073709551616"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("write a smaller one"), "{error}");
        }
        for text in ["", "-1", "+1", "1.5", "x", "+"] {
            assert_eq!(parse(text), Err(SeedError::NotANumber(text.to_owned())));
        }
    }

    #[test]
    fn requests_and_files_say_the_same() {
        for text in ["9007199254740992", "18446744073709551615", "18446744073709551616", "1e300"] {
            for error in [
                serde_json::from_str::<Seed>(text).map(|seed| seed.0).unwrap_err().to_string(),
                serde_yaml::from_str::<Seed>(text).map(|seed| seed.0).unwrap_err().to_string(),
            ] {
                assert!(error.contains("write a smaller one"), "{text}: {error}");
            }
        }
        for text in ["-1", "1.5", "\"7\"", "true"] {
            let error = serde_json::from_str::<Seed>(text).map(|seed| seed.0).unwrap_err().to_string();
            assert!(error.contains("a whole number from 0 to 9007199254740991"), "{text}: {error}");
        }
        let error = serde_json::from_str::<Seed>("7.0").map(|seed| seed.0).unwrap_err().to_string();
        assert!(error.contains("\"7.0\" is not a seed"), "{error}");
        assert_eq!(serde_json::from_str::<Seed>("9007199254740991").unwrap().0, MAX_SEED);
    }

    #[test]
    fn a_float_holds_every_seed() {
        for bits in [0, 1, u64::MAX, 1 << 63, 0x0123_4567_89ab_cdef] {
            let seed = drawn(bits);
            assert!(seed <= MAX_SEED);
            assert_eq!((seed as f64) as u64, seed);
        }
    }
}
