//! Which images ran healthy: see [`crate::policy::memory_tag`] for where that is kept.

use super::{Stopped, engine::Engine};
use crate::{
    policy::{Container, ImageChoice, Reason, memory_tag, memory_tags, repository, same_repository},
    upstream::UpstreamError,
};

/// So many good images are remembered of a service.
const KEPT: usize = 3;

/// An image to make a container from.
pub struct Chosen {
    /// What the container is told to be made from.
    pub name: String,
    /// Where it is another than the present one: its id, and what the present one brings.
    pub other: Option<(String, serde_json::Value)>,
}

/// Remembers that an image ran healthy in a container's service.
pub async fn remember(
    engine: Engine<'_>,
    container: &Container,
    image: &str,
    image_id: &str,
) -> Result<bool, UpstreamError> {
    let Some((repository, tag, tags)) = place(container, image, image_id) else { return Ok(false) };
    engine.tag(image_id, repository, &tag).await?;
    let remembered = remembered(engine, repository, &tags).await?;
    for (name, _) in remembered.iter().skip(KEPT) {
        // In use by a container after all: then it stays.
        if let Err(error) = engine.untag(name).await {
            tracing::debug!(%error, image = name, "an image of long ago stays tagged");
        }
    }
    Ok(true)
}

/// Repository, tag, and what all tags of the service begin with.
fn place<'a>(container: &Container, image: &'a str, image_id: &str) -> Option<(&'a str, String, String)> {
    let project = container.project.as_deref()?;
    let tag = memory_tag(project, container.service_key(), image_id)?;
    Some((repository(image)?, tag, memory_tags(project, container.service_key())?))
}

/// All that ran healthy in a service, the last first.
async fn remembered(
    engine: Engine<'_>,
    repository: &str,
    tags: &str,
) -> Result<Vec<(String, super::engine::Image)>, UpstreamError> {
    let mut found = Vec::new();
    for name in engine.images(&format!("{repository}:{tags}*")).await? {
        let tag_fits = name.rsplit_once(':').is_some_and(|(_, tag)| tag.starts_with(tags));
        if tag_fits
            && same_repository(&name, repository)
            && let Some(image) = engine.image(&name).await?
        {
            found.push((name, image));
        }
    }
    found.sort_by(|(_, a), (_, b)| b.tagged_at().cmp(a.tagged_at()));
    Ok(found)
}

/// The image that a container is to be made anew from.
pub async fn choose(
    engine: Engine<'_>,
    container: &Container,
    inspect: &serde_json::Value,
    choice: Option<&ImageChoice>,
) -> Result<Chosen, Stopped> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let (present, present_id) = (text(&inspect["Config"]["Image"]), text(&inspect["Image"]));
    let unproven = |detail: String| Stopped::denied(Reason::ImageNotProven, detail);
    let proof =
        |image_id: &str| place(container, &present, image_id).map(|(repository, tag, _)| format!("{repository}:{tag}"));
    let proven = async |image_id: &str| match proof(image_id) {
        Some(name) => Ok::<_, Stopped>(engine.image(&name).await?.is_some_and(|i| i.id == image_id).then_some(name)),
        None => Ok(None),
    };
    let (name, image) = match choice {
        None => {
            // The name may mean another image by now: a copy is made from the same.
            let named = ImageChoice::parse(&present).is_some()
                && engine.image(&present).await?.is_some_and(|i| i.id == present_id);
            let name = if named { Some(present.clone()) } else { proven(&present_id).await? };
            return Ok(Chosen { name: name.unwrap_or(present_id), other: None });
        }
        Some(ImageChoice::Previous) => {
            let good = match place(container, &present, &present_id) {
                Some((repository, _, tags)) => remembered(engine, repository, &tags).await?,
                None => Vec::new(),
            };
            let previous = good.into_iter().find(|(_, image)| image.id != present_id);
            previous.ok_or_else(|| unproven("none but the present one is remembered".to_owned()))?
        }
        Some(ImageChoice::Name(name)) => {
            let image = engine.image(name).await?.ok_or_else(|| unproven(format!("{name} is not present here")))?;
            if !same_repository(name, &present) {
                return Err(unproven(format!("{name} is of another repository than {present}")));
            }
            (name.clone(), image)
        }
        Some(ImageChoice::Id(id)) => {
            let image = engine.image(id).await?.ok_or_else(|| unproven(format!("{id} is not present here")))?;
            (proof(&image.id).unwrap_or_default(), image)
        }
    };
    if image.id == present_id {
        let name = if name.is_empty() { present_id } else { name };
        return Ok(Chosen { name, other: None });
    }
    if proven(&image.id).await?.is_none() {
        return Err(unproven(format!("{name} did not, as far as is remembered")));
    }
    let defaults = engine.image(&present_id).await?.map(|i| i.config).unwrap_or_default();
    Ok(Chosen { name, other: Some((image.id, defaults)) })
}
