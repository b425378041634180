"""Retrieval with two towers: training, exports, and an index of the items' vectors."""
