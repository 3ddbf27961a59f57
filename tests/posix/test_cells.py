"""Thousands of cells, each a call on an object, wherever that lies in the union: as on a plain directory.

POSIX_CELLS=N runs every N-th cell in each placement (others in each), 1 all of them.
"""

import os
import tempfile

import pytest

import cells
import contenders
import probe
import trees
from stage import BY_HAND, Stage

EVERY = int(os.environ.get("POSIX_CELLS", "128"))
PLACEMENTS = ("upper", "lower", "merged") + BY_HAND


def performed(ext4, name, placement, chosen):
    base = tempfile.mkdtemp(prefix="c", dir=ext4)
    os.chmod(base, 0o755)
    stage = Stage(base, name, placement, contenders.CONTENDERS.get(name))
    try:
        return probe.perform(stage, chosen), stage.close()
    finally:
        for left in reversed(contenders.mounts_below(base)):
            contenders.oscalls.umount(left, contenders.oscalls.MNT_DETACH)
        trees.remove(base)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_cells(ext4, placement):
    if reason := contenders.CONTENDERS["veneer"].missing():
        pytest.skip(reason)
    chosen = cells.every()[PLACEMENTS.index(placement) % EVERY::EVERY]
    wanted, _ = performed(ext4, "plain", "", chosen)
    got, faults = performed(ext4, "veneer", placement, chosen)
    wrong = probe.differences(chosen, wanted, got, placement == "upper")
    assert not faults, "\n".join(faults)
    assert not wrong, f"{len(wrong)} of {len(chosen)} cells:\n" + "\n".join(wrong[:60])
