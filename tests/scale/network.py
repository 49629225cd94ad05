# SPDX-License-Identifier: PostgreSQL
"""A network of machines that can be killed, frozen and isolated.

pytest restarts itself in namespaces of its own: for the network, in which each
machine is a network namespace behind one bridge; for processes, which end with
pytest; and for mounts, for a hosts file. This needs no privilege if the kernel
permits unprivileged user namespaces.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from process import make_dir, state_of, wait_until

INSIDE = "PGSTOCK_NETWORK"      # set in the namespaces
BRIDGE = "machines"
HERE = "10.9.0.1"               # this process, and servers without a machine
NO_MACHINE = "02:00:00:00:00:00"


def enter(config):
    """Starts pytest again, with the same arguments, in the namespaces."""
    if os.environ.get(INSIDE):
        return
    config.pluginmanager.getplugin("capturemanager").stop_global_capturing()
    mine = [] if os.geteuid() == 0 else [
        "--user", "--map-current-user", "--keep-caps"]
    unshare = ["unshare", *mine, "--net", "--mount", "--pid", "--fork",
               "--kill-child", "--mount-proc", "--"]
    tried = subprocess.run([*unshare, "true"], stderr=subprocess.PIPE,
                           text=True, check=False)
    if tried.returncode != 0:
        pytest.exit("no namespaces here; run it as root, or see sysctl"
                    f" kernel.unprivileged_userns_clone: {tried.stderr}", 1)
    os.environ[INSIDE] = "yes"
    sys.stdout.flush()
    # the shell is process 1: it adopts processes whose parents were killed
    os.execvp("unshare", [
        *unshare, "bash", "-c", '"$@"; exit $?', "pytest", sys.executable,
        "-m", "pytest", *config.invocation_params.args])


def run(*cmd):
    done = subprocess.run(cmd, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(cmd)}: {done.stdout}"
    return done.stdout


class Network:
    """Machines behind one bridge, which can resolve each other's names."""

    def __init__(self, directory):
        run("mount", "-t", "tmpfs", "none", "/run")
        os.mkdir("/run/netns")
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "address", "add", f"{HERE}/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        self.hosts = os.path.join(make_dir(directory), "hosts")
        with open(self.hosts, "w", encoding="ascii") as file:
            file.write("127.0.0.1 localhost\n")
        run("mount", "--bind", self.hosts, "/etc/hosts")
        self.machines = {}

    def add(self, name):
        """A machine without processes; one that another file has used is used
        again."""
        if name in self.machines:
            assert not self.machines[name].alive(), f"{name} is in use"
            return self.machines[name]
        machine = Machine(name, f"10.9.0.{11 + len(self.machines)}")
        self.machines[name] = machine
        with open(self.hosts, "a", encoding="ascii") as file:
            file.write(f"{machine.address} {name}\n")
        return machine


class Machine:
    """A network namespace, and the processes in it."""

    def __init__(self, name, address):
        self.name, self.address = name, address
        self.elsewhere = ("ip", "netns", "exec", name)
        run("ip", "netns", "add", name)
        run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0",
            "netns", name)
        self.join()
        run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        for link in ("eth0", "lo"):
            run("ip", "-n", name, "link", "set", link, "up")

    def join(self):
        """Reconnects the machine."""
        run("ip", "link", "set", self.name, "master", BRIDGE, "up")

    def cut(self):
        """Drops packets in both directions, without an error to the sender."""
        run("ip", "link", "set", self.name, "nomaster")

    def cut_from(self, other):
        """The same, between two machines only."""
        self.drop_to(other.address)
        other.drop_to(self.address)

    def join_with(self, other):
        """Reconnects the two."""
        self.send_to(other.address)
        other.send_to(self.address)

    def drop_to(self, address):
        """Drops its packets to one address: no connection of the two works."""
        run("ip", "-n", self.name, "neighbor", "replace", address,
            "lladdr", NO_MACHINE, "nud", "permanent", "dev", "eth0")

    def send_to(self, address):
        run("ip", "-n", self.name, "neighbor", "delete", address,
            "dev", "eth0")

    def pids(self):
        return [int(pid) for pid in
                run("ip", "netns", "pids", self.name).split()]

    def signal(self, number):
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def freeze(self):
        """Stops every process; twice, as one may have just forked another."""
        self.signal(signal.SIGSTOP)
        self.signal(signal.SIGSTOP)

    def thaw(self):
        self.signal(signal.SIGCONT)

    def kill9(self):
        """As if it lost power, except that written data is kept."""
        def dead():
            self.signal(signal.SIGKILL)
            return not self.alive()
        wait_until(dead, 30, f"the processes of {self.name} are dead")

    def alive(self):
        """Its processes that are not zombies."""
        return [pid for pid in self.pids() if state_of(pid) not in "ZX"]
