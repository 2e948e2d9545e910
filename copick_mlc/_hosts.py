"""What hosts of datasets want to find in a manifest: one table a host, and what a manifest lacks of it.

Only what a host documents is listed, and nothing that it asks for under a condition which only a person can judge.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from copick_mlc._findings import Finding

# --- values ----------------------------------------------------------------------------------------------


def is_given(value: object) -> bool:
    """Whether a JSON-LD value says something; false and 0 do."""
    if isinstance(value, dict) and "@value" in value:
        value = value["@value"]
    if isinstance(value, list):
        return any(map(is_given, value))
    return value is not None and value != {} and not (isinstance(value, str) and not value.strip())


def is_node(value: object) -> bool:
    """Whether it is an object, such as a Person, or a list of objects."""
    values = value if isinstance(value, list) else [value]
    return bool(values) and all(isinstance(item, dict) and item for item in values)


def is_link(value: object) -> bool:
    """Whether it is an http or https URL, as text or as an `@id`, or a list of them."""
    values = value if isinstance(value, list) else [value]
    texts = [item.get("@id") or item.get("@value") if isinstance(item, dict) else item for item in values]
    return bool(texts) and all(isinstance(text, str) and text.startswith(("http://", "https://")) for text in texts)


def _is_summary(value: object) -> bool:
    text = value.get("@value") if isinstance(value, dict) else value
    return isinstance(text, str) and 50 <= len(text.strip()) <= 5000


def _is_license(value: object) -> bool:
    return is_link(value) or is_node(value)


def _is_dataset(value: object) -> bool:
    names = {"Dataset", "sc:Dataset", "schema:Dataset", "https://schema.org/Dataset", "http://schema.org/Dataset"}
    return not names.isdisjoint(item for item in (value if isinstance(value, list) else [value]) if item is not None)


def _is_croissant(value: object) -> bool:
    values = [item.get("@id") if isinstance(item, dict) else item for item in _as_list(value)]
    return any(isinstance(item, str) and "mlcommons.org/croissant/1." in item for item in values)


# --- hosts -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """A property that a host wants.

    Attributes:
        name: Its name; with a dot, a property of each file that the distribution lists.
        advice: Why, or what to do.
        fits: Whether the host takes a value.
    """

    name: str
    advice: str
    fits: Callable[[object], bool] = is_given


@dataclass(frozen=True)
class Host:
    """A host, and what it wants.

    Attributes:
        title: Its name in full.
        required: What it does not do without.
        recommended: What it also asks for.
        reads_records: Whether it reads the first record of every record set.
    """

    title: str
    required: tuple[Wanted, ...]
    recommended: tuple[Wanted, ...]
    reads_records: bool = False


# Sources: "NeurIPS 2026 Evaluations & Datasets Hosting Guidelines" (neurips.cc, EvaluationsDatasetsHosting)
# and the NeurIPS blog of 2026-05-04 on Responsible AI metadata: the core and the minimal RAI fields are required. The
# core is that of the Croissant Format Specification 1.1, "Dataset-level Information" (docs.mlcommons.org/croissant).
# The checker that the guidelines name (croissant-checker, of mlcommons/croissant) hands mlcroissant the JSON alone,
# so there is no folder for a relative contentUrl, and takes the first record of every record set.
_NEURIPS = Host(
    title="NeurIPS (Evaluations and Datasets)",
    required=(
        Wanted("@type", "the core of Croissant; sc:Dataset", _is_dataset),
        Wanted("conformsTo", "the core of Croissant; http://mlcommons.org/croissant/1.1", _is_croissant),
        Wanted("name", "the core of Croissant; the name of the dataset"),
        Wanted("description", "the core of Croissant; what the dataset is"),
        Wanted("license", "the core of Croissant; best the URL of a known license, as one of spdx.org/licenses"),
        Wanted("url", "the core of Croissant; the web page of the dataset", is_link),
        Wanted("creator", "the core of Croissant; a Person or an Organization, or a list of them", is_node),
        Wanted("datePublished", "the core of Croissant; an ISO date"),
        Wanted("distribution", "the core of Croissant; the files", is_node),
        Wanted(
            "distribution.contentUrl",
            "the checker reads the manifest without the files beside it; export with an https --base-url",
            is_link,
        ),
        Wanted("rai:dataLimitations", "minimal RAI; known limits, and uses to be discouraged"),
        Wanted("rai:dataBiases", "minimal RAI; known biases, of selection or annotation for one"),
        Wanted("rai:personalSensitiveInformation", "minimal RAI; which there is, or that there is none"),
        Wanted("rai:dataUseCases", "minimal RAI; what the dataset is meant and tested for, and what not"),
        Wanted("rai:dataSocialImpact", "minimal RAI; foreseeable benefit and harm, and what was done about it"),
        Wanted("rai:hasSyntheticData", "minimal RAI; true or false"),
        Wanted("prov:wasDerivedFrom", "minimal RAI; the datasets that it is made from; @context has to declare prov"),
        Wanted("prov:wasGeneratedBy", "minimal RAI; how it was collected and annotated; @context has to declare prov"),
    ),
    recommended=(
        Wanted("keywords", "Croissant recommends it; what the dataset is about"),
        Wanted("publisher", "Croissant recommends it; a Person or an Organization", is_node),
        Wanted("version", "Croissant recommends it; as 1.0.0"),
        Wanted("dateCreated", "Croissant recommends it; an ISO date"),
        Wanted("dateModified", "Croissant recommends it; an ISO date"),
        Wanted("sameAs", "Croissant recommends it; the URL of another page about the same dataset", is_link),
        Wanted("sdLicense", "Croissant recommends it; the license of the manifest itself"),
        Wanted("inLanguage", "Croissant recommends it; the language of the content, as en"),
    ),
    reads_records=True,
)

# Source: Google Search Central, "Dataset (Dataset, DataCatalog, DataDownload) structured data"
# (developers.google.com/search/docs/appearance/structured-data/dataset). Left out is what it wants of datasets alone
# that have parts, a place on earth or a time: hasPart, isPartOf, spatialCoverage, temporalCoverage.
_GOOGLE = Host(
    title="Google Dataset Search",
    required=(
        Wanted("name", "a descriptive name, other than that of any other dataset"),
        Wanted("description", "a summary of 50 to 5000 characters", _is_summary),
        Wanted("distribution.contentUrl", "the link for the download of each file"),
    ),
    recommended=(
        Wanted("alternateName", "other names of the dataset, abbreviations for one"),
        Wanted("citation", "articles to be cited besides the dataset itself, best with their DOI"),
        Wanted("creator", "a Person or an Organization, best with an ORCID or ROR as sameAs", is_node),
        Wanted("distribution", "where the files are, and of which format", is_node),
        Wanted("distribution.encodingFormat", "the format of each file, as text/csv"),
        Wanted("funder", "who paid for it: a Person or an Organization", is_node),
        Wanted("identifier", "a DOI or a compact identifier"),
        Wanted("includedInDataCatalog", "the catalog that the dataset is in"),
        Wanted("isAccessibleForFree", "true where nobody has to pay"),
        Wanted("keywords", "what the dataset is about"),
        Wanted(
            "license", "a URL that stands for one version of a license, or an object with name and url", _is_license
        ),
        Wanted("measurementTechnique", "how it was measured, as cryo-electron tomography"),
        Wanted("sameAs", "the URL of a page that says without doubt which dataset it is", is_link),
        Wanted("url", "the web page of the dataset", is_link),
        Wanted("variableMeasured", "what was measured"),
        Wanted("version", "the version number of the dataset"),
    ),
)

# Sources: Hugging Face, "Get Croissant metadata" of the dataset viewer (huggingface.co/docs/dataset-viewer/croissant)
# and "Dataset Cards" of the Hub (huggingface.co/docs/hub/datasets-cards). The Hub makes a Croissant file of its own
# from the card and the data, and no page says that it reads one. So this is what its card has a place for.
_CARD = "not read from the manifest: write it into the dataset card (README.md), as"
_HUGGINGFACE = Host(
    title="Hugging Face",
    required=(),
    recommended=(
        Wanted("license", f"{_CARD} license, by an identifier of the Hub's list, as cc-by-4.0"),
        Wanted("name", f"{_CARD} pretty_name"),
        Wanted("inLanguage", f"{_CARD} language, an ISO 639-1 code"),
        Wanted("keywords", f"{_CARD} tags"),
    ),
)

#: The hosts, by the word that stands for each.
HOSTS: dict[str, Host] = {"neurips": _NEURIPS, "google": _GOOGLE, "huggingface": _HUGGINGFACE}


# --- what is missing -------------------------------------------------------------------------------------

# Namespaces of the prefixes that names of properties have; those without are of schema.org, but for two.
_NAMESPACES = {
    "sc": ("https://schema.org/", "http://schema.org/"),
    "rai": ("http://mlcommons.org/croissant/RAI/",),
    "prov": ("http://www.w3.org/ns/prov#",),
    "cr": ("http://mlcommons.org/croissant/",),
    "dct": ("http://purl.org/dc/terms/",),
}
_OTHER_PREFIX = {"conformsTo": "dct", "citeAs": "cr"}


def missing(name: str, document: Mapping[str, Any], without_records: Collection[str] = ()) -> Iterator[Finding]:
    """What a host will miss.

    Args:
        name: One of `HOSTS`.
        document: The JSON-LD document.
        without_records: The `@id` of record sets that have no records.
    """
    host = HOSTS[name]
    for level, all_wanted in (("required", host.required), ("recommended", host.recommended)):
        for wanted in all_wanted:
            values = _values(document, wanted.name)
            unfit = [value for value in values if not (is_given(value) and wanted.fits(value))]
            if unfit or not values:
                given = next(filter(is_given, unfit), None)
                found = "there is none" if given is None else f"it is {reprlib.repr(given)}"
                message = f"{level}, but {found}; {wanted.advice}"
                yield Finding(f"host-{level}", message, host=name, host_property=wanted.name)
    for identifier in without_records if host.reads_records else ():
        message = "a record of every record set is read, and this has none; remove it from recordSet"
        yield Finding("host-required", message, record_set=identifier, host=name, host_property="recordSet")


def _values(document: Mapping[str, Any], name: str) -> list[Any]:
    """The value of a property, of the dataset or of each file; None where it is not there."""
    if not name.startswith("distribution."):
        return [_value(document, name)]
    entries = [entry for entry in _as_list(_value(document, "distribution")) if isinstance(entry, dict)]
    # A set of files, or a file within another, has no URL of its own.
    files = [entry for entry in entries if _value(entry, "includes", "cr") is None]
    files = [entry for entry in files if _value(entry, "containedIn", "cr") is None]
    return [_value(entry, name.partition(".")[2]) for entry in files]


def _value(node: Mapping[str, Any], name: str, prefix: str = "sc") -> Any:
    """The value of a property in any of the ways that JSON-LD has to write its name."""
    if ":" in name:
        prefix, name = name.split(":")
        spellings = [f"{prefix}:{name}"]
    else:
        prefix = _OTHER_PREFIX.get(name, prefix)
        spellings = [name, f"{prefix}:{name}"]
    spellings += [f"{namespace}{name}" for namespace in _NAMESPACES[prefix]]
    return next((node[spelling] for spelling in spellings if spelling in node), None)


def _as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]
