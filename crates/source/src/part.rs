//! Reading: the traits every kind of source implements.

use lifeboat_model::{Entry, PartIdentity, PartProblem, Position, SiteId, SourceKind, SourceName};

use crate::Error;

/// One system that holds parts of many sites.
pub trait Source: Send + Sync {
    fn name(&self) -> &SourceName;

    fn kind(&self) -> SourceKind;

    /// Lists every site the source has now. A root that is missing or unreadable is an error:
    /// emptiness is never taken for an answer.
    fn discover(&self) -> Result<Discovery, Error>;

    /// Begins a read of one site's part at one moment. `Ok(None)`: the source is well and the site
    /// has no such part now. A site id that is unsafe in the path template is an error.
    fn open(&self, site: &SiteId) -> Result<Option<Box<dyn PartReader>>, Error>;

    /// A hint: these sites, sorted, will be opened one by one in this order, so that the source may read
    /// ahead for many of them at once. Others, or another order, are read as well.
    fn expect(&self, _sites: &[SiteId]) {}

    /// Where the site's part is or would be, for plans and for identity checks at restore.
    fn identity(&self, site: &SiteId) -> Result<PartIdentity, Error>;
}

/// What a source has at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// Sorted, without repetition.
    pub sites: Vec<SiteId>,
    /// What matched the template but is no site, and why; for `sources inspect`.
    pub left_out: Vec<PartProblem>,
    /// Customers of whom nothing is backed up.
    pub missed: Vec<MissedSite>,
    /// Identity of the fixed part of the template (the root): another mount since last time means
    /// that the source has failed.
    pub root: PartIdentity,
}

/// A customer's data where no site can be: nobody may believe that they are backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissedSite {
    /// The site that it would be, where its name can be one's.
    pub site: Option<SiteId>,
    /// Where, and why.
    pub problem: PartProblem,
    /// What a person can do.
    pub remedy: String,
}

/// One part, being read.
pub trait PartReader: Send {
    /// The next entry in path order, without extents; directories before what they hold. Entries
    /// that cannot be read are left out and named in the summary.
    fn next_entry(&mut self) -> Result<Option<Entry>, Error>;

    /// Opens the content of a [`lifeboat_model::EntryKind::File`] or `Database` entry. The handle
    /// is independent of the reader and may be read on another thread.
    ///
    /// [`Error::Gone`]: the entry vanished since it was listed; leave it out, nothing is wrong. A
    /// hard link whose first name was left out may be opened itself: its content is then a file's.
    fn open_content(&mut self, entry: &Entry) -> Result<Box<dyn Content>, Error>;

    /// Where chunks of this part are cut.
    fn cutting(&self) -> Cutting;

    /// Ends the read: position, identity, and what was not read as it should.
    fn finish(self: Box<Self>) -> Result<PartSummary, Error>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cutting {
    /// Where the content says, so that an insertion moves cuts only around itself.
    Content,
    /// The same, moved on to the next end of a line.
    Lines,
    /// After each so many bytes.
    Fixed(u32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartSummary {
    pub position: Position,
    pub identity: PartIdentity,
    /// Entries that are missing or uncertain: the snapshot is incomplete when there is one.
    pub problems: Vec<PartProblem>,
    /// Entries that Lifeboat leaves out by rule (sockets, devices, its own staging).
    pub left_out: Vec<PartProblem>,
}

/// The content of one entry, read once from the start.
pub trait Content: Send {
    /// Fills `buffer` from its start as far as it can (less only before a hole or the end).
    fn read(&mut self, buffer: &mut [u8]) -> Result<Read, Error>;

    /// After the end: whether what was read is one consistent state of the entry.
    fn check(&mut self) -> Result<ContentCheck, Error>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// This many bytes were put into the buffer; at least one.
    Data(usize),
    /// The next `len` bytes are a hole.
    Hole(u64),
    End,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentCheck {
    /// Unchanged from open to end; the entry as it is to be recorded (size and times as read).
    Stable(Box<Entry>),
    /// Written to while it was read: read it again, or report it.
    Changed,
}
