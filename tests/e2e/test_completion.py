"""Completion in bash and zsh: of commands, flags and mount options, as this program knows them."""

import os
import re
import shutil
import subprocess

import pytest

import commands
from contenders import CHECKOUT, VENEER

COMPLETION = os.path.join(CHECKOUT, "completion")


def complete(*words, current=None):
    """What bash offers after these words."""
    current = len(words) if current is None else current
    quoted = " ".join(f"'{word}'" for word in ("veneer", *words))
    script = (f"source {COMPLETION}/veneer.bash; COMP_WORDS=({quoted}); COMP_CWORD={current}; compopt() {{ :; }}; "
              "_veneer; printf '%s\\n' \"${COMPREPLY[@]}\"")
    env = {**os.environ, "PATH": os.path.dirname(VENEER) + ":" + os.environ["PATH"]}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=env, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def names():
    """The commands that the program has."""
    text = commands.ask("--help")
    return re.findall(r"^  ([a-z]{2,}) ", text[text.index("Other commands"):].split("\n\n")[0], re.M)


def flags(command):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", commands.ask(command, "--help")))


def test_commands():
    assert set(names()) <= set(complete(""))
    assert complete("sta") == ["status"]


@pytest.mark.parametrize("command", names())
def test_flags(command):
    offered = {word.rstrip("=") for word in complete(command, "--")}
    assert offered and offered <= flags(command)
    assert len(offered) > len(flags(command)) / 2


def test_mount_options():
    assert "lowerdir" in {word.rstrip("=") for word in complete("-o", "low")}
    assert complete("-o", "ro,noat") == ["ro,noatime"]


def test_files(tmp_path):
    (tmp_path / "layer one").mkdir()
    assert complete("diff", f"{tmp_path}/la") == [f"{tmp_path}/layer", "one"]
    assert complete("diff", "--color", "=", "al") == ["always"]


def test_names_are_not_expanded(tmp_path, monkeypatch):
    """A layer may have any name, and completing it runs nothing."""
    state = tmp_path / "veneer"
    (state / "r$(touch PWNED)").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    script = f"source {COMPLETION}/veneer.bash; _veneer_names() {{ ls {state}; }}; COMP_WORDS=(veneer diff r); " \
             "COMP_CWORD=2; compopt() { :; }; _veneer; printf '%s' \"${COMPREPLY[0]}\""
    env = {**os.environ, "PATH": os.path.dirname(VENEER) + ":" + os.environ["PATH"]}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=env, check=True)
    assert done.stdout == "r$(touch PWNED)" and not (tmp_path / "PWNED").exists()


def test_flags_of_run():
    assert "--discard" in complete("run", "--keep", "/x", "--dis")
    assert "--discard" in complete("run", "--keep", "=", "/x", "--dis")
    assert "--discard" not in complete("run", "ls", "--dis")


@pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh")
def test_zsh_reads_it():
    subprocess.run(["zsh", "-fn", f"{COMPLETION}/_veneer"], check=True)
