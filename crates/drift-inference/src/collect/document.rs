//! A frozen reference as a file.

use std::path::Path;

use serde::{Deserialize, Serialize};
use stats::profile::Reference;

use super::{Choices, Frozen, ReferenceTable, TogetherReference};
use crate::table::{self, Format, TableError};

/// Values of a column that a file keeps one by one; more are sketched.
const VALUES_IN_A_FILE: usize = 4_096;
const FORMAT: &str = "drift-profile/1";

/// A frozen reference.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    format: String,
    /// Rows it was made of.
    pub rows: u64,
    /// Its columns.
    pub columns: Vec<Reference>,
    /// Its columns of numbers together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub together: Option<TogetherReference>,
}

impl Profile {
    /// Of a table.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn of_table(file: &Path, format: &Format, choices: Choices) -> Result<Self, TableError> {
        let thin = choices.thin.max(1);
        let mut table = ReferenceTable::new(choices);
        let rows = table::read(file, format, &mut table)?.div_ceil(thin);
        let Frozen { columns, together } = table.freeze().map_err(|e| TableError::file(file, e))?;
        if columns.is_empty() {
            return Err(TableError::file(file, "no column is left to look at"));
        }
        Ok(Self { format: FORMAT.to_owned(), rows, columns, together })
    }

    /// Of a profile's file if it is one, else of a table.
    ///
    /// # Errors
    /// It cannot be read as either.
    pub fn load(file: &Path, format: &Format, choices: Choices) -> Result<Self, TableError> {
        let named = file.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"));
        if !named {
            return Self::of_table(file, format, choices);
        }
        let text = std::fs::read_to_string(file).map_err(|e| TableError::file(file, e))?;
        let mut profile = Self::parse(&text).map_err(|e| TableError::file(file, format!("is no profile: {e}")))?;
        let names: Vec<String> = profile.columns.iter().map(|c| c.name.clone()).collect();
        choices.check(&names).map_err(|e| TableError::file(file, e))?;
        profile.columns.retain(|c| choices.wants(&c.name));
        // Components of all columns say nothing of some of them.
        profile.together = profile.together.filter(|t| t.columns.iter().all(|name| choices.wants(name)));
        Ok(profile)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let profile: Self = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if profile.format != FORMAT {
            return Err(format!("its format is {:?} and not {FORMAT:?}", profile.format));
        }
        profile.columns.iter().try_for_each(Reference::check)?;
        profile.together.as_ref().map_or(Ok(()), |t| t.pca.check(t.columns.len()))?;
        Ok(profile)
    }

    /// The file's text: sketched where the whole would be too much.
    ///
    /// # Errors
    /// Never for what was made here.
    pub fn document(self) -> Result<String, serde_json::Error> {
        let columns = self.columns.into_iter().map(|c| c.limited(VALUES_IN_A_FILE)).collect();
        Ok(serde_json::to_string(&Self { columns, ..self })? + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_profile_is_refused_with_the_reason() {
        for (text, expected) in [
            ("", "EOF"),
            ("{}", "format"),
            (r#"{"format":"x","rows":1,"columns":[]}"#, "\"x\""),
            (r#"{"format":"drift-profile/1","rows":1,"columns":[{"name":"a"}]}"#, "kind"),
        ] {
            let error = Profile::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
