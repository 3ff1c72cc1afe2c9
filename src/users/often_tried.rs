//! Passwords that everybody tries first: those most often found among leaked ones, of at least eight characters.
//!
//! The list is `often_tried.txt`: lower case, without spaces, sorted by bytes. It is made from the lists of zxcvbn (MIT) and
//! Django (BSD), with phrases, doubled words and keyboard walks of fifteen characters and more added. A complete list of
//! leaked passwords is gigabytes; what is on none of these is guessed by chance only, and that the throttle sees to.

use std::sync::LazyLock;

static LIST: LazyLock<Vec<&str>> = LazyLock::new(|| include_str!("often_tried.txt").lines().collect());

/// Whether a password is among them; `folded` is in lower case and without spaces.
pub(super) fn is_often_tried(folded: &str) -> bool {
    LIST.binary_search(&folded).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_so_that_each_of_it_is_found() {
        assert!(LIST.len() > 10_000 && LIST.is_sorted());
        assert!(LIST.iter().all(|word| word.chars().count() >= 8 && is_often_tried(word)));
        for known in ["password", "123456789", "qwertyuiop", "iloveyou1", "changemechangeme", "1qaz2wsx3edc4rfv"] {
            assert!(is_often_tried(known), "{known}");
        }
        for other in ["", "nine green otters", "ninegreenottersswimhome"] {
            assert!(!is_often_tried(other), "{other}");
        }
    }
}
