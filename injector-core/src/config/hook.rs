//! The hooks of the kernel that an interface is attached to: one entry for each, from the config's word to
//! its meaning.

use schemars::JsonSchema;

/// Which hook to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Hook {
    /// TC both ways, over TCX where the kernel has it.
    #[default]
    Auto,
    /// The same as auto.
    Tc,
    /// TC both ways through the clsact qdisc.
    Clsact,
    /// XDP ingress and TC egress.
    Xdp,
    /// TC egress of a loopback device, for peers on this machine. `interfaces:` can't name it.
    #[schemars(skip)]
    Local,
}

impl Hook {
    /// The hooks that a config can name, each by its word.
    pub const WORDS: [(&str, Self); 4] =
        [("auto", Self::Auto), ("tc", Self::Tc), ("clsact", Self::Clsact), ("xdp", Self::Xdp)];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn editors_know_the_same_words() {
        let schema = schemars::schema_for!(Hook).to_value();
        let words = schema["oneOf"].as_array().unwrap().iter().map(|one| one["const"].as_str().unwrap());
        assert_eq!(words.collect::<Vec<_>>(), Hook::WORDS.map(|(word, _)| word));
    }
}
