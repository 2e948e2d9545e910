from copick_mlc import CopickRootMLC
from tests.projects import inventory


def test_modes_agree(root: CopickRootMLC, overlay_root: CopickRootMLC) -> None:
    assert inventory(root) == inventory(overlay_root)
