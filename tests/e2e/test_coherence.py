"""One file has one content, whichever descriptor or mapping looks at it, before and after copy-up."""

import ctypes
import mmap
import os
import select
import sqlite3
import struct
import time

import pytest

import trees
from trees import File, Hard

_libc = ctypes.CDLL(None, use_errno=True)


def test_descriptor_opened_before_copy_up_sees_later_writes(union):
    u = union({"f": "old content"})
    fd = os.open(u / "f", os.O_RDONLY)
    assert os.pread(fd, 99, 0) == b"old content"
    u.write("f", "new")
    assert os.pread(fd, 99, 0) == b"new"
    os.close(fd)


def test_tail_follows(union):
    """tail -f on a file of a lower layer."""
    u = union({"log": "one\n"})
    with open(u / "log", "rb") as tail:
        assert tail.read() == b"one\n"
        for i in range(5):
            u.append("log", f"{i}\n")
            assert tail.read() == f"{i}\n".encode()


def test_fstat_sees_later_changes(union):
    u = union({"f": File(data="x", mode=0o644)})
    fd = os.open(u / "f", os.O_RDONLY)
    u.append("f", "yz")
    os.chmod(u / "f", 0o600)
    os.chown(u / "f", 3, 4)
    st = os.fstat(fd)
    assert (st.st_size, st.st_mode & 0o777, st.st_uid, st.st_gid) == (3, 0o600, 3, 4)
    assert st.st_ino == u.ino("f")
    os.close(fd)


def test_reader_sees_truncation(union):
    u = union({"f": "x" * 10_000})
    fd = os.open(u / "f", os.O_RDONLY)
    os.pread(fd, 10_000, 0)
    os.truncate(u / "f", 5)
    assert os.pread(fd, 10_000, 0) == b"x" * 5
    os.close(fd)


def test_two_writers_before_copy_up(union):
    u = union({"f": "0" * 100})
    one, two = os.open(u / "f", os.O_RDWR), os.open(u / "f", os.O_RDWR)
    os.pwrite(one, b"1", 10)
    os.pwrite(two, b"2", 20)
    for fd in (one, two):
        assert os.pread(fd, 100, 0)[10:21:10] == b"12"
        os.close(fd)
    assert u.read("f")[10:21:10] == b"12"


def test_descriptor_survives_rename_and_copy_up(union):
    u = union({"f": "old"})
    fd = os.open(u / "f", os.O_RDONLY)
    os.rename(u / "f", u / "g")
    u.append("g", "+")
    assert os.pread(fd, 9, 0) == b"old+"
    os.close(fd)


@pytest.mark.deviation("D-12")
def test_shared_mapping_sees_later_writes(union):
    u = union({"f": "o" * 8192})
    fd = os.open(u / "f", os.O_RDONLY)
    with mmap.mmap(fd, 8192, mmap.MAP_SHARED, mmap.PROT_READ) as memory:
        assert memory[:3] == b"ooo"
        writer = os.open(u / "f", os.O_RDWR)
        os.pwrite(writer, b"new", 0)
        os.close(writer)
        assert memory[:3] == u.pick(kernel=b"ooo", veneer=b"new")
    os.close(fd)


@pytest.mark.deviation("D-12")
def test_shared_mapping_after_the_cache_was_dropped(union):
    """Map, copy up through another descriptor, drop the pages, look again, write one byte."""
    u = union({"f": "o" * 65536})
    fd = os.open(u / "f", os.O_RDONLY)
    with mmap.mmap(fd, 65536, mmap.MAP_SHARED, mmap.PROT_READ) as memory:
        assert memory[40_000:40_003] == b"ooo"
        u.write("f", "n" * 65536)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        assert memory[40_000:40_003] == u.pick(kernel=b"ooo", veneer=b"nnn")
        writer = os.open(u / "f", os.O_RDWR)
        os.pwrite(writer, b"1", 0)
        os.fsync(writer)
        os.close(writer)
    os.close(fd)
    assert u.read("f") == b"1" + b"n" * 65535
    assert trees.read(u.up("f")) == b"1" + b"n" * 65535


def test_mapping_made_after_copy_up(union):
    u = union({"f": "o" * 4096})
    writer = os.open(u / "f", os.O_RDWR)
    os.pwrite(writer, b"new", 0)
    with mmap.mmap(writer, 4096) as memory:
        assert memory[:3] == b"new"
        os.pwrite(writer, b"again", 0)
        assert memory[:5] == b"again"
        memory[0:2] = b"by"
        assert os.pread(writer, 5, 0) == b"byain"
    os.close(writer)


def test_writable_shared_mapping_of_a_lower_file(union):
    """The mapping is made before anything was written: its stores are the first change."""
    u = union({"f": "o" * 8192})
    fd = os.open(u / "f", os.O_RDWR)
    with mmap.mmap(fd, 8192) as memory:
        memory[5000:5003] = b"new"
        memory.flush()
    os.close(fd)
    assert u.read("f") == b"o" * 5000 + b"new" + b"o" * 3189
    u.remount()
    assert u.read("f") == b"o" * 5000 + b"new" + b"o" * 3189


def test_store_through_a_mapping_is_read_by_others(union):
    u = union({"f": "o" * 4096})
    fd, reader = os.open(u / "f", os.O_RDWR), os.open(u / "f", os.O_RDONLY)
    with mmap.mmap(fd, 4096) as memory:
        memory[0:3] = b"new"
        assert os.pread(reader, 3, 0) == b"new"
    os.close(fd)
    os.close(reader)


def test_mapping_outlives_its_descriptor(union):
    u = union({"f": "o" * 4096})
    fd = os.open(u / "f", os.O_RDWR)
    memory = mmap.mmap(fd, 4096)
    os.close(fd)
    memory[0:3] = b"new"
    memory.close()
    u.remount()
    assert u.read("f")[:4] == b"newo"


def test_hard_links_share_their_content(union):
    u = union({}, upper={"a": "x" * 4096, "b": Hard("a")})
    fd = os.open(u / "b", os.O_RDONLY)
    with mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ) as memory:
        writer = os.open(u / "a", os.O_RDWR)
        os.pwrite(writer, b"new", 0)
        assert memory[:3] == b"new"
        os.close(writer)
    os.close(fd)


def test_last_name_of_an_open_file_whose_other_name_went(union):
    """The other name is looked up for the first time when it is the only one left."""
    u = union({}, upper={"a": "x" * 4096, "b": Hard("a")})
    fd = os.open(u / "a", os.O_RDWR)
    os.unlink(u / "a")
    with mmap.mmap(fd, 4096) as memory:
        memory[0:3] = b"new"
        assert u.read("b")[:4] == b"newx"
        assert os.fstat(fd).st_ino == u.ino("b") and os.fstat(fd).st_nlink == 1
        u.write("b", "written by the other name")
        assert memory[:7] == b"written"
    os.unlink(u / "b")
    assert os.pread(fd, 7, 0) == b"written" and os.fstat(fd).st_nlink == 0
    os.close(fd)
    u.remount()
    assert u.ls() == []


def inotify(path, mask=0x2 | 0x4 | 0x8):
    """A descriptor that reports changes of path: IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE."""
    fd = _libc.inotify_init1(os.O_NONBLOCK)
    assert _libc.inotify_add_watch(fd, os.fsencode(path), mask) > 0
    return fd


def events(fd):
    """The masks of what was reported."""
    masks = []
    while select.select([fd], [], [], 0.5)[0]:
        raw, at = os.read(fd, 65536), 0
        while at < len(raw):
            _wd, mask, _cookie, length = struct.unpack_from("iIII", raw, at)
            masks.append(mask)
            at += 16 + length
        if masks and masks[-1] & 0x8:
            break
    return masks


def test_inotify_watch_set_before_copy_up(union):
    u = union({"f": "x"})
    fd = inotify(u / "f")
    u.append("f", "y")
    seen = events(fd)
    assert any(mask & 0x2 for mask in seen) and any(mask & 0x8 for mask in seen)
    os.close(fd)


def test_inotify_watch_on_a_lower_directory(union):
    u = union({"d": {"f": ""}})
    fd = inotify(u / "d", 0x100 | 0x200)
    u.write("d/new", "")
    os.unlink(u / "d/f")
    masks = events(fd)
    assert any(mask & 0x100 for mask in masks) and any(mask & 0x200 for mask in masks)
    os.close(fd)


def test_writes_of_many_sizes_read_back(union):
    """Old and new bytes in one page: nothing of the lower file shines through or is lost."""
    old = bytes(i % 251 for i in range(50_000))
    u = union({"f": old})
    want = bytearray(old)
    reader, writer = os.open(u / "f", os.O_RDONLY), os.open(u / "f", os.O_RDWR)
    for i, (at, size) in enumerate([(4095, 2), (0, 1), (8192, 4096), (49_990, 100), (20_000, 12_345),
                                    (60_000, 10), (4000, 200)]):
        piece = bytes([i + 1]) * size
        os.pwrite(writer, piece, at)
        want.extend(b"\0" * (at + size - len(want)))
        want[at:at + size] = piece
        assert os.pread(reader, 100_000, 0) == bytes(want)
    os.close(reader)
    os.close(writer)
    u.remount()
    assert u.read("f") == bytes(want)


def test_mtime_seen_through_each_descriptor(union):
    u = union({"f": File(data="x", mtime=trees.OLD)})
    fd = os.open(u / "f", os.O_RDONLY)
    time.sleep(0.01)
    u.append("f", "y")
    assert os.fstat(fd).st_mtime_ns == os.stat(u / "f").st_mtime_ns > trees.OLD
    os.close(fd)


def test_database_over_a_lower_file(union):
    """sqlite opens, maps, locks and rewrites a file that begins its life in a lower layer."""
    u = union({"d": {}})
    path = u.low("d/db")
    with sqlite3.connect(path) as db:
        db.execute("create table t (k integer primary key, v text)")
        db.executemany("insert into t values (?, ?)", [(i, "x" * 500) for i in range(2000)])
    db.close()
    u.guard_lowers()
    u.remount()
    db = sqlite3.connect(u / "d/db")
    db.execute("pragma mmap_size=100000000")
    for turn in range(5):
        with db:
            db.execute("update t set v = ? where k % 3 = ?", (f"{turn}" * 300, turn % 3))
            db.execute("delete from t where k % 97 = ?", (turn,))
        db.execute("vacuum")
    assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
    rows = db.execute("select count(*), sum(length(v)) from t").fetchall()
    db.close()
    u.remount()
    db = sqlite3.connect(u / "d/db")
    assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
    assert db.execute("select count(*), sum(length(v)) from t").fetchall() == rows
    db.close()
