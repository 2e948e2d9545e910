"""`repair`: make a project whole again, in one commit, so that whoever kills it leaves the old state or the new one.

What is to be done is known, and told, before anything is; what cannot be mended is an error, and nothing is done then.
Needs the index layer only. Rules: SPEC.md, Commits [COM].
"""

from __future__ import annotations

import datetime
import hashlib
import os
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from fsspec import AbstractFileSystem

from copick_mlc import _commit, _contents, _filesystems, _manifest, _storage
from copick_mlc._lock import locked
from copick_mlc._objects import OBJECTS_ID
from copick_mlc._project import Project, url_of
from copick_mlc._state import TableState
from copick_mlc._tables import TABLES, MeshRow, PicksRow, Row, Table, TomogramRow
from copick_mlc._verify import is_particle, is_split_stale, orphans, settled, split_names
from copick_mlc.errors import ExistsError, MissingError, ReadOnlyError, UsageError
from copick_mlc.index import ObjectRow


@dataclass
class _Plan:
    """What is to be done.

    Attributes:
        steps: A line for people for each thing.
        stale: The tables that stay as they are, but have another sha256, contentSize or md5 than is declared.
        states: The tables that rows are put in or removed from.
        splits: Whether copick/splits is rewritten.
        objects: Whether copick/pickable_objects is rewritten, or removed.
    """

    steps: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    states: dict[str, TableState] = field(default_factory=dict)
    splits: bool = False
    objects: bool = False


def repair(
    url: str,
    *,
    add_missing: bool = False,
    drop_dangling: bool = False,
    accept_data: bool = False,
    dry_run: bool = False,
    **options: Any,
) -> list[str]:
    """Finish or take back the commit of a killed writer, and bring what the manifest repeats up to date.

    Args:
        url: Path or fsspec URL of a metadata.json.
        add_missing: Whether data that no row names gets a row, and a row whose run or voxel spacing has none, that.
        drop_dangling: Whether rows whose data does not exist are removed.
        accept_data: Whether the sha256 in rows of picks and meshes is made that of the file.
        dry_run: Whether nothing is done.
        **options: As `Project`.

    Returns:
        A line for each thing that was done, or in a dry run would be; a second repair has none.

    Raises:
        MissingError, DataError: for what cannot be mended: the manifest, or a table, that is missing or broken; a base
            URL that is not there, with `drop_dangling`.
        UsageError: `option-invalid`, for `add_missing` where data cannot be listed; `name-invalid`, for data whose name
            cannot be a cell.
        ExistsError: `exists`, where rows would go to a CSV that the manifest does not declare.
        ReadOnlyError: `read-only`.
        LockedError: `locked`.
        StorageError: `storage-failed`.
    """
    project = settled(url, **options)
    left = project.leftovers() if project.writer() is None else []
    with ExitStack() as stack:
        if not dry_run:
            if reason := project.index.write_reason():
                raise ReadOnlyError("read-only", f"the manifest cannot be written: {reason}", path=project.url)
            stack.enter_context(locked(project.fs, project.path))
            project = Project(url, **options)
        plan = _plan(project, left, add_missing=add_missing, drop_dangling=drop_dangling, accept_data=accept_data)
        if not dry_run:
            if project.index.is_local:
                _commit.recover(project.fs, project.path)
            else:
                _commit.recover_remotely(project.fs, project.path, project.staged)
            _publish(project, plan)
    return plan.steps


def _plan(project: Project, left: list[str], *, add_missing: bool, drop_dangling: bool, accept_data: bool) -> _Plan:
    for _, error in project.problems:
        raise error
    plan = _Plan()
    complete = project.unfinished()
    if complete is not None:
        plan.steps.append(f"{'finish' if complete else 'take back'} the commit of a writer that was killed")
    plan.steps += [f"remove {path}, which a killed writer left" for path in left]
    _mend_manifest(project, plan)
    if add_missing:
        if reason := project.unlisted_reason():
            raise UsageError("option-invalid", f"nobody can say which data has no row (--add-missing): {reason}")
        _name_data(project, plan)
    if drop_dangling or accept_data:
        _mend_rows(project, plan, drop_dangling=drop_dangling, accept_data=accept_data)
    if add_missing:
        _add_missing(project, plan)
    return plan


def _mend_manifest(project: Project, plan: _Plan) -> None:
    """Plan that the manifest says of tables, objects and splits what is so."""
    for name, checksum in project.checksums.items():
        plan.stale.append(name)
        count = project.files[name].count
        plan.steps.append(f"declare the sha256 {checksum} of {TABLES[name].file_name}, which has {count} rows")
    for name, untrue in project.untrue.items():
        plan.stale.append(name)
        values = " and ".join(f"the {key} {value}" for key, (_, value) in untrue.items())
        plan.steps.append(f"declare {values} of {TABLES[name].file_name}")
    if project.manifest.untrue_objects():
        plan.objects = True
        plan.steps.append(f"rewrite {OBJECTS_ID} as copick:config has it")
    if is_split_stale(project):
        plan.splits = True
        plan.steps.append("rewrite copick/splits as runs.csv has it")


# --- rows ------------------------------------------------------------------------------------------------


def _mend_rows(project: Project, plan: _Plan, *, drop_dangling: bool, accept_data: bool) -> None:
    """Plan for the rows whose data is missing, or has another sha256."""
    fs, base = project.place()
    if drop_dangling and _filesystems.is_local(fs) and not os.path.isdir(base):  # a disk that is not mounted, for one
        raise MissingError(
            "data-missing", "the base URL is not there, so nobody can say which rows lack their data", path=base
        )
    there = {(row.table.name, row.key) for row, _, _ in _nameless(project)} if drop_dangling else set()
    for finding in list(project.check_data()):
        row = project.rows[str(finding.table)][finding.key or ()]
        if drop_dangling and finding.kind == "data-missing" and (row.table.name, row.key) not in there:
            del project.rows[row.table.name][row.key]
            _state(project, plan, row).change(row.group, row.key, None)
            why = f"whose data {finding.path} does not exist" if finding.path else "which names no data"
            plan.steps.append(f"remove from {row.table.name}: {_name(row)}, {why}")
        elif accept_data and finding.kind == "data-checksum" and isinstance(row, (PicksRow, MeshRow)):
            fs, path = project.index.resolve_url(row.url or "")
            data = _storage.read(fs, path, "data-missing", f"the file of {row.key}")
            new = replace(row, sha256=hashlib.sha256(data).hexdigest())
            _put(project, plan, new)
            plan.steps.append(f"take over {path} in {row.table.name}: {_name(row)}, with the sha256 {new.sha256}")


def _nameless(project: Project) -> list[tuple[Row, AbstractFileSystem, str]]:
    """The rows that name no data though it is at its canonical place, and where that is."""
    if project.unlisted_reason():
        return []
    fs, _ = project.place()
    known = ((project.rows[row.table.name].get(row.key), path) for row, path in project.unnamed())
    return [(row, fs, path) for row, path in known if row is not None and not url_of(row)]


def _name_data(project: Project, plan: _Plan) -> None:
    """Plan that rows which name no data name what is at their canonical place."""
    for row, fs, path in _nameless(project):
        _put(project, plan, _described(row, fs, path))
        plan.steps.append(f"change in {row.table.name}: {_name(row)}, to name {path}")


def _add_missing(project: Project, plan: _Plan) -> None:
    """Plan rows for data that no row names, and for the runs and voxel spacings that rows belong to."""
    fs, _ = project.place()
    for row, path in list(project.unnamed()):
        taken = row.key in project.rows[row.table.name]
        if taken or (isinstance(row, ObjectRow) and not is_particle(project, row.name)):
            continue
        _put(project, plan, _described(row, fs, path))
        plan.steps.append(f"add to {row.table.name}: {_name(row)}, which is at {path}")
    while parents := {(p.table.name, p.key): p for _, p in orphans(project) if not isinstance(p, TomogramRow)}:
        for parent in parents.values():
            _put(project, plan, parent)
            plan.steps.append(f"add to {parent.table.name}: {_name(parent)}, which rows belong to")


def _described(row: Row, fs: AbstractFileSystem, path: str) -> Row:
    """The row of data that is at its canonical place, with what the file says [EXP-011] [EXP-012]."""
    if not row.table.has_url:
        return row
    columns: dict[str, Any] = {"url": row.canonical_url}
    if isinstance(row, (PicksRow, MeshRow)):
        data = _storage.read(fs, path, "data-missing", f"the file of {row.key}")
        columns |= {name: value for name, value in _contents.columns_of(row, data).items() if value is not None}
    new: Row = replace(row, **columns)  # type: ignore[type-var]
    return new


def _put(project: Project, plan: _Plan, row: Row) -> None:
    project.rows[row.table.name][row.key] = row
    _state(project, plan, row).change(row.group, row.key, row)


def _state(project: Project, plan: _Plan, row: Row) -> TableState:
    """The state of the table of a row, which is to be changed."""
    table = row.table
    if table.name not in plan.states:
        if table in project.undeclared():  # [CSV-032]
            raise ExistsError(
                "exists",
                "the manifest does not declare this file, so nobody knows whether it is the table; declare it, or move "
                "it away",
                path=project.table_url(table),
            )
        plan.states[table.name] = TableState(project.files[table.name], "", None)
    return plan.states[table.name]


def _name(row: Row) -> str:
    return "/".join(str(part) for part in row.key)


# --- the commit ------------------------------------------------------------------------------------------


def _publish(project: Project, plan: _Plan) -> None:
    files = {name: state.render() for name, state in plan.states.items()}
    written = {name: file.data for name, file in files.items()}
    # Not what was made of them when they were read: the last line end may be missing.
    kept = {name: _bytes_of(project, TABLES[name]) for name in plan.stale if name not in files}
    if not kept and not written and not plan.splits and not plan.objects:
        return
    declared = {name: files.get(name, project.files[name]) for name in (*kept, *written)}
    document = _manifest.patch(
        project.manifest.document,
        files=kept | written,
        filled=[name for name, file in declared.items() if file.count],
        splits=split_names(project) if plan.splits or "runs" in declared else None,
        modified=datetime.date.today().isoformat(),  # [MAN-034]
        config=project.manifest.config if plan.objects else None,
        columns={name: file.header for name, file in declared.items()},
    )
    contents = {project.table_path(TABLES[name]): data for name, data in written.items()}
    _commit.publish(project.fs, project.path, contents, _manifest.dump(document), project.raw)


def _bytes_of(project: Project, table: Table) -> bytes:
    return _storage.read(project.fs, project.table_path(table), "table-missing", f"the table {table.name}")
