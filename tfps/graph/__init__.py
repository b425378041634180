"""Graph surgery, and every private API of TensorFlow and Keras that is touched."""
