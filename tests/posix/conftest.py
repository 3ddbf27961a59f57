"""Fixtures: the same tables of cases on a plain directory, on kernel overlayfs and on veneer.

The plain directory (ext4) is what the others are measured by: it has to pass
everything, or the table is wrong.  On the two unions each table runs with its
objects in the upper, in a lower, and in lower directories that the upper has
as well, so that they are copied up on the fly.
"""

import importlib.util
import os
import sys
import tempfile

import pytest

E2E = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e")
sys.path.insert(0, E2E)

import contenders  # noqa: E402  pylint: disable=wrong-import-position
import oscalls  # noqa: E402  pylint: disable=wrong-import-position
import trees  # noqa: E402  pylint: disable=wrong-import-position

_spec = importlib.util.spec_from_file_location("e2e_conftest", os.path.join(E2E, "conftest.py"))
e2e = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(e2e)
private_namespace, session_scratch, ext4 = e2e.private_namespace, e2e.session_scratch, e2e.ext4

from stage import Stage  # noqa: E402  pylint: disable=wrong-import-position

PLACEMENTS = ("upper", "lower", "merged")
STAGES = ["plain"] + [f"{name}-{where}" for name in ("kernel", "veneer") for where in PLACEMENTS]


def pytest_configure(config):
    config.addinivalue_line("markers", "deviation(id): veneer and the kernel differ as documented")
    config.addinivalue_line("markers", "placements(names...): only with the objects placed there")


def pytest_generate_tests(metafunc):
    if "stage" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("placements")
    names = [name for name in STAGES
             if not marker or name == "plain" or name.split("-")[1] in marker.args]
    metafunc.parametrize("stage", names, indirect=True)


@pytest.fixture
def stage(request, ext4):
    """A place for a tree, in one of the file systems; stage.prepare(tree) gives its root."""
    name, _, placement = request.param.partition("-")
    contender = contenders.CONTENDERS.get(name)
    reason = contender.missing() if contender else None
    if reason:
        pytest.skip(reason)
    base = tempfile.mkdtemp(prefix="p", dir=ext4)
    os.chmod(base, 0o755)
    may_differ = request.node.get_closest_marker("deviation") is not None
    made = Stage(base, name, placement, contender, may_differ)
    yield made
    faults = made.close()
    for left in reversed(contenders.mounts_below(base)):
        oscalls.umount(left, oscalls.MNT_DETACH)
    trees.remove(base)
    assert not faults, "\n".join(faults)


def pytest_collection_modifyitems(items):
    """Keep the runs of a test next to each other: a difference is seen at once."""
    items.sort(key=lambda item: (str(item.path), item.function.__code__.co_firstlineno))
