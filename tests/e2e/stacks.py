"""Stacks of layers that were made by use: each layer is what some random changes through a mount
left in the upper.  What a stack shows is always read through kernel overlayfs."""

import contextlib
import os
import random
import subprocess

import oscalls
import trees
from contenders import CONTENDERS, Layers

NAMES = ["a", "b", "c", "d", "sp ace", "\udcff"]
WRITE = ["redirect_dir=on", "metacopy=on", "index=off"]
READ = ["ro", "redirect_dir=follow", "metacopy=on"]


class Changes:
    """Random changes of a tree, by paths."""

    def __init__(self, root, rnd):
        self.root, self.rnd = root, rnd

    def directories(self):
        return sorted(directory for directory, _dirs, _files in os.walk(self.root))

    def objects(self):
        found = [(directory, name) for directory, dirs, files in os.walk(self.root)
                 for name in dirs + files]
        return sorted(os.path.join(*pair) for pair in found)

    def new(self):
        return os.path.join(self.rnd.choice(self.directories()), self.rnd.choice(NAMES))

    def old(self):
        objects = self.objects()
        if not objects:
            raise FileNotFoundError
        return self.rnd.choice(objects)

    def write(self):
        # Not to wait for a reader of a fifo.
        fd = os.open(self.new(), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o644)
        with open(fd, "ab") as file:
            file.write(self.rnd.randbytes(self.rnd.choice([0, 5, 5000])))
            if self.rnd.random() < .2:
                file.truncate(200_000)

    def make_directory(self):
        os.mkdir(self.new())

    def make_link(self):
        os.link(self.old(), self.new(), follow_symlinks=False)

    def make_symlink(self):
        os.symlink(self.rnd.choice(NAMES), self.new())

    def make_node(self):
        os.mknod(self.new(), 0o010600)

    def change_mode(self):
        path = self.old()
        if not os.path.islink(path):
            os.chmod(path, self.rnd.choice([0o755, 0o644, 0o4755, 0o700]))

    def change_owner(self):
        os.chown(self.old(), self.rnd.choice([0, 1000]), 1000, follow_symlinks=False)

    def set_xattr(self):
        os.setxattr(self.old(), "user." + self.rnd.choice("pq"), self.rnd.randbytes(9))

    def set_capability(self):
        os.setxattr(self.old(), "security.capability", bytes.fromhex("0100000200040000" + "00" * 12))

    def set_private(self):
        os.setxattr(self.old(), "trusted.overlay.opaque", b"y")

    def rename(self):
        os.rename(self.old(), self.new())

    def remove(self):
        path = self.old()
        if os.path.islink(path) or not os.path.isdir(path):
            os.unlink(path)
        else:
            subprocess.run(["rm", "-rf", path], check=False, stderr=subprocess.DEVNULL)

    def replace(self):
        """A directory anew where there was something."""
        path = self.old()
        subprocess.run(["rm", "-rf", path], check=False, stderr=subprocess.DEVNULL)
        os.mkdir(path)

    def one(self):
        kinds = [(self.write, 6), (self.make_directory, 3), (self.make_link, 2), (self.make_symlink, 1),
                 (self.make_node, 1), (self.change_mode, 4), (self.change_owner, 2),
                 (self.set_xattr, 2), (self.set_capability, 1), (self.set_private, .3),
                 (self.rename, 6), (self.remove, 3), (self.replace, 1)]
        # What cannot be done is not done.
        with contextlib.suppress(OSError):
            self.rnd.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0]()


class Stack:
    """Layers in `home`: layers[0] is the topmost."""

    def __init__(self, home, contender, seed, opts=tuple(WRITE)):
        self.home, self.contender, self.opts = home, contender, list(opts)
        self.rnd = random.Random(seed)
        self.mnt = self.path("mnt")
        self.layers, self.works = [], []

    def path(self, name):
        path = os.path.join(self.home, name)
        os.makedirs(path, exist_ok=True)
        return path

    def grow(self, changes, contender=None):
        """One more layer on top, with so many changes."""
        number = len(self.works)
        upper, work = self.path(f"layer{number}"), self.path(f"work{number}")
        if not self.layers:
            for _ in range(changes):
                Changes(upper, self.rnd).one()
            # Nothing of a layer at the bottom is private.
            subprocess.run(["setfattr", "-x", "trusted.overlay.opaque", *trees_below(upper)],
                           check=False, capture_output=True)
        else:
            mount = (contender or self.contender).mount(Layers(self.layers, upper, work), self.mnt,
                                                        self.opts)
            try:
                for _ in range(changes):
                    Changes(self.mnt, self.rnd).one()
            finally:
                faults = mount.unmount()
            assert not faults
        self.layers.insert(0, upper)
        self.works.insert(0, work)
        return self

    def see(self, layers=None, opts=tuple(READ), **kwargs):
        """What the kernel shows of the layers."""
        return see(self.path("look"), layers or self.layers, self.path("nothing"), opts, **kwargs)


def trees_below(root):
    return [os.path.join(directory, name) for directory, dirs, files in os.walk(root)
            for name in dirs + files]


def see(mnt, layers, empty, opts=tuple(READ), **kwargs):
    mount = CONTENDERS["kernel"].mount(Layers([*layers, empty]), mnt, list(opts))
    try:
        return {**trees.snapshot(mnt, **kwargs), "hard links": hard_links(mnt)}
    finally:
        oscalls.umount(mount.path)


def hard_links(root):
    """Sets of names that are one file."""
    found = {}
    for path in trees_below(root):
        st = os.lstat(path)
        if os.path.islink(path) or not os.path.isdir(path):
            found.setdefault((st.st_dev, st.st_ino), []).append(os.path.relpath(path, root))
    return sorted(sorted(names) for names in found.values() if len(names) > 1)


def differences(one, two):
    links = [f"hard links: {one.pop('hard links')} != {two.pop('hard links')}"] \
        if one["hard links"] != two["hard links"] else []
    one.pop("hard links", None)
    two.pop("hard links", None)
    return trees.difference(one, two) + links


def marks(root, prefix="trusted.overlay."):
    """Map of path -> private attributes of the format, and whiteouts."""
    found = {}
    for path in [root, *trees_below(root)]:
        names = [name for name in os.listxattr(path, follow_symlinks=False)
                 if name.startswith(prefix) and not name.startswith(prefix + "overlay.")]
        if trees.is_whiteout(path):
            names.append("whiteout")
        if names:
            found[os.path.relpath(path, root)] = sorted(name.removeprefix(prefix) for name in names)
    return found
