# SPDX-License-Identifier: PostgreSQL
"""dev/cluster: the test cluster's servers, detached, for interactive use.

A start that fails half-way stops the servers that it has started. Stopping
needs no state but the pid files: a server that has exited already is no error.
"""

import os
import secrets
import shlex
import shutil
import signal
import sys

from cluster import HOST, Kafka, Postgres, Relay, need
from gateway import Gateway
from process import Server, make_dir, run_dir

PARTS = ("gateway", "relay", "kafka", "postgres")   # in the order of stopping
DATABASE = "shop"
RELAY_ROLE = "pgstock_relay"
GATEWAY_ROLE = "pgstock_gateway"              # and _reader, _admin
INBOX = ("order-created", "payment-success", "payment-failed",
         "order-cancelled", "order_failed")
OUTBOX = ("stock-events", "stock-freeze-failed")


def servers(root):
    return [Server(os.path.join(root, part), detach=True) for part in PARTS]


def start(root):
    if any(server.running for server in servers(root)):
        sys.exit(f"cluster: {root} is running: stop it first")
    shutil.rmtree(root)
    make_dir(root)
    try:
        write_env(root, *start_parts(root))
    except BaseException:
        stop(root)
        raise
    show(root)


def start_parts(root):
    pg = Postgres(os.path.join(root, "postgres"), detach=True).init().start()
    db = pg.create_database(DATABASE)
    kafka = Kafka(os.path.join(root, "kafka"), detach=True, proxied=False)
    kafka.init().start()
    kafka.create_topics(*OUTBOX, *INBOX, *(f"{name}_dlq" for name in INBOX))
    db.sql(f"CREATE ROLE {RELAY_ROLE} LOGIN")
    db.sql("SELECT grant_stock_access(%s, 'relay')", (RELAY_ROLE,))
    relay = Relay(os.path.join(root, "relay"), db.conninfo(user=RELAY_ROLE),
                  kafka.brokers,
                  {"inbox": {"topics": ", ".join(INBOX)}}, detach=True)
    return pg, kafka, relay.start(), start_gateway(root, db)


def start_gateway(root, db):
    """One of this cluster's, with tokens of its own."""
    roles = {"app": GATEWAY_ROLE, "reader": f"{GATEWAY_ROLE}_reader",
             "admin": f"{GATEWAY_ROLE}_admin"}
    for level, role in roles.items():
        db.sql(f"CREATE ROLE {role} LOGIN")
        db.sql("SELECT grant_stock_access(%s, %s)", (role, level))
    gateway = Gateway(os.path.join(root, "gateway"),
                      {level: db.conninfo(user=role)
                       for level, role in roles.items()}, detach=True)
    gateway.tokens = {role: secrets.token_hex(32) for role in gateway.tokens}
    return gateway.start()


def write_env(root, pg, kafka, relay, gateway):
    values = {
        "PGHOST": HOST, "PGPORT": pg.port, "PGUSER": "postgres",
        "PGDATABASE": DATABASE, "BROKERS": kafka.brokers,
        "METRICS": f"http://{HOST}:{relay.port}/metrics",
        "RELAY_CONFIG": relay.config_path, "RELAY_LOG": relay.log_path,
        "GATEWAY_URL": f"http://{HOST}:{gateway.port}",
        "GATEWAY_TOKEN": gateway.tokens["app"],
        "GATEWAY_ADMIN_TOKEN": gateway.tokens["admin"],
        "GATEWAY_LOG": gateway.log_path,
        "PGSTOCK_PGROOT": need("PGSTOCK_PGROOT"),
        "PGSTOCK_KAFKA": need("PGSTOCK_KAFKA"),
        "PGSTOCK_RELAY": need("PGSTOCK_RELAY"),
    }
    with open(os.path.join(root, "env"), "w", encoding="utf-8") as file:
        file.writelines(f"export {name}={shlex.quote(str(value))}\n"
                        for name, value in values.items())


def show(root):
    with open(os.path.join(root, "env"), encoding="utf-8") as file:
        env = dict(shlex.split(line)[1].split("=", 1) for line in file)
    print(f"PostgreSQL  psql -h {HOST} -p {env['PGPORT']} -U postgres"
          f" {DATABASE}\n"
          f"Kafka       kcat -b {env['BROKERS']} -L\n"
          f"relay       curl {env['METRICS']}\n"
          f"gateway     curl {env['GATEWAY_URL']}/health\n"
          f"files       {root}\n"
          f"all of it   . {shlex.quote(os.path.join(root, 'env'))}")


def stop(root):
    for server in servers(root):
        if not server.running:
            continue
        server.signal(signal.SIGINT if server.directory.endswith("postgres")
                      else signal.SIGTERM)
        try:
            server.wait_end(20)
        except AssertionError:
            server.kill9()


def status(root):
    states = {os.path.basename(server.directory): server.pid
              for server in servers(root)}
    for part, pid in states.items():
        print(f"{part:12}{f'runs, pid {pid}' if pid else 'is not running'}")
    if not all(states.values()):
        sys.exit(3)                 # as `systemctl status` does
    show(root)


def main():
    command, name = sys.argv[1:]
    root = make_dir(os.path.join(run_dir(), name))
    {"start": start, "stop": stop, "status": status}[command](root)


main()
