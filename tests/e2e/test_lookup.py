"""Which object a name means: whiteouts, opaque directories, redirects, metacopy, data-only layers."""

import errno
import itertools
import os
import stat

import pytest

from trees import Dir, File, Node, Symlink, difference, opaque, whiteout, xwhiteout

METACOPY = "trusted.overlay.metacopy"
REDIRECT = "trusted.overlay.redirect"
FOLLOW = ["redirect_dir=follow"]


def redirected(target, children=None, **attrs):
    return Dir(children=children or {}, xattrs={REDIRECT: target}, **attrs)


def metacopy(size, redirect=None, **attrs):
    xattrs = {METACOPY: "", **({REDIRECT: redirect} if redirect else {})}
    return File(size=size, xattrs=xattrs, **attrs)


# Merging

def test_upper_file_covers_lower_file(union):
    u = union({"f": "low"}, upper={"f": "up"})
    assert u.read("f") == b"up"


def test_first_lower_covers_the_next(union):
    u = union({"f": "first"}, {"f": "second", "g": "second"})
    assert (u.read("f"), u.read("g")) == (b"first", b"second")


def test_missing_name(union):
    u = union({"f": ""})
    with pytest.raises(FileNotFoundError):
        os.lstat(u / "g")


def test_name_below_a_file(union):
    u = union({"f": ""})
    with pytest.raises(NotADirectoryError):
        os.lstat(u / "f/g")


def test_merged_directories_nest(union):
    u = union({"a": {"b": {"one": "1"}}}, {"a": {"b": {"two": "2"}}}, upper={"a": {"b": {"up": "u"}}})
    assert u.ls("a/b") == ["one", "two", "up"]


def test_directory_attributes_come_from_the_topmost(union):
    u = union({"d": Dir(mode=0o711, owner=(5, 6))}, {"d": Dir(mode=0o755)})
    st = os.stat(u / "d")
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (0o711, 5, 6)


def test_root_attributes_come_from_the_topmost(union):
    u = union(Dir(mode=0o755), upper=Dir(mode=0o701, owner=(7, 8)))
    st = os.stat(u.mnt)
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (0o701, 7, 8)


def _layered(kinds, leaf):
    """The declaration of one name in each of three layers, for a word like "d-f"."""
    made = {"f": lambda i: f"file{i}", "d": lambda i: {f"in{i}": leaf},
            "o": lambda i: opaque({f"in{i}": leaf}), "w": lambda i: whiteout(),
            "l": lambda i: Symlink(target=f"to{i}")}
    return [made[kind](i) if kind != "-" else None for i, kind in enumerate(kinds)]


def _merged(kinds):
    """What the union shows for such a word: None, a file's or link's layer, or a list of names."""
    names = None
    for i, kind in enumerate(kinds):
        if kind == "-":
            continue
        if kind not in "do":
            return names if names is not None or kind == "w" else f"{kind}{i}"
        names = (names or []) + [f"in{i}"]
        if kind == "o":
            return names
    return names


def _shown(path):
    if not os.path.lexists(path):
        return None
    if os.path.islink(path):
        return "l" + os.readlink(path)[-1]
    if os.path.isdir(path):
        return sorted(os.listdir(path))
    with open(path, encoding="ascii") as file:
        return "f" + file.read()[-1]


@pytest.mark.parametrize("with_upper", [True, False])
def test_every_order_of_kinds_in_three_layers(union, with_upper):
    words = ["".join(word) for word in itertools.product("fdowl-", repeat=3)]
    layers = [{}, {}, {}]
    for word in words:
        for layer, spec in zip(layers, _layered(word, "x")):
            if spec is not None:
                layer[word] = spec
    if with_upper:
        u = union(*layers[1:], upper=layers[0])
    else:
        u = union(*layers, readonly=True)
    shown = {word: _shown(u / word) for word in words}
    assert shown == {word: _merged(word) for word in words}
    assert u.ls() == sorted(word for word in words if _merged(word) is not None)


# Whiteouts

def test_whiteout_hides_a_file(union):
    u = union({"f": "", "g": ""}, upper={"f": whiteout()})
    assert u.ls() == ["g"]
    with pytest.raises(FileNotFoundError):
        open(u / "f", encoding="ascii")


def test_whiteout_hides_a_directory(union):
    u = union({"d": {"f": ""}}, upper={"d": whiteout()})
    assert u.ls() == []
    with pytest.raises(FileNotFoundError):
        os.stat(u / "d/f")


@pytest.mark.deviation("D-02")
def test_whiteout_in_an_unmerged_directory(union):
    u = union({}, upper={"d": {"f": whiteout()}})
    assert not os.path.lexists(u / "d/f")
    assert u.ls("d") == u.pick(kernel=["f"], veneer=[])


@pytest.mark.deviation("D-02")
def test_whiteout_in_an_opaque_directory(union):
    u = union({"d": {"f": ""}}, upper={"d": opaque({"f": whiteout()})})
    assert not os.path.lexists(u / "d/f")
    assert u.ls("d") == u.pick(kernel=["f"], veneer=[])


def test_whiteout_in_a_lower_layer_hides_only_what_is_below(union):
    u = union({"f": "above"}, {"f": whiteout(), "g": whiteout()}, {"f": "below", "g": "below"})
    assert u.read("f") == b"above"
    assert u.ls() == ["f"]


def test_whiteout_mode_does_not_matter(union):
    u = union({"f": ""}, upper={"f": Node(type=stat.S_IFCHR, rdev=(0, 0), mode=0o666)})
    assert u.ls() == []


def test_other_device_numbers_are_devices(union):
    u = union({"a": Node(type=stat.S_IFCHR, rdev=(1, 3)), "b": Node(type=stat.S_IFBLK, rdev=(0, 0))})
    assert u.ls() == ["a", "b"]
    assert os.lstat(u / "a").st_rdev == os.makedev(1, 3)


def test_xattr_whiteout_found_by_lookup(union):
    u = union({"d": opaque({"f": xwhiteout()}, value="x")}, {"d": {"f": "", "g": ""}})
    assert os.path.exists(u / "d/g")
    assert not os.path.lexists(u / "d/f")


def test_xattr_whiteout_found_by_readdir(union):
    u = union({"d": opaque({"f": xwhiteout()}, value="x")}, {"d": {"f": "", "g": ""}})
    assert os.path.exists(u / "d/g")
    assert u.ls("d") == ["g"]


def test_xattr_whiteout_in_a_marked_layer_root(union):
    u = union(opaque({"f": xwhiteout()}, value="x"), {"f": "", "g": ""})
    assert u.ls() == ["g"]
    assert not os.path.lexists(u / "f")


def test_regular_file_that_is_not_an_xattr_whiteout(union):
    full = File(data="data", xattrs={"trusted.overlay.whiteout": ""})
    u = union({"d": opaque({"f": full}, value="x")}, {"d": {"f": ""}})
    assert u.ls("d") == ["f"]
    assert u.read("d/f") == b"data"


def test_opaque_x_merges(union):
    u = union({"d": opaque({"one": ""}, value="x")}, {"d": {"two": ""}})
    assert u.ls("d") == ["one", "two"]


# Whiteouts of the OCI and aufs form

@pytest.mark.deviation("D-01")
def test_dot_wh_file_is_a_whiteout(union):
    u = union({".wh.f": ""}, {"f": "", "g": ""})
    assert u.ls() == u.pick(kernel=[".wh.f", "f", "g"], veneer=["g"])


@pytest.mark.deviation("D-01")
def test_dot_wh_file_hides_from_lookup(union):
    u = union({"d": {".wh.f": ""}}, {"d": {"f": "x"}})
    assert os.path.exists(u / "d/f") == u.pick(kernel=True, veneer=False)


@pytest.mark.deviation("D-01")
def test_dot_wh_name_itself_is_not_reachable(union):
    u = union({".wh.f": ""}, {"f": ""})
    assert os.path.exists(u / ".wh.f") == u.pick(kernel=True, veneer=False)


@pytest.mark.deviation("D-01")
def test_dot_wh_file_beside_its_name_hides_only_below(union):
    """One layer with both: the name is of this layer, the whiteout is for those below."""
    u = union({"d": {".wh.x": "", "x": {"one": ""}}}, {"d": {"x": {"two": ""}}})
    assert u.ls("d/x") == u.pick(kernel=["one", "two"], veneer=["one"])


@pytest.mark.deviation("D-01")
def test_dot_wh_opaque_marker(union):
    u = union({"d": {".wh..wh..opq": "", "one": ""}}, {"d": {"two": ""}})
    assert u.ls("d") == u.pick(kernel=[".wh..wh..opq", "one", "two"], veneer=["one"])


# Opaque directories

def test_opaque_upper_directory(union):
    u = union({"d": {"low": ""}}, upper={"d": opaque({"up": ""})})
    assert u.ls("d") == ["up"]
    assert not os.path.exists(u / "d/low")


def test_opaque_middle_directory(union):
    u = union({"d": opaque({"one": ""})}, {"d": {"two": ""}}, upper={"d": {"up": ""}})
    assert u.ls("d") == ["one", "up"]


def test_opaque_hides_whole_subtrees(union):
    u = union({"d": {"s": {"f": ""}}}, upper={"d": opaque({"s": {}})})
    assert u.ls("d/s") == []


def test_opaque_of_another_value_is_not_opaque(union):
    u = union({"d": {"low": ""}}, upper={"d": opaque({"up": ""}, value="n")})
    assert u.ls("d") == ["low", "up"]


def test_opaque_on_a_file_means_nothing(union):
    u = union({"f": "low"}, upper={"f": File(data="up", xattrs={"trusted.overlay.opaque": "y"})})
    assert u.read("f") == b"up"


def test_user_xattrs_mean_nothing_without_userxattr(union):
    u = union({"d": {"low": ""}}, upper={"d": opaque({"up": ""}, prefix="user")})
    assert u.ls("d") == ["low", "up"]


def test_userxattr_opaque(union):
    u = union({"d": {"low": ""}}, upper={"d": opaque({"up": ""}, prefix="user")}, opts=["userxattr"])
    assert u.ls("d") == ["up"]


def test_trusted_xattrs_mean_nothing_with_userxattr(union):
    u = union({"d": {"low": ""}}, upper={"d": opaque({"up": ""})}, opts=["userxattr"])
    assert u.ls("d") == ["low", "up"]


def test_userxattr_xattr_whiteout(union):
    layer = {"d": opaque({"f": xwhiteout("user")}, value="x", prefix="user")}
    u = union(layer, {"d": {"f": "", "g": ""}}, opts=["userxattr"])
    assert u.ls("d") == ["g"]


# Redirects

def test_relative_redirect(union):
    u = union({"old": {"f": "x"}}, upper={"new": redirected("old"), "old": whiteout()}, opts=FOLLOW)
    assert u.ls() == ["new"]
    assert u.read("new/f") == b"x"


def test_absolute_redirect(union):
    u = union({"a": {"b": {"f": "x"}}}, upper={"new": redirected("/a/b"), "a": {"b": whiteout()}},
              opts=FOLLOW)
    assert u.read("new/f") == b"x"


def test_redirected_directory_merges(union):
    u = union({"old": {"low": ""}}, upper={"new": redirected("old", {"up": ""})}, opts=FOLLOW)
    assert u.ls("new") == ["low", "up"]


def test_redirect_passes_through_each_layer(union):
    """The top calls it c, the middle b, the bottom a."""
    u = union({"b": redirected("a", {"two": ""}), "a": whiteout()}, {"a": {"three": ""}},
              upper={"c": redirected("b", {"one": ""}), "b": whiteout()}, opts=FOLLOW)
    assert u.ls("c") == ["one", "three", "two"]
    assert u.ls() == ["c"]


def test_absolute_redirect_passes_an_opaque_ancestor(union):
    u = union({"a": {"f": "x"}}, upper={"p": opaque({"q": redirected("/a")})}, opts=FOLLOW)
    assert u.ls("p/q") == ["f"]


def test_children_of_a_redirected_directory_follow_it(union):
    u = union({"old": {"s": {"f": "x"}}}, upper={"new": redirected("old", {"s": {"g": ""}})},
              opts=FOLLOW)
    assert u.ls("new/s") == ["f", "g"]


def test_redirect_to_nothing(union):
    u = union({}, upper={"new": redirected("gone", {"f": ""})}, opts=FOLLOW)
    assert u.ls("new") == ["f"]


def test_redirect_to_a_file_does_not_merge(union):
    u = union({"old": "file"}, upper={"new": redirected("old", {"f": ""})}, opts=FOLLOW)
    assert u.ls("new") == ["f"]


def test_redirect_refused_with_nofollow(union):
    u = union({"old": {}}, upper={"new": redirected("old")}, opts=["redirect_dir=nofollow"])
    with pytest.raises(PermissionError):
        os.stat(u / "new")


def test_redirect_of_a_renamed_parent_is_absolute_from_the_root(union):
    """An absolute redirect is looked up in each layer below, with that layer's own redirects."""
    u = union({"mid": redirected("low")}, {"low": {"d": {"f": "x"}}},
              upper={"top": redirected("/mid/d")}, opts=FOLLOW)
    assert u.ls("top") == ["f"]


# Metacopy and data-only layers

ON = ["metacopy=on"]


def test_metacopy_takes_data_from_below(union):
    u = union({"f": "content"}, upper={"f": metacopy(7, mode=0o640)}, opts=ON)
    assert u.read("f") == b"content"
    assert stat.S_IMODE(os.stat(u / "f").st_mode) == 0o640


def test_metacopy_with_redirect(union):
    u = union({"a": {"old": "content"}}, upper={"new": metacopy(7, redirect="/a/old")}, opts=ON)
    assert u.read("new") == b"content"


def test_metacopy_with_relative_redirect(union):
    u = union({"old": "content"}, upper={"new": metacopy(7, redirect="old"), "old": whiteout()},
              opts=ON)
    assert u.read("new") == b"content"


def test_metacopy_chain(union):
    u = union({"f": metacopy(7)}, {"f": "content"}, upper={"f": metacopy(7)}, opts=ON)
    assert u.read("f") == b"content"


def test_metacopy_is_completed_by_a_write(union):
    u = union({"f": "content"}, upper={"f": metacopy(7)}, opts=ON)
    u.append("f", "!")
    assert u.read("f") == b"content!"
    assert METACOPY not in os.listxattr(u.up("f"))
    with open(u.up("f"), "rb") as file:
        assert file.read() == b"content!"


def test_metacopy_without_data_fails(union):
    u = union({}, upper={"f": metacopy(7)}, opts=ON)
    with pytest.raises(OSError) as caught:
        u.read("f")
    assert caught.value.errno == errno.EIO


@pytest.mark.deviation("D-37")
def test_metacopy_in_the_lowest_layer(union, contender):
    """Nothing below can have its data: it is damaged, and can be seen and removed, but not read."""
    u = union({"f": metacopy(7), "good": "content"}, opts=ON)
    with pytest.raises(OSError) as caught:
        u.read("f")
    assert caught.value.errno == errno.EIO
    assert u.read("good") == b"content"
    if contender.name == "kernel":
        with pytest.raises(OSError):
            os.lstat(u / "f")
        return
    assert os.lstat(u / "f").st_size == 7
    with pytest.raises(OSError) as caught:
        u.append("f", "!")
    assert caught.value.errno == errno.EIO
    os.unlink(u / "f")
    assert u.ls() == ["good"]


def test_metacopy_refused_when_off(union):
    u = union({"f": "content"}, upper={"f": metacopy(7)}, opts=["metacopy=off"])
    with pytest.raises(OSError) as caught:
        u.read("f")
    assert caught.value.errno in (errno.EPERM, errno.EIO)


def test_metacopy_digest_struct_is_accepted(union):
    spec = File(size=7, xattrs={METACOPY: b"\0\4\0\0"})
    u = union({"f": "content"}, upper={"f": spec}, opts=ON)
    assert u.read("f") == b"content"


def test_data_only_layer(union):
    u = union({"f": metacopy(7, redirect="/objects/1")}, data=[{"objects": {"1": "content"}}],
              opts=ON)
    assert u.read("f") == b"content"
    assert u.ls() == ["f"]


def test_data_only_layers_in_order(union):
    u = union({"f": metacopy(5, redirect="/o")}, data=[{}, {"o": "first"}, {"o": "other"}], opts=ON)
    assert u.read("f") == b"first"


def test_data_only_layer_hides_its_own_names(union):
    u = union({"d": {}}, data=[{"d": {"x": ""}, "y": ""}], opts=ON)
    assert (u.ls(), u.ls("d")) == (["d"], [])


def test_data_only_missing_object(union):
    u = union({"f": metacopy(7, redirect="/gone")}, data=[{}], opts=ON)
    assert os.stat(u / "f").st_size == 7
    with pytest.raises(FileNotFoundError):
        u.read("f")


def test_data_only_object_is_copied_up_whole(union):
    u = union({"f": metacopy(7, redirect="/o")}, data=[{"o": "content"}], opts=ON)
    u.append("f", "!")
    assert u.read("f") == b"content!"
    u.remount()
    assert u.read("f") == b"content!"


# Layers written by a kernel with these features on

def test_kernel_written_redirects_and_metacopy(union_factory):
    tree = {"d": {"s": {"f": "x" * 100}}, "big": "y" * 5000, "gone": {"z": ""}, "other": "o"}
    u = union_factory(tree)
    u.mount(["redirect_dir=on", "metacopy=on"], contender="kernel")
    os.rename(u / "d", u / "moved")
    os.rename(u / "moved/s", u / "s")
    os.chmod(u / "big", 0o600)
    os.rename(u / "big", u / "s/large")
    os.unlink(u / "gone/z")
    os.rmdir(u / "gone")
    os.mkdir(u / "gone")
    want = u.snapshot()
    u.remount()
    assert difference(want, u.snapshot()) == []
    assert u.ls() == ["gone", "moved", "other", "s"]
    assert u.read("s/large") == b"y" * 5000
