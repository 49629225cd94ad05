# SPDX-License-Identifier: PostgreSQL
"""A server on a disk that is slow or stands still (slow_wal.c) or is full
(full_disk.c), or with a clock that jumps (set_clock.c)."""

import os
import subprocess
from contextlib import contextmanager

# Only sessions that must flush: the WAL writer sleeps, and no buffer is full.
SETTINGS = {"fsync": "on", "wal_writer_delay": "'10s'",
            "wal_writer_flush_after": "'1GB'", "wal_buffers": "'64MB'",
            "autovacuum": "off", "shared_preload_libraries": "pgstock"}


def gate_of(pg):
    return os.path.join(pg.directory, "gate")


def preload(pg, name, **environment):
    """Load a library made from that file, from the server's next start on."""
    library = os.path.join(pg.directory, f"{name}.so")
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library,
                    os.path.join(os.path.dirname(__file__), f"{name}.c"),
                    "-ldl"], check=True)
    pg.environment = {**(pg.environment or {}), **environment}
    loaded = pg.environment.get("LD_PRELOAD", "").split()
    pg.environment["LD_PRELOAD"] = " ".join([*loaded, library])
    return pg


def slow_disk(pg, flush_us=0):
    """Put the server on such a disk, from its next start on."""
    return preload(pg, "slow_wal", SLOW_WAL_GATE=gate_of(pg),
                   SLOW_WAL_FLUSH_US=str(flush_us))


def full_disk(pg):
    """The same with disks that are nearly full."""
    return preload(pg, "full_disk")


@contextmanager
def disk_stands_still(pg):
    """During the block no WAL reaches the disk."""
    with open(gate_of(pg), "w", encoding="ascii"):
        pass
    try:
        yield
    finally:
        os.unlink(gate_of(pg))


def ahead_of(pg):
    return os.path.join(pg.directory, "ahead")


def settable_clock(pg):
    """Give the server a clock that clock_is_ahead sets."""
    return preload(pg, "set_clock", SET_CLOCK_AHEAD=ahead_of(pg))


@contextmanager
def clock_is_ahead(pg):
    """During the block the clock is a month ahead."""
    with open(ahead_of(pg), "w", encoding="ascii"):
        pass
    try:
        yield
    finally:
        os.unlink(ahead_of(pg))
