"""`verify`: what of a project is not as it should be. Reads only; needs the index layer only."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from copick_mlc import _commit, _filesystems, _pandas, _splits
from copick_mlc._findings import ERROR, KINDS, VALIDATION_KINDS, WARNING, Finding, severity
from copick_mlc._objects import OBJECTS_ID
from copick_mlc._project import Project, url_of
from copick_mlc._tables import TABLES, Key, Row
from copick_mlc.errors import CroissantError
from copick_mlc.index import (
    FeaturesRow,
    InstanceSegmentationRow,
    MeshRow,
    ObjectRow,
    PicksRow,
    RunRow,
    SegmentationRow,
    TomogramRow,
    VoxelSpacingRow,
)

# A writer at work looks like a killed one for a moment.
_PAUSES = (0.05, 0.1, 0.15)
_ROUNDS = 3

_MOST_SHOWN = 10

_REFERENCE = "copick/runs/split"


@dataclass
class Report:
    """What was found of a project.

    Attributes:
        manifest: Absolute URL of metadata.json.
        base_url: What URL cells are relative to; None where there is no manifest to say it.
        rows: Number of rows that were read.
        findings: What is not as it should be.
        not_checked: What could not be looked at, and why.
        with_data: Whether the data that rows name was looked at.
    """

    manifest: str
    base_url: str | None
    rows: int
    findings: list[Finding]
    not_checked: list[str]
    with_data: bool = True

    def as_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        severities = Counter(finding.severity for finding in self.findings)
        return {
            "manifest": self.manifest,
            "base_url": self.base_url,
            "rows": self.rows,
            "errors": severities[ERROR],
            "warnings": severities[WARNING],
            "findings": [finding.as_json() for finding in self.findings],
            "not_checked": self.not_checked,
        }


def verify(url: str, **options: Any) -> Report:
    """Look at everything there is of a project. Nothing is written.

    Args:
        url: Path or fsspec URL of a metadata.json.
        **options: As `Project`.
    """
    return examine(url, _report, **options)[1]


def examine(url: str, look: Callable[[Project], Report], **options: Any) -> tuple[Project | None, Report]:
    """Look at a project, again where a writer changed it meanwhile; None for one whose manifest cannot be read.

    Args:
        url: Path or fsspec URL of a metadata.json.
        look: What looks at it.
        **options: As `Project`.
    """
    try:
        for _ in range(_ROUNDS):
            project = settled(url, **options)
            report = look(project)
            # What was found may be what somebody changed meanwhile.
            if not report.findings or _commit.read_manifest(project.fs, project.path) == project.raw:
                break
    except CroissantError as error:
        not_checked = ["all else, without a manifest to say what there is"]
        return None, Report(url, None, 0, [Finding.of_error(error)], not_checked)
    return project, report


def settled(url: str, **options: Any) -> Project:
    """The project, once no writer is within a commit, or after a while; the options are as in `Project`.

    Raises:
        MissingError, DataError, StorageError: as `CroissantIndex.from_url`.
    """
    for pause in _PAUSES:
        project = Project(url, **options)
        codes = {error.code for _, error in project.problems}
        torn = project.checksums or "table-missing" in codes or project.unfinished() is not None or project.leftovers()
        if not torn:
            return project
        time.sleep(pause)
    return Project(url, **options)


def tables_report(project: Project) -> Report:
    """What is not as it should be with the manifest and the tables; no data is looked at."""
    findings: list[Finding] = []
    not_checked: list[str] = []
    writer = project.writer()
    if writer is None:
        findings += _of_commits(project)
    else:
        not_checked.append(f"what killed writers left: {writer} is writing")
    findings += _of_tables(project)
    findings += _of_manifest(project)
    findings += _orphans(project)
    findings += _of_splits(project)
    findings += _misread_names(project)
    findings += _unknown_objects(project)
    rows = sum(map(len, project.rows.values()))
    return Report(project.url, project.index.base_url, rows, findings, not_checked, with_data=False)


def _report(project: Project) -> Report:
    report = tables_report(project)
    report.with_data = True
    report.findings += project.check_data()
    if reason := project.unlisted_reason():
        report.not_checked.append(f"whether there is data that no row names: {reason}")
    else:
        try:
            report.findings += _unnamed(project)
            report.findings += _staged(project)
        except CroissantError as error:
            report.findings.append(Finding.of_error(error))
    return report


# --- the checks ------------------------------------------------------------------------------------------


def _of_commits(project: Project) -> Iterator[Finding]:
    complete = project.unfinished()
    if complete is not None:
        outcome = "repair finishes it" if complete else "repair takes it back, for not all of it is there"
        state = "complete" if complete else "incomplete"
        message = f"a writer was killed within a commit, which is {state}; {outcome}, and so does the next writer"
        place = min(project.staged, default=f"{project.path}.pending")
        yield Finding("commit-unfinished", message, path=_filesystems.url_of(project.fs, place))
    for path in project.leftovers():
        message = "a killed writer left this; repair removes it, and so does the next writer"
        yield Finding("leftover", message, path=_filesystems.url_of(project.fs, path))


def _of_tables(project: Project) -> Iterator[Finding]:
    for name, checksum in project.checksums.items():
        table = TABLES[name]
        message = (
            f"the file's sha256 is {checksum}, the manifest declares {project.manifest.sha256(table)}: one of them was "
            "changed without the other. If the rows are as they should be, repair declares the new sha256"
        )
        yield Finding("table-checksum", message, name, path=project.table_url(table))
    for name, error in project.problems:
        yield Finding.of_error(error, name)
    for table in project.undeclared():
        message = "the manifest does not declare this file, so its rows are not there; declare it, or move it away"
        yield Finding("table-undeclared", message, table.name, path=project.table_url(table))


def _of_manifest(project: Project) -> Iterator[Finding]:
    for name, untrue in project.untrue.items():
        said = "; ".join(f"its {key} is {value}, the manifest declares {old!r}" for key, (old, value) in untrue.items())
        message = f"{said}. A writer left that as it was, or somebody changed it; repair rewrites it"
        kind = "md5-stale" if "md5" in untrue else "manifest-stale"
        yield Finding(kind, message, name, path=project.url)
    if texts := project.manifest.untrue_objects():
        message = f"it does not say what copick:config says: {'; '.join(texts)}. repair rewrites it"
        yield Finding("manifest-stale", message, path=project.url, record_set=OBJECTS_ID)


def _orphans(project: Project) -> Iterator[Finding]:
    for row, parent in orphans(project):
        what = f"{parent.table.name} has no row {_key(parent.key)}"
        advice = "add what is missing, or remove the row"
        if not isinstance(parent, TomogramRow):
            advice = "repair --add-missing adds it"
        yield Finding.of_row("row-orphan", f"{what}, which this row belongs to, so nobody finds it; {advice}", row)


def orphans(project: Project) -> Iterator[tuple[Row, Row]]:
    """The rows that belong to what has no row, and the row that is lacking."""
    for name, rows in project.rows.items():
        if name in ("runs", "objects"):
            continue
        for row in rows.values():
            for parent in _parents(row):
                if parent.key not in project.rows[parent.table.name] and project.is_whole(parent.table.name):
                    yield row, parent
                    break


def _parents(row: Row) -> Iterator[Row]:
    """What a row belongs to, the run first."""
    yield RunRow(row.group)
    if isinstance(row, (TomogramRow, FeaturesRow)):
        yield VoxelSpacingRow(row.run, row.voxel_size)
    if isinstance(row, FeaturesRow):
        yield TomogramRow(row.run, row.voxel_size, row.tomo_type)


def _of_splits(project: Project) -> Iterator[Finding]:
    if is_split_stale(project):
        runs = ", ".join(sorted(set(split_names(project)))) or "none"
        declared = ", ".join(sorted(_declared_splits(project))) or "none"
        message = (
            f"runs.csv has the splits {runs}; copick/splits, or the reference to it, has {declared}, or cannot be "
            "followed; repair rewrites it"
        )
        yield Finding("split-stale", message, "runs", path=project.url)


def split_names(project: Project) -> list[str]:
    """The split of each run that has one, in the order of runs.csv."""
    return [row.split for row in project.rows["runs"].values() if isinstance(row, RunRow) and row.split]


def is_split_stale(project: Project) -> bool:
    """Whether copick/splits has other splits than runs.csv [MAN-027], or a reference that none can follow [MAN-031]."""
    if not project.is_whole("runs"):
        return False
    names = set(split_names(project))
    declared = _declared_splits(project)
    return len(declared) != len(names) or set(declared) != names or _refers(project, names)


def _declared_splits(project: Project) -> list[str]:
    entry = _entry(project.manifest.document.get("recordSet"), _splits.SPLITS_ID)
    return [str(row.get(f"{_splits.SPLITS_ID}/name")) for row in _objects(entry.get("data"))]


def _refers(project: Project, names: set[str]) -> bool:
    """Whether the split column refers to the record set though it must not."""
    runs = _entry(project.manifest.document.get("recordSet"), "copick/runs")
    field = _entry(runs.get("field"), _REFERENCE)
    return "references" in field and not _splits.can_be_referred_to(names)


def _entry(entries: object, identifier: str) -> Mapping[str, Any]:
    return next((entry for entry in _objects(entries) if entry.get("@id") == identifier), {})


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, dict)]


def _misread_names(project: Project) -> Iterator[Finding]:
    for name, column, text in _pandas.misread_names({name: rows.values() for name, rows in project.rows.items()}):
        yield Finding("name-misread", text, name, path=project.table_url(TABLES[name]), column=column)


def _unknown_objects(project: Project) -> Iterator[Finding]:
    definitions = project.manifest.config.get("pickable_objects")
    if definitions is None:
        return
    known = {definition["name"] for definition in definitions}
    for name, rows in project.rows.items():
        objects = Counter(_object(row) for row in rows.values())
        for unknown in sorted(found for found in objects if found is not None and found not in known):
            message = (
                f"{objects[unknown]} rows are of {unknown!r}, which copick:config does not define; add it to "
                "pickable_objects, or remove the rows"
            )
            yield Finding("object-unknown", message, name, path=project.table_url(TABLES[name]))


def _object(row: Row) -> str | None:
    """The pickable object of a row; a multilabel or panoptic segmentation has none."""
    if isinstance(row, (PicksRow, MeshRow)):
        return row.object_name
    if isinstance(row, (ObjectRow, InstanceSegmentationRow)) or (
        isinstance(row, SegmentationRow) and not row.is_multilabel
    ):
        return row.name
    return None


def _unnamed(project: Project) -> Iterator[Finding]:
    for row, path in project.unnamed():
        known = project.rows[row.table.name].get(row.key)
        if known is not None and url_of(known):
            message = "the row of that key names other data; remove the one that is not needed"
        elif known is not None:
            message = "the row of that key names no data; repair --add-missing has it name this"
        elif isinstance(row, ObjectRow) and not is_particle(project, row.name):
            message = (
                "no row names it, and copick:config defines no particle of that name; define it, or remove the map"
            )
        else:
            message = "no row names it; repair --add-missing adds one, or remove it"
        yield Finding.of_row("data-unnamed", message, row, path)


def is_particle(project: Project, name: str) -> bool:
    """Whether the project defines a particle of that name: others have no density map."""
    definitions = project.manifest.config.get("pickable_objects") or []
    return any(item["name"] == name and item.get("is_particle") for item in definitions)


def _staged(project: Project) -> Iterator[Finding]:
    for path in project.staged_data():
        message = "somebody is writing data, or was killed so; remove it if nobody is at work"
        if path.endswith(".former"):
            message = "a writer was killed between two renamings; if what it replaced is missing, this is it"
        yield Finding("leftover", message, path=path)


# --- text ------------------------------------------------------------------------------------------------


def render(report: Report) -> str:
    """The report as text: findings by kind, at most some of each that there may be very many of."""
    kinds: dict[str, list[Finding]] = {}
    for finding in report.findings:
        kinds.setdefault(finding.kind, []).append(finding)
    lines = [report.manifest]
    for kind, findings in kinds.items():
        lines += ["", f"{kind}: {_count(len(findings), findings[0].severity)}"]
        most = len(findings) if kind in VALIDATION_KINDS else _MOST_SHOWN  # only the others grow with the data
        lines += [f"  {_line(finding)}" for finding in findings[:most]]
        if len(findings) > most:
            lines.append(f"  … and {len(findings) - most} more; --json lists all")
    lines += ["", *(f"not checked: {what}" for what in report.not_checked)]
    severities = Counter(finding.severity for finding in report.findings)
    if report.findings:
        counts = ", ".join(_count(severities[word], word) for word in (ERROR, WARNING))
        lines.append(f"{counts} in {_count(report.rows, 'row')}")
    else:
        lines.append(f"nothing found in {_count(report.rows, 'row')}{' and their data' if report.with_data else ''}")
    return "\n".join(lines)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _line(finding: Finding) -> str:
    where = [finding.table or "", _key(finding.key) if finding.key is not None else ""]
    where += [f"line {finding.line}" if finding.line else "", f"column {finding.column}" if finding.column else ""]
    where += [finding.record_set or "", finding.host or "", finding.host_property or ""]
    subject = ", ".join(part for part in where if part) or finding.path or ""
    path = f" ({finding.path})" if finding.path and subject != finding.path else ""
    return f"{subject}{path}: {finding.message}" if subject else finding.message


def _key(key: Key) -> str:
    return "/".join(str(part).lower() if isinstance(part, bool) else part for part in key)


def explanation(kinds: Mapping[str, str] = KINDS) -> str:
    """What each kind means, for the help text."""
    return "\n".join(f"  {kind:<20}{severity(kind):<9}{text}" for kind, text in kinds.items())
