"""rename in all its forms, and what the layers say afterwards."""

import errno
import os
import shutil
import stat
import subprocess
import time

import pytest

import oscalls
import trees
from oscalls import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, renameat2
from trees import Dir, File, Hard, Node, Symlink, is_whiteout, whiteout

REDIRECT = "trusted.overlay.redirect"
ON, OFF = ["redirect_dir=on"], ["redirect_dir=off"]


def errno_of(function):
    with pytest.raises(OSError) as caught:
        function()
    return caught.value.errno


# Files

@pytest.mark.parametrize("layer", ["lower", "upper", "both"])
def test_rename_a_file(union, layer):
    u = union({"f": "low"} if layer != "upper" else {}, upper={"f": "up"} if layer != "lower" else {})
    data = u.read("f")
    os.rename(u / "f", u / "g")
    assert u.ls() == ["g"]
    assert u.read("g") == data
    u.remount()
    assert u.ls() == ["g"]
    assert u.hidden("f") == (layer != "upper")


def test_rename_of_an_upper_file_leaves_no_whiteout(union):
    u = union({}, upper={"f": ""})
    os.rename(u / "f", u / "g")
    assert os.listdir(u.upper) == ["g"]


def test_rename_to_another_directory(union):
    u = union({"a": {"f": "x"}, "b": {}})
    os.rename(u / "a/f", u / "b/g")
    assert (u.ls("a"), u.ls("b")) == ([], ["g"])
    u.remount()
    assert (u.ls("a"), u.read("b/g")) == ([], b"x")


@pytest.mark.parametrize("target", ["lower", "upper", "both"])
def test_rename_over_a_file(union, target):
    low = {"f": "new", **({"g": "old"} if target != "upper" else {})}
    u = union(low, upper={"g": "old up"} if target != "lower" else {})
    os.rename(u / "f", u / "g")
    assert u.ls() == ["g"]
    assert u.read("g") == b"new"
    u.remount()
    assert (u.ls(), u.read("g")) == (["g"], b"new")


def test_rename_over_a_whiteout(union):
    u = union({"f": "new", "g": "old"}, upper={"g": whiteout()})
    os.rename(u / "f", u / "g")
    assert (u.ls(), u.read("g")) == (["g"], b"new")
    u.remount()
    assert (u.ls(), u.read("g")) == (["g"], b"new")


def test_rename_upper_over_a_whiteout(union):
    u = union({"g": "old"}, upper={"f": "new", "g": whiteout()})
    os.rename(u / "f", u / "g")
    assert os.listdir(u.upper) == ["g"]
    assert u.read("g") == b"new"


@pytest.mark.parametrize("layer", ["lower", "upper"])
def test_rename_to_itself(union, layer):
    tree = {"f": "x", "d": {"g": "y"}}
    u = union(tree if layer == "lower" else {}, upper=tree if layer == "upper" else {})
    before = u.snapshot()
    os.rename(u / "f", u / "f")
    os.rename(u / "d", u / "d")
    assert u.snapshot() == before
    assert not u.hidden("f") and not u.hidden("d")


def test_rename_between_two_names_of_one_file_does_nothing(union):
    u = union({}, upper={"a": "x", "b": Hard("a")})
    os.rename(u / "a", u / "b")
    assert u.ls() == ["a", "b"]


def test_rename_back_and_forth(union):
    u = union({"f": "x"})
    for _ in range(5):
        os.rename(u / "f", u / "g")
        os.rename(u / "g", u / "f")
    assert u.ls() == ["f"]
    u.remount()
    assert (u.ls(), u.read("f")) == (["f"], b"x")


def test_old_name_can_be_used_again(union):
    u = union({"f": "x"})
    os.rename(u / "f", u / "g")
    u.write("f", "second")
    u.remount()
    assert (u.read("f"), u.read("g")) == (b"second", b"x")


def test_open_file_follows_its_rename(union):
    u = union({"f": "x"})
    fd = os.open(u / "f", os.O_RDWR)
    os.rename(u / "f", u / "g")
    os.pwrite(fd, b"yz", 0)
    os.close(fd)
    assert u.read("g") == b"yz"


def test_open_target_stays_usable(union):
    u = union({"f": "new", "g": "old"})
    fd = os.open(u / "g", os.O_RDONLY)
    os.rename(u / "f", u / "g")
    assert os.read(fd, 10) == b"old"
    os.close(fd)


def test_inode_number_stays(union):
    u = union({"f": "x"})
    before = u.ino("f")
    os.rename(u / "f", u / "g")
    assert u.ino("g") == before
    u.remount()
    assert u.ino("g") == before


def test_mtime_of_the_file_stays(union):
    u = union({"f": File(data="x", mtime=trees.OLD)})
    os.rename(u / "f", u / "g")
    assert os.stat(u / "g").st_mtime_ns == trees.OLD


@pytest.mark.parametrize("name", ["link", "fifo", "dev"])
def test_rename_other_types(union, name):
    u = union({"link": Symlink(target="t"), "fifo": Node(), "dev": Node(type=stat.S_IFCHR, rdev=(1, 3))})
    before = trees.entry(u / name)
    os.rename(u / name, u / "new")
    assert trees.entry(u / "new") == before
    assert u.hidden(name)


# Errors

def test_rename_errors(union):
    u = union({"f": "", "d": {}, "full": {"x": ""}, "g": ""})
    assert errno_of(lambda: os.rename(u / "no", u / "x")) == errno.ENOENT
    assert errno_of(lambda: os.rename(u / "f", u / "no/x")) == errno.ENOENT
    assert errno_of(lambda: os.rename(u / "f", u / "d")) == errno.EISDIR
    assert errno_of(lambda: os.rename(u / "d", u / "f")) == errno.ENOTDIR


@pytest.mark.parametrize("layer", ["lower", "upper"])
def test_rename_a_directory_over_a_full_one(union, layer):
    tree = {"full": {"x": ""}}
    u = union(tree if layer == "lower" else {}, upper={"d": {}, **(tree if layer == "upper" else {})})
    assert errno_of(lambda: os.rename(u / "d", u / "full")) == errno.ENOTEMPTY


def test_rename_a_directory_into_itself(union):
    u = union({}, upper={"d": {"s": {}}})
    assert errno_of(lambda: os.rename(u / "d", u / "d/s/t")) == errno.EINVAL
    assert errno_of(lambda: os.rename(u / "d/s", u / "d")) == errno.ENOTEMPTY


def test_rename_out_of_the_union(union):
    u = union({"f": ""})
    assert errno_of(lambda: os.rename(u / "f", os.path.join(u.base, "f"))) == errno.EXDEV


def test_rename_without_permission(union, as_user):
    u = union({"d": {"f": File(data="", owner=(1000, 1000))}})
    with pytest.raises(PermissionError):
        as_user(1000, lambda: os.rename(u / "d/f", u / "d/g"))
    assert not u.copied_up("d")


# Flags

@pytest.mark.parametrize("target", ["lower", "upper"])
def test_noreplace(union, target):
    u = union({"f": "x", **({"g": ""} if target == "lower" else {})},
              upper={"g": ""} if target == "upper" else {})
    assert errno_of(lambda: renameat2(u / "f", u / "g", RENAME_NOREPLACE)) == errno.EEXIST
    renameat2(u / "f", u / "h", RENAME_NOREPLACE)
    assert u.ls() == ["g", "h"]


def test_noreplace_onto_a_whiteout(union):
    u = union({"f": "x", "g": "old"}, upper={"g": whiteout()})
    renameat2(u / "f", u / "g", RENAME_NOREPLACE)
    assert u.read("g") == b"x"


@pytest.mark.parametrize("layers", [("lower", "lower"), ("lower", "upper"), ("upper", "upper")])
def test_exchange_files(union, layers):
    spec = {"lower": {}, "upper": {}}
    spec[layers[0]]["a"] = "A"
    spec[layers[1]]["b"] = "B"
    u = union(spec["lower"], upper=spec["upper"])
    renameat2(u / "a", u / "b", RENAME_EXCHANGE)
    assert (u.read("a"), u.read("b")) == (b"B", b"A")
    u.remount()
    assert (u.read("a"), u.read("b")) == (b"B", b"A")


def test_exchange_file_and_upper_directory(union):
    u = union({"f": "x"}, upper={"d": {"g": "y"}})
    renameat2(u / "f", u / "d", RENAME_EXCHANGE)
    assert (u.read("d"), u.ls("f")) == (b"x", ["g"])
    u.remount()
    assert (u.read("d"), u.ls("f")) == (b"x", ["g"])


def test_exchange_lower_directories(union):
    u = union({"a": {"x": ""}, "b": {"y": ""}}, opts=ON)
    renameat2(u / "a", u / "b", RENAME_EXCHANGE)
    assert (u.ls("a"), u.ls("b")) == (["y"], ["x"])
    u.remount()
    assert (u.ls("a"), u.ls("b")) == (["y"], ["x"])


def test_exchange_lower_directories_without_redirect(union):
    u = union({"a": {"x": ""}, "b": {"y": ""}}, opts=OFF)
    assert errno_of(lambda: renameat2(u / "a", u / "b", RENAME_EXCHANGE)) == errno.EXDEV
    assert (u.ls("a"), u.ls("b")) == (["x"], ["y"])


def test_exchange_file_and_lower_directory(union):
    u = union({"f": "x", "d": {"y": ""}}, opts=ON)
    renameat2(u / "f", u / "d", RENAME_EXCHANGE)
    assert (u.read("d"), u.ls("f")) == (b"x", ["y"])
    u.remount()
    assert (u.read("d"), u.ls("f")) == (b"x", ["y"])


def test_exchange_with_nothing(union):
    u = union({"f": "", "g": ""}, upper={"g": whiteout()})
    assert errno_of(lambda: renameat2(u / "f", u / "g", RENAME_EXCHANGE)) == errno.ENOENT


def test_exchange_of_parent_and_child(union):
    u = union({}, upper={"d": {"s": {}}})
    assert errno_of(lambda: renameat2(u / "d", u / "d/s", RENAME_EXCHANGE)) == errno.EINVAL


def test_flags_that_exclude_each_other(union):
    u = union({"f": "", "g": ""})
    assert errno_of(lambda: renameat2(u / "f", u / "g", RENAME_NOREPLACE | RENAME_EXCHANGE)) \
        == errno.EINVAL
    assert errno_of(lambda: renameat2(u / "f", u / "g", 64)) == errno.EINVAL


@pytest.mark.parametrize("layer", ["lower", "upper"])
def test_rename_whiteout_is_refused(union, layer):
    """A whiteout can never be seen in a union, so none can be left there."""
    u = union({"f": "x"} if layer == "lower" else {}, upper={"f": "x"} if layer == "upper" else {})
    assert errno_of(lambda: renameat2(u / "f", u / "g", RENAME_WHITEOUT)) == errno.EINVAL
    assert u.ls() == ["f"]


# Directories of the upper layer alone

def test_rename_an_upper_directory(union):
    u = union({}, upper={"d": {"s": {"f": "x"}}})
    os.rename(u / "d", u / "e")
    assert os.listdir(u.upper) == ["e"]
    assert u.read("e/s/f") == b"x"


def test_rename_an_upper_directory_to_a_name_that_merges(union):
    """It must not start to merge with what the new name hid."""
    u = union({"p": {"d": {"old": ""}}}, upper={"new": {"x": ""}, "p": {"d": whiteout()}}, opts=OFF)
    os.rename(u / "new", u / "p/d")
    assert u.ls("p/d") == ["x"]
    u.remount()
    assert u.ls("p/d") == ["x"]
    assert os.getxattr(u.up("p/d"), "trusted.overlay.opaque") == b"y"


def test_rename_an_upper_directory_over_an_empty_lower_one(union):
    u = union({"low": {}}, upper={"new": {"x": ""}}, opts=OFF)
    os.rename(u / "new", u / "low")
    assert u.ls() == ["low"]
    u.remount()
    assert u.ls("low") == ["x"]


def test_rename_an_upper_directory_over_a_merged_empty_one(union):
    u = union({"low": {"gone": ""}}, upper={"low": {"gone": whiteout()}, "new": {"x": ""}}, opts=OFF)
    os.rename(u / "new", u / "low")
    assert u.ls("low") == ["x"]
    u.remount()
    assert u.ls("low") == ["x"]


def test_rename_an_upper_directory_into_a_lower_one(union):
    u = union({"low": {"y": ""}}, upper={"new": {"x": ""}}, opts=OFF)
    os.rename(u / "new", u / "low/in")
    assert u.ls("low") == ["in", "y"]
    u.remount()
    assert u.ls("low/in") == ["x"]


# Directories with a lower part

@pytest.mark.parametrize("layer", ["lower", "merged"])
def test_exdev_without_redirect(union, layer):
    u = union({"d": {"f": "x"}}, upper={"d": {"up": ""}} if layer == "merged" else {}, opts=OFF)
    before = u.snapshot()
    assert errno_of(lambda: os.rename(u / "d", u / "e")) == errno.EXDEV
    assert u.snapshot() == before


def test_exdev_does_not_stop_mv(union):
    u = union({"d": {"f": "x", "s": {"g": "y"}}}, opts=OFF)
    subprocess.run(["mv", u / "d", u / "e"], check=True)
    assert u.ls() == ["e"]
    assert u.read("e/s/g") == b"y"


def test_redirect_in_the_same_directory(union):
    u = union({"d": {"f": "x", "s": {"g": "y"}}}, opts=ON)
    os.rename(u / "d", u / "e")
    assert (u.ls(), u.ls("e"), u.read("e/s/g")) == (["e"], ["f", "s"], b"y")
    assert os.getxattr(u.up("e"), REDIRECT) == b"d"
    assert u.hidden("d")
    u.remount()
    assert (u.ls(), u.ls("e"), u.read("e/s/g")) == (["e"], ["f", "s"], b"y")


def test_redirect_to_another_directory(union):
    u = union({"a": {"d": {"f": "x"}}, "b": {}}, opts=ON)
    os.rename(u / "a/d", u / "b/e")
    assert os.getxattr(u.up("b/e"), REDIRECT) == b"/a/d"
    u.remount()
    assert (u.ls("a"), u.read("b/e/f")) == ([], b"x")


def test_redirect_is_kept_or_made_absolute_by_further_renames(union):
    u = union({"d": {"f": "x"}, "p": {}}, opts=ON)
    os.rename(u / "d", u / "e")
    os.rename(u / "e", u / "g")
    assert os.getxattr(u.up("g"), REDIRECT) == b"d"
    os.rename(u / "g", u / "p/h")
    assert os.getxattr(u.up("p/h"), REDIRECT) == b"/d"
    os.rename(u / "p/h", u / "p/i")
    assert os.getxattr(u.up("p/i"), REDIRECT) == b"/d"
    u.remount()
    assert u.read("p/i/f") == b"x"


def test_rename_below_a_renamed_directory(union):
    u = union({"a": {"b": {"c": {"f": "x"}}}}, opts=ON)
    os.rename(u / "a", u / "A")
    os.rename(u / "A/b", u / "A/B")
    os.rename(u / "A/B/c", u / "top")
    assert (u.ls(), u.ls("A/B"), u.read("top/f")) == (["A", "top"], [], b"x")
    u.remount()
    assert (u.ls(), u.ls("A/B"), u.read("top/f")) == (["A", "top"], [], b"x")


def test_rename_a_merged_directory(union):
    u = union({"d": {"one": ""}}, {"d": {"two": ""}}, upper={"d": {"up": ""}}, opts=ON)
    os.rename(u / "d", u / "e")
    assert u.ls("e") == ["one", "two", "up"]
    u.remount()
    assert u.ls("e") == ["one", "two", "up"]


def test_change_below_a_renamed_directory(union):
    u = union({"d": {"s": {"f": "x", "g": "y"}}}, opts=ON)
    os.rename(u / "d", u / "e")
    u.append("e/s/f", "!")
    os.unlink(u / "e/s/g")
    u.remount()
    assert (u.ls("e/s"), u.read("e/s/f")) == (["f"], b"x!")


def test_new_directory_under_the_old_name_is_empty(union):
    u = union({"d": {"f": "x"}}, opts=ON)
    os.rename(u / "d", u / "e")
    os.mkdir(u / "d")
    assert u.ls("d") == []
    u.remount()
    assert (u.ls("d"), u.ls("e")) == ([], ["f"])


def test_rename_back(union):
    u = union({"d": {"f": "x"}}, opts=ON)
    os.rename(u / "d", u / "e")
    os.rename(u / "e", u / "d")
    assert (u.ls(), u.ls("d")) == (["d"], ["f"])
    u.remount()
    assert (u.ls(), u.ls("d")) == (["d"], ["f"])


def test_rename_over_an_empty_lower_directory(union):
    u = union({"d": {"f": "x"}, "e": {}}, opts=ON)
    os.rename(u / "d", u / "e")
    assert (u.ls(), u.ls("e")) == (["e"], ["f"])
    u.remount()
    assert (u.ls(), u.ls("e")) == (["e"], ["f"])


def test_rename_over_a_directory_of_whiteouts(union):
    u = union({"d": {"f": "x"}, "e": {"g": "y"}}, opts=ON)
    os.unlink(u / "e/g")
    os.rename(u / "d", u / "e")
    assert u.ls("e") == ["f"]
    u.remount()
    assert (u.ls(), u.ls("e")) == (["e"], ["f"])


def test_removal_of_a_renamed_directory(union):
    u = union({"d": {"f": "x"}}, opts=ON)
    os.rename(u / "d", u / "e")
    shutil.rmtree(u / "e")
    assert u.ls() == []
    u.remount()
    assert u.ls() == []


def test_long_redirect_is_refused(union):
    deep = "/".join(["x" * 60] * 6)
    u = union({"e": {}}, opts=ON)
    u.umount()
    os.makedirs(u.low(deep))
    u.guard_lowers()
    u.mount()
    assert errno_of(lambda: os.rename(u / deep, u / "e/new")) == errno.EXDEV


def test_directory_identity_survives_rename(union):
    u = union({"d": {"f": "x"}}, opts=ON)
    before = u.ino("d"), u.ino("d/f")
    os.rename(u / "d", u / "e")
    assert (u.ino("e"), u.ino("e/f")) == before
    u.remount()
    assert (u.ino("e"), u.ino("e/f")) == before


def test_working_directory_follows_its_rename(union, child):
    u = union({"d": {"f": "x"}}, opts=ON)

    def inside():
        os.chdir(u / "d")
        os.rename(u / "d", u / "e")
        return os.getcwd() == u / "e" and os.listdir(".")
    assert child(inside) == ["f"]


def test_dotdot_follows_a_move(union):
    u = union({"a": {"d": {}}, "b": {"mark": ""}}, opts=ON)
    os.rename(u / "a/d", u / "b/d")
    assert sorted(os.listdir(u / "b/d/..")) == ["d", "mark"]


def test_rename_is_quick_for_big_trees(union):
    u = union({"d": {f"s{i}": {f"f{j}": "" for j in range(10)} for i in range(40)}}, opts=ON)
    start = time.monotonic()
    os.rename(u / "d", u / "e")
    assert time.monotonic() - start < 0.5
    assert os.listdir(u.up("e")) == []


def test_move_of_a_directory_between_setgid_parents_keeps_modes(union):
    u = union({"a": Dir(mode=0o2775, children={"d": Dir(mode=0o711)}), "b": {}}, opts=ON)
    os.rename(u / "a/d", u / "b/d")
    assert stat.S_IMODE(os.stat(u / "b/d").st_mode) == 0o711


def test_nothing_odd_in_the_upper(union):
    """After many renames the upper shows only the new places and whiteouts for the old ones."""
    u = union({"d": {"f": "x"}, "e": {}, "g": "y"}, opts=ON)
    os.rename(u / "g", u / "e/g")
    os.rename(u / "d", u / "e/d")
    os.rename(u / "e/d/f", u / "f")
    found = {path: is_whiteout(u.up(path)) for path in trees.snapshot(u.upper)}
    assert found == {".": False, "e": False, "e/g": False, "e/d": False, "e/d/f": True,
                     "f": False, "d": True, "g": True}
    assert oscalls.get_flags(u.up("e")) & oscalls.FS_IMMUTABLE == 0


def test_rename_that_fails_leaves_the_target_as_it_was(union):
    """A redirect too long to be written is noticed before the target is made ready to go."""
    name = "x" * 200
    u = union({name: {name: {"src": {"f": ""}}, "dst": {"hidden": ""}}}, opts=ON)
    os.unlink(u / f"{name}/dst/hidden")
    assert errno_of(lambda: os.rename(u / f"{name}/{name}/src", u / f"{name}/dst")) == errno.EXDEV
    u.write(f"{name}/dst/new", "x")
    assert u.ls(f"{name}/dst") == ["new"]
    assert u.ls(f"{name}/{name}/src") == ["f"]
