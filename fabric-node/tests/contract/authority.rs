//! `fabricctl ca export`.

use super::{Daemon, PermissionsExt};

#[tokio::test]
async fn the_roots_are_exported_without_their_keys_and_over_nothing() {
    let daemon = Daemon::start().await;
    let file = daemon.dir.path().join("ca.pem");
    let line = format!("ca export {}", file.display());
    let done = daemon.ctl(&line).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.contains("  AA:AA\n  BB:BB\n"), "{done:?}");
    let text = std::fs::read_to_string(&file).expect("a file");
    assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(!text.contains("KEY"), "{text}");
    let mode = std::fs::metadata(&file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o644);

    let again = daemon.ctl(&line).await;
    assert_eq!(again.code, 2, "{again:?}");
    assert!(again.err.contains("--force"), "{again:?}");
    let forced = daemon.ctl(&format!("{line} --force")).await;
    assert_eq!(forced.code, 0, "{forced:?}");
}
