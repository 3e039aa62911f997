//! How long a certificate still lives, for people.

/// In its largest unit that says enough.
pub(super) fn left(seconds: u64) -> String {
    match seconds {
        0 => "expired".to_owned(),
        1..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_fits_the_time() {
        let said = [0, 1, 119, 120, 7_199, 7_200, 172_799, 172_800, 90 * 86_400].map(left);
        assert_eq!(said, ["expired", "1s", "119s", "2m", "119m", "2h", "47h", "2d", "90d"]);
    }
}
