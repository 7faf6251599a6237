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

/// The port that Docker could not publish because somebody else has it by now, if that is what it says.
pub fn conflict(said: &str) -> Option<u16> {
    let address = regex::Regex::new(r"(?:\d+\.\d+\.\d+\.\d+|\[[0-9a-f:]+\]):(\d+)").ok()?;
    let taken = |line: &&str| line.contains("already in use") || line.contains("already allocated");
    // The address on the host comes first, that of the container may follow.
    said.lines().filter(taken).find_map(|line| address.captures(line)?.get(1)?.as_str().parse().ok())
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
    fn a_port_that_was_lost_to_somebody_is_recognised() {
        let said = [
            "Error response from daemon: driver failed programming external connectivity on endpoint x-1 (0a1b): \
             Bind for 127.0.0.1:8000 failed: port is already allocated",
            "failed to set up container networking: driver failed programming external connectivity on endpoint x-1 (0a): \
             failed to bind host port for 127.0.0.1:8000:172.18.0.2:9000/tcp: address already in use",
            "failed to bind host port 127.0.0.1:8000/tcp: address already in use",
            "Error starting userland proxy: listen tcp4 0.0.0.0:8000: bind: address already in use",
            "  | Container x-1 Starting\n  | listen tcp6 [::1]:8000: bind: address already in use",
        ];
        for text in said {
            assert_eq!(conflict(text), Some(8000), "{text}");
        }
        for text in
            ["", "dependency failed to start: container x is unhealthy", "dial tcp 127.0.0.1:8000: connection refused"]
        {
            assert_eq!(conflict(text), None, "{text}");
        }
    }

    #[test]
    fn a_port_that_was_lost_to_somebody_moves_and_the_others_stay() {
        let wanted = wanted(&[("A", 3000), ("B", 3001), ("C", 3002)]);
        let first = choose(&wanted, &BTreeMap::new(), &BTreeSet::new(), |_| true);
        let lost = conflict("Bind for 127.0.0.1:3000 failed: port is already allocated").unwrap();
        // B runs already; the machine calls the lost port free, because it is between two listeners.
        let second = choose(&wanted, &first, &BTreeSet::from([3001]), |port| port != lost && port != 3001);
        assert_eq!(second["A"], Port { wanted: 3000, chosen: 3003 });
        assert_eq!((&second["B"], &second["C"]), (&first["B"], &first["C"]));
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
