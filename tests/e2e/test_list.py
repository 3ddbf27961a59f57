"""`veneer list`: live mounts of this user and the layers that `veneer run` kept."""

import json
import os
import subprocess
import time

import pytest

import commands
import oscalls
from contenders import VENEER
from test_status import runtime  # noqa: F401

pytestmark = [pytest.mark.veneer_only("kernel overlayfs has no commands"),
              pytest.mark.usefixtures("contender", "runtime")]

STATE = "/var/lib/veneer"


@pytest.fixture
def state(private_namespace):
    """A state directory for one test."""
    os.makedirs(STATE, exist_ok=True)
    oscalls.mount("tmpfs", STATE, "tmpfs", 0, "mode=0755")
    yield STATE
    oscalls.umount(STATE, oscalls.MNT_DETACH)


def keep(state, name, lower, command=("true",), files=()):
    home = os.path.join(state, name)
    for part in ("upper", "work"):
        os.makedirs(os.path.join(home, part))
    for file in files:
        with open(os.path.join(home, "upper", file), "w", encoding="ascii") as out:
            out.write("x" * 10)
    now = int(time.time()) - 100
    layer = {"schema": "veneer-layer", "version": 1, "lowers": [{"path": lower, "data_only": False}], "cross_mounts": False,
             "userxattr": False, "created": {"s": now, "ns": 0}, "command": [{"word": word} for word in command]}
    with open(os.path.join(home, "layer.json"), "w", encoding="ascii") as out:
        json.dump(layer, out)
    return home


def listed(**kwargs):
    text = commands.ask("list", "--json", **kwargs)
    commands.check_form("list", text)
    return json.loads(text)


def test_live_mounts(union, state):
    u = union({"f": "x"})
    (mount,) = [mount for mount in listed()["mounts"] if mount["mount_point"] == u.mnt]
    assert [mount["pid"]] == u.mounted.daemons()
    assert mount["upper"] == u.upper
    assert f"{u.mnt}  live" in commands.ask("list")


def test_kept_layers(state, tmp_path):
    keep(state, "one", str(tmp_path), ("make", "install"), ("a", "b"))
    keep(state, "two", str(tmp_path))
    os.mkdir(os.path.join(state, "other"))
    layers = {layer["name"]: layer for layer in listed()["layers"]}
    assert set(layers) == {"one", "two"}
    assert (layers["one"]["entries"], layers["one"]["bytes"], layers["one"]["pid"]) == (2, 20, None)
    assert [word["word"] for word in layers["one"]["command"]] == ["make", "install"]
    assert 100 <= layers["two"]["age_s"] < 200
    assert "one  kept, 2 entries, 20 B, begun 1 min 4" in commands.ask("list")


def test_damaged_layers_are_told(state, tmp_path):
    home = keep(state, "bad", str(tmp_path))
    with open(os.path.join(home, "layer.json"), "w", encoding="ascii") as out:
        out.write("{")
    keep(state, "good", str(tmp_path))
    done = commands.run("list")
    assert done.returncode == 1 and "bad" in done.stderr and "good" in done.stdout


def test_discard_by_name(state, tmp_path):
    home = keep(state, "name", str(tmp_path), files=("a", "b", "c"))
    assert commands.ask("discard", "name", cwd="/").startswith("discarded 3 entries (30 B)")
    assert os.listdir(os.path.join(home, "upper")) == []
    commands.ask("discard", "--remove", "name", cwd="/")
    assert not os.path.exists(home)
    assert listed()["layers"] == []


def test_a_layer_in_use(state):
    process = subprocess.Popen([VENEER, "run", "--name", "used", "--", "sleep", "100"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 20
        layers = []
        while time.monotonic() < deadline and not (layers and layers[0]["pid"]):
            layers = listed()["layers"]
            time.sleep(0.1)
        assert layers and layers[0]["pid"]
        done = commands.run("discard", "-y", "--remove", "used", cwd="/")
        assert done.returncode == 1 and "in use" in done.stderr
    finally:
        process.terminate()
        process.communicate(timeout=20)
