"""POSIX ACLs are kept, enforced and inherited."""

import errno
import os
import stat

import pytest

import oscalls
from oscalls import ACL_ACCESS, ACL_DEFAULT, acl
from trees import Dir, File, Symlink

GRANT = "u::rw-,u:1000:rw-,g::---,m::rw-,o::---"
DENY = "u::rw-,u:1000:---,g::r--,m::r--,o::r--"
LAYER = pytest.mark.parametrize("layer", ["lower", "upper"])


def at(union, layer, tree):
    return union(tree if layer == "lower" else {}, upper=tree if layer == "upper" else {})


@LAYER
def test_set_and_get(union, layer):
    u = at(union, layer, {"f": ""})
    os.setxattr(u / "f", ACL_ACCESS, acl(GRANT))
    assert os.getxattr(u / "f", ACL_ACCESS) == acl(GRANT)
    assert os.getxattr(u.up("f"), ACL_ACCESS) == acl(GRANT)
    u.remount()
    assert os.getxattr(u / "f", ACL_ACCESS) == acl(GRANT)


@LAYER
def test_grant(union, as_user, layer):
    u = at(union, layer, {"f": File(data="x", mode=0o660, xattrs={ACL_ACCESS: acl(GRANT)})})
    assert as_user(1000, lambda: u.read("f")) == b"x"
    as_user(1000, lambda: u.append("f", "y"))
    with pytest.raises(PermissionError):
        as_user(1001, lambda: u.read("f"))


@LAYER
def test_deny(union, as_user, layer):
    u = at(union, layer, {"f": File(data="x", mode=0o644, xattrs={ACL_ACCESS: acl(DENY)})})
    with pytest.raises(PermissionError):
        as_user(1000, lambda: u.read("f"))
    assert as_user(1001, lambda: u.read("f")) == b"x"


def test_group_entries(union, as_user):
    rules = acl("u::rw-,g::---,g:2000:r--,m::r--,o::---")
    u = union({"f": File(data="x", mode=0o640, xattrs={ACL_ACCESS: rules})})
    assert as_user(1000, lambda: u.read("f"), groups=[2000]) == b"x"
    with pytest.raises(PermissionError):
        as_user(1000, lambda: u.read("f"))


def test_mask(union, as_user):
    rules = acl("u::rw-,u:1000:rw-,g::---,m::r--,o::---")
    u = union({"f": File(data="x", mode=0o640, xattrs={ACL_ACCESS: rules})})
    assert as_user(1000, lambda: u.read("f")) == b"x"
    with pytest.raises(PermissionError):
        as_user(1000, lambda: u.append("f", "y"))


def test_directory_search(union, as_user):
    rules = acl("u::rwx,u:1000:--x,g::---,m::--x,o::---")
    u = union({"d": Dir(mode=0o710, children={"f": "x"}, xattrs={ACL_ACCESS: rules})})
    assert as_user(1000, lambda: u.read("d/f")) == b"x"
    with pytest.raises(PermissionError):
        as_user(1001, lambda: u.read("d/f"))


def test_mode_follows_the_acl(union):
    u = union({"f": ""})
    os.setxattr(u / "f", ACL_ACCESS, acl("u::rwx,u:5:r--,g::r--,m::rw-,o::--x"))
    assert stat.S_IMODE(os.stat(u / "f").st_mode) == 0o761


def test_acl_follows_the_mode(union):
    u = union({"f": File(data="", mode=0o660, xattrs={ACL_ACCESS: acl(GRANT)})})
    os.chmod(u / "f", 0o604)
    assert os.getxattr(u / "f", ACL_ACCESS) == acl("u::rw-,u:1000:rw-,g::---,m::---,o::r--")


def test_minimal_acl_becomes_the_mode(union):
    u = union({"f": ""})
    os.setxattr(u / "f", ACL_ACCESS, acl("u::rw-,g::r--,o::---"))
    assert stat.S_IMODE(os.stat(u / "f").st_mode) == 0o640
    assert ACL_ACCESS not in os.listxattr(u / "f")


@LAYER
def test_remove(union, as_user, layer):
    u = at(union, layer, {"f": File(data="x", mode=0o660, xattrs={ACL_ACCESS: acl(GRANT)})})
    os.removexattr(u / "f", ACL_ACCESS)
    assert ACL_ACCESS not in os.listxattr(u / "f")
    with pytest.raises(PermissionError):
        as_user(1000, lambda: u.append("f", "y"))
    u.remount()
    assert ACL_ACCESS not in os.listxattr(u / "f")


def test_default_acl_on_a_file_is_refused(union):
    u = union({"f": ""})
    with pytest.raises(PermissionError):
        os.setxattr(u / "f", ACL_DEFAULT, acl(GRANT))


def test_symlinks_have_none(union):
    u = union({"l": Symlink()})
    with pytest.raises(OSError) as caught:
        os.setxattr(u / "l", ACL_ACCESS, acl(GRANT), follow_symlinks=False)
    assert caught.value.errno == errno.EOPNOTSUPP


def test_bad_acl_is_refused(union):
    u = union({"f": ""})
    for bad in (b"xx", b"\x09\0\0\0", acl("u::rwx,g::r-x,o::r-x")[:-3]):
        with pytest.raises(OSError):
            os.setxattr(u / "f", ACL_ACCESS, bad)
    assert not u.copied_up("f")


def test_only_the_owner_sets(union, as_user):
    u = union({"f": File(data="", owner=(1000, 1000)), "g": ""})
    as_user(1000, lambda: os.setxattr(u / "f", ACL_ACCESS, acl(GRANT)))
    with pytest.raises(PermissionError):
        as_user(1000, lambda: os.setxattr(u / "g", ACL_ACCESS, acl(GRANT)))


def test_setting_an_acl_drops_setgid_of_a_foreign_group(union, as_user):
    u = union({"f": File(data="", mode=0o2755, owner=(1000, 2000))})
    as_user(1000, lambda: os.setxattr(u / "f", ACL_ACCESS, acl(GRANT)))
    assert not os.stat(u / "f").st_mode & stat.S_ISGID


def test_setting_a_default_acl_keeps_setgid(union, as_user):
    """It gives nobody any rights to the directory itself."""
    default = "u::rwx,u:1000:rwx,g::r-x,m::rwx,o::r-x"
    u = union({"d": Dir(mode=0o2775, owner=(1000, 1001))})
    as_user(1000, lambda: os.setxattr(u / "d", ACL_DEFAULT, acl(default)))
    assert stat.S_IMODE(os.stat(u / "d").st_mode) == 0o2775


def test_inheritance_through_two_levels(union):
    default = "u::rwx,u:1000:rwx,g::---,m::rwx,o::---"
    u = union({"d": {}})
    os.setxattr(u / "d", ACL_DEFAULT, acl(default))
    os.mkdir(u / "d/e")
    os.mkdir(u / "d/e/f", 0o700)
    assert os.getxattr(u / "d/e/f", ACL_DEFAULT) == acl(default)
    assert os.getxattr(u / "d/e/f", ACL_ACCESS) == acl("u::rwx,u:1000:rwx,g::---,m::---,o::---")


def test_inherited_acl_is_enforced(union, as_user):
    u = union({"d": Dir(mode=0o755, xattrs={
        ACL_DEFAULT: acl("u::rw-,u:1000:rw-,g::---,m::rw-,o::---")})})
    u.write("d/f", "x")
    assert as_user(1000, lambda: u.read("d/f")) == b"x"
    with pytest.raises(PermissionError):
        as_user(1001, lambda: u.read("d/f"))


def test_symlink_inherits_nothing(union):
    u = union({"d": Dir(xattrs={ACL_DEFAULT: acl("u::rwx,u:5:rwx,g::---,m::rwx,o::---")})})
    os.symlink("t", u / "d/l")
    assert os.listxattr(u / "d/l", follow_symlinks=False) == []


def test_chown_keeps_the_acl(union):
    u = union({"f": File(data="", mode=0o660, xattrs={ACL_ACCESS: acl(GRANT)})})
    os.chown(u / "f", 5, 6)
    assert os.getxattr(u / "f", ACL_ACCESS) == acl(GRANT)


def test_change_is_seen_at_once(union, as_user):
    u = union({"f": File(data="x", mode=0o600)})
    with pytest.raises(PermissionError):
        as_user(1000, lambda: u.read("f"))
    os.setxattr(u / "f", ACL_ACCESS, acl(GRANT))
    assert as_user(1000, lambda: u.read("f")) == b"x"
    os.removexattr(u / "f", ACL_ACCESS)
    with pytest.raises(PermissionError):
        as_user(1000, lambda: u.read("f"))


def test_rename_does_not_inherit(union):
    u = union({"d": Dir(xattrs={ACL_DEFAULT: acl("u::rwx,u:5:rwx,g::---,m::rwx,o::---")}),
               "f": File(data="", mode=0o644)})
    os.rename(u / "f", u / "d/f")
    assert oscalls.ACL_ACCESS not in os.listxattr(u / "d/f")
