"""Tables: rows of a small tree, somebody who acts, what is done, and what must come of it.

All rows of a table live side by side in one union, each in a directory of its
own, so a table costs one mount and one process for each identity.
"""

import errno
import os
import pickle
import time
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple

import pytest

from trees import Dir


class Who(NamedTuple):
    """Somebody who acts."""
    name: str
    uid: int
    gid: int
    groups: tuple = ()

    def is_in(self, group):
        return group == self.gid or group in self.groups


# What is acted upon belongs to UID:GID, unless a row says otherwise.
UID, GID = 1000, 2000
ROOT = Who("root", 0, 0)
OWNER = Who("owner", UID, UID)
MEMBER = Who("member", 1001, GID)
SUPPLEMENTARY = Who("supplementary", 1002, 1002, (3000, GID))
OTHER = Who("other", 1003, 1003)
EVERYBODY = (ROOT, OWNER, MEMBER, SUPPLEMENTARY, OTHER)


def modes_for(who):
    """Every set of bits in the class that counts for him, the opposite in the other two."""
    shift = {OWNER: 6, MEMBER: 3, SUPPLEMENTARY: 3}.get(who, 0)
    if who == ROOT:
        return (0o000, 0o001, 0o666, 0o777)
    return tuple(0o777 & (~(0o111 * bits) & ~(7 << shift) | bits << shift) for bits in range(8))


def permits(who, mode, want, is_dir=False, owner=(UID, GID)):
    """Whether POSIX grants these rights (4 read, 2 write, 1 execute or search)."""
    if who.uid == 0:
        return is_dir or not want & 1 or bool(mode & 0o111)
    shift = 6 if who.uid == owner[0] else 3 if who.is_in(owner[1]) else 0
    return mode >> shift & want == want


@dataclass
class Row:
    """run(path) acts in the row's directory; then(path) looks afterwards, as root.

    `want` and `after` are what they return: "ok" for None, an errno's name for
    an OSError.  `before` is called first of all, as root; `then` gets its answer.
    """
    name: str
    tree: Any
    run: Callable
    want: Any = "ok"
    who: Who = ROOT
    then: Callable | None = None
    after: Any = "ok"
    before: Callable | None = None


def outcome(function, *args):
    """What came of a call, in a form that compares and prints well."""
    try:
        value = function(*args)
    except OSError as error:
        name = errno.errorcode.get(error.errno, error.errno)
        return "EOPNOTSUPP" if name == "ENOTSUP" else name  # one number, two names
    except AssertionError as error:
        return f"failed: {error}"
    return "ok" if value is None else value


def ignored(_value):
    """The call is what counts, not its answer."""


def attempt(function, *args, **kwargs):
    """outcome(), inside a row that makes several calls."""
    return outcome(lambda: function(*args, **kwargs))


def act_as(who, rows, paths):
    """Every row's outcome, in a process of this identity."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        answers = []
        try:
            os.close(read_end)
            os.setgroups(who.groups)
            os.setresgid(who.gid, who.gid, who.gid)
            os.setresuid(who.uid, who.uid, who.uid)
            for row, path in zip(rows, paths):
                os.umask(0o022)
                os.chdir("/")
                try:
                    answers.append(outcome(row.run, path))
                except BaseException as error:  # pylint: disable=broad-except
                    answers.append(f"raised {error!r}")
            with os.fdopen(write_end, "wb") as pipe:
                pickle.dump(answers, pipe)
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        raw = pipe.read()
    os.waitpid(pid, 0)
    assert raw, f"the process acting as {who.name} died"
    return pickle.loads(raw)


def run(stage, rows, kernel=None):
    """Run a table; every row that came out wrong is named in the failure.

    @kernel: predicate on a row's name: what kernel overlayfs is known to do its own way, and
    is left out there.
    """
    rows = [row for row in rows
            if not (stage.name == "kernel" and kernel and kernel(row.name))]
    names = [f"c{index:04}" for index in range(len(rows))]
    if not rows:
        pytest.skip("the kernel has its own way with all of them")
    root = stage.prepare({name: row.tree if isinstance(row.tree, Dir) else Dir(children=row.tree)
                          for name, row in zip(names, rows)})
    paths = [os.path.join(root, name) for name in names]
    before = [row.before(path) if row.before else None for row, path in zip(rows, paths)]
    if any(row.before for row in rows):
        time.sleep(0.02)  # of more than a tick of coarse time stamps
    got = {}
    for who in {row.who: None for row in rows}:
        mine = [index for index, row in enumerate(rows) if row.who == who]
        got.update(zip(mine, act_as(who, [rows[i] for i in mine], [paths[i] for i in mine])))
    wrong = []
    for index, row in enumerate(rows):
        args = (paths[index],) if row.before is None else (paths[index], before[index])
        seen = outcome(row.then, *args) if row.then else "ok"
        if got[index] != row.want:
            wrong.append(f"{row.name} as {row.who.name}: {got[index]!r}, wanted {row.want!r}")
        if seen != row.after:
            wrong.append(f"{row.name} as {row.who.name}: then {seen!r}, wanted {row.after!r}")
    assert not wrong, f"{len(wrong)} of {len(rows)} rows:\n" + "\n".join(wrong[:60])
