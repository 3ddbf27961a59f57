"""Layers that no honest program wrote, layers edited while mounted, and too few descriptors."""

import errno
import itertools
import os
import resource
import shutil
import stat
import subprocess

import pytest

import contenders
import oscalls
import trees
from contenders import TAG, VENEER
from trees import Dir, File, Hard, Node, Symlink, opaque, whiteout

T = "trusted.overlay."
SANE = {errno.ENOENT, errno.EIO, errno.EPERM, errno.ESTALE, errno.EINVAL, errno.EXDEV, errno.ENOTDIR,
        errno.ELOOP, errno.ENOTEMPTY, errno.ENODATA, errno.EOPNOTSUPP, errno.ENAMETOOLONG, errno.EEXIST,
        errno.EACCES, errno.EISDIR, errno.ETXTBSY, errno.ENXIO}


def attempt(call, *args):
    """Call it; an error must be one that a program can expect."""
    try:
        return call(*args)
    except OSError as error:
        assert error.errno in SANE, error
    return None


def walk(u):
    """Look at everything, as deep as the kernel lets a path be; the names found."""
    found = []
    for directory, dirs, files in os.walk(u.mnt):
        for name in dirs + files:
            path = os.path.join(directory, name)
            found.append(os.path.relpath(path, u.mnt))
            attempt(os.lstat, path)
            attempt(os.listxattr, path)
            if os.path.isfile(path) and not os.path.islink(path):
                attempt(trees.read, path)
        if directory.count("/") > 60 or len(found) > 5000:
            break
    return found


def disturb(u, names):
    """Change everything in some way."""
    for name in names[:100]:
        attempt(os.chmod, u / name, 0o755)
        attempt(os.rename, u / name, u / "renamed")
        attempt(os.rename, u / "renamed", u / name)
        attempt(trees.write, u / (name + "/new"), "")
    for name in reversed(names[:100]):
        attempt(os.unlink, u / name)
        attempt(os.rmdir, u / name)


def is_alive(u):
    u.write("alive", "yes")
    return u.read("alive") == b"yes"


REDIRECTS = [b"", b"/", b"//", b"..", b".", b"/..", b"/../..", b"/../outside", b"../outside", b"a/b", b"/a/",
             b"/a//b", b"\0", b"a\0b", b"/" + b"x" * 300, b"x" * 300, b"/d/../../outside", b"\xff\xfe", b"d",
             b"/d", b"/d/d", b"/self", b"self"]


@pytest.mark.parametrize("value", REDIRECTS, ids=repr)
def test_bad_redirects(union_factory, value):
    """No redirect leads out of the layers, and none ends the mount."""
    u = union_factory({"d": {"f": "x", "d": {}}, "outside": {}}, opts=["redirect_dir=on"],
                      upper={"self": Dir(xattrs={T + "redirect": value}, children={"up": ""})},
                      guard=False)
    trees.build(os.path.join(u.base, "outside"), {"secret": "s"})
    u.mount()
    names = walk(u)
    assert not any("secret" in name for name in names)
    disturb(u, names)
    assert is_alive(u)
    assert os.listdir(os.path.join(u.base, "outside")) == ["secret"]


def test_redirect_loops(union):
    """Three layers whose redirects go round."""
    upper = {"a": Dir(xattrs={T + "redirect": "/b"}), "b": Dir(xattrs={T + "redirect": "/a"}),
             "c": Dir(xattrs={T + "redirect": "/c"}), "d": Dir(xattrs={T + "redirect": "/d/d"},
                                                               children={"d": {}})}
    u = union(upper, {"a": {"x": ""}, "b": {"y": ""}, "c": {}, "d": {"d": {}}}, upper=upper,
              opts=["redirect_dir=on"])
    names = walk(u)
    assert len(names) < 100
    disturb(u, names)
    assert is_alive(u)


def test_redirect_to_itself_below(union):
    """A directory that says its lower part is its own parent: endless, if one walked it all."""
    u = union({"a": {"b": {"c": {}}}}, upper={"a": {"b": Dir(xattrs={T + "redirect": "/a"})}},
              opts=["redirect_dir=on"])
    assert len(walk(u)) < 5000
    assert is_alive(u)


@pytest.mark.parametrize("key,value", [
    ("origin", b""), ("origin", b"x"), ("origin", b"\0\xfb\xff\0\1" + b"u" * 16),
    ("origin", b"\0\xfb\x1d\0\1" + b"u" * 16 + b"\0" * 8), ("origin", bytes(range(200))),
    ("origin", b"\1\xfb\x1d\xff\1" + b"u" * 24), ("opaque", b""), ("opaque", b"z"),
    ("opaque", b"yy"), ("opaque", b"y" * 300), ("impure", b""), ("impure", b"n" * 300),
    ("nlink", b"U+999999999999"), ("nlink", b"garbage"), ("nlink", b"L-5"), ("upper", b"x" * 50),
    ("uuid", b"short"), ("uuid", b"u" * 100),
    ("protattr", b"zzz"), ("protattr", b"i" * 100), ("protattr", b""), ("whiteout", b"x"),
    ("whiteouts", b""), ("unknown", b"x"), ("", b"x")], ids=lambda value: repr(value[:12]))
def test_bad_xattrs(union_factory, key, value):
    spec = Dir(xattrs={T + key: value} if key else {"trusted.overlay": value},
               children={"f": File(data="x", xattrs={T + key: value} if key else {})})
    u = union_factory({"d": spec, "g": ""}, upper={"d": spec, "e": spec}, guard=False)
    for root in (u.low(), u.upper):
        if key:
            os.setxattr(root, T + key, value)
    try:
        u.mount()
    except contenders.MountError:
        return  # refused with a reason, which is as good
    names = walk(u)
    disturb(u, names)
    attempt(u.write, "alive", "")
    assert isinstance(os.listdir(u.mnt), list)


@pytest.mark.parametrize("value", [b"x", b"\0\0\0", b"\1\4\0\0", b"\0\4\0\7", b"\0\xff\0\0", b"\0\4\1\0",
                                   b"\0\x24\0\1" + b"d" * 32, b"\xa5" * 300], ids=lambda v: repr(v[:6]))
@pytest.mark.parametrize("opts", [["metacopy=on"], []], ids=["on", "off"])
def test_bad_metacopy(union, value, opts):
    u = union({"f": "x" * 100}, opts=opts,
              upper={"f": File(size=100, xattrs={T + "metacopy": value}),
                     "g": File(size=1 << 50 >> 8, xattrs={T + "metacopy": value}),
                     "h": Dir(xattrs={T + "metacopy": value}),
                     "l": Symlink(xattrs={T + "metacopy": value})})
    walk_names = u.ls()
    for name in walk_names:
        attempt(os.lstat, u / name)
    attempt(u.read, "f")
    attempt(u.append, "f", "y")
    attempt(os.truncate, u / "f", 10)
    assert is_alive(u)


def test_types_change_from_layer_to_layer(union):
    """Everything over everything, with private xattrs where they do not belong."""
    kinds = [File(data="x", xattrs={T + "opaque": "y", T + "redirect": "d"}), {"s": {"t": ""}},
             Symlink(target="."), Node(), whiteout(), opaque({}),
             Node(type=stat.S_IFCHR, rdev=(1, 3), xattrs={T + "opaque": "y"})]
    pairs = list(itertools.product(range(len(kinds)), repeat=2))
    u = union({f"n{i}{j}": kinds[i] for i, j in pairs}, {f"n{i}{j}": kinds[j] for i, j in pairs},
              upper={f"n{i}{i}": whiteout() for i in range(0, len(kinds), 2)},
              opts=["redirect_dir=on"])
    disturb(u, walk(u))
    assert is_alive(u)


def test_absurd_names(union):
    names = ["\n", "\r", "\t", "\x01", "\x7f", "\udcff\udcfe", "%s%n", "$(reboot)", "`x`", "';--", "*",
             "?", "a" * 255, "\\", "\\\\", "trusted.overlay.opaque", "#", "#0", "#ffff", ".wh", ".w",
             ".nfs001", ".fuse_hidden0001", "~"]
    u = union({name: {name: "x"} for name in names})
    assert u.ls() == sorted(names)
    for name in names:
        u.append(f"{name}/{name}", "!")
        os.rename(u / f"{name}/{name}", u / f"{name}/moved")
    u.remount()
    assert all(u.ls(name) == ["moved"] for name in names)


def test_names_with_the_whiteout_prefix_cannot_confuse(union):
    """Creating such a name either works as any name, or is refused."""
    u = union({"f": "x"})
    for name in (".wh.f", ".wh..wh..opq", ".wh.", ".wh..wh.f"):
        attempt(u.write, name, "")
    assert u.read("f") == b"x"
    u.remount()
    assert u.read("f") == b"x"


def test_deep_tree(union_factory):
    u = union_factory({"d": {}}, guard=False)
    os.chdir(u.low("d"))
    try:
        for _ in range(400):
            os.mkdir("x")
            os.chdir("x")
    finally:
        os.chdir("/")
    u.mount()
    os.chdir(u / "d")
    try:
        for _ in range(400):
            os.chdir("x")
        trees.write("leaf", "deep")
        assert os.listdir(".") == ["leaf"]
    finally:
        os.chdir("/")


# Edits underneath

EDITS = {
    "upper file removed": lambda u: os.unlink(u.up("d/up")),
    "upper directory removed": lambda u: shutil.rmtree(u.up("d")),
    "upper directory became a file": lambda u: (shutil.rmtree(u.up("d")), trees.write(u.up("d"), "f")),
    "upper file became a directory": lambda u: (os.unlink(u.up("d/up")), os.mkdir(u.up("d/up"))),
    "upper file became a whiteout": lambda u: (os.unlink(u.up("d/up")), os.mknod(u.up("d/up"), stat.S_IFCHR)),
    "upper file became a fifo": lambda u: (os.unlink(u.up("d/up")), os.mkfifo(u.up("d/up"))),
    "lower file became a fifo": lambda u: (os.unlink(u.low("d/low")), os.mkfifo(u.low("d/low"))),
    "upper directory became opaque": lambda u: os.setxattr(u.up("d"), T + "opaque", b"y"),
    "upper directory renamed": lambda u: os.rename(u.up("d"), u.up("moved")),
    "upper emptied": lambda u: [shutil.rmtree(u.up(n)) for n in os.listdir(u.upper)],
    "lower file removed": lambda u: os.unlink(u.low("d/low")),
    "lower file truncated": lambda u: os.truncate(u.low("d/low"), 0),
    "lower file grown": lambda u: os.truncate(u.low("d/low"), 1 << 20),
    "lower directory removed": lambda u: shutil.rmtree(u.low("d")),
    "lower directory became a file": lambda u: (shutil.rmtree(u.low("d")), trees.write(u.low("d"), "f")),
    "lower directory became a symlink": lambda u: (shutil.rmtree(u.low("d")), os.symlink("/", u.low("d"))),
    "work emptied": lambda u: shutil.rmtree(os.path.join(u.work, "work")),
    "work became a file": lambda u: (shutil.rmtree(os.path.join(u.work, "work")),
                                     trees.write(os.path.join(u.work, "work"), "")),
}


@pytest.mark.parametrize("edit", EDITS, ids=lambda name: name.replace(" ", "-"))
def test_edit_underneath(union, edit):
    """The answers are undefined, but there are answers, and the union stays in its layers."""
    u = union({"d": {"low": "l", "s": {"t": ""}}, "e": {"x": "x"}}, upper={"d": {"up": "u"}}, guard=False)
    u.snapshot()
    fds = [os.open(u / name, os.O_RDONLY) for name in ("d", "d/up", "d/low", "d/s")]
    EDITS[edit](u)
    try:
        for fd in fds:
            attempt(os.fstat, fd)
        use_everything(u)
    finally:
        for fd in fds:
            os.close(fd)
    assert isinstance(os.listdir(u.mnt), list)
    if "work" in edit:
        shutil.rmtree(u.work, ignore_errors=True)
        os.makedirs(u.work, exist_ok=True)


def touch_data(path, flags):
    """Read or write a little, without waiting for the other end of what may be a fifo by now."""
    fd = os.open(path, flags | os.O_NONBLOCK)
    try:
        os.read(fd, 10) if flags == os.O_RDONLY else os.write(fd, b"+")
    finally:
        os.close(fd)


def use_everything(u):
    up, low = u / "d/up", u / "d/low"
    for call in (lambda: u.ls("d"), lambda: touch_data(up, os.O_RDONLY),
                 lambda: touch_data(low, os.O_RDONLY), lambda: touch_data(low, os.O_WRONLY),
                 lambda: touch_data(up, os.O_WRONLY), lambda: u.write("d/new", ""),
                 lambda: os.mkdir(u / "d/n"), lambda: os.rename(low, u / "e/low"),
                 lambda: os.rename(up, u / "up"), lambda: os.unlink(up), lambda: os.unlink(u / "e/x"),
                 lambda: shutil.rmtree(u / "d"), lambda: os.mkdir(u / "d"),
                 lambda: os.listdir(u.mnt)):
        attempt(call)


def test_lower_file_shrinks_during_use(union):
    u = union({"f": "x" * 100_000}, guard=False)
    fd = os.open(u / "f", os.O_RDWR)
    os.truncate(u.low("f"), 10)
    attempt(os.pwrite, fd, b"y", 5)
    attempt(os.pread, fd, 100, 0)
    os.close(fd)
    assert is_alive(u)


# Descriptors

@pytest.fixture
def crowd(scratch):
    """A lower layer of 200,000 files in 1,000 directories."""
    root = scratch.make("tmpfs", 1 << 30)
    for i in range(1000):
        os.mkdir(f"{root}/d{i}")
        fd = os.open(f"{root}/d{i}", os.O_RDONLY)
        for j in range(200):
            os.mknod(f"f{j}", 0o100644, dir_fd=fd)
        os.close(fd)
    return root


def start_limited(u, soft, hard):
    """Mount with a daemon that may have few descriptors."""
    tag = f"few.{os.getpid()}"
    subprocess.run([VENEER, "-o", ",".join([*u.layers.option(), *contenders.EXTRA]), u.mnt], check=True,
                   stdin=subprocess.DEVNULL, timeout=20, env={**os.environ, TAG: tag},
                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)))
    u.mounted = contenders.Mount(u.mnt, tag)


@pytest.mark.veneer_only("the kernel has no descriptors to run out of")
def test_sixty_four_descriptors_and_many_files(union_factory, crowd):
    u = union_factory(crowd, guard=False)
    start_limited(u, 64, 64)
    seen = 0
    for i in range(1000):
        seen += sum(entry.is_file() for entry in os.scandir(u / f"d{i}"))
        os.stat(u / f"d{i}/f7")
    assert seen == 200_000
    for i in range(0, 1000, 50):
        u.append(f"d{i}/f0", "x")
    assert all(u.read(f"d{i}/f0") == b"x" for i in range(0, 1000, 50))
    (pid,) = u.mounted.daemons()
    assert len(os.listdir(f"/proc/{pid}/fd")) <= 64
    u.umount()


@pytest.mark.veneer_only("the kernel has no descriptors to run out of")
def test_sixty_four_descriptors_and_many_open_files(union_factory):
    """More files open at once than the daemon may have descriptors."""
    u = union_factory({f"d{i}": {f"f{j}": f"{i}.{j}" for j in range(20)} for i in range(20)})
    start_limited(u, 64, 64)
    fds = {(i, j): os.open(u / f"d{i}/f{j}", os.O_RDWR) for i in range(20) for j in range(20)}
    for (i, j), fd in fds.items():
        assert os.pread(fd, 9, 0) == f"{i}.{j}".encode()
    for (i, j), fd in fds.items():
        os.pwrite(fd, b"!", 0)
    for (i, j), fd in fds.items():
        assert os.pread(fd, 9, 0) == b"!" + f"{i}.{j}".encode()[1:]
        os.close(fd)


@pytest.mark.veneer_only("the kernel has no daemon to watch")
def test_descriptors_do_not_grow_with_use(union, crowd):
    u = union(crowd, guard=False)
    (pid,) = u.mounted.daemons()
    for i in range(300):
        os.listdir(u / f"d{i}")
        os.close(os.open(u / f"d{i}/f1", os.O_RDONLY))
    first = len(os.listdir(f"/proc/{pid}/fd"))
    for i in range(300, 1000):
        os.listdir(u / f"d{i}")
        os.close(os.open(u / f"d{i}/f1", os.O_RDONLY))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert len(os.listdir(f"/proc/{pid}/fd")) < max(first + 800, soft)
    u.umount()


def use_removed_directory(fd):
    """What still works in a directory that is gone, and what does not."""
    assert os.listdir(fd) == []
    with pytest.raises(FileNotFoundError):
        os.mkdir("new", dir_fd=fd)
    os.fchmod(fd, 0o2711)
    os.utime(fd, (1, 2))
    os.setxattr(fd, "user.k", b"v")
    os.fsync(fd)
    st = os.fstat(fd)
    assert (st.st_mode, st.st_mtime) == (0o042711, 2)
    assert os.getxattr(fd, "user.k") == b"v"
    return st


@pytest.mark.veneer_only("the kernel has no descriptors to run out of")
def test_sixty_four_descriptors_and_many_removed_directories(union_factory):
    """More removed directories in use than the daemon may have descriptors."""
    count, upper = 40, {}
    for i in range(count):
        upper[f"both{i}"] = {"f": whiteout()}
        upper[f"up{i}"] = {}
        upper[f"over{i}"] = {}
        upper[f"from{i}"] = {}
    lower = {f"{kind}{i}": {"f": ""} for i in range(count) for kind in ("both", "low")}
    u = union_factory(lower, upper=upper)
    start_limited(u, 64, 64)
    fds = {}
    for i in range(count):
        for kind in ("both", "up", "over", "low"):
            fds[kind, i] = os.open(u / f"{kind}{i}", os.O_RDONLY)
        os.unlink(u / f"low{i}/f")
        for kind in ("both", "up", "low"):
            os.rmdir(u / f"{kind}{i}")
        os.rename(u / f"from{i}", u / f"over{i}")
    assert all(use_removed_directory(fd).st_nlink == 0 for fd in fds.values())
    (pid,) = u.mounted.daemons()
    assert len(os.listdir(f"/proc/{pid}/fd")) <= 64
    assert u.ls() == sorted(f"over{i}" for i in range(count))
    inodes = {os.fstat(fd).st_ino for fd in fds.values()}
    assert len(inodes | {u.ino(f"over{i}") for i in range(count)}) == 5 * count
    for fd in fds.values():
        os.close(fd)
    u.umount()


@pytest.mark.parametrize("kind", ["both", "up", "over"])
def test_removed_directory_in_use(union, kind):
    u = union({"both": {"f": ""}, "over": {"f": ""}},
              upper={"both": {}, "up": {}, "over": {"f": whiteout()}, "from": {}})
    fd = os.open(u / kind, os.O_RDONLY)
    if kind == "both":
        os.unlink(u / "both/f")
    if kind == "over":
        os.rename(u / "from", u / "over")
    else:
        os.rmdir(u / kind)
    use_removed_directory(fd)
    os.close(fd)


def test_two_hundred_unlinked_open_files(union):
    u = union({f"f{i}": f"{i}" for i in range(200)})
    fds = []
    for i in range(200):
        fds.append(os.open(u / f"f{i}", os.O_RDWR))
        os.unlink(u / f"f{i}")
    for i, fd in enumerate(fds):
        assert os.pread(fd, 9, 0) == f"{i}".encode()
        os.close(fd)
    assert u.ls() == []


def test_hard_link_names_of_odd_files(union):
    u = union({"p": Node(), "q": Hard("p"), "l": Symlink(), "m": Hard("l")})
    for name in "pqlm":
        os.chown(u / name, 1, 1, follow_symlinks=False)
        os.unlink(u / name)
    assert u.ls() == []


def test_flags_on_a_layer_root(union_factory):
    """An upper that may not be changed: errors, not a dead mount."""
    u = union_factory({"f": "x"})
    u.mount()
    oscalls.change_flags(u.upper, add=oscalls.FS_IMMUTABLE)
    try:
        for call in (lambda: u.append("f", "y"), lambda: u.write("g", ""), lambda: os.unlink(u / "f")):
            with pytest.raises(PermissionError):
                call()
        assert u.read("f") == b"x"
    finally:
        oscalls.change_flags(u.upper, drop=oscalls.FS_IMMUTABLE)
    u.append("f", "y")
    assert u.read("f") == b"xy"


@pytest.mark.veneer_only("the kernel has no descriptors to run out of")
def test_sixty_four_descriptors_and_many_files_made_nameless(union_factory):
    """A descriptor is kept for a file without a name, not for one that was given one."""
    u = union_factory({})
    start_limited(u, 64, 64)
    for i in range(300):
        fd = oscalls.tmpfile(u.mnt)
        os.write(fd, b"x")
        oscalls.link_fd(fd, u / f"f{i}")
        os.close(fd)
    assert len(u.ls()) == 300
    os.unlink(u / "f7")
    fd = os.open(u / "f8", os.O_RDWR)
    os.unlink(u / "f8")
    assert (os.pread(fd, 2, 0), os.fstat(fd).st_nlink) == (b"x", 0)
    os.close(fd)


@pytest.mark.veneer_only("the kernel has no descriptors to run out of")
def test_sixty_four_descriptors_and_many_files_without_a_name(union_factory):
    u = union_factory({})
    start_limited(u, 64, 64)
    fds = [oscalls.tmpfile(u.mnt) for _i in range(150)]
    for i, fd in enumerate(fds):
        os.pwrite(fd, b"%d" % i, 0)
        os.fchmod(fd, 0o600)
    for i, fd in enumerate(fds):
        assert (os.pread(fd, 9, 0), os.fstat(fd).st_nlink) == (b"%d" % i, 0)
    oscalls.link_fd(fds[149], u / "f")
    assert (u.read("f"), os.stat(u / "f").st_nlink) == (b"149", 1)
    for fd in fds:
        os.close(fd)
