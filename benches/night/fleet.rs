//! Whom the night is for: many small sites, or one of very many chunks; the same from the same seed.

use std::fs;
use std::path::{Path, PathBuf};

use lifeboat_bench::fleet::site_id;
use lifeboat_bench::{Outcome, Random, quoted};

const SEED: u64 = 1;
/// Every so many sites one has some files that are larger.
const LARGER: usize = 100;
const LARGER_FILES: u64 = 8;

/// A directory of sites, each with a page of some 200 bytes.
pub struct Fleet {
    srv: PathBuf,
    pub sites: usize,
    /// How often sites of it were changed.
    edition: u64,
}

impl Fleet {
    pub fn make(dir: &Path, sites: usize) -> Outcome<Self> {
        println!("making {sites} sites");
        let fleet = Self { srv: dir.join(format!("fleet-{sites}")), sites, edition: 0 };
        for number in 0..sites {
            let site = fleet.srv.join(site_id(number));
            fs::create_dir_all(&site)?;
            fleet.write_page(number)?;
            let files = if number % LARGER == 0 { LARGER_FILES } else { 0 };
            for file in 0..files {
                let mut random = Random::of(SEED, [number as u64, file]);
                let len = 16_000 + random.below(240_000) as usize;
                fs::write(site.join(format!("file-{file}.bin")), bytes(&mut random, len))?;
            }
        }
        Ok(fleet)
    }

    /// Changes the page of so many percent of the sites, others each time, and says how many those are.
    pub fn change(&mut self, percent: f64) -> Outcome<usize> {
        self.edition += 1;
        let changed = ((self.sites as f64 * percent / 100.0).ceil() as usize).clamp(1, self.sites);
        for number in 0..changed {
            self.write_page((number * self.sites / changed + self.edition as usize) % self.sites)?;
        }
        Ok(changed)
    }

    fn write_page(&self, number: usize) -> Outcome<()> {
        let mut random = Random::of(SEED + 1 + self.edition, [number as u64, 0]);
        let words: String = (0..10).map(|_| format!(" {:016x}", random.next())).collect();
        let text = format!("The page of site {number}, edition {}:{words}\n", self.edition);
        Ok(fs::write(self.srv.join(site_id(number)).join("page.txt"), text)?)
    }

    /// It as a section of a configuration.
    pub fn source(&self) -> String {
        source(&self.srv)
    }

    /// One in the middle of it.
    pub fn some_site(&self) -> String {
        site_id(self.sites / 2)
    }
}

/// One site of so many files, each of which is one chunk: what is cut by content has 256 KiB at least, so that small
/// files are the quickest way to many chunks.
pub struct LargeSite {
    srv: PathBuf,
    pub chunks: usize,
}

impl LargeSite {
    const ID: &str = "large";
    const FILE_LEN: usize = 1_000;
    const FILES_OF_A_DIRECTORY: usize = 1_000;

    pub fn make(dir: &Path, chunks: usize) -> Outcome<Self> {
        println!("making a site of {chunks} files");
        let site = Self { srv: dir.join("large"), chunks };
        site.write(0..chunks, 0)?;
        Ok(site)
    }

    /// Changes the first tenth of the files, and says how many those are.
    pub fn change_tenth(&self) -> Outcome<usize> {
        let changed = self.chunks.div_ceil(10);
        self.write(0..changed, 1)?;
        Ok(changed)
    }

    fn write(&self, files: std::ops::Range<usize>, edition: u64) -> Outcome<()> {
        let mut dir = PathBuf::new();
        for file in files {
            let wanted = self.srv.join(Self::ID).join(format!("{:05}", file / Self::FILES_OF_A_DIRECTORY));
            if dir != wanted {
                fs::create_dir_all(&wanted)?;
                dir = wanted;
            }
            let content = bytes(&mut Random::of(SEED + edition, [file as u64, 0]), Self::FILE_LEN);
            fs::write(dir.join(format!("{:03}.bin", file % Self::FILES_OF_A_DIRECTORY)), content)?;
        }
        Ok(())
    }

    pub fn id(&self) -> &'static str {
        Self::ID
    }

    pub fn source(&self) -> String {
        source(&self.srv)
    }
}

fn source(srv: &Path) -> String {
    let path = srv.join("{site}");
    format!("[sources.files]\nkind = \"files\"\npath = {}\n", quoted(&path.display().to_string()))
}

fn bytes(random: &mut Random, len: usize) -> Vec<u8> {
    let words = std::iter::repeat_with(|| random.next().to_le_bytes());
    words.take(len.div_ceil(8)).flatten().take(len).collect()
}
