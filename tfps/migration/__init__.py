"""Filling a new table: from another model's checkpoint, from NumPy files, from TFRA's saved tables.

Rows are read in chunks, and each goes straight to the parameter server that has its shard. Fill a
table before it is trained, while no worker pushes to it.
"""

from tfps.migration.from_checkpoint import warm_start
from tfps.migration.from_numpy import import_numpy
from tfps.migration.from_tfra import import_tfra
from tfps.migration.vectors import Imported

__all__ = ["Imported", "import_numpy", "import_tfra", "warm_start"]
