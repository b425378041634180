"""The processes of a cluster: their start, their end, and what is said when one fails."""

from tfps.cluster.ending import end
from tfps.cluster.failures import explain
from tfps.cluster.strategy import strategy
from tfps.cluster.tf_config import Cluster, ConfigError, Task, read as read_tf_config

__all__ = ["Cluster", "ConfigError", "Task", "end", "explain", "read_tf_config", "strategy"]
