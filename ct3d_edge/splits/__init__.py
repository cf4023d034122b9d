"""The split of a folder of scans into training, validation and test: stratified, by content and by patient."""
