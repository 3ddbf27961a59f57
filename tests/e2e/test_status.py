"""`veneer status` and the control socket of a live mount: what it tells, whom, and what it survives."""

import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest

import commands
import contenders
import oscalls
import trees
from contenders import VENEER
from test_unprivileged import USER, as_ordinary, fuse_for_all, home, users_mount  # noqa: F401
from trees import wait_until

pytestmark = [pytest.mark.veneer_only("kernel overlayfs has no daemon"),
              pytest.mark.usefixtures("contender", "runtime")]

RUNTIME = "/run/veneer"
BIG = 192 << 20


def status(*args, **kwargs):
    return subprocess.run([VENEER, "status", *args], capture_output=True, text=True, errors="surrogateescape",
                          timeout=30, check=False, stdin=subprocess.DEVNULL, **kwargs)


def report(u):
    """The mount as --json has it."""
    done = status("--json", u.mnt)
    assert done.returncode == 0, done.stderr
    (mount,) = json.loads(done.stdout)["mounts"]
    return mount


@pytest.fixture(scope="module", autouse=True)
def needs_json():
    if "without jansson" in status().stderr:
        pytest.skip("this veneer was built without jansson")


@pytest.fixture
def runtime(private_namespace):
    """A directory of control sockets for one test."""
    os.makedirs(RUNTIME, 0o700, exist_ok=True)
    oscalls.mount("tmpfs", RUNTIME, "tmpfs", 0, "mode=0700")
    yield RUNTIME
    oscalls.umount(RUNTIME, oscalls.MNT_DETACH)


def socket_of(u):
    dev = os.stat(u.mnt).st_dev
    return f"{RUNTIME}/{os.major(dev)}:{os.minor(dev)}"


def connect(u, seconds=5):
    client = socket.socket(socket.AF_UNIX)
    client.connect(socket_of(u))
    client.settimeout(seconds)
    return client


def ask(u, line):
    with connect(u) as client:
        client.sendall(line)
        return b"".join(iter(lambda: client.recv(65536), b""))


# What it tells

def test_layers_and_options(union):
    u = union({"f": "x"}, {"g": "y"}, opts=["metacopy=off"])
    mount = report(u)
    assert [(layer["kind"], layer["path"]) for layer in mount["layers"]] == \
        [("upper", u.upper), ("lower", u.low(layer=0).rstrip("/")), ("lower", u.low(layer=1).rstrip("/"))]
    assert (mount["mount_point"], mount["workdir"]) == (u.mnt, u.work)
    assert mount["options"]["metacopy"] in ("off", "follow")
    assert mount["options"]["xattrs"] == "trusted"
    assert [mount["pid"]] == u.mounted.daemons()
    dev = os.stat(u.mnt).st_dev
    assert mount["device"] == f"{os.major(dev)}:{os.minor(dev)}"


def test_relative_paths_are_told_in_full(union_factory):
    u = union_factory({"f": "x"})
    options = "lowerdir=lower0,upperdir=upper,workdir=work"
    u.mounted = contenders.CONTENDERS["veneer"].run(["-o", options, u.mnt], u.mnt, cwd=u.base)
    mount = report(u)
    assert [layer["path"] for layer in mount["layers"]] == [u.upper, u.lowers[0]]
    assert mount["workdir"] == u.work


@pytest.mark.parametrize("data, why", [("served", "data=served"), ("passthrough", "data=passthrough"), ("auto", "root")])
def test_what_was_chosen_and_why(union, data, why):
    u = union({"f": "x"}, opts=[f"data={data}"])
    transport = report(u)["transport"]
    assert transport["data_path"] == ("served" if data == "served" else "passthrough")
    assert why in transport["data_path_why"]
    assert "io_uring" in transport["why"] or "liburing" in transport["why"]
    assert transport["why"] in status(u.mnt).stdout


def test_requests_are_counted(union):
    u = union({"f": "x" * 100000}, opts=["data=served"])
    u.read("f")
    u.write("new", "y" * 5000)
    kinds = {kind["kind"]: kind for kind in report(u)["requests"]}
    assert kinds["READ"]["bytes"] >= 100000
    assert kinds["WRITE"]["bytes"] == 5000
    for kind in kinds.values():
        assert 0 < kind["p50_ns"] <= kind["p99_ns"]


def test_copy_ups_are_counted(union):
    u = union({"f": "x" * 5000, "g": "y"})
    before = report(u)["copy_ups"]
    u.append("f", "z")
    os.chmod(u / "g", 0o600)
    after = report(u)["copy_ups"]
    assert after["count"] - before["count"] == 2
    assert after["bytes"] - before["bytes"] in (5000, 5001)
    assert after["running"] == []


def test_nodes_and_open_directories(union):
    u = union({"d": {str(i): "" for i in range(100)}})
    before = report(u)["caches"]
    for i in range(100):
        os.stat(u / f"d/{i}")
    fd = os.open(u / "d", os.O_RDONLY | os.O_DIRECTORY)
    os.listdir(fd)
    after = report(u)["caches"]
    os.close(fd)
    assert after["nodes"] >= before["nodes"] + 100
    assert after["open_directories"] == before["open_directories"] + 1
    assert after["descriptors"] <= after["descriptors_max"]


@pytest.fixture
def big(union_factory):
    """A union with a file whose copy-up takes a while: its file system does not share blocks."""
    u = union_factory({"d": {}}, guard=False)
    chunk = os.urandom(1 << 20)
    with open(u.low("d/big"), "wb") as file:
        for _ in range(BIG >> 20):
            file.write(chunk)
    return u.mount()


def start_writer(u):
    """A process of its own, which no signal reaches that is meant for this one."""
    return subprocess.Popen(["sh", "-c", 'exec 3<>"$1" && printf y >&3', "sh", u / "d/big"])


def test_copy_up_in_progress(big):
    """Seen while it runs: the file, bytes done, which grow, and a rate."""
    seen, shown = [], []
    with start_writer(big) as writer:
        while writer.poll() is None:
            seen += report(big)["copy_ups"]["running"]
            shown.append(status(big.mnt).stdout)
    assert writer.returncode == 0
    seen = [one for one in seen if one["path"] == "/d/big" and one["size"]]
    assert len(seen) >= 2
    done = [one["done"] for one in seen]
    assert done == sorted(done) and done[0] < done[-1] <= BIG
    assert {one["size"] for one in seen} == {BIG}
    assert seen[-1]["bytes_per_s"] > 0
    assert {one["phase"] for one in seen} <= {"copying", "finishing"}
    lines = [line for text in shown for line in text.splitlines() if "copying" in line]
    assert any(re.search(r"copying +/d/big +.* of 192 MiB \(\d+ %\), .*B/s", line) for line in lines)
    after = report(big)["copy_ups"]
    assert after["running"] == [] and after["bytes"] >= BIG


def test_copy_up_of_a_file_that_is_renamed_and_removed(big):
    """The path is where the file is now; without a name there is none."""
    paths = []
    with start_writer(big) as writer:
        assert wait_until(lambda: any(one["path"] == "/d/big" for one in report(big)["copy_ups"]["running"]), 5)
        os.rename(big / "d", big / "e")
        os.rename(big / "e", big / "f")
        paths += [one["path"] for one in report(big)["copy_ups"]["running"]]
        os.unlink(big / "f/big")
        while writer.poll() is None:
            paths += [one["path"] for one in report(big)["copy_ups"]["running"]]
    assert writer.returncode == 0
    assert set(paths) <= {"/f/big", None}


def test_watch_looks_again(union):
    u = union({"f": "x"})
    with subprocess.Popen([VENEER, "status", "--json", "--watch", u.mnt], stdout=subprocess.PIPE, text=True) as watcher:
        looks = [json.loads(watcher.stdout.readline()) for _ in range(2)]
        watcher.terminate()
    uptimes = [look["mounts"][0]["uptime_ms"] for look in looks]
    assert uptimes[0] + 900 <= uptimes[1]


def test_any_path_in_the_mount(union):
    u = union({"d": {"f": "x"}})
    for path in (u / "d/f", u / "d", u.mnt):
        assert status(path).returncode == 0
    assert u.mnt in status(".", cwd=u / "d").stdout


def test_all_mounts_of_this_user(union):
    first, second = union({"f": "x"}), union({"f": "y"})
    bound = os.path.join(first.base, "bound")
    os.mkdir(bound)
    oscalls.mount(first.mnt, bound, "none", oscalls.MS_BIND)
    points = [mount["mount_point"] for mount in json.loads(status("--json").stdout)["mounts"]]
    oscalls.umount(bound)
    # This machine may have others.
    assert {first.mnt, second.mnt} <= set(points) and bound not in points


# Its form

@pytest.fixture(scope="module")
def check_form():
    """check(text): it has the form that the documentation gives."""
    return lambda text: commands.check_form("status", text)


def test_schema(big, check_form):
    texts = []
    with start_writer(big) as writer:
        while writer.poll() is None or not texts:
            texts.append(status("--json", big.mnt, "/").stdout)
    assert any(json.loads(text)["mounts"][0]["copy_ups"]["running"] for text in texts)
    for text in texts:
        check_form(text)


def test_schema_of_a_read_only_mount_with_a_timeout(union, check_form):
    u = union({"f": "x"}, {"g": "y"}, readonly=True, opts=["timeout=1"])
    text = status("--json", u.mnt).stdout
    check_form(text)
    (mount,) = json.loads(text)["mounts"]
    assert mount["options"]["read_only"] and mount["options"]["timeout_s"] == 1
    assert mount["workdir"] is None


def test_schema_of_names_that_are_no_text(union_factory, base, check_form):
    where = os.fsdecode(os.path.join(os.fsencode(base), b"odd \xff\n\x1b[31m"))
    u = union_factory({"f": "x"}, where=where).mount()
    done = status("--json", u.mnt)
    check_form(done.stdout)
    (mount,) = json.loads(done.stdout)["mounts"]
    assert bytes.fromhex(mount["mount_point_hex"]) == os.fsencode(u.mnt)
    assert "\ufffd\n\x1b[31m" in mount["mount_point"]
    shown = status(u.mnt).stdout
    assert "\x1b" not in shown and "odd" in shown


def test_daemons_answer_has_the_version(union):
    answer = json.loads(ask(union({"f": "x"}), b"status\n"))
    assert answer["version"] == 1


# Whom it tells

def test_permissions_of_the_socket(union):
    u = union({"f": "x"})
    directory, sock = os.stat(RUNTIME), os.stat(socket_of(u))
    assert (directory.st_mode & 0o7777, directory.st_uid) == (0o700, 0)
    assert (sock.st_mode & 0o7777, sock.st_uid) == (0o600, 0)


def test_another_user_is_told_why_not(union):
    u = union({"f": "x"})
    done = as_ordinary(VENEER, "status", u.mnt)
    assert done.returncode == 1
    assert "belongs to user 0" in done.stderr and u.mnt in done.stderr


def test_another_user_is_refused_even_behind_open_doors(union, as_user):
    u = union({"f": "x"})
    os.chmod(RUNTIME, 0o755)
    os.chmod(socket_of(u), 0o666)

    def attempt():
        try:
            return ask(u, b"status\n")
        except (BrokenPipeError, ConnectionResetError):
            return b""
    assert as_user(USER, attempt) == b""
    os.chmod(RUNTIME, 0o700)
    assert report(u)["version"] == 1


def test_directory_that_others_may_enter_is_not_used(union):
    os.chmod(RUNTIME, 0o755)
    u = union({"f": "x"})
    assert os.listdir(RUNTIME) == []
    done = status(u.mnt)
    assert done.returncode == 1 and "0700" in done.stderr
    assert u.read("f") == b"x"


def test_ordinary_user(users_mount, base, monkeypatch):
    """With a runtime directory an ordinary user has all of it, without one the mount is as good."""
    runtime_dir = os.path.join(base, "runtime")
    os.mkdir(runtime_dir, 0o700)
    os.chown(runtime_dir, USER, USER)
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime_dir)
    mnt = users_mount()
    assert os.stat(f"{runtime_dir}/veneer").st_mode & 0o7777 == 0o700
    done = as_ordinary(VENEER, "status", "--json")
    assert done.returncode == 0, done.stderr
    (mount,) = json.loads(done.stdout)["mounts"]
    assert mount["mount_point"] == mnt
    done = status(mnt)
    assert done.returncode == 1 and "only the user who mounted" in done.stderr


def test_without_a_runtime_directory(users_mount, monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    mnt = users_mount()
    done = as_ordinary(VENEER, "status", mnt)
    assert done.returncode == 1 and "XDG_RUNTIME_DIR" in done.stderr


# What it survives

@pytest.mark.parametrize("line", [b"nonsense\n", b"\n", b"status \n", b"status\0\n" * 30, b"\xff" * 1000, b"x" * 256,
                                  b"status", b""])
def test_garbage(union, line):
    u = union({"f": "x"})
    with connect(u) as client:
        client.sendall(line)
        client.shutdown(socket.SHUT_WR)
        try:
            answer = client.recv(65536)
        except ConnectionResetError:
            answer = b""
    assert answer == b"" or "error" in json.loads(answer) or line.startswith(b"status\0")
    assert report(u)["version"] == 1


def test_those_who_hang_up(union):
    u = union({"f": "x"})
    for _ in range(200):
        with connect(u) as client:
            client.sendall(b"status\n")
    assert report(u)["version"] == 1


def test_those_who_stall_are_dropped(union):
    """The file system goes on meanwhile, and others get their turn."""
    u = union({"f": "x"})
    stalled = [connect(u, 10) for _ in range(4)]
    stalled[0].sendall(b"sta")
    started = time.monotonic()
    assert u.read("f") == b"x"
    u.write("new", "y")
    assert time.monotonic() - started < 1
    assert report(u)["version"] == 1
    for client in stalled:
        assert client.recv(1) == b""
        client.close()


def test_idle_daemon_does_not_wake_up(union):
    u = union({"f": "x"})
    report(u)
    (pid,) = u.mounted.daemons()

    def switches():
        text = trees.read(f"/proc/{pid}/status").decode()
        return int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", text, re.M).group(1))
    time.sleep(1)
    before = switches()
    time.sleep(2)
    assert switches() == before


# Beginning and end

def test_socket_goes_with_the_mount(union):
    u = union({"f": "x"})
    path = socket_of(u)
    assert os.path.exists(path)
    u.umount()
    assert not os.path.exists(path)


def test_killed_daemon(union):
    u = union({"f": "x"})
    (pid,) = u.mounted.daemons()
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not u.mounted.daemons(), 5)
    done = status(u.mnt)
    assert done.returncode == 1
    assert "is gone" in done.stderr and u.mnt in done.stderr and "umount" in done.stderr
    contenders.unmount(u.mnt)
    u.mounted = None


def test_stale_sockets_are_replaced(union, runtime):
    """Whatever has the name, the next mount with this device number takes it."""
    for minor in range(1000):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(f"{runtime}/0:{minor}")
    u = union({"f": "x"})
    assert socket_of(u) in [f"{runtime}/0:{minor}" for minor in range(1000)]
    assert report(u)["version"] == 1


def test_late_daemon_leaves_its_successors_socket(union):
    u = union({"f": "x"})
    path = socket_of(u)
    os.unlink(path)
    trees.write(path, "not mine")
    u.umount()
    assert trees.read(path) == b"not mine"


# Errors

def test_not_a_mount(base):
    done = status(base)
    assert done.returncode == 1
    assert base in done.stderr and "is not on a mount of veneer" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_missing_path(base):
    done = status(base + "/missing")
    assert done.returncode == 1 and base + "/missing" in done.stderr


def test_nothing_mounted(check_form):
    def as_stranger(*args):
        return subprocess.run(["setpriv", "--reuid", "61234", "--regid", "61234", "--clear-groups", VENEER, "status",
                               *args], capture_output=True, text=True, timeout=10, check=False)
    done = as_stranger()
    assert done.returncode == 1 and done.stdout == ""
    assert "mounted nothing" in done.stderr
    done = as_stranger("--json")
    assert done.returncode == 1
    check_form(done.stdout)
    assert json.loads(done.stdout)["mounts"] == []


def test_good_mounts_are_shown_beside_bad_ones(union, base):
    u = union({"f": "x"})
    done = status(base, u.mnt)
    assert done.returncode == 1
    assert u.mnt in done.stdout and base in done.stderr


def test_misuse():
    done = status("--frobnicate")
    assert done.returncode == 2 and "frobnicate" in done.stderr and "usage" in done.stderr


def test_help():
    done = status("--help")
    assert done.returncode == 0 and "--json" in done.stdout and done.stderr == ""


def test_source_with_the_name_of_a_command(union_factory):
    u = union_factory({"f": "x"})
    u.mounted = contenders.CONTENDERS["veneer"].run(
        ["mount", "-o", ",".join([*u.layers.option(), *contenders.EXTRA]), "status", u.mnt], u.mnt)
    assert u.read("f") == b"x"
    assert status(u.mnt).returncode == 0
