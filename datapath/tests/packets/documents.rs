//! What is written down for operators is whole.

/// The names of the maps in the programs' source.
fn maps() -> impl Iterator<Item = &'static str> {
    let source = include_str!("../../ebpf/src/maps.rs");
    source
        .lines()
        .filter_map(|line| line.strip_prefix("pub static ")?.split(':').next())
}

#[test]
fn every_map_is_in_the_tables() {
    let document = include_str!("../../TABLES.md");
    for map in maps() {
        let is_there = document
            .lines()
            .any(|line| line.starts_with("| ") && line.contains(&format!("`{map}`")));
        assert!(is_there, "{map} is not in TABLES.md");
    }
    assert!(maps().count() > 20, "the source is read");
}
