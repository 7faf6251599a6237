# What one can do here, one line each. `just` alone lists it.

_default:
    @just --list --unsorted

# start everything
up *ARGS:
    ./stack up {{ARGS}}

# stop everything
down *ARGS:
    ./stack down {{ARGS}}

# all tests on the real components
test *ARGS:
    ./stack test {{ARGS}}

# format, lint, document
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# write the Prometheus rules of both speeds from their source
rules:
    cargo run -q -p rulegen

# licences, advisories, duplicate versions
deny:
    cargo deny check
