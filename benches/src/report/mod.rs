//! Results for readers: a terminal, a Markdown page with plots, and JSON for programs.

pub(crate) mod hold;
pub(crate) mod json;
mod markdown;
mod svg;
pub(crate) mod table;
pub(crate) mod terminal;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cli::CompareOptions;
use crate::compare::Comparison;
use crate::environment::Environment;

/// A report that can't be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {source}; choose another place with --json or --output", path = path.display())]
pub(crate) struct ReportError {
    path: PathBuf,
    source: io::Error,
}

/// Writes `README.md`, `results.json` and the plots into `directory`.
///
/// # Errors
/// The directory or a file can't be written.
pub(crate) fn write(
    directory: &Path,
    environment: &Environment,
    options: &CompareOptions,
    comparison: &Comparison,
) -> Result<(), ReportError> {
    fs::create_dir_all(directory).map_err(|source| ReportError { path: directory.into(), source })?;
    json::write(&directory.join("results.json"), &json::CompareReport::new(environment, options, comparison))?;
    let plots = svg::plots(comparison, options.traffic.size);
    for plot in &plots {
        write_file(&directory.join(&plot.file), &plot.text)?;
    }
    write_file(&directory.join("README.md"), &markdown::page(environment, options, comparison, &plots))
}

fn write_file(path: &Path, text: &str) -> Result<(), ReportError> {
    fs::write(path, text).map_err(|source| ReportError { path: path.into(), source })
}
