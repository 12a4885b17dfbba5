//! Who else can read a file that holds a secret. Pure, but for [`Process::current`].

use std::{fmt, fs};

/// Who a process is, as far as the rule asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The group called `wazuh`, if the machine has one.
    pub(super) wazuh_gid: Option<u32>,
}

/// Whose a file is and who may do what with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// What is wrong with a file's access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    OthersRead,
    OthersWrite,
    GroupWrites,
    /// Its group is not the process's own.
    ForeignGroupReads,
    /// Every process of Wazuh, the ones that parse what attackers write included, is in it.
    WazuhReads,
}

/// Whether nobody but its owner, and at most the process's own group, can read a file, and nobody
/// but its owner can change it. The worst finding is named.
pub(super) fn judge(file: Access, process: Process) -> Result<(), Exposure> {
    let allowed = |bits: u32| file.mode & bits != 0;
    if allowed(0o002) {
        Err(Exposure::OthersWrite)
    } else if allowed(0o004) {
        Err(Exposure::OthersRead)
    } else if allowed(0o020) {
        Err(Exposure::GroupWrites)
    } else if !allowed(0o040) {
        Ok(())
    } else if Some(file.gid) == process.wazuh_gid {
        Err(Exposure::WazuhReads)
    } else if file.gid != process.gid {
        Err(Exposure::ForeignGroupReads)
    } else {
        Ok(())
    }
}

/// The command that mends it. The owner matters: `chmod 600` alone on another user's file would
/// lock the process out.
pub(super) fn remedy(path: &str, file: Access, process: Process) -> String {
    if process.uid == 0 || process.uid == file.uid {
        format!("chmod 600 {path}")
    } else {
        format!("chown {} {path} && chmod 600 {path}", process.uid)
    }
}

/// The id of a group in the text of `/etc/group` (group(5): `name:password:gid:members`).
fn group_id(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() == Some(name) { fields.nth(1)?.parse().ok() } else { None }
    })
}

// === impl Process ===

impl Process {
    pub(super) fn current() -> Self {
        // A machine without the file has no such group either.
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            wazuh_gid: group_id(&groups, "wazuh"),
        }
    }
}

// === impl Exposure ===

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OthersRead => "everybody can read it",
            Self::OthersWrite => "everybody can write it",
            Self::GroupWrites => "its group can write it",
            Self::ForeignGroupReads => "a group that is not Holdfast's own can read it",
            Self::WazuhReads => "the group `wazuh` can read it",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 500;
    const WAZUH: u32 = 999;
    const OTHER: u32 = 1000;

    #[test]
    fn only_the_owner_and_the_own_group_may_read_and_only_the_owner_may_write() {
        use Exposure::*;
        #[rustfmt::skip]
        let table = [
            // mode, its group, verdict
            (0o600, OTHER, Ok(())),
            (0o400, OTHER, Ok(())),
            (0o000, OTHER, Ok(())),
            (0o700, OTHER, Ok(())),
            (0o610, OTHER, Ok(())), // Executing reveals nothing.
            (0o601, OTHER, Ok(())),
            (0o640, OWN,   Ok(())),
            (0o440, OWN,   Ok(())),
            (0o640, OTHER, Err(ForeignGroupReads)),
            (0o640, WAZUH, Err(WazuhReads)),
            (0o660, OWN,   Err(GroupWrites)),
            (0o620, OWN,   Err(GroupWrites)),
            (0o604, OWN,   Err(OthersRead)),
            (0o644, OWN,   Err(OthersRead)),
            (0o602, OWN,   Err(OthersWrite)),
            (0o666, WAZUH, Err(OthersWrite)),
            (0o777, OWN,   Err(OthersWrite)),
            (0o100_640, OWN, Ok(())), // With the type of a regular file.
        ];
        let process = Process { uid: 1, gid: OWN, wazuh_gid: Some(WAZUH) };
        for (mode, gid, expected) in table {
            let file = Access { mode, uid: 0, gid };
            assert_eq!(judge(file, process), expected, "mode {mode:o}, group {gid}");
        }
        let as_wazuh = Process { gid: WAZUH, ..process };
        let file = Access { mode: 0o640, uid: 0, gid: WAZUH };
        assert_eq!(judge(file, as_wazuh), Err(WazuhReads), "also when it is the process's own");
        let without = Process { gid: WAZUH, wazuh_gid: None, ..process };
        assert_eq!(judge(file, without), Ok(()));
    }

    #[test]
    fn the_remedy_does_not_lock_the_process_out() {
        let process = Process { uid: 7, gid: 7, wazuh_gid: None };
        let file = Access { mode: 0o644, uid: 7, gid: 7 };
        assert_eq!(remedy("/s", file, process), "chmod 600 /s");
        let foreign = Access { uid: 0, ..file };
        assert_eq!(remedy("/s", foreign, process), "chown 7 /s && chmod 600 /s");
        assert_eq!(remedy("/s", file, Process { uid: 0, ..process }), "chmod 600 /s");
    }

    #[test]
    fn a_group_is_found_by_its_whole_name() {
        let groups = "root:x:0:\nwazuhx:x:1:\n\nbroken\nwazuh:x:999:ossec,holdfast\n";
        assert_eq!(group_id(groups, "wazuh"), Some(999));
        assert_eq!(group_id(groups, "broken"), None);
        assert_eq!(group_id("wazuh:x:many:\n", "wazuh"), None);
        assert_eq!(group_id("", "wazuh"), None);
    }
}
