"""`veneer fsck`: the damaged layers of tests/fsck, and what any repair must hold to."""

import contextlib
import json
import os
import pty
import re
import stat
import subprocess

import pytest

import commands
import damaged
import oscalls
import trees
from contenders import CONTENDERS, VENEER
from test_realtree import is_sanitized

pytestmark = [pytest.mark.veneer_only("a command of veneer"), pytest.mark.usefixtures("contender")]

REPAIRED, LEFT, ERROR, USAGE = 1, 4, 8, 16


def words_of(layers, namespace="trusted"):
    words = [layers.upper, "--lower", ":".join(layers.lowers), "--work", layers.work]
    return words + (["--userxattr"] if namespace == "user" else [])


def fsck(mode, layers, *args, namespace="trusted"):
    return commands.run("fsck", mode, *words_of(layers, namespace), *args)


def said(done, base):
    """What was printed, as `expect` files have it: nothing of it depends on where and when."""
    text = (done.stdout + done.stderr).replace(base + "/", "")
    return re.sub(r"[0-9a-f]{42,}", "IDENTITY", text) + f"exit {done.returncode}\n"


@pytest.fixture(params=damaged.names())
def case(request, base):
    """A damaged layer: its description, its layers, and where they are."""
    description = damaged.Description(request.param)
    return description, damaged.Builder(description, base).build(), base


def snapshot(layers, *, times=True):
    roots = layers.lowers + [layers.upper, layers.work]
    return {root: trees.snapshot(root, times=times, nlink=True) for root in roots}


def changes(before, after):
    return [line for root in before for line in trees.difference(before[root], after[root])]


def check_tree(description, layers, base):
    """Both contenders mount the repaired layer and show the tree that is expected."""
    options = description.options.get("mount", ["metacopy=on"])
    if description.namespace == "user":
        options = ["userxattr"]
    mnt = os.path.join(base, "mnt")
    os.makedirs(mnt, exist_ok=True)
    for name in description.options.get("contenders", CONTENDERS):
        mounted = CONTENDERS[name].mount(layers, mnt, options)
        try:
            assert damaged.show(mnt) == description.text("tree"), name
        finally:
            faults = mounted.unmount()
        assert not faults


# The damaged layers

def test_repairs_and_is_clean_then(case):
    description, layers, base = case
    lowers = {path: trees.snapshot(path, nlink=True) for path in layers.lowers}
    first = fsck("-y", layers, namespace=description.namespace)
    assert said(first, base) == description.text("expect.1")
    second = fsck("-y", layers, namespace=description.namespace)
    assert said(second, base) == description.text("expect.2")
    assert second.returncode == 0
    check_tree(description, layers, base)
    assert not changes(lowers, {path: trees.snapshot(path, nlink=True) for path in layers.lowers})


def test_looking_changes_nothing(case):
    description, layers, _base = case
    before = snapshot(layers)
    done = fsck("-n", layers, namespace=description.namespace)
    assert done.returncode == (0 if "exit 0" in description.text("expect.1") else LEFT)
    assert not changes(before, snapshot(layers))
    assert "? yes" not in done.stdout


def test_preening_leaves_what_only_yes_repairs(case):
    description, layers, _base = case
    first = fsck("-p", layers, "--json", namespace=description.namespace)
    left = [found["problem"] for found in json.loads(first.stdout)["findings"] if not found["repaired"]]
    again = fsck("-p", layers, "--json", namespace=description.namespace)
    assert [found["problem"] for found in json.loads(again.stdout)["findings"]] == left
    assert again.returncode == (LEFT if left else 0)
    assert fsck("-y", layers, namespace=description.namespace).returncode == (REPAIRED if left else 0)
    assert fsck("-n", layers, namespace=description.namespace).returncode == 0


def test_json_has_its_form(case):
    description, layers, _base = case
    done = fsck("-n", layers, "--json", namespace=description.namespace)
    commands.check_form("fsck", done.stdout)
    report = json.loads(done.stdout)
    assert report["found"] == len(report["findings"]) == report["left"]
    assert (done.returncode == 0) == (report["found"] == 0)


# What a repair holds to

@pytest.fixture
def made(base):
    """made(text): layers from the lines of a `layer` file."""
    def make(text):
        path = os.path.join(base, "described")
        os.mkdir(path)
        trees.write(os.path.join(path, "layer"), text)
        return damaged.Builder(damaged.Description(path), base).build()
    return make


SIMPLE = """
[lower]
a file a
d/b file b
[upper]
gone whiteout
a whiteout
d/ dir opaque=z
"""


def test_what_has_no_place_is_kept(made):
    layers = made("""
[lower]
x file x
[upper]
a file size=100 mode=640 metacopy=
[work]
index/junk file "only here"
work/notes file "notes of somebody"
origin/a file "a file, not a link"
""")
    assert fsck("-y", layers).returncode == REPAIRED
    kept = os.path.join(layers.work, "lost+found")
    assert sorted(os.listdir(kept)) == ["a", "a.1", "junk", "notes"]
    assert {trees.read(os.path.join(kept, name)) for name in os.listdir(kept)} == {
        bytes(100), b"a file, not a link", b"only here", b"notes of somebody"}
    assert os.stat(kept).st_mode & 0o777 == 0o700


def test_times_of_directories_stay(made):
    layers = made(SIMPLE)
    assert fsck("-y", layers).returncode == REPAIRED
    assert os.stat(layers.upper).st_mtime_ns == damaged.TIME


def test_copied_data_keeps_what_the_file_was(made):
    layers = made("""
[lower]
old file content
[upper]
. dir impure=y
old whiteout
new file size=7 mode=4751 metacopy= origin=@lower/old
""")
    new = os.path.join(layers.upper, "new")
    os.chown(new, 1000, 1001)
    os.chmod(new, 0o4751)
    os.setxattr(new, "security.capability", oscalls.cap_xattr())
    os.utime(new, ns=(damaged.TIME, damaged.TIME))
    before = trees.entry(new)
    assert fsck("-p", layers).returncode == REPAIRED
    after = trees.entry(new)
    marks = {"trusted.overlay.metacopy", "trusted.overlay.origin"}
    assert after.content != before.content and trees.read(new) == b"content"
    assert [x for x in after.xattrs if x[0] not in marks] == [x for x in before.xattrs if x[0] not in marks]
    assert after._replace(content=None, xattrs=None) == before._replace(content=None, xattrs=None)


def test_directories_are_copied_up_as_they_are(base):
    layers = damaged.Builder(damaged.Description("redirect-deep"), base).build()
    os.chown(os.path.join(layers.lowers[0], "p"), 1000, 1001)
    assert fsck("-p", layers).returncode == REPAIRED
    for path in ("p", "p/q"):
        lower, upper = (trees.entry(os.path.join(root, path)) for root in (layers.lowers[0], layers.upper))
        assert lower == upper


def test_the_lowers_in_doubt_are_not_concluded_from(made):
    layers = made("""
[lower]
a file a
other/ dir
[upper]
. dir origin=@lower/other
gone whiteout
""")
    done = fsck("-p", layers)
    assert done.returncode == LEFT and "made over another lower" in done.stdout
    assert trees.is_whiteout(os.path.join(layers.upper, "gone"))


# Who may not be disturbed

@pytest.mark.parametrize("name", CONTENDERS)
@pytest.mark.parametrize("mode", ["-n", "-y"])
def test_refuses_a_live_layer(made, base, name, mode):
    layers = made(SIMPLE)
    mnt = os.path.join(base, "mnt")
    os.mkdir(mnt)
    mounted = CONTENDERS[name].mount(layers, mnt, [])
    before = trees.snapshot(layers.upper)
    try:
        done = fsck(mode, layers)
        assert done.returncode == ERROR and "unmount it first" in done.stderr
        assert not trees.difference(before, trees.snapshot(layers.upper))
    finally:
        assert not mounted.unmount()
    assert fsck(mode, layers).returncode == (REPAIRED if mode == "-y" else LEFT)


def test_refuses_a_live_mount(made, base):
    layers = made(SIMPLE)
    mnt = os.path.join(base, "mnt")
    os.mkdir(mnt)
    mounted = CONTENDERS["veneer"].mount(layers, mnt, [])
    done = commands.run("fsck", "-n", mnt)
    assert not mounted.unmount()
    assert done.returncode == ERROR


@pytest.mark.parametrize("feature, remedy", [("veneer-commit", "veneer commit"), ("other", "does not know")])
def test_refuses_what_it_does_not_know(made, feature, remedy):
    layers = made(SIMPLE + f"[work]\nwork/incompat/{feature}/ dir\nwork/#1 file x\n")
    before = snapshot(layers)
    done = fsck("-y", layers)
    assert done.returncode == ERROR and remedy in done.stderr
    assert not changes(before, snapshot(layers))


# Command lines

@pytest.mark.parametrize("words", [[], ["-n", "-y"], ["--nonsense"], ["a", "b"], ["-o", "x=y"]])
def test_misuse_has_its_own_status(words):
    done = commands.run("fsck", *words)
    assert done.returncode == USAGE and "veneer fsck" in done.stderr and not done.stdout


def test_needs_to_know_what_is_below(made):
    layers = made(SIMPLE)
    done = commands.run("fsck", "-y", layers.upper)
    assert done.returncode == ERROR and "--lower" in done.stderr
    assert trees.is_whiteout(os.path.join(layers.upper, "gone"))


def test_takes_the_options_of_a_mount(made):
    layers = made(SIMPLE)
    done = commands.run("fsck", "-y", "-o", ",".join(layers.option()))
    assert done.returncode == REPAIRED
    assert commands.run("fsck", "-o", ",".join(layers.option())).returncode == 0


def test_without_a_work_directory(made, base):
    layers = made(SIMPLE.replace("gone whiteout", "gone whiteout\nx file whiteout=") + "[lower]\nx file x\n")
    os.rename(layers.work, os.path.join(base, "elsewhere"))
    words = ["fsck", "-y", layers.upper, "--lower", layers.lowers[0]]
    assert commands.run(*words).returncode == REPAIRED
    assert commands.run(*words).returncode == 0
    assert trees.is_whiteout(os.path.join(layers.upper, "x"))


def test_asks_on_a_terminal(made):
    layers = made("[lower]\nx file x\n[upper]\n" + "".join(f"{name} whiteout\n" for name in "abcd"))
    primary, secondary = pty.openpty()
    with subprocess.Popen([VENEER, "fsck", *words_of(layers)], stdin=secondary, stdout=secondary,
                          stderr=secondary) as process:
        os.close(secondary)
        os.write(primary, b"n\ny\nwhat\na\n")
        text = b""
        try:
            while process.poll() is None or not text.endswith(b"left\r\n"):
                text += os.read(primary, 4096)
        except OSError:
            pass
        os.close(primary)
        assert process.wait(30) == REPAIRED | LEFT
    assert os.listdir(layers.upper) == ["a"]
    assert text.count(b"? [y/n/a]") == 4


# Size and malice

def nested(path, depth, name="d"):
    """A directory `depth` levels down, made and left open without long paths."""
    fd = os.open(path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, 0o755, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    return fd


def test_any_depth(made, base):
    layers = made("[lower]\nx file x\n[upper]\n")
    depth = 3000
    for root in (layers.lowers[0], layers.upper):
        fd = nested(root, depth)
        if root == layers.upper:
            os.mknod("gone", stat.S_IFCHR | 0o600, 0, dir_fd=fd)
        os.close(fd)
    os.mkdir(os.path.join(layers.work, "work"))
    os.close(nested(os.path.join(layers.work, "work"), 1500, "#d"))
    done = fsck("-y", layers)
    assert done.returncode == REPAIRED, done.stderr
    assert done.stdout.count("? yes") == 2 and "/d/d/d/d/gone: " in done.stdout
    assert fsck("-n", layers).returncode == 0
    subprocess.run(["rm", "-rf", *layers.lowers, layers.upper], check=True)


def peak_memory(words):
    """The exit status and the peak of resident memory, in KiB."""
    with subprocess.Popen([VENEER, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss


def test_memory_does_not_grow_with_the_tree(made):
    if is_sanitized(VENEER):
        pytest.skip("a sanitizer's memory counts as the command's")
    layers = made("[lower]\nx file x\n[upper]\n")
    words = ["fsck", "-n", *words_of(layers)]
    _, small = peak_memory(words)
    for i in range(100):
        directory = os.path.join(layers.upper, f"d{i}")
        os.mkdir(directory)
        os.mkdir(os.path.join(layers.lowers[0], f"d{i}"))
        for j in range(100):
            os.close(os.open(os.path.join(directory, f"f{j}"), os.O_CREAT | os.O_WRONLY))
            os.close(os.open(os.path.join(layers.lowers[0], f"d{i}", f"g{j}"), os.O_CREAT | os.O_WRONLY))
    status, large = peak_memory(words)
    assert status == 0 and large - small < 4096, (small, large)


@pytest.mark.parametrize("name", ["work", "index", "origin", "lost+found"])
def test_links_in_the_work_directory_are_not_followed(made, base, name):
    layers = made(SIMPLE)
    outside = os.path.join(base, "outside")
    trees.build(outside, {"#1": "x", "junk": "x", "incompat": {"volatile": {}}})
    before = trees.snapshot(outside)
    os.symlink(outside, os.path.join(layers.work, name))
    done = fsck("-y", layers)
    assert done.returncode == REPAIRED, done.stdout + done.stderr
    assert not trees.difference(before, trees.snapshot(outside))


def test_what_is_mounted_in_the_layer_is_not_entered(made):
    layers = made(SIMPLE)
    point = os.path.join(layers.upper, "mounted")
    os.mkdir(point)
    oscalls.mount("tmpfs", point, "tmpfs")
    try:
        os.mknod(os.path.join(point, "gone"), stat.S_IFCHR, 0)
        done = fsck("-y", layers)
        assert done.returncode == REPAIRED | ERROR and point in done.stderr
        assert os.listdir(point) == ["gone"]
    finally:
        oscalls.umount(point)


def test_odd_names_cannot_lie(made):
    layers = made("[lower]\nx file x\n[upper]\n")
    name = b"a\n\x1b[2J/..\xff".replace(b"/", b"")
    os.mknod(os.fsencode(layers.upper) + b"/" + name, stat.S_IFCHR, 0)
    done = fsck("-n", layers)
    assert done.stdout.count("\n") == 2 and "\x1b" not in done.stdout
    done = fsck("-n", layers, "--json")
    commands.check_form("fsck", done.stdout)
    (found,) = json.loads(done.stdout)["findings"]
    assert bytes.fromhex(found["path_hex"]).endswith(b"/" + name)


def test_large_values(made):
    layers = made("[lower]\nx file x\n[upper]\nd/ dir\nf file f\n")
    for path, key in (("d", "redirect"), ("d", "opaque"), ("d", "origin"), ("f", "metacopy"), ("f", "protattr")):
        with contextlib.suppress(OSError):  # ext4 has a block for all of them
            os.setxattr(os.path.join(layers.upper, path), "trusted.overlay." + key, b"/" * 900)
    assert fsck("-y", layers).returncode == REPAIRED
    assert fsck("-n", layers).returncode == 0


# An ordinary user

@pytest.mark.parametrize("name", ["namespace-user", "work-table"])
def test_for_an_ordinary_user(base, name):
    """Of their own layer; only what takes root is not told."""
    description = damaged.Description(name)
    layers = damaged.Builder(description, base).build()
    subprocess.run(["chown", "-R", "-h", "1000:1000", base], check=True)
    words = [VENEER, "fsck", "-y", *words_of(layers, "user")]

    def run():
        return subprocess.run(words, capture_output=True, text=True, check=False, user=1000, group=1000,
                              extra_groups=[], stdin=subprocess.DEVNULL)
    assert run().returncode == REPAIRED
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
