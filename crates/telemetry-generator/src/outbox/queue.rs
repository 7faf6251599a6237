//! The outbox of entries for the ledger, which outlives the process.
//!
//! Each push is one file, whole before the push returns (temporary name, fsync, rename, fsync of
//! the folder); a file goes when all its lines have been taken. What a killed process leaves is
//! handed over by the next one. A line may be handed over twice, never in another order: the
//! ledger tells a repeated one by its sequence number.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{Outbox, Parcel};

/// Most lines in one request, half of what the ledger takes.
const MOST_LINES: usize = 5_000;
/// Most bytes in one request, half of what the ledger takes.
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// Lines for one request.
#[derive(Clone, Debug)]
pub struct Lines {
    /// One JSON document a line.
    pub body: Bytes,
}

impl Parcel for Lines {
    type Item = Bytes;
    type Error = Infallible;

    fn pack(waiting: &[Bytes]) -> Result<(Self, usize), Infallible> {
        let mut body = Vec::new();
        let mut count = 0;
        for line in waiting.iter().take(MOST_LINES) {
            if count > 0 && body.len() + line.len() >= MOST_BYTES {
                break;
            }
            body.extend_from_slice(line);
            body.push(b'\n');
            count += 1;
        }
        Ok((Self { body: body.into() }, count))
    }
}

/// One push: its file, if it could be written, and how many of its lines still wait.
#[derive(Debug)]
struct Stored {
    path: Option<PathBuf>,
    left: usize,
    at_us: i64,
}

/// The queue.
#[derive(Debug)]
pub struct Queue {
    outbox: Outbox<Lines>,
    stored: VecDeque<Stored>,
    /// `None` keeps nothing on the disk.
    dir: Option<PathBuf>,
    next: u64,
}

/// What became of a push.
#[derive(Debug)]
pub struct Pushed {
    /// Oldest lines that no longer fit and are gone.
    pub dropped: usize,
    /// Whether the new ones would outlive the process.
    pub durable: io::Result<()>,
}

impl Queue {
    /// A queue that ends with the process.
    pub fn in_memory(bound: usize) -> Self {
        Self { outbox: Outbox::new(bound), stored: VecDeque::new(), dir: None, next: 0 }
    }

    /// The queue in a folder, with what an earlier process left there; in memory without a folder.
    ///
    /// # Errors
    /// The folder cannot be read or made.
    pub fn open(dir: Option<&Path>, bound: usize) -> io::Result<Self> {
        let mut queue = Self::in_memory(bound);
        let Some(dir) = dir else { return Ok(queue) };
        fs::create_dir_all(dir)?;
        queue.dir = Some(dir.to_owned());
        let mut files = Vec::new();
        for item in fs::read_dir(dir)? {
            let path = item?.path();
            match path.file_stem().and_then(|stem| stem.to_str()).and_then(numbers) {
                Some((number, at_us)) if path.extension().is_some_and(|e| e == "jsonl") => {
                    files.push((number, at_us, path));
                }
                // A push that was cut off: it never counted.
                _ => fs::remove_file(&path)?,
            }
        }
        files.sort();
        for (number, at_us, path) in files {
            queue.next = number + 1;
            let text = Bytes::from(fs::read(&path)?);
            let lines: Vec<Bytes> =
                text.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| text.slice_ref(l)).collect();
            let stored = Stored { path: Some(path), left: lines.len(), at_us };
            queue.add(lines, stored);
        }
        Ok(queue)
    }

    /// Adds lines, in the order in which they are to be handed over.
    pub fn push(&mut self, lines: Vec<Bytes>, now_us: i64) -> Pushed {
        if lines.is_empty() {
            return Pushed { dropped: 0, durable: Ok(()) };
        }
        let (path, durable) = match self.write(&lines, now_us) {
            Ok(path) => (path, Ok(())),
            Err(error) => (None, Err(error)),
        };
        let stored = Stored { path, left: lines.len(), at_us: now_us };
        Pushed { dropped: self.add(lines, stored), durable }
    }

    fn write(&mut self, lines: &[Bytes], now_us: i64) -> io::Result<Option<PathBuf>> {
        let Some(dir) = &self.dir else { return Ok(None) };
        let path = dir.join(format!("{:016}-{now_us}.jsonl", self.next));
        let part = path.with_extension("part");
        let written = (|| {
            let mut file = File::create(&part)?;
            file.write_all(&Self::text(lines))?;
            file.sync_all()?;
            fs::rename(&part, &path)?;
            File::open(dir)?.sync_all()
        })();
        if written.is_err() {
            // Half of it would only take room, of which there may be none.
            let _ = fs::remove_file(&part);
        }
        written?;
        self.next += 1;
        Ok(Some(path))
    }

    fn text(lines: &[Bytes]) -> Vec<u8> {
        let mut text = Vec::with_capacity(lines.iter().map(|l| l.len() + 1).sum());
        for line in lines {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        text
    }

    fn add(&mut self, lines: Vec<Bytes>, stored: Stored) -> usize {
        self.stored.push_back(stored);
        let in_flight = self.outbox.in_flight();
        let dropped = self.outbox.push(lines).len();
        self.forget(in_flight, dropped);
        dropped
    }

    /// Lines are gone, `count` of them after the first `skip`.
    fn forget(&mut self, mut skip: usize, mut count: usize) {
        for stored in &mut self.stored {
            if count == 0 {
                break;
            }
            let kept = stored.left.min(skip);
            let gone = (stored.left - kept).min(count);
            skip -= kept;
            count -= gone;
            stored.left -= gone;
        }
        self.stored.retain(|stored| {
            if stored.left == 0
                && let Some(path) = &stored.path
            {
                // If it stays, its lines are handed over again, and told as duplicates.
                let _ = fs::remove_file(path);
            }
            stored.left > 0
        });
    }

    /// What to hand over now; the same again until it was [`Queue::taken`].
    pub fn parcel(&mut self) -> Option<Lines> {
        match self.outbox.batch() {
            Ok(parcel) => parcel,
            Err(never) => match never {},
        }
    }

    /// The parcel was taken.
    pub fn taken(&mut self) {
        let count = self.outbox.written();
        self.forget(0, count);
    }

    /// Lines that wait.
    pub fn pending(&self) -> usize {
        self.outbox.pending()
    }

    /// When the oldest line that waits was pushed, µs since 1970.
    pub fn oldest_us(&self) -> Option<i64> {
        self.stored.front().map(|stored| stored.at_us)
    }
}

/// `0000000000000012-1769864400000000`: number and instant.
fn numbers(stem: &str) -> Option<(u64, i64)> {
    let (number, at_us) = stem.split_once('-')?;
    Some((number.parse().ok()?, at_us.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(range: std::ops::Range<usize>) -> Vec<Bytes> {
        range.map(|n| Bytes::from(format!("{{\"n\":{n}}}"))).collect()
    }

    fn bodies(queue: &mut Queue) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(parcel) = queue.parcel() {
            all.extend(std::str::from_utf8(&parcel.body).unwrap().lines().map(str::to_owned));
            queue.taken();
        }
        all
    }

    fn texts(range: std::ops::Range<usize>) -> Vec<String> {
        lines(range).iter().map(|l| String::from_utf8(l.to_vec()).unwrap()).collect()
    }

    fn files(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn what_was_not_taken_outlives_the_process_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut queue = Queue::open(Some(dir.path()), 1_000).unwrap();
        for n in 0..12 {
            assert!(queue.push(lines(n * 3..n * 3 + 3), n as i64).durable.is_ok());
        }
        assert_eq!((queue.pending(), queue.oldest_us(), files(dir.path())), (36, Some(0), 12));
        let first = queue.parcel().unwrap();
        assert_eq!(queue.parcel().unwrap().body, first.body, "the same until it was taken");
        drop(queue);
        // Killed before it was told that the parcel was taken: handed over again.
        fs::write(dir.path().join("0000000000000099-5.part"), b"half").unwrap();
        let mut queue = Queue::open(Some(dir.path()), 1_000).unwrap();
        assert_eq!((queue.pending(), queue.oldest_us()), (36, Some(0)));
        assert!(queue.push(lines(36..40), 77).durable.is_ok());
        assert_eq!(bodies(&mut queue), texts(0..40));
        assert_eq!((files(dir.path()), queue.oldest_us(), queue.pending()), (0, None, 0));
    }

    #[test]
    fn beyond_the_bound_the_oldest_go_and_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut queue = Queue::open(Some(dir.path()), 4).unwrap();
        assert_eq!(queue.push(lines(0..3), 1).dropped, 0);
        let frozen = queue.parcel().unwrap();
        assert_eq!(queue.push(lines(3..7), 2).dropped, 0, "those in flight do not count");
        assert_eq!(queue.push(lines(7..10), 3).dropped, 3);
        assert_eq!(queue.parcel().unwrap().body, frozen.body);
        assert_eq!(bodies(&mut queue), [texts(0..3), texts(6..10)].concat());
        assert_eq!(files(dir.path()), 0);
    }

    #[test]
    fn a_disk_that_cannot_be_written_is_told_and_nothing_is_lost_while_the_process_lives() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("queue");
        let mut queue = Queue::open(Some(&folder), 10).unwrap();
        fs::remove_dir(&folder).unwrap();
        assert!(queue.push(lines(0..2), 1).durable.is_err());
        fs::create_dir(&folder).unwrap();
        assert!(queue.push(lines(2..4), 2).durable.is_ok());
        assert_eq!(bodies(&mut queue), texts(0..4));
        assert_eq!(files(&folder), 0);
    }

    proptest! {
        // Each push waits for the disk.
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn whatever_happens_each_line_is_taken_and_none_out_of_order(
            steps in proptest::collection::vec((0usize..4, 1usize..9), 1..24),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut queue = Queue::open(Some(dir.path()), 10_000).unwrap();
            let (mut made, mut seen) = (0, Vec::new());
            for (kind, count) in steps {
                match kind {
                    0 | 1 => {
                        prop_assert!(queue.push(lines(made..made + count), made as i64).durable.is_ok());
                        made += count;
                    }
                    2 => if let Some(parcel) = queue.parcel() {
                        seen.extend(std::str::from_utf8(&parcel.body).unwrap().lines().map(str::to_owned));
                        // Odd: killed before it was noted.
                        if count % 2 == 0 { queue.taken(); } else {
                            queue = Queue::open(Some(dir.path()), 10_000).unwrap();
                        }
                    },
                    _ => queue = Queue::open(Some(dir.path()), 10_000).unwrap(),
                }
            }
            seen.extend(bodies(&mut queue));
            // As the ledger sees it: what is not new is a duplicate.
            let mut next = 0;
            for line in seen {
                let n: usize = line.trim_start_matches("{\"n\":").trim_end_matches('}').parse().unwrap();
                prop_assert!(n <= next, "{} was left out", next);
                next = next.max(n + 1);
            }
            prop_assert_eq!(next, made);
        }
    }
}
