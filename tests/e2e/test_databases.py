"""Databases that begin their life in a lower layer: SQLite's and dpkg's, changed over and over.

After each round the pages are dropped, so that what is checked is what was written.  VENEER_FULL=1 is
fifty rounds over 90 MB, with all caches of the machine dropped.
"""

import os
import shutil
import sqlite3
import subprocess

import pytest

import trees
from callers import FULL, drop_pages

ROUNDS = 50 if FULL else 4
SIZE = (90 if FULL else 6) * 1_000_000
FEATURES = ["redirect_dir=on", "metacopy=on", "index=on"]


def forget(*paths):
    """What is in memory of these files; in full size of everything."""
    for path in paths:
        if os.path.exists(path):
            drop_pages(path)
    if FULL:
        trees.write("/proc/sys/vm/drop_caches", "3")


# SQLite

def fill(path):
    with sqlite3.connect(path) as db:
        db.execute("create table t (k integer primary key, v text)")
        db.execute("create index i on t (v)")
        rows = SIZE // 1000
        db.executemany("insert into t values (?, ?)", ((i, f"{i * 7919 % 10007}" * 90) for i in range(rows)))
    db.close()


def state(db):
    assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
    return db.execute("select count(*), sum(length(v)), sum(k) from t").fetchone()


@pytest.mark.parametrize("journal", ["delete", "wal", "mmap"])
def test_sqlite(union, journal):
    """Somebody else reads along, through a connection from before the first change."""
    u = union({"d": {}}, opts=FEATURES)
    u.umount()
    fill(u.low("d/db"))
    u.guard_lowers()
    u.mount()
    path = u / "d/db"
    reader = sqlite3.connect(path)
    before = state(reader)
    for turn in range(ROUNDS):
        db = sqlite3.connect(path)
        if journal == "mmap":
            db.execute("pragma mmap_size=1000000000")
            reader.execute("pragma mmap_size=1000000000")
        else:
            db.execute(f"pragma journal_mode={journal}")
        with db:
            db.execute("update t set v = v || ? where k % 5 = ?", (f"+{turn}", turn % 5))
            db.execute("delete from t where k % 97 = ?", (turn,))
            db.execute("insert into t values (?, ?)", (10**9 + turn, "new" * 1000))
        if turn % 2:
            db.execute("vacuum")
        expected = state(db)
        db.close()
        assert expected != before
        assert state(reader) == expected
        forget(path, path + "-wal")
        if turn % 4 == 3:
            reader.close()
            u.remount()
            reader = sqlite3.connect(path)
        assert state(reader) == expected
        before = expected
    reader.close()
    u.umount()
    db = sqlite3.connect(u.up("d/db"))
    assert state(db) == expected
    db.close()


# dpkg

def package(directory, name, version, files):
    """A .deb of these files; its path."""
    root = os.path.join(directory, f"{name}-{version}")
    trees.build(root, {"DEBIAN": {"control": f"Package: {name}\nVersion: {version}\nArchitecture: all\n"
                                  "Maintainer: nobody <nobody@localhost>\nDescription: a test\n",
                                  "conffiles": f"/etc/{name}.conf\n"}, **files})
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", root, root + ".deb"], check=True,
                   capture_output=True)
    shutil.rmtree(root)
    return root + ".deb"


def contents(name, version):
    """What a package has: files that stay, change, come and go with its version."""
    share = {"stays": "always " * 500, "changes": f"{version} " * 800, f"only-{version}": "x",
             "program": trees.File(data=f"#!/bin/sh\necho {version}\n", mode=0o755)}
    return {"usr": {"share": {name: share}}, "etc": {f"{name}.conf": f"of {name}\n"}}


class Root:
    """A root directory with a dpkg database."""

    def __init__(self, path):
        self.path = path

    def dpkg(self, *args):
        done = subprocess.run(["dpkg", f"--root={self.path}", "--force-not-root", "--force-confnew", *args],
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def versions(self):
        """Package -> version, of those that are installed whole."""
        lines = self.dpkg("--list").splitlines()
        return {line.split()[1]: line.split()[2] for line in lines if line.startswith("ii")}

    def check(self, expected):
        assert self.versions() == expected
        assert (self.dpkg("--audit"), self.dpkg("--verify")) == ("", "")
        for name, version in expected.items():
            share = os.path.join(self.path, "usr/share", name)
            assert sorted(os.listdir(share)) == ["changes", f"only-{version}", "program", "stays"]
            assert trees.read(share + "/changes") == f"{version} ".encode() * 800
            assert trees.read(share + "/stays") == b"always " * 500


def test_dpkg(union, tmp_path):
    """Installs, upgrades, downgrades, removes and purges packages of a lower's system."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("dpkg-deb is not installed")
    debs = {(name, version): package(tmp_path, name, version, contents(name, version))
            for name in ("one", "two", "three") for version in ("1", "2")}
    u = union({"var": {"lib": {"dpkg": {"info": {}, "updates": {}, "triggers": {}, "status": "",
                                        "available": ""}}}, "usr": {"share": {}}, "etc": {}}, opts=FEATURES)
    u.umount()
    lower = Root(u.low())
    lower.dpkg("-i", debs["one", "1"], debs["two", "1"])
    u.guard_lowers()
    u.mount()
    root = Root(u.mnt)
    root.check({"one": "1", "two": "1"})
    for turn in range(ROUNDS):
        new, old = ("2", "1") if turn % 2 == 0 else ("1", "2")
        root.dpkg("--force-downgrade", "-i", debs["one", new], debs["three", new])
        root.check({"one": new, "two": "1" if turn == 0 else old, "three": new})
        forget(u / "var/lib/dpkg/status", u / "var/lib/dpkg/info/one.list")
        root.dpkg("--remove", "three")
        root.dpkg("--purge", "two", "three")
        assert not os.path.exists(u / "usr/share/two")
        root.check({"one": new})
        u.remount()
        root.check({"one": new})
        root.dpkg("-i", debs["two", new])
        root.check({"one": new, "two": new})
