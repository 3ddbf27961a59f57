"""Which times a call changes: of the object, of the directories it is in, and of nothing else."""

import errno
import mmap
import os
import socket
import stat

import pytest

import oscalls
import table
from table import Row, attempt, ignored
from trees import Dir, File, Symlink

PAST = 10**18  # ns: before anything a test does


def times(path, name):
    """(access, modification, change) times of a name; None if there is none."""
    try:
        st = os.lstat(os.path.join(path, name))
    except OSError:
        return None
    return st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns


def changed(before, after):
    return "".join(letter for letter, a, b in zip("amc", before, after) if a != b)


class Watch:
    """before() and then() of a row: which times of these names changed; "old>new" follows a move."""

    def __init__(self, *names, without=""):
        self.without = without
        self.pairs = [(name.split(">")[0], name.split(">")[-1]) for name in names]

    def before(self, path):
        return [times(path, old) for old, _new in self.pairs]

    def then(self, path, before):
        return {new: changed(was, times(path, new)).strip(self.without or None)
                for (_old, new), was in zip(self.pairs, before)}


def tree():
    return {"d": {"f": File(data="data", mtime=PAST), "g": File(data="more", mtime=PAST),
                  "l": Symlink(target="f"), "e": Dir(mtime=PAST), "full": Dir(children={"x": ""})},
            "o": Dir(children={"y": ""}), "out": File(data="", mtime=PAST)}


def with_fd(path, flags, function):
    fd = os.open(path, flags, 0o644)
    try:
        return function(fd)
    finally:
        os.close(fd)


def store_in_mapping(fd):
    with mmap.mmap(fd, 4) as mapping:
        mapping[0:1] = b"Z"
        mapping.flush()


def bind(path):
    with socket.socket(socket.AF_UNIX) as sock:
        os.chdir(os.path.dirname(path))
        sock.bind(os.path.basename(path))


def linked_tmpfile(path):
    with_fd(path + "/d", oscalls.O_TMPFILE | os.O_RDWR,
            lambda fd: oscalls.link_fd(fd, path + "/d/n"))


def exchange(one, two):
    oscalls.renameat2(one, two, oscalls.RENAME_EXCHANGE)


def opened(path, flags):
    os.close(os.open(path, flags, 0o644))


def refused(function, *args):
    """The call fails, as it has to."""
    name = attempt(function, *args)
    assert isinstance(name, str) and name in errno.errorcode.values(), f"not refused: {name}"


# name: (call, {watched: times that change})
NAMES = {
    "creat": (lambda p: opened(p + "/d/n", os.O_CREAT | os.O_WRONLY), {"d": "mc", "o": ""}),
    "mkdir": (lambda p: os.mkdir(p + "/d/n"), {"d": "mc"}),
    "mkfifo": (lambda p: os.mkfifo(p + "/d/n"), {"d": "mc"}),
    "mknod": (lambda p: os.mknod(p + "/d/n", stat.S_IFREG | 0o600), {"d": "mc"}),
    "mknod-device": (lambda p: os.mknod(p + "/d/n", stat.S_IFCHR | 0o600, os.makedev(1, 3)),
                     {"d": "mc"}),
    "bind": (lambda p: bind(p + "/d/n"), {"d": "mc"}),
    "symlink": (lambda p: os.symlink("t", p + "/d/n"), {"d": "mc"}),
    "link": (lambda p: os.link(p + "/d/f", p + "/d/n"), {"d": "mc", "d/f": "c", "d/g": ""}),
    "link-elsewhere": (lambda p: os.link(p + "/d/f", p + "/o/n"), {"o": "mc", "d/f": "c"}),
    "tmpfile": (lambda p: with_fd(p + "/d", oscalls.O_TMPFILE | os.O_RDWR, lambda fd: None),
                {"d": ""}),
    "tmpfile-link": (linked_tmpfile, {"d": "mc"}),
    "unlink": (lambda p: os.unlink(p + "/d/f"), {"d": "mc", "d/g": ""}),
    "unlink-symlink": (lambda p: os.unlink(p + "/d/l"), {"d": "mc", "d/f": ""}),
    "rmdir": (lambda p: os.rmdir(p + "/d/e"), {"d": "mc"}),
    "rename": (lambda p: os.rename(p + "/d/f", p + "/d/n"), {"d": "mc", "d/f>d/n": "c"}),
    "rename-elsewhere": (lambda p: os.rename(p + "/d/f", p + "/o/n"),
                         {"d": "mc", "o": "mc", "d/f>o/n": "c"}),
    "rename-over": (lambda p: os.rename(p + "/d/f", p + "/d/g"), {"d": "mc", "d/f>d/g": "c"}),
    "rename-over-elsewhere": (lambda p: os.rename(p + "/d/f", p + "/o/y"),
                              {"d": "mc", "o": "mc", "d/f>o/y": "c"}),
    "rename-symlink": (lambda p: os.rename(p + "/d/l", p + "/d/n"), {"d": "mc", "d/l>d/n": "c"}),
    "rename-dir": (lambda p: os.rename(p + "/d/e", p + "/d/n"), {"d": "mc", "d/e>d/n": "c"}),
    "rename-dir-elsewhere": (lambda p: os.rename(p + "/d/e", p + "/o/n"),
                             {"d": "mc", "o": "mc", "d/e>o/n": "c"}),
    "rename-full-dir": (lambda p: os.rename(p + "/d/full", p + "/o/n"),
                        {"d": "mc", "o": "mc", "d/full>o/n": "c", "d/full/x>o/n/x": ""}),
    "rename-dir-over": (lambda p: os.rename(p + "/d/full", p + "/d/e"),
                        {"d": "mc", "d/full>d/e": "c"}),
    "exchange": (lambda p: exchange(p + "/d/f", p + "/o/y"),
                 {"d": "mc", "o": "mc", "d/f>o/y": "c", "o/y>d/f": "c"}),
    "exchange-dirs": (lambda p: exchange(p + "/d/e", p + "/o"), {"d": "mc", "d/e>o": "c"}),
}

REFUSED = {
    "creat-excl": lambda p: opened(p + "/d/f", os.O_CREAT | os.O_EXCL),
    "mkdir": lambda p: os.mkdir(p + "/d/f"),
    "symlink": lambda p: os.symlink("t", p + "/d/f"),
    "mkfifo": lambda p: os.mkfifo(p + "/d/f"),
    "link": lambda p: os.link(p + "/d/f", p + "/d/g"),
    "link-dir": lambda p: os.link(p + "/d/e", p + "/d/n"),
    "unlink": lambda p: os.unlink(p + "/d/n"),
    "unlink-dir": lambda p: os.unlink(p + "/d/e"),
    "rmdir": lambda p: os.rmdir(p + "/d/full"),
    "rmdir-file": lambda p: os.rmdir(p + "/d/f"),
    "rename": lambda p: os.rename(p + "/d/n", p + "/d/f"),
    "rename-noreplace": lambda p: oscalls.renameat2(p + "/d/f", p + "/d/g",
                                                    oscalls.RENAME_NOREPLACE),
    "rename-over-full": lambda p: os.rename(p + "/d/e", p + "/d/full"),
    "rename-file-over-dir": lambda p: os.rename(p + "/d/f", p + "/d/e"),
    "rename-dir-over-file": lambda p: os.rename(p + "/d/e", p + "/d/f"),
    "truncate-negative": lambda p: os.truncate(p + "/d/f", -1),
    "setxattr": lambda p: os.setxattr(p + "/d/f", "user.a", b"", os.XATTR_REPLACE),
    "removexattr": lambda p: os.removexattr(p + "/d/f", "user.a"),
    "open-path": lambda p: opened(p + "/d/f/x", os.O_RDWR),
}

FORBIDDEN = {
    "creat": lambda p: opened(p + "/d/n", os.O_CREAT | os.O_WRONLY),
    "mkdir": lambda p: os.mkdir(p + "/d/n"),
    "link": lambda p: os.link(p + "/d/g", p + "/d/n"),
    "unlink": lambda p: os.unlink(p + "/d/f"),
    "rmdir": lambda p: os.rmdir(p + "/d/e"),
    "rename": lambda p: os.rename(p + "/d/f", p + "/d/n"),
    "chmod": lambda p: os.chmod(p + "/d/f", 0o777),
    "chown": lambda p: os.chown(p + "/d/f", 5, 5),
    "truncate": lambda p: os.truncate(p + "/d/f", 0),
    "utime": lambda p: os.utime(p + "/d/f", ns=(1, 1)),
    "setxattr": lambda p: os.setxattr(p + "/d/f", "user.a", b""),
    "open": lambda p: opened(p + "/d/f", os.O_WRONLY | os.O_TRUNC),
}

DATA = {
    "stat": (lambda p: ignored(os.stat(p + "/d/f")), {"d": "", "d/f": ""}),
    "open-r": (lambda p: opened(p + "/d/f", os.O_RDONLY), {"d": "", "d/f": ""}),
    "open-rw": (lambda p: opened(p + "/d/f", os.O_RDWR), {"d": "", "d/f": ""}),
    "open-creat": (lambda p: opened(p + "/d/f", os.O_RDWR | os.O_CREAT), {"d": "", "d/f": ""}),
    "open-trunc": (lambda p: opened(p + "/d/f", os.O_WRONLY | os.O_TRUNC), {"d/f": "mc"}),
    "open-trunc-empty": (lambda p: opened(p + "/out", os.O_WRONLY | os.O_TRUNC), {"out": "mc"}),
    "write": (lambda p: with_fd(p + "/d/f", os.O_WRONLY, lambda fd: ignored(os.write(fd, b"x"))),
              {"d/f": "mc"}),
    "write-nothing": (lambda p: with_fd(p + "/d/f", os.O_WRONLY,
                                        lambda fd: os.write(fd, b"") or None), {"d/f": ""}),
    "append": (lambda p: with_fd(p + "/d/f", os.O_WRONLY | os.O_APPEND,
                                 lambda fd: ignored(os.write(fd, b"x"))), {"d/f": "mc"}),
    "store": (lambda p: with_fd(p + "/d/f", os.O_RDWR, store_in_mapping), {"d/f": "mc"}),
    "truncate-shorter": (lambda p: os.truncate(p + "/d/f", 1), {"d/f": "mc"}),
    "truncate-longer": (lambda p: os.truncate(p + "/d/f", 9), {"d/f": "mc"}),
    "truncate-to-zero": (lambda p: os.truncate(p + "/d/f", 0), {"d/f": "mc"}),
    "ftruncate": (lambda p: with_fd(p + "/d/f", os.O_RDWR, lambda fd: os.ftruncate(fd, 2)),
                  {"d/f": "mc"}),
    "ftruncate-same-size": (lambda p: with_fd(p + "/d/f", os.O_RDWR,
                                              lambda fd: os.ftruncate(fd, 4)), {"d/f": "mc"}),
    "fallocate": (lambda p: with_fd(p + "/d/f", os.O_RDWR,
                                    lambda fd: os.posix_fallocate(fd, 0, 9000)), {"d/f": "mc"}),
    "punch-hole": (lambda p: with_fd(p + "/d/f", os.O_RDWR, lambda fd: oscalls.fallocate(
        fd, oscalls.FALLOC_PUNCH_HOLE | oscalls.FALLOC_KEEP_SIZE, 0, 2)), {"d/f": "mc"}),
    "copy-range": (lambda p: with_fd(p + "/d/f", os.O_RDWR, lambda fd: with_fd(
        p + "/d/g", os.O_RDONLY, lambda source: ignored(os.copy_file_range(source, fd, 3)))),
                   {"d/f": "mc", "d": ""}),
    "fsync": (lambda p: with_fd(p + "/d/f", os.O_RDWR, os.fsync), {"d/f": "", "d": ""}),
}

ATTRIBUTES = {
    "chmod": (lambda p: os.chmod(p + "/d/f", 0o600), {"d/f": "c"}),
    "chmod-same": (lambda p: os.chmod(p + "/d/f", 0o644), {"d/f": "c"}),
    "chmod-dir": (lambda p: os.chmod(p + "/d/e", 0o700), {"d/e": "c"}),
    "fchmod": (lambda p: with_fd(p + "/d/f", os.O_RDONLY, lambda fd: os.fchmod(fd, 0)),
               {"d/f": "c"}),
    "chown": (lambda p: os.chown(p + "/d/f", 5, 6), {"d/f": "c"}),
    "chown-same": (lambda p: os.chown(p + "/d/f", 0, 0), {"d/f": "c"}),
    "chown-nothing": (lambda p: os.chown(p + "/d/f", -1, -1), {"d/f": "c"}),
    "chown-dir": (lambda p: os.chown(p + "/d/e", 5, 6), {"d/e": "c"}),
    "lchown": (lambda p: os.lchown(p + "/d/l", 5, 6), {"d/l": "c", "d/f": ""}),
    "fchown": (lambda p: with_fd(p + "/d/f", os.O_RDONLY, lambda fd: os.fchown(fd, 5, 6)),
               {"d/f": "c"}),
    "utime-now": (lambda p: os.utime(p + "/d/f"), {"d/f": "amc"}),
    "utime": (lambda p: os.utime(p + "/d/f", ns=(5, 7)), {"d/f": "amc"}),
    "utime-access": (lambda p: oscalls.utimensat(p + "/d/f", 5, oscalls.UTIME_OMIT), {"d/f": "ac"}),
    "utime-modify": (lambda p: oscalls.utimensat(p + "/d/f", oscalls.UTIME_OMIT, 5), {"d/f": "mc"}),
    "utime-now-omit": (lambda p: oscalls.utimensat(p + "/d/f", oscalls.UTIME_NOW,
                                                   oscalls.UTIME_OMIT), {"d/f": "ac"}),
    "utime-omit-now": (lambda p: oscalls.utimensat(p + "/d/f", oscalls.UTIME_OMIT,
                                                   oscalls.UTIME_NOW), {"d/f": "mc"}),
    "utime-omit": (lambda p: oscalls.utimensat(p + "/d/f", oscalls.UTIME_OMIT,
                                               oscalls.UTIME_OMIT), {"d/f": ""}),
    "utime-symlink": (lambda p: os.utime(p + "/d/l", ns=(5, 7), follow_symlinks=False),
                      {"d/l": "amc", "d/f": ""}),
    "utime-dir": (lambda p: os.utime(p + "/d/e", ns=(5, 7)), {"d/e": "amc"}),
    "setxattr": (lambda p: os.setxattr(p + "/d/f", "user.a", b"1"), {"d/f": "c"}),
    "set-acl": (lambda p: os.setxattr(p + "/d/f", oscalls.ACL_ACCESS, oscalls.acl(
        "u::rw-,u:5:r--,g::r--,m::r--,o::---")), {"d/f": "c"}),
    "set-default-acl": (lambda p: os.setxattr(p + "/d/e", oscalls.ACL_DEFAULT, oscalls.acl(
        "u::rw-,u:5:r--,g::r--,m::r--,o::---")), {"d/e": "c"}),
    "chattr": (lambda p: oscalls.change_flags(p + "/d/f", add=oscalls.FS_NODUMP), {"d/f": "c"}),
}


def rows_of(calls):
    rows = []
    for name, (call, wanted) in calls.items():
        # A mapping reads as well, and of a lower nothing is marked as read.
        watch = Watch(*wanted, without="a" if name == "store" else "")
        rows.append(Row(name, tree(), call, then=watch.then, before=watch.before,
                        after={each.split(">")[-1]: letters for each, letters in wanted.items()}))
    return rows


ALL = ("d", "o", "out", "d/f", "d/g", "d/l", "d/e", "d/full", "d/full/x", "o/y")


def unchanged(calls, who):
    watch = Watch(*ALL)
    return [Row(name, tree(), lambda p, call=call: refused(call, p), who=who, before=watch.before,
                then=watch.then, after={name: "" for name in ALL}) for name, call in calls.items()]


def test_names(stage):
    table.run(stage, rows_of(NAMES), kernel=lambda name: name == "tmpfile")


def test_what_fails_changes_no_time(stage):
    # A copy-up that comes before the check changes times of the kernel's.
    table.run(stage, unchanged(REFUSED, table.ROOT), kernel=lambda name: stage.placement != "upper")


def test_what_is_forbidden_changes_no_time(stage):
    # Merging the names of a directory counts as reading it there.
    table.run(stage, unchanged(FORBIDDEN, table.OTHER),
              kernel=lambda name: stage.placement == "merged")


def test_data(stage):
    # Opening for writing copies up, which is the kernel's to see.
    table.run(stage, rows_of(DATA), kernel=lambda name: stage.placement != "upper")


def test_attributes(stage):
    table.run(stage, rows_of(ATTRIBUTES))


def test_others_stay_untouched(stage):
    """A change copies directories up and marks them: nobody may see that by their times."""
    calls = {"chmod": lambda p: os.chmod(p + "/d/full/x", 0o600),
             "write": lambda p: with_fd(p + "/d/full/x", os.O_WRONLY,
                                        lambda fd: ignored(os.write(fd, b"x"))),
             "link-out": lambda p: os.link(p + "/d/full/x", p + "/o/n"),
             "setxattr": lambda p: os.setxattr(p + "/d/full/x", "user.a", b"1")}
    watch = Watch("d", "d/full", "d/f", "d/e")
    rows = [Row(name, tree(), call, before=watch.before, then=watch.then,
                after={"d": "", "d/full": "", "d/f": "", "d/e": ""}) for name, call in calls.items()]
    # The change time of a directory that is copied up is the kernel's to see.
    table.run(stage, rows, kernel=lambda name: stage.placement != "upper")


# ---- links and open files ----

def two_links(path):
    os.link(path + "/d/f", path + "/o/h")


def link_row(name, call, want):
    watch = Watch(*want)

    def before(path):
        two_links(path)
        return watch.before(path)
    return Row(name, tree(), call, before=before, then=watch.then,
               after={each.split(">")[-1]: letters for each, letters in want.items()})


def test_the_other_name_of_a_file(stage):
    table.run(stage, [
        link_row("unlink", lambda p: os.unlink(p + "/d/f"), {"o/h": "c", "d": "mc", "o": ""}),
        link_row("rename-over", lambda p: os.rename(p + "/d/g", p + "/d/f"),
                 {"o/h": "c", "d": "mc", "o": ""}),
        link_row("rename", lambda p: os.rename(p + "/d/f", p + "/d/n"), {"o/h": "c", "o": ""}),
        link_row("rename-to-itself", lambda p: os.rename(p + "/d/f", p + "/o/h"),
                 {"o/h": "", "d/f": "", "d": "", "o": ""}),
        link_row("chmod", lambda p: os.chmod(p + "/d/f", 0), {"o/h": "c"}),
        link_row("write", lambda p: with_fd(p + "/d/f", os.O_WRONLY,
                                            lambda fd: ignored(os.write(fd, b"x"))), {"o/h": "mc"}),
    ])


def test_open_file_that_loses_its_name(stage):
    def run(path, how):
        with open(path + "/d/f", "rb") as file:
            before = os.fstat(file.fileno())
            how(path)
            after = os.fstat(file.fileno())
        return (after.st_nlink, after.st_mtime_ns == before.st_mtime_ns,
                after.st_ctime_ns > before.st_ctime_ns)
    hows = {"unlink": lambda p: os.unlink(p + "/d/f"),
            "rename-over": lambda p: os.rename(p + "/d/g", p + "/d/f")}
    table.run(stage, [Row(name, tree(), lambda p, how=how: run(p, how), (0, True, True))
                      for name, how in hows.items()], kernel=lambda name: True)


# ---- reading ----

def read_all(path):
    with open(path, "rb") as file:
        file.read()


@pytest.mark.placements("upper")
def test_access_time_of_reading(stage):
    """As with relatime: an access time older than the modification moves."""
    def aged(path):
        for name in ("d/f", "d/e", "d/full", "d"):
            os.utime(f"{path}/{name}", ns=(PAST, PAST + 1))
        os.utime(path + "/d/l", ns=(PAST, PAST + 1), follow_symlinks=False)

    calls = {
        "read": (lambda p: read_all(p + "/d/f"), {"d/f": "a", "d": ""}),
        "read-nothing": (lambda p: with_fd(p + "/d/f", os.O_RDONLY,
                                           lambda fd: os.read(fd, 0) or None), {"d/f": ""}),
        "readlink": (lambda p: ignored(os.readlink(p + "/d/l")), {"d/l": "a"}),
        "list": (lambda p: ignored(os.listdir(p + "/d/full")), {"d/full": "a"}),
        "noatime": (lambda p: with_fd(p + "/d/f", os.O_RDONLY | os.O_NOATIME,
                                      lambda fd: ignored(os.read(fd, 9))), {"d/f": ""}),
    }
    rows = []
    for name, (call, wanted) in calls.items():
        watch = Watch(*wanted)

        def before(path, watch=watch):
            aged(path)
            return watch.before(path)
        rows.append(Row(name, tree(), call, before=before, then=watch.then, after=wanted))
    table.run(stage, rows)


@pytest.mark.placements("upper", "merged")
def test_access_time_of_a_directory(stage):
    """Listing it moves the access time; what a union reads for its own ends does not."""
    def aged(path):
        os.utime(path + "/d", ns=(PAST, PAST + 1))
        return watch.before(path)
    watch = Watch("d")
    calls = {"list": (lambda p: ignored(os.listdir(p + "/d")), "a"),
             "stat": (lambda p: ignored(os.stat(p + "/d")), ""),
             "look up": (lambda p: ignored(attempt(os.stat, p + "/d/none")), ""),
             "rmdir": (lambda p: refused(os.rmdir, p + "/d"), "")}
    table.run(stage, [Row(name, tree(), call, before=aged, then=watch.then, after={"d": letters})
                      for name, (call, letters) in calls.items()],
              kernel=lambda name: stage.placement == "merged")


def test_times_are_kept_to_the_nanosecond(stage):
    moments = (0, 1, 999_999_999, 10**18 + 123_456_789, 2**33 * 10**9 + 1, -1, -10**18 + 5)

    def run(path, moment):
        os.utime(path + "/d/f", ns=(moment, moment))
        st = os.stat(path + "/d/f")
        return st.st_atime_ns, st.st_mtime_ns
    table.run(stage, [Row(str(moment), tree(), lambda p, moment=moment: run(p, moment),
                          (moment, moment)) for moment in moments])


def test_now_is_not_behind(stage):
    """What is changed later has no earlier time than what the clock said before."""
    import time

    def run(path):
        # The coarse clock that file systems use lags behind by up to a tick.
        start = time.clock_gettime_ns(5)
        os.utime(path + "/d/f")
        opened(path + "/d/n", os.O_CREAT | os.O_WRONLY)
        os.chmod(path + "/d/g", 0)
        end = time.time_ns()
        ctimes = [os.lstat(f"{path}/d/{name}").st_ctime_ns for name in ("f", "n", "g")]
        return all(start <= each <= end for each in ctimes), ctimes == sorted(ctimes)
    table.run(stage, [Row("now", tree(), run, (True, True))])
