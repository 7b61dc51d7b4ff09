//! Which known name a misspelt one is likely to mean.

/// The known name that is nearest to `wrong`; `None` where none is near, or several are equally near.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let in_small = wrong.to_lowercase();
    let near = known.into_iter().filter_map(|name| {
        let known = name.to_lowercase();
        let distance = strsim::damerau_levenshtein(&in_small, &known);
        let is_begun = in_small.chars().count() >= SHORTEST_BEGINNING && known.starts_with(&in_small);
        let distance = if is_begun { distance.min(1) } else { distance };
        // A swap, a missing or a wrong letter in short names; one letter in three of long ones.
        let longest = in_small.chars().count().max(known.chars().count());
        (distance <= (longest / 3).max(1)).then_some((distance, name))
    });
    let mut near: Vec<(usize, &str)> = near.collect();
    near.sort_unstable();
    near.dedup();
    match near[..] {
        [(_, name)] => Some(name),
        [(first, name), (second, _), ..] if first < second => Some(name),
        _ => None,
    }
}

/// The fewest letters of a beginning of a name that is taken for the name.
const SHORTEST_BEGINNING: usize = 3;

/// The beginning of a remedy that names the nearest known name; empty where none is near.
pub fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(wrong, known).map_or_else(String::new, |name| format!("did you mean \"{name}\"? "))
}

/// The remedy for an unknown name: the nearest known one, and all of them, `what` in the plural; at most a dozen, since a
/// config may have a thousand.
pub fn known_names(wrong: &str, what: &str, known: &[String]) -> String {
    let proposal = did_you_mean(wrong, known.iter().map(String::as_str));
    let more = match known.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{proposal}known {what}: {}{more}", known[..known.len().min(LISTED)].join(", "))
}

/// How many known names a remedy lists.
const LISTED: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_near_and_another_name_is_not() {
        let keys = ["peers", "interfaces", "endpoints", "presets", "here"];
        for (wrong, meant) in [
            ("interface", Some("interfaces")),
            ("Interfaces", Some("interfaces")),
            ("interfcaes", Some("interfaces")),
            ("end", Some("endpoints")),
            ("perrs", Some("peers")),
            ("prset", Some("presets")),
            ("nodes", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(wrong, keys), meant, "{wrong}");
        }
    }

    #[test]
    fn of_names_that_are_equally_near_none_is_proposed() {
        assert_eq!(nearest("n9", ["n1", "n2", "n3"]), None);
        assert_eq!(nearest("n9", ["n1", "etcd"]), Some("n1"));
        assert_eq!(nearest("etcd4", ["etcd1", "etcd2"]), None);
        assert_eq!(nearest("web@n1", ["web@n1", "web@n2"]), Some("web@n1"));
        assert_eq!(did_you_mean("wep", ["web", "web"]), "did you mean \"web\"? ");
        assert_eq!(did_you_mean("n1", []), "");
    }
}
