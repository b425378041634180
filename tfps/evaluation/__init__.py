"""The evaluator, which scores every checkpoint of a training run without touching it; recall."""

from tfps.evaluation.evaluator import Evaluator
from tfps.evaluation.recall import recall_at_k
from tfps.evaluation.scores import ExampleScores

__all__ = ["Evaluator", "ExampleScores", "recall_at_k"]
