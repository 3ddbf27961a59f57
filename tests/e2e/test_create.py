"""New objects: files, directories, nodes, links; over whiteouts; modes, owners and ACLs they get."""

import errno
import os
import stat

import pytest

import oscalls
import trees
from trees import Dir, File, Symlink, whiteout

OPAQUE = "trusted.overlay.opaque"


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


@pytest.fixture
def no_umask():
    old = os.umask(0)
    yield
    os.umask(old)


# Files

def test_create_in_the_root(union):
    u = union({"a": ""})
    u.write("b", "new")
    assert u.ls() == ["a", "b"]
    assert trees.read(u.up("b")) == b"new"


def test_create_in_a_lower_directory(union):
    u = union({"a": {"b": {}}})
    u.write("a/b/f", "new")
    assert u.read("a/b/f") == b"new"
    assert os.listdir(u.up("a/b")) == ["f"]


def test_create_survives_remount(union):
    u = union({"d": {}})
    u.write("d/f", "new")
    u.remount()
    assert u.read("d/f") == b"new"


def test_exclusive_create(union):
    u = union({"low": ""}, upper={"up": ""})
    for name in ("low", "up"):
        with pytest.raises(FileExistsError):
            os.open(u / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.close(os.open(u / "new", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    assert not u.copied_up("low")


def test_exclusive_create_on_a_dangling_link(union):
    u = union({"l": Symlink(target="nowhere")})
    with pytest.raises(FileExistsError):
        os.open(u / "l", os.O_CREAT | os.O_EXCL | os.O_WRONLY)


def test_create_through_a_dangling_link(union):
    u = union({"l": Symlink(target="new"), "d": {}})
    u.write("l", "x")
    assert u.read("new") == b"x"


def test_create_without_exclusive_opens_what_is_there(union):
    u = union({"f": "old"})
    fd = os.open(u / "f", os.O_CREAT | os.O_RDWR)
    assert os.read(fd, 10) == b"old"
    os.close(fd)


def test_create_on_a_directory(union):
    u = union({"d": {}})
    with pytest.raises(IsADirectoryError):
        os.open(u / "d", os.O_CREAT | os.O_WRONLY)


def test_create_below_nothing(union):
    u = union({})
    with pytest.raises(FileNotFoundError):
        u.write("no/f", "")


def test_created_read_only_file_is_writable_through_its_descriptor(union):
    u = union({})
    fd = os.open(u / "f", os.O_CREAT | os.O_RDWR, 0o400)
    assert os.write(fd, b"x") == 1
    os.close(fd)
    assert mode_of(u / "f") == 0o400


def test_create_over_a_whiteout(union):
    u = union({"f": "old"}, upper={"f": whiteout()})
    u.write("f", "new")
    assert u.read("f") == b"new"
    u.remount()
    assert u.read("f") == b"new"


def test_exclusive_create_over_a_whiteout(union):
    u = union({"f": File(data="old", mode=0o777, owner=(9, 9), xattrs={"user.x": "y"})},
              upper={"f": whiteout()})
    os.close(os.open(u / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    assert (mode_of(u / "f"), os.stat(u / "f").st_uid, os.listxattr(u / "f")) == (0o600, 0, [])


def test_create_again_after_removal(union):
    u = union({"f": "old"})
    for i in range(3):
        os.unlink(u / "f")
        u.write("f", f"new{i}")
    assert u.read("f") == b"new2"
    os.unlink(u / "f")
    u.remount()
    assert u.ls() == []


# Directories

def test_mkdir(union, no_umask):
    u = union({})
    os.mkdir(u / "d", 0o751)
    assert mode_of(u / "d") == 0o751
    assert u.ls("d") == []


def test_mkdir_exists(union):
    u = union({"d": {}, "f": ""})
    for name in ("d", "f"):
        with pytest.raises(FileExistsError):
            os.mkdir(u / name)


def test_mkdir_over_a_whiteout_is_empty(union):
    u = union({"d": {"old": ""}}, upper={"d": whiteout()})
    os.mkdir(u / "d")
    assert u.ls("d") == []
    assert os.getxattr(u.up("d"), OPAQUE) == b"y"
    u.remount()
    assert u.ls("d") == []


def test_mkdir_after_removal_of_a_file(union):
    u = union({"x": "file"})
    os.unlink(u / "x")
    os.mkdir(u / "x")
    u.write("x/f", "")
    u.remount()
    assert u.ls("x") == ["f"]


def test_file_after_removal_of_a_directory(union):
    u = union({"x": {}})
    os.rmdir(u / "x")
    u.write("x", "file")
    u.remount()
    assert u.read("x") == b"file"


def test_deep_mkdir(union):
    u = union({"a": {}})
    os.makedirs(u / ("a/" + "d/" * 60))
    u.remount()
    assert os.path.isdir(u / ("a/" + "d/" * 60))


# Nodes and links

@pytest.mark.parametrize("over", [False, True], ids=["fresh", "over-whiteout"])
@pytest.mark.parametrize("kind,rdev", [(stat.S_IFIFO, 0), (stat.S_IFSOCK, 0),
                                       (stat.S_IFCHR, os.makedev(1, 3)),
                                       (stat.S_IFBLK, os.makedev(8, 17)), (stat.S_IFREG, 0)])
def test_mknod(union, no_umask, kind, rdev, over):
    u = union({"n": "old"} if over else {}, upper={"n": whiteout()} if over else {})
    os.mknod(u / "n", kind | 0o644, rdev)
    st = os.lstat(u / "n")
    assert (stat.S_IFMT(st.st_mode), st.st_rdev, mode_of(u / "n")) == (kind, rdev, 0o644)
    u.remount()
    st = os.lstat(u / "n")
    assert (stat.S_IFMT(st.st_mode), st.st_rdev) == (kind, rdev)


def test_whiteouts_cannot_be_made_by_mknod(union):
    u = union({"f": ""})
    with pytest.raises(PermissionError):
        os.mknod(u / "w", stat.S_IFCHR | 0o644, os.makedev(0, 0))
    assert u.ls() == ["f"]


def test_mknod_exists(union):
    u = union({"f": ""})
    with pytest.raises(FileExistsError):
        os.mknod(u / "f", stat.S_IFIFO)


@pytest.mark.parametrize("over", [False, True], ids=["fresh", "over-whiteout"])
def test_symlink(union, over):
    u = union({"l": "old"} if over else {}, upper={"l": whiteout()} if over else {})
    os.symlink("some/where", u / "l")
    assert os.readlink(u / "l") == "some/where"
    assert os.lstat(u / "l").st_size == 10
    u.remount()
    assert os.readlink(u / "l") == "some/where"


def test_symlink_of_page_size(union):
    u = union({})
    os.symlink("t" * 4095, u / "l")
    assert os.readlink(u / "l") == "t" * 4095


# Unnamed files

def test_tmpfile_without_a_name_leaves_nothing(union):
    u = union({"d": {}})
    fd = oscalls.tmpfile(u / "d")
    os.write(fd, b"x")
    assert os.fstat(fd).st_nlink == 0
    assert u.ls("d") == []
    os.close(fd)


def test_tmpfile_given_a_name(union):
    u = union({"d": {}})
    fd = oscalls.tmpfile(u / "d", mode=0o640)
    os.write(fd, b"data")
    oscalls.link_fd(fd, u / "d/f")
    assert os.fstat(fd).st_nlink == 1
    os.write(fd, b"more")
    os.close(fd)
    assert (u.read("d/f"), mode_of(u / "d/f")) == (b"datamore", 0o640)
    u.remount()
    assert u.read("d/f") == b"datamore"


def test_tmpfile_given_the_name_of_a_whiteout(union):
    u = union({"f": "old"}, upper={"f": whiteout()})
    fd = oscalls.tmpfile(u.mnt)
    os.write(fd, b"new")
    oscalls.link_fd(fd, u / "f")
    os.close(fd)
    assert u.read("f") == b"new"


def test_tmpfile_to_an_existing_name(union):
    u = union({"f": "old"})
    fd = oscalls.tmpfile(u.mnt)
    with pytest.raises(FileExistsError):
        oscalls.link_fd(fd, u / "f")
    os.close(fd)


def test_exclusive_tmpfile_gets_no_name(union):
    u = union({"d": {}})
    fd = oscalls.tmpfile(u / "d", os.O_RDWR | os.O_EXCL)
    with pytest.raises(FileNotFoundError):
        oscalls.link_fd(fd, u / "d/f")
    os.close(fd)


def test_tmpfile_takes_attributes(union):
    u = union({})
    fd = oscalls.tmpfile(u.mnt)
    os.fchmod(fd, 0o604)
    os.fchown(fd, 3, 4)
    os.setxattr(fd, "user.x", b"y")
    oscalls.link_fd(fd, u / "f")
    os.close(fd)
    st = os.stat(u / "f")
    assert (mode_of(u / "f"), st.st_uid, st.st_gid) == (0o604, 3, 4)
    assert os.getxattr(u / "f", "user.x") == b"y"


# Modes and owners of what is new

def makers(path, mode):
    return {
        "create": lambda: os.close(os.open(path, os.O_CREAT | os.O_WRONLY, mode)),
        "mkdir": lambda: os.mkdir(path, mode),
        "mknod": lambda: os.mknod(path, stat.S_IFIFO | mode),
        "tmpfile": lambda: _named_tmpfile(path, mode),
    }


def _named_tmpfile(path, mode):
    fd = oscalls.tmpfile(os.path.dirname(path), mode=mode)
    oscalls.link_fd(fd, path)
    os.close(fd)


KINDS = ["create", "mkdir", "mknod", "tmpfile"]
OVER = pytest.mark.parametrize("over", [False, True], ids=["fresh", "over-whiteout"])


def prepared(union, over, **directory):
    """A directory to create "n" in, where n is or is not a whiteout."""
    children = {"n": "old"} if over else {}
    u = union({"d": Dir(children=children, **directory)},
              upper={"d": Dir(children={"n": whiteout()}, **directory)} if over else {})
    return u


@OVER
@pytest.mark.parametrize("kind", KINDS)
def test_umask(union, kind, over):
    u = prepared(union, over)
    old = os.umask(0o027)
    try:
        makers(u / "d/n", 0o777)[kind]()
    finally:
        os.umask(old)
    assert mode_of(u / "d/n") == 0o750
    assert mode_of(u.up("d/n")) == 0o750


@OVER
@pytest.mark.parametrize("kind", KINDS)
def test_owner_is_the_caller(union, as_user, kind, over):
    u = prepared(union, over, mode=0o777)
    as_user(1000, makers(u / "d/n", 0o644)[kind], gid=2000)
    st = os.lstat(u / "d/n")
    assert (st.st_uid, st.st_gid) == (1000, 2000)
    assert (os.lstat(u.up("d/n")).st_uid, os.lstat(u.up("d/n")).st_gid) == (1000, 2000)


@OVER
@pytest.mark.parametrize("kind", KINDS)
def test_group_comes_from_a_setgid_directory(union, as_user, kind, over):
    u = prepared(union, over, mode=0o2777, owner=(0, 555))
    as_user(1000, makers(u / "d/n", 0o644)[kind], gid=2000)
    st = os.lstat(u / "d/n")
    assert (st.st_uid, st.st_gid) == (1000, 555)
    assert bool(st.st_mode & stat.S_ISGID) == (kind == "mkdir")


@pytest.mark.parametrize("over", [False, True], ids=["fresh", "over-whiteout"])
def test_symlink_takes_the_group_of_a_setgid_directory(union, as_user, over):
    u = prepared(union, over, mode=0o2777, owner=(0, 555))
    as_user(1000, lambda: os.symlink("t", u / "d/n"), gid=2000)
    st = os.lstat(u / "d/n")
    assert (st.st_uid, st.st_gid) == (1000, 555)


@OVER
def test_setgid_file_of_a_foreign_group_loses_the_bit(union, as_user, over):
    """A file created setgid group-executable in a group the caller is not in."""
    u = prepared(union, over, mode=0o2777, owner=(0, 555))
    as_user(1000, makers(u / "d/n", 0o2775)["create"], gid=2000, umask=0)
    assert mode_of(u / "d/n") == 0o775


@OVER
def test_setgid_file_of_an_own_group_keeps_the_bit(union, as_user, over):
    u = prepared(union, over, mode=0o2777, owner=(0, 555))
    as_user(1000, makers(u / "d/n", 0o2775)["create"], gid=2000, groups=[555], umask=0)
    assert mode_of(u / "d/n") == 0o2775


@OVER
@pytest.mark.parametrize("kind", KINDS)
def test_default_acl_is_inherited(union, kind, over):
    default = oscalls.acl("u::rwx,u:1234:rwx,g::r-x,m::rwx,o::---")
    u = prepared(union, over, xattrs={oscalls.ACL_DEFAULT: default})
    old = os.umask(0o077)  # a default ACL replaces the umask
    try:
        makers(u / "d/n", 0o664)[kind]()
    finally:
        os.umask(old)
    want = oscalls.acl("u::rw-,u:1234:rwx,g::r-x,m::rw-,o::---")
    assert os.getxattr(u / "d/n", oscalls.ACL_ACCESS) == want
    assert mode_of(u / "d/n") == 0o660
    if kind == "mkdir":
        assert os.getxattr(u / "d/n", oscalls.ACL_DEFAULT) == default


@OVER
def test_minimal_default_acl_leaves_no_acl(union, over):
    u = prepared(union, over, xattrs={oscalls.ACL_DEFAULT: oscalls.acl("u::rw-,g::r--,o::---")})
    u.write("d/n", "")
    assert oscalls.ACL_ACCESS not in os.listxattr(u / "d/n")
    assert mode_of(u / "d/n") == 0o640


def test_sticky_directory_is_made(union, no_umask):
    u = union({})
    os.mkdir(u / "d", 0o1777)
    assert mode_of(u / "d") == 0o1777


def test_time_of_the_parent_changes(union):
    u = union({"d": Dir(mtime=trees.OLD)})
    u.write("d/f", "")
    assert os.stat(u / "d").st_mtime_ns > trees.OLD


def test_parent_of_a_removed_directory(union):
    u = union({"d": {}})
    fd = os.open(u / "d", os.O_RDONLY)
    os.rmdir(u / "d")
    with pytest.raises(FileNotFoundError):
        os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    with pytest.raises(FileNotFoundError):
        os.mkdir("s", dir_fd=fd)
    os.close(fd)


def test_full_upper_gives_enospc(union, scratch):
    u = union({}, upper={"f": "x"}, where=scratch.make("tmpfs", 1 << 20))
    with pytest.raises(OSError) as caught:
        u.write("g", "z" * (2 << 20))
    assert caught.value.errno == errno.ENOSPC
    assert u.read("f") == b"x"


def test_copy_up_into_a_full_upper_leaves_the_file(union, scratch):
    u = union({"f": "x" * (3 << 20)}, where=scratch.make("tmpfs", 4 << 20))
    with pytest.raises(OSError) as caught:
        u.append("f", "y")
    assert caught.value.errno == errno.ENOSPC
    assert not u.copied_up("f")
    assert u.read("f") == b"x" * (3 << 20)


def test_read_only_union(union):
    u = union({"f": "x"}, {"g": "y"}, readonly=True)
    for change in (lambda: u.write("n", ""), lambda: os.mkdir(u / "d"), lambda: os.unlink(u / "f"),
                   lambda: os.chmod(u / "f", 0), lambda: os.rename(u / "f", u / "h"),
                   lambda: os.open(u / "f", os.O_RDWR)):
        with pytest.raises(OSError) as caught:
            change()
        assert caught.value.errno == errno.EROFS
