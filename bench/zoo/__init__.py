"""Networks of the kinds that people train on volumes, and what every form of file makes of them."""
