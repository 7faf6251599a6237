//! Containers before and after: which were started, stopped or made anew. Pure.

use std::collections::BTreeMap;

use crate::docker::Container;

/// What identifies one life of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Docker's id: another one after it was made anew.
    pub id: String,
    /// When it was started last, RFC 3339.
    pub started_at: String,
    /// `running`, `exited`, `paused` …
    pub state: String,
}

/// All containers of a project by service.
pub type Lives = BTreeMap<String, Vec<Life>>;

/// The lives of these containers.
pub fn lives(containers: &[Container]) -> Lives {
    let mut lives = Lives::new();
    for container in containers {
        let life =
            Life { id: container.id.clone(), started_at: container.started_at.clone(), state: container.state.clone() };
        lives.entry(container.service.clone()).or_default().push(life);
    }
    lives
}

/// What became of each service that is not as it was.
pub fn changes(before: &Lives, after: &Lives) -> Vec<(String, &'static str)> {
    let none = Vec::new();
    let services = before.keys().chain(after.keys().filter(|service| !before.contains_key(*service)));
    services
        .filter_map(|service| {
            let (old, new) = (before.get(service).unwrap_or(&none), after.get(service).unwrap_or(&none));
            Some((service.clone(), change(old, new)?))
        })
        .collect()
}

fn change(old: &[Life], new: &[Life]) -> Option<&'static str> {
    let same = |life: &Life| new.iter().find(|other| other.id == life.id);
    let what = match () {
        () if new.len() < old.len() => "was removed",
        () if new.len() > old.len() => "was made once more",
        () if old.iter().any(|life| same(life).is_none()) => "was made anew",
        () if old.iter().any(|life| same(life).is_some_and(|new| new.started_at != life.started_at)) => "was started",
        () if old.iter().any(|life| same(life).is_some_and(|new| new.state != life.state)) => "was stopped",
        () => return None,
    };
    Some(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(id: &str, started_at: &str, state: &str) -> Life {
        Life { id: id.into(), started_at: started_at.into(), state: state.into() }
    }

    fn told(old: &[Life], new: &[Life]) -> Vec<(String, &'static str)> {
        let of = |lives: &[Life]| Lives::from([("s".to_owned(), lives.to_vec())]);
        changes(&of(old), &of(new))
    }

    #[test]
    fn each_kind_of_change_is_told_apart() {
        let old = life("a", "1", "running");
        let one = |new: Life| told(std::slice::from_ref(&old), &[new]);
        assert_eq!(one(old.clone()), []);
        assert_eq!(one(life("a", "2", "running")), [("s".into(), "was started")]);
        assert_eq!(one(life("a", "1", "exited")), [("s".into(), "was stopped")]);
        assert_eq!(one(life("b", "1", "running")), [("s".into(), "was made anew")]);
        assert_eq!(told(std::slice::from_ref(&old), &[]), [("s".into(), "was removed")]);
        assert_eq!(
            told(std::slice::from_ref(&old), &[old.clone(), life("b", "2", "running")]),
            [("s".into(), "was made once more")]
        );
        assert_eq!(told(&[], &[old]), [("s".into(), "was made once more")]);
    }

    #[test]
    fn the_order_of_replicas_does_not_matter() {
        let (a, b) = (life("a", "1", "running"), life("b", "1", "running"));
        assert_eq!(told(&[a.clone(), b.clone()], &[b, a]), []);
    }
}
