//! A lab's folder for logs, configs and sockets.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// A folder below the system's folder for temporary files, for its maker alone; removed when dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes one. The name begins with `inj<pid>-`, so that [`crate::remove_leftovers`] finds it.
    ///
    /// # Errors
    /// The folder exists already, or can't be made.
    pub fn create(name: &str) -> Result<Self, Error> {
        let path = std::env::temp_dir().join(name);
        // The folder must be new: in a folder that anyone can write to, one that exists may be a trap.
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(Error::io(format!("creating {}", path.display())))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} stays behind: {error}", self.0.display());
        }
    }
}
