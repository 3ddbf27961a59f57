"""Layers made at random, with every mark of the format anywhere: both contenders must see one tree."""

import errno
import os
import random
import stat

import pytest

import trees
from contenders import CONTENDERS
from trees import Dir, File, Symlink, whiteout

T = "trusted.overlay."
NAMES = "abc"
PATHS = [b"a", b"b", b"c", b"/a", b"/c", b"/a/b", b"/b/a", b"/b/a/c", b"/zz", b"/data"]
DEPTH = 5


def random_file(rnd, text):
    kind = rnd.random()
    if kind < .5:
        return File(data=text)
    if kind < .6:
        return File(data="", xattrs={T + "whiteout": b""})
    if kind < .7:
        return Symlink("a")
    marks = {T + "metacopy": b""}
    if rnd.random() < .6:
        marks[T + "redirect"] = rnd.choice(PATHS)
    return File(size=30, xattrs=marks)


def random_dir(rnd, layer, depth=0):
    """Children of a directory, by name."""
    children = {}
    for name in NAMES:
        kind = rnd.random()
        if kind < .2:
            continue
        if kind < .3:
            children[name] = whiteout()
        elif kind < .6 or depth == 3:
            children[name] = random_file(rnd, f"{layer}{depth}{name}")
        else:
            marks = {}
            if rnd.random() < .15:
                marks[T + "opaque"] = b"y"
            if rnd.random() < .3:
                marks[T + "redirect"] = rnd.choice(PATHS)
            children[name] = Dir(children=random_dir(rnd, layer, depth + 1), xattrs=marks)
    return children


def look(path):
    """What is at a path, or the error; whether lstat or read tells of data that is missing, or that
    may not be looked for, is left open."""
    found = look_closely(path)
    no_data = found in (("error", errno.EIO), ("error", errno.EPERM)) or found[0] == "unreadable"
    return "no data" if no_data else found


def look_closely(path):
    try:
        st = os.lstat(path)
        if stat.S_ISDIR(st.st_mode):
            return "dir", sorted(os.listdir(path))
        if stat.S_ISLNK(st.st_mode):
            return "link", os.readlink(path)
    except OSError as error:
        return "error", error.errno
    try:
        return "file", st.st_size, trees.read(path)
    except OSError as error:
        return "unreadable", error.errno


def see(root, path="", depth=0):
    """Map of path -> what is there, for all names that could be, listed or not."""
    seen = {path: look(os.path.join(root, path))}
    if seen[path][0] == "dir" and depth < DEPTH:
        for name in NAMES:
            seen.update(see(root, os.path.join(path, name), depth + 1))
        # The kernel lists the whiteouts of a directory that lies in one layer.
        exist = [name for name in seen[path][1] if seen[os.path.join(path, name)] != ("error", errno.ENOENT)]
        seen[path] = ("dir", exist)
    return seen


def without_twins(kernel, veneer):
    """Without what the kernel refuses because another directory merges the same lower one."""
    twins = [path for path, found in kernel.items() if found == ("error", errno.ESTALE)]
    return [{path: found for path, found in seen.items()
             if not any(path == twin or path.startswith(twin + "/") for twin in twins)}
            for seen in (kernel, veneer)]


def random_options(rnd, has_data, readonly):
    redirect = "on" if has_data else rnd.choice(["on", "follow", "nofollow"])
    if readonly and redirect == "on" and not has_data:
        redirect = "follow"
    metacopy = has_data or (redirect == "on" and rnd.random() < .5)
    return [f"redirect_dir={redirect}", f"metacopy={'on' if metacopy else 'off'}", "index=off"]


@pytest.mark.veneer_only("both are mounted here, one after the other")
@pytest.mark.parametrize("seed", range(40))
def test_random_layers_look_alike(union_factory, seed):
    rnd = random.Random(seed)
    lowers = [random_dir(rnd, f"lower{i}") for i in range(rnd.randint(2, 3))]
    data = [{"data": "data"}] if rnd.random() < .4 else []
    readonly = rnd.random() < .3
    u = union_factory(*lowers, upper=random_dir(rnd, "upper"), data=data, readonly=readonly,
                      opts=random_options(rnd, bool(data), readonly))
    u.mount(contender=CONTENDERS["kernel"])
    kernel = see(u.mnt)
    u.umount()
    u.mount()
    kernel, veneer = without_twins(kernel, see(u.mnt))
    assert {path: (found, veneer.get(path)) for path, found in kernel.items()
            if found != veneer.get(path)} == {}
    assert veneer.keys() == kernel.keys()
