"""`veneer diff`: what a layer of either contender changes, against the trees themselves."""

import json
import os
import random
import shutil
import stat

import pytest

import commands
import trees
from trees import Dir, File, Symlink

FEATURES = ["redirect_dir=on", "metacopy=on", "index=on"]
LOWER = {
    "dir": {"one": "1\n", "two": "2\n", "deep": {"er": {"file": "x"}}},
    "link": Symlink("target"), "big": "b" * 10_000, "other": {"a": "a", "b": "b"},
    "owned": File(data="o", mode=0o640), "xattr": File(data="x", xattrs={"user.k": "v"}),
}


def diff(u, *words):
    return commands.ask("diff", *words, *(commands.layers_of(u) if u.mounted is None else [u.mnt]))


def changes(u):
    """kind, path, from, what, as --json has them."""
    text = diff(u, "--json")
    commands.check_form("diff", text)
    return [(each["kind"], each["path"], each.get("from"), set(each["changed"]))
            for each in json.loads(text)["changes"]]



@pytest.fixture
def u(union):
    return union(LOWER, opts=FEATURES)


def at_rest(u):
    """The diff of the layer alone; of veneer's mount, that of the mount is the same."""
    live = changes(u) if u.is_veneer else None
    u.umount()
    found = changes(u)
    assert live in (None, found)
    return found


def test_nothing(u):
    assert at_rest(u) == []
    assert diff(u) == "no changes\n"


def test_looking_changes_nothing(u):
    """Not even where the union keeps notes of its own: copies that are like the original, whiteouts of nothing."""
    u.append("dir/one", "")
    os.chmod(u / "dir/one", 0o600)
    os.chmod(u / "dir/one", 0o644)
    u.write("new", "")
    os.unlink(u / "new")
    assert at_rest(u) == []


def test_each_kind(u):
    u.write("dir/new", "123")
    os.mkdir(u / "dir/sub")
    os.unlink(u / "dir/two")
    os.chmod(u / "owned", 0o600)
    os.chown(u / "dir/deep/er", 5, 6)
    os.setxattr(u / "xattr", "user.k", b"w")
    os.unlink(u / "link")
    os.mkdir(u / "link")
    u.append("big", "c")
    assert at_rest(u) == [
        ("modified", "/big", None, {"content", "time"}),
        ("modified", "/dir/deep/er", None, {"owner"}),
        ("added", "/dir/new", None, set()),
        ("added", "/dir/sub", None, set()),
        ("removed", "/dir/two", None, set()),
        ("type", "/link", None, set()),
        ("modified", "/owned", None, {"mode"}),
        ("modified", "/xattr", None, {"attributes"}),
    ]


def test_same_size_and_time(u):
    """Content is compared, whatever the times say."""
    st = os.stat(u / "dir/one")
    u.write("dir/one", "7\n")
    os.utime(u / "dir/one", ns=(st.st_atime_ns, st.st_mtime_ns))
    assert at_rest(u) == [("modified", "/dir/one", None, {"content"})]


def test_renamed_directories(u):
    """Told by their redirects; what is below them is compared with where it was."""
    os.rename(u / "dir", u / "other/moved")
    u.write("other/moved/one", "changed")
    os.rename(u / "other/moved/deep", u / "deep")
    u.write("deep/er/new", "")
    assert at_rest(u) == [
        ("renamed", "/deep", "/dir/deep", set()),
        ("added", "/deep/er/new", None, set()),
        ("renamed", "/other/moved", "/dir", set()),
        ("modified", "/other/moved/one", None, {"content", "time"}),
    ]


def test_swapped_directories(u):
    os.rename(u / "dir", u / "tmp")
    os.rename(u / "other", u / "dir")
    os.rename(u / "tmp", u / "other")
    assert at_rest(u) == [("renamed", "/dir", "/other", set()), ("renamed", "/other", "/dir", set())]


def test_renames_to_names_in_use(u):
    """What was there before is removed, unless it was moved away itself."""
    os.rename(u / "big", u / "old")
    os.rename(u / "dir/one", u / "big")
    shutil.rmtree(u / "other")
    os.rename(u / "dir", u / "other")
    names = [(kind, path, origin) for kind, path, origin, _ in at_rest(u)]
    assert ("removed", "/other", None) in names and ("renamed", "/other", "/dir") in names
    assert "A /other\n" in diff(u, "--format=podman") and "D /other\n" not in diff(u, "--format=podman")


def test_new_things_where_others_were(u):
    """In the place of what was renamed away there is something new; in that of what was removed, a change."""
    os.rename(u / "dir", u / "moved")
    os.mkdir(u / "dir")
    u.write("dir/one", "1\n")
    shutil.rmtree(u / "other")
    os.mkdir(u / "other")
    u.write("other/b", "b")
    assert [(kind, path) for kind, path, *_ in at_rest(u)] == [
        ("added", "/dir"), ("added", "/dir/one"), ("renamed", "/moved"), ("removed", "/other/a"),
        ("modified", "/other/b"),
    ]


def test_forms(u):
    u.write("dir/new", "123")
    os.unlink(u / "other/a")
    u.append("dir/one", "x\n")
    os.chmod(u / "owned", 0o600)
    u.umount()
    assert diff(u).splitlines() == [
        "  added:     /dir/new", "  modified:  /dir/one (content)", "  removed:   /other/a",
        "  modified:  /owned (mode 0640 -> 0600)", "1 added, 1 removed, 2 modified; 7 B of new data"]
    assert diff(u, "--name-only") == "/dir/new\n/dir/one\n/other/a\n/owned\n"
    assert diff(u, "--name-only", "-z") == "/dir/new\0/dir/one\0/other/a\0/owned\0"
    assert diff(u, "--stat").splitlines() == [
        " /dir: 1 added, 1 modified; 7 B of new data", " /other: 1 removed; 0 B of new data",
        " /owned: 1 modified; 0 B of new data", "1 added, 1 removed, 2 modified; 7 B of new data"]
    assert diff(u, "--format=podman") == "C /dir\nA /dir/new\nC /dir/one\nC /other\nD /other/a\nC /owned\n"
    assert diff(u, "--format=oci") == "dir/\ndir/new\ndir/one\nother/\nother/.wh.a\nowned\n"
    assert diff(u, "-u").splitlines() == [
        "--- /dev/null", "+++ b/dir/new", "@@ -0,0 +1 @@", "+123", "\\ No newline at end of file",
        "--- a/dir/one", "+++ b/dir/one", "@@ -1 +1,2 @@", " 1", "+x",
        "--- a/other/a", "+++ /dev/null", "@@ -1 +0,0 @@", "-a", "\\ No newline at end of file",
        "  modified:  /owned (mode 0640 -> 0600)"]
    coloured = diff(u, "--color=always")
    assert "\033[32madded:" in coloured and "\033[" not in diff(u)


def test_names_of_any_bytes(u):
    os.mkdir(os.fsencode(u.mnt) + b"/\xff\n")
    u.umount()
    assert "/\udcff?/\n" in diff(u)
    text = diff(u, "--json")
    commands.check_form("diff", text)
    assert json.loads(text)["changes"][0]["path_hex"] == "2fff0a"
    assert os.fsencode(diff(u, "--name-only", "-z")) == b"/\xff\n\0"


def test_attributes_of_the_root(u):
    os.chmod(u.mnt, 0o711)
    assert [(kind, path, what) for kind, path, _, what in at_rest(u)] == [("modified", "/", {"mode"})]


def test_several_lowers(union):
    """What lies below is what the lowers show together."""
    u = union({"d": {"top": "t"}, "f": "upper one"}, {"d": {"low": "l", "gone": "g"}, "f": "lower one"}, opts=FEATURES)
    os.rename(u / "d", u / "e")
    os.unlink(u / "e/gone")
    u.write("f", "lower one")
    assert [(kind, path) for kind, path, *_ in at_rest(u)] == [("renamed", "/e"), ("removed", "/e/gone"),
                                                               ("modified", "/f")]


def brute(before, after):
    """Names that came, went, or are not what they were; renames as both."""
    found = set()
    for path in before.keys() | after.keys():
        old, new = before.get(path), after.get(path)
        if old and new and stat.S_ISDIR(old[0]) and stat.S_ISDIR(new[0]):
            if old[:4] != new[:4]:
                found.add(("modified", path))
        elif old and new and old != new:
            found.add(("type" if stat.S_IFMT(old[0]) != stat.S_IFMT(new[0]) else "modified", path))
        elif not (old and new):
            found.add(("removed" if old else "added", path))
    return found


def see(root):
    tree = {}
    for top, dirs, files in os.walk(root):
        for name in dirs + files:
            path = os.path.join(top, name)
            st = os.lstat(path)
            xattrs = tuple(sorted((key, os.getxattr(path, key, follow_symlinks=False))
                                  for key in os.listxattr(path, follow_symlinks=False)))
            data = None
            if stat.S_ISREG(st.st_mode):
                data = trees.read(path)
            elif stat.S_ISLNK(st.st_mode):
                data = os.readlink(path)
            tree["/" + os.path.relpath(path, root)] = (st.st_mode, st.st_uid, st.st_gid, xattrs, data, st.st_mtime_ns)
    return tree


def change_at_random(rnd, root):
    paths = [os.path.join(top, name) for top, dirs, files in os.walk(root) for name in dirs + files]
    path = rnd.choice(paths) if paths else os.path.join(root, "first")
    parent = rnd.choice([root] + [each for each in paths if os.path.isdir(each) and not os.path.islink(each)])
    other = os.path.join(parent, rnd.choice("abcdef"))
    what = rnd.randrange(9)
    try:
        if what < 2:
            trees.write(other, str(rnd.random()))
        elif what == 2:
            os.mkdir(other)
        elif what < 5:
            os.rename(path, other)
        elif what == 5 and os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif what == 6:
            os.unlink(path)
        elif what == 7:
            os.chmod(path, rnd.choice([0o755, 0o700]))
        else:
            os.symlink("x", other)
    except OSError:
        pass


def expand(found, before):
    """What diff said, as names that came and went: renamed directories and removed ones with all in them."""
    below = {path: [each for each in before if each.startswith(path + "/")] for path in before}
    names = set()
    moved = [(path, origin) for kind, path, origin, _ in found if kind == "renamed"]
    for kind, path, origin, what in found:
        if kind == "removed":
            names |= {("removed", each) for each in [path] + below[path]}
        elif kind == "type" and stat.S_ISDIR(before[path][0]):
            names |= {("type", path)} | {("removed", each) for each in below[path]}
        elif kind != "renamed":
            names.add((kind, path))
    return names, moved


@pytest.mark.parametrize("seed", range(25))
def test_any_changes(union, seed):
    """Without renames of directories, diff is exactly the difference of the two trees."""
    rnd = random.Random(seed)
    lower = {name: {each: {"x": "x" + each} if rnd.random() < .5 else name + each for each in "abc"} for name in "abc"}
    u = union(lower, opts=["redirect_dir=off", "index=on"] if seed % 2 else ["redirect_dir=off"])
    before = see(u.mnt)
    for _ in range(rnd.randrange(1, 40)):
        change_at_random(rnd, u.mnt)
    after = see(u.mnt)
    names, moved = expand(at_rest(u), before)
    assert moved == []
    # The time of a file alone counts, that of a directory does not; so in brute().
    assert names == brute(before, after)


@pytest.mark.parametrize("seed", range(100, 125))
def test_any_renames(union, seed):
    """With renames: applied to the old tree's names, diff gives the new one's."""
    rnd = random.Random(seed)
    lower = {name: {each: {"x": "x" + each} if rnd.random() < .5 else name + each for each in "abc"} for name in "abc"}
    u = union(lower, opts=FEATURES if seed % 2 else ["redirect_dir=on"])
    before = see(u.mnt)
    for _ in range(rnd.randrange(1, 40)):
        change_at_random(rnd, u.mnt)
    after = see(u.mnt)
    found = at_rest(u)
    moved = {origin: path for kind, path, origin, _ in found if kind == "renamed"}
    origins = {path: origin for origin, path in moved.items()}

    def nearest(path, among):
        """The nearest directory above in among, or the path itself if it is; "/" if none is."""
        while path not in among and path != "/":
            path = os.path.dirname(path)
        return path

    def was(path):
        """Where something removed under a name of now was, by the directory that it was in."""
        top = nearest(os.path.dirname(path), origins)
        return path if top == "/" else origins[top] + path[len(top):]

    def now(path):
        top = nearest(path, moved)
        return path if top == "/" else moved[top] + path[len(top):]

    gone = {was(path) for kind, path, *_ in found if kind in ("removed", "type")}
    expected = {now(path) for path in before
                if len(nearest(path, gone)) <= len(nearest(path, moved)) and path not in gone - set(moved)}
    expected |= {path for kind, path, *_ in found if kind in ("added", "renamed", "type", "modified")}
    assert expected == set(after)


def test_errors(base, union):
    u = union(LOWER)
    assert commands.run("diff").returncode == 2
    for words, text in ((["--format=x", u.mnt], "podman and oci"), (["--nothing", u.mnt], "--nothing")):
        done = commands.run("diff", *words)
        assert done.returncode == 2 and text in done.stderr
    done = commands.run("diff", os.path.join(base, "nothing"))
    assert done.returncode == 1 and "nothing" in done.stderr
    done = commands.run("diff", u.upper, "--lower", os.path.join(base, "gone"))
    assert done.returncode == 1 and "gone" in done.stderr


def test_not_a_layer(base):
    """A directory that says of itself nothing, and of which nothing is said, is not told as all added."""
    done = commands.run("diff", base)
    assert done.returncode == 1 and "--lower" in done.stderr and done.stdout == ""


def test_holes_are_not_read(union):
    """Neither of the upper nor of the lower."""
    u = union({"f": File(data="begin", size=1 << 40)}, opts=["metacopy=off"])
    os.makedirs(u.up("d"), exist_ok=True)
    u.umount()
    with open(u.up("f"), "wb") as file:
        file.write(b"begin")
        file.seek(1 << 39)
        file.write(b"x")
        file.truncate(1 << 40)
    os.rmdir(u.up("d"))
    assert [each[:2] for each in changes(u)] == [("modified", "/f")]
    assert diff(u, "-u") == "Binary files a/f and b/f differ\n"


def test_what_cannot_be_told(union):
    """Is left out with a word; all else is told."""
    u = union({"a": "a"}, {})
    u.umount()
    trees.build(u.upper, {"broken": Dir(xattrs={"trusted.overlay.redirect": "/nowhere"}), "b": "b",
                          "meta": File(size=5, xattrs={"trusted.overlay.metacopy": b""})})
    done = commands.run("diff", *commands.layers_of(u))
    assert done.returncode == 1 and "/b\n" in done.stdout and "2 objects" in done.stderr
    assert "/broken: its redirect leads nowhere" in done.stderr and "/meta: its data" in done.stderr
    done = commands.run("diff", "-u", *commands.layers_of(u))
    assert done.returncode == 1 and "+b" in done.stdout


def test_text_in_renamed_directories(u):
    """Both versions are found, and named as they are called; control characters are not."""
    os.rename(u / "dir", u / "mo\nved")
    u.append("mo\nved/one", "x\n")
    u.umount()
    assert diff(u, "-u").splitlines()[1:] == ["--- a/mo?ved/one", "+++ b/mo?ved/one", "@@ -1 +1,2 @@", " 1", "+x"]


@pytest.mark.veneer_only("the kernel's mounts cannot be asked for their layers")
def test_a_mount_that_changes(u):
    """What is gone before it was looked at is no failure."""
    def churn():
        for i in range(3000):
            try:
                os.mkdir(u / f"c{i % 7}")
                u.write(f"c{i % 7}/f", "x")
            except OSError:
                shutil.rmtree(u / f"c{i % 7}", ignore_errors=True)
    pid = os.fork()
    if pid == 0:
        churn()
        os._exit(0)
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        diff(u)


@pytest.mark.veneer_only("kernel overlayfs has no daemon to ask")
def test_without_an_upper(union):
    u = union({"a": "a"}, readonly=True)
    done = commands.run("diff", u.mnt)
    assert done.returncode == 1 and "read-only" in done.stderr


def test_deep_trees(union):
    """Of any depth, and of paths longer than any call takes."""
    u = union({}, opts=FEATURES)
    at = os.open(u.mnt, os.O_RDONLY)
    for _ in range(600):
        os.mkdir("d" * 20, dir_fd=at)
        inner = os.open("d" * 20, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)
    u.umount()
    assert diff(u, "--name-only").count("\n") == 600
    trees.remove(u.upper)
    os.mkdir(u.upper)


def test_directory_with_data(u):
    os.mkdir(u / "d")
    trees.build(u / "d", {"x": Dir(children={"y": "z"}, mode=0o711)})
    assert kinds_at_rest(u) == [("added", "/d"), ("added", "/d/x"), ("added", "/d/x/y")]


def kinds_at_rest(u):
    return [(kind, path) for kind, path, *_ in at_rest(u)]
