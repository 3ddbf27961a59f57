"""A lower layer with something of every kind, and what one can do to it through a union."""

import os
import stat
import subprocess

import oscalls
import trees
from trees import Dir, File, Hard, Symlink

OLD = trees.OLD


def lower():
    """Something of every kind, all of it old."""
    return Dir(mtime=OLD, children={
        "a": Dir(mtime=OLD, children={
            "one": File(data="1\n", mtime=OLD), "two": File(data="2\n", mtime=OLD, mode=0o600),
            "sub": Dir(mtime=OLD, children={"x": File(data="x", mtime=OLD),
                                            "deep": Dir(children={"y": "y"}, mtime=OLD)}),
        }),
        "b": Dir(mtime=OLD, children={"one": "b1", "sub": {"z": "z"}, "more": {"m": "m"}}),
        "c": Dir(mtime=OLD, children={"f": "f", "g": {"h": {"i": "i"}}}),
        "big": File(data="big" * 5000, mtime=OLD, xattrs={"user.k": "v", "user.l": "w"}),
        "hole": File(data="start", size=3 << 20, mtime=OLD),
        "link": Symlink("target"), "pipe": trees.Node(),
        "h1": File(data="linked", mtime=OLD), "h2": Hard("h1"),
        "d": Dir(mtime=OLD, children={"h3": Hard("h1")}),
        "plain": File(data="p", mtime=OLD, owner=(3, 4), mode=0o4755),
        "dir": Dir(children={"k": "k"}, mode=0o700, mtime=OLD),
    })


def changed_content(root):
    trees.write(f"{root}/a/one", "changed\n")
    trees.write(f"{root}/a/new", "new\n")
    os.makedirs(f"{root}/a/n1/n2/n3")
    trees.write(f"{root}/a/n1/n2/n3/file", "n" * 100_000)
    os.symlink("elsewhere", f"{root}/newlink")
    os.mkfifo(f"{root}/newpipe")
    os.mknod(f"{root}/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with open(f"{root}/hole", "r+b") as file:
        file.seek(2 << 20)
        file.write(b"middle")


def changed_attributes(root):
    os.chmod(f"{root}/big", 0o640)
    os.chown(f"{root}/plain", 7, 8)
    os.setxattr(f"{root}/big", "user.k", b"changed")
    os.removexattr(f"{root}/big", "user.l")
    os.chmod(f"{root}/dir", 0o750)
    os.utime(f"{root}/a/two", ns=(5, 77))
    os.utime(f"{root}/c", ns=(5, 78))
    os.setxattr(f"{root}/c", "user.dir", b"d")
    os.lchown(f"{root}/link", 9, 9)


def removed(root):
    os.unlink(f"{root}/a/one")
    os.unlink(f"{root}/link")
    subprocess.run(["rm", "-r", f"{root}/b", f"{root}/a/sub"], check=True)


def types(root):
    """File to directory and back, and one over nothing."""
    os.unlink(f"{root}/big")
    os.mkdir(f"{root}/big")
    trees.write(f"{root}/big/in", "in")
    subprocess.run(["rm", "-r", f"{root}/b"], check=True)
    trees.write(f"{root}/b", "was a directory")
    os.unlink(f"{root}/pipe")
    os.symlink("x", f"{root}/pipe")
    subprocess.run(["rm", "-r", f"{root}/c"], check=True)
    os.symlink("a", f"{root}/c")


def opaque(root):
    subprocess.run(["rm", "-r", f"{root}/a"], check=True)
    os.makedirs(f"{root}/a/sub")
    trees.write(f"{root}/a/sub/x", "new x")
    trees.write(f"{root}/a/one", "new one")
    os.utime(f"{root}/a", ns=(OLD, OLD + 5))


def swapped(root):
    """Three directories in a circle, one into another, and out of it."""
    oscalls.renameat2(f"{root}/a", f"{root}/b", oscalls.RENAME_EXCHANGE)
    oscalls.renameat2(f"{root}/b", f"{root}/c", oscalls.RENAME_EXCHANGE)
    os.rename(f"{root}/c/sub", f"{root}/out")
    os.rename(f"{root}/a/more", f"{root}/b/more")
    os.rename(f"{root}/b", f"{root}/a/inside")
    trees.write(f"{root}/out/new", "n")
    os.unlink(f"{root}/out/deep/y")


def nested(root):
    """Renamed, and in it again, and what was there is replaced."""
    os.rename(f"{root}/c", f"{root}/e")
    os.rename(f"{root}/e/g", f"{root}/e/g2")
    os.rename(f"{root}/e/g2/h", f"{root}/h")
    os.mkdir(f"{root}/c")
    os.mkdir(f"{root}/c/g")
    trees.write(f"{root}/c/f", "not the old f")
    os.rename(f"{root}/dir", f"{root}/c/g/dir")
    trees.write(f"{root}/h/i", "changed i")


def over(root):
    """Renamed over what is there, and the old name used again."""
    subprocess.run(["rm", "-r", f"{root}/b"], check=True)
    os.rename(f"{root}/a", f"{root}/b")
    os.unlink(f"{root}/plain")
    os.rename(f"{root}/c", f"{root}/plain")
    trees.write(f"{root}/c", "a file now")
    os.mkdir(f"{root}/a")


def moved_files(root):
    """Metadata alone is copied up; the data moves below."""
    os.rename(f"{root}/big", f"{root}/big2")
    os.rename(f"{root}/a/one", f"{root}/c/one")
    os.chmod(f"{root}/c/one", 0o711)
    os.rename(f"{root}/a/two", f"{root}/a/one")
    oscalls.renameat2(f"{root}/plain", f"{root}/hole", oscalls.RENAME_EXCHANGE)
    os.chmod(f"{root}/c/f", 0o600)
    os.link(f"{root}/c/f", f"{root}/c/f2")
    os.rename(f"{root}/c", f"{root}/moved")


def hard_links(root):
    trees.write(f"{root}/n1", "n")
    os.link(f"{root}/n1", f"{root}/a/n2")
    os.link(f"{root}/n1", f"{root}/c/g/n3")
    os.link(f"{root}/a/one", f"{root}/a/one2")
    os.link(f"{root}/link", f"{root}/link2")


def linked_below(root):
    """All names of a file below are one file: with an index only."""
    trees.write(f"{root}/h1", "changed through one name\n", "ab")
    os.utime(f"{root}/d", ns=(OLD, OLD + 7))


def linked_below_attributes(root):
    os.chmod(f"{root}/h2", 0o600)
    os.unlink(f"{root}/h1")
    os.rename(f"{root}/d", f"{root}/dd")


def rich(root):
    """Attributes that get lost easily."""
    trees.write(f"{root}/a/cap", "c")
    os.setxattr(f"{root}/a/cap", "security.capability", oscalls.cap_xattr())
    os.setxattr(f"{root}/a/one", "system.posix_acl_access", oscalls.acl("u::rw,u:12:r,g::r,m::r,o::-"))
    os.mkdir(f"{root}/acl")
    os.setxattr(f"{root}/acl", "system.posix_acl_default", oscalls.acl("u::rwx,u:13:rw,g::r,m::rwx,o::-"))
    trees.write(f"{root}/acl/inherits", "")
    os.chmod(f"{root}/acl/inherits", 0o4711)
    os.setxattr(f"{root}/a/two", "trusted.overlay.mine", b"of a user")
    os.setxattr(f"{root}/b", "trusted.overlay.overlay.mine", b"deeper")
    os.chmod(f"{root}/a", 0o555)
    with open(f"{root}/sparse", "wb") as file:
        file.truncate(8 << 20)
        file.seek(4 << 20)
        file.write(b"x" * 4096)


SCENARIOS = [changed_content, changed_attributes, removed, types, opaque, swapped, nested, over, moved_files,
             hard_links, rich]
INDEX_SCENARIOS = [linked_below, linked_below_attributes, hard_links, moved_files]


def names_of_one_file(root):
    """Sets of names that are hard links of each other."""
    found = {}
    for directory, _dirs, files in os.walk(root):
        for name in files:
            path = os.path.join(directory, name)
            found.setdefault(os.lstat(path).st_ino, set()).add(os.path.relpath(path, root))
    return sorted(sorted(names) for names in found.values() if len(names) > 1)
