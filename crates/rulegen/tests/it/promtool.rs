//! The rules in the hands of Prometheus itself.
//!
//! promtool comes from the variable `PROMTOOL`, from the path, or from the Prometheus image that the
//! stack uses (`PROMETHEUS_IMAGE`, one that `./stack` built, or the pinned one).

use std::path::Path;
use std::process::{Command, Output};

use crate::root;

enum Promtool {
    Program(String),
    Image(String),
}

impl Promtool {
    fn find() -> Self {
        if let Ok(program) = std::env::var("PROMTOOL") {
            return Self::Program(program);
        }
        let works = |command: &mut Command| command.output().is_ok_and(|o| o.status.success());
        if works(Command::new("promtool").arg("--version")) {
            return Self::Program("promtool".to_owned());
        }
        let pinned =
            crate::read(".env").lines().find_map(|line| line.strip_prefix("PROMETHEUS_IMAGE=").map(str::to_owned));
        let images = std::env::var("PROMETHEUS_IMAGE").into_iter().chain(local_images()).chain(pinned);
        for image in images {
            if works(Command::new("docker").args(["image", "inspect", &image])) {
                return Self::Image(image);
            }
        }
        panic!("there is no promtool: set PROMTOOL to one, put it on the path, or run ./stack test");
    }

    /// Runs promtool in a folder of the repository.
    fn run(&self, folder: &str, arguments: &[&str]) -> Output {
        let mut command = match self {
            Self::Program(program) => {
                let mut command = Command::new(program);
                command.current_dir(root().join(folder));
                command
            }
            Self::Image(image) => {
                let mut command = Command::new("docker");
                let mount = format!("{}:/repository:ro", root().join("prometheus").display());
                let inside = folder.strip_prefix("prometheus").unwrap_or(folder);
                let workdir = format!("/repository{inside}");
                command.args(["run", "--rm", "--network=none", "-v", &mount, "-w", &workdir]);
                command.args(["--entrypoint", "/bin/promtool", image]);
                command
            }
        };
        command.args(arguments).output().unwrap()
    }
}

fn local_images() -> Vec<String> {
    let output = Command::new("docker")
        .args(["images", "--format", "{{.Repository}}:{{.Tag}}", "selfheal/local-prometheus"])
        .output();
    output.map_or_else(|_| Vec::new(), |o| String::from_utf8_lossy(&o.stdout).lines().map(str::to_owned).collect())
}

fn names(folder: &str) -> Vec<String> {
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    crate::files(folder, "yaml").iter().map(|path| name(path)).collect()
}

fn check(speed: &str) {
    let promtool = Promtool::find();
    for (folder, command) in [("rules", ["check", "rules"]), ("tests", ["test", "rules"])] {
        let folder = format!("prometheus/{folder}/{speed}");
        let files = names(&folder);
        let mut arguments = command.to_vec();
        arguments.extend(files.iter().map(String::as_str));
        let output = promtool.run(&folder, &arguments);
        assert!(
            output.status.success(),
            "promtool {} in {folder}\n{}\n{}",
            command.join(" "),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn demo_rules_pass_their_tests() {
    check("demo");
}

#[test]
fn production_rules_pass_their_tests() {
    check("production");
}
