# SPDX-License-Identifier: PostgreSQL
"""The blocks of code in the documents, and a terminal in which a reader types
them.

The kind of a block is the word behind its fence:

    sql      statements, run by psql, the first error ends them
    psql     a session of psql: statements behind "=> ", and their answers
    sh       commands of a shell, of which none may fail; each statement that
             psql is given is such a command
    console  commands behind "$ ", and what they print
    ini, conf, python
             a file; the first line is a comment with its name.  A conf in
             cron.d is a job, whose command is run; an ini without a name is a
             part of a configuration, which the daemon must accept
    json     records or answers, in lines of their own or in one
    text     no command: a picture, an answer, a part of a file

In an answer "…" stands for any text, alone in a line for any lines; an answer
that is not printed may be any but an error or a failure.  A block
whose first line is a comment "tested by PATH" is run by that test or script;
one that begins with "not tested: REASON" is not run at all.
"""

import dataclasses
import json
import os
import re
import select
import signal
import subprocess
import time

from process import as_server, make_dir

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
RUN = ("sql", "psql", "sh", "console")
FILES = ("ini", "conf", "python")
KINDS = (*RUN, *FILES, "json", "text")
MARK = re.compile(r"(?:#|--|;) (tested by|not tested:) (.+)\n")
FILE_NAME = re.compile(r"[#;] (\S+)\n")
CRON_JOB = re.compile(r"^(?:\S+ ){5}(\w+) (.+)$", re.M)
SAME = (                        # what differs from run to run
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(\+00|Z)"), "TIME"),
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "UUID"),
    (re.compile(r"-{2,}"), "--"),
    (re.compile(r" +"), " "),
)
# What a configuration of the relay must have.
REQUIRED = {"[postgres]": "conninfo = dbname=shop",
            "[kafka]": "bootstrap.servers = localhost"}
NUMBER = re.compile(r"\d[\d,.]*")
# How long a reader waits for one block.
BLOCK_S_MAX = 120


@dataclasses.dataclass
class Block:
    """A block of code: where it is, and what it is."""
    document: str
    section: str
    line: int
    kind: str
    text: str

    @property
    def mark(self):
        """("tested by" or "not tested:", the rest), or None."""
        found = MARK.match(self.text)
        return found and found.groups()

    @property
    def file_name(self):
        """Of a block that is a file."""
        found = FILE_NAME.match(self.text)
        assert found or self.kind == "ini", \
            f"{self}: the first line must name the file"
        return found and found.group(1)

    @property
    def values(self):
        """Of a block of JSON."""
        try:
            return [json.loads(self.text)]
        except ValueError:
            return [json.loads(line) for line in self.text.splitlines()]

    def __str__(self):
        return f"{self.document}:{self.line} ({self.kind})"


def text_of(document):
    with open(os.path.join(TOP, document), encoding="utf-8") as file:
        return file.read()


def blocks(document, section=None):
    """The blocks of a document, or of the section with that title."""
    found, title, begun = [], "", None
    for number, line in enumerate(text_of(document).splitlines(), 1):
        fence = re.match(r"\s*```(.*)$", line)
        if fence and begun is None:
            begun, kind, lines = number, fence.group(1).strip(), []
        elif fence:
            found.append(Block(document, title, begun, kind,
                               "".join(f"{text}\n" for text in lines)))
            begun = None
        elif begun is not None:
            lines.append(line)
        elif re.match(r"##+ ", line):
            title = line.lstrip("# ")
    assert begun is None, f"{document}:{begun}: the block does not end"
    return [one for one in found if section in (None, one.section)]


def plain(text, figures):
    """The lines of an answer, without what differs from run to run; without
    figures, any number is any other."""
    for pattern, same in SAME:
        text = pattern.sub(same, text)
    if not figures:
        text = NUMBER.sub("N", text)
    return [line.strip() for line in text.splitlines() if line.strip()]


def same_answer(expected, found, figures=True):
    """Whether an answer is the printed one, in which "…" is any text."""
    pattern = "".join(
        "(?:.*\n)*?" if line == "…"
        else ".*".join(map(re.escape, line.split("…"))) + "\n"
        for line in plain(expected, figures))
    return re.fullmatch(pattern, "".join(f"{x}\n" for x in
                                         plain(found, figures)))


def session_of(block, prompt):
    """[(what is typed, its printed answer)] of a session."""
    found = []
    for line in block.text.splitlines():
        if line.startswith(prompt):
            found.append([[line[len(prompt):]], []])
        elif not found:
            raise AssertionError(f"{block} does not begin with {prompt}")
        elif is_open(found[-1], prompt):
            found[-1][0].append(line)
        else:
            found[-1][1].append(line)
    return [("\n".join(typed), "\n".join(answer)) for typed, answer in found]


def is_open(entry, prompt):
    """Whether the next line still belongs to what is typed."""
    typed, answer = entry
    if answer:
        return False
    if prompt == "=> ":
        return not typed[-1].endswith((";", "\\gx"))
    return typed[-1].endswith(("\\", "|"))


# What a Debian has and a test has not; whoever runs the terminal does it.
PROFILE = r"""
set -o pipefail
request()
{
    local code
    echo "@@request $*"
    read -r code <&"$ANSWERS"
    return "$code"
}
systemctl() { request systemctl "$@"; }
sudoedit() { request sudoedit "$@"; }
apt() { [[ $1 == install ]]; }
journalctl()
{
    command journalctl -n 0 "$@" >/dev/null && cat "$LOGS/$2/log"
}
# of several statements none may fail, not only the last one
psql() { command psql -v ON_ERROR_STOP=1 "$@"; }
sudo()
{
    [[ $1 != -u ]] || shift 2
    "$@"
}
failed=()
"""


class Terminal:
    """One shell, in which the blocks of a document are typed in their order.

    `names` are the texts of the document that have another value here, such as
    a port.  `requests` are functions for systemctl and sudoedit.
    """

    figures = True      # whether numbers in answers are those of the document
    root = ""           # where the directory "/" of the shell is
    profile = PROFILE
    psql = "psql"

    def __init__(self, directory, environment, names=None, requests=None):
        make_dir(f"{self.root}{directory}")
        self.directory = directory
        self.names = names or {}
        self.requests = requests or {}
        reader, self.answers = os.pipe()
        self.shell = subprocess.Popen(
            self.command(["bash", "--noprofile", "--norc"]),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, cwd=f"{self.root}{directory}", text=True,
            start_new_session=True, pass_fds=(reader,),
            env={**os.environ, "HOME": self.directory, **environment,
                 "ANSWERS": str(reader)})
        os.close(reader)
        self.pending = ""
        self.send(self.profile)

    def command(self, shell):
        """What starts the shell."""
        return as_server(shell, "KILL")

    def close(self):
        """End the shell and all that it has started."""
        try:
            os.killpg(self.shell.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.shell.wait()
        self.shell.stdin.close()
        self.shell.stdout.close()
        os.close(self.answers)

    def here(self, text):
        """A text of the document with the names that things have here."""
        names = sorted(self.names, key=len, reverse=True)
        return re.sub("|".join(map(re.escape, names)) or "(?!)",
                      lambda match: self.names[match.group()], text)

    def there(self, text):
        """The reverse, for answers."""
        for name, value in self.names.items():
            if len(value) > 3:
                text = text.replace(value, name)
        return text

    def send(self, text):
        self.shell.stdin.write(text)
        self.shell.stdin.flush()

    def lines(self):
        """What the shell prints, line by line, until the time is over."""
        deadline = time.monotonic() + BLOCK_S_MAX
        stdout = self.shell.stdout.fileno()
        while True:
            line, end, rest = self.pending.partition("\n")
            if end:
                self.pending = rest
                yield line
                continue
            left = deadline - time.monotonic()
            assert left > 0 and select.select([stdout], [], [], left)[0], \
                f"not after {BLOCK_S_MAX} s"
            data = os.read(stdout, 65536)
            assert data, "the shell has ended"
            self.pending += data.decode(errors="replace")

    def type(self, text, may_fail=False):
        """Run a text as a script of the shell; what it prints."""
        script = os.path.join(self.directory, ".typed")
        self.edit(script, text)
        self.send(f"trap 'failed+=(\"$BASH_COMMAND\")' ERR\n"
                  f". {script} </dev/null\n"
                  f"trap - ERR; echo; echo \"@@done ${{failed[*]@Q}}\";"
                  f" failed=()\n")
        printed = []
        try:
            for line in self.lines():
                word, _, rest = line.partition(" ")
                if word == "@@request":
                    name, *args = rest.split()
                    code = self.requests[name](*args)
                    os.write(self.answers, f"{code or 0}\n".encode())
                elif word == "@@done":
                    assert may_fail or not rest, f"failed: {rest}"
                    break
                else:
                    printed.append(line)
        except AssertionError as error:
            raise AssertionError(f"{error}\n" + "\n".join(printed)) from None
        return self.there("\n".join(printed))

    def write(self, name, text):
        """Write a file that the document shows, where it is here."""
        self.edit(self.here(name), text)

    def edit(self, path, text, mode=0o644):
        """Write a file that has this path here."""
        path = self.root + os.path.join(self.directory, path)
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.here(text))
        os.chmod(path, mode)

    def run(self, block):
        """Do with a block what a reader does."""
        try:
            {"sql": self.run_sql, "psql": self.run_psql, "sh": self.run_sh,
             "console": self.run_console, "json": lambda one: one.values,
             "text": lambda _: None}.get(block.kind, self.run_file)(block)
        except AssertionError as error:
            raise AssertionError(f"{block}: {error}") from None

    def run_file(self, block):
        if not block.file_name:
            self.run_part(block)
            return
        self.write(block.file_name, block.text)
        if "/cron.d/" in block.file_name:
            for user, command in CRON_JOB.findall(block.text):
                self.type(f"sudo -u {user} {command}")

    def run_part(self, block):
        daemon = "gateway" if "gateway" in block.document else "relay"
        self.write(".part", block.text + "".join(
            f"{section}\n{line}\n" for section, line in REQUIRED.items()
            if section not in block.text and daemon == "relay"))
        self.type(f"pgstock-{daemon} config --config {self.directory}/.part"
                  " >/dev/null")

    def run_sh(self, block):
        self.type(block.text)

    def run_sql(self, block):
        self.write(".sql", block.text)
        self.type(f"{self.psql} -X -q -v ON_ERROR_STOP=1"
                  f" -f {self.directory}/.sql")

    def run_psql(self, block):
        entries = session_of(block, "=> ")
        # psql does not echo a file; mark where each statement stood
        self.write(".sql", "".join(f"\\echo '@{number}'\n{typed}\n" for
                                   number, (typed, _) in enumerate(entries)))
        printed = self.type(f"{self.psql} -v ON_ERROR_STOP=0 -X -q"
                            " -P footer=off"
                            f" -f {self.directory}/.sql", may_fail=True)
        # without the place in the file that errors are reported with
        printed = re.sub(r"^psql:\S+: ", "", printed, flags=re.M)
        answers = re.split(r"^@\d+\n", f"{printed}\n", flags=re.M)[1:]
        assert len(answers) == len(entries), printed
        for (typed, expected), found in zip(entries, answers):
            self.compare(typed, expected, found)

    def run_console(self, block):
        for typed, expected in session_of(block, "$ "):
            self.compare(typed, expected, self.type(
                typed, may_fail=bool(expected.strip())))

    def compare(self, typed, expected, found):
        if not expected.strip() and "ERROR:" not in found:
            return              # not printed: a command, a function of void
        assert same_answer(expected, found, self.figures), (
            f"{typed}\n--- printed in the document:\n{expected}\n"
            f"--- found:\n{found}")
