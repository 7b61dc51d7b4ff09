//! The options that decide what a partition's verdict takes into account, beside what was seen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The fields of [`VerdictOptions`], for [`flat!`](crate::flat::flat).
macro_rules! verdict_fields {
    ($($to:tt)*) => {
        $crate::flat::flat! { $($to)* {
            /// Endpoints whose role this partition's record changes to advisory (by base or full name).
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub advisory: Vec<String>,
            /// Whether to continue although links of it are not covered, or partly: they are left out of its verdict on
            /// purpose.
            #[serde(default, skip_serializing_if = "std::ops::Not::not")]
            pub allow_uncovered: bool,
            /// Whether what is unknown counts as wrong.
            #[serde(default, skip_serializing_if = "std::ops::Not::not")]
            pub strict: bool,
            /// How the cut is verified beyond counting what the hooks see; `null` is not at all.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub verify: Option<$crate::api::Verify>,
        } }
    };
}
pub(crate) use verdict_fields;

verdict_fields! {
    declare
    /// What a partition's verdict takes into account, beside what was seen.
    #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    pub struct VerdictOptions
}

impl VerdictOptions {
    /// These options, with `other` for each that is not set here.
    #[must_use]
    pub fn over(self, other: Self) -> Self {
        Self {
            advisory: if self.advisory.is_empty() { other.advisory } else { self.advisory },
            allow_uncovered: self.allow_uncovered || other.allow_uncovered,
            strict: self.strict || other.strict,
            verify: self.verify.or(other.verify),
        }
    }
}
