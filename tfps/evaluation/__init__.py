"""The evaluator: scores every checkpoint that a training run saves, without touching the run."""

from tfps.evaluation.evaluator import Evaluator
from tfps.evaluation.scores import ExampleScores

__all__ = ["Evaluator", "ExampleScores"]
