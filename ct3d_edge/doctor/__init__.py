"""What can run here, what cannot, and what would help. Nothing broken may break it: each provider is tried apart."""
