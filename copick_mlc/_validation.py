"""What mlcroissant says of a manifest. The one place that imports it."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Mapping
from typing import Any

from copick_mlc.errors import DataError, UsageError


def validate(document: Mapping[str, Any], path: str) -> list[str]:
    """Check a JSON-LD document with mlcroissant, and give its warnings.

    Args:
        document: The document.
        path: Where it lies, or will, for messages.

    Raises:
        DataError: `manifest-rejected` [EXP-023].
        UsageError: `option-invalid`, where mlcroissant is not installed.
    """
    try:
        import mlcroissant
    except ImportError as error:
        raise UsageError(
            "option-invalid",
            f"validation needs mlcroissant, which cannot be imported ({error}); install it, or do without validation: "
            "validate=False (--no-validate)",
        ) from error

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
