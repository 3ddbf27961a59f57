"""Layers that veneer and the kernel write have no fault to `veneer fsck`; damaged ones have none after it."""

import os
import random
import shutil
import stat

import pytest

import damaged
import oscalls
import trees
from contenders import CONTENDERS, Layers
from test_fsck import REPAIRED, fsck

pytestmark = [pytest.mark.veneer_only("a command of veneer"), pytest.mark.usefixtures("contender")]

T = "trusted.overlay."
OPTIONS = ["redirect_dir=on", "metacopy=on", "index=on"]
NAMES = "abcd"


# Changes through a mount

def paths_in(root):
    found = [root]
    for directory, dirs, files in os.walk(root):
        found += [os.path.join(directory, name) for name in sorted(dirs) + sorted(files)]
    return sorted(found)


class Changer:
    """Random changes below a mount point; those that the system refuses are no matter."""

    def __init__(self, rnd, root):
        self.rnd, self.root = rnd, root

    def old(self):
        return self.rnd.choice(paths_in(self.root))

    def new(self):
        directories = [path for path in paths_in(self.root) if os.path.isdir(path) and not os.path.islink(path)]
        return os.path.join(self.rnd.choice(directories), self.rnd.choice(NAMES))

    def write(self):
        trees.write(self.new(), "x" * self.rnd.randrange(50))

    def append(self):
        trees.write(self.old(), "more", "ab")

    def make(self):
        os.mkdir(self.new())

    def remove(self):
        os.unlink(self.old())

    def remove_tree(self):
        path = self.old()
        if path != self.root:
            shutil.rmtree(path)

    def move(self):
        os.rename(self.old(), self.new())

    def exchange(self):
        oscalls.renameat2(self.old(), self.old(), oscalls.RENAME_EXCHANGE)

    def link(self):
        os.link(self.old(), self.new(), follow_symlinks=False)

    def point(self):
        os.symlink(self.rnd.choice(NAMES), self.new())

    def mode(self):
        os.chmod(self.old(), self.rnd.choice([0o700, 0o755, 0o600, 0o644]), follow_symlinks=True)

    def mark(self):
        os.setxattr(self.old(), "user.mark", b"x", follow_symlinks=False)

    def special(self):
        os.mknod(self.new(), stat.S_IFSOCK | 0o644)  # a fifo would keep whoever opens it

    def run(self, count):
        for _ in range(count):
            change = self.rnd.choice([self.write, self.append, self.make, self.remove, self.remove_tree, self.move,
                                      self.move, self.move, self.exchange, self.link, self.link, self.point,
                                      self.mode, self.mode, self.mark, self.special])
            try:
                change()
            except (OSError, shutil.Error):
                continue


def make_lower(rnd, root):
    os.makedirs(root)
    Changer(rnd, root).run(60)


def change(rnd, layers, mnt, count=60):
    """One mount of either contender, and changes through it."""
    name = rnd.choice(sorted(CONTENDERS))
    mounted = CONTENDERS[name].mount(layers, mnt, OPTIONS)
    Changer(rnd, mnt).run(count)
    assert not mounted.unmount()
    return name


def make_stack(rnd, base, check):
    """Two uppers on each other, each written by either contender in several mounts."""
    mnt = os.path.join(base, "mnt")
    os.mkdir(mnt)
    lowers = [os.path.join(base, "lower")]
    make_lower(rnd, lowers[0])
    for level in range(2):
        layers = Layers(list(lowers), upper=os.path.join(base, f"upper{level}"),
                        work=os.path.join(base, f"work{level}"))
        os.mkdir(layers.upper)
        os.mkdir(layers.work)
        for _ in range(2):
            who = change(rnd, layers, mnt)
            check(layers, who)
        lowers.insert(0, layers.upper)
    return layers, mnt


@pytest.mark.parametrize("seed", range(int(os.environ.get('FSCK_SEEDS', 20))))
def test_what_is_written_is_clean(base, seed):
    def check(layers, who):
        done = fsck("-n", layers)
        assert done.returncode == 0, f"{who}\n{done.stdout}{done.stderr}"

    make_stack(random.Random(seed), base, check)


# Damage

class Breaker:
    """Random damage to a layer that is not mounted."""

    VALUES = [b"", b"y", b"x", b"a", b"b", b"/a", b"/a/b", b"/zz", b"../a", b"a/b", b"//", b"\0", b"U+0", b"L-9",
              b"U-1", b"aiz", bytes(40), b"\x00\xfb\x1d\x00\x01" + bytes(24)]
    KEYS = ["opaque", "whiteout", "redirect", "metacopy", "origin", "impure", "nlink", "upper", "uuid", "protattr",
            "veneer.times"]

    def __init__(self, rnd, layers):
        self.rnd, self.layers = rnd, layers

    def victim(self):
        where = self.layers.upper if self.rnd.random() < .85 else self.layers.work
        return self.rnd.choice(paths_in(where))

    def attribute(self):
        namespace = T if self.rnd.random() < .9 else "user.overlay."
        os.setxattr(self.victim(), namespace + self.rnd.choice(self.KEYS), self.rnd.choice(self.VALUES),
                    follow_symlinks=False)

    def forget(self):
        path = self.victim()
        for key in os.listxattr(path, follow_symlinks=False):
            os.removexattr(path, key, follow_symlinks=False)

    def remove(self):
        path = self.victim()
        if os.path.isdir(path) and not os.path.islink(path):
            if path not in (self.layers.upper, self.layers.work):
                shutil.rmtree(path)
        else:
            os.unlink(path)

    def hide(self):
        path = self.victim()
        if os.path.isdir(path) and not os.path.islink(path):
            os.mknod(os.path.join(path, self.rnd.choice(NAMES)), stat.S_IFCHR, os.makedev(0, 0))

    def name(self):
        path = self.victim()
        if os.path.isdir(path) and not os.path.islink(path):
            trees.write(os.path.join(path, self.rnd.choice([".wh.a", ".wh.b", ".wh..wh..opq", "#1"])), "")

    def copy(self):
        path = self.victim()
        if os.path.isdir(path) and not os.path.islink(path) and path != self.layers.upper:
            os.system(f"cp -a '{path}' '{path}.copy'")

    def move(self):
        path, new = self.victim(), os.path.join(os.path.dirname(self.victim()), self.rnd.choice(NAMES))
        if path not in (self.layers.upper, self.layers.work):
            os.rename(path, new)

    def run(self, count):
        for _ in range(count):
            blow = self.rnd.choice([self.attribute, self.attribute, self.attribute, self.forget, self.remove,
                                    self.hide, self.name, self.copy, self.move])
            try:
                blow()
            except (OSError, shutil.Error):
                continue


def mount_and_look(layers, mnt):
    """Whoever mounts the repaired layer can look at all of it."""
    for contender in CONTENDERS.values():
        mounted = contender.mount(layers, mnt, ["redirect_dir=on", "metacopy=on", "index=off"])
        try:
            damaged.show(mnt)
        finally:
            assert not mounted.unmount()


@pytest.mark.parametrize("seed", range(2 * int(os.environ.get('FSCK_SEEDS', 20))))
def test_damage_is_repaired_in_one_run(base, seed):
    rnd = random.Random(1000 + seed)
    layers, mnt = make_stack(rnd, base, lambda *_: None)
    Breaker(rnd, layers).run(rnd.choice([3, 10, 30]))
    lowers = {path: trees.snapshot(path, nlink=True) for path in layers.lowers}
    first = fsck("-y", layers)
    assert first.returncode in (0, REPAIRED), first.stdout + first.stderr
    second = fsck("-n", layers)
    assert second.returncode == 0, second.stdout + second.stderr
    mount_and_look(layers, mnt)
    assert lowers == {path: trees.snapshot(path, nlink=True) for path in layers.lowers}
