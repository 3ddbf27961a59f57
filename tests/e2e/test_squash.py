"""veneer squash: several layers as one; what the stack showed is what the result shows."""

import errno
import json
import os
import random
import signal
import subprocess

import pytest

import oscalls
import stacks
import test_random_layers as random_layers
import trees
from commands import check_form, run
from contenders import CONTENDERS, VENEER, Layers
from stacks import Stack, differences, marks
from trees import Dir, File, Hard, opaque, whiteout, xwhiteout

T = "trusted.overlay."
FAULTS = os.environ.get("VENEER_FAULTS", VENEER + "-faults")


def squash(out, layers, lowers=None, *args):
    if lowers is not None:
        args = ("--lower", ":".join(lowers), *args)
    return run("squash", *args, "-o", out, *layers)


def squashed(out, layers, lowers=(), *args):
    done = squash(out, layers, lowers, *args)
    assert done.returncode == 0, done.stderr
    assert sorted(name for name in os.listdir(os.path.dirname(out)) if "veneer-" in name) == []
    return out


def build(base, **layers):
    paths = []
    for name, spec in layers.items():
        paths.append(os.path.join(base, name))
        trees.build(paths[-1], spec)
    return paths


# Layers made by use

@pytest.mark.parametrize("seed", range(12))
def test_shows_what_the_stack_showed(base, contender, seed):
    rnd = random.Random(seed)
    stack = Stack(base, contender, seed).grow(60)
    for _ in range(rnd.randint(2, 5)):
        stack.grow(rnd.randint(5, 40))
    cut = rnd.choice([len(stack.layers), len(stack.layers) - 1, rnd.randint(2, len(stack.layers))])
    inputs = [trees.snapshot(path, nlink=True, ino=True) for path in stack.layers]
    before = stack.see()
    out = squashed(os.path.join(base, "out"), stack.layers[:cut], stack.layers[cut:])
    assert [trees.snapshot(path, nlink=True, ino=True) for path in stack.layers] == inputs
    assert differences(before, stack.see([out, *stack.layers[cut:]])) == []
    if cut == len(stack.layers):
        assert marks(out) == {}


@pytest.mark.parametrize("seed", range(6))
def test_goes_on_as_an_upper(base, contender, seed):
    """The result takes further changes, by either implementation."""
    stack = Stack(base, contender, seed + 100).grow(60).grow(30).grow(30)
    out = squashed(os.path.join(base, "out"), stack.layers[:2], stack.layers[2:])
    stack.layers[:2] = [out]
    before = stack.see()
    stack.grow(20)
    again = squashed(os.path.join(base, "again"), stack.layers[:2], stack.layers[2:])
    assert differences(stack.see(), stack.see([again, *stack.layers[2:]])) == []
    assert differences(before, stack.see(stack.layers[1:])) == []


# Layers with any mark anywhere

def seen(base, layers):
    mnt, empty = os.path.join(base, "look"), os.path.join(base, "nothing")
    os.makedirs(mnt, exist_ok=True)
    os.makedirs(empty, exist_ok=True)
    mount = CONTENDERS["kernel"].mount(Layers([*layers, empty]), mnt, stacks.READ)
    try:
        return random_layers.see(mnt)
    finally:
        oscalls.umount(mount.path)


@pytest.mark.veneer_only("the layers are made by hand")
@pytest.mark.parametrize("seed", range(40))
def test_layers_made_at_random(base, contender, seed):
    rnd = random.Random(seed)
    layers = build(base, **{f"l{i}": random_layers.random_dir(rnd, f"layer{i}")
                            for i in range(rnd.randint(2, 5))})
    cut = rnd.randint(2, len(layers))
    before = seen(base, layers)
    out = os.path.join(base, "out")
    done = squash(out, layers[:cut], layers[cut:])
    if done.returncode != 0:
        assert "the data of this metacopy file is in none of the layers" in done.stderr
        assert "no data" in before.values()  # look() of random_layers
        assert not os.path.exists(out)
        return
    after = seen(base, [out, *layers[cut:]])
    before, after = random_layers.without_twins(before, after)
    after, before = random_layers.without_twins(after, before)
    assert {path: (found, after.get(path)) for path, found in before.items()
            if found != after.get(path) and not is_short(found, after.get(path))} == {}


def is_short(one, other):
    """A metacopy file of another size than its data has: read to the end of what is there."""
    return one[0] == "file" == other[0] and one[1] == other[1] and one[2] == other[2].rstrip(b"\0")


# Each thing by itself

@pytest.mark.veneer_only("the layers are made by hand")
@pytest.mark.parametrize("form", ["device", "attribute", "name"])
def test_any_form_of_whiteout(base, contender, form):
    gone = {"device": {"gone": whiteout()}, "attribute": {"gone": xwhiteout()},
            "name": {".wh.gone": ""}}[form]
    full = {"device": opaque({"new": "n"}), "attribute": opaque({"new": "n"}),
            "name": Dir(children={".wh..wh..opq": "", "new": "n"})}[form]
    top, middle, low = build(base, top={"t": "t"}, middle={**gone, "full": full, "m": "m"},
                             low={"gone": "g", "full": {"old": "o"}, "l": "l"})
    out = squashed(os.path.join(base, "out"), [top, middle], [low])
    assert marks(out) == {"full": ["opaque"], "gone": ["whiteout"]}
    assert sorted(os.listdir(out)) == ["full", "gone", "m", "t"]
    plain = squashed(os.path.join(base, "plain"), [top, middle, low])
    assert marks(plain) == {}
    assert sorted(os.listdir(plain)) == ["full", "l", "m", "t"]
    assert os.listdir(os.path.join(plain, "full")) == ["new"]


@pytest.mark.veneer_only("the layers are made by hand")
def test_whiteouts_of_nothing_are_left_out(base, contender):
    top, middle, low = build(base, top={"only middle": whiteout(), "both": whiteout()},
                             middle={"only middle": "m", "both": "m"}, low={"both": "l"})
    out = squashed(os.path.join(base, "out"), [top, middle], [low])
    assert os.listdir(out) == ["both"]
    assert marks(out) == {"both": ["whiteout"]}


@pytest.mark.veneer_only("the layers are made by hand")
def test_user_attributes(base, contender):
    u = "user.overlay."
    top, middle, low = build(
        base, top={"e": Dir(xattrs={u + "redirect": "/d"}), "d": whiteout(),
                   "f": File(size=1, mode=0o600, xattrs={u + "metacopy": ""})},
        middle={"d": {"m": "m"}, "o": opaque({"n": ""}, prefix="user")},
        low={"d": {"l": "l"}, "o": {"p": ""}, "f": "f"})
    out = squashed(os.path.join(base, "out"), [top, middle], [low], "--userxattr")
    assert marks(out, u) == {"d": ["whiteout"], "e": ["redirect"], "o": ["opaque"], "f": ["metacopy"]}
    plain = squashed(os.path.join(base, "plain"), [top, middle, low], (), "--userxattr")
    assert trees.read(os.path.join(plain, "e/l")) == b"l"
    assert trees.read(os.path.join(plain, "f")) == b"f"
    assert marks(plain, u) == {}


@pytest.mark.veneer_only("the layers are made by hand")
def test_hard_links_and_holes(base, contender):
    size = 64 << 20
    top, low = build(base, top={"d": {"two": Hard("one")}, "one": File(data="x", size=size)},
                     low={"three": "3", "four": Hard("three")})
    out = squashed(os.path.join(base, "out"), [top, low])
    assert stacks.hard_links(out) == [["d/two", "one"], ["four", "three"]]
    st = os.stat(os.path.join(out, "one"))
    assert st.st_nlink == 2 and st.st_size == size and st.st_blocks * 512 < 1 << 20


@pytest.mark.veneer_only("the layers are made by hand")
def test_data_only_lower(base, contender):
    top, middle, low, data = build(
        base, top={"t": "t"},
        middle={"f": File(size=4, xattrs={T + "metacopy": "", T + "redirect": "/blob"})},
        low={"l": "l"}, data={"blob": "blob"})
    out = os.path.join(base, "out")
    done = run("squash", "--lower", f"{low}::{data}", "-o", out, top, middle)
    assert done.returncode == 0, done.stderr
    assert os.getxattr(os.path.join(out, "f"), T + "redirect") == b"/blob"
    mnt = os.path.join(base, "mnt")
    os.mkdir(mnt)
    CONTENDERS["kernel"].mount(Layers([out, low], data=[data]), mnt, stacks.READ)
    assert trees.read(os.path.join(mnt, "f")) == b"blob"
    oscalls.umount(mnt)


@pytest.mark.veneer_only("the layers are made by hand")
def test_origin_is_kept_where_it_is_true(base, contender):
    stack = Stack(base, CONTENDERS["kernel"], 1)
    trees.build(stack.path("layer0"), {"low": "l", "d": {"x": "x"}})
    stack.layers, stack.works = [stack.path("layer0")], [""]
    for name in ("middle", "top"):
        upper, work = stack.path(name), stack.path(name + "-work")
        CONTENDERS["kernel"].mount(Layers(stack.layers, upper, work), stack.mnt, stacks.WRITE)
        trees.write(os.path.join(stack.mnt, f"new-{name}"), name)
        if name == "middle":
            trees.write(os.path.join(stack.mnt, "low"), "changed")
            trees.write(os.path.join(stack.mnt, "d/y"), "y")
        else:
            os.chmod(os.path.join(stack.mnt, "new-middle"), 0o600)
        oscalls.umount(stack.mnt)
        stack.layers.insert(0, upper)
    out = squashed(os.path.join(base, "out"), stack.layers[:2], stack.layers[2:])
    assert marks(out) == {".": ["impure"], "low": ["origin"], "d": ["origin"]}


def test_warns_of_names_that_only_an_index_knows(union_factory, base, contender):
    u = union_factory({"a": "old", "b": Hard("a"), "c": "c"}, opts=["index=on"])
    u.mount()
    trees.write(os.path.join(u.mnt, "c"), "new")
    u.umount()
    assert squash(os.path.join(base, "one"), [u.layers.upper], u.layers.lowers).stderr == ""
    u.mount()
    trees.write(os.path.join(u.mnt, "a"), "new")
    u.umount()
    done = squash(os.path.join(base, "two"), [u.layers.upper], u.layers.lowers)
    assert done.returncode == 0 and "of 1 of its files other names are in lower layers alone" in done.stderr
    u.mount()
    trees.write(os.path.join(u.mnt, "b"), "newer")
    os.chmod(os.path.join(u.mnt, "b"), 0o600)
    os.unlink(os.path.join(u.mnt, "b"))
    u.umount()
    assert squash(os.path.join(base, "three"), [u.layers.upper], u.layers.lowers).stderr == ""


@pytest.mark.veneer_only("the layers are made by hand")
def test_deeper_than_any_path(base, contender):
    """Some descriptors for each level, no path."""
    top, low = build(base, top={}, low={})
    home = os.getcwd()
    for root in (top, low):
        os.chdir(root)
        for _ in range(1500):
            os.mkdir("directory")
            os.chdir("directory")
        trees.write(os.path.basename(root), "at the end")
    os.chdir(home)
    out = squashed(os.path.join(base, "out"), [top, low])
    depth = 0
    os.chdir(out)
    while "directory" in os.listdir():
        os.chdir("directory")
        depth += 1
    assert (depth, sorted(os.listdir())) == (1500, ["low", "top"])
    os.chdir(home)


# What can go wrong

@pytest.mark.veneer_only("the command refuses")
def test_refusals(base, contender):
    top, low, there = build(base, top={"f": File(size=1, xattrs={T + "metacopy": ""})}, low={}, there={})
    for args, words in [
            (["-o", there, top, low], "exists"),
            (["-o", os.path.join(top, "out"), top, low], "lies in the layer"),
            (["-o", os.path.join(base, "no/out"), top, low], "No such file"),
            (["-o", os.path.join(base, "out"), top, os.path.join(base, "no")], "No such file"),
            (["-o", os.path.join(base, "out"), top, low], "f: the data of this metacopy file"),
    ]:
        done = run("squash", *args)
        assert (done.returncode, done.stdout) == (1, ""), args
        assert words in done.stderr
    assert sorted(os.listdir(base)) == ["low", "there", "top"]
    for args in ([], ["-o", "x"], [top, low], ["--nonsense", "-o", "x", top]):
        assert run("squash", *args).returncode == 2, args


def test_refuses_a_live_upper(union_factory, base, contender):
    u = union_factory({"f": "x"}, upper={"g": "y"}).mount()
    done = squash(os.path.join(base, "out"), [u.layers.upper], u.layers.lowers)
    assert done.returncode == 1 and "unmount it first" in done.stderr
    u.umount()
    squashed(os.path.join(base, "out"), [u.layers.upper], u.layers.lowers)


@pytest.mark.veneer_only("the command is stopped")
def test_leaves_nothing_half(base, contender):
    children = {f"d{i}": {f"f{j}": "x" * 5000 for j in range(40)} for i in range(40)}
    top, low = build(base, top={"t": "t"}, low=children)
    out = os.path.join(base, "out")
    for seconds in (0, .01, .03, .05):
        with subprocess.Popen([VENEER, "squash", "-o", out, top, low], stderr=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL) as running:
            with pytest.raises(subprocess.TimeoutExpired):
                running.wait(seconds)
            running.send_signal(signal.SIGTERM if seconds > .02 else signal.SIGKILL)
        if running.returncode == 0:
            break
        assert not os.path.exists(out)
        if seconds > .02:
            assert sorted(os.listdir(base)) == ["low", "top"]
    trees.remove(out)
    squashed(out, [top, low])
    assert sorted(os.listdir(base)) == ["low", "out", "top"]


@pytest.mark.veneer_only("the command is ended at each of its changes")
@pytest.mark.parametrize("what", ["kill", "killafter", "ENOSPC"])
def test_ended_at_each_change(base, contender, what):
    """The result is there, whole, or it is not there."""
    top, middle, low = build(
        base, top={"e": Dir(children={"n": "n"}, xattrs={T + "redirect": "d"}), "d": whiteout(), "o": opaque({"p": ""})},
        middle={"d": {"x": "x"}, "h": "h", "h2": Hard("h")}, low={"d": {"y": "y"}, "o": {}, "h3": "h"})
    out = os.path.join(base, "out")

    def look(path):
        """All but the times of whiteouts, which mean nothing."""
        return {name: entry._replace(mtime=None) if entry.type == "c" else entry
                for name, entry in trees.snapshot(path, nlink=True).items()}
    whole = look(squashed(os.path.join(base, "whole"), [top, middle], [low]))
    for number in range(1, 200):
        done = subprocess.run([FAULTS, "squash", "--lower", low, "-o", out, top, middle], capture_output=True,
                              check=False, env={**os.environ, "VENEER_FAULT": f"{number}:{what}"})
        if done.returncode == 0:
            break
        if os.path.exists(out):
            assert look(out) == whole
            subprocess.run(["rm", "-rf", out], check=True)
        if what == "ENOSPC":
            assert sorted(os.listdir(base)) == ["low", "middle", "top", "whole"]
        squashed(out, [top, middle], [low])
        assert look(out) == whole
        subprocess.run(["rm", "-rf", out], check=True)
    assert number > 30


@pytest.mark.veneer_only("a full disk under the command")
def test_no_space(base, scratch, contender):
    small = scratch.make("tmpfs", 1 << 20)
    top, low = build(base, top={"t": "t"}, low={f"f{i}": "x" * 500_000 for i in range(4)})
    done = squash(os.path.join(small, "out"), [top, low])
    assert done.returncode == 1 and os.strerror(errno.ENOSPC) in done.stderr
    assert os.listdir(small) == []


@pytest.mark.veneer_only("the command's output")
def test_json(base, contender):
    top, low = build(base, top={"d": opaque({"x": "y"}), "l": whiteout()}, low={"d": {}, "l": "l"})
    out = os.path.join(base, "out\udcff")
    done = run("squash", "--json", "--lower", low, "-o", out, top)
    check_form("squash", done.stdout)
    report = json.loads(done.stdout)
    assert report["counts"] == {"directories": 1, "files": 1, "symlinks": 0, "others": 0, "links": 0, "bytes": 1,
                                "whiteouts": 1, "opaque": 1, "redirects": 0, "metacopies": 0}


@pytest.mark.veneer_only("the command is run by an ordinary user")
def test_ordinary_user(base, contender, as_user):
    os.chmod(base, 0o777)

    def make():
        os.umask(0o022)
        trees.build(os.path.join(base, "low"), {"f": "f", "d": Dir(children={"x": "x"}, mode=0o555)})
        trees.build(os.path.join(base, "top"), {"f": whiteout(), "n": "n"})
        done = squash(os.path.join(base, "out"), [os.path.join(base, "top")], [os.path.join(base, "low")])
        plain = squash(os.path.join(base, "plain"), [os.path.join(base, name) for name in ("top", "low")])
        return done.stderr + plain.stderr
    assert as_user(1000, make) == ""
    assert trees.is_whiteout(os.path.join(base, "out/f"))
    assert sorted(os.listdir(os.path.join(base, "plain"))) == ["d", "n"]
