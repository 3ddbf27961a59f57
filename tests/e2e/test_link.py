"""Hard links: made through the union, kept in the upper, and over copy-up where the index is on."""

import errno
import os

import pytest

import oscalls
from trees import Dir, File, Hard, Symlink, whiteout


def errno_of(function):
    with pytest.raises(OSError) as caught:
        function()
    return caught.value.errno


def same_file(u, *names):
    stats = [os.lstat(u / name) for name in names]
    return len({(st.st_dev, st.st_ino) for st in stats}) == 1


def test_link_an_upper_file(union):
    u = union({}, upper={"a": "x"})
    os.link(u / "a", u / "b")
    assert same_file(u, "a", "b")
    assert os.stat(u / "b").st_nlink == 2
    u.append("b", "y")
    assert u.read("a") == b"xy"


def test_link_copies_up(union):
    u = union({"a": "x"})
    os.link(u / "a", u / "b")
    assert same_file(u, "a", "b")
    assert os.lstat(u.up("a")).st_ino == os.lstat(u.up("b")).st_ino
    assert os.stat(u / "a").st_nlink == 2
    u.append("b", "y")
    assert u.read("a") == b"xy"


def test_link_survives_remount(union):
    u = union({"a": "x"})
    os.link(u / "a", u / "b")
    u.remount()
    assert same_file(u, "a", "b")
    u.append("a", "y")
    assert u.read("b") == b"xy"


def test_link_keeps_the_inode_number(union):
    u = union({"a": "x"})
    before = u.ino("a")
    os.link(u / "a", u / "b")
    assert u.ino("a") == u.ino("b") == before


def test_link_into_a_lower_directory(union):
    u = union({"a": "x", "d": {"e": {}}})
    os.link(u / "a", u / "d/e/b")
    assert u.read("d/e/b") == b"x"


def test_link_over_a_whiteout(union):
    u = union({"a": "x", "b": "old"}, upper={"b": whiteout()})
    os.link(u / "a", u / "b")
    assert u.read("b") == b"x"
    assert same_file(u, "a", "b")
    u.remount()
    assert (u.read("b"), same_file(u, "a", "b")) == (b"x", True)


def test_link_exists(union):
    u = union({"a": "", "low": ""}, upper={"up": ""})
    for name in ("low", "up", "a"):
        assert errno_of(lambda name=name: os.link(u / "a", u / name)) == errno.EEXIST


def test_link_a_directory(union):
    u = union({"d": {}})
    assert errno_of(lambda: os.link(u / "d", u / "e")) == errno.EPERM


def test_link_what_is_missing(union):
    u = union({"a": ""}, upper={"a": whiteout()})
    assert errno_of(lambda: os.link(u / "a", u / "b")) == errno.ENOENT


def test_link_a_symlink(union):
    u = union({"l": Symlink(target="nowhere")})
    os.link(u / "l", u / "m", follow_symlinks=False)
    assert os.readlink(u / "m") == "nowhere"
    assert same_file(u, "l", "m")


def test_link_of_an_open_file(union):
    u = union({"a": "x"})
    fd = os.open(u / "a", os.O_RDWR)
    oscalls.link_fd(fd, u / "b")
    os.pwrite(fd, b"y", 1)
    os.close(fd)
    assert (u.read("a"), u.read("b")) == (b"xy", b"xy")


def test_link_by_another_user(union, as_user):
    u = union({"d": Dir(mode=0o777, children={"f": File(data="x", owner=(1000, 1000))})})
    as_user(1000, lambda: os.link(u / "d/f", u / "d/g"))
    st = os.stat(u / "d/g")
    assert (st.st_uid, st.st_nlink) == (1000, 2)


def test_many_links(union):
    u = union({"a": "x"})
    for i in range(100):
        os.link(u / "a", u / f"l{i}")
    assert os.stat(u / "l50").st_nlink == 101
    for i in range(0, 100, 2):
        os.unlink(u / f"l{i}")
    assert os.stat(u / "a").st_nlink == 51


def test_link_then_unlink_the_original(union):
    u = union({"a": "x"})
    os.link(u / "a", u / "b")
    os.unlink(u / "a")
    assert (u.ls(), u.read("b"), os.stat(u / "b").st_nlink) == (["b"], b"x", 1)
    u.remount()
    assert (u.ls(), u.read("b")) == (["b"], b"x")


def test_rename_one_link_over_another_file(union):
    u = union({}, upper={"a": "x", "b": Hard("a"), "c": "y"})
    os.rename(u / "a", u / "c")
    assert (u.ls(), u.read("c"), os.stat(u / "b").st_nlink) == (["b", "c"], b"x", 2)


def test_fsync_of_a_new_link(union):
    u = union({"a": "x"})
    fd = os.open(u / "a", os.O_RDWR)
    os.link(u / "a", u / "b")
    os.fsync(fd)
    os.close(fd)


# Lower hard links

def test_lower_links_show_one_inode(union):
    u = union({"a": "x", "b": Hard("a"), "d": {"c": Hard("a")}})
    assert same_file(u, "a", "b", "d/c")
    assert os.stat(u / "a").st_nlink == 3


@pytest.fixture
def indexed(union_factory):
    return lambda *lowers: union_factory(*lowers, opts=["index=on"]).mount()


def test_index_keeps_lower_links_together(indexed):
    u = indexed({"a": "x", "b": Hard("a")})
    before = u.ino("a")
    u.append("a", "y")
    assert u.read("b") == b"xy"
    assert same_file(u, "a", "b")
    assert u.ino("a") == before
    assert os.stat(u / "b").st_nlink == 2


def test_index_keeps_lower_links_together_over_remount(indexed):
    u = indexed({"a": "x", "b": Hard("a")})
    u.append("a", "y")
    u.remount()
    assert u.read("b") == b"xy"
    assert same_file(u, "a", "b")
    u.append("b", "z")
    assert u.read("a") == b"xyz"
    assert os.stat(u / "a").st_nlink == 2


def test_index_link_count_after_unlink(indexed):
    u = indexed({"a": "x", "b": Hard("a"), "c": Hard("a")})
    u.append("a", "y")
    os.unlink(u / "b")
    assert os.stat(u / "c").st_nlink == 2
    u.remount()
    assert os.stat(u / "c").st_nlink == 2
    assert u.read("c") == b"xy"


def test_index_link_count_after_unlink_of_a_lower_name(indexed):
    u = indexed({"a": "x", "b": Hard("a")})
    os.unlink(u / "a")
    assert os.stat(u / "b").st_nlink == 1
    u.remount()
    assert os.stat(u / "b").st_nlink == 1


def test_index_link_count_after_link(indexed):
    u = indexed({"a": "x", "b": Hard("a")})
    os.link(u / "a", u / "c")
    assert os.stat(u / "b").st_nlink == 3
    assert same_file(u, "a", "b", "c")


def test_index_entry_goes_with_the_last_link(indexed):
    u = indexed({"a": "x", "b": Hard("a")})
    index = os.path.join(u.work, "index")
    u.append("a", "y")
    assert len(os.listdir(index)) == 1
    os.unlink(u / "a")
    os.unlink(u / "b")
    assert [name for name in os.listdir(index) if not name.startswith("#")] == []


def test_index_rename_of_one_link(indexed):
    u = indexed({"a": "x", "b": Hard("a")})
    os.rename(u / "a", u / "c")
    u.append("c", "y")
    assert u.read("b") == b"xy"
    u.remount()
    assert (u.ls(), same_file(u, "b", "c")) == (["b", "c"], True)


def test_index_truncation_of_one_link(indexed):
    u = indexed({"a": "content", "b": Hard("a")})
    os.truncate(u / "a", 3)
    assert u.read("b") == b"con"


def test_index_open_descriptor_of_the_other_name(indexed):
    u = indexed({"a": "x", "b": Hard("a")})
    fd = os.open(u / "b", os.O_RDONLY)
    u.append("a", "y")
    assert os.pread(fd, 9, 0) == b"xy"
    assert os.fstat(fd).st_size == 2
    os.close(fd)


@pytest.mark.veneer_only("the kernel takes such an entry for one that no name leads to")
def test_index_entry_with_a_count_that_cannot_be_read_stays(indexed):
    """It may be all there is of the file: the names of it are still only in the lower."""
    u = indexed({"a": "old", "b": Hard("a")})
    u.write("a", "new")
    os.unlink(u / "a")
    u.umount()
    index = os.path.join(u.work, "index")
    entry, = [os.path.join(index, name) for name in os.listdir(index) if not name.startswith("#")]
    assert os.stat(entry).st_nlink == 1
    os.setxattr(entry, "trusted.overlay.nlink", b"nonsense" * 10)
    u.mount()
    assert u.read("b") == b"new"


def test_names_that_came_apart_are_two_files(union):
    """Without an index: programs that compare st_ino must not take them for one."""
    u = union({"a": "x", "b": Hard("a"), "c": "z"}, opts=["index=off"])
    with open(u / "a", "ab") as file:
        file.write(b"y")
        file.flush()
        assert os.fstat(file.fileno()).st_ino == u.ino("a") != u.ino("b")
    listed = {entry.name: entry.inode() for entry in os.scandir(u.mnt)}
    assert listed == {name: u.ino(name) for name in "abc"}
    numbers = u.ino("a"), u.ino("b")
    u.remount()
    assert (u.ino("a"), u.ino("b")) == numbers
    assert (u.read("a"), u.read("b")) == (b"xy", b"x")
