-- Creates the database user of the services that only read: read-only webserver, trace pages, metrics. Execute it once in
-- Dagster's database, as the user that owns Dagster's tables, and then set a password:
--   ALTER ROLE ml_assets_reader PASSWORD '...';
-- The user writes only into the schema of its own name, which contains its own lineage index.
CREATE ROLE ml_assets_reader LOGIN;
CREATE SCHEMA ml_assets_reader AUTHORIZATION ml_assets_reader;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO ml_assets_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO ml_assets_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO ml_assets_reader;
