"""Layers from the descriptions in tests/fsck (its README.md has the form): what git cannot hold.

A description names the objects of lowers, an upper and a work directory, one a line; here they are made.
"""

import os
import shlex
import stat
import struct

import oscalls
from contenders import Layers

FIXTURES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fsck")
OTHER = {"trusted": "user", "user": "trusted"}
TIME = 1_600_000_000 * 10**9


def names():
    return sorted(name for name in os.listdir(FIXTURES)
                  if os.path.exists(os.path.join(FIXTURES, name, "layer")))


def identity(path, upper=False, uuid=None):
    """What an origin attribute holds for the object at a path."""
    kind, handle = oscalls.name_to_handle(path)
    where = path if os.path.isdir(path) and not os.path.islink(path) else os.path.dirname(path)
    uuid = oscalls.fs_uuid(where) if uuid is None else uuid
    return struct.pack("BBBBB", 0, 0xfb, 21 + len(handle), 4 if upper else 0, kind) + uuid + handle


class Description:
    """A parsed `layer` file."""

    def __init__(self, name):
        self.path = os.path.join(FIXTURES, name)
        self.options = {}
        self.objects = []
        section = None
        with open(os.path.join(self.path, "layer"), encoding="utf-8") as file:
            for line in file:
                words = [] if line.startswith("#") else shlex.split(line)
                if not words:
                    continue
                if words[0].startswith("["):
                    section = words[0].strip("[]")
                elif section is None:
                    self.options[words[0]] = words[1:]
                else:
                    self.objects.append((section, words))

    @property
    def namespace(self):
        return "user" if "userxattr" in self.options else "trusted"

    def text(self, name):
        path = os.path.join(self.path, name)
        if not os.path.exists(path):
            return None
        with open(path, encoding="utf-8") as file:
            return file.read()


class Builder:
    """Makes a description's layers in a directory."""

    def __init__(self, description, base):
        self.description, self.base = description, base
        self.gone = []

    def build(self):
        sections = sorted({section for section, _ in self.description.objects} | {"upper", "work"})
        for section in sections:
            os.mkdir(os.path.join(self.base, section))
        for section, words in self.description.objects:
            self.make(section, words)
        for path in self.gone:
            os.unlink(path)
        for section in sections:
            self.settle_times(os.path.join(self.base, section))
        lowers = [section for section in sections if section.startswith("lower")]
        return Layers([os.path.join(self.base, section) for section in lowers],
                      upper=os.path.join(self.base, "upper"), work=os.path.join(self.base, "work"))

    def settle_times(self, root):
        for directory, dirs, files in os.walk(root, topdown=False):
            for name in dirs + files:
                os.utime(os.path.join(directory, name), ns=(TIME, TIME), follow_symlinks=False)
        os.utime(root, ns=(TIME, TIME))

    def expand(self, text):
        """`{lower/a}` in a name: the origin of that object, in hexadecimal."""
        start = text.find("{")
        if start < 0:
            return text
        end = text.index("}")
        return text[:start] + self.value("@" + text[start + 1:end]).hex() + text[end + 1:]

    def value(self, text):
        if text.startswith("hex:"):
            return bytes.fromhex(text[4:])
        if not text.startswith("@"):
            return text.encode()
        if text == "@upper":
            return identity(os.path.join(self.base, "upper"), upper=True)
        if text.startswith("@foreign:"):
            return identity(os.path.join(self.base, text[9:]), uuid=b"veneer-elsewhere")
        return identity(os.path.join(self.base, text[1:]))

    def make(self, section, words):
        name, kind, *rest = words
        path = os.path.normpath(os.path.join(self.base, section, self.expand(name)))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        args = dict(word.split("=", 1) for word in rest if "=" in word)
        plain = [word for word in rest if "=" not in word]
        getattr(self, "make_" + kind)(path, plain, args)
        for key, value in args.items():
            self.set_attribute(path, key, self.value(value))

    def set_attribute(self, path, key, value):
        namespace = self.description.namespace
        if key.startswith("other."):
            namespace, key = OTHER[namespace], key[6:]
        elif "." in key and not key.startswith("veneer."):
            os.setxattr(path, key, value, follow_symlinks=False)
            return
        os.setxattr(path, f"{namespace}.overlay.{key}", value, follow_symlinks=False)

    def make_dir(self, path, _plain, args):
        os.makedirs(path, exist_ok=True)
        os.chmod(path, int(args.pop("mode", "755"), 8))

    def make_file(self, path, plain, args):
        with open(path, "w", encoding="utf-8") as file:
            file.write(plain[0] if plain else "")
            if "size" in args:
                file.truncate(int(args.pop("size")))
        os.chmod(path, int(args.pop("mode", "644"), 8))

    def make_gone(self, path, plain, args):
        """A file that is removed in the end, after others have noted what it was."""
        self.make_file(path, plain, args)
        self.gone.append(path)

    def make_symlink(self, path, plain, _args):
        os.symlink(plain[0], path)

    def make_whiteout(self, path, _plain, _args):
        os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))

    def make_fifo(self, path, _plain, _args):
        os.mkfifo(path)

    def make_link(self, path, plain, _args):
        os.link(os.path.join(self.base, self.expand(plain[0])), path, follow_symlinks=False)


def show(root):
    """The tree as `tree` files have it: a line an object, sorted."""
    lines = []
    for directory, dirs, files in os.walk(root):
        dirs.sort()
        for name in dirs + files:
            path = os.path.join(directory, name)
            relative = os.path.relpath(path, root)
            if os.path.islink(path):
                lines.append(f"{relative} -> {os.readlink(path)}")
            elif os.path.isdir(path):
                lines.append(relative + "/")
            elif os.path.isfile(path):
                with open(path, encoding="utf-8") as file:
                    lines.append(f"{relative}: {file.read()}")
            else:
                lines.append(f"{relative} ({stat.filemode(os.lstat(path).st_mode)[0]})")
    return "".join(line + "\n" for line in sorted(lines))
