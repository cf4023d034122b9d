"""Graph outputs besides the prediction: features for Grad-CAM, pooled features for out-of-distribution detection."""
