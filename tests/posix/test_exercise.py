"""Random exercise: of one file's data (as fsx), and of a tree by many processes (as fsstress).

POSIX_SEEDS=FIRST-LAST chooses the seeds of the data exercise, POSIX_SECONDS
how long the processes work.
"""

import faulthandler
import mmap
import os
import random
import signal
import stat
import time

import pytest

import contenders
import oscalls
import trees
from exerciser import Exerciser
from trees import Dir, File, Symlink

FIRST, LAST = map(int, os.environ.get("POSIX_SEEDS", "1-4").split("-"))
SECONDS = float(os.environ.get("POSIX_SECONDS", "3"))
STEPS = 400


def test_data_against_a_model(stage):
    files = {f"f{seed}": File(data=random.Random(-seed).randbytes(150_000)) if seed % 2 else
             File(data=b"head", size=120_000) for seed in range(FIRST, LAST + 1)}
    root = stage.prepare({"d": files})
    exercised = []
    for seed in range(FIRST, LAST + 1):
        each = Exerciser(f"{root}/d/f{seed}", seed)
        each.run(STEPS)
        exercised.append((each.path, bytes(each.model)))
    stage.remount()
    for path, model in exercised:
        assert trees.read(path) == model, path


# ---- many processes ----

WORKERS = 4
NAMES = [f"n{i}" for i in range(12)]
DIRECTORIES = ["a", "b", "c", "a/x", "b/y"]


def start_tree():
    def directory():
        return Dir(children={**{f"n{i}": f"content {i}" for i in range(6)},
                             "n6": Symlink(target="n1"), "n7": File(data="x" * 9000)})
    tree = {name: directory() for name in "abc"}
    tree["a"].children["x"] = directory()
    tree["b"].children["y"] = directory()
    return tree


class Worker:
    """Random calls in a tree that others change as well: any of them may fail."""

    def __init__(self, root, seed):
        self.root = root
        self.random = random.Random(seed)

    def path(self):
        directory = self.random.choice(DIRECTORIES)
        return os.path.join(self.root, directory, self.random.choice(NAMES))

    def data(self):
        return self.random.randbytes(self.random.choice([1, 100, 5000]))

    def work(self, until):
        calls = [self.create, self.create, self.write, self.append, self.unlink, self.rename,
                 self.rename, self.exchange, self.link, self.symlink, self.mkdir, self.rmdir,
                 self.chmod, self.truncate, self.read, self.list, self.xattr, self.tmpfile,
                 self.mapped, self.move_directory]
        while time.monotonic() < until:
            try:
                self.random.choice(calls)()
            except OSError:
                pass

    def open(self, flags):
        return os.open(self.path(), flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)

    def with_file(self, flags, function):
        fd = self.open(flags)
        try:
            function(fd)
        finally:
            os.close(fd)

    def create(self):
        self.with_file(os.O_CREAT | os.O_WRONLY | os.O_TRUNC, lambda fd: os.write(fd, self.data()))

    def write(self):
        self.with_file(os.O_WRONLY, lambda fd: os.pwrite(fd, self.data(), self.random.randrange(9000)))

    def append(self):
        self.with_file(os.O_WRONLY | os.O_APPEND, lambda fd: os.write(fd, self.data()))

    def truncate(self):
        self.with_file(os.O_RDWR, lambda fd: os.ftruncate(fd, self.random.randrange(9000)))

    def mapped(self):
        """In a process of its own: another may cut the file short, which is a SIGBUS here."""
        def use(fd):
            os.ftruncate(fd, 5000)
            pid = os.fork()
            if pid == 0:
                faulthandler.disable()
                try:
                    mmap.mmap(fd, 100)[:] = self.random.randbytes(100)
                finally:
                    os._exit(0)
            os.waitpid(pid, 0)
        self.with_file(os.O_RDWR, use)

    def read(self):
        self.with_file(os.O_RDONLY, lambda fd: os.read(fd, 10_000))

    def list(self):
        for entry in os.scandir(os.path.dirname(self.path())):
            entry.stat(follow_symlinks=False)

    def unlink(self):
        os.unlink(self.path())

    def rename(self):
        os.rename(self.path(), self.path())

    def exchange(self):
        oscalls.renameat2(self.path(), self.path(), oscalls.RENAME_EXCHANGE)

    def move_directory(self):
        one, two = (os.path.join(self.root, each) for each in self.random.sample(DIRECTORIES, 2))
        oscalls.renameat2(one, two, oscalls.RENAME_EXCHANGE)

    def link(self):
        os.link(self.path(), self.path(), follow_symlinks=False)

    def symlink(self):
        os.symlink(self.random.choice(NAMES), self.path())

    def mkdir(self):
        os.mkdir(self.path())

    def rmdir(self):
        os.rmdir(self.path())

    def chmod(self):
        self.with_file(os.O_RDONLY, lambda fd: os.fchmod(fd, 0o600 | self.random.randrange(64)))

    def xattr(self):
        self.with_file(os.O_RDONLY, lambda fd: os.setxattr(fd, "user.t", self.data()[:200]))

    def tmpfile(self):
        path = self.path()
        fd = oscalls.tmpfile(os.path.dirname(path))
        try:
            os.write(fd, self.data())
            oscalls.link_fd(fd, path)
        finally:
            os.close(fd)


def exercise(root, seed):
    """All workers at once; whoever does not come back is a hang."""
    until, pids = time.monotonic() + SECONDS, []
    for index in range(WORKERS):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                Worker(root, seed * 100 + index).work(until)
                status = 0
            finally:
                os._exit(status)
        pids.append(pid)
    statuses, late = [], time.monotonic() + SECONDS + 60
    for pid in pids:
        while not (done := os.waitpid(pid, os.WNOHANG))[0]:
            if time.monotonic() > late:
                os.kill(pid, signal.SIGKILL)
                pytest.fail("a process hangs")
            time.sleep(0.02)
        statuses.append(done[1])
    return statuses


def consistency_faults(root):
    """Listings agree with lookups, link counts with names, contents with sizes."""
    faults, links = trees.dirent_faults(root), {}
    for directory, dirs, files in os.walk(root):
        for name in dirs + files:
            path = os.path.join(directory, name)
            st = os.lstat(path)
            if stat.S_ISREG(st.st_mode):
                links.setdefault(st.st_ino, []).append((path, st.st_nlink))
                if len(trees.read(path)) != st.st_size:
                    faults.append(f"{path}: not {st.st_size} bytes")
    return faults + [f"{found[0][1]} links, but {len(found)} names: {found}"
                     for found in links.values() if found[0][1] != len(found)]


def numbered(root):
    """A snapshot with inode numbers; the device's is another one after a remount."""
    return {path: entry._replace(ino=entry.ino[1])
            for path, entry in trees.snapshot(root, nlink=True, ino=True).items()}


def without_numbers(snapshot):
    return {path: entry._replace(ino=None) for path, entry in snapshot.items()}


@pytest.mark.parametrize("seed", [1, 2])
def test_many_processes(stage, seed):
    root = stage.prepare(start_tree())
    assert exercise(root, seed) == [0] * WORKERS
    if stage.union and stage.is_veneer:
        assert stage.union.mounted.daemons(), "the daemon is gone"
    assert consistency_faults(root) == []
    before = numbered(root)
    stage.remount()
    after = numbered(root)
    if stage.name == "kernel":  # its numbers may change
        before, after = without_numbers(before), without_numbers(after)
    assert trees.difference(before, after) == []
    if stage.is_veneer:
        _compare_with_the_kernel(stage, before)


def _compare_with_the_kernel(stage, before):
    """The layers are what the kernel understands."""
    if contenders.CONTENDERS["kernel"].missing():
        return
    stage.union.remount(contender="kernel")
    assert trees.difference(without_numbers(before), trees.snapshot(stage.root, nlink=True)) == []
