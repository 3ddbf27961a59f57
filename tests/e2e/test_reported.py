"""What users of other overlays report, in the form in which each tells one implementation from another.

Others of this kind have files of their own: test_large.py has what takes size, test_databases.py
programs that keep data.
"""

import mmap
import os
import subprocess

import pytest

import contenders
import trees
from callers import drop_pages
from trees import File, Hard

FEATURES = ["redirect_dir=on", "metacopy=on", "index=on"]


def test_a_log_that_is_followed_is_written_to_the_upper(union):
    """By a program that has it open since before the first line was added."""
    u = union({"log": "one\n"})
    before = trees.snapshot(u.low())
    with subprocess.Popen(["tail", "-s", "0.05", "-n", "+1", "-f", u / "log"], stdout=subprocess.PIPE) as tail:
        assert tail.stdout.readline() == b"one\n"
        for line in ("two\n", "three\n"):
            subprocess.run(["sh", "-c", f'printf %s "{line}" >> "$1"', "sh", u / "log"], check=True)
            assert tail.stdout.readline() == line.encode()
        tail.terminate()
    assert trees.snapshot(u.low()) == before
    assert trees.read(u.up("log")) == b"one\ntwo\nthree\n"


@pytest.mark.deviation("D-12")
@pytest.mark.parametrize("drop", ["pages", "all"])
def test_a_mapping_from_before_the_copy_up_brings_nothing_old_back(union, drop):
    """Mapped, overwritten by another descriptor, dropped, looked at, changed by a byte, synced."""
    u = union({"f": b"o" * 65536})
    new = os.urandom(65536)
    fd = os.open(u / "f", os.O_RDONLY)
    with mmap.mmap(fd, 65536, mmap.MAP_SHARED, mmap.PROT_READ) as memory:
        assert memory[:] == b"o" * 65536
        with open(u / "f", "r+b") as file:
            file.write(new)
        drop_pages(u / "f")
        if drop == "all":
            trees.write("/proc/sys/vm/drop_caches", "1")
        assert memory[:] == u.pick(kernel=b"o" * 65536, veneer=new)
        writer = os.open(u / "f", os.O_RDWR)
        os.pwrite(writer, b"!", 40_000)
        os.fsync(writer)
        os.close(writer)
        assert memory[40_000:40_001] == u.pick(kernel=b"o", veneer=b"!")
    os.close(fd)
    new = new[:40_000] + b"!" + new[40_001:]
    drop_pages(u / "f")
    assert u.read("f") == trees.read(u.up("f")) == new
    u.remount()
    assert u.read("f") == new


@pytest.mark.parametrize("old,new", [(100, 150), (150, 100), (5000, 4097), (4096, 8192), (10_000, 1)])
def test_overwriting_leaves_exactly_the_new_bytes(union, old, new):
    """No rest of the old ones, no zeros; also for who has it open, and after the pages were dropped."""
    data = os.urandom(new)
    u = union({"f": b"o" * old})
    reader = os.open(u / "f", os.O_RDONLY)
    os.pread(reader, old, 0)
    fd = os.open(u / "f", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, data)
    os.close(fd)
    for _ in range(2):
        assert (os.pread(reader, 20_000, 0), u.read("f"), os.fstat(reader).st_size) == (data, data, new)
        drop_pages(u / "f")
    os.close(reader)
    u.remount()
    assert u.read("f") == trees.read(u.up("f")) == data


@pytest.mark.parametrize("first", ["a", "b"])
def test_two_names_of_a_file_are_one_whichever_is_changed(union, first):
    u = union({"a": "x", "b": Hard("a")}, opts=FEATURES)
    before = os.stat(u / "a")
    u.append(first, "y")
    for _ in range(2):
        for name in ("a", "b"):
            st = os.stat(u / name)
            assert (st.st_ino, st.st_nlink, u.read(name)) == (before.st_ino, 2, b"xy")
        u.remount()


TREE = {"d": {"f": "x" * 5000, "g": File(data="y", xattrs={"user.k": "v"}), "s": {"t": "z"}},
        "e": {"h": "h"}, "a": "linked", "b": Hard("a"), "gone": "", "meta": "m" * 5000}


def work(u):
    u.append("d/f", "+")
    os.rename(u / "d", u / "e/moved")
    os.mkdir(u / "d")
    u.write("d/new", "new")
    os.unlink(u / "gone")
    u.append("b", "+")
    os.chown(u / "meta", 5, 6)
    os.rename(u / "meta", u / "e/meta")
    os.setxattr(u / "e/moved/g", "user.k", b"w")


def whole(u):
    """All there is to see, with link counts, and entries whose type and number are what lstat says."""
    assert trees.dirent_faults(u.mnt) == []
    return u.snapshot(nlink=True)


@pytest.mark.parametrize("prefix", ["trusted", "user"])
def test_layers_are_the_kernels_and_the_kernels_are_ours(union, prefix):
    """Each reads what the other wrote, sees the same tree, and goes on from there."""
    # The kernel follows neither redirects nor metacopy files in user.* attributes.
    u = union(TREE, opts=FEATURES if prefix == "trusted" else ["userxattr"])
    other = contenders.other(u.contender)
    if other.missing():
        pytest.skip(other.missing())
    if prefix == "trusted":
        work(u)
    else:
        u.umount()
        u.mount(["userxattr"] + ["compat=kernel"] * u.is_veneer)
        u.append("d/f", "+")
        os.unlink(u / "gone")
        os.rename(u / "d/g", u / "e/g")
        u.write("d/new", "new")
    want = whole(u)
    options = [opt for opt in u.opts if opt != "compat=kernel"]
    u.remount(options + ["compat=kernel"] * (prefix == "user" and other.name == "veneer"), contender=other)
    assert trees.difference(want, whole(u)) == []
    u.append("a", "*")
    u.write("e/more", "more")
    os.unlink(u / "e/h")
    want = whole(u)
    u.remount(options, contender=u.contender)
    assert trees.difference(want, whole(u)) == []


def without_root(u):
    """All but the directory that is the upper's own."""
    seen = u.snapshot()
    del seen["."]
    return seen


def test_kernel_overlayfs_on_top_of_a_mount(union_factory):
    """A container's storage may lie on one; it is a lower like any file system."""
    kernel = contenders.CONTENDERS["kernel"]
    if kernel.missing():
        pytest.skip(kernel.missing())
    low = union_factory(TREE, opts=FEATURES).mount()
    work(low)
    want = without_root(low)
    top = union_factory(low.mnt, guard=False).mount(contender=kernel)
    assert trees.difference(want, without_root(top)) == []
    top.append("e/moved/f", "top")
    os.unlink(top / "a")
    assert (low.read("e/moved/f"), top.read("e/moved/f")[-4:]) == (b"x" * 5000 + b"+", b"+top")
    assert "a" not in top.ls() and "a" in low.ls()
    assert trees.difference(want, without_root(low)) == []
    top.umount()
