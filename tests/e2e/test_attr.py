"""Attributes, sizes, data operations that are not read and write, and what reaches the disk."""

import errno
import fcntl
import mmap
import os
import shutil
import stat
import subprocess
import time

import pytest

import contenders
import oscalls
import trees
from oscalls import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE, FS_APPEND, FS_IMMUTABLE
from trees import OLD, Dir, File, Hard, Symlink
from union import dir_nlink

MIB = 1 << 20
LAYER = pytest.mark.parametrize("layer", ["lower", "upper"])


def errno_of(function):
    with pytest.raises(OSError) as caught:
        function()
    return caught.value.errno


def at(union, layer, tree, **kwargs):
    """A union with the tree in one layer."""
    return union(tree if layer == "lower" else {}, upper=tree if layer == "upper" else {}, **kwargs)


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


# chmod, chown, utimens

@LAYER
def test_chmod(union, layer):
    u = at(union, layer, {"f": "", "d": {}})
    for name, mode in (("f", 0o4751), ("d", 0o1703)):
        os.chmod(u / name, mode)
        assert mode_of(u / name) == mode
    u.remount()
    assert (mode_of(u / "f"), mode_of(u / "d")) == (0o4751, 0o1703)


@LAYER
def test_fchmod(union, layer):
    u = at(union, layer, {"f": ""})
    fd = os.open(u / "f", os.O_RDONLY)
    os.fchmod(fd, 0o600)
    assert stat.S_IMODE(os.fstat(fd).st_mode) == mode_of(u / "f") == 0o600
    os.close(fd)


@LAYER
def test_chmod_through_a_link(union, layer):
    u = at(union, layer, {"f": "", "l": Symlink(target="f")})
    os.chmod(u / "l", 0o640)
    assert mode_of(u / "f") == 0o640


@LAYER
@pytest.mark.parametrize("owner", [(7, -1), (-1, 8), (7, 8), (-1, -1)])
def test_chown(union, layer, owner):
    u = at(union, layer, {"f": File(data="", owner=(1, 2))})
    os.chown(u / "f", *owner)
    st = os.stat(u / "f")
    assert (st.st_uid, st.st_gid) == (owner[0] if owner[0] >= 0 else 1, owner[1] if owner[1] >= 0 else 2)
    u.remount()
    assert (os.stat(u / "f").st_uid, os.stat(u / "f").st_gid) == (st.st_uid, st.st_gid)


def test_chown_large_ids(union):
    u = union({"f": ""})
    os.chown(u / "f", 0xfffffffe, 0x80000000)
    st = os.stat(u / "f")
    assert (st.st_uid, st.st_gid) == (0xfffffffe, 0x80000000)


def test_lchown(union):
    u = union({"l": Symlink(target="nowhere")})
    os.lchown(u / "l", 3, 4)
    assert (os.lstat(u / "l").st_uid, os.lstat(u / "l").st_gid) == (3, 4)


def test_chown_by_the_owner_to_a_group_of_his(union, as_user):
    u = union({"f": File(data="", owner=(1000, 1000))})
    as_user(1000, lambda: os.chown(u / "f", -1, 2000), groups=[2000])
    assert os.stat(u / "f").st_gid == 2000
    with pytest.raises(PermissionError):
        as_user(1000, lambda: os.chown(u / "f", -1, 3000), groups=[2000])
    with pytest.raises(PermissionError):
        as_user(1000, lambda: os.chown(u / "f", 1001, -1))


@pytest.mark.parametrize("mode,after", [(0o6755, 0o755), (0o2745, 0o2745), (0o4644, 0o644)])
def test_chown_clears_set_id_bits(union, as_user, mode, after):
    u = union({"f": File(data="", mode=mode, owner=(1000, 1000))})
    as_user(1000, lambda: os.chown(u / "f", -1, 2000), groups=[2000])
    assert mode_of(u / "f") == after


def test_chmod_drops_setgid_of_a_foreign_group(union, as_user):
    u = union({"f": File(data="", owner=(1000, 2000))})
    as_user(1000, lambda: os.chmod(u / "f", 0o2755))
    assert mode_of(u / "f") == 0o755


@LAYER
@pytest.mark.parametrize("times", [(OLD, OLD + 1), (0, 0), (1, 10**18 + 999_999_999),
                                   (-10**18 + 1, -10**18 + 2)])
def test_utimens(union, layer, times):
    u = at(union, layer, {"f": "", "d": {}, "l": Symlink()})
    for name in "fdl":
        os.utime(u / name, ns=times, follow_symlinks=False)
        st = os.lstat(u / name)
        assert (st.st_atime_ns, st.st_mtime_ns) == times
    u.remount()
    for name in "fl":
        assert os.lstat(u / name).st_mtime_ns == times[1]


def test_utimens_now(union):
    u = union({"f": File(data="", mtime=OLD)})
    start = time.time_ns() - 20_000_000
    os.utime(u / "f")
    assert start <= os.stat(u / "f").st_mtime_ns <= time.time_ns() + 20_000_000


def test_utimens_now_by_one_who_may_write(union, as_user):
    u = union({"f": File(data="", mode=0o666, mtime=OLD)})
    as_user(1000, lambda: os.utime(u / "f"))
    assert os.stat(u / "f").st_mtime_ns > OLD
    with pytest.raises(PermissionError):
        as_user(1000, lambda: os.utime(u / "f", ns=(1, 1)))


def test_futimens(union):
    u = union({"f": ""})
    fd = os.open(u / "f", os.O_RDONLY)
    os.utime(fd, ns=(5, 6))
    assert os.fstat(fd).st_mtime_ns == os.stat(u / "f").st_mtime_ns == 6
    os.close(fd)


def test_mtime_set_on_an_open_file_is_not_moved_by_close(union):
    """tar and cp write, set the time, and close."""
    u = union({})
    fd = os.open(u / "f", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"x" * 10_000)
    os.utime(fd, ns=(OLD, OLD))
    os.close(fd)
    assert os.stat(u / "f").st_mtime_ns == OLD
    u.remount()
    assert os.stat(u / "f").st_mtime_ns == OLD


@LAYER
def test_ctime_moves_with_a_metadata_change(union, layer):
    u = at(union, layer, {"f": ""})
    before = os.stat(u / "f").st_ctime_ns
    time.sleep(0.02)
    os.chmod(u / "f", 0o600)
    assert os.stat(u / "f").st_ctime_ns > before


def test_stat_fields_of_a_lower_file(union):
    u = union({"f": File(data="x" * 5000, mode=0o641, owner=(3, 4), mtime=OLD)})
    want, got = os.stat(u.low("f")), os.stat(u / "f")
    for name in ("st_mode", "st_ino", "st_nlink", "st_uid", "st_gid", "st_size", "st_mtime_ns",
                 "st_ctime_ns", "st_blocks"):
        assert getattr(got, name) == getattr(want, name), name


def test_one_device_number(union):
    u = union({"d": {"f": ""}}, {"e": {}}, upper={"u": ""})
    assert len({os.lstat(u / name).st_dev for name in ("", "d", "d/f", "e", "u")}) == 1


@pytest.mark.deviation("D-07")
def test_one_device_number_over_file_systems(union, scratch):
    """Directories have the union's own; files the kernel gives one per layer's file system."""
    other = scratch.make("tmpfs", 1 << 20)
    trees.build(other, {"d": {"f": ""}})
    u = union(other, {"e": {"g": ""}}, upper={"u": ""})
    directories = {os.lstat(u / name).st_dev for name in ("", "d", "e")}
    files = {os.lstat(u / name).st_dev for name in ("d/f", "e/g", "u")}
    assert len(directories) == 1
    assert len(directories | files) == u.pick(kernel=3, veneer=1)


@pytest.mark.deviation("D-07")
def test_inode_numbers_are_unique_over_file_systems(union, scratch):
    """(st_dev, st_ino) names one file, with layers whose inode numbers collide."""
    lowers = []
    for i in range(3):
        lowers.append(scratch.make("tmpfs", 1 << 20))
        trees.build(lowers[-1], {f"f{i}{j}": "" for j in range(20)})
    u = union(*lowers, upper={"u": ""})
    names = u.ls()
    assert len({(os.lstat(u / n).st_dev, os.lstat(u / n).st_ino) for n in names}) == len(names) == 61
    assert (len({os.lstat(u / n).st_ino for n in names}) == 61) == u.pick(kernel=False, veneer=True)


@pytest.mark.deviation("D-08")
def test_directory_link_count(union):
    """2 and the number of subdirectories; the kernel says 1 for a merged directory."""
    u = union({"d": {"a": {}, "b": {}, "f": ""}}, upper={"d": {"c": {}, "b": {}}})
    assert os.stat(u / "d").st_nlink == u.pick(kernel=1, veneer=5)


@LAYER
def test_unmerged_directory_link_count(union, layer):
    u = at(union, layer, {"d": {"a": {}, "b": {}, "f": ""}})
    assert os.stat(u / "d").st_nlink == 4 == dir_nlink(u / "d")


@pytest.mark.deviation("D-08")
def test_directory_link_count_follows_changes(union):
    u = union({"d": {"a": {}}})
    os.mkdir(u / "d/b")
    assert os.stat(u / "d").st_nlink == u.pick(kernel=1, veneer=4)
    os.rmdir(u / "d/a")
    assert os.stat(u / "d").st_nlink == u.pick(kernel=1, veneer=3)


def test_find_counts_on_link_counts(union):
    u = union({"a": {"b": {"c": {}}, "d": {}}}, upper={"a": {"e": {}, "b": {"f": {}}}})
    done = subprocess.run(["find", u.mnt, "-type", "d"], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 7


def times_of(path):
    st = os.lstat(path)
    return st.st_mtime_ns, st.st_ctime_ns


@pytest.mark.deviation("D-19")
@pytest.mark.parametrize("opts", [[], ["index=on"], ["redirect_dir=on", "metacopy=on"]], ids=str)
def test_copy_up_changes_no_time_of_its_directory(union, opts):
    u = union({"d": {"f": "1", "g": "2", "h": Hard("d/g"), "s": {"x": ""}}, "e": ""}, opts=opts)
    before = [times_of(u / name) for name in ("", "d", "d/s")]
    for name in ("d/f", "d/s/x", "d/h", "e"):
        os.chmod(u / name, 0o600)
        u.append(name, "+")
    for _ in range(3):
        same = [times_of(u / name) == old for name, old in zip(("", "d", "d/s"), before)]
        os.listdir(u / "d")
        assert same == u.pick(kernel=same, veneer=[True] * 3)
        u.remount()


def test_inode_number_of_a_separated_name_that_is_truncated(union):
    """Without an index the copy of one of several names is a file of its own, for good."""
    u = union({"a": "x" * 100, "b": Hard("a")}, opts=["redirect_dir=on", "metacopy=on", "index=off"])
    os.chmod(u / "a", 0o600)
    before = u.ino("a")
    os.truncate(u / "a", 10)
    assert u.ino("a") == before
    u.remount()
    assert u.ino("a") == before and u.read("a") == b"x" * 10


@pytest.mark.deviation("D-19")
def test_a_refused_exchange_changes_nothing(union):
    u = union({"d": {}, "f": "x"}, opts=["redirect_dir=off"])
    before = times_of(u / "f")
    for names in (("d", "f"), ("f", "d")):
        with pytest.raises(OSError) as caught:
            oscalls.renameat2(*(u / name for name in names), oscalls.RENAME_EXCHANGE)
        assert caught.value.errno == errno.EXDEV
    u.remount()
    if u.pick(kernel=False, veneer=True):
        assert times_of(u / "f") == before and not u.copied_up("f")


@pytest.mark.deviation("D-19")
@pytest.mark.parametrize("name", ["user.", "bad.name", "trusted."])
def test_a_refused_attribute_changes_nothing(union, name):
    u = union({"f": "x"})
    before = times_of(u / "f")
    with pytest.raises(OSError) as caught:
        os.setxattr(u / "f", name, b"x")
    assert caught.value.errno in (errno.EINVAL, errno.EOPNOTSUPP)
    u.remount()
    if u.pick(kernel=False, veneer=True):
        assert times_of(u / "f") == before and not u.copied_up("f")


@pytest.mark.parametrize("change", [
    lambda u: u.write("d/new", ""), lambda u: os.unlink(u / "d/g"), lambda u: os.chmod(u / "d", 0o700),
    lambda u: os.setxattr(u / "d", "user.x", b""), lambda u: os.rename(u / "d/g", u / "d/i"),
    lambda u: os.utime(u / "d", ns=(OLD, OLD))], ids=["create", "unlink", "chmod", "xattr", "rename", "utimens"])
def test_a_change_after_a_copy_up_shows(union, change):
    """In the directory's time of change, at once and after a remount."""
    u = union({"d": {"f": "1", "g": "2"}})
    u.append("d/f", "+")
    before = times_of(u / "d")[1]
    time.sleep(0.02)
    change(u)
    after = times_of(u / "d")[1]
    assert after > before
    u.remount()
    assert times_of(u / "d")[1] >= after


@pytest.mark.veneer_only("what is kept is kept by veneer")
def test_a_change_of_the_upper_by_others_shows(union):
    u = union({"d": {"f": "1"}})
    u.append("d/f", "+")
    before = times_of(u / "d")[1]
    time.sleep(0.2)
    u.umount()
    os.chmod(u.up("d"), 0o700)
    after = times_of(u.up("d"))[1]
    u.mount()
    assert times_of(u / "d")[1] == after > before


@pytest.mark.deviation("D-19")
def test_birth_time_is_constant(union):
    u = union({"d": {"f": "1", "g": "2"}, "l": Symlink("f")}, opts=["redirect_dir=on", "metacopy=on"])
    names = ("d", "d/f", "d/g", "l")
    before = [oscalls.statx(u / name).btime_ns for name in names]
    u.append("d/f", "+")
    os.chmod(u / "d/g", 0o600)
    os.utime(u / "l", ns=(OLD, OLD), follow_symlinks=False)
    for _ in range(2):
        now = [oscalls.statx(u / name).btime_ns for name in names]
        assert now == u.pick(kernel=now, veneer=before)
        u.append("d/g", "+")
        u.remount()


def test_birth_time(union):
    u = union({"f": "x"})
    start = time.time_ns() - 50_000_000
    u.write("new", "")
    btime = oscalls.statx(u / "new").btime_ns
    assert btime == 0 or start <= btime <= time.time_ns()


# truncate

@LAYER
@pytest.mark.parametrize("size", [0, 3, 4096, 10_000])
def test_truncate(union, layer, size):
    u = at(union, layer, {"f": "abcdef" * 1000})
    os.truncate(u / "f", size)
    want = (b"abcdef" * 1000)[:size].ljust(size, b"\0")
    assert u.read("f") == want
    u.remount()
    assert u.read("f") == want


@LAYER
def test_ftruncate(union, layer):
    u = at(union, layer, {"f": "abcdef"})
    fd = os.open(u / "f", os.O_RDWR)
    os.ftruncate(fd, 2)
    assert os.fstat(fd).st_size == 2
    os.ftruncate(fd, 4)
    assert os.pread(fd, 9, 0) == b"ab\0\0"
    os.close(fd)


def test_truncate_changes_the_mtime(union):
    u = union({"f": File(data="abc", mtime=OLD)})
    os.truncate(u / "f", 1)
    assert os.stat(u / "f").st_mtime_ns > OLD


def test_truncate_errors(union, as_user):
    u = union({"f": "abc", "d": {}})
    assert errno_of(lambda: os.truncate(u / "d", 0)) == errno.EISDIR
    assert errno_of(lambda: os.truncate(u / "f", -1)) == errno.EINVAL
    with pytest.raises(PermissionError):
        as_user(1000, lambda: os.truncate(u / "f", 0))


def test_truncate_over_a_tail_of_data(union):
    """What was cut off must not come back when the file grows again."""
    u = union({"f": "x" * 8192})
    os.truncate(u / "f", 100)
    os.truncate(u / "f", 8192)
    assert u.read("f") == b"x" * 100 + b"\0" * 8092


# fallocate, holes

@LAYER
def test_fallocate_extends(union, layer):
    u = at(union, layer, {"f": "abc"})
    fd = os.open(u / "f", os.O_RDWR)
    oscalls.fallocate(fd, 0, 0, 100_000)
    assert os.fstat(fd).st_size == 100_000
    assert os.fstat(fd).st_blocks * 512 >= 100_000
    assert os.pread(fd, 5, 0) == b"abc\0\0"
    os.close(fd)


@LAYER
def test_fallocate_keep_size(union, layer):
    u = at(union, layer, {"f": "abc"})
    fd = os.open(u / "f", os.O_RDWR)
    oscalls.fallocate(fd, FALLOC_KEEP_SIZE, 0, 100_000)
    assert os.fstat(fd).st_size == 3
    os.close(fd)
    assert u.read("f") == b"abc"


@LAYER
def test_punch_hole(union, layer):
    u = at(union, layer, {"f": "x" * 65536})
    fd = os.open(u / "f", os.O_RDWR)
    oscalls.fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 4096, 8192)
    os.close(fd)
    assert u.read("f") == b"x" * 4096 + b"\0" * 8192 + b"x" * (65536 - 12288)
    u.remount()
    assert u.read("f") == b"x" * 4096 + b"\0" * 8192 + b"x" * (65536 - 12288)


def test_zero_range(union):
    u = union({"f": "x" * 65536})
    fd = os.open(u / "f", os.O_RDWR)
    oscalls.fallocate(fd, FALLOC_ZERO_RANGE, 100, 70_000)
    os.close(fd)
    assert u.read("f") == b"x" * 100 + b"\0" * 70_000


def test_fallocate_needs_a_writable_descriptor(union):
    u = union({"f": "abc"})
    fd = os.open(u / "f", os.O_RDONLY)
    assert errno_of(lambda: oscalls.fallocate(fd, 0, 0, 10)) == errno.EBADF
    os.close(fd)


@LAYER
def test_seek_hole_and_data(union, layer):
    u = at(union, layer, {"f": File(data="x" * 4096, size=MIB)})
    fd = os.open(u / "f", os.O_RDONLY)
    assert os.lseek(fd, 0, os.SEEK_DATA) == 0
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 4096
    assert errno_of(lambda: os.lseek(fd, 8192, os.SEEK_DATA)) == errno.ENXIO
    assert os.lseek(fd, 8192, os.SEEK_HOLE) == 8192
    assert errno_of(lambda: os.lseek(fd, MIB, os.SEEK_HOLE)) == errno.ENXIO
    os.close(fd)


def test_seek_data_sees_fresh_writes(union):
    u = union({"f": File(data="", size=4 * MIB)})
    fd = os.open(u / "f", os.O_RDWR)
    os.pwrite(fd, b"x", 3 * MIB)
    assert os.lseek(fd, 0, os.SEEK_DATA) == 3 * MIB
    os.close(fd)


# Copies inside the kernel

@pytest.mark.parametrize("layers", ["lower-lower", "lower-upper", "upper-lower", "upper-upper"])
def test_copy_file_range(union, layers):
    source, target = layers.split("-")
    spec = {"lower": {}, "upper": {}}
    spec[source]["a"] = bytes(range(256)) * 1000
    spec[target]["b"] = "old" * 10
    u = union(spec["lower"], upper=spec["upper"])
    src, dst = os.open(u / "a", os.O_RDONLY), os.open(u / "b", os.O_RDWR)
    done = 0
    while done < 200_000:
        done += os.copy_file_range(src, dst, 200_000 - done, 100 + done, 5 + done)
    os.close(src)
    os.close(dst)
    want = (bytes(range(256)) * 1000)[100:200_100]
    assert u.read("b") == b"oldol" + want
    u.remount()
    assert u.read("b") == b"oldol" + want


def test_copy_file_range_at_the_end(union):
    u = union({"a": "abc", "b": ""})
    src, dst = os.open(u / "a", os.O_RDONLY), os.open(u / "b", os.O_RDWR)
    assert os.copy_file_range(src, dst, 100, 3, 0) == 0
    assert os.copy_file_range(src, dst, 100, 1, 0) == 2
    os.close(src)
    os.close(dst)
    assert u.read("b") == b"bc"


def test_copy_file_range_into_a_union(union):
    """From a file outside; the kernel may refuse it, then cp falls back."""
    u = union({"b": ""})
    trees.write(os.path.join(u.base, "out"), "abc")
    src, dst = os.open(os.path.join(u.base, "out"), os.O_RDONLY), os.open(u / "b", os.O_RDWR)
    try:
        assert os.copy_file_range(src, dst, 3, 0, 0) == 3
        assert u.read("b") == b"abc"
    except OSError as error:
        assert error.errno == errno.EXDEV
    os.close(src)
    os.close(dst)


def test_sendfile(union):
    u = union({"a": "x" * 100_000, "b": ""})
    src, dst = os.open(u / "a", os.O_RDONLY), os.open(u / "b", os.O_WRONLY)
    done = 0
    while done < 100_000:
        done += os.sendfile(dst, src, None, 100_000 - done)
    os.close(src)
    os.close(dst)
    assert u.read("b") == b"x" * 100_000


# Syncing

@LAYER
def test_fsync(union, layer):
    u = at(union, layer, {"f": "x"})
    fd = os.open(u / "f", os.O_RDWR)
    os.fsync(fd)
    os.write(fd, b"y")
    os.fsync(fd)
    os.fdatasync(fd)
    os.close(fd)
    assert trees.read(u.up("f")) == b"y"


def test_fsync_makes_data_visible_in_the_upper(union):
    """No daemon-side buffer may stand between fsync and the disk."""
    u = union({"f": "x" * 100})
    fd = os.open(u / "f", os.O_RDWR)
    for i in range(5):
        os.pwrite(fd, str(i).encode() * 50, i * 10)
        os.fsync(fd)
        assert trees.read(u.up("f"))[i * 10:i * 10 + 50] == str(i).encode() * 50
    os.close(fd)


@pytest.mark.parametrize("kind", ["lower", "upper", "merged"])
def test_fsync_of_a_directory(union, kind):
    u = union({"d": {"f": ""}} if kind != "upper" else {}, upper={"d": {}} if kind != "lower" else {})
    fd = os.open(u / "d", os.O_RDONLY)
    os.fsync(fd)
    open(u / "d/new", "wb").close()
    os.fsync(fd)
    os.fdatasync(fd)
    os.close(fd)


def test_fsync_of_a_directory_opened_before_its_copy_up(union):
    u = union({"d": {"f": ""}})
    fd = os.open(u / "d", os.O_RDONLY)
    os.unlink(u / "d/f")
    os.fsync(fd)
    os.close(fd)
    assert u.hidden("d/f")


def test_syncfs(union):
    u = union({"f": "x"})
    u.append("f", "y")
    fd = os.open(u.mnt, os.O_RDONLY)
    oscalls.syncfs(fd)
    os.close(fd)
    assert trees.read(u.up("f")) == b"xy"


# statfs

def test_statfs_is_that_of_the_upper(union):
    u = union({"f": ""})
    ours, upper = os.statvfs(u.mnt), os.statvfs(u.upper)
    for name in ("f_bsize", "f_blocks", "f_files", "f_namemax"):
        assert getattr(ours, name) == getattr(upper, name), name
    assert abs(ours.f_bfree - upper.f_bfree) < 1000


def test_statfs_of_a_file_and_after_a_write(union):
    u = union({"f": ""})
    before = os.statvfs(u / "f").f_bavail
    u.write("f", "x" * (8 * MIB))
    fd = os.open(u / "f", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    assert before - os.statvfs(u.mnt).f_bavail >= 2000


def test_statfs_of_a_read_only_union(union):
    u = union({"f": ""}, {"g": ""}, readonly=True)
    assert os.statvfs(u.mnt).f_blocks == os.statvfs(u.low()).f_blocks
    assert os.statvfs(u.mnt).f_flag & os.ST_RDONLY


# Flags of the file

@LAYER
def test_getflags(union, layer):
    u = at(union, layer, {"f": "", "d": {}})
    for name in ("f", "d"):
        real = u.low(name) if layer == "lower" else u.up(name)
        oscalls.change_flags(real, add=oscalls.FS_NODUMP)
    u.guard_lowers()
    assert oscalls.get_flags(u / "f") & oscalls.FS_NODUMP
    assert oscalls.get_flags(u / "d") & oscalls.FS_NODUMP


@LAYER
@pytest.mark.parametrize("name", ["f", "d"])
def test_setflags(union, layer, name):
    u = at(union, layer, {"f": "", "d": {}})
    oscalls.change_flags(u / name, add=oscalls.FS_NOATIME)
    assert oscalls.get_flags(u / name) & oscalls.FS_NOATIME
    u.remount()
    assert oscalls.get_flags(u / name) & oscalls.FS_NOATIME
    oscalls.change_flags(u / name, drop=oscalls.FS_NOATIME)
    assert not oscalls.get_flags(u / name) & oscalls.FS_NOATIME


def overwrite(path):
    fd = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(fd, b"!", 0)
    finally:
        os.close(fd)


@pytest.mark.deviation("D-34")
@pytest.mark.parametrize("flag", [FS_IMMUTABLE, FS_APPEND])
def test_opening_what_must_not_be_overwritten(union, flag, monkeypatch):
    """Where files are opened without a request, it is the write that is refused."""
    monkeypatch.setattr(contenders, "EXTRA", [*contenders.EXTRA, "data=served"])
    u = union({"f": "x"})
    oscalls.change_flags(u / "f", add=flag)
    try:
        if u.pick(kernel=True, veneer=False):
            assert errno_of(lambda: os.open(u / "f", os.O_WRONLY)) == errno.EPERM
        else:
            os.close(os.open(u / "f", os.O_WRONLY))
        assert errno_of(lambda: overwrite(u / "f")) == errno.EPERM
        assert u.read("f") == b"x"
    finally:
        oscalls.change_flags(u / "f", drop=flag)


@LAYER
def test_immutable_file_is_enforced(union, layer):
    u = at(union, layer, {"f": "x"})
    oscalls.change_flags(u / "f", add=FS_IMMUTABLE)
    for change in (lambda: overwrite(u / "f"), lambda: os.truncate(u / "f", 0),
                   lambda: os.chmod(u / "f", 0), lambda: os.unlink(u / "f"),
                   lambda: os.rename(u / "f", u / "g"), lambda: os.link(u / "f", u / "g"),
                   lambda: os.setxattr(u / "f", "user.x", b"")):
        assert errno_of(change) == errno.EPERM
    assert u.read("f") == b"x"
    oscalls.change_flags(u / "f", drop=FS_IMMUTABLE)
    u.write("f", "y")


@LAYER
def test_append_only_file_is_enforced(union, layer):
    u = at(union, layer, {"f": "x"})
    oscalls.change_flags(u / "f", add=FS_APPEND)
    for change in (lambda: overwrite(u / "f"), lambda: os.truncate(u / "f", 0),
                   lambda: os.unlink(u / "f"), lambda: os.rename(u / "f", u / "g")):
        assert errno_of(change) == errno.EPERM
    u.append("f", "y")
    assert u.read("f") == b"xy"
    oscalls.change_flags(u / "f", drop=FS_APPEND)


@pytest.mark.parametrize("flag,letter", [(FS_IMMUTABLE, b"i"), (FS_APPEND, b"a")])
def test_protection_is_kept_as_xattr(union, flag, letter):
    """The flag cannot sit on the upper file, which has to stay changeable from below."""
    u = union({"f": "x"})
    oscalls.change_flags(u / "f", add=flag)
    assert os.getxattr(u.up("f"), "trusted.overlay.protattr") == letter
    assert not oscalls.get_flags(u.up("f")) & flag
    u.remount()
    assert oscalls.get_flags(u / "f") & flag
    assert errno_of(lambda: os.truncate(u / "f", 0)) == errno.EPERM
    oscalls.change_flags(u / "f", drop=flag)
    assert "trusted.overlay.protattr" not in os.listxattr(u.up("f"))
    os.truncate(u / "f", 0)


def test_protection_of_a_lower_directory_is_copied_up(union_factory):
    u = union_factory({"d": {"f": "x"}})
    oscalls.change_flags(u.low("d/f"), add=FS_IMMUTABLE)
    u.mount()
    try:
        assert oscalls.get_flags(u / "d/f") & FS_IMMUTABLE
        assert errno_of(lambda: overwrite(u / "d/f")) == errno.EPERM
        assert errno_of(lambda: os.unlink(u / "d/f")) == errno.EPERM
    finally:
        u.umount()
        oscalls.change_flags(u.low("d/f"), drop=FS_IMMUTABLE)


def test_unprivileged_setflags_of_another_owner(union, as_user):
    u = union({"f": ""})
    with pytest.raises(PermissionError):
        as_user(1000, lambda: oscalls.change_flags(u / "f", add=oscalls.FS_NOATIME))


# Stripping of privileges

@pytest.mark.parametrize("layer", ["lower", "upper"])
@pytest.mark.parametrize("mode,after", [(0o6777, 0o777), (0o2767, 0o767), (0o4767, 0o767)])
def test_write_strips_set_id_bits(union, as_user, layer, mode, after):
    u = at(union, layer, {"f": File(data="x", mode=mode)})
    as_user(1000, lambda: u.append("f", "y"))
    assert mode_of(u / "f") == after
    assert u.read("f") == b"xy"
    u.remount()
    assert mode_of(u / "f") == after


@LAYER
def test_truncate_strips_set_id_bits(union, as_user, layer):
    u = at(union, layer, {"f": File(data="x", mode=0o6777), "g": File(data="x", mode=0o6777)})
    as_user(1000, lambda: os.truncate(u / "f", 0))
    as_user(1000, lambda: os.close(os.open(u / "g", os.O_WRONLY | os.O_TRUNC)))
    assert (mode_of(u / "f"), mode_of(u / "g")) == (0o777, 0o777)


@LAYER
def test_root_keeps_set_id_bits(union, layer):
    u = at(union, layer, {"f": File(data="x", mode=0o6755)})
    u.append("f", "y")
    assert mode_of(u / "f") == 0o6755


@LAYER
@pytest.mark.parametrize("change", ["write", "truncate", "chown"])
def test_capabilities_are_stripped(union, layer, change):
    spec = File(data="x", mode=0o755, xattrs={"security.capability": oscalls.cap_xattr()})
    u = at(union, layer, {"f": spec})
    if change == "write":
        u.append("f", "y")
    elif change == "truncate":
        os.truncate(u / "f", 0)
    else:
        os.chown(u / "f", 1, 1)
    assert "security.capability" not in os.listxattr(u / "f")
    assert "security.capability" not in os.listxattr(u.up("f"))


@LAYER
def test_fallocate_strips_set_id_bits(union, as_user, layer):
    u = at(union, layer, {"f": File(data="x", mode=0o6777)})

    def grow():
        fd = os.open(u / "f", os.O_WRONLY)
        oscalls.fallocate(fd, 0, 0, 4096)
        os.close(fd)
    as_user(1000, grow)
    assert mode_of(u / "f") == 0o777


# Reading and writing with special flags

@LAYER
def test_append_flag(union, layer):
    u = at(union, layer, {"f": "abc"})
    fd = os.open(u / "f", os.O_RDWR | os.O_APPEND)
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, b"d")
    assert os.pread(fd, 9, 0) == b"abcd"
    os.close(fd)


def test_two_appenders_do_not_overwrite(union):
    u = union({"f": ""})
    one = os.open(u / "f", os.O_WRONLY | os.O_APPEND)
    two = os.open(u / "f", os.O_WRONLY | os.O_APPEND)
    for i in range(50):
        os.write(one if i % 2 else two, b"%02d" % i)
    os.close(one)
    os.close(two)
    assert u.read("f") == b"".join(b"%02d" % i for i in range(50))


def test_append_set_by_fcntl(union):
    u = union({"f": "abc"})
    fd = os.open(u / "f", os.O_WRONLY)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    os.pwrite(fd, b"d", 0)
    os.close(fd)
    assert u.read("f") == b"abcd"


def test_direct_io(union):
    u = union({"f": b"a" * 8192})
    fd = os.open(u / "f", os.O_RDWR | os.O_DIRECT)
    with mmap.mmap(-1, 4096) as block:
        block[:] = b"b" * 4096
        assert os.pwritev(fd, [block], 4096) == 4096
        assert os.preadv(fd, [block], 0) == 4096
        assert block[:] == b"a" * 4096
    os.close(fd)
    assert u.read("f") == b"a" * 4096 + b"b" * 4096


def test_writing_mapping(union):
    u = union({"f": b"a" * 8192})
    fd = os.open(u / "f", os.O_RDWR)
    with mmap.mmap(fd, 8192) as memory:
        memory[4000:4200] = b"b" * 200
        memory.flush()
    os.close(fd)
    want = b"a" * 4000 + b"b" * 200 + b"a" * 3992
    assert u.read("f") == want
    u.remount()
    assert u.read("f") == want


def test_executing(union):
    u = union({"d": {}})
    shutil.copy("/bin/true", u / "d/true")
    subprocess.run([u / "d/true"], check=True)
    u.remount()
    subprocess.run([u / "d/true"], check=True)


def test_noatime_flag(union, as_user):
    u = union({"f": File(data="x", owner=(1000, 1000)), "g": File(data="y", mode=0o644)})
    as_user(1000, lambda: os.close(os.open(u / "f", os.O_RDONLY | os.O_NOATIME)))
    with pytest.raises(PermissionError):
        as_user(1000, lambda: os.open(u / "g", os.O_RDONLY | os.O_NOATIME))


def test_link_count_of_files(union):
    u = union({"a": "", "b": Hard("a"), "c": ""}, upper={"d": "", "e": Hard("d")})
    assert [os.stat(u / name).st_nlink for name in "abcde"] == [2, 2, 1, 2, 2]


def test_times_of_a_directory_tree_after_tar_like_extraction(union):
    u = union({})
    os.mkdir(u / "d")
    u.write("d/f", "x")
    os.utime(u / "d/f", ns=(OLD, OLD))
    os.utime(u / "d", ns=(OLD + 1, OLD + 1))
    u.remount()
    assert (os.stat(u / "d/f").st_mtime_ns, os.stat(u / "d").st_mtime_ns) == (OLD, OLD + 1)


def test_attributes_of_a_directory_open_by_descriptor(union):
    u = union({"d": Dir(children={"f": ""})})
    fd = os.open(u / "d", os.O_RDONLY)
    os.fchmod(fd, 0o700)
    os.fchown(fd, 1, 2)
    os.utime(fd, ns=(3, 4))
    os.setxattr(fd, "user.x", b"y")
    os.close(fd)
    st = os.stat(u / "d")
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_mtime_ns) == (0o700, 1, 2, 4)
    assert os.getxattr(u / "d", "user.x") == b"y"
