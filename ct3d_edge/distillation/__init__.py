"""A small network that predicts what a large one predicts: chosen for a target, trained, compared on unseen scans."""
