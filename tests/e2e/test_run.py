"""veneer run: a command on a veneer over the whole tree, as root and as an ordinary user."""

import json
import os
import pty
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import termios
import time

import pytest

import contenders
import oscalls
import trees
from contenders import TAG, VENEER
from test_unprivileged import USER, fuse_device, need
from trees import wait_until

TIMEOUT = 60
_runs = 0


@pytest.fixture(scope="module", autouse=True)
def fuse(private_namespace):
    """/dev/fuse as udev sets it up."""
    with tempfile.TemporaryDirectory(prefix="veneer-run-", dir="/var/tmp") as home:
        yield from fuse_device(home, 0o666)


class Runner:
    """Calls veneer run as one user, and looks for what it leaves behind."""

    def __init__(self, uid, home):
        self.uid = uid
        self.home = home
        self.tags = []

    def command(self, *args, veneer=VENEER):
        command = [veneer, "run", *args]
        if self.uid:
            groups = ["--clear-groups"]
            command = ["setpriv", "--reuid", str(self.uid), "--regid", str(self.uid), *groups, *command]
        return command

    def environment(self, **more):
        global _runs
        _runs += 1
        self.tags.append(f"run.{os.getpid()}.{_runs}")
        # State of root is the machine's: only users' tests use it.
        return {**os.environ, TAG: self.tags[-1], "HOME": self.home, "XDG_STATE_HOME": "",
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **more}

    def start(self, *args, env=(), **popen):
        popen.setdefault("stdin", subprocess.DEVNULL)
        popen.setdefault("stdout", subprocess.PIPE)
        popen.setdefault("stderr", subprocess.PIPE)
        return subprocess.Popen(self.command(*args), cwd=popen.pop("cwd", self.home), text=True,
                                env=self.environment(**dict(env)), **popen)

    def __call__(self, *args, **popen):
        """Runs to the end; what subprocess.run() returns."""
        text = popen.pop("input", None)
        if text is not None:
            popen["stdin"] = subprocess.PIPE
        with self.start(*args, **popen) as process:
            try:
                out, err = process.communicate(text, timeout=TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(args, process.returncode, out, err)

    def shell(self, script, *args, **popen):
        """Standard output of a script, which must succeed."""
        done = self(*(args or ["--discard"]), "--", "sh", "-ec", script, **popen)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout

    def left(self):
        return [pid for tag in self.tags for pid in contenders.tagged_processes(tag)]


@pytest.fixture
def home(private_namespace):
    """A directory that is part of the tree (the scratch file systems are below /dev, which is real)."""
    path = tempfile.mkdtemp(prefix="veneer-run-", dir="/var/tmp")
    os.chmod(path, 0o755)
    yield path
    assert contenders.mounts_below(path) == []
    trees.remove(path)


@pytest.fixture(params=["root", "user"])
def run(request, home):
    uid = USER if request.param == "user" else 0
    if uid:
        need("setpriv", "unshare")
        probe = subprocess.run(["setpriv", "--reuid", str(uid), "--clear-groups", "unshare", "-U", "true"],
                               capture_output=True, check=False)
        if probe.returncode:
            pytest.skip("user namespaces are not allowed here")
    os.chown(home, uid, uid)
    runner = Runner(uid, home)
    mounts = trees.read("/proc/self/mountinfo")
    yield runner
    left = [] if wait_until(lambda: not runner.left(), 5) else runner.left()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []
    assert trees.read("/proc/self/mountinfo") == mounts


AS_ROOT = pytest.mark.parametrize("run", ["root"], indirect=True)
AS_USER = pytest.mark.parametrize("run", ["user"], indirect=True)


def layer(home, name="layer"):
    return f"{home}/{name}"


# What it runs, and what that sees


@pytest.mark.parametrize("status", [0, 1, 7, 125])
def test_exit_status(run, status):
    assert run("--discard", "--", "sh", "-c", f"exit {status}").returncode == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_end_by_a_signal(run, number):
    done = run("--discard", "sh", "-c", f"kill -{int(number)} $$")
    assert done.returncode == -number
    assert done.stderr == ""


def test_no_such_command(run):
    done = run("--discard", "no-such-command")
    assert done.returncode == 127
    assert "no-such-command" in done.stderr
    os.mkdir(f"{run.home}/d")
    assert run("--discard", f"{run.home}/d").returncode == 126


@pytest.mark.parametrize("args", [["--no-such-option"], ["--keep", "x", "--name", "y"], ["--ask", "--commit"],
                                  ["--write", "/no/such"], ["--hide", "/"], ["--hide", "/usr", "--write", "/usr/"],
                                  ["-o", "timeout=1,upperdir=/x"], ["-o", "lowerdir=/x"], ["-o", "cross_mounts"]])
def test_misuse(run, args):
    done = run(*args, "true")
    assert done.returncode == 2
    assert args[0].strip("-") in done.stderr or "exclude" in done.stderr


def test_a_value_that_looks_like_an_option(run):
    done = run("--discard", "-o", r"fsname=a\,upperdir=x", "true")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("how", ["hidden", "removed"])
def test_a_current_directory_that_is_not_there(run, how):
    """Elsewhere the command could do harm."""
    os.makedirs(f"{run.home}/a/b")
    script = f"cd a/b; {'rmdir ../b; ' if how == 'removed' else ''}exec \"$@\""
    command = run.command("--discard", *(["--hide", f"{run.home}/a"] if how == "hidden" else []), "touch", "n")
    done = subprocess.run(["sh", "-c", script, "-", *command], cwd=run.home, env=run.environment(), text=True,
                          capture_output=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 125
    assert "current directory" in done.stderr and "cd" in done.stderr
    assert how == "removed" or f"{run.home}/a/b" in done.stderr


def test_options_end_at_the_command(run):
    assert run("--discard", "echo", "--commit", "-o", "x").stdout == "--commit -o x\n"


def test_default_command_is_the_shell(run):
    assert run("--discard", input="echo $0\n", env={"SHELL": "/bin/sh"}).stdout == "/bin/sh\n"


def test_the_tree_is_the_users(run):
    """The same names, the same users' ids for one's own, the same kind of files."""
    here = subprocess.run(run.command()[:-2] + ["sh", "-c", "ls / /etc /usr/bin; id -u; id -g"], text=True,
                          check=True, capture_output=True, cwd=run.home).stdout
    assert run.shell("ls / /etc /usr/bin; id -u; id -g") == here
    assert run.shell("stat -c %u:%g .").split() == [f"{run.uid}:{run.uid}"]
    assert run.shell("echo x >/dev/null; cat /proc/self/comm; test -d /sys/class; test -d /run") == "cat\n"


def test_it_keeps_what_it_was_given(run):
    """Current directory, environment, umask, standard input, other descriptors."""
    os.mkdir(f"{run.home}/sub dir")
    os.chmod(f"{run.home}/sub dir", 0o777)
    read_end, write_end = os.pipe()
    script = f'pwd; echo "$MARK"; umask; cat; cat <&{read_end}; ls /proc/self/fd | wc -l'
    os.write(write_end, b"seven\n")
    os.close(write_end)
    old = os.umask(0o027)
    try:
        done = run("--discard", "bash", "-c", script, cwd=f"{run.home}/sub dir", env={"MARK": "it is"}, input="in\n",
                   pass_fds=[read_end])
    finally:
        os.umask(old)
        os.close(read_end)
    lines = done.stdout.splitlines()
    # Standard streams, the one passed on, and the directory that ls reads.
    assert lines == [f"{run.home}/sub dir", "it is", "0027", "in", "seven", "5"], done.stderr


def test_closed_streams_stay_closed(run):
    command = shlex.join(run.command("--discard", "sh", "-c", "ls /proc/$$/fd >f; cat f >&5"))
    done = subprocess.run(["bash", "-c", f"{command} 5>&1 >&- 2>&- <&-"], cwd=run.home, env=run.environment(), text=True,
                          capture_output=True, timeout=TIMEOUT, check=False)
    assert done.stdout.split() == ["1", "5"]  # f, and what was passed on


def test_the_users_programs_work(run):
    """What needs rights of its own, where the user has them."""
    if run.uid == 0:
        out = run.shell("su -s /bin/sh nobody -c 'id -u'; mount -t tmpfs none /mnt; touch /mnt/x; chroot / ls /mnt/x")
        assert out.split() == ["65534", "/mnt/x"]
        assert not os.path.exists("/mnt/x")
    out = run.shell("mkdir t; tar -C t -cf t.tar .; ln t.tar l; cp -a t.tar c; mkfifo p; (echo x >p &) ; cat p; "
                    "stat -c %h t.tar; /usr/bin/python3 -c 'import tempfile; print(tempfile.TemporaryFile().write(b\"x\"))'")
    assert out.split() == ["x", "2", "1"]


def test_what_is_mounted_in_the_tree(run):
    """It is seen, and changes of it are the layer's."""
    point = f"{run.home}/point"
    os.mkdir(point)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"uid={run.uid}", "tmpfs", point], check=True)
    try:
        trees.write(f"{point}/f", "old")
        os.chown(f"{point}/f", run.uid, run.uid)
        assert run.shell(f"cat {point}/f; echo new >{point}/f; cat {point}/f",
                         "--keep", layer(run.home)) == "oldnew\n"
        assert trees.read(f"{point}/f") == b"old"
        assert trees.read(f"{layer(run.home)}/upper{point}/f") == b"new\n"
    finally:
        oscalls.umount(point)


# Where changes go


def test_nothing_real_is_changed(run):
    trees.build(f"{run.home}/t", {"f": "x", "d": {"g": "y"}})
    for path in ("t", "t/f", "t/d", "t/d/g"):
        os.chown(f"{run.home}/{path}", run.uid, run.uid)
    before = trees.snapshot(f"{run.home}/t")
    out = run.shell("cd t; echo new >f; rm -r d; mkdir e; touch e/n; ls; cat f", "--keep", layer(run.home))
    assert out.split() == ["e", "f", "new"]
    assert trees.difference(before, trees.snapshot(f"{run.home}/t")) == []
    upper = f"{layer(run.home)}/upper{run.home}/t"
    assert trees.read(f"{upper}/f") == b"new\n"
    assert trees.is_whiteout(f"{upper}/d")


def test_it_goes_on_with_a_layer(run):
    run.shell("mkdir d; echo 1 >d/f", "--keep", layer(run.home))
    assert run.shell("cat d/f; echo 2 >>d/f; mv d e", "--keep", layer(run.home)) == "1\n"
    assert run.shell("cat e/f; ls -d d || true", "--keep", layer(run.home)) == "1\n2\n"


@pytest.mark.parametrize("name", ["a,b", "a:b", "a\\b", "a b", "a=b", "\xfc", "-a"])
def test_any_name_of_a_layer(run, name):
    run.shell("echo 1 >f", "--keep", layer(run.home, name))
    assert run.shell("cat f", f"--keep={name}") == "1\n"


def test_without_home(run):
    """Then there is no place for a layer without a name, unless one is root."""
    command = run.command("--discard", "true")
    env = {key: value for key, value in run.environment().items() if key != "HOME"}
    done = subprocess.run(command, cwd=run.home, env=env, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == (125 if run.uid else 0)
    assert "--keep" in done.stderr or not run.uid


def test_layer_describes_itself(run):
    run.shell("touch f", "--keep", layer(run.home))
    with open(f"{layer(run.home)}/layer.json", encoding="utf-8") as file:
        told = json.load(file)
    assert [lower["path"] for lower in told["lowers"]] == ["/"]
    assert told["cross_mounts"] is True
    assert told["userxattr"] is (run.uid != 0)
    assert [entry["word"] for entry in told["command"]] == ["sh", "-ec", "touch f"]
    assert abs(told["created"]["s"] - time.time()) < 60


def test_the_layer_is_hidden(run):
    assert run.shell(f"ls {layer(run.home)}; touch {layer(run.home)}/x 2>/dev/null || echo no", "--keep",
                     layer(run.home)) == "no\n"


def test_only_one_at_a_time_on_a_layer(run):
    with run.start("--keep", layer(run.home), "sh", "-c", "echo up; read x", stdin=subprocess.PIPE) as first:
        assert first.stdout.readline() == "up\n"
        done = run("--keep", layer(run.home), "true")
        assert done.returncode == 125
        assert str(first.pid) in done.stderr and layer(run.home) in done.stderr
        assert run.shell("echo other", "--keep", layer(run.home, "second")) == "other\n"
        first.communicate("\n", timeout=TIMEOUT)
    assert first.returncode == 0


def test_two_runs_do_not_see_each_other(run):
    script = "echo $0 >f; echo up; read x; cat f"
    both = [run.start("--keep", layer(run.home, name), "sh", "-c", script, name, stdin=subprocess.PIPE)
            for name in ("a", "b")]
    assert [process.stdout.readline() for process in both] == ["up\n"] * 2
    assert [process.communicate("\n", timeout=TIMEOUT)[0] for process in both] == ["a\n", "b\n"]
    assert not os.path.exists(f"{run.home}/f")


@pytest.mark.parametrize("what", ["a file in it", "another lower"])
def test_not_any_directory_is_a_layer(run, what):
    path = layer(run.home)
    os.mkdir(path)
    if what == "a file in it":
        trees.write(f"{path}/f", "")
    else:
        run.shell("true", "--keep", path) if run.uid == 0 else None
        trees.write(f"{path}/layer.json", json.dumps({
            "schema": "veneer-layer", "version": 1, "created": {"s": 0, "ns": 0}, "cross_mounts": False,
            "userxattr": False, "lowers": [{"path": "/usr"}], "command": []}))
    for name in os.listdir(path):
        os.chown(f"{path}/{name}", run.uid, run.uid)
    os.chown(path, run.uid, run.uid)
    done = run("--keep", path, "true")
    assert done.returncode == 125
    assert path in done.stderr


@pytest.mark.parametrize("end", ["--discard", "--commit"])
def test_a_layer_of_another_run_stays(run, end):
    """Who could not have the layer does nothing to it."""
    with run.start("--keep", layer(run.home), "sh", "-c", "echo 1 >f; echo up; read x; cat f",
                   stdin=subprocess.PIPE) as first:
        assert first.stdout.readline() == "up\n"
        done = run("--keep", layer(run.home), end, "true")
        assert done.returncode == 125 and "in use" in done.stderr and len(done.stderr.splitlines()) == 1
        assert first.communicate("\n", timeout=TIMEOUT)[0] == "1\n"
    assert trees.read(f"{layer(run.home)}/upper{run.home}/f") == b"1\n"
    assert not os.path.exists(f"{run.home}/f")


@pytest.mark.parametrize("text, word", [("{", "damaged"), ('{"schema": "veneer-layer", "version": 99}', "version"),
                                        ("[" * (1 << 20) + " ", "too large")],
                         ids=["damaged", "newer", "large"])
def test_a_layer_that_is_not_understood_stays(run, text, word):
    run.shell("touch f", "--keep", layer(run.home))
    os.unlink(f"{layer(run.home)}/lock")
    trees.write(f"{layer(run.home)}/layer.json", text)
    done = run("--keep", layer(run.home), "--discard", "true")
    assert done.returncode == 125 and word in done.stderr
    assert os.path.exists(f"{layer(run.home)}/upper{run.home}/f")
    assert sorted(os.listdir(layer(run.home))) == ["layer.json", "upper", "work"]


@pytest.mark.parametrize("names", [{"lock": "mine\n"}, {"lock": {}}, {"lock": "1\n", "f": ""}, {"f": ""},
                                   {"upper": {"f": ""}, "work": {}}])
def test_a_directory_of_something_else_is_not_touched(run, names):
    path = layer(run.home)
    trees.build(path, names)
    for directory, below, files in os.walk(path):
        for name in [".", *below, *files]:
            os.chown(f"{directory}/{name}", run.uid, run.uid)
    before = trees.snapshot(path)
    done = run("--keep", path, "--discard", "true")
    assert done.returncode == 125 and "is no layer" in done.stderr
    assert trees.difference(before, trees.snapshot(path)) == []


@pytest.mark.parametrize("names", [{"lock": ""}, {"lock": "77\n", "upper": {}}, {"upper": {}, "work": {}},
                                   {"lock": "77\n", "upper": {}, "work": {}, "layer.json.new": "{"}])
def test_a_layer_that_was_begun_is_finished(run, names):
    """A run was killed while it made the layer."""
    path = layer(run.home)
    trees.build(path, names)
    for name in [".", *names]:
        os.chown(f"{path}/{name}", run.uid, run.uid)
    assert run.shell("echo 1 >f; cat f", "--keep", path) == "1\n"
    assert sorted(os.listdir(path)) == ["layer.json", "lock", "upper", "work"]


def test_a_long_command_line(run):
    """The beginning of it is told, and the layer can be gone on with."""
    words = ["\N{EURO SIGN}" * 1000, "\x01" * 20000, "x" * 100000, "end"]
    assert run("--keep", layer(run.home), "sh", "-c", "touch f", *words).returncode == 0
    with open(f"{layer(run.home)}/layer.json", encoding="utf-8") as file:
        told = [entry["word"] for entry in json.load(file)["command"]]
    assert told[:2] == ["sh", "-c"] and told[3:5] == words[:2]
    assert set(told[5]) == {"x"} and told[6:] == ["..."]
    many = run("--keep", layer(run.home), "ls", "f", *["f"] * 20000)
    assert many.returncode == 0 and many.stdout.startswith("f\n"), many.stderr


@AS_ROOT
def test_no_room_for_a_layer(run):
    """What can be done is said, and nothing is left."""
    point = f"{run.home}/full"
    os.mkdir(point)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", point], check=True)
    try:
        with pytest.raises(OSError), open(f"{point}/fill", "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        os.mkdir(f"{point}/empty")
        for name in ("new", "empty"):
            done = run("--keep", f"{point}/{name}", "true")
            assert done.returncode == 125 and "--keep" in done.stderr
        assert sorted(os.listdir(point)) == ["empty", "fill"]
        assert os.listdir(f"{point}/empty") == []
    finally:
        oscalls.umount(point)


@AS_USER
def test_many_in_a_second(run):
    state = f"{run.home}/.local/state/veneer"
    os.makedirs(state)
    os.chown(state, run.uid, run.uid)
    now = int(time.time())
    for second in range(now, now + 10):
        word = time.strftime("%m%d-%H%M%S", time.localtime(second))
        for name in [f"true-{word}", *[f"true-{word}-{i}" for i in range(1, 300)]]:
            os.mkdir(f"{state}/{name}")
    assert run("true").returncode == 0


@AS_USER
@pytest.mark.parametrize("who", ["run", "list"])
def test_what_a_killed_run_left_goes(run, who):
    """A layer without a name in which nothing is, or that was not to stay; not what has a name or a change."""
    state = f"{run.home}/.local/state/veneer"
    scripts = {"empty": ([], "echo up; exec sleep 1000"),
               "discard": (["--discard"], "touch f; echo up; exec sleep 1000"),
               "full": ([], "touch f; echo up; exec sleep 1000"),
               "named": (["--name", "named"], "echo up; exec sleep 1000")}
    layers, running = {}, []
    for what, (options, script) in scripts.items():
        before = set(os.listdir(state)) if os.path.exists(state) else set()
        running.append(run.start(*options, "sh", "-c", script, stderr=subprocess.DEVNULL))
        assert running[-1].stdout.readline() == "up\n"
        (layers[what],) = set(os.listdir(state)) - before
    assert run("true").returncode == 0
    assert set(os.listdir(state)) == set(layers.values())
    for process in running:
        kill_both(process)
    assert wait_until(lambda: not run.left(), 10)
    if who == "run":
        assert run("true").returncode == 0
    else:
        subprocess.run(run.command()[:-1] + ["list"], env=run.environment(), check=True, capture_output=True)
    assert set(os.listdir(state)) == {layers["full"], "named"}


def test_what_outlives_a_killed_run_has_no_files(run):
    """Its processes cannot be ended then, but the union is, and the layer can be had."""
    script = "setsid sh -c 'while sleep 0.1; do touch f; done' >/dev/null 2>&1 & echo up; exec sleep 1000"
    process = run.start("--keep", layer(run.home), "sh", "-c", script, stderr=subprocess.DEVNULL)
    assert process.stdout.readline() == "up\n"
    kill_both(process)
    assert wait_until(lambda: "veneer" not in map(comm, run.left()), 10)
    assert run.shell("echo 1 >g; cat g", "--keep", layer(run.home)) == "1\n"
    for pid in run.left():
        os.kill(pid, signal.SIGKILL)


@AS_ROOT
def test_a_mounted_layer_is_not_removed(run):
    run.shell("touch f", "--keep", layer(run.home))
    os.mkdir(f"{run.home}/point")
    options = f"lowerdir=/etc,upperdir={layer(run.home)}/upper,workdir={layer(run.home)}/work"
    subprocess.run([VENEER, "-o", options, f"{run.home}/point"], check=True, env=run.environment())
    try:
        done = subprocess.run([VENEER, "discard", "-y", "--remove", layer(run.home)], capture_output=True, text=True,
                              timeout=TIMEOUT, check=False)
        assert done.returncode == 1 and "in use" in done.stderr
        assert os.path.exists(f"{layer(run.home)}/upper{run.home}/f")
    finally:
        oscalls.umount(f"{run.home}/point")


def kill_both(process):
    """Its called process and the keeper, with no time for either to clean up."""
    keeper = only(children(process.pid))
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in (process.pid, keeper):
            os.kill(pid, number)
    process.wait(timeout=TIMEOUT)
    process.stdout.close()


@AS_USER
def test_names_are_in_the_state_directory(run):
    state = {"XDG_STATE_HOME": f"{run.home}/state"}
    run.shell("echo 1 >f", "--name", "mine", env=state)
    assert trees.read(f"{run.home}/state/veneer/mine/upper{run.home}/f") == b"1\n"
    assert run.shell("cat f", "--name", "mine", env=state) == "1\n"
    for name in ("a/b", ".a", ""):
        assert run("--name", name, "true", env=state).returncode == 125


@AS_USER
def test_without_a_name_it_is_kept_and_told(run):
    done = run("sh", "-c", "echo 1 >f")
    assert done.returncode == 0
    (name,) = os.listdir(f"{run.home}/.local/state/veneer")
    assert name.startswith("sh-")
    assert f"veneer diff {name}" in done.stderr and f"veneer commit {name}" in done.stderr
    assert trees.read(f"{run.home}/.local/state/veneer/{name}/upper{run.home}/f") == b"1\n"


@AS_USER
def test_without_changes_nothing_is_kept(run):
    done = run("cat", "/etc/hostname")
    assert done.returncode == 0 and done.stderr == ""
    assert os.listdir(f"{run.home}/.local/state/veneer") == []


@AS_USER
def test_discard_leaves_nothing(run):
    run.shell("mkdir -p a/b/c; chmod 0 a/b; for i in $(seq 80); do mkdir d; cd d; done; touch f")
    assert os.listdir(f"{run.home}/.local/state/veneer") == []
    assert not os.path.exists(f"{run.home}/a")


def test_commit_makes_it_real(run):
    """Also below directories that are not the user's."""
    trees.build(f"{run.home}/t", {"f": "x", "gone": "y"})
    for name in ("t", "t/f", "t/gone"):
        os.chown(f"{run.home}/{name}", run.uid, run.uid)
    done = run("--keep", layer(run.home), "sh", "-c", "cd t; echo new >f; rm gone; mkdir d; touch d/n")
    assert done.returncode == 0, done.stderr
    # What others do meanwhile in the directory above is no business of this test.
    done = run("--keep", layer(run.home), "--commit", "true")
    assert done.returncode == 0 or "/var/tmp was changed" in done.stderr, done.stderr
    if done.returncode:
        subprocess.run(run.command()[:-2] + [VENEER, "commit", "--force", layer(run.home)], check=True, cwd=run.home)
    assert trees.read(f"{run.home}/t/f") == b"new\n"
    assert sorted(os.listdir(f"{run.home}/t")) == ["d", "f"]
    assert os.stat(f"{run.home}/t/d/n").st_uid == run.uid
    assert os.stat("/var").st_uid == 0
    assert os.listdir(f"{layer(run.home)}/upper") == []


def test_discard_of_a_named_layer(run):
    done = run("--keep", layer(run.home), "--discard", "sh", "-c", "mkdir d; echo 1 >d/f; cat d/f")
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert os.listdir(f"{layer(run.home)}/upper") == []
    assert run.shell("ls d 2>/dev/null || echo none", "--keep", layer(run.home)) == "none\n"


# What is not the layer's


def test_write(run):
    os.mkdir(f"{run.home}/real")
    os.chown(f"{run.home}/real", run.uid, run.uid)
    trees.write(f"{run.home}/file", "old")
    os.chown(f"{run.home}/file", run.uid, run.uid)
    run.shell("echo 1 >real/f; echo 2 >file; echo 3 >other", "--discard", "--write", "real", "--write", "file")
    assert trees.read(f"{run.home}/real/f") == b"1\n"
    assert trees.read(f"{run.home}/file") == b"2\n"
    assert not os.path.exists(f"{run.home}/other")


def test_hide(run):
    trees.build(f"{run.home}/secret", {"f": "x"})
    trees.write(f"{run.home}/key", "x")
    out = run.shell("ls -A secret; cat key; touch secret/n 2>/dev/null || echo no", "--discard", "--hide", "secret",
                    "--hide", "key")
    assert out == "no\n"
    assert trees.read(f"{run.home}/key") == b"x"


def test_a_hidden_file_is_an_empty_one(run):
    trees.write(f"{run.home}/key", "x")
    os.mkfifo(f"{run.home}/pipe")
    os.chmod(f"{run.home}/key", 0o666)
    out = run.shell("stat -c '%F %s %a' key pipe; cat key pipe; (echo 1 >key) 2>/dev/null || echo no; ls -A /dev | grep empty "
                    "|| true", "--discard", "--hide", "key", "--hide", "pipe", cwd=run.home)
    assert out == "regular empty file 0 444\n" * 2 + "no\n"


@AS_ROOT
def test_hide_what_is_dead(run):
    """A mount point whose file system does not answer any more."""
    point = f"{run.home}/dead"
    for name in ("dead", "lower"):
        os.mkdir(f"{run.home}/{name}")
    environment = run.environment()
    subprocess.run([VENEER, "-o", f"lowerdir={run.home}/lower", point], check=True, env=environment)
    try:
        (daemon,) = contenders.tagged_processes(environment[TAG])
        os.kill(daemon, signal.SIGKILL)
        assert wait_until(lambda: not os.path.exists(point), 5)
        assert run.shell("ls -A dead; (touch dead/n) 2>/dev/null || echo no", "--discard", "--hide", "dead") == "no\n"
        assert run.shell("ls -A dead", "--discard", "--hide", f"{point}/") == ""
    finally:
        oscalls.umount(point)


def test_hide_and_write_in_one_another(run):
    trees.build(f"{run.home}/h", {"a": "", "w": {"x": "", "h": {"b": ""}}, "file": "f"})
    for directory, _, names in os.walk(f"{run.home}/h"):
        for name in [".", *names]:
            os.chown(f"{directory}/{name}", run.uid, run.uid)
    out = run.shell("ls h h/w h/w/h; echo 1 >h/w/new; cat h/file", "--discard", "--hide", "h", "--write", "h/w",
                    "--hide", "h/w/h", "--write", "h/file")
    assert out.split() == ["h:", "file", "w", "h/w:", "h", "x", "h/w/h:", "f"]
    assert trees.read(f"{run.home}/h/w/new") == b"1\n"


def test_write_around_the_layer(run):
    """The union itself is not to be found in what is real."""
    os.mkdir(f"{run.home}/real")
    os.chown(f"{run.home}/real", run.uid, run.uid)
    path = f"{run.home}/real/layer"
    assert run.shell("ls -A real/layer; touch real/n", "--keep", path, "--write", "real") == ""
    assert os.path.exists(f"{run.home}/real/n")


def test_read_only_root(run):
    os.mkdir(f"{run.home}/real")
    os.chown(f"{run.home}/real", run.uid, run.uid)
    out = run.shell("touch f 2>&1 || echo no; echo 1 >real/f", "--read-only-root", "--write", "real")
    assert "Read-only" in out and out.endswith("no\n")
    assert trees.read(f"{run.home}/real/f") == b"1\n"
    run.shell("echo 1 >f", "--keep", layer(run.home))
    assert run.shell("cat f; ! touch f 2>/dev/null", "--keep", layer(run.home), "--read-only-root") == "1\n"


def test_no_network(run):
    out = run.shell("cat /proc/net/dev | tail -n +3 | cut -d: -f1", "--discard", "--no-network")
    assert out.split() == ["lo"]
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        script = f"import socket; s = socket.socket(); print(s.connect_ex(('127.0.0.1', {port})))"
        assert run("--discard", "/usr/bin/python3", "-c", script).stdout == "0\n"
        assert run("--discard", "--no-network", "/usr/bin/python3", "-c", script).stdout == "111\n"


def test_pid_namespace(run):
    out = run.shell("ls /proc | grep -c '^[0-9]'; kill -0 1 2>/dev/null && cat /proc/1/comm; echo $$", "--discard",
                    "--pid")
    count, *_, pid = out.split()
    assert int(count) < 8 and int(pid) < 8
    assert run("--discard", "--pid", "sh", "-c", "(setsid sleep 1000 &) ; exit 5").returncode == 5
    assert run("--discard", "--pid", "sh", "-c", "kill -9 $$").returncode == -9


def test_sockets_are_reached(run):
    path = f"{run.home}/socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        os.chmod(path, 0o777)
        server.listen()
        script = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({path!r}); print('in')"
        assert run("--discard", "/usr/bin/python3", "-c", script).stdout == "in\n"


def test_sockets_take_datagrams(run):
    path = f"{run.home}/log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        os.chmod(path, 0o777)
        script = f"import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.sendto(b'in', {path!r})"
        done = run("--discard", "/usr/bin/python3", "-c", script)
        assert done.returncode == 0, done.stderr
        assert server.recv(10) == b"in"


def test_sockets_of_others_stay_as_they_are(run):
    path = f"{run.home}/socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        os.chown(path, run.uid, run.uid)
        os.chmod(path, 0o755)
        server.listen()
        before = os.stat(path)
        out = run.shell("chmod 777 socket 2>/dev/null || echo no; touch socket 2>/dev/null || echo no; "
                        "chown $(id -u) socket 2>/dev/null || echo no; rm -f socket 2>&1 || true")
        assert out.startswith("no\n" * 3) and "busy" in out
        after = os.stat(path)
        assert (before.st_mode, before.st_ctime_ns) == (after.st_mode, after.st_ctime_ns)


def test_sockets_of_its_own(run):
    script = ("import os, socket; s = socket.socket(socket.AF_UNIX); s.bind('own'); s.listen();"
              "c = socket.socket(socket.AF_UNIX); c.connect('own'); print('in')")
    assert run("--discard", "/usr/bin/python3", "-c", script).stdout == "in\n"


@AS_USER
def test_an_ordinary_user_changes_what_it_may(run):
    """Its own, and what everybody may write; nothing else, and others' files stay others'."""
    foreign = f"{run.home}/foreign"
    trees.build(foreign, {"open": {}, "closed": {"f": "x"}, "shared": "x", "private": "x"})
    os.chmod(f"{foreign}/open", 0o1777)
    os.chmod(f"{foreign}/shared", 0o666)
    os.chmod(f"{foreign}/private", 0o600)
    script = """cd foreign
        touch open/n && echo 1 >>shared && cat shared
        touch closed/n 2>/dev/null || echo no1
        cat private 2>/dev/null || echo no2
        touch n 2>/dev/null || echo no3
        stat -c %U closed; stat -c %a open
        touch /tmp/veneer-run-test; ls /tmp/veneer-run-test"""
    out = run.shell(script, "--keep", layer(run.home))
    assert out.split() == ["x1", "no1", "no2", "no3", "nobody", "1777", "/tmp/veneer-run-test"]
    out = run.shell("cd foreign; touch open/m; ls open; echo 2 >>shared; touch closed/n n 2>/dev/null || echo no; "
                    "stat -c %U . closed", "--keep", layer(run.home))
    assert out.split() == ["m", "n", "no", "nobody", "nobody"]
    assert not os.path.exists("/tmp/veneer-run-test")
    assert os.listdir(f"{foreign}/open") == []


@AS_USER
def test_rights_of_a_group(run):
    """A supplementary group has no number in the namespace, but what it may is not lost."""
    trees.build(f"{run.home}/g", {"f": "x", "d": {}})
    os.chown(f"{run.home}/g/f", 0, 4242)
    os.chmod(f"{run.home}/g/f", 0o640)
    os.chown(f"{run.home}/g/d", 0, 4242)
    os.chmod(f"{run.home}/g/d", 0o770)
    command = [word if word != "--clear-groups" else "--groups=4242" for word in
               run.command("--discard", "sh", "-c", "cat g/f; touch g/d/n; ls g/d; echo y >>g/f || echo no")]
    done = subprocess.run(command, cwd=run.home, env=run.environment(), capture_output=True, text=True,
                          timeout=TIMEOUT, check=False)
    assert done.stdout == "xn\nno\n", done.stderr


# Nothing is left


@pytest.mark.parametrize("background", ["sleep 1000 &", "setsid sleep 1000 &", "(setsid sh -c 'sleep 1000 & sleep 1000' &)",
                                        "(trap '' TERM HUP; sleep 1000) &"])
def test_what_the_command_leaves_is_ended(run, background):
    done = run("--discard", "sh", "-c", f"exec >/dev/null 2>&1 </dev/null\n{background}\nexit 3")
    assert done.returncode == 3
    assert run.left() == []


@AS_ROOT
def test_what_the_kernel_keeps_is_not_waited_for(run):
    """A process that waits for a file system which stands still cannot be ended."""
    need("fsfreeze", "mkfs.ext4")
    point = f"{run.home}/frozen"
    os.mkdir(point)
    subprocess.run(f"truncate -s 16M {run.home}/img && mkfs.ext4 -q {run.home}/img && mount -o loop {run.home}/img {point}",
                   shell=True, check=True)
    try:
        subprocess.run(["fsfreeze", "-f", point], check=True)
        try:
            done = run("--discard", "--write", point, "sh", "-c", f"touch {point}/x >/dev/null 2>&1 & sleep 0.2; exit 3")
        finally:
            subprocess.run(["fsfreeze", "-u", point], check=True)
        assert done.returncode == 3 and "not waited for" in done.stderr
        assert wait_until(lambda: not run.left(), 5)
    finally:
        oscalls.umount(point)


@pytest.mark.parametrize("whom", ["veneer", "keeper", "daemon"])
def test_killed_it_leaves_nothing(run, whom):
    process = run.start("--discard", "sh", "-c", "sleep 1000 & setsid sleep 1000 & echo up; wait",
                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout.readline() == "up\n"
    keeper = only(children(process.pid))
    victim = {"veneer": process.pid, "keeper": keeper,
              "daemon": only([pid for pid in children(keeper) if comm(pid) == "veneer"])}[whom]
    os.kill(victim, signal.SIGKILL)
    if whom == "daemon":
        os.kill(process.pid, signal.SIGTERM)
    process.wait(timeout=TIMEOUT)
    process.stdout.close()
    assert wait_until(lambda: not run.left(), 10), run.left()
    if run.uid:
        assert wait_until(lambda: os.listdir(f"{run.home}/.local/state/veneer") == [], 5)


def children(pid):
    return [int(word) for word in trees.read(f"/proc/{pid}/task/{pid}/children").split()]


def comm(pid):
    try:
        return trees.read(f"/proc/{pid}/comm").decode().strip()
    except OSError:
        return ""


def only(items):
    (item,) = items
    return item


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_reach_the_command(run, number):
    script = f"trap 'echo got; exit 9' {int(number)}; echo up; while :; do sleep 0.05; done"
    with run.start("--discard", "sh", "-c", script) as process:
        assert process.stdout.readline() == "up\n"
        os.kill(process.pid, number)
        assert process.communicate(timeout=TIMEOUT)[0] == "got\n"
    assert process.returncode == 9


def test_stop_and_continue(run):
    with run.start("--discard", "sh", "-c", "echo up; kill -STOP $$; echo on") as process:
        assert process.stdout.readline() == "up\n"
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGSTOP
        os.kill(process.pid, signal.SIGCONT)
        assert process.communicate(timeout=TIMEOUT)[0] == "on\n"
    assert process.returncode == 0


# A terminal


class Terminal:
    """A process with a terminal of its own."""

    def __init__(self, command, env, cwd):
        self.seen = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execvpe(command[0], command, env)

    def type(self, text):
        os.write(self.fd, text.encode())

    def expect(self, pattern):
        """Reads until it is there; what came after the last one that was."""
        deadline = time.monotonic() + TIMEOUT
        while not (found := re.search(pattern, self.seen, re.DOTALL)):
            assert time.monotonic() < deadline, self.seen
            os.set_blocking(self.fd, False)
            try:
                self.seen += os.read(self.fd, 4096).decode(errors="replace")
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:
                assert re.search(pattern, self.seen, re.DOTALL), self.seen
        before, self.seen = self.seen[:found.end()], self.seen[found.end():]
        return before

    def end(self):
        os.set_blocking(self.fd, True)
        try:
            while os.read(self.fd, 4096):
                pass
        except OSError:
            pass
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def terminal(run):
    """terminal(*args) -> veneer run in a shell with job control; or that alone with shell=False."""
    def start(*args, shell=True):
        command = run.command(*args)
        if shell:
            command = ["bash", "--norc", "--noprofile", "-i"]
        made = Terminal(command, run.environment(PS1="$ ", HISTFILE="", TERM="dumb"), run.home)
        if shell:
            made.expect(r"\$ ")
            made.type(shlex.join(run.command(*args)) + "\n")
        return made
    return start


def test_interrupt_from_the_terminal(terminal):
    tty = terminal("--discard", "sh", "-c", "trap 'echo int; exit 4' INT; echo u''p; while :; do sleep 0.05; done")
    tty.expect(r"\nup")
    tty.type("\x03")
    tty.expect("int\r\n")
    tty.type("echo st=$?\n")
    tty.expect("st=4")
    tty.type("exit\n")
    tty.end()


def test_job_control(terminal):
    """Ctrl-Z stops the job for the shell, fg goes on with it, Ctrl-C ends it."""
    tty = terminal("--discard", "sh", "-c", "echo u''p; read x; echo got $x; exec sleep 1000")
    tty.expect(r"\nup")
    time.sleep(0.1)
    tty.type("\x1a")
    tty.expect(r"Stopped.*\$ ")
    tty.type("fg\n")
    tty.expect(r"veneer[^\n]*\n")
    tty.type("word\n")
    tty.expect("got word\r\n")
    time.sleep(0.2)  # else the shell may take it between starting sleep and waiting for it
    tty.type("\x03")
    tty.expect(r"\$ ")
    tty.type("echo st=$?\n")
    tty.expect("st=130")
    tty.type("exit\n")
    tty.end()


def test_a_shell_with_jobs_of_its_own(terminal):
    tty = terminal("--discard", "bash", "--norc", "--noprofile", "-i")
    tty.expect(r"\$ ")
    tty.type("sleep 1000\n")
    tty.expect("sleep 1000\r\n")
    time.sleep(0.1)
    tty.type("\x1a")
    tty.expect(r"Stopped.*\$ ")
    tty.type("kill %1; wait %1; tty; exit 6\n")
    tty.expect("/dev/pts/")
    tty.expect(r"exit\r\n.*\$ ")
    tty.type("echo st=$?\n")
    tty.expect("st=6")
    tty.type("exit\n")
    tty.end()


def test_in_the_background(terminal):
    """A job that ends in the background leaves the terminal to the shell."""
    tty = terminal("--discard", "sh", "-c", "echo u''p; read x; exec sleep 1")
    tty.expect(r"\nup")
    tty.type("\x1a")
    tty.expect(r"Stopped.*\$ ")
    tty.type("fg\n")
    tty.expect(r"veneer[^\n]*\n")
    tty.type("word\n")
    time.sleep(0.2)
    tty.type("\x1a")
    tty.expect(r"Stopped.*\$ ")
    tty.type("bg; wait; echo st''=$?\n")
    tty.expect("st=0")
    tty.type("exit\n")
    tty.end()


def test_size_of_the_terminal(terminal):
    tty = terminal("--discard", "bash", "-c", "trap 'stty size; exit 0' WINCH; echo u''p; while :; do sleep 0.05; done")
    tty.expect(r"\nup")
    termios.tcsetwinsize(tty.fd, (33, 99))
    tty.expect("33 99")
    tty.expect(r"\$ ")
    tty.type("exit\n")
    tty.end()


@AS_USER
@pytest.mark.parametrize("answer", ["d", "k", "s", "\x04"])
def test_it_asks_on_a_terminal(terminal, run, answer):
    tty = terminal("sh", "-c", "echo 1 >f", shell=False)
    assert "1 added" in tty.expect(r"these changes\? ")
    tty.type(answer + ("\n" if answer != "\x04" else ""))
    if answer == "s":
        assert f"{run.home}/f" in tty.expect(r"these changes\? ")
        tty.type("d\n")
    assert tty.end() == 0
    kept = os.listdir(f"{run.home}/.local/state/veneer")
    assert len(kept) == (answer in "k\x04")


@AS_USER
@pytest.mark.parametrize("key, number", [("\x03", signal.SIGINT), ("\x1c", signal.SIGQUIT)])
def test_an_interrupted_question(terminal, run, key, number):
    """The changes are kept, and it is told how they are called."""
    tty = terminal("sh", "-c", "echo 1 >f", shell=False)
    tty.expect(r"these changes\? ")
    tty.type(key)
    (name,) = os.listdir(f"{run.home}/.local/state/veneer")
    tty.expect(f"kept as '{name}'")
    assert tty.end() == -number
    assert os.listdir(f"{run.home}/.local/state/veneer") == [name]


@AS_USER
def test_a_question_on_a_terminal_left_raw(terminal, run):
    tty = terminal("sh", "-c", "echo 1 >f; stty raw -echo", shell=False)
    tty.expect(r"these changes\? ")
    tty.type("x\n")
    tty.expect(r"x\r\nveneer: c makes .* forgets .*these changes\? ")
    tty.type("d\n")
    assert tty.end() == 0
    assert os.listdir(f"{run.home}/.local/state/veneer") == []


# Real work


@AS_ROOT
def test_a_package(run):
    """A real .deb, by the real dpkg, in its real database."""
    need("dpkg", "dpkg-deb")
    trees.build(f"{run.home}/p", {
        "DEBIAN": {"control": "Package: veneer-run-test\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\n"
                              "Description: x\n",
                   "postinst": trees.File(data="#!/bin/sh\nuseradd -r veneer-run-test || true\necho 1 >/etc/veneer-run-test.conf\n",
                                          mode=0o755)},
        "usr": {"bin": {"veneer-run-test": trees.File(data="#!/bin/sh\necho it runs\n", mode=0o755)}}})
    subprocess.run(["dpkg-deb", "-b", f"{run.home}/p", f"{run.home}/x.deb"], check=True, capture_output=True)
    out = run.shell("dpkg -i x.deb >/dev/null 2>&1; veneer-run-test; cat /etc/veneer-run-test.conf; "
                    "dpkg-query -W veneer-run-test", "--keep", layer(run.home))
    assert out == "it runs\n1\nveneer-run-test\t1\n"
    assert not os.path.exists("/usr/bin/veneer-run-test") and not os.path.exists("/etc/veneer-run-test.conf")
    assert run.shell("veneer-run-test; dpkg -r veneer-run-test >/dev/null 2>&1; test -e /usr/bin/veneer-run-test || echo gone",
                     "--keep", layer(run.home)) == "it runs\ngone\n"


def test_within_itself(run):
    """A run in a run, whose layer lies in what is real to the other."""
    os.mkdir(f"{run.home}/real")
    os.chown(f"{run.home}/real", run.uid, run.uid)
    out = run.shell(f"echo 1 >a; {VENEER} run --keep real/inner sh -c 'cat a; echo 2 >b; ls real/inner'; ls",
                    "--keep", layer(run.home), "--write", "real")
    assert out.split() == ["1", "a", "layer", "real"]
    assert trees.read(f"{run.home}/real/inner/upper{run.home}/b") == b"2\n"


@AS_USER
def test_layers_of_runs_within_a_run(run):
    """They have a state directory of their own, which stays with the layer of the outer one."""
    trees.write(f"{run.home}/g", "")
    os.chown(f"{run.home}/g", run.uid, run.uid)
    script = f"""{VENEER} run --name in sh -ec 'rm g; echo 1 >f; {VENEER} run --name deep sh -c "cat f; touch n"'
        ls g; test ! -e f; {VENEER} run true; {VENEER} list; {VENEER} diff in"""
    out = run.shell(script, "--name", "out")
    assert out.startswith("1\ng\nin  kept"), out
    assert "out" not in out.split() and f"{run.home}/f" in out and f"{run.home}/g" in out
    state = f"{run.home}/.local/state/veneer"
    assert os.listdir(state) == ["out"]
    assert sorted(os.listdir(f"{state}/out/inner/in/inner/deep/upper{run.home}")) == ["n"]
    assert run.shell(f"{VENEER} run --name in cat f; {VENEER} discard --remove -y in >/dev/null", "--name", "out") == "1\n"
    assert "inner" not in os.listdir(f"{state}/out")
    assert run.shell(f"{VENEER} run cat {run.home}/g 2>&1 || echo no; ls {run.home}", "--hide", run.home, "--discard",
                     cwd="/").endswith("no\n")
    done = run("sh", "-c", f"{VENEER} run --name in touch f")
    (name,) = set(os.listdir(state)) - {"out"}
    assert done.returncode == 0 and name in done.stderr


def test_a_layer_cannot_lie_in_a_union(run):
    """It says what can be done, and that can."""
    place = "--keep /run/veneer-run-test" if run.uid == 0 else f"--keep {run.home}/real/k"
    os.mkdir(f"{run.home}/real")
    os.chown(f"{run.home}/real", run.uid, run.uid)
    try:
        done = run("--keep", layer(run.home), "--write", "real", "sh", "-c",
                   f"{VENEER} run --keep k true; echo $?; ls; {VENEER} run {place} echo up")
        assert "k: lies in a union" in done.stderr and "--write" in done.stderr and "/run" in done.stderr
        assert done.stdout.split() == ["125", "layer", "real", "up"], done.stderr
    finally:
        shutil.rmtree("/run/veneer-run-test", ignore_errors=True)


@pytest.mark.parametrize("command", ["diff", "commit -y", "discard -y"])
def test_the_layer_of_the_run_one_is_in(run, command):
    """Is not seen, which is not to be taken for an empty one."""
    path = layer(run.home)
    names = [path, f"{path}/upper", "/", "."] + (["out"] if run.uid else [])
    script = "".join(f"{VENEER} {command} {name}; echo $?;" for name in names)
    done = run(*(["--name", "out"] if run.uid else ["--keep", path]), "sh", "-c", f"touch f; {script}")
    assert done.stdout.split() == ["1"] * len(names), done.stdout
    assert done.stderr.count("outside") == len(names), done.stderr


# Containers


@AS_USER
def test_as_root_of_a_user_namespace(run):
    """As in a container without privileges: the right to mount, but not in the initial namespace."""
    command = run.command("--keep", layer(run.home), "sh", "-c", "id -u; touch f /tmp/veneer-run-test; ls f")
    at = command.index(VENEER)
    done = subprocess.run([*command[:at], "unshare", "-Urmpf", "--mount-proc", *command[at:]], cwd=run.home, text=True,
                          env=run.environment(), capture_output=True, timeout=TIMEOUT, check=False)
    assert done.stdout.split() == ["0", "f"], done.stderr
    assert os.path.exists(f"{layer(run.home)}/upper/tmp/veneer-run-test")


@AS_ROOT
def test_as_root_without_the_right_to_mount(run):
    """As in a container of the usual kind: a user namespace with all its ids is made."""
    need("setpriv")
    script = "id -u; touch f; chown 1000:1000 f; stat -c %u f /etc; su -s /bin/sh nobody -c 'id -u'"
    done = subprocess.run(["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin",
                           *run.command("--keep", layer(run.home), "sh", "-c", script)], cwd=run.home, text=True,
                          env=run.environment(), capture_output=True, timeout=TIMEOUT, check=False)
    assert done.stdout.split() == ["0", "1000", "0", str(65534)], done.stderr


@AS_ROOT
def test_in_a_chroot_that_is_no_mount(run):
    """It says what is missing, and that helps."""
    script = """root=$1 veneer=$2 place=$(dirname $2)
        if [ $3 = mount ]; then mount --bind $root $root; cd $root; fi
        for d in bin lib lib64 usr etc proc dev $place; do
            [ ! -e /$d ] || { mkdir -p $root/$d; mount --rbind /$d $root/$d; }
        done
        mkdir $root/run; chroot $root $veneer run --keep /run/k -- echo up"""
    for how in ("mere", "mount"):
        os.mkdir(f"{run.home}/{how}")
        done = subprocess.run(["unshare", "-m", "sh", "-c", script, "-", f"{run.home}/{how}", VENEER, how], text=True,
                              capture_output=True, timeout=TIMEOUT, check=False, env=run.environment())
        if how == "mere":
            assert done.returncode == 125 and "mount --bind" in done.stderr, done.stderr
        else:
            assert done.stdout == "up\n", done.stderr


@AS_USER
def test_without_access_to_the_device(run):
    os.chmod("/dev/fuse", 0o600)
    try:
        done = run("--discard", "true")
    finally:
        os.chmod("/dev/fuse", 0o666)
    assert done.returncode == 125
    assert "/dev/fuse" in done.stderr and "chmod" in done.stderr


def test_help(run):
    done = subprocess.run([VENEER, "run", "--help"], capture_output=True, text=True, check=True)
    assert "--read-only-root" in done.stdout and shutil.which("sh")
