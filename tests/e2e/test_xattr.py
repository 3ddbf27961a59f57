"""Extended attributes: plain ones, and the format's own, which are nobody's business."""

import errno
import os

import pytest

import oscalls
import trees
from trees import Dir, File, Node, Symlink, opaque

LAYER = pytest.mark.parametrize("layer", ["lower", "upper"])


def errno_of(function):
    with pytest.raises(OSError) as caught:
        function()
    return caught.value.errno


def at(union, layer, tree, **kwargs):
    return union(tree if layer == "lower" else {}, upper=tree if layer == "upper" else {}, **kwargs)


@LAYER
@pytest.mark.parametrize("name", ["f", "d"])
@pytest.mark.parametrize("space", ["user", "trusted"])
def test_set_get_list_remove(union, layer, name, space):
    u = at(union, layer, {"f": "", "d": {}})
    key = f"{space}.key"
    os.setxattr(u / name, key, b"value\0with zero")
    assert os.getxattr(u / name, key) == b"value\0with zero"
    assert os.listxattr(u / name) == [key]
    u.remount()
    assert os.getxattr(u / name, key) == b"value\0with zero"
    os.removexattr(u / name, key)
    assert os.listxattr(u / name) == []
    assert errno_of(lambda: os.getxattr(u / name, key)) == errno.ENODATA


@LAYER
def test_create_and_replace_flags(union, layer):
    u = at(union, layer, {"f": File(xattrs={"user.a": "1"})})
    assert errno_of(lambda: os.setxattr(u / "f", "user.a", b"", os.XATTR_CREATE)) == errno.EEXIST
    assert errno_of(lambda: os.setxattr(u / "f", "user.b", b"", os.XATTR_REPLACE)) == errno.ENODATA
    os.setxattr(u / "f", "user.a", b"2", os.XATTR_REPLACE)
    os.setxattr(u / "f", "user.b", b"3", os.XATTR_CREATE)
    assert dict(trees.xattrs(u / "f")) == {"user.a": b"2", "user.b": b"3"}


@LAYER
def test_remove_what_is_missing(union, layer):
    u = at(union, layer, {"f": ""})
    assert errno_of(lambda: os.removexattr(u / "f", "user.no")) == errno.ENODATA


def test_empty_value(union):
    u = union({"f": ""})
    os.setxattr(u / "f", "user.e", b"")
    assert os.getxattr(u / "f", "user.e") == b""


def test_large_value(union):
    u = union({"f": ""})
    os.setxattr(u / "f", "user.big", b"v" * 3800)
    assert os.getxattr(u / "f", "user.big") == b"v" * 3800
    assert trees.xattrs(u.up("f"))[-1] == ("user.big", b"v" * 3800)


def test_value_of_64_kibibytes(union, scratch):
    """The largest the kernel takes, on a file system that stores it."""
    u = union({"f": ""}, where=scratch.make("xfs", 300 << 20))
    os.setxattr(u / "f", "user.big", b"v" * 65536)
    assert os.getxattr(u / "f", "user.big") == b"v" * 65536


def test_too_large_value(union):
    u = union({"f": ""})
    assert errno_of(lambda: os.setxattr(u / "f", "user.big", b"v" * 65537)) == errno.E2BIG
    assert errno_of(lambda: os.setxattr(u / "f", "user.big", b"v" * 30_000)) in (errno.ENOSPC,
                                                                               errno.E2BIG)


def test_long_name(union):
    u = union({"f": ""})
    os.setxattr(u / "f", "user." + "n" * 250, b"x")
    assert os.listxattr(u / "f") == ["user." + "n" * 250]
    assert errno_of(lambda: os.setxattr(u / "f", "user." + "n" * 251, b"")) == errno.ERANGE


def test_many(union):
    u = union({"f": File(xattrs={f"user.k{i:02}": f"{i}" for i in range(60)})})
    os.chmod(u / "f", 0o600)
    assert len(os.listxattr(u / "f")) == 60
    assert os.getxattr(u / "f", "user.k37") == b"37"


def test_unknown_namespace(union):
    u = union({"f": ""})
    assert errno_of(lambda: os.setxattr(u / "f", "nothing.x", b"")) == errno.EOPNOTSUPP


def test_user_xattrs_of_other_types(union):
    u = union({"l": Symlink(), "p": Node()})
    for name in ("l", "p"):
        with pytest.raises(PermissionError):
            os.setxattr(u / name, "user.x", b"", follow_symlinks=False)
        os.setxattr(u / name, "trusted.x", b"y", follow_symlinks=False)
        assert os.getxattr(u / name, "trusted.x", follow_symlinks=False) == b"y"


def test_user_xattr_needs_permission(union, as_user):
    u = union({"f": File(data="", mode=0o644, xattrs={"user.a": "1"}),
               "g": File(data="", mode=0o600, xattrs={"user.a": "1"})})
    assert as_user(1000, lambda: os.getxattr(u / "f", "user.a")) == b"1"
    with pytest.raises(PermissionError):
        as_user(1000, lambda: os.setxattr(u / "f", "user.a", b""))
    with pytest.raises(PermissionError):
        as_user(1000, lambda: os.getxattr(u / "g", "user.a"))


def test_trusted_xattrs_are_for_root(union, as_user):
    u = union({"f": File(data="", mode=0o666, xattrs={"trusted.a": "1", "user.b": "2"})})
    assert as_user(1000, lambda: os.listxattr(u / "f")) == ["user.b"]
    assert errno_of(lambda: as_user(1000, lambda: os.getxattr(u / "f", "trusted.a"))) == errno.ENODATA
    with pytest.raises(PermissionError):
        as_user(1000, lambda: os.setxattr(u / "f", "trusted.a", b""))


def test_security_xattrs(union):
    u = union({"f": ""})
    os.setxattr(u / "f", "security.test", b"x")
    assert os.getxattr(u.up("f"), "security.test") == b"x"


# The format's own

def test_own_xattrs_are_hidden(union):
    u = union({"d": {"f": "x"}}, upper={"o": opaque({})})
    u.append("d/f", "y")
    os.mkdir(u / "d/new")
    for name in ("", "d", "d/f", "d/new", "o"):
        assert os.listxattr(u / name) == []
    assert "trusted.overlay.opaque" in os.listxattr(u.up("o"))


@pytest.mark.parametrize("key", ["opaque", "redirect", "origin", "metacopy", "impure", "nlink"])
def test_own_xattrs_cannot_be_read(union, key):
    full = Dir(xattrs={f"trusted.overlay.{key}": "y"})
    u = union({}, upper={"d": full}, opts=["metacopy=on"])
    assert errno_of(lambda: os.getxattr(u / "d", f"trusted.overlay.{key}")) == errno.ENODATA


def test_own_names_are_stored_escaped(union):
    """Another union may be built on this one: its xattrs are ordinary data here."""
    u = union({"d": {"low": ""}})
    os.setxattr(u / "d", "trusted.overlay.opaque", b"y")
    assert os.getxattr(u / "d", "trusted.overlay.opaque") == b"y"
    assert os.listxattr(u / "d") == ["trusted.overlay.opaque"]
    assert os.getxattr(u.up("d"), "trusted.overlay.overlay.opaque") == b"y"
    assert "trusted.overlay.opaque" not in os.listxattr(u.up("d"))
    u.remount()
    assert u.ls("d") == ["low"]
    os.removexattr(u / "d", "trusted.overlay.opaque")
    assert os.listxattr(u / "d") == []


def test_escapes_nest(union):
    u = union({"d": {}})
    os.setxattr(u / "d", "trusted.overlay.overlay.x", b"2")
    assert os.listxattr(u / "d") == ["trusted.overlay.overlay.x"]
    assert os.getxattr(u.up("d"), "trusted.overlay.overlay.overlay.x") == b"2"


def test_escaped_xattrs_of_lower_layers_are_unescaped(union):
    u = union({"f": File(xattrs={"trusted.overlay.overlay.opaque": "y", "user.z": "1"})})
    assert dict(trees.xattrs(u / "f")) == {"trusted.overlay.opaque": b"y", "user.z": b"1"}


def test_escaped_xattrs_are_copied_up(union):
    u = union({"f": File(xattrs={"trusted.overlay.overlay.opaque": "y"})})
    os.chmod(u / "f", 0o600)
    assert os.getxattr(u / "f", "trusted.overlay.opaque") == b"y"
    assert os.getxattr(u.up("f"), "trusted.overlay.overlay.opaque") == b"y"


def test_own_xattrs_of_lower_layers_are_not_copied_up(union):
    u = union({"d": opaque({"f": ""}, xattrs={"user.k": "v"})}, {"d": {"g": ""}})
    os.chmod(u / "d", 0o700)
    assert "trusted.overlay.opaque" not in os.listxattr(u.up("d"))
    assert u.ls("d") == ["f"]
    u.remount()
    assert u.ls("d") == ["f"]


def test_other_namespace_is_ordinary(union):
    u = union({"d": {"low": ""}})
    os.setxattr(u / "d", "user.overlay.opaque", b"y")
    assert os.getxattr(u.up("d"), "user.overlay.opaque") == b"y"
    u.remount()
    assert u.ls("d") == ["low"]


def test_userxattr_swaps_the_roles(union):
    u = union({"d": {"low": ""}}, opts=["userxattr"])
    os.setxattr(u / "d", "user.overlay.opaque", b"y")
    os.setxattr(u / "d", "trusted.overlay.opaque", b"y")
    assert os.getxattr(u.up("d"), "user.overlay.overlay.opaque") == b"y"
    assert os.getxattr(u.up("d"), "trusted.overlay.opaque") == b"y"
    u.remount()
    assert u.ls("d") == ["low"]


def test_names_that_only_begin_alike(union):
    u = union({"f": ""})
    for key in ("trusted.overlayx", "trusted.overlay_y", "trusted.over"):
        os.setxattr(u / "f", key, b"1")
        assert os.getxattr(u.up("f"), key) == b"1"
    assert len(os.listxattr(u / "f")) == 3


def test_escaping_a_name_that_becomes_too_long(union):
    u = union({"f": ""})
    key = "trusted.overlay." + "n" * 235
    assert errno_of(lambda: os.setxattr(u / "f", key, b"")) == errno.EOPNOTSUPP


def test_setting_does_not_touch_the_data(union):
    u = union({"f": "content"})
    os.setxattr(u / "f", "user.x", b"y")
    assert u.read("f") == b"content"


def test_xattrs_of_an_unlinked_file(union):
    u = union({}, upper={"f": File(xattrs={"user.a": "1"})})
    fd = os.open(u / "f", os.O_RDWR)
    os.unlink(u / "f")
    assert os.getxattr(fd, "user.a") == b"1"
    os.setxattr(fd, "user.b", b"2")
    assert os.getxattr(fd, "user.b") == b"2"
    os.close(fd)


def test_capabilities_that_come_and_go(union):
    """The kernel asks for them before a write, so that there are none may be remembered."""
    u = union({"low": "x"})
    u.write("new", "x")
    for name in ("low", "new"):
        for _ in range(2):
            assert "security.capability" not in os.listxattr(u / name)
            with pytest.raises(OSError) as caught:
                os.getxattr(u / name, "security.capability")
            assert caught.value.errno == errno.ENODATA
            os.setxattr(u / name, "security.capability", oscalls.cap_xattr())
            assert os.getxattr(u / name, "security.capability") == oscalls.cap_xattr()
            u.append(name, "y")  # takes them away
    assert u.read("low") == u.read("new") == b"xyy"
