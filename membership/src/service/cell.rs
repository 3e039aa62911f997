//! How many nodes a cluster may have: one cell. The list of all of them, with those that were restarted of late twice, must
//! fit one gossip message, or gossip ends everywhere at once.

/// Most nodes of one cell.
pub(super) const MAX: usize = 800;
/// Say that the cell is getting full when it is so in parts of ten.
const FILLED: usize = 6;

/// Whether one more finds room beside so many.
pub(super) fn has_room(nodes: usize) -> bool {
    nodes < MAX
}

/// What an operator is told while the cell is getting full.
pub(super) fn filling(nodes: usize) -> Option<String> {
    let what = if has_room(nodes) {
        "make another cluster for further hosts in time"
    } else {
        "no node can join"
    };
    (nodes * 10 >= MAX * FILLED).then(|| format!("the cluster has {nodes} of at most {MAX} nodes: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_place_is_given_and_none_beyond() {
        assert!(has_room(0) && has_room(MAX - 1));
        assert!(!has_room(MAX) && !has_room(MAX + 1));
    }

    #[test]
    fn it_is_said_from_sixty_percent_on() {
        assert_eq!((filling(0), filling(479)), (None, None));
        assert!(filling(480).is_some_and(|words| words.contains("480 of at most 800")));
        assert!(filling(799).is_some_and(|words| words.contains("in time")));
        assert!(filling(800).is_some_and(|words| words.contains("no node can join")));
    }
}
