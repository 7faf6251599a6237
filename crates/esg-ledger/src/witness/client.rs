//! The log's side of the witness protocol.

use std::path::Path;

use telemetry::client::Client;

use super::decide::Request;
use crate::{
    checkpoint::Checkpoint,
    dir::{LogDir, ReadError},
    merkle::consistency_proof,
    note::{Note, Signature, VerifierKey},
    tile::TileNodes,
};

/// What came of asking a witness.
#[derive(Debug)]
pub enum Asked {
    /// It cosigned.
    Cosigned(Signature),
    /// It has seen a log that this one does not continue. Somebody rewrote history.
    Disagrees(String),
    /// It could not be reached, or did not answer as it should.
    Away(String),
}

/// Where a witness is.
#[derive(Clone)]
pub struct WitnessClient {
    http: Client,
    url: String,
    key: VerifierKey,
    /// Size that it cosigned last, as far as known.
    known: u64,
}

impl WitnessClient {
    /// A witness at `url` with this key.
    pub fn new(http: Client, url: &str, key: VerifierKey) -> Self {
        Self { http, url: url.trim_end_matches('/').to_owned(), key, known: 0 }
    }

    /// Asks for a cosignature on a published checkpoint.
    pub async fn ask(&mut self, root: &Path, checkpoint: &Checkpoint, note: &Note) -> Asked {
        // At most twice: the first answer may be the size that the witness has.
        for _ in 0..2 {
            if self.known > checkpoint.size {
                return Asked::Disagrees(format!(
                    "it cosigned {} entries, the log has {}",
                    self.known, checkpoint.size
                ));
            }
            let proof = match proof(root, self.known, checkpoint.size).await {
                Ok(proof) => proof,
                Err(why) => return Asked::Away(why),
            };
            let request = Request { old: self.known, proof, checkpoint: note.to_string().into_bytes() };
            let sent = self.http.post(format!("{}/add-checkpoint", self.url)).body(request.to_body()).send().await;
            let (status, body) = match sent {
                Ok(response) => (response.status().as_u16(), response.text().await.unwrap_or_default()),
                Err(e) => return Asked::Away(e.to_string()),
            };
            match status {
                200 => return self.cosignature(checkpoint, note, &body),
                409 => match body.trim().parse() {
                    Ok(size) => self.known = size,
                    Err(_) => return Asked::Away("409 without a size".to_owned()),
                },
                422 => return Asked::Disagrees(body),
                other => return Asked::Away(format!("it answered {other}")),
            }
        }
        Asked::Away("it changes its mind about the size".to_owned())
    }

    fn cosignature(&mut self, checkpoint: &Checkpoint, note: &Note, body: &str) -> Asked {
        for line in body.lines() {
            let Ok(signature) = line.parse::<Signature>() else { continue };
            if !signature.is_by(&self.key) {
                continue;
            }
            let mut cosigned = Note::new(note.text().to_owned());
            cosigned.add(signature.clone());
            return match cosigned.verify(&self.key) {
                Ok(_) => {
                    self.known = checkpoint.size;
                    Asked::Cosigned(signature)
                }
                Err(e) => Asked::Away(e.to_string()),
            };
        }
        Asked::Away("its answer has no line by its key".to_owned())
    }
}

async fn proof(root: &Path, old: u64, new: u64) -> Result<Vec<crate::merkle::Hash>, String> {
    let mut dir = LogDir::new(root, new);
    let work = move || -> Result<_, ReadError> { consistency_proof(&mut TileNodes::new(&mut dir, new), old, new) };
    tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}
