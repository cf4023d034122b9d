"""Results for people: table, sentences, overview picture."""
