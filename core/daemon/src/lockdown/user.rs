//! Becoming an unprivileged user.

use super::LockdownError;
use std::str::FromStr;

/// A user by name, or by numbers: `glasshive`, `990:990`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    name: String,
    ids: Option<(u32, u32)>,
}

impl FromStr for User {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ids = text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
        Ok(Self { name: text.to_owned(), ids })
    }
}

impl User {
    /// User and group id, from the numbers or `/etc/passwd`.
    ///
    /// # Errors
    /// One line when there is no such user.
    pub fn ids(&self) -> Result<(u32, u32), LockdownError> {
        if let Some(ids) = self.ids {
            return Ok(ids);
        }
        let table = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        find(&table, &self.name).ok_or_else(|| {
            LockdownError::User(format!("{:?} is not in /etc/passwd: add it (useradd --system {0}) or write UID:GID", self.name))
        })
    }

    pub(super) fn take(&self) -> Result<(), LockdownError> {
        let (uid, gid) = self.ids()?;
        if rustix::process::getuid().is_root() {
            return crate::sys::become_user(uid, gid).map_err(|error| {
                LockdownError::User(format!("{:?} cannot be taken: {error}: CAP_SETUID and CAP_SETGID are needed", self.name))
            });
        }
        let now = rustix::process::getuid().as_raw();
        if now == uid {
            Ok(())
        } else {
            Err(LockdownError::User(format!("is {now} and cannot become {:?}: start as root or as that user", self.name)))
        }
    }
}

fn find(table: &str, name: &str) -> Option<(u32, u32)> {
    table.lines().find_map(|line| {
        let mut cells = line.split(':');
        (cells.next()? == name).then_some(())?;
        Some((cells.nth(1)?.parse().ok()?, cells.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users() {
        let table = "root:x:0:0:root:/root:/bin/sh\n# odd\nglasshive:x:990:991::/:/usr/sbin/nologin\nbad:x:y:z::/:\n";
        assert_eq!(find(table, "glasshive"), Some((990, 991)));
        assert_eq!(find(table, "glass"), None);
        assert_eq!(find(table, "bad"), None);
        assert_eq!("12:34".parse::<User>().unwrap().ids().unwrap(), (12, 34));
        let error = "no such user".parse::<User>().unwrap().ids().unwrap_err().to_string();
        assert!(error.contains("/etc/passwd") && !error.contains('\n'), "{error}");
    }
}
