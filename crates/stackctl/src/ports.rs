//! Published ports: the wanted one, or a free one near it.

use std::collections::{BTreeMap, BTreeSet};

use crate::state::Port;

/// How far from the wanted port a free one is looked for.
const REACH: u16 = 500;

/// Chooses a port for every variable. `recorded` is what an earlier `up` chose, `ours` are ports that
/// this stack's own containers hold, `free` asks the machine.
pub fn choose(
    wanted: &BTreeMap<String, u16>,
    recorded: &BTreeMap<String, Port>,
    ours: &BTreeSet<u16>,
    free: impl Fn(u16) -> bool,
) -> BTreeMap<String, Port> {
    let usable = |port: u16| ours.contains(&port) || free(port);
    let mut taken = BTreeSet::new();
    let mut chosen = BTreeMap::new();
    // First those that keep their port, so that a moved one never takes a neighbour's.
    let mut moved = Vec::new();
    for (name, &want) in wanted {
        let before = recorded.get(name).filter(|port| port.wanted == want).map(|port| port.chosen);
        let keep = [before, Some(want)].into_iter().flatten().find(|&port| usable(port) && !taken.contains(&port));
        match keep {
            Some(port) => {
                taken.insert(port);
                chosen.insert(name.clone(), Port { wanted: want, chosen: port });
            }
            None => moved.push((name, want)),
        }
    }
    for (name, want) in moved {
        let others: BTreeSet<u16> = wanted.values().copied().collect();
        let port = (1..=REACH)
            .filter_map(|step| want.checked_add(step))
            .find(|port| !taken.contains(port) && !others.contains(port) && free(*port))
            // Nothing near it: let compose report the conflict in its own words.
            .unwrap_or(want);
        taken.insert(port);
        chosen.insert(name.clone(), Port { wanted: want, chosen: port });
    }
    chosen
}

/// True when nothing listens on the port, on loopback or on all addresses.
pub fn is_free(port: u16) -> bool {
    std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port)).is_ok()
        && std::net::TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted(ports: &[(&str, u16)]) -> BTreeMap<String, u16> {
        ports.iter().map(|(name, port)| ((*name).to_owned(), *port)).collect()
    }

    #[test]
    fn free_ports_stay() {
        let chosen = choose(&wanted(&[("A", 3000), ("B", 3001)]), &BTreeMap::new(), &BTreeSet::new(), |_| true);
        assert!(chosen.values().all(|port| port.wanted == port.chosen));
    }

    #[test]
    fn a_port_in_use_moves_past_its_neighbours() {
        let chosen = choose(&wanted(&[("A", 3000), ("B", 3001)]), &BTreeMap::new(), &BTreeSet::new(), |p| p != 3000);
        assert_eq!(chosen["A"], Port { wanted: 3000, chosen: 3002 });
        assert_eq!(chosen["B"], Port { wanted: 3001, chosen: 3001 });
    }

    #[test]
    fn a_second_up_keeps_what_the_first_chose() {
        let first = choose(&wanted(&[("A", 3000)]), &BTreeMap::new(), &BTreeSet::new(), |p| p != 3000);
        // The stranger has gone, our container holds 3001.
        let second = choose(&wanted(&[("A", 3000)]), &first, &BTreeSet::from([3001]), |p| p != 3001);
        assert_eq!(first, second);
    }

    #[test]
    fn a_changed_wish_forgets_the_record() {
        let recorded = BTreeMap::from([("A".to_owned(), Port { wanted: 3000, chosen: 3005 })]);
        let chosen = choose(&wanted(&[("A", 4000)]), &recorded, &BTreeSet::new(), |_| true);
        assert_eq!(chosen["A"], Port { wanted: 4000, chosen: 4000 });
    }

    proptest! {
        #[test]
        fn no_two_services_share_a_port(
            ports in proptest::collection::btree_map("[A-H]", 3000u16..3020, 1..8),
            used in proptest::collection::btree_set(3000u16..3040, 0..20),
        ) {
            let chosen = choose(&ports, &BTreeMap::new(), &BTreeSet::new(), |p| !used.contains(&p));
            let distinct: BTreeSet<u16> = chosen.values().map(|port| port.chosen).collect();
            prop_assert_eq!(distinct.len(), ports.len());
            prop_assert!(distinct.is_disjoint(&used));
        }
    }
}
