//! Which known word was probably meant by one that is not known. Pure; refuses to guess where none is near.

/// Least likeness that makes a suggestion, from 0 (nothing in common) to 1 (the same).
const LIKENESS_MIN: f64 = 0.5;

/// The known word that is most like the given one, in any case; none if no one is half like it.
pub(crate) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_lowercase();
    let likeness = |word: &str| strsim::normalized_damerau_levenshtein(&given, &word.to_lowercase());
    let near = known
        .into_iter()
        .map(|word| (likeness(word), word))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN);
    near.max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_near_word_is_suggested() {
        let head = ["kind", "domain", "name", "spec", "status"];
        for (given, wanted) in [
            ("naem", Some("name")),
            ("NAME", Some("name")),
            ("domian", Some("domain")),
            ("names", Some("name")),
            ("apiVersion", None),
            ("metadata", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, head), wanted, "{given:?}");
        }
        assert_eq!(nearest("name", []), None);
    }
}
