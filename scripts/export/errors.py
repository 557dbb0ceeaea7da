# SPDX-License-Identifier: Apache-2.0
"""The one way this package says that a checkpoint, a disk or a flag is not as it should be."""


class ExportError(Exception):
    """One sentence for the user: what, the value, the limit or what was expected, how to fix it."""
