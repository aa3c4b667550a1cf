//! Reading the table: at the start, and again at each reload.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use crate::table::complaint::Complaints;
use crate::table::host::{Edited, Host, Inherited, InheritedKind};
use crate::table::{self, Loaded};

/// Where the table comes from.
#[derive(Clone, Debug)]
pub struct Source {
    /// `None`: the embedded table.
    path: Option<PathBuf>,
    inherited: Vec<(String, InheritedKind)>,
}

impl Source {
    #[must_use]
    pub fn new(path: Option<PathBuf>, inherited: Vec<(String, InheritedKind)>) -> Self {
        Self { path, inherited }
    }

    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.path.is_none()
    }

    /// The main file; `None`: the embedded table.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The table and the warnings about it, or every complaint.
    pub fn load(&self) -> Result<Loaded, Complaints> {
        self.load_with(None)
    }

    /// The same, as if a file had been changed already.
    pub fn load_with(&self, edited: Option<Edited>) -> Result<Loaded, Complaints> {
        // Users, groups and ports are looked up anew each time.
        let mut host = Host::probe();
        host.edited = edited;
        host.inherited = Inherited::Known(self.inherited.clone());
        table::load(table::source_or_default(self.path.as_deref()), &host)
    }
}
