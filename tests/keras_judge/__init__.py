"""Keras as the judge: every feature of Keras 2, on arrays and on a source, must come out the same.

A *program* is a function of a *way*. It builds models, fits, evaluates, predicts; whatever can be
seen of it is kept by the way: histories, metrics, predictions, weights, rows. A *feature* is a line
of the table: a name, the program that uses it, and, where a source does not take it, the sentence
with which it is refused.

python -m tests.keras_judge            # all programs in all ways; prints what differs
python -m tests.keras_judge --report   # the same, and writes docs/keras_features.md
python -m tests.keras_judge --report --only="metrics: AUC"   # writes only such rows anew
"""
