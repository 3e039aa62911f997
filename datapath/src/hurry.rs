//! Attaching many stubs at once. Each attachment makes the kernel wait until every CPU has let go of what was there, some
//! milliseconds in which no interface can be changed; told to hurry (`/sys/kernel/rcu_expedited`), it takes a fraction of
//! that, at the price of a nudge to every CPU. So it is told while many are attached, and no longer: a marker beside the
//! pins lets a later run undo what a killed one left.

use std::fs;
use std::path::{Path, PathBuf};

use tracing::debug;

use crate::bpffs::Pins;

const SWITCH: &str = "/sys/kernel/rcu_expedited";
/// From how many ports on it is worth it.
pub(crate) const MANY: usize = 16;

/// The kernel hurries until this is dropped.
#[derive(Debug)]
pub(crate) struct Hurry {
    switch: PathBuf,
    marker: PathBuf,
}

impl Hurry {
    /// Nothing where somebody else has told it to, or it cannot be told.
    pub(crate) fn begin(pins: &Pins) -> Option<Self> {
        Self::by(Path::new(SWITCH), pins.hurry())
    }

    /// Undoes what a run left that was killed.
    pub(crate) fn end_former(pins: &Pins) {
        let marker = pins.hurry();
        if marker.exists() {
            drop(Self {
                switch: SWITCH.into(),
                marker,
            });
        }
    }

    fn by(switch: &Path, marker: PathBuf) -> Option<Self> {
        let is_off = fs::read_to_string(switch).is_ok_and(|text| text.trim() == "0");
        if !is_off || fs::create_dir_all(&marker).is_err() {
            return None;
        }
        let hurry = Self {
            switch: switch.to_owned(),
            marker,
        };
        fs::write(switch, "1").is_ok().then_some(hurry)
    }
}

impl Drop for Hurry {
    fn drop(&mut self) {
        let undone = fs::write(&self.switch, "0").and_then(|()| fs::remove_dir(&self.marker));
        if let Err(error) = undone {
            debug!(%error, "cannot tell the kernel to take its time again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_hurries_only_as_long_and_only_if_nobody_told_it_to() {
        let folder = std::env::temp_dir().join(format!("fabric-hurry-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let (switch, marker) = (folder.join("switch"), folder.join("marker"));
        let says = || fs::read_to_string(&switch).expect("it is there");
        fs::write(&switch, "0\n").expect("a file");
        let hurry = Hurry::by(&switch, marker.clone()).expect("it is off");
        assert!(says() == "1" && marker.exists());
        assert!(Hurry::by(&switch, marker.clone()).is_none(), "it is on");
        drop(hurry);
        assert!(says() == "0" && !marker.exists());
        assert!(Hurry::by(&folder.join("absent"), marker).is_none());
        fs::remove_dir_all(&folder).expect("the folder");
    }
}
