"""What an ordinary caller may do; the checks are the kernel's, the identity is the caller's."""

import os
import stat

import pytest

from trees import Dir, File, Symlink

ALICE, BOB = 1000, 1001
LAYER = pytest.mark.parametrize("layer", ["lower", "upper"])


def at(union, layer, tree, **kwargs):
    return union(tree if layer == "lower" else {}, upper=tree if layer == "upper" else {}, **kwargs)


@LAYER
@pytest.mark.parametrize("mode,may_read,may_write", [(0o600, False, False), (0o604, True, False),
                                                     (0o602, False, True), (0o666, True, True)])
def test_mode_for_others(union, as_user, layer, mode, may_read, may_write):
    u = at(union, layer, {"f": File(data="x", mode=mode)})
    for allowed, call in ((may_read, lambda: u.read("f")), (may_write, lambda: u.append("f", "y"))):
        if allowed:
            as_user(ALICE, call)
        else:
            with pytest.raises(PermissionError):
                as_user(ALICE, call)


@LAYER
def test_mode_for_owner_and_group(union, as_user, layer):
    u = at(union, layer, {"f": File(data="x", mode=0o640, owner=(ALICE, 2000))})
    as_user(ALICE, lambda: u.append("f", "y"))
    assert as_user(BOB, lambda: u.read("f"), groups=[2000]) == b"xy"
    with pytest.raises(PermissionError):
        as_user(BOB, lambda: u.append("f", "z"), groups=[2000])
    with pytest.raises(PermissionError):
        as_user(BOB, lambda: u.read("f"))


def test_owner_without_bits_is_refused(union, as_user):
    u = union({"f": File(data="x", mode=0o066, owner=(ALICE, ALICE))})
    with pytest.raises(PermissionError):
        as_user(ALICE, lambda: u.read("f"))


@pytest.mark.parametrize("mode", [0o700, 0o744])
def test_directories_need_search(union, as_user, mode):
    u = union({"d": Dir(mode=mode, children={"f": "x"})})
    with pytest.raises(PermissionError):
        as_user(ALICE, lambda: u.read("d/f"))


def test_creating_needs_a_writable_directory(union, as_user):
    u = union({"d": {}, "open": Dir(mode=0o777)})
    with pytest.raises(PermissionError):
        as_user(ALICE, lambda: u.write("d/f", ""))
    as_user(ALICE, lambda: u.write("open/f", ""))


def test_access_tells_the_same(union, as_user):
    u = union({"f": File(data="", mode=0o644), "x": File(data="", mode=0o711)})
    assert as_user(ALICE, lambda: [os.access(u / name, mode) for name, mode in (
        ("f", os.R_OK), ("f", os.W_OK), ("f", os.X_OK), ("x", os.R_OK), ("x", os.X_OK))]) == [
            True, False, False, False, True]


def test_execution_needs_a_bit(union):
    u = union({"f": File(data="#!/bin/sh\n", mode=0o644)})
    with pytest.raises(PermissionError):
        os.execv(u / "f", ["f"])


def test_root_reads_everything(union):
    u = union({"f": File(data="x", mode=0o000, owner=(ALICE, ALICE))})
    u.append("f", "y")
    assert u.read("f") == b"xy"


def test_attributes_are_the_owners_to_change(union, as_user):
    u = union({"f": File(data="x", owner=(ALICE, ALICE), mode=0o666)})
    as_user(ALICE, lambda: os.chmod(u / "f", 0o606))
    for change in (lambda: os.chmod(u / "f", 0o777), lambda: os.chown(u / "f", BOB, -1),
                   lambda: os.utime(u / "f", ns=(1, 1))):
        with pytest.raises(PermissionError):
            as_user(BOB, change)


@LAYER
def test_sticky_directory(union, as_user, layer):
    tree = {"d": Dir(mode=0o1777, children={"a": File(data="", owner=(ALICE, ALICE)),
                                            "b": File(data="", owner=(BOB, BOB))})}
    u = at(union, layer, tree)
    for change in (lambda: os.unlink(u / "d/b"), lambda: os.rename(u / "d/b", u / "d/c"),
                   lambda: os.rename(u / "d/a", u / "d/b")):
        with pytest.raises(PermissionError):
            as_user(ALICE, change)
    as_user(ALICE, lambda: os.rename(u / "d/a", u / "d/c"))
    as_user(BOB, lambda: os.unlink(u / "d/b"))


def test_owner_of_a_sticky_directory_removes(union, as_user):
    tree = {"d": Dir(mode=0o1777, owner=(ALICE, ALICE), children={"b": File(data="", owner=(BOB, BOB))})}
    u = union(tree)
    as_user(ALICE, lambda: os.unlink(u / "d/b"))


def test_sticky_directory_with_a_symlink(union, as_user):
    u = union({"d": Dir(mode=0o1777)})
    as_user(ALICE, lambda: os.symlink("x", u / "d/l"))
    with pytest.raises(PermissionError):
        as_user(BOB, lambda: os.unlink(u / "d/l"))
    assert os.lstat(u / "d/l").st_uid == ALICE


def test_new_files_belong_to_the_caller(union, as_user):
    u = union({"d": Dir(mode=0o777)})

    def work():
        u.write("d/f", "x")
        os.mkdir(u / "d/s")
        os.symlink("t", u / "d/l")
        os.mkfifo(u / "d/p")
        os.link(u / "d/f", u / "d/h")
        os.chmod(u / "d/f", 0o600)
    as_user(ALICE, work, gid=2000)
    for name in ("f", "s", "l", "p", "h"):
        st = os.lstat(u / f"d/{name}")
        assert (st.st_uid, st.st_gid) == (ALICE, 2000), name


def test_supplementary_groups_count(union, as_user):
    u = union({"d": Dir(mode=0o770, owner=(0, 3000))})
    as_user(ALICE, lambda: u.write("d/f", "x"), groups=[2000, 3000])
    with pytest.raises(PermissionError):
        as_user(ALICE, lambda: u.write("d/g", "x"), groups=[2000])


def test_chgrp_to_a_supplementary_group(union, as_user):
    u = union({"f": File(data="", owner=(ALICE, ALICE))})
    as_user(ALICE, lambda: os.chown(u / "f", -1, 3000), groups=[3000])
    assert os.stat(u / "f").st_gid == 3000


def test_setgid_is_kept_for_a_member(union, as_user):
    u = union({"f": File(data="", owner=(ALICE, 3000))})
    as_user(ALICE, lambda: os.chmod(u / "f", 0o2755), groups=[3000])
    assert stat.S_IMODE(os.stat(u / "f").st_mode) == 0o2755


def test_mknod_of_devices_is_for_root(union, as_user):
    u = union({"d": Dir(mode=0o777)})
    with pytest.raises(PermissionError):
        as_user(ALICE, lambda: os.mknod(u / "d/n", stat.S_IFCHR | 0o666, os.makedev(1, 3)))
    with pytest.raises(PermissionError):
        as_user(ALICE, lambda: os.mknod(u / "d/w", stat.S_IFCHR | 0o666, os.makedev(0, 0)))


def test_open_descriptor_keeps_its_rights(union, as_user):
    """Rights are checked at open: a later chmod takes nothing from the descriptor."""
    u = union({"f": File(data="x", mode=0o666)})
    fd = os.open(u / "f", os.O_RDWR)
    os.chmod(u / "f", 0o600)
    as_user(ALICE, lambda: os.pwrite(fd, b"y", 1))
    assert as_user(ALICE, lambda: os.pread(fd, 9, 0)) == b"xy"
    os.close(fd)
    with pytest.raises(PermissionError):
        as_user(ALICE, lambda: u.read("f"))


def test_read_only_descriptor_cannot_write(union):
    u = union({"f": "x"})
    fd = os.open(u / "f", os.O_RDONLY)
    with pytest.raises(OSError):
        os.write(fd, b"y")
    with pytest.raises(OSError):
        os.ftruncate(fd, 0)
    os.close(fd)
    assert not u.copied_up("f")


def test_protected_symlink_target(union, as_user):
    u = union({"secret": Dir(mode=0o700, children={"f": "x"}), "l": Symlink(target="secret/f")})
    with pytest.raises(PermissionError):
        as_user(ALICE, lambda: u.read("l"))


def test_two_callers_at_once_keep_their_identities(union, as_user):
    u = union({"d": Dir(mode=0o777)})
    pids = []
    for uid in (1000, 1001, 1002, 1003):
        pid = os.fork()
        if pid == 0:
            try:
                as_user(uid, lambda uid=uid: [u.write(f"d/{uid}.{i}", "x") for i in range(100)]
                        and None)
            finally:
                os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    owners = {name: os.stat(u / f"d/{name}").st_uid for name in u.ls("d")}
    assert len(owners) == 400
    assert all(name.startswith(str(uid)) for name, uid in owners.items())
