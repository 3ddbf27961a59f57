# SPDX-License-Identifier: MIT
"""The layers that workloads run on: made once below the work directory, the same every time.

A tree is a directory with numbered layers, 0 on top. What the layers are together is in
`plain` where there are several, for the plain directory that takes part as well.
"""

import io
import os
import shutil
import tarfile

from . import system


class Scale:
    """How much there is of everything: `full`, `short` (a minute or two) or `tiny` (for tests)."""

    NAMES = ("full", "short", "tiny")

    def __init__(self, name):
        self.name = name

    def pick(self, full, short):
        if self.name == "full":
            return full
        return short if self.name == "short" else max(short // 40, 4)


class Tree:
    def __init__(self, home):
        self.home = home
        self.layers = sorted(filter(str.isdigit, os.listdir(home)), key=int)
        plain = os.path.join(home, "plain")
        self.plain = plain if os.path.isdir(plain) else os.path.join(home, "0")

    def layer(self, number):
        return os.path.join(self.home, self.layers[number])


class Trees:
    def __init__(self, root, ops, scale, who=None):
        self.root = os.path.join(root, scale.name + (f"-{who}" if who else ""))
        self.ops = ops
        self.scale = scale
        self.who = who

    def get(self, name):
        """The tree of this name, "KIND" or "KIND-NUMBER...", made if it is not there."""
        home = os.path.join(self.root, name)
        finished = home + ".finished"
        if not os.path.exists(finished):
            shutil.rmtree(home, ignore_errors=True)
            os.makedirs(home)
            kind, *numbers = name.split("-")
            getattr(self, f"_make_{kind}")(home, *map(int, numbers))
            if self.who:
                system.run(["chown", "-R", f"{self.who}:{self.who}", home])
            system.sync(home)
            with open(finished, "wb"):
                pass
        return Tree(home)

    def pick(self, full, short):
        return self.scale.pick(full, short)

    def _plant(self, path, count, first=0, size=4096):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        system.run([self.ops, "--count", str(count), "--first", str(first), "--size", str(size),
                    "plant", path])

    def _make_empty(self, home):
        os.makedirs(home + "/0/dir")

    def _make_files(self, home):
        """Much to look at."""
        self._plant(home + "/0/t", self.pick(40000, 4000))

    def _make_millions(self, home):
        """Very much to look at."""
        self._plant(home + "/0/t", self.pick(2000000, 200000), size=0)

    def _make_some(self, home):
        """Something to change: a plain copy of it is made each time."""
        self._plant(home + "/0/t", self.pick(3000, 800))

    def _make_pair(self, home):
        """The same directories in two layers, each file in one."""
        count = self.pick(3000, 800)
        for where in ("0", "plain"):
            self._plant(f"{home}/{where}/t", count, first=0)
        for where in ("1", "plain"):
            self._plant(f"{home}/{where}/t", count, first=count)
        # Directories are shared only where both halves have files of the same branch.
        for path, directories, _ in list(os.walk(f"{home}/plain/t")):
            for layer in ("0", "1"):
                for directory in directories:
                    os.makedirs(path.replace("/plain/", f"/{layer}/", 1) + "/" + directory,
                                exist_ok=True)

    def _make_big(self, home):
        os.makedirs(home + "/0")
        size = self.pick(1 << 30, 1 << 27)
        system.run([self.ops, "--size", str(size), "fill", home + "/0/big"])

    def _make_names(self, home, entries, layers):
        """One directory whose names are spread over the layers, in turn."""
        if entries > 1000:
            entries = self.pick(entries, entries // 5)
        for layer in range(layers):
            for where in (str(layer), "plain"):
                os.makedirs(f"{home}/{where}/dir", exist_ok=True)
                for number in range(layer, entries, layers):
                    with open(f"{home}/{where}/dir/name{number:06}", "wb"):
                        pass

    def _make_stack(self, home, layers):
        """One directory with a file of each layer."""
        for layer in range(layers):
            for where in (str(layer), "plain"):
                os.makedirs(f"{home}/{where}/dir", exist_ok=True)
                with open(f"{home}/{where}/dir/of{layer:03}", "wb"):
                    pass

    def _sources(self):
        """Names and contents shaped like a source tree: uneven directories, some KiB each."""
        for number in range(self.pick(8000, 800)):
            line = f"/* line of file {number} */\nint value_{number}(int n);\n"
            yield (f"part{number % 7}/dir{number % 97:02}/file{number:05}.c",
                   (line * (1 + number * 7919 % 240)).encode())

    def _make_archive(self, home):
        os.makedirs(home + "/0/dir")
        with tarfile.open(home + "/sources.tar", "w") as archive:
            for name, content in self._sources():
                info = tarfile.TarInfo("sources/" + name)
                info.size, info.mtime = len(content), 1600000000
                archive.addfile(info, io.BytesIO(content))

    def _make_repository(self, home):
        """Two branches that differ in each tenth file."""
        top = home + "/0/repo"
        for number, (name, content) in enumerate(self._sources()):
            if number < self.pick(5000, 500):
                os.makedirs(os.path.dirname(f"{top}/{name}"), exist_ok=True)
                with open(f"{top}/{name}", "wb") as file:
                    file.write(content)

        def git(*words):
            system.run(["git", "-C", top, "-c", "user.name=bench", "-c", "user.email=bench",
                        *words], env=git_environment(home))
        git("init", "-q", "-b", "one")
        git("config", "gc.auto", "0")
        git("add", ".")
        git("commit", "-q", "-m", "one")
        git("checkout", "-q", "-b", "two")
        for number, (name, _) in enumerate(self._sources()):
            if number < self.pick(5000, 500) and number % 10 == 0:
                with open(f"{top}/{name}", "ab") as file:
                    file.write(b"/* changed */\n")
        git("commit", "-q", "-a", "-m", "two")
        git("checkout", "-q", "one")

    def _make_project(self, home):
        """Something for make and the C compiler."""
        top = home + "/0/project"
        os.makedirs(top)
        count = self.pick(120, 8)
        for number in range(count):
            functions = "".join(
                f"int f{number}_{i}(int n)\n{{\n\tprintf(\"%d\\n\", n);\n\treturn n * {i};\n}}\n"
                for i in range(30))
            with open(f"{top}/f{number}.c", "w", encoding="ascii") as file:
                file.write("#include <stdio.h>\n#include <stdlib.h>\n#include \"all.h\"\n"
                           + functions)
        with open(top + "/all.h", "w", encoding="ascii") as file:
            file.writelines(f"int f{number}_{i}(int n);\n"
                            for number in range(count) for i in range(30))
        with open(top + "/Makefile", "w", encoding="ascii") as file:
            objects = " ".join(f"f{number}.o" for number in range(count))
            file.write(f"all.a: {objects}\n\tar rc $@ $^\n%.o: %.c all.h\n\tcc -O1 -c -o $@ $<\n")


def git_environment(home):
    """git, as if nobody had ever configured it."""
    return {**os.environ, "HOME": home, "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
