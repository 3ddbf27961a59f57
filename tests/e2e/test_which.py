"""`veneer which`: the layers a path comes from."""

import json
import os
import subprocess

import pytest

import commands
import oscalls
from contenders import VENEER
from test_status import runtime  # noqa: F401

pytestmark = [pytest.mark.veneer_only("kernel overlayfs has no commands"),
              pytest.mark.usefixtures("contender", "runtime")]

TOP = {"a": {"x": "top x"}, "only": "top"}
LOW = {"a": {"x": "low x", "y": "low y"}, "b": {"f": "low f"}, "link": "low"}


def which(*paths, **kwargs):
    text = commands.ask("which", "--json", *paths, **kwargs)
    commands.check_form("which", text)
    return json.loads(text)["paths"]


def one(path, **kwargs):
    (found,) = which(path, **kwargs)
    return found


def place(part):
    return part and (part["kind"], os.path.join(part["layer"], part["path"]))


def test_files(union):
    u = union(TOP, LOW, opts=["metacopy=off"])
    assert place(one(u / "a/x")["data"]) == ("lower", u.low("a/x"))
    assert place(one(u / "a/y")["data"]) == ("lower", u.low("a/y", layer=1))
    u.append("a/y", "+")
    u.write("new", "x")
    found = one(u / "a/y")
    assert place(found["data"]) == place(found["metadata"]) == ("upper", u.up("a/y"))
    assert found["copied_up"] and found["type"] == "file" and found["merged"] is None
    assert not one(u / "new")["copied_up"]


def test_directories(union):
    u = union(TOP, LOW)
    found = one(u / "a")
    assert [place(part) for part in found["merged"]] == [("lower", u.low("a")), ("lower", u.low("a", layer=1))]
    u.write("a/new", "x")
    found = one(u / "a")
    assert [part["kind"] for part in found["merged"]] == ["upper", "lower", "lower"]
    assert found["copied_up"] and found["data"] is None
    root = one(u.mnt)
    assert [part["path"] for part in root["merged"]] == ["", "", ""] and not root["copied_up"]


def test_redirects(union):
    u = union(TOP, LOW, opts=["redirect_dir=on"])
    os.rename(u / "b", u / "c")
    found = one(u / "c")
    assert [place(part) for part in found["merged"]] == [("upper", u.up("c")), ("lower", u.low("b", layer=1))]
    assert place(one(u / "c/f")["data"]) == ("lower", u.low("b/f", layer=1))


def test_metadata_apart_from_data(union):
    u = union(TOP, LOW, opts=["metacopy=on"])
    os.chmod(u / "b/f", 0o600)
    found = one(u / "b/f")
    assert found["metacopy"]
    assert place(found["metadata"]) == ("upper", u.up("b/f"))
    assert place(found["data"]) == ("lower", u.low("b/f", layer=1))


def test_index(union):
    u = union({"f": "x"}, opts=["index=on"])
    os.link(u.low("f"), u.low("g"))
    u.remount()
    u.append("f", "+")
    assert place(one(u / "f")["data"]) == ("upper", u.up("f"))
    assert place(one(u / "g")["data"])[0] == "upper"
    u._before = []


def test_symbolic_links_themselves(union):
    u = union(TOP, LOW)
    os.symlink("/etc/passwd", u / "s")
    os.symlink("nowhere", u / "t")
    assert one(u / "s")["type"] == "symlink"
    assert place(one(u / "t")["metadata"]) == ("upper", u.up("t"))


def test_relative_and_bound_paths(union, tmp_path):
    u = union(TOP, LOW)
    assert one("a/y", cwd=u.mnt)["inner"] == "a/y"
    assert one("../a/y", cwd=u / "b")["inner"] == "a/y"
    bound = tmp_path / "bound"
    bound.mkdir()
    oscalls.mount(u / "a", str(bound), "", 4096, "")  # MS_BIND
    try:
        assert place(one(bound / "y")["data"]) == ("lower", u.low("a/y", layer=1))
        assert one(bound)["inner"].rstrip("/") == "a"
    finally:
        oscalls.umount(str(bound), oscalls.MNT_DETACH)


def test_long_paths_of_any_bytes(union):
    u = union({"f": "x"})
    at = os.fsencode(u.mnt)
    for i in range(12):
        at = os.path.join(at, b"%\n \xff" + b"y" * 200)
        os.mkdir(at)
    done = subprocess.run([VENEER, "which", "--json", at], capture_output=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["paths"]
    assert bytes.fromhex(found["metadata"]["path_hex"]) == os.path.relpath(at, os.fsencode(u.mnt))


def test_others_are_told_why(union):
    u = union({"f": "x"})
    done = commands.run("which", "/proc/self", u / "none", u / "f")
    assert done.returncode == 1
    assert "not on a mount of veneer" in done.stderr and "No such file" in done.stderr
    assert "f: file" in done.stdout
    assert commands.run("which").returncode == 2
