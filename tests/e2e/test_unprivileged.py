"""Mounting without being root: an ordinary user with fusermount3, and root of a user namespace."""

import os
import resource
import shutil
import stat
import subprocess

import pytest

import contenders
import oscalls
import trees
from contenders import TAG, VENEER, is_mounted, mounts_below
from trees import Dir, File, wait_until

USER = 1000


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")


def fuse_device(base, mode):
    """Another node of the fuse device, of this mode, over /dev/fuse in our mount namespace alone."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("no /dev/fuse")
    node = os.path.join(base, "fuse")
    os.mknod(node, stat.S_IFCHR, os.stat("/dev/fuse").st_rdev)
    os.chmod(node, mode)
    subprocess.run(["mount", "--bind", node, "/dev/fuse"], check=True)
    yield
    contenders.unmount("/dev/fuse")
    os.unlink(node)


@pytest.fixture
def fuse_for_all(base):
    """/dev/fuse as udev sets it up; where nothing did, it is for root alone."""
    yield from fuse_device(base, 0o666)


@pytest.fixture
def fuse_for_root(base):
    yield from fuse_device(base, 0o600)


LINKS = {"big": b"x" * (1 << 20), "a": "x", "b": trees.Hard("lower/d/a")}
WITH_LINKS = pytest.mark.parametrize("home", [LINKS], indirect=True, ids=["links"])


@pytest.fixture
def home(request, base, contender):
    """A directory of the ordinary user's, with layers in it; the parameter is more for lower/d."""
    trees.build(base, {"lower": {"f": "x", "d": {"g": "y", "h": "z", **getattr(request, "param", {})}},
                       "upper": {}, "work": {}, "mnt": {}})
    for directory, dirs, files in os.walk(base):
        for name in dirs + files:
            os.chown(os.path.join(directory, name), USER, USER, follow_symlinks=False)
    os.chown(base, USER, USER)
    before = trees.snapshot(os.path.join(base, "lower"))
    yield base
    assert trees.difference(before, trees.snapshot(os.path.join(base, "lower"))) == []
    assert mounts_below(base) == []


def options(home, *more):
    return ",".join([f"lowerdir={home}/lower", f"upperdir={home}/upper", f"workdir={home}/work", *more])


def as_ordinary(*command, tag="", **kwargs):
    return subprocess.run(["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups",
                           *command], capture_output=True, text=True, timeout=30, check=False,
                          stdin=subprocess.DEVNULL, env={**os.environ, TAG: tag}, **kwargs)


@pytest.fixture
def users_mount(home, fuse_for_all):
    """mount(*options) -> mount point, by the ordinary user through fusermount3."""
    need("fusermount3", "setpriv")
    tag, mnt = f"user.{os.getpid()}", f"{home}/mnt"

    def mount(*more):
        done = as_ordinary(VENEER, "-o", options(home, *contenders.EXTRA, *more), mnt, tag=tag)
        assert done.returncode == 0, done.stderr
        assert is_mounted(mnt)
        return mnt
    yield mount
    if is_mounted(mnt):
        done = as_ordinary("fusermount3", "-u", mnt)
        assert done.returncode == 0, done.stderr
    assert wait_until(lambda: not contenders.tagged_processes(tag), 5)


@pytest.mark.veneer_only("kernel overlayfs needs privileges to mount")
def test_user_mounts_through_fusermount(users_mount, home, as_user):
    mnt = users_mount()
    assert as_user(USER, lambda: trees.read(f"{mnt}/f")) == b"x"
    as_user(USER, lambda: trees.write(f"{mnt}/f", "new"))
    as_user(USER, lambda: os.unlink(f"{mnt}/d/g"))
    as_user(USER, lambda: trees.write(f"{mnt}/d/n", "n"))
    assert as_user(USER, lambda: sorted(os.listdir(f"{mnt}/d"))) == ["h", "n"]
    assert trees.read(f"{home}/upper/f") == b"new"
    assert os.stat(f"{home}/upper/d/n").st_uid == USER


@pytest.mark.veneer_only("kernel overlayfs needs privileges to mount")
def test_users_changes_survive_a_remount(users_mount, home, as_user):
    mnt = users_mount()
    as_user(USER, lambda: shutil.rmtree(f"{mnt}/d"))
    as_user(USER, lambda: os.mkdir(f"{mnt}/d"))
    assert as_ordinary("fusermount3", "-u", mnt).returncode == 0
    assert wait_until(lambda: not contenders.tagged_processes(f"user.{os.getpid()}"), 5)
    users_mount()
    assert as_user(USER, lambda: os.listdir(f"{mnt}/d")) == []
    assert os.getxattr(f"{home}/upper/d", "user.overlay.opaque") == b"y"


MOUNT_POINTS = {"mnt": {}, "single": {}, "merged": {}}
WITH_MOUNT_POINTS = pytest.mark.parametrize("home", [MOUNT_POINTS], indirect=True, ids=["mounts"])


@pytest.fixture
def mounted_inside(home):
    """Directories of the lower on which something is mounted."""
    points = [f"{home}/lower/d/{name}" for name in ("single", "merged")]
    for point in points:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", point], check=True)
        trees.build(point, {"above": "", "dir": {}})
    yield
    for point in points:
        oscalls.umount(point)


@WITH_MOUNT_POINTS
@pytest.mark.veneer_only("kernel overlayfs needs privileges to mount")
def test_mounts_inside_a_users_lower_are_empty(home, mounted_inside, users_mount, as_user):
    """Without a clone nobody can look behind them, but what is mounted does not belong to the layer."""
    as_user(USER, lambda: os.makedirs(f"{home}/upper/d/merged"))
    mnt = users_mount()

    def use():
        assert {"single", "merged"} <= set(os.listdir(f"{mnt}/d"))
        for name in ("single", "merged"):
            assert os.listdir(f"{mnt}/d/{name}") == []
            assert not os.path.exists(f"{mnt}/d/{name}/above")
            assert os.stat(f"{mnt}/d/{name}").st_nlink == 2
        trees.write(f"{mnt}/d/merged/above", "mine")
        assert os.listdir(f"{mnt}/d/merged") == ["above"]
        os.rmdir(f"{mnt}/d/single")
        assert "single" not in os.listdir(f"{mnt}/d")
    as_user(USER, use)
    assert trees.read(f"{home}/upper/d/merged/above") == b"mine"


@WITH_MOUNT_POINTS
@pytest.mark.veneer_only("kernel overlayfs needs privileges to mount")
def test_users_mount_inside_its_own_lower(home, fuse_for_all, as_user):
    """The union does not hold itself."""
    need("fusermount3", "setpriv")
    mnt, tag = f"{home}/lower/d/mnt", f"inside.{os.getpid()}"
    done = as_ordinary(VENEER, "-o", options(home, *contenders.EXTRA), mnt, tag=tag)
    assert done.returncode == 0, done.stderr
    try:
        found = as_user(USER, lambda: {os.path.relpath(at, mnt): (dirs, files)
                                       for at, dirs, files in os.walk(mnt)})
        assert found["d/mnt"] == ([], [])
        as_user(USER, lambda: os.chmod(f"{mnt}/d/mnt", 0o700))
        assert os.listdir(f"{home}/upper/d/mnt") == []
    finally:
        done = as_ordinary("fusermount3", "-u", mnt)
    assert done.returncode == 0, done.stderr
    assert wait_until(lambda: not contenders.tagged_processes(tag), 5)


@pytest.mark.veneer_only("kernel overlayfs needs privileges to mount")
def test_reading_leaves_a_users_lower_alone(users_mount, home, as_user):
    """Access times too, where the user owns what is read."""
    paths = [f"{home}/lower/f", f"{home}/lower/d"]
    for path in paths:
        os.utime(path, ns=(1, os.stat(path).st_mtime_ns))
    mnt = users_mount()
    as_user(USER, lambda: (trees.read(f"{mnt}/f"), os.listdir(f"{mnt}/d")))
    assert [os.stat(path).st_atime_ns for path in paths] == [1, 1]


@pytest.mark.veneer_only("kernel overlayfs needs privileges to mount")
def test_users_mount_is_private_to_the_user(users_mount, as_user):
    mnt = users_mount()
    with pytest.raises(PermissionError):
        as_user(USER + 1, lambda: os.listdir(mnt))


@pytest.mark.veneer_only("kernel overlayfs needs privileges to mount")
def test_users_mount_has_neither_suid_nor_devices(users_mount, home):
    mnt = users_mount()
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        line = next(line for line in file if line.split()[4] == mnt)
    assert {"nosuid", "nodev"} <= set(line.split()[5].split(","))


@pytest.mark.veneer_only("kernel overlayfs needs privileges to mount")
def test_user_cannot_use_unreadable_layers(home, fuse_for_all):
    need("fusermount3", "setpriv")
    os.chown(f"{home}/lower", 0, 0)
    os.chmod(f"{home}/lower", 0o700)
    done = as_ordinary(VENEER, "-o", options(home), f"{home}/mnt")
    os.chmod(f"{home}/lower", 0o755)
    os.chown(f"{home}/lower", USER, USER)
    assert done.returncode != 0
    assert f"{home}/lower" in done.stderr
    assert not is_mounted(f"{home}/mnt")


@pytest.mark.veneer_only("kernel overlayfs needs privileges to mount")
def test_user_without_access_to_the_device(home, fuse_for_root):
    need("fusermount3", "setpriv")
    done = as_ordinary(VENEER, "-o", options(home), f"{home}/mnt")
    assert done.returncode != 0
    assert "/dev/fuse" in done.stderr


@pytest.mark.veneer_only("kernel overlayfs needs privileges to mount")
def test_kernel_mounts_what_a_user_made(users_mount, home, as_user):
    """With userxattr, which is what the unprivileged mount uses by itself."""
    mnt = users_mount()
    as_user(USER, lambda: os.unlink(f"{mnt}/d/g"))
    as_user(USER, lambda: trees.write(f"{mnt}/d/n", "n"))
    as_user(USER, lambda: trees.write(f"{mnt}/f", "changed"))
    want = as_user(USER, lambda: trees.snapshot(mnt))
    assert as_ordinary("fusermount3", "-u", mnt).returncode == 0
    assert wait_until(lambda: not contenders.tagged_processes(f"user.{os.getpid()}"), 5)
    layers = contenders.Layers([f"{home}/lower"], f"{home}/upper", f"{home}/work")
    mounted = contenders.CONTENDERS["kernel"].mount(layers, mnt, ["userxattr"])
    try:
        assert trees.difference(want, trees.snapshot(mnt)) == []
    finally:
        assert mounted.unmount() == []


# Root of a user namespace: both contenders mount there

def in_namespace(contender, home, script, extra=()):
    """Run a shell script in a new user and mount namespace with the union at $mnt."""
    if contender.name == "veneer":
        mount = f"{VENEER} -o {options(home, *contenders.EXTRA, *extra)} $mnt"
    else:
        mount = f"mount -t overlay overlay -o {options(home, 'userxattr', *extra)} $mnt"
    command = f"set -e; mnt={home}/mnt; {mount}; cd $mnt; {script}; cd /; umount $mnt"
    tag = f"ns.{os.getpid()}"
    done = subprocess.run(["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups",
                           "unshare", "-Urm", "sh", "-c", command], capture_output=True, text=True,
                          timeout=30, check=False, stdin=subprocess.DEVNULL,
                          env={**os.environ, TAG: tag})
    assert wait_until(lambda: not contenders.tagged_processes(tag), 5)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture
def user_namespaces(fuse_for_all):
    need("unshare", "setpriv")
    probe = as_ordinary("unshare", "-Urm", "true")
    if probe.returncode:
        pytest.skip("user namespaces are not allowed here: " + probe.stderr.strip())


def test_root_of_a_namespace_mounts(contender, home, user_namespaces):
    assert in_namespace(contender, home, "cat f d/g; echo; ls") == ["xy", "d", "f"]


def test_root_of_a_namespace_changes(contender, home, user_namespaces):
    out = in_namespace(contender, home, "echo new >f; rm d/g; mkdir e; chmod 600 d/h; ls . d")
    assert out == [".:", "d", "e", "f", "d:", "h"]
    assert trees.read(f"{home}/upper/f") == b"new\n"
    assert trees.is_whiteout(f"{home}/upper/d/g")
    assert os.stat(f"{home}/upper/d/h").st_mode & 0o777 == 0o600
    assert os.stat(f"{home}/upper/e").st_uid == USER


def test_root_of_a_namespace_uses_user_xattrs(contender, home, user_namespaces):
    in_namespace(contender, home, "rm -r d; mkdir d")
    assert os.getxattr(f"{home}/upper/d", "user.overlay.opaque") == b"y"
    assert not [name for name in os.listxattr(f"{home}/upper/d") if name.startswith("trusted")]


def test_root_of_a_namespace_sees_the_same_after_remount(contender, home, user_namespaces):
    in_namespace(contender, home, "rm -r d; mkdir d; touch d/n; mv f g")
    assert in_namespace(contender, home, "ls . d") == [".:", "d", "g", "d:", "n"]


def test_trees_of_a_namespace_are_interchangeable(contender, home, user_namespaces):
    missing = contenders.other(contender).missing()
    if missing:
        pytest.skip(missing)
    like_kernel = ["compat=kernel"] if contender.name == "veneer" else []
    in_namespace(contender, home, "rm -r d; mkdir d; touch d/n; mv f g; ln g h; mkfifo p",
                 extra=like_kernel)
    show = "find . -printf '%p:%y:%m:%s:%n:%T@\\n' | grep -v ^.:d | sort"
    mine = in_namespace(contender, home, show)
    theirs = in_namespace(contenders.other(contender), home, show)
    files = lambda lines: [line for line in lines if ":d:" not in line]
    assert files(mine) == files(theirs)
    assert [line.split(":")[0] for line in mine] == [line.split(":")[0] for line in theirs]


@pytest.mark.deviation("D-11")
def test_directory_rename_in_a_namespace(contender, home, user_namespaces):
    """The kernel cannot rename a lower directory there; veneer can where asked to."""
    veneer = contender.name == "veneer"
    out = in_namespace(contender, home, "mv d e; ls . e", extra=["redirect_dir=on"] if veneer else [])
    assert out == [".:", "e", "f", "e:", "g", "h"]
    copied = os.path.lexists(f"{home}/upper/e/g")
    assert copied == (not veneer)


def test_mode_of_layers_is_respected_in_a_namespace(contender, home, user_namespaces):
    """A file the user could not read before stays unreadable."""
    mtime = os.stat(f"{home}/lower").st_mtime_ns
    trees.build(f"{home}/lower", {"secret": File(data="s", mode=0o600, owner=(0, 0)),
                                  "closed": Dir(mode=0o700, owner=(0, 0))})
    out = in_namespace(contender, home, "cat secret || echo refused; ls closed || echo refused")
    os.unlink(f"{home}/lower/secret")
    os.rmdir(f"{home}/lower/closed")
    os.utime(f"{home}/lower", ns=(mtime, mtime))
    assert out == ["refused", "refused"]


# All features without privileges

READ_ONLY = {"ro": File(data="r" * 5000, mode=0o444), "a": File(data="l", mode=0o444), "b": trees.Hard("lower/d/a")}


@pytest.mark.parametrize("home", [READ_ONLY], indirect=True, ids=["read-only"])
@pytest.mark.veneer_only("kernel overlayfs needs privileges to mount")
def test_user_changes_what_is_read_only(users_mount, home, as_user):
    """What the layers have to say of a file the owner may not write is written all the same."""
    mnt = users_mount()

    def change():
        os.utime(f"{mnt}/d/a", (1, 1))
        os.rename(f"{mnt}/d/b", f"{mnt}/c")
        os.rename(f"{mnt}/d/ro", f"{mnt}/moved")
        os.chmod(f"{mnt}/d", 0o555)
        os.rename(f"{mnt}/d", f"{mnt}/e")

    def look():
        return [(name, stat.S_IMODE(os.stat(f"{mnt}/{name}").st_mode), os.stat(f"{mnt}/{name}").st_nlink,
                 len(trees.read(f"{mnt}/{name}"))) for name in ("moved", "c", "e/a")] + [sorted(os.listdir(f"{mnt}/e"))]
    as_user(USER, change)
    for _ in range(2):
        assert as_user(USER, look) == [("moved", 0o444, 1, 5000), ("c", 0o444, 2, 1), ("e/a", 0o444, 2, 1),
                                       ["a", "g", "h"]]
        assert as_ordinary("fusermount3", "-u", mnt).returncode == 0
        assert wait_until(lambda: not contenders.tagged_processes(f"user.{os.getpid()}"), 5)
        users_mount()
    assert os.stat(f"{home}/upper/moved").st_blocks < 10


@WITH_LINKS
@pytest.mark.veneer_only("the kernel has them for root alone")
def test_user_has_renames_links_and_metacopy(users_mount, home, as_user):
    mnt = users_mount()

    def change():
        os.rename(f"{mnt}/d", f"{mnt}/less")
        os.chmod(f"{mnt}/less/big", 0o600)
        trees.write(f"{mnt}/less/a", "y", "ab")
    as_user(USER, change)
    assert os.stat(f"{home}/upper/less/big").st_blocks < 64
    for _ in range(2):
        seen = as_user(USER, lambda: (sorted(os.listdir(f"{mnt}/less")), trees.read(f"{mnt}/less/b"),
                                      os.stat(f"{mnt}/less/b").st_nlink,
                                      os.stat(f"{mnt}/less/big").st_mode & 0o777,
                                      len(trees.read(f"{mnt}/less/big"))))
        assert seen == (["a", "b", "big", "g", "h"], b"xy", 2, 0o600, 1 << 20)
        assert as_ordinary("fusermount3", "-u", mnt).returncode == 0
        assert wait_until(lambda: not contenders.tagged_processes(f"user.{os.getpid()}"), 5)
        users_mount()


@pytest.mark.veneer_only("the kernel has them for root alone")
def test_namespace_has_renames_and_links(contender, home, user_namespaces):
    in_namespace(contender, home, "ln f link; mv d e; chmod 600 e/g")
    out = in_namespace(contender, home, "cat e/g link; echo; stat -c %h f; mv e d; echo more >>link; cat f")
    assert out == ["yx", "2", "xmore"]
    out = in_namespace(contender, home, "ls . d; cat link")
    assert out == [".:", "d", "f", "link", "d:", "g", "h", "xmore"]


SPECIAL = {"s": trees.Symlink(target="nowhere"), "p": trees.Node(type=stat.S_IFIFO),
           "k": trees.Node(type=stat.S_IFSOCK)}


@pytest.mark.veneer_only("in a namespace the kernel follows no origins")
@pytest.mark.parametrize("home", [SPECIAL], indirect=True, ids=["special"])
def test_numbers_stay_in_a_namespace(contender, home, user_namespaces):
    """Also of what takes no user.* attribute."""
    show = "stat -c %n=%i"
    before = in_namespace(contender, home, f"cd d; {show} s p k g; touch -h -d @1 s p k g; mkdir ../e; mv s p k g ../e;"
                                           f" cd ../e; {show} s p k g")
    assert before[:4] == before[4:]
    assert len(os.listdir(f"{home}/work/origin")) == 3
    assert in_namespace(contender, home, f"cd e; {show} s p k g; mv s t; rm p k; mv t s") == before[:4]
    assert len(os.listdir(f"{home}/work/origin")) == 1
    assert in_namespace(contender, home, f"cd e; {show} s; rm s") == before[:1]
    assert os.listdir(f"{home}/work/origin") == []


@pytest.mark.veneer_only("the kernel has no descriptors to run out of")
def test_user_changes_more_files_than_there_are_descriptors(home, fuse_for_all, as_user):
    """Without privileges descriptors of open files are kept; of files nobody has open none are."""
    need("fusermount3", "setpriv")
    tag, mnt = f"user.{os.getpid()}", f"{home}/mnt"
    trees.build(f"{home}/more", {f"n{i}": File(data="x", owner=(USER, USER)) for i in range(300)})
    limit = resource.RLIMIT_NOFILE, (100, 100)
    done = as_ordinary(VENEER, "-o", options(home).replace("/lower,", f"/lower:{home}/more,"), mnt, tag=tag,
                       preexec_fn=lambda: resource.setrlimit(*limit))
    assert done.returncode == 0, done.stderr

    def change():
        for i in range(300):
            os.chmod(f"{mnt}/n{i}", 0o600)
            os.truncate(f"{mnt}/n{i}", i)
        return os.stat(f"{mnt}/n299").st_size
    try:
        assert as_user(USER, change) == 299
    finally:
        assert as_ordinary("fusermount3", "-u", mnt).returncode == 0
