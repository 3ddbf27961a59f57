"""Layers that others edit while they are mounted.

The oracle is a fresh mount of the same layers: with `timeout=0` the view after an edit is what
that shows, at once.  By default views may be old, but nothing may crash, hang, show under a name what was never
there, or lead out of the layers.  With `watch` the view is right a moment later.
"""

import errno
import os
import shutil
import signal
import stat
import threading
import time

import pytest

import contenders
import oscalls
import trees
from trees import Symlink

pytestmark = pytest.mark.veneer_only("the kernel's overlayfs leaves such edits undefined")

SECRET = "must never be seen"
OPAQUE = "trusted.overlay.opaque"

LOWER = {
    "f": "lower f", "g": "lower g", "h": "lower h", "hidden": "hidden by a whiteout",
    "shadowed": "lower part", "l": Symlink(target="f"), "empty": {},
    "d": {"a": "lower a", "b": "lower b", "sub": {"x": "lower x"}},
    "e": {"c": "lower c"},
    "both": {"low": "low", "same": "lower same", "deep": {"low": "low"}},
}
BELOW = {"both": {"below": "below"}, "f": "below f", "d2": {"z": "z"}, "hidden": "twice"}
UPPER = {
    "u": "upper u", "v": "upper v", "shadowed": "upper part", "hidden": trees.whiteout(),
    "ud": {"a": "upper a", "sub": {"x": "upper x"}},
    "both": {"up": "up", "same": "upper same", "deep": {"up": "up"}},
}


def replace(path, data):
    """As editors save: a new file over the old name."""
    trees.write(path + ".new", data)
    os.rename(path + ".new", path)


def recreate(path, data):
    """Removed and made again, which gives the inode number to the new one on many file systems."""
    os.unlink(path)
    trees.write(path, data)


def swap(one, two):
    os.rename(one, one + ".tmp")
    os.rename(two, one)
    os.rename(one + ".tmp", two)


def become(path, make):
    """Something else in this place."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
    make(path)


def same_size(path, data):
    """Other content, with the size and times of the old."""
    st = os.stat(path)
    trees.write(path, data.ljust(st.st_size)[:st.st_size])
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


def move_away_and_fill(path, children):
    os.rename(path, path + ".old")
    trees.build(path, children)


# Edits of a layer whose root is r; o is a directory outside of all layers.  LOW: of the top lower
# (r), UP: of the upper (r).

LOW = {
    "write": lambda r, o: trees.write(f"{r}/f", "changed"),
    "append": lambda r, o: trees.write(f"{r}/f", "more", "ab"),
    "truncate": lambda r, o: os.truncate(f"{r}/f", 0),
    "replace": lambda r, o: replace(f"{r}/f", "replaced"),
    "replace-in-subdirectory": lambda r, o: replace(f"{r}/d/sub/x", "replaced"),
    "recreate": lambda r, o: recreate(f"{r}/f", "recreated, longer"),
    "recreate-same-size": lambda r, o: recreate(f"{r}/f", "LOWER F"),
    "remove": lambda r, o: os.unlink(f"{r}/g"),
    "remove-uncovers-the-next-layer": lambda r, o: os.unlink(f"{r}/f"),
    "create": lambda r, o: trees.write(f"{r}/new", "new"),
    "create-in-merged": lambda r, o: trees.write(f"{r}/both/new", "new"),
    "create-in-deep-merged": lambda r, o: trees.write(f"{r}/both/deep/new", "new"),
    "create-dir": lambda r, o: trees.build(f"{r}/newdir", {"n": "n"}),
    "create-below-upper-dir": lambda r, o: trees.build(f"{r}/ud", {"low": "low"}),
    "create-below-upper-file": lambda r, o: trees.write(f"{r}/u", "not seen"),
    "hard-link": lambda r, o: os.link(f"{r}/f", f"{r}/f2"),
    "hard-link-over": lambda r, o: (os.unlink(f"{r}/g"), os.link(f"{r}/f", f"{r}/g")),
    "chmod": lambda r, o: os.chmod(f"{r}/f", 0o640),
    "chown": lambda r, o: os.chown(f"{r}/d", 12, 34),
    "utime": lambda r, o: os.utime(f"{r}/f", ns=(trees.OLD, trees.OLD)),
    "setxattr": lambda r, o: os.setxattr(f"{r}/f", "user.new", b"x"),
    "rename": lambda r, o: os.rename(f"{r}/f", f"{r}/f-moved"),
    "rename-over": lambda r, o: os.rename(f"{r}/f", f"{r}/g"),
    "rename-dir": lambda r, o: os.rename(f"{r}/d", f"{r}/d-moved"),
    "rename-dir-over-empty": lambda r, o: os.rename(f"{r}/d", f"{r}/empty"),
    "move-file-into-dir": lambda r, o: os.rename(f"{r}/g", f"{r}/d/g"),
    "move-dir-into-dir": lambda r, o: os.rename(f"{r}/d", f"{r}/e/d"),
    "swap-files": lambda r, o: swap(f"{r}/f", f"{r}/g"),
    "swap-dirs": lambda r, o: swap(f"{r}/d", f"{r}/e"),
    "swap-file-and-dir": lambda r, o: swap(f"{r}/g", f"{r}/d"),
    "replace-dir": lambda r, o: move_away_and_fill(f"{r}/d", {"a": "another a", "n": "n"}),
    "recreate-dir": lambda r, o: become(f"{r}/d", lambda p: trees.build(p, {"a": "another a"})),
    "replace-merged-dir": lambda r, o: move_away_and_fill(f"{r}/both", {"low": "other", "n": "n"}),
    "remove-dir": lambda r, o: shutil.rmtree(f"{r}/d"),
    "remove-merged-part": lambda r, o: shutil.rmtree(f"{r}/both"),
    "empty-dir": lambda r, o: [os.unlink(f"{r}/d/{n}") for n in ("a", "b")],
    "file-to-dir": lambda r, o: become(f"{r}/g", lambda p: trees.build(p, {"n": "n"})),
    "dir-to-file": lambda r, o: become(f"{r}/d", lambda p: trees.write(p, "a file")),
    "file-to-symlink": lambda r, o: become(f"{r}/g", lambda p: os.symlink("f", p)),
    "file-to-fifo": lambda r, o: become(f"{r}/g", os.mkfifo),
    "file-to-device": lambda r, o: become(
        f"{r}/g", lambda p: os.mknod(p, stat.S_IFCHR | 0o666, os.makedev(1, 5))),
    "file-to-whiteout": lambda r, o: become(
        f"{r}/f", lambda p: os.mknod(p, stat.S_IFCHR, os.makedev(0, 0))),
    "file-to-symlink-outside": lambda r, o: become(f"{r}/g", lambda p: os.symlink(f"{o}/secret", p)),
    "dir-to-symlink-outside": lambda r, o: become(f"{r}/d", lambda p: os.symlink(o, p)),
    "merged-to-symlink-outside": lambda r, o: become(f"{r}/both", lambda p: os.symlink(o, p)),
    "symlink-retargeted": lambda r, o: become(f"{r}/l", lambda p: os.symlink("g", p)),
    "symlink-to-file": lambda r, o: become(f"{r}/l", lambda p: trees.write(p, "a file")),
    "dot-wh": lambda r, o: trees.write(f"{r}/both/.wh.below", ""),
    "dot-wh-opaque": lambda r, o: trees.write(f"{r}/both/.wh..wh..opq", ""),
    "opaque": lambda r, o: os.setxattr(f"{r}/both", OPAQUE, b"y"),
}

UP = {
    "write": lambda r, o: trees.write(f"{r}/u", "changed"),
    "replace": lambda r, o: replace(f"{r}/u", "replaced"),
    "recreate": lambda r, o: recreate(f"{r}/u", "recreated, longer"),
    "recreate-same-size": lambda r, o: recreate(f"{r}/u", "UPPER U"),
    "remove": lambda r, o: os.unlink(f"{r}/u"),
    "remove-uncovers": lambda r, o: os.unlink(f"{r}/shadowed"),
    "remove-whiteout": lambda r, o: os.unlink(f"{r}/hidden"),
    "whiteout": lambda r, o: os.mknod(f"{r}/f", stat.S_IFCHR, os.makedev(0, 0)),
    "whiteout-of-a-dir": lambda r, o: os.mknod(f"{r}/d", stat.S_IFCHR, os.makedev(0, 0)),
    "file-over-lower-file": lambda r, o: trees.write(f"{r}/f", "from the upper"),
    "file-over-lower-dir": lambda r, o: trees.write(f"{r}/d", "from the upper"),
    "dir-over-lower-dir": lambda r, o: trees.build(f"{r}/d", {"up": "up"}),
    "opaque": lambda r, o: os.setxattr(f"{r}/both", OPAQUE, b"y"),
    "opaque-deep": lambda r, o: os.setxattr(f"{r}/both/deep", OPAQUE, b"y"),
    "create": lambda r, o: trees.write(f"{r}/new", "new"),
    "create-in-merged": lambda r, o: trees.write(f"{r}/both/new", "new"),
    "chmod": lambda r, o: os.chmod(f"{r}/u", 0o600),
    "rename": lambda r, o: os.rename(f"{r}/u", f"{r}/u-moved"),
    "swap-files": lambda r, o: swap(f"{r}/u", f"{r}/v"),
    "rename-dir": lambda r, o: os.rename(f"{r}/ud", f"{r}/ud-moved"),
    "rename-merged": lambda r, o: os.rename(f"{r}/both", f"{r}/both-moved"),
    "replace-dir": lambda r, o: move_away_and_fill(f"{r}/ud", {"a": "another a", "n": "n"}),
    "recreate-dir": lambda r, o: become(f"{r}/ud", lambda p: trees.build(p, {"n": "n"})),
    "remove-dir": lambda r, o: shutil.rmtree(f"{r}/ud"),
    "remove-merged-part": lambda r, o: shutil.rmtree(f"{r}/both"),
    "file-to-dir": lambda r, o: become(f"{r}/u", lambda p: trees.build(p, {"n": "n"})),
    "dir-to-file": lambda r, o: become(f"{r}/ud", lambda p: trees.write(p, "a file")),
    "dir-to-symlink-outside": lambda r, o: become(f"{r}/ud", lambda p: os.symlink(o, p)),
    "merged-to-symlink-outside": lambda r, o: become(f"{r}/both", lambda p: os.symlink(o, p)),
    "file-to-symlink-outside": lambda r, o: become(f"{r}/u", lambda p: os.symlink(f"{o}/secret", p)),
}

EDITS = [("lower", name) for name in LOW] + [("upper", name) for name in UP]
all_edits = pytest.mark.parametrize("layer,edit", EDITS, ids=[f"{a}-{b}" for a, b in EDITS])


@pytest.fixture
def outside(base):
    path = os.path.join(base, "outside")
    trees.build(path, {"secret": SECRET, "a": SECRET, "sub": {"x": SECRET}, "low": SECRET,
                       "up": SECRET, "same": SECRET})
    return path


def make(union_factory, *opts):
    return union_factory(LOWER, BELOW, upper=UPPER, opts=opts, guard=False)


def do_edit(u, layer, edit, outside):
    if layer == "lower":
        LOW[edit](u.low(), outside)
    else:
        UP[edit](u.up(), outside)


def view(u):
    """Everything there is to see; symbolic links are not followed."""
    seen = trees.snapshot(u.mnt)
    for path in list(seen):
        if seen[path].type == "d":
            names = sorted(os.path.basename(p) for p in seen
                           if p != "." and os.path.dirname(p) == ("" if path == "." else path))
            assert sorted(os.listdir(u / ("" if path == "." else path))) == names
    return seen


# With timeout=0: right at once

@all_edits
def test_timeout_zero(union_factory, outside, layer, edit):
    u = make(union_factory, "timeout=0").mount()
    view(u)
    do_edit(u, layer, edit, outside)
    seen = view(u)
    assert trees.difference(seen, view(u.remount())) == []


@all_edits
def test_timeout_zero_with_everything_open(union_factory, outside, layer, edit):
    """The nodes are kept alive by open files, whose own data goes on to be what it was."""
    u = make(union_factory, "timeout=0").mount()
    files = {path: open(u / path, "rb") for path, e in view(u).items() if e.type == "-"}
    dirs = [os.open(u / path, os.O_RDONLY) for path in ("", "d", "both", "ud", "both/deep")]
    before = {path: file.read() for path, file in files.items()}
    do_edit(u, layer, edit, outside)
    seen = view(u)
    for path, file in files.items():
        os.fstat(file.fileno())
        file.seek(0)
        now = file.read()
        if path in seen and seen[path].content == now:
            continue
        assert now == before[path] or edit in ("write", "append", "truncate"), path
        file.close()
    for fd in dirs:
        try:
            os.listdir(fd)
        except OSError as error:
            assert error.errno in (errno.ENOENT, errno.ESTALE)
        os.close(fd)
    for file in files.values():
        file.close()
    assert trees.difference(seen, view(u.remount())) == []


@pytest.mark.parametrize("layer", ["lower", "upper"])
def test_timeout_zero_same_size_and_times(union_factory, layer):
    """Only the content tells; an open is enough to see it."""
    u = make(union_factory, "timeout=0").mount()
    name, path = ("f", u.low("f")) if layer == "lower" else ("u", u.up("u"))
    u.read(name)
    same_size(path, "zz")
    assert u.read(name).startswith(b"zz")


def test_timeout_zero_changes_through_both(union_factory):
    """Changes through the mount and below it, in turns."""
    u = make(union_factory, "timeout=0").mount()
    for i in range(20):
        u.write("both/mine", f"{i}")
        trees.write(u.up(f"both/theirs{i}"), f"{i}")
        replace(u.low("both/low"), f"low {i}")
        assert u.read("both/low") == f"low {i}".encode()
        os.rename(u / "both/mine", u / f"both/mine{i}")
        os.unlink(u.up(f"both/mine{i}"))
        assert f"mine{i}" not in u.ls("both")
        assert f"theirs{i}" in u.ls("both")
    seen = view(u)
    assert trees.difference(seen, view(u.remount())) == []


def test_timeout_zero_copy_up_of_what_was_replaced(union_factory):
    """What is copied is what is there now."""
    u = make(union_factory, "timeout=0").mount()
    u.read("f")
    replace(u.low("f"), "replaced")
    u.append("f", "!")
    assert u.read("f") == b"replaced!"


def test_timeout_zero_storm(union_factory):
    """Editors below and readers above at once: no crash, no hang, never a mixture."""
    u = make(union_factory, "timeout=0").mount()
    end, failures = time.monotonic() + 3, []

    def edit(path, names):
        i = 0
        while time.monotonic() < end:
            i += 1
            replace(f"{path}/{names[i % len(names)]}", f"{names[i % len(names)]} {i}")
            if i % 7 == 0:
                swap(u.low("d"), u.low("e"))

    def look(path, names):
        while time.monotonic() < end:
            for name in names:
                try:
                    data = trees.read(u / f"{path}/{name}").decode()
                    os.listdir(u / path)
                    os.stat(u / f"{path}/{name}")
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ESTALE):
                        failures.append(error)
                    continue
                if data.split()[0] not in (name, "lower", "upper"):
                    failures.append((name, data))
    os.mkdir(u.low("storm"))
    names = [f"n{i}" for i in range(8)]
    calls = [(edit, u.low("storm"), names), (look, "storm", names), (look, "storm", names),
             (look, "d", ["a", "b", "sub/x"]), (look, "e", ["c", "a"])]
    threads = [threading.Thread(target=call[0], args=call[1:]) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []
    assert u.read("u") == b"upper u"


# By default: perhaps old, never wrong

def possible_contents(u):
    """Every content that any file of the layers has, by inode."""
    found = set()
    for root in [*u.lowers, u.upper]:
        found |= {e.content for e in trees.snapshot(root).values() if e.type == "-"}
    return found


def look_at_everything(root, allowed):
    """Walk, stat and read all there is; errors are fine, foreign content is not."""
    for directory, dirs, files in os.walk(root):
        for name in dirs + files:
            path = os.path.join(directory, name)
            try:
                st = os.lstat(path)
                if stat.S_ISREG(st.st_mode):
                    data = trees.read(path)
                    assert data in allowed, (path, data)
                    assert SECRET.encode() not in data
            except OSError as error:
                assert error.errno in (errno.ENOENT, errno.ESTALE, errno.ENOTDIR, errno.ENXIO), path


def drop_pages(u, paths):
    """The kernel forgets what is in these files, and asks again."""
    for path in paths:
        if os.path.islink(u / path) or not os.path.isfile(u / path):
            continue
        with open(u / path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def within(child, u, function):
    """Run function(path) with the mount as root: a symbolic link leads nobody out, only we could."""
    def run():
        os.chroot(u.mnt)
        os.chdir("/")
        function(lambda path: "/" + path)
    child(run)


def try_names(at, paths):
    """By the names that were known before."""
    for path in paths:
        for call in (os.lstat, os.listdir, os.readlink, trees.read, os.listxattr):
            try:
                if call is trees.read and not stat.S_ISREG(os.lstat(at(path)).st_mode):
                    continue
                answer = call(at(path))
            except OSError as error:
                assert error.errno in (errno.ENOENT, errno.ESTALE, errno.ENOTDIR, errno.EINVAL,
                                       errno.ELOOP), (path, call)
                continue
            if call is trees.read:
                assert SECRET.encode() not in answer


@all_edits
@pytest.mark.parametrize("drop", [False, True], ids=["cached", "dropped"])
def test_default(union_factory, outside, child, layer, edit, drop):
    u = make(union_factory).mount()
    known = view(u)
    allowed = {e.content for e in known.values()} | possible_contents(u)
    if drop:
        drop_pages(u, known)
    do_edit(u, layer, edit, outside)
    allowed |= possible_contents(u)
    within(child, u, lambda at: try_names(at, known))
    look_at_everything(u.mnt, allowed)
    # And it is of use still.
    u.write("mine", "mine")
    assert u.read("mine") == b"mine"
    u.umount()
    fresh = view(u.mount())
    assert SECRET.encode() not in [e.content for e in fresh.values()]


@all_edits
def test_default_changes_after_the_edit(union_factory, outside, child, layer, edit):
    """Changes by old names end well or with an error, and stay within the upper."""
    u = make(union_factory).mount()
    known = view(u)
    do_edit(u, layer, edit, outside)
    before = trees.snapshot(outside), [trees.snapshot(root) for root in u.lowers]
    within(child, u, lambda at: change_names(at, sorted(known)))
    assert (trees.snapshot(outside), [trees.snapshot(root) for root in u.lowers]) == before
    u.remount()
    view(u)


def change_names(at, paths):
    for path in paths:
        for change in (lambda p: os.chmod(p, 0o700), lambda p: trees.write(p, "mine", "ab"),
                       lambda p: trees.write(p + "/mine", "mine"), os.unlink, os.rmdir,
                       lambda p: os.rename(p, p + "-mine")):
            if stat.S_ISFIFO(mode_of(at(path))):
                continue
            try:
                change(at(path))
            except OSError as error:
                assert error.errno not in (errno.EIO, errno.ENOTCONN), (path, error)


def mode_of(path):
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


def test_default_replaced_file_is_found_again(union_factory):
    """What a path walk finds stale it looks up again."""
    u = make(union_factory).mount()
    view(u)
    drop_pages(u, ["g"])
    replace(u.low("g"), "replaced")
    with open(u / "g", "rb") as file:
        try:
            file.read()
        except OSError as error:
            assert error.errno == errno.ESTALE
    os.stat(u / "g")
    assert u.read("g") in (b"lower g", b"replaced")


def test_default_open_file_goes_on(union_factory):
    u = make(union_factory).mount()
    with open(u / "f", "rb") as file:
        assert file.read() == b"lower f"
        recreate(u.low("f"), "recreated")
        file.seek(0)
        assert file.read() == b"lower f"
        os.fstat(file.fileno())


# With watch: right within a moment, at no cost for what is asked again

MOMENT = 0.15


@all_edits
def test_watch(union_factory, outside, layer, edit):
    u = make(union_factory, "watch").mount()
    view(u)
    do_edit(u, layer, edit, outside)
    time.sleep(MOMENT)
    seen = view(u)
    assert trees.difference(seen, view(u.remount())) == []


@pytest.mark.parametrize("layer", ["lower", "upper"])
def test_watch_same_size_and_times(union_factory, layer):
    u = make(union_factory, "watch").mount()
    name, path = ("f", u.low("f")) if layer == "lower" else ("u", u.up("u"))
    with open(u / name, "rb") as file:
        file.read()
        same_size(path, "zz")
        assert trees.wait_until(lambda: (file.seek(0), file.read())[1].startswith(b"zz"))


def reads(u, path, data):
    """Until the event has come, data that is not in the kernel's cache is ESTALE."""
    try:
        return u.read(path) == data
    except OSError as error:
        assert error.errno == errno.ESTALE
        return False


def test_watch_names_that_were_not_there(union_factory):
    """The kernel remembers that there was nothing."""
    u = make(union_factory, "watch").mount()
    for path in ("new", "both/new", "d/sub/new"):
        assert not os.path.lexists(u / path)
        trees.write(u.low(path), "new")
        assert trees.wait_until(lambda path=path: os.path.lexists(u / path)), path


def test_watch_directory_that_was_copied_up(union_factory):
    """The part in the upper is watched from its first day."""
    u = make(union_factory, "watch").mount()
    u.ls("d/sub")
    u.write("d/sub/mine", "mine")
    u.ls("d/sub")
    trees.write(u.up("d/sub/theirs"), "theirs")
    assert trees.wait_until(lambda: "theirs" in u.ls("d/sub"))
    trees.write(u.up("d/sub/mine"), "changed")
    assert trees.wait_until(lambda: u.read("d/sub/mine") == b"changed")


def test_watch_directory_that_was_renamed(union_factory):
    u = make(union_factory, "watch", "redirect_dir=on").mount()
    u.ls("d/sub")
    os.rename(u / "d", u / "dd")
    assert u.ls("dd") == ["a", "b", "sub"]
    trees.write(u.low("d/theirs"), "theirs")
    assert trees.wait_until(lambda: "theirs" in u.ls("dd"))
    replace(u.low("d/sub/x"), "replaced")
    assert trees.wait_until(lambda: reads(u, "dd/sub/x", b"replaced"))


def test_watch_mount_in_a_directory_stays(union_factory):
    """What is mounted within the union is not lost by edits around it."""
    u = make(union_factory, "watch").mount()
    oscalls.mount("tmpfs", u / "both/deep", "tmpfs")
    try:
        trees.write(u / "both/deep/in-tmpfs", "")
        for path in ("both/new", "both/deep/new", "new"):
            trees.write(u.low(path), "")
        os.chmod(u.low("both/deep"), 0o700)
        assert trees.wait_until(lambda: "new" in u.ls("both"))
        assert u.ls("both/deep") == ["in-tmpfs"]
    finally:
        oscalls.umount(u / "both/deep")
    assert trees.wait_until(lambda: "new" in u.ls("both/deep"))


def test_watch_more_events_than_the_queue_takes(union_factory):
    """Lost events are no lost changes, and no lost mounts."""
    u = make(union_factory, "watch").mount()
    view(u)
    oscalls.mount("tmpfs", u / "both/deep", "tmpfs")
    trees.write(u / "both/deep/in-tmpfs", "")
    assert not os.path.lexists(u / "d/last")
    (daemon,) = u.mounted.daemons()
    os.kill(daemon, signal.SIGSTOP)
    try:
        with open("/proc/sys/fs/fanotify/max_queued_events", encoding="ascii") as file:
            count = int(file.read()) + 10
        os.mkdir(u.low("d/many"))
        for i in range(count // 2):
            os.close(os.open(u.low(f"d/{i}"), os.O_CREAT | os.O_WRONLY))
            os.unlink(u.low(f"d/{i}"))
        trees.write(u.low("d/last"), "last")
        replace(u.low("d/a"), "replaced")
        replace(u.low("both/low"), "replaced")
    finally:
        os.kill(daemon, signal.SIGCONT)
    try:
        assert trees.wait_until(lambda: "last" in u.ls("d"))
        assert trees.wait_until(lambda: os.path.lexists(u / "d/last"))
        assert trees.wait_until(lambda: reads(u, "d/a", b"replaced"))
        assert trees.wait_until(lambda: reads(u, "both/low", b"replaced"))
        time.sleep(MOMENT)
        assert u.ls("both/deep") == ["in-tmpfs"]
    finally:
        oscalls.umount(u / "both/deep")
    seen = view(u)
    assert trees.difference(seen, view(u.remount())) == []


def test_watch_own_changes_invalidate_nothing(union_factory):
    """What comes through the mount is known: the kernel goes on relying on what it has."""
    asked = []
    for opts in ([], ["watch"]):
        u = make(union_factory, *opts).mount()
        u.write("mine", "x" * 4096)
        with open(u / "mine", "rb") as file:
            file.read()
            before = contenders.requests(u.mnt, "READ", "GETATTR", "STATX", "LOOKUP")
            for i in range(300):
                u.append("both/mine", "x")
                os.chmod(u / "both/low", 0o600 + i % 8)
                os.stat(u / "mine")
                file.seek(0)
                file.read()
            asked.append(contenders.requests(u.mnt, "READ", "GETATTR", "STATX", "LOOKUP") - before)
        u.umount()
    assert asked[1] < asked[0] * 1.2 + 10, asked


def test_watch_storm(union_factory):
    """Editors below and above at once; in the end both sides see the same."""
    u = make(union_factory, "watch").mount()
    os.mkdir(u.low("storm"))
    end, failures = time.monotonic() + 2, []

    def below():
        i = 0
        while time.monotonic() < end:
            i += 1
            replace(u.low(f"storm/n{i % 8}"), f"n{i % 8} {i}")
            if i % 5 == 0:
                swap(u.low("d"), u.low("e"))

    def above():
        i = 0
        while time.monotonic() < end:
            i += 1
            try:
                u.write(f"both/m{i % 4}", f"m{i % 4} {i}")
                u.ls("storm")
                name = f"n{i % 8}"
                data = u.read(f"storm/{name}").decode()
                if not data.startswith(name):
                    failures.append((name, data))
                os.rename(u / f"both/m{i % 4}", u / f"both/r{i % 4}")
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ESTALE):
                    failures.append(error)
    threads = [threading.Thread(target=target) for target in (below, above, above)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []
    time.sleep(MOMENT)
    seen = view(u)
    assert trees.difference(seen, view(u.remount())) == []


def test_watch_unmounts_while_events_come(union_factory):
    u = make(union_factory, "watch").mount()
    for _ in range(10):
        view(u)
        for i in range(300):
            trees.write(u.low("d/a"), f"{i}")
            replace(u.low("d/b"), f"{i}")
        u.remount()
