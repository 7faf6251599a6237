//! notification-receiver: see the library.
fn main() -> std::process::ExitCode {
    telemetry::run("notification-receiver", env!("CARGO_PKG_VERSION"), |config: notification_receiver::Config, rt| {
        notification_receiver::run(config, rt)
    })
}
