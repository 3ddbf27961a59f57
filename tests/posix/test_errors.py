"""Error codes: names and paths of every shape, given to every call that takes one."""

import ctypes
import fcntl
import mmap
import os
import stat

import pytest

import oscalls
import table
from table import Row, attempt, ignored
from trees import File, Node, Symlink

NAME_MAX, PATH_MAX = 255, 4096
LONG, TOO_LONG = "n" * NAME_MAX, "n" * (NAME_MAX + 1)


def opened(path, flags, mode=0o644):
    os.close(os.open(path, flags, mode))


def tree(*names):
    """The objects, or only those with these names and what they lead to."""
    every = {"f": File(data="data", xattrs={"user.a": "1"}), "src": "source", "d": {},
            "full": {"x": "x", "sub": {}}, "l": Symlink(target="f"), "ld": Symlink(target="d"),
            "none": Symlink(target="missing"), "loop1": Symlink(target="loop2"),
            "loop2": Symlink(target="loop1"), "self": Symlink(target="self/x"),
            "lfull": Symlink(target="full")}
    needed = {"l": "f", "ld": "d", "loop1": "loop2", "loop2": "loop1"}
    names += tuple(needed[name] for name in names if name in needed)
    return {name: each for name, each in every.items() if not names or name in names}


# Calls that make a name, and calls that look for one: all with the path as their argument.
MAKING = {
    "creat": lambda p, d: opened(p, os.O_CREAT | os.O_WRONLY),
    "creat-excl": lambda p, d: opened(p, os.O_CREAT | os.O_EXCL | os.O_WRONLY),
    "mkdir": lambda p, d: os.mkdir(p),
    "mkfifo": lambda p, d: os.mkfifo(p),
    "mknod": lambda p, d: os.mknod(p, stat.S_IFREG | 0o600),
    "symlink": lambda p, d: os.symlink("t", p),
    "link": lambda p, d: os.link(d + "/src", p),
    "rename-to": lambda p, d: os.rename(d + "/src", p),
    "rename-dir-to": lambda p, d: os.rename(d + "/d", p),
}
FINDING = {
    "open": lambda p, d: opened(p, os.O_RDONLY),
    "open-w": lambda p, d: opened(p, os.O_WRONLY),
    "open-path": lambda p, d: opened(p, os.O_PATH),
    "open-directory": lambda p, d: opened(p, os.O_RDONLY | os.O_DIRECTORY),
    "stat": lambda p, d: ignored(os.stat(p)),
    "lstat": lambda p, d: ignored(os.lstat(p)),
    "access": lambda p, d: oscalls.access(p, os.F_OK),
    "chmod": lambda p, d: os.chmod(p, 0o600),
    "chown": lambda p, d: os.chown(p, 1, 1),
    "lchown": lambda p, d: os.lchown(p, 1, 1),
    "truncate": lambda p, d: os.truncate(p, 1),
    "utime": lambda p, d: os.utime(p),
    "readlink": lambda p, d: ignored(os.readlink(p)),
    "chdir": lambda p, d: os.chdir(p),
    "list": lambda p, d: ignored(os.listdir(p)),
    "unlink": lambda p, d: os.unlink(p),
    "rmdir": lambda p, d: os.rmdir(p),
    "link-of": lambda p, d: os.link(p, d + "/new"),
    "rename-of": lambda p, d: os.rename(p, d + "/new"),
    "exchange": lambda p, d: oscalls.renameat2(p, d + "/src", oscalls.RENAME_EXCHANGE),
    "getxattr": lambda p, d: ignored(os.getxattr(p, "user.a")),
    "setxattr": lambda p, d: os.setxattr(p, "user.b", b""),
    "listxattr": lambda p, d: ignored(os.listxattr(p)),
    "removexattr": lambda p, d: os.removexattr(p, "user.a"),
    "statvfs": lambda p, d: ignored(os.statvfs(p)),
}
EVERY = {**MAKING, **FINDING}


def rows_for(calls, path, want, name):
    """One row per call; @want: an errno's name, or a map of call -> outcome with "*" for the rest."""
    for call, function in calls.items():
        wanted = want if isinstance(want, str) else want.get(call, want.get("*"))
        yield Row(f"{call} {name}", tree("src", "d", path.split("/")[0]),
                  lambda d, function=function: function(d + "/" + path, d), wanted)


BAD_PATHS = {
    "below a file": ("f/x", "ENOTDIR"),
    "below a missing name": ("missing/x", "ENOENT"),
    "below a dangling link": ("none/x", "ENOENT"),
    "below a loop": ("loop1/x", "ELOOP"),
    "below a link to itself": ("self/x", "ELOOP"),
    "a name of 256": (TOO_LONG, "ENAMETOOLONG"),
    "below a name of 256": (TOO_LONG + "/x", "ENAMETOOLONG"),
    "a path of 4096": (None, "ENAMETOOLONG"),
    "dots below a file": ("f/.", {"*": "ENOTDIR"}),
}


def test_paths_that_lead_nowhere(stage):
    rows = []
    for name, (path, want) in BAD_PATHS.items():
        for each in rows_for(EVERY, path or "", want, name):
            if path is None:
                function = EVERY[each.name.split()[0]]
                each.run = lambda d, function=function: function(padded(d, "x", PATH_MAX), d)
            rows.append(each)
    table.run(stage, rows)


def padded(directory, name, length):
    """A path to name of exactly this many characters."""
    left = length - len(directory) - len(name) - 1
    return directory + "/" + "./" * (left // 2) + "/" * (left % 2) + name


def test_longest_names_and_paths(stage):
    rows = []
    for call, function in MAKING.items():
        rows.append(Row(f"{call} 255", tree(),
                        lambda d, function=function: function(d + "/" + LONG, d)))
        rows.append(Row(f"{call} 4095", tree(), lambda d, function=function:
                        function(padded(d, "new", PATH_MAX - 1), d)))
    for call, function in FINDING.items():
        name = {"readlink": "l", "chdir": "d", "list": "d", "open-directory": "d",
                "rmdir": "d"}.get(call, "f")
        rows.append(Row(f"{call} 4095", tree(), lambda d, function=function, name=name:
                        function(padded(d, name, PATH_MAX - 1), d)))
    table.run(stage, rows)


def test_a_deep_tree_is_reached_step_by_step(stage):
    """Deeper than any path may be long."""
    def run(path):
        os.chdir(path)
        for _ in range(20):
            os.mkdir(LONG)
            os.chdir(LONG)
        opened("bottom", os.O_CREAT | os.O_WRONLY)
        seen = os.stat("bottom").st_size
        os.unlink("bottom")
        for _ in range(20):
            os.chdir("..")
            os.rmdir(LONG)
        return seen
    table.run(stage, [Row("deep", {}, run, 0)])


def test_symbolic_link_lengths(stage):
    rows = [Row(str(length), tree(), lambda d, length=length: os.symlink("t" * length, d + "/new"),
                want) for length, want in ((1, "ok"), (59, "ok"), (60, "ok"), (255, "ok"),
                                           (4095, "ok"), (4096, "ENAMETOOLONG"), (0, "ENOENT"))]
    table.run(stage, rows)


def test_chains_of_symbolic_links(stage):
    """Forty are followed, no more."""
    links = {f"l{i}": Symlink(target=f"l{i + 1}") for i in range(41)}
    links["l41"] = ""
    table.run(stage, [Row(f"l{start}", links, lambda d, start=start: opened(f"{d}/l{start}", 0), want)
                      for start, want in ((1, "ok"), (2, "ok"), (0, "ELOOP"))])


EXISTING = ["f", "d", "full", "l", "ld", "none"]


def test_names_that_exist(stage):
    rows = []
    for name in EXISTING:
        want = {"*": "EEXIST", "creat": "EISDIR" if name in ("d", "full", "ld") else "ok",
                "rename-to": "EISDIR" if name in ("d", "full") else "ok",
                "rename-dir-to": {"d": "ok", "full": "ENOTEMPTY"}.get(name, "ENOTDIR")}
        rows += rows_for(MAKING, name, want, name)
    table.run(stage, rows)


def test_wrong_types(stage):
    rows = []
    types = {
        "f": {"open-directory": "ENOTDIR", "readlink": "EINVAL", "chdir": "ENOTDIR",
              "list": "ENOTDIR", "rmdir": "ENOTDIR"},
        "d": {"open-w": "EISDIR", "truncate": "EISDIR", "readlink": "EINVAL", "unlink": "EISDIR",
              "link-of": "EPERM", "getxattr": "ENODATA", "removexattr": "ENODATA"},
        "full": {"open-w": "EISDIR", "truncate": "EISDIR", "readlink": "EINVAL",
                 "unlink": "EISDIR", "link-of": "EPERM", "rmdir": "ENOTEMPTY",
                 "getxattr": "ENODATA", "removexattr": "ENODATA"},
        "l": {"open-directory": "ENOTDIR", "chdir": "ENOTDIR", "list": "ENOTDIR",
              "rmdir": "ENOTDIR"},
        "ld": {"open-w": "EISDIR", "truncate": "EISDIR", "rmdir": "ENOTDIR",
               "getxattr": "ENODATA", "removexattr": "ENODATA"},
        "none": {"*": "ENOENT", "lstat": "ok", "lchown": "ok", "readlink": "ok", "unlink": "ok",
                 "rename-of": "ok", "link-of": "ok", "exchange": "ok", "rmdir": "ENOTDIR"},
        "loop1": {"*": "ELOOP", "lstat": "ok", "lchown": "ok", "readlink": "ok", "unlink": "ok",
                  "rename-of": "ok", "link-of": "ok", "exchange": "ok", "rmdir": "ENOTDIR"},
        "missing": {"*": "ENOENT"},
    }
    for name, want in types.items():
        rows += rows_for(FINDING, name, {"*": "ok", **want}, name)
    table.run(stage, rows)


SLASHED = {
    "f/": {"*": "ENOTDIR"},
    "d/": {"*": "ok", "open-w": "EISDIR", "truncate": "EISDIR", "readlink": "EINVAL",
           "unlink": "EISDIR", "link-of": "EPERM", "getxattr": "ENODATA", "removexattr": "ENODATA"},
    "ld/": {"*": "ok", "open-w": "EISDIR", "truncate": "EISDIR", "readlink": "EINVAL",
            "unlink": "ENOTDIR", "rmdir": "ENOTDIR", "rename-of": "ENOTDIR", "exchange": "ENOTDIR",
            "link-of": "EPERM", "getxattr": "ENODATA", "removexattr": "ENODATA"},
    "l/": {"*": "ENOTDIR"},
    "missing/": {"*": "ENOENT"},
    "none/": {"*": "ENOENT", "unlink": "ENOTDIR", "rmdir": "ENOTDIR", "rename-of": "ENOTDIR",
              "exchange": "ENOTDIR"},
    "d/.": {"*": "ok", "open-w": "EISDIR", "truncate": "EISDIR", "readlink": "EINVAL",
            "unlink": "EISDIR", "rmdir": "EINVAL", "rename-of": "EBUSY", "exchange": "EBUSY",
            "link-of": "EPERM", "getxattr": "ENODATA", "removexattr": "ENODATA"},
    "full/sub/..": {"*": "ok", "open-w": "EISDIR", "truncate": "EISDIR", "readlink": "EINVAL",
                    "unlink": "EISDIR", "rmdir": "ENOTEMPTY", "rename-of": "EBUSY",
                    "exchange": "EBUSY", "link-of": "EPERM", "getxattr": "ENODATA",
                    "removexattr": "ENODATA"},
}
SLASHED_MAKING = {
    "new/": {"*": "ENOENT", "creat": "EISDIR", "creat-excl": "EISDIR", "mkdir": "ok",
             "rename-to": "ENOTDIR", "rename-dir-to": "ok"},
    "f/": {"*": "EEXIST", "creat": "EISDIR", "creat-excl": "EISDIR", "rename-to": "ENOTDIR",
           "rename-dir-to": "ENOTDIR"},
    "full/": {"*": "EEXIST", "creat": "EISDIR", "creat-excl": "EISDIR", "rename-to": "ENOTDIR",
              "rename-dir-to": "ENOTEMPTY"},
    "full/.": {"*": "EEXIST", "creat": "EISDIR", "rename-to": "EBUSY",
               "rename-dir-to": "EBUSY"},
    "full/..": {"*": "EEXIST", "creat": "EISDIR", "rename-to": "EBUSY",
                "rename-dir-to": "EBUSY"},
    "none/": {"*": "EEXIST", "creat": "EISDIR", "creat-excl": "EISDIR", "rename-to": "ENOTDIR",
              "rename-dir-to": "ENOTDIR"},
}


def test_slashes_and_dots(stage):
    rows = []
    for path, want in SLASHED.items():
        rows += rows_for(FINDING, path, want, path)
    for path, want in SLASHED_MAKING.items():
        rows += rows_for(MAKING, path, want, path)
    table.run(stage, rows)


# ---- rename ----

RENAMES = {
    ("f", "f"): "ok", ("d", "d"): "ok", ("d", "d/new"): "EINVAL", ("full", "full/sub/new"): "EINVAL",
    ("full/sub", "full"): "ENOTEMPTY", ("d", "f"): "ENOTDIR", ("f", "d"): "EISDIR",
    ("d", "full"): "ENOTEMPTY", ("full", "d"): "ok", ("f", "none"): "ok", ("none", "f"): "ok",
    ("ld", "d"): "EISDIR", ("d", "ld"): "ENOTDIR", ("missing", "f"): "ENOENT",
    ("f", "missing/x"): "ENOENT", ("full/x", "x"): "ok", ("full/sub", "sub"): "ok",
    (".", "new"): "EBUSY", ("d", "."): "EBUSY", ("..", "new"): "EBUSY",
}
FLAGGED = {
    (oscalls.RENAME_NOREPLACE, "f", "src"): "EEXIST", (oscalls.RENAME_NOREPLACE, "f", "f"): "EEXIST",
    (oscalls.RENAME_NOREPLACE, "f", "new"): "ok", (oscalls.RENAME_NOREPLACE, "d", "full"): "EEXIST",
    (oscalls.RENAME_NOREPLACE, "d", "new"): "ok", (oscalls.RENAME_NOREPLACE, "f", "none"): "EEXIST",
    (oscalls.RENAME_EXCHANGE, "f", "new"): "ENOENT", (oscalls.RENAME_EXCHANGE, "f", "src"): "ok",
    (oscalls.RENAME_EXCHANGE, "f", "full"): "ok", (oscalls.RENAME_EXCHANGE, "d", "full"): "ok",
    (oscalls.RENAME_EXCHANGE, "l", "d"): "ok", (oscalls.RENAME_EXCHANGE, "f", "f"): "ok",
    (oscalls.RENAME_EXCHANGE, "full", "full/sub"): "EINVAL",
    (oscalls.RENAME_EXCHANGE, "full/sub", "full"): "EINVAL",
    (oscalls.RENAME_EXCHANGE | oscalls.RENAME_NOREPLACE, "f", "src"): "EINVAL",
    (8, "f", "new"): "EINVAL", (1 << 31, "f", "new"): "EINVAL",
    (oscalls.RENAME_EXCHANGE | oscalls.RENAME_WHITEOUT, "f", "src"): "EINVAL",
}


def test_rename(stage):
    rows = [Row(f"{old} {new}", tree(), lambda d, old=old, new=new: os.rename(f"{d}/{old}",
                                                                             f"{d}/{new}"), want)
            for (old, new), want in RENAMES.items()]
    rows += [Row(f"{old} {new} {flags}", tree(),
                 lambda d, o=old, n=new, f=flags: oscalls.renameat2(f"{d}/{o}", f"{d}/{n}", f), want)
             for (flags, old, new), want in FLAGGED.items()]
    table.run(stage, rows)


# ---- open ----

ACCESS = {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR}
FLAGS = {"creat": os.O_CREAT, "excl": os.O_EXCL, "trunc": os.O_TRUNC, "dir": os.O_DIRECTORY,
         "nofollow": os.O_NOFOLLOW}


def open_want(name, access, flags):
    """What open(2) answers for one of these names."""
    link, target = name in ("l", "ld", "none"), {"l": "f", "ld": "d", "none": "missing"}.get(name, name)
    create, excl = "creat" in flags, "creat" in flags and "excl" in flags
    if create and "dir" in flags:
        return "EINVAL"
    if excl and name != "missing":
        return "EEXIST"
    if link and "nofollow" in flags:
        return "ENOTDIR" if "dir" in flags else "ELOOP"
    if target == "missing":
        return "ok" if create else "ENOENT"
    if target == "d":
        return "EISDIR" if create or access != "r" or "trunc" in flags else "ok"
    return "ENOTDIR" if "dir" in flags else "ok"


def test_open_flags(stage):
    def combinations():
        for bits in range(1 << len(FLAGS)):
            names = [name for index, name in enumerate(FLAGS) if bits >> index & 1]
            for access in ACCESS:
                for name in ("f", "d", "l", "ld", "none", "missing"):
                    yield names, access, name

    def run(path, names, access, name):
        opened(f"{path}/{name}", ACCESS[access] | sum(FLAGS[each] for each in names))

    def size(path):
        return os.stat(path + "/f").st_size

    rows = []
    for names, access, name in combinations():
        want = open_want(name, access, names)
        truncated = want == "ok" and "trunc" in names and name in ("f", "l")
        small = {"f": File(data="data"), "d": {}, "l": Symlink(target="f"),
                 "ld": Symlink(target="d"), "none": Symlink(target="missing")}
        rows.append(Row(f"{name} {access} {'|'.join(names)}", small,
                        lambda d, args=(names, access, name): run(d, *args), want, then=size,
                        after=0 if truncated else 4))
    table.run(stage, rows)


def test_open_of_special_files(stage):
    special = {"p": Node(type=stat.S_IFIFO, mode=0o666), "s": Node(type=stat.S_IFSOCK, mode=0o666)}
    rows = [
        Row("fifo w nonblock", special, lambda d: opened(d + "/p", os.O_WRONLY | os.O_NONBLOCK),
            "ENXIO"),
        Row("fifo r nonblock", special, lambda d: opened(d + "/p", os.O_RDONLY | os.O_NONBLOCK)),
        Row("socket", special, lambda d: opened(d + "/s", os.O_RDONLY), "ENXIO"),
        Row("socket path", special, lambda d: opened(d + "/s", os.O_PATH)),
        Row("truncate fifo", special, lambda d: os.truncate(d + "/p", 0), "EINVAL"),
        Row("truncate socket", special, lambda d: os.truncate(d + "/s", 0), "EINVAL"),
        Row("list fifo", special, lambda d: os.listdir(d + "/p"), "ENOTDIR"),
    ]
    table.run(stage, rows)


# ---- arguments ----

def with_fd(path, flags, function):
    fd = os.open(path, flags, 0o644)
    try:
        return function(fd)
    finally:
        os.close(fd)


libc = ctypes.CDLL(None, use_errno=True)


def raw(name, *args):
    if getattr(libc, name)(*args) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


BAD = ctypes.c_void_p(8)


def test_arguments(stage):
    f = "/f"
    calls = {
        "truncate-negative": (lambda d: os.truncate(d + f, -1), "EINVAL"),
        "ftruncate-negative": (lambda d: with_fd(d + f, os.O_RDWR, lambda fd: os.ftruncate(fd, -1)),
                               "EINVAL"),
        "ftruncate-read-only": (lambda d: with_fd(d + f, os.O_RDONLY,
                                                  lambda fd: os.ftruncate(fd, 0)), "EINVAL"),
        "truncate-too-far": (lambda d: os.truncate(d + f, 1 << 62), "EFBIG"),
        "write-read-only": (lambda d: with_fd(d + f, os.O_RDONLY, lambda fd: os.write(fd, b"x")),
                            "EBADF"),
        "read-write-only": (lambda d: with_fd(d + f, os.O_WRONLY, lambda fd: os.read(fd, 1)),
                            "EBADF"),
        "read-directory": (lambda d: with_fd(d + "/d", os.O_RDONLY, lambda fd: os.read(fd, 1)),
                           "EISDIR"),
        "pread-negative": (lambda d: with_fd(d + f, os.O_RDWR, lambda fd: os.pread(fd, 1, -1)),
                           "EINVAL"),
        "lseek-negative": (lambda d: with_fd(d + f, os.O_RDWR, lambda fd: os.lseek(fd, -1, 0)),
                           "EINVAL"),
        "lseek-whence": (lambda d: with_fd(d + f, os.O_RDWR, lambda fd: os.lseek(fd, 0, 99)),
                         "EINVAL"),
        "seek-data-behind": (lambda d: with_fd(d + f, os.O_RDWR,
                                               lambda fd: os.lseek(fd, 4, os.SEEK_DATA)), "ENXIO"),
        "seek-hole-behind": (lambda d: with_fd(d + f, os.O_RDWR,
                                               lambda fd: os.lseek(fd, 99, os.SEEK_HOLE)), "ENXIO"),
        "fallocate-negative": (lambda d: with_fd(d + f, os.O_RDWR, lambda fd: oscalls.fallocate(
            fd, 0, -1, 5)), "EINVAL"),
        "fallocate-nothing": (lambda d: with_fd(d + f, os.O_RDWR, lambda fd: oscalls.fallocate(
            fd, 0, 0, 0)), "EINVAL"),
        "fallocate-read-only": (lambda d: with_fd(d + f, os.O_RDONLY, lambda fd: oscalls.fallocate(
            fd, 0, 0, 5)), "EBADF"),
        "fallocate-mode": (lambda d: with_fd(d + f, os.O_RDWR, lambda fd: oscalls.fallocate(
            fd, 0x4000, 0, 5)), "EOPNOTSUPP"),
        "punch-without-keep": (lambda d: with_fd(d + f, os.O_RDWR, lambda fd: oscalls.fallocate(
            fd, oscalls.FALLOC_PUNCH_HOLE, 0, 5)), "EOPNOTSUPP"),
        "fallocate-too-far": (lambda d: with_fd(d + f, os.O_RDWR, lambda fd: oscalls.fallocate(
            fd, 0, 1 << 62, 5)), "EFBIG"),
        "mknod-directory": (lambda d: os.mknod(d + "/n", stat.S_IFDIR | 0o700), "EPERM"),
        "mknod-link": (lambda d: os.mknod(d + "/n", stat.S_IFLNK | 0o700), "EINVAL"),
        "mknod-type": (lambda d: os.mknod(d + "/n", 0o150700), "EINVAL"),
        "open-empty": (lambda d: opened("", os.O_RDONLY), "ENOENT"),
        "open-bad-address": (lambda d: raw("open", BAD, 0), "EFAULT"),
        "mkdir-bad-address": (lambda d: raw("mkdir", BAD, 0o755), "EFAULT"),
        "rename-bad-address": (lambda d: raw("rename", (d + f).encode(), BAD), "EFAULT"),
        "link-bad-address": (lambda d: raw("link", (d + f).encode(), BAD), "EFAULT"),
        "write-bad-address": (lambda d: with_fd(d + f, os.O_WRONLY, lambda fd: raw(
            "write", fd, BAD, 4)), "EFAULT"),
        "read-bad-address": (lambda d: with_fd(d + f, os.O_RDONLY, lambda fd: raw(
            "read", fd, BAD, 4)), "EFAULT"),
        "stat-bad-address": (lambda d: raw("stat", (d + f).encode(), BAD), "EFAULT"),
        "link-directory": (lambda d: os.link(d + "/d", d + "/n"), "EPERM"),
        "link-flags": (lambda d: raw("linkat", -100, (d + f).encode(), -100, (d + "/n").encode(), 1),
                       "EINVAL"),
        "unlink-flags": (lambda d: raw("unlinkat", -100, (d + f).encode(), 1), "EINVAL"),
        "setxattr-create": (lambda d: os.setxattr(d + f, "user.a", b"", os.XATTR_CREATE), "EEXIST"),
        "setxattr-replace": (lambda d: os.setxattr(d + f, "user.b", b"", os.XATTR_REPLACE),
                             "ENODATA"),
        "setxattr-namespace": (lambda d: os.setxattr(d + f, "nothing.a", b""), "EOPNOTSUPP"),
        "setxattr-bare": (lambda d: os.setxattr(d + f, "user.", b""), "EINVAL"),
        "setxattr-long": (lambda d: os.setxattr(d + f, "user." + "n" * 251, b""), "ERANGE"),
        "setxattr-longest": (lambda d: os.setxattr(d + f, "user." + "n" * 250, b""), "ok"),
        "setxattr-huge": (lambda d: os.setxattr(d + f, "user.b", bytes(65537)), "E2BIG"),
        "setxattr-full": (lambda d: os.setxattr(d + f, "user.b", bytes(60000)), "ENOSPC"),
        "setxattr-link": (lambda d: os.setxattr(d + "/l", "user.b", b"", follow_symlinks=False),
                          "EPERM"),
        "getxattr-none": (lambda d: os.getxattr(d + f, "user.b"), "ENODATA"),
        "removexattr-none": (lambda d: os.removexattr(d + f, "user.b"), "ENODATA"),
        "copy-range-directory": (lambda d: with_fd(d + "/d", os.O_RDONLY, lambda a: with_fd(
            d + f, os.O_RDWR, lambda b: os.copy_file_range(a, b, 4))), "EISDIR"),
        "copy-range-append": (lambda d: with_fd(d + "/src", os.O_RDONLY, lambda a: with_fd(
            d + f, os.O_RDWR | os.O_APPEND, lambda b: os.copy_file_range(a, b, 4))), "EBADF"),
        "copy-range-overlap": (lambda d: with_fd(d + f, os.O_RDWR, lambda a: os.copy_file_range(
            a, a, 4, 0, 1)), "EINVAL"),
        "fchmod-path": (lambda d: with_fd(d + f, os.O_PATH, lambda fd: os.fchmod(fd, 0)), "EBADF"),
        "fchdir-file": (lambda d: with_fd(d + f, os.O_RDONLY, os.fchdir), "ENOTDIR"),
        "fsync-path": (lambda d: with_fd(d + f, os.O_PATH, os.fsync), "EBADF"),
        "utime-nanoseconds": (lambda d: oscalls.utimensat(d + f, 10**9, 0), "EINVAL"),
        "mmap-directory": (lambda d: with_fd(d + "/d", os.O_RDONLY, map_it), "ENODEV"),
        "ioctl-unknown": (lambda d: with_fd(d + f, os.O_RDONLY, lambda fd: fcntl.ioctl(
            fd, 0x12345678)), "ENOTTY"),
        "chmod-link": (lambda d: raw("fchmodat", -100, (d + "/l").encode(), 0o600, 0x100),
                       "EOPNOTSUPP"),
    }
    table.run(stage, [Row(name, tree(), call, want) for name, (call, want) in calls.items()])


def map_it(fd):
    mmap.mmap(fd, 4, prot=mmap.PROT_READ)


# ---- mounts ----

def test_other_file_systems(stage):
    calls = {"link": lambda d: os.link(d + "/f", "/tmp/veneer-never"),
             "rename": lambda d: os.rename(d + "/f", "/tmp/veneer-never"),
             "rename-dir": lambda d: os.rename(d + "/d", "/tmp/veneer-never")}
    table.run(stage, [Row(name, tree(), call, "EXDEV")
                      for name, call in calls.items()])


def test_busy_text(stage):
    """A program that runs cannot be written, nor one run that is open for writing."""
    def run(path):
        program = path + "/program"
        os.chmod(program, 0o755)
        child = os.posix_spawn(program, ["sleep", "30"], {})
        try:
            running = (attempt(opened, program, os.O_WRONLY), attempt(os.truncate, program, 0),
                       attempt(opened, program, os.O_RDONLY), attempt(os.chmod, program, 0o700))
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)
        with open(program, "ab"):
            writing = attempt(os.posix_spawn, program, ["sleep", "30"], {})
        return running, writing
    with open("/bin/sleep", "rb") as file:
        program = File(data=file.read(), mode=0o755)
    table.run(stage, [Row("busy", {"program": program}, run,
                          (("ETXTBSY", "ETXTBSY", "ok", "ok"), "ETXTBSY"))])


READ_ONLY = {
    "creat": lambda d: opened(d + "/new", os.O_CREAT | os.O_WRONLY),
    "open-w": lambda d: opened(d + "/f", os.O_WRONLY),
    "open-rw": lambda d: opened(d + "/f", os.O_RDWR),
    "open-trunc": lambda d: opened(d + "/f", os.O_RDONLY | os.O_TRUNC),
    "tmpfile": lambda d: os.close(oscalls.tmpfile(d)),
    "truncate": lambda d: os.truncate(d + "/f", 0),
    "mkdir": lambda d: os.mkdir(d + "/new"),
    "mkfifo": lambda d: os.mkfifo(d + "/new"),
    "mknod": lambda d: os.mknod(d + "/new"),
    "symlink": lambda d: os.symlink("t", d + "/new"),
    "link": lambda d: os.link(d + "/f", d + "/new"),
    "unlink": lambda d: os.unlink(d + "/f"),
    "rmdir": lambda d: os.rmdir(d + "/d"),
    "rename": lambda d: os.rename(d + "/f", d + "/new"),
    "rename-over": lambda d: os.rename(d + "/f", d + "/src"),
    "chmod": lambda d: os.chmod(d + "/f", 0),
    "chown": lambda d: os.chown(d + "/f", 1, 1),
    "utime": lambda d: os.utime(d + "/f"),
    "setxattr": lambda d: os.setxattr(d + "/f", "user.b", b""),
    "removexattr": lambda d: os.removexattr(d + "/f", "user.a"),
    "set-acl": lambda d: os.setxattr(d + "/f", oscalls.ACL_ACCESS,
                                     oscalls.acl("u::rw-,g::r--,o::---")),
    "access-w": lambda d: oscalls.access(d + "/f", os.W_OK),
    "chattr": lambda d: oscalls.change_flags(d + "/f", add=oscalls.FS_NODUMP),
}
READ_ONLY_OTHERS = {
    # What fails for another reason says that first.
    "stat-missing": (lambda d: os.stat(d + "/missing"), "ENOENT"),
    "mkdir-existing": (lambda d: os.mkdir(d + "/f"), "EEXIST"),
    "symlink-existing": (lambda d: os.symlink("t", d + "/f"), "EEXIST"),
    "creat-excl-existing": (lambda d: opened(d + "/f", os.O_CREAT | os.O_EXCL), "EEXIST"),
    "creat-existing": (lambda d: opened(d + "/f", os.O_CREAT | os.O_RDONLY), "ok"),
    "open": (lambda d: opened(d + "/f", os.O_RDONLY), "ok"),
    "access-r": (lambda d: oscalls.access(d + "/f", os.R_OK), "ok"),
    "fifo": (lambda d: with_fd(d + "/p", os.O_RDWR | os.O_NONBLOCK,
                               lambda fd: ignored(os.write(fd, b"x"))), "ok"),
    "list": (lambda d: ignored(os.listdir(d)), "ok"),
}


def test_read_only(stage):
    root = stage.prepare({"r": {**tree(), "p": Node(type=stat.S_IFIFO, mode=0o666)}})
    stage.make_read_only()
    calls = {**{name: (call, "EROFS") for name, call in READ_ONLY.items()}, **READ_ONLY_OTHERS}
    seen = {name: attempt(call, root + "/r") for name, (call, _want) in calls.items()}
    wanted = {name: want for name, (_call, want) in calls.items()}
    assert {k: v for k, v in seen.items() if v != wanted[k]} == {}


@pytest.mark.placements("upper")
def test_most_links_of_a_file(stage):
    """The file system's limit is reached as EMLINK."""
    root = stage.prepare({"d": {"f": ""}}, guard=False)
    real = stage.union.up("d") if stage.union else root + "/d"
    most = os.pathconf(real, "PC_LINK_MAX")
    if most > 70000:
        pytest.skip(f"{most} links are too many to make")
    source = os.open(real + "/f", os.O_PATH)
    directory = os.open(real, os.O_RDONLY)
    for index in range(most - 1):
        os.link("f", f"{index}", src_dir_fd=directory, dst_dir_fd=directory)
    os.close(source)
    os.close(directory)
    assert attempt(os.link, root + "/d/f", root + "/d/more") == "EMLINK"
    assert os.stat(root + "/d/f").st_nlink == most
