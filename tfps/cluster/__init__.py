"""The processes of a cluster: their start, their end, and what is said when one fails."""

from tfps.cluster.ending import end
from tfps.cluster.failures import explain
from tfps.cluster.strategy import strategy
from tfps.cluster.tf_config import Cluster, Task
from tfps.cluster.tf_config import read as read_tf_config
from tfps.errors import ConfigError

__all__ = ["Cluster", "ConfigError", "Task", "end", "explain", "read_tf_config", "strategy"]
