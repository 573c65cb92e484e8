//! Resolves `User` of the image configuration to ids, with the image's own /etc/passwd and /etc/group.
//!
//! Pure: [`Rootfs`](super::rootfs::Rootfs) reads the two files. The rules are those of the image specification
//! (config.md, "User"), which runtimes and engines share: a number is an id, whatever users are called; without a group
//! the user's own groups are taken, with one no others.

use super::error::BundleError;

/// The image's users and groups, as text.
#[derive(Debug, Clone, Default)]
pub(super) struct Accounts {
    pub(super) passwd: Vec<u8>,
    pub(super) group: Vec<u8>,
}

/// Whose a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// In the order of /etc/group.
    pub(super) groups: Vec<u32>,
    /// The home directory; `/` by default.
    pub(super) home: String,
}

/// A line of /etc/passwd.
struct User<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

impl Accounts {
    /// Looks up `user`, `uid`, `user:group`, `uid:gid`, `uid:group` or `user:gid`; nothing is root.
    pub(super) fn resolve(&self, wanted: &str) -> Result<Account, BundleError> {
        let (user, group) = match wanted.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (wanted, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let number = id(user.as_bytes());
        let known = self.users().find(|known| match number {
            Some(uid) => known.uid == uid,
            None => known.name == user.as_bytes(),
        });
        let uid = match (&known, number) {
            (Some(known), _) => known.uid,
            (None, Some(uid)) => uid,
            (None, None) => return Err(BundleError::NoSuchUser { wanted: wanted.to_owned(), name: user.to_owned() }),
        };
        let gid = match group {
            Some(group) => id(group.as_bytes())
                .or_else(|| self.group(group.as_bytes()))
                .ok_or_else(|| BundleError::NoSuchGroup { wanted: wanted.to_owned(), name: group.to_owned() })?,
            None => known.as_ref().map_or(0, |known| known.gid),
        };
        let mut groups = Vec::new();
        if let (Some(known), None) = (&known, group) {
            for (_, gid, members) in self.groups() {
                if members.split(|&byte| byte == b',').any(|member| member == known.name) && !groups.contains(&gid) {
                    groups.push(gid);
                }
            }
        }
        let home = known.map(|known| known.home).filter(|home| !home.is_empty()).unwrap_or(b"/");
        Ok(Account { uid, gid, groups, home: String::from_utf8_lossy(home).into_owned() })
    }

    fn users(&self) -> impl Iterator<Item = User<'_>> {
        lines(&self.passwd).filter_map(|line| {
            let mut fields = line.split(|&byte| byte == b':');
            let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            Some(User { name, uid: id(uid)?, gid: id(gid)?, home: fields.nth(1).unwrap_or_default() })
        })
    }

    /// Names, ids and members.
    fn groups(&self) -> impl Iterator<Item = (&[u8], u32, &[u8])> {
        lines(&self.group).filter_map(|line| {
            let mut fields = line.split(|&byte| byte == b':');
            let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
            Some((name, id(gid)?, fields.next().unwrap_or_default()))
        })
    }

    fn group(&self, name: &[u8]) -> Option<u32> {
        self.groups().find(|group| group.0 == name).map(|group| group.1)
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.starts_with(b"#"))
}

/// A number that can be an id: the last one means "none" to the kernel.
fn id(text: &[u8]) -> Option<u32> {
    let plain = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let number = str::from_utf8(text).ok()?.parse().ok()?;
    (plain && number != u32::MAX).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: b"root:x:0:0:root:/root:/bin/sh\n# app:x:1:1::/:\n\nbroken:x:one:1::/:\napp:x:1000:100:App:/srv/app:/bin/sh\n\
                      7:x:70:70::/seven:\nbare:x:2000:2000\n"
                .to_vec(),
            group: b"root:x:0:\nusers:x:100:\naudio:x:29:other,app\nvideo:x:44:app\nmirror:x:29:app\nbad:x::app\n".to_vec(),
        }
    }

    fn resolved(wanted: &str) -> (u32, u32, Vec<u32>, String) {
        let account = accounts().resolve(wanted).unwrap();
        (account.uid, account.gid, account.groups, account.home)
    }

    #[test]
    fn every_way_to_name_a_user() {
        let (app, none) = (vec![29, 44], Vec::new);
        let home = || "/srv/app".to_owned();
        assert_eq!(resolved("app"), (1000, 100, app.clone(), home()));
        assert_eq!(resolved("app:"), (1000, 100, app.clone(), home()));
        // The specification applies the groups of the user to its number, too.
        assert_eq!(resolved("1000"), (1000, 100, app, home()));
        assert_eq!(resolved("app:audio"), (1000, 29, none(), home()));
        assert_eq!(resolved("app:5"), (1000, 5, none(), home()));
        assert_eq!(resolved("1000:video"), (1000, 44, none(), home()));
        assert_eq!(resolved("1234:5678"), (1234, 5678, none(), "/".to_owned()));
        assert_eq!(resolved("1234"), (1234, 0, none(), "/".to_owned()));
        assert_eq!(resolved(""), (0, 0, none(), "/root".to_owned()));
        assert_eq!(resolved(":audio"), (0, 29, none(), "/root".to_owned()));
        // A number is an id, though a user be called so.
        assert_eq!(resolved("7"), (7, 0, none(), "/".to_owned()));
        assert_eq!(resolved("bare"), (2000, 2000, none(), "/".to_owned()));
    }

    #[test]
    fn whoever_is_not_there_is_an_error() {
        for (wanted, word) in [("nobody", "user \"nobody\""), ("app:none", "group \"none\""), ("4294967295", "user")] {
            let message = accounts().resolve(wanted).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
        let empty = Accounts::default();
        assert_eq!(empty.resolve("").unwrap(), Account { uid: 0, gid: 0, groups: Vec::new(), home: "/".to_owned() });
        assert!(empty.resolve("root").is_err());
    }
}
