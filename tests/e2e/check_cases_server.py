# SPDX-License-Identifier: PostgreSQL
"""For test_check.py: mistakes in the settings of the server, and of what runs
it; the others are in check_cases.py."""

from contextlib import closing

from check_cases import CASES, PLAIN, ROLE, case
from process import wait_until

__all__ = ["CASES"]


@case("encoding", 0, "LATIN1", "ENCODING 'UTF8'")
def encoding_is_another(site):
    latin = site.pg.create_database("latin", encoding="LATIN1")
    latin.sql(f"SELECT grant_stock_access('{ROLE}', 'relay')")
    with site.conninfo(dbname="latin"):
        yield
    latin.drop()


@case("synchronous_commit", 0, "synchronous_commit = off",
      "ALTER DATABASE checked")
def commits_are_not_durable(site):
    with site.sql("ALTER DATABASE checked SET synchronous_commit = off",
                  "ALTER DATABASE checked RESET synchronous_commit"):
        yield


@case("publish_after", 1, "synchronous_standby_names is empty")
def standby_is_not_configured(site):
    with site.configured(outbox={"publish_after": "remote_flush"}):
        yield


@case("synchronous_standby", 1, "synchronous_standby_names is absent",
      "pg_stat_replication")
def standby_is_away(site):
    names = "ALTER SYSTEM {} synchronous_standby_names {}"
    local = {"options": "-c synchronous_commit=local"}
    with site.sql(names.format("SET", "= absent"), names.format("RESET", ""),
                  **local):
        reload_until(site, "absent")
        yield
    reload_until(site, "")


def reload_until(site, names):
    site.db.sql("SELECT pg_reload_conf()")
    wait_until(lambda: site.db.value("SHOW synchronous_standby_names") == names,
               20, "the setting is read")


@case("patroni_version", 0, "Patroni before 3.2", "high-availability.md")
def patroni_is_old(site):
    """Its session has the name that versions before 3.2 gave it; theirs and
    its successors' are in tests/scale."""
    with closing(site.db.connect(application_name="Patroni")):
        with closing(site.db.connect(application_name="Patroni heartbeat")):
            yield


@case("read_only", 0, "default_transaction_read_only = on",
      "ALTER DATABASE checked")
def database_is_read_only(site):
    with site.sql(
            "ALTER DATABASE checked SET default_transaction_read_only = on",
            "ALTER DATABASE checked RESET default_transaction_read_only",
            **PLAIN):
        yield


@case("overridden", 0, "statement_timeout = 1s", f"ALTER ROLE {ROLE}")
def role_has_timeouts(site):
    with site.sql(f"ALTER ROLE {ROLE} SET statement_timeout = '1s'",
                  f"ALTER ROLE {ROLE} RESET statement_timeout"):
        yield
