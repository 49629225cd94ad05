# SPDX-License-Identifier: PostgreSQL
"""Servers with another extension in them than ours: with one line left out,
so that a test that should then fail can be seen to."""

import os
import shutil
import subprocess

from cluster import Postgres, need

SOURCE = os.path.join(os.path.dirname(__file__), "../..")
LIB = "usr/lib/postgresql/15"


class OwnTree(Postgres):
    """A server whose programs and extensions are a copy for it alone."""

    def __init__(self, directory, settings=None):
        super().__init__(directory, settings)
        self.pgroot = os.path.join(directory, "pgroot")
        shutil.copytree(need("PGSTOCK_PGROOT"), self.pgroot, symlinks=True)

    def bin(self, name):
        return os.path.join(self.pgroot, LIB, "bin", name)


class Mutant(OwnTree):
    """A server whose extension was built with `new` in the place of `old`."""

    def __init__(self, directory, file, old, new, settings=None):
        super().__init__(directory, settings)
        source = os.path.join(directory, "source")
        shutil.copytree(os.path.join(SOURCE, "extension"),
                        os.path.join(source, "extension"))
        shutil.copy(os.path.join(SOURCE, "VERSION"), source)
        path = os.path.join(source, "extension", file)
        with open(path, encoding="utf-8") as code:
            text = code.read()
        assert text.count(old) == 1, f"{file} has {text.count(old)} of: {old}"
        with open(path, "w", encoding="utf-8") as code:
            code.write(text.replace(old, new))
        subprocess.run(
            ["make", "-s", "-C", os.path.join(source, "extension"),
             "pgstock.so", "with_llvm=no", "PG_CFLAGS=-Wno-unused-function",
             "PG_CONFIG=" + os.path.join(need("PGSTOCK_PGROOT"), LIB,
                                         "bin/pg_config")],
            check=True, stdout=subprocess.DEVNULL)
        shutil.copy(os.path.join(source, "extension/pgstock.so"),
                    os.path.join(self.pgroot, LIB, "lib"))


# Mutants of commit.c, each without one of its guards.
NO_FLUSH = ("commit.c", "\tXLogFlush(XactLastCommitEnd);\n", "")
NO_FENCE = ("commit.c", "\tfence_answer = true;\n", "")
NO_STANDBY = ("commit.c", "\tSyncRepWaitForLSN(XactLastCommitEnd, true);\n",
              "")
