//! `./stack test`: every suite, each with its own closing line `NAME: N passed, N failed`.

mod cargo;
mod config;
mod console;
mod e2e;
mod fuzz;
mod real;
mod rules;
mod script;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use tokio::task::JoinSet;

use crate::cli::TestArgs;
use crate::compose::ComposeFile;
use crate::daemon;
use crate::dotenv::Vars;
use crate::image;
use crate::layout::duration;
use crate::obtain::{Obtain, Obtained};
use crate::progress::Progress;
use crate::scenario::Check;
use crate::site::Site;
use crate::stack::Stack;
use crate::verify;

/// The suites: quick ones first, and last those that need every image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// cargo fmt --check.
    Fmt,
    /// cargo clippy, all targets, warnings denied.
    Clippy,
    /// cargo doc, warnings denied.
    Docs,
    /// promtool and amtool: rules, routes, inhibitions, templates.
    Rules,
    /// Unit and integration tests against real components.
    Tests,
    /// Each fuzz target for half a minute, from the corpus on.
    Fuzz,
    /// The incident console in a real browser.
    Console,
    /// Each component's own check of its configuration.
    Config,
    /// The whole stack: up, verify, hardening, scenarios, down.
    E2e,
}

/// What a suite found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Checks or tests that passed.
    pub passed: usize,
    /// And that failed.
    pub failed: usize,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// Adds one.
    pub fn count(&mut self, passed: bool) {
        if passed {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }
}

/// What the suites share.
#[derive(Clone)]
pub struct Bench<'a> {
    /// Folders.
    pub site: &'a Site,
    /// Live lines.
    pub progress: Progress,
    /// Images, each obtained once.
    pub obtain: Obtain,
    failures: Failures,
}

/// What failed in one suite, told again in the summary: of a long log often only the end is kept.
type Failures = Arc<Mutex<Vec<String>>>;

impl Bench<'_> {
    /// Prints a check and counts it.
    pub fn check(&self, tally: &mut Tally, check: &Check) {
        tally.count(check.passed);
        let line = verify::line(check);
        if check.passed {
            self.progress.line(line);
        } else {
            self.failed(line);
        }
    }

    /// Prints what failed, and keeps it for the summary.
    pub fn failed(&self, text: impl Into<String>) {
        let text = text.into();
        self.progress.line(&text);
        self.remember(text);
    }

    /// Keeps for the summary what is printed already.
    fn remember(&self, text: String) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    /// Image names for some variables of `.env`, obtained if they are not there yet. What cannot be had
    /// is missing from the answer.
    pub async fn images(&self, variables: &BTreeSet<String>) -> Result<Vars> {
        daemon::ensure(self.site, &self.progress).await?;
        let stack = Stack::open(self.site)?;
        let mut wanted = image::wanted(&stack.file.services, &stack.vars);
        wanted.retain(|image| variables.contains(&image.variable));
        let name = |(wanted, obtained): (image::Wanted, Obtained)| match obtained {
            Obtained::Pinned => Some((wanted.variable, wanted.pinned)),
            Obtained::Local(tag) => Some((wanted.variable, tag)),
            Obtained::LeftOut(_) => None,
        };
        Ok(self.obtain.third_parties(wanted).await?.into_iter().filter_map(name).collect())
    }

    /// The image variables that a compose file uses.
    pub fn image_variables(&self, file: &ComposeFile) -> BTreeSet<String> {
        image::wanted(&file.services, &Vars::new()).into_iter().map(|wanted| wanted.variable).collect()
    }

    /// One image; an error when it cannot be had.
    pub async fn image(&self, variable: &str) -> Result<String> {
        let names = self.images(&BTreeSet::from([variable.to_owned()])).await?;
        names.get(variable).cloned().with_context(|| format!("{variable} cannot be had here"))
    }
}

impl Suite {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    async fn run(self, bench: &Bench<'_>) -> Result<Tally> {
        match self {
            Self::Fmt => cargo::fmt(bench).await,
            Self::Clippy => cargo::clippy(bench).await,
            Self::Docs => cargo::docs(bench).await,
            Self::Rules => rules::run(bench).await,
            Self::Config => config::run(bench).await,
            Self::Tests => real::run(bench).await,
            Self::Fuzz => fuzz::run(bench).await,
            Self::Console => console::run(bench).await,
            Self::E2e => e2e::run(bench).await,
        }
    }
}

/// Obtains the images that the later suites need while the earlier ones run; what has to be compiled takes what these
/// leave of the processors. What the tests need comes first.
async fn all_images(site: Site, progress: Progress, obtain: Obtain) -> Result<()> {
    daemon::ensure(&site, &progress).await?;
    let stack = Stack::open(&site)?;
    let tests = ComposeFile::load(&site.root.join(real::COMPONENTS))?;
    let of_tests = image::wanted(&tests.services, &Vars::new());
    let mut wanted = image::wanted(&stack.file.services, &stack.vars);
    wanted.sort_by_key(|wanted| !of_tests.iter().any(|other| other.variable == wanted.variable));
    obtain.third_parties(wanted).await?;
    Ok(())
}

/// Runs the suites; a failing one does not stop the next.
pub async fn run(site: &Site, args: &TestArgs) -> Result<u8> {
    site.prepare()?;
    let chosen: Vec<Suite> = match args.suite.as_slice() {
        [] => Suite::value_variants().to_vec(),
        some => some.to_vec(),
    };
    if !site.root.join("Cargo.toml").is_file() {
        bail!("{} is not the work tree", site.root.display());
    }
    let started = Instant::now();
    let mut total = Tally::default();
    let mut lines = Vec::new();
    let progress = Progress::new();
    let obtain = Obtain::new(site, &progress)?;
    let needs_all = chosen.contains(&Suite::Config) || chosen.contains(&Suite::E2e);
    let mut images = JoinSet::new();
    if needs_all {
        images.spawn(all_images(site.clone(), progress.clone(), obtain.clone()));
    }
    for suite in chosen {
        let begun = Instant::now();
        println!("\n--- {} ---", suite.name());
        if suite == Suite::E2e {
            // `up` looks for images by itself, and says what cannot be had.
            while images.join_next().await.is_some() {}
        }
        let bench = Bench { site, progress: progress.clone(), obtain: obtain.clone(), failures: Failures::default() };
        let tally = match suite.run(&bench).await {
            Ok(tally) => tally,
            Err(error) => {
                bench.failed(format!("{error:#}"));
                Tally { passed: 0, failed: 1 }
            }
        };
        let line = format!("{}: {} passed, {} failed", suite.name(), tally.passed, tally.failed);
        println!("{line}");
        lines.push(format!("{line} ({})", duration(begun.elapsed())));
        let failures = std::mem::take(&mut *bench.failures.lock().unwrap_or_else(PoisonError::into_inner));
        lines.extend(failures.iter().flat_map(|text| text.lines()).map(|line| format!("  {line}")));
        total.add(tally);
    }
    println!("\n--- summary ---");
    for line in lines {
        println!("{line}");
    }
    println!("total: {} passed, {} failed ({})", total.passed, total.failed, duration(started.elapsed()));
    Ok(u8::from(total.failed > 0 || total.passed == 0))
}
