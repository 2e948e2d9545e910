"""`CopickMeshMLC`: the mesh that somebody made of one object in one run. Rules: SPEC.md, Meshes [MSH]."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any

from copick.impl.overlay import CopickMeshOverlay
from copick.models import CopickMeshMeta

from copick_mlc._artifact import AnnotationFile
from copick_mlc.errors import DataError
from copick_mlc.index import MeshRow

if TYPE_CHECKING:
    from copick_mlc.run import CopickRunMLC


# What trimesh raises for bytes that are no binary glTF; it checks little of what it reads.
_TRIMESH_ERRORS = (
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    NotImplementedError,
    TypeError,
    ValueError,
)


class CopickMeshMLC(AnnotationFile, CopickMeshOverlay):
    """A mesh, a binary glTF file with one row in `meshes`; the two go together [MSH-005].

    trimesh is imported when a mesh is read or written.
    """

    run: CopickRunMLC
    identity: MeshRow

    def __init__(
        self,
        run: CopickRunMLC,
        meta: CopickMeshMeta | None = None,
        mesh: Any = None,
        read_only: bool = False,
        *,
        identity: MeshRow | None = None,
    ) -> None:
        """Made with copick's `meta`, or with the row that is its `identity`."""
        super().__init__(run, meta, mesh, read_only)
        self.identity = identity or MeshRow(
            run.name, self.meta.user_id, self.meta.session_id, self.meta.pickable_object_name
        )

    def _make_meta(self) -> CopickMeshMeta:
        return CopickMeshMeta(
            pickable_object_name=self.identity.object_name,
            user_id=self.identity.user_id,
            session_id=self.identity.session_id,
        )

    @property
    def _listed_in(self) -> list[Any] | None:
        return self.run._meshes

    def _load(self) -> Any:
        import trimesh

        data = self._read()
        try:
            return trimesh.load(io.BytesIO(data), file_type="glb")  # [MSH-001]
        except _TRIMESH_ERRORS as error:  # [MSH-002]
            raise DataError("data-invalid", f"not a binary glTF file: {error!r}", path=self._where) from error

    def store(self) -> None:
        """Write the mesh, replacing the file as a whole, and put the row [MSH-003].

        Raises:
            ReadOnlyError, StorageError: `read-only`, `storage-failed`.
        """
        self._check_mutable()
        super().store()

    def _store(self) -> None:
        data = self.mesh.export(file_type="glb")  # reads the mesh first, where nobody has set one
        self._project.target.write_file(self.identity, data, sha256=hashlib.sha256(data).hexdigest())
