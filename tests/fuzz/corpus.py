"""All kinds of damage: importing this fills the register."""

from __future__ import annotations

import damage_codes  # noqa: F401
import damage_film_tables  # noqa: F401
import damage_films  # noqa: F401
import damage_gzip  # noqa: F401
import damage_ids  # noqa: F401
import damage_numbers  # noqa: F401
import damage_splits  # noqa: F401
import damage_text  # noqa: F401
import damage_times  # noqa: F401
import damage_trees  # noqa: F401
from damages import DAMAGES, Case, cases, one_of_each, sample

__all__ = ["DAMAGES", "Case", "cases", "one_of_each", "sample"]
