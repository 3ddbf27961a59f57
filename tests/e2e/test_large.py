"""Large files and large trees: what a change of them costs, whom it keeps waiting, what it leaves behind.

Files are sparse where that keeps the point; VENEER_FULL=1 makes them more, and fuller.
"""

import os
import signal
import subprocess
import sys
import time

import pytest

import trees
from callers import FULL, drop_pages, in_threads, start, write_at

MIB, GIB = 1 << 20, 1 << 30
FEATURES = ["redirect_dir=on", "metacopy=on", "index=on"]


def used(path):
    """Bytes in use on the file system of path."""
    fs = os.statvfs(path)
    return (fs.f_blocks - fs.f_bfree) * fs.f_frsize


def timed(call):
    """(seconds that the call takes, its result)."""
    begin = time.monotonic()
    result = call()
    return time.monotonic() - begin, result


# Where blocks can be shared

def first_write(path):
    """Open and write one byte: seconds."""
    return timed(lambda: write_at(path, b"!", 4097))[0]


@pytest.mark.parametrize("fstype", ["xfs", "btrfs"])
def test_change_of_a_large_file_costs_nothing_where_blocks_are_shared(union_factory, scratch, fstype):
    """As quick as of a small one, and no room is taken but for the change."""
    where = scratch.make(fstype, 24 * GIB)
    u = union_factory({"small": "x" * 8192}, where=where, guard=False)
    step = 8 * MIB if FULL else 64 * MIB
    with open(u.low("large"), "wb") as file:
        for at in range(0, 10 * GIB, step):
            os.pwrite(file.fileno(), at.to_bytes(8, "big") * (MIB // 8), at)
        os.fsync(file.fileno())
    u.mount()
    before, small = used(where), first_write(u / "small")
    assert first_write(u / "large") < small + 0.5
    assert used(where) - before < 16 * MIB
    with open(u / "large", "rb") as file:
        assert os.fstat(file.fileno()).st_size == 10 * GIB - step + MIB
        for at in range(0, 10 * GIB, 64 * MIB):
            assert os.pread(file.fileno(), 8, at) == at.to_bytes(8, "big")
        assert os.pread(file.fileno(), 3, 4096) == b"\0!\0"
    u.umount()


@pytest.fixture
def crammed(union, scratch):
    """A union whose lower has four files, of which none has room in the upper."""
    where, lower = scratch.make("tmpfs", 4 * MIB), scratch.make("tmpfs", 100 * MIB)
    for name in ("a", "b", "c", "d"):
        trees.write(os.path.join(lower, name), os.urandom(20 * MIB))
    u = union(lower, where=where, guard=False)
    yield u
    u.umount()


def test_content_that_is_truncated_is_not_copied(crammed):
    u = crammed
    os.close(os.open(u / "a", os.O_RDWR | os.O_TRUNC))
    u.write("c", "short")
    fd = os.open(u / "d", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.pwrite(fd, b"far", 10 * MIB)
    os.close(fd)
    for _ in range(2):
        assert (u.read("a"), u.read("c")) == (b"", b"short")
        assert u.read("d") == b"\0" * (10 * MIB) + b"far"
        u.remount()


@pytest.mark.veneer_only("the kernel copies what it cuts off then")
def test_content_behind_a_new_end_is_not_copied(crammed):
    u = crammed
    kept = trees.read(u.low("b"))[:MIB + 5]
    os.truncate(u / "b", MIB + 5)
    os.truncate(u / "c", 0)
    fd = os.open(u / "a", os.O_RDWR)
    os.ftruncate(fd, 0)
    os.close(fd)
    for _ in range(2):
        assert (u.read("a"), u.read("b"), u.read("c")) == (b"", kept, b"")
        u.remount()


# Trees

def test_change_of_owner_of_a_large_tree_moves_no_data(union):
    """5 GiB by size: what comes to be in the upper is by number of files, and so is the time."""
    count = 20_000 if FULL else 4000
    size = 5 * GIB // count
    u = union({}, opts=FEATURES, guard=False)
    u.umount()
    for i in range(count):
        directory = u.low(f"d{i // 500}")
        if i % 500 == 0:
            os.mkdir(directory)
        with open(f"{directory}/f{i}", "wb") as file:
            file.write(b"begin %d" % i)
            file.truncate(size)
            os.pwrite(file.fileno(), b"end", size - 3)
    os.sync()
    u.mount()
    before = used(u.upper)
    seconds, _ = timed(lambda: subprocess.run(["chown", "-R", "1000:1000", u.mnt], check=True))
    os.sync()
    # Not a block of attributes for each: no more than 50 MB for as many as fill 5 GiB with small files.
    assert used(u.upper) - before < min(50 * MIB, count * 2500)
    assert seconds < 10 + count / 200
    for _ in range(2):
        for i in range(0, count, 97):
            path = u / f"d{i // 500}/f{i}"
            with open(path, "rb") as file:
                assert file.read(20).rstrip(b"\0") == b"begin %d" % i
                assert os.pread(file.fileno(), 9, size - 4) == b"\0end"
                st = os.fstat(file.fileno())
                assert (st.st_uid, st.st_gid, st.st_size) == (1000, 1000, size)
        u.remount()
    u.append("d1/f500", "+")
    assert os.stat(u / "d1/f500").st_size == size + 1


@pytest.fixture(scope="session")
def crowded(ext4):
    """A lower layer with a directory of a hundred thousand files, and an empty one."""
    path = os.path.join(ext4, "crowded")
    trees.build(path, {"full": {}, "empty": {}, "to": {}})
    for i in range(100_000):
        if i % 50_000 == 0:  # a file system has a limit for the names of one file
            name = f"{path}/file{i}"
            trees.write(name, "")
        os.link(name, f"{path}/full/f{i}")
    return path


def test_rename_of_a_directory_of_a_hundred_thousand_files(union, crowded):
    """As quick as of an empty one: the first time, after more renames, and after a remount."""
    u = union(crowded, opts=FEATURES, guard=False)
    for source, target in (("", "to/"), ("to/", ""), ("", "to/")):
        empty, _ = timed(lambda: os.rename(u / f"{source}empty", u / f"{target}empty"))
        full, _ = timed(lambda: os.rename(u / f"{source}full", u / f"{target}full"))
        assert full < empty + 0.2  # two microseconds for each name
    assert os.listdir(u.up("to/full")) == []
    u.remount()
    assert os.path.exists(u / "to/full/f99999") and not os.path.exists(u / "full")
    os.mkdir(u / "full")
    assert (u.ls("full"), len(os.listdir(u / "to/full"))) == ([], 100_000)


# Who waits, where blocks cannot be shared

@pytest.fixture
def writing(union, bulk):
    """writing(call) -> how long each call took while a process changed, and so copied up, the big file."""
    u = union(bulk, guard=False)

    def run(call, offset=0):
        took, writer = [], start(lambda: write_at(u / "big/file", b"!", offset))
        while os.waitpid(writer, os.WNOHANG)[0] == 0:
            took.append(timed(lambda: call(len(took)))[0])
        assert os.path.getsize(u.up("big/file")) == 200 * MIB
        return took
    run.union = u
    return run


def test_listing_elsewhere_during_a_copy_up(writing):
    u = writing.union
    took = writing(lambda i: (os.listdir(u / "other"), os.stat(u / f"other/n{i % 50}")))
    assert len(took) > 5


def test_changes_elsewhere_during_a_copy_up(writing):
    """Of names, of attributes, and of other files that are copied up."""
    u = writing.union
    took = writing(lambda i: (u.append(f"other/n{i % 50}", "x"), u.write(f"other/new{i}", "x"),
                              os.rename(u / f"other/new{i}", u / f"other/renamed{i}")))
    assert len(took) > 3


@pytest.mark.parametrize("where", ["begin", "middle", "end", "all over"])
def test_readers_of_a_file_during_its_copy_up(writing, where):
    """They read the old data, or see the change already; they do not wait for it to be done."""
    u = writing.union
    at = {"begin": lambda i: 0, "middle": lambda i: 100 * MIB, "end": lambda i: 200 * MIB - 4096,
          "all over": lambda i: i * 7919 * 4096 % (200 * MIB)}[where]
    reader = os.open(u / "big/file", os.O_RDONLY)

    def look(i):
        position = at(i)
        data = os.pread(reader, 100, position)
        assert data[1:] == bytes([position // (4 * MIB)]) * 99 and data[0] in (data[1], ord("!"))
        assert os.fstat(reader).st_size == 200 * MIB
    look(0)  # a page that is written before it was ever read is another matter: D-20
    took = writing(look, offset={"end": 200 * MIB - 4096}.get(where, 0))
    os.close(reader)
    assert len(took) > 20


def read_while_written(u, offset):
    """(seconds, data) of reading a byte that a process writes, and so copies up the file, meanwhile."""
    is_open, told = os.pipe()

    def change():
        fd = os.open(u / "big/file", os.O_WRONLY)
        os.write(told, b"x")
        os.pwrite(fd, b"!", offset)
    writer = start(change)
    os.read(is_open, 1)
    os.close(is_open)
    os.close(told)
    time.sleep(0.02)

    def look():
        with open(u / "big/file", "rb") as file:
            return os.pread(file.fileno(), 1, offset - (offset == 200 * MIB))
    begin = time.monotonic()
    took, data = timed(look)
    os.waitpid(writer, 0)
    return took / max(0.02, time.monotonic() - begin), data


@pytest.mark.parametrize("offset", [0, 5, 200 * MIB - 4, 200 * MIB])
def test_reader_of_what_is_being_written(union, bulk, offset):
    """Of the very bytes, which nobody had looked at before: a header, or the end, to which is appended."""
    u = union(bulk, guard=False)
    share, data = read_while_written(u, offset)
    assert share < 0.8
    assert data in (b"\0" if offset < MIB else b"1", b"!")
    for _ in range(2):
        with open(u / "big/file", "rb") as file:
            assert os.pread(file.fileno(), 1, offset) == b"!"
            assert os.pread(file.fileno(), 4096, 4 * MIB) == b"\x01" * 4096
            assert os.fstat(file.fileno()).st_size == 200 * MIB + (offset == 200 * MIB)
        drop_pages(u / "big/file")


@pytest.mark.deviation("D-20")
def test_reader_of_a_page_that_is_being_written(union, bulk):
    """Somewhere in the middle: the page cache may hold the reader of that very page."""
    u = union(bulk, guard=False)
    share, data = read_while_written(u, 100 * MIB + 5)
    assert share < u.pick(kernel=0.5, veneer=1.01)
    assert data in (b"\x19", b"!")


@pytest.mark.parametrize("others", ["writers", "truncation", "all"])
def test_first_opens_and_changes_at_once(union, others):
    """What an open puts into the cache is never older than what somebody makes of the file."""
    size = 9 * MIB + 5
    u = union({f"f{i}": b"o" * size for i in range(12)}, guard=False)
    page = b"n" * 4096
    calls = {"writers": [lambda p: write_at(p, b"123", 1), lambda p: write_at(p, page, 4096),
                         lambda p: trees.write(p, "end", "ab"), lambda p: write_at(p, page, 0)],
             "truncation": [lambda p: os.truncate(p, 7000)]}
    calls["all"] = calls["writers"] + calls["truncation"]
    for i in range(12):
        path = u / f"f{i}"

        def opens(path=path):
            os.close(os.open(path, os.O_RDWR))
        in_threads(*(lambda call=call, path=path: call(path) for call in calls[others]), opens, opens,
                   lambda path=path: trees.read(path)[:1])
        data = trees.read(path)
        assert len(data) == os.stat(path).st_size
        assert data == trees.read(u.up(f"f{i}"))
        drop_pages(path)
        assert data == trees.read(path)


def test_other_writers_of_a_file_during_its_copy_up(union, bulk):
    """They need the copy as well: all bytes are there in the end, and there was one copy."""
    u = union(bulk, guard=False)
    in_threads(*(lambda i=i: write_at(u / "big/file", b"%d" % i, i * 20 * MIB + 5) for i in range(8)))
    with open(u / "big/file", "rb") as file:
        for i in range(8):
            assert os.pread(file.fileno(), 3, i * 20 * MIB + 4) == b"%c%d%c" % (5 * i, i, 5 * i)


# Who gives up

WRITER = """
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY)
print(flush=True)
os.pwrite(fd, b"!", 5 * (1 << 20))
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT", "SIGTERM"])
def test_killed_writer_leaves_nothing(union, bulk, name):
    """The writer is gone at once, the copy as well, and the next one begins anew."""
    u = union(bulk, guard=False)
    free = used(u.upper)
    with subprocess.Popen([sys.executable, "-c", WRITER, u / "big/file"], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as writer:
        if u.is_veneer:
            writer.stdout.readline()  # it is open; there the kernel copies
        time.sleep(0.03)
        writer.send_signal(getattr(signal, name))
        assert timed(writer.wait)[0] < 0.5
    assert trees.wait_until(lambda: u.leftovers() == [])
    if not u.copied_up("big/file"):  # else the writer was quicker
        assert trees.wait_until(lambda: used(u.upper) - free < 4 * MIB)
        with open(u / "big/file", "rb") as file:
            assert os.pread(file.fileno(), 2, 5 * MIB) == b"\x01\x01"
    write_at(u / "big/file", b"?", 5 * MIB)
    assert u.copied_up("big/file")
    with open(u / "big/file", "rb") as file:
        for i in range(50):
            expected = b"?\x01" if i == 1 else bytes([i]) * 2
            assert os.pread(file.fileno(), 2, (4 * i + (i == 1)) * MIB) == expected


@pytest.mark.veneer_only("there is no process to be killed")
@pytest.mark.parametrize("delay", [0.01, 0.04, 0.08, 0.16])
def test_killed_daemon_leaves_the_old_file_or_the_new(union, bulk, delay):
    """And a work directory that the next mount empties."""
    u = union(bulk, guard=False)
    writer = start(lambda: write_at(u / "big/file", b"!", 0))
    time.sleep(delay)
    pid, = u.mounted.daemons()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(writer, 0)
    u.mounted.unmount()
    u.mount()
    assert u.leftovers() == []
    for path in [u / "big/file"] + [u.up("big/file")] * u.copied_up("big/file"):
        with open(path, "rb") as file:
            assert os.fstat(file.fileno()).st_size == 200 * MIB
            assert file.read(2) in (b"\0\0", b"!\0")
            for i in range(1, 50):
                assert os.pread(file.fileno(), 2, (4 * i + 3) * MIB) == bytes([i]) * 2
