"""What a first change copies into the upper layer, and that it is a faithful copy."""

import errno
import mmap
import os
import shutil
import signal
import socket
import stat
import subprocess
import time

import pytest

import oscalls
import trees
from trees import OLD, Dir, File, Hard, Node, Symlink, data_ranges, entry

MIB = 1 << 20


def same(one, two, but=()):
    left, right = entry(one)._asdict(), entry(two)._asdict()
    for each in (left, right):
        each["xattrs"] = [(name, value) for name, value in each["xattrs"]
                          if not name.startswith("trusted.overlay.")]
        for key in but:
            del each[key]
    return left == right


# When

def test_reading_copies_nothing(union):
    u = union({"d": {"f": "x"}, "l": Symlink(target="d/f")})
    assert u.read("l") == b"x"
    os.stat(u / "d/f")
    os.listdir(u / "d")
    os.access(u / "d/f", os.W_OK)
    assert os.listdir(u.upper) == []


@pytest.mark.deviation("D-03")
def test_open_for_writing_without_a_write(union):
    u = union({"f": "x"})
    os.close(os.open(u / "f", os.O_RDWR))
    assert u.copied_up("f") == u.pick(kernel=True, veneer=False)


@pytest.mark.deviation("D-03")
def test_private_mapping_of_a_writable_descriptor(union):
    u = union({"f": "x" * 4096})
    fd = os.open(u / "f", os.O_RDWR)
    with mmap.mmap(fd, 4096, mmap.MAP_PRIVATE) as memory:
        memory[0:1] = b"y"
    os.close(fd)
    assert u.copied_up("f") == u.pick(kernel=True, veneer=False)
    assert u.read("f") == b"x" * 4096


def test_a_write_copies(union):
    u = union({"f": "0123456789"})
    fd = os.open(u / "f", os.O_RDWR)
    os.pwrite(fd, b"ab", 3)
    os.close(fd)
    assert u.read("f") == b"012ab56789"
    u.remount()
    assert trees.read(u.up("f")) == b"012ab56789"


def test_append_copies(union):
    u = union({"f": "old"})
    u.append("f", "new")
    assert u.read("f") == b"oldnew"
    assert trees.read(u.low("f")) == b"old"


def test_refused_open_copies_nothing(union, as_user):
    u = union({"f": File(data="x", mode=0o644)})
    with pytest.raises(PermissionError):
        as_user(1000, lambda: os.open(u / "f", os.O_RDWR))
    assert not u.copied_up("f")


def test_refused_chmod_copies_nothing(union, as_user):
    u = union({"f": "x"})
    with pytest.raises(PermissionError):
        as_user(1000, lambda: os.chmod(u / "f", 0o777))
    assert not u.copied_up("f")


@pytest.mark.parametrize("change", [
    lambda p: os.chmod(p, 0o600),
    lambda p: os.chown(p, 12, 34),
    lambda p: os.utime(p, ns=(1, 2)),
    lambda p: os.setxattr(p, "user.x", b"y"),
    lambda p: os.truncate(p, 2),
    lambda p: os.link(p, p + "2"),
    lambda p: os.rename(p, p + "2") or os.rename(p + "2", p),
], ids=["chmod", "chown", "utime", "setxattr", "truncate", "link", "rename"])
def test_each_change_copies_up(union, change):
    u = union({"f": "content"})
    change(u / "f")
    assert u.copied_up("f")
    assert u.read("f") == b"content"[:2 if os.stat(u / "f").st_size == 2 else 7]


# Parents

def test_parents_are_copied_up(union):
    tree = {"a": Dir(mode=0o750, owner=(1, 2), mtime=OLD, xattrs={"user.k": "v"}, children={
        "b": Dir(mode=0o2771, mtime=OLD + 5, children={"f": "x"})})}
    u = union(tree)
    u.append("a/b/f", "y")
    for path in ("a", "a/b"):
        assert same(u.up(path), u.low(path)), path


def test_parent_times_stay(union):
    """Copying up a file is no change of its directory."""
    u = union({"d": Dir(mtime=OLD, children={"f": "x"})})
    u.append("d/f", "y")
    assert os.stat(u / "d").st_mtime_ns == OLD
    u.remount()
    assert os.stat(u / "d").st_mtime_ns == OLD


def test_parent_times_stay_in_an_existing_upper(union):
    u = union({"d": {"f": "x"}}, upper={"d": Dir(mtime=OLD)})
    os.chmod(u / "d/f", 0o600)
    assert os.stat(u / "d").st_mtime_ns == OLD


def test_siblings_are_not_copied(union):
    u = union({"d": {"f": "x", "g": "y", "s": {"t": ""}}})
    u.append("d/f", "z")
    assert os.listdir(u.up("d")) == ["f"]


# What

def test_all_attributes(union):
    u = union({"f": File(data="x", mode=0o640, owner=(11, 22), mtime=OLD,
                         xattrs={"user.a": "1", "trusted.b": b"\0\1", "user.empty": ""})})
    os.setxattr(u / "f", "user.new", b"2")
    assert same(u / "f", u.low("f"), but=["xattrs"])
    assert dict(trees.xattrs(u / "f")) == {"user.a": b"1", "trusted.b": b"\0\1",
                                           "user.empty": b"", "user.new": b"2"}


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6711, 0o1644, 0o000])
def test_mode_bits(union, mode):
    u = union({"f": File(data="x", mode=mode)})
    os.utime(u / "f", ns=(OLD, OLD))
    assert stat.S_IMODE(os.stat(u / "f").st_mode) == mode
    assert stat.S_IMODE(os.stat(u.up("f")).st_mode) == mode


def test_mtime_is_kept_by_a_metadata_change(union):
    u = union({"f": File(data="x", mtime=OLD)})
    os.chmod(u / "f", 0o600)
    assert os.stat(u / "f").st_mtime_ns == OLD
    assert os.stat(u.up("f")).st_mtime_ns == OLD


def test_atime_is_kept_by_a_metadata_change(union):
    u = union({"f": "x"})
    before = os.stat(u.low("f")).st_atime_ns
    os.chmod(u / "f", 0o600)
    assert os.stat(u.up("f")).st_atime_ns == before


def test_write_sets_mtime_now(union):
    u = union({"f": File(data="x", mtime=OLD)})
    start = time.time_ns() - 20_000_000
    u.append("f", "y")
    assert os.stat(u / "f").st_mtime_ns >= start


def test_acls(union):
    access = oscalls.acl("u::rw-,u:1234:r--,g::r--,m::r--,o::---")
    u = union({"f": File(data="x", mode=0o640, xattrs={oscalls.ACL_ACCESS: access})})
    os.utime(u / "f", ns=(OLD, OLD))
    assert os.getxattr(u / "f", oscalls.ACL_ACCESS) == access
    assert os.getxattr(u.up("f"), oscalls.ACL_ACCESS) == access


def test_directory_acls(union):
    access = oscalls.acl("u::rwx,u:1234:r-x,g::r-x,m::r-x,o::---")
    default = oscalls.acl("u::rwx,g::r-x,g:77:rwx,m::rwx,o::---")
    u = union({"d": Dir(mode=0o750, children={"f": "x"},
                        xattrs={oscalls.ACL_ACCESS: access, oscalls.ACL_DEFAULT: default})})
    u.append("d/f", "y")
    assert os.getxattr(u.up("d"), oscalls.ACL_ACCESS) == access
    assert os.getxattr(u.up("d"), oscalls.ACL_DEFAULT) == default


def test_default_acl_of_the_parent_does_not_touch_the_copy(union):
    default = oscalls.acl("u::rwx,u:1234:rwx,g::---,m::rwx,o::---")
    u = union({"d": Dir(children={"f": File(data="x", mode=0o644)},
                        xattrs={oscalls.ACL_DEFAULT: default})})
    u.append("d/f", "y")
    assert stat.S_IMODE(os.stat(u / "d/f").st_mode) == 0o644
    assert oscalls.ACL_ACCESS not in os.listxattr(u.up("d/f"))


def test_setgid_parent_does_not_touch_the_copy(union):
    u = union({"d": Dir(mode=0o2775, owner=(0, 99), children={"f": File(data="x", owner=(5, 6))})})
    u.append("d/f", "y")
    assert (os.stat(u.up("d/f")).st_uid, os.stat(u.up("d/f")).st_gid) == (5, 6)


def test_umask_does_not_touch_the_copy(union):
    u = union({"f": File(data="x", mode=0o666)})
    old = os.umask(0o077)
    try:
        u.append("f", "y")
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(u.up("f")).st_mode) == 0o666


def test_ownership_of_another_user_is_kept(union, as_user):
    """A user may write a file that is not his: the copy keeps the owner."""
    u = union({"f": File(data="x", mode=0o666, owner=(5, 6))})
    as_user(1000, lambda: u.append("f", "y"))
    st = os.stat(u.up("f"))
    assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (5, 6, 0o666)


def test_user_who_may_not_write_the_parent(union, as_user):
    u = union({"d": Dir(mode=0o755, children={"f": File(data="x", owner=(1000, 1000))})})
    as_user(1000, lambda: u.append("d/f", "y"))
    assert u.read("d/f") == b"xy"


def test_capability_xattr_survives_a_metadata_copy(union):
    cap = oscalls.cap_xattr()
    u = union({"f": File(data="x", mode=0o755, xattrs={"security.capability": cap})})
    os.utime(u / "f", ns=(OLD, OLD))
    assert os.getxattr(u / "f", "security.capability") == cap
    assert os.getxattr(u.up("f"), "security.capability") == cap


def test_symlink(union):
    u = union({"l": Symlink(target="to/nowhere", owner=(3, 4), mtime=OLD)})
    os.utime(u / "l", ns=(5, OLD), follow_symlinks=False)
    assert os.readlink(u.up("l")) == "to/nowhere"
    assert same(u.up("l"), u.low("l"))


def test_long_symlink(union):
    target = "x/" * 2000 + "end"
    u = union({"l": Symlink(target=target)})
    os.chown(u / "l", 3, 4, follow_symlinks=False)
    assert os.readlink(u / "l") == os.readlink(u.up("l")) == target


@pytest.mark.parametrize("kind,rdev", [("fifo", (0, 0)), ("sock", (0, 0)), ("chr", (1, 3)),
                                       ("blk", (259, 1_048_575)), ("chr", (4095, 1))])
def test_special_files(union, kind, rdev):
    kinds = {"fifo": stat.S_IFIFO, "sock": stat.S_IFSOCK, "chr": stat.S_IFCHR, "blk": stat.S_IFBLK}
    u = union({"n": Node(type=kinds[kind], rdev=rdev, mode=0o622, owner=(8, 9), mtime=OLD)})
    os.utime(u / "n", ns=(5, OLD))
    assert same(u.up("n"), u.low("n"))
    assert os.lstat(u / "n").st_rdev == os.makedev(*rdev)


def test_device_works_without_copy_up(union):
    u = union({"null": Node(type=stat.S_IFCHR, rdev=(1, 3), mode=0o666)})
    u.write("null", "gone")
    assert u.read("null") == b""
    assert not u.copied_up("null")


def test_fifo_carries_data(union):
    u = union({"p": Node(type=stat.S_IFIFO)})
    reader = os.open(u / "p", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(u / "p", os.O_WRONLY)
    os.write(writer, b"through")
    assert os.read(reader, 10) == b"through"
    os.close(reader)
    os.close(writer)


def test_socket_can_be_bound_and_connected(union):
    u = union({"d": {}})
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        os.chdir(u / "d")
        try:
            server.bind("s")
            server.listen()
            client.connect("s")
        finally:
            os.chdir("/")
    assert stat.S_ISSOCK(os.lstat(u / "d/s").st_mode)


def test_directory_copy_keeps_its_children(union):
    u = union({"d": {"f": "x", "s": {"g": "y"}}})
    os.chmod(u / "d", 0o700)
    assert u.ls("d") == ["f", "s"]
    assert os.listdir(u.up("d")) == []


def test_from_the_middle_layer(union):
    u = union({}, {"f": File(data="mid", owner=(2, 3))}, {"f": "bottom"})
    u.append("f", "!")
    assert (u.read("f"), os.stat(u.up("f")).st_uid) == (b"mid!", 2)


def test_one_name_of_a_lower_hard_link(union):
    u = union({"a": "x", "b": Hard("a")})
    u.append("a", "y")
    assert u.read("a") == b"xy"


def test_inode_number_stays(union):
    u = union({"f": "x", "d": {}, "l": Symlink()})
    before = [u.ino(name) for name in "fdl"]
    u.append("f", "y")
    os.chmod(u / "d", 0o700)
    os.chown(u / "l", 1, 1, follow_symlinks=False)
    assert [u.ino(name) for name in "fdl"] == before
    u.remount()
    assert [u.ino(name) for name in "fdl"] == before


# Data

@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, MIB - 1, MIB + 1, 5 * MIB + 3])
def test_sizes(union, size):
    data = os.urandom(size)
    u = union({"f": data})
    os.chown(u / "f", 1, 1)
    u.append("f", "!")
    assert u.read("f") == data + b"!"


def test_truncate_to_zero_drops_the_data_without_copying(union):
    """A tebibyte of which nothing can be copied in time."""
    u = union({"f": File(data="x", size=1 << 38)}, guard=False)
    start = time.monotonic()
    os.close(os.open(u / "f", os.O_WRONLY | os.O_TRUNC))
    assert time.monotonic() - start < 1
    assert os.stat(u / "f").st_size == 0
    assert os.stat(u.up("f")).st_blocks < 16


def test_truncate_call_drops_the_data_without_copying(union):
    data = b"d" * (64 * MIB)
    u = union({"f": data}, guard=False)
    before = os.statvfs(u.upper).f_bfree
    os.truncate(u / "f", 0)
    assert os.statvfs(u.upper).f_bfree >= before - 256
    assert u.read("f") == b""


def test_truncate_keeps_what_remains(union):
    data = os.urandom(3 * MIB)
    u = union({"f": data})
    os.truncate(u / "f", MIB + 5)
    assert u.read("f") == data[:MIB + 5]


def test_truncate_to_longer(union):
    u = union({"f": "abc"})
    os.truncate(u / "f", 10)
    assert u.read("f") == b"abc" + b"\0" * 7


def test_overwrite_with_more_after_truncation(union):
    """A shorter old content must not shine through, nor zeros."""
    u = union({"f": "o" * 100})
    fd = os.open(u / "f", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"n" * 150)
    os.close(fd)
    assert u.read("f") == b"n" * 150


def test_overwrite_with_less_after_truncation(union):
    u = union({"f": "o" * 150})
    u.write("f", "n" * 100)
    assert u.read("f") == b"n" * 100


def _sparse(path, size, spots):
    with open(path, "wb") as file:
        file.truncate(size)
        for at in spots:
            os.pwrite(file.fileno(), b"D" * 65536, at)


def test_holes_are_kept(union):
    u = union({"d": {}}, guard=False)
    _sparse(u.low("d/f"), 256 * MIB, [0, 64 * MIB, 200 * MIB])
    os.chown(u / "d/f", 1, 1)
    u.append("d/f", "!")
    starts = [start for start, _end in data_ranges(u.up("d/f"))]
    assert starts == [0, 64 * MIB, 200 * MIB, 256 * MIB]
    assert os.stat(u.up("d/f")).st_blocks * 512 < 4 * MIB


def test_hole_at_the_end(union):
    u = union({"f": File(data="start", size=32 * MIB)})
    os.setxattr(u / "f", "user.x", b"")
    assert os.stat(u / "f").st_size == 32 * MIB
    assert os.stat(u.up("f")).st_blocks * 512 < 2 * MIB


def test_more_than_four_gibibytes(union):
    size, at = (5 << 30) + 7, (5 << 30) - 65536
    u = union({"d": {}}, guard=False)
    _sparse(u.low("d/f"), size, [0, at])
    fd = os.open(u / "d/f", os.O_RDWR)
    os.pwrite(fd, b"end", size)
    assert os.pread(fd, 10, at) == b"D" * 10
    assert os.pread(fd, 10, size) == b"end"
    assert os.fstat(fd).st_size == size + 3
    os.close(fd)
    assert os.stat(u.up("d/f")).st_blocks * 512 < 16 * MIB


def test_write_beyond_the_old_end(union):
    u = union({"f": "abc"})
    fd = os.open(u / "f", os.O_WRONLY)
    os.pwrite(fd, b"z", 100_000)
    os.close(fd)
    assert u.read("f") == b"abc" + b"\0" * 99_997 + b"z"


def test_copy_up_of_many_at_once(union):
    """Eight processes change one file each and one file in common."""
    u = union({"d": {**{f"f{i}": f"{i}" for i in range(8)}, "common": "c" * MIB}})
    pids = []
    for i in range(8):
        pid = os.fork()
        if pid == 0:
            try:
                fd = os.open(u / "d/common", os.O_WRONLY)
                os.pwrite(fd, str(i).encode(), i * 1000)
                u.append(f"d/f{i}", "!")
            finally:
                os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    assert [u.read(f"d/f{i}") for i in range(8)] == [f"{i}!".encode() for i in range(8)]
    want = bytearray(b"c" * MIB)
    for i in range(8):
        want[i * 1000:i * 1000 + 1] = str(i).encode()
    assert u.read("d/common") == bytes(want)


# Metacopy

def test_metacopy_on_a_metadata_change(union):
    u = union({"f": "x" * MIB}, opts=["metacopy=on"])
    os.chmod(u / "f", 0o600)
    assert os.getxattr(u.up("f"), "trusted.overlay.metacopy") == b""
    assert os.stat(u.up("f")).st_blocks * 512 < 65536
    assert u.read("f") == b"x" * MIB
    u.remount()
    assert u.read("f") == b"x" * MIB


@pytest.mark.parametrize("change", [
    lambda p: os.chmod(p, 0o600), lambda p: os.chown(p, 1, 2), lambda p: os.utime(p, ns=(1, 2)),
    lambda p: os.setxattr(p, "user.x", b"y"), lambda p: os.link(p, p + "2"),
    lambda p: os.rename(p, p + "2") or os.rename(p + "2", p),
], ids=["chmod", "chown", "utime", "setxattr", "link", "rename"])
def test_metacopy_for_each_change(union, change):
    u = union({"f": "x" * MIB}, opts=["metacopy=on"])
    change(u / "f")
    assert "trusted.overlay.metacopy" in os.listxattr(u.up("f"))
    assert u.read("f") == b"x" * MIB
    want = u.snapshot(nlink=True)
    u.remount()
    assert trees.difference(want, u.snapshot(nlink=True)) == []
    u.append("f", "+")
    assert u.read("f") == b"x" * MIB + b"+"
    assert "trusted.overlay.metacopy" not in os.listxattr(u.up("f"))


def test_metacopy_moves_with_its_data(union):
    """Renamed to other directories, the file finds its data by a redirect."""
    u = union({"a": {"f": "content"}, "b": {"c": {}}}, opts=["metacopy=on"])
    os.rename(u / "a/f", u / "b/c/g")
    os.rename(u / "b", u / "B")
    u.remount()
    assert u.read("B/c/g") == b"content"
    assert os.getxattr(u.up("B/c/g"), "trusted.overlay.redirect") == b"/a/f"


def test_metacopy_of_a_whole_tree_is_small(union):
    """chown -R costs no data."""
    u = union({f"f{i}": b"x" * MIB for i in range(20)}, opts=["metacopy=on"])
    before = os.statvfs(u.upper).f_bfree
    for name in u.ls():
        os.chown(u / name, 1000, 1000)
    assert (before - os.statvfs(u.upper).f_bfree) * os.statvfs(u.upper).f_bsize < 2 * MIB
    assert all(u.read(name) == b"x" * MIB for name in u.ls())


def test_metacopy_truncation_drops_the_data(union):
    u = union({"f": "x" * MIB}, opts=["metacopy=on"])
    os.chmod(u / "f", 0o600)
    os.truncate(u / "f", 5)
    assert u.read("f") == b"xxxxx"
    u.remount()
    assert u.read("f") == b"xxxxx"


def test_metacopy_keeps_capabilities(union):
    cap = oscalls.cap_xattr()
    u = union({"f": File(data="x", mode=0o755, xattrs={"security.capability": cap})},
              opts=["metacopy=on"])
    os.utime(u / "f", ns=(OLD, OLD))
    assert os.getxattr(u / "f", "security.capability") == cap
    assert os.getxattr(u.up("f"), "security.capability") == cap


def test_metacopy_off_copies_data(union):
    u = union({"f": "x" * MIB}, opts=["metacopy=off"])
    os.chmod(u / "f", 0o600)
    assert trees.read(u.up("f")) == b"x" * MIB


def test_metacopy_keeps_capabilities_when_data_follows(union):
    cap = oscalls.cap_xattr()
    u = union({"f": File(data="x", mode=0o755, xattrs={"security.capability": cap})},
              opts=["metacopy=on"])
    os.chown(u / "f", 0, 0)  # clears the capability, as chown does
    os.setxattr(u / "f", "security.capability", cap)
    os.close(os.open(u / "f", os.O_RDWR))
    assert os.getxattr(u / "f", "security.capability") == cap


def test_metacopy_without_data_never_reads_as_zeros(union_factory):
    """A change of metadata must not make a file of zeros out of one whose data is missing."""
    marks = {"trusted.overlay.metacopy": b"", "trusted.overlay.redirect": b"/missing"}
    u = union_factory({"f": File(data=b"\0" * 100, xattrs=marks)}, data=[{"g": "data"}],
                      opts=["metacopy=on", "redirect_dir=on"]).mount()
    for change in (lambda: None, lambda: os.chmod(u / "f", 0o600), lambda: u.append("f", "x")):
        try:
            change()
        except OSError as error:
            assert error.errno in (errno.ENOENT, errno.EIO)
        with pytest.raises(OSError) as caught:
            u.read("f")
        assert caught.value.errno in (errno.ENOENT, errno.EIO)


def test_metacopy_in_the_upper_alone_is_an_error(union_factory):
    """Data-only layers are asked for the data of files that a lower names, no others."""
    marks = {"trusted.overlay.metacopy": b"", "trusted.overlay.redirect": b"/data"}
    u = union_factory({}, upper={"f": File(data=b"\0" * 4, xattrs=marks)}, data=[{"data": "data"}],
                      opts=["metacopy=on", "redirect_dir=on"]).mount()
    with pytest.raises(OSError) as caught:
        os.stat(u / "f")
    assert caught.value.errno == errno.EIO


@pytest.mark.veneer_only("the kernel's calls cannot be watched")
def test_fsync_of_a_metacopy_syncs_its_metadata(union, tmp_path):
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    u = union({"f": "x" * MIB}, opts=["metacopy=on"])
    os.chmod(u / "f", 0o600)
    pid, = u.mounted.daemons()
    log = tmp_path / "log"
    with subprocess.Popen(["strace", "-f", "-y", "-e", "trace=fsync", "-o", log, "-p", str(pid)],
                          stderr=subprocess.PIPE) as tracer:
        tracer.stderr.readline()  # attached
        fd = os.open(u / "f", os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        tracer.send_signal(signal.SIGINT)
    assert "/upper/f>" in log.read_text()  # below the clone of a mount, which has no path
