use std::os::unix::fs::PermissionsExt;

use holdfast_model::{Chain, Member};

use super::*;
use crate::testing::{alert, build, context, fault, shipment};

fn destination(path: &Path, more: &str) -> Arc<dyn Destination> {
    let table = format!("path = {:?}\n{more}", path.to_str().unwrap());
    build(&KIND, &table, &context()).unwrap()
}

async fn send(
    destination: &Arc<dyn Destination>,
    members: impl Into<Vec<Member>>,
) -> Result<(), DeliveryError> {
    match destination.deliver(&shipment(members)).await? {
        Delivered::All(receipt) => assert_eq!(receipt, Receipt::default()),
        Delivered::Each(_) => panic!("a file takes all or none"),
    }
    Ok(())
}

fn content(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn events_become_lines_in_a_file_that_others_cannot_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.ndjson");
    let file = destination(&path, "");
    assert!(!path.exists(), "building touches nothing");
    send(&file, [alert(1, "{\"a\":\n1}")]).await.unwrap();
    send(&file, [alert(2, "{\"a\":2}"), alert(3, "{\"a\":3}")]).await.unwrap();
    assert_eq!(content(&path), "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o007, 0);
    let file = destination(&path, "format = \"envelope\"\nsync = false");
    send(&file, [alert(4, "{}")]).await.unwrap();
    assert!(content(&path).ends_with("}\n{\"id\":\"abcdefghij-4\",\"seq\":4,\"alert\":{}}\n"));
}

#[tokio::test]
async fn a_torn_last_line_is_ended_before_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.ndjson");
    fs::write(&path, "{\"a\":1}\n{\"a\":").unwrap();
    let file = destination(&path, "");
    send(&file, [alert(2, "{\"a\":2}")]).await.unwrap();
    send(&file, [alert(3, "{\"a\":3}")]).await.unwrap();
    assert_eq!(content(&path), "{\"a\":1}\n{\"a\":\n{\"a\":2}\n{\"a\":3}\n");
}

#[tokio::test]
async fn a_file_that_was_moved_deleted_or_cut_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.ndjson");
    let file = destination(&path, "");
    send(&file, [alert(1, "1")]).await.unwrap();
    let moved = folder.path().join("alerts.ndjson.1");
    fs::rename(&path, &moved).unwrap();
    send(&file, [alert(2, "2")]).await.unwrap();
    assert_eq!((content(&moved).as_str(), content(&path).as_str()), ("1\n", "2\n"));
    fs::remove_file(&path).unwrap();
    send(&file, [alert(3, "3")]).await.unwrap();
    assert_eq!(content(&path), "3\n");
    fs::write(&path, "").unwrap();
    send(&file, [alert(4, "4")]).await.unwrap();
    assert_eq!(content(&path), "4\n", "as `copytruncate` does it");
}

#[tokio::test]
async fn a_wrong_path_parks_the_lane_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("plain"), "").unwrap();
    for (path, why) in [("none/a", "cannot open"), ("plain/a", "cannot open"), ("", "cannot open")]
    {
        let path = folder.path().join(path);
        let error = send(&destination(&path, ""), [alert(1, "{}")]).await.unwrap_err();
        assert_eq!(error.reason, Reason::Misconfigured, "{}", Chain(&error));
        let shown = Chain(&error).to_string();
        assert!(shown.contains(why) && shown.contains(path.to_str().unwrap()), "{shown}");
    }
    let error = send(&destination(Path::new("/dev/null"), ""), [alert(1, "{}")]).await.unwrap_err();
    assert_eq!(error.reason, Reason::Misconfigured);
    let relative = fault(&KIND, "path = \"alerts.ndjson\"", &context());
    assert!(
        relative.starts_with("destinations.lane.path: it must begin at the root"),
        "{relative}"
    );
    assert!(fault(&KIND, "", &context()).contains("`path` is missing"));
}

#[test]
fn what_passes_by_itself_does_not_park_the_lane() {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    for kind in [StorageFull, QuotaExceeded, io::ErrorKind::Other] {
        let path = PathBuf::from("/a");
        let opening = AppendError::Open { path: path.clone(), source: kind.into() };
        assert_eq!(DeliveryError::from(opening).reason, Reason::ServerFault);
        let writing = AppendError::Write { path, source: kind.into() };
        assert_eq!(DeliveryError::from(writing).reason, Reason::ServerFault);
    }
}

#[test]
fn half_a_write_is_cut_off_again_unless_somebody_else_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.ndjson");
    fs::write(&path, "whole\nhal").unwrap();
    Open::at(&path, true).unwrap().take_back(6, 3);
    assert_eq!(content(&path), "whole\n");
    fs::write(&path, "whole\nhalf a line of another\n").unwrap();
    Open::at(&path, true).unwrap().take_back(6, 3);
    assert_eq!(content(&path), "whole\nhalf a line of another\n");
}

#[test]
fn a_write_that_fails_is_an_error_and_leaves_no_handle() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.ndjson");
    let mut appender = Appender { path: path.clone(), sync: true, open: None };
    appender.append(b"1\n").unwrap();
    // A handle that cannot write stands in for a disk that will not.
    let read_only = File::open(&path).unwrap();
    let open = appender.open.take().unwrap();
    appender.open = Some(Open { file: read_only, ..open });
    let error = appender.append(b"2\n").unwrap_err();
    assert!(matches!(error, AppendError::Write { .. }), "{error}");
    assert!(appender.open.is_none());
    appender.append(b"3\n").unwrap();
    assert_eq!(content(&path), "1\n3\n");
}

#[test]
fn a_full_disk_is_an_error_that_says_how_much_was_written() {
    // full(4) answers as a full disk does.
    let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else { return };
    let mut written = 0;
    let error = write_counted(&full, b"line\n", &mut written).unwrap_err();
    assert_eq!((error.kind(), written), (io::ErrorKind::StorageFull, 0));
}
