"""The layers hold, byte for byte, what the format says; and the two contenders read each other's."""

import os
import shutil
import stat
import struct

import pytest

import contenders
import oscalls
import trees
from trees import OLD, Dir, File, Hard, Node, Symlink, difference, dirent_faults, xattrs

T = "trusted.overlay."
TIMES = "veneer.times"


@pytest.fixture(autouse=True)
def like_the_kernel(monkeypatch):
    """By default veneer writes more than a kernel mount without options; here both get the same."""
    monkeypatch.setattr(contenders.Veneer, "like_kernel", True)


def overlay_xattrs(path):
    """The format's own xattrs of an object in a layer, without those of the layer's root."""
    return {name[len(T):]: value for name, value in xattrs(path) if name.startswith(T)}


def origin_of(path, layer_root):
    """The origin value that names this object of a lower layer."""
    kind, handle = oscalls.name_to_handle(path)
    body = struct.pack("<BBBBB", 0, 0xfb, 21 + len(handle), 0, kind)
    return body + oscalls.fs_uuid(layer_root) + handle


# What each operation leaves

@pytest.mark.parametrize("name", ["f", "d", "l", "p"])
def test_origin(union, name):
    u = union({"f": "x", "d": {}, "l": Symlink(), "p": Node()})
    os.chown(u / name, 1, 1, follow_symlinks=False)
    assert overlay_xattrs(u.up(name))["origin"] == origin_of(u.low(name), u.low())


@pytest.mark.deviation("D-19")
def test_copied_up_file_has_nothing_else(union):
    u = union({"f": "x"})
    u.append("f", "y")
    assert set(overlay_xattrs(u.up("f"))) == {"origin"} | u.pick(kernel=set(), veneer={TIMES})


def test_origin_of_parents(union):
    u = union({"a": {"b": {"f": "x"}}})
    u.append("a/b/f", "y")
    for path in ("a", "a/b", "a/b/f"):
        assert overlay_xattrs(u.up(path))["origin"] == origin_of(u.low(path), u.low()), path


def test_origin_is_of_the_topmost_lower(union):
    u = union({"d": {"one": ""}}, {"d": {"two": ""}})
    os.chmod(u / "d", 0o700)
    assert overlay_xattrs(u.up("d"))["origin"] == origin_of(u.low("d"), u.low())


def test_one_name_of_a_hard_link_has_no_origin(union):
    """Without the index the copy is another file than the names that stay."""
    u = union({"a": "x", "b": Hard("a")})
    u.append("a", "y")
    assert "origin" not in overlay_xattrs(u.up("a"))


def test_impure_parent(union):
    u = union({"d": {"f": "x"}})
    u.append("d/f", "y")
    assert overlay_xattrs(u.up("d"))["impure"] == b"y"


def test_impure_target_of_a_rename(union):
    u = union({"f": "x"}, upper={"d": {}})
    os.rename(u / "f", u / "d/f")
    assert overlay_xattrs(u.up("d"))["impure"] == b"y"


def test_impure_target_of_a_link(union):
    u = union({"f": "x"}, upper={"d": {}})
    os.link(u / "f", u / "d/f")
    assert overlay_xattrs(u.up("d"))["impure"] == b"y"


def test_new_objects_have_nothing(union):
    u = union({"d": {}})
    u.write("f", "")
    os.mkdir(u / "n")
    os.symlink("t", u / "l")
    os.mkfifo(u / "p")
    u.write("d/f", "")
    for name in ("f", "n", "l", "p", "d/f"):
        assert overlay_xattrs(u.up(name)) == {}, name


def test_whiteout_is_a_null_device(union):
    u = union({"f": "", "d": {}})
    os.unlink(u / "f")
    os.rmdir(u / "d")
    for name in ("f", "d"):
        st = os.lstat(u.up(name))
        assert stat.S_ISCHR(st.st_mode) and st.st_rdev == 0
        assert xattrs(u.up(name)) == ()


def test_opaque_directory(union):
    u = union({"d": {"f": ""}})
    shutil.rmtree(u / "d")
    os.mkdir(u / "d")
    assert overlay_xattrs(u.up("d")) == {"opaque": b"y"}
    assert os.listdir(u.up("d")) == []


def test_directory_that_covers_nothing_is_not_opaque(union):
    u = union({})
    os.mkdir(u / "d")
    assert "opaque" not in overlay_xattrs(u.up("d"))


def test_redirected_directory(union):
    u = union({"d": {"f": ""}, "p": {}}, opts=["redirect_dir=on"])
    os.rename(u / "d", u / "e")
    held = overlay_xattrs(u.up("e"))
    assert held["redirect"] == b"d"
    assert held["origin"] == origin_of(u.low("d"), u.low())
    os.rename(u / "e", u / "p/e")
    assert overlay_xattrs(u.up("p/e"))["redirect"] == b"/d"


def test_redirect_follows_the_names_of_renamed_parents(union):
    """An absolute redirect is where the lower layers have it, not where the union had it."""
    u = union({"a": {"b": {"c": {"f": ""}}}}, opts=["redirect_dir=on"])
    os.rename(u / "a", u / "A")
    os.rename(u / "A/b/c", u / "c")
    assert overlay_xattrs(u.up("c"))["redirect"] == b"/a/b/c"


def test_userxattr_uses_the_other_names(union):
    u = union({"d": {"f": ""}, "e": {}}, opts=["userxattr"])
    os.rmdir(u / "e")
    os.mkdir(u / "e")
    u.append("d/f", "x")
    names = {name for path in ("d", "e", "d/f") for name, _value in xattrs(u.up(path))}
    assert "user.overlay.opaque" in names
    assert not any(name.startswith("trusted.") for name in names)


# The index

INDEX = ["index=on"]


def index_of(u):
    """The one entry of the index: its name and path."""
    directory = os.path.join(u.work, "index")
    (name,) = [each for each in os.listdir(directory) if not each.startswith("#")]
    return name, os.path.join(directory, name)


def test_index_entry(union):
    u = union({"a": "x", "b": Hard("a")}, opts=INDEX)
    u.append("a", "y")
    name, path = index_of(u)
    assert name == origin_of(u.low("a"), u.low()).hex()
    assert overlay_xattrs(path)["origin"] == origin_of(u.low("a"), u.low())
    assert overlay_xattrs(path)["nlink"] == b"U+0"


def test_index_entry_is_linked_to_the_name_that_changed(union):
    """The upper alone, without the index, holds every change that was made."""
    u = union({"a": "x", "b": Hard("a")}, opts=INDEX)
    u.append("a", "y")
    _name, path = index_of(u)
    assert os.path.samefile(u.up("a"), path)
    assert trees.read(u.up("a")) == b"xy"
    assert not os.path.lexists(u.up("b"))


@pytest.mark.parametrize("change", [
    lambda p: os.chmod(p, 0o600), lambda p: os.truncate(p, 0), lambda p: os.setxattr(p, "user.x", b"y"),
    lambda p: os.utime(p, ns=(1, 2))], ids=["chmod", "truncate", "setxattr", "utime"])
def test_index_entry_is_linked_by_each_change(union, change):
    u = union({"a": "x", "b": Hard("a")}, opts=INDEX)
    change(u / "a")
    _name, path = index_of(u)
    assert os.path.samefile(u.up("a"), path)


def test_index_link_counts(union):
    """How many more names the union has than the upper: one less after the lower's other one is gone."""
    u = union({"a": "x", "b": Hard("a"), "c": Hard("a")}, opts=INDEX)
    u.append("a", "y")
    name, path = index_of(u)
    assert overlay_xattrs(path)["nlink"] == b"U+1"
    os.unlink(u / "b")
    assert overlay_xattrs(path)["nlink"] == b"U+0"
    os.link(u / "a", u / "d")
    assert overlay_xattrs(path)["nlink"] == b"U+0"
    os.unlink(u / "c")
    assert overlay_xattrs(path)["nlink"] == b"U-1"
    assert os.stat(u / "d").st_nlink == 2


def test_index_is_bound_to_its_layers(union):
    u = union({"a": "x", "b": Hard("a")}, opts=INDEX)
    held = overlay_xattrs(os.path.join(u.work, "index"))["upper"]
    want = bytearray(origin_of(u.upper, u.upper))
    want[3] |= 4  # the flag of a handle of the upper layer
    assert held == bytes(want)
    assert overlay_xattrs(u.upper)["origin"] == origin_of(u.low(), u.low())


def test_upper_holds_only_what_changed(union):
    u = union({"a": {"f": "1", "g": "2"}, "b": {"h": "3"}})
    u.append("a/f", "x")
    os.unlink(u / "b/h")
    found = {path: entry.type for path, entry in trees.snapshot(u.upper).items()}
    assert found == {".": "d", "a": "d", "a/f": "-", "b": "d", "b/h": "c"}


def test_work_after_a_busy_life(union):
    u = union({f"d{i}": {"f": "x"} for i in range(10)})
    for i in range(10):
        u.append(f"d{i}/f", "y")
        shutil.rmtree(u / f"d{i}")
        os.mkdir(u / f"d{i}")
    u.umount()
    left = os.listdir(os.path.join(u.work, "work"))
    assert all(trees.is_whiteout(os.path.join(u.work, "work", name)) for name in left)
    assert len(left) <= 1


# Each reads what the other wrote

TREE = {
    "bin": {f"prog{i}": File(data=f"#!{i}", mode=0o755, mtime=OLD + i) for i in range(5)},
    "etc": {"conf": File(data="a=1\n", owner=(5, 6), xattrs={"user.k": "v"}), "hosts": "h\n",
            "old": {"x": {"y": "deep"}, "z": "z"}, "empty": {}},
    "var": Dir(mode=0o1777, children={"spool": Dir(mode=0o2775, owner=(0, 8), children={"job": "j"})}),
    "dev": {"null": Node(type=stat.S_IFCHR, rdev=(1, 3), mode=0o666), "pipe": Node(),
            "sock": Node(type=stat.S_IFSOCK)},
    "link": Symlink(target="etc/conf", owner=(3, 3)),
    "same": "s", "twin": Hard("same"),
    "sparse": File(data="head", size=3 << 20),
}


def work(u, redirect=False):
    """Changes of each kind; what they leave is everything the format can say."""
    u.append("etc/conf", "b=2\n")
    os.unlink(u / "etc/hosts")
    shutil.rmtree(u / "etc/old")
    os.mkdir(u / "etc/old", 0o700)
    u.write("etc/old/new", "n")
    os.rmdir(u / "etc/empty")
    os.chmod(u / "bin/prog0", 0o4711)
    os.rename(u / "bin/prog1", u / "var/moved")
    oscalls.renameat2(u / "bin/prog2", u / "bin/prog3", oscalls.RENAME_EXCHANGE)
    os.link(u / "bin/prog4", u / "hard")
    os.unlink(u / "link")
    os.symlink("elsewhere", u / "link")
    os.mkfifo(u / "var/spool/fifo")
    os.chown(u / "dev/null", 1, 1)
    os.truncate(u / "sparse", 2 << 20)
    os.setxattr(u / "var", "user.note", b"x")
    os.setxattr(u / "etc", oscalls.ACL_DEFAULT, oscalls.acl("u::rwx,u:9:r-x,g::r-x,m::r-x,o::---"))
    u.write("etc/inherits", "")
    os.mkdir(u / "etc/sub")
    os.setxattr(u / "bin", "trusted.overlay.opaque", b"y")
    os.utime(u / "var", ns=(OLD, OLD))
    if redirect:
        os.rename(u / "var/spool", u / "spool")
        os.rename(u / "etc", u / "config")
        os.rename(u / "dev", u / "config/dev")


def can_redirect(opts):
    return bool({"redirect_dir=on", "metacopy=on"} & set(opts))


def numbers(u, without=()):
    return {path: os.lstat(u / path).st_ino for path, entry in trees.snapshot(u.mnt).items()
            if entry.type not in without}


def swap(u):
    """Mount with the other contender."""
    other = contenders.other(u.contender)
    if other.missing():
        pytest.skip(other.missing())
    u.remount(contender=other)


ALL = ["redirect_dir=on", "metacopy=on", "index=on"]
OPTIONS = pytest.mark.parametrize("opts", [[], ["redirect_dir=on"], ["userxattr"], ["metacopy=on"],
                                           ["index=on"], ALL],
                                  ids=["plain", "redirect", "userxattr", "metacopy", "index", "all"])


@OPTIONS
def test_other_reads_the_same(union, opts):
    u = union(TREE, opts=opts)
    work(u, redirect=can_redirect(opts))
    want = u.snapshot(nlink=True)
    swap(u)
    assert difference(want, u.snapshot(nlink=True)) == []
    assert dirent_faults(u.mnt) == []


@OPTIONS
def test_other_sees_the_same_inode_numbers(union, opts):
    u = union(TREE, opts=opts)
    work(u, redirect=can_redirect(opts))
    u.remount()
    # What takes no user.* attribute has its origin elsewhere, where the kernel does not look.
    without = "cblps" if "userxattr" in opts else ""
    want = numbers(u, without)
    swap(u)
    assert numbers(u, without) == want


@OPTIONS
def test_other_goes_on_working(union, opts):
    """Two turns: what one leaves, the other changes, and the first reads again."""
    u = union(TREE, opts=opts)
    redirect = can_redirect(opts)
    etc = "config" if redirect else "etc"
    work(u, redirect)
    swap(u)
    u.append(f"{etc}/conf", "c=3\n")
    os.unlink(u / "hard")
    os.rename(u / f"{etc}/old/new", u / "new")
    os.rmdir(u / f"{etc}/old")
    u.write(f"{etc}/hosts", "again")
    shutil.rmtree(u / "bin")
    if redirect:
        os.rename(u / "config", u / "etc")
        os.rename(u / "spool", u / "etc/spool")
    want = u.snapshot(nlink=True)
    u.remount(contender=u.contender)
    assert difference(want, u.snapshot(nlink=True)) == []
    assert "bin" not in u.ls()


def test_other_reads_after_a_merge_of_three_layers(union):
    u = union({"d": {"a": "1", "s": {"x": ""}}}, {"d": {"b": "2", "s": {"y": ""}}, "e": {"f": ""}},
              opts=["redirect_dir=on"])
    os.rename(u / "d/s", u / "e/s")
    os.unlink(u / "e/s/y")
    os.rename(u / "d", u / "D")
    want = u.snapshot()
    swap(u)
    assert difference(want, u.snapshot()) == []
    assert u.ls("e/s") == ["x"]


@pytest.mark.parametrize("prefix", ["trusted", "user"])
def test_equal_uppers_for_equal_work(union_factory, prefix):
    """The same operations leave the same names, types, modes and private xattrs in both uppers.

    Left out: where things are from, when that was, and what the kernel adds to new directories to read them faster.
    """
    opts = ["userxattr"] if prefix == "user" else ["redirect_dir=on"]
    uppers = []
    for name in ("kernel", "veneer"):
        if contenders.CONTENDERS[name].missing():
            pytest.skip(contenders.CONTENDERS[name].missing())
        u = union_factory(TREE, opts=opts).mount(contender=name)
        work(u, redirect=prefix == "trusted")
        u.umount()
        faster = lambda path, key: path.endswith("/sub") and key.endswith("overlay.opaque")
        uppers.append({path: (entry.type, entry.mode if entry.type != "c" else 0, entry.owner,
                              [(key, value) for key, value in entry.xattrs if not faster(path, key)
                               and not key.endswith(("overlay.origin", "overlay.uuid", TIMES))])
                       for path, entry in trees.snapshot(u.upper).items()})
    assert uppers[0] == uppers[1]
