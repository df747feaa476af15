"""A small Slurm on this machine: `sbatch`, `srun` and `sacct` as far as submitit asks for them."""

import os
import sys
from pathlib import Path

SBATCH = """
import os, re, subprocess, sys
from pathlib import Path

script = Path(sys.argv[1])
text = script.read_text()
told = dict(re.findall(r"^#SBATCH --([a-z-]+)=(.*)$", text, re.MULTILINE))
last = int(re.match(r"0-(\\d+)", told["array"])[1]) if "array" in told else None
nodes, tasks = int(told["nodes"]), int(told["ntasks-per-node"])
for number in range(1 if last is None else last + 1):
    environment = dict(
        os.environ, SLURM_JOB_ID=str(700 + number), SLURM_JOB_NUM_NODES=str(nodes), SLURM_NTASKS=str(nodes * tasks),
        SLURM_JOB_NODELIST="localhost", SLURM_PROCID="0", SLURM_LOCALID="0", SLURM_NODEID="0",
    )
    if last is not None:
        environment.update(SLURM_ARRAY_JOB_ID="700", SLURM_ARRAY_TASK_ID=str(number))
    with open(os.devnull, "w") as nothing:
        subprocess.Popen(["bash", str(script)], env=environment, stdout=nothing, stderr=nothing)
print("Submitted batch job 700")
"""
SRUN = """
import os, subprocess, sys

words, flags = sys.argv[1:], {}
while words[0].startswith("--"):
    flag = words.pop(0)
    if flag in ("--output", "--error"):
        flags[flag] = words.pop(0)
job = os.environ["SLURM_JOB_ID"]
if "SLURM_ARRAY_TASK_ID" in os.environ:
    job = os.environ["SLURM_ARRAY_JOB_ID"] + "_" + os.environ["SLURM_ARRAY_TASK_ID"]
started = []
for rank in range(int(os.environ["SLURM_NTASKS"])):
    environment = dict(
        os.environ, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), SLURM_STEP_NUM_TASKS=os.environ["SLURM_NTASKS"],
        SLURM_STEP_NUM_NODES=os.environ["SLURM_JOB_NUM_NODES"], SLURM_STEP_NODELIST="localhost", SLURM_STEP_ID="0",
    )
    places = {"%A_%a": job, "%j": job, "%t": str(rank)}
    files = []
    for flag in ("--output", "--error"):
        name = flags.get(flag, os.devnull)
        for sign, value in places.items():
            name = name.replace(sign, value)
        files.append(open(name, "a"))
    started.append(subprocess.Popen(words, env=environment, stdout=files[0], stderr=files[1]))
sys.exit(max(process.wait() for process in started))
"""
SACCT = 'print("JobID|State|NodeList")'


def install(folder: Path) -> dict[str, str]:
    """Write them there; the environment that finds them."""
    folder.mkdir()
    for name, program in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT}.items():
        (folder / name).write_text(f"#!{sys.executable}\n{program}")
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
