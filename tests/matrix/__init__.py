"""tfps on every TensorFlow that it runs on: `make matrix`."""
