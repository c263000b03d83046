//! What decides whose a folder is.

use super::*;

/// The id, or the two places that contradict each other: of the head, the cache, and each file.
fn check(head: Option<u64>, cached: Option<u64>, files: &[u64], expected: Result<Option<u64>, (&str, &str)>) {
    let named = |id: Option<u64>, name: &str| id.map(|id| (id, PathBuf::from(name)));
    let said = files.iter().zip(0..).map(|(&id, place)| (id, PathBuf::from(format!("{place}")))).collect();
    let decided = decide(named(head, "head"), named(cached, "cache"), said);
    let decided = decided.map_err(|error| match error {
        OpenError::Journals(one, other) => (one.display().to_string(), other.display().to_string()),
        other => panic!("{other}"),
    });
    let expected = expected.map_err(|(one, other)| (one.to_owned(), other.to_owned()));
    assert_eq!(decided, expected, "{head:?} {cached:?} {files:?}");
}

#[test]
fn the_id_is_never_a_guess() {
    check(None, None, &[], Ok(None));
    check(None, None, &[7, 7], Ok(Some(7)));
    // Whatever most say.
    check(None, None, &[7, 8, 8], Err(("0", "1")));
    check(None, None, &[8, 8, 7], Err(("0", "2")));
    check(None, Some(8), &[], Ok(Some(8)));
    check(None, Some(8), &[7, 7, 8], Ok(Some(8)));
    check(None, Some(8), &[7], Err(("0", "cache")));
    check(Some(7), None, &[], Ok(Some(7)));
    check(Some(7), None, &[8, 8, 8, 7], Ok(Some(7)));
    check(Some(7), None, &[8], Err(("0", "head")));
    // The cache is made anew where it does not fit.
    check(Some(7), Some(8), &[], Ok(Some(7)));
    check(Some(7), Some(8), &[7], Ok(Some(7)));
    check(Some(7), Some(8), &[8, 7], Err(("cache", "head")));
    check(Some(7), Some(8), &[8], Err(("0", "head")));
}
