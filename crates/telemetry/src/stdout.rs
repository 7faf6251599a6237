//! Standard output that no request waits for.
//!
//! A thread that is woken for each line costs a request more than the line itself, so lines are
//! gathered for a moment and written together; what is urgent does not wait.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

/// So long a line may wait for others.
const PAUSE: Duration = Duration::from_millis(20);
/// So much is written without waiting for more.
const FULL: usize = 64 * 1024;
/// More than this is dropped: whoever reads has stopped, and a request must not.
const LIMIT: usize = 8 * 1024 * 1024;

#[derive(Default)]
struct Gathered {
    lines: Vec<u8>,
    urgent: bool,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    gathered: Mutex<Gathered>,
    news: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be written next; `None` at the end.
    fn next(&self) -> Option<Vec<u8>> {
        let idle = |g: &mut Gathered| g.lines.is_empty() && !g.closed;
        let mut gathered = self.news.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        if !gathered.closed {
            let patient = |g: &mut Gathered| !g.urgent && !g.closed && g.lines.len() < FULL;
            let waited = self.news.wait_timeout_while(gathered, PAUSE, patient);
            gathered = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        gathered.urgent = false;
        let lines = std::mem::take(&mut gathered.lines);
        (!lines.is_empty()).then_some(lines)
    }
}

/// Takes lines; clones share it.
#[derive(Clone)]
pub(crate) struct Lines(Arc<Shared>);

impl Lines {
    /// Takes a line with its end. An urgent one is written at once, with what came before it.
    pub fn put(&self, line: &[u8], urgent: bool) {
        let mut gathered = self.0.lock();
        if gathered.lines.len() + line.len() > LIMIT {
            return;
        }
        let before = gathered.lines.len();
        gathered.lines.extend_from_slice(line);
        let full = before < FULL && gathered.lines.len() >= FULL;
        let wake = before == 0 || full || (urgent && !gathered.urgent);
        gathered.urgent |= urgent;
        drop(gathered);
        if wake {
            self.0.news.notify_one();
        }
    }
}

/// Writes what is left when it is dropped.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.news.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The process's standard output.
pub(crate) fn start() -> io::Result<(Lines, Writer)> {
    start_on(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

/// Anything else that takes bytes.
pub(crate) fn start_on(mut to: impl Write + Send + 'static) -> io::Result<(Lines, Writer)> {
    let shared = Arc::new(Shared::default());
    let from = shared.clone();
    let thread = std::thread::Builder::new().name("stdout".to_owned()).spawn(move || {
        while let Some(lines) = from.next() {
            // Nowhere is left to report it to.
            let _ = to.write_all(&lines);
        }
    })?;
    Ok((Lines(shared.clone()), Writer { shared, thread: Some(thread) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(bytes.to_vec());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_is_written_once_and_in_order() {
        let sink = Sink::default();
        let (lines, writer) = start_on(sink.clone()).unwrap();
        let mut expected = Vec::new();
        for i in 0..20_000 {
            let line = format!("line {i}\n");
            lines.put(line.as_bytes(), i % 1000 == 0);
            expected.extend_from_slice(line.as_bytes());
        }
        drop(writer);
        let written = sink.0.lock().unwrap();
        assert_eq!(written.concat(), expected);
        assert!(written.len() < 2_000, "{} writes for 20,000 lines", written.len());
    }

    #[test]
    fn a_line_comes_without_another_one_behind_it() {
        let (reader, writer) = io::pipe().unwrap();
        let (lines, _writer) = start_on(writer).unwrap();
        lines.put(b"alone\n", false);
        let mut line = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(reader), &mut line).unwrap();
        assert_eq!(line, "alone\n");
    }

    #[test]
    fn who_does_not_read_stops_nobody() {
        let (reader, writer) = io::pipe().unwrap();
        let (lines, writer) = start_on(writer).unwrap();
        let line = [b'x'; 1024];
        for _ in 0..3 * LIMIT / line.len() {
            lines.put(&line, false);
        }
        assert!(lines.0.lock().lines.len() <= LIMIT);
        drop(reader);
        drop(writer);
    }
}
