//! See [`crate::fuzzing`].

use super::user::Accounts;

/// A user, /etc/passwd and /etc/group, separated by NUL: a number is the user itself, whatever the files say.
pub fn accounts(input: &[u8]) {
    let [wanted, passwd, group] = crate::core::text::parts(input);
    let Ok(wanted) = std::str::from_utf8(wanted) else { return };
    let accounts = Accounts { passwd: passwd.to_vec(), group: group.to_vec() };
    if let Ok(account) = accounts.resolve(wanted) {
        let user = wanted.split(':').next().unwrap_or_default();
        let number: Option<u32> = user.parse().ok().filter(|_| user.bytes().all(|byte| byte.is_ascii_digit()));
        assert!(number.is_none_or(|uid| account.uid == uid), "{wanted:?} is {account:?}");
    }
}
