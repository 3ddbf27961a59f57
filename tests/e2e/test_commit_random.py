"""Random layers, random changes, `veneer commit`: what is shown stays the same, round after round."""

import os
import random
import shutil
import stat
import subprocess

import pytest

import commands
import commit_scenarios as scenarios
import oscalls
import trees
from contenders import VENEER, Layers

FAULTY = os.environ.get("VENEER_FAULTS", VENEER + "-faults")
SEEDS = range(*map(int, os.environ.get("VENEER_COMMIT_SEEDS", "0-12").split("-")))
NAMES = ["a", "b", "c", "d", "e", "f"]
OPTIONS = [["redirect_dir=on", "metacopy=on"], ["redirect_dir=on"], ["redirect_dir=on", "metacopy=on", "index=on"],
           ["redirect_dir=on", "index=on"], ["redirect_dir=off"]]


def random_tree(rng, depth=3):
    tree = {}
    for name in rng.sample(NAMES, rng.randint(1, len(NAMES) - 1)):
        kind = rng.random()
        if kind < 0.45 and depth:
            tree[name] = random_tree(rng, depth - 1)
        elif kind < 0.85:
            tree[name] = trees.File(data=rng.randbytes(rng.choice([0, 5, 9000])), mode=rng.choice([0o644, 0o600, 0o755]),
                                    mtime=scenarios.OLD + rng.randrange(10**9))
        elif kind < 0.95:
            tree[name] = trees.Symlink(rng.choice(NAMES))
        else:
            tree[name] = trees.Node()
    return tree


def some_path(rng, root, want=None):
    """The path of a random object, or a random name in a random directory."""
    path = root
    for _ in range(rng.randint(1, 4)):
        names = sorted(os.listdir(path)) if os.path.isdir(path) and not os.path.islink(path) else []
        if not names:
            break
        path = os.path.join(path, rng.choice(names))
    if want == "new":
        directory = path if os.path.isdir(path) and not os.path.islink(path) else os.path.dirname(path)
        return os.path.join(directory, rng.choice(NAMES))
    return path


def one_change(rng, root):
    path, new = some_path(rng, root), some_path(rng, root, "new")
    if path == root:
        return
    is_plain = stat.S_ISREG(os.lstat(path).st_mode)
    choice = rng.randrange(13)
    if choice <= 2:
        os.rename(path, new)
    elif choice == 3:
        oscalls.renameat2(path, some_path(rng, root), oscalls.RENAME_EXCHANGE)
    elif choice == 4:
        os.mkdir(new)
    elif choice == 5 and (is_plain or not os.path.lexists(new)):
        trees.write(path if is_plain else new, rng.randbytes(rng.choice([0, 3, 7000])))
    elif choice == 6 and not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)
    elif choice == 7 and os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif choice == 8 and not os.path.islink(path):
        os.chmod(path, rng.choice([0o700, 0o750, 0o640, 0o4755]))
    elif choice == 9:
        os.link(path, new, follow_symlinks=False)
    elif choice == 10 and not os.path.islink(path):
        os.setxattr(path, "user.k" if is_plain else "trusted.k", rng.randbytes(3))
    elif choice == 11:
        os.utime(path, ns=(1, rng.randrange(10**18)), follow_symlinks=False)
    elif choice == 12 and is_plain:
        trees.write(path, b"more", "ab")


def change(rng, root, count):
    for _ in range(count):
        try:
            one_change(rng, root)
        except OSError:
            pass  # as with any tree: directories that are not empty, into themselves, across ...


def hard_link_some(rng, root):
    """A few files get a further name."""
    files = sorted(os.path.join(d, n) for d, _, names in os.walk(root) for n in names)
    for path in rng.sample(files, min(3, len(files))):
        try:
            os.link(path, some_path(rng, root, "new"), follow_symlinks=False)
        except OSError:
            pass


def stop_some(rng, u):
    """Runs that are killed somewhere, none in most rounds."""
    for _ in range(rng.choice([0, 0, 1, 3])):
        subprocess.run([FAULTY, "commit", *commands.layers_of(u)], capture_output=True, check=False,
                       stdin=subprocess.DEVNULL, env={**os.environ, "VENEER_FAULT": f"{rng.randint(1, 150)}:kill"})


@pytest.mark.parametrize("seed", SEEDS)
def test_random(union_factory, seed):
    rng = random.Random(seed)
    opts = rng.choice(OPTIONS)
    count = 1 if "index=on" in opts else rng.choice([1, 1, 2, 3])
    u = union_factory(*[{} for _ in range(count)], opts=opts, guard=False)
    # What others left in the layers: made as layers are, by a union over those below.
    trees.build(u.low(layer=count - 1), random_tree(rng))
    hard_link_some(rng, u.low(layer=count - 1))
    for layer in reversed(range(count - 1)):
        make_layer(u, rng, layer)
    u.mount()
    for round_number in range(3):
        change(rng, u.mnt, rng.choice([3, 10, 30]))
        want = u.snapshot(nlink="index=on" in opts)
        links = scenarios.names_of_one_file(u.mnt)
        u.umount()
        below = [trees.snapshot(u.low(layer=layer)) for layer in range(1, count)]
        stop_some(rng, u)
        done = commands.run("commit", *commands.layers_of(u))
        if done.returncode and "which does not have its directory" in done.stderr:
            assert count > 1
            return  # a hard link that is further below: refused, and said so in veneer-commit(1)
        assert done.returncode == 0, done.stderr
        assert os.listdir(u.upper) == []
        assert below == [trees.snapshot(u.low(layer=layer)) for layer in range(1, count)]
        if count == 1:
            assert trees.difference(want, trees.snapshot(u.low(), nlink="index=on" in opts)) == [], round_number
        u.mount()
        assert trees.difference(want, u.snapshot(nlink="index=on" in opts)) == [], round_number
        if "index=on" in opts:
            assert links == scenarios.names_of_one_file(u.low())


def make_layer(u, rng, layer):
    """Random changes over the layers below become a layer of their own."""
    work, mnt = os.path.join(u.base, f"work{layer}"), os.path.join(u.base, f"made{layer}")
    os.mkdir(work)
    os.mkdir(mnt)
    mount = u.contender.mount(Layers(u.lowers[layer + 1:], u.low(layer=layer), work), mnt, u.opts)
    change(rng, mnt, 15)
    assert not mount.unmount()
