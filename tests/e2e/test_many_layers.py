"""Lookups in directories of many layers, of which an index says who has a name: the answers are the same."""

import errno
import fcntl
import json
import os
import random
import resource
import stat
import struct
import subprocess

import pytest

import trees
from callers import in_threads
from contenders import CONTENDERS, VENEER
from trees import Dir, File, Symlink, opaque, whiteout, xwhiteout

T = "trusted.overlay."
FEATURES = ["redirect_dir=on", "metacopy=on", "index=off"]
NAMES = [f"n{i}" for i in range(12)] + ["m", ".wh", "wh.x", "..x", "x" * 255, "\udcff\udcfe", "é", "É", "N0"]
MISSES = 600  # more than asking in vain may cost, before an index is made


def index_bytes(u):
    """Memory of the indexes of a live mount."""
    out = subprocess.run([VENEER, "status", "--json", u.mnt], check=True, capture_output=True).stdout
    (mount,) = json.loads(out)["mounts"]
    return mount["caches"]["name_index_bytes"]


def look(path):
    try:
        st = os.lstat(path)
        if stat.S_ISREG(st.st_mode):
            return "file", st.st_size, trees.read(path)
        return ("link", os.readlink(path)) if stat.S_ISLNK(st.st_mode) else ("dir",)
    except OSError as error:
        return "error", errno.errorcode[error.errno]


def by_misses(path):
    """So many names that are not there that an index is worth its cost."""
    for i in range(MISSES):
        assert not os.path.lexists(f"{path}/missing{i}")


WAYS = {"asked": lambda path: None, "missed": by_misses, "listed": os.listdir}


def see(root, warm, path=""):
    """Path -> what is there, for every name there could be; warm() is called of each directory first."""
    seen = {path: look(os.path.join(root, path))}
    if seen[path] == ("dir",):
        warm(os.path.join(root, path))
        for name in NAMES:
            seen.update(see(root, warm, os.path.join(path, name)))
    return seen


# Layers at random, with every mark of the format anywhere

def random_object(rnd, layer, depth):
    kind = rnd.random()
    if kind < .15:
        return whiteout()
    if kind < .25:
        return xwhiteout()
    if kind < .3:
        return Symlink(f"{layer}")
    if kind < .4:
        marks = {T + "metacopy": b""}
        if rnd.random() < .6:
            marks[T + "redirect"] = rnd.choice([b"n0", b"n1", b"/n2", b"/n0/n1"])
        return File(size=30, xattrs=marks)
    if kind < .6 or depth == 2:
        return File(data=f"{layer}{depth}")
    marks = {}
    if rnd.random() < .4:
        marks[T + "opaque"] = rnd.choice([b"y", b"x", b"x"])
    if rnd.random() < .3:
        marks[T + "redirect"] = rnd.choice([b"n0", b"n1", b"/n2", b"/n0/n1"])
    return Dir(children=random_children(rnd, layer, depth + 1), xattrs=marks)


def random_children(rnd, layer, depth=0):
    share = rnd.choice([.1, .3, .6])
    return {name: random_object(rnd, layer, depth) for name in NAMES
            if rnd.random() < (.8 if name in ("n0", "n1") and depth < 2 else share / (depth + 1))}


def without_twins(seen, twins):
    return {path: "no data" if found in (("error", "EIO"), ("error", "EPERM")) else found
            for path, found in seen.items()
            if not any(path == twin or path.startswith(twin + "/") for twin in twins)}


@pytest.mark.veneer_only("both are mounted here, one after the other")
@pytest.mark.parametrize("seed", range(12))
def test_random_layers_look_alike_however_they_are_asked(union_factory, seed):
    """As on the kernel; before an index is made, after it was for the misses, and after it was on the way."""
    rnd = random.Random(seed)
    lowers = [random_children(rnd, f"lower{i}") for i in range(rnd.randint(2, 7))]
    readonly = rnd.random() < .3
    u = union_factory(*lowers, upper=random_children(rnd, "upper"), readonly=readonly,
                      opts=["redirect_dir=follow", "index=off"] if readonly else FEATURES)
    u.mount(contender=CONTENDERS["kernel"])
    kernel = see(u.mnt, WAYS["asked"])
    u.umount()
    # The kernel refuses what another directory merges already, and does so first to whom comes second.
    twins = [path for path, found in kernel.items() if found == ("error", "ESTALE")]
    kernel = without_twins(kernel, twins)
    for way, warm in WAYS.items():
        u.mount(opts=u.opts if way != "asked" else [*u.opts, "timeout=1"])
        veneer = without_twins(see(u.mnt, warm), twins)
        assert (index_bytes(u) > 0) == (way != "asked")
        u.umount()
        u.opts = tuple(opt for opt in u.opts if not opt.startswith("timeout"))
        assert {path: (found, veneer.get(path)) for path, found in kernel.items()
                if found != veneer.get(path)} == {}
        assert veneer.keys() == kernel.keys()


# Whiteouts by name, which the kernel does not know

@pytest.mark.veneer_only("the kernel does not take .wh. for a mark")
@pytest.mark.parametrize("seed", range(8))
def test_whiteouts_by_name_in_random_layers(union_factory, seed):
    rnd = random.Random(f"wh{seed}")
    lowers = []
    for i in range(rnd.randint(2, 6)):
        layer = random_children(rnd, f"lower{i}")
        for children in [layer] + [spec.children for spec in layer.values() if isinstance(spec, Dir)]:
            for name in NAMES:
                if rnd.random() < .15 and len(name) < 252:
                    children[".wh." + name] = rnd.choice([File(), File(), Dir(), Symlink("x")])
            if rnd.random() < .1:
                children[".wh..wh..opq"] = ""
            if rnd.random() < .2:
                children[".wh..wh.aufs"] = ""
        lowers.append(layer)
    u = union_factory(*lowers, upper={}, opts=FEATURES)
    seen = {}
    for way, warm in WAYS.items():
        u.mount(opts=[*FEATURES, "timeout=1"] if way == "asked" else FEATURES)
        seen[way] = see(u.mnt, warm)
        assert not any(os.path.lexists(u / f".wh.{name}") for name in NAMES[:15])
        u.umount()
    assert seen["missed"] == seen["asked"]
    assert seen["listed"] == seen["asked"]


# What is changed later

WARM = pytest.mark.parametrize("warm", [WAYS["missed"], WAYS["listed"]], ids=["missed", "listed"])


@WARM
def test_changes_in_an_indexed_directory(union, warm):
    """What is made, moved and removed is known at once, and hides what the lowers have."""
    u = union({"d": {"a": "1", "x": {"one": ""}}}, {"d": {"a": "2", "b": "2", "x": {"two": ""}}},
              {"d": {"c": "3", "x": {"three": ""}}}, opts=FEATURES)
    warm(u / "d")
    warm(u / "d/x")
    for name in "abc":
        os.unlink(u / f"d/{name}")
        assert u.hidden(f"d/{name}") and not os.path.exists(u / f"d/{name}")
        u.write(f"d/{name}", "new")
        u.write(f"d/{name}{name}", "new")
        os.unlink(u / f"d/{name}{name}")
        assert not os.path.lexists(u.up(f"d/{name}{name}"))
    os.rename(u / "d/c", u / "d/e")
    assert u.hidden("d/c") and u.read("d/e") == b"new"
    os.rename(u / "d/x", u / "d/y")
    assert (u.ls("d"), u.ls("d/y")) == (["a", "b", "e", "y"], ["one", "three", "two"])
    os.mkdir(u / "d/x")
    warm(u / "d/x")
    assert u.ls("d/x") == []
    for name in ("one", "two", "three"):
        os.unlink(u / f"d/y/{name}")
    os.rename(u / "d/x", u / "d/y")
    assert (u.ls("d/y"), os.path.exists(u / "d/y/two")) == ([], False)
    warm(u / "d/y")
    for name in ("one", "two"):
        assert not os.path.exists(u / f"d/y/{name}")
    u.remount()
    assert (u.ls("d"), u.ls("d/y")) == (["a", "b", "e", "y"], [])


@WARM
def test_redirected_directory_is_searched_by_its_old_name(union, warm):
    """The rename of a directory that an index of its parent knows by the old name."""
    u = union({"a": {"one": "1"}, "s": {}}, {"a": {"two": "2"}, "s": {}}, {"b": {"three": "3"}, "s": {}}, opts=FEATURES)
    warm(u.mnt)
    os.rename(u / "a", u / "b2")
    os.rename(u / "b2", u / "s/a")
    for _ in range(2):
        for path in ("", "s", "s/a"):
            warm(u / path)
        assert (u.ls("s/a"), u.read("s/a/two"), u.ls("b")) == (["one", "two"], b"2", ["three"])
        assert not os.path.exists(u / "a") and not os.path.exists(u / "s/a/three")
        u.remount()


@WARM
def test_numbers_stay_in_an_indexed_directory(union, warm):
    """Of what is copied up, and found by its origin in one of many layers."""
    u = union(*[{"d": {f"f{i}": "x", f"s{i}": {}}} for i in range(5)], opts=FEATURES)
    warm(u / "d")
    numbers = {f"d/{kind}{i}": u.ino(f"d/{kind}{i}") for i in range(5) for kind in "fs"}
    for path in numbers:
        os.chmod(u / path, 0o700)
    for _ in range(2):
        assert {path: u.ino(path) for path in numbers} == numbers
        u.remount()
        warm(u / "d")


@pytest.mark.veneer_only("it is veneer's memory")
def test_index_goes_with_its_directory(union):
    u = union(*[{f"d{i}": {f"{layer}-{k}": "" for k in range(200)} for i in range(4)} for layer in range(3)])
    sizes = [index_bytes(u)]
    for i in range(4):
        by_misses(u / f"d{i}")
        sizes.append(index_bytes(u))
    assert sorted(set(sizes)) == sizes and sizes[-1] - sizes[0] < 4 * (600 * 11 + 100)
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("2")
    assert trees.wait_until(lambda: index_bytes(u) == sizes[0])


@pytest.mark.veneer_only("the kernel asks every time")
@pytest.mark.parametrize("opts", [["timeout=0.05"], ["watch"]], ids=["timeout", "watch"])
def test_layers_that_change_are_asked(union, opts):
    u = union({"d": {"a": ""}}, {"d": {"b": ""}}, {"d": {"c": ""}}, opts=opts, guard=False)
    by_misses(u / "d")
    os.listdir(u / "d")
    assert index_bytes(u) == 0
    trees.write(u.low("d/new", 2), "new")
    assert trees.wait_until(lambda: os.path.exists(u / "d/new"))


@pytest.mark.parametrize("way", ["missed", "listed"])
def test_lookups_while_an_index_is_made(union, way):
    """Those of others, before, during and after it."""
    count = 3000
    u = union(*[{"d": {f"f{i}": str(layer) for i in range(layer, count, 4 - layer)}} for layer in range(4)])

    def expected(i):
        return next(str(layer) for layer in range(4) if i >= layer and (i - layer) % (4 - layer) == 0)

    def lookups(step):
        for i in range(0, count, step):
            assert os.path.getsize(u / f"d/f{i}") == 1
            assert not os.path.exists(u / f"d/g{i}-{step}")
    in_threads(lambda: lookups(1), lambda: lookups(7), lambda: WAYS[way](u / "d"))
    for i in range(0, count, 37):
        assert u.read(f"d/f{i}") == expected(i).encode()


@pytest.mark.parametrize("fstype", ["xfs", "btrfs", "tmpfs"])
def test_lowers_on_other_file_systems(union, scratch, fstype):
    where = [scratch.make(fstype, 400 << 20) for _ in range(2)]
    for i, path in enumerate(where):
        trees.build(path + "/low", {"d": {f"{i}-{k}": "" for k in range(50)}, "e": whiteout() if i else {"x": ""}})
    u = union(*(path + "/low" for path in where), {"d": {"last": "l"}, "e": {"y": ""}})
    by_misses(u / "d")
    if u.is_veneer:
        assert index_bytes(u) > 0
    assert all(os.path.exists(u / f"d/{i}-{k}") for i in range(2) for k in range(50))
    assert u.read("d/last") == b"l" and not os.path.exists(u / "d/2-0")
    assert u.ls("e") == ["x"]


class Encryption:
    """The names and the content of directories of a file system."""

    SET_POLICY, ADD_KEY, REMOVE_KEY = 0x800c6613, 0xc0506617, 0xc0406618
    BY_IDENTIFIER, AES_XTS, AES_CTS = 2, 1, 4

    def __init__(self, mount):
        self.mount = mount
        self.identifier = b""
        self.add_key()

    def _call(self, request, argument, path=None):
        fd = os.open(path or self.mount, os.O_RDONLY)
        try:
            return fcntl.ioctl(fd, request, argument)
        finally:
            os.close(fd)

    def add_key(self):
        answer = self._call(self.ADD_KEY, struct.pack("II32xII32x64s", self.BY_IDENTIFIER, 0, 64, 0, bytes(range(64))))
        self.identifier = answer[8:24]

    def remove_key(self):
        self._call(self.REMOVE_KEY, struct.pack("II16s16x24x", self.BY_IDENTIFIER, 0, self.identifier))

    def encrypt(self, path):
        """An empty directory, and what it will hold."""
        self._call(self.SET_POLICY, struct.pack("BBBB4x16s", 2, self.AES_XTS, self.AES_CTS, 3, self.identifier), path)


@pytest.mark.veneer_only("it is veneer's index")
@pytest.mark.parametrize("warm", [by_misses, os.listdir], ids=["missed", "listed"])
def test_encrypted_lower_whose_key_comes_later(union, scratch, warm):
    where = scratch.make("ext4", mkfs=["-O", "encrypt"])
    encryption = Encryption(where)
    trees.build(where + "/low", {"d": {}})
    encryption.encrypt(where + "/low/d")
    trees.build(where + "/low", {"d": {"secret": "s"}})
    encryption.remove_key()
    assert os.listdir(where + "/low/d") != ["secret"]
    u = union(where + "/low", {"d": {"a": ""}}, {"d": {"b": ""}}, guard=False)
    size = index_bytes(u)  # the root's
    warm(u / "d")
    assert index_bytes(u) == size
    encryption.add_key()
    assert u.read("d/secret") == b"s"


@pytest.mark.veneer_only("so many do not fit into the page of options that mount(2) takes")
@pytest.mark.parametrize("count", [500])
def test_as_many_layers_as_there_can_be(union_factory, count):
    """With as few descriptors as there are by default, and no right to more."""
    layers = [{"d": {f"f{i}": str(i), "all": str(i)}, "deep": {"er": {f"x{i}": ""}}} for i in range(count - 1)]
    layers.append({"d": {"last": "last"}, "e": {"only": "here"}})
    u = union_factory(*layers, guard=False)

    def mount():
        u.mounted = u.contender.run(
            ["-o", ",".join(u.layers.option()), u.mnt], u.mnt,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024)))
    mount()
    assert u.read("d/last") == b"last" and u.read("e/only") == b"here"
    assert u.read("d/all") == b"0" and len(u.ls("d")) == count + 1 and len(u.ls("deep/er")) == count - 1
    by_misses(u / "d")
    for i in range(0, count - 1, 13):
        assert u.read(f"d/f{i}") == str(i).encode()
        u.append(f"d/f{i}", "+")
        assert os.path.exists(u / f"deep/er/x{i}")
    os.unlink(u / f"d/f{count - 2}")
    u.umount()
    mount()
    assert u.read("d/f13") == b"13+" and len(u.ls("d")) == count
