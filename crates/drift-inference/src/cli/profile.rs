//! `drift-inference profile`.

use std::path::PathBuf;

use super::{TableArgs, write_file};
use crate::collect::Profile;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// CSV or Parquet file.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// File to write.
    #[arg(long, value_name = "PROFILE.json")]
    out: PathBuf,
    #[command(flatten)]
    table: TableArgs,
}

pub fn run(args: &Args) -> anyhow::Result<u8> {
    let profile = Profile::of_table(&args.data, &args.table.format()?, args.table.choices())?;
    anyhow::ensure!(profile.rows > 0, "{}: has no rows: a profile of nothing is no reference", args.data.display());
    let (rows, columns) = (profile.rows, profile.columns.len());
    write_file(&args.out, &profile.document()?)?;
    eprintln!("{}: {rows} rows, {columns} columns", args.out.display());
    Ok(0)
}
