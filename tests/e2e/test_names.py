"""Names: the longest, the strangest, and slashes at their ends."""

import errno
import os

import pytest

from trees import Dir, Symlink, dirent_faults


def errno_of(function):
    with pytest.raises(OSError) as caught:
        function()
    return caught.value.errno


LONG = "n" * 255


@pytest.mark.parametrize("layer", ["lower", "upper"])
def test_255_bytes(union, layer):
    tree = {LONG: "x"}
    u = union(tree if layer == "lower" else {}, upper=tree if layer == "upper" else {})
    assert u.ls() == [LONG]
    u.append(LONG, "y")
    os.rename(u / LONG, u / ("m" * 255))
    u.remount()
    assert (u.ls(), u.read("m" * 255)) == (["m" * 255], b"xy")
    os.unlink(u / ("m" * 255))
    assert u.ls() == []


def test_255_bytes_of_multibyte_characters(union):
    name = "ü" * 127 + "x"
    u = union({name: ""})
    os.unlink(u / name)
    u.write(name, "new")
    assert u.ls() == [name]


@pytest.mark.parametrize("call", [
    os.lstat, os.unlink, os.rmdir, os.mkdir, os.readlink, os.listdir,
    lambda p: os.close(os.open(p, os.O_CREAT | os.O_WRONLY)), os.mkfifo,
    lambda p: os.symlink("x", p), lambda p: os.rename(os.path.dirname(p) + "/f", p),
    lambda p: os.link(os.path.dirname(p) + "/f", p),
], ids=["stat", "unlink", "rmdir", "mkdir", "readlink", "listdir", "create", "mkfifo", "symlink",
        "rename", "link"])
def test_256_bytes_are_too_long(union, call):
    u = union({"f": ""})
    assert errno_of(lambda: call(u / ("n" * 256))) == errno.ENAMETOOLONG


def test_every_byte(union):
    names = [os.fsdecode(bytes([byte])) for byte in range(1, 256) if byte not in b"./"]
    u = union({name: "" for name in names[::2]}, upper={name: "" for name in names[1::2]})
    assert u.ls() == sorted(names)
    assert all(os.path.exists(u / name) for name in names)
    for name in names:
        os.rename(u / name, u / (name + "\n"))
    u.remount()
    assert u.ls() == sorted(name + "\n" for name in names)


@pytest.mark.parametrize("name", ["...", "-", "--help", " ", "a:b", "a,b", "a\\b", "#1", "work",
                                  "index", ".wh", "wh.x", "\\040", "con", "a" * 64, "*", "..x"])
def test_names_that_mean_something_elsewhere(union, name):
    u = union({name: "x", "d": {name: {}}})
    assert u.read(name) == b"x"
    u.append(name, "y")
    os.rmdir(u / f"d/{name}")
    os.mkdir(u / f"d/{name}")
    u.remount()
    assert (u.read(name), u.ls("d")) == (b"xy", [name])


def test_case_matters(union):
    u = union({"a": "1", "A": "2"})
    os.unlink(u / "a")
    assert (u.ls(), u.read("A")) == (["A"], b"2")


def test_path_max(union):
    """A path of 4095 bytes works, one more is too long."""
    u = union({"d": {}})
    path, depth = u / "d", 0
    os.chdir(path)
    try:
        while len(path) + 201 < 4095:
            os.mkdir("x" * 200)
            os.chdir("x" * 200)
            path, depth = path + "/" + "x" * 200, depth + 1
        rest = 4095 - len(path) - 1
        os.close(os.open("y" * rest, os.O_CREAT | os.O_WRONLY))
        assert os.stat(path + "/" + "y" * rest).st_size == 0
        assert errno_of(lambda: os.stat(path + "/" + "y" * (rest + 1))) == errno.ENAMETOOLONG
        os.unlink("y" * rest)
    finally:
        os.chdir("/")
    assert depth >= 18


def test_deeper_than_path_max(union):
    u = union({"d": {}})
    os.chdir(u / "d")
    try:
        for _ in range(60):
            os.mkdir("x" * 200)
            os.chdir("x" * 200)
        with open("leaf", "w", encoding="ascii") as file:
            file.write("deep")
        with open("leaf", encoding="ascii") as file:
            assert file.read() == "deep"
        os.unlink("leaf")
        for _ in range(60):
            os.chdir("..")
            os.rmdir("x" * 200)
    finally:
        os.chdir("/")
    assert u.ls("d") == []


def test_deep_lower_tree_is_copied_up(union_factory):
    u = union_factory({"d": {}}, guard=False)
    os.chdir(u.low("d"))
    try:
        for _ in range(60):
            os.mkdir("x" * 200)
            os.chdir("x" * 200)
        with open("leaf", "w", encoding="ascii") as file:
            file.write("deep")
        u.mount()
        os.chdir(u / "d")
        for _ in range(60):
            os.chdir("x" * 200)
        with open("leaf", "a", encoding="ascii") as file:
            file.write("er")
        with open("leaf", encoding="ascii") as file:
            assert file.read() == "deeper"
    finally:
        os.chdir("/")


def test_trailing_slashes(union):
    u = union({"d": {}, "f": "", "l": Symlink(target="d"), "lf": Symlink(target="f")})
    assert os.stat(u / "d///") and os.stat(u / "l/")
    for name in ("f/", "lf/"):
        assert errno_of(lambda name=name: os.stat(u / name)) == errno.ENOTDIR
    assert errno_of(lambda: os.open(u / "new/", os.O_CREAT | os.O_WRONLY)) == errno.EISDIR
    os.mkdir(u / "new//")
    os.rename(u / "new/", u / "newer/")
    os.rmdir(u / "newer/")
    assert errno_of(lambda: os.unlink(u / "f/")) == errno.ENOTDIR
    assert errno_of(lambda: os.rename(u / "f", u / "g/")) == errno.ENOTDIR


def test_dots(union):
    u = union({"d": {"e": {"f": "x"}}})
    assert u.read("d/./e/.././e/f") == b"x"
    assert os.stat(u / "d/e/../..").st_ino == u.ino("")
    assert errno_of(lambda: os.mkdir(u / "d/.")) == errno.EEXIST
    assert errno_of(lambda: os.rename(u / "d/.", u / "x")) in (errno.EBUSY, errno.EINVAL)


def test_empty_name(union):
    u = union({})
    os.chdir(u.mnt)
    try:
        assert errno_of(lambda: os.stat("")) == errno.ENOENT
    finally:
        os.chdir("/")


def test_root_cannot_be_removed_or_moved(union):
    u = union({})
    assert errno_of(lambda: os.rmdir(u.mnt)) == errno.EBUSY
    assert errno_of(lambda: os.rename(u.mnt, u.mnt + "2")) == errno.EBUSY


def test_symlink_loop(union):
    u = union({"a": Symlink(target="b"), "b": Symlink(target="a")})
    assert errno_of(lambda: os.stat(u / "a")) == errno.ELOOP


def test_symlinks_leave_the_union_as_any_symlink(union):
    u = union({"up": Symlink(target="../beside"), "abs": Symlink(target="/")})
    with open(os.path.join(u.base, "beside"), "w", encoding="ascii") as file:
        file.write("out")
    assert u.read("up") == b"out"
    assert os.path.samefile(u / "abs", "/")


def test_long_names_in_listings(union):
    names = {f"{i:03}" + "x" * 252: "" for i in range(100)}
    u = union(dict(list(names.items())[:50]), dict(list(names.items())[30:]), upper=Dir())
    assert u.ls() == sorted(names)
    assert dirent_faults(u.mnt) == []
