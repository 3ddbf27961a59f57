"""The catalogue of cells: each call on each kind of object, by those to whom it makes a difference."""

import itertools
import os
import stat

import calls
import oscalls
from probe import Cell
from table import GID, MEMBER, OTHER, OWNER, ROOT, UID
from trees import Dir, File, Hard, Node, Symlink

MINE = (UID, GID)
DATA = b"data"


def kind(name):
    """One of the kinds of object, and what it leads to."""
    def attributes(mode):
        return {"mode": mode, "owner": MINE}
    file = File(data=DATA, xattrs={"user.a": "1"}, **attributes(0o664))
    return {
        "f": {"f": file},
        "sid": {"sid": File(data=DATA, **attributes(0o6775))},
        "hard": {"hard": file, "name": Hard("./hard")},
        "d": {"d": Dir(**attributes(0o775))},
        "full": {"full": Dir(children={"x": File(data="x", owner=MINE)}, **attributes(0o2775))},
        "l": {"f": file, "l": Symlink(target="f", owner=MINE)},
        "ld": {"d": Dir(**attributes(0o775)), "ld": Symlink(target="d", owner=MINE)},
        "none": {"none": Symlink(target="missing", owner=MINE)},
        "loop": {"loop": Symlink(target="loop", owner=MINE)},
        "p": {"p": Node(type=stat.S_IFIFO, **attributes(0o664))},
        "s": {"s": Node(type=stat.S_IFSOCK, **attributes(0o664))},
        "c": {"c": Node(type=stat.S_IFCHR, rdev=(1, 3), **attributes(0o664))},
        "b": {"b": Node(type=stat.S_IFBLK, rdev=(1, 250), **attributes(0o664))},
        "-": {},
    }[name]


KINDS = ("f", "sid", "hard", "d", "full", "l", "ld", "none", "loop", "p", "s", "c", "b", "-")


def tree(*kinds, mode=0o777, src=False):
    children = {}
    for name in kinds:
        children.update(kind(name))
    if src:
        children["src"] = File(data="source", mode=0o666)
    return Dir(mode=mode, owner=(0, GID), children=children)


def _is_far(call):
    words = call.split()
    return "far" in words or (len(words) == 4 and words[2].isdigit() and
                              int(words[2]) > 1 << 40)


def of_calls():
    for name, call in calls.EVERY.items():
        for what in KINDS:
            # What has no file system behind it once it is open says nothing of one.
            if what in "pscb" and name.rsplit(" ", 1)[-1] in ("r", "w", "rw", "a"):
                continue
            # What announces a write takes set-id bits away, whether or not it can be done.
            if what == "sid" and (_is_far(name) or name.endswith("chown -1 -1")):
                continue
            # Positions in a directory are every file system's own.
            if what in ("d", "full", "ld") and name.startswith("lseek"):
                continue
            for who in (ROOT, OWNER, OTHER):
                yield Cell(f"{name} of {what}", tree(what, src="cop" in name or "cl" in name
                                                     or "splice" in name or "send" in name),
                           lambda d, c=call, w=what: c(f"{d}/{w}"), who)


# ---- open ----

OPEN = {"creat": os.O_CREAT, "excl": os.O_EXCL, "trunc": os.O_TRUNC, "dir": os.O_DIRECTORY,
        "nofollow": os.O_NOFOLLOW, "append": os.O_APPEND, "path": os.O_PATH, "sync": os.O_SYNC,
        "noatime": os.O_NOATIME, "direct": os.O_DIRECT, "tmpfile": oscalls.O_TMPFILE}


def _open(path, flags):
    """What came of it: also what the descriptor says of itself."""
    fd = os.open(path, flags | os.O_NONBLOCK, 0o6777)
    try:
        st = os.fstat(fd)
        return (oct(st.st_mode), st.st_nlink, st.st_uid, st.st_gid,
                oct(calls.fcntl.fcntl(fd, calls.fcntl.F_GETFL)))
    finally:
        os.close(fd)


def of_open():
    for count in range(4):
        for names in itertools.combinations(OPEN, count):
            flags = 0
            for name in names:
                flags |= OPEN[name]
            for access in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, 3):
                for what in KINDS:
                    who = (ROOT, OWNER, OTHER)[(count + access + len(what)) % 3]
                    yield Cell(f"open {what} {access} {'|'.join(names)}", tree(what),
                               lambda d, w=what, f=flags | access: _open(f"{d}/{w}", f), who)


# ---- two names ----

FLAGS = {"": 0, "noreplace": oscalls.RENAME_NOREPLACE, "exchange": oscalls.RENAME_EXCHANGE}


def of_two_names():
    for one, two in itertools.product(KINDS, KINDS):
        for name, flags in FLAGS.items():
            for who, mode in ((ROOT, 0o755), (OTHER, 0o777), (OTHER, 0o1777), (MEMBER, 0o1775),
                              (OWNER, 0o1777), (OTHER, 0o755)):
                yield Cell(f"rename {name} {one} to {two} in {mode:o}", tree(one, two, mode=mode),
                           lambda d, o=one, t=two, f=flags: oscalls.renameat2(f"{d}/{o}", f"{d}/{t}",
                                                                             f), who)
        yield Cell(f"link {one} to {two}", tree(one, two),
                   lambda d, o=one, t=two: calls.raw("linkat", -100, f"{d}/{o}", -100, f"{d}/{t}", 0))
        yield Cell(f"symlink {two}", tree(two), lambda d, t=two: os.symlink("t", f"{d}/{t}"))


# ---- directories that let one do less ----

def _below(path):
    return path + "/in"


CHANGES = {
    "creat": lambda p: os.close(os.open(p + "/new", os.O_CREAT | os.O_WRONLY, 0o666)),
    "creat f": lambda p: os.close(os.open(p + "/f", os.O_CREAT | os.O_WRONLY, 0o666)),
    "creat excl f": lambda p: os.close(os.open(p + "/f", os.O_CREAT | os.O_EXCL, 0o666)),
    "mkdir": lambda p: os.mkdir(p + "/new", 0o2777), "mkdir d": lambda p: os.mkdir(p + "/d"),
    "mkfifo": lambda p: os.mkfifo(p + "/new"), "mknod": lambda p: os.mknod(p + "/new", 0o140666),
    "symlink": lambda p: os.symlink("t", p + "/new"), "link": lambda p: os.link(
        p + "/f", p + "/new"), "unlink": lambda p: os.unlink(p + "/f"),
    "unlink d": lambda p: os.unlink(p + "/d"), "rmdir": lambda p: os.rmdir(p + "/d"),
    "rmdir f": lambda p: os.rmdir(p + "/f"), "unlink none": lambda p: os.unlink(p + "/absent"),
    "rename": lambda p: os.rename(p + "/f", p + "/new"),
    "rename over": lambda p: os.rename(p + "/f", p + "/g"),
    "rename d": lambda p: os.rename(p + "/d", p + "/new"),
    "rename none": lambda p: os.rename(p + "/absent", p + "/new"),
    "stat": lambda p: os.stat(p + "/f").st_size,
    "stat none": lambda p: os.stat(p + "/absent"), "list": lambda p: sorted(os.listdir(p)),
    "open": lambda p: os.close(os.open(p + "/f", os.O_RDONLY)),
    "write": lambda p: calls.write_only(lambda fd: os.write(fd, b"x"))(p + "/f"),
    "append": lambda p: calls.by_fd(os.O_APPEND | os.O_WRONLY, lambda fd: os.write(fd, b"x"))(
        p + "/f"),
    "chmod": lambda p: os.chmod(p + "/f", 0o2777), "chown": lambda p: os.chown(p + "/f", -1, GID),
    "tmpfile": lambda p: os.close(oscalls.tmpfile(p)), "access": lambda p: oscalls.access(p, 7),
    "setxattr": lambda p: os.setxattr(p + "/f", "user.b", b""),
    "setxattr dir": lambda p: os.setxattr(p, "user.b", b""),
    "chmod dir": lambda p: os.chmod(p, 0o777), "utime": lambda p: os.utime(p + "/f"),
    "truncate": lambda p: os.truncate(p + "/f", 0), "chdir": os.chdir,
    "cross out": lambda p: os.rename(p + "/f", os.path.dirname(p) + "/new"),
    "cross out d": lambda p: os.rename(p + "/d", os.path.dirname(p) + "/new"),
    "cross in": lambda p: os.rename(os.path.dirname(p) + "/out", p + "/new"),
}


def of_directories():
    for mode in (0o777, 0o1777, 0o2777, 0o755, 0o1775, 0o500, 0o300, 0o600, 0o000, 0o070, 0o007):
        for owner in (MINE, (0, 0)):
            for file_owner in (MINE, (0, GID)):
                for name, call in CHANGES.items():
                    for who in (ROOT, OWNER, MEMBER, OTHER):
                        inside = {"f": File(data=DATA, mode=0o664, owner=file_owner),
                                  "g": File(owner=file_owner), "d": Dir(owner=file_owner)}
                        yield Cell(f"{name} in {mode:o} of {owner[0]}, {file_owner[0]}",
                                   Dir(mode=0o777, children={"in": Dir(
                                       mode=mode, owner=owner, children=inside),
                                       "out": File(owner=file_owner)}),
                                   lambda d, c=call: c(_below(d)), who)


def every():
    return list(itertools.chain(of_calls(), of_open(), of_two_names(), of_directories()))
