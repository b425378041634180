"""Which shards other servers should have, by the load in a checkpoint: `tfps rebalance`."""

import dataclasses
import os

import numpy as np

from tfps.checkpoint import manifest
from tfps.storage import lock
from tfps.table import placement

MEASURES = ("rows", "bytes", "pulls")
UNEVEN = 1.2  # From here on, relative to the mean, a server bears too much.


@dataclasses.dataclass(frozen=True)
class Proposal:
  """Another assignment for a table.

  Attributes:
    loads: {measure: int64 [num_shards]}.
    before, after: int32 [num_shards], the server of each virtual shard.
    servers_before, servers_after: how many servers there are.
  """

  loads: dict
  before: np.ndarray
  after: np.ndarray
  servers_before: int
  servers_after: int

  @property
  def moved(self):
    """bool [num_shards]: which shards change their server."""
    return self.before != self.after

  @property
  def changes(self):
    """Whether there is anything to apply."""
    return bool(self.moved.any()) or self.servers_before != self.servers_after

  def of_servers(self, after):
    """{measure: (what each server bears int64 [n], the same as a part of the mean float64 [n])}."""
    assignment = self.after if after else self.before
    servers = self.servers_after if after else self.servers_before
    relative = placement.server_loads(assignment, servers, list(self.loads.values()))
    sums = {name: np.zeros(servers, np.int64) for name in self.loads}
    for name, load in self.loads.items():
      np.add.at(sums[name], assignment, load)
    return {name: (sums[name], relative[i]) for i, name in enumerate(self.loads)}


def propose(saved, servers=None):
  """A `Proposal` that moves as few shards as it can find.

  Where no server bears more than 20 percent above the mean, only those shards move that a change of
  the number of servers asks for.

  Args:
    saved: what the manifest says of the table.
    servers: how many servers there will be; as many as now by default.
  """
  servers = servers or saved["num_servers"]
  loads = {name: np.array(saved["load"][name], np.int64) for name in MEASURES}
  before = np.array(saved["assignment"], np.int32)
  after = before
  if servers != saved["num_servers"]:
    after = placement.reassign(before, servers, saved["num_servers"])
  if placement.server_loads(after, servers, list(loads.values())).max() > UNEVEN:
    after = placement.rebalance(after, servers, list(loads.values()))
  return Proposal(loads, before, after, saved["num_servers"], servers)


def apply(checkpoint, proposals):
  """Writes assignments to a checkpoint's manifest, for the next restore; no row moves now.

  Args:
    checkpoint: the `SavedCheckpoint`.
    proposals: {table name: Proposal}.

  Raises:
    LockError: another process writes to the folder that the checkpoint is in.
  """
  tables = dict(checkpoint.manifest["tables"])
  for name, proposal in proposals.items():
    tables[name] = tables[name] | {
      "assignment": proposal.after.tolist(),
      "num_servers": proposal.servers_after,
    }
  with lock.Hold(os.path.dirname(checkpoint.path)):
    manifest.replace(checkpoint.path, {**checkpoint.manifest, "tables": tables})
