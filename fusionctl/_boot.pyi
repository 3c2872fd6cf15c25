from typing import Any

def sums(
    blocks: Any, patients: int, columns: Any, positive: Any, start: Any, end: Any, cuts: Any, out: Any
) -> None: ...
