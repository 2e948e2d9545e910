"""What mlcroissant says of a manifest. The one place that imports it."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Mapping
from typing import Any

from copick_mlc.errors import DataError


def validate(document: Mapping[str, Any], path: str) -> list[str]:
    """Check a JSON-LD document with mlcroissant, and give its warnings.

    Args:
        document: The document.
        path: Where it lies, or will, for messages.

    Raises:
        DataError: `manifest-rejected`.
    """
    import mlcroissant

    logger = logging.getLogger("absl")  # mlcroissant also logs what it raises and returns
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of the packages it uses
            dataset = mlcroissant.Dataset(jsonld=copy.deepcopy(dict(document)))
    except mlcroissant.ValidationError as error:
        raise DataError("manifest-rejected", f"mlcroissant rejects the manifest: {error}", path=path) from error
    finally:
        logger.setLevel(level)
    return sorted(dataset.metadata.ctx.issues.warnings)
