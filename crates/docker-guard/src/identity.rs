//! Which container am I?

use crate::policy::ContainerId;

/// Files that Docker binds into every container from a directory named after its id.
const BOUND: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

/// Reads the id of the container that this process runs in from
/// `/proc/self/mountinfo`; `None` outside of one. The host name is not asked:
/// anyone may set it.
pub fn own_id(mountinfo: &str) -> Option<ContainerId> {
    mountinfo.lines().find_map(|line| {
        // 36 35 98:0 /docker/containers/<id>/hostname /etc/hostname rw,… (see proc(5))
        let mut fields = line.split(' ').skip(3);
        let (root, mount_point) = (fields.next()?, fields.next()?);
        if !BOUND.contains(&mount_point) {
            return None;
        }
        let (_, rest) = root.split_once("/containers/")?;
        ContainerId::parse(rest.split('/').next()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_found_where_docker_binds_files() {
        let id = "ab".repeat(32);
        let inside = format!(
            "1 0 0:1 / / rw - overlay overlay rw\n\
             2 1 8:1 /var/lib/docker/containers/{id}/resolv.conf /etc/resolv.conf rw - ext4 /dev/sda1 rw\n"
        );
        assert_eq!(own_id(&inside).unwrap().as_str(), id);
    }

    #[test]
    fn a_host_that_runs_containers_is_no_container() {
        let id = "ab".repeat(32);
        let host = format!(
            "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
             2 1 0:5 / /var/lib/docker/containers/{id}/mounts/shm rw - tmpfs shm rw\n\
             3 1 0:6 / /var/lib/docker/overlay2/{id}/merged rw - overlay overlay rw\n"
        );
        assert_eq!(own_id(&host), None);
        assert_eq!(own_id("nonsense"), None);
    }
}
