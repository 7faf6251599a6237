//! What can go wrong with the lake, by what the caller should do about it.

use object_store::client::HttpError;

/// An operation on the lake failed.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The store cannot be reached or answers 5xx: try again later, nothing is lost.
    #[error("the lake is unavailable: {detail}")]
    Unavailable {
        /// The HTTP status, where there was an answer.
        status: Option<u16>,
        /// What was tried and what happened.
        detail: String,
    },
    /// The store answered and refused: credentials, bucket or request are wrong.
    #[error("the lake refused the request: {0}")]
    Refused(String),
    /// No such object (or bucket).
    #[error("'{0}' is not in the lake")]
    NotFound(String),
    /// An object is not what its manifest or the schema says: set it aside.
    #[error("'{object}' is corrupt: {reason}")]
    Corrupt {
        /// The object's path.
        object: String,
        /// What does not fit.
        reason: String,
    },
    /// Readings could not be encoded: a defect of this program.
    #[error("cannot encode readings: {0}")]
    Encode(String),
}

impl LakeError {
    /// Trying again later may help.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    pub(crate) fn corrupt(object: impl Into<String>, reason: impl ToString) -> Self {
        Self::Corrupt { object: object.into(), reason: reason.to_string() }
    }
}

impl From<object_store::Error> for LakeError {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as E;
        match error {
            E::NotFound { path, .. } => Self::NotFound(path),
            E::Generic { .. } | E::JoinError { .. } => {
                let detail = chain(&error);
                let status = status_in(&detail);
                let transport = source_is::<HttpError>(&error) || source_is::<std::io::Error>(&error);
                if transport || status.is_some_and(|s| s >= 500 || s == 429 || s == 408) {
                    Self::Unavailable { status, detail }
                } else if status == Some(404) {
                    // A listing of a bucket that does not exist.
                    Self::NotFound("the bucket".to_owned())
                } else {
                    Self::Refused(detail)
                }
            }
            other => Self::Refused(chain(&other)),
        }
    }
}

/// The error and its causes on one line; a cause that its parent already quotes is left out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = inner.source();
    }
    text.replace(['\n', '\r'], " ")
}

fn source_is<T: std::error::Error + 'static>(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(error.source(), |e| e.source()).any(|e| e.is::<T>())
}

/// `object_store` keeps the type that carries the status private; its text is all there is.
fn status_in(text: &str) -> Option<u16> {
    let rest = &text[text.find("status code: ")? + "status code: ".len()..];
    rest.get(..3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_found_in_the_text() {
        assert_eq!(status_in("Server returned non-2xx status code: 503 Service Unavailable: "), Some(503));
        assert_eq!(status_in("no status here"), None);
        assert_eq!(status_in("status code: "), None);
    }
}
