//! Images: which one a caller may mean, and how the guard remembers the ones that were good.
//!
//! An image that ran healthy in a service gets a tag beside its own, in its own
//! repository: `REPOSITORY:selfheal-healthy.PROJECT.SERVICE.ID`. The daemon keeps
//! it over restarts of the guard and does not prune the image, and when the image
//! is removed so is the memory of it.

use super::facts::is_lower_hex;

/// What such a tag begins with.
pub const MEMORY_PREFIX: &str = "selfheal-healthy.";

/// Docker's limit for a tag.
const MAX_TAG: usize = 128;
/// Docker's limit for a whole name.
const MAX_NAME: usize = 255;

/// The image that a container is to be made anew from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageChoice {
    /// `@previous`: the last that ran healthy in this service and is not the present one.
    Previous,
    /// By name and tag.
    Name(String),
    /// By id, with `sha256:`.
    Id(String),
}

impl ImageChoice {
    /// Reads what a caller wrote. Names are held to Docker's grammar, so that one can
    /// stand in a path as it is.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "@previous" {
            return Some(Self::Previous);
        }
        if let Some(hex) = text.strip_prefix("sha256:") {
            return (hex.len() == 64 && is_lower_hex(hex)).then(|| Self::Id(text.to_owned()));
        }
        is_name(text).then(|| Self::Name(text.to_owned()))
    }
}

/// Whether this is `[HOST[:PORT]/]PATH[:TAG]`. A digest is not part of it.
fn is_name(text: &str) -> bool {
    let (rest, tag) = match text.rsplit_once(':') {
        Some((rest, tag)) if !tag.contains('/') => (rest, Some(tag)),
        _ => (text, None),
    };
    let tag_is_good = tag.is_none_or(|tag| {
        (1..=MAX_TAG).contains(&tag.len())
            && !tag.starts_with(['.', '-'])
            && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    });
    let mut components = rest.split('/');
    let (host, first) = match rest.split_once('/') {
        // As Docker tells a host from the first part of a path.
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => (components.next(), None),
        _ => (None, components.next()),
    };
    let host_is_good = host.is_none_or(|host| {
        let (name, port) = host.split_once(':').unwrap_or((host, "0"));
        let label = |l: &str| {
            !l.is_empty()
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        name.split('.').all(label) && (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit())
    });
    text.len() <= MAX_NAME && tag_is_good && host_is_good && first.into_iter().chain(components).all(is_component)
}

/// Words of lower-case letters and digits, between them `.`, `_`, `__` or dashes.
fn is_component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = bytes.first().is_some_and(|b| word(*b)) && bytes.last().is_some_and(|b| word(*b));
    let separators = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends && separators.filter(|s| !s.is_empty()).all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

/// The repository of an image's name, without tag and digest; `None` for an id.
pub fn repository(image: &str) -> Option<&str> {
    let name = image.split('@').next().unwrap_or_default();
    let repository = match name.rsplit_once(':') {
        Some((rest, tag)) if !tag.contains('/') => rest,
        _ => name,
    };
    // `sha256:…`, or an id without that.
    let id = repository == "sha256" || (repository.len() >= 12 && is_lower_hex(repository));
    (!id && is_name(repository)).then_some(repository)
}

/// Whether two names are of one repository: Docker writes its own hub's in several ways.
pub fn same_repository(one: &str, other: &str) -> bool {
    fn plain(name: &str) -> Option<&str> {
        let name = repository(name)?;
        let name = name.strip_prefix("docker.io/").or_else(|| name.strip_prefix("index.docker.io/")).unwrap_or(name);
        Some(name.strip_prefix("library/").unwrap_or(name))
    }
    plain(one).is_some_and(|one| Some(one) == plain(other))
}

/// The tag that says: this image ran healthy in this service. `None` if Docker would
/// not take it, or it could be read as that of another service.
pub fn memory_tag(project: &str, service: &str, image_id: &str) -> Option<String> {
    let hex = image_id.strip_prefix("sha256:").unwrap_or(image_id).get(..12).filter(|h| is_lower_hex(h))?;
    let tag = format!("{}{hex}", memory_tags(project, service)?);
    (tag.len() <= MAX_TAG).then_some(tag)
}

/// What the tags of all images that ran healthy in a service begin with.
pub(crate) fn memory_tags(project: &str, service: &str) -> Option<String> {
    let plain = |text: &str, also: &[u8]| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || also.contains(&b))
    };
    // No dot in the project: the first dot after it is where the service begins.
    (plain(project, b"_-") && plain(service, b"_.-")).then(|| format!("{MEMORY_PREFIX}{project}.{service}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dockers_names() {
        for good in [
            "postgres",
            "postgres:17",
            "selfheal/transaction-api:0.1.0",
            "localhost:5000/a/b:x_Y.z-1",
            "registry.example.com/a__b/c--d.e",
            "localhost/a",
        ] {
            assert_eq!(ImageChoice::parse(good), Some(ImageChoice::Name(good.to_owned())), "{good}");
        }
        let id = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(ImageChoice::parse(&id), Some(ImageChoice::Id(id.clone())));
        assert_eq!(ImageChoice::parse("@previous"), Some(ImageChoice::Previous));
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "../a",
            "a/../b",
            "A",
            "a:",
            "a:.x",
            "a:-x",
            "a b",
            "a?b",
            "a%2fb",
            "a#b",
            "a@sha256:00",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "sha256:ab",
            "@next",
            "x.y:port/a",
            "x..y/a",
            "a:b:c",
            &"a".repeat(256),
            &format!("a:{}", "b".repeat(129)),
        ] {
            assert_eq!(ImageChoice::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn repositories_are_told_apart() {
        assert_eq!(repository("localhost:5000/a/b:1"), Some("localhost:5000/a/b"));
        assert_eq!(repository("localhost:5000/a/b"), Some("localhost:5000/a/b"));
        assert_eq!(repository("a:1@sha256:00"), Some("a"));
        assert_eq!(repository(&format!("sha256:{}", "ab".repeat(32))), None);
        assert_eq!(repository("0123456789ab"), None);
        assert!(same_repository("postgres:17", "docker.io/library/postgres:16"));
        assert!(same_repository("x/y:1", "docker.io/x/y"));
        assert!(!same_repository("x/y:1", "x/z:1"));
        assert!(!same_repository("localhost:5000/y:1", "y:1"));
        assert!(!same_repository("sha256:ab", "sha256:ab"));
    }

    #[test]
    fn a_memory_is_of_one_service() {
        let id = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(memory_tag("stack", "web", &id).unwrap(), "selfheal-healthy.stack.web.abababababab");
        assert_eq!(memory_tag("my.stack", "web", &id), None);
        assert_eq!(memory_tag("stack", "we b", &id), None);
        assert_eq!(memory_tag("stack", "", &id), None);
        assert_eq!(memory_tag("stack", &"w".repeat(100), &id), None);
        assert_eq!(memory_tag("stack", "web", "sha256:XY"), None);
    }
}
