//! A look at a YAML text before it is parsed: the parser's time grows with the square of the depth of its brackets and
//! of list marks in one line, and no manifest nests deeply.

/// Deepest nesting of brackets, those in quoted text counted as well.
const BRACKETS_MAX: usize = 64;
/// Most blanks and marks that a line begins with.
const LEAD_MAX: usize = 512;

/// The first line that is nested too deeply.
pub(super) fn excess(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (index, line) in text.lines().enumerate() {
        if line.starts_with("---") {
            depth = 0;
        }
        let lead = line
            .bytes()
            .take_while(|c| matches!(c, b' ' | b'\t' | b'-' | b'?' | b':'))
            .count();
        for c in line.bytes() {
            match c {
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > BRACKETS_MAX {
                return Some(index + 1);
            }
        }
        if lead > LEAD_MAX {
            return Some(index + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_by_document() {
        assert_eq!(excess(&"a: [b\n---\n".repeat(1000)), None);
        assert_eq!(excess(&"a: [b]\n".repeat(1000)), None);
        assert_eq!(excess(&"a: {\n".repeat(1000)), Some(65));
        assert_eq!(excess(&format!("a:\n{}x", "- ".repeat(300))), Some(2));
        assert_eq!(excess("a: ]]]]\nb: [[\n"), None);
    }
}
