"""An upper that has no room: the writer is told, by the call itself or at the latest by fsync or close.

What was there before stays as it was, nothing is left of the attempt, and once there is room it works.
"""

import errno
import mmap
import os
import shutil
import subprocess

import pytest

import trees
from callers import errno_of, write_at

MIB = 1 << 20
FEATURES = ["redirect_dir=on", "metacopy=on", "index=on"]


def quota_group(scratch, lower):
    """A directory of a file system with room, of which its group may use 8 MiB."""
    if not shutil.which("mkfs.btrfs"):
        pytest.skip("mkfs.btrfs is not installed")
    home = scratch.make("btrfs", 256 * MIB)
    where = os.path.join(home, "group")
    for command in (["quota", "enable", home], ["subvolume", "create", where],
                    ["qgroup", "limit", "8M", where]):
        subprocess.run(["btrfs", *command], check=True, capture_output=True)
    return where, lambda: subprocess.run(["btrfs", "qgroup", "limit", "none", where], check=True,
                                         capture_output=True)


def small_disk(scratch, _lower):
    """A file system of 8 MiB."""
    where = scratch.make("tmpfs", 8 * MIB)
    return where, lambda: subprocess.run(["mount", "-o", "remount,size=200M", where], check=True)


LIMITS = pytest.mark.parametrize("limit,error", [(small_disk, errno.ENOSPC), (quota_group, errno.EDQUOT)],
                                 ids=["full", "quota"])


@pytest.fixture
def tight(union_factory, scratch, ext4, request):
    """tight(limit) -> a union with a file of 20 MiB, of which there is room for 8, and a way to make room."""
    def make(limit):
        where, make_room = limit(scratch, ext4)
        u = union_factory({"big": b"o" * (20 * MIB), "d": {"small": "x"}})
        shutil.rmtree(u.upper)
        shutil.rmtree(u.work)
        u.layers.upper, u.layers.work = os.path.join(where, "upper"), os.path.join(where, "work")
        os.mkdir(u.upper)
        os.mkdir(u.work)
        u.opts = FEATURES
        request.addfinalizer(lambda: u.mounted and u.umount())
        return u.mount(), make_room
    return make


def old_content(u):
    assert u.leftovers() == []
    with open(u / "big", "rb") as file:
        data = file.read()
    assert len(data) == 20 * MIB and data == b"o" * len(data)


def store(path):
    """Through a mapping; the store itself cannot fail, what brings it to the file must."""
    fd = os.open(path, os.O_RDWR)
    try:
        with mmap.mmap(fd, 20 * MIB) as memory:
            memory[5 * MIB:5 * MIB + 3] = b"new"
            memory.flush()
        os.fsync(fd)
    finally:
        os.close(fd)


FIRST_CHANGES = {
    "write": lambda p: write_at(p, b"new", 5 * MIB),
    "append": lambda p: trees.write(p, b"new", "ab"),
    "truncate": lambda p: os.truncate(p, 19 * MIB),
    "extend": lambda p: os.truncate(p, 21 * MIB),
    "mapping": store,
}
CHANGES_AND_LIMITS = pytest.mark.parametrize("change,limit,error", [
    pytest.param(change, limit, error, id=f"{name}-{how}")
    for limit, error, how in ((small_disk, errno.ENOSPC, "full"), (quota_group, errno.EDQUOT, "quota"))
    for name, change in FIRST_CHANGES.items() if how == "full" or name in ("write", "mapping")])


@pytest.mark.veneer_only("there is no process to look at")
def test_daemon_is_bound_by_quotas(union):
    """Many file systems let a process with this capability (24, CAP_SYS_RESOURCE) use what it likes."""
    u = union({})
    pid, = u.mounted.daemons()
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        sets = dict(line.rstrip().split(":\t") for line in file if line.startswith("Cap"))
    assert not (int(sets["CapEff"], 16) | int(sets["CapPrm"], 16)) >> 24 & 1


@CHANGES_AND_LIMITS
def test_first_change_of_what_has_no_room(tight, limit, error, change):
    u, make_room = tight(limit)
    assert errno_of(lambda: change(u / "big")) == error
    if change is not store:  # which is not undone in memory, here as anywhere
        old_content(u)
    os.chmod(u / "big", 0o600)  # which needs no room
    u.append("d/small", "y")
    make_room()
    u.remount()
    old_content(u)
    assert (os.stat(u / "big").st_mode & 0o777, u.read("d/small")) == (0o600, b"xy")
    change(u / "big")
    u.remount()
    with open(u / "big", "rb") as file:
        assert file.read(5 * MIB) == b"o" * (5 * MIB)
    os.unlink(u / "big")


@CHANGES_AND_LIMITS
@pytest.mark.veneer_only("the kernel leaves the part that came in the file, and its time is another")
def test_first_change_of_data_that_has_no_room(tight, limit, error, change):
    """Attributes are in the upper already: they stay, and the room that is left does."""
    u, make_room = tight(limit)
    os.utime(u / "big", ns=(trees.OLD, trees.OLD))
    free = os.statvfs(u.upper).f_bavail
    for _ in range(2):
        assert errno_of(lambda: change(u / "big")) == error
        if change is not store:
            old_content(u)
    st = os.stat(u.up("big"))
    assert st.st_size == 20 * MIB
    if limit is small_disk:  # btrfs needs room to make room
        assert (st.st_mtime_ns, st.st_blocks <= 16) == (trees.OLD, True)
        assert os.statvfs(u.upper).f_bavail >= free - 2
        u.append("d/small", "y")
    make_room()
    u.remount()
    old_content(u)
    change(u / "big")


def until_refused(call):
    """How often the call did all of its work, and the error that ended it; None: it did a part."""
    for count in range(100):
        try:
            if call() != MIB:
                return count, None
        except OSError as failure:
            return count, failure.errno
    raise AssertionError("there is room without end")


@LIMITS
def test_writing_until_there_is_no_room(tight, limit, error):
    """What was written without an error is there; the rest was refused."""
    u, make_room = tight(limit)
    block = os.urandom(MIB)
    with open(u / "d/new", "wb", buffering=0) as file:
        written, told = until_refused(lambda: (file.write(block), os.fsync(file.fileno()))[0])
        if told is None:
            _none, told = until_refused(lambda: file.write(block))
    assert told == error and 4 <= written <= 8
    make_room()
    u.remount()
    with open(u / "d/new", "rb") as file:
        assert all(file.read(MIB) == block for _ in range(written))
    u.append("d/new", "more")
    os.unlink(u / "d/new")


@LIMITS
def test_no_room_that_is_found_late(tight, limit, error):
    """Nothing that a writer is not told of is lost: write, fsync and close are all asked."""
    u, _make_room = tight(limit)
    with open(u / "d/new", "wb", buffering=0) as file:
        calls = [lambda: file.write(os.urandom(MIB))] * 40 + [lambda: os.fsync(file.fileno()), file.close]
        told = None
        while calls and not told:
            try:
                calls.pop(0)()
            except OSError as failure:
                told = failure.errno
    assert told == error
    os.unlink(u / "d/new")


def test_names_without_room(union, scratch):
    """No inode is left: nothing new can be made, and what is there stays."""
    where, done = scratch.mount("tmpfs", "tmpfs", "size=16M,nr_inodes=55"), []
    u = union({f"f{i}": "x" for i in range(30)}, where=where)

    def change():
        for i in range(30):
            u.append(f"f{i}", "+")
            done.append(i)
    assert errno_of(change) == errno.ENOSPC
    assert errno_of(lambda: os.mkdir(u / "d")) == errno.ENOSPC
    subprocess.run(["mount", "-o", "remount,nr_inodes=100", where], check=True)  # for a work directory
    for _ in range(2):
        assert [u.read(f"f{i}") for i in range(30)] == [b"x+" if i in done else b"x" for i in range(30)]
        assert u.leftovers() == []
        u.remount()
    u.umount()
