# SPDX-License-Identifier: PostgreSQL
"""Servers for the session; a database, topics and relays for each test.

With pytest -n N --dist loadgroup, N sessions run beside each other, each with
servers and a directory of its own.  A test runs in the first free one; the
tests of a file that share a server stay together.
"""

import itertools
import os

import pytest

import schemas
from cluster import Kafka, Postgres, Relay, need
from gateway import TOKENS, Gateway
from mutant import checks_itself
from notify import NotifySocket
from process import make_dir, remove_dir, session_dir
from secure import Certificates, SecureKafka, SecurePostgres
from shards import Shards

INBOX = ("order-created", "payment-success", "payment-failed",
         "order-cancelled", "order_failed")
OUTBOX = ("stock-events", "stock-freeze-failed")
DLQ = tuple(f"{name}_dlq" for name in INBOX)

# their assertions are shown as those of a test
pytest.register_assert_rewrite("check_cases", "check_cases_server",
                                "model_calls", "model_session",
                                "model_retention")

serial = itertools.count(1)


def shares_with_its_file(item):
    """Whether a test uses something that its file makes once."""
    return "certificates" in item.fixturenames or any(
        one.scope == "module" and one.baseid for name, found in
               item._fixtureinfo.name2fixturedefs.items() for one in found)


@pytest.hookimpl(tryfirst=True)     # before xdist looks at the groups
def pytest_collection_modifyitems(items):
    """The long ones begin first: no worker is left with one at the end."""
    for item in items:
        if shares_with_its_file(item):
            secure = "certificates" in item.fixturenames
            item.add_marker(pytest.mark.xdist_group(
                "secure" if secure else item.path.stem))
    items.sort(key=lambda item: not (item.get_closest_marker("xdist_group")
                                     or item.get_closest_marker("long")))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Pass the result of a test to its fixtures."""
    report = (yield).get_result()
    setattr(item, f"report_{report.when}", report)


@pytest.fixture(scope="session")
def run(request):
    """The directory of this session's servers; kept if a test fails."""
    path = session_dir()
    yield path
    if not request.session.testsfailed:
        remove_dir(path)


@pytest.fixture(scope="session")
def new_dir(run):
    """Names a directory for a server, another one at each call."""
    return lambda name: os.path.join(run, f"{name}-{next(serial)}")


@pytest.fixture(scope="session")
def pg(run):
    """The cluster that most tests share."""
    server = Postgres(os.path.join(run, "postgres")).init().start()
    pgroot = need("PGSTOCK_PGROOT")
    if pgroot == os.environ.get("PGSTOCK_CHECKED"):
        assert checks_itself(server, pgroot)
    yield server
    server.close()


@pytest.fixture(scope="session")
def session_kafka(run):
    server = Kafka(os.path.join(run, "kafka")).init().start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def certificates(new_dir):
    """Of the two servers below; the tests that use them run in one worker."""
    return Certificates(new_dir("certificates"))


@pytest.fixture(scope="session")
def secure_pg(new_dir, certificates):
    server = SecurePostgres(new_dir("postgres-secure"), certificates)
    server.init().start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def secure_kafka(new_dir, certificates):
    server = SecureKafka(new_dir("kafka-secure"), certificates)
    server.init().start()
    yield server
    server.close()


@pytest.fixture
def manager(run):
    """systemd, as far as a daemon sees it."""
    found = NotifySocket(make_dir(os.path.join(run, "notify")))
    yield found
    found.close()


@pytest.fixture
def kafka(session_kafka):
    """The broker, with the empty topics of the contract."""
    session_kafka.proxy.restore()
    vars(session_kafka.proxy).pop("serve", None)    # a test's own
    session_kafka.delete_topics(*session_kafka.topics())
    session_kafka.create_topics(*OUTBOX, *INBOX, *DLQ)
    yield session_kafka
    session_kafka.delete_topics(*session_kafka.topics())


@pytest.fixture
def db(pg):
    """A database for one test; whatever the test does, its ledger must add
    up, and no message was applied that its schema forbids."""
    schemas.forbidden.clear()       # of other topics of the same names
    database = pg.create_database(f"t{next(serial)}")
    yield database
    drift = database.drift()
    wrong = schemas.forbidden_but_applied(database)
    database.drop()
    assert drift == []
    assert not wrong, f"applied, though their schemas forbid them: {wrong}"


@pytest.fixture(scope="module")
def shards(pg):
    """Four shards and their front, with the product as the key; a test takes
    products and orders of its own."""
    made = Shards(pg)
    yield made
    drift = made.drift()
    made.drop()
    assert drift == []


@pytest.fixture
def relays(new_dir, request):
    """Makes relays; ends them after the test and prints their logs if it
    failed."""
    made = []

    def make(conninfo, brokers, config=None):
        made.append(Relay(new_dir("relay"), conninfo, brokers, config))
        return made[-1]

    yield make
    failed = getattr(request.node, "report_call", None)
    for relay in made:
        if failed and failed.failed and os.path.exists(relay.log_path):
            print(f"--- {relay.log_path}\n{relay.tail(60)}\n"
                  f"{relay.get('/status')}")
        relay.close()


@pytest.fixture
def start_relay(relays, db, kafka):
    """Starts a relay between this test's database and the broker."""
    def start(config=None, topics=(), env=None, **first):
        config = {**(config or {})}
        if topics:
            config["inbox"] = {"topics": ", ".join(topics),
                               **config.get("inbox", {})}
        relay = relays(first.pop("conninfo", None) or db.conninfo(),
                       first.pop("brokers", None) or kafka.brokers, config)
        return relay.start(env=env, **first)
    return start


# ---- the gateway -----------------------------------------------------------

GATEWAY_ROLES = {role: f"gateway_{role}" for role in ("reader", "app", "admin")}


def gateway_conninfos(shop, **more):
    return {role: shop.conninfo(user=user, **more)
            for role, user in GATEWAY_ROLES.items()}


@pytest.fixture(scope="module")
def shop(pg):
    """A database with the gateway's roles."""
    database = pg.create_database("gateway")
    for level, role in GATEWAY_ROLES.items():
        database.sql(f"CREATE ROLE {role} LOGIN")
        database.sql("SELECT grant_stock_access(%s, %s)", (role, level))
    yield database
    assert database.drift() == []
    database.drop()
    with pg.connect() as conn:
        conn.autocommit = True
        conn.cursor().execute(f"DROP ROLE {', '.join(GATEWAY_ROLES.values())}")


@pytest.fixture
def gateways(new_dir, shop, request):
    """Makes gateways; ends them after the test."""
    made = []

    def make(config=None, port=None, **more):
        made.append(Gateway(new_dir("gateway"),
                            gateway_conninfos(shop, port=port), config,
                            **more))
        return made[-1]

    yield make
    failed = getattr(request.node, "report_call", None)
    for gateway in made:
        if failed and failed.failed:
            print(f"--- {gateway.log_path}\n{gateway.tail(60)}")
        gateway.close()


@pytest.fixture(scope="module")
def gateway(new_dir, shop):
    """The one that most tests share."""
    one = Gateway(new_dir("gateway"), gateway_conninfos(shop)).start()
    yield one
    assert one.running
    one.close()


@pytest.fixture
def app(gateway):
    client = gateway.client()
    yield client
    client.close()


@pytest.fixture
def reader(gateway):
    gateway.wait_sessions()             # a test may have killed the database
    client = gateway.client("reader")
    yield client
    client.close()


@pytest.fixture
def admin(gateway):
    gateway.wait_sessions()             # a test may have killed the database
    client = gateway.client("admin")
    yield client
    client.close()


@pytest.fixture
def product(admin):
    """A product of this test, with ten pieces."""
    name = f"SKU-{next(serial)}"
    answer = admin.post(f"/products/{name}/stock/receive", {"quantity": 10})
    assert (answer.status, answer.json) == (
        200, {"product_id": name, "location": "main", "on_hand": 10})
    return name


# ---- the console ------------------------------------------------------------

@pytest.fixture(scope="module")
def browser(run):
    from browser import Browser         # selenium, which other tests need not
    window = Browser(run)
    yield window
    window.close()


@pytest.fixture
def page(browser, gateway):
    """The console, in which an administrator has signed in."""
    browser.resize()
    browser.sign_in(gateway, TOKENS["admin"])
    yield browser
    assert browser.errors() == []
