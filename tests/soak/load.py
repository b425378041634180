"""Ten processes pull and push as fast as they can from two servers: memory stays flat.

Nothing fails.

A job under `tfps launch`. Half of the feasigns are ever new, and `max_rows` bounds the table. In
the end every push has been applied, no process has failed, and none holds more memory than after
the first third, but for a few percent. Says how long pulls and pushes took.

  python -m tests.soak.load --minutes=10
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from tests.patience import PATIENCE
from tests.soak import jobs

SAMPLE_SECONDS = 1.0


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--minutes", type=float, default=10, help="default 10")
  parser.add_argument("--workers", type=int, default=10, help="processes that push (default 10)")
  parser.add_argument("--ps", type=int, default=2, help="parameter servers (default 2)")
  parser.add_argument("--ids", type=int, default=4096, help="of a batch (default 4,096)")
  parser.add_argument("--max-rows", type=int, default=1_000_000, help="of the table")
  parser.add_argument(
    "--growth", type=float, default=0.05, help="of a process's memory that is still flat (0.05)"
  )
  flags = parser.parse_args()
  with tempfile.TemporaryDirectory(prefix="load-") as folder:
    soak(pathlib.Path(folder), flags)


def soak(folder, flags):
  print(
    f"{flags.workers} processes push for {flags.minutes:g} minutes to {flags.ps} parameter servers",
    flush=True,
  )
  samples = run(folder, flags)
  result = json.loads((folder / "load.json").read_text())
  times = np.load(folder / "times.npy") * 1000
  statistics, batches = result["statistics"], len(times)
  for column, what in enumerate(("pull", "push")):
    parts = "  ".join(
      f"{name} {np.percentile(times[:, column], share):,.1f}"
      for name, share in (("median", 50), ("p99", 99), ("p99.9", 99.9), ("most", 100))
    )
    print(f"  milliseconds of a {what:<5} {parts}")
  print(
    f"  {batches:,} batches, {result['pushed'] / result['seconds']:,.0f} feasigns a second; "
    f"{statistics['rows']:,.0f} rows, {statistics['evicted_at_limit']:,.0f} left at the limit"
  )
  grown = memory(samples, flags.growth)
  lost = result["pushed"] - statistics["pushed_keys"]
  print(f"  pushes lost or doubled: {lost:,.0f}; processes whose memory grew: {grown}", flush=True)
  if lost or statistics["nonfinite_counts"] or grown:
    sys.exit("The load test failed; see above.")


def run(folder, flags):
  """Runs the job; returns {task: bytes of resident memory, one a second, while it pushed}."""
  command = [
    sys.executable,
    "-m",
    "tfps",
    "launch",
    f"--workers={flags.workers}",
    f"--ps={flags.ps}",
  ]
  command += [f"--log-dir={folder / 'logs'}", "--", str(jobs.HERE / "load_trainer.py"), str(folder)]
  command += [f"--ids={flags.ids}", f"--max-rows={flags.max_rows}"]
  output = folder / "output"
  with open(output, "w") as out:
    process = subprocess.Popen(command, stdout=out, stderr=out, env=jobs.environment())
  samples = {}
  try:
    deadline = time.monotonic() + PATIENCE
    while "batches" not in output.read_text():
      if process.poll() is not None or time.monotonic() > deadline:
        raise RuntimeError(f"The job did not begin:\n{output.read_text()[-3000:]}")
      time.sleep(SAMPLE_SECONDS)
    tasks = jobs.tasks_of(process.pid)
    samples = {task: [] for task in tasks}
    end = time.monotonic() + 60 * flags.minutes
    # Of each third of the time there is a sample.
    while (
      time.monotonic() < end or min(map(len, samples.values())) < 3
    ) and process.poll() is None:
      for task, pid in tasks.items():
        samples[task].append(resident_bytes(pid))
      time.sleep(SAMPLE_SECONDS)
    (folder / "stop").touch()
    code = process.wait(PATIENCE)
  finally:
    if process.poll() is None:
      process.terminate()  # `tfps launch` ends its processes.
      process.wait()
  if code:
    raise RuntimeError(f"The job failed with {code}:\n{output.read_text()[-3000:]}")
  return samples


def resident_bytes(pid):
  for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
    if line.startswith("VmRSS:"):
      return int(line.split()[1]) * 1024
  return 0


def memory(samples, growth):
  """Says what each kind of process held.

  Returns how many held more in the last third than after the first.
  """
  grown = 0
  for kind in ("ps", "worker", "chief"):
    parts = [np.array_split(held, 3) for task, held in sorted(samples.items()) if task[0] == kind]
    after, late = (np.array([part[third].max() for part in parts]) for third in (1, 2))
    print(
      f"  MiB of a {kind:<6} {after.max() / 2**20:,.0f} after warm-up, {late.max() / 2**20:,.0f} "
      "in the end, at most"
    )
    grown += int((late > after * (1 + growth) + 2**20).sum())
  return grown


if __name__ == "__main__":
  main()
