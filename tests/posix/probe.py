"""Cells: one call each, on objects of their own, and everything that can be seen of what it did.

Nobody writes down what is right: the same cells run on a plain directory, and what
they do there is.  A cell's outcome is the call's answer, and by object of its directory what
differs from before: attributes, content, extended attributes, and which times moved.
"""

import os
import stat
import time
from typing import Any, Callable, NamedTuple

import table
from trees import Dir

SETTLE = 0.02  # more than a tick of coarse time stamps
ANCIENT = 10**18  # a time that only a call can have set

# Calls of which the access time tells whether the file system was asked for data.
MAYBE_READING = ("map ", "readahead ", "swapon ")


class Cell(NamedTuple):
    """run(path) acts in the cell's directory, which holds `tree`."""
    name: str
    tree: Dir
    run: Callable
    who: table.Who = table.ROOT


class Look(NamedTuple):
    """An object as lstat(2) and its attributes show it."""
    type: str
    mode: str
    owner: tuple
    nlink: int
    size: int
    rdev: int
    xattrs: tuple
    times: tuple
    content: Any


def _xattrs(path):
    try:
        names = sorted(os.listxattr(path, follow_symlinks=False))
        return tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)
    except OSError as error:
        return error.errno


def _content(path, st):
    if stat.S_ISLNK(st.st_mode):
        return os.readlink(path)
    if not stat.S_ISREG(st.st_mode) or st.st_size > 1 << 20:
        return None
    with open(path, "rb") as file:
        return file.read(100_000)


def _look(path, with_content):
    st = os.lstat(path)
    is_dir = stat.S_ISDIR(st.st_mode)
    is_device = stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode)
    return Look(stat.filemode(st.st_mode)[0], oct(stat.S_IMODE(st.st_mode)), (st.st_uid, st.st_gid),
                st.st_nlink, 0 if is_dir else st.st_size, st.st_rdev if is_device else 0,
                _xattrs(path), (st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns),
                _content(path, st) if with_content else None)


def _look_below(path, with_content=False):
    """Every object of a cell; contents are read last, since that is seen in access times."""
    found, directories = {".": _look(path, False)}, [""]
    while directories:
        below = directories.pop()
        for name in sorted(os.listdir(os.path.join(path, below))):
            name = os.path.join(below, name)
            found[name] = _look(os.path.join(path, name), False)
            if found[name].type == "d":
                directories.append(name)
    if with_content:
        for name, look in found.items():
            if look.type in "-l":
                found[name] = _look(os.path.join(path, name), True)._replace(times=look.times)
    return found


def _moved(before, after, start):
    """Which times moved since, and those that were set to something of old by value."""
    seen = []
    for letter, old, new in zip("amc", before or (0, 0, 0), after):
        if old != new and new >= start:
            seen.append(letter)
        elif old != new and new < ANCIENT:
            seen.append(f"{letter}={new}")
    return seen


def _effects(before, after, start):
    effects = {}
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if new is None:
            effects[name] = "gone"
            continue
        changed = {field: value for field, was, value in zip(
            Look._fields, old or [None] * len(Look._fields), new) if was != value and field not in (
                "times", "content")}
        moved = _moved(old and old.times, new.times, start)
        if moved:
            changed["times"] = moved
        if new.content is not None:
            changed["content"] = new.content
        if changed:
            effects[name] = changed
    return effects


def perform(stage, cells):
    """Run all cells in one place; a list of (answer, effects)."""
    names = [f"c{index:05}" for index in range(len(cells))]
    root = stage.prepare({name: cell.tree for name, cell in zip(names, cells)})
    paths = [os.path.join(root, name) for name in names]
    before = [_look_below(path) for path in paths]
    time.sleep(SETTLE)
    start = time.time_ns() - 10_000_000
    answers = {}
    for who in {cell.who: None for cell in cells}:
        mine = [index for index, cell in enumerate(cells) if cell.who == who]
        answers.update(zip(mine, table.act_as(who, [cells[i] for i in mine],
                                              [paths[i] for i in mine])))
    return [(answers[index], _effects(before[index], _look_below(path, True), start))
            for index, path in enumerate(paths)]


def _without_access_times(outcome):
    """What reading does to a file that lies in a lower is not seen."""
    answer, effects = outcome
    told = {}
    for name, changed in effects.items():
        if isinstance(changed, dict) and "times" in changed:
            changed = dict(changed, times=[each for each in changed["times"] if each != "a"])
            if not changed["times"]:
                del changed["times"]
        if changed:
            told[name] = changed
    return answer, told


def _without_copy_ups(outcome):
    """A call that fails in the upper was preceded by a copy-up: what shows of it is a change time."""
    answer, effects = outcome
    if not (isinstance(answer, str) and answer.startswith("E")):
        return outcome
    told = {}
    for name, changed in effects.items():
        if isinstance(changed, dict) and changed.get("times") == ["c"] and changed.keys() <= {
                "times", "content"}:
            changed = {key: value for key, value in changed.items() if key != "times"}
        if changed:
            told[name] = changed
    return answer, told


def differences(cells, wanted, got, access_times):
    """One line for each cell that came out differently."""
    lines = []
    for cell, want, have in zip(cells, wanted, got):
        if not access_times or cell.name.startswith(MAYBE_READING):
            want, have = _without_access_times(want), _without_access_times(have)
        if not access_times:
            want, have = _without_copy_ups(want), _without_copy_ups(have)
        if want[0] != have[0]:
            lines.append(f"{cell.name} as {cell.who.name}: {have[0]!r}, wanted {want[0]!r}")
        for name in sorted(want[1].keys() | have[1].keys()):
            if want[1].get(name) != have[1].get(name):
                lines.append(f"{cell.name} as {cell.who.name}: {name}: {have[1].get(name)!r}, "
                             f"wanted {want[1].get(name)!r}")
    return lines
