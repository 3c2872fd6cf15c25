"""What the machine offers: GPUs and their driver, processors, memory. Linux tells most of it in /proc and /sys."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from fusionctl.settings import default_jobs

_DRIVER = Path("/proc/driver/nvidia/version")
_MEMORY = Path("/proc/meminfo")
_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What `look` found; memory in bytes, as far as this process may use it."""

    gpus: list[str] = field(default_factory=list)
    driver: str = ""
    threads: str = ""
    memory: float = 0.0
    memory_free: float = 0.0


def look() -> Facts:
    """Look at this machine, or at the part of it that a job owns."""
    total, free = memory()
    return Facts(gpus=_gpus(), driver=_driver(), threads=_threads(), memory=total, memory_free=free)


def _gpus() -> list[str]:
    try:
        import torch

        there = range(torch.cuda.device_count()) if torch.cuda.is_available() else range(0)
    except Exception:  # torch itself is looked at with the packages
        return []
    found = []
    for i in there:
        facts = torch.cuda.get_device_properties(i)
        mixed = "bf16" if torch.cuda.is_bf16_supported() else "no bf16: add --precision float32"
        found.append(f"cuda:{i} {facts.name}, {facts.total_memory / 1e9:.0f} GB, {mixed}")
    return found


def _driver() -> str:
    try:
        text = _DRIVER.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    version = re.search(r"\b(\d+\.\d+(?:\.\d+)?)\b", text)
    return f"NVIDIA {version[1]}" if version else "NVIDIA"


def _threads() -> str:
    given = [n for n in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "SLURM_CPUS_PER_TASK") if os.environ.get(n)]
    said = ", ".join(f"{name}={os.environ[name]}" for name in given)
    return f"{default_jobs()} of {os.cpu_count()} processors" + (f" ({said})" if said else "")


def memory() -> tuple[float, float]:
    """Bytes of memory in all and free: the machine's, or what the job may have where that is less."""
    try:
        text = _MEMORY.read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0.0, 0.0
    sizes = {name: 1024.0 * int(kib) for name, kib in re.findall(r"^(\w+):\s+(\d+) kB", text, flags=re.MULTILINE)}
    total, free = sizes.get("MemTotal", 0.0), sizes.get("MemAvailable", 0.0)
    for limit, used in _limits(_GROUP, _GROUPS):
        total, free = min(total, limit), min(free, limit - used)
    return total, max(0.0, free)


def _limits(listed: Path, groups: Path) -> list[tuple[float, float]]:
    """(limit, used) of each control group (version 2) above this process that has a limit.

    Pages of files count as used there, but are given back when they are needed.
    """
    try:
        own = re.search(r"^0::(/.*)$", listed.read_text(encoding="utf-8"), flags=re.MULTILINE)
    except OSError:
        return []
    folder, found = Path(own[1].lstrip("/") if own else "."), []
    for path in (folder, *folder.parents):
        try:
            limit, used, parts = ((groups / path / f"memory.{n}").read_text() for n in ("max", "current", "stat"))
            pages = re.search(r"^file (\d+)$", parts, flags=re.MULTILINE)
            found.append((float(limit), float(used) - float(pages[1] if pages else 0)))
        except (OSError, ValueError):
            continue  # no such file, or no limit ("max")
    return found
