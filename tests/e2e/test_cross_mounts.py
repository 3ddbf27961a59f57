"""cross_mounts: a lower layer with what is mounted below it."""

import os
import subprocess

import pytest

import oscalls
import trees
from contenders import MountError

pytestmark = pytest.mark.veneer_only("the kernel's lowers end at mount points")

CROSS = ["cross_mounts"]


@pytest.fixture
def mounted(union_factory, scratch):
    """mounted(*opts) -> a union over a lower that has a tmpfs and an ext4 inside, and a file mounted over one."""
    union = union_factory({"f": "x", "a": {"tmpfs": {"below": ""}, "ext4": {}}, "over": "old", "other": "new"},
                          upper={}, guard=False)
    lower = union.lowers[0]
    device = scratch.make("ext4", 16 << 20)
    points = [f"{lower}/a/tmpfs", f"{lower}/a/ext4", f"{lower}/over"]
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", points[0]], check=True)
    subprocess.run(["mount", "--bind", device, points[1]], check=True)
    subprocess.run(["mount", "--bind", f"{lower}/other", points[2]], check=True)
    for point in points[:2]:
        trees.build(point, {"g": "data", "d": {"h": "y"}, "l": trees.Symlink("g")})
        os.link(f"{point}/g", f"{point}/d/g2")
    yield lambda *opts: union.mount(list(opts))
    if union.mounted:
        union.umount()
    for point in points:
        oscalls.umount(point)


INSIDE = pytest.mark.parametrize("inside", ["tmpfs", "ext4"])


@INSIDE
def test_what_is_mounted_is_there(mounted, inside):
    union = mounted(*CROSS)
    path = f"{union.mnt}/a/{inside}"
    assert {"d", "g", "l"} <= set(os.listdir(path))
    assert "below" not in os.listdir(path)
    assert trees.read(f"{path}/d/h") == b"y"
    assert trees.read(f"{union.mnt}/over") == b"new"
    assert not os.path.ismount(path)


def test_without_the_option_it_is_not(mounted):
    union = mounted()
    assert os.listdir(f"{union.mnt}/a/tmpfs") == ["below"]
    assert trees.read(f"{union.mnt}/over") == b"old"


@INSIDE
def test_changes_go_to_the_upper(mounted, inside):
    union = mounted(*CROSS)
    path = f"{union.mnt}/a/{inside}"
    before = trees.snapshot(f"{union.lowers[0]}/a/{inside}")
    trees.write(f"{path}/g", "changed")
    trees.write(f"{path}/new", "n")
    trees.write(f"{union.mnt}/over", "mine")
    os.unlink(f"{path}/l")
    os.rename(f"{path}/d", f"{union.mnt}/moved")
    want = trees.snapshot(union.mnt)
    union.remount(CROSS)
    assert trees.difference(want, trees.snapshot(union.mnt)) == []
    assert trees.read(f"{union.upper}/a/{inside}/g") == b"changed"
    assert trees.read(f"{union.mnt}/moved/h") == b"y"
    assert trees.difference(before, trees.snapshot(f"{union.lowers[0]}/a/{inside}")) == []
    assert trees.read(f"{union.lowers[0]}/other") == b"new"


@INSIDE
def test_the_mount_point_is_an_ordinary_directory(mounted, inside):
    union = mounted(*CROSS)
    os.rename(f"{union.mnt}/a/{inside}", f"{union.mnt}/b")
    assert trees.read(f"{union.mnt}/b/d/h") == b"y"
    trees.remove(f"{union.mnt}/b")
    assert inside not in os.listdir(f"{union.mnt}/a")
    os.mkdir(f"{union.mnt}/a/{inside}")
    assert os.listdir(f"{union.mnt}/a/{inside}") == []


def test_numbers_differ_and_last(mounted):
    """File systems that are alike give their files the same numbers, and the same handles."""
    union = mounted(*CROSS)
    paths = ["f", "a/tmpfs", "a/tmpfs/d", "a/tmpfs/d/h", "a/ext4", "a/ext4/d", "a/ext4/d/h"]
    numbers = {path: os.stat(f"{union.mnt}/{path}").st_ino for path in paths}
    assert len(set(numbers.values())) == len(paths)
    assert len({os.stat(f"{union.mnt}/{path}").st_dev for path in paths}) == 1
    for path in paths:
        os.chmod(f"{union.mnt}/{path}", 0o700)
    union.remount(CROSS)
    assert {path: os.stat(f"{union.mnt}/{path}").st_ino for path in paths} == numbers


def test_hard_links_of_two_file_systems_are_not_confused(mounted, scratch):
    union = mounted(*CROSS, "index=on")
    for inside in ("tmpfs", "ext4"):
        trees.write(f"{union.mnt}/a/{inside}/d/g2", inside)
    for inside in ("tmpfs", "ext4"):
        assert trees.read(f"{union.mnt}/a/{inside}/d/g2") == inside.encode()


def test_what_is_mounted_later_is_not_seen(mounted):
    union = mounted(*CROSS)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", f"{union.lowers[0]}/a"], check=True)
    try:
        assert trees.read(f"{union.mnt}/a/tmpfs/g") == b"data"
    finally:
        oscalls.umount(f"{union.lowers[0]}/a")


def test_the_union_below_its_own_lower(union_factory, base):
    """The whole tree as a lower: the upper and the mount point lie in it."""
    union = union_factory(base, upper={}, guard=False)
    trees.build(base, {"f": "x", "d": {"g": "y"}})
    union.mount(CROSS)
    inner = union.mnt + union.mnt.removeprefix(base)
    assert os.listdir(inner) == []
    trees.write(f"{union.mnt}/d/g", "changed")
    assert trees.read(f"{base}/d/g") == b"y"


def test_not_with_watch(union_factory):
    union = union_factory({"f": "x"}, upper={})
    with pytest.raises(MountError, match="watch and cross_mounts"):
        union.mount([*CROSS, "watch"])
