# SPDX-License-Identifier: PostgreSQL
"""Servers with a modified extension: with one line left out, so that a test
can be seen to fail."""

import os
import shutil
import subprocess
from contextlib import closing

from cluster import Postgres, need

SOURCE = os.path.join(os.path.dirname(__file__), "../..")
LIB = "usr/lib/postgresql/15"


class OwnTree(Postgres):
    """A server with its own copy of the programs and extensions."""

    def __init__(self, directory, settings=None):
        super().__init__(directory, settings)
        self.pgroot = os.path.join(directory, "pgroot")
        shutil.copytree(need("PGSTOCK_PGROOT"), self.pgroot, symlinks=True)

    def bin(self, name):
        return os.path.join(self.pgroot, LIB, "bin", name)

    def build(self, make_args, change=lambda text: text, file="base/limits.h"):
        """Install an extension built from our source with one file changed."""
        source = os.path.join(self.directory, "source")
        shutil.rmtree(source, ignore_errors=True)
        shutil.copytree(os.path.join(SOURCE, "extension"),
                        os.path.join(source, "extension"))
        shutil.copy(os.path.join(SOURCE, "VERSION"), source)
        path = os.path.join(source, "extension", file)
        with open(path, encoding="utf-8") as code:
            text = code.read()
        with open(path, "w", encoding="utf-8") as code:
            code.write(change(text))
        subprocess.run(
            ["make", "-s", "-C", os.path.join(source, "extension"),
             "pgstock.so", "with_llvm=no", *make_args,
             "PG_CONFIG=" + os.path.join(need("PGSTOCK_PGROOT"), LIB,
                                         "bin/pg_config")],
            check=True, stdout=subprocess.DEVNULL)
        # as a package does: a server may have the old file mapped
        library = os.path.join(self.pgroot, LIB, "lib/pgstock.so")
        shutil.copy(os.path.join(source, "extension/pgstock.so"),
                    library + ".new")
        os.replace(library + ".new", library)


class Mutant(OwnTree):
    """A server whose extension was built with `new` in place of `old`."""

    def __init__(self, directory, file, old, new, settings=None):
        super().__init__(directory, settings)

        def change(text):
            assert text.count(old) == 1, (
                f"{file} has {text.count(old)} of: {old}")
            return text.replace(old, new)
        self.build(["PG_CFLAGS=-Wno-unused-function"], change, file)


class Sanitized(OwnTree):
    """A server whose extension checks itself, by assertions and by
    UndefinedBehaviorSanitizer; a finding ends the backend.  PGSTOCK_CHECKED
    names the tree of such a build, if there is one already."""

    def __init__(self, directory, settings=None):
        if ready := os.environ.get("PGSTOCK_CHECKED"):
            Postgres.__init__(self, directory, settings)
            self.pgroot = ready
            return
        super().__init__(directory, settings)
        self.build(["--always-make", "-j2",     # objects were copied too
                    "COPT=-DUSE_ASSERT_CHECKING=1 -fsanitize=undefined"
                    " -fno-sanitize-recover=all -fno-omit-frame-pointer"])

    def start(self, timeout=180):
        super().start(timeout)
        assert checks_itself(self, self.pgroot)
        return self


def checks_itself(server, pgroot):
    """Whether its sessions run such a build, and the one in that tree."""
    with closing(server.connect()) as conn, conn.cursor() as cur:
        cur.execute("LOAD 'pgstock'; SELECT pg_backend_pid()")
        ((pid,),) = cur.fetchall()
        with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
            loaded = maps.read()
    module = os.path.join(os.path.realpath(pgroot), LIB, "lib/pgstock.so")
    return "/libubsan.so" in loaded and module in loaded


# Mutants of base/durability.c, each without one of its guards.
NO_FLUSH = ("base/durability.c", "\tXLogFlush(XactLastCommitEnd);\n", "")
NO_FENCE = ("base/durability.c", "\tfence_answer = true;\n", "")
NO_ERROR_FENCE = ("base/durability.c",
                  "SYNCHRONOUS_COMMIT_OFF)\n\t\t(void) durability_fence",
                  "SYNCHRONOUS_COMMIT_OFF && false)\n"
                  "\t\t(void) durability_fence")
NO_STANDBY = ("base/durability.c",
              "\tSyncRepWaitForLSN(XactLastCommitEnd, true);\n", "")
