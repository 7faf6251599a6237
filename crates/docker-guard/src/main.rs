//! docker-guard: see the library.
fn main() -> std::process::ExitCode {
    telemetry::run("docker-guard", env!("CARGO_PKG_VERSION"), |config: docker_guard::Config, rt| async move {
        docker_guard::run(config, rt).await
    })
}
