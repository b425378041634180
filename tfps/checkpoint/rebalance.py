"""A more even assignment of shards to servers, by the load in a checkpoint: `tfps rebalance`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

import numpy as np

from tfps.checkpoint.folder import CHECKPOINTS
from tfps.checkpoint.manifest import MEASURES, TableManifest
from tfps.checkpoint.reader import SavedCheckpoint
from tfps.storage import lock
from tfps.table import placement

UNEVEN = 1.2  # A server bears too much from here on, relative to the mean.


@dataclasses.dataclass(frozen=True)
class Proposal:
  """Another assignment for a table.

  Attributes:
    loads: {measure: int64 [num_shards]}.
    before, after: int32 [num_shards], the server of each virtual shard.
    servers_before, servers_after: how many servers there are.
  """

  loads: Mapping[str, np.ndarray]
  before: np.ndarray
  after: np.ndarray
  servers_before: int
  servers_after: int

  @property
  def moved(self) -> np.ndarray:
    """bool [num_shards]: which shards change their server."""
    return self.before != self.after

  @property
  def changes(self) -> bool:
    """Whether there is anything to apply."""
    return bool(self.moved.any()) or self.servers_before != self.servers_after

  def of_servers(self, after: bool) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What each server bears, by measure: as int64 [n], and relative to the mean as float64 [n]."""
    assignment = self.after if after else self.before
    servers = self.servers_after if after else self.servers_before
    relative = placement.server_loads(assignment, servers, list(self.loads.values()))
    sums = {name: np.zeros(servers, np.int64) for name in self.loads}
    for name, load in self.loads.items():
      np.add.at(sums[name], assignment, load)
    return {name: (sums[name], relative[i]) for i, name in enumerate(self.loads)}


def propose(saved: TableManifest, servers: int | None = None) -> Proposal:
  """Proposes an assignment that moves as few shards as it can find.

  Where no server bears more than 20 percent above the mean, only those shards move that must
  because the number of servers changes.

  Args:
    saved: the table in a checkpoint.
    servers: how many servers there will be; as many as now by default.
  """
  servers = servers or saved.num_servers
  loads = {name: np.array(saved.load[name], np.int64) for name in MEASURES}
  before = np.array(saved.assignment, np.int32)
  after = before
  if servers != saved.num_servers:
    after = placement.reassign(before, servers, saved.num_servers)
  if placement.server_loads(after, servers, list(loads.values())).max() > UNEVEN:
    after = placement.rebalance(after, servers, list(loads.values()))
  return Proposal(loads, before, after, saved.num_servers, servers)


def apply(checkpoint: SavedCheckpoint, proposals: Mapping[str, Proposal]) -> None:
  """Writes assignments to a checkpoint's manifest, for the next restore; no row moves now.

  Args:
    checkpoint: the checkpoint.
    proposals: the proposal for each table, by name.

  Raises:
    LockError: another process writes to the folder that the checkpoint is in.
  """
  tables = dict(checkpoint.manifest.tables)
  for name, proposal in proposals.items():
    tables[name] = dataclasses.replace(
      tables[name], assignment=proposal.after.tolist(), num_servers=proposal.servers_after
    )
  with lock.Hold(os.path.dirname(checkpoint.path)):
    CHECKPOINTS.replace(checkpoint.path, dataclasses.replace(checkpoint.manifest, tables=tables))
