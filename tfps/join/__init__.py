"""`tfps join`: labelled samples from a log of features and a log of actions; see docs/join.md."""
