//! Files that the pass over the entries does not read: superseded, beyond the checkpoint, foreign.

use std::{fs, io::ErrorKind, path::Path};

use super::{Finding, Kind, Report, Warning, io};
use crate::{
    dir::LogDir,
    disk::{self, DiskError, is_temporary},
    tile::{self, TileId, width_in},
};

/// Foreign files that are told; an intruder may have left many.
const MOST: usize = 20;

#[derive(Default)]
struct Found {
    findings: Vec<Finding>,
    beyond: u64,
    first_beyond: Option<String>,
    unfinished: u64,
    outside: Vec<String>,
}

/// Walks the directory.
///
/// # Errors
/// A folder cannot be read.
pub fn check(root: &Path, dir: &LogDir, report: &mut Report) -> Result<Vec<Finding>, Finding> {
    let mut found = Found::default();
    walk(root, String::new(), dir, &mut found)?;
    let mut warn = |kind, count, message| report.warnings.push(Warning { kind, count, message });
    if let Some(first) = &found.first_beyond {
        let message = format!(
            "{} files (first: {first}) lie beyond the checkpoint: a write was under way; they are no evidence",
            found.beyond
        );
        warn("beyond_checkpoint", found.beyond, message);
    }
    if found.unfinished > 0 {
        let message = format!("{} unfinished writes (.tmp) are not part of the log", found.unfinished);
        warn("unfinished_write", found.unfinished, message);
    }
    if !found.outside.is_empty() {
        let message = format!("not part of the log and not checked: {}", found.outside.join(", "));
        warn("not_part_of_the_log", found.outside.len() as u64, message);
    }
    Ok(found.findings)
}

fn walk(folder: &Path, prefix: String, dir: &LogDir, found: &mut Found) -> Result<(), Finding> {
    let fail = |e: std::io::Error| io(&DiskError::new("list", folder, e), &prefix);
    let mut items = match fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(items) => items,
        // A log that is being written drops partial tiles whose full one is there.
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(fail(e)),
    };
    items.sort_by_key(fs::DirEntry::file_name);
    for item in items {
        let name = item.file_name().to_string_lossy().into_owned();
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        let is_dir = item.file_type().map_err(|e| io(&e, &path))?.is_dir();
        if is_dir && (path == "tile" || path.starts_with("tile/")) {
            walk(&item.path(), path, dir, found)?;
        } else if is_temporary(&name) {
            found.unfinished += 1;
        } else if path == "checkpoint" {
            continue;
        } else if !path.starts_with("tile/") {
            if found.outside.len() < MOST {
                found.outside.push(path);
            }
        } else if let Ok(id) = path.parse::<TileId>() {
            classify(id, dir, found)?;
        } else if found.findings.len() < MOST {
            let message = format!("{path} is no name of the tlog-tiles layout");
            found.findings.push(Finding::file(Kind::Unexpected, path, message));
        }
    }
    Ok(())
}

fn classify(id: TileId, dir: &LogDir, found: &mut Found) -> Result<(), Finding> {
    let width = width_in(dir.size(), id.kind, id.index);
    if id.width == width {
        return Ok(());
    }
    if id.width > width {
        found.beyond += 1;
        found.first_beyond.get_or_insert_with(|| id.to_string());
        return Ok(());
    }
    // An earlier, shorter form of a tile: it must be the beginning of the present one.
    let read = |path: &Path| disk::read(path).map_err(|e| io(&e, id));
    let Some(old) = read(&dir.path(id))? else { return Ok(()) };
    let (_, new) = dir.read(id.kind, id.index).map_err(|e| super::unreadable(&e))?;
    let wrong = match id.kind {
        tile::Kind::Hashes(_) => {
            let whole = old.len() == 32 * usize::from(id.width);
            (!whole || !new.starts_with(&old)).then(|| common(&old, &new) / 32)
        }
        tile::Kind::Entries => {
            let count = tile::Entries::new(&old).filter(Result::is_ok).count();
            let same =
                tile::Entries::new(&old).zip(tile::Entries::new(&new)).take_while(|(a, b)| a.is_ok() && a == b).count();
            (count != usize::from(id.width) || !new.starts_with(&old)).then_some(same)
        }
    };
    if let Some(at) = wrong {
        let kind = if id.kind == tile::Kind::Entries { Kind::EntryAltered } else { Kind::TileAltered };
        let index = id.first_entry() + at.min(usize::from(id.width) - 1) as u64 * entries_per_hash(id);
        let message = format!(
            "{id}, an earlier form, is not the beginning of the present tile; first difference at entry {index}"
        );
        found.findings.push(Finding::at(kind, id, index, message));
    }
    Ok(())
}

/// Entries under one hash of the tile.
fn entries_per_hash(id: TileId) -> u64 {
    match id.kind {
        tile::Kind::Entries => 1,
        tile::Kind::Hashes(level) => tile::WIDTH.saturating_pow(level.into()),
    }
}

fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}
