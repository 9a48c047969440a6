//! Extra specs of a volume type against what a pool can, in the notation of the field: `<is> True`, `s== fast`, `>= 5`, `<or> a <or> b`.

use std::collections::BTreeMap;

/// The first spec that is not met, as `key=value`. Specs of other scopes than `capabilities:` are not about pools.
pub fn unmet(specs: &BTreeMap<String, String>, capabilities: &BTreeMap<String, String>) -> Option<String> {
    let about_pools = specs.iter().filter_map(|(key, wanted)| Some((named(key)?, key, wanted)));
    let mut unmet = about_pools.filter(|(name, _, wanted)| !capabilities.get(*name).is_some_and(|value| meets(value, wanted)));
    unmet.next().map(|(_, key, wanted)| format!("{key}={wanted}"))
}

fn named(key: &str) -> Option<&str> {
    match key.split_once(':') {
        None => Some(key),
        Some(("capabilities", name)) => Some(name),
        Some(_) => None,
    }
}

fn meets(value: &str, wanted: &str) -> bool {
    let mut words = wanted.split_whitespace();
    let (operator, operand) = (words.next().unwrap_or_default(), words.next());
    let numbers = || Some((value.trim().parse::<f64>().ok()?, operand?.parse::<f64>().ok()?));
    let compare = |holds: fn(f64, f64) -> bool| numbers().is_some_and(|(value, operand)| holds(value, operand));
    let text = |holds: fn(&str, &str) -> bool| operand.is_some_and(|operand| holds(value, operand));
    match operator {
        "=" | ">=" => compare(|value, operand| value >= operand),
        "<=" => compare(|value, operand| value <= operand),
        "==" => compare(|value, operand| value == operand),
        "!=" => compare(|value, operand| value != operand),
        "s==" => text(|value, operand| value == operand),
        "s!=" => text(|value, operand| value != operand),
        "s<" => text(|value, operand| value < operand),
        "s<=" => text(|value, operand| value <= operand),
        "s>" => text(|value, operand| value > operand),
        "s>=" => text(|value, operand| value >= operand),
        "<in>" => text(|value, operand| value.contains(operand)),
        "<is>" => operand.and_then(truth).is_some_and(|wanted| truth(value).unwrap_or(false) == wanted),
        "<or>" => wanted.split("<or>").any(|one| !one.trim().is_empty() && one.trim() == value),
        _ => value == wanted || truth(value).is_some_and(|value| truth(wanted) == Some(value)),
    }
}

fn truth(word: &str) -> Option<bool> {
    match word.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators() {
        for (value, wanted, holds) in [
            ("fast", "fast", true),
            ("fast", "slow", false),
            ("fast", "s== fast", true),
            ("fast", "s!= fast", false),
            ("fast", "<in> as", true),
            ("b", "<or> a <or> b", true),
            ("c", "<or> a <or> b", false),
            ("True", "<is> True", true),
            ("true", "<is> False", false),
            ("anything", "<is> False", true),
            ("True", "true", true),
            ("10", ">= 5", true),
            ("10", "= 11", false),
            ("10", "== 10.0", true),
            ("10", "!= 10", false),
            ("4", "<= 5", true),
            ("ten", ">= 5", false),
            ("10", ">=", false),
            ("b", "s> a", true),
            ("<or>", "<or>", false),
        ] {
            assert_eq!(meets(value, wanted), holds, "{value} against {wanted}");
        }
    }

    #[test]
    fn only_specs_about_pools_count() {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>();
        let pool = map(&[("volume_backend_name", "local"), ("media", "ssd")]);
        assert_eq!(unmet(&map(&[("volume_backend_name", "local"), ("capabilities:media", "ssd"), ("quality:iops", "9")]), &pool), None);
        assert_eq!(unmet(&map(&[("volume_backend_name", "other")]), &pool).as_deref(), Some("volume_backend_name=other"));
        assert_eq!(unmet(&map(&[("capabilities:size", "<is> True")]), &pool).as_deref(), Some("capabilities:size=<is> True"));
        assert_eq!(unmet(&map(&[("size", "<is> False")]), &pool).as_deref(), Some("size=<is> False"), "a pool that does not say");
    }
}
