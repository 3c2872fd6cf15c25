"""A stand-in for sbatch, srun and scontrol: runs a job here and now, with the variables that Slurm sets.

It knows the options that the scripts use and refuses others, as the real commands do. Its state is files in
$STAND_IN: `next` (number of the next job), `requeue-ID` (the job asked to be started again), `journal` (steps).
With $STAND_IN_SIGNAL=NAME, the first attempt of job NAME gets the signal that its script asks for, as soon as its
training has saved a checkpoint in the work directory $STAND_IN_WORK, in the processes of its step or (B:) its script.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

STATE = Path(os.environ["STAND_IN"])
FIRST = 1000
TIMEOUT = 600
SBATCH = {
    *("job-name", "partition", "account", "time", "nodes", "ntasks", "ntasks-per-node", "cpus-per-task", "mem", "gres"),
    *("array", "signal", "requeue", "open-mode", "output", "parsable", "kill-on-invalid-dep", "dependency", "qos"),
}
SRUN = {"nodes", "ntasks", "ntasks-per-node", "cpus-per-task", "kill-on-bad-exit", "wait"}


def split(words, known):
    """Options (a flag is True) and what follows them."""
    found, rest = {}, list(words)
    while rest and rest[0].startswith("--"):
        name, equals, value = rest.pop(0)[2:].partition("=")
        if name not in known:
            sys.exit(f"unrecognized option '--{name}'")
        found[name] = value if equals else True
    return found, rest


def note(text):
    with (STATE / "journal").open("a") as file:
        file.write(f"{text}\n")


def sbatch(words):
    """Run a job, every element of an array one after the other; succeed when it was only accepted, as sbatch does."""
    given, (script,) = split(words, SBATCH)
    lines = re.findall(r"^#SBATCH (--\S+)$", Path(script).read_text(), flags=re.MULTILINE)
    options = {**split(lines, SBATCH)[0], **given}
    for job in options.get("dependency", "afterok:").partition(":")[2].split(":"):
        if job and not (STATE / f"succeeded-{job}").exists():
            note(f"{options['job-name']} cancelled: {job} failed")
            print(number())
            return
    first, last = map(int, options.get("array", "1-1").split("-"))
    ids = [number() for _ in range(first, last + 1)]
    codes = []
    for task, job in enumerate(ids, first):
        array = {"SLURM_ARRAY_JOB_ID": ids[0], "SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": len(ids)}
        codes.append(attempts(script, options, job, array if "array" in options else {}))
    if not any(codes):
        (STATE / f"succeeded-{ids[0]}").touch()
    print(ids[0])


def number():
    path = STATE / "next"
    job = int(path.read_text()) if path.exists() else FIRST
    path.write_text(str(job + 1))
    return job


def attempts(script, options, job, array):
    """Run the script until it ends without asking to be started again."""
    tasks = int(options.get("ntasks") or int(options["ntasks-per-node"]) * int(options["nodes"]))
    variables = {
        "SLURM_JOB_ID": job,
        "SLURM_JOB_NAME": options["job-name"],
        "SLURM_SUBMIT_DIR": os.getcwd(),
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_JOB_NUM_NODES": options["nodes"],
        "SLURM_CPUS_PER_TASK": options["cpus-per-task"],
        "SLURM_NTASKS": tasks,
        "SLURM_PROCID": 0,
        "SLURM_LOCALID": 0,
        "STAND_IN_ASKED": options.get("signal", ""),
        **array,
    }
    for restart in range(200):
        if restart:
            variables["SLURM_RESTART_COUNT"] = restart
        code = attempt(script, {**os.environ, **{name: str(value) for name, value in variables.items()}}, options)
        note(f"{options['job-name']} attempt {restart} ended with {code}")
        if not (STATE / f"requeue-{job}").exists():
            return code
        (STATE / f"requeue-{job}").unlink()
    sys.exit("the job asks to be started again for ever")


def attempt(script, environment, options):
    log = options["output"].replace("%x", options["job-name"]).replace("%j", environment["SLURM_JOB_ID"])
    log = log.replace("%A", environment.get("SLURM_ARRAY_JOB_ID", "")).replace(
        "%a", environment.get("SLURM_ARRAY_TASK_ID", "")
    )
    with open(log, "a") as file:
        process = subprocess.Popen(["bash", script], env=environment, stdout=file, stderr=file)
        if options.get("signal", "").startswith("B:"):
            send_when_training(environment, [process])
        return process.wait(timeout=TIMEOUT)


def srun(words):
    """Start the tasks of a step; the highest exit code is the step's."""
    options, command = split(words, SRUN)
    tasks = int(options.get("ntasks") or os.environ["SLURM_NTASKS"])
    note(f"{os.environ['SLURM_JOB_NAME']} step of {tasks}: {' '.join(command)}")
    shared = {**os.environ, "SLURM_NTASKS": str(tasks)}
    places = [{"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} for i in range(tasks)]
    processes = [subprocess.Popen(command, env=shared | place) for place in places]

    def forward(signal_number, frame):
        for process in processes:
            process.send_signal(signal_number)

    signal.signal(signal.SIGUSR1, forward)
    if not os.environ["STAND_IN_ASKED"].startswith("B:"):
        send_when_training(os.environ, processes)
    codes = [process.wait() for process in processes]
    return max(128 - code if code < 0 else code for code in codes)


def send_when_training(environment, processes):
    """The signal of a time limit, at the moment when there is something to lose."""
    name = environment["SLURM_JOB_NAME"]
    if environment.get("STAND_IN_SIGNAL") != name or "SLURM_RESTART_COUNT" in environment:
        return
    folder, end = Path(environment["STAND_IN_WORK"]), time.time() + TIMEOUT
    while time.time() < end and all(process.poll() is None for process in processes):
        if list(folder.glob("*/*.partial/checkpoint.safetensors")):
            note(f"{name} gets a signal")
            for process in processes:
                process.send_signal(signal.SIGUSR1)
            return
        time.sleep(0.02)


def scontrol(words):
    if words[:2] == ["show", "hostnames"]:
        print(words[2])
    elif words[:1] == ["requeue"]:
        (STATE / f"requeue-{words[1]}").touch()
    else:
        sys.exit(f"scontrol: {words}")


if __name__ == "__main__":
    sys.exit({"sbatch": sbatch, "srun": srun, "scontrol": scontrol}[sys.argv[1]](sys.argv[2:]))
