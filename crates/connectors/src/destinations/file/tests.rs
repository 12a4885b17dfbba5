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
    let (rotation, rotate_after) = (None, None);
    let mut appender =
        Appender { path: path.clone(), sync: true, rotation, open: None, rotate_after };
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

/// All whole files of a rotated one, oldest first, the last one being written.
fn all_files(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path.parent().unwrap()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    // The name without anything behind it is the newest.
    names.sort_by_key(|name| (name == path, name.clone()));
    let read = |name: &PathBuf| match name.extension() {
        Some(extension) if extension == "gz" => {
            let mut text = String::new();
            let file = File::open(name).unwrap();
            flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
            text
        }
        _ => content(name),
    };
    names.iter().map(read).collect()
}

#[tokio::test]
async fn a_full_file_gets_a_name_and_no_line_is_lost_or_split() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.ndjson");
    let file = destination(&path, "rotate = { size = \"1KiB\", keep = 100, gzip = false }");
    let text = |seq: u64| format!("{{\"a\":{seq},\"x\":\"{}\"}}", "x".repeat(300));
    for seq in 0..20 {
        send(&file, [alert(2 * seq, text(2 * seq)), alert(2 * seq + 1, text(2 * seq + 1))])
            .await
            .unwrap();
    }
    let files = all_files(&path);
    assert_eq!(files.len(), 20, "two lines fit, and three do not");
    let expected: String = (0..40).map(|seq| format!("{}\n", text(seq))).collect();
    assert_eq!(files.concat(), expected);
    for entry in fs::read_dir(folder.path()).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o027, 0, "{mode:o}");
    }
}

#[tokio::test]
async fn old_files_are_compressed_and_only_so_many_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.ndjson");
    let file = destination(&path, "rotate = { size = \"1KiB\", keep = 3 }");
    let text = |seq: u64| format!("{{\"a\":{seq},\"x\":\"{}\"}}", "x".repeat(900));
    for seq in 0..10 {
        send(&file, [alert(seq, text(seq))]).await.unwrap();
    }
    let done = || {
        let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.len() == 4 && names.iter().filter(|name| name.ends_with("Z.gz")).count() == 3
    };
    // A rotation that came while the one before was tidied up is done with the next opening.
    let mut reopened = destination(&path, "rotate = { size = \"1KiB\", keep = 3 }");
    let mut seq = 10;
    while !done() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if !done() {
            reopened = destination(&path, "rotate = { size = \"1MiB\", keep = 3 }");
            send(&reopened, [alert(seq, "{}")]).await.unwrap();
            seq += 1;
        }
    }
    let files = all_files(&path);
    assert!(files[0].starts_with("{\"a\":6,"), "{files:?}");
    drop(reopened);
}

#[tokio::test]
async fn a_new_period_begins_a_new_file_and_an_old_one_is_left_alone_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.ndjson");
    let file = destination(&path, "rotate = { every = \"24h\", gzip = false }");
    send(&file, [alert(1, "1")]).await.unwrap();
    let yesterday = SystemTime::now() - Duration::from_secs(24 * 3600);
    File::options().write(true).open(&path).unwrap().set_modified(yesterday).unwrap();
    send(&file, [alert(2, "2")]).await.unwrap();
    send(&file, [alert(3, "3")]).await.unwrap();
    assert_eq!(all_files(&path), ["1\n", "2\n3\n"]);
}

#[tokio::test]
async fn a_file_that_cannot_be_rotated_is_appended_to() {
    let folder = tempfile::tempdir().unwrap();
    // With the time behind it the name is longer than names can be.
    let path = folder.path().join("a".repeat(250));
    let file = destination(&path, "rotate = { size = \"1KiB\" }");
    let text = |seq: u64| format!("{{\"a\":{seq},\"x\":\"{}\"}}", "x".repeat(900));
    for seq in 0..3 {
        send(&file, [alert(seq, text(seq))]).await.unwrap();
    }
    assert_eq!(content(&path).lines().count(), 3);
}

#[test]
fn faults_of_a_rotation_are_named() {
    #[rustfmt::skip]
    let table = [
        ("rotate = {}", "lane.rotate: give `size` or `every`"),
        ("rotate = { size = \"1\" }", "lane.rotate.size: "),
        ("rotate = { size = \"1KiB\", keep = 0 }", "lane.rotate.keep: 0 is not within 1 to 10000"),
        ("rotate = { every = \"1s\" }", "lane.rotate.every: 1s is not within"),
        ("rotate = { size = \"1KiB\", zip = true }", "lane.rotate.zip: there is no such key"),
        ("rotate = true", "lane.rotate: it is true or false"),
    ];
    for (more, expected) in table {
        let said = fault(&KIND, &format!("path = \"/x/a\"\n{more}"), &context());
        assert!(said.contains(expected), "{more}: {said}");
    }
}

/// A file system of one MiB; unmounted when it is dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    /// `None` when this machine does not let us mount.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "holdfast-test"]).arg(folder.path());
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        if !mounted {
            println!("SKIPPED: cannot mount a tmpfs");
        }
        mounted.then(|| Self(folder))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        std::process::Command::new("umount").arg("-l").arg(self.0.path()).status().ok();
    }
}

#[tokio::test]
async fn on_a_full_disk_nothing_is_lost_and_no_line_is_half() {
    let Some(disk) = Disk::mount() else { return };
    let path = disk.0.path().join("alerts.ndjson");
    let file = destination(&path, "");
    let text = |seq: u64| format!("{{\"a\":{seq},\"x\":\"{}\"}}", "x".repeat(10_000));
    let mut seq = 0;
    let error = loop {
        match send(&file, [alert(seq, text(seq))]).await {
            Ok(()) => seq += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.reason, Reason::ServerFault, "{}", Chain(&error));
    let written: String = (0..seq).map(|seq| format!("{}\n", text(seq))).collect();
    assert_eq!(content(&path), written, "the half line is cut off");
    fs::remove_file(&path).unwrap();
    send(&file, [alert(seq, text(seq))]).await.unwrap();
    assert_eq!(content(&path), format!("{}\n", text(seq)));
}
