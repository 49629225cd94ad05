# SPDX-License-Identifier: PostgreSQL
"""ALTER EXTENSION pgstock UPDATE: from each version that is shipped, with data
in it and clients at work, to the state of a fresh installation.

The version after the present one is made here, so that there is always a step
to test: the present install script, a step that replaces one function and adds
another, and an install script that has both.
"""

import glob
import os
import re
import shutil
import subprocess

import pytest

from cluster import Database
from load import Clients
from mutant import SOURCE, OwnTree
from process import wait_until

pytestmark = pytest.mark.proof

SHARE = "usr/share/postgresql/15/extension"

STEP = """
CREATE OR REPLACE FUNCTION pgstock_internal.last_seq()
RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
SELECT coalesce(pg_sequence_last_value('pgstock_internal.outbox_seq'), 0) + 0
$$;
CREATE FUNCTION @extschema@.stock_is_next()
RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT true
$$;
COMMENT ON FUNCTION @extschema@.stock_is_next IS 'this is the next version';
REVOKE ALL ON FUNCTION @extschema@.stock_is_next FROM PUBLIC;
CREATE INDEX movement_next ON pgstock_internal.movement (order_id);
"""

# Every object of the extension, with all its properties.
CATALOG = {
    "objects": "SELECT pg_describe_object(classid, objid, 0),"
               " obj_description(objid, classid::regclass::name)"
               " FROM own",
    "functions": "SELECT pg_get_functiondef(p.oid), p.proacl::text"
                 " FROM own JOIN pg_proc p ON p.oid = objid"
                 " AND classid = 'pg_proc'::regclass AND p.prokind = 'f'",
    "relations": "SELECT c.oid::regclass::text, c.relkind, c.relacl::text,"
                 " c.reloptions::text, c.relpersistence,"
                 " CASE c.relkind WHEN 'v' THEN pg_get_viewdef(c.oid) END"
                 " FROM own JOIN pg_class c ON c.oid = objid"
                 " AND classid = 'pg_class'::regclass",
    "columns": "SELECT c.oid::regclass::text, a.attname,"
               " format_type(a.atttypid, a.atttypmod), a.attnotnull,"
               " a.attacl::text, a.attcollation::regcollation::text,"
               " pg_get_expr(d.adbin, d.adrelid),"
               " col_description(c.oid, attnum)"
               " FROM own JOIN pg_class c ON c.oid = objid"
               " AND classid = 'pg_class'::regclass"
               " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
               " AND NOT a.attisdropped"
               " LEFT JOIN pg_attrdef d"
               " ON (adrelid, adnum) = (attrelid, attnum)",
    "row types": "SELECT t.oid::regtype::text, a.attname, a.attnum,"
                 " format_type(a.atttypid, a.atttypmod)"
                 " FROM own JOIN pg_type t ON t.oid = objid"
                 " AND classid = 'pg_type'::regclass"
                 " JOIN pg_attribute a ON a.attrelid = t.typrelid",
    "indexes": "SELECT pg_get_indexdef(i.indexrelid) FROM own"
               " JOIN pg_index i ON i.indrelid = objid",
    "constraints": "SELECT conrelid::regclass::text, conname,"
                   " pg_get_constraintdef(o.oid) FROM own"
                   " JOIN pg_constraint o ON o.conrelid = objid",
    "sequences": "SELECT seqrelid::regclass::text, seqcache, seqstart,"
                 " seqincrement, seqmax, seqcycle FROM own"
                 " JOIN pg_sequence ON seqrelid = objid",
    "schemas": "SELECT nspname, nspacl::text FROM pg_namespace"
               " WHERE nspname = 'pgstock_internal'",
    "dumped": "SELECT unnest(extconfig)::regclass::text, unnest(extcondition)"
              " FROM pg_extension WHERE extname = 'pgstock'",
}
OWN = ("WITH own AS (SELECT d.classid, d.objid FROM pg_extension x"
       " JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass"
       " AND d.refobjid = x.oid AND d.deptype = 'e'"
       " WHERE x.extname = 'pgstock') ")


def catalog(db):
    return {name: sorted(map(repr, db.sql(OWN + query)))
            for name, query in CATALOG.items()}


def differences(a, b):
    return {name: set(a[name]) ^ set(b[name]) for name in CATALOG
            if a[name] != b[name]}


def setting(control, name):
    """The value of a line in the text of a control file."""
    return re.search(rf"^{name} *= *'(.*)'", control, re.M)[1]


def versions(source):
    """Those that a source tree installs, the oldest first."""
    with open(os.path.join(source, "extension/pgstock.control"),
              encoding="ascii") as file:
        found = {setting(file.read(), "default_version")}
    for path in glob.glob(os.path.join(source, "sql/pgstock--*.sql")):
        if match := re.fullmatch(r"pgstock--([0-9.]+)\.sql",
                                 os.path.basename(path)):
            found.add(match[1])
    return sorted(found, key=lambda v: [int(part) for part in v.split(".")])


class Server(OwnTree):
    """A server that also has the version after ours; `step` leads there."""

    def __init__(self, directory, step=STEP):
        super().__init__(directory)
        self.share = os.path.join(self.pgroot, SHARE)
        self.present = setting(self.read("pgstock.control"), "default_version")
        self.library = self.present
        self.next = self.present + "1"
        install = self.read(f"pgstock--{self.present}.sql")
        self.write(f"pgstock--{self.next}.sql", install + STEP)
        self.write(f"pgstock--{self.present}--{self.next}.sql", step)
        control = self.read("pgstock.control")
        self.write("pgstock.control", control.replace(
            f"'{self.present}'", f"'{self.next}'"))

    def read(self, name):
        with open(os.path.join(self.share, name), encoding="utf-8") as file:
            return file.read()

    def write(self, name, text):
        path = os.path.join(self.share, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o644)

    def install_library(self, version):
        """Replace the library on disk, as the package of a version does."""
        if version != self.library:
            self.build([], lambda text: text.replace(
                f"'{self.present}'", f"'{version}'"), "pgstock.control")
            self.library = version

    def database(self, name, version):
        db = self.create_database(name, extension=False)
        db.sql(f"CREATE EXTENSION pgstock VERSION '{version}'")
        return db


@pytest.fixture(scope="module")
def server(new_dir):
    one = Server(new_dir("postgres-upgrade")).init().start()
    Database(one, "postgres").sql("CREATE ROLE up_app; CREATE ROLE up_reader")
    yield one
    one.close()


@pytest.mark.parametrize("start", versions(SOURCE))
@pytest.mark.parametrize("target", ["present", "next"])
def test_update_under_load(server, start, target):
    """Every step, from each version, while clients work, and every object
    equals that of a fresh installation. A session that has loaded the library
    of another version is ended, once; a new one works."""
    target = getattr(server, target)
    server.install_library(start)
    db = server.database(f"from_{start}_{target}", start)
    fresh = server.database(f"fresh_{start}_{target}", target)
    db.sql("SELECT receive_stock('p' || i, 1000000) FROM generate_series(0, 9)"
           " i")
    db.sql("SELECT reserve_stock('p1', 1, 'old-' || i, idempotency_key =>"
           " 'k-' || i) FROM generate_series(1, 200) i")
    db.sql("SELECT confirm_stock('old-' || i) FROM generate_series(1, 100) i")
    for one in (db, fresh):
        one.sql("SELECT grant_stock_access('up_app', 'app'),"
                " grant_stock_access('up_reader', 'reader')")

    def work(cur, name):
        cur.execute("SELECT status FROM reserve_stock(%s, 1, %s)",
                    (f"p{hash(name) % 10}", name))
        assert cur.fetchone()[0] == "granted"
        cur.execute("SELECT count(*) FROM confirm_stock(%s)", (name,))

    with Clients(db, 6, work) as clients:
        wait_until(lambda: len(clients.acknowledged) > 200, 60, "a start")
        server.install_library(target)
        db.sql(f"ALTER EXTENSION pgstock UPDATE TO '{target}'")
        far = len(clients.acknowledged) + 200
        wait_until(lambda: len(clients.acknowledged) > far, 60,
                   "the clients go on")
    assert clients.broken == (0 if target == start else 6)
    assert db.value("SELECT extversion FROM pg_extension"
                    " WHERE extname = 'pgstock'") == target
    assert differences(catalog(db), catalog(fresh)) == {}
    there = {order for (order,) in db.sql(
        "SELECT order_id FROM stock_reservations WHERE state = 'confirmed'")}
    assert clients.acknowledged.keys() <= there
    assert db.value("SELECT replayed FROM reserve_stock('p1', 1, 'old-200',"
                    " idempotency_key => 'k-200')")
    assert db.drift() == []


def test_the_step_is_real(server):
    """The objects that the test above compares differ before the step."""
    present = server.database("present_only", server.present)
    nxt = server.database("next_only", server.next)
    assert differences(catalog(present), catalog(nxt)).keys() == {
        "objects", "functions", "indexes"}


@pytest.mark.parametrize("forgotten", [
    "COMMENT ON FUNCTION @extschema@.stock_is_next IS 'this is the next"
    " version';\n", "REVOKE ALL ON FUNCTION @extschema@.stock_is_next FROM"
    " PUBLIC;\n", " + 0", "CREATE INDEX movement_next ON"
    " pgstock_internal.movement (order_id);\n"])
def test_an_incomplete_step_is_found(server, forgotten):
    assert forgotten in STEP
    step = f"pgstock--{server.present}--{server.next}.sql"
    server.write(step, STEP.replace(forgotten, ""))
    name = f"forgot_{abs(hash(forgotten))}"
    db = server.database(name, server.present)
    db.sql("ALTER EXTENSION pgstock UPDATE")
    server.write(step, STEP)
    fresh = server.database(name + "_not", server.next)
    assert differences(catalog(db), catalog(fresh)) != {}


@pytest.fixture
def tree(run):
    """A copy of the source, and a function that runs a command of dev/."""
    path = os.path.join(run, "next-version")
    shutil.copytree(SOURCE, path, symlinks=True,
                    ignore=shutil.ignore_patterns(".git", ".run", "*.o"))
    yield path, lambda name, *args: subprocess.run(
        [os.path.join(path, "dev", name), *args], check=False, text=True,
        stderr=subprocess.PIPE)
    shutil.rmtree(path)


def present_version():
    """Of the release: two or three numbers."""
    with open(os.path.join(SOURCE, "VERSION"), encoding="ascii") as file:
        return [int(part) for part in file.read().split(".")]


def test_next_version_is_begun(tree):
    """The files of the frame for a new version fit together."""
    path, run_dev = tree
    major, minor, *_ = present_version()
    old, new = f"{major}.{minor}", f"{major + 1}.0"
    assert run_dev("next-version", new).returncode == 0
    done = run_dev("checkver")
    assert done.returncode == 0, done.stderr
    assert {f"pgstock--{old}.sql", f"pgstock--{old}--{new}.sql"} <= set(
        os.listdir(os.path.join(path, "sql")))
    assert versions(path) == [*versions(SOURCE), new]


def test_a_version_with_the_same_script_is_begun(tree):
    """It has no step, and no SQL that differs from the release before."""
    path, run_dev = tree
    major, minor, *third = present_version()
    old = f"{major}.{minor}"
    assert run_dev("next-version", f"{old}.{sum(third) + 1}").returncode == 0
    done = run_dev("checkver")
    assert done.returncode == 0, done.stderr
    names = os.listdir(os.path.join(path, "sql"))
    assert f"pgstock--{old}.sql" in names
    assert not [name for name in names if name.startswith(f"pgstock--{old}--")]
    with open(os.path.join(path, "sql/views.sql"), "a",
              encoding="utf-8") as file:
        file.write("SELECT 1;\n")
    done = run_dev("checkver")
    assert done.returncode == 1
    assert f"sql/ is not what pgstock--{old}.sql was made of" in done.stderr


def test_a_release_of_c_only_needs_no_update(new_dir):
    """Its library works with what the script of the release before made."""
    one = OwnTree(new_dir("postgres-next-release"))
    one.build([], lambda text: f"{text.strip()}.99", "../VERSION")
    one.init().start()
    try:
        db = one.create_database("shop")
        assert db.value("SELECT receive_stock('a', 1)") == 1
        assert db.value("SELECT extversion FROM pg_extension WHERE extname ="
                        " 'pgstock'") == "{}.{}".format(*present_version())
    finally:
        one.close()
