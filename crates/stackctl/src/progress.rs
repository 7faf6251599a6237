//! What is being done, how far it is, how long it took: live lines on a terminal, plain lines in a
//! log file.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use console::style;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::layout::{self, duration};

/// How often a log file hears of a step that takes long.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// The progress of one command.
#[derive(Clone)]
pub struct Progress {
    inner: Arc<Inner>,
}

struct Inner {
    live: Option<MultiProgress>,
    started: Instant,
    total: AtomicUsize,
    next: AtomicUsize,
    /// Steps under way, for the heartbeat: number, name, start, last detail.
    active: Mutex<BTreeMap<usize, (String, Instant, String)>>,
}

/// One step; reports its end by [`Step::done`] or [`Step::failed`].
pub struct Step {
    progress: Progress,
    number: usize,
    what: String,
    started: Instant,
    bar: Option<ProgressBar>,
    ended: bool,
}

impl Progress {
    /// Live on a terminal, plain otherwise.
    pub fn new() -> Self {
        let live = console::Term::stdout()
            .is_term()
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stdout_with_hz(8)));
        let inner = Arc::new(Inner {
            live,
            started: Instant::now(),
            total: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            active: Mutex::default(),
        });
        if inner.live.is_none() {
            tokio::spawn(heartbeat(Arc::downgrade(&inner)));
        }
        Self { inner }
    }

    /// Says how many steps more there will be.
    pub fn expect(&self, steps: usize) {
        self.inner.total.fetch_add(steps, Ordering::Relaxed);
    }

    /// Time since the command began.
    pub fn elapsed(&self) -> Duration {
        self.inner.started.elapsed()
    }

    /// A line above the live ones.
    pub fn line(&self, text: impl AsRef<str>) {
        match &self.inner.live {
            Some(live) => {
                let _ = live.println(text.as_ref());
            }
            None => println!("{}", text.as_ref()),
        }
    }

    /// Begins the next step.
    pub fn step(&self, what: impl Into<String>) -> Step {
        let what = what.into();
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed) + 1;
        self.inner.total.fetch_max(number, Ordering::Relaxed);
        let bar = self.inner.live.as_ref().map(|live| {
            let bar = live.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg:.dim}") {
                bar.set_style(style);
            }
            bar.set_prefix(format!("{} {what}", self.count(number)));
            bar.enable_steady_tick(Duration::from_millis(150));
            bar
        });
        if let Ok(mut active) = self.inner.active.lock() {
            active.insert(number, (what.clone(), Instant::now(), String::new()));
        }
        Step { progress: self.clone(), number, what, started: Instant::now(), bar, ended: false }
    }

    fn count(&self, number: usize) -> String {
        let total = self.inner.total.load(Ordering::Relaxed);
        format!("[{number:>width$}/{total}]", width = total.to_string().len())
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

async fn heartbeat(inner: std::sync::Weak<Inner>) {
    let mut every = tokio::time::interval(HEARTBEAT);
    every.tick().await;
    loop {
        every.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        let progress = Progress { inner };
        let lines: Vec<String> = match progress.inner.active.lock() {
            Ok(active) => active
                .iter()
                .filter(|(_, (_, since, _))| since.elapsed() >= HEARTBEAT)
                .map(|(number, (what, since, detail))| {
                    let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
                    let line = format!("… {} {what} {}{detail}", progress.count(*number), duration(since.elapsed()));
                    console::truncate_str(&line, layout::width(), "…").into_owned()
                })
                .collect(),
            Err(_) => return,
        };
        for line in lines {
            println!("{line}");
        }
    }
}

impl Step {
    /// What the step is doing right now.
    pub fn detail(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.trim().to_owned());
        }
        if let Ok(mut active) = self.progress.inner.active.lock()
            && let Some(entry) = active.get_mut(&self.number)
        {
            entry.2 = text.trim().to_owned();
        }
    }

    /// A handle that only reports details, for output callbacks.
    pub fn reporter(&self) -> impl Fn(&str) + Send + Sync + use<> {
        let bar = self.bar.clone();
        let inner = self.progress.inner.clone();
        let number = self.number;
        move |text: &str| {
            if let Some(bar) = &bar {
                bar.set_message(text.trim().to_owned());
            } else if let Ok(mut active) = inner.active.lock()
                && let Some(entry) = active.get_mut(&number)
            {
                entry.2 = text.trim().to_owned();
            }
        }
    }

    /// Ends the step well; `how` says by which way.
    pub fn done(self, how: &str) {
        self.end(style("✓").green().to_string(), how);
    }

    /// Ends the step with something left out or failed.
    pub fn failed(self, why: &str) {
        self.end(style("✗").red().to_string(), why);
    }

    fn end(mut self, mark: String, how: &str) {
        let width = layout::width();
        let took = duration(self.started.elapsed());
        let head = format!("{mark} {} {}", self.progress.count(self.number), self.what);
        let line = format!("{head:<36}  {how}  {}", style(&took).dim());
        let line = if console::measure_text_width(&line) <= width {
            line
        } else {
            let tail = layout::wrap(&format!("{how} ({took})"), width.saturating_sub(4), 0).replace('\n', "\n    ");
            format!("{head}\n    {tail}")
        };
        self.clear();
        self.progress.line(line);
    }

    fn clear(&mut self) {
        self.ended = true;
        if let Ok(mut active) = self.progress.inner.active.lock() {
            active.remove(&self.number);
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.ended {
            self.clear();
        }
    }
}
