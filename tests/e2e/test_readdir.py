"""Directory listings: merged, free of duplicates, exact under seeks, complete under change."""

import os
import stat

import pytest

import oscalls
import trees
from contenders import CONTENDERS, Layers, unmount
from oscalls import DirStream
from trees import Dir, File, Node, Symlink, dirent_faults, opaque, whiteout

DOTS = [".", ".."]


def names(entries):
    return [entry.name for entry in entries if entry.name not in DOTS]


def test_merged_without_duplicates(union):
    u = union({"a": "", "b": ""}, {"b": "", "c": ""}, upper={"c": "", "d": ""})
    assert sorted(names(oscalls.read_directory(u.mnt))) == ["a", "b", "c", "d"]


def test_dots_are_listed_once(union):
    u = union({"d": {"a": ""}}, upper={"d": {"b": ""}})
    for directory in ("", "d"):
        listed = [entry.name for entry in oscalls.read_directory(u / directory)]
        assert [listed.count(dot) for dot in DOTS] == [1, 1]


def test_dots_of_an_unmerged_directory(union):
    u = union({"d": {"a": ""}})
    listed = {entry.name: entry.ino for entry in oscalls.read_directory(u / "d")}
    assert (listed["."], listed[".."]) == (u.ino("d"), u.ino(""))


def test_dots_of_a_merged_directory(union):
    u = union({"d": {"a": ""}}, upper={"d": {"b": ""}})
    listed = {entry.name: entry.ino for entry in oscalls.read_directory(u / "d")}
    assert (listed["."], listed[".."]) == (u.ino("d"), u.ino(""))


def test_types(union):
    tree = {"reg": "", "dir": {}, "lnk": Symlink(), "fifo": Node(type=stat.S_IFIFO),
            "sock": Node(type=stat.S_IFSOCK), "chr": Node(type=stat.S_IFCHR, rdev=(1, 3)),
            "blk": Node(type=stat.S_IFBLK, rdev=(7, 99))}
    u = union({**tree, "merge": tree}, upper={"merge": {}})
    for directory in ("", "merge"):
        listed = {entry.name: entry.type for entry in oscalls.read_directory(u / directory)}
        assert {name: listed[name] for name in tree} == {name: name for name in tree}


def test_type_is_that_of_the_topmost(union):
    u = union({"x": {}}, {"x": ""}, upper={"x": Symlink()})
    assert [e.type for e in oscalls.read_directory(u.mnt) if e.name == "x"] == ["lnk"]


def test_inode_numbers_agree_with_stat(union):
    u = union({"d": {"a": "", "s": {"t": ""}}, "f": "", "l": Symlink()}, {"d": {"b": ""}},
              upper={"d": {"c": ""}, "n": {"m": ""}})
    u.snapshot()  # the kernel writes the origin of hand-made merged directories at first lookup
    assert dirent_faults(u.mnt) == []


def test_inode_numbers_agree_after_copy_up(union):
    u = union({"d": {"a": "1", "b": "2"}, "e": {"c": ""}})
    u.append("d/a", "x")
    os.mkdir(u / "d/new")
    os.rename(u / "d/b", u / "e/b")
    assert dirent_faults(u.mnt) == []


def test_inode_numbers_agree_after_remount(union):
    u = union({"d": {"a": "1", "b": "2"}, "e": {"c": ""}})
    u.append("d/a", "x")
    os.rename(u / "d/b", u / "e/b")
    u.remount()
    assert dirent_faults(u.mnt) == []


def test_empty_directory(union):
    u = union({"d": {}}, upper={"d": {}})
    assert os.listdir(u / "d") == []


def test_directory_of_whiteouts_is_empty(union):
    u = union({"d": {"a": "", "b": ""}}, upper={"d": {"a": whiteout(), "b": whiteout()}})
    assert os.listdir(u / "d") == []


@pytest.fixture
def wide(union):
    """A directory of 600 names over three layers."""
    layer = lambda tag: {f"{tag}{i:03}": "" for i in range(200)}
    return union({"d": layer("a")}, {"d": layer("b")}, upper={"d": layer("c")})


@pytest.fixture(params=["merged", "flat"])
def either(request, union):
    """A directory of 600 names: over three layers, or in one lower layer."""
    if request.param == "flat":
        return union({"d": {f"n{i:03}": "" for i in range(600)}})
    return request.getfixturevalue("wide")


@pytest.mark.parametrize("size", [280, 1024, 65536])
def test_small_buffers(wide, size):
    listed = names(oscalls.read_directory(wide / "d", size))
    assert len(listed) == len(set(listed)) == 600


def test_telldir_seekdir_every_position(either):
    """Seeking to any position told continues exactly there."""
    with DirStream(either / "d") as stream:
        told, order = [], []
        while True:
            told.append(stream.tell())
            name = stream.read()
            if name is None:
                break
            order.append(name)
        for at in (0, 1, 2, 3, 100, 299, 300, 598, 601, 602):
            stream.seek(told[at])
            assert stream.rest() == order[at:]


def test_seekdir_backwards_in_small_steps(either):
    fd = os.open(either / "d", os.O_RDONLY)
    entries = []
    while chunk := oscalls.getdents64(fd, 300):
        entries += chunk
    for at in range(len(entries) - 1, 0, -53):
        os.lseek(fd, entries[at - 1].off, os.SEEK_SET)
        assert oscalls.getdents64(fd, 300)[0].name == entries[at].name
    os.close(fd)


def test_offsets_are_unique(wide):
    offsets = [entry.off for entry in oscalls.read_directory(wide / "d")]
    assert len(offsets) == len(set(offsets))


def test_llseek_before_the_first_read(wide):
    fd = os.open(wide / "d", os.O_RDONLY)
    assert os.lseek(fd, 0, os.SEEK_SET) == 0
    assert len(oscalls.getdents64(fd, 1 << 20)) > 0
    os.close(fd)


def test_seek_of_one_descriptor_leaves_another_alone(wide):
    with DirStream(wide / "d") as one, DirStream(wide / "d") as two:
        one.read()
        two.rest()
        assert len(one.rest()) == 601


def test_dup_shares_the_position(wide):
    fd = os.open(wide / "d", os.O_RDONLY)
    first = oscalls.getdents64(fd, 1024)
    twin = os.dup(fd)
    rest = []
    while chunk := oscalls.getdents64(twin, 4096):
        rest += chunk
    assert len({e.name for e in first + rest}) == len(first) + len(rest) == 602
    os.close(fd)
    os.close(twin)


def test_rewinddir_sees_new_names(either):
    with DirStream(either / "d") as stream:
        assert "new" not in stream.rest()
        open(either / "d/new", "wb").close()
        stream.rewind()
        assert "new" in stream.rest()


def test_rewinddir_forgets_removed_names(either):
    victim = os.listdir(either / "d")[300]
    with DirStream(either / "d") as stream:
        stream.rest()
        os.unlink(os.path.join(either / "d", victim))
        stream.rewind()
        assert victim not in stream.rest()


def test_names_that_stay_are_listed_once_under_change(either):
    """Create and remove while a stream is being read: every name that stayed appears once."""
    stay = set(os.listdir(either / "d"))
    doomed = sorted(stay)[::7]
    stay -= set(doomed)
    fd = os.open(either / "d", os.O_RDONLY)
    listed, step = [], 0
    while chunk := oscalls.getdents64(fd, 600):
        listed += names(chunk)
        open(os.path.join(either / "d", f"new{step:03}"), "wb").close()
        if step < len(doomed):
            os.unlink(os.path.join(either / "d", doomed[step]))
        step += 1
    os.close(fd)
    assert len(listed) == len(set(listed))
    assert stay <= set(listed)


def test_remove_while_reading(wide):
    """What rm -rf does: read a little, remove it, read on."""
    fd = os.open(wide / "d", os.O_RDONLY)
    while chunk := oscalls.getdents64(fd, 1024):
        for name in names(chunk):
            os.unlink(os.path.join(wide / "d", name))
    os.close(fd)
    assert os.listdir(wide / "d") == []
    os.rmdir(wide / "d")


def test_copy_up_between_open_and_first_read(union):
    """The directory is lower when opened and merged when read."""
    u = union({"d": {f"n{i}": "" for i in range(50)}})
    fd = os.open(u / "d", os.O_RDONLY)
    open(u / "d/new", "wb").close()
    listed = []
    while chunk := oscalls.getdents64(fd, 1 << 20):
        listed += names(chunk)
    os.close(fd)
    assert sorted(listed) == sorted([f"n{i}" for i in range(50)] + ["new"])


def test_remove_all_after_copy_up_between_open_and_first_read(union):
    u = union({"d": {f"n{i}": "" for i in range(50)}})
    fd = os.open(u / "d", os.O_RDONLY)
    os.unlink(u / "d/n0")
    while chunk := oscalls.getdents64(fd, 512):
        for name in names(chunk):
            os.unlink(os.path.join(u / "d", name))
    os.close(fd)
    os.rmdir(u / "d")
    assert u.ls() == []


def test_listing_of_a_removed_directory(union):
    u = union({"d": {}}, upper={"d": {}})
    fd = os.open(u / "d", os.O_RDONLY)
    os.rmdir(u / "d")
    with pytest.raises(FileNotFoundError):
        oscalls.getdents64(fd)
    os.close(fd)


def test_fresh_listing_after_each_change(union):
    u = union({"d": {"a": ""}}, upper={"d": {}})
    assert u.ls("d") == ["a"]
    u.write("d/b", "")
    assert u.ls("d") == ["a", "b"]
    os.unlink(u / "d/a")
    assert u.ls("d") == ["b"]
    os.rename(u / "d/b", u / "d/c")
    assert u.ls("d") == ["c"]


def test_opaque_directory_lists_only_itself(union):
    u = union({"d": {"low": ""}}, upper={"d": opaque({"up": ""})})
    assert u.ls("d") == ["up"]


def test_listing_needs_read_permission(union, as_user):
    u = union({"d": Dir(mode=0o711, children={"f": File(data="x")})})
    with pytest.raises(PermissionError):
        as_user(1000, lambda: os.listdir(u / "d"))
    assert as_user(1000, lambda: os.stat(u / "d/f").st_size) == 1


@pytest.fixture(scope="session")
def ten_layers(session_scratch):
    """100,000 names over ten layers, 9,000 of them in two layers."""
    root = session_scratch.make("tmpfs", 1 << 30)
    for layer in range(10):
        os.makedirs(f"{root}/{layer}/d")
        fd = os.open(f"{root}/{layer}/d", os.O_RDONLY)
        for i in range(10_000 + (1000 if layer < 9 else 0)):
            os.mknod(f"n{layer * 10_000 + i}", 0o100644, dir_fd=fd)
        os.close(fd)
    return [f"{root}/{layer}" for layer in range(10)]


def test_hundred_thousand_names_over_ten_layers(union, ten_layers):
    u = union(*ten_layers, guard=False)
    listed = names(oscalls.read_directory(u / "d"))
    assert len(listed) == 100_000
    assert set(listed) == {f"n{i}" for i in range(100_000)}


def test_lookups_in_a_big_merged_directory(union, ten_layers):
    u = union(*ten_layers, guard=False)
    os.listdir(u / "d")
    assert all(os.path.exists(u / f"d/n{i}") for i in range(0, 100_000, 97))
    assert not any(os.path.lexists(u / f"d/m{i}") for i in range(1000))


def test_change_in_a_big_merged_directory(union, ten_layers):
    u = union(*ten_layers, guard=False)
    for i in range(0, 100_000, 10_000):
        os.unlink(u / f"d/n{i}")
    u.write("d/new", "")
    listed = os.listdir(u / "d")
    assert len(listed) == 99_991
    assert not any(f"n{i}" in set(listed) for i in range(0, 100_000, 10_000))


@pytest.mark.veneer_only("with layers on several devices the numbers of the kernel do not agree")
def test_inode_numbers_agree_over_an_overlay(union_factory, scratch, base):
    """An overlay as a lower: what lies in one of its directories lies on several devices."""
    names = {f"{'n' * 100}{i}": "" for i in range(600)}
    below = scratch.make("tmpfs")
    trees.build(f"{below}/bottom", {"d": {f"b{name}": "" for name in names}})
    trees.build(f"{base}/parts", {"top": {"d": names}, "upper": {}, "work": {}})
    nested = os.path.join(base, "nested")
    os.mkdir(nested)
    CONTENDERS["kernel"].mount(Layers([f"{base}/parts/top", f"{below}/bottom"], f"{base}/parts/upper",
                                      f"{base}/parts/work"), nested)
    u = union_factory(nested, {}, guard=False).mount()
    assert trees.dirent_faults(u.mnt) == []
    u.umount()
    unmount(nested)


def test_number_of_a_renamed_merged_directory(union):
    """Listed without being looked up: an upper directory that nothing says was copied up."""
    u = union({"d": {"was": {"x": ""}}}, upper={"d": {"was": {}}}, opts=["redirect_dir=on"])
    os.rename(u / "d/was", u / "d/is")
    for _ in range(2):
        ((name, ino),) = [(entry.name, entry.inode()) for entry in os.scandir(u / "d")]
        assert (name, ino) == ("is", os.lstat(u / "d/is").st_ino)
        u.remount()
