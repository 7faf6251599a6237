//! Running other programs: captured, or logged line by line with the whole group stopped on drop.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

/// What a captured program left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit code, or -1 when a signal ended it.
    pub code: i32,
    /// Standard output, lossily decoded.
    pub stdout: String,
    /// Standard error, lossily decoded.
    pub stderr: String,
}

impl Output {
    /// True when the exit code is 0.
    pub fn ok(&self) -> bool {
        self.code == 0
    }

    /// The last line that says something, for one-line reasons.
    pub fn last_line(&self) -> String {
        let pick = |text: &str| text.lines().map(str::trim).rfind(|l| !l.is_empty()).map(str::to_owned);
        pick(&self.stderr).or_else(|| pick(&self.stdout)).unwrap_or_else(|| format!("exit code {}", self.code))
    }
}

/// A command with its arguments, without a shell.
pub fn command<I, S>(program: &str, args: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<std::ffi::OsStr>,
{
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs to the end within `limit` and returns what it printed; a non-zero exit is not an error here.
pub async fn capture(mut command: Command, limit: Duration) -> Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let name = program(&command);
    let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
    let output = tokio::time::timeout(limit, child.wait_with_output())
        .await
        .with_context(|| format!("{name} did not end within {}", humantime::format_duration(limit)))??;
    Ok(Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Like [`capture`], and a non-zero exit is an error with the last line as its reason.
pub async fn stdout(command: Command, limit: Duration) -> Result<String> {
    let name = program(&command);
    let output = capture(command, limit).await?;
    if !output.ok() {
        bail!("{name}: {}", output.last_line());
    }
    Ok(output.stdout)
}

/// Runs with the terminal handed through; returns the exit code.
pub async fn inherit(mut command: Command) -> Result<i32> {
    let name = program(&command);
    let status = command
        .stdin(Stdio::inherit())
        .stdout(Stdio::inherit())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .status()
        .await
        .with_context(|| format!("cannot start {name}"))?;
    Ok(status.code().unwrap_or(-1))
}

/// A failed [`logged`] run: its exit code, its last lines and where the rest is.
#[derive(Debug, thiserror::Error)]
#[error("{program} ended with {code}; everything it said is in {}\n{tail}", log.display())]
pub struct LoggedError {
    /// The program that ran.
    pub program: String,
    /// Its exit code.
    pub code: i32,
    /// The last lines of its output.
    pub tail: String,
    /// Where the whole output is.
    pub log: PathBuf,
}

/// Lines kept for an error message.
const TAIL: usize = 12;

/// Runs a long job in a process group of its own. Both streams go to `log`, each line also to
/// `on_line`. When the future is dropped (Ctrl-C), the whole group gets SIGTERM, so that no
/// compiler goes on in the background.
pub async fn logged<F>(mut command: Command, log: &Path, on_line: F) -> Result<()>
where
    F: FnMut(&str) + Send + 'static,
{
    let name = program(&command);
    if let Some(dir) = log.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
    let mut group = Group { child };
    let sink = Arc::new(Mutex::new(Sink { file, tail: Vec::new(), on_line }));
    let out = group.child.stdout.take();
    let err = group.child.stderr.take();
    let readers = async { tokio::join!(pump(out, sink.clone()), pump(err, sink.clone())) };
    // The streams may be held open by a grandchild: the exit of the program itself counts.
    let status = {
        let mut readers = std::pin::pin!(readers);
        tokio::select! {
            status = group.child.wait() => {
                let _ = tokio::time::timeout(Duration::from_millis(500), &mut readers).await;
                status?
            }
            _ = &mut readers => group.child.wait().await?,
        }
    };
    if status.success() {
        return Ok(());
    }
    let tail = sink.lock().map(|s| s.tail.join("\n")).unwrap_or_default();
    Err(LoggedError { program: name, code: status.code().unwrap_or(-1), tail, log: log.to_path_buf() }.into())
}

struct Sink<F> {
    file: File,
    tail: Vec<String>,
    on_line: F,
}

async fn pump<R, F>(stream: Option<R>, sink: Arc<Mutex<Sink<F>>>)
where
    R: AsyncRead + Unpin,
    F: FnMut(&str) + Send,
{
    let Some(stream) = stream else { return };
    let mut lines = BufReader::new(stream).split(b'\n');
    while let Ok(Some(raw)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&raw);
        // Programs redraw a line with carriage returns: only the last state says something.
        let line = line.trim_end().rsplit('\r').next().unwrap_or_default();
        let line = console::strip_ansi_codes(line);
        let Ok(mut sink) = sink.lock() else { return };
        let _ = writeln!(sink.file, "{line}");
        if !line.trim().is_empty() {
            (sink.on_line)(&line);
            if sink.tail.len() == TAIL {
                sink.tail.remove(0);
            }
            sink.tail.push(format!("  | {line}"));
        }
    }
}

/// A child and everything it started.
struct Group {
    child: Child,
}

impl Drop for Group {
    fn drop(&mut self) {
        // `id` is None once the child has been waited for. By the kernel directly: a `kill` in our own group may
        // be ended by the same signal that ends us.
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            let _ = kill_process_group(id, Signal::TERM);
        }
    }
}

fn program(command: &Command) -> String {
    let std = command.as_std();
    let mut name = std.get_program().to_string_lossy().into_owned();
    if let Some(first) = std.get_args().find(|a| !a.to_string_lossy().starts_with('-')) {
        name.push(' ');
        name.push_str(&first.to_string_lossy());
    }
    name
}

/// Finds a program on the PATH.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_says_what_was_said_last() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("x.log");
        let script = "for i in $(seq 1 20); do echo line $i; done; echo why; exit 3";
        let error = logged(command("bash", ["-c", script]), &log, |_| {}).await.unwrap_err();
        let error = error.downcast_ref::<LoggedError>().unwrap();
        assert_eq!(error.code, 3);
        assert!(error.tail.contains("why") && error.tail.lines().count() == TAIL, "{}", error.tail);
        assert_eq!(std::fs::read_to_string(log).unwrap().lines().count(), 21);
    }

    #[tokio::test]
    async fn only_the_last_state_of_a_redrawn_line_counts() {
        let dir = tempfile::tempdir().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = lines.clone();
        let print = command("printf", [r"10%%\r50%%\r\033[32m100%%\033[0m\n"]);
        logged(print, &dir.path().join("x.log"), move |line| sink.lock().unwrap().push(line.to_owned())).await.unwrap();
        assert_eq!(*lines.lock().unwrap(), ["100%"]);
    }

    #[tokio::test]
    async fn what_is_dropped_leaves_no_grandchild_behind() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("x.log");
        let job = logged(command("bash", ["-c", "sleep 300 & echo $!; wait"]), &log, |_| {});
        assert!(tokio::time::timeout(Duration::from_millis(1500), job).await.is_err());
        let pid = std::fs::read_to_string(&log).unwrap().trim().to_owned();
        assert!(!pid.is_empty());
        let proc = PathBuf::from(format!("/proc/{pid}"));
        for _ in 0..50 {
            // An orphan may stay as a zombie where nobody reaps it.
            let state = std::fs::read_to_string(proc.join("stat")).unwrap_or_default();
            if !proc.exists() || state.contains(") Z ") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("process {pid} is still there");
    }

    #[tokio::test]
    async fn a_captured_program_has_a_time_limit() {
        let error = capture(command("sleep", ["60"]), Duration::from_millis(50)).await.unwrap_err();
        assert!(error.to_string().contains("did not end within 50ms"), "{error}");
    }
}
