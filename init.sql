-- Schema, roles and seed data of the transactions database.
--
-- Executed once by the Postgres image (/docker-entrypoint-initdb.d) as the
-- superuser, on an empty volume. It is plain SQL without psql commands and may be
-- run again at any time: it changes only what is missing, and sets the roles'
-- passwords anew from the secret files.

BEGIN;

-- A password must not reach the server's log if a statement below fails.
SET LOCAL log_min_error_statement = panic;

-- Roles -----------------------------------------------------------------------
-- app       what transaction-api needs, nothing more
-- readonly  people and dashboards
-- exporter  postgres-exporter
--
-- The server itself reads /run/secrets/postgres/<role>. Without that file the
-- role exists but cannot log in.
DO $$
DECLARE
    role_name text;
    password text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['app', 'readonly', 'exporter'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION', role_name);
        END IF;
        password := rtrim(pg_read_file('/run/secrets/postgres/' || role_name, 0, 1024, true), E'\r\n');
        IF password <> '' THEN
            EXECUTE format('ALTER ROLE %I LOGIN PASSWORD %L', role_name, password);
        ELSE
            RAISE WARNING 'role % has no secret file and keeps what login it has', role_name;
        END IF;
    END LOOP;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO app, readonly, exporter', current_database());
END
$$;

GRANT pg_monitor TO exporter;

-- A forgotten transaction or a runaway report must not hold the database.
ALTER ROLE app SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE app SET statement_timeout = '10s';
ALTER ROLE app SET lock_timeout = '2s';
ALTER ROLE readonly SET default_transaction_read_only = on;
ALTER ROLE readonly SET statement_timeout = '15s';
ALTER ROLE exporter SET statement_timeout = '10s';

-- Schema ----------------------------------------------------------------------
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO app, readonly, exporter;

-- A transaction never changes once it is written. Money is in integer minor units.
CREATE TABLE IF NOT EXISTS transactions (
    id             uuid        NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    amount_minor   bigint      NOT NULL,
    currency       text        NOT NULL,
    description    text,
    status         text        NOT NULL,
    decline_reason text,
    CONSTRAINT transactions_pkey PRIMARY KEY (id),
    CONSTRAINT transactions_amount_range CHECK (amount_minor BETWEEN 1 AND 99999999999),
    CONSTRAINT transactions_currency_code CHECK (currency ~ '^[A-Z]{3}$'),
    CONSTRAINT transactions_description_length CHECK (char_length(description) BETWEEN 1 AND 200),
    CONSTRAINT transactions_status_known CHECK (status IN ('approved', 'declined')),
    CONSTRAINT transactions_declined_says_why CHECK ((status = 'declined') = (decline_reason IS NOT NULL))
);

-- Newest first, also within a status: the order of the keyset cursor.
CREATE INDEX IF NOT EXISTS transactions_newest ON transactions (created_at DESC, id DESC);
CREATE INDEX IF NOT EXISTS transactions_status_newest ON transactions (status, created_at DESC, id DESC);

-- Who holds an Idempotency-Key, and for which request. The stored response is the
-- (immutable) transaction with this id: while there is none, the request is under
-- way until locked_until, and may be taken over after that, with the same id.
CREATE TABLE IF NOT EXISTS idempotency_keys (
    key            text        NOT NULL,
    request_hash   bytea       NOT NULL,
    transaction_id uuid        NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    locked_until   timestamptz NOT NULL,
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (key),
    CONSTRAINT idempotency_keys_key_length CHECK (char_length(key) BETWEEN 1 AND 255),
    CONSTRAINT idempotency_keys_hash_length CHECK (octet_length(request_hash) = 32)
);

CREATE INDEX IF NOT EXISTS idempotency_keys_age ON idempotency_keys (created_at);

GRANT SELECT, INSERT ON transactions TO app;
GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_keys TO app;
GRANT SELECT ON transactions TO readonly;

-- Statement statistics, where the server has them loaded. ----------------------
DO $$
BEGIN
    IF current_setting('shared_preload_libraries') LIKE '%pg_stat_statements%' THEN
        CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
    ELSE
        RAISE NOTICE 'pg_stat_statements is not preloaded: no statement statistics';
    END IF;
END
$$;

-- Seed data: a week of plausible payments, only into an empty table. ------------
INSERT INTO transactions (id, created_at, amount_minor, currency, description, status, decline_reason)
SELECT
    md5('seed-' || n)::uuid,
    now() - make_interval(mins => n * 84 + (n * 37) % 60),
    -- Spread over three decades without a random source: every install sees the same amounts.
    round(10 ^ (2.3 + (n * 61 % 100) / 40.0))::bigint,
    (ARRAY['EUR', 'EUR', 'EUR', 'USD', 'USD', 'GBP', 'CHF', 'JPY'])[1 + n % 8],
    (ARRAY['replacement bearings', 'machine lease', 'electricity invoice', 'cooling water', 'spare drive belts',
           'calibration service', 'freight', 'hydraulic oil', 'safety inspection', 'packaging'])[1 + n * 7 % 10],
    CASE WHEN n % 20 = 7 THEN 'declined' ELSE 'approved' END,
    CASE WHEN n % 20 = 7 THEN (ARRAY['insufficient_funds', 'card_expired', 'limit_exceeded'])[1 + n % 3] END
FROM generate_series(1, 120) AS n
WHERE NOT EXISTS (SELECT FROM transactions);

COMMIT;
