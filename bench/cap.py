# SPDX-License-Identifier: PostgreSQL
"""What holds a server to the limit of a small machine.

CPU, by a cgroup, of version 2 or 1, if we may make one there; otherwise the
bytes of WAL that the server writes in a second, by slow_wal.c.
"""

import contextlib
import os

from process import children_of

GROUPS = "/sys/fs/cgroup"
PERIOD_US = 50_000


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(str(text))


class NoCap:
    """No limit."""

    what = "none"

    def __init__(self, server):
        self.server = server

    def share(self, cpu, seconds):
        """How much of the limit was used, given the server's CPU time."""
        return None

    def remove(self):
        """The server has ended."""


class CpuCap(NoCap):
    """A cgroup of the server's processes and of all that they start."""

    cores = float(os.environ.get("CAP_CORES", "0.15"))
    folder, files = None, {}

    def __init__(self, server):
        super().__init__(server)
        self.path = os.path.join(self.folder, f"pgstock-bench-{server.pid}")
        os.mkdir(self.path)
        for name, text in self.files.items():
            write(os.path.join(self.path, name), text)
        for pid in [server.pid, *children_of(server.pid)]:
            with contextlib.suppress(ProcessLookupError):
                write(os.path.join(self.path, "cgroup.procs"), pid)

    def share(self, cpu, seconds):
        return cpu / seconds / self.cores

    def remove(self):
        os.rmdir(self.path)

    @classmethod
    def here(cls):
        """The version of cgroups by which CPU can be limited here, if any."""
        quota = round(cls.cores * PERIOD_US)
        for version, folder, files in (
                ("2, cpu.max", GROUPS, {"cpu.max": f"{quota} {PERIOD_US}"}),
                ("1, cpu.cfs_quota_us", os.path.join(GROUPS, "cpu"),
                 {"cpu.cfs_period_us": PERIOD_US,
                  "cpu.cfs_quota_us": quota})):
            probe = os.path.join(folder, f"pgstock-bench-probe-{os.getpid()}")
            try:
                os.mkdir(probe)
            except OSError:
                continue
            usable = all(os.access(os.path.join(probe, file), os.W_OK)
                         for file in [*files, "cgroup.procs"])
            os.rmdir(probe)
            if usable:
                cls.folder, cls.files = folder, files
                cls.what = (f"{cls.cores} of a core for each shard (cgroup v"
                            f"{version}, period {PERIOD_US // 1000} ms)")
                return cls
        return None


class WalCap(NoCap):
    """The server was started with this much WAL in a second."""

    rate = int(os.environ.get("CAP_WAL_BYTES", "3000000"))
    what = f"{rate:,} bytes of WAL a second for each shard (slow_wal.c)"

    @classmethod
    def environment(cls, library):
        return {"LD_PRELOAD": library, "SLOW_WAL_BYTES": str(cls.rate)}


def choose():
    """The cap for this machine; CAP=wal does without cgroups."""
    if os.environ.get("CAP", "cpu") == "cpu":
        cap = CpuCap.here()
        if cap:
            return cap
    return WalCap
