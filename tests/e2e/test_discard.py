"""`veneer discard`: a layer forgets, on a live mount at once for everybody, at rest, and with paths that are kept."""

import errno
import json
import mmap
import os
import random
import shutil
import subprocess
import sys
import threading
import time

import pytest

import commands
import oscalls
import trees
from contenders import VENEER
from test_status import connect, runtime  # noqa: F401
from test_unprivileged import USER, as_ordinary, fuse_for_all, home, users_mount  # noqa: F401

pytestmark = [pytest.mark.veneer_only("kernel overlayfs has no commands"),
              pytest.mark.usefixtures("contender", "runtime")]

FAULTY = os.path.abspath(os.environ.get("VENEER_FAULTS", VENEER + "-faults"))
WAYS = [["data=served"], ["data=passthrough"], ["data=served", "io_uring=off"], ["data=served", "metacopy=on"],
        ["data=served", "index=on"]]
LOWER = {"d": {"f": "lower f", "g": "lower g", "sub": {"x": "lower x"}}, "gone": {"y": "lower y"}, "old": {"z": "lower z"},
         "file": "lower file"}


def discard(u, *args, **kwargs):
    done = commands.run("discard", *args, u.mnt, **kwargs)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tree_of(top):
    """Names, types, modes, contents and numbers."""
    found = {}
    for path, dirs, files in os.walk(top):
        for name in dirs + files:
            at = os.path.join(path, name)
            st = os.lstat(at)
            text = open(at, "rb").read() if os.path.isfile(at) and not os.path.islink(at) else None
            found[os.path.relpath(at, top)] = (st.st_mode, st.st_ino, st.st_nlink, st.st_size if text is not None else 0,
                                               text, sorted(os.listxattr(at, follow_symlinks=False)))
    return found


def change(u):
    """Every kind of change."""
    u.append("d/f", "+")
    os.unlink(u / "d/g")
    os.mkdir(u / "d/new")
    u.write("d/new/n", "new")
    trees.remove(u / "gone")
    os.rename(u / "old", u / "renamed")
    os.unlink(u / "file")
    os.mkdir(u / "file")
    os.symlink("x", u / "link")
    os.link(u / "d/new/n", u / "hard")
    os.mkdir(u / "made")
    os.mkdir(u / "made/deep")
    os.chmod(u / "d/sub/x", 0o600)
    os.setxattr(u / "d", "user.x", b"y")
    os.chmod(u.mnt, 0o711)


@pytest.mark.parametrize("opts", WAYS, ids=lambda opts: ",".join(opts))
def test_all_is_forgotten(union, opts):
    u = union(LOWER, opts=opts)
    before = tree_of(u.mnt)
    change(u)
    assert tree_of(u.mnt) != before
    out = discard(u)
    assert out.startswith("discarded ")
    assert tree_of(u.mnt) == before
    assert os.listdir(u.upper) == []
    assert os.stat(u.mnt).st_mode == os.stat(u.lowers[0]).st_mode
    # and the union goes on as ever
    change(u)
    discard(u)
    assert tree_of(u.mnt) == before


OTHER = """
import os, sys
names = sys.argv[1:]
def look():
    seen = []
    for name in names:
        try:
            seen.append(open(name).read() if os.path.isfile(name) else sorted(os.listdir(name)))
        except OSError as error:
            seen.append(error.errno)
    print(seen, flush=True)
look()
for line in sys.stdin:
    look()
"""


def test_at_once_for_everybody(union):
    """Another process, whose names and pages are in the kernel's caches."""
    u = union(LOWER, opts=["data=served"])
    change(u)
    names = [u / name for name in ("d/f", "d/g", "d/new/n", "gone/y", "old/z", "renamed/z", "file", "d", "")]
    other = subprocess.Popen([sys.executable, "-c", OTHER, *names], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        first = other.stdout.readline()
        assert "lower f+" in first and str(errno.ENOENT) in first
        discard(u)
        other.stdin.write("\n")
        other.stdin.flush()
        second = eval(other.stdout.readline())  # noqa: S307: a list that this test's own process printed
    finally:
        other.stdin.close()
        other.wait()
    assert second == ["lower f", "lower g", errno.ENOENT, "lower y", "lower z", errno.ENOENT, "lower file",
                      ["f", "g", "sub"], ["d", "file", "gone", "old"]]


@pytest.mark.parametrize("opts", WAYS, ids=lambda opts: ",".join(opts))
def test_open_descriptors_stay_usable(union, opts):
    u = union(LOWER, opts=opts)
    change(u)
    made = os.open(u / "d/new/n", os.O_RDWR)
    copied = os.open(u / "d/f", os.O_RDWR)
    low = os.open(u / "d/sub/x", os.O_RDONLY)
    directory = os.open(u / "made", os.O_RDONLY | os.O_DIRECTORY)
    os.fchdir(directory)
    try:
        with mmap.mmap(made, 3) as mapped:
            discard(u)
            assert os.pread(made, 10, 0) == b"new"
            os.pwrite(made, b"NEW and more", 0)
            assert os.pread(made, 20, 0) == b"NEW and more"
            assert mapped[:] == b"NEW"
            mapped[0:1] = b"x"
            mapped.flush()
        assert os.pread(made, 3, 0) == b"xEW"
        assert os.fstat(made).st_size == 12
        os.pread(copied, 20, 0)
        os.pwrite(copied, b"!", 0)
        assert os.pread(copied, 1, 0) == b"!"
        assert os.pread(low, 20, 0) == b"lower x"
        assert os.fstat(directory).st_mode & 0o40000
        with pytest.raises(OSError):
            open("here", "w", encoding="ascii").close()
        assert not os.path.exists(u / "d/new")
    finally:
        os.chdir("/")
        for fd in (made, copied, low, directory):
            os.close(fd)
    assert sorted(os.listdir(u.mnt)) == ["d", "file", "gone", "old"]


def test_a_file_that_was_copied_up_is_the_same(union):
    """Who has it open goes on with the lower's, and a write through it is a change again."""
    u = union(LOWER, opts=["data=served"])
    before = os.stat(u / "d/f").st_ino
    with open(u / "d/f", "r+b", buffering=0) as file:
        file.write(b"UPPER f")
        discard(u)
        assert os.fstat(file.fileno()).st_ino == before
        assert os.pread(file.fileno(), 20, 0) == b"lower f"
        os.pwrite(file.fileno(), b"L", 0)
    assert u.read("d/f") == b"Lower f"
    assert os.stat(u / "d/f").st_ino == before


@pytest.mark.deviation("D-38")
def test_who_appends_goes_on_at_the_end(union):
    """However long the file was before."""
    u = union(LOWER, opts=["data=served"])
    with open(u / "d/f", "ab", buffering=0) as file:
        file.write(b"+" * 5000)
        discard(u)
        file.write(b"a")
        file.write(b"b")
        assert u.read("d/f") == b"lower fab"
        file.write(b"c")
    assert u.read("d/f") == b"lower fabc"


def test_kept_paths(union):
    u = union(LOWER, opts=["data=served"])
    change(u)
    ino = os.stat(u / "d/new/n").st_ino
    out = discard(u, "--keep", "/d/new", "--keep", u / "link", "--keep", "not/there")
    assert "discarded" in out
    assert u.read("d/new/n") == b"new" and os.stat(u / "d/new/n").st_ino == ino
    assert os.readlink(u / "link") == "x"
    assert (u.read("d/f"), u.read("d/g"), u.read("file")) == (b"lower f", b"lower g", b"lower file")
    assert sorted(os.listdir(u.upper)) == ["d", "link"]
    assert sorted(os.listdir(u / "d")) == ["f", "g", "new", "sub"]


def test_kept_below_what_hid_the_lower(union):
    """The directory above becomes a plain merged one; what is kept in it stays as it was."""
    u = union({"d": {"sub": {"x": "lower"}, "f": "lower"}}, opts=["data=served"])
    trees.remove(u / "d")
    os.makedirs(u / "d/sub")
    u.write("d/sub/new", "new")
    discard(u, "--keep=d/sub")
    assert os.listdir(u / "d/sub") == ["new"]
    assert sorted(os.listdir(u / "d")) == ["f", "sub"]
    u.remount()
    assert os.listdir(u / "d/sub") == ["new"]


@pytest.mark.skipif(not os.path.exists(FAULTY), reason="no veneer-faults")
def test_a_kept_layer_half_committed_is_not_removed(union, tmp_path):
    u = union({"ld": {"f": "lower"}}, opts=["data=served", "redirect_dir=on"], guard=False)
    os.rename(u / "ld", u / "ren")
    u.umount()
    subprocess.run([FAULTY, "commit", *commands.layers_of(u)], check=False, capture_output=True, stdin=subprocess.DEVNULL,
                   env={**os.environ, "VENEER_FAULT": "12:kill"}, timeout=60)
    kept = tmp_path / "kept"
    kept.mkdir()
    subprocess.run(["cp", "-a", u.upper, kept / "upper"], check=True)
    subprocess.run(["cp", "-a", u.work, kept / "work"], check=True)
    (kept / "layer.json").write_text(json.dumps({
        "schema": "veneer-layer", "version": 1, "created": {"s": 1, "ns": 0}, "cross_mounts": False, "userxattr": False,
        "lowers": [{"path": u.lowers[0], "data_only": False}], "command": []}))
    done = commands.run("discard", "-y", "--remove", kept)
    assert done.returncode == 1 and "run veneer commit again" in done.stderr
    shutil.rmtree(kept / "work/work/incompat")
    assert commands.run("discard", "-y", "--remove", kept).returncode == 0
    assert not kept.exists()


def test_what_cannot_be_kept_alone(union):
    u = union({"old": {"sub": {"x": "lower"}}, "f": "f"}, opts=["data=served", "redirect_dir=on"])
    os.rename(u / "old", u / "new")
    u.write("new/sub/y", "y")
    u.append("f", "+")
    done = commands.run("discard", "--keep", "new/sub", u.mnt)
    assert done.returncode == 1 and "renamed" in done.stderr
    assert u.read("f") == b"f+" and sorted(os.listdir(u / "new/sub")) == ["x", "y"]
    discard(u, "--keep", "new")
    assert u.read("f") == b"f" and sorted(os.listdir(u / "new/sub")) == ["x", "y"]


RENAMING = ["data=served", "redirect_dir=on", "metacopy=on"]
RENAMED = {
    # what is done, what is kept, what of the lower is gone then, what is at the places that were kept
    "into what is new": (lambda u: (os.mkdir(u / "new"), os.rename(u / "ld", u / "new/ld")), "new/ld", ["ld"],
                         {"new/ld/f": b"f"}),
    "all that is new": (lambda u: (os.mkdir(u / "new"), os.rename(u / "ld", u / "new/ld")), "new", ["ld"],
                        {"new/ld/f": b"f"}),
    "deeper": (lambda u: (os.makedirs(u / "new/a/b"), os.rename(u / "ld", u / "new/a/b/ld"), u.write("new/n", "")),
               "new/a", ["ld"], {"new/a/b/ld/f": b"f"}),
    "deepest": (lambda u: (os.makedirs(u / "new/a/b"), os.rename(u / "ld", u / "new/a/b/ld"), u.write("new/n", "")),
                "new/a/b/ld", ["ld"], {"new/a/b/ld/f": b"f", "new/a/b/ld/sub/x": b"x"}),
    "in place": (lambda u: os.rename(u / "ld", u / "ren"), "ren", ["ld"], {"ren/sub/x": b"x"}),
    "in a place below": (lambda u: os.rename(u / "nd/old", u / "nd/now"), "nd/now", ["nd/old"], {"nd/now/y": b"y"}),
    "out of what was renamed": (lambda u: (os.rename(u / "ld", u / "ren"), os.rename(u / "ren/sub", u / "ren/was")),
                                "ren", ["ld", "ren/sub"], {"ren/was/x": b"x", "ren/f": b"f"}),
    "out of it, and both kept": (lambda u: (os.rename(u / "ld", u / "ren"), os.rename(u / "ren/sub", u / "out")),
                                 "out ren", ["ld", "ren/sub"], {"out/x": b"x", "ren/f": b"f"}),
    "a file without data": (lambda u: os.rename(u / "file", u / "nd/file"), "nd", ["file"], {"nd/file": b"file"}),
    "that file alone": (lambda u: os.rename(u / "file", u / "nd/file"), "nd/file", ["file"], {"nd/file": b"file"}),
    "there and back": (lambda u: (os.rename(u / "ld", u / "x"), os.rename(u / "x", u / "ld"),
                                  os.rename(u / "ld/sub", u / "out")), "out", ["ld/sub"], {"out/x": b"x", "ld/f": b"f"}),
}


@pytest.mark.parametrize("live", [True, False], ids=["live", "rest"])
@pytest.mark.parametrize("case", RENAMED)
def test_what_was_renamed_is_kept(union, case, live):
    """With all that belongs to it, and nowhere else; the layer can be committed."""
    do, keep, gone, there = RENAMED[case]
    u = union({"ld": {"f": "f", "sub": {"x": "x"}}, "nd": {"old": {"y": "y"}}, "file": "file", "other": "other"},
              opts=RENAMING, guard=False)
    do(u)
    u.write("other", "changed")
    u.write("more", "more")
    words = [word for path in keep.split() for word in ("--keep", path)]

    def check(top):
        for path, data in there.items():
            assert trees.read(os.path.join(top, path)) == data
        assert not [path for path in gone if os.path.lexists(os.path.join(top, path))]
        assert trees.read(os.path.join(top, "other")) == b"other" and not os.path.exists(os.path.join(top, "more"))

    if live:
        discard(u, *words)
        check(u.mnt)
    u.umount()
    if not live:
        done = commands.run("discard", *words, *commands.layers_of(u))
        assert done.returncode == 0, done.stderr
    u.mount()
    check(u.mnt)
    want = tree_names(u.mnt)
    u.umount()
    done = commands.run("commit", *commands.layers_of(u))
    assert done.returncode == 0, done.stderr
    check(u.lowers[0])
    assert tree_names(u.lowers[0]) == want


def tree_names(top):
    return sorted(os.path.relpath(os.path.join(path, name), top)
                  for path, dirs, files in os.walk(top) for name in dirs + files)


@pytest.mark.parametrize("then", [lambda u: os.mkdir(u / "ld"), lambda u: u.write("ld", "a file"),
                                  lambda u: os.rename(u / "nd", u / "ld")], ids=["directory", "file", "renamed"])
def test_what_took_its_place_must_be_kept_as_well(union, then):
    u = union({"ld": {"f": "f"}, "nd": {}}, opts=RENAMING)
    os.rename(u / "ld", u / "ren")
    then(u)
    before = tree_of(u.mnt)
    done = commands.run("discard", "--keep", "ren", u.mnt)
    assert done.returncode == 1 and "keep that as well" in done.stderr
    assert tree_of(u.mnt) == before
    discard(u, "--keep", "ren", "--keep", "ld")
    assert tree_of(u.mnt) == before


def test_one_of_two_names_is_kept(union):
    """The other one is the lower's again."""
    u = union({"f": "data"}, opts=[*RENAMING, "index=off"])
    os.chmod(u / "f", 0o600)
    os.link(u / "f", u / "g")
    discard(u, "--keep", "g")
    assert u.read("f") == u.read("g") == b"data"
    assert os.stat(u / "f").st_mode & 0o777 == 0o644 and os.stat(u / "g").st_mode & 0o777 == 0o600


def test_a_list_of_paths(union, tmp_path):
    u = union(LOWER, opts=["data=served"])
    for i in range(300):
        u.write(f"n{i}", str(i))
    keep = tmp_path / "keep"
    keep.write_text("".join(f"/n{i}\n" for i in range(0, 300, 2)))
    discard(u, "--keep-from", keep)
    assert sorted(os.listdir(u.upper)) == sorted(f"n{i}" for i in range(0, 300, 2))


def test_dry_run_changes_nothing(union):
    u = union(LOWER, opts=["data=served"])
    change(u)
    before = tree_of(u.mnt)
    assert discard(u, "--dry-run").startswith("would discard ")
    assert tree_of(u.mnt) == before


def test_at_rest(union):
    u = union(LOWER)
    before = tree_of(u.mnt)
    change(u)
    u.umount()
    done = commands.run("discard", *commands.layers_of(u))
    assert done.returncode == 0, done.stderr
    assert os.listdir(u.upper) == [] and os.listdir(os.path.join(u.work, "work")) == []
    u.mount()
    assert tree_of(u.mnt) == before


def test_at_rest_what_is_live_is_refused(union):
    u = union(LOWER)
    change(u)
    done = commands.run("discard", *commands.layers_of(u))
    assert done.returncode == 1 and "in use" in done.stderr
    assert os.listdir(u.upper)


def test_what_is_left_is_finished_by_the_next_mount(union):
    """The daemon dies before it has deleted what it moved away."""
    u = union(LOWER, opts=["data=served"])
    for i in range(2000):
        u.write(f"f{i}", "x")
    discard(u)
    (pid,) = u.mounted.daemons()
    os.kill(pid, 9)
    oscalls.umount(u.mnt, oscalls.MNT_DETACH)
    assert trees.wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    u.mount()
    assert os.listdir(u.upper) == []
    assert len(os.listdir(os.path.join(u.work, "work"))) <= 1


def start_faulty(u, fault):
    """The union, mounted by a daemon that dies at its so many-th change."""
    options = f"data=served,index=on,lowerdir={u.lowers[0]},upperdir={u.upper},workdir={u.work}"
    subprocess.run([FAULTY, "-o", options, u.mnt], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, timeout=30, env={**os.environ, "VENEER_FAULT": fault})


@pytest.mark.skipif(not os.path.exists(FAULTY), reason="no veneer-faults")
@pytest.mark.parametrize("what", ["kill", "killafter", "ENOSPC"])
def test_at_any_point(union_factory, what):
    """Each name is discarded or not; doing it again does the rest."""
    u = union_factory(LOWER, opts=["data=served", "index=on"], guard=False)
    u.mount()
    before = tree_of(u.mnt)
    for number in range(1, 100):
        change(u)
        u.write("kept", "kept")
        u.umount()
        start_faulty(u, f"{number}:{what}")
        done = commands.run("discard", "-y", "--keep", "kept", u.mnt)
        oscalls.umount(u.mnt, oscalls.MNT_DETACH)
        mount_again(u)
        assert u.read("kept") == b"kept"
        for name in ("d/f", "file"):
            assert not os.path.isfile(u / name) or u.read(name).startswith(b"lower")
        discard(u)
        assert tree_of(u.mnt) == before
        if done.returncode == 0:
            break
    else:
        pytest.fail("there is no end of changes")
    assert number > 5


def mount_again(u):
    """As soon as the daemon that died, or ended, has let go of the layers."""
    for _ in range(100):
        try:
            u.mount()
            return
        except Exception:  # pylint: disable=broad-except
            time.sleep(0.05)
    u.mount()


def test_read_only(union):
    u = union(LOWER, opts=["ro"])
    done = commands.run("discard", u.mnt)
    assert done.returncode == 1 and "nothing" in done.stderr


def test_usage(union):
    assert commands.run("discard").returncode == 2
    assert commands.run("discard", "--nonsense", "/").returncode == 2
    assert commands.run("discard", "a", "b").returncode == 2
    assert commands.run("discard", "--remove", "--keep", "x", "a").returncode == 2
    u = union(LOWER)
    for path in ("..", "/", "a/../b"):
        done = commands.run("discard", "--keep", path, u.mnt)
        assert done.returncode == 1 and "--keep" in done.stderr
    done = commands.run("discard", "--remove", u.mnt)
    assert done.returncode == 1 and "--remove" in done.stderr


def test_names_of_any_bytes(union):
    u = union({"f": "x"}, opts=["data=served"])
    name = b"a %\n\x01\xff\xc3"
    with open(os.path.join(os.fsencode(u.mnt), name), "wb") as file:
        file.write(b"kept")
    u.write("other", "x")
    done = subprocess.run([VENEER, "discard", b"--keep", b"/" + name, u.mnt], capture_output=True, check=False,
                          stdin=subprocess.DEVNULL, timeout=30)
    assert done.returncode == 0, done.stderr
    assert os.listdir(os.fsencode(u.upper)) == [name]


def test_ordinary_user(users_mount, home, as_user, base, monkeypatch):
    """Without rights of root, on a mount of fusermount3."""
    runtime_dir = os.path.join(base, "user-runtime")
    os.mkdir(runtime_dir, 0o700)
    os.chown(runtime_dir, USER, USER)
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime_dir)
    mnt = users_mount()

    def work():
        trees.write(f"{mnt}/f", "new")
        os.unlink(f"{mnt}/d/g")
        os.mkdir(f"{mnt}/d/dir", 0o555)
        os.mkdir(f"{mnt}/closed")
        trees.write(f"{mnt}/closed/x", "x")
        os.chmod(f"{mnt}/closed", 0)

    as_user(USER, work)
    done = as_ordinary(VENEER, "discard", "--keep", "d/dir", mnt)
    assert done.returncode == 0, done.stderr
    assert as_user(USER, lambda: sorted(os.listdir(f"{mnt}/d"))) == ["dir", "g", "h"]
    done = as_ordinary(VENEER, "discard", mnt)
    assert done.returncode == 0, done.stderr
    assert as_user(USER, lambda: (sorted(os.listdir(mnt)), trees.read(f"{mnt}/f"))) == (["d", "f"], b"x")
    assert os.listdir(f"{home}/upper") == []
    # others, even root, may not
    assert commands.run("discard", "-y", mnt).returncode == 1


# Standing still

def hold(u):
    client = connect(u, 20)
    client.sendall(b"suspend\n")
    return client, client.recv(4096)


def test_a_held_mount_waits(union_factory):
    u = union_factory(LOWER, opts=["data=served"], guard=False).mount()
    u.append("d/f", "+")
    client, answer = hold(u)
    assert answer == b"ok\n"
    seen = []
    thread = threading.Thread(target=lambda: seen.append(open(u / "d/f", encoding="ascii").read()))
    thread.start()
    looks = subprocess.Popen(["stat", u / "d/none"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.3)
    assert not seen and looks.poll() is None
    looks.terminate()
    looks.wait(5)
    # what a commit does
    shutil.move(os.path.join(u.upper, "d/f"), u.low("d/f"))
    client.sendall(b"resume\n")
    assert client.recv(4096) == b"ok\n"
    thread.join(10)
    assert seen == ["lower f+"]
    assert u.read("d/f") == b"lower f+"
    client.close()


def test_who_dies_holds_no_longer(union):
    u = union(LOWER, opts=["data=served"])
    client, answer = hold(u)
    assert answer == b"ok\n"
    client.close()
    assert u.read("d/f") == b"lower f"
    u.append("d/f", "+")


def test_many_wait_and_can_be_killed(union):
    """More than there are threads."""
    u = union({str(i): "x" for i in range(150)}, opts=["data=served"])
    client, answer = hold(u)
    assert answer == b"ok\n"
    waiting = [subprocess.Popen(["cat", u / str(i)], stdout=subprocess.PIPE) for i in range(150)]
    time.sleep(1)
    for process in waiting[::2]:
        process.terminate()
    deadline = time.monotonic() + 10
    for process in waiting[::2]:
        process.wait(max(0.1, deadline - time.monotonic()))
    client.close()
    for process in waiting[1::2]:
        assert process.communicate(timeout=20)[0] == b"x"
    for process in waiting[::2]:
        process.stdout.close()


def test_one_at_a_time(union):
    u = union(LOWER, opts=["data=served"])
    client, answer = hold(u)
    second, refused = hold(u)
    assert (answer, refused[:4]) == (b"ok\n", b"no: ")
    second.close()
    with connect(u) as third:
        third.sendall(b"discard\n")
        assert third.recv(4096).startswith(b"no: another command")
    client.close()
    assert u.read("d/f") == b"lower f"
    discard(u)


def test_files_that_are_written_past_us(union):
    u = union(LOWER, opts=["data=passthrough"])
    with open(u / "d/new", "w", encoding="ascii") as file:
        client, answer = hold(u)
        assert answer.startswith(b"no: 1 file is open for writing")
        client.close()
        assert u.read("d/f") == b"lower f"
        file.write("x")
    client, answer = hold(u)
    assert answer == b"ok\n"
    client.close()


def test_unmounting_ends_a_hold(union):
    u = union(LOWER, opts=["data=served"])
    client, answer = hold(u)
    assert answer == b"ok\n"
    (pid,) = u.mounted.daemons()
    os.kill(pid, 15)
    client.settimeout(10)
    assert client.recv(100) == b""
    client.close()
    assert trees.wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    u.mounted = None


# Under load

WORK = """
import errno, os, random, sys, time
top, seed, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
rng = random.Random(seed)
expected = {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR, errno.ESTALE}
end = time.monotonic() + seconds
count = 0
def path():
    return os.path.join(top, *(rng.choice("abc") for _ in range(rng.randint(0, 2))), f"f{rng.randint(0, 9)}")
while time.monotonic() < end:
    what, at = rng.randrange(11), path()
    count += 1
    try:
        if what <= 1:
            with open(at, "ab") as file:
                file.write(b"u" * rng.randint(1, 9000))
        elif what <= 3:
            with open(at, "rb") as file:
                data = file.read()
            bad = set(data) - set(b"lu")
            for _ in range(10):
                if bad != {0}:
                    break
                # it became shorter while it was read, as when another truncates it; never for long
                time.sleep(0.05)
                with open(at, "rb") as file:
                    bad = set(file.read()) - set(b"lu")
            if bad:
                sys.exit(f"{at}: {bad}")
        elif what == 4:
            os.unlink(at)
        elif what == 5:
            os.rename(at, path())
        elif what == 6:
            os.makedirs(os.path.dirname(at), exist_ok=True)
        elif what == 7:
            os.rename(os.path.dirname(at) if len(at) > len(top) + 4 else at, path())
        elif what == 8:
            os.listdir(os.path.dirname(at))
        elif what == 9:
            os.link(at, path())
        else:
            with open(at, "r+b") as file:
                data = file.read(100)
                file.seek(0)
                file.write(b"u")
                os.fsync(file.fileno())
    except OSError as error:
        # a directory into itself, or linked; and what removal gives
        if error.errno not in expected and error.errno not in (errno.EINVAL, errno.EXDEV, errno.EMLINK, errno.EBUSY, errno.EPERM):
            sys.exit(f"{what} {at}: {error!r}")
print(count)
"""


@pytest.mark.deviation("D-38")
@pytest.mark.parametrize("opts", WAYS, ids=lambda opts: ",".join(opts))
def test_while_others_work(union, opts):
    """No error but those that removal gives, no stale data, and at the end the lower."""
    files = {f"f{i}": "l" * (1 + 3000 * i) for i in range(10)}
    u = union({**files, "a": {**files, "b": dict(files), "c": dict(files)}, "b": dict(files)}, opts=opts)
    before = tree_of(u.mnt)
    workers = [subprocess.Popen([sys.executable, "-c", WORK, u.mnt, str(i), "6"], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True) for i in range(4)]
    rng = random.Random(1)
    resets = 0
    while any(worker.poll() is None for worker in workers):
        time.sleep(rng.random() / 4)
        if rng.random() < 0.3:
            client, answer = hold(u)
            assert answer == b"ok\n" or answer.startswith(b"no: ")
            client.close()
            continue
        done = commands.run("discard", "-y", u.mnt)
        assert done.returncode == 0 or "another command" in done.stderr, done.stderr
        resets += 1
    for worker in workers:
        out, err = worker.communicate()
        assert worker.returncode == 0, err
        assert int(out) > 10
    assert resets > 3
    assert len(u.mounted.daemons()) == 1
    discard(u)
    assert tree_of(u.mnt) == before
    assert os.listdir(u.upper) == []
