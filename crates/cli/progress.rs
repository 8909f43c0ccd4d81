//! Progress bars: bytes, rate and time left, for each site at work and for all of them.
//!
//! On a terminal only; anywhere else the reports go nowhere. One bar for the whole, and one for
//! each of the first few sites at work: a fleet must not scroll the plan off the screen.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use lifeboat_model::{ProgressEvent, ProgressPhase, ProgressSink, SiteId};

use crate::output::Output;

/// Sites with a bar of their own at one time.
const SITE_BARS_MAX: usize = 8;
/// How often a line is said where there is no bar, at most.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Characters of a site id that a bar shows.
const NAME_CHARS_MAX: usize = 18;

// With the longest message, `keeping undo`, these fit into 80 columns; the bar takes what is left.
const WHOLE: &str = "{prefix:18} {wide_bar} {bytes:>10}/{total_bytes:10} {bytes_per_sec:>12} {eta:>3} {msg}";
const WHOLE_UNSIZED: &str = "{prefix:18} {spinner} {bytes:>10} {bytes_per_sec:>12} {elapsed:>5} {msg}";

const STEPS: &str = "{prefix:9} {wide_bar} {pos:>5}/{len:5} {eta:>4} {msg:24!}";
/// Where what is told matters more than the bar.
const STEPS_TOLD: &str = "{prefix:9} {bar:12} {pos:>5}/{len:5} {wide_msg}";
const STEPS_UNKNOWN: &str = "{prefix:9} {spinner} {msg}";

/// Bars on stderr, fed by the engine.
pub struct Bars {
    bars: MultiProgress,
    state: Mutex<State>,
}

struct State {
    overall: Option<ProgressBar>,
    sites_planned: u64,
    sites_done: u64,
    sites: HashMap<SiteId, SiteBar>,
}

struct SiteBar {
    bar: Option<ProgressBar>,
    bytes_planned: u64,
}

impl Bars {
    pub fn new(output: &Output) -> Self {
        let state = State { overall: None, sites_planned: 0, sites_done: 0, sites: HashMap::new() };
        Self { bars: output.bars().clone(), state: Mutex::new(state) }
    }

    /// Takes every bar away: what follows is the result. A verb that is run after it counts anew.
    pub fn clear(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, site) in state.sites.drain() {
            site.finish();
        }
        if let Some(bar) = state.overall.take() {
            bar.finish_and_clear();
        }
        (state.sites_planned, state.sites_done) = (0, 0);
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}

impl ProgressSink for Bars {
    fn report(&self, event: ProgressEvent) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            ProgressEvent::SitesPlanned { sites } => state.plan(sites, &self.bars),
            ProgressEvent::SiteStarted { site } => state.start(site, &self.bars),
            ProgressEvent::SiteSized { site, bytes, .. } => state.size(&site, bytes),
            ProgressEvent::PhaseChanged { site, phase } => {
                if let Some(bar) = state.bar(&site) {
                    bar.set_message(phase_name(phase));
                    // What is sized is what is staged; bytes kept for the undo are others.
                    if phase == ProgressPhase::Staging {
                        bar.set_position(0);
                    }
                }
            }
            ProgressEvent::BytesDone { site, bytes } => {
                for bar in state.overall.iter().chain(state.bar(&site)) {
                    bar.inc(bytes);
                }
            }
            ProgressEvent::EntryDone { .. } => {}
            ProgressEvent::SiteFinished { site, .. } => state.finish(&site),
        }
    }
}

impl State {
    fn plan(&mut self, sites: u64, bars: &MultiProgress) {
        self.sites_planned = sites;
        if sites > 1 && self.overall.is_none() {
            self.overall = Some(bars.add(new_bar("all sites")));
        }
        self.count();
    }

    fn start(&mut self, site: SiteId, bars: &MultiProgress) {
        let room = self.sites.values().filter(|site| site.bar.is_some()).count() < SITE_BARS_MAX;
        let bar = room.then(|| match &self.overall {
            Some(overall) => bars.insert_before(overall, new_bar(&short_name(&site))),
            None => bars.add(new_bar(&short_name(&site))),
        });
        self.sites.insert(site, SiteBar { bar, bytes_planned: 0 });
    }

    fn size(&mut self, site: &SiteId, bytes: u64) {
        let Some(known) = self.sites.get_mut(site) else { return };
        let before = std::mem::replace(&mut known.bytes_planned, bytes);
        if let Some(bar) = &known.bar {
            set_len(bar, bytes);
        }
        if let Some(overall) = &self.overall {
            let planned = overall.length().unwrap_or(0).saturating_sub(before).saturating_add(bytes);
            set_len(overall, planned);
        }
    }

    fn finish(&mut self, site: &SiteId) {
        if let Some(site) = self.sites.remove(site) {
            site.finish();
        }
        self.sites_done += 1;
        self.count();
    }

    fn count(&self) {
        if let Some(bar) = &self.overall {
            bar.set_message(format!("{}/{} sites", self.sites_done, self.sites_planned));
        }
    }

    fn bar(&self, site: &SiteId) -> Option<&ProgressBar> {
        self.sites.get(site)?.bar.as_ref()
    }
}

impl SiteBar {
    fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn new_bar(name: &str) -> ProgressBar {
    let bar = ProgressBar::no_length().with_prefix(name.to_owned());
    bar.set_style(style(WHOLE_UNSIZED));
    bar
}

fn set_len(bar: &ProgressBar, bytes: u64) {
    if bar.length().is_none() {
        bar.set_style(style(WHOLE));
    }
    bar.set_length(bytes);
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants; the default style is as good should one ever be wrong.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn short_name(site: &SiteId) -> String {
    let text = site.as_str();
    if text.chars().count() <= NAME_CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(NAME_CHARS_MAX - 1).chain(['…']).collect()
}

fn phase_name(phase: ProgressPhase) -> &'static str {
    match phase {
        ProgressPhase::BackingUp => "backing up",
        ProgressPhase::Planning => "planning",
        ProgressPhase::KeepingUndo => "keeping undo",
        ProgressPhase::Staging => "staging",
        ProgressPhase::Verifying => "verifying",
        ProgressPhase::Switching => "switching",
        ProgressPhase::Checking => "checking",
    }
}

/// One bar for work of a known number of steps, with what is under way.
pub struct Steps {
    bar: ProgressBar,
    lines: Option<Lines>,
}

/// In the place of a bar that nobody would see: a line now and then, when there is something new to say.
struct Lines {
    name: String,
    output: Output,
    last: Mutex<Option<(Instant, String)>>,
}

impl Lines {
    fn say(&self, what: String, now: Instant) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.as_ref().is_none_or(|(then, said)| now.duration_since(*then) >= LINE_EVERY && *said != what);
        if is_due {
            self.output.say(format!("{} {what}", self.name));
            *last = Some((now, what));
        }
    }
}

impl Steps {
    pub fn new(name: &str, output: &Output) -> Self {
        let bar = ProgressBar::new(0).with_prefix(name.to_owned());
        bar.set_style(style(STEPS_UNKNOWN));
        Self { bar: output.bars().add(bar), lines: None }
    }

    /// Steps of which much is told, also where there is no terminal.
    pub fn telling(name: &str, steps: u64, output: &Output) -> Self {
        let mut told = Self::new(name, output);
        if !output.shows_bars() {
            told.lines = Some(Lines { name: name.to_owned(), output: output.clone(), last: Mutex::default() });
        }
        told.bar.set_style(style(STEPS_TOLD));
        told.bar.set_length(steps);
        told
    }

    /// So many are done.
    pub fn at(&self, steps: u64) {
        self.bar.set_position(steps);
    }

    /// Takes the bar away: what follows is the result.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }

    /// So many steps are ahead; until then nothing is counted.
    pub fn begin(&self, steps: u64) {
        self.bar.set_style(style(STEPS));
        self.bar.set_length(steps);
        self.bar.reset_eta();
    }

    pub fn doing(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        self.bar.tick();
        if let Some(lines) = &self.lines {
            let (at, of) = (self.bar.position(), self.bar.length().unwrap_or(0));
            lines.say(format!("{at}/{of} {what}"), Instant::now());
        }
    }

    pub fn step(&self) {
        self.bar.inc(1);
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Manner;
    use crate::testing::{captured, captured_terminal};

    #[test]
    fn without_a_terminal_a_line_is_said_now_and_then_when_it_says_something_new() {
        let (streams, captured) = captured("");
        let steps = Steps::telling("restored", 9, &Output::new(streams, Manner::default()));
        steps.at(2);
        steps.doing("running");
        let begin = Instant::now();
        let lines = steps.lines.as_ref().unwrap();
        lines.say("3/9 running".into(), begin + LINE_EVERY / 2);
        lines.say("4/9 running".into(), begin + LINE_EVERY);
        lines.say("4/9 running".into(), begin + LINE_EVERY * 3);
        assert_eq!(captured.stderr(), "restored 2/9 running\nrestored 4/9 running\n");
        let (streams, _captured) = captured_terminal("");
        assert!(Steps::telling("restored", 9, &Output::new(streams, Manner::default())).lines.is_none());
    }

    #[test]
    fn every_order_of_reports_is_borne() {
        let (streams, _captured) = captured("");
        let bars = Bars::new(&Output::new(streams, Manner::default()));
        let site = |name: &str| SiteId::new(name).unwrap();
        bars.report(ProgressEvent::BytesDone { site: site("never-started"), bytes: 1 });
        bars.report(ProgressEvent::SitesPlanned { sites: 20 });
        for number in 0..20 {
            let site = site(&format!("site-{number}"));
            bars.report(ProgressEvent::SiteStarted { site: site.clone() });
            bars.report(ProgressEvent::SiteSized { site: site.clone(), bytes: 10, entries: 1 });
            bars.report(ProgressEvent::PhaseChanged { site: site.clone(), phase: ProgressPhase::Staging });
            bars.report(ProgressEvent::BytesDone { site: site.clone(), bytes: 20 });
            bars.report(ProgressEvent::SiteSized { site, bytes: 5, entries: 1 });
        }
        let shown = bars.state.lock().unwrap().sites.values().filter(|site| site.bar.is_some()).count();
        assert_eq!(shown, SITE_BARS_MAX);
        bars.report(ProgressEvent::SiteFinished { site: site("site-3"), ok: false });
        assert_eq!(bars.state.lock().unwrap().overall.as_ref().unwrap().length(), Some(100));
        bars.clear();
        bars.report(ProgressEvent::SitesPlanned { sites: 2 });
        assert_eq!(bars.state.lock().unwrap().sites_done, 0, "the next verb begins at none");
        assert_eq!(short_name(&site(&"é".repeat(30))).chars().count(), NAME_CHARS_MAX);
    }
}
