"""Many callers at once.  Each test runs for about a second; the load is what matters, not the time."""

import os
import random
import shutil
import threading
import time

import pytest

import oscalls
import trees
from callers import in_processes, in_threads, quietly
from trees import Hard

MIB = 1 << 20


@pytest.mark.parametrize("then", ["unlink", "keep"])
def test_rename_races_copy_up(union, then):
    """One writes (and so copies up) what another renames: no data lost, no old name back."""
    count = 200
    u = union({"a": {f"f{i}": "old" for i in range(count)}, "b": {}})
    gate = threading.Barrier(2, timeout=20)
    written = []

    def writer():
        for i in range(count):
            gate.wait()
            try:
                fd = os.open(u / f"a/f{i}", os.O_WRONLY | os.O_APPEND)
            except FileNotFoundError:
                continue
            os.write(fd, b"+")
            os.close(fd)
            written.append(i)

    def mover():
        for i in range(count):
            gate.wait()
            os.rename(u / f"a/f{i}", u / f"b/f{i}")
            if then == "unlink":
                os.unlink(u / f"b/f{i}")
    in_threads(writer, mover)
    u.remount()
    assert u.ls("a") == []
    if then == "unlink":
        assert u.ls("b") == []
        return
    assert len(u.ls("b")) == count
    for i in range(count):
        assert u.read(f"b/f{i}") == (b"old+" if i in written else b"old")


def test_rename_of_the_parent_races_copy_up(union):
    count = 60
    u = union({f"d{i}": {"s": {"f": "old"}} for i in range(count)}, opts=["redirect_dir=on"])
    gate = threading.Barrier(2, timeout=20)

    def writer():
        for i in range(count):
            with open(u / f"d{i}/s/f", "r+b", buffering=0) as file:
                gate.wait()
                file.write(b"new")

    def mover():
        for i in range(count):
            gate.wait()
            os.rename(u / f"d{i}/s", u / f"s{i}")
    in_threads(writer, mover)
    u.remount()
    assert all(u.read(f"s{i}/f") == b"new" for i in range(count))
    assert all(u.ls(f"d{i}") == [] for i in range(count))


def test_threads_in_different_directories(union):
    u = union({f"d{i}": {f"f{j}": f"{j}" for j in range(40)} for i in range(8)})

    def work(i):
        for j in range(40):
            u.append(f"d{i}/f{j}", "x")
            os.rename(u / f"d{i}/f{j}", u / f"d{i}/g{j}")
            u.write(f"d{i}/new{j}", "n")
            if j % 4 == 0:
                os.unlink(u / f"d{i}/g{j}")
    in_processes(*(lambda i=i: work(i) for i in range(8)))
    want = sorted([f"g{j}" for j in range(40) if j % 4] + [f"new{j}" for j in range(40)])
    u.remount()
    assert all(u.ls(f"d{i}") == want for i in range(8))
    assert all(u.read(f"d3/g{j}") == f"{j}x".encode() for j in range(40) if j % 4)


def test_one_wins_an_exclusive_create(union):
    u = union({"d": {}})
    wins = []

    def attempt(who):
        for i in range(100):
            if quietly(lambda: os.close(os.open(u / f"d/f{i}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))):
                wins.append((who, i))
    in_threads(*(lambda w=w: attempt(w) for w in range(4)))
    assert sorted(i for _who, i in wins) == list(range(100))


def test_one_wins_an_unlink(union):
    u = union({"d": {f"f{i}": "" for i in range(100)}})
    wins = []

    def attempt():
        for i in range(100):
            if quietly(os.unlink, u / f"d/f{i}"):
                wins.append(i)
    in_threads(*[attempt] * 4)
    assert sorted(wins) == list(range(100))
    assert u.ls("d") == []


def test_one_wins_a_mkdir_and_a_rename(union):
    u = union({"d": {}, **{f"s{i}": "" for i in range(50)}})
    made, moved = [], []

    def attempt(who):
        for i in range(50):
            if quietly(os.mkdir, u / f"d/m{i}"):
                made.append(i)
            if quietly(os.rename, u / f"s{i}", u / f"d/from{i}.{who}"):
                moved.append(i)
    in_threads(*(lambda w=w: attempt(w) for w in range(4)))
    assert (sorted(made), sorted(moved)) == (list(range(50)), list(range(50)))
    assert len(u.ls("d")) == 100


def test_parents_are_copied_up_once(union):
    """Eight writers below one deep lower directory."""
    tree = {f"f{i}": "x" for i in range(8)}
    for name in "hgfedcba":
        tree = {name: tree}
    u = union(tree)
    deep = "/".join("abcdefgh")
    before = u.ino(deep)
    in_processes(*(lambda i=i: u.append(f"{deep}/f{i}", "y") for i in range(8)))
    assert all(u.read(f"{deep}/f{i}") == b"xy" for i in range(8))
    assert u.ino(deep) == before
    assert len(os.listdir(u.up(deep))) == 8


def test_one_file_changed_by_many(union):
    """Eight writers race to copy up one file: none of their bytes is lost."""
    u = union({"f": "." * MIB})

    def work(i):
        fd = os.open(u / "f", os.O_RDWR)
        for j in range(i, 1024, 8):
            os.pwrite(fd, bytes([65 + i]) * 16, j * 1024)
        os.close(fd)
    in_processes(*(lambda i=i: work(i) for i in range(8)))
    data = u.read("f")
    assert all(data[j * 1024:j * 1024 + 17] == bytes([65 + j % 8]) * 16 + b"." for j in range(1024))


def test_exchange_back_and_forth_with_readers(union):
    """A reader sees either of the two contents, never neither."""
    u = union({"a": "A" * 100, "b": "B" * 100})
    stop = threading.Event()

    def exchange():
        try:
            for _ in range(150):
                oscalls.renameat2(u / "a", u / "b", oscalls.RENAME_EXCHANGE)
        finally:
            stop.set()

    def reader():
        while not stop.is_set():
            assert u.read("a") in (b"A" * 100, b"B" * 100)
    in_threads(exchange, reader, reader)


def test_replacing_rename_with_readers(union):
    """The way editors save: the name exists at every moment, with old or new content."""
    u = union({"f": "0"})
    stop = threading.Event()

    def save():
        try:
            for i in range(200):
                u.write("tmp", str(i))
                os.rename(u / "tmp", u / "f")
        finally:
            stop.set()

    def reader():
        last = -1
        while not stop.is_set():
            now = int(u.read("f"))
            assert now >= last
            last = now
    in_threads(save, reader)
    assert u.read("f") == b"199"


def test_random_operations_leave_a_consistent_tree(union):
    """Four processes at random in one small tree; then both views of it agree."""
    tree = {f"d{i}": {f"f{j}": f"{i}{j}" for j in range(6)} for i in range(3)}
    u = union(tree, {"d0": {"low": {"x": ""}}, "e": {}}, opts=["redirect_dir=on"])

    def work(seed):
        rand = random.Random(seed)
        place = lambda: u / (f"d{rand.randrange(3)}/" + rand.choice(["f0", "f1", "f2", "n0", "n1", "low"]))
        calls = [lambda: u.write(os.path.relpath(place(), u.mnt), "w"),
                 lambda: os.unlink(place()), lambda: os.rename(place(), place()),
                 lambda: os.mkdir(place()), lambda: os.rmdir(place()), lambda: os.link(place(), place()),
                 lambda: os.chmod(place(), 0o600), lambda: os.listdir(u / f"d{rand.randrange(3)}"),
                 lambda: oscalls.renameat2(place(), place(), oscalls.RENAME_EXCHANGE),
                 lambda: os.truncate(place(), 1), lambda: os.symlink("t", place())]
        end = time.monotonic() + 0.8
        while time.monotonic() < end:
            quietly(rand.choice(calls))
    in_processes(*(lambda s=s: work(s) for s in range(4)))
    live = u.snapshot(nlink=True)
    assert trees.dirent_faults(u.mnt) == []
    u.remount()
    assert trees.difference(live, u.snapshot(nlink=True)) == []


def test_readers_and_rm_rf(union):
    u = union({f"d{i}": {f"f{j}": "" for j in range(30)} for i in range(10)})
    stop = threading.Event()

    def reader():
        while not stop.is_set():
            for name in os.listdir(u.mnt):
                quietly(os.listdir, u / name)

    def remover():
        try:
            for i in range(10):
                shutil.rmtree(u / f"d{i}")
        finally:
            stop.set()
    in_threads(reader, reader, remover)
    assert u.ls() == []


def test_a_big_copy_up_does_not_delay_others(union, bulk):
    u = union(bulk, guard=False)
    done, took = threading.Event(), []

    def copy():
        try:
            fd = os.open(u / "big/file", os.O_WRONLY)
            os.pwrite(fd, b"!", 0)
            os.close(fd)
        finally:
            done.set()

    def look():
        i = 0
        while not done.is_set():
            start = time.monotonic()
            os.listdir(u / "other")
            os.stat(u / f"other/n{i % 50}")
            u.write(f"other/new{i}", "x")
            took.append(time.monotonic() - start)
            i += 1
    in_threads(copy, look)
    took.sort()
    assert len(took) > 5
    assert took[len(took) // 2] < 0.05 and took[-1] < 0.5
    assert u.copied_up("big/file")


def test_a_big_copy_up_does_not_delay_its_readers(union, bulk):
    """The lower file can be read while it is being copied."""
    u = union(bulk, guard=False)
    done, took = threading.Event(), []
    reader = os.open(u / "big/file", os.O_RDONLY)

    def copy():
        try:
            fd = os.open(u / "big/file", os.O_WRONLY)
            os.pwrite(fd, b"!", 0)
            os.close(fd)
        finally:
            done.set()

    def look():
        while not done.is_set():
            start = time.monotonic()
            os.stat(u / "big/file")
            # Not the page that is being written: the page cache may hold a reader of that one.
            os.pread(reader, 10, (1 + len(took) % 40_000) * 4096)
            took.append(time.monotonic() - start)
    in_threads(copy, look)
    os.close(reader)
    assert sorted(took)[len(took) // 2] < 0.05


def test_links_made_and_removed_at_once(union):
    u = union({}, upper={"f": "x", "d": {}, "g": Hard("f")})

    def work(who):
        for i in range(60):
            os.link(u / "f", u / f"d/{who}.{i}")
            if i % 2:
                os.unlink(u / f"d/{who}.{i}")
    in_threads(*(lambda w=w: work(w) for w in range(4)))
    assert os.stat(u / "f").st_nlink == 2 + 4 * 30


def test_mount_and_umount_under_pressure(union):
    """Twenty rounds: what was written in one is there in the next."""
    u = union({"d": {}})
    for i in range(20):
        u.write(f"d/{i}", str(i))
        u.remount()
    assert sorted(map(int, u.ls("d"))) == list(range(20))
