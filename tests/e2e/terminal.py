# SPDX-License-Identifier: PostgreSQL
"""A terminal (pty) for one program, and the screen that it draws."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios

from process import as_server, wait_until

# of what the relay writes: the other screen, home, clear, colours, the cursor
SEQUENCE = re.compile(r"\x1b\[[?\d;]*[A-Za-z]")
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"


class Terminal:
    """Runs a program whose standard streams are a terminal of its own; output
    may go elsewhere."""

    def __init__(self, args, lines=40, columns=100, env=None, **streams):
        self.master, end = pty.openpty()
        self.text = ""
        self.resize(lines, columns)
        self.before = termios.tcgetattr(end)
        self.process = subprocess.Popen(
            as_server(args), cwd="/", start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(end, termios.TIOCSCTTY, 0),
            env={**os.environ, "TERM": "xterm", **(env or {})},
            **{"stdin": end, "stdout": end, "stderr": end, **streams})
        self.end = end

    def resize(self, lines, columns):
        """The kernel sends SIGWINCH to the program."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ,
                    struct.pack("HHHH", lines, columns, 0, 0))

    def read(self):
        """All that was written so far."""
        while select.select([self.master], [], [], 0)[0]:
            with contextlib.suppress(OSError):
                self.text += os.read(self.master, 65536).decode()
                continue
            break
        return self.text

    def press(self, keys):
        os.write(self.master, keys)

    def screens(self):
        """The text of each whole drawing, without colours."""
        drawn = self.read().split("\x1b[H")[1:]
        return [SEQUENCE.sub("", one).replace("\r\n", "\n") for one in drawn
                if "\x1b[J" in one]

    def wait_screen(self, condition, what, timeout=30, since=None):
        """The first drawing for which the condition holds, of the latest one
        and those behind it, or of those since a number of them."""
        seen = len(self.screens()) - 1 if since is None else since

        def found():
            return next((one for one in self.screens()[max(seen, 0):]
                         if condition(one)), None)
        return wait_until(found, timeout, lambda: f"{what}\n{self.text!r}")

    def stopped(self):
        """Whether the program is stopped, as by Ctrl-Z."""
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] == "T"

    def echoes(self):
        return bool(termios.tcgetattr(self.end)[3] & termios.ECHO)

    def wait_end(self, timeout=20):
        """The exit code; all that was written is in text."""
        wait_until(lambda: self.read() and False
                   or self.process.poll() is not None, timeout,
                   lambda: f"it runs on\n{self.text!r}")
        self.read()
        return self.process.returncode

    def is_sane(self):
        """The terminal is as it was: its settings, its screen, its cursor."""
        return (termios.tcgetattr(self.end) == self.before
                and self.text.count(ENTER) == self.text.count(LEAVE)
                and self.text.rfind(LEAVE) >= self.text.rfind(ENTER))

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self.master)
        os.close(self.end)
