"""Two folders of scans become a trained Keras network with its contract. Imports Keras and TensorFlow."""
