"""Result records, their JSON and CSV forms, and the file that keeps them."""
