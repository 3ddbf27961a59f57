"""veneer without options that limit it: directories rename, metadata moves no data, links stay."""

import errno
import os
import shutil
import stat

import pytest

import contenders
import oscalls
import trees
from test_format import TREE, work
from trees import OLD, Dir, File, Hard, Symlink, difference, dirent_faults

pytestmark = pytest.mark.veneer_only("kernel overlayfs has these features off by default")

MIB = 1 << 20
FEATURES = ["redirect_dir=on", "metacopy=on", "index=on"]
SPACES = pytest.mark.parametrize("opts", [[], ["userxattr"]], ids=["trusted", "user"])


@SPACES
def test_directories_rename(union, opts):
    u = union({"d": {"s": {"f": "x"}}, "e": {}}, {"d": {"g": "y"}}, opts=opts)
    os.rename(u / "d", u / "e/d")
    os.rename(u / "e/d/s", u / "s")
    for _ in range(2):
        assert (u.ls(), u.ls("e/d"), u.read("s/f")) == (["e", "s"], ["g"], b"x")
        u.remount()


@SPACES
def test_change_of_owner_moves_no_data(union, opts):
    u = union({f"f{i}": b"x" * MIB for i in range(8)}, opts=opts)
    before = os.statvfs(u.upper).f_bfree
    for name in u.ls():
        os.chown(u / name, 1000, 1000)
    assert (before - os.statvfs(u.upper).f_bfree) * os.statvfs(u.upper).f_bsize < MIB
    u.remount()
    assert all(u.read(name) == b"x" * MIB for name in u.ls())
    u.append("f3", "+")
    assert u.read("f3") == b"x" * MIB + b"+"


@SPACES
def test_hard_links_stay(union, opts):
    u = union({"a": "x", "d": {"b": Hard("a")}}, opts=opts)
    before = u.ino("a")
    u.append("a", "y")
    for _ in range(2):
        assert (u.read("d/b"), os.stat(u / "d/b").st_nlink) == (b"xy", 2)
        assert (u.ino("a"), u.ino("d/b")) == (before, before)
        u.remount()
    os.unlink(u / "a")
    assert os.stat(u / "d/b").st_nlink == 1
    u.remount()
    assert (u.read("d/b"), os.stat(u / "d/b").st_nlink) == (b"xy", 1)


@SPACES
def test_inode_numbers_stay(union, opts):
    u = union({"f": "x", "d": {"g": "y"}, "l": Symlink(), "h": "z", "i": Hard("h")}, opts=opts)
    # In the user namespace of xattrs a symbolic link can have none, so no origin to remember.
    names = ["f", "d", "d/g", "h", "i"] + ([] if opts else ["l"])
    before = [u.ino(name) for name in names]
    for name in names:
        os.chown(u / name, 1, 1, follow_symlinks=False)
    u.append("f", "+")
    assert [u.ino(name) for name in names] == before
    u.remount()
    assert [u.ino(name) for name in names] == before
    os.rename(u / "d", u / "e")
    u.remount()
    assert (u.ino("e"), u.ino("e/g")) == (before[1], before[2])


@SPACES
def test_a_full_life(union, opts):
    u = union(TREE, opts=opts)
    work(u, redirect=True)
    want = u.snapshot(nlink=True)
    u.remount()
    assert difference(want, u.snapshot(nlink=True)) == []
    assert dirent_faults(u.mnt) == []


def test_the_kernel_reads_it_with_these_features(union):
    u = union(TREE)
    work(u, redirect=True)
    u.append("twin", "!")
    want = u.snapshot(nlink=True)
    assert u.read("same") == b"s!"
    u.remount(opts=FEATURES, contender="kernel")
    assert difference(want, u.snapshot(nlink=True)) == []


def test_the_kernel_goes_on_with_these_features(union):
    u = union(TREE)
    work(u, redirect=True)
    u.append("twin", "!")
    u.remount(opts=FEATURES, contender="kernel")
    u.append("same", "?")
    os.rename(u / "config", u / "etc")
    os.chmod(u / "etc/conf", 0o600)
    os.link(u / "twin", u / "third")
    want = u.snapshot(nlink=True)
    u.remount(opts=[], contender=u.contender)
    assert difference(want, u.snapshot(nlink=True)) == []
    assert u.read("third") == b"s!?"


@SPACES
def test_what_the_kernel_began_is_continued(union, opts):
    """An upper the kernel wrote without these features takes them from now on."""
    u = union(TREE, opts=opts)
    u.remount(contender="kernel")
    work(u)
    want = u.snapshot(nlink=True)
    u.remount(contender=u.contender)
    assert difference(want, u.snapshot(nlink=True)) == []
    os.rename(u / "bin", u / "sbin")
    os.chown(u / "sbin/prog3", 7, 7)
    want = u.snapshot(nlink=True)
    u.remount()
    assert difference(want, u.snapshot(nlink=True)) == []


# compat=kernel

COMPAT = ["compat=kernel"]


def test_compat_renames_what_the_kernel_follows_by_itself(union):
    u = union({"d": {"f": "x"}}, opts=COMPAT)
    os.rename(u / "d", u / "e")
    u.remount(opts=[], contender="kernel")
    assert (u.ls(), u.read("e/f")) == (["e"], b"x")


def test_compat_refuses_to_rename_what_the_kernel_would_not_follow(union):
    u = union({"d": {"f": "x"}}, opts=[*COMPAT, "userxattr"])
    with pytest.raises(OSError) as caught:
        os.rename(u / "d", u / "e")
    assert caught.value.errno == errno.EXDEV


def test_compat_copies_data_with_metadata(union):
    u = union({"f": b"x" * MIB}, opts=COMPAT)
    os.chmod(u / "f", 0o600)
    assert trees.read(u.up("f")) == b"x" * MIB


def test_compat_makes_no_index(union):
    u = union({"a": "x", "b": Hard("a")}, opts=COMPAT)
    u.append("a", "y")
    assert u.read("b") == b"x"
    index = os.path.join(u.work, "index")
    assert not os.path.isdir(index) or os.listdir(index) == []


@pytest.mark.parametrize("opts", [[], ["userxattr"]], ids=["trusted", "user"])
def test_compat_upper_is_for_the_kernel_as_it_is(union, opts):
    u = union(TREE, opts=COMPAT + opts)
    work(u)
    want = u.snapshot(nlink=True)
    u.remount(opts=opts, contender="kernel")
    assert difference(want, u.snapshot(nlink=True)) == []


def test_compat_with_a_feature_asked_for(union):
    u = union({"d": {"f": "x"}}, opts=[*COMPAT, "redirect_dir=on"])
    os.rename(u / "d", u / "e")
    assert u.read("e/f") == b"x"


# The features are dropped and come back

def test_without_redirects_again(union):
    """What was renamed stays where it is; nothing more can be."""
    u = union({"d": {"f": "x"}, "o": {"g": ""}})
    os.rename(u / "d", u / "e")
    u.remount(opts=["redirect_dir=follow", "metacopy=off"])
    assert u.read("e/f") == b"x"
    with pytest.raises(OSError) as caught:
        os.rename(u / "o", u / "p")
    assert caught.value.errno == errno.EXDEV


def test_without_the_index_again(union):
    u = union({"a": "x", "b": Hard("a")})
    u.append("a", "y")
    u.remount(opts=["index=off"])
    assert u.read("a") == b"xy"
    u.remount(opts=[])
    assert (u.read("a"), u.read("b")) == (b"xy", b"xy")


# Where the layers cannot hold all of it

@pytest.mark.parametrize("fstype", ["tmpfs", "xfs", "btrfs"])
def test_other_uppers(union, scratch, fstype):
    if fstype != "tmpfs" and not shutil.which(f"mkfs.{fstype}"):
        pytest.skip(f"mkfs.{fstype} is not installed")
    u = union(TREE, where=scratch.make(fstype))
    work(u, redirect=True)
    u.append("twin", "!")
    want = u.snapshot(nlink=True)
    u.remount()
    assert difference(want, u.snapshot(nlink=True)) == []
    u.umount()


@pytest.mark.parametrize("fstype", ["tmpfs", "xfs"])
def test_lowers_elsewhere(union, scratch, fstype):
    """Upper and lower on different file systems, hard links and all."""
    lower = scratch.make(fstype)
    trees.build(lower, TREE)
    u = union(lower)
    before = u.ino("same")
    work(u, redirect=True)
    u.append("twin", "!")
    assert (u.read("same"), u.ino("same")) == (b"s!", before)
    want = u.snapshot(nlink=True)
    u.remount()
    assert difference(want, u.snapshot(nlink=True)) == []
    assert (u.read("same"), u.ino("same")) == (b"s!", before)
    u.umount()


def test_a_union_as_lower(union):
    """Its file handles may not be usable; links and identities hold all the same while mounted."""
    low = union({"a": "x", "b": Hard("a"), "d": {"f": "y"}})
    u = union(low.mnt, guard=False)
    before = u.ino("a")
    u.append("a", "+")
    os.rename(u / "d", u / "e")
    assert (u.read("a"), u.ino("a"), u.read("e/f")) == (b"x+", before, b"y")
    u.remount()
    assert (u.read("a"), u.read("e/f")) == (b"x+", b"y")
    assert low.read("a") == b"x"
    u.umount()


def test_link_count_of_many_names(union):
    u = union({"a": "x", **{f"l{i}": Hard("a") for i in range(20)}})
    u.append("l3", "y")
    for i in range(0, 20, 2):
        os.unlink(u / f"l{i}")
    os.link(u / "l1", u / "new")
    assert os.stat(u / "a").st_nlink == 12
    u.remount()
    assert os.stat(u / "a").st_nlink == 12
    assert all(u.read(name) == b"xy" for name in u.ls())
    for name in u.ls():
        os.unlink(u / name)
    u.remount()
    assert u.ls() == []


def test_metadata_then_data_then_metadata(union):
    u = union({"f": File(data="x" * 5000, mode=0o4755, owner=(3, 4), mtime=OLD,
                         xattrs={"user.k": "v", "security.capability": oscalls.cap_xattr()})})
    os.setxattr(u / "f", "user.n", b"1")
    assert os.stat(u / "f").st_mtime_ns == OLD
    os.utime(u / "f", ns=(OLD + 1, OLD + 1))
    fd = os.open(u / "f", os.O_RDWR)
    os.pwrite(fd, b"yy", 4999)
    os.close(fd)
    os.chmod(u / "f", 0o640)
    assert u.read("f") == b"x" * 4999 + b"yy"
    st = os.stat(u / "f")
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_size) == (0o640, 3, 5001)
    assert os.getxattr(u / "f", "user.n") == b"1"


def test_a_redirect_that_would_be_too_long(union):
    """Beyond what the format can say: EXDEV, and nothing changed."""
    name = "x" * 200
    u = union({name: {name: {"d": {"f": ""}}}, "e": {}})
    with pytest.raises(OSError) as caught:
        os.rename(u / f"{name}/{name}/d", u / "e/d")
    assert caught.value.errno == errno.EXDEV
    assert u.ls(f"{name}/{name}") == ["d"]


def test_kernel_refuses_what_it_cannot_follow(union):
    """userxattr: the kernel's own rule is not to follow redirects; it says so, and harms nothing."""
    u = union({"d": {"f": "x"}}, opts=["userxattr"])
    os.rename(u / "d", u / "e")
    u.remount(opts=["userxattr"], contender=contenders.CONTENDERS["kernel"])
    with pytest.raises(OSError):
        u.ls("e")
    u.remount(opts=["userxattr"], contender=u.contender)
    assert u.read("e/f") == b"x"


def test_attributes_of_copied_directories(union):
    u = union({"d": Dir(mode=0o2711, owner=(5, 6), mtime=OLD, children={"f": "x"})})
    os.rename(u / "d", u / "e")
    st = os.stat(u / "e")
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_mtime_ns) == (0o2711, 5, 6, OLD)
