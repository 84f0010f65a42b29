//! "Did you mean …?"

/// The known word that the given one most likely stands for: at most two letters off, and fewer than half of them.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase().replace('-', "_");
    let distances = known.into_iter().map(|candidate| (distance(&word, candidate), candidate));
    let (distance, candidate) = distances.min()?;
    (distance <= 2 && distance * 2 < candidate.len()).then_some(candidate)
}

/// Insertions, deletions and replacements that lead from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[row.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_only_what_is_near() {
        let known = ["kill_grace", "timeout", "om", "warn_after"];
        for (word, expected) in [
            ("time_out", Some("timeout")),
            ("Timeout", Some("timeout")),
            ("kill-grace", Some("kill_grace")),
            ("kil_grace", Some("kill_grace")),
            ("on", None),
            ("memory", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
