"""File handles: name_to_handle_at and open_by_handle_at, over all that makes a kernel forget."""

import errno
import json
import os
import stat
import subprocess

import pytest

import contenders
import oscalls
import trees
from trees import Hard, Symlink

# What a kernel overlayfs needs for handles at all.
OPTIONS = ["nfs_export=on", "index=on", "metacopy=off"]


def forget(u):
    """The kernel drops all it can, until the daemon knows the root only."""
    for _ in range(20):
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
            file.write("3")
        if not u.is_veneer or nodes(u) <= 1:
            return
    raise AssertionError(f"{nodes(u)} nodes are still known")


def nodes(u):
    """How many objects the daemon knows; 0: it cannot tell."""
    done = subprocess.run([contenders.VENEER, "status", "--json", u.mnt], capture_output=True,
                          timeout=30, check=False, stdin=subprocess.DEVNULL)
    return json.loads(done.stdout)["mounts"][0]["caches"]["nodes"] if done.returncode == 0 else 0


def handle(u, path):
    return oscalls.name_to_handle(u / path)


class Opened:
    """A descriptor of a handle's object."""

    def __init__(self, u, wanted, flags=os.O_RDONLY):
        mountfd = os.open(u.mnt, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.fd = oscalls.open_by_handle(mountfd, wanted, flags)
        finally:
            os.close(mountfd)

    def __enter__(self):
        return self.fd

    def __exit__(self, *_exception):
        os.close(self.fd)


def read(u, wanted):
    with Opened(u, wanted) as fd:
        return os.pread(fd, 1000, 0)


def is_refused(u, wanted):
    try:
        with Opened(u, wanted, os.O_PATH):
            return False
    except OSError as error:
        assert error.errno == errno.ESTALE
        return True


def is_stale(u, wanted, seconds=2):
    """Patient: the kernel keeps an inode until the daemon has heard that it was closed."""
    return trees.wait_until(lambda: is_refused(u, wanted), seconds)


@pytest.fixture
def tree(union):
    """Objects of each layer, at several depths."""
    def make(opts=(), **kwargs):
        return union({"low": "low", "deep": {"er": {"file": "deep", "sub": {"dir": {"end": "end"}}}},
                      "link": Symlink(target="low"), "both": {"l": "l"}, "many": {f"f{i}": f"{i}" for i in range(300)}},
                     {"bottom": "bottom", "both": {"b": "b"}},
                     upper={"up": "up", "both": {"u": "u"}}, opts=opts, **kwargs)
    return make


PATHS = ["low", "bottom", "up", "deep/er/file", "deep/er/sub/dir/end", "both/l", "both/b", "both/u"]
DIRECTORIES = ["deep", "deep/er/sub/dir", "both", ""]


@pytest.mark.parametrize("drop", [False, True])
def test_files(tree, drop):
    u = tree(OPTIONS)
    seen = {path: (handle(u, path), u.ino(path), u.read(path)) for path in PATHS}
    if drop:
        forget(u)
    for path, (wanted, ino, content) in seen.items():
        with Opened(u, wanted) as fd:
            assert os.fstat(fd).st_ino == ino
            assert os.read(fd, 100) == content
    assert {path: handle(u, path) for path in PATHS} == {path: seen[path][0] for path in PATHS}


@pytest.mark.parametrize("drop", [False, True])
def test_directories(tree, drop):
    u = tree(OPTIONS)
    seen = {path: (handle(u, path), u.ino(path), u.ls(path)) for path in DIRECTORIES}
    if drop:
        forget(u)
    for path, (wanted, ino, names) in seen.items():
        with Opened(u, wanted, os.O_RDONLY | os.O_DIRECTORY) as fd:
            assert os.fstat(fd).st_ino == ino
            assert sorted(os.listdir(fd)) == names
            # It is connected to the tree it is in.
            assert os.readlink(f"/proc/self/fd/{fd}") == (u / path)
            if path:
                parent = os.stat("..", dir_fd=fd)
                assert parent.st_ino == u.ino(os.path.dirname(path))


def test_symbolic_links(tree):
    u = tree(OPTIONS)
    wanted = handle(u, "link")
    forget(u)
    with Opened(u, wanted, os.O_PATH | os.O_NOFOLLOW) as fd:
        assert stat.S_ISLNK(os.fstat(fd).st_mode)
        assert os.readlink("", dir_fd=fd) == "low"


def test_many_in_one_directory(tree):
    u = tree(OPTIONS)
    seen = {name: handle(u, f"many/{name}") for name in u.ls("many")}
    forget(u)
    for name, wanted in seen.items():
        assert read(u, wanted) == name[1:].encode()
    forget(u)
    assert {name: handle(u, f"many/{name}") for name in u.ls("many")} == seen


def test_changes_through_a_handle(tree):
    u = tree(OPTIONS)
    seen = {path: handle(u, path) for path in PATHS}
    forget(u)
    for path, wanted in seen.items():
        with Opened(u, wanted, os.O_RDWR | os.O_APPEND) as fd:
            os.write(fd, b" more")
        assert u.read(path).endswith(b" more")
    forget(u)
    for path, wanted in seen.items():
        assert read(u, wanted).endswith(b" more")


def test_copied_up_in_between(tree):
    u = tree(OPTIONS)
    paths = ["low", "deep/er/file", "both/l"]
    seen = {path: (handle(u, path), u.ino(path)) for path in paths}
    forget(u)
    for path in paths:
        u.append(path, "!")
    forget(u)
    for path, (wanted, ino) in seen.items():
        with Opened(u, wanted) as fd:
            assert os.fstat(fd).st_ino == ino
            assert os.read(fd, 100).endswith(b"!")


def test_renamed_in_between(tree):
    u = tree([*OPTIONS, "redirect_dir=on"])
    low, up, end, deep = (handle(u, path) for path in ("low", "up", "deep/er/sub/dir/end", "deep/er"))
    forget(u)
    os.rename(u / "low", u / "both/elsewhere")
    os.rename(u / "up", u / "renamed")
    os.rename(u / "deep/er/sub", u / "moved")
    forget(u)
    u.write("low", "another")
    u.write("up", "another")
    assert (read(u, low), read(u, up), read(u, end)) == (b"low", b"up", b"end")
    forget(u)
    os.rename(u / "deep", u / "away")
    forget(u)
    assert (read(u, low), read(u, up), read(u, end)) == (b"low", b"up", b"end")
    with Opened(u, deep, os.O_RDONLY | os.O_DIRECTORY) as fd:
        assert os.readlink(f"/proc/self/fd/{fd}") == u / "away/er"


def test_exchanged_in_between(tree):
    u = tree(OPTIONS)
    low, up = handle(u, "low"), handle(u, "up")
    forget(u)
    oscalls.renameat2(u / "low", u / "up", oscalls.RENAME_EXCHANGE)
    forget(u)
    assert (read(u, low), read(u, up)) == (b"low", b"up")


def test_hard_links(union):
    """A handle is the object's, not a name's: any name that is left will do."""
    u = union({"d": {"a": "x"}, "e": {"b": Hard("d/a"), "c": Hard("d/a")}}, opts=OPTIONS)
    wanted = handle(u, "d/a")
    assert handle(u, "e/b") == wanted
    forget(u)
    assert handle(u, "e/c") == wanted
    u.append("e/b", "y")
    forget(u)
    assert read(u, wanted) == b"xy"
    os.unlink(u / "d/a")
    forget(u)
    assert read(u, wanted) == b"xy"
    os.link(u / "e/c", u / "f")
    os.unlink(u / "e/b")
    os.unlink(u / "e/c")
    forget(u)
    assert read(u, wanted) == b"xy"
    assert handle(u, "f") == wanted
    os.unlink(u / "f")
    assert is_stale(u, wanted)


def test_links_made_in_between(union):
    u = union({}, upper={"d": {"a": "x"}, "e": {}}, opts=OPTIONS)
    wanted = handle(u, "d/a")
    os.link(u / "d/a", u / "e/b")
    forget(u)
    # Another name is seen first, then the one it was known by goes.
    assert handle(u, "e/b") == wanted
    forget(u)
    os.unlink(u / "d/a")
    forget(u)
    assert read(u, wanted) == b"x"
    os.rename(u / "e/b", u / "c")
    forget(u)
    assert handle(u, "c") == wanted
    assert read(u, wanted) == b"x"


@pytest.mark.parametrize("drop", [False, True])
def test_removed(tree, drop):
    u = tree(OPTIONS)
    files = [handle(u, path) for path in PATHS]
    directory = handle(u, "deep/er/sub/dir")
    root = handle(u, "")
    if drop:
        forget(u)
    for path in PATHS:
        os.unlink(u / path)
    os.rmdir(u / "deep/er/sub/dir")
    # Their names and numbers are somebody else's now.
    for path in PATHS:
        if os.path.isdir(os.path.dirname(u / path)):
            u.write(path, "another")
    os.mkdir(u / "deep/er/sub/dir")
    assert all(is_stale(u, wanted) for wanted in files)
    assert is_stale(u, directory)
    if drop:
        forget(u)
        assert all(is_stale(u, wanted) for wanted in files)
        assert is_stale(u, directory)
    assert not is_refused(u, root)


def test_replaced_by_rename(tree):
    u = tree(OPTIONS)
    low, up = handle(u, "low"), handle(u, "up")
    forget(u)
    os.rename(u / "up", u / "low")
    forget(u)
    assert is_stale(u, low)
    assert read(u, up) == b"up"


def test_removed_while_open(tree):
    """What is open lives on; once it is closed the handle leads nowhere."""
    u = tree(OPTIONS)
    wanted = handle(u, "up")
    with Opened(u, wanted, os.O_RDWR) as fd:
        os.unlink(u / "up")
        assert os.fstat(fd).st_nlink == 0
        os.write(fd, b"still")
        assert os.pread(fd, 10, 0) == b"still"
    forget(u)
    assert is_stale(u, wanted)


def test_deep(union):
    """A path longer than any that a call takes."""
    depth = 600
    u = union({}, opts=OPTIONS)
    fd = os.open(u.mnt, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir("directory", dir_fd=fd)
        fd, above = os.open("directory", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd), fd
        os.close(above)
    file = os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.write(file, b"deep")
    wanted = oscalls.name_to_handle(f"/proc/self/fd/{fd}/file")
    directory = oscalls.name_to_handle(f"/proc/self/fd/{fd}/.")
    os.close(file)
    os.close(fd)
    forget(u)
    assert read(u, wanted) == b"deep"
    forget(u)
    with Opened(u, directory, os.O_RDONLY | os.O_DIRECTORY) as fd:
        assert os.listdir(fd) == ["file"]


@pytest.mark.veneer_only("kernel overlayfs has no handles by default")
def test_by_default(tree):
    u = tree()
    seen = {path: handle(u, path) for path in PATHS}
    forget(u)
    os.chmod(u / "low", 0o600)
    os.rename(u / "deep", u / "moved")
    forget(u)
    for path, wanted in seen.items():
        assert read(u, wanted) == os.path.basename(path).replace("file", "deep").encode()


@pytest.mark.veneer_only("handles of kernel overlayfs outlive the mount")
def test_another_mount(tree):
    """Never another object: a handle of a mount that has ended is stale."""
    u = tree()
    seen = [handle(u, path) for path in PATHS]
    u.remount()
    assert len({handle(u, path) for path in PATHS} - set(seen)) == len(PATHS)
    assert all(is_stale(u, wanted) for wanted in seen)


@pytest.mark.veneer_only("kernel overlayfs remembers nothing")
@pytest.mark.parametrize("opts", [[], ["nfs_export=on"]])
def test_bound(union, opts):
    """By default 6,500 objects are remembered, and with nfs_export=on far more."""
    count = 60000 if opts else 6000
    u = union({}, upper={f"d{i}": {} for i in range(count // 100)}, opts=opts)
    for i in range(count // 100):
        for j in range(100):
            os.mknod(u.up(f"d{i}/{j}"), stat.S_IFREG | 0o644)
    seen = [handle(u, f"d{i}/{j}") for i in range(count // 100) for j in range(100)]
    forget(u)
    for wanted in seen[::97]:
        assert not is_refused(u, wanted)
