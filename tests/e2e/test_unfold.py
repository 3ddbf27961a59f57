"""veneer unfold: a layer for readers that follow neither redirects nor metacopy files."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

import oscalls
import stacks
import trees
from commands import check_form, run
from contenders import CONTENDERS, VENEER, Layers
from stacks import Stack, differences, marks
from trees import Dir, File, Hard, opaque, whiteout

T = "trusted.overlay."
PLAIN = ["ro", "redirect_dir=nofollow", "metacopy=off"]
NEEDED = 3
FAULTS = os.environ.get("VENEER_FAULTS", VENEER + "-faults")


def unfold(upper, work, lowers, *args):
    return run("unfold", *args, "--lower", ":".join(lowers), "--work", work, upper)


def unfolded(upper, work, lowers, *args):
    done = unfold(upper, work, lowers, *args)
    assert done.returncode == 0, done.stderr
    assert not os.path.exists(os.path.join(work, "work/#unfold"))
    found = [name for names in marks(upper).values() for name in names]
    assert not {"redirect", "metacopy", "veneer.aside"} & set(found)
    assert unfold(upper, work, lowers, "--check").returncode == 0


def stack_of(base, contender, seed, **kwargs):
    """A stack whose top needs unfolding."""
    return Stack(base, contender, seed, **kwargs).grow(80).grow(30).grow(40)


def build(base, **layers):
    paths = []
    for name, spec in layers.items():
        paths.append(os.path.join(base, name))
        trees.build(paths[-1], spec)
    os.makedirs(os.path.join(base, "work"), exist_ok=True)
    return paths


# Layers made by use. Below the top there must be no redirects either: the reader follows none.

def plain_below(stack):
    """The lower layers as one without marks."""
    out = os.path.join(stack.home, "below")
    done = run("squash", "--lower", "", "-o", out, *stack.layers)
    assert done.returncode == 0, done.stderr
    stack.layers = [out]


@pytest.mark.parametrize("seed", range(10))
def test_shows_what_it_showed(base, contender, seed):
    stack = Stack(base, contender, seed).grow(80).grow(20)
    plain_below(stack)
    stack.grow(random.Random(seed).randint(10, 60))
    lower = trees.snapshot(stack.layers[1], nlink=True, ino=True)
    before = stack.see()
    unfolded(stack.layers[0], stack.works[0], stack.layers[1:])
    after = stack.see()
    # Without an index a copy of one name of a lower file is a file of its own.
    links = before.pop("hard links")
    assert all(any(set(names) <= set(old) for old in links) for names in after.pop("hard links"))
    assert trees.difference(before, after) == []
    after = stack.see(opts=PLAIN)
    del after["hard links"]
    assert trees.difference(before, after) == []
    assert trees.snapshot(stack.layers[1], nlink=True, ino=True) == lower


@pytest.mark.parametrize("seed", range(5))
def test_over_layers_with_redirects(base, contender, seed):
    stack = stack_of(base, contender, seed + 50)
    before = stack.see()
    unfolded(stack.layers[0], stack.works[0], stack.layers[1:])
    assert differences(before, stack.see()) == []


@pytest.mark.parametrize("seed", range(4))
def test_takes_further_changes(base, contender, seed):
    """As an upper again, with index and all."""
    stack = stack_of(base, contender, seed + 70, opts=["redirect_dir=on", "metacopy=on", "index=on"])

    def mounted(changes=0):
        mount = contender.mount(Layers(stack.layers[1:], stack.layers[0], stack.works[0]), stack.mnt, stack.opts)
        try:
            for _ in range(changes):
                stacks.Changes(stack.mnt, stack.rnd).one()
            return {**trees.snapshot(stack.mnt), "hard links": stacks.hard_links(stack.mnt)}
        finally:
            assert mount.unmount() == []
    for changes in (0, 20):
        before = mounted(changes)
        unfolded(stack.layers[0], stack.works[0], stack.layers[1:])
        assert differences(before, mounted()) == []


@pytest.mark.veneer_only("the kernel writes no redirects there")
@pytest.mark.parametrize("seed", range(4))
def test_in_a_user_namespace(base, contender, seed, child):
    stack = Stack(base, CONTENDERS["veneer"], seed + 90).grow(60)
    stack.opts = ["userxattr", "redirect_dir=on", "metacopy=on", "index=off"]
    stack.grow(40)
    mount = CONTENDERS["veneer"].mount(Layers(stack.layers), stack.path("look"), ["ro", "userxattr"])
    before = {**trees.snapshot(mount.path), "hard links": stacks.hard_links(mount.path)}
    assert mount.unmount() == []
    done = unfold(stack.layers[0], stack.works[0], stack.layers[1:], "--userxattr")
    assert done.returncode == 0, done.stderr

    def look():
        oscalls.unshare(oscalls.CLONE_NEWUSER | oscalls.CLONE_NEWNS)
        for name, text in (("setgroups", "deny"), ("uid_map", "0 0 1"), ("gid_map", "0 0 1")):
            trees.write(f"/proc/self/{name}", text)
        CONTENDERS["kernel"].mount(Layers(stack.layers), stack.path("look"), ["ro", "userxattr"])
        return {**trees.snapshot(stack.path("look")), "hard links": stacks.hard_links(stack.path("look"))}
    before = {path: entry if path == "hard links" else entry._replace(owner=None, xattrs=None)
              for path, entry in before.items()}
    after = {path: entry if path == "hard links" else entry._replace(owner=None, xattrs=None)
             for path, entry in child(look).items()}
    assert differences(before, after) == []


@pytest.mark.veneer_only("for a third implementation")
def test_for_fuse_overlayfs(base, contender):
    program = shutil.which("fuse-overlayfs")
    if not program:
        pytest.skip("fuse-overlayfs is missing")
    low, upper = build(base, low={"d": {"x": "x", "gone": "g", "s": {"l": "l"}}, "f": "f"},
                       upper={"d": whiteout(), "f": metacopy(1, mode=0o600),
                              "e": Dir(children={"gone": whiteout(), "s": {"u": "u"}}, xattrs={T + "redirect": "d"})})
    unfolded(upper, os.path.join(base, "work"), [low])
    mnt = os.path.join(base, "mnt")
    os.mkdir(mnt)
    subprocess.run([program, "-o", f"lowerdir={upper}:{low}", mnt], check=True, stdin=subprocess.DEVNULL)
    try:
        found = sorted(os.path.relpath(path, mnt) for path in stacks.trees_below(mnt))
        assert found == ["e", "e/s", "e/s/l", "e/s/u", "e/x", "f"]
        assert trees.read(os.path.join(mnt, "f")) == b"f"
    finally:
        oscalls.umount(mnt)


# Each thing by itself

def mounted(u):
    """What is in e, by path: inode number, names, mode and content."""
    u.mount()
    found = {}
    for path in stacks.trees_below(os.path.join(u.mnt, "e")):
        if os.path.isfile(path):
            st = os.stat(path)
            found[os.path.relpath(path, u.mnt)] = st.st_ino, st.st_nlink, oct(st.st_mode), trees.read(path)
    links = stacks.hard_links(u.mnt)
    u.umount()
    return found, links


@pytest.mark.parametrize("index", ["off", "on"])
def test_inode_numbers_and_the_index_stay(union_factory, contender, index):
    u = union_factory({"d": {"x": "x", "s": {"z": "z"}, "one": "1", "four": Hard("d/one")},
                       "two": Hard("d/one"), "three": Hard("d/one")},
                      opts=["redirect_dir=on", "metacopy=on", f"index={index}"], guard=False)
    u.mount()
    os.rename(os.path.join(u.mnt, "d"), os.path.join(u.mnt, "e"))
    os.chmod(os.path.join(u.mnt, "e/x"), 0o600)
    os.chmod(os.path.join(u.mnt, "two"), 0o640)
    os.unlink(os.path.join(u.mnt, "two"))
    u.umount()
    before, links = mounted(u)
    if index == "off":
        before = {path: found for path, found in before.items() if path not in ("e/one", "e/four")}
    unfolded(u.layers.upper, u.layers.work, u.layers.lowers)
    after, links_after = mounted(u)
    assert {path: after[path] for path in before} == before
    assert len(after) == 4
    if index == "on":
        assert links_after == links == [["e/four", "e/one", "three"]]
        assert marks(u.layers.work).keys() & {"metacopy"} == set()


def metacopy(size, **attrs):
    return File(size=size, xattrs={T + "metacopy": "", **attrs.pop("xattrs", {})}, **attrs)


def lasting(root, prefix=T):
    """marks() without where things come from."""
    found = {path: [name for name in names if name not in ("origin", "impure")]
             for path, names in marks(root, prefix).items()}
    return {path: names for path, names in found.items() if names}


@pytest.mark.veneer_only("the layers are made by hand")
def test_files(base, contender):
    capability = bytes.fromhex("0100000200040000" + "00" * 12)
    upper, low = build(
        base, low={"f": File(data="data", size=64 << 20), "g": "gg", "h": "hh"},
        upper={"f": metacopy(64 << 20, mode=0o4711, owner=(1000, 1000), mtime=trees.OLD,
                             xattrs={"user.x": "y", "security.capability": capability}),
               "d": {"moved": metacopy(2, xattrs={T + "redirect": "/g"}), "again": Hard("d/moved")},
               "old": File(data="plain", xattrs={T + "redirect": "/h"})})[::-1]
    before = trees.entry(os.path.join(upper, "f"), nlink=True, ino=True)
    inode = os.stat(os.path.join(upper, "d/moved")).st_ino
    unfolded(upper, os.path.join(base, "work"), [low])
    after = trees.entry(os.path.join(upper, "f"), nlink=True, ino=True)
    assert after._replace(content=None, xattrs=None) == before._replace(content=None, xattrs=None)
    assert dict(after.xattrs) == {"user.x": b"y", "security.capability": capability}
    assert trees.read(os.path.join(upper, "f"))[:5] == b"data\0"
    assert os.stat(os.path.join(upper, "f")).st_blocks * 512 < 1 << 20
    assert trees.read(os.path.join(upper, "d/again")) == b"gg"
    st = os.stat(os.path.join(upper, "d/again"))
    assert (st.st_ino, st.st_nlink) == (inode, 2)


@pytest.mark.veneer_only("the layers are made by hand")
def test_directories(base, contender):
    low, upper = build(
        base, low={"d": {"x": "x", "gone": "g", "both": {"l": "l"}, "full": {"l": "l"}}, "e": {"hidden": ""}},
        upper={"d": whiteout(),
               "e": Dir(children={"gone": whiteout(), "u": "u", "both": {"u": "u"}, "full": opaque({"u": "u"}),
                                  "in": Dir(children={"v": "v"}, xattrs={T + "redirect": "/d/both"})},
                        xattrs={T + "redirect": "d", "user.x": "y"}, mode=0o1750, owner=(1, 2), mtime=trees.OLD),
               "k": "k"})
    os.utime(upper, ns=(trees.OLD, trees.OLD))
    keep = os.stat(os.path.join(upper, "e/u"))
    unfolded(upper, os.path.join(base, "work"), [low])
    assert lasting(upper) == {"d": ["whiteout"], "e": ["opaque"]}
    assert trees.entry(os.path.join(upper, "e"))[1:3] == (0o1750, (1, 2))
    assert os.stat(os.path.join(upper, "e")).st_mtime_ns == os.stat(upper).st_mtime_ns == trees.OLD
    found = sorted(os.path.relpath(path, upper) for path in stacks.trees_below(upper))
    assert found == ["d", "e", "e/both", "e/both/l", "e/both/u", "e/full", "e/full/u", "e/in", "e/in/l", "e/in/v",
                     "e/u", "e/x", "k"]
    now = os.stat(os.path.join(upper, "e/u"))
    assert (now.st_ino, now.st_nlink) == (keep.st_ino, 1)


@pytest.mark.veneer_only("the command's output")
def test_check_and_dry_run_change_nothing(base, contender):
    low, upper = build(base, low={"d": {"x": "x"}, "f": "f"},
                       upper={"e": Dir(xattrs={T + "redirect": "d"}), "d": whiteout(), "f": metacopy(1)})
    before = trees.snapshot(upper, ino=True), trees.snapshot(os.path.join(base, "work"))
    work = os.path.join(base, "work")
    assert unfold(upper, work, [low], "--check").returncode == NEEDED
    done = unfold(upper, work, [low], "--dry-run")
    assert done.returncode == 0
    assert [line.split() for line in done.stdout.splitlines()[:2]] == [["file", "f"], ["directory", "e"]]
    done = unfold(upper, work, [low], "--dry-run", "--json")
    check_form("unfold", done.stdout)
    assert json.loads(done.stdout)["objects"] == [{"kind": "file", "path": "f"}, {"kind": "directory", "path": "e"}]
    assert before == (trees.snapshot(upper, ino=True), trees.snapshot(work))
    done = unfold(upper, work, [low], "--json")
    check_form("unfold", done.stdout)
    assert json.loads(done.stdout)["counts"] == {"files": 1, "directories": 1, "remains": 0, "bytes": 2}


def test_refuses_a_live_upper(union_factory, contender):
    u = union_factory({"f": "x"}, upper={"g": "y"}).mount()
    done = unfold(u.layers.upper, u.layers.work, u.layers.lowers)
    assert done.returncode == 1 and "unmount it first" in done.stderr
    u.umount()
    assert unfold(u.layers.upper, u.layers.work, u.layers.lowers).returncode == 0


@pytest.mark.veneer_only("a kept layer")
def test_a_kept_layer_says_it_itself(base, contender):
    """Its lowers, for squash as well."""
    low, upper = build(base, low={"d": {"x": "x"}, "k": "k"},
                       upper={"e": Dir(children={"y": "y"}, xattrs={T + "redirect": "d"}), "d": whiteout()})
    keep = os.path.join(base, "keep")
    os.mkdir(keep)
    for name, path in (("upper", upper), ("work", os.path.join(base, "work"))):
        os.rename(path, os.path.join(keep, name))
    trees.write(os.path.join(keep, "layer.json"), json.dumps({
        "schema": "veneer-layer", "version": 1, "lowers": [{"path": low, "data_only": False}], "cross_mounts": False,
        "userxattr": False, "created": {"s": 1, "ns": 0}, "command": [{"word": "true"}]}))
    over, plain = os.path.join(base, "over"), os.path.join(base, "plain")
    assert run("squash", "-o", over, keep).returncode == 0
    assert marks(over) == {"d": ["whiteout"], "e": ["redirect"]}
    assert run("squash", "-o", plain, keep, low).returncode == 0
    assert sorted(os.listdir(plain)) == ["e", "k"] and marks(plain) == {}
    assert run("unfold", "--check", keep).returncode == NEEDED
    assert run("unfold", keep).returncode == 0
    assert sorted(os.listdir(os.path.join(keep, "upper/e"))) == ["x", "y"]
    assert run("unfold", "--check", keep).returncode == 0


@pytest.mark.veneer_only("the command refuses")
def test_refusals(base, contender):
    low, upper = build(base, low={}, upper={"f": metacopy(1)})
    for args, words in [
            ((upper,), "name it with --lower"),
            ((upper, "--lower", low), "f: the data of this metacopy file"),
            ((os.path.join(base, "no"), "--lower", low), "No such file"),
            ((upper, "--lower", os.path.join(base, "no")), "No such file"),
    ]:
        done = run("unfold", *args)
        assert (done.returncode, done.stdout) == (1, ""), args
        assert words in done.stderr, args
    assert run("unfold").returncode == run("unfold", "--nonsense", upper).returncode == 2
    assert marks(upper) == {"f": ["metacopy"]}


# Cut off

def wide(count):
    """Much to do: (lower, upper)."""
    files = {f"f{i}": os.urandom(30_000) for i in range(count)}
    low = {"files": files, "trees": {f"t{i}": {f"x{j}": "x" * 9000 for j in range(20)} for i in range(count)}}
    upper = {"files": {name: metacopy(30_000, mode=0o4755, mtime=trees.OLD) for name in files},
             "trees": Dir(children={f"u{i}": Dir(xattrs={T + "redirect": f"t{i}"}) for i in range(count)},
                          mtime=trees.OLD)}
    upper["trees"].children.update({f"t{i}": whiteout() for i in range(count)})
    return low, upper


@pytest.mark.veneer_only("the command is killed")
@pytest.mark.parametrize("seed", range(2))
def test_killed_and_run_again(base, contender, seed):
    rnd = random.Random(seed)
    low, upper = build(base, **dict(zip(("low", "upper"), wide(40))))
    work, nothing, look = (os.path.join(base, name) for name in ("work", "nothing", "look"))
    os.mkdir(nothing)
    os.mkdir(look)
    before = stacks.see(look, [upper, low], nothing)
    kills = 0
    for _ in range(20):
        with subprocess.Popen([VENEER, "unfold", "--lower", low, "--work", work, upper],
                              stdout=subprocess.DEVNULL) as running:
            time.sleep(rnd.random() * .02)
            running.send_signal(signal.SIGKILL)
        if running.returncode == 0:
            break
        kills += 1
        # The one object that was being worked on may show another time; nothing else differs.
        now = stacks.see(look, [upper, low], nothing)
        wrong = [path for path, entry in before.items() if path != "hard links"
                 and now[path]._replace(mtime=None) != entry._replace(mtime=None)]
        assert wrong == []
        assert sum(now[path].mtime != entry.mtime for path, entry in before.items() if path != "hard links") <= 1
    unfolded(upper, work, [low])
    assert kills > 0
    assert differences(before, stacks.see(look, [upper, low], nothing, PLAIN)) == []


def copy(path, to):
    """A layer as it is, attributes and hard links and all."""
    subprocess.run(["cp", "-a", path, to], check=True)
    return to


def at_each_change(base, layers, what, look):
    """Run unfold again and again, the N-th time ended at its N-th change; look(upper, work) after each."""
    for number in range(1, 400):
        upper, work = (copy(layers[name], os.path.join(base, f"{name}-{what}-{number}")) for name in ("upper", "work"))
        done = subprocess.run([FAULTS, "unfold", "--lower", layers["low"], "--work", work, upper], check=False,
                              capture_output=True, env={**os.environ, "VENEER_FAULT": f"{number}:{what}"})
        if done.returncode == 0:
            return number
        look(upper, work)
        trees.remove(upper)
        trees.remove(work)
    raise AssertionError("it never ends")


@pytest.mark.veneer_only("the command is ended at each of its changes")
@pytest.mark.parametrize("what", ["kill", "killafter", "ENOSPC"])
def test_ended_at_each_change(base, contender, what):
    capability = bytes.fromhex("0100000200040000" + "00" * 12)
    low, upper = build(
        base, low={"d": {"x": "x", "s": {"y": Hard("d/x"), "z": "z"}}, "f": "f" * 9000, "g": "gg"},
        upper={"d": whiteout(), "f": metacopy(9000, mode=0o4755, owner=(5, 5), mtime=trees.OLD,
                                              xattrs={"user.x": "y", "security.capability": capability}),
               "g2": metacopy(2, mtime=trees.OLD, xattrs={T + "redirect": "g"}), "g": Hard("g2"),
               "e": Dir(children={"u": "u", "s": {"y": whiteout()}}, mode=0o1755, mtime=trees.OLD,
                        xattrs={T + "redirect": "d"})})
    nothing, look = os.path.join(base, "nothing"), os.path.join(base, "look")
    os.mkdir(nothing)
    os.mkdir(look)
    before = stacks.see(look, [upper, low], nothing)

    def bare(entry):
        return entry._replace(mtime=None, xattrs=tuple(x for x in entry.xattrs if x[0] != "security.capability"))

    def check(path, work):
        now = stacks.see(look, [path, low], nothing)
        other = [name for name, entry in before.items() if name != "hard links" and entry != now[name]]
        assert len(set(other) - {"g2"}) <= 1 and all(bare(before[name]) == bare(now[name]) for name in other)
        assert now.pop("hard links") == before["hard links"] and now.keys() == before.keys() - {"hard links"}
        unfolded(path, work, [low])
        assert differences(dict(before), stacks.see(look, [path, low], nothing, PLAIN)) == []
    count = at_each_change(base, {"low": low, "upper": upper, "work": os.path.join(base, "work")}, what, check)
    assert count > 30


@pytest.mark.veneer_only("a full disk under the command")
def test_no_space_and_run_again(base, scratch, contender):
    small = scratch.make("ext4", 16 << 20)
    low, = build(base, low={"d": {f"f{i}": os.urandom(1 << 20) for i in range(8)}, "g": os.urandom(1 << 20)})
    upper, work = os.path.join(small, "upper"), os.path.join(small, "work")
    trees.build(upper, {"e": Dir(xattrs={T + "redirect": "d"}), "d": whiteout(), "g": metacopy(1 << 20)})
    os.mkdir(work)
    nothing, look = os.path.join(base, "nothing"), os.path.join(base, "look")
    os.mkdir(nothing)
    os.mkdir(look)
    before = stacks.see(look, [upper, low], nothing)
    st = os.statvfs(small)
    with open(os.path.join(small, "filler"), "wb") as file:
        file.write(bytes(st.f_bavail * st.f_bsize - (4 << 20)))
    done = unfold(upper, work, [low])
    assert done.returncode == 1 and os.strerror(errno.ENOSPC) in done.stderr
    assert differences(dict(before), stacks.see(look, [upper, low], nothing)) == []
    os.unlink(os.path.join(small, "filler"))
    unfolded(upper, work, [low])
    assert differences(before, stacks.see(look, [upper, low], nothing, PLAIN)) == []


@pytest.mark.veneer_only("the command is run by an ordinary user")
def test_ordinary_user(base, contender, as_user):
    os.chmod(base, 0o777)
    u = "user.overlay."
    paths = [os.path.join(base, name) for name in ("low", "upper", "work")]

    def make():
        trees.build(paths[0], {"d": {"x": "x"}, "f": "f"})
        trees.build(paths[1], {"d": whiteout(), "e": Dir(children={"w": "w"}, xattrs={u + "redirect": "d"}),
                               "f": File(size=1, mtime=trees.OLD, xattrs={u + "metacopy": ""})})
        os.chmod(os.path.join(paths[1], "e"), 0o555)
        os.chmod(os.path.join(paths[1], "f"), 0o400)
        os.mkdir(paths[2])
        return unfold(paths[1], paths[2], paths[:1], "--userxattr").stderr
    assert as_user(1000, make) == ""
    assert lasting(paths[1], u) == {"d": ["whiteout"], "e": ["opaque"]}
    assert sorted(os.listdir(os.path.join(paths[1], "e"))) == ["w", "x"]
    st = os.stat(os.path.join(paths[1], "f"))
    assert (st.st_mode & 0o7777, st.st_mtime_ns) == (0o400, trees.OLD)
    assert os.stat(os.path.join(paths[1], "e")).st_mode & 0o7777 == 0o555
