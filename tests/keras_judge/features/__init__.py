"""The table, one module for each part of Keras."""
