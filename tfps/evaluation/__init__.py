"""The evaluator scores each checkpoint of a run; recall, and what slots add, of a model at hand."""

from tfps.evaluation.evaluator import Evaluator
from tfps.evaluation.importance import Importance, shuffle_slots
from tfps.evaluation.scores import ExampleScores
from tfps.learning.recall import recall_at_k

__all__ = ["Evaluator", "ExampleScores", "Importance", "recall_at_k", "shuffle_slots"]
