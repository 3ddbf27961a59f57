"""`veneer commit`: afterwards what is below shows by itself what the union showed."""

import errno
import json
import os
import subprocess
import time

import pytest

import commands
import oscalls
import trees
from commit_scenarios import (INDEX_SCENARIOS, SCENARIOS, hard_links, lower, moved_files, names_of_one_file,
                              rich, types)
from contenders import VENEER, MountError
from trees import Dir, File

FAULTY = os.path.abspath(os.environ.get("VENEER_FAULTS", VENEER + "-faults"))
FEATURES = ["redirect_dir=on", "metacopy=on"]
INDEXED = [*FEATURES, "index=on"]


def commit(u, *words):
    return commands.ask("commit", *words, *commands.layers_of(u))


def look(path):
    return trees.snapshot(path, nlink=True)


def same(left, right):
    assert trees.difference(left, right) == []


def assert_empty(u):
    assert os.listdir(u.upper) == []
    assert not os.listdir(os.path.join(u.work, "index")) if os.path.isdir(os.path.join(u.work, "index")) else True


@pytest.fixture
def make(union_factory):
    return lambda *lowers, opts=FEATURES, **kw: union_factory(*lowers, opts=opts, guard=False, **kw).mount()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
def test_plain(make, scenario):
    u = make(lower())
    scenario(u.mnt)
    want, links = u.snapshot(), names_of_one_file(u.mnt)
    u.umount()
    commit(u)
    same(want, trees.snapshot(u.low()))
    assert names_of_one_file(u.low()) == links or scenario not in (hard_links, moved_files)
    assert_empty(u)
    # A layer that is empty shows the same, and can be used again.
    u.mount()
    if scenario is not rich:
        same(want, u.snapshot())


@pytest.mark.parametrize("scenario", INDEX_SCENARIOS, ids=lambda s: s.__name__)
def test_index(make, scenario):
    u = make(lower(), opts=INDEXED)
    scenario(u.mnt)
    want, links = u.snapshot(nlink=True), names_of_one_file(u.mnt)
    u.umount()
    commit(u)
    same(want, look(u.low()))
    assert names_of_one_file(u.low()) == links
    assert_empty(u)
    u.mount()
    same(want, u.snapshot(nlink=True))


# Elsewhere than in one lower of the same file system

def test_to_a_copy(make):
    u = make(lower())
    moved_files(u.mnt)
    want = u.snapshot()
    u.umount()
    before, copy = look(u.low()), os.path.join(u.base, "copy")
    subprocess.run(["cp", "-a", u.low(), copy], check=True)
    commit(u, "--to", copy)
    same(want, trees.snapshot(copy))
    same(before, look(u.low()))
    assert_empty(u)


def test_to_another_tree_is_refused(make):
    u = make(lower())
    u.write("a/one", "changed")
    u.umount()
    other = os.path.join(u.base, "other")
    subprocess.run(["cp", "-a", u.low(), other], check=True)
    trees.write(f"{other}/a/one", "something else")
    assert "/a/one" in refuse(u, "--to", other)
    commit(u, "--to", other, "--force")
    assert trees.read(f"{other}/a/one") == b"changed"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
def test_other_file_system(make, scratch, scenario):
    """The upper on another file system: files are copied."""
    low = os.path.join(scratch.make("tmpfs", 64 << 20), "low")
    trees.build(low, lower())
    u = make(low, opts=["redirect_dir=on"])
    scenario(u.mnt)
    want = u.snapshot()
    u.umount()
    commit(u)
    same(want, trees.snapshot(low))
    assert_empty(u)


def layer_scenarios():
    return [scenario for scenario in SCENARIOS if scenario is not rich]


@pytest.mark.parametrize("scenario", layer_scenarios(), ids=lambda s: s.__name__)
@pytest.mark.parametrize("above", ["nothing", "some", "moved"])
def test_stays_a_layer(make, scenario, above):
    """More than one layer below: the union of these is what is to be the same."""
    tops = {
        "nothing": {},
        "some": {"a": {"one": "top", "sub": {"x": "top x"}}, "b": trees.opaque({"sub": {"q": "q"}}),
                 "c": {"f": trees.whiteout(), "k": "k"}, "plain": trees.whiteout(), "top": {"t": "t"}},
        "moved": {"a": trees.whiteout(), "dir": trees.whiteout(),
                  "c": {"g": Dir(children={"own": "o", "h": trees.whiteout()},
                                 xattrs={"trusted.overlay.redirect": "/a"})},
                  "b": Dir(children={"sub": {"s": "s"}}, xattrs={"trusted.overlay.redirect": "/dir"}),
                  "top": File(size=15000, xattrs={"trusted.overlay.metacopy": "",
                                                  "trusted.overlay.redirect": "/big"})},
    }
    u = make(tops[above], lower())
    try:
        scenario(u.mnt)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pass  # what the layer in between hides; the rest of the scenario was done
    want = u.snapshot()
    u.umount()
    bottom = look(u.low(layer=1))
    commit(u)
    same(bottom, look(u.low(layer=1)))
    assert_empty(u)
    u.mount()
    same(want, u.snapshot())


# What is refused

def refuse(u, *words):
    done = commands.run("commit", *words, *commands.layers_of(u))
    assert done.returncode == 1, done.stdout
    return done.stderr


def wait_a_tick():
    """Times on disk are those of the last tick of the clock."""
    time.sleep(0.02)


@pytest.mark.parametrize("change", [
    ("a/one", lambda path: trees.write(path, "another")),
    ("a/two", os.unlink),
    ("a/sub/deep/y", lambda path: os.chmod(path, 0o600)),
    ("a/made", lambda path: trees.write(path, "others made it too")),
    ("big", lambda path: trees.write(path, "smaller")),
    ("dir", lambda path: os.rename(path, path + "2")),
    ("c", lambda path: os.chmod(path, 0o700)),
], ids=lambda change: change[0])
def test_changed_below(make, change):
    u = make(lower())
    u.write("a/one", "1")
    os.unlink(u / "a/two")
    subprocess.run(["rm", "-r", u / "a/sub"], check=True)
    u.write("a/made", "by the union")
    os.chmod(u / "big", 0o600)
    os.rename(u / "dir", u / "moved")
    u.write("c/n", "n")
    u.umount()
    upper = trees.snapshot(u.upper)
    wait_a_tick()
    path, how = change
    how(u.low(path))
    below = look(u.low())
    said = refuse(u)
    assert f"veneer: /{'moved' if path == 'dir' else path} " in said, said
    same(below, look(u.low()))
    same(upper, trees.snapshot(u.upper))
    if path != "big":
        commit(u, "--force")
        assert_empty(u)


def test_untouched_below_is_no_conflict(make):
    """Not even after a commit, for a layer that goes on at once."""
    u = make(lower())
    for number in range(3):
        u.write("a/one", f"{number}")
        u.write(f"new{number}", "")
        os.rename(u / "dir", u / "dir2")
        os.rename(u / "dir2", u / "dir")
        u.umount()
        commit(u)
        u.mount()
    assert u.read("a/one") == b"2"


def test_names_that_others_put_beside(make):
    """Are no conflict: of a directory that is merged only the attributes are."""
    u = make(lower())
    u.write("a/made", "by the union")
    os.chmod(u / "c", 0o711)
    u.write("c/n", "n")
    u.umount()
    wait_a_tick()
    trees.write(u.low("a/other"), "by others")
    trees.write(u.low("rootfile"), "by others")
    commit(u)
    assert trees.read(u.low("a/other")) == b"by others" and trees.read(u.low("a/made")) == b"by the union"
    u.mount()
    os.chmod(u / "c", 0o700)
    u.umount()
    wait_a_tick()
    trees.write(u.low("c/other"), "by others")
    assert "/c was changed" in refuse(u)


def test_mounted_is_refused(make):
    u = make(lower())
    u.write("a/one", "1")
    said = refuse(u)
    assert "mount" in said or "in use" in said
    u.umount()
    commit(u)


def test_dry_run(make):
    u = make(lower(), opts=INDEXED)
    types(u.mnt)
    moved_files_and_links(u)
    os.rename(u / "dir", u / "dir2")
    u.umount()
    before = look(u.low()), look(u.upper), look(u.work)
    said = commit(u, "--dry-run")
    assert "replace /big\n" in said and "remove  /a/two\n" in said and "move    /hole -> /hole2\n" in said
    assert "move    /dir -> /dir2\n" in said and "remove  /dir\n" not in said
    text = commit(u, "--dry-run", "--json")
    commands.check_form("commit", text)
    told = json.loads(text)
    assert not told["done"] and told["dry_run"] and told["counts"]["link"] == 2
    for one, two in zip(before, (look(u.low()), look(u.upper), look(u.work))):
        same(one, two)


def moved_files_and_links(u):
    os.unlink(u / "a/two")
    os.rename(u / "hole", u / "hole2")
    os.chmod(u / "h1", 0o600)


def test_json(make):
    u = make(lower())
    u.write("a/one", "1")
    u.write("n\udcff\n", "a name that is no text")
    u.umount()
    wait_a_tick()
    trees.write(u.low("a/one"), "others")
    done = commands.run("commit", "--json", *commands.layers_of(u))
    assert done.returncode == 1
    commands.check_form("commit", done.stdout)
    assert [each["path"] for each in json.loads(done.stdout)["conflicts"]] == ["/a/one"]
    text = commit(u, "--json", "--force")
    commands.check_form("commit", text)
    assert json.loads(text)["done"]


def test_empty_layer(make):
    u = make(lower())
    want = u.snapshot()
    u.umount()
    assert commit(u).startswith("0 changes committed")
    same(want, trees.snapshot(u.low()))


# Attributes of kinds of their own

def test_protected(make):
    """Append-only and immutable are flags again, and what had them is replaced."""
    u = make(lower())
    oscalls.change_flags(u / "a/one", add=oscalls.FS_IMMUTABLE)
    oscalls.change_flags(u / "b", add=oscalls.FS_APPEND)
    trees.write(u / "new", "n")
    oscalls.change_flags(u / "new", add=oscalls.FS_IMMUTABLE)
    os.utime(u / "c", ns=(4, 5))
    want = u.snapshot()
    u.umount()
    commit(u)
    same(want, trees.snapshot(u.low()))
    for path, flag in (("a/one", oscalls.FS_IMMUTABLE), ("b", oscalls.FS_APPEND), ("new", oscalls.FS_IMMUTABLE)):
        assert oscalls.get_flags(u.low(path)) & (oscalls.FS_IMMUTABLE | oscalls.FS_APPEND) == flag
    u.mount()
    for path in ("a/one", "b", "new"):
        oscalls.change_flags(u / path, drop=oscalls.FS_IMMUTABLE | oscalls.FS_APPEND)
    u.write("a/one", "free")
    os.unlink(u / "new")
    want = u.snapshot()
    u.umount()
    commit(u)
    same(want, trees.snapshot(u.low()))


def test_unescaped(make):
    u = make(lower())
    os.setxattr(u / "a/one", "trusted.overlay.opaque", b"no mark")
    os.setxattr(u / "b", "trusted.overlay.overlay.x", b"x")
    u.umount()
    commit(u)
    assert os.getxattr(u.low("a/one"), "trusted.overlay.opaque") == b"no mark"
    assert os.listxattr(u.low("b")) == ["trusted.overlay.overlay.x"]
    assert trees.read(u.low("a/one")) == b"1\n"


def test_holes_stay(make, scratch):
    low = os.path.join(scratch.make("ext4", 64 << 20), "low")
    trees.build(low, lower())
    u = make(low, opts=["redirect_dir=on"])
    rich(u.mnt)
    u.umount()
    commit(u)
    assert trees.data_ranges(f"{low}/sparse") == [(4 << 20, (4 << 20) + 4096)]


def test_user_xattrs(union_factory):
    u = union_factory({"a": {"b": "b"}, "c": "c"}, opts=["userxattr"], guard=False).mount()
    subprocess.run(["rm", "-r", u / "a"], check=True)
    os.mkdir(u / "a")
    u.write("a/new", "n")
    os.unlink(u / "c")
    want = u.snapshot()
    u.umount()
    commit(u, "--userxattr")
    same(want, trees.snapshot(u.low()))
    assert not [name for _, entry in trees.snapshot(u.low()).items() for name in entry.xattrs]


def test_odd_names(make):
    u = make(lower())
    for name in ("n" * 255, " ", "\n", "\\", "-n", "\udcfe", ".wh.x", "é"):
        u.write(name, "")
        os.mkdir(u / f"d{name}"[:250])
        os.unlink(u / name)
        os.mkdir(u / name)
        u.write(f"{name}/{name}", "x")
    want = u.snapshot()
    u.umount()
    commit(u)
    same(want, trees.snapshot(u.low()))


def test_names_like_its_own_are_ordinary(make):
    u = make(lower())
    u.write("a/.veneer-commit-new", "")
    want = u.snapshot()
    u.umount()
    commit(u)
    same(want, trees.snapshot(u.low()))


def test_deep(make):
    u = make(lower())
    fd = os.open(u.mnt, os.O_RDONLY)
    for _ in range(60):
        os.mkdir("d" * 200, dir_fd=fd)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    u.umount()
    commit(u)
    assert_empty(u)
    found = subprocess.run(["find", u.low(), "-name", "file"], capture_output=True, check=True).stdout
    assert len(found) > 60 * 200


def test_full_disk(make, scratch):
    """What is below has no room for a copy: it is finished when there is."""
    disk = scratch.make("ext4", 16 << 20)
    low = os.path.join(disk, "low")
    trees.build(low, {"a": {"one": "1"}, "b": "b"})
    u = make(low, opts=["redirect_dir=on"])
    u.write("a/one", os.urandom(5 << 20))
    u.write("new", os.urandom(1 << 20))
    os.rename(u / "a", u / "c")
    os.unlink(u / "b")
    want = u.snapshot()
    u.umount()
    room = os.statvfs(disk)
    with open(f"{disk}/ballast", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_bsize - (3 << 20))
    said = refuse(u)
    assert "No space left on device" in said and "run the same command again" in said
    with pytest.raises(MountError) as refused:
        u.mount()
    if u.is_veneer:
        assert "run veneer commit again" in str(refused.value)
    os.unlink(f"{disk}/ballast")
    assert "is finished" in commit(u)
    same(want, trees.snapshot(low))
    assert_empty(u)
    u.mount()


def test_unfinished_goes_on_to_where_it_began(make, scratch):
    u = make(lower())
    u.write("a/one", "1")
    u.umount()
    copy = os.path.join(u.base, "copy")
    subprocess.run(["cp", "-a", u.low(), copy], check=True)
    subprocess.run([FAULTY, "commit", "--to", copy, *commands.layers_of(u)], check=False, capture_output=True,
                   env={**os.environ, "VENEER_FAULT": "12:kill"}, stdin=subprocess.DEVNULL)
    assert copy in refuse(u)
    commit(u, "--to", copy)
    assert trees.read(f"{copy}/a/one") == b"1"


# A mount that is in use

@pytest.mark.veneer_only("the kernel's mounts cannot stand still")
@pytest.mark.parametrize("scenario", [each for each in SCENARIOS if each is not rich], ids=lambda s: s.__name__)
def test_live(make, scenario):
    """Everybody sees the same tree as before, and what is open stays open."""
    u = make(lower(), opts=[*FEATURES, "data=served"])
    scenario(u.mnt)
    u.write("open", "before")
    want = u.snapshot(nlink=False)
    with open(u / "open", "r+b", buffering=0) as file, open(u / "open", "rb") as reader:
        commands.ask("commit", u.mnt)
        same(want, u.snapshot())
        same(want, trees.snapshot(u.low()))
        assert reader.read() == b"before"
        file.write(b"after ")
        reader.seek(0)
        assert reader.read() == b"after "
    assert u.read("open") == b"after "
    u.write("more", "more")
    os.unlink(u / "open")
    commands.ask("commit", u.mnt)
    assert trees.read(u.low("more")) == b"more" and not os.path.exists(u.low("open"))
    want = u.snapshot()
    u.umount()
    same(want, trees.snapshot(u.low()))


def break_off(u, number, what="kill"):
    """A commit of the live mount that gets so far; true if that was not to its end."""
    done = subprocess.run([FAULTY, "commit", "-y", u.mnt], check=False, capture_output=True, stdin=subprocess.DEVNULL,
                          env={**os.environ, "VENEER_FAULT": f"{number}:{what}"}, timeout=60)
    return done.returncode != 0


def is_unfinished(u):
    return json.loads(commands.ask("status", "--json", u.mnt))["mounts"][0]["unfinished_commit"]


def refusals(u):
    """Every way to change something; the errors."""
    changes = {
        "mkdir": lambda: os.mkdir(u / "newdir"),
        "create": lambda: u.write("newfile", "x"),
        "append": lambda: u.append("stays", "x"),
        "truncate": lambda: os.truncate(u / "stays", 1),
        "unlink": lambda: os.unlink(u / "stays"),
        "rename": lambda: os.rename(u / "stays", u / "moved"),
        "link": lambda: os.link(u / "stays", u / "linked"),
        "symlink": lambda: os.symlink("x", u / "symlink"),
        "mknod": lambda: os.mknod(u / "fifo", 0o10644),
        "tmpfile": lambda: os.close(os.open(u.mnt, os.O_TMPFILE | os.O_RDWR, 0o600)),
        "chmod": lambda: os.chmod(u / "stays", 0o600),
        "chmod root": lambda: os.chmod(u.mnt, 0o700),
        "utime": lambda: os.utime(u / "stays", (1, 1)),
        "setxattr": lambda: os.setxattr(u / "stays", "user.x", b"x"),
        "rmdir": lambda: os.rmdir(u / "hollow"),
    }
    found = {}
    for name, change in changes.items():
        try:
            change()
            found[name] = None
        except OSError as error:
            found[name] = error.errno
    return found


@pytest.mark.veneer_only("the kernel's mounts cannot stand still")
@pytest.mark.skipif(not os.path.exists(FAULTY), reason="no veneer-faults")
@pytest.mark.parametrize("what", ["kill", "ENOSPC"])
@pytest.mark.parametrize("data", ["data=served", "data=passthrough"])
def test_live_broken_off(make, what, data):
    """Nothing changes until the same command has finished it; then all is as it would have been."""
    u = make({"ld": {"f": "lower"}, "sub": {"deep": {"x": "x"}}, "stays": "stays", "hollow": {}}, opts=[*FEATURES, data])
    seen = set()
    for number in range(1, 100):
        os.rename(u / "ld", u / "ren")
        os.rename(u / "sub/deep", u / "ren/deep")
        u.write("new", f"new {number}")
        want = u.snapshot(nlink=False)
        with open(u / "stays", "rb") as reader, open(u / "stays", "r+b", buffering=0) as writer:
            if data == "data=passthrough":
                writer.close()
            if not break_off(u, number, what):
                break
            planned = os.path.exists(f"{u.work}/work/incompat/veneer-commit/plan")
            assert trees.wait_until(lambda: is_unfinished(u) == planned)  # pylint: disable=cell-var-from-loop
            seen.add(planned)
            if planned:
                assert set(refusals(u).values()) == {errno.EROFS}
                if data == "data=served":
                    with pytest.raises(OSError, match="Read-only file system"):
                        writer.write(b"X")
                assert reader.read() == b"stays" and u.read("stays") == b"stays"
                os.listdir(u.mnt)
                done = commands.run("discard", "-y", u.mnt)
                assert done.returncode == 1 and "veneer commit" in done.stderr
        commands.ask("commit", "-y", u.mnt)
        same(want, u.snapshot(nlink=False))
        same(want, trees.snapshot(u.low()))
        assert not any(name.startswith(".veneer") for name in os.listdir(u.low()))
        # writable again, and back to the beginning
        os.rename(u / "ren/deep", u / "sub/deep")
        os.rename(u / "ren", u / "ld")
        os.unlink(u / "new")
        commands.ask("commit", "-y", u.mnt)
    else:
        pytest.fail("there is no end of changes")
    assert seen == {True, False} and number > 10


@pytest.mark.veneer_only("the kernel's mounts cannot stand still")
@pytest.mark.skipif(not os.path.exists(FAULTY), reason="no veneer-faults")
def test_broken_off_is_not_discarded(make):
    """Neither live nor at rest: part of what moves is below by then."""
    u = make({"ld": {"f": "lower"}})
    os.rename(u / "ld", u / "ren")
    assert break_off(u, 12)
    assert trees.wait_until(lambda: is_unfinished(u)) and "not finished" in commands.ask("status", u.mnt)
    u.umount()
    done = commands.run("discard", "-y", *commands.layers_of(u))
    assert done.returncode == 1 and "run veneer commit again" in done.stderr
    commit(u)
    assert trees.read(u.low("ren/f")) == b"lower" and os.listdir(u.low()) == ["ren"]


@pytest.mark.veneer_only("the kernel's mounts cannot stand still")
def test_live_dry_run(make):
    u = make(lower())
    u.write("a/one", "1")
    before = look(u.low())
    assert "replace /a/one\n" in commands.ask("commit", "-n", u.mnt)
    same(before, look(u.low()))


@pytest.mark.veneer_only("the kernel's mounts cannot stand still")
def test_live_read_only(union_factory):
    u = union_factory(lower(), {"x": "x"}, readonly=True).mount()
    done = commands.run("commit", u.mnt)
    assert done.returncode == 1 and "no upper" in done.stderr


# Ordinary users

USER = 4321


def test_as_a_user(union_factory):
    """With rights of their own, also in directories that their mode keeps them out of."""
    u = union_factory({}, opts=["userxattr"], guard=False)
    trees.build(u.low(), {"a": {"b": "b", "sub": {"x": "x"}}, "closed": {"c": "c"}, "gone": {"deep": {"f": "f"}}})
    subprocess.run(["chown", "-R", f"{USER}:{USER}", u.low(), u.upper, u.work], check=True)
    for path in ("closed", "gone/deep", "gone"):
        os.chmod(u.low(path), 0o555)
    wait_a_tick()
    u.mount()
    u.write("a/b", "changed")
    u.write("closed/new", "n")
    subprocess.run(["rm", "-r", u / "gone"], check=True)
    os.makedirs(u / "made/in")
    os.chmod(u / "made/in", 0o555)
    os.chmod(u / "made", 0o555)
    subprocess.run(["chown", "-R", f"{USER}:{USER}", u.mnt], check=True)
    want = u.snapshot()
    u.umount()
    subprocess.run(["chown", "-Rh", f"{USER}:{USER}", u.upper, u.work], check=True)
    commands.ask("commit", *commands.layers_of(u), user=USER, group=USER, extra_groups=[])
    same(want, trees.snapshot(u.low()))
    assert_empty(u)
