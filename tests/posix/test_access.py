"""Who may do what: every permission bit, for root, owner, group members and others."""

import os
import stat

import pytest

import oscalls
import table
from table import (EVERYBODY, GID, OTHER, OWNER, ROOT, SUPPLEMENTARY, UID, Row, Who, ignored,
                   modes_for, permits)
from trees import Dir, File, Symlink

PROTECTED_HARDLINKS = "/proc/sys/fs/protected_hardlinks"


def opened(path, flags):
    os.close(os.open(path, flags, 0o644))


def ok(allowed, error="EACCES"):
    return "ok" if allowed else error


# ---- files ----

FILE_CALLS = {
    # name: (call, rights wanted; "owner" for the owner's calls)
    "open-r": (lambda p: opened(p, os.O_RDONLY), 4),
    "open-w": (lambda p: opened(p, os.O_WRONLY), 2),
    "open-rw": (lambda p: opened(p, os.O_RDWR), 6),
    "open-trunc": (lambda p: opened(p, os.O_WRONLY | os.O_TRUNC), 2),
    "open-r-trunc": (lambda p: opened(p, os.O_RDONLY | os.O_TRUNC), 6),
    "open-append": (lambda p: opened(p, os.O_WRONLY | os.O_APPEND), 2),
    "open-creat": (lambda p: opened(p, os.O_RDWR | os.O_CREAT), 6),
    "truncate": (lambda p: os.truncate(p, 1), 2),
    "getxattr": (lambda p: ignored(os.getxattr(p, "user.a")), 4),
    "setxattr": (lambda p: os.setxattr(p, "user.b", b"1"), 2),
    "removexattr": (lambda p: os.removexattr(p, "user.a"), 2),
    "listxattr": (lambda p: ignored(os.listxattr(p)), 0),
    "stat": (lambda p: ignored(os.stat(p)), 0),
    "open-path": (lambda p: opened(p, os.O_PATH), 0),
    "chmod": (lambda p: os.chmod(p, 0o123), "owner"),
    "chown-nothing": (lambda p: os.chown(p, -1, -1), 0),
    "utime": (lambda p: os.utime(p, ns=(5, 5)), "owner"),
    "set-acl": (lambda p: os.setxattr(p, oscalls.ACL_ACCESS, oscalls.acl("u::rw-,g::r--,o::---")),
                "owner"),
    "open-noatime": (lambda p: opened(p, os.O_RDONLY | os.O_NOATIME), "noatime"),
    "utime-now": (lambda p: os.utime(p), "owner or write"),
    "link": (lambda p: os.link(p, p + ".link"), "link"),
}


def file_want(who, mode, rule):
    if isinstance(rule, int):
        return ok(permits(who, mode, rule))
    mine = who in (ROOT, OWNER)
    if rule == "owner":
        return ok(mine, "EPERM")
    if rule == "owner or write":
        return ok(mine or permits(who, mode, 2))
    if rule == "noatime":
        return ok(permits(who, mode, 4)) if mine or not permits(who, mode, 4) else "EPERM"
    with open(PROTECTED_HARDLINKS, encoding="ascii") as file:
        protected = int(file.read())
    return ok(mine or not protected or permits(who, mode, 6), "EPERM")


def test_files(stage):
    def rows():
        for name, (call, rule) in FILE_CALLS.items():
            for who in EVERYBODY:
                for mode in modes_for(who):
                    want = file_want(who, mode, rule)
                    file = File(data="data", mode=mode, owner=(UID, GID), xattrs={"user.a": "1"})
                    yield Row(f"{name} {mode:04o}", Dir(mode=0o777, children={"f": file}),
                              lambda path, call=call: call(path + "/f"), want, who)
    table.run(stage, list(rows()))


def test_access_and_faccessat(stage):
    """The answers of access(2), which needs no open and changes nothing."""
    tree = {f"{kind}{mode:03o}": (Dir if kind == "d" else File)(mode=mode, owner=(UID, GID))
            for kind in "df" for mode in range(0o1000) if mode % 7 == 0}

    def look(path):
        return {name: tuple(os.access(os.path.join(path, name), want) for want in range(8))
                for name in tree}

    def expected(who):
        return {name: tuple(permits(who, int(name[1:], 8), want, name[0] == "d")
                            for want in range(8)) for name in tree}

    def differences(path, who):
        want = expected(who)
        return [(name, seen) for name, seen in look(path).items() if seen != want[name]]

    rows = [Row("access", tree, lambda path, who=who: differences(path, who), [], who)
            for who in EVERYBODY]
    table.run(stage, rows)


def test_execution(stage):
    def run(path):
        pid = os.fork()
        if pid == 0:
            try:
                os.execv(path + "/f", ["f"])
            except OSError as error:
                os._exit(error.errno)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    rows = [Row(f"exec {mode:04o}",
                {"f": File(data="#!/bin/true\n", mode=mode, owner=(UID, GID))}, run,
                0 if permits(who, mode, 5) else 13, who)
            for mode in (0o500, 0o100, 0o050, 0o010, 0o005, 0o001, 0o077, 0o644, 0o755)
            for who in EVERYBODY
            # A script whose reader may not read it fails in the interpreter.
            if permits(who, mode, 5) or not permits(who, mode, 1)]
    table.run(stage, rows)


# ---- directories ----

def tmpfile(path):
    os.close(oscalls.tmpfile(path))


DIR_CALLS = {
    "list": (lambda d: ignored(os.listdir(d)), 4),
    "open": (lambda d: opened(d, os.O_RDONLY | os.O_DIRECTORY), 4),
    "chdir": (os.chdir, 1),
    "stat": (lambda d: ignored(os.lstat(d + "/f")), 1),
    "open-child": (lambda d: opened(d + "/f", os.O_RDONLY), 1),
    "chmod-child": (lambda d: os.chmod(d + "/f", 0o600), "child"),
    "readlink": (lambda d: ignored(os.readlink(d + "/l")), 1),
    "creat": (lambda d: opened(d + "/new", os.O_WRONLY | os.O_CREAT), 3),
    "creat-excl": (lambda d: opened(d + "/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL), 3),
    "creat-existing": (lambda d: opened(d + "/f", os.O_WRONLY | os.O_CREAT), 1),
    "tmpfile": (tmpfile, 3),
    "mkdir": (lambda d: os.mkdir(d + "/new"), 3),
    "mkfifo": (lambda d: os.mkfifo(d + "/new"), 3),
    "mksock": (lambda d: os.mknod(d + "/new", stat.S_IFSOCK | 0o600), 3),
    "symlink": (lambda d: os.symlink("t", d + "/new"), 3),
    "link-into": (lambda d: os.link(d + "/../src", d + "/new"), 3),
    "link-inside": (lambda d: os.link(d + "/f", d + "/new"), 3),
    "unlink": (lambda d: os.unlink(d + "/f"), 3),
    "unlink-symlink": (lambda d: os.unlink(d + "/l"), 3),
    "rmdir": (lambda d: os.rmdir(d + "/e"), 3),
    "rename-inside": (lambda d: os.rename(d + "/f", d + "/new"), 3),
    "rename-out": (lambda d: os.rename(d + "/f", d + "/../out"), 3),
    "rename-in": (lambda d: os.rename(d + "/../src", d + "/new"), 3),
    "rename-over": (lambda d: os.rename(d + "/../src", d + "/f"), 3),
    "exchange": (lambda d: oscalls.renameat2(d + "/../src", d + "/f", oscalls.RENAME_EXCHANGE), 3),
    "unlink-missing": (lambda d: os.unlink(d + "/none"), "missing"),
    "rmdir-missing": (lambda d: os.rmdir(d + "/none"), "missing"),
    "stat-missing": (lambda d: ignored(os.stat(d + "/none")), "missing"),
    "creat-excl-existing": (lambda d: opened(d + "/f", os.O_CREAT | os.O_EXCL), "exists"),
    "mkdir-existing": (lambda d: os.mkdir(d + "/f"), "exists"),
}


def dir_want(who, mode, rule):
    if isinstance(rule, int):
        return ok(permits(who, mode, rule, True))
    if not permits(who, mode, 1, True):
        return "EACCES"
    return {"missing": "ENOENT", "exists": "EEXIST", "child": ok(who in (ROOT, OWNER), "EPERM")}[rule]


def test_directories(stage):
    def rows():
        for name, (call, rule) in DIR_CALLS.items():
            for who in EVERYBODY:
                for mode in modes_for(who):
                    children = {"f": File(data="x", mode=0o666, owner=(UID, GID)), "e": {},
                                "l": Symlink(target="f")}
                    tree = {"d": Dir(mode=mode, owner=(UID, GID), children=children),
                            "src": File(data="y", mode=0o666)}
                    yield Row(f"{name} {mode:04o}", Dir(mode=0o777, children=tree),
                              # By a descriptor: the way there must not need what is tested.
                              lambda path, call=call: call(path + "/d"), dir_want(who, mode, rule),
                              who)
    table.run(stage, list(rows()))


def test_search_of_the_whole_path(stage):
    """One directory on the way that may not be searched hides everything below it."""
    def tree(at):
        inner = {"f": File(data="x", mode=0o666)}
        for depth in (2, 1, 0):
            inner = {f"d{depth}": Dir(mode=0o700 if depth == at else 0o755, children=inner)}
        return inner

    calls = {"open": lambda p: opened(p, os.O_RDONLY), "stat": lambda p: ignored(os.stat(p)),
             "unlink": os.unlink, "chmod": lambda p: os.chmod(p, 0),
             "truncate": lambda p: os.truncate(p, 0)}
    rows = [Row(f"{name} below {at}", tree(at),
                lambda path, call=call: call(path + "/d0/d1/d2/f"), ok(who == ROOT), who)
            for at in range(3) for who in (ROOT, OTHER)
            for name, call in calls.items()]
    table.run(stage, rows)


# ---- sticky directories ----

STRANGER = Who("stranger", 1005, 1005)
STICKY_CALLS = {
    "unlink": (lambda d: os.unlink(d + "/f"), "file"),
    "rename": (lambda d: os.rename(d + "/f", d + "/g"), "file"),
    "rename-over": (lambda d: os.rename(d + "/mine", d + "/f"), "file"),
    "exchange": (lambda d: oscalls.renameat2(d + "/mine", d + "/f", oscalls.RENAME_EXCHANGE),
                 "file"),
    "rmdir": (lambda d: os.rmdir(d + "/e"), "file"),
    "rename-dir": (lambda d: os.rename(d + "/e", d + "/g"), "file"),
    "rename-out": (lambda d: os.rename(d + "/f", d + "/../out"), "file"),
    "creat": (lambda d: opened(d + "/g", os.O_CREAT | os.O_WRONLY), None),
    "link": (lambda d: os.link(d + "/mine", d + "/g"), None),
}


@pytest.mark.parametrize("sticky", [True, False])
def test_sticky_directories(stage, sticky):
    def rows():
        for dir_owner in (0, UID, STRANGER.uid):
            for file_owner in (0, UID, STRANGER.uid):
                for who in (ROOT, OWNER, SUPPLEMENTARY):
                    for name, (call, guarded) in STICKY_CALLS.items():
                        free = (not sticky or not guarded or who.uid in (0, dir_owner, file_owner))
                        children = {"f": File(data="x", mode=0o666, owner=(file_owner, GID)),
                                    "mine": File(data="y", owner=(who.uid, who.gid)),
                                    "e": Dir(owner=(file_owner, GID), mode=0o777)}
                        mode = 0o1777 if sticky else 0o777
                        tree = {"d": Dir(mode=mode, owner=(dir_owner, GID), children=children)}
                        yield Row(f"{name} of {file_owner} in {dir_owner}'s",
                                  Dir(mode=0o777, children=tree),
                                  lambda path, call=call: call(path + "/d"), ok(free, "EPERM"), who)
    table.run(stage, list(rows()))


def test_moving_a_directory_needs_to_write_it(stage):
    """Its ".." changes: without write permission on the directory itself it cannot leave."""
    def rows():
        for mode in (0o755, 0o777, 0o555):
            for who in (ROOT, OWNER, OTHER):
                tree = {"a": Dir(mode=0o777, children={"e": Dir(mode=mode, owner=(UID, GID))}),
                        "b": Dir(mode=0o777)}
                yield Row(f"move {mode:o}", tree, lambda p: os.rename(p + "/a/e", p + "/b/e"),
                          ok(permits(who, mode, 2, True)), who)
                yield Row(f"rename {mode:o}", tree, lambda p: os.rename(p + "/a/e", p + "/a/g"),
                          "ok", who)
    table.run(stage, list(rows()))
