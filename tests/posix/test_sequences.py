"""Two changes in a row on every kind of object, with a remount after each, wherever the object lies.

What is there afterwards is what a plain directory has after the same: answers, objects, contents,
link counts, and listings that agree with them.  POSIX_SEQUENCES=N runs every N-th, 1 all.
"""

import itertools
import os
import stat
import tempfile

import pytest

import cells
import contenders
import oscalls
import table
import trees
from stage import BY_HAND, Stage

EVERY = int(os.environ.get("POSIX_SEQUENCES", "64"))
PLACEMENTS = ("upper", "lower", "merged") + BY_HAND


def opened(path, flags, data=None):
    fd = os.open(path, flags | os.O_NONBLOCK, 0o640)
    try:
        return os.read(fd, 99) if data is None else os.write(fd, data)
    finally:
        os.close(fd)


# On a name, and beside it another one.
CHANGES = {
    "read": lambda n, m: opened(n, os.O_RDONLY),
    "write": lambda n, m: opened(n, os.O_WRONLY, b"W"),
    "append": lambda n, m: opened(n, os.O_RDWR | os.O_APPEND, b"A"),
    "truncate": lambda n, m: opened(n, os.O_WRONLY | os.O_TRUNC, b""),
    "create": lambda n, m: opened(n, os.O_RDWR | os.O_CREAT, b"C"),
    "create new": lambda n, m: opened(n, os.O_RDWR | os.O_CREAT | os.O_EXCL, b"E"),
    "chmod": lambda n, m: os.chmod(n, 0o711),
    "unlink": lambda n, m: os.unlink(n),
    "rmdir": lambda n, m: os.rmdir(n),
    "mkdir": lambda n, m: os.mkdir(n),
    "symlink": lambda n, m: os.symlink("t", n),
    "mkfifo": lambda n, m: os.mkfifo(n),
    "link": lambda n, m: os.link(n, m, follow_symlinks=False),
    "link back": lambda n, m: os.link(m, n, follow_symlinks=False),
    "rename": lambda n, m: os.rename(n, m),
    "rename back": lambda n, m: os.rename(m, n),
    "exchange": lambda n, m: oscalls.renameat2(n, m, oscalls.RENAME_EXCHANGE),
    "empty": lambda n, m: os.unlink(n + "/x"),
    "fill": lambda n, m: opened(n + "/y", os.O_RDWR | os.O_CREAT | os.O_EXCL, b"Y"),
}
FIRST = ("f", "hard", "d", "full", "l", "ld", "p", "c", "-")
SECOND = ("sid", "d", "full", "none", "-")


class Sequence:
    """What is done in a directory of its own, by two steps."""

    def __init__(self, first, second, steps):
        self.names = (first, second if second != first else second + "2")
        self.name = f"{first} {second}: {', '.join(steps)}"
        tree = {**cells.kind(second), **cells.kind(first)}
        if second == first and first in tree:
            tree[self.names[1]] = tree[first]
        self.tree = trees.Dir(children=tree)
        self.steps = [CHANGES[step] for step in steps]

    def do(self, step, path):
        one, two = (os.path.join(path, name) for name in self.names)
        return table.outcome(self.steps[step], one, two)


def sequences():
    return [Sequence(first, second, steps) for first, second, steps in itertools.product(
        FIRST, SECOND, itertools.product(CHANGES, CHANGES))]


def look(path):
    """Every object below, and what its listings say that lookups do not."""
    found = {}
    for name, entry in trees.snapshot(path, times=False, nlink=True).items():
        st = os.lstat(os.path.join(path, name))
        is_dir = stat.S_ISDIR(st.st_mode)
        found[name] = (entry.type, entry.mode, entry.owner, entry.rdev, entry.content, entry.xattrs,
                       st.st_nlink if is_dir else entry.nlink)
    return found, [str(fault) for fault in trees.dirent_faults(path)]


def performed(ext4, name, placement, chosen):
    base = tempfile.mkdtemp(prefix="s", dir=ext4)
    os.chmod(base, 0o755)
    stage = Stage(base, name, placement, contenders.CONTENDERS.get(name))
    try:
        names = [f"c{index:05}" for index in range(len(chosen))]
        root = stage.prepare({each: sequence.tree for each, sequence in zip(names, chosen)})
        outcomes = [[] for _ in chosen]
        for step in range(2):
            for sequence, each, told in zip(chosen, names, outcomes):
                told.append(sequence.do(step, os.path.join(root, each)))
                told.append(look(os.path.join(root, each)))
            stage.remount()
            for each, told in zip(names, outcomes):
                told.append(look(os.path.join(root, each)))
        return outcomes, stage.close()
    finally:
        for left in reversed(contenders.mounts_below(base)):
            oscalls.umount(left, oscalls.MNT_DETACH)
        trees.remove(base)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_sequences(ext4, placement):
    if reason := contenders.CONTENDERS["veneer"].missing():
        pytest.skip(reason)
    chosen = sequences()[PLACEMENTS.index(placement)::EVERY]
    wanted, _ = performed(ext4, "plain", "", chosen)
    got, faults = performed(ext4, "veneer", placement, chosen)
    wrong = [f"{sequence.name}: {have!r}, wanted {want!r}"
             for sequence, told, asked in zip(chosen, got, wanted)
             for have, want in zip(told, asked) if have != want]
    assert not faults, "\n".join(faults)
    assert not wrong, f"{len(wrong)} differences in {len(chosen)}:\n" + "\n".join(wrong[:30])
