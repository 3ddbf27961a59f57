"""Layer sets: how many, on what, overlapping, missing, nested, in use; and path spelling."""

import os
import shutil
import subprocess

import pytest

import contenders
import oscalls
import trees
from contenders import Layers, MountError
from trees import Dir, File, Symlink, difference, whiteout
from union import Union


def refused(union_factory, *lowers, change=None, opts=(), **kwargs):
    """The text of the refusal when these layers are mounted."""
    u = union_factory(*lowers, opts=opts, **kwargs)
    if change:
        change(u)
    with pytest.raises(MountError) as caught:
        u.mount()
    return str(caught.value)


# Number

def test_five_hundred_lowers(union_factory, base):
    lowers = [os.path.join(base, f"{i:03}") for i in range(500)]
    for i, path in enumerate(lowers):
        trees.build(path, {"common": f"{i}", f"own{i:03}": "", "d": {f"in{i:03}": ""}})
    u = union_factory(*lowers)
    u.layers.lowers = [f"{i:03}" for i in range(500)]  # short: the kernel takes one page of options
    os.chdir(base)
    try:
        u.mount()
    finally:
        os.chdir("/")
    assert u.read("common") == b"0"
    assert len(u.ls()) == 502
    assert len(u.ls("d")) == 500
    u.append("own499", "x")
    os.unlink(u / "d/in250")
    assert len(u.ls("d")) == 499
    u.layers.lowers = lowers


def test_more_than_five_hundred_lowers(union_factory, base):
    lowers = [os.path.join(base, f"{i:03}") for i in range(501)]
    for path in lowers:
        os.mkdir(path)
    u = union_factory(*lowers, guard=False)
    u.layers.lowers = [f"{i:03}" for i in range(501)]
    os.chdir(base)
    try:
        with pytest.raises(MountError):
            u.mount()
    finally:
        os.chdir("/")


def test_two_lowers_and_no_upper(union):
    u = union({"a": "1", "d": {"x": ""}}, {"a": "2", "b": "3", "d": {"y": ""}}, readonly=True)
    assert (u.ls(), u.read("a"), u.ls("d")) == (["a", "b", "d"], b"1", ["x", "y"])
    with pytest.raises(OSError):
        u.write("c", "")


@pytest.mark.deviation("D-09")
def test_one_lower_and_no_upper(union_factory):
    u = union_factory({"a": "1"}, readonly=True)
    if u.pick(kernel=True, veneer=False):
        with pytest.raises(MountError):
            u.mount()
    else:
        assert u.mount().read("a") == b"1"


def test_read_only_with_an_upper_writes_nothing(union):
    """The union is mounted ro: upper and work stay as they are."""
    u = union({"f": "x"}, upper={"g": "y"})
    os.unlink(u / "f")
    u.umount()
    before = trees.snapshot(u.upper)
    u.mount(["ro"])
    assert u.ls() == ["g"]
    with pytest.raises(OSError):
        u.write("h", "")
    u.umount()
    assert difference(before, trees.snapshot(u.upper)) == []


# File systems

LOWER = {"d": Dir(mode=0o750, owner=(3, 4), children={"f": "x" * 5000, "s": {"g": ""}}),
         "l": Symlink(target="d/f"), "x": File(data="y", mtime=trees.OLD, xattrs={"user.k": "v"})}


def lower_on(scratch, fstype):
    """A directory holding LOWER on a file system of this type."""
    if fstype in ("squashfs", "erofs"):
        source, image = scratch.path("source"), scratch.path("image")
        trees.build(source, LOWER)
        make = (["mksquashfs", source, image, "-quiet", "-no-progress"] if fstype == "squashfs"
                else ["mkfs.erofs", image, source])
        if not shutil.which(make[0]):
            pytest.skip(f"{make[0]} is not installed")
        subprocess.run(make, check=True, capture_output=True)
        return scratch.mount(image, fstype, "ro")
    if not shutil.which(f"mkfs.{fstype}") and fstype != "tmpfs":
        pytest.skip(f"mkfs.{fstype} is not installed")
    path = scratch.make(fstype)
    trees.build(path, LOWER)
    return path


def exercise(u):
    """Changes of each kind, and the tree they leave."""
    u.append("d/f", "more")
    os.chmod(u / "x", 0o600)
    os.unlink(u / "l")
    u.write("d/new", "n")
    shutil.rmtree(u / "d/s")
    u.remount()
    assert u.read("d/f") == b"x" * 5000 + b"more"
    assert u.ls("d") == ["f", "new"]
    assert u.ls() == [name for name in ("d", "lost+found", "x") if name in u.ls()]
    st = os.stat(u / "x")
    assert (u.read("x"), st.st_mtime_ns // 10**9) == (b"y", trees.OLD // 10**9)
    assert os.getxattr(u / "x", "user.k") == b"v"


@pytest.mark.parametrize("fstype", ["squashfs", "erofs", "xfs", "btrfs", "tmpfs", "ext4"])
def test_lower_of_type(union, scratch, fstype):
    lower = lower_on(scratch, fstype)
    exercise(union(lower, guard=fstype != "squashfs"))


@pytest.mark.parametrize("fstype", ["xfs", "btrfs", "tmpfs"])
def test_upper_of_type(union, scratch, fstype):
    if fstype != "tmpfs" and not shutil.which(f"mkfs.{fstype}"):
        pytest.skip(f"mkfs.{fstype} is not installed")
    where = scratch.make(fstype)
    exercise(union(LOWER, where=where))


def test_lowers_on_three_file_systems(union, scratch):
    u = union(lower_on(scratch, "tmpfs"), lower_on(scratch, "squashfs"), {"d": {"z": ""}}, guard=False)
    assert u.ls("d") == ["f", "s", "z"]
    exercise_names = sorted(u.ls())
    u.append("x", "!")
    u.remount()
    assert u.read("x") == b"y!"
    assert u.ls() == exercise_names


def test_mounts_inside_a_lower_are_not_seen(union_factory, scratch):
    """A layer is one file system: what is mounted inside it does not belong to it."""
    u = union_factory({"m": {"below": ""}}, guard=False)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", u.low("m")], check=True)
    try:
        trees.write(u.low("m/above"), "")
        u.mount()
        assert u.ls("m") == ["below"]
        u.umount()
    finally:
        oscalls.umount(u.low("m"))


def test_mounts_inside_an_upper_are_not_seen(union_factory, scratch):
    """Neither what was mounted before, nor what is mounted later."""
    u = union_factory({"m": {"low": ""}, "later": {"low": ""}}, upper={"m": {"up": ""}, "later": {"up": ""}})
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", u.up("m")], check=True)
    try:
        trees.write(u.up("m/above"), "")
        u.mount()
        assert u.ls("m") == ["low", "up"]
        u.write("m/new", "x")
        os.rename(u / "m/new", u / "later/new")
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", u.up("later")], check=True)
        assert u.ls("later") == ["low", "new", "up"]
        os.unlink(u / "later/low")
        u.append("later/new", "y")
        oscalls.umount(u.up("later"))
        u.remount()
        assert (u.ls("m"), u.ls("later"), u.read("later/new")) == (["low", "up"], ["new", "up"], b"xy")
        u.umount()
    finally:
        oscalls.umount(u.up("m"))


@pytest.mark.veneer_only("the kernel numbers the directories of other file systems in order")
def test_subvolumes_keep_their_numbers(union, scratch):
    """In whatever order a mount meets the file systems inside a layer."""
    if not shutil.which("mkfs.btrfs"):
        pytest.skip("mkfs.btrfs is not installed")
    lower = scratch.make("btrfs", 256 << 20)
    names = [f"sub{i}" for i in range(6)]
    for name in names:
        subprocess.run(["btrfs", "subvolume", "create", f"{lower}/{name}"], check=True,
                       capture_output=True)
        trees.write(f"{lower}/{name}/f", name)
    u = union(lower, guard=False)
    before = {name: (u.ino(name), u.ino(f"{name}/f")) for name in names}
    u.remount()
    assert {name: (u.ino(name), u.ino(f"{name}/f")) for name in reversed(names)} == before
    assert len({ino for pair in before.values() for ino in pair}) == 2 * len(names)
    u.umount()


@pytest.mark.parametrize("inner", ["kernel", "veneer"])
def test_union_as_a_lower(union_factory, inner):
    """Two levels, with whiteouts and opaque directories inside the lower one."""
    reason = contenders.CONTENDERS[inner].missing()
    if reason:
        pytest.skip(reason)
    low = union_factory({"a": "1", "b": "2", "d": {"x": "", "y": ""}}, {"deep": {"z": ""}})
    low.mount(contender=inner)
    os.unlink(low / "a")
    shutil.rmtree(low / "d")
    os.mkdir(low / "d")
    low.write("d/w", "")
    u = union_factory(low.mnt, guard=False).mount()
    assert (u.ls(), u.ls("d"), u.ls("deep")) == (["b", "d", "deep"], ["w"], ["z"])
    u.append("b", "!")
    os.unlink(u / "deep/z")
    u.write("a", "new")
    u.remount()
    assert (u.ls(), u.read("b"), u.ls("deep"), u.read("a")) == (["a", "b", "d", "deep"], b"2!", [],
                                                              b"new")
    assert low.read("b") == b"2"
    u.umount()


def test_layer_paths_may_be_covered_by_mounts(union, scratch):
    """What is mounted over a layer's path later changes nothing."""
    u = union({"f": "x"}, guard=False)
    for path in (u.low(), u.upper):
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], check=True)
    try:
        assert u.read("f") == b"x"
        u.append("f", "y")
        assert u.read("f") == b"xy"
    finally:
        for path in (u.low(), u.upper):
            oscalls.umount(path)
    assert trees.read(u.up("f")) == b"xy"


def test_layer_file_system_may_be_lazily_unmounted(union, scratch):
    lower = lower_on(scratch, "tmpfs")
    u = union(lower, guard=False)
    oscalls.umount(lower, oscalls.MNT_DETACH)
    scratch.mounts.remove(lower)
    assert u.read("x") == b"y"
    u.append("d/f", "z")
    assert u.ls("d") == ["f", "s"]


# Spelling

@pytest.mark.parametrize("name", ["a:b", "a,b", "a\\b", "a\\:b", " sp ace", "tab\t", "quo\"te'", "ü=x",
                                  "new\nline"])
def test_lower_paths_with_odd_characters(union_factory, name):
    u = union_factory({"f": "x"})
    odd = os.path.join(u.base, name)
    os.rename(u.low(), odd)
    u.layers.lowers = [odd]
    u.guard_lowers()
    assert u.mount().read("f") == b"x"


@pytest.mark.parametrize("name", ["a,b", "a\\b", " sp ace", "a:b", "x=y"])
def test_upper_paths_with_odd_characters(union_factory, name):
    u = union_factory({"f": "x"})
    odd = os.path.join(u.base, name)
    os.mkdir(odd)
    for each in ("upper", "work"):
        os.rename(os.path.join(u.base, each), os.path.join(odd, each))
    u.layers.upper, u.layers.work = os.path.join(odd, "upper"), os.path.join(odd, "work")
    u.mount().append("f", "y")
    assert trees.read(u.up("f")) == b"xy"


def test_relative_paths(union_factory):
    u = union_factory({"f": "x"})
    full = u.layers
    u.layers = Layers(["lower0"], "upper", "work")
    os.chdir(u.base)
    try:
        u.mount()
        u.append("f", "y")
    finally:
        os.chdir("/")
        u.layers = full
    assert u.read("f") == b"xy"


def test_paths_through_symlinks(union_factory):
    u = union_factory({"f": "x"})
    os.symlink(u.base, os.path.join(u.base, "link"))
    full = u.layers
    u.layers = Layers([u.base + "/link/lower0"], u.base + "/link/upper", u.base + "/link/work")
    u.mount()
    u.layers = full
    u.append("f", "y")
    assert trees.read(u.up("f")) == b"xy"


@pytest.mark.parametrize("lowerdir", ["{0}:", ":{0}", "{0}::{0}x", "{0}:::{1}", "{0}::{1}::", ""])
def test_malformed_lowerdir(union_factory, lowerdir):
    u = union_factory({"f": "x"}, {"g": ""})

    class Raw(Layers):
        def option(self):
            return [f"lowerdir={lowerdir.format(*self.lowers)}", f"upperdir={self.upper}",
                    f"workdir={self.work}"]
    u.layers = Raw(**vars(u.layers))
    with pytest.raises(MountError):
        u.mount()


def test_last_lowerdir_wins(union_factory):
    u = union_factory({"f": "one"}, {"f": "two"})

    class Twice(Layers):
        def option(self):
            return [f"lowerdir={self.lowers[0]}", f"lowerdir={self.lowers[1]}",
                    f"upperdir={self.upper}", f"workdir={self.work}"]
    u.layers = Twice(**vars(u.layers))
    assert u.mount().read("f") == b"two"


# Refusals

def test_missing_lower(union_factory):
    refused(union_factory, {}, change=lambda u: setattr(u.layers, "lowers", [u.low() + "x"]),
            guard=False)


def test_missing_upper(union_factory):
    refused(union_factory, {}, change=lambda u: os.rmdir(u.upper))


def test_missing_work(union_factory):
    refused(union_factory, {}, change=lambda u: os.rmdir(u.work))


def test_lower_is_a_file(union_factory):
    u = union_factory({"f": ""})
    u.layers.lowers = [u.low("f")]
    with pytest.raises(MountError):
        u.mount()


def test_work_missing_from_the_options(union_factory):
    u = union_factory({})

    class NoWork(Layers):
        def option(self):
            return [f"lowerdir={self.lowers[0]}", f"upperdir={self.upper}"]
    u.layers = NoWork(**vars(u.layers))
    with pytest.raises(MountError):
        u.mount()


def test_no_layers_at_all(union_factory):
    u = union_factory({})

    class Nothing(Layers):
        def option(self):
            return []
    u.layers = Nothing(**vars(u.layers))
    with pytest.raises(MountError):
        u.mount()


def test_work_inside_upper(union_factory):
    def inside(u):
        u.layers.work = u.up("w")
        os.mkdir(u.layers.work)
    refused(union_factory, {}, change=inside)


def test_upper_inside_work(union_factory):
    def inside(u):
        u.layers.upper = os.path.join(u.work, "u")
        os.mkdir(u.layers.upper)
    u = union_factory({})
    inside(u)
    with pytest.raises(MountError):
        u.mount()


def test_work_is_upper(union_factory):
    refused(union_factory, {}, change=lambda u: setattr(u.layers, "work", u.layers.upper))


def test_work_on_another_file_system(union_factory, scratch):
    other = scratch.make("tmpfs", 1 << 20)
    u = union_factory({})
    u.layers.work = other
    with pytest.raises(MountError):
        u.mount()
    u.layers.work = os.path.join(u.base, "work")


def test_work_on_another_mount_of_the_same_file_system(union_factory):
    u = union_factory({})
    bound = os.path.join(u.base, "bound")
    os.mkdir(bound)
    subprocess.run(["mount", "--bind", u.work, bound], check=True)
    u.layers.work = bound
    try:
        with pytest.raises(MountError):
            u.mount()
    finally:
        oscalls.umount(bound)
        u.layers.work = os.path.join(u.base, "work")


@pytest.mark.parametrize("case", ["same lower twice", "lower inside lower", "lower around lower",
                                  "upper is lower", "upper inside lower", "work inside lower",
                                  "lower inside upper"])
def test_overlapping_layers(union_factory, case):
    u = union_factory({"in": {}}, {"in": {}}, upper={"in": {}}, guard=False)
    layers = u.layers
    first, second = layers.lowers
    layers.lowers = {"same lower twice": [first, first],
                     "lower inside lower": [first, first + "/in"],
                     "lower around lower": [first + "/in", first],
                     "upper is lower": [first, layers.upper],
                     "upper inside lower": [u.base, second],
                     "work inside lower": [first, u.base],
                     "lower inside upper": [layers.upper + "/in"]}[case]
    with pytest.raises(MountError):
        u.mount()


def test_same_lower_in_two_unions(union_factory):
    """Sharing a lower is what layers are for."""
    first = union_factory({"f": "x"}).mount()
    second = union_factory(first.low()).mount()
    first.append("f", "1")
    second.append("f", "2")
    assert (first.read("f"), second.read("f")) == (b"x1", b"x2")


def test_unknown_incompat_feature(union_factory):
    def mark(u):
        os.makedirs(os.path.join(u.work, "work/incompat/strange"))
    refused(union_factory, {"f": ""}, change=mark)


def test_volatile_leaves_a_mark_that_refuses(union_factory):
    u = union_factory({"f": "x"}, opts=["volatile"]).mount()
    u.append("f", "y")
    u.umount()
    assert os.path.exists(os.path.join(u.work, "work/incompat/volatile/dirty"))
    with pytest.raises(MountError):
        u.mount([])
    shutil.rmtree(os.path.join(u.work, "work/incompat/volatile"))
    assert u.mount().read("f") == b"xy"


@pytest.mark.deviation("D-10")
def test_upper_in_use(union_factory):
    """The kernel only warns unless the index is on; then both write to one upper."""
    first = union_factory({"f": "x"}).mount()
    second = Union(os.path.join(first.base, "second"), first.contender)
    os.makedirs(second.mnt)
    work = os.path.join(second.base, "work")
    os.mkdir(work)
    second.layers = Layers(first.lowers, first.upper, work)
    if first.pick(kernel=True, veneer=False):
        assert second.mount().check() == []
    else:
        with pytest.raises(MountError, match="in use|busy"):
            second.mount()
    assert first.read("f") == b"x"


@pytest.mark.deviation("D-10")
def test_work_in_use(union_factory):
    first = union_factory({"f": "x"}).mount()
    second = Union(os.path.join(first.base, "second"), first.contender)
    os.makedirs(second.mnt)
    upper = os.path.join(second.base, "upper")
    os.mkdir(upper)
    second.layers = Layers(first.lowers, upper, first.work)
    if first.pick(kernel=True, veneer=False):
        assert second.mount().check() == []
    else:
        with pytest.raises(MountError, match="in use|busy"):
            second.mount()
    assert first.read("f") == b"x"


def test_upper_is_free_after_umount(union):
    u = union({"f": "x"})
    for i in range(4):
        u.append("f", str(i))
        u.remount()
    assert u.read("f") == b"x0123"


def test_leftovers_in_work_are_cleaned_at_mount(union_factory):
    u = union_factory({"f": "x"})
    trees.build(os.path.join(u.work, "work"), {"#1": "left", "#2": {"a": "", "b": {}},
                                               "#3": whiteout()})
    u.mount()
    assert u.ls() == ["f"]
    assert [name for name in os.listdir(os.path.join(u.work, "work"))
            if not trees.is_whiteout(os.path.join(u.work, "work", name))] == []


def test_work_directory_is_closed(union):
    u = union({"f": "x"})
    assert os.stat(os.path.join(u.work, "work")).st_mode & 0o777 == 0


def test_data_only_layers_need_a_merge_layer(union_factory, base):
    os.mkdir(os.path.join(base, "data"))
    u = union_factory({"f": ""}, opts=["metacopy=on"], guard=False)

    class OnlyData(Layers):
        def option(self):
            return [f"lowerdir=::{base}/data", f"upperdir={self.upper}", f"workdir={self.work}"]
    u.layers = OnlyData(**vars(u.layers))
    with pytest.raises(MountError):
        u.mount()
