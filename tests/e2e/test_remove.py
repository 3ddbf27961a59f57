"""unlink, rmdir, rm -rf: what is hidden, what stays usable, what the upper holds afterwards."""

import errno
import os
import shutil

import pytest

import oscalls
import trees
from trees import Dir, File, Hard, Node, Symlink, opaque, whiteout


def errno_of(function):
    with pytest.raises(OSError) as caught:
        function()
    return caught.value.errno


# unlink

def test_unlink_a_lower_file(union):
    u = union({"f": "", "g": ""})
    os.unlink(u / "f")
    assert u.ls() == ["g"]
    assert u.hidden("f")
    u.remount()
    assert u.ls() == ["g"]


def test_unlink_an_upper_file_leaves_nothing(union):
    u = union({}, upper={"f": ""})
    os.unlink(u / "f")
    assert os.listdir(u.upper) == []


def test_unlink_a_file_of_both(union):
    u = union({"f": "low"}, upper={"f": "up"})
    os.unlink(u / "f")
    assert u.ls() == []
    u.remount()
    assert u.ls() == []


def test_unlink_a_copied_up_file(union):
    u = union({"f": "low"})
    u.append("f", "x")
    os.unlink(u / "f")
    assert u.hidden("f")
    u.remount()
    assert u.ls() == []


def test_unlink_does_not_copy_up(union):
    u = union({"f": "x" * 100_000, "d": {"g": "y"}})
    os.unlink(u / "f")
    os.unlink(u / "d/g")
    assert u.hidden("f") and u.hidden("d/g")


@pytest.mark.parametrize("name", ["fifo", "link", "device"])
def test_unlink_other_types(union, name):
    u = union({"fifo": Node(), "link": Symlink(), "device": Node(type=0o020000, rdev=(1, 3))})
    os.unlink(u / name)
    assert not os.path.lexists(u / name)
    assert u.hidden(name)


def test_unlink_in_an_opaque_directory_leaves_no_whiteout(union):
    u = union({"d": {"f": ""}}, upper={"d": opaque({"f": ""})})
    os.unlink(u / "d/f")
    assert os.listdir(u.up("d")) == []


def test_unlink_what_is_missing(union):
    u = union({"f": ""}, upper={"f": whiteout()})
    for name in ("f", "g"):
        with pytest.raises(FileNotFoundError):
            os.unlink(u / name)


def test_unlink_a_directory(union):
    u = union({"d": {}})
    assert errno_of(lambda: os.unlink(u / "d")) == errno.EISDIR


def test_unlink_twice(union):
    u = union({"f": ""})
    os.unlink(u / "f")
    with pytest.raises(FileNotFoundError):
        os.unlink(u / "f")


def test_whiteouts_share_one_inode(union):
    u = union({"d": {f"f{i}": "" for i in range(20)}})
    for i in range(20):
        os.unlink(u / f"d/f{i}")
    assert len({os.lstat(u.up(f"d/f{i}")).st_ino for i in range(20)}) == 1


def test_open_lower_file_stays_usable(union):
    u = union({"f": "content"})
    fd = os.open(u / "f", os.O_RDONLY)
    os.unlink(u / "f")
    assert os.read(fd, 100) == b"content"
    os.close(fd)


def test_open_upper_file_stays_usable(union):
    u = union({}, upper={"f": "content"})
    fd = os.open(u / "f", os.O_RDWR)
    os.unlink(u / "f")
    os.pwrite(fd, b"CON", 0)
    assert os.pread(fd, 100, 0) == b"CONtent"
    assert os.fstat(fd).st_nlink == 0
    os.ftruncate(fd, 3)
    assert os.fstat(fd).st_size == 3
    os.fchmod(fd, 0o600)
    os.close(fd)


def test_open_for_writing_lower_file_stays_usable(union):
    """Opened for writing while lower, unlinked before the first write."""
    u = union({"f": "content"})
    fd = os.open(u / "f", os.O_RDWR)
    os.unlink(u / "f")
    os.pwrite(fd, b"CON", 0)
    assert os.pread(fd, 100, 0) == b"CONtent"
    os.close(fd)
    assert u.ls() == []


def test_unlinked_while_another_takes_the_name(union):
    u = union({"f": "old"})
    fd = os.open(u / "f", os.O_RDWR)
    os.unlink(u / "f")
    u.write("f", "new")
    os.pwrite(fd, b"x", 0)
    assert os.pread(fd, 9, 0) == b"xld"
    assert u.read("f") == b"new"
    os.close(fd)
    u.remount()
    assert u.read("f") == b"new"


@pytest.mark.deviation("D-04")
def test_fstat_of_an_unlinked_lower_file(union):
    u = union({"f": "content"})
    fd = os.open(u / "f", os.O_RDONLY)
    os.unlink(u / "f")
    st = os.fstat(fd)
    os.close(fd)
    assert (st.st_size, st.st_nlink) == (7, u.pick(kernel=1, veneer=0))


def test_unlink_one_of_two_links(union):
    u = union({}, upper={"a": "x", "b": Hard("a")})
    os.unlink(u / "a")
    assert u.read("b") == b"x"
    assert os.stat(u / "b").st_nlink == 1


def test_unlink_one_lower_link(union):
    u = union({"a": "x", "b": Hard("a")})
    os.unlink(u / "a")
    assert u.ls() == ["b"]
    assert u.read("b") == b"x"


# rmdir

def test_rmdir_lower(union):
    u = union({"d": {}})
    os.rmdir(u / "d")
    assert u.ls() == []
    assert u.hidden("d")
    u.remount()
    assert u.ls() == []


def test_rmdir_upper(union):
    u = union({}, upper={"d": {}})
    os.rmdir(u / "d")
    assert os.listdir(u.upper) == []


def test_rmdir_not_empty(union):
    u = union({"low": {"f": ""}, "both": {"f": ""}}, upper={"up": {"f": ""}, "both": {}})
    for name in ("low", "up", "both"):
        assert errno_of(lambda name=name: os.rmdir(u / name)) == errno.ENOTEMPTY


def test_rmdir_merged_empty_with_whiteouts(union):
    u = union({"d": {"a": "", "b": ""}})
    os.unlink(u / "d/a")
    os.unlink(u / "d/b")
    os.rmdir(u / "d")
    assert u.hidden("d")
    u.remount()
    assert u.ls() == []


def test_rmdir_with_whiteouts_of_nothing(union):
    """Whiteouts that an earlier layer set had a use for."""
    u = union({"d": {}}, upper={"d": {"gone": whiteout()}})
    os.rmdir(u / "d")
    assert u.hidden("d")


@pytest.mark.deviation("D-02")
def test_rmdir_upper_only_with_whiteouts(union):
    u = union({}, upper={"d": {"gone": whiteout()}})
    if u.pick(kernel=True, veneer=False):
        assert errno_of(lambda: os.rmdir(u / "d")) == errno.ENOTEMPTY
    else:
        os.rmdir(u / "d")
        assert os.listdir(u.upper) == []


def test_rmdir_of_three_layers(union):
    u = union({"d": {"a": whiteout()}}, {"d": {"a": ""}}, upper={"d": {}})
    os.rmdir(u / "d")
    assert not os.path.exists(u / "d")
    assert u.hidden("d")


@pytest.mark.veneer_only("the kernel sets times of the directory when it cleans up")
def test_fstat_of_a_removed_directory_with_whiteouts(union):
    """Whiteouts that are cleaned up with it are no change of it."""
    u = union({"d": {"a": "", "b": ""}})
    os.unlink(u / "d/a")
    os.unlink(u / "d/b")
    os.utime(u / "d", ns=(10 ** 18, 10 ** 18))
    fd = os.open(u / "d", os.O_RDONLY)
    os.rmdir(u / "d")
    assert os.fstat(fd).st_mtime_ns == 10 ** 18
    os.close(fd)


def test_rmdir_many_whiteouts(union):
    u = union({"d": {f"f{i}": "" for i in range(300)}})
    for i in range(300):
        os.unlink(u / f"d/f{i}")
    os.rmdir(u / "d")
    assert u.hidden("d")


def test_rmdir_a_file(union):
    u = union({"f": ""})
    with pytest.raises(NotADirectoryError):
        os.rmdir(u / "f")


def test_rmdir_through_a_symlink(union):
    u = union({"d": {}, "l": Symlink(target="d")})
    with pytest.raises(NotADirectoryError):
        os.rmdir(u / "l")


def test_rmdir_dot(union):
    u = union({"d": {}})
    assert errno_of(lambda: os.rmdir(u / "d/.")) == errno.EINVAL
    assert errno_of(lambda: os.rmdir(u / "d/..")) == errno.ENOTEMPTY


def test_rmdir_of_a_working_directory(union, child):
    u = union({"d": {}})

    def inside():
        os.chdir(u / "d")
        os.rmdir(u / "d")
        try:
            open("f", "wb")
        except FileNotFoundError:
            return os.listdir(u.mnt)
    assert child(inside) == []


def test_rmdir_then_mkdir_hides_the_old_children(union):
    u = union({"d": {"s": {"f": ""}}})
    shutil.rmtree(u / "d")
    os.mkdir(u / "d")
    os.mkdir(u / "d/s")
    assert u.ls("d/s") == []
    u.remount()
    assert u.ls("d/s") == []


def test_non_empty_is_seen_after_create(union):
    u = union({"d": {"a": ""}})
    os.unlink(u / "d/a")
    u.write("d/b", "")
    assert errno_of(lambda: os.rmdir(u / "d")) == errno.ENOTEMPTY


# rm -rf

TREE = {"a": {"b": {"c": {"f": "1"}, "g": "2"}, "l": Symlink()}, "h": "3", "d": {"f": ""}}


def test_rm_rf_lower(union):
    u = union({"t": TREE})
    shutil.rmtree(u / "t")
    assert u.ls() == []
    u.remount()
    assert u.ls() == []


def test_rm_rf_merged(union):
    u = union({"t": TREE}, {"t": {**TREE, "more": {"x": ""}}}, upper={"t": {"a": {"up": ""}}})
    shutil.rmtree(u / "t")
    assert u.ls() == []
    assert os.listdir(u.upper) == ["t"]
    u.remount()
    assert u.ls() == []


def test_rm_rf_twice_with_new_content(union):
    u = union({"t": TREE})
    for _ in range(2):
        shutil.rmtree(u / "t")
        trees.build(u / "t", TREE)
    u.remount()
    assert u.ls("t") == ["a", "d", "h"]
    assert u.read("t/a/b/c/f") == b"1"


def test_rm_rf_of_a_directory_copied_up_between_open_and_read(union):
    u = union({"d": {f"f{i:02}": "" for i in range(40)}})
    fd = os.open(u / "d", os.O_RDONLY)
    os.chmod(u / "d/f00", 0o600)
    os.unlink(u / "d/f01")
    while chunk := oscalls.getdents64(fd, 1 << 20):
        for entry in chunk:
            if entry.name not in (".", ".."):
                os.unlink(entry.name, dir_fd=fd)
    os.close(fd)
    os.rmdir(u / "d")
    assert u.ls() == []


def test_sticky_directory_protects(union, as_user):
    u = union({"d": Dir(mode=0o1777, children={"f": File(data="x", owner=(5, 5))})})
    with pytest.raises(PermissionError):
        as_user(1000, lambda: os.unlink(u / "d/f"))
    as_user(5, lambda: os.unlink(u / "d/f"))
    assert u.ls("d") == []


def test_parent_without_write_permission(union, as_user):
    u = union({"d": {"f": File(data="x", mode=0o666)}})
    with pytest.raises(PermissionError):
        as_user(1000, lambda: os.unlink(u / "d/f"))
    with pytest.raises(PermissionError):
        as_user(1000, lambda: os.rmdir(u / "d"))


def test_time_of_the_parent_changes(union):
    u = union({"d": Dir(mtime=trees.OLD, children={"f": ""})})
    os.unlink(u / "d/f")
    assert os.stat(u / "d").st_mtime_ns > trees.OLD
